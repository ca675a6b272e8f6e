// What the layers must give: plain float64 loops, and for each output how far float32 may stray from them.
import type { MixtureWeights } from "./experts.js";
import type { RegluWeights } from "./reglu.js";

/** True values and the largest errors that are allowed. */
export interface Exact {
  y: Float64Array;
  bound: Float64Array;
}

const UNIT = 2 ** -24;

/** γ(n) = n·u / (1 − n·u) of n roundings (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1). */
const gamma = (n: number): number => (n * UNIT) / (1 - n * UNIT);

/** w · x (+ bias), where x itself may be off by its own bound. */
export function product(w: Float32Array, x: Exact, bias?: Float32Array): Exact {
  const k = x.y.length;
  const m = w.length / k;
  const result = { y: new Float64Array(m), bound: new Float64Array(m) };
  for (let r = 0; r < m; r++) {
    const row = w.subarray(r * k, (r + 1) * k);
    let sum = bias?.[r] ?? 0;
    let size = Math.abs(sum);
    let carried = 0;
    for (let i = 0; i < k; i++) {
      sum += row[i] * x.y[i];
      size += Math.abs(row[i] * x.y[i]);
      carried += Math.abs(row[i]) * x.bound[i];
    }
    result.y[r] = sum;
    result.bound[r] = gamma(k + 1) * (size + carried) + carried;
  }
  return result;
}

/** An input, which is what it is. */
export const given = (x: Float32Array): Exact => ({ y: Float64Array.from(x), bound: new Float64Array(x.length) });

/** Distances never grow under ReLU. */
export const relu = ({ y, bound }: Exact): Exact => ({ y: y.map((v) => Math.max(0, v)), bound });

/** a ⊙ b */
function times(a: Exact, b: Exact): Exact {
  const y = a.y.map((v, i) => v * b.y[i]);
  const bound = y.map((v, i) => {
    const carried = Math.abs(a.y[i]) * b.bound[i] + Math.abs(b.y[i]) * a.bound[i] + a.bound[i] * b.bound[i];
    return carried + UNIT * (Math.abs(v) + carried);
  });
  return { y, bound };
}

export function exactReglu({ gate, bias, up, down }: RegluWeights, x: Float32Array): Exact {
  const from = given(x);
  return product(down, times(relu(product(gate, from, bias)), product(up, from)));
}

/** With the router's choice as it is; `route` of experts.ts is checked apart. */
export function exactMixture(
  { experts }: MixtureWeights,
  x: Float32Array,
  chosen: Uint32Array,
  shares: Float64Array,
): Exact {
  const parts = Array.from(chosen, (expert, i) => {
    const { up, down } = experts[expert];
    const share = given(new Float32Array(up.length / x.length).fill(shares[i]));
    return product(down, times(relu(product(up, given(x))), share));
  });
  // Adding a part to the sum so far rounds that sum once more, and it is no larger than the sums of sizes in the bounds.
  const sum = (of: (part: Exact) => number) => parts.reduce((total, part) => total + of(part), 0);
  return {
    y: parts[0].y.map((_, i) => sum(({ y }) => y[i])),
    bound: parts[0].bound.map((_, i) => parts.length * sum(({ bound }) => bound[i])),
  };
}
