// The arrays of other libraries, checked and turned into our matrices, and back.
//   SciPy    csr_array and bsr_array: .data, .indices, .indptr
//   PyTorch  sparse_csr and sparse_bsr: .values(), .col_indices(), .crow_indices()
//   PyTorch  semi-structured 2:4 of its CUTLASS backend: .values(), .indices()
// Nothing is allocated before the lengths fit each other.
import { fail, floats, integer, kindOf, oneOf, options } from "../assert.js";
import { bitsOf } from "../formats/bits.js";
import { type BlockMatrix, indexArray, packBlock, splitBlocks, validateBlock } from "../formats/block.js";
import { BLOCK_COLS, BLOCK_ROWS, type Matrix, toBlocks } from "../formats/format.js";
import { checkNm, fromPositionsNm, placesNm } from "../formats/nm.js";
import { Source } from "../formats/source.js";
import { matrixOf } from "../patterns/pattern.js";

/** Integers as libraries hand them over: NumPy's int32, PyTorch's int64, plain numbers. */
export type IndexArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | readonly number[];

/** Compressed sparse rows as SciPy takes them: `csr_array((data, indices, indptr), shape)`. */
export interface CsrArrays {
  /** Stored numbers row by row, zeros among them where a format stores some. */
  data: Float32Array;
  /** Their columns, ascending in each row. */
  indices: Int32Array;
  /** Row r is `indptr[r]..indptr[r + 1]` of both. */
  indptr: Int32Array;
  /** `[out, in]`; the inputs of a convolution are flattened. */
  shape: [number, number];
}

/** What `engine.fromNm` must know besides the arrays. */
export interface NmLayout {
  /** Values that each group stores, 1..m. */
  n: number;
  /** Consecutive inputs of a group, 2..1024. */
  m: number;
  /** How `indices` are written; default `"positions"`. */
  encoding?: "positions" | "cutlass" | undefined;
}

const INTEGER_ARRAY = /^(Ui|I)nt(8|16|32)Array$|^Big/;

function checkIntegers(name: string, value: unknown): asserts value is IndexArray {
  if (Array.isArray(value) || INTEGER_ARRAY.test(kindOf(value) ?? "")) return;
  fail("ERR_TYPE", name, "an array of integers", value);
}

/** Copies integers in 0..max; `to` is as long as `from`. */
function copyIntegers<T extends Uint16Array | Uint32Array>(name: string, from: IndexArray, to: T, max: number): T {
  for (let i = 0; i < to.length; i++) {
    const given = from[i];
    if (typeof given !== "number" && typeof given !== "bigint") fail("ERR_TYPE", name, "numbers", given, ` at ${i}`);
    const v = Number(given);
    if (!(v >= 0 && v <= max && Number.isInteger(v))) fail("ERR_VALUE", name, `values in 0..${max}`, given, ` at ${i}`);
    to[i] = v;
  }
  return to;
}

/** A matrix of compressed sparse rows; see `engine.fromCsr`. */
export function matrixFromCsr(data: unknown, indices: unknown, indptr: unknown, shape: unknown): Matrix {
  return { kind: "csr", ...blocksFrom(data, indices, indptr, shape, 1, 1) };
}

/** A matrix of blocks, cut into smaller ones where the kernels know no such block; see `engine.fromBsr`. */
export function matrixFromBsr(
  data: unknown,
  indices: unknown,
  indptr: unknown,
  shape: unknown,
  blockSize: unknown,
): Matrix {
  if (!Array.isArray(blockSize)) fail("ERR_TYPE", "blockSize", "[rows, cols]", blockSize);
  if (blockSize.length !== 2) fail("ERR_SHAPE", "blockSize", "[rows, cols]", blockSize);
  const r = integer("blockSize[0]", blockSize[0], 1);
  const c = integer("blockSize[1]", blockSize[1], 1);
  const given = blocksFrom(data, indices, indptr, shape, r, c);
  const known = (sizes: readonly number[], size: number) => Math.max(...sizes.filter((s) => size % s === 0));
  const m = splitBlocks(given, known(BLOCK_ROWS, r), known(BLOCK_COLS, c));
  return { kind: m.r * m.c === 1 ? "csr" : "block", ...m };
}

