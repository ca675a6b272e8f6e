import { fail, integer } from "../assert.js";
import { bitsOf, countNonzeros } from "./bits.js";
import { type BlockMatrix, indexArray } from "./block.js";
import { claimed, claimedArray, claimedShape } from "./claims.js";
import type { Source } from "./source.js";

/**
 * N of each M consecutive inputs: every aligned group of m columns of a row stores n values, zeros among them where it
 * has fewer nonzeros, so that no row needs a pointer (PyTorch's semi-structured 2:4, NM-sparsity). The last group of a
 * row has cols % m columns and stores min(n, cols % m) values. A row thus stores `placesNm(cols, n, m)` values.
 */
export interface NmMatrix {
  rows: number;
  cols: number;
  n: number;
  m: number;
  /**
   * For each value its position in its group, 0..m − 1, ascending in a group: 2 bits at m ≤ 4, 4 to 16, 8 to 256, 16
   * above (elements of a Uint16Array). Several to a byte go lowest bits first; each row starts on a byte, and what its
   * last byte has left is zero.
   */
  indices: Uint8Array | Uint16Array;
  /** Row by row, group by group. */
  data: Float32Array;
}

/** @throws TypeError `ERR_TYPE` and RangeError `ERR_VALUE` unless m is an integer in 2..1024 and n one in 1..m */
export function checkNm(n: unknown, m: unknown, of = ""): { n: number; m: number } {
  const group = integer(`${of}m`, m, 2, 1024);
  return { n: integer(`${of}n`, n, 1, group), m: group };
}

/** Values that each row stores. */
export const placesNm = (cols: number, n: number, m: number): number =>
  Math.floor(cols / m) * n + Math.min(n, cols % m);

/** Bits of one position. */
const widthOf = (m: number): number => (m <= 4 ? 2 : m <= 16 ? 4 : m <= 256 ? 8 : 16);

/** Elements of `indices` that hold the positions of one row. */
const unitsPerRow = (places: number, m: number): number => (m > 256 ? places : Math.ceil((places * widthOf(m)) / 8));

/**
 * Packs a matrix of which no group has more than n nonzeros; −0 counts as zero. A group that has fewer
 * stores zeros at its lowest free positions. n and m are those that {@link checkNm} accepts.
 * @throws RangeError `ERR_VALUE` that names the first group with more than n nonzeros; nothing but one row has been allocated
 */
export function packNm(source: Source, n: number, m: number): NmMatrix {
  const { rows, cols } = source;
  for (let r = 0; cols && r < rows; r++) {
    const row = source.row(r);
    for (let c = 0; c < cols; c += m) {
      const end = Math.min(c + m, cols);
      const count = countNonzeros(row, c, end);
      if (count > n) {
        const where = ` at row ${r}, columns ${c}..${end - 1}`;
        fail("ERR_VALUE", "data", `at most ${n} nonzeros in each ${m} columns`, count, where);
      }
    }
  }
  const data = new Float32Array(rows * placesNm(cols, n, m));
  const values = bitsOf(data);
  const positions = new Uint16Array(data.length);
  for (let r = 0, k = 0; cols && r < rows; r++) {
    const row = source.row(r);
    for (let c = 0; c < cols; c += m) {
      const width = Math.min(m, cols - c);
      let free = Math.min(n, width) - countNonzeros(row, c, c + width);
      for (let p = 0; p < width; p++) {
        const v = row[c + p];
        if (v << 1 !== 0) {
          values[k] = v;
          positions[k++] = p;
        } else if (free > 0) {
          free--;
          positions[k++] = p;
        }
      }
    }
  }
  return fromPositionsNm(rows, cols, n, m, positions, data);
}

/**
 * Packs positions that ascend in each group, and their values, both [rows][placesNm(cols, n, m)]. The values become the matrix's own
 * array, and so do positions of 16 bits.
 */
export function fromPositionsNm(
  rows: number,
  cols: number,
  n: number,
  m: number,
  positions: Uint16Array,
  data: Float32Array,
): NmMatrix {
  if (m > 256) return { rows, cols, n, m, indices: positions, data };
  const places = placesNm(cols, n, m);
  const indices = new Uint8Array(rows * unitsPerRow(places, m));
  const width = widthOf(m);
  for (let r = 0, i = 0, at = 0; r < rows; r++) {
    for (const end = i + places; i < end; at++) {
      let bits = 0;
      for (let shift = 0; shift < 8 && i < end; shift += width) bits |= positions[i++] << shift;
      indices[at] = bits;
    }
  }
  return { rows, cols, n, m, indices, data };
}

