// Packed weights in a safetensors file, in the form that the engine keeps them: loading is checking and copying.
//
// The weight "fc" is the tensors "fc.data" (F32) and, by its format,
//   csr, block      "fc.indices" (U16, U32 beyond 65536 columns of blocks), "fc.indptr" (U16, U32 beyond 65535 blocks)
//   nm              "fc.indices" (packed bits as U8, U16 at M > 256)
//   complementary   "fc.ids" (U8, U16 at overlay > 256), "fc.rowOf" (U32)
// and the text "skipzeros:fc" in the file's metadata:
//   {"version":1,"kind":"block","shape":[512,256],"layout":"oi","auto":true,"rows":4,"cols":1}
// shape is [out, in] or [out, in / groups, kh, kw], layout the order that toDense and update use, auto whether dense
// kernels may run. "block" has rows and cols, "nm" n and m, "complementary" overlay, blockRows and sets; what the arrays
// hold is told where the formats are, in bindings/formats/. Every other tensor of the file is a plain one.
import { fail, isBytes, label, MAX_ELEMENTS } from "../assert.js";
import { type BlockMatrix, indexArray, validateBlock } from "../formats/block.js";
import { claimed, claimedArray, claimedOneOf } from "../formats/claims.js";
import { validateComplementary } from "../formats/complementary.js";
import { BLOCK_COLS, BLOCK_ROWS, formatOf, type Matrix } from "../formats/format.js";
import { placesNm, validateNm } from "../formats/nm.js";
import { PackedWeight, type WeightLayout } from "../weight.js";
import {
  readSafetensors,
  type SafetensorsEntry,
  type SafetensorsFile,
  type SafetensorsInput,
  writeSafetensors,
} from "./safetensors.js";

/** What a file of packed weights holds. */
export interface PackedFile {
  /** By name; an object without a prototype. They are the caller's, to dispose. */
  weights: Record<string, PackedWeight>;
  /** All other tensors, such as biases: views of the file's bytes, as `readSafetensors` gives them. */
  tensors: Map<string, SafetensorsEntry>;
  /** The file's texts, without those that describe weights; an object without a prototype. */
  metadata: Record<string, string>;
}

/** A packed weight, or a tensor as `writeSafetensors` takes it. */
export type Serializable = PackedWeight | SafetensorsInput;

/** A weight's parts out of a file, all checked. */
export interface PackedEntry {
  name: string;
  matrix: Matrix;
  shape: number[];
  layout: WeightLayout;
  auto: boolean;
}

const VERSION = 1;
const PREFIX = "skipzeros:";

/** Our texts have less than 200 characters. */
const MAX_TEXT = 1000;

/** The numbers that a format needs besides its arrays. */
const NUMBERS: Record<Matrix["kind"], readonly string[]> = {
  dense: [],
  csr: [],
  block: ["rows", "cols"],
  nm: ["n", "m"],
  complementary: ["overlay", "blockRows", "sets"],
};

const KINDS = Object.keys(NUMBERS) as Matrix["kind"][];

/** Whether a file holds packed weights. */
export const isPacked = ({ metadata }: SafetensorsFile): boolean =>
  Object.keys(metadata).some((key) => key.startsWith(PREFIX));

/**
 * Writes packed weights, and plain tensors beside them, as one safetensors file. {@link Engine.deserialize} loads it without
 * packing again; any other reader of safetensors sees the arrays: those of a "csr" weight are SciPy's.
 *
 * A weight "fc" becomes the tensors "fc.data", "fc.indices" and so on, and one text "skipzeros:fc" in the metadata.
 *
 * @param weights by name, as an object, a `Map` or any iterable of `[name, weight]`
 * @param metadata texts to keep in the file; none may start with "skipzeros:"
 * @returns the file
 * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED` for a disposed weight, `ERR_VALUE` for a name that comes twice
 *   or a reserved text, and as `writeSafetensors`
 * @example
 * ```ts
 * import { createEngine, serialize } from "skipzeros";
 *
 * const engine = await createEngine();
 * const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3], { format: "csr" });
 * const bias = { shape: [2], data: new Float32Array([1, 2]) };
 * const bytes = serialize({ "fc.weight": w, "fc.bias": bias }, { license: "CC0-1.0" });
 * const { weights, tensors } = engine.deserialize(bytes);
 * console.log(weights["fc.weight"].toDense(), tensors.get("fc.bias")?.data);
 * ```
 */
