// The live page: a scene, what the model predicts for each token, and the objects that it reads.
import {Board, addStyle, make, percent, refill, slider} from "./draw.js"
import {Failure, loadModel} from "./model.js"
import {candidates, caption, question, remainder, sequence} from "./panel.js"
import {Pen} from "./pen.js"
import {Reading} from "./reading.js"
import {cutGlyphs, paintBackground, paintScene} from "./scene.js"
import {Stage} from "./stage.js"
import {Tokenizer} from "./tokenizer.js"

const BASE = new URL(".", import.meta.url)
const GREY = "rgb(77 77 77)" // what a canvas is filled up with, as in the chapter "transforms"

const nextFrame = () => new Promise(requestAnimationFrame)
const calm = matchMedia("(prefers-reduced-motion: reduce)")
const anySeed = () => Math.floor(2**31*Math.random())

async function getJson(name) {
  const answer = await fetch(new URL(name, BASE)).catch(() => null)
  if (!answer?.ok) throw new Failure(`This page is not complete: ${name} is missing.`)
  return answer.json()
}

async function getPicture(name) {
  const picture = new Image()
  picture.src = new URL(name, BASE)
  await picture.decode().catch(() => {
    throw new Failure(`This page is not complete: ${name} is missing.`)
  })
  return picture
}

class Page {
  constructor(root) {
    Object.assign(this, {root, view: 0, truth: null, blank: false})
    this.choice = {greedy: false, temperature: 1, topP: 0.4, seed: 0}
    this.work = Promise.resolve()
  }

  find(selector) { return this.root.querySelector(selector) }
  say(sentence) { this.find(".live-message").textContent = sentence }

  // Do one job after the other, for they share the model. What goes wrong is said in a sentence.
  run(job) {
    this.work = this.work.then(job).catch(error => {
      this.say(error instanceof Failure ? error.message : `Something went wrong: ${error.message}`)
      if (!(error instanceof Failure)) console.error(error)
    })
    return this.work
  }

  async start() {
    addStyle()
    this.about = await getJson("about.json")
    const pictures = await Promise.all(["scenes.png", "glyphs.png"].map(getPicture))
    this.build(...pictures)
    this.listen()
    this.find(".live-still").remove()
    this.find(".live-app").hidden = false
    this.pickScene(0)
    await this.load()
  }

  // ------------------------------------------------------------------ the parts

  build(scenes, glyphs) {
    const {config, tokenizer} = this.about
    this.tokenizer = new Tokenizer(tokenizer, config.class_names)
    this.size = config.image_size[0]
    this.scenes = scenes
    this.glyphs = cutGlyphs(glyphs, this.about.glyphs)
    const captionOf = sentence => { this.find(".live-caption").textContent = sentence }
    this.stage = new Stage(this.find(".live-frame"), this.tokenizer, this.size, {
      onForce: token => this.force(token),
      onPoint: sentence => captionOf(sentence ?? caption(this.state(), this.tokenizer))})
    this.board = this.stage.board
    this.pen = new Pen(this.board, this.glyphs, () => this.painted())
    this.find(".live-strip").append(...this.about.scenes.rows.map((_, i) => this.thumb(i)))
    this.buildLayers(config.decoder_layers)
    this.buildSliders()
  }

  thumb(i) {
    const {columns, rows} = this.about.scenes, lines = Math.ceil(rows.length/columns)
    const place = [[i%columns, columns], [Math.floor(i/columns), lines]]
    const position = place.map(([k, n]) => percent(n > 1 ? k/(n - 1) : 0)).join(" ")
    const picture = new URL("scenes.png", BASE)
    return make("button", {
      type: "button", class: "live-thumb", "data-scene": i, onclick: () => this.pickScene(i),
      "aria-label": `Scene ${rows[i].number}`,
      style: `background:url("${picture}") ${position}/${100*columns}%`})
  }

  buildLayers(count) {
    this.layer = count - 1
    const choices = [[-1, "off"], ...Array.from({length: count}, (_, i) => [i, `layer ${i + 1}`])]
    this.find("[data-choice=attention]").append(...choices.map(([value, name]) => make("label", {},
      make("input", {type: "radio", name: "attention", value, checked: value === this.layer}),
      name)))
  }

  buildSliders() {
    const add = (name, label, rest) => slider({
      label, "data-set": name, value: this.choice[name], ...rest,
      oninput: value => this.changeChoice({[name]: value})})
    this.sliders = [
      add("temperature", "temperature", {min: 0.1, max: 3, step: 0.1, format: v => v.toFixed(1)}),
      add("topP", "top-p", {min: 0.05, max: 1, step: 0.05, format: v => v.toFixed(2)}),
      add("seed", "seed", {min: 0, max: 99, step: 1})]
    this.find(".live-settings").append(...this.sliders.map(s => s.element))
  }

