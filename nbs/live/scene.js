// Scenes of handwritten digits, painted in the browser in the way of the chapter "digits".
import {randomNumbers} from "./sampling.js"

const canvasOf = (width, height) => Object.assign(document.createElement("canvas"), {width, height})
const contextOf = canvas => canvas.getContext("2d", {willReadFrequently: true})

// A generator with the draws that a painter needs.
export function painter(seed) {
  const random = randomNumbers(seed)
  const between = (low, high) => low + random()*(high - low)
  const whole = (low, high) => Math.floor(between(low, high))     // without `high`
  const color = (low, high) => `rgb(${[0, 1, 2].map(() => whole(low, high)).join(" ")})`
  return {random, between, whole, color}
}

// Soft patches of colour, and lines, arcs, ellipses and rectangles of the size of digits.
export function paintBackground(context, size, seed, shapes = true) {
  const draw = painter(seed), patches = canvasOf(5, 5), pixels = contextOf(patches)
  const base = [0, 1, 2].map(() => draw.whole(0, 140))
  for (let i = 0; i < 25; i++) {
    pixels.fillStyle = `rgb(${base.map(v => v + draw.whole(-40, 41)).join(" ")})`
    pixels.fillRect(i%5, Math.floor(i/5), 1, 1)
  }
  context.imageSmoothingEnabled = true
  context.imageSmoothingQuality = "high"
  context.drawImage(patches, 0.5, 0.5, 4, 4, 0, 0, size, size)
  for (let n = shapes ? draw.whole(4, 12) : 0; n > 0; n--) paintShape(context, size, draw)
}

function paintShape(context, size, draw) {
  const kind = draw.whole(0, 4), [x, y] = [0, 0].map(() => draw.whole(-size/8, size))
  const [w, h] = [0, 0].map(() => draw.whole(size/16, size/3))
  context.strokeStyle = context.fillStyle = draw.color(0, 190)
  context.lineWidth = draw.whole(1, kind%3 ? 3 : 4)
  context.beginPath()
  if (kind === 0) {
    const up = draw.random() < 0.5
    context.moveTo(x, y)
    context.lineTo(x + w, up ? y - h : y + h)
  } else if (kind === 1) context.rect(x, y, w, h)
  else {
    const [from, to] = kind === 2 ? [0, 2*Math.PI] : [0, 0].map(() => draw.between(0, 2*Math.PI))
    context.ellipse(x + w/2, y + h/2, w/2, h/2, 0, from, to)
  }
  if (kind < 3 && kind > 0 && draw.random() < 0.3) context.fill()
  context.stroke()
}

// A digit `[8, 8]` (a canvas with ink in its opacity), enlarged, turned and stretched a little, and
// cut to its ink: a canvas of the given height whose opacity is the ink.
export function stampDigit(glyph, height, draw) {
  const big = canvasOf(96, 96), context = contextOf(big)
  context.imageSmoothingQuality = "high"
  context.translate(48, 48)
  context.rotate(draw.between(-12, 12)*Math.PI/180)
  context.drawImage(glyph, -32, -32, 64, 64)
  const [x, y, w, h] = inkBox(context.getImageData(0, 0, 96, 96))
  const width = Math.max(3, Math.round(height*w/h*draw.between(0.85, 1.2)))
  const stamp = canvasOf(width, height), small = contextOf(stamp)
  small.imageSmoothingQuality = "high"
  small.drawImage(big, x, y, w, h, 0, 0, width, height)
  const image = small.getImageData(0, 0, width, height)
  for (let i = 3; i < image.data.length; i += 4)
    image.data[i] = Math.min(Math.max(2*image.data[i] - 0.3*255, 0), 255)
  small.putImageData(image, 0, 0)
  return stamp
}

// Left, top, width and height of what is opaque enough to be seen.
function inkBox({data, width, height}) {
  let [left, top, right, bottom] = [width, height, 0, 0]
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    if (data[4*(y*width + x) + 3] <= 96) continue
    ;[left, right] = [Math.min(left, x), Math.max(right, x + 1)]
    ;[top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)]
  }
  return right ? [left, top, right - left, bottom - top] : [0, 0, width, height]
}

// Paint a stamp like chalk, in a bright colour.
export function paintStamp(context, stamp, x, y, color) {
  const chalk = canvasOf(stamp.width, stamp.height), ink = contextOf(chalk)
  ink.drawImage(stamp, 0, 0)
  ink.globalCompositeOperation = "source-in"
  ink.fillStyle = color
  ink.fillRect(0, 0, chalk.width, chalk.height)
  context.drawImage(chalk, x, y)
}

// All handwritten digits of `glyphs.png`: canvases whose opacity is the ink, and their classes.
export function cutGlyphs(picture, {columns, digits}) {
  const whole = canvasOf(picture.width, picture.height), context = contextOf(whole)
  context.drawImage(picture, 0, 0)
  return digits.map((digit, i) => {
    const image = context.getImageData(8*(i%columns), 8*Math.floor(i/columns), 8, 8)
    for (let k = 0; k < image.data.length; k += 4) image.data[k + 3] = image.data[k]
    const glyph = canvasOf(8, 8)
    contextOf(glyph).putImageData(image, 0, 0)
    return {digit, glyph}
  })
}

// A new scene: up to six digits on a cluttered canvas, none on another. Returns the true objects.
export function paintScene(context, size, glyphs, seed) {
  paintBackground(context, size, seed)
  const draw = painter(seed + 0x9E3779B9), objects = []
  for (let n = draw.whole(1, 7); n > 0; n--) {
    const {digit, glyph} = glyphs[draw.whole(0, glyphs.length)]
    const stamp = stampDigit(glyph, Math.round(size*draw.between(0.1, 0.4)), draw)
    const place = freePlace(stamp, size, objects.map(o => o.box), draw)
    if (!place) continue
    paintStamp(context, stamp, ...place, draw.color(140, 256))
    const [x, y] = place
    objects.push({label: digit, box: [x, y, x + stamp.width, y + stamp.height]})
  }
  return objects
}

function freePlace({width, height}, size, boxes, draw) {
  const apart = (a, b) => [0, 1].some(k => Math.min(a[k + 2], b[k + 2]) <= Math.max(a[k], b[k]))
  for (let attempt = 0; attempt < 20; attempt++) {
    const x = draw.whole(0, size - width + 1), y = draw.whole(0, size - height + 1)
    if (boxes.every(box => apart(box, [x, y, x + width, y + height]))) return [x, y]
  }
}
