// What a threshold on the score does to precision and recall (chapter "average precision").
import {chance, make, slider, svg} from "../draw.js"
import {boxIou} from "../tokenizer.js"
import {boardOf, choice, layOut} from "./common.js"

export async function draw(root, {detections}) {
  const {scenes, shown} = detections, board = await boardOf(detections), {size} = board
  const total = scenes.reduce((sum, s) => sum + s.truth.length, 0)
  const plot = make("div", {class: "live-plot"})
  let overlap = 0.5
  const least = slider({label: "score from", min: 0, max: 1, step: 0.01, value: 0.5,
                        format: v => v.toFixed(2), oninput: show})
  const overlaps = choice("IoU from", [0.5, 0.75, 0.95], value => { overlap = value; show() })
  const say = layOut(root, {board, plot, controls: [least.element, overlaps]})

  function show() {
    const judged = scenes.map(scene => judge(scene, overlap))
    const ranked = judged.flat().sort((a, b) => b.score - a.score)
    const kept = ranked.filter(d => d.score >= least.value)
    const right = kept.filter(d => d.right).length, recall = right/total
    const precision = kept.length ? right/kept.length : 1
    plot.replaceChildren(curve(ranked, total, recall, precision))
    board.show(boxesOf(scenes[shown], judged[shown], least.value, size))
    say(`${scenes.length} scenes with ${total} digits. ${kept.length} detections have a score of ` +
        `${least.value.toFixed(2)} or more, and ${right} of them are right: precision ` +
        `${precision.toFixed(2)}, recall ${recall.toFixed(2)}. In the picture, blue is right, ` +
        "dashed orange is wrong, and dotted white is not found.")
  }
  show()
}

// For each detection, best first: is it right? A true object can be found only once.
function judge({found, truth}, overlap) {
  const taken = new Set()
  return found.map(({box, label, score}) => {
    const fits = truth.map((t, i) => t.label === label && !taken.has(i) ? boxIou(box, t.box) : 0)
    const best = fits.indexOf(Math.max(...fits)), right = fits[best] >= overlap
    if (right) taken.add(best)
    return {box, label, score, right, about: right ? best : null}
  })
}

function boxesOf({truth}, judged, least, size) {
  const kept = judged.filter(d => d.score >= least), scaled = box => box.map(v => v/size)
  const lost = truth.filter((_, i) => !kept.some(d => d.about === i))
  return [...lost.map(({box}) => ({box: scaled(box), kind: "true"})),
          ...kept.map(({box, label, score, right}) => ({
            box: scaled(box), kind: right ? "right" : "wrong", name: `${label} ${chance(score)}`}))]
}

// Precision against recall, detection by detection, and a dot where the threshold is.
function curve(ranked, total, recall, precision) {
  const x = r => 34 + 250*r, y = p => 170 - 155*p, end = {"text-anchor": "end"}
  let right = 0
  const points = ranked.map((d, i) => {
    right += d.right
    return `${x(right/total).toFixed(1)} ${y(right/(i + 1)).toFixed(1)}`
  })
  const line = (name, d) => svg("path", {class: name, d})
  const words = (text, x, y, more = {"text-anchor": "middle"}) => svg("text", {x, y, ...more}, text)
  return svg("svg", {viewBox: "0 0 300 205", role: "img", "aria-label": "Precision against recall"},
    line("grid", `M${x(0)} ${y(1)}H${x(1)}M${x(0)} ${y(0.5)}H${x(1)}` +
                 `M${x(0.5)} ${y(0)}V${y(1)}M${x(1)} ${y(0)}V${y(1)}`),
    line("frame", `M${x(0)} ${y(1)}V${y(0)}H${x(1)}`),
    line("curve", points.length ? `M${points.join("L")}` : ""),
    svg("circle", {class: "dot", cx: x(recall), cy: y(precision), r: 5}),
    words("recall", x(0.5), 202), words("0", x(0), 186), words("1", x(1), 186),
    words("1", 28, y(1) + 4, end), words("0", 28, y(0), end),
    words("precision", 12, y(0.5),
          {"text-anchor": "middle", transform: `rotate(-90 12 ${y(0.5)})`}))
}
