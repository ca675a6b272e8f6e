// Sparse activations: k-winners, what is above a threshold, and lists that the user has.
import { fail, finite, flag, floats, integer, kindOf, oneOf, options, shapeOf, share } from "../assert.js";
import type { Engine } from "../engine.js";
import { type Lists, listBytes, SparseTensor } from "../sparse-tensor.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { anyInput, checkOut, type Input, own, place, placeBytes, sameShape } from "./operands.js";
import { type ImageLayout, images } from "./window.js";

/**
 * Ranks by x · exp((target − duty) · strength); the values that pass are x's own (nupic.torch, modules/k_winners.py). The factors
 * come from the host's `Math.exp`, the one thing that hosts may round each in their own way.
 */
export interface Boost {
  /** How often each feature, or each channel of an image, has won: as many numbers as there are of them. */
  dutyCycle: Float32Array;
  /** Default k over the number of candidates. */
  target?: number | undefined;
  /**
   * How much winning seldom counts. So large that a factor is Infinity in float32, it makes zeros rank last, as NaN; so that one is 0,
   * it makes all that it multiplies equals.
   */
  strength: number;
}

/** Options of `engine.kWinners`. */
export interface KWinnersOptions {
  /**
   * Winners in each scope, all of its elements if it has no more; or `fraction` of its elements, rounded to the nearest integer, a half
   * upwards.
   */
  k?: number | undefined;
  fraction?: number | undefined;
  /** `"global"` (default): over a row's features or a sample's C · H · W; `"local"`: over the channels of each pixel. */
  scope?: "global" | "local" | undefined;
  /** Only positive values can win. Default false: in these networks winners may be negative. */
  relu?: boolean | undefined;
  /**
   * Exactly k: of equals the one at the lowest position, which in an image is the first pixel's, then the first channel's. Default
   * false: all that equal the k-th largest pass.
   */
  breakTies?: boolean | undefined;
  boost?: Boost | undefined;
  /** Order of an image's dimensions; default that of a SparseTensor, else `"nchw"`. */
  layout?: ImageLayout | undefined;
  /** A result to use again: of the same shape. */
  out?: SparseTensor | undefined;
}

/** As {@link KWinnersOptions}, for a result that is dense. */
export interface KWinnersDenseOptions extends Omit<KWinnersOptions, "out"> {
  output: "dense";
  /** A tensor of x's shape; it may be x. */
  out?: Tensor | undefined;
}

/** Options of `engine.toSparse`. */
export interface ToSparseOptions {
  /** Elements with |x| ≤ threshold are dropped. Default 0: exact zeros, as ReLU leaves them. */
  threshold?: number | undefined;
  /** Order of an image's dimensions; default that of a SparseTensor, else `"nchw"`. */
  layout?: ImageLayout | undefined;
  /** A result to use again: of the same shape. */
  out?: SparseTensor | undefined;
}

/** x as rows of lists: a row for each pixel of an image, or for each vector of features. */
interface RowsOf {
  rows: number;
  cols: number;
  /** Pixels of a sample whose channels lie apart and are brought together first; 0 for none. */
  apart: number;
  samples: number;
  layout: ImageLayout | undefined;
}

function rowsOf(x: Input, layout: ImageLayout | undefined): RowsOf {
  if (x.sparse ? x.sparse.layout !== undefined : x.shape.length === 4) {
    const { n, c, h, w, nhwc } = images(x, layout);
    return { rows: n * h * w, cols: c, apart: nhwc ? 0 : h * w, samples: n, layout: nhwc ? "nhwc" : "nchw" };
  }
  if (layout !== undefined) fail("ERR_VALUE", "layout", "none for a tensor that is no image", layout);
  return featuresOf(x);
}

function featuresOf({ shape }: Input): RowsOf {
  if (shape.length === 0) fail("ERR_SHAPE", "x", "at least 1 dimension", shape);
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return { rows, cols: shape[shape.length - 1], apart: 0, samples: rows, layout: undefined };
}

/** Whether a result may be used again. */
function checkSparseOut(engine: Engine, out: unknown, x: Input, { layout }: RowsOf): SparseTensor | undefined {
  if (out === undefined) return undefined;
  if (!SparseTensor.is(out)) fail("ERR_TYPE", "out", "a sparse tensor", out);
  out.assertLive("out", engine);
  if (out.layout !== layout || !sameShape(out.dims, x.shape)) {
    fail("ERR_SHAPE", "out", `the shape [${x.shape.join(", ")}]${layout ? ` as ${layout}` : ""}`, out.shape);
  }
  return out;
}

