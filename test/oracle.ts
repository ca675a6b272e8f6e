// What every test compares with: seeded data, plain float64 loops, and a comparison that names the first bad element.

import { type Build, supports } from "../bindings/builds.js";
import { type Matrix, unpack } from "../bindings/formats/format.js";
import {
  type Costs,
  createEngine,
  type Engine,
  type EngineOptions,
  type Format,
  type PackedWeight,
} from "../bindings/index.js";
import { KERNELS, type Kernel } from "../bindings/kernels.js";

/** One number reproduces a failure: SEED=… npm test. */
export const seed = Number(process.env.SEED ?? Date.now() % 1e9);

/** Uniform in 0..1 (mulberry32). */
export function random(from = seed): () => number {
  let s = from >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** n signed floats in −1..1, of which a share is zero. */
export function values(n: number, zeros: number, rnd: () => number): Float32Array {
  const a = new Float32Array(n);
  for (let i = 0; i < n; i++) a[i] = rnd() < zeros ? 0 : rnd() * 2 - 1;
  return a;
}

const BLOCKS: Format[] = [1, 2, 4, 8].flatMap((rows) =>
  [1, 2, 4].map((cols): Format => ({ kind: "block", rows, cols })),
);
const GROUPS = [
  [1, 2],
  [2, 4],
  [1, 4],
  [3, 4],
  [4, 4],
  [2, 3],
  [1, 8],
  [4, 16],
  [5, 300],
];
const NM: Format[] = GROUPS.map(([n, m]) => ({ kind: "nm", n, m }));
const COMPLEMENTARY: Format[] = [2, 5, 20].flatMap((overlay) =>
  [1, 4, 8].map((blockRows): Format => ({ kind: "complementary", overlay, blockRows })),
);

/** Formats that any matrix may have, and all formats with the parameters that packing or kernels tell apart. */
export const ANY_MATRIX: readonly Format[] = ["dense", "csr", ...BLOCKS, ...COMPLEMENTARY];
export const FORMATS: readonly Format[] = [...ANY_MATRIX, ...NM];

/** Zeroes all but n places, chosen at random, of each group of m inputs. */
export function keepNm(w: Float32Array, rows: number, cols: number, n: number, m: number, rnd: () => number): void {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      const group = Array.from({ length: Math.min(m, cols - c) }, (_, p) => r * cols + c + p);
      for (let left = group.length; left > n; left--) w[group.splice(Math.floor(rnd() * left), 1)[0]] = 0;
    }
  }
}

/**
 * A matrix that a format may hold, mostly with the structure that the format is for: whole blocks, full groups, sets of rows
 * that share no column, in their order or out of it. `zeros` of the blocks or places are left out; some rows are empty, and
 * one is full where that is legal.
 */
export function weightsFor(format: Format, rows: number, cols: number, zeros: number, rnd: () => number): Float32Array {
  const nm = typeof format === "object" && format.kind === "nm" ? format : undefined;
  if (typeof format === "string" || nm || rnd() < 0.3) {
    // A share of zeros on top of what each group leaves out.
    const w = values(rows * cols, zeros, rnd);
    if (nm) keepNm(w, rows, cols, nm.n, nm.m, rnd);
    else if (rows && rnd() < 0.3) w.set(values(cols, 0, rnd), Math.floor(rnd() * rows) * cols);
    if (rows && rnd() < 0.3) {
      const r = Math.floor(rnd() * rows);
      w.fill(0, r * cols, (r + 1) * cols);
    }
    return w;
  }
  const w = new Float32Array(rows * cols);
  const fill = (row: number, col: number, high: number, wide: number) => {
    for (let r = row; r < Math.min(rows, row + high); r++) {
      for (let c = col; c < Math.min(cols, col + wide); c++) w[r * cols + c] = rnd() < 0.05 ? 0 : rnd() * 2 - 1;
    }
  };
  if (format.kind === "block") {
    for (let r = 0; r < rows; r += format.rows) {
      const share = rnd() < 0.1 ? 1 : zeros;
      for (let c = 0; c < cols; c += format.cols) if (rnd() >= share) fill(r, c, format.rows, format.cols);
    }
  } else if (format.kind === "complementary") {
    const { overlay, blockRows: high = 1 } = format;
    const count = Math.ceil(rows / high);
    const order = Array.from({ length: count }, (_, b) => b);
    if (rnd() < 0.5) for (let b = count - 1; b > 0; b--) order.push(...order.splice(Math.floor(rnd() * b), 1));
    for (let first = 0; first < count; first += overlay) {
      const members = order.slice(first, first + overlay);
      for (let c = 0; c < cols; c++) {
        if (rnd() >= zeros) fill(members[Math.floor(rnd() * members.length)] * high, c, high, 1);
      }
    }
  }
  return w;
}

/** 1 where a weight stores a number, 0 elsewhere; [out, in…] whatever its layout. */
export function placesOf({ matrix }: PackedWeight): Float32Array {
  return unpack({ ...matrix, data: new Float32Array(matrix.data.length).fill(1) } as Matrix);
}

