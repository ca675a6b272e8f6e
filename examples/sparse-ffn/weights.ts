// Seeded weights in place of a trained model's: the same numbers in every run.
import type { MixtureWeights } from "./experts.js";
import type { RegluWeights } from "./reglu.js";

/** Where a standard normal variable leaves 6% above: "Lazy Neuron" (Li et al., ICLR 2023) finds 3 to 6% in trained transformers. */
const SIX_PERCENT = 1.555;

/** n numbers with mean 0 and the given variance, uniform (mulberry32). */
function uniform(n: number, variance: number, seed: number): Float32Array {
  const scale = Math.sqrt(3 * variance);
  let state = seed;
  return Float32Array.from({ length: n }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1) * scale;
  });
}

/** A token: numbers of mean 0 and variance 1, as after a normalisation. */
export const token = (model: number, index: number): Float32Array => uniform(model, 1, 1000 + index);

/** Gates are sums of many terms, so about normal with variance 1; the bias closes all but 6% of them. */
export const regluWeights = (model: number, hidden: number): RegluWeights => ({
  model,
  hidden,
  gate: uniform(hidden * model, 1 / model, 2),
  bias: new Float32Array(hidden).fill(-SIX_PERCENT),
  up: uniform(hidden * model, 1 / model, 3),
  down: uniform(model * hidden, 1 / hidden, 4),
});

export const mixtureWeights = (model: number, hidden: number, experts: number, k: number): MixtureWeights => ({
  model,
  hidden,
  k,
  router: uniform(experts * model, 1 / model, 5),
  experts: Array.from({ length: experts }, (_, expert) => ({
    up: uniform(hidden * model, 1 / model, 6 + 2 * expert),
    down: uniform(model * hidden, 1 / hidden, 7 + 2 * expert),
  })),
});
