import type { Memory } from "../memory.js";
import { align16, type InputMap, type Lowered, lower, type Pass } from "./lowered.js";

/**
 * Compressed sparse rows: row r holds `data[i]` at column `indices[i]` for i in indptr[r]..indptr[r + 1], columns ascending
 * (the arrays of SciPy's csr_matrix and PyTorch's sparse_csr_tensor).
 */
export interface CsrMatrix {
  rows: number;
  cols: number;
  indptr: Uint32Array;
  indices: Uint16Array | Uint32Array;
  data: Float32Array;
}

/** The nonzeros of a row-major matrix. −0 counts as zero: masking a negative weight leaves one. */
export function packCsr(dense: Float32Array, rows: number, cols: number): CsrMatrix {
  const indptr = new Uint32Array(rows + 1);
  let nnz = 0;
  for (let r = 0, i = 0; r < rows; r++) {
    for (const end = i + cols; i < end; i++) if (dense[i] !== 0) nnz++;
    indptr[r + 1] = nnz;
  }
  const indices = cols <= 65536 ? new Uint16Array(nnz) : new Uint32Array(nnz);
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
  return { rows, cols, indptr, indices, data };
}

/** Row-major values, zeros included. */
export function unpackCsr({ rows, cols, indptr, indices, data }: CsrMatrix): Float32Array {
  const dense = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let i = indptr[r]; i < indptr[r + 1]; i++) dense[r * cols + indices[i]] = data[i];
  }
  return dense;
}

/** Wᵀ in csr. */
export function transposeCsr({ rows, cols, indptr, indices, data }: CsrMatrix): CsrMatrix {
  const nnz = data.length;
  const at = new Uint32Array(cols + 1);
  for (let i = 0; i < nnz; i++) at[indices[i] + 1]++;
  for (let c = 0; c < cols; c++) at[c + 1] += at[c];
  const turned = rows <= 65536 ? new Uint16Array(nnz) : new Uint32Array(nnz);
  const values = new Float32Array(nnz);
  const next = at.slice(0, cols);
  for (let r = 0; r < rows; r++) {
    for (let i = indptr[r]; i < indptr[r + 1]; i++) {
      const j = next[indices[i]]++;
      turned[j] = r;
      values[j] = data[i];
    }
  }
  return { rows: cols, cols: rows, indptr: at, indices: turned, data: values };
}

export const bytesCsr = (m: CsrMatrix): number => m.indptr.byteLength + m.indices.byteLength + m.data.byteLength;

/** Row numbers by falling count; equal counts keep their order, so that y is still walked mostly forwards. */
function longestFirst(counts: Uint32Array): Uint32Array {
  let most = 0;
  for (const n of counts) if (n > most) most = n;
  const at = new Uint32Array(most + 2);
  for (const n of counts) at[most - n + 1]++;
  for (let i = 0; i <= most; i++) at[i + 1] += at[i];
  const order = new Uint32Array(counts.length);
  for (let r = 0; r < counts.length; r++) order[at[most - counts[r]]++] = r;
  return order;
}

/** For each block of columns the first entry of each row that lies in it: `bounds.length` arrays of row cursors. */
function cut({ rows, indptr, indices }: CsrMatrix, bounds: readonly number[]): Uint32Array[] {
  const cursors = [indptr.slice(0, rows)];
  for (let b = 1; b < bounds.length; b++) {
    const next = cursors[b - 1].slice();
    for (let r = 0; r < rows; r++) while (next[r] < indptr[r + 1] && indices[next[r]] < bounds[b]) next[r]++;
    cursors.push(next);
  }
  return cursors;
}

const RECORD = 8;
const ENTRY = 8;
const PLAN = 16;

/**
 * Entries a row and pass should have on average: with fewer, loading and storing y again costs more than reading x from L2.
 * 512 × 512 × 32 relaxed on Cascade Lake, passes of 512 / 256 / 171 inputs, GF: 23 / 27 / 28 at 80% zeros
 * (102 entries a row in all), 22.6 / 24.4 / 23.5 at 95% (26). 6 and 24 were within 2% of 12 everywhere (Node 24, 2026-11-21).
 */
const ENTRIES_PER_PASS = 12;