function blocksFrom(
  data: unknown,
  indices: unknown,
  indptr: unknown,
  shape: unknown,
  r: number,
  c: number,
): BlockMatrix {
  const { rows, cols } = matrixOf(shape);
  const gridRows = Math.ceil(rows / r);
  const gridCols = Math.ceil(cols / c);
  checkIntegers("indices", indices);
  checkIntegers("indptr", indptr);
  const blocks = indices.length;
  // Copied before the others are read, which may detach it.
  const values = new Float32Array(floats("data", data, blocks * r * c));
  if (indptr.length !== gridRows + 1) fail("ERR_LENGTH", "indptr", `${gridRows + 1} elements`, indptr.length);
  if (gridCols === 0 && blocks > 0) fail("ERR_LENGTH", "indices", "no elements, as there are no columns", blocks);
  const starts = copyIntegers("indptr", indptr, new Uint32Array(gridRows + 1), blocks);
  // Before rows are sorted: what falls would make them overlap.
  for (let b = 0; b < gridRows; b++) {
    if (starts[b + 1] < starts[b])
      fail("ERR_VALUE", "indptr", "values that do not fall", starts[b + 1], ` at ${b + 1}`);
  }
  const columns = copyIntegers("indices", indices, indexArray(gridCols, blocks), gridCols - 1);
  const m: BlockMatrix = { rows, cols, r, c, indptr: starts, indices: columns, data: values };
  sortRows(m);
  validateBlock(m, "ERR_VALUE");
  return m;
}

/** Puts the blocks of each row in the order of their columns: SciPy promises none (`has_sorted_indices`). */
function sortRows({ indptr, indices, data, r, c }: BlockMatrix): void {
  const size = r * c;
  for (let b = 0; b + 1 < indptr.length; b++) {
    const [from, to] = [indptr[b], indptr[b + 1]];
    let ascends = true;
    for (let j = from + 1; j < to && ascends; j++) ascends = indices[j - 1] < indices[j];
    if (ascends) continue;
    const columns = indices.slice(from, to);
    const blocks = data.slice(from * size, to * size);
    const order = new Uint32Array(to - from).map((_, i) => i).sort((i, j) => columns[i] - columns[j]);
    for (let i = 0; i < order.length; i++) {
      const column = columns[order[i]];
      if (i > 0 && column === indices[from + i - 1]) {
        fail("ERR_VALUE", "indices", "each column once in a row", column, ` twice in row ${b}`);
      }
      indices[from + i] = column;
      data.set(blocks.subarray(order[i] * size, (order[i] + 1) * size), (from + i) * size);
    }
  }
}

/** A matrix of values and their positions in groups; see `engine.fromNm`. */
export function matrixFromNm(values: unknown, indices: unknown, shape: unknown, format: unknown): Matrix {
  const { rows, cols } = matrixOf(shape);
  if (format === undefined) fail("ERR_TYPE", "format", "an object", format);
  const { n, m, encoding } = options("format", format as NmLayout, ["n", "m", "encoding"]);
  checkNm(n, m, "format.");
  const written = oneOf("format.encoding", encoding, ["positions", "cutlass"] as const, "positions");
  checkIntegers("indices", indices);
  const length = rows * placesNm(cols, n, m);
  // Copied before the others are read, which may detach it.
  const data = new Float32Array(floats("values", values, length));
  const positions = written === "cutlass" ? readCutlass(indices, rows, cols, n, m) : readPositions(indices, length, m);
  sortGroups(positions, bitsOf(data), rows, cols, n, m);
  return { kind: "nm", ...fromPositionsNm(rows, cols, n, m, positions, data) };
}

function readPositions(indices: IndexArray, length: number, m: number): Uint16Array {
  if (indices.length !== length)
    fail("ERR_LENGTH", "indices", `${length} elements, one for each value`, indices.length);
  return copyIntegers("indices", indices, new Uint16Array(length), m - 1);
}