  listen() {
    const does = {new: () => this.newScene(), empty: () => this.emptyCanvas(),
                  undo: () => this.undo(), token: () => this.read("token"),
                  object: () => this.read("object"), end: () => this.read("end"),
                  restart: () => this.restart(), load: () => this.load()}
    this.root.addEventListener("click", event => does[event.target.dataset.do]?.())
    this.root.addEventListener("change", ({target}) => {
      if (target.name === "attention") this.layer = +target.value
      if (target.name === "pen") this.pen.choose(target.value)
      if (target.dataset.set === "greedy") this.changeChoice({greedy: target.checked})
      if (target.type === "file" && target.files[0]) this.openPicture(target.files[0])
      this.show()
    })
    this.root.addEventListener("dragover", event => event.preventDefault())
    this.root.addEventListener("drop", event => {
      event.preventDefault()
      const [file] = event.dataTransfer.files
      if (file) this.openPicture(file)
      else this.say("Only a picture from a file can be dropped here.")
    })
    const compare = document.getElementById("live-compare")
    compare.hidden = false
    compare.addEventListener("click", () => this.run(() => this.compare()))
  }

  // ------------------------------------------------------------------ the scene

  // Another picture stands on the board: forget the pen's strokes and the tokens, and look at it.
  newPicture({truth = null, blank = false, scene = null, sentence = ""}) {
    Object.assign(this, {truth, blank})
    this.pen.forget()
    this.say(sentence)
    for (const thumb of this.root.querySelectorAll(".live-thumb"))
      thumb.setAttribute("aria-pressed", +thumb.dataset.scene === scene)
    return this.lookAgain(0)
  }

  // Look at the picture as it is now, and read so many tokens.
  lookAgain(count) {
    this.view = 0
    this.find("[data-do=undo]").disabled = !this.pen.past.length
    if (!this.reading) return this.show()
    return this.run(async () => {
      await this.reading.look(this.pixels())
      await this.readTokens(count)
    })
  }

  // The picture as the model wants it: `[3, H, W]` in [0, 1].
  pixels(context = this.board.context) {
    const {data} = context.getImageData(0, 0, this.size, this.size), area = this.size**2
    return Float32Array.from({length: 3*area},
                             (_, i) => data[4*(i%area) + Math.floor(i/area)]/255)
  }

  drawScene(context, i) {
    const {columns} = this.about.scenes, s = this.size
    context.drawImage(this.scenes, s*(i%columns), s*Math.floor(i/columns), s, s, 0, 0, s, s)
  }

  pickScene(i) {
    const {boxes, labels} = this.about.scenes.rows[i]
    this.drawScene(this.board.context, i)
    return this.newPicture({scene: i, truth: boxes.map((box, k) => ({box, label: labels[k]}))})
  }

  newScene() {
    const truth = paintScene(this.board.context, this.size, this.glyphs, anySeed())
    return this.newPicture({truth})
  }

  emptyCanvas() {
    paintBackground(this.board.context, this.size, anySeed(), false)
    if (!this.pen.kind) this.find("[name=pen][value=chalk]").click()
    return this.newPicture({blank: true, sentence: "Write digits on the canvas with the pen."})
  }

  async openPicture(file) {
    let picture
    try { picture = await createImageBitmap(file) }
    catch { return this.say(`“${file.name}” is no picture that this browser can open.`) }
    const {context} = this.board, scale = this.size/Math.max(picture.width, picture.height)
    context.fillStyle = GREY
    context.fillRect(0, 0, this.size, this.size)
    context.imageSmoothingQuality = "high"
    context.drawImage(picture, 0, 0, picture.width*scale, picture.height*scale)
    const fits = picture.width === this.size && picture.height === this.size
    return this.newPicture({sentence: fits ? "" :
      `“${file.name}” was resized to ${this.size} pixels; the model has only ever seen ` +
      "painted scenes of digits, so expect little of it here."})
  }

  // After each stroke the model reads the picture again.
  painted() {
    this.blank = false
    this.say("")
    return this.lookAgain(Infinity)
  }

  undo() {
    this.pen.undo()
    return this.lookAgain(Infinity)
  }

  // ------------------------------------------------------------------ reading

