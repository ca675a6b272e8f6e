import { fail, options, sizeOf } from "../assert.js";
import type { Engine } from "../engine.js";
import type { Tensor } from "../tensor.js";
import { type Activation, activationRange, checkOut, type Input, input, place, placeBytes } from "./operands.js";

/** Options of `engine.relu`, `sigmoid`, `tanh` and `softmax`. */
export interface ElementwiseOptions {
  /** A tensor of the result's shape; it may be an operand of the same shape. */
  out?: Tensor;
}

/** Options of `engine.add` and `mul`. */
export interface BinaryOptions extends ElementwiseOptions {
  /** Applied to the sum or the product. */
  activation?: Activation;
}

/** Two shapes stretched to each other as NumPy does: dimensions match from the right, or one of them is 1. */
function broadcast(a: Input, b: Input): number[] {
  const rank = Math.max(a.shape.length, b.shape.length);
  return Array.from({ length: rank }, (_, i) => {
    const p = a.shape[i - rank + a.shape.length] ?? 1;
    const q = b.shape[i - rank + b.shape.length] ?? 1;
    if (p !== q && p !== 1 && q !== 1)
      fail("ERR_SHAPE", "b", `a shape that stretches to [${a.shape.join(", ")}]`, b.shape);
    return p === 1 ? q : p;
  });
}

/** Elements from one index to the next along each dimension of `shape`; 0 where x is stretched. */
function steps(x: Input, shape: number[]): number[] {
  const result: number[] = new Array(shape.length).fill(0);
  let step = 1;
  for (let i = x.shape.length - 1; i >= 0; i--) {
    if (x.shape[i] !== 1) result[i + shape.length - x.shape.length] = step;
    step *= x.shape[i];
  }
  return result;
}

function binary(engine: Engine, op: 0 | 1, aIn: unknown, bIn: unknown, o: BinaryOptions | undefined): Tensor {
  const a = input(engine, "a", aIn);
  const b = input(engine, "b", bIn);
  const opts = options("options", o, ["activation", "out"]);
  const { lo, hi } = activationRange(opts.activation);
  const shape = broadcast(a, b);
  const size = sizeOf("result", shape);
  // Element by element a result may replace an operand, unless that one is stretched over many results.
  const out = checkOut(
    engine,
    opts.out,
    shape,
    [a, b].filter((x) => x.size !== size),
  );
  // Neighbouring dimensions along which both operands walk alike are one.
  const dims: { n: number; a: number; b: number }[] = [];
  const [as, bs] = [steps(a, shape), steps(b, shape)];
  shape.forEach((n, i) => {
    const before = dims[dims.length - 1];
    if (n === 1) return;
    if (before && before.a === as[i] * n && before.b === bs[i] * n)
      dims[dims.length - 1] = { n: before.n * n, a: as[i], b: bs[i] };
    else dims.push({ n, a: as[i], b: bs[i] });
  });
  const inner = dims.pop() ?? { n: 1, a: 0, b: 0 };
  return engine.produce(shape, out, [placeBytes(a), placeBytes(b)], (y, [sa, sb]) => {
    if (!size) return;
    const run = engine.kernels.f32_binary;
    let to = y.ptr;
    const walk = (d: number, p: number, q: number): void => {
      if (d === dims.length) {
        run(op, inner.n, p, inner.a, q, inner.b, to, lo, hi);
        to += inner.n * 4;
        return;
      }
      const { n, a: pa, b: qb } = dims[d];
      for (let i = 0; i < n; i++) walk(d + 1, p + i * pa * 4, q + i * qb * 4);
    };
    walk(0, place(engine, a, sa), place(engine, b, sb));
  });
}

export const add = (engine: Engine, a: unknown, b: unknown, o?: BinaryOptions): Tensor => binary(engine, 0, a, b, o);
export const mul = (engine: Engine, a: unknown, b: unknown, o?: BinaryOptions): Tensor => binary(engine, 1, a, b, o);

function unary(
  engine: Engine,
  xIn: unknown,
  o: ElementwiseOptions | undefined,
  run: (n: number, x: number, y: number) => void,
): Tensor {
  const x = input(engine, "x", xIn);
  const out = checkOut(engine, options("options", o, ["out"]).out, x.shape, []);
  return engine.produce(x.shape, out, [placeBytes(x)], (y, [xs]) => run(x.size, place(engine, x, xs), y.ptr));
}

export const relu = (engine: Engine, x: unknown, o?: ElementwiseOptions): Tensor =>
  unary(engine, x, o, (n, p, y) => engine.kernels.f32_clamp(n, p, y, 0, Infinity));

export const sigmoid = (engine: Engine, x: unknown, o?: ElementwiseOptions): Tensor =>
  unary(engine, x, o, (n, p, y) => engine.kernels.f32_sigmoid(n, p, y));

export const tanh = (engine: Engine, x: unknown, o?: ElementwiseOptions): Tensor =>
  unary(engine, x, o, (n, p, y) => engine.kernels.f32_tanh(n, p, y));

/** Along the last dimension. */
export function softmax(engine: Engine, xIn: unknown, o?: ElementwiseOptions): Tensor {
  const x = input(engine, "x", xIn);
  if (x.shape.length === 0) fail("ERR_SHAPE", "x", "at least 1 dimension", x.shape);
  const n = x.shape[x.shape.length - 1];
  return unary(engine, xIn, o, (size, p, y) => {
    if (size) engine.kernels.f32_softmax(size / n, n, p, y);
  });
}
