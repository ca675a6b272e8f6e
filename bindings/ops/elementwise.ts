import { fail, options, sizeOf } from "../assert.js";
import type { Engine } from "../engine.js";
import type { Tensor } from "../tensor.js";
import { type Activation, activationRange, checkOut, type Input, input, place, placeBytes } from "./operands.js";

/** Options of `engine.relu`, `sigmoid`, `tanh` and `softmax`. */
export interface ElementwiseOptions {
  /** A tensor of the result's shape; it may be an operand of the same shape. */
  out?: Tensor | undefined;
}

/** Options of `engine.add` and `mul`. */
export interface BinaryOptions extends ElementwiseOptions {
  /** Applied to the sum or the product. */
  activation?: Activation | undefined;
}

/** A loop over both operands: how often, and how many elements apart; 0 where an operand is stretched. */
interface Loop {
  n: number;
  a: number;
  b: number;
}

/**
 * Two shapes stretched to each other as NumPy does: dimensions match from the right, or one of them is 1. Neighbouring dimensions
 * along which both operands walk alike are one loop.
 */
function broadcast(a: Input, b: Input): { shape: number[]; loops: Loop[] } {
  const shape: number[] = new Array(Math.max(a.shape.length, b.shape.length));
  const loops: Loop[] = [];
  let [stepA, stepB] = [1, 1];
  for (let i = 1; i <= shape.length; i++) {
    const p = a.shape[a.shape.length - i] ?? 1;
    const q = b.shape[b.shape.length - i] ?? 1;
    if (p !== q && p !== 1 && q !== 1)
      fail("ERR_SHAPE", "b", `a shape that stretches to [${a.shape.join(", ")}]`, b.shape);
    const outer = { n: p === 1 ? q : p, a: p === 1 ? 0 : stepA, b: q === 1 ? 0 : stepB };
    shape[shape.length - i] = outer.n;
    stepA *= p;
    stepB *= q;
    if (outer.n === 1) continue;
    const [inner] = loops;
    if (inner && outer.a === inner.a * inner.n && outer.b === inner.b * inner.n) inner.n *= outer.n;
    else loops.unshift(outer);
  }
  return { shape, loops };
}

function binary(engine: Engine, op: 0 | 1, aIn: unknown, bIn: unknown, o: BinaryOptions | undefined): Tensor {
  const a = input(engine, "a", aIn);
  const b = input(engine, "b", bIn);
  const opts = options("options", o, ["activation", "out"]);
  const { lo, hi } = activationRange(opts.activation);
  const { shape, loops } = broadcast(a, b);
  const size = sizeOf("result", shape);
  // Element by element a result may replace an operand, unless that one is stretched over many results.
  const out = checkOut(
    engine,
    opts.out,
    shape,
    [a, b].filter((x) => x.size !== size),
  );
  const inner = loops.pop() ?? { n: 1, a: 0, b: 0 };
  return engine.produce(shape, out, [placeBytes(a), placeBytes(b)], (y, [sa, sb]) => {
    if (!size) return;
    const run = engine.kernels.f32_binary;
    let to = y.ptr;
    const walk = (d: number, p: number, q: number): void => {
      if (d === loops.length) {
        run(op, inner.n, p, inner.a, q, inner.b, to, lo, hi);
        to += inner.n * 4;
        return;
      }
      const { n, a: pa, b: qb } = loops[d];
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
