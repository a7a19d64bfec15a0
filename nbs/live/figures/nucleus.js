// Temperature, the nucleus and a draw, for one distribution of the model (chapter "sampling").
import {chance, make, percent, sideBars, slider} from "../draw.js"
import {outlook, pick} from "../sampling.js"
import {Tokenizer, dequantize} from "../tokenizer.js"
import {layOut} from "./common.js"

export async function draw(root, {tokenizer, first}) {
  const words = new Tokenizer(tokenizer)
  const bars = make("div", {class: "live-bars", role: "img"})
  const strip = make("div", {class: "live-draws", "aria-hidden": "true"})
  const add = (label, min, max, step, value, digits) => slider(
    {label, min, max, step, value, format: v => v.toFixed(digits), oninput: show})
  const temperature = add("temperature", 0.1, 3, 0.1, 1, 1)
  const topP = add("top-p", 0.05, 1, 0.05, 0.9, 2), drawn = add("draw", 0, 0.99, 0.01, 0.3, 2)
  const plot = make("div", {class: "live-plot"}, bars, strip)
  const say = layOut(root, {plot, controls: [temperature, topP, drawn].map(s => s.element)})

  function show() {
    const choice = {temperature: temperature.value, topP: topP.value}
    const now = outlook(first.logits, words, 0, choice), token = pick(now, drawn.value)
    const kept = [...now.kept.keys()].filter(t => now.kept[t])
    const inside = kept.reduce((sum, t) => sum + now.probs[t], 0)
    bars.replaceChildren(barsOf(now, token, words), ...first.truth.map(bin => make("span", {
      class: "live-tick", style: `left:${percent(dequantize(bin, words.quantization_bins))}`})))
    bars.setAttribute("aria-label",
                      `The probability of each bin; the highest is that of ${words.word(now.best)}`)
    strip.replaceChildren(...kept.map(t => part(t, now.probs[t]/inside, t === token, words)),
                          make("i", {style: `left:${percent(drawn.value)}`}))
    const many = kept.length === 1 ? "One token is" : `${kept.length} tokens are`
    say(`${many} in the nucleus; below the bars they lie end to end, and the draw ` +
        `${drawn.value.toFixed(2)} falls on bin ` +
        `${words.word(token)}, whose probability is ${chance(now.probs[token])}. ` +
        "Triangles: the true upper edges.")
  }
  show()
}

function barsOf({probs, kept}, token, {coord_offset: from, quantization_bins: count}) {
  const values = test => Array.from({length: count},
                                    (_, i) => test(from + i) ? probs[from + i] : 0)
  return sideBars("x", count, [
    {class: "out", values: values(t => !kept[t])},
    {class: "kept", values: values(t => kept[t] && t !== token)},
    {class: "read", values: values(t => t === token)}], Math.max(...values(() => true)))
}

// A token's part of the strip, as long as its probability.
function part(token, share, read, tokenizer) {
  return make("span", {class: read ? "read" : "", style: `flex-grow:${share}`,
                       title: `bin ${tokenizer.word(token)}`},
              share > 0.06 ? tokenizer.word(token) : "")
}
