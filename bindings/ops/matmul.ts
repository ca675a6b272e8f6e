import { fail, options } from "../assert.js";
import type { Engine } from "../engine.js";
import { vectorKernel } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import { PackedWeight } from "../weight.js";
import { convolve, planPointwise } from "./conv2d.js";
import { type ProductPlan, planLinear, rowMajor } from "./linear.js";
import { FUSED, type FusedOptions, fused, type Input, input, weight } from "./operands.js";
import { vectorProduct } from "./product.js";

export type MatmulOptions = FusedOptions;

/** Which side W is on, and the other operand. */
function sides(engine: Engine, a: unknown, b: unknown): { w: PackedWeight; x: Input; left: boolean } {
  const left = a instanceof PackedWeight;
  if (left === b instanceof PackedWeight) {
    fail("ERR_TYPE", "b", `exactly one of "a" and "b" packed`, left ? "two packed weights" : "none");
  }
  const w = weight(engine, left ? "a" : "b", left ? a : b);
  const x = input(engine, left ? "b" : "a", left ? b : a);
  if (w.shape.length !== 2) fail("ERR_SHAPE", left ? "a" : "b", "a matrix of 2 dimensions", w.shape);
  if (x.shape.length !== 2) fail("ERR_SHAPE", left ? "b" : "a", "a matrix of 2 dimensions", x.shape);
  const k = left ? w.shape[1] : w.shape[0];
  if (x.shape[left ? 0 : 1] !== k) {
    fail("ERR_SHAPE", left ? "b" : "a", left ? `${k} rows` : `${k} columns`, x.shape);
  }
  return { w, x, left };
}

/** For `explain`. */
export function planMatmul(engine: Engine, a: unknown, b: unknown): { w: PackedWeight; plan: ProductPlan } {
  const { w, x, left } = sides(engine, a, b);
  if (!left) return { w, plan: planLinear(engine, x, w, true) };
  const n = x.shape[1];
  const macs = (w.format === "dense" ? w.shape[0] * w.shape[1] : w.nnz) * n;
  const shape = [w.shape[0], n];
  const cuts = n === 1 ? [{ kernel: vectorKernel(w.format), strips: 1 }] : planPointwise(engine, w, n).cuts;
  return { w, plan: { shape, cuts, macs, denseMacs: w.shape[0] * w.shape[1] * n } };
}

/** C[m,n] = A[m,k] · B[k,n] with one of the two packed. A bias belongs to W's outputs: rows of C with W left, columns right. */
export function matmul(engine: Engine, a: unknown, b: unknown, o: MatmulOptions | undefined): Tensor {
  const { w, x, left } = sides(engine, a, b);
  const opts = options("options", o, FUSED);
  if (!left) return rowMajor(engine, x, w, opts, true);
  const [m, k] = w.shape;
  const n = x.shape[1];
  const f = fused(engine, opts, [m, n], m, x);
  if (n === 1 && m > 0) return vectorProduct(engine, w, vectorKernel(w.format), x, k, [m, 1], f, false);
  return convolve(engine, w, x, planPointwise(engine, w, n), 1, [m, n], f, false);
}
