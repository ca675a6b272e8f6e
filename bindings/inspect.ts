// Answers "I pruned it, why is it not faster?" for a whole file: the zeros of every weight matrix, the format that the
// engine takes for it and why, and on demand how long this machine takes with and without the zeros.
import { fail, flag, isBytes, isShape, options } from "./assert.js";
import type { Engine } from "./engine.js";
import { formatName, unpack } from "./formats/format.js";
import { Source } from "./formats/source.js";
import { isPacked } from "./io/packed.js";
import type { Dtype, SafetensorsData, SafetensorsEntry, SafetensorsFile } from "./io/safetensors.js";
import { isDtype, readSafetensors, toFloat32 } from "./io/safetensors.js";
import { type Bitmap, blocksOf, popcount } from "./patterns/bitmap.js";
import { detectIn } from "./patterns/detect.js";
import type { Tensor } from "./tensor.js";
import { interleave, randomValues, warmed } from "./timing.js";
import type { PackedWeight } from "./weight.js";

/** Options of {@link inspect}. */
export interface InspectOptions {
  /**
   * Also time every matrix, dense and packed. Takes some tens of milliseconds for a matrix, a third of a second for the first of
   * each operation and format; nothing else runs meanwhile. Default false.
   */
  measure?: boolean | undefined;
}

/** Where {@link inspect} takes its tensors from; `data` must be float32 where no `dtype` says otherwise. */
export type InspectSource =
  | SafetensorsFile
  | Uint8Array
  | ArrayBuffer
  | Iterable<readonly [string, { shape: readonly number[]; data: SafetensorsData; dtype?: Dtype | undefined }]>;

/** What the zeros of one weight matrix amount to. */
export interface InspectRow {
  name: string;
  /** F32 for a weight that came packed. */
  dtype: Dtype;
  /** `[out, in]`, or `[out, in / groups, kh, kw]` for a convolution. */
  shape: number[];
  /** Zero elements over all elements, 0..1; -0 is a zero, NaN is not. */
  zeros: number;
  /** Elements that are not zero. */
  nnz: number;
  /**
   * The pattern, as `detect` names it ("dense", "unstructured", "2:4 along the inputs", "4x1 blocks, 91% full",
   * "complementary, overlay 20"), then empty rows and columns if there are any; "depthwise or one input channel, " before
   * it where the shape cannot tell.
   */
  structure: string;
  /** The format that `engine.pack` takes for it, such as "csr" or "dense". */
  format: string;
  /** Why, in the engine's words. */
  reason: string;
  /** Bytes as dense float32. */
  denseBytes: number;
  /** Bytes as packed by the engine. */
  packedBytes: number;
  /** What was assumed of the layer in order to measure it; only with `measure`. */
  note?: string;
  /** Only with `measure`: for `[out, in]` one row of x and a batch of 64, for a convolution one image. */
  measured?: Measurement[];
}

/** The time of one call on this machine, dense against packed. */
export interface Measurement {
  /** Rows of x in `linear`, images in `conv2d`. */
  rows: number;
  /** Milliseconds with the weight packed as "dense": least of the rounds. */
  denseMs: number;
  /** Milliseconds with the weight as the engine packs it; the same as `denseMs` where it packs it as "dense". */
  packedMs: number;
  /** `denseMs / packedMs`. */
  speedup: number;
}

const FLOAT_DTYPES: readonly Dtype[] = ["F32", "F64", "F16", "BF16"];
const BATCH = 64;
const IMAGE = 28;
const ROUNDS = 9;

/**
 * Looks at every weight matrix of a model: F32, F64, F16 and BF16 tensors of rank 2 (`linear`) and rank 4 (`conv2d`,
 * output channels first). Other tensors, those without elements and smaller float types give no row.
 *
 * Of a file that `serialize` or `skipzeros pack` wrote, the packed weights come first, in the format that they have there.
 *
 * A convolution of one input channel a group is measured as a depthwise one, though it may be the first layer of a model
 * for gray images: its shape does not tell. Each matrix is packed, looked at and disposed before the next, so the engine
 * never holds more than one (two while measuring).
 *
 * @param engine whose decision `format` and `reason` are, and which is timed
 * @param source what `readSafetensors` returned, a file's bytes, or pairs of a name and a tensor
 * @param choices whether to measure as well
 * @returns a row for each matrix: packed weights first, then other tensors, both in the order of the source
 * @throws TypeError `ERR_TYPE` for a wrong argument, or data that is not in the array of its dtype
 * @throws RangeError `ERR_LENGTH` for data of another length than its shape, `ERR_VALUE` for an unknown option or dtype, `ERR_DISPOSED`,
 *   `ERR_FORMAT` for bytes that are no safetensors file, `ERR_MEMORY` if a matrix does not fit the
 *   engine, `ERR_UNSUPPORTED` if it should measure and the host's clock stands still
 * @example
 * ```ts
 * import { createEngine, inspect } from "skipzeros";
 *
 * const engine = await createEngine();
 * const data = Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 10 === 0 ? 1 : 0));
 * const [row] = inspect(engine, [["fc.weight", { shape: [64, 64], data }]], { measure: true });
 * console.log(row.zeros, row.structure, row.format, row.reason, row.measured);
 * ```
 */
