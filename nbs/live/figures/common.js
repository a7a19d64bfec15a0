// The parts that the chapters' figures have in common.
import {Board, make} from "../draw.js"

// A picture or a plot beside its controls, a sentence, and what stands below. Returns a function
// that sets the sentence, of words and elements.
export function layOut(root, {board, plot, controls, below}) {
  const words = make("p", {class: "live-caption", "aria-live": "polite"})
  root.append(
    make("div", {class: "live-figure-top"}, board?.element, plot,
         make("div", {class: "live-settings"}, controls)),
    words, ...[below ?? []].flat())
  return (...parts) => words.replaceChildren(...parts)
}

// One of several values, the first one at the beginning.
export function choice(name, values, onChange) {
  const one = (value, i) => make("label", {}, make("input", {
    type: "radio", name, value, checked: i === 0, onchange: () => onChange(value)}), `${value}`)
  return make("fieldset", {class: "live-choice"}, make("legend", {}, name), values.map(one))
}

// A board that shows a picture of `figures.json`.
export async function boardOf({image}) {
  const picture = new Image()
  picture.src = new URL(`../${image}`, import.meta.url)
  await picture.decode()
  const board = new Board(picture.width, {role: "img", "aria-label": "A scene with boxes"})
  board.context.drawImage(picture, 0, 0)
  return board
}
