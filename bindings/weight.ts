import { fail, floats, oneOf, options, shapeOf } from "./assert.js";
import type { Work } from "./costs.js";
import { candidates } from "./dispatch.js";
import type { Engine } from "./engine.js";
import { bitsOf, countNonzeros } from "./formats/bits.js";
import { type BlockMatrix, splitBlocks } from "./formats/block.js";
import { lowerColumns, lowerDenseColumns, type Reach } from "./formats/columns.js";
import { type DenseMatrix, lowerDense, lowerDenseVector, lowerDepthwise, transposeDense } from "./formats/dense.js";
import {
  BLOCK_COLS,
  BLOCK_ROWS,
  bytesOf,
  checkFormat,
  type Format,
  formatName,
  formatOf,
  gather,
  type Matrix,
  packAs,
  toBlocks,
  toTransposedBlocks,
  unpack,
} from "./formats/format.js";
import { placesNm } from "./formats/nm.js";
import { columnsOf, fromRowMajor, Source, toRowMajor } from "./formats/source.js";
import { type InputMap, type Lowered, lowerBlocks, lowerNmVector, lowerSlices } from "./formats/streams.js";
import { type CsrArrays, toCsrArrays } from "./io/arrays.js";
import { serialize } from "./io/packed.js";
import type { Kernel, Structure } from "./kernels.js";
import type { Convolution, ConvPlan } from "./ops/conv2d.js";
import type { SparsePlan } from "./ops/sparse.js";
import { type Detection, detectIn } from "./patterns/detect.js";
import { Recent } from "./recent.js";
import { Shaped } from "./shaped.js";

/** `[out, in]` and `[out, in, kh, kw]` (PyTorch, ONNX), or TensorFlow's `[in, out]` and `[kh, kw, in, out]`. */
export type WeightLayout = "oi" | "io" | "oihw" | "hwio";

/** Options of `engine.pack`. */
export interface PackOptions {
  /**
   * Default `"auto"`: what the cost model finds fastest for the structure in the zeros. Dense kernels may then run too, where
   * they are faster; with a sparse format of your own choice only what is stored is ever multiplied.
   */
  format?: "auto" | Format | undefined;
  /** Order of `data` and `shape`; default is PyTorch's. */
  layout?: WeightLayout | undefined;
}

/** What {@link PackedWeight.explain} says. */
export interface WeightExplanation {
  format: Format;
  reason: string;
  /** The structure found in the zeros: "2:4 along the inputs", "unstructured"; "not looked at" of a weight that came packed. */
  structure: string;
  nnz: number;
  density: number;
  /** Nonzeros over stored numbers: blocks and groups may store zeros. */
  fill: number;
  /** Bytes as float32 without any packing, and as packed. */
  denseBytes: number;
  packedBytes: number;
  /**
   * Each format that was considered, with its predicted speed over dense (2 is twice as fast; a tenth less than the model says, so that
   * near ties go to dense) for one row of x and for 64. None for a weight that came packed.
   */
  alternatives: { format: Format; oneRow: number; manyRows: number }[];
}

/** Plans, and as many streams, that a weight keeps; the least recently used goes first. */
const KEPT = 8;

/** A weight in the form its kernels read. Made by `engine.pack`. */
export class PackedWeight extends Shaped {
  /** @internal Order that `toDense` and `update` use. */
  readonly layout: WeightLayout;
  /** @internal Whether the format was left to us, so that a dense kernel may run. */
  readonly auto: boolean;
  /** @internal */
  readonly matrix: Matrix;
  readonly #explanation: WeightExplanation;
  /** Streams by what reads them and the input map; the finalizer frees their entries, memory takes some out where it has no other room. */
  readonly #streams: Recent<string, Lowered>;
  /** @internal Plans of operations by input shape. */
  readonly plans = new Recent<string | number, object>(KEPT);
  /** @internal The plan of the last convolution. */
  lastConvolution: ConvPlan | undefined;
  /** @internal The plan of the last convolution of a SparseTensor. */
  lastSparseConvolution: (Convolution & { plan: SparsePlan }) | undefined;