export function inspect(engine: Engine, source: InspectSource, choices?: InspectOptions): InspectRow[] {
  const measure = flag("measure", options("options", choices, ["measure"]).measure);
  if (typeof engine?.pack !== "function") fail("ERR_TYPE", "engine", "an engine from createEngine", engine);
  if (measure) checkClock();
  const warm = new Set<string>();
  const rows: InspectRow[] = [];
  const look = (name: string, dtype: Dtype, shape: number[], values: Float32Array, packed: PackedWeight): void => {
    try {
      const row = describe(name, dtype, shape, values, packed);
      rows.push(measure ? { ...row, ...measureWarm(engine, values, shape, packed, warm) } : row);
    } finally {
      packed.dispose();
    }
  };
  const { weights, tensors } = opened(engine, source);
  try {
    for (const [name, w] of weights) {
      const values = unpack(w.matrix);
      if (values.length > 0) look(name, "F32", [...w.shape], values, w);
    }
  } finally {
    for (const [, w] of weights) w.dispose();
  }
  for (const pair of tensors) {
    const [name, tensor] = Array.isArray(pair) ? pair : [];
    if (typeof name !== "string" || typeof tensor !== "object" || tensor === null) {
      fail("ERR_TYPE", "source", "pairs of a name and a tensor", pair);
    }
    const { dtype = "F32", data } = tensor;
    if (!isShape(tensor.shape)) fail("ERR_TYPE", `${name}.shape`, "an array of dimensions", tensor.shape);
    if (!isDtype(dtype)) fail("ERR_VALUE", `${name}.dtype`, "a dtype of safetensors", dtype);
    if (!ArrayBuffer.isView(data)) fail("ERR_TYPE", `${name}.data`, "a typed array", data);
    const shape = Array.from(tensor.shape as ArrayLike<number>);
    if (!isWeightMatrix(dtype, shape, data.length)) continue;
    const values = toFloat32({ dtype, shape, data } as SafetensorsEntry);
    look(name, dtype, shape, values, engine.pack(values, shape));
  }
  return rows;
}

/** @internal Whether a tensor is what `linear` and `conv2d` multiply by: floats of rank 2 or 4, at least one of them. */
export const isWeightMatrix = (dtype: Dtype, shape: readonly number[], length: number): boolean =>
  FLOAT_DTYPES.includes(dtype) && (shape.length === 2 || shape.length === 4) && length > 0;

interface Opened {
  /** Weights that came packed. */
  weights: [string, PackedWeight][];
  tensors: Exclude<InspectSource, SafetensorsFile | Uint8Array | ArrayBuffer>;
}

function opened(engine: Engine, source: InspectSource): Opened {
  if (isBytes(source)) return opened(engine, readSafetensors(source));
  if (typeof source === "object" && source !== null) {
    if ("tensors" in source && source.tensors instanceof Map) {
      if (!source.metadata || !isPacked(source)) return { weights: [], tensors: source.tensors };
      const { weights, tensors } = engine.deserialize(source);
      return { weights: Object.entries(weights), tensors };
    }
    if (Symbol.iterator in source) return { weights: [], tensors: source };
  }
  fail("ERR_TYPE", "source", "a safetensors file, its bytes, or pairs of a name and a tensor", source);
}

function describe(name: string, dtype: Dtype, shape: number[], values: Float32Array, packed: PackedWeight): InspectRow {
  const { nnz, structure } = structureOf(values, shape);
  const { format, reason } = packed.explain();
  const zeros = (values.length - nnz) / values.length;
  const denseBytes = values.length * 4;
  return {
    name,
    dtype,
    shape,
    zeros,
    nnz,
    structure,
    format: formatName(format),
    reason,
    denseBytes,
    packedBytes: packed.byteLength,
  };
}

