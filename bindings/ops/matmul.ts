import { fail, options, sizeOf } from "../assert.js";
import type { Engine } from "../engine.js";
import type { Tensor } from "../tensor.js";
import { PackedWeight } from "../weight.js";
import { convolve, planPointwise } from "./conv2d.js";
import { macsOf, type ProductPlan, planLinear, rowMajor } from "./linear.js";
import { fused, type Input, input, PRODUCT, type ProductOptions, weight } from "./operands.js";
import { vectorProduct } from "./product.js";

/** Options of `engine.matmul`. */
export type MatmulOptions = ProductOptions;

/** Which side W is on, and the other operand. */
function sides(engine: Engine, a: unknown, b: unknown): { w: PackedWeight; x: Input; left: boolean } {
  const left = PackedWeight.is(a);
  if (left === PackedWeight.is(b)) {
    fail("ERR_TYPE", "b", `exactly one of "a" and "b" packed`, left ? "two packed weights" : "none");
  }
  const w = weight(engine, left ? "a" : "b", left ? a : b);
  const x = input(engine, left ? "b" : "a", left ? b : a);
  if (w.dims.length !== 2) fail("ERR_SHAPE", left ? "a" : "b", "a matrix of 2 dimensions", w.dims);
  if (x.shape.length !== 2) fail("ERR_SHAPE", left ? "b" : "a", "a matrix of 2 dimensions", x.shape);
  const k = left ? w.dims[1] : w.dims[0];
  if (x.shape[left ? 0 : 1] !== k) {
    fail("ERR_SHAPE", left ? "b" : "a", left ? `${k} rows` : `${k} columns`, x.shape);
  }
  return { w, x, left };
}

/** For `explain`. */
export function planMatmul(
  engine: Engine,
  a: unknown,
  b: unknown,
  force?: string,
): { w: PackedWeight; plan: ProductPlan } {
  const { w, x, left } = sides(engine, a, b);
  if (!left || x.shape[1] === 1) return { w, plan: planLinear(engine, left ? column(x) : x, w, force, !left) };
  const [m, k] = w.dims;
  const n = x.shape[1];
  sizeOf("result", [m, n]);
  const { ways } = planPointwise(engine, w, n, force);
  return { w, plan: { ways, macs: macsOf(w, ways) * n, denseMacs: m * k * n } };
}

/** One column read as one row. */
const column = (x: Input): Input => ({ ...x, shape: [1, x.shape[0]] });

/** C[m,n] = A[m,k] · B[k,n] with one of the two packed. A bias belongs to W's outputs: rows of C with W left, columns right. */
export function matmul(engine: Engine, a: unknown, b: unknown, o: MatmulOptions | undefined): Tensor {
  const { w, x, left } = sides(engine, a, b);
  const opts = options("options", o, PRODUCT);
  if (!left) return rowMajor(engine, x, w, opts, true);
  const [m, k] = w.dims;
  const n = x.shape[1];
  const f = fused(engine, opts, [m, n], m, x);
  if (n === 1 && m > 0) {
    const { ways } = planLinear(engine, column(x), w, opts.forceKernel);
    return vectorProduct(engine, w, ways[0].cuts[0], x, k, [m, 1], f, false);
  }
  return convolve(engine, w, x, planPointwise(engine, w, n, opts.forceKernel), 1, [m, n], f);
}