  /** @internal */
  constructor(engine: Engine, matrix: Matrix, shape: readonly number[], layout: WeightLayout, why: Why) {
    const { memory } = engine;
    const streams = new Recent<string, Lowered>(KEPT, ({ ptr }) => memory.free(ptr));
    super(engine, shape, "weights", streams.entries);
    this.#streams = streams;
    this.matrix = matrix;
    this.layout = layout;
    this.auto = why.auto;
    this.#explanation = {
      format: formatOf(matrix),
      reason: why.reason,
      structure: why.structure,
      ...countsOf(matrix),
      denseBytes: matrix.rows * matrix.cols * 4,
      packedBytes: bytesOf(matrix),
      alternatives: why.alternatives,
    };
  }

  /** @internal As {@link Tensor.is}. */
  static is(value: unknown): value is PackedWeight {
    return typeof value === "object" && value !== null && #streams in value;
  }

  /** How it is stored. A copy each time: what is done to it changes nothing of the weight. */
  get format(): Format {
    return formatOf(this.matrix);
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

  /**
   * The values with their zeros, in the order they were packed from. A −0 that a sparse format was packed from comes back as 0.
   *
   * @throws RangeError `ERR_DISPOSED`
   * @example
   * engine.pack(new Float32Array([0, 2, 0, 3]), [2, 2]).toDense(); // 0, 2, 0, 3
   */
  toDense(): Float32Array<ArrayBuffer> {
    this.assertLive("w");
    const { rows, cols } = this.matrix;
    return fromRowMajor(unpack(this.matrix), rows, cols, columnsOf(this.dims, this.layout));
  }

  /**
   * New numbers on the same zeros, in the order the weight was packed from. A stored weight may become 0 and stays stored, but
   * for a complementary block of nothing else; a 0 that a block or a group stores may become anything; a dense weight stores every
   * place, so it takes any numbers. `explain()` keeps the reasons it had when the weight was packed.
   *
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED`, `ERR_LENGTH`, `ERR_VALUE` for a nonzero where nothing is stored, and nothing
   *   has changed
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 3]), [2, 2], { format: "csr" });
   * w.update(new Float32Array([0, 4, 0, 5]));
   * w.toDense(); // 0, 4, 0, 5
   */
  update(values: Float32Array): void {
    this.assertLive("w");
    const { matrix } = this;
    const given = floats("values", values, matrix.rows * matrix.cols);
    const source = new Source(given, this.dims, this.layout);
    const next = gather(matrix, source);
    if (countNonzeros(bitsOf(next)) !== countNonzeros(source.bits)) {
      const ordered = toRowMajor(source);
      const kept = unpack({ ...matrix, data: next } as Matrix);
      const at = ordered.findIndex((v, i) => v !== 0 && kept[i] === 0);
      const where = ` at row ${Math.floor(at / matrix.cols)}, column ${at % matrix.cols}`;
      fail("ERR_VALUE", "values", "zero where the pattern is", ordered[at], where);
    }
    matrix.data = next;
    Object.assign(this.#explanation, countsOf(matrix));
    this.#streams.clear();
  }

  /**
   * What is stored, as compressed sparse rows of `[out, in]` whatever the format and the layout:
   * `scipy.sparse.csr_array((data, indices, indptr), shape)`. Zeros that blocks and groups store are among it, but those of
   * places that no row of a complementary set needs; of a dense weight it is what is not zero. Inputs of a convolution are
   * flattened.
   *
   * @throws RangeError `ERR_DISPOSED`
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3]);
   * w.toCsr(); // data 2, 3; indices 1, 2; indptr 0, 1, 2
   */
  toCsr(): CsrArrays {
    this.assertLive("w");
    return toCsrArrays(this.matrix);
  }

  /**
   * This weight as a safetensors file of its own, for {@link Engine.deserialize}; `serialize` puts several into one.
   *
   * @param name of the weight in the file, by default `"weight"`
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED`, `ERR_VALUE`, `ERR_MEMORY`
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3]);
   * engine.deserialize(w.serialize()).weights.weight.toDense(); // 0, 2, 0, 0, 0, 3
   */
  serialize(name = "weight"): Uint8Array<ArrayBuffer> {
    this.assertLive("w");
    return serialize([[name, this]]);
  }

  /**
   * Why the weight is stored as it is, and what else there was; of a disposed weight too.
   *
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 3]), [2, 2], { format: "csr" });
   * w.explain().fill; // 1
   */
  explain(): WeightExplanation {
    return structuredClone(this.#explanation);
  }

  /** @internal What dispatch needs to know of a use: the other way round, or in groups of a convolution. */
  structure(transposed: boolean, groups = 1): Structure {
    const rowsPerGroup = groups > 1 ? this.dims[0] / groups : 0;
    return { ...structureOf(this.format, transposed, rowsPerGroup), dense: this.auto || this.matrix.kind === "dense" };
  }

  /** @internal Multiply-adds of one column: all stored numbers. */
  get places(): number {
    return this.matrix.data.length;
  }

  /** @internal Takes back the streams made last: the operation that wanted them has no room. */
  undoStreams(): void {
    this.#streams.undo();
  }

  /** @internal Streams for a product with many columns; the key names the kernel's stream and the map. */
  streams(kernel: Kernel, key: string, map: InputMap, transposed = false): Lowered {
    const { memory, blockRows } = this.engine;
    return this.#streams.get(key, () =>
      kernel.format === "dense"
        ? lowerDense(memory, this.#dense(transposed), map, blockRows)
        : lowerBlocks(memory, this.#blocks(kernel, transposed), map),
    );
  }

  /** @internal Streams for a product with one column. */
  vectorStreams(kernel: Kernel, transposed = false): Lowered {
    const { memory } = this.engine;
    // The name alone, already hashed: a call on a small weight takes as long as a key to put together.
    return this.#streams.get(transposed ? `ᵀ${kernel.name}` : kernel.name, () => {
      if (kernel.format === "dense") return lowerDenseVector(memory, this.#dense(transposed));
      if (kernel.format === "nm" && this.matrix.kind === "nm") return lowerNmVector(memory, this.matrix);
      return lowerSlices(memory, this.#blocks(kernel, transposed));
    });
  }

  /** @internal Streams by columns, for sparse activations; the key names the kernel and the reach. */
  columnStreams(kernel: Kernel, key: string, reach: Reach): Lowered {
    const { memory } = this.engine;
    return this.#streams.get(key, () =>
      kernel.format === "dense"
        ? lowerDenseColumns(memory, this.#dense(false), reach)
        : lowerColumns(memory, this.#blocks(kernel, false), reach),
    );
  }

  /** @internal Streams for a depthwise convolution. */
  depthwiseStreams(key: string, taps: readonly number[]): Lowered {
    return this.#streams.get(`depthwise ${key}`, () => lowerDepthwise(this.engine.memory, this.#dense(false), taps));
  }

  #dense(transposed: boolean): DenseMatrix {
    const { rows, cols } = this.matrix;
    const dense = this.matrix.kind === "dense" ? this.matrix : { rows, cols, data: unpack(this.matrix) };
    return transposed ? transposeDense(dense) : dense;
  }

  /** In blocks of the kernel's size: the kernel accepts this weight, so it is not dense and divides them. */
  #blocks(kernel: Kernel, transposed: boolean): BlockMatrix {
    const stored = this.matrix as Exclude<Matrix, { kind: "dense" }>;
    return splitBlocks(transposed ? toTransposedBlocks(stored) : toBlocks(stored), ...kernel.block);
  }
}

/** What a weight says of its own making. */
export interface Why {
  auto: boolean;
  reason: string;
  structure: string;
  alternatives: WeightExplanation["alternatives"];
}

/** A weight of a matrix that came packed. */
export function givenWeight(
  engine: Engine,
  matrix: Matrix,
  shape: readonly number[],
  layout: WeightLayout,
  auto: boolean,
  reason: string,
): PackedWeight {
  return new PackedWeight(engine, matrix, shape, layout, {
    auto,
    reason,
    structure: "not looked at",
    alternatives: [],
  });
}

function countsOf({ rows, cols, data }: Matrix): { nnz: number; density: number; fill: number } {
  const nnz = countNonzeros(bitsOf(data));
  return { nnz, density: rows * cols ? nnz / (rows * cols) : 0, fill: data.length ? nnz / data.length : 1 };
}

function structureOf(format: Format, transposed: boolean, rowsPerGroup: number): Omit<Structure, "dense"> {
  const kind = typeof format === "string" ? format : format.kind;
  const block: [number, number] =
    typeof format === "string" || format.kind === "nm"
      ? [1, 1]
      : format.kind === "block"
        ? [format.rows, format.cols]
        : [format.blockRows ?? 1, 1];
  const group = typeof format !== "string" && format.kind === "nm" && !transposed ? format.m : 0;
  return { kind, block: transposed ? [block[1], block[0]] : block, group, rowsPerGroup };
}

/** Rows of the batch that a prediction is for. */
const MANY = 64;

/** A sparse format must promise this much somewhere, or a wrong prediction would cost more than it brings. */
const WORTH = 1.05;

/** What a sparse format may store of all places at most: beyond, tiny matrices alone would seem to gain. */
const SPARSE = 0.9;

/**
 * Complementary sets less full than this lose to csr: a place is a value and an id, 5 bytes, a csr entry 6. So do blocks with many
 * columns, whatever the table says of rows with few entries: 1x1, 90% zeros in no pattern, 32 → 64, 14² to 112², half full 2x1 is predicted
 * at 1.04 of csr's speed and has 0.75 to 0.8; full ones 1.38, 1.06 to 1.12 (Cascade Lake, Node 24, relaxed, 2026-11-23).
 */
const FULL = 0.8;

/** A format, and the numbers that it would store. */
interface Option {
  format: Format;
  places: number;
}

/** Predicted ns of one row and of many. */
function predict(engine: Engine, { format, places }: Option, m: number, k: number) {
  const structure = { ...structureOf(format, false, 0), dense: format === "dense" };
  const work: Work = { m, k, places, channels: k, channelsPerBlock: k || 1 };
  const { costs } = engine;
  return {
    oneRow: candidates("spmv", 1, structure, work, costs)[0].ns,
    manyRows: candidates("spmm", MANY, structure, work, costs)[0].ns + MANY * (m + k) * costs.transpose,
  };
}

/**
 * A matrix may meet one row, where emptier blocks pay: 4x1 half full 1.41 times as fast as csr with one row, 0.73 with 64; 60% full 1.58 and
 * 0.83; 2x1 1.06 and 0.86, 1.16 and 0.91; 8x1 1.60 and 0.74, 1.85 and 0.83 (80 to 95% of the blocks empty; as {@link FULL}).
 */
const FULL_FOR_ONE = 0.6;

/** What the structure of the zeros offers, most specific first. */
function optionsFor(found: Detection, flat: boolean): Option[] {
  const { rows, cols, nnz, nm, complementary } = found;
  const offered: Option[] = [];
  const fillOf = (r: number, c: number) => found.fills.find((f) => f.rows === r && f.cols === c)?.fill || 1; // 0 when all is zero
  if (complementary && complementary.fill >= FULL) {
    const { overlay, blockRows } = complementary;
    offered.push({ format: { kind: "complementary", overlay, blockRows }, places: nnz / fillOf(blockRows, 1) });
  }
  if (nm) {
    const { n, m } = nm;
    offered.push({ format: { kind: "nm", n, m }, places: rows * placesNm(cols, n, m) });
  }
  for (const r of flat ? [...BLOCK_ROWS].reverse() : BLOCK_ROWS) {
    for (const c of BLOCK_COLS) {
      const fill = fillOf(r, c);
      if (r * c > 1 && fill >= (flat ? FULL_FOR_ONE : FULL))
        offered.push({ format: { kind: "block", rows: r, cols: c }, places: nnz / fill });
    }
  }
  offered.push({ format: "csr", places: nnz });
  return offered;
}

/** Validates, chooses a format, packs. */
export function packWeight(engine: Engine, data: unknown, given: unknown, o: PackOptions | undefined): PackedWeight {
  const { shape, size } = shapeOf("shape", given);
  if (shape.length !== 2 && shape.length !== 4) {
    fail("ERR_SHAPE", "shape", "2 dimensions [out, in] or 4 [out, in, kh, kw]", shape);
  }
  const { format: wish = "auto", layout: order } = options("options", o, ["format", "layout"]);
  const layout: WeightLayout =
    shape.length === 2 ? oneOf("layout", order, ["oi", "io"], "oi") : oneOf("layout", order, ["oihw", "hwio"], "oihw");
  const asked = wish === "auto" ? undefined : checkFormat(wish);
  const ours =
    layout === "io" ? [shape[1], shape[0]] : layout === "hwio" ? [shape[3], shape[2], shape[0], shape[1]] : shape;
  const source = new Source(floats("data", data, size), ours, layout);
  const matrix = asked && packAs(asked, source);
  const found = detectIn(source.nonzeros);
  const { format, why } = decide(
    engine,
    found,
    ours.length === 2,
    matrix && { format: formatOf(matrix), places: matrix.data.length },
  );
  return new PackedWeight(engine, matrix ?? packAs(format, source), ours, layout, why);
}

/** The format that was asked for, or the one that the cost model finds fastest for what the zeros look like. */
function decide(
  engine: Engine,
  found: Detection,
  flat: boolean,
  asked: Option | undefined,
): { format: Format; why: Why } {
  const { rows: m, cols: k, nnz } = found;
  const dense = predict(engine, { format: "dense", places: m * k }, m, k);
  const offered = optionsFor(found, flat);
  if (asked && asked.format !== "dense" && !offered.some((x) => formatName(x.format) === formatName(asked.format))) {
    offered.unshift(asked);
  }
  const rated = offered.map((option) => {
    const t = predict(engine, option, m, k);
    return { ...option, oneRow: ratio(dense.oneRow, t.oneRow), manyRows: ratio(dense.manyRows, t.manyRows) };
  });
  // A matrix may meet one row or many, a kernel has many pixels. Where dense is faster, it runs.
  const gain = (x: { oneRow: number; manyRows: number }) =>
    flat ? Math.sqrt(Math.max(1, x.oneRow) * Math.max(1, x.manyRows)) : x.manyRows;
  // What is offered first takes more than a tie to leave: sets and N:M are smaller at the same speed; of blocks that fit as well the taller
  // have kernels for few rows, but the smaller ran MobileNet faster.
  const best = rated.reduce((a, b) => (gain(b) > gain(a) * 1.02 ? b : a));
  const worth = gain(best) >= WORTH && best.places <= m * k * SPARSE;
  const format = asked?.format ?? (worth ? best.format : "dense");
  const zeros = `${((m * k ? found.sparsity : 0) * 100).toFixed(1)}% zeros`;
  const said = rated.find((x) => formatName(x.format) === formatName(format)) ?? best;
  const speed = flat
    ? `${said.oneRow.toFixed(1)}x dense for one row, ${said.manyRows.toFixed(1)}x for ${MANY}`
    : `${said.manyRows.toFixed(1)}x dense`;
  const { complementary: sets } = found;
  const fill = asked?.places ? nnz / asked.places : 1;
  const empty = asked && asked.format !== "dense" && fill < FULL ? `, ${Math.round(fill * 100)}% full` : "";
  const loose = sets && sets.fill < FULL ? `; complementary sets would be ${Math.round(sets.fill * 100)}% full` : "";
  const chosen = format === "dense" ? "no sparse format is faster" : "fastest";
  const choice = asked ? `asked for${format === "dense" ? " dense" : ""}` : chosen;
  return {
    format,
    why: {
      auto: asked === undefined,
      structure: found.name,
      reason: `${choice}: ${found.name}, ${zeros}, ${formatName(said.format)}${empty} predicted at ${speed}${loose}`,
      alternatives: [
        { format: "dense" as const, oneRow: 1, manyRows: 1 },
        ...rated.map(({ format, oneRow, manyRows }) => ({ format, oneRow, manyRows })),
      ],
    },
  };
}

const ratio = (a: number, b: number): number => (b > 0 ? a / b : 1);