/** Exact results, and for each how large an error float32 may make: γ(terms) · Σ|terms|. */
export interface Expected {
  y: Float64Array;
  bound: Float64Array;
}

const UNIT = 2 ** -24;

/** γ(n) · Σ|terms|, plus what rounding the result itself costs; n counts the products and what is added to them. */
export const allowed = (n: number, sum: number): number => ((n + 2) * UNIT * 1.01 * sum) / (1 - n * UNIT) + 1e-44;

export interface Extras {
  bias?: Float32Array;
  residual?: Float32Array;
  lo?: number;
  hi?: number;
}

/** y[rows, m] = x[rows, k] · Wᵀ, W [m, k]. A zero weight is skipped, whatever x holds there. */
export function linearOracle(
  x: Float32Array,
  w: Float32Array,
  rows: number,
  k: number,
  m: number,
  o: Extras = {},
): Expected {
  const y = new Float64Array(rows * m);
  const bound = new Float64Array(rows * m);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < m; i++) {
      let sum = (o.bias?.[i] ?? 0) + (o.residual?.[r * m + i] ?? 0);
      let size = Math.abs(o.bias?.[i] ?? 0) + Math.abs(o.residual?.[r * m + i] ?? 0);
      let n = 2;
      for (let j = 0; j < k; j++) {
        const v = w[i * k + j];
        if (v === 0) continue;
        const p = v * x[r * k + j];
        sum += p;
        size += Math.abs(p);
        n++;
      }
      y[r * m + i] = Math.min(o.hi ?? Infinity, Math.max(o.lo ?? -Infinity, sum));
      bound[r * m + i] = allowed(n, size);
    }
  }
  return { y, bound };
}

/** Sizes of a convolution of nchw images, padding resolved to [top, left, bottom, right]. */
export interface ConvSizes {
  n: number;
  c: number;
  h: number;
  w: number;
  m: number;
  kh: number;
  kw: number;
  groups: number;
  stride: [number, number];
  dilation: [number, number];
  padding: [number, number, number, number];
}

/** Output height and width. */
export function convOutput(s: ConvSizes): [number, number] {
  const [t, l, b, r] = s.padding;
  const oh = Math.floor((s.h + t + b - (s.kh - 1) * s.dilation[0] - 1) / s.stride[0]) + 1;
  const ow = Math.floor((s.w + l + r - (s.kw - 1) * s.dilation[1] - 1) / s.stride[1]) + 1;
  return [oh, ow];
}

/** y[n, m, oh, ow] from x[n, c, h, w] and W[m, c / groups, kh, kw], one multiplication at a time. */
export function convOracle(x: Float32Array, w: Float32Array, s: ConvSizes, o: Extras = {}): Expected {
  const [oh, ow] = convOutput(s);
  const cg = s.c / s.groups;
  const mg = s.m / s.groups;
  const y = new Float64Array(s.n * s.m * oh * ow);
  const bound = new Float64Array(y.length);
  let at = 0;
  for (let b = 0; b < s.n; b++) {
    for (let m = 0; m < s.m; m++) {
      for (let i = 0; i < oh; i++) {
        for (let j = 0; j < ow; j++, at++) {
          let sum = (o.bias?.[m] ?? 0) + (o.residual?.[at] ?? 0);
          let size = Math.abs(o.bias?.[m] ?? 0) + Math.abs(o.residual?.[at] ?? 0);
          let n = 2;
          for (let c = 0; c < cg; c++) {
            for (let p = 0; p < s.kh; p++) {
              const row = i * s.stride[0] + p * s.dilation[0] - s.padding[0];
              if (row < 0 || row >= s.h) continue;
              for (let q = 0; q < s.kw; q++) {
                const col = j * s.stride[1] + q * s.dilation[1] - s.padding[1];
                const v = w[((m * cg + c) * s.kh + p) * s.kw + q];
                if (col < 0 || col >= s.w || v === 0) continue;
                const channel = Math.floor(m / mg) * cg + c;
                const product = v * x[((b * s.c + channel) * s.h + row) * s.w + col];
                sum += product;
                size += Math.abs(product);
                n++;
              }
            }
          }
          y[at] = Math.min(o.hi ?? Infinity, Math.max(o.lo ?? -Infinity, sum));
          bound[at] = allowed(n, size);
        }
      }
    }
  }
  return { y, bound };
}

/** [n, c, h, w] → [n, h, w, c] and, with `back`, the other way; sizes are those of nchw. */
export function toNhwc<T extends Float32Array | Float64Array>(
  x: T,
  n: number,
  c: number,
  h: number,
  w: number,
  back = false,
): T {
  const y = x.slice() as T;
  for (let b = 0; b < n; b++) {
    for (let ch = 0; ch < c; ch++) {
      for (let p = 0; p < h * w; p++) {
        const nchw = (b * c + ch) * h * w + p;
        const nhwc = (b * h * w + p) * c + ch;
        if (back) y[nchw] = x[nhwc];
        else y[nhwc] = x[nchw];
      }
    }
  }
  return y;
}

