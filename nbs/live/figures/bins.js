// A box and what is left of it when it is written as tokens (chapter "tokenizer").
import {make, slider, tokenCell} from "../draw.js"
import {SLOTS, Tokenizer, boxIou} from "../tokenizer.js"
import {boardOf, layOut} from "./common.js"

const NAMES = SLOTS.slice(0, 4)

export async function draw(root, {scene, tokenizer}) {
  const board = await boardOf(scene), {size} = board, last = scene.labels.length - 1
  const [x0, y0, x1, y1] = scene.boxes[last], row = make("div", {class: "live-object wide"})
  const bins = slider({label: "bins", min: 2, max: 200, step: 1, value: 13, oninput: show})
  const edges = [y0, x0, y1, x1].map((value, k) => slider(
    {label: NAMES[k], min: 0, max: size, step: 1, value, oninput: show}))
  const say = layOut(root, {board, below: row, controls: [bins, ...edges].map(s => s.element)})

  function show() {
    const layout = {...tokenizer, quantization_bins: bins.value}, some = new Tokenizer(layout)
    const [ymin, xmin, ymax, xmax] = edges.map(edge => Math.min(edge.value, size))
    const corners = [xmin, ymin, Math.max(xmax, xmin + 1), Math.max(ymax, ymin + 1)]
    const box = corners.map(v => v/size), tokens = some.encode(box, scene.labels[last])
    const back = some.box(tokens), moved = Math.max(...back.map((v, k) => Math.abs(v - box[k])))
    board.show([{box: back, kind: "found"}, {box, kind: "true"}])
    row.replaceChildren(
      make("div", {class: "live-slots"}, SLOTS.map(name => make("span", {}, name))),
      make("div", {class: "live-cells"}, tokens.map(t => tokenCell(t, some, {text: t}))))
    const width = (size/(bins.value - 1)).toFixed(1)
    say(`With ${bins.value} bins a token stands for ${width} pixels. ` +
        `A side moves by ${(size*moved).toFixed(1)} pixels at most; the IoU of the true box ` +
        `(dotted) and of what its tokens say is ${boxIou(back, box).toFixed(2)}.`)
  }
  show()
}