/** Every group reads one channel: depthwise with as many groups as outputs, or a plain convolution of a single channel. */
function readsOneChannel(shape: readonly number[]): boolean {
  return shape.length === 4 && shape[0] > 1 && shape[1] === 1 && shape[2] * shape[3] > 1;
}

function structureOf(values: Float32Array, shape: readonly number[]): { nnz: number; structure: string } {
  const { nonzeros } = new Source(values, shape);
  const { nnz, name, rows, cols } = detectIn(nonzeros);
  const notes = readsOneChannel(shape) ? ["depthwise or one input channel", name] : [name];
  if (nnz > 0 && nnz < values.length) {
    notes.push(countEmpty(rows, blocksOf(nonzeros, 1, cols), "row"));
    notes.push(countEmpty(cols, blocksOf(nonzeros, rows, 1), "column"));
  }
  return { nnz, structure: notes.filter((note) => note !== "").join(", ") };
}

function countEmpty(all: number, used: Bitmap, what: string): string {
  const empty = used.words.reduce((count, word) => count - popcount(word), all);
  return empty === 0 ? "" : `${empty} empty ${what}${empty === 1 ? "" : "s"}`;
}

/** Measures; the first matrix of an operation and format warm-up and all. */
function measureWarm(
  engine: Engine,
  values: Float32Array,
  shape: readonly number[],
  packed: PackedWeight,
  warm: Set<string>,
): Pick<InspectRow, "note" | "measured"> {
  const op = shape.length === 2 ? "linear" : readsOneChannel(shape) ? "depthwise" : "conv2d";
  const kind = `${op} ${formatName(packed.format)}`;
  const measure = () => measureMatrix(engine, values, shape, packed);
  if (warm.has(kind)) return measure();
  warm.add(kind);
  return warmed(measure);
}

function measureMatrix(
  engine: Engine,
  values: Float32Array,
  shape: readonly number[],
  packed: PackedWeight,
): Pick<InspectRow, "note" | "measured"> {
  // The dense weight again would measure the same kernel twice, and call the noise a speed-up.
  const dense = packed.format === "dense" ? packed : engine.pack(values, [...shape], { format: "dense" });
  try {
    if (shape.length === 2) {
      const measured = [1, BATCH].map((rows) => {
        const run = (x: Tensor, w: PackedWeight, out?: Tensor) => engine.linear(x, w, { out });
        return measureCall(engine, [rows, shape[1]], rows, dense, packed, run);
      });
      return { note: `linear, 1 and ${BATCH} rows`, measured };
    }
    const groups = readsOneChannel(shape) ? shape[0] : 1;
    const x = [1, shape[1] * groups, IMAGE, IMAGE];
    const measured = measureCall(engine, x, 1, dense, packed, (input, w, out) =>
      engine.conv2d(input, w, { padding: "same", groups, out }),
    );
    return {
      note: `conv2d, one ${IMAGE}x${IMAGE} image, ${groups} group${groups === 1 ? "" : "s"}`,
      measured: [measured],
    };
  } finally {
    if (dense !== packed) dense.dispose();
  }
}

/** Times one operation on one random input with both weights. */
function measureCall(
  engine: Engine,
  shape: number[],
  rows: number,
  dense: PackedWeight,
  packed: PackedWeight,
  run: (x: Tensor, w: PackedWeight, out?: Tensor) => Tensor,
): Measurement {
  const x = engine.tensor(randomValues(shape.reduce((size, d) => size * d, 1)), shape);
  let out: Tensor | undefined;
  try {
    const y = run(x, dense);
    out = y;
    const weights = dense === packed ? [dense] : [dense, packed];
    const calls = weights.map((w) => () => void run(x, w, y));
    const [denseMs, packedMs = denseMs] = interleave(calls, ROUNDS).map(({ min }) => min);
    return { rows, denseMs, packedMs, speedup: denseMs / packedMs };
  } finally {
    out?.dispose();
    x.dispose();
  }
}

/** Cloudflare's clock stands still while code runs; the coarsest that moves (Firefox, 100 ms) does so well before. */
function checkClock(): void {
  const start = performance.now();
  for (let reads = 0; reads < 2e7; reads++) if (performance.now() !== start) return;
  fail("ERR_UNSUPPORTED", "measure", "a clock that runs during a computation", "one that stands");
}
