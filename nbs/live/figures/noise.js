// The noise objects of a sequence, and its three rows (chapter "sequence").
import {make, percent, slider, tokenCell} from "../draw.js"
import {KINDS, drawer, noiseBoxes, threeRows} from "../noise.js"
import {Tokenizer} from "../tokenizer.js"
import {boardOf, choice, layOut} from "./common.js"

const SHOWN = 8 // objects of the sequence

export async function draw(root, {scene, tokenizer}) {
  const board = await boardOf(scene), words = new Tokenizer(tokenizer)
  const objects = scene.boxes.map((box, i) => (
    {box: box.map(v => v/board.size), label: scene.labels[i]}))
  const rows = make("div", {class: "live-sequence"}), more = make("p", {class: "live-rest"})
  let kind = "mix"
  const kinds = choice("noise", [kind, ...KINDS], value => { kind = value; show() })
  const add = (label, max, value, format) => slider(
    {label, min: 0, max, step: 1, value, format, oninput: show})
  const seed = add("seed", 50, 0), count = add("objects", 40, 20)
  const far = add("jitter", 50, 10, v => `${v} %`)
  const controls = [kinds, ...[seed, count, far].map(s => s.element)]
  const say = layOut(root, {board, controls, below: [rows, more]})

  function show() {
    const random = drawer(seed.value), how = {maxShift: far.value/100, kind}
    const noise = noiseBoxes(objects.map(o => o.box), count.value, random, how)
    board.show([...noise, ...objects.map(({box}) => ({box, kind: "true solid"}))])
    const {input, target, weights} = threeRows(objects, noise, words, random)
    const all = target.length/5, kindOf = k => noise[k - objects.length]?.kind
    rows.replaceChildren(...Array.from({length: Math.min(all, SHOWN)}, (_, k) =>
      group(...[input, target, weights].map(row => row.slice(5*k, 5*k + 5)), kindOf(k), words)))
    more.textContent = "Upper row: what the decoder reads, with corrupted classes. Lower row: " +
      "what it must predict. The bar below says how much that counts." +
      (all > SHOWN ? ` These are the first ${SHOWN} of ${all} objects.` : "")
    const counts = KINDS.map(name => make("span", {class: `live-key ${name}`},
                                          `${noise.filter(n => n.kind === name).length} ${name}`))
    say(`${objects.length} true objects in white, ${noise.length} noise objects: `, ...counts)
  }
  show()
}

// One object in all three rows.
function group(input, target, weights, kind, tokenizer) {
  const row = cells => make("div", {class: "live-cells"}, cells)
  const tokens = row => row.map(token => tokenCell(token, tokenizer, {text: token}))
  const bars = weights.map(weight => make("span", {
    class: "live-weight", style: `--w:${percent(weight)}`, title: `weight ${weight}`}))
  const name = make("span", {}, kind ? "noise" : "an object"), which = make("span", {}, kind ?? "")
  return make("div", {class: "live-object"},
    make("div", {class: "live-object-head"}, name, which),
    row(tokens(input)), row(tokens(target)), row(bars))
}
