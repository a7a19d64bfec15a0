// What is said about the reading in words and bars, beside and below the picture. The page's state
// is described in `stage.js`.
import {chance, make, percent, tokenCell} from "./draw.js"
import {SLOTS} from "./tokenizer.js"

const QUESTIONS = ["where is an upper edge?", "where is its left edge?", "where is its lower edge?",
                   "where is its right edge?", "what is it?"]
const ROWS = 11  // as many as digits and noise

const placeOf = at => `Object ${Math.floor(at/5) + 1}, ${SLOTS[at%5]}`

export const question = ({view}) => `${placeOf(view)}: ${QUESTIONS[view%5]}`

// Buttons for the most likely tokens: of a coordinate the first few, of a class all.
export function candidates({reading, view, outlook}, tokenizer, onForce) {
  if (!outlook) return []
  const {probs, kept} = outlook, slot = view%5, read = reading.tokens[view]
  const tokens = [...probs.keys()].filter(token => tokenizer.allows(slot, token))
  const noiseLast = (a, b) => tokenizer.isClass(b) - tokenizer.isClass(a) || a - b
  tokens.sort(slot === 4 ? noiseLast : (a, b) => probs[b] - probs[a])
  return tokens.slice(0, slot === 4 ? tokens.length : ROWS).map(token => make("li", {},
    candidate(token, probs[token], kept[token], token === read, tokenizer, onForce)))
}

function candidate(token, p, kept, read, tokenizer, onForce) {
  const label = `${tokenizer.isCoord(token) ? "bin " : ""}${tokenizer.word(token)}, probability ` +
    `${chance(p)}${kept ? ", can be drawn" : ""}${read ? ", read" : ""}`
  return make("button", {
    type: "button", class: `live-candidate${kept ? " kept" : ""}${read ? " read" : ""}`,
    "data-key": token, style: `--p:${percent(p)}`, "aria-label": label,
    onclick: () => onForce(token)},
    tokenCell(token, tokenizer), make("span", {class: "live-bar"}),
    make("span", {class: "live-p"}, chance(p)))
}

// What the list does not show.
export function remainder({view, outlook}, tokenizer) {
  if (!outlook) return ""
  const {probs, kept, outside} = outlook, size = kept.filter(Boolean).length
  const count = [...probs.keys()].filter(token => tokenizer.allows(view%5, token)).length
  const inside = probs.reduce((sum, p, token) => sum + (kept[token] ? p : 0), 0)
  return (size === 1 ? `Of ${count} tokens one can be drawn` :
    `Of ${count} tokens ${size} can be drawn, with ${chance(inside)} of the probability`) +
    `; ${chance(outside)} lay outside the grammar.`
}

export function caption({reading, view, outlook, choice}, tokenizer) {
  if (!outlook) return "As soon as the model is here, it looks at this picture."
  const place = placeOf(view), token = reading.tokens[view], kind = tokenizer.kind(token)
  if (token === undefined) return `${place}: not read yet. The bars say what the model expects.`
  const how = reading.forced.has(view) ? "your choice" :
    choice.greedy ? "the most likely token" : "drawn"
  const word = {coordinate: `bin ${tokenizer.word(token)}`, class: `a ${tokenizer.word(token)}`,
                noise: "noise", padding: "the end"}[kind]
  const said = `${place}: ${word}, ${how}, probability ${chance(outlook.probs[token])}.`
  if (view%5 < 4) return said
  const {label, score} = reading.objects()[Math.floor(view/5)]
  return `${said} The score of its box is ${chance(score)}, for a ${tokenizer.names[label]}.`
}

// All objects, read or not, as five cells each.
export function sequence({reading, view}, tokenizer, count, onView) {
  const objects = reading?.objects() ?? []
  return Array.from({length: count}, (_, k) => {
    const {label, score, noise} = objects[k] ?? {}
    const words = objects[k] ? `${tokenizer.names[label]} · ${chance(score)}` : ""
    return make("div", {class: `live-object${noise ? " noise" : ""}`},
      make("div", {class: "live-object-head"}, make("span", {}, `object ${k + 1}`),
           make("span", {title: "the most likely digit, and the score"}, words)),
      make("div", {class: "live-slots", "aria-hidden": "true"},
           SLOTS.map(slot => make("span", {}, slot))),
      make("div", {class: "live-cells"},
           SLOTS.map((_, slot) => cell(5*k + slot, reading, view, tokenizer, onView))))
  })
}

// A token that was read, the one that comes next, or an empty place.
function cell(at, reading, view, tokenizer, onView) {
  const token = reading?.tokens[at], onclick = () => onView(at), current = at === view
  if (token !== undefined) {
    const forced = reading.forced.has(at), word = tokenizer.word(token)
    const label = `${placeOf(at)}: ${word}${forced ? ", your choice" : ""}`
    return tokenCell(token, tokenizer,
                     {onclick, label, current, key: at, marks: forced ? "forced" : ""})
  }
  if (!reading?.steps[at]) return make("span", {class: "live-token blank", "aria-hidden": "true"})
  return make("button", {
    type: "button", class: "live-token next", "data-key": at, onclick,
    "aria-label": `${placeOf(at)}: not read yet`, "aria-current": current ? "step" : null}, "?")
}