/** Makes lists of x: `write` gets x with each row's elements side by side. */
function lists(
  engine: Engine,
  x: Input,
  of: RowsOf,
  out: SparseTensor | undefined,
  scratch: number[],
  write: (from: number, at: Lists, scratch: number[]) => void,
): SparseTensor {
  const { memory } = engine;
  const { rows, cols, apart, samples, layout } = of;
  const blocks = [placeBytes(x), apart ? x.size * 4 : 0, ...scratch];
  const ptr = memory.working(out ? undefined : listBytes(rows, x.size), blocks);
  const result = out ?? new SparseTensor(engine, x.shape, x.size, rows, cols, layout, ptr);
  try {
    const [xs, together, ...others] = blocks;
    let from = place(engine, x, xs);
    if (apart && x.size) {
      for (let i = 0; i < samples; i++) {
        const at = i * apart * cols * 4;
        engine.kernels.f32_transpose(cols, apart, from + at, apart * 4, together + at, cols * 4);
      }
      from = together;
    }
    write(from, result.lists, others);
  } catch (error) {
    if (!out) result.dispose();
    throw error;
  } finally {
    memory.rest();
  }
  return result;
}

const KEYS = ["k", "fraction", "scope", "relu", "breakTies", "boost", "layout", "out", "output"] as const;

/** The bits of the kernel's flags. */
const [RELU, EXACT, DENSE] = [1, 2, 4];

/** Options of either result, which each checks its own `out` of. */
type EitherOptions = Omit<KWinnersOptions, "out"> & { out?: unknown };

/** What a call asks for. */
interface Contest {
  x: Input;
  of: RowsOf;
  /** Rows that compete with each other. */
  scopeRows: number;
  k: number;
  factors: Float32Array | undefined;
  flags: number;
  out: unknown;
}

function contest(engine: Engine, xIn: unknown, o: EitherOptions): Contest {
  const x = anyInput(engine, "x", xIn);
  const { k: count, fraction, scope: wide, relu, breakTies, boost, layout, out } = options("options", o, KEYS);
  const of = rowsOf(x, layout);
  const scope = oneOf("scope", wide, ["global", "local"] as const, "global");
  if (scope === "local" && !of.layout) fail("ERR_VALUE", "scope", `"global" for a tensor that is no image`, scope);
  const flags = (flag("relu", relu) ? RELU : 0) | (flag("breakTies", breakTies) ? EXACT : 0);
  const scopeRows = scope === "global" && of.samples ? of.rows / of.samples : 1;
  const candidates = scopeRows * of.cols;
  if ((count === undefined) === (fraction === undefined)) {
    fail("ERR_VALUE", "options", "either k or fraction", count === undefined ? "neither" : "both");
  }
  const k = count === undefined ? Math.round(share("fraction", fraction) * candidates) : integer("k", count, 0);
  const factors = boost === undefined ? undefined : factorsOf(boost, of.cols, candidates ? k / candidates : 0);
  return { x, of, scopeRows, k, factors, flags, out };
}

/** Bytes of what f32_k_winners calls `work`. */
export const workBytes = (candidates: number): number => (3 * (candidates + 4) + 1024) * 4;

function winnersOf(
  engine: Engine,
  { x, of, scopeRows, k, factors, flags }: Contest,
  out: SparseTensor | undefined,
): SparseTensor {
  const { rows, cols } = of;
  const scratch = [workBytes(scopeRows * cols), factors ? cols * 4 : 0];
  return lists(engine, x, of, out, scratch, (from, { ptr, indices, values }, [work, ranked]) => {
    if (factors) engine.memory.f32.set(factors, ranked / 4);
    const each = Math.max(1, scopeRows);
    engine.kernels.f32_k_winners(from, rows, cols, each, k, factors ? ranked : 0, flags, work, ptr, indices, values);
  });
}

/** The k largest of each scope. */
export function kWinners(engine: Engine, xIn: unknown, o: EitherOptions): SparseTensor {
  const asked = contest(engine, xIn, o);
  return winnersOf(engine, asked, checkSparseOut(engine, asked.out, asked.x, asked.of));
}

/** The k largest of each scope where they are, zeros elsewhere. */
export function kWinnersDense(engine: Engine, xIn: unknown, o: EitherOptions): Tensor {
  const asked = contest(engine, xIn, o);
  const { x, of, scopeRows, k, factors, flags } = asked;
  const out = checkOut(engine, asked.out, x.shape, []);
  // Ranks by feature, the order among equals and pixels whose channels lie apart need the lists' order.
  if (factors || flags & EXACT || (of.apart && scopeRows === 1)) {
    const winners = winnersOf(engine, asked, undefined);
    try {
      return winners.toDense({ out });
    } finally {
      winners.dispose();
    }
  }
  const scope = scopeRows * of.cols;
  return engine.produce(x.shape, out, [placeBytes(x), workBytes(scope)], (y, [placed, work]) => {
    if (!x.size) return;
    const from = place(engine, x, placed);
    engine.kernels.f32_k_winners(from, x.size / scope, scope, 1, k, 0, flags | DENSE, work, 0, 0, y.ptr);
  });
}

function factorsOf(boost: Boost, features: number, defaultTarget: number): Float32Array {
  const { dutyCycle, target = defaultTarget, strength } = options("boost", boost, ["dutyCycle", "target", "strength"]);
  const duties = floats("boost.dutyCycle", dutyCycle, features);
  finite("boost.target", target);
  finite("boost.strength", strength);
  return Float32Array.from({ length: features }, (_, i) => Math.exp((target - duties[i]) * strength));
}

