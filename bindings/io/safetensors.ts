// Reads and writes safetensors, the file format of Hugging Face:
//   8 bytes  N, the header's length (unsigned, little-endian), at most 100 MB
//   N bytes  JSON in UTF-8: { "name": { "dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end] }, ... },
//            and under "__metadata__" a map from string to string; spaces may follow
//   the rest the tensors, row-major and little-endian, in any order, without holes or overlaps
// Source: "Format" in the README of https://github.com/huggingface/safetensors, and its safetensors/src/tensor.rs
// for the dtypes, the limits and the order of writing; checked against its release 0.8.0.
//
// The header is read by its own small grammar. JSON.parse keeps the last of two equal names, rounds integers above
// 2^53, and builds whatever a hostile header nests or repeats before anyone can look at it.
import { fail, isBytes, kindOf, label, MAX_RANK, show, sizeOf } from "../assert.js";

/** The reference's limit: a longer header is an attack on the parser, not a model. */
const MAX_HEADER_BYTES = 100_000_000;

/** Limits of ours: no model comes near them, and a header of 100 MB would otherwise fill a browser tab. */
const MAX_KEYS = 1_000_000;

/** The array that holds a tensor's elements, in the reference's order: a file is sorted by it, backwards. */
const DTYPES = {
  BOOL: Uint8Array,
  F4: Uint8Array,
  F6_E2M3: Uint8Array,
  F6_E3M2: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  F8_E5M2: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E8M0: Uint8Array,
  F8_E4M3FNUZ: Uint8Array,
  F8_E5M2FNUZ: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  C64: Uint8Array,
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
} as const;

/** Bits of the elements that are not one each in their array. */
const BITS: Partial<Record<Dtype, number>> = { F4: 4, F6_E2M3: 6, F6_E3M2: 6, C64: 64 };

const widthOf = (dtype: Dtype): number => BITS[dtype] ?? DTYPES[dtype].BYTES_PER_ELEMENT * 8;

const DTYPE_ORDER = Object.keys(DTYPES) as Dtype[];

/** The dtype of an array whose element type leaves no choice; `Uint16Array` may be F16 or BF16 as well. */
const DTYPE_OF_ARRAY: Record<string, Dtype> = {
  Float32Array: "F32",
  Float64Array: "F64",
  BigInt64Array: "I64",
  BigUint64Array: "U64",
  Int32Array: "I32",
  Uint32Array: "U32",
  Int16Array: "I16",
  Uint16Array: "U16",
  Int8Array: "I8",
  Uint8Array: "U8",
};

/** An element type, as the format spells it. */
export type Dtype = keyof typeof DTYPES;

/** The arrays elements come in. What JavaScript has no array for stays raw: see {@link SafetensorsEntry}. */
export type SafetensorsData =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

interface DataConstructor {
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): SafetensorsData;
  BYTES_PER_ELEMENT: number;
}

/** One tensor of a file. */
export interface SafetensorsEntry {
  dtype: Dtype;
  /** Dimensions, row-major; `[]` is a scalar. */
  shape: number[];
  /**
   * The elements. F16 and BF16 are the raw bits in a `Uint16Array`, BOOL is a `Uint8Array` of 0 and 1; 8-bit, 6-bit
   * and 4-bit floats and C64 are the raw bytes in a `Uint8Array`. {@link toFloat32} converts.
   */
  data: SafetensorsData;
}

/** A file's content. */
export interface SafetensorsFile {
  /** Tensors by name, in the order of the header. */
  tensors: Map<string, SafetensorsEntry>;
  /** The `__metadata__` texts; an object without a prototype, empty if the file has none. */
  metadata: Record<string, string>;
}

