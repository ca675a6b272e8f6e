import { bitsOf, countNonzeros } from "./bits.js";
import { type BlockMatrix, indexArray } from "./block.js";

/** Compressed sparse rows: blocks of 1 × 1, whose numbers alone are stored. −0 counts as zero: masking a negative weight leaves one. */
export function packCsr(dense: Float32Array, rows: number, cols: number): BlockMatrix {
  const from = bitsOf(dense);
  const indptr = new Uint32Array(rows + 1);
  for (let r = 0; r < rows; r++) indptr[r + 1] = indptr[r] + countNonzeros(from, r * cols, (r + 1) * cols);
  const indices = indexArray(cols, indptr[rows]);
  const data = new Float32Array(indptr[rows]);
  const to = bitsOf(data);
  for (let r = 0, i = 0, n = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) {
      const v = from[i];
      if (v << 1 !== 0) {
        indices[n] = c;
        to[n++] = v;
      }
    }
  }
  return { rows, cols, r: 1, c: 1, indptr, indices, data };
}