/** Throws for the first element that is further from the oracle than its bound. NaN equals NaN, Infinity itself. */
export function close(actual: Float32Array, { y, bound }: Expected, label: string): void {
  if (actual.length !== y.length)
    throw new Error(`${label}: ${actual.length} elements, expected ${y.length} (seed ${seed})`);
  for (let i = 0; i < y.length; i++) {
    const same = Number.isFinite(y[i]) ? Math.abs(actual[i] - y[i]) <= bound[i] : Object.is(actual[i], y[i]);
    if (!same) {
      throw new Error(
        `${label}: element ${i} is ${actual[i]}, expected ${y[i]} ± ${bound[i].toExponential(2)} (seed ${seed})`,
      );
    }
  }
}

/** Throws for the first element whose bits differ. */
export function sameBits(actual: Float32Array, expected: Float32Array, label: string): void {
  const a = new Uint32Array(actual.buffer, actual.byteOffset, actual.length);
  const b = new Uint32Array(expected.buffer, expected.byteOffset, expected.length);
  if (a.length !== b.length) throw new Error(`${label}: ${a.length} elements, expected ${b.length} (seed ${seed})`);
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i])
      throw new Error(`${label}: element ${i} is ${actual[i]}, expected the bits of ${expected[i]} (seed ${seed})`);
  }
}

/** The builds this host runs. What it lacks is printed once, with its reason. */
export const builds: Build[] = (["simd128", "relaxed"] as const).filter((build) => {
  if (supports(build)) return true;
  console.log(`SKIP build ${build}: this host has no relaxed SIMD (Node 20 has it behind a flag)`);
  return false;
});

/** The manifest's kernels that multiply a weight by dense activations. */
export const PRODUCTS: readonly Kernel[] = KERNELS.filter(
  ({ op }) => op === "spmm" || op === "spmv" || op === "depthwise",
);

/** Constants for the choice of kernels, the same for both builds: of each kernel [ns an entry, ns a row], of all else nothing. */
export function costsWith(cost: (kernel: Kernel) => readonly [entry: number, row: number]): Costs {
  const kernels = Object.fromEntries(KERNELS.filter((k) => k.format).map((k) => [k.name, cost(k)]));
  const table = { machine: "none", kernels, weights: [[2 ** 20, 0]] as const, call: 0, transpose: 0, copy: 0 };
  return { simd128: table, relaxed: table };
}

/** A fresh engine of each build, disposed after use. */
export async function onEachBuild(
  run: (engine: Engine) => void | Promise<void>,
  o: Omit<EngineOptions, "simd"> = {},
): Promise<void> {
  for (const simd of builds) {
    const engine = await createEngine({ ...o, simd });
    try {
      await run(engine);
    } finally {
      engine.dispose();
    }
  }
}

/** The kernels that a call may be forced to: the error for a name that does not exist lists them. */
export function kernelsOf(call: (forceKernel: string) => unknown): string[] {
  const unknown = "no such kernel";
  let message = `"${unknown}" was taken`;
  try {
    call(unknown);
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_VALUE") throw error;
    message = (error as Error).message;
  }
  const names = /^"forceKernel" expected one of (.+) here, got "no such kernel"$/.exec(message);
  if (!names) throw new Error(`expected the names of kernels, got: ${message}`);
  return names[1].split(", ");
}

/** Runs `call`, which must throw an error of this code; what the engine holds must be the same before and after. */
export function refuses(engine: Engine, code: string, argument: RegExp, call: () => unknown): void {
  const before = JSON.stringify(engine.stats());
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  const error = thrown as { code?: string; message?: string } | undefined;
  if (!error) throw new Error(`expected ${code}, nothing was thrown: ${call}`);
  const type = code === "ERR_TYPE" ? TypeError : RangeError;
  if (error.code !== code || !(error instanceof type))
    throw new Error(`expected ${type.name} ${code}, got ${error} (${error.code}): ${call}`);
  if (!argument.test(error.message ?? ""))
    throw new Error(`expected a message with ${argument}, got: ${error.message}`);
  const after = JSON.stringify(engine.stats());
  if (before !== after) throw new Error(`${code} leaked: ${before} before, ${after} after: ${call}`);
}

/** [rows, cols] → [cols, rows]. */
export function transpose<T extends Float32Array | Float64Array>(a: T, rows: number, cols: number): T {
  const t = a.slice() as T;
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) t[c * rows + r] = a[r * cols + c];
  return t;
}

/** Weights in TensorFlow's order: [out, in, spots] → [spots, in, out]. */
export function toSpotsInOut(data: Float32Array, out: number, inn: number, spots: number): Float32Array {
  const turned = new Float32Array(data.length);
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < inn; i++) {
      for (let s = 0; s < spots; s++) turned[(s * inn + i) * out + o] = data[(o * inn + i) * spots + s];
    }
  }
  return turned;
}

/** Number of elements. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
