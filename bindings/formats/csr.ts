import { type BlockMatrix, indexArray } from "./block.js";

/** Compressed sparse rows: blocks of 1 × 1, whose numbers alone are stored. −0 counts as zero: masking a negative weight leaves one. */
export function packCsr(dense: Float32Array, rows: number, cols: number): BlockMatrix {
  const indptr = new Uint32Array(rows + 1);
  let nnz = 0;
  for (let r = 0, i = 0; r < rows; r++) {
    for (const end = i + cols; i < end; i++) if (dense[i] !== 0) nnz++;
    indptr[r + 1] = nnz;
  }
  const indices = indexArray(cols, nnz);
  const data = new Float32Array(nnz);
  for (let r = 0, i = 0, n = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) {
      const v = dense[i];
      if (v !== 0) {
        indices[n] = c;
        data[n++] = v;
      }
    }
  }
  return { rows, cols, r: 1, c: 1, indptr, indices, data };
}
