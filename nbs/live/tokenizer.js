// Boxes as tokens and back, as in the chapter "tokenizer".

export const SLOTS = ["ymin", "xmin", "ymax", "xmax", "class"]

// The nearest of `bins` evenly spaced values; halfway between two, the even one.
export function quantize(x, bins) {
  const exact = x*(bins - 1), low = Math.floor(exact)
  const bin = exact - low === 0.5 ? low + low%2 : Math.round(exact)
  return Math.min(Math.max(bin, 0), bins - 1)
}

export const dequantize = (bin, bins) => Math.min(Math.max(bin/(bins - 1), 0), 1)

// Intersection over union of two boxes `[xmin, ymin, xmax, ymax]`.
export function boxIou(a, b) {
  const side = k => Math.max(0, Math.min(a[k + 2], b[k + 2]) - Math.max(a[k], b[k]))
  const area = box => Math.max(0, box[2] - box[0])*Math.max(0, box[3] - box[1])
  const shared = side(0)*side(1), union = area(a) + area(b) - shared
  return union > 0 ? shared/union : 0
}

export class Tokenizer {
  // `layout` has the fields of Python's BoxTokenizer; `names` are the words for the classes.
  constructor(layout, names) {
    Object.assign(this, layout)
    this.names = names ?? Array.from({length: layout.num_classes}, (_, i) => `${i}`)
  }

  isCoord(token) {
    return token >= this.coord_offset && token < this.coord_offset + this.quantization_bins
  }

  isClass(token) {
    return token >= this.class_offset && token < this.class_offset + this.num_classes
  }

  // What a token says: also the name of its colour.
  kind(token) {
    if (this.isCoord(token)) return "coordinate"
    if (this.isClass(token)) return "class"
    const special = {[this.noise_token]: "noise", [this.prompt_token]: "prompt",
                     [this.pad_token]: "padding"}
    return special[token] ?? "unused"
  }

  // A token as people read it.
  word(token) {
    if (this.isCoord(token)) return `${token - this.coord_offset}`
    if (this.isClass(token)) return this.names[token - this.class_offset]
    return {noise: "noise", prompt: "start", padding: "end"}[this.kind(token)] ?? `#${token}`
  }

  // The grammar: may a token stand in a slot? The end may stand where an object may begin.
  allows(slot, token) {
    if (slot === 4) return this.isClass(token) || token === this.noise_token
    return this.isCoord(token) || slot === 0 && token === this.pad_token
  }

  // A box as fractions of the image, and a label (-1 for noise), to five tokens.
  encode([xmin, ymin, xmax, ymax], label) {
    const bins = [ymin, xmin, ymax, xmax].map(x => quantize(x, this.quantization_bins))
    return [...bins.map(bin => this.coord_offset + bin),
            label < 0 ? this.noise_token : this.class_offset + label]
  }

  // The value of a coordinate token, as a fraction of the image.
  value(token) { return dequantize(token - this.coord_offset, this.quantization_bins) }

  // The box of an object's tokens: `[xmin, ymin, xmax, ymax]` as fractions of the image.
  box([ymin, xmin, ymax, xmax]) { return [xmin, ymin, xmax, ymax].map(t => this.value(t)) }
}