/** The streams of assembly/csr/spmm.ts. Throws `ERR_MEMORY` when they do not fit. */
export function lowerCsr(memory: Memory, m: CsrMatrix, map: InputMap): Lowered {
  const taps = map.taps.length;
  const channels = m.cols / taps;
  const passesByL1 = Math.ceil(channels / map.channelsPerBlock);
  const passesByWork = Math.max(1, Math.round(m.data.length / Math.max(1, m.rows) / ENTRIES_PER_PASS));
  const blocks = Math.max(1, Math.min(passesByL1, passesByWork));
  const bounds = Array.from({ length: blocks + 1 }, (_, b) => Math.round((b * channels) / blocks) * taps);
  const cursors = cut(m, bounds);
  const offsets = new Uint32Array(m.cols);
  for (let j = 0; j < m.cols; j++) offsets[j] = map.taps[j % taps] + Math.floor(j / taps) * map.channelStride;
  const rowsPerGroup = m.rows / map.groups;
  const bytes = blocks * (PLAN + align16(m.rows * RECORD) + ENTRY) + m.data.length * ENTRY;
  return lower(memory, bytes, (ptr) => {
    const { u32, f32 } = memory;
    const passes: Pass[] = [];
    const counts = new Uint32Array(m.rows);
    let at = ptr;
    for (let b = 0; b < blocks; b++) {
      const from = cursors[b];
      const to = cursors[b + 1];
      for (let r = 0; r < m.rows; r++) counts[r] = to[r] - from[r];
      const plan = at / 4;
      let record = plan + PLAN / 4;
      let entry = record + align16(m.rows * RECORD) / 4;
      u32[plan] = m.rows;
      u32[plan + 1] = record * 4;
      u32[plan + 2] = entry * 4;
      passes.push({ plan: at, x: 0, row: 0, first: b === 0, last: b === blocks - 1 });
      for (const r of longestFirst(counts)) {
        u32[record++] = r;
        u32[record++] = counts[r];
        const group = map.groupStride * Math.floor(r / rowsPerGroup);
        for (let i = from[r]; i < to[r]; i++) {
          f32[entry++] = m.data[i];
          u32[entry++] = offsets[m.indices[i]] + group;
        }
      }
      at = Math.ceil(entry / 4) * 16;
    }
    return passes;
  });
}

/** Columns that one pass of spmv addresses with 16 bits, the zero behind them included. */
export const SPMV_COLUMNS = 16380;

/** The streams of assembly/csr/spmv.ts; each pass wants its part of x followed by a zero. */
export function lowerCsrVector(memory: Memory, m: CsrMatrix): Lowered {
  const bounds = [0];
  do bounds.push(Math.min(m.cols, (bounds.at(-1) as number) + SPMV_COLUMNS));
  while ((bounds.at(-1) as number) < m.cols);
  const cursors = cut(m, bounds);
  const slices = Math.ceil(m.rows / 4);
  const blocks = bounds.length - 1;
  const counts = new Uint32Array(m.rows);
  const orders: Uint32Array[] = [];
  let steps = 0;
  for (let b = 0; b < blocks; b++) {
    for (let r = 0; r < m.rows; r++) counts[r] = cursors[b + 1][r] - cursors[b][r];
    orders.push(longestFirst(counts));
    for (let s = 0; s < slices; s++) steps += counts[orders[b][s * 4]];
  }
  const bytes = blocks * (PLAN + align16(slices * 24) + 32) + steps * (8 + 16);
  return lower(memory, bytes, (ptr) => {
    const { u32, u16, f32 } = memory;
    const passes: Pass[] = [];
    let at = ptr;
    for (let b = 0; b < blocks; b++) {
      const order = orders[b];
      const length = (r: number) => cursors[b + 1][r] - cursors[b][r];
      let total = 0;
      for (let s = 0; s < slices; s++) total += length(order[s * 4]);
      const records = at + PLAN;
      const offsets = records + align16(slices * 24);
      const values = offsets + align16(total * 8);
      u32.set([slices, records, offsets, values], at / 4);
      passes.push({ plan: at, x: bounds[b] * 4, row: 0, first: b === 0, last: b === blocks - 1 });
      const padding = (bounds[b + 1] - bounds[b]) * 4;
      let record = records / 4;
      let o = offsets / 2;
      let v = values / 4;
      for (let s = 0; s < slices; s++) {
        const lanes = Math.min(4, m.rows - s * 4);
        const n = length(order[s * 4]);
        u32[record++] = n;
        u32[record++] = lanes;
        // A lane without a row repeats the first one's number, so that what is gathered for it exists.
        for (let l = 0; l < 4; l++) u32[record++] = order[s * 4 + (l < lanes ? l : 0)];
        for (let l = 0; l < 4; l++) {
          const r = order[s * 4 + l];
          const from = l < lanes ? cursors[b][r] : 0;
          const own = l < lanes ? length(r) : 0;
          for (let i = 0; i < n; i++) {
            u16[o + i * 4 + l] = i < own ? (m.indices[from + i] - bounds[b]) * 4 : padding;
            f32[v + i * 4 + l] = i < own ? m.data[from + i] : 0;
          }
        }
        o += n * 4;
        v += n * 4;
      }
      at = align16(v * 4);
    }
    return passes;
  });
}
