import { fail, floats, oneOf, sizeOf } from "./assert.js";
import type { Engine } from "./engine.js";
import { bytesCsr, type CsrMatrix, lowerCsr, lowerCsrVector, packCsr, transposeCsr, unpackCsr } from "./formats/csr.js";
import { type DenseMatrix, lowerDense, lowerDenseVector, transposeDense } from "./formats/dense.js";
import type { InputMap, Lowered } from "./formats/lowered.js";
import { costOf, cutColumns, vectorKernel } from "./kernels.js";
import { Recent } from "./recent.js";

/** How the survivors of pruning are stored. */
export type Format = "dense" | "csr";

/** `[out, in]` and `[out, in, kh, kw]` (PyTorch, ONNX), or TensorFlow's `[in, out]` and `[kh, kw, in, out]`. */
export type WeightLayout = "oi" | "io" | "oihw" | "hwio";

export interface PackOptions {
  /** Default `"auto"`: the format that the cost model finds fastest. */
  format?: "auto" | Format;
  /** Order of `data` and `shape`; default is PyTorch's. */
  layout?: WeightLayout;
}

/** What {@link PackedWeight.explain} says. */
export interface WeightExplanation {
  format: Format;
  reason: string;
  nnz: number;
  density: number;
  /** Bytes as float32 without any packing, and as packed. */
  denseBytes: number;
  packedBytes: number;
  /** Each format that was considered, with its predicted time against dense (1 is as fast, 2 is twice as fast). */
  alternatives: { format: Format; oneRow: number; manyRows: number }[];
}

/** Input maps that a weight keeps streams for; the least recently used goes first. */
const KEPT_PLANS = 8;

type Matrix = { format: "csr"; csr: CsrMatrix } | { format: "dense"; dense: DenseMatrix };

/** A weight in the form its kernels read. Made by `engine.pack`. */
export class PackedWeight {
  /** @internal */
  readonly engine: Engine;
  /** `[out, in]` or `[out, in / groups, kh, kw]`, whatever the layout of the data was. */
  readonly shape: readonly number[];
  readonly format: Format;
  readonly #layout: WeightLayout;
  readonly #matrix: Matrix;
  #transposed: Matrix | undefined;
  readonly #explanation: WeightExplanation;
  /** Streams by input map; their entries are what the finalizer frees. */
  readonly #streams: Recent<Lowered>;
  /** @internal Plans of operations by input shape. */
  readonly plans = new Recent<object>(KEPT_PLANS);
  #disposed = false;