/** One tensor to write. Without `dtype` the array's type says it: `Float32Array` is F32, `Uint16Array` is U16. */
export interface SafetensorsInput {
  /** Dimensions, row-major; `[]` is a scalar. */
  shape: readonly number[] | Int32Array | Uint32Array;
  data: SafetensorsData;
  /** Needed where an array could be several: F16 or BF16 in a `Uint16Array`, BOOL in a `Uint8Array`. */
  dtype?: Dtype | undefined;
}

/** What the header says of one tensor; offsets are bytes from the end of the header. */
interface TensorInfo {
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

/**
 * Reads a safetensors file from memory.
 *
 * A tensor's `data` is a view of `bytes` where its place in them is aligned to its element size (files of current
 * writers are), otherwise a copy. Values are not checked: NaN and infinities come through bit for bit.
 *
 * @param bytes the whole file
 * @returns the tensors, in the order of the header, and the metadata
 * @throws TypeError `ERR_TYPE` if `bytes` is neither a `Uint8Array` nor an `ArrayBuffer`
 * @throws RangeError `ERR_FORMAT` if the file breaks the format anywhere; the message names the tensor, what was
 *   expected and what came. Keys of a tensor other than `dtype`, `shape` and `data_offsets` are refused too.
 * @see https://github.com/huggingface/safetensors#format
 * @example
 * ```ts
 * import { readSafetensors, toFloat32, writeSafetensors } from "skipzeros";
 *
 * const file = writeSafetensors({ "fc.weight": { shape: [2, 2], data: new Float32Array([1, 0, 0, 2]) } });
 * const { tensors } = readSafetensors(file);
 * const weight = tensors.get("fc.weight")!;
 * console.log(weight.dtype, weight.shape, toFloat32(weight)); // F32 [ 2, 2 ] Float32Array(4) [ 1, 0, 0, 2 ]
 * ```
 */
export function readSafetensors(bytes: Uint8Array | ArrayBuffer): SafetensorsFile {
  if (!isBytes(bytes)) fail("ERR_TYPE", "bytes", "a Uint8Array or an ArrayBuffer", bytes);
  // A plain Uint8Array also of Node's Buffer, whose own slice() does not copy. Bytes that were transferred are none.
  const { byteLength } = bytes;
  const file = byteLength
    ? ArrayBuffer.isView(bytes)
      ? new Uint8Array(bytes.buffer, bytes.byteOffset, byteLength)
      : new Uint8Array(bytes)
    : new Uint8Array();
  const headerEnd = 8 + headerLength(file);
  const header = new HeaderText(decode(file.slice(8, headerEnd)));
  const metadata: Record<string, string> = Object.create(null);
  const infos = new Map<string, TensorInfo>();
  for (const name of header.keys("header")) {
    if (name === "__metadata__") {
      for (const key of header.keys(name)) metadata[key] = header.string(`${name}.${label(key)}`);
    } else {
      infos.set(name, readInfo(header, label(name), file.length - headerEnd));
    }
  }
  header.end();
  checkCoverage(infos, file.length - headerEnd);
  const tensors = new Map<string, SafetensorsEntry>();
  for (const [name, { dtype, shape, begin, end }] of infos) {
    tensors.set(name, { dtype, shape, data: viewOf(dtype, file, headerEnd + begin, end - begin) });
  }
  return { tensors, metadata };
}

function headerLength(file: Uint8Array): number {
  if (file.length < 8) fail("ERR_FORMAT", "bytes", "a file of at least 8 bytes", file.length);
  const length = new DataView(file.buffer, file.byteOffset, 8).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) fail("ERR_FORMAT", "header length", `at most ${MAX_HEADER_BYTES} bytes`, length);
  if (Number(length) > file.length - 8) {
    fail("ERR_FORMAT", "header length", `at most the ${file.length - 8} bytes that follow it`, Number(length));
  }
  return Number(length);
}

function decode(header: Uint8Array): string {
  let text: string;
  try {
    // ignoreBOM keeps a byte order mark in the text, where the check below finds it.
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    fail("ERR_FORMAT", "header", "UTF-8 text", "other bytes");
  }
  if (text[0] !== "{") fail("ERR_FORMAT", "header", "JSON text that starts with {", text);
  return text;
}

