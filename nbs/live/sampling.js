// How a token is chosen from the logits, as in the chapter "sampling".

export function softmax(logits) {
  const highest = Math.max(...logits)
  const exps = Float64Array.from(logits, x => Math.exp(x - highest))
  const sum = exps.reduce((a, b) => a + b, 0)
  return exps.map(x => x/sum)
}

// The place of the largest value; of equal ones the first.
export function argmax(values) {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

// Logits by the grammar of a slot: what may not stand there gets -Infinity.
export function constrain(logits, tokenizer, slot) {
  return Float64Array.from(logits, (x, token) => tokenizer.allows(slot, token) ? x : -Infinity)
}

// The nucleus: the most likely tokens as long as their probabilities add up to at most `topP`.
// The most likely one stays in any case, and so do those as likely as the last one kept.
export function nucleus(logits, topP) {
  if (topP >= 1) return Array.from(logits, x => x > -Infinity)
  const ranked = Float64Array.from(logits).sort().reverse()
  let sum = 0, kept = 0
  for (const p of softmax(ranked)) {
    sum += p
    if (sum > topP) break
    kept++
  }
  const least = ranked[Math.max(kept, 1) - 1]
  return Array.from(logits, x => x >= least && x > -Infinity)
}

// What can be said about the next token: the probability of each by the grammar, which ones are in
// the nucleus, and how much probability the grammar has ruled out. `choice` is
// `{greedy, temperature, topP}`.
export function outlook(logits, tokenizer, slot, {greedy, temperature, topP}) {
  const allowed = constrain(logits, tokenizer, slot)
  const scaled = greedy ? allowed : allowed.map(x => x/temperature)
  const best = argmax(allowed)
  const kept = greedy ? Array.from(allowed, (_, i) => i === best) : nucleus(scaled, topP)
  const whole = softmax(logits)
  const outside = whole.reduce((sum, p, i) => sum + (allowed[i] === -Infinity ? p : 0), 0)
  return {probs: softmax(scaled), kept, outside, best}
}

// The token on which a draw from [0, 1) falls, if the kept ones are laid end to end.
export function pick({probs, kept}, draw) {
  const parts = probs.map((p, i) => kept[i] ? p : 0)
  const point = (1 - 1e-6)*draw*parts.reduce((a, b) => a + b, 0)
  let end = 0
  for (let i = 0; i < parts.length; i++) {
    end += parts[i]
    if (end > point) return i
  }
}

// The most likely real class of a class slot, and its probability among all tokens: the score.
export function classScore(logits, tokenizer) {
  const from = tokenizer.class_offset
  const classes = softmax(logits).slice(from, from + tokenizer.num_classes)
  const label = argmax(classes)
  return {label, score: classes[label]}
}

// Uniform numbers that follow from a seed (the generator "mulberry32").
export function randomNumbers(seed) {
  let state = seed >>> 0
  return () => {
    state = state + 0x6D2B79F5 >>> 0
    let t = Math.imul(state ^ state >>> 15, 1 | state)
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t
    return ((t ^ t >>> 14) >>> 0)/2**32
  }
}

// All draws of a sequence beforehand, so that a change of one token leaves the others' draws alone.
export const drawsOf = (seed, count) => Array.from({length: count}, randomNumbers(seed))