/** The inverse of {@link fromPositionsNm}: for each value its position in its group, to be read only. */
export function readPositionsNm({ rows, cols, n, m, indices }: NmMatrix): Uint16Array {
  if (indices instanceof Uint16Array) return indices;
  const places = placesNm(cols, n, m);
  const positions = new Uint16Array(rows * places);
  const width = widthOf(m);
  const mask = (1 << width) - 1;
  for (let r = 0, i = 0, at = 0; r < rows; r++) {
    for (const end = i + places; i < end; at++) {
      const bits = indices[at];
      for (let shift = 0; shift < 8 && i < end; shift += width) positions[i++] = (bits >> shift) & mask;
    }
  }
  return positions;
}

/** Row-major values, zeros included; −0 comes back as 0. */
export function unpackNm(matrix: NmMatrix): Float32Array<ArrayBuffer> {
  const { rows, cols, n, m, data } = matrix;
  const positions = readPositionsNm(matrix);
  const dense = new Float32Array(rows * cols);
  const [from, to] = [bitsOf(data), bitsOf(dense)];
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      for (const end = i + Math.min(n, cols - c); i < end; i++) {
        const v = from[i];
        if (v << 1 !== 0) to[r * cols + c + positions[i]] = v;
      }
    }
  }
  return dense;
}

/** `data` anew: the numbers of a matrix at the stored places, −0 as 0. Other places are not looked at. */
export function gatherNm(matrix: NmMatrix, source: Source): Float32Array {
  const { rows, cols, n, m } = matrix;
  const positions = readPositionsNm(matrix);
  const data = new Float32Array(positions.length);
  const to = bitsOf(data);
  for (let r = 0, i = 0; cols && r < rows; r++) {
    const row = source.row(r);
    for (let c = 0; c < cols; c += m) {
      for (const end = i + Math.min(n, cols - c); i < end; i++) {
        const v = row[c + positions[i]];
        if (v << 1 !== 0) to[i] = v;
      }
    }
  }
  return data;
}

/** All stored places as csr, padded zeros included: every row has the same count. `data` is the matrix's own array. */
export function nmToCsr(matrix: NmMatrix): BlockMatrix {
  const { rows, cols, n, m, data } = matrix;
  const indptr = new Uint32Array(rows + 1);
  const indices = indexArray(cols, data.length);
  const positions = readPositionsNm(matrix);
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      for (const end = i + Math.min(n, cols - c); i < end; i++) indices[i] = c + positions[i];
    }
    indptr[r + 1] = i;
  }
  return { rows, cols, r: 1, c: 1, indptr, indices, data };
}

/**
 * Checks every field of a matrix from outside: after this, nothing that takes one leaves its arrays.
 * @throws RangeError `ERR_FORMAT` that names the field, and the row and columns of the first wrong group
 */
export function validateNm(matrix: NmMatrix): void {
  const { rows, cols, n, m, indices, data } = matrix;
  claimedShape(rows, cols);
  claimed("m", m, 2, 1024);
  claimed("n", n, 1, m);
  const places = placesNm(cols, n, m);
  const units = unitsPerRow(places, m);
  claimedArray("indices", indices, m > 256 ? Uint16Array : Uint8Array, rows * units);
  claimedArray("data", data, Float32Array, rows * places);
  // Without rows, nothing bounds how wide the claimed one is.
  if (places === 0 || rows === 0) return;
  const spare = units * indices.BYTES_PER_ELEMENT * 8 - places * widthOf(m);
  const positions = readPositionsNm(matrix);
  for (let r = 0, k = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      const width = Math.min(m, cols - c);
      let last = -1;
      for (const end = k + Math.min(n, width); k < end; k++) {
        const p = positions[k];
        if (p <= last || p >= width) {
          const where = ` at row ${r}, columns ${c}..${c + width - 1}`;
          fail("ERR_FORMAT", "indices", `ascending positions in 0..${width - 1}`, p, where);
        }
        last = p;
      }
    }
    const tail = indices[(r + 1) * units - 1];
    if (spare > 0 && tail >> (8 - spare) !== 0) {
      fail("ERR_FORMAT", "indices", `zeros in the highest ${spare} bits of a row's last byte`, tail, ` at row ${r}`);
    }
  }
}
