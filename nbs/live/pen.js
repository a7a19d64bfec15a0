// A pen for the board: chalk for digits, dark strokes for clutter; by mouse, finger or keyboard.
import {make, percent} from "./draw.js"
import {paintStamp, painter, stampDigit} from "./scene.js"

const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}

export class Pen {
  // `onPainted` is called when a stroke is finished.
  constructor(board, glyphs, onPainted) {
    Object.assign(this, {board, glyphs, onPainted, kind: "", past: [], count: 1})
    this.context = board.context
    this.at = [board.size/2, board.size/2]
    this.mark = make("div", {class: "live-pen", hidden: true})
    board.element.append(this.mark)
    this.listen(board.element)
  }

  // `chalk`, `clutter`, or nothing.
  choose(kind) {
    this.kind = kind
    this.board.element.classList.toggle("drawing", kind !== "")
    this.board.element.tabIndex = kind ? 0 : -1
  }

  listen(element) {
    const place = event => {
      const box = element.getBoundingClientRect()
      return [(event.clientX - box.left)/box.width, (event.clientY - box.top)/box.height]
        .map(v => v*this.board.size)
    }
    element.addEventListener("pointerdown", event => {
      if (!this.kind || event.button) return
      element.setPointerCapture(event.pointerId)
      this.drawing = true
      this.stroke(place(event))
    })
    element.addEventListener("pointermove", event => {
      if (!this.drawing) return
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.line(place(each))
    })
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => {
      if (this.drawing) this.onPainted()
      this.drawing = false
    })
    element.addEventListener("keydown", event => this.key(event))
    element.addEventListener("focus", () => this.showMark())
    element.addEventListener("blur", () => this.lift())
  }

  // Arrow keys move the pen, space sets it down or lifts it, a digit writes a digit.
  key(event) {
    if (!this.kind || event.ctrlKey || event.metaKey || event.altKey) return
    const move = MOVES[event.key]
    if (move) this.move(move, event.shiftKey ? 8 : 2)
    else if (event.key === " ") this.down ? this.lift() : this.setDown()
    else if (/^[0-9]$/.test(event.key)) this.stamp(+event.key)
    else return
    event.preventDefault()
    this.showMark()
  }

  move(direction, distance) {
    const inside = v => Math.min(Math.max(v, 0), this.board.size)
    const to = this.at.map((v, k) => inside(v + distance*direction[k]))
    if (this.down) this.line(to)
    this.at = to
  }

  setDown() {
    this.down = true
    this.stroke(this.at)
  }

  lift() {
    if (this.down) this.onPainted()
    this.down = false
    this.showMark()
  }

  // Where the keyboard's pen is, while the board has the focus.
  showMark() {
    const [left, top] = this.at.map(v => percent(v/this.board.size))
    Object.assign(this.mark.style, {left, top})
    this.mark.classList.toggle("down", Boolean(this.down))
    this.mark.hidden = !this.kind || !this.board.element.matches(":focus-visible")
  }

  remember() {
    const {size} = this.board
    this.past.push(this.context.getImageData(0, 0, size, size))
    if (this.past.length > 50) this.past.shift()
  }

  forget() { this.past.length = 0 }

  // Take the last stroke back, if there is one.
  undo() {
    const before = this.past.pop()
    if (before) this.context.putImageData(before, 0, 0)
  }

  stroke(point) {
    this.remember()
    const draw = painter(this.count++), chalk = this.kind === "chalk"
    this.context.strokeStyle = chalk ? draw.color(170, 256) : draw.color(0, 190)
    this.context.lineWidth = chalk ? 2.8 : draw.between(1, 3)
    this.context.lineCap = this.context.lineJoin = "round"
    this.at = point
    this.line([point[0] + 0.01, point[1]])
  }

  line(to) {
    this.context.beginPath()
    this.context.moveTo(...this.at)
    this.context.lineTo(...to)
    this.context.stroke()
    this.at = to
  }

  // A handwritten digit with its centre at the pen.
  stamp(digit) {
    this.remember()
    const draw = painter(1000 + this.count++), {size} = this.board
    const some = this.glyphs.filter(glyph => glyph.digit === digit)
    const stamp = stampDigit(some[draw.whole(0, some.length)].glyph, draw.whole(20, 32), draw)
    const place = [stamp.width, stamp.height].map((side, k) =>
      Math.round(Math.min(Math.max(this.at[k] - side/2, 0), size - side)))
    paintStamp(this.context, stamp, ...place, draw.color(170, 256))
    this.onPainted()
  }
}
