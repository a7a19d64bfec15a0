// Noise objects, and the three rows of a training sequence, as in the chapter "sequence".
import {randomNumbers} from "./sampling.js"

export const KINDS = ["jittered", "shifted", "random"]
const inside = v => Math.min(Math.max(v, 0), 1)

// The draws that noise needs, from one seed.
export function drawer(seed) {
  const random = randomNumbers(seed)
  const whole = n => Math.floor(n*random())                          // 0 to n - 1
  const normal = () => Math.sqrt(-2*Math.log(1 - random()))*Math.cos(2*Math.PI*random())
  const cutNormal = std => {                                         // cut at two deviations
    let z = normal()
    while (Math.abs(z) > 2) z = normal()
    return std*z
  }
  const shuffled = items => {
    const left = [...items]
    return items.map(() => left.splice(whole(left.length), 1)[0])
  }
  return {random, whole, cutNormal, shuffled}
}

// A near duplicate: each side moves by a part of the box.
export function jitter(box, draw, maxShift) {
  const size = [box[2] - box[0], box[3] - box[1]]
  return box.map((v, k) => inside(v + size[k%2]*draw.cutNormal(maxShift/2)))
}

function around([x, y], [w, h]) {
  return [x - w/2, y - h/2, x + w/2, y + h/2].map(inside)
}

// The size of a box at any place.
export const shift = (box, draw) =>
  around([draw.random(), draw.random()], [box[2] - box[0], box[3] - box[1]])

// Any size at any place.
export const anyBox = draw =>
  around([draw.random(), draw.random()], [0, 0].map(() => Math.abs(draw.cutNormal(0.5))))

// `k` of `n` or fewer boxes, each of the true ones about equally often.
function some(boxes, k, n, draw) {
  const copies = boxes.length*(Math.floor(n/boxes.length) + 1)
  return draw.shuffled([...Array(copies).keys()]).slice(0, k).map(i => boxes[i%boxes.length])
}

// `n` noise objects `{box, kind}`: a uniform share of duplicates, the rest half shifted and half
// random; or all of one kind.
export function noiseBoxes(boxes, n, draw, {maxShift = 0.1, kind = "mix"} = {}) {
  const make = {jittered: box => jitter(box, draw, maxShift), shifted: box => shift(box, draw),
                random: () => anyBox(draw)}
  const of = (name, some) => some.map(box => ({box: make[name](box), kind: name}))
  if (kind !== "mix") return of(kind, some(boxes, n, n, draw))
  const near = draw.whole(n + 1), bad = n - near
  const pool = [...of("shifted", some(boxes, bad, n, draw)), ...of("random", Array(bad).fill(null))]
  const jittered = of("jittered", some(boxes, near, n, draw))
  return draw.shuffled([...jittered, ...draw.shuffled(pool).slice(0, bad)])
}

// The rows of objects in random order and of noise: what is read, what must be predicted, and how
// much each token counts.
export function threeRows(objects, noise, tokenizer, draw) {
  const all = [...draw.shuffled(objects), ...noise.map(({box}) => ({box, label: -1}))]
  const target = all.flatMap(({box, label}) => tokenizer.encode(box, label))
  const read = target.map((token, i) => i%5 < 4 ? token : draw.random() < 0.5 ?
    tokenizer.noise_token : tokenizer.class_offset + draw.whole(tokenizer.num_classes))
  const weights = all.flatMap(({label}) => label < 0 ? [0, 0, 0, 0, 1] : [1, 1, 1, 1, 1])
  return {input: [tokenizer.prompt_token, ...read.slice(0, -1)], target, weights}
}
