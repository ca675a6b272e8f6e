// Seeded tensors in place of a trained model's: the same names and shapes, and numbers that keep activations alive in every layer.
import type { SafetensorsEntry } from "skipzeros";
import { planOf, type Version } from "./plan.js";

/** What a layer's inputs are taken to have as their mean square; normalised images do, and so does each layer's result. */
const SQUARE = 1;

/**
 * Random tensors with a file's names. Weights have He's variance, 2 / inputs (K. He et al., arXiv 1502.01852), and the heavy tails
 * of a trained network's (Laplace), so that pruning leaves most of what a layer does. Batch norms have statistics near those
 * which such weights cause, each its own.
 *
 * @returns a map as `readSafetensors(file).tensors`
 * @example
 * ```ts
 * const file = writeSafetensors(Object.fromEntries(randomTensors(2, 1)));
 * ```
 */
export function randomTensors(
  version: Version,
  seed: number,
  { widthMultiplier = 1, classes = 1000 }: { widthMultiplier?: number; classes?: number } = {},
): Map<string, SafetensorsEntry> {
  const { layers, classifier, features } = planOf(version, widthMultiplier);
  const random = uniform(seed);
  const tensors = new Map<string, SafetensorsEntry>();
  const put = (name: string, shape: number[], next: () => number) => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, next);
    tensors.set(name, { dtype: "F32", shape, data });
  };
  const within = (low: number, high: number) => () => low + (high - low) * random();
  const laplace = (variance: number) => {
    const scale = Math.sqrt(variance / 2);
    return () => {
      const u = random();
      return (u < 0.5 ? 1 : -1) * scale * -Math.log(1 - random());
    };
  };
  for (const { name, norm, shape, relu6, residual } of layers) {
    const inputs = shape[1] * shape[2] * shape[3];
    const variance = 2 * SQUARE; // of the sums
    // ReLU6 halves the mean square; what is added to a result must not make it grow from block to block.
    const square = relu6 ? 2 * SQUARE : residual === undefined ? SQUARE : SQUARE / 4;
    const gamma = Math.sqrt(square);
    put(`${name}.weight`, shape, laplace(2 / inputs));
    put(`${norm}.weight`, [shape[0]], within(0.7 * gamma, 1.1 * gamma));
    put(`${norm}.bias`, [shape[0]], within(-0.3 * gamma, 0.6 * gamma));
    put(`${norm}.running_mean`, [shape[0]], within(-0.3, 0.3));
    put(`${norm}.running_var`, [shape[0]], within(0.7 * variance, 1.3 * variance));
  }
  put(`${classifier}.weight`, [classes, features], laplace(1 / features));
  put(`${classifier}.bias`, [classes], within(-0.1, 0.1));
  return tensors;
}

/** Uniform in 0..1 (mulberry32). */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