/** The elements above a threshold. */
export function toSparse(engine: Engine, xIn: unknown, o: ToSparseOptions | undefined): SparseTensor {
  const x = anyInput(engine, "x", xIn);
  const { threshold = 0, layout, out: into } = options("options", o, ["threshold", "layout", "out"]);
  if (typeof threshold !== "number") fail("ERR_TYPE", "threshold", "a number of at least 0", threshold);
  if (!(threshold >= 0)) fail("ERR_VALUE", "threshold", "a number of at least 0", threshold);
  const of = rowsOf(x, layout);
  return above(engine, x, of, roundedDown(threshold), checkSparseOut(engine, into, x, of));
}

/** The largest float32 that is at most x ≥ 0: what lies above one lies above the other. */
function roundedDown(x: number): number {
  const near = Math.fround(x);
  if (near <= x) return near;
  const below = Float32Array.of(near);
  new Uint32Array(below.buffer)[0]--;
  return below[0];
}

function above(engine: Engine, x: Input, of: RowsOf, threshold: number, out: SparseTensor | undefined): SparseTensor {
  return lists(engine, x, of, out, [], (from, { ptr, indices, values }) => {
    engine.kernels.f32_to_lists(from, of.rows, of.cols, threshold, ptr, indices, values);
  });
}

/**
 * An operation's result as lists, rows of features if it has no layout; the dense one is given back, and where that fails the streams
 * of w that the operation made.
 */
export function handOver(engine: Engine, y: Tensor, layout?: ImageLayout, w?: PackedWeight): SparseTensor {
  const x = { shape: y.dims, size: y.size, tensor: y };
  try {
    return above(engine, x, layout ? rowsOf(x, layout) : featuresOf(x), 0, undefined);
  } catch (error) {
    w?.undoStreams();
    throw error;
  } finally {
    y.dispose();
  }
}

/** What {@link sparseTensor} is made of. */
export interface SparseData {
  /** Features of the elements of a row, or channels of a pixel, ascending. */
  indices: ArrayLike<number>;
  values: Float32Array;
  /** Where each row's elements begin: rows + 1 numbers; left out when there is one row. */
  indptr?: ArrayLike<number> | undefined;
}

/** A user's own lists. */
export function sparseTensor(
  engine: Engine,
  data: SparseData,
  given: readonly number[],
  o: { layout?: ImageLayout | undefined } | undefined,
): SparseTensor {
  const { shape, size } = shapeOf("shape", given);
  const { layout } = options("options", o, ["layout"]);
  const { indices: columns, values: numbers, indptr: starts } = options("data", data, ["indices", "values", "indptr"]);
  const of = rowsOf({ shape, size }, layout);
  const { rows, cols } = of;
  const listed = (name: string, list: unknown): number => {
    const big = kindOf(list)?.startsWith("Big");
    if (!Array.isArray(list) && !(ArrayBuffer.isView(list) && "length" in list && !big))
      fail("ERR_TYPE", name, "an array of integers", list);
    return (list as ArrayLike<number>).length;
  };
  const n = listed("indices", columns);
  const values = own(engine, "values", numbers, n);
  if (starts === undefined && rows !== 1)
    fail("ERR_TYPE", "indptr", `${rows + 1} numbers, as there are ${rows} rows`, starts);
  const length = starts === undefined ? 2 : listed("indptr", starts);
  if (length !== rows + 1) fail("ERR_LENGTH", "indptr", `${rows + 1} numbers`, length);
  // Copies: what is stored must be what was checked, whoever else writes to the user's arrays.
  const copy = (list: ArrayLike<number>, most: number): number[] => Array.prototype.slice.call(list, 0, most);
  const indices = copy(columns, n);
  const indptr = starts === undefined ? [0, n] : copy(starts, length);
  for (let r = 0; r <= rows; r++) {
    const least = r ? indptr[r - 1] : 0;
    const at = indptr[r];
    if (!Number.isInteger(at) || at < least || at > n || (r === 0 && at !== 0) || (r === rows && at !== n)) {
      fail(
        "ERR_VALUE",
        "indptr",
        r === 0 ? "0 first" : r === rows ? `${n} last` : `a number in ${least}..${n}`,
        at,
        ` at ${r}`,
      );
    }
  }
  for (let r = 0; r < rows; r++) {
    for (let i = indptr[r]; i < indptr[r + 1]; i++) {
      const index = indices[i];
      if (!Number.isInteger(index) || index < 0 || index >= cols) {
        fail("ERR_VALUE", "indices", `values in 0..${cols - 1}`, index, ` at ${i}`);
      }
      if (i > indptr[r] && index <= indices[i - 1]) {
        fail("ERR_VALUE", "indices", "values that ascend within a row", index, ` at ${i}`);
      }
    }
  }
  // Reading the other lists may have detached it.
  floats("values", values, n);
  const { memory } = engine;
  const ptr = memory.alloc(listBytes(rows, size));
  const result = new SparseTensor(engine, shape, size, rows, cols, of.layout, ptr);
  const at = result.lists;
  memory.u32.set(indptr, at.ptr / 4);
  memory.u32.set(indices, at.indices / 4);
  memory.f32.set(values, at.values / 4);
  return result;
}
