import { fail } from "../assert.js";
import { blocksOf, lowestBit, popcount } from "../patterns/bitmap.js";
import { bitsOf } from "./bits.js";
import type { Source } from "./source.js";

/**
 * Blocks of r rows × c columns (SciPy's bsr_matrix, PyTorch's sparse_bsr_tensor): block row i holds `data[j]` (r · c numbers, row
 * by row) at block column `indices[j]` for j in indptr[i]..indptr[i + 1], ascending. Blocks are aligned at 0; what the matrix's
 * edge cuts off is zero. csr is the case of 1 × 1.
 */
export interface BlockMatrix {
  rows: number;
  cols: number;
  r: number;
  c: number;
  indptr: Uint32Array;
  indices: Uint16Array | Uint32Array;
  data: Float32Array;
}

/** Block columns of a matrix fit 16 bits, or need 32. */
export const indexArray = (columns: number, length: number) =>
  columns <= 65536 ? new Uint16Array(length) : new Uint32Array(length);

/** The blocks that have a nonzero; csr where they are 1 × 1. −0 counts as zero: masking a negative weight leaves one. */
export function packBlock(source: Source, r: number, c: number): BlockMatrix {
  const { rows: gridRows, cols: gridCols, stride, words } = blocksOf(source.nonzeros, r, c);
  const indptr = new Uint32Array(gridRows + 1);
  for (let b = 0, at = 0; b < gridRows; b++) {
    let blocks = indptr[b];
    for (let w = 0; w < stride; w++) blocks += popcount(words[at++]);
    indptr[b + 1] = blocks;
  }
  const indices = indexArray(gridCols, indptr[gridRows]);
  for (let b = 0, at = 0, n = 0; b < gridRows; b++) {
    for (let w = 0; w < stride; w++) {
      for (let word = words[at++]; word !== 0; word &= word - 1) indices[n++] = w * 32 + lowestBit(word);
    }
  }
  const { rows, cols } = source;
  const places = { rows, cols, r, c, indptr, indices };
  return { ...places, data: gatherBlock(places, source) };
}

/** Row-major values, zeros included. */
export function unpackBlock({ rows, cols, r, c, indptr, indices, data }: BlockMatrix): Float32Array<ArrayBuffer> {
  const dense = new Float32Array(rows * cols);
  const [from, to] = [bitsOf(data), bitsOf(dense)];
  for (let b = 0; b + 1 < indptr.length; b++) {
    const high = Math.min(r, rows - b * r);
    for (let j = indptr[b]; j < indptr[b + 1]; j++) {
      const col = indices[j] * c;
      const wide = Math.min(c, cols - col);
      for (let i = 0, at = j * r * c; i < high; i++, at += c) {
        for (let k = 0, place = (b * r + i) * cols + col; k < wide; k++) to[place + k] = from[at + k];
      }
    }
  }
  return dense;
}

/** The numbers of a matrix at the places that m stores, −0 as 0: another `data`. */
export function gatherBlock(m: Omit<BlockMatrix, "data">, source: Source): Float32Array {
  const { rows, cols, r, c, indptr, indices } = m;
  const data = new Float32Array(indices.length * r * c);
  const to = bitsOf(data);
  for (let y = 0; indices.length && y < rows; y++) {
    const row = source.row(y);
    const b = Math.floor(y / r);
    for (let j = indptr[b], at = (j * r + (y % r)) * c; j < indptr[b + 1]; j++, at += r * c) {
      const col = indices[j] * c;
      const wide = Math.min(c, cols - col);
      for (let k = 0; k < wide; k++) {
        const v = row[col + k];
        const magnitude = v << 1;
        // Without a branch, as in countNonzeros.
        to[at + k] = v & ((magnitude | -magnitude) >> 31);
      }
    }
  }
  return data;
}

