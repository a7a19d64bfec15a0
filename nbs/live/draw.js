// Boxes, rows of tokens and bars: the small library that the live page and the chapters' figures
// share. Positions are fractions of the picture, so all of it scales with its frame.

// An element: `make("button", {class: "x", onclick: f}, "text", child)`.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) value && element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, "")
    else if (value !== false && value != null) element.setAttribute(name, value)
  }
  element.append(...children.flat().filter(child => child != null))
  return element
}

// Put other children into an element; the focus stays where it was, by `data-key`.
export function refill(element, children) {
  const key = element.contains(document.activeElement) && document.activeElement.dataset.key
  element.replaceChildren(...children)
  if (key) element.querySelector(`[data-key="${key}"]`)?.focus()
}

// Load the style sheet that belongs to this library, once.
export function addStyle() {
  const href = new URL("live.css", import.meta.url).href
  if (!document.querySelector(`link[href="${href}"]`))
    document.head.append(make("link", {rel: "stylesheet", href}))
}

export const percent = fraction => `${+(100*fraction).toFixed(3)}%`

// A probability in few characters; what is nearly sure is not called sure.
export function chance(p) {
  if (p >= 0.995) return ">.99"
  return p < 0.005 ? "<.01" : p.toFixed(2).slice(1)
}

// A picture with room for boxes and lines above it.
export class Board {
  constructor(size, attributes = {}) {
    this.size = size
    this.canvas = make("canvas", {class: "live-image", width: size, height: size})
    this.layer = make("div", {class: "live-layer", "aria-hidden": "true"})
    this.element = make("div", {class: "live-board", ...attributes}, this.canvas, this.layer)
    this.context = this.canvas.getContext("2d", {willReadFrequently: true})
  }

  // Replace everything above the picture. A box is `{box, kind, name}`, with the corners `xmin ymin
  // xmax ymax`; its kind gives it its look (`found`, `noise`, `true`, ...). A line is `{slot, at}`.
  show(boxes, lines = []) {
    this.layer.replaceChildren(...boxes.map(drawBox), ...lines.map(drawLine))
  }
}

function drawBox({box: [xmin, ymin, xmax, ymax], kind, name}) {
  const [left, right] = [Math.min(xmin, xmax), Math.max(xmin, xmax)]
  const [top, bottom] = [Math.min(ymin, ymax), Math.max(ymin, ymax)]
  const style = `left:${percent(left)};top:${percent(top)};` +
                `width:${percent(right - left)};height:${percent(bottom - top)}`
  const places = `live-name${top < 0.1 ? " inside" : ""}${left > 0.8 ? " leftward" : ""}`
  return make("div", {class: `live-box ${kind}`, style},
              name ? make("span", {class: places}, name) : null)
}

// An edge of a box whose other edges are not known yet, in the order of the slots.
function drawLine({slot, at, kind = ""}) {
  const side = slot%2 ? "left" : "top"
  return make("div", {class: `live-line ${slot%2 ? "x" : "y"} ${kind}`,
                      style: `${side}:${percent(at)}`})
}

// One token as a cell in the colour of what it says; a button, if it can be pressed.
export function tokenCell(token, tokenizer, {text, onclick, label, key, marks = "", current} = {}) {
  const name = `live-token ${tokenizer.kind(token)} ${marks}`
  const attributes = {class: name, "data-token": token, "data-key": key, title: `token ${token}`,
                      "aria-label": label, "aria-current": current ? "step" : null, onclick}
  if (onclick) attributes.type = "button"
  return make(onclick ? "button" : "span", attributes, text ?? tokenizer.word(token))
}

// A row of tokens with a word in front, all cells of one width.
export function tokenRow(name, tokens, tokenizer, options = {}) {
  return make("div", {class: "live-row"}, make("span", {class: "live-row-name"}, name),
              make("div", {class: "live-cells", style: `--cells:${tokens.length}`},
                   tokens.map((t, i) => tokenCell(t, tokenizer, options.each?.(t, i) ?? options))))
}

const SVG = "http://www.w3.org/2000/svg"

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

// Bars of one distribution along a side of a picture: `groups` are `{class, values}`, with a value
// or 0 for each bin. Bars grow to the right of the picture (`y`) or downwards below it (`x`). As an
// edge of the picture is a bin, too, half of the first bin and half of the last one lie outside.
export function sideBars(side, count, groups, highest) {
  const path = values => values.map((v, i) => {
    if (!(v > 0)) return ""
    const length = Math.max(v/highest, 0.004), from = i + 0.08, to = i + 0.92
    return side === "y" ? `M0 ${from}H${length}V${to}H0Z` : `M${from} 0V${length}H${to}V0Z`
  }).join("")
  const box = side === "y" ? `0 0.5 1 ${count - 1}` : `0.5 0 ${count - 1} 1`
  return svg("svg", {viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true"},
             ...groups.map(g => svg("path", {class: g.class, d: path(g.values)})))
}

// A slider with its name and its value: `{label, min, max, step, value, format, oninput}`.
export function slider({label, format = v => `${v}`, oninput, ...attributes}) {
  const output = make("output", {}, format(+attributes.value))
  const input = make("input", {type: "range", ...attributes, oninput: () => {
    output.textContent = format(+input.value)
    oninput?.(+input.value)
  }})
  input.value = attributes.value                     // now that its range is known
  const element = make("label", {class: "live-slider"}, make("span", {}, label), input, output)
  return {element, input, get value() { return +input.value }}
}
