// Two graphs in WebAssembly: one looks at an image, the other reads one token at a time (chapter
// "export"). Nothing leaves the machine.

// An error whose message is a sentence for the reader.
export class Failure extends Error {}

// Download a file; `onBytes` hears of each part. A file that is still zipped is unzipped here.
async function download(url, signal, onBytes) {
  const name = url.pathname.split("/").pop()
  let answer
  try { answer = await fetch(url, {signal}) } catch { throw failedDownload(name, "no connection") }
  if (!answer.ok) throw failedDownload(name, answer.status)
  const parts = []
  try {
    for (const reader = answer.body.getReader();;) {
      const {done, value} = await reader.read()
      if (done) break
      parts.push(value)
      onBytes(value.length)
    }
  } catch { throw failedDownload(name, "the connection broke") }
  const blob = new Blob(parts)
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer())
  if (first !== 0x1f || second !== 0x8b) return new Uint8Array(await blob.arrayBuffer())
  const unzipped = blob.stream().pipeThrough(new DecompressionStream("gzip"))
  try { return new Uint8Array(await new Response(unzipped).arrayBuffer()) }
  catch { throw failedDownload(name, "the file is damaged") }
}

const failedDownload = (name, why) => new Failure(
  `The model could not be downloaded (${name}: ${why}), so nothing can be read yet.`)

// Say in a sentence why the runtime or a graph did not start.
function failedStart(error) {
  const words = `${error?.message ?? error}`
  if (error instanceof Failure) return error
  if (error instanceof RangeError || /memory|allocat|\boom\b/i.test(words))
    return new Failure("This browser did not give the model the memory that it needs.")
  const short = words.split("\n")[0].slice(0, 90)
  return new Failure(`The model did not start in this browser (${short}).`)
}

export async function loadModel(base, {config, tokenizer, bytes}, onProgress) {
  if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function")
    throw new Failure("This browser has no WebAssembly, so the model cannot run in it.")
  const total = Object.values(bytes).reduce((a, b) => a + b, 0)
  let loaded = 0
  const all = new AbortController()
  const get = name => download(new URL(name, base), all.signal, n => onProgress(loaded += n, total))
  try {
    const names = ["ort.wasm.gz", "encoder.onnx.gz", "step.onnx.gz"]
    const [wasm, encoder, step] = await Promise.all(names.map(get))
    const ort = await import(new URL("ort.wasm.bundle.min.mjs", base)).catch(() => {
      throw failedDownload("ort.wasm.bundle.min.mjs", "no answer")
    })
    ort.env.wasm.numThreads = 1
    ort.env.wasm.wasmBinary = wasm.buffer
    const start = graph => ort.InferenceSession.create(graph, {executionProviders: ["wasm"]})
    return new Model(ort, await start(encoder), await start(step), config)
  } catch (error) {
    all.abort()
    throw failedStart(error)
  }
}

class Model {
  constructor(ort, encoder, stepper, config) {
    Object.assign(this, {ort, encoder, stepper, config})
  }

  // Look at an image `[3, H, W]` in [0, 1]: its keys and values, and an empty past for tokens.
  async look(pixels) {
    const [height, width] = this.config.image_size
    const images = new this.ort.Tensor("float32", pixels, [1, 3, height, width])
    const {image} = await this.encoder.run({images})
    const [layers, two, batch, heads, , channels] = image.dims
    const shape = [layers, two, batch, heads, this.config.max_seq_len, channels]
    const empty = new Float32Array(shape.reduce((a, b) => a*b))
    return {image, past: new this.ort.Tensor("float32", empty, shape)}
  }

  // Read one token at a position: logits of the next one, and where each layer looked. The token's
  // keys and values go to their place in the past; later places do not count until they are read.
  async step({image, past}, token, position) {
    const whole = number => new this.ort.Tensor("int64", [BigInt(number)], [1])
    const given = {read: whole(token), position: whole(position), past, image}
    const {logits, kept, attention} = await this.stepper.run(given)
    const length = past.dims[4], channels = past.dims[5]
    for (let row = 0; row*channels < kept.data.length; row++) {
      const values = kept.data.subarray(row*channels, (row + 1)*channels)
      past.data.set(values, (row*length + position)*channels)
    }
    const [layers, , cells] = attention.dims
    const looks = Array.from({length: layers},
                             (_, i) => attention.data.slice(i*cells, (i + 1)*cells))
    return {logits: Float32Array.from(logits.data), looks}
  }
}