/** The same places in smaller blocks: r2 divides r and c2 divides c. A part that the edge cuts off is left out. */
export function splitBlocks(m: BlockMatrix, r2: number, c2: number): BlockMatrix {
  const { rows, cols, r, c } = m;
  if (r === r2 && c === c2) return m;
  const gridRows = Math.ceil(rows / r2);
  const down = r / r2;
  const across = c / c2;
  const gridCols = Math.ceil(cols / c2);
  const indptr = new Uint32Array(gridRows + 1);
  for (let b = 0; b < gridRows; b++) {
    const [from, to] = [m.indptr[Math.floor(b / down)], m.indptr[Math.floor(b / down) + 1]];
    // Only the last block column can be cut.
    const cut = to > from ? Math.max(0, (m.indices[to - 1] + 1) * across - gridCols) : 0;
    indptr[b + 1] = indptr[b] + (to - from) * across - cut;
  }
  const blocks = indptr[gridRows];
  const indices = indexArray(gridCols, blocks);
  const data = new Float32Array(blocks * r2 * c2);
  const [numbers, parts] = [bitsOf(m.data), bitsOf(data)];
  let n = 0;
  for (let b = 0; b < gridRows; b++) {
    const top = (b % down) * r2;
    for (let j = m.indptr[Math.floor(b / down)]; j < m.indptr[Math.floor(b / down) + 1]; j++) {
      for (let part = 0; part < across; part++) {
        const index = m.indices[j] * across + part;
        if (index >= gridCols) break;
        indices[n] = index;
        const from = (j * r + top) * c + part * c2;
        let to = n++ * r2 * c2;
        for (let i = 0; i < r2; i++) for (let k = 0; k < c2; k++) parts[to++] = numbers[from + i * c + k];
      }
    }
  }
  return { rows, cols, r: r2, c: c2, indptr, indices, data };
}

/** Wᵀ in blocks of c × r. */
export function transposeBlock(m: BlockMatrix): BlockMatrix {
  const { rows, cols, r, c, indptr, indices, data } = m;
  const blocks = indices.length;
  const at = new Uint32Array(Math.ceil(cols / c) + 1);
  for (let j = 0; j < blocks; j++) at[indices[j] + 1]++;
  for (let i = 1; i < at.length; i++) at[i] += at[i - 1];
  const turned = indexArray(indptr.length - 1, blocks);
  const values = new Float32Array(data.length);
  const next = at.slice();
  for (let b = 0; b + 1 < indptr.length; b++) {
    for (let j = indptr[b]; j < indptr[b + 1]; j++) {
      const n = next[indices[j]]++;
      turned[n] = b;
      for (let i = 0; i < r; i++) {
        for (let k = 0; k < c; k++) values[(n * c + k) * r + i] = data[(j * r + i) * c + k];
      }
    }
  }
  return { rows: cols, cols: rows, r: c, c: r, indptr: at, indices: turned, data: values };
}

/**
 * Checks arrays that came from outside, so that nothing is read or written beside them later.
 *
 * @param code what the error is called: a user's argument (`ERR_VALUE`) or a file (`ERR_FORMAT`)
 */
export function validateBlock(m: BlockMatrix, code: "ERR_VALUE" | "ERR_FORMAT"): void {
  const { rows, cols, r, c, indptr, indices, data } = m;
  const gridRows = Math.ceil(rows / r);
  const gridCols = Math.ceil(cols / c);
  if (indptr.length !== gridRows + 1) fail(code, "indptr", `${gridRows + 1} elements`, indptr.length);
  if (data.length !== indices.length * r * c) {
    fail(code, "data", `${indices.length * r * c} elements, ${r} × ${c} for each index`, data.length);
  }
  if (indptr[0] !== 0) fail(code, "indptr", "0 first", indptr[0]);
  for (let b = 0; b < gridRows; b++) {
    if (indptr[b + 1] < indptr[b]) fail(code, "indptr", "values that do not fall", indptr[b + 1], ` at ${b + 1}`);
  }
  if (indptr[gridRows] !== indices.length) {
    fail(code, "indptr", `${indices.length} last, the number of indices`, indptr[gridRows]);
  }
  for (let b = 0; b < gridRows; b++) {
    for (let j = indptr[b]; j < indptr[b + 1]; j++) {
      if (indices[j] >= gridCols) {
        fail(code, "indices", `values in 0..${gridCols - 1}`, indices[j], ` at ${j}`);
      }
      if (j > indptr[b] && indices[j] <= indices[j - 1]) {
        fail(code, "indices", "values that ascend within a row", indices[j], ` at ${j}`);
      }
    }
  }
  if (rows % r === 0 && cols % c === 0) return;
  // What lies over the edge is never read back; it must not be there either.
  for (let b = 0; b < gridRows; b++) {
    for (let j = indptr[b]; j < indptr[b + 1]; j++) {
      for (let i = 0; i < r; i++) {
        for (let k = 0; k < c; k++) {
          const v = data[(j * r + i) * c + k];
          if (v !== 0 && (b * r + i >= rows || indices[j] * c + k >= cols)) {
            fail(code, "data", "zeros outside the matrix", v, ` at ${(j * r + i) * c + k}`);
          }
        }
      }
    }
  }
}
