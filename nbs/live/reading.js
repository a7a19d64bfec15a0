// One reading of one image: its tokens so far, and what was predicted for each.
import {classScore, drawsOf, outlook, pick} from "./sampling.js"

export class Reading {
  constructor(model, tokenizer) {
    Object.assign(this, {model, tokenizer, tokens: [], steps: [], forced: new Set()})
    this.most = 5*model.config.max_instances
    this.choose({greedy: false, temperature: 1, topP: 0.4, seed: 0})
  }

  choose(choice) {
    this.choice = choice
    this.draws = drawsOf(choice.seed, this.most)
  }

  get ended() { return this.tokens.at(-1) === this.tokenizer.pad_token }
  get done() { return this.ended || this.tokens.length >= this.most }

  async look(pixels) {
    this.memory = await this.model.look(pixels)
    this.keep(0)
    this.steps.length = 0
    await this.ask()
  }

  // Forget all tokens but the first `count`. What was predicted for the next one stays true.
  keep(count) {
    this.tokens.length = Math.min(this.tokens.length, count)
    this.steps.length = Math.min(this.steps.length, count + 1)
    this.forced.forEach(at => at < count || this.forced.delete(at))
  }

  // What does the model predict for the next token?
  async ask() {
    const at = this.tokens.length
    if (this.done || this.steps[at]) return
    const last = at ? this.tokens[at - 1] : this.tokenizer.prompt_token
    this.steps[at] = await this.model.step(this.memory, last, at)
  }

  // The prediction for the token at a place, by the grammar and the present choice.
  outlook(at) {
    return this.steps[at] && outlook(this.steps[at].logits, this.tokenizer, at%5, this.choice)
  }

  async next() {
    if (this.done) return
    await this.ask()
    const at = this.tokens.length
    this.tokens.push(pick(this.outlook(at), this.draws[at]))
    await this.ask()
  }

  async readTo(count) { while (!this.done && this.tokens.length < count) await this.next() }

  // Another token at a place, and the rest of the sequence from there on.
  async force(at, token) {
    const length = this.tokens.length
    this.keep(at)
    this.tokens.push(token)
    this.forced.add(at)
    await this.ask()
    await this.readTo(length)
  }

  // The same length with another choice; what was forced stays, with all that led to it.
  async again() {
    const length = this.tokens.length
    this.keep(Math.max(-1, ...this.forced) + 1)
    await this.ask()
    await this.readTo(length)
  }

  // The objects that have been read whole: box, label, score, and whether noise was read.
  objects() {
    const whole = this.ended ? this.tokens.length - 1 : this.tokens.length
    return Array.from({length: Math.floor(whole/5)}, (_, k) => {
      const tokens = this.tokens.slice(5*k, 5*k + 5)
      return {...classScore(this.steps[5*k + 4].logits, this.tokenizer), tokens,
              box: this.tokenizer.box(tokens), noise: tokens[4] === this.tokenizer.noise_token}
    })
  }
}