/** A cursor over the header's JSON; each method takes one thing and refuses what the format has no place for. */
class HeaderText {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** The keys of an object; the caller takes the value of each before it asks for the next. */
  *keys(where: string): Generator<string, void, undefined> {
    const seen = new Set<string>();
    this.#expect("{", where, "a JSON object");
    if (this.#skip("}")) return;
    do {
      const key = this.string(where, "a name");
      if (seen.has(key)) fail("ERR_FORMAT", where, "each name once", key, " again");
      if (seen.size === MAX_KEYS) fail("ERR_FORMAT", where, `at most ${MAX_KEYS} names`, "more");
      seen.add(key);
      this.#expect(":", where);
      yield key;
    } while (this.#skip(","));
    this.#expect("}", where, '"," or "}"');
  }

  string(where: string, expected = "a string"): string {
    if (this.#next() !== '"') this.#refuse(where, expected);
    let end = this.#at + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === "\\" ? 2 : 1;
    let value: string | undefined;
    try {
      value = JSON.parse(this.#text.slice(this.#at, end + 1));
    } catch {
      // an unknown escape, a control character, or the text ended
    }
    // Half of a surrogate pair is no Unicode text: the reference refuses it, and it could not be written again.
    if (value === undefined || /\p{Surrogate}/u.test(value)) this.#refuse(where, `${expected} in valid JSON`);
    this.#at = end + 1;
    return value;
  }

  integers(where: string, most: number): number[] {
    const values: number[] = [];
    this.#expect("[", where, "an array of integers");
    if (this.#skip("]")) return values;
    do {
      if (values.length === most) fail("ERR_FORMAT", where, `at most ${most} integers`, "more");
      values.push(this.#integer(where));
    } while (this.#skip(","));
    this.#expect("]", where, '"," or "]"');
    return values;
  }

  end(): void {
    if (this.#next() !== "") this.#refuse("header", "nothing but spaces after the JSON object");
  }

  #integer(where: string): number {
    this.#next();
    const digits = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;
    digits.lastIndex = this.#at;
    const value = Number(digits.exec(this.#text)?.[0] ?? Number.NaN);
    if (!Number.isSafeInteger(value)) this.#refuse(where, `integers in 0..${Number.MAX_SAFE_INTEGER}`);
    this.#at = digits.lastIndex;
    return value;
  }

  /** The next character that is no white space, or "" at the end. */
  #next(): string {
    const space = /[ \t\n\r]*/y;
    space.lastIndex = this.#at;
    space.test(this.#text);
    this.#at = space.lastIndex;
    return this.#text[this.#at] ?? "";
  }

  #skip(character: string): boolean {
    if (this.#next() !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string, where: string, expected = `"${character}"`): void {
    if (!this.#skip(character)) this.#refuse(where, expected);
  }

  #refuse(where: string, expected: string): never {
    const got = /^(?:"[^"]*"?|[^\s,:[\]{}"]+|.|$)/s.exec(this.#text.slice(this.#at, this.#at + 64)) ?? [""];
    const value = got[0] === "" ? Number.NaN : Number(got[0]);
    const place = ` at character ${this.#at} of ${this.#text.length}`;
    fail("ERR_FORMAT", where, expected, Number.isNaN(value) ? got[0].replaceAll('"', "") : value, place);
  }
}

/** Takes one tensor's object; `available` is the number of bytes after the header. */
function readInfo(header: HeaderText, name: string, available: number): TensorInfo {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  for (const key of header.keys(name)) {
    if (key === "dtype") dtype = header.string(`${name}.dtype`);
    else if (key === "shape") shape = header.integers(`${name}.shape`, MAX_RANK);
    else if (key === "data_offsets") offsets = header.integers(`${name}.data_offsets`, 2);
    else fail("ERR_FORMAT", name, "the keys dtype, shape, data_offsets", key);
  }
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    fail("ERR_FORMAT", name, "the keys dtype, shape, data_offsets", "fewer");
  }
  if (!isDtype(dtype)) fail("ERR_FORMAT", `${name}.dtype`, `one of ${DTYPE_ORDER.join(", ")}`, dtype);
  let elements = 1;
  for (const dimension of shape) {
    elements *= dimension;
    // A zero that follows does not excuse the product: the reference multiplies from the left as well.
    if (elements > Number.MAX_SAFE_INTEGER) fail("ERR_FORMAT", `${name}.shape`, "fewer than 2^53 elements", shape);
  }
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin > end || end > available) {
    fail("ERR_FORMAT", `${name}.data_offsets`, `[begin, end] with begin <= end <= ${available}`, offsets);
  }
  const byteLength = (elements * widthOf(dtype)) / 8;
  if (end - begin !== byteLength) {
    const what = `${byteLength} bytes for ${dtype} of shape ${show(shape)}`;
    fail("ERR_FORMAT", `${name}.data_offsets`, what, end - begin, `: ${show(offsets)}`);
  }
  return { dtype, shape, begin, end };
}

export function isDtype(name: unknown): name is Dtype {
  return typeof name === "string" && Object.hasOwn(DTYPES, name);
}

/** Every byte after the header belongs to exactly one tensor. */
function checkCoverage(infos: Map<string, TensorInfo>, available: number): void {
  const byPlace = [...infos].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  let previous = "";
  for (const [name, { begin, end }] of byPlace) {
    const where = `${label(name)}.data_offsets`;
    if (begin < covered) fail("ERR_FORMAT", where, `no overlap with "${label(previous)}"`, [begin, end]);
    if (begin > covered) fail("ERR_FORMAT", where, `no hole before it, so begin = ${covered}`, [begin, end]);
    covered = end;
    previous = name;
  }
  if (covered !== available) {
    fail("ERR_FORMAT", "bytes", `${covered} bytes after the header, all of them in tensors`, available);
  }
}

function viewOf(dtype: Dtype, file: Uint8Array, start: number, byteLength: number): SafetensorsData {
  const array: DataConstructor = DTYPES[dtype];
  const at = file.byteOffset + start;
  if (at % array.BYTES_PER_ELEMENT !== 0) return new array(file.slice(start, start + byteLength).buffer);
  return new array(file.buffer, at, byteLength / array.BYTES_PER_ELEMENT);
}

/**
 * A tensor's elements as float32: what `engine.pack` takes.
 *
 * F16 and BF16 convert exactly; F64 and the integers are rounded to the nearest float32 (64-bit integers by way of
 * float64). F32 is returned as it is, not copied.
 *
 * @param entry a tensor from {@link readSafetensors}
 * @returns as many values as the tensor has elements, row-major
 * @throws RangeError `ERR_UNSUPPORTED` for dtypes without one agreed meaning as a number here: 8-bit, 6-bit and 4-bit
 *   floats, which come with scales of their own, and C64
 * @throws RangeError `ERR_VALUE` for a dtype that the format lacks; TypeError `ERR_TYPE` if the data is not in the array its dtype says
 * @example
 * ```ts
 * import { toFloat32 } from "skipzeros";
 *
 * toFloat32({ dtype: "BF16", shape: [2], data: new Uint16Array([0x3f80, 0xc000]) }); // Float32Array [1, -2]
 * ```
 */
export function toFloat32(entry: SafetensorsEntry): Float32Array {
  if (typeof entry !== "object" || entry === null) fail("ERR_TYPE", "entry", "a tensor of a safetensors file", entry);
  const { dtype, data } = entry;
  checkArray("entry", dtype, data);
  switch (dtype) {
    case "F32":
      return data as Float32Array;
    case "F16":
      return fromFloat16(data as Uint16Array);
    case "BF16": {
      // bfloat16 is the upper half of a float32.
      const bits = Uint32Array.from(data as Uint16Array, (half) => half << 16);
      return new Float32Array(bits.buffer);
    }
    case "I64":
    case "U64":
      return Float32Array.from(data as BigInt64Array, Number);
    case "F64":
    case "I32":
    case "U32":
    case "I16":
    case "U16":
    case "I8":
    case "U8":
    case "BOOL":
      return new Float32Array(data as Float64Array);
    default:
      fail("ERR_UNSUPPORTED", "entry.dtype", "a dtype that converts to float32", dtype);
  }
}

/** IEEE 754 binary16 to binary32, through the bits so that a NaN keeps its payload. */
function fromFloat16(halves: Uint16Array): Float32Array {
  const floats = new Float32Array(halves.length);
  const bits = new Uint32Array(floats.buffer);
  for (let i = 0; i < halves.length; i++) {
    const sign = (halves[i] & 0x8000) << 16;
    const exponent = (halves[i] >> 10) & 0x1f;
    const fraction = halves[i] & 0x3ff;
    if (exponent === 0) {
      // Zero or subnormal: a multiple of 2^-24, and normal as a float32.
      floats[i] = fraction * 2 ** -24;
      bits[i] |= sign;
    } else {
      bits[i] = sign | ((exponent === 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
    }
  }
  return floats;
}

/** Refuses an unknown dtype, and data in another array than the dtype's. */
function checkArray(name: string, dtype: unknown, data: unknown): asserts dtype is Dtype {
  if (!isDtype(dtype)) fail("ERR_VALUE", `${name}.dtype`, `one of ${DTYPE_ORDER.join(", ")}`, dtype);
  const array = DTYPES[dtype];
  if (kindOf(data) !== array.name) fail("ERR_TYPE", `${name}.data`, `a ${array.name} for ${dtype}`, data);
}

/**
 * Writes tensors as a safetensors file: the bytes the reference implementation writes, so that any reader takes them.
 *
 * The result depends on the content only, not on the order of the tensors: larger element types come first, so that
 * every tensor is aligned, then names in UTF-8 order; the header is padded with spaces to a multiple of 8 bytes.
 *
 * @param tensors by name, as an object, a `Map` or any iterable of `[name, tensor]`
 * @param metadata texts to keep with the tensors, such as `{ format: "pt" }`
 * @returns the file
 * @throws TypeError `ERR_TYPE` for a value of the wrong type, data in another array than its dtype's included
 * @throws RangeError `ERR_SHAPE` for a malformed shape, `ERR_LENGTH` if the data does not fill it, `ERR_VALUE` for an
 *   unknown dtype or a name the format cannot hold, `ERR_MEMORY` if the host has no room for the file
 * @see https://github.com/huggingface/safetensors#format
 * @example
 * ```ts
 * import { writeSafetensors } from "skipzeros";
 *
 * const bytes = writeSafetensors({
 *   "fc.weight": { shape: [2, 2], data: new Float32Array([1, 0, 0, 2]) },
 *   "fc.scale": { shape: [], data: new Uint16Array([0x3c00]), dtype: "F16" },
 * });
 * ```
 */
export function writeSafetensors(
  tensors: Record<string, SafetensorsInput> | Iterable<readonly [string, SafetensorsInput]>,
  metadata: Record<string, string> = {},
): Uint8Array<ArrayBuffer> {
  if (typeof tensors !== "object" || tensors === null || ArrayBuffer.isView(tensors)) {
    fail("ERR_TYPE", "tensors", "an object or a Map of tensors by name", tensors);
  }
  if (typeof metadata !== "object" || metadata === null) fail("ERR_TYPE", "metadata", "an object of strings", metadata);
  const entries = Symbol.iterator in tensors ? [...tensors] : Object.entries(tensors);
  const names = new Set<string>();
  for (const entry of entries) {
    if (!Array.isArray(entry)) fail("ERR_TYPE", "tensors", "pairs of a name and a tensor", entry);
    const [name] = entry;
    if (names.has(name)) fail("ERR_VALUE", "tensors", "each name once", name, " again");
    names.add(name);
  }
  const sorted = entries.map(([name, input]) => checkInput(name, input)).sort(byDtypeThenName);

  // Written piece by piece: an object's keys that look like integers would move to the front of it.
  const members: string[] = [];
  const texts = Object.entries(metadata).sort(([a], [b]) => compareUtf8(encode(a), encode(b)));
  for (const [key, value] of texts) {
    checkText("metadata", key);
    checkText(`metadata.${label(key)}`, value);
  }
  if (texts.length > 0) members.push(`"__metadata__":{${texts.map((text) => text.map(quote).join(":")).join(",")}}`);
  let offset = 0;
  for (const { name, dtype, shape, data } of sorted) {
    const info = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    members.push(`${quote(name)}:${JSON.stringify(info)}`);
    offset += data.byteLength;
  }
  const header = encode(`{${members.join(",")}}`);
  const padded = Math.ceil(header.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES) fail("ERR_VALUE", "tensors", `a header of at most ${MAX_HEADER_BYTES} bytes`, padded);

  const file = allocate(8 + padded + offset);
  new DataView(file.buffer).setBigUint64(0, BigInt(padded), true);
  file.set(header, 8);
  file.fill(0x20, 8 + header.length, 8 + padded);
  let at = 8 + padded;
  for (const { data } of sorted) {
    // Of a detached array, which has no bytes, no view can be made.
    if (data.byteLength) file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return file;
}

interface CheckedInput {
  name: string;
  utf8: Uint8Array;
  dtype: Dtype;
  shape: number[];
  data: SafetensorsData;
}

function checkInput(name: string, input: SafetensorsInput): CheckedInput {
  checkText("tensors", name, "a name");
  if (name === "__metadata__") fail("ERR_VALUE", "tensors", "a name other than that of the metadata", name);
  const where = label(name);
  if (typeof input !== "object" || input === null) fail("ERR_TYPE", where, "an object with shape and data", input);
  const dtype: unknown = input.dtype ?? DTYPE_OF_ARRAY[input.data?.[Symbol.toStringTag]];
  if (dtype === undefined) fail("ERR_TYPE", `${where}.data`, "a typed array of numbers", input.data);
  checkArray(where, dtype, input.data);
  const bits = sizeOf(`${where}.shape`, input.shape) * widthOf(dtype);
  if (input.data.byteLength * 8 !== bits) {
    const expected = `${bits / 8 / DTYPES[dtype].BYTES_PER_ELEMENT} elements`;
    fail("ERR_LENGTH", `${where}.data`, expected, input.data.length);
  }
  return { name, utf8: encode(name), dtype, shape: Array.from(input.shape), data: input.data };
}

function checkText(where: string, value: unknown, expected = "a string"): asserts value is string {
  if (typeof value !== "string") fail("ERR_TYPE", where, expected, value);
  if (/\p{Surrogate}/u.test(value)) fail("ERR_VALUE", where, `${expected} of whole Unicode characters`, value);
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function quote(text: string): string {
  return JSON.stringify(text);
}

function byDtypeThenName(a: CheckedInput, b: CheckedInput): number {
  return DTYPE_ORDER.indexOf(b.dtype) - DTYPE_ORDER.indexOf(a.dtype) || compareUtf8(a.utf8, b.utf8);
}

/** The reference's order of names; `<` on strings compares UTF-16 units, which puts U+FFFF after an emoji. */
function compareUtf8(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

function allocate(byteLength: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(byteLength);
  } catch {
    fail("ERR_MEMORY", "tensors", "a file that fits the host's memory", `${byteLength} bytes`);
  }
}