  async load() {
    const area = this.find(".live-loading"), [bar, words] = area.children
    area.hidden = bar.hidden = false
    area.querySelector("button")?.remove()
    const progress = (loaded, total) => {
      bar.value = loaded/total
      words.textContent = `the model: ${(loaded/1e6).toFixed(1)} of ${(total/1e6).toFixed(1)} MB`
    }
    try {
      const model = await loadModel(BASE, this.about, progress)
      this.reading = new Reading(model, this.tokenizer)
      this.reading.choose({...this.choice})
      area.hidden = true
      document.getElementById("live-compare").disabled = false
      await this.lookAgain(0)
    } catch (error) {
      bar.hidden = true
      words.textContent = error.message
      area.append(make("button", {type: "button", "data-do": "load"}, "Try again"))
      if (!(error instanceof Failure)) console.error(error)
    }
  }

  // Read until so many tokens stand there, and show each object as it comes, if that is quick.
  async readTokens(count) {
    const {reading} = this, started = performance.now()
    while (!reading.done && reading.tokens.length < count) {
      await reading.next()
      this.view = reading.tokens.length - 1
      const late = performance.now() - started > 400
      if (reading.tokens.length%5 || late || calm.matches) continue
      this.show()
      await nextFrame()
    }
    this.show()
  }

  // The next token or object after the one that is shown; what has been read is only shown.
  read(what) {
    if (this.blank) this.say("Nothing is drawn on the canvas, so all that can be read is noise.")
    return this.run(async () => {
      const {tokens, most} = this.reading
      const shown = Math.min(this.view + 1, tokens.length)
      const ends = {token: shown + 1, object: 5*Math.floor(shown/5) + 5, end: most}
      if (ends[what] > tokens.length) return this.readTokens(ends[what])
      this.view = ends[what] - 1
      this.show()
    })
  }

  restart() {
    return this.run(() => {
      this.reading.keep(0)
      this.showToken(0)
    })
  }

  // Another token in the place that is shown, and the rest of the sequence from there on.
  force(token) {
    return this.run(async () => {
      await this.reading.force(this.view, token)
      this.show()
    })
  }

  // A slider may move faster than the model reads: only the last choice counts.
  changeChoice(change) {
    Object.assign(this.choice, change)
    for (const {input} of this.sliders) input.disabled = this.choice.greedy
    if (!this.reading || this.changing) return
    this.changing = true
    this.run(async () => {
      this.changing = false
      this.reading.choose({...this.choice})
      await this.reading.again()
      this.showToken(Math.min(this.view, this.reading.steps.length - 1))
    })
  }

  // Read all scenes with arg max, and count the tokens that Python read, too.
  async compare() {
    const canvas = new Board(this.size), {rows} = this.about.scenes, started = performance.now()
    const reading = new Reading(this.reading.model, this.tokenizer)
    reading.choose({greedy: true})
    let same = 0
    for (const [i, {tokens}] of rows.entries()) {
      this.drawScene(canvas.context, i)
      await reading.look(this.pixels(canvas.context))
      await reading.readTo(tokens.length)
      const at = k => reading.tokens[k] ?? this.tokenizer.pad_token
      same += tokens.filter((token, k) => token === at(k)).length
      await nextFrame()
    }
    const all = rows.length*rows[0].tokens.length
    const seconds = ((performance.now() - started)/1000).toFixed(1)
    document.getElementById("live-compared").textContent =
      `${same} of ${all} tokens of ${rows.length} scenes are those that Python read (${seconds} s).`
  }

  // ------------------------------------------------------------------ what is shown

  state() {
    const {reading, view, layer, choice} = this
    const truth = this.find("[data-set=truth]").checked ? this.truth : null
    return {reading, view, layer, choice, truth, outlook: reading?.outlook(view)}
  }

  showToken(view) {
    this.view = view
    this.show()
  }

  show() {
    const state = this.state(), {tokenizer, reading} = this
    this.stage.show(state)
    this.find(".live-question").textContent = question(state)
    refill(this.find(".live-candidates"),
           candidates(state, tokenizer, token => this.force(token)))
    this.find(".live-rest").textContent = remainder(state, tokenizer)
    this.find(".live-caption").textContent = caption(state, tokenizer)
    refill(this.find(".live-sequence"), sequence(
      state, tokenizer, this.about.config.max_instances,
      view => this.run(() => this.showToken(view))))
    const atEnd = reading?.done && this.view === reading.tokens.length - 1
    const off = {token: !reading || atEnd, object: !reading || atEnd,
                 end: !reading || reading.done, restart: !reading?.tokens.length}
    for (const [name, disabled] of Object.entries(off))
      this.find(`[data-do=${name}]`).disabled = disabled
  }
}

new Page(document.getElementById("live")).start().catch(error => {
  const still = document.querySelector(".live-still p")
  if (still) still.textContent = error.message
  if (!(error instanceof Failure)) console.error(error)
})