  /** @internal */
  constructor(engine: Engine, matrix: Matrix, shape: readonly number[], layout: WeightLayout, why: WeightExplanation) {
    this.engine = engine;
    this.shape = shape;
    this.format = matrix.format;
    this.#matrix = matrix;
    this.#layout = layout;
    this.#explanation = why;
    const { memory } = engine;
    this.#streams = new Recent(KEPT_PLANS, ({ ptr }) => memory.free(ptr));
    engine.adopt(this, this.#streams.entries, "weights");
  }

  /** Nonzeros. */
  get nnz(): number {
    return this.#explanation.nnz;
  }

  /** nnz over the number of elements; 0 for an empty weight. */
  get density(): number {
    return this.#explanation.density;
  }

  /** Bytes of the packed form: values, indices and row pointers. The streams that kernels read are made from it per shape. */
  get byteLength(): number {
    return this.#explanation.packedBytes;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The values with their zeros, in the order they were packed from. −0 comes back as 0. */
  toDense(): Float32Array {
    this.assertLive();
    const m = this.#matrix;
    const values = m.format === "csr" ? unpackCsr(m.csr) : m.dense.data.slice();
    return reorder(values, this.shape, this.#layout, "to");
  }

  /**
   * New numbers on the same zeros, in the order the weight was packed from. A stored weight may become 0 and stays stored; a
   * dense weight stores every place, so it takes any numbers.
   * @throws RangeError `ERR_LENGTH`; `ERR_VALUE` for a nonzero where the pattern has none, and nothing has changed
   */
  update(values: Float32Array): void {
    this.assertLive();
    const m = this.#matrix;
    floats(
      "values",
      values,
      this.shape.reduce((a, b) => a * b, 1),
    );
    const ordered = reorder(values, this.shape, this.#layout, "from");
    if (m.format === "dense") {
      // Every place of a dense weight is stored, whatever number is in it.
      m.dense.data.set(ordered);
      const nnz = ordered.reduce((n, v) => n + (v === 0 ? 0 : 1), 0);
      this.#explanation.nnz = nnz;
      this.#explanation.density = ordered.length ? nnz / ordered.length : 0;
    } else {
      const { rows, cols, indptr, indices, data } = m.csr;
      const next = new Float32Array(data.length);
      for (let r = 0, n = 0; r < rows; r++) {
        for (let c = 0; c < cols; c++) {
          if (n < indptr[r + 1] && indices[n] === c) next[n++] = ordered[r * cols + c];
          else if (ordered[r * cols + c] !== 0) {
            fail(
              "ERR_VALUE",
              "values",
              "zero where the pattern is",
              ordered[r * cols + c],
              ` at row ${r}, column ${c}`,
            );
          }
        }
      }
      data.set(next);
    }
    this.#transposed = undefined;
    this.#streams.clear();
  }

  /** Why the weight is stored as it is, and what else there was. */
  explain(): WeightExplanation {
    return structuredClone(this.#explanation);
  }

  /** Gives the memory back. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.engine.release(this, this.#streams.entries, "weights");
  }

  /** For `using`. */
  declare [Symbol.dispose]: () => void;

  /** @internal */
  assertLive(name = "w"): void {
    if (this.#disposed || this.engine.disposed) fail("ERR_DISPOSED", name, "a weight that lives", "a disposed one");
  }

  /** @internal Takes back the streams made last: the operation that wanted them has no room. */
  undoStreams(): void {
    this.#streams.undo();
  }

  /** @internal Streams for a product with many columns, by the way W's columns find their inputs. */
  streams(key: string, map: InputMap, transposed = false): Lowered {
    const { memory, blockRows } = this.engine;
    return this.#streams.get(transposed ? `ᵀ${key}` : key, () => {
      const m = this.#oriented(transposed);
      return m.format === "csr" ? lowerCsr(memory, m.csr, map) : lowerDense(memory, m.dense, map, blockRows);
    });
  }

  /** @internal Streams for a product with one column. */
  vectorStreams(transposed = false): Lowered {
    const { memory } = this.engine;
    return this.#streams.get(transposed ? "ᵀvector" : "vector", () => {
      const m = this.#oriented(transposed);
      return m.format === "csr" ? lowerCsrVector(memory, m.csr) : lowerDenseVector(memory, m.dense);
    });
  }

  /** @internal Kernel offsets and the weights of each channel in turn, for a depthwise convolution. */
  depthwiseStreams(key: string, taps: readonly number[]): Lowered {
    const { memory } = this.engine;
    return this.#streams.get(`depthwise ${key}`, () => {
      const dense = this.#matrix.format === "dense" ? this.#matrix.dense.data : unpackCsr(this.#matrix.csr);
      const ptr = memory.alloc(taps.length * 4 + dense.length * 4);
      memory.u32.set(taps, ptr / 4);
      memory.f32.set(dense, ptr / 4 + taps.length);
      return { ptr, passes: [] };
    });
  }