export function serialize(
  weights: Record<string, Serializable> | Iterable<readonly [string, Serializable]>,
  metadata: Record<string, string> = {},
): Uint8Array<ArrayBuffer> {
  if (typeof weights !== "object" || weights === null || ArrayBuffer.isView(weights)) {
    fail("ERR_TYPE", "weights", "an object or a Map of weights by name", weights);
  }
  if (typeof metadata !== "object" || metadata === null) fail("ERR_TYPE", "metadata", "an object of strings", metadata);
  const tensors: [string, SafetensorsInput][] = [];
  /** The weight that a tensor is an array of. */
  const owners = new Map<string, string>();
  const texts: [string, string][] = Object.entries(metadata);
  for (const [key] of texts) {
    if (key.startsWith(PREFIX)) fail("ERR_VALUE", "metadata", `names that do not start with "${PREFIX}"`, key);
  }
  for (const entry of Symbol.iterator in weights ? weights : Object.entries(weights)) {
    if (!Array.isArray(entry)) fail("ERR_TYPE", "weights", "pairs of a name and a weight", entry);
    const [name, value]: [string, Serializable] = entry;
    if (typeof name !== "string") fail("ERR_TYPE", "weights", "a name", name);
    if (!PackedWeight.is(value)) {
      tensors.push([name, value]);
      continue;
    }
    value.assertLive(label(name));
    for (const [array, tensor] of tensorsOf(value.matrix)) {
      tensors.push([`${name}.${array}`, tensor]);
      owners.set(`${name}.${array}`, name);
    }
    texts.push([PREFIX + name, describe(value)]);
  }
  const names = new Set<string>();
  for (const [name] of tensors) {
    const owner = owners.get(name);
    const why = owner === undefined ? "" : `: the weight "${label(owner)}" is stored under it`;
    if (names.has(name)) fail("ERR_VALUE", "weights", "each name once", name, ` again${why}`);
    names.add(name);
  }
  return writeSafetensors(tensors, Object.fromEntries(texts));
}

function describe({ matrix, shape, layout, auto }: PackedWeight): string {
  const { kind } = matrix;
  const format = formatOf(matrix);
  const numbers = typeof format === "string" ? {} : format;
  // JSON leaves out what is undefined.
  const sets = kind === "complementary" ? matrix.sets : undefined;
  return JSON.stringify({ version: VERSION, kind, shape, layout, auto, ...numbers, sets });
}

/** Shapes are for other readers; ours looks at lengths. */
function tensorsOf(m: Matrix): [string, SafetensorsInput][] {
  const { rows, cols, data } = m;
  if (m.kind === "dense") return [["data", { shape: [rows, cols], data }]];
  if (m.kind === "nm") {
    return [
      ["data", { shape: [rows, placesNm(cols, m.n, m.m)], data }],
      ["indices", { shape: [m.indices.length], data: m.indices }],
    ];
  }
  if (m.kind === "complementary") {
    const { sets, overlay, blockRows, ids, rowOf } = m;
    return [
      ["data", { shape: [cols, sets, blockRows], data }],
      ["ids", { shape: [cols, sets], data: ids }],
      ["rowOf", { shape: [sets, overlay], data: rowOf }],
    ];
  }
  const { r, c, indices, indptr } = m;
  const small = indices.length <= 65535;
  return [
    ["data", { shape: m.kind === "csr" ? [data.length] : [indices.length, r, c], data }],
    ["indices", { shape: [indices.length], data: indices }],
    ["indptr", { shape: [indptr.length], data: small ? new Uint16Array(indptr) : indptr }],
  ];
}

/**
 * Takes the packed weights out of a file. All are checked before this returns, and their arrays are copies: what happens to
 * the bytes afterwards cannot reach them.
 *
 * @throws RangeError `ERR_FORMAT` that names the tensor or the text
 */
export function readPacked(source: unknown): Omit<PackedFile, "weights"> & { entries: PackedEntry[] } {
  const file = fileOf(source);
  const tensors = new Map(file.tensors);
  const metadata: Record<string, string> = Object.create(null);
  const entries: PackedEntry[] = [];
  for (const [key, text] of Object.entries(file.metadata)) {
    if (key.startsWith(PREFIX)) entries.push(readEntry(key.slice(PREFIX.length), text, tensors));
    else metadata[key] = text;
  }
  return { entries, tensors, metadata };
}

function fileOf(source: unknown): SafetensorsFile {
  if (isBytes(source)) return readSafetensors(source);
  const { tensors, metadata } = (source ?? {}) as Partial<SafetensorsFile>;
  if (tensors instanceof Map && typeof metadata === "object" && metadata !== null) return { tensors, metadata };
  fail("ERR_TYPE", "source", "a safetensors file or its bytes", source);
}

/** Outputs that a weight without inputs may have, and the other way round. */
const MAX_BARE = 65536;

