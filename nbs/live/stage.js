// The picture with all that lies on it, and the two axes at its sides that show a distribution over
// the bins. Everything is drawn from the page's state: `reading`, `view` (the place of the token
// that is shown), `outlook` (what is predicted there), `truth` and `layer`.
import {Board, chance, make, sideBars} from "./draw.js"
import {SLOTS} from "./tokenizer.js"

export class Stage {
  // `onForce(token)` reads on from another token; `onPoint(sentence)` says where a pointer is.
  constructor(frame, tokenizer, size, {onForce, onPoint}) {
    Object.assign(this, {tokenizer, size, onForce, onPoint, bins: tokenizer.quantization_bins})
    this.board = new Board(size, {tabindex: -1, role: "img"})
    this.glow = make("canvas", {class: "live-glow", "aria-hidden": "true"})
    this.board.canvas.after(this.glow)
    this.axes = {y: this.makeAxis("y"), x: this.makeAxis("x")}
    frame.append(this.board.element, this.axes.y, this.axes.x)
  }

  // The side of the picture that the present slot belongs to, if it is a coordinate.
  get side() { return this.state.view%5 === 4 ? null : "yx"[this.state.view%5%2] }

  show(state) {
    this.state = state
    this.showBoard()
    this.showAttention()
    for (const side of ["y", "x"]) this.showAxis(side)
  }

  // ------------------------------------------------------------------ the picture

  showBoard(pointed = null) {
    const {reading, view, truth} = this.state, now = Math.floor(view/5)
    const objects = reading?.objects() ?? []
    const boxes = objects.map((object, k) => this.boxOf(object, k === now))
    if (truth) boxes.push(...truth.map(({box}) => ({box: box.map(v => v/this.size), kind: "true"})))
    this.board.show(boxes, [...this.edges(now, objects), ...this.lineAt(pointed)])
    const found = objects.filter(o => !o.noise).map(o => this.tokenizer.names[o.label])
    this.board.element.setAttribute("aria-label",
      `A scene of ${this.size} by ${this.size} pixels. ` +
      (found.length ? `Read so far: ${found.join(", ")}.` : "No digit has been read yet."))
  }

  boxOf({box, label, score, noise}, current) {
    const word = noise ? "noise" : this.tokenizer.names[label]
    return {box, kind: `${noise ? "noise" : "found"}${current ? " current" : ""}`,
            name: noise && !current ? "" : `${word} ${chance(score)}`}
  }

  // The edges that have been read of an object; of a whole one, only the token that is shown.
  edges(now, objects) {
    const {reading, view} = this.state, lines = []
    for (let at = objects[now] ? view : 5*now; at <= view && at%5 < 4; at++) {
      const token = reading?.tokens[at]
      if (this.tokenizer.isCoord(token)) lines.push(
        {slot: at%5, at: this.tokenizer.value(token), kind: at === view ? "now" : ""})
    }
    return lines
  }

  lineAt(bin) {
    if (bin === null) return []
    return [{slot: this.state.view%5, at: bin/(this.bins - 1), kind: "pointed"}]
  }

  // It glows where the layer looks.
  showAttention() {
    const {reading, view, layer} = this.state, looks = reading?.steps[view]?.looks[layer]
    this.glow.hidden = !looks
    if (!looks) return
    const side = Math.round(Math.sqrt(looks.length)), highest = Math.max(...looks)
    this.glow.width = this.glow.height = side
    const context = this.glow.getContext("2d"), image = context.createImageData(side, side)
    looks.forEach((look, i) => image.data.set([255, 224, 90, 190*(look/highest)**0.7], 4*i))
    context.putImageData(image, 0, 0)
  }

  // ------------------------------------------------------------------ the axes

  makeAxis(side) {
    const axis = make("div", {
      class: `live-axis ${side}`, role: "slider", "aria-valuemin": 0,
      "aria-valuemax": this.bins - 1, "aria-valuenow": 0,
      "aria-orientation": side === "y" ? "vertical" : "horizontal",
      onpointermove: event => this.active(side) && this.point(this.binAt(side, event)),
      onpointerleave: () => this.active(side) && this.point(null),
      onblur: () => this.active(side) && this.point(null),
      onclick: event => this.active(side) && this.force(this.binAt(side, event)),
      onkeydown: event => this.active(side) && this.key(event)})
    return axis
  }

  active(side) { return this.side === side && Boolean(this.state.outlook) }
  force(bin) { this.onForce(this.tokenizer.coord_offset + bin) }
  probability(bin) { return this.state.outlook.probs[this.tokenizer.coord_offset + bin] }

  showAxis(side) {
    const axis = this.axes[side], on = this.active(side), slot = SLOTS[this.state.view%5]
    axis.classList.toggle("on", on)
    axis.tabIndex = on ? 0 : -1
    axis.setAttribute("aria-disabled", !on)
    axis.setAttribute("aria-label", on ? `Bins of ${slot} and their probabilities` : "no bins")
    axis.replaceChildren()
    if (!on) return
    const {reading, view, outlook} = this.state, from = this.tokenizer.coord_offset
    const read = reading.tokens[view], all = Array.from({length: this.bins}, (_, i) => from + i)
    const part = test => all.map(t => test(t) ? outlook.probs[t] : 0)
    const groups = [{class: "out", values: part(t => !outlook.kept[t] && t !== read)},
                    {class: "kept", values: part(t => outlook.kept[t] && t !== read)},
                    {class: "read", values: part(t => t === read)}]
    axis.append(sideBars(side, this.bins, groups, Math.max(...part(() => true))),
                make("span", {class: "live-axis-name"}, slot))
    this.mark(this.tokenizer.isCoord(read) ? read - from : outlook.best - from)
  }

  // Which bin is below a pointer? A finger is wide: it means the most likely one near it.
  binAt(side, event) {
    const box = this.axes[side].getBoundingClientRect()
    const part = side === "y" ? (event.clientY - box.top)/box.height
                              : (event.clientX - box.left)/box.width
    const inside = bin => Math.min(Math.max(bin, 0), this.bins - 1)
    const bin = inside(Math.round(part*(this.bins - 1)))
    if (event.pointerType !== "touch") return bin
    return [0, -1, 1, -2, 2, -3, 3].map(d => inside(bin + d))
      .reduce((a, b) => this.probability(b) > this.probability(a) ? b : a)
  }

  // The bin where the keyboard is.
  mark(bin) {
    if (bin < 0 || bin >= this.bins) return
    this.marked = bin
    const axis = this.axes[this.side]
    axis.setAttribute("aria-valuenow", bin)
    axis.setAttribute("aria-valuetext", `bin ${bin}, probability ${chance(this.probability(bin))}`)
  }

  // A pointer or the keyboard is at a bin: show its line and its probability.
  point(bin) {
    this.showBoard(bin)
    if (bin === null) return this.onPoint(null)
    this.mark(bin)
    this.onPoint(`${SLOTS[this.state.view%5]} at bin ${bin}: probability ` +
                 `${chance(this.probability(bin))}. Click or press Enter to read on from it.`)
  }

  key(event) {
    const steps = {ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, PageUp: -8, PageDown: 8}
    if (event.key in steps)
      this.point(Math.min(Math.max(this.marked + steps[event.key], 0), this.bins - 1))
    else if (event.key === "Home")
      this.point(this.state.outlook.best - this.tokenizer.coord_offset)
    else if (event.key === "Enter" || event.key === " ") this.force(this.marked)
    else return
    event.preventDefault()
  }
}