  #oriented(transposed: boolean): Matrix {
    if (!transposed) return this.#matrix;
    this.#transposed ??=
      this.#matrix.format === "csr"
        ? { format: "csr", csr: transposeCsr(this.#matrix.csr) }
        : { format: "dense", dense: transposeDense(this.#matrix.dense) };
    return this.#transposed;
  }
}

if (Symbol.dispose)
  Object.defineProperty(PackedWeight.prototype, Symbol.dispose, { value: PackedWeight.prototype.dispose });

/** Values between the user's order and [out][in][kh][kw]; a fresh array. */
function reorder(data: Float32Array, shape: readonly number[], layout: WeightLayout, way: "from" | "to"): Float32Array {
  if (layout === "oi" || layout === "oihw" || data.length === 0) return data.slice();
  const [out, inn, kh = 1, kw = 1] = shape;
  const spots = kh * kw;
  const result = new Float32Array(data.length);
  for (let s = 0, user = 0; s < spots; s++) {
    for (let i = 0; i < inn; i++) {
      for (let o = 0; o < out; o++, user++) {
        const ours = (o * inn + i) * spots + s;
        if (way === "from") result[ours] = data[user];
        else result[user] = data[ours];
      }
    }
  }
  return result;
}

/** Rows of the batch that a prediction is for. */
const MANY = 64;

/** ns to turn one element of x into a panel or one of y out of it (Cascade Lake, 2026-11). */
const TURN = 0.25;

/** Predicted ns of one row and of many, for each format. */
function predict(engine: Engine, m: number, k: number, nnz: number, format: Format) {
  const work = { m, k, nnz };
  return {
    oneRow: vectorKernel(format).cost(work, engine.simd),
    manyRows: costOf(cutColumns(MANY, work, engine.simd, format), work, engine.simd) + MANY * (m + k) * TURN,
  };
}

/** Validates, chooses a format, packs. */
export function packWeight(engine: Engine, data: unknown, shape: unknown, options: PackOptions): PackedWeight {
  if (!Array.isArray(shape)) fail("ERR_TYPE", "shape", "an array of dimensions", shape);
  if (shape.length !== 2 && shape.length !== 4) {
    fail("ERR_SHAPE", "shape", "2 dimensions [out, in] or 4 [out, in, kh, kw]", shape);
  }
  const size = sizeOf("shape", shape);
  const flat = shape.length === 2;
  const layout: WeightLayout = flat
    ? oneOf("layout", options.layout, ["oi", "io"], "oi")
    : oneOf("layout", options.layout, ["oihw", "hwio"], "oihw");
  const wish = oneOf("format", options.format, ["auto", "dense", "csr"] as const, "auto");
  const ours: number[] =
    layout === "io" ? [shape[1], shape[0]] : layout === "hwio" ? [shape[3], shape[2], shape[0], shape[1]] : [...shape];
  const values = reorder(floats("data", data, size), ours, layout, "from");
  const rows = ours[0];
  const cols = ours.slice(1).reduce((a, b) => a * b, 1);
  let nnz = 0;
  for (let i = 0; i < size; i++) if (values[i] !== 0) nnz++;

  const dense = predict(engine, rows, cols, nnz, "dense");
  const csr = predict(engine, rows, cols, nnz, "csr");
  const gain = { oneRow: ratio(dense.oneRow, csr.oneRow), manyRows: ratio(dense.manyRows, csr.manyRows) };
  const zeros = `${((size ? 1 - nnz / size : 0) * 100).toFixed(1)}% zeros`;
  // A matrix may meet one row or many; a kernel has many pixels. Never choose what one of its uses would pay for.
  const worst = flat ? Math.min(gain.oneRow, gain.manyRows) : gain.manyRows;
  const predicted = flat
    ? `csr predicted at ${gain.oneRow.toFixed(1)}x dense for one row, ${gain.manyRows.toFixed(1)}x for 64`
    : `csr predicted at ${gain.manyRows.toFixed(1)}x dense`;
  const format = wish === "auto" ? (worst > 1 ? "csr" : "dense") : wish;
  const matrix: Matrix =
    format === "csr" ? { format, csr: packCsr(values, rows, cols) } : { format, dense: { rows, cols, data: values } };
  const packedBytes = matrix.format === "csr" ? bytesCsr(matrix.csr) : size * 4;
  return new PackedWeight(engine, matrix, ours, layout, {
    format,
    reason: `${wish === "auto" ? (format === "csr" ? "fastest" : "no sparse format is faster") : "asked for"}: ${zeros}, ${predicted}`,
    nnz,
    density: size ? nnz / size : 0,
    denseBytes: size * 4,
    packedBytes,
    alternatives: [
      { format: "dense", oneRow: 1, manyRows: 1 },
      { format: "csr", ...gain },
    ],
  });
}

const ratio = (a: number, b: number): number => (b > 0 ? a / b : 1);