/** Reads one weight, and takes its tensors out of the file's. */
function readEntry(name: string, text: string, tensors: Map<string, SafetensorsEntry>): PackedEntry {
  const where = label(name);
  const head = parseText(`${PREFIX}${where}`, text);
  const { kind, shape, layout, auto } = head;
  const take: Take = (array, ...dtypes) => {
    const entry = tensors.get(`${name}.${array}`);
    if (!entry) fail("ERR_FORMAT", `${where}.${array}`, `a tensor, for ${PREFIX}${where}`, "none");
    const { dtype, data } = entry;
    const as = dtypes.find((d) => d === dtype);
    if (!as) fail("ERR_FORMAT", `${where}.${array}`, dtypes.join(" or "), dtype);
    // A file may be an object that someone put together.
    if (!(data instanceof ARRAY_OF[as])) fail("ERR_FORMAT", `${where}.${array}`, `an array of ${as}`, data);
    tensors.delete(`${name}.${array}`);
    // Copied by a constructor, as a Buffer's slice is a view; a detached array has no elements, and cannot be copied.
    const elements: ArrayLike<number> = data.length ? data : [];
    return new ARRAY_OF[as](elements) as never;
  };
  const rows = shape[0];
  const cols = shape.slice(1).reduce((a, b) => a * b, 1);
  // Outputs without inputs are backed by no byte of the file, and each costs time; nor are inputs without outputs.
  if (rows * cols === 0) claimed(`${where}.shape`, rows + cols, 0, MAX_BARE);
  try {
    return { name, matrix: readMatrix(kind, rows, cols, head, take), shape, layout, auto };
  } catch (error) {
    // The formats' own checks know their arrays, not whose they are.
    const e = error as Error;
    if (!e.message.startsWith(`"${where}.`)) e.message = e.message.replace(/^"/, `"${where}.`);
    throw e;
  }
}

const ARRAY_OF = { F32: Float32Array, U32: Uint32Array, U16: Uint16Array, U8: Uint8Array };

/** Takes one of a weight's tensors, which must be of one of these types, as an array of its own. */
type Take = <D extends keyof typeof ARRAY_OF>(array: string, ...dtypes: D[]) => InstanceType<(typeof ARRAY_OF)[D]>;

function readMatrix(kind: Matrix["kind"], rows: number, cols: number, head: Head, take: Take): Matrix {
  if (kind === "dense") {
    const data = take("data", "F32");
    claimedArray("data", data, Float32Array, rows * cols);
    return { kind, rows, cols, data };
  }
  if (kind === "nm") {
    const { n, m } = head.numbers;
    const matrix = { kind, rows, cols, n, m, indices: take("indices", "U8", "U16"), data: take("data", "F32") };
    validateNm(matrix);
    return matrix;
  }
  if (kind === "complementary") {
    const { overlay, blockRows, sets } = head.numbers;
    const [rowOf, ids, data] = [take("rowOf", "U32"), take("ids", "U8", "U16"), take("data", "F32")];
    const matrix = { kind, rows, cols, overlay, blockRows, sets, rowOf, ids, data };
    validateComplementary(matrix);
    return matrix;
  }
  const { rows: r = 1, cols: c = 1 } = head.numbers;
  claimedOneOf("rows", r, BLOCK_ROWS);
  claimedOneOf("cols", c, BLOCK_COLS);
  const [indices, data] = [take("indices", "U16", "U32"), take("data", "F32")];
  if (indices.constructor !== indexArray(Math.ceil(cols / c), 0).constructor) {
    fail("ERR_FORMAT", "indices", `${cols / c > 65536 ? "U32" : "U16"} for ${cols} columns`, "the other");
  }
  const indptr = new Uint32Array(take("indptr", "U16", "U32"));
  const matrix: { kind: "csr" | "block" } & BlockMatrix = { kind, rows, cols, r, c, indptr, indices, data };
  validateBlock(matrix, "ERR_FORMAT");
  return matrix;
}

/** A weight's text, all of it checked but the numbers of its format. */
interface Head {
  kind: Matrix["kind"];
  shape: number[];
  layout: WeightLayout;
  auto: boolean;
  numbers: Record<string, number>;
}

function parseText(where: string, text: unknown): Head {
  if (typeof text !== "string") fail("ERR_FORMAT", where, "a text", text);
  if (text.length > MAX_TEXT) fail("ERR_FORMAT", where, `at most ${MAX_TEXT} characters`, text.length);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    fail("ERR_FORMAT", where, "JSON", text);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) fail("ERR_FORMAT", where, "an object", json);
  const { version, kind, shape, layout, auto, ...numbers } = json as Record<string, unknown>;
  if (version !== VERSION) fail("ERR_FORMAT", `${where}.version`, `${VERSION}`, version);
  const known = claimedOneOf(`${where}.kind`, kind, KINDS);
  if (!Array.isArray(shape) || (shape.length !== 2 && shape.length !== 4)) {
    fail("ERR_FORMAT", `${where}.shape`, "2 or 4 dimensions", shape);
  }
  let most = 1;
  for (const d of shape) {
    claimed(`${where}.shape`, d, 0, MAX_ELEMENTS);
    most *= Math.max(d, 1);
  }
  if (most > MAX_ELEMENTS) fail("ERR_FORMAT", `${where}.shape`, `at most ${MAX_ELEMENTS} elements`, shape);
  const layouts: WeightLayout[] = shape.length === 2 ? ["oi", "io"] : ["oihw", "hwio"];
  const order = claimedOneOf(`${where}.layout`, layout, layouts);
  if (typeof auto !== "boolean") fail("ERR_FORMAT", `${where}.auto`, "true or false", auto);
  for (const key of NUMBERS[known]) claimed(`${where}.${key}`, numbers[key], 0, MAX_ELEMENTS);
  for (const key of Object.keys(numbers)) {
    if (!NUMBERS[known].includes(key)) fail("ERR_FORMAT", where, `the keys of "${known}"`, key);
  }
  return { kind: known, shape, layout: order, auto, numbers: numbers as Record<string, number> };
}