/**
 * Positions out of the metadata of PyTorch's CUTLASS backend. A group of four inputs has four bits, its two positions, the
 * first one lowest; a word holds four groups (16 bits, of half floats) or eight (32 bits, of int8). Two float32 inputs count
 * as four halves: 0b0100 is the first of them, 0b1110 the second. The words are not row by row but where a tensor core wants
 * them.
 *
 * Source: reorder_meta in CUTLASS (tools/util/include/cutlass/util/host_reorder.h), its layout ColumnMajorInterleaved<2>, and
 * torch/sparse/_semi_structured_conversions.py.
 */
function readCutlass(indices: IndexArray, rows: number, cols: number, n: number, m: number): Uint16Array {
  const kind = kindOf(indices) ?? "";
  const words = kind.endsWith("t16Array") ? 16 : 32;
  const wide = kind.endsWith("t32Array");
  if (words === 32 && !wide) fail("ERR_TYPE", "indices", "an Int16Array or an Int32Array for cutlass", indices);
  const halves = n === 1 && m === 2;
  if (!(n === 2 && m === 4) && !(halves && words === 16)) {
    fail("ERR_VALUE", "format", `2:4${words === 16 ? " or 1:2" : ""} for cutlass in ${words} bits`, `${n}:${m}`);
  }
  const band = words === 16 ? 32 : 16;
  const groups = words / 4;
  const wordsPerRow = cols / (m * groups);
  if (rows % band !== 0 || wordsPerRow % 2 !== 0) {
    const expected = `multiples of ${band} rows and ${2 * m * groups} columns for cutlass`;
    fail("ERR_SHAPE", "shape", expected, [rows, cols]);
  }
  if (indices.length !== rows * wordsPerRow) {
    fail("ERR_LENGTH", "indices", `${rows * wordsPerRow} elements of ${words} bits`, indices.length);
  }
  const positions = new Uint16Array((rows * cols) / 2);
  for (let r = 0, to = 0; r < rows; r++) {
    // Eight rows lie apart; of four words, two rows by two, those off the diagonal change places.
    const row = r - (r % band) + (r % 8) * (band / 8) + ((r % band) >> 3);
    for (let w = 0; w < wordsPerRow; w++) {
      const turn = (w & 1) - (row & 1);
      const at = ((w - turn) >> 1) * rows * 2 + (row + turn) * 2 + ((w - turn) & 1);
      const word = Number(indices[at]);
      for (let g = 0; g < groups; g++) {
        const bits = (word >>> (4 * g)) & 15;
        if (!halves) {
          positions[to++] = bits & 3;
          positions[to++] = bits >> 2;
        } else {
          if (bits !== 4 && bits !== 14) fail("ERR_VALUE", "indices", "4 or 14 in each four bits", bits, ` at ${at}`);
          positions[to++] = bits === 4 ? 0 : 1;
        }
      }
    }
  }
  return positions;
}

/** Puts the values of each group in the order of their positions. */
function sortGroups(positions: Uint16Array, data: Int32Array, rows: number, cols: number, n: number, m: number): void {
  for (let r = 0, from = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      const width = Math.min(m, cols - c);
      const to = from + Math.min(n, width);
      for (let i = from; i < to; i++) {
        const p = positions[i];
        const v = data[i];
        if (p >= width) fail("ERR_VALUE", "indices", `values in 0..${width - 1}`, p, ` at row ${r}, columns from ${c}`);
        let j = i;
        for (; j > from && positions[j - 1] > p; j--) {
          positions[j] = positions[j - 1];
          data[j] = data[j - 1];
        }
        if (j > from && positions[j - 1] === p) {
          fail("ERR_VALUE", "indices", "each position once in a group", p, ` twice at row ${r}, columns from ${c}`);
        }
        positions[j] = p;
        data[j] = v;
      }
      from = to;
    }
  }
}

/** What is stored, as compressed sparse rows; of a dense matrix what is not zero. The arrays are new. */
export function toCsrArrays(m: Matrix): CsrArrays {
  const { rows, cols } = m;
  const { data, indices, indptr } =
    m.kind === "dense" ? packBlock(new Source(m.data, [rows, cols]), 1, 1) : splitBlocks(toBlocks(m), 1, 1);
  return {
    data: data === m.data ? data.slice() : data,
    indices: new Int32Array(indices),
    indptr: new Int32Array(indptr),
    shape: [rows, cols],
  };
}
