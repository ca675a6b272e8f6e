import { type Memory, VECTOR_BYTES } from "../memory.js";
import type { BlockMatrix } from "./block.js";
import { type NmMatrix, placesNm, readPositionsNm } from "./nm.js";

/**
 * Which columns of W read which inputs: what a plan knows about a shape and a format needs for its streams. Column j of a
 * row in group g reads `taps[j % taps.length]` + (j / taps.length) · channelStride + g · groupStride bytes into x, that is,
 * columns are laid out [channel][tap] as in PyTorch and ONNX. A plain matrix has the one tap 0.
 */
export interface InputMap {
  taps: readonly number[];
  channelStride: number;
  groups: number;
  groupStride: number;
  /** Of sparse weights: at most so many channels in one pass, so that what a pass reads of x stays in L1. */
  channelsPerBlock: number;
  /** Of sparse weights: at most so many rows in one pass, but a block at least, so that what a pass writes of y lies together. */
  rowsPerPass: number;
}

/** One pass of a product kernel: a plan in engine memory, and where it starts. */
export interface Pass {
  plan: number;
  /** Byte offset within x. */
  x: number;
  /** First row of y that it writes. */
  row: number;
  /** Whether it is the first and the last to write its rows; the last applies the activation. */
  first: boolean;
  last: boolean;
}

/** A weight's streams for one input map, as kernels read them. */
export interface Lowered {
  ptr: number;
  passes: Pass[];
}

/** The passes of a plan that one call runs whole. */
export const onePass = (plan: number): Pass[] => [{ plan, x: 0, row: 0, first: true, last: true }];

/** Allocates `bytes` and lets `write` fill them. */
export function lower(memory: Memory, bytes: number, write: (ptr: number) => Pass[]): Lowered {
  const ptr = memory.alloc(bytes);
  return { ptr, passes: write(ptr) };
}

/** Next multiple of 16 bytes: where a stream of vectors may start. */
export const align16 = (n: number): number => Math.ceil(n / 16) * 16; // no bit operations: addresses reach 4 GiB

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

/** For each range of block columns the first block of each block row that lies in it: `bounds.length` arrays of cursors. */
function cut({ indptr, indices }: BlockMatrix, bounds: readonly number[]): Uint32Array[] {
  const rows = indptr.length - 1;
  const cursors = [indptr.slice(0, rows)];
  for (let b = 1; b < bounds.length; b++) {
    const next = cursors[b - 1].slice();
    for (let r = 0; r < rows; r++) while (next[r] < indptr[r + 1] && indices[next[r]] < bounds[b]) next[r]++;
    cursors.push(next);
  }
  return cursors;
}

const RECORD = 8;
/** Bytes of a plan, before what it points to. */
export const PLAN = 32;

/**
 * Entries a row and pass should have on average: with fewer, loading and storing y again costs more than reading x from L2.
 * 512 × 512 × 32 relaxed on Cascade Lake, passes of 512 / 256 / 171 inputs, GF: 23 / 27 / 28 at 80% zeros
 * (102 entries a row in all), 22.6 / 24.4 / 23.5 at 95% (26). 1x1 convolutions on Zen 4, 32 to 1024 channels, 80 to 95% zeros: 16 is
 * 0.98 to 1.08 times as fast as 12, 18 0.93 to 1.09, 26 0.95 to 1.08, 6 0.88 to 1.01 (Node 20 and 24, 2026-11-21).
 */
const ENTRIES_PER_PASS = 16;

/**
 * Passes that W's columns are cut into: as many as keep x in L1, unless rows would have too few entries in each. Rows of a block
 * share what they load, so that x may come from further away: 4x1, 1024 × 1024, 90% zeros, passes of 192 / 384 / 1024 / all
 * inputs: 43.8 / 47.2 / 51.3 / 51.3 GF; 768 × 3072: 43.2 / 45.8 / 47.9 / 44.1 (Zen 4, L1 32 KiB, 2026-11-21).
 *
 * @param r rows of a block
 */
export function passesOf(r: number, entriesPerRow: number, channels: number, channelsPerBlock: number): number {
  const byWork = Math.max(1, Math.round(entriesPerRow / ENTRIES_PER_PASS));
  return Math.max(1, Math.min(Math.ceil(channels / (channelsPerBlock * r)), byWork));
}

/** The streams of assembly/csr/spmm.ts and assembly/block/spmm_*.ts, for blocks of one column. Throws `ERR_MEMORY`. */
export function lowerBlocks(memory: Memory, m: BlockMatrix, map: InputMap): Lowered {
  const { r } = m;
  const taps = map.taps.length;
  const channels = m.cols / taps;
  const rows = m.indptr.length - 1;
  const stored = m.indices.length;
  const blocks = passesOf(r, stored / Math.max(1, rows), channels, map.channelsPerBlock);
  const bounds = Array.from({ length: blocks + 1 }, (_, b) => Math.round((b * channels) / blocks) * taps);
  const cursors = cut(m, bounds);
  const offsets = new Uint32Array(m.cols);
  for (let j = 0; j < m.cols; j++) offsets[j] = map.taps[j % taps] + Math.floor(j / taps) * map.channelStride;
  const rowsPerGroup = m.rows / map.groups;
  const parts = Math.max(1, Math.ceil((rows * r) / map.rowsPerPass));
  const step = Math.max(1, Math.ceil(rows / parts));
  const bytes = blocks * (Math.ceil(rows / step) * (PLAN + 32) + rows * RECORD) + stored * (r + 1) * 4;
  return lower(memory, bytes, (ptr) => {
    const { u32, f32 } = memory;
    const passes: Pass[] = [];
    let at = ptr;
    for (let first = 0; first < rows; first += step) {
      const n = Math.min(step, rows - first);
      const counts = new Uint32Array(n);
      for (let b = 0; b < blocks; b++) {
        const from = cursors[b].subarray(first, first + n);
        const to = cursors[b + 1].subarray(first, first + n);
        for (let i = 0; i < n; i++) counts[i] = to[i] - from[i];
        let record = (at + PLAN) / 4;
        let entry = record + align16(n * RECORD) / 4;
        u32.set([Math.min(m.rows - first * r, n * r), record * 4, entry * 4, n], at / 4);
        passes.push({ plan: at, x: 0, row: first * r, first: b === 0, last: b === blocks - 1 });
        for (const i of longestFirst(counts)) {
          u32[record++] = i;
          u32[record++] = counts[i];
          const group = map.groupStride * Math.floor(((first + i) * r) / rowsPerGroup);
          for (let j = from[i]; j < to[i]; j++) {
            for (let k = j * r; k < (j + 1) * r; k++) f32[entry++] = m.data[k];
            u32[entry++] = offsets[m.indices[j]] + group;
          }
        }
        at = Math.ceil(entry / 4) * 16;
      }
    }
    return passes;
  });
}

/** Columns of a pass of a vector kernel: what fits the 16 KiB where it keeps x (assembly/vector.ts), four zeros behind it included. */
export const VECTOR_COLUMNS = VECTOR_BYTES / 4 - 4;

/** Block rows that a vector kernel works on at once, so that four sums fill a vector or a turn. */
const unitsOf = ({ r }: BlockMatrix): number => (r === 1 ? 4 : r === 2 ? 2 : 1);

/**
 * The streams of assembly/csr/spmv.ts and assembly/block/spmv.ts: slices of block rows of similar length ("sliced ELLPACK").
 */
export function lowerSlices(memory: Memory, m: BlockMatrix): Lowered {
  const { r, c } = m;
  const units = unitsOf(m);
  const rows = m.indptr.length - 1;
  const size = r * c;
  const blocks = Math.max(1, Math.ceil(m.cols / VECTOR_COLUMNS));
  const bounds = Array.from({ length: blocks + 1 }, (_, b) => Math.min(m.cols, b * VECTOR_COLUMNS));
  const cursors = cut(
    m,
    bounds.map((column) => Math.ceil(column / c)),
  );
  const slices = Math.ceil(rows / units);
  const record = 8 + units * 4;
  const counts = new Uint32Array(rows);
  const orders: Uint32Array[] = [];
  const steps = new Uint32Array(blocks);
  for (let b = 0; b < blocks; b++) {
    for (let i = 0; i < rows; i++) counts[i] = cursors[b + 1][i] - cursors[b][i];
    orders.push(longestFirst(counts));
    for (let s = 0; s < slices; s++) steps[b] += counts[orders[b][s * units]];
  }
  const bytesOf = (n: number) =>
    PLAN + align16(slices * record) + align16(n * units * 2) + align16(n * units * size * 4);
  const bytes = steps.reduce((sum, n) => sum + bytesOf(n), 0);
  return lower(memory, bytes, (ptr) => {
    const { u32, u16, f32 } = memory;
    const passes: Pass[] = [];
    let at = ptr;
    for (let b = 0; b < blocks; b++) {
      const order = orders[b];
      const [from, to] = [cursors[b], cursors[b + 1]];
      const records = at + PLAN;
      const offsets = records + align16(slices * record);
      const values = offsets + align16(steps[b] * units * 2);
      u32.set([slices, records, offsets, values, m.rows, bounds[b + 1] - bounds[b]], at / 4);
      passes.push({ plan: at, x: bounds[b] * 4, row: 0, first: b === 0, last: b === blocks - 1 });
      let w = records / 4;
      let o = offsets / 2;
      let v = values / 4;
      // Where a lane has fewer entries than its slice: zeros, times what lies behind x.
      u16.fill((bounds[b + 1] - bounds[b]) * 4, o, o + steps[b] * units);
      f32.fill(0, v, v + steps[b] * units * size);
      for (let s = 0; s < slices; s++) {
        const lanes = Math.min(units, rows - s * units);
        const n = to[order[s * units]] - from[order[s * units]];
        u32[w++] = n;
        u32[w++] = lanes;
        // A lane without a row repeats the first one's number, so that what is gathered for it exists.
        for (let l = 0; l < units; l++) u32[w++] = order[s * units + (l < lanes ? l : 0)];
        for (let l = 0; l < lanes; l++) {
          const i = order[s * units + l];
          for (let j = from[i], step = l; j < to[i]; j++, step += units) {
            u16[o + step] = (m.indices[j] * c - bounds[b]) * 4;
            const place = v + step * size;
            for (let k = 0; k < size; k++) f32[place + k] = m.data[j * size + k];
          }
        }
        o += n * units;
        v += n * units * size;
      }
      at += bytesOf(steps[b]);
    }
    return passes;
  });
}

/**
 * The stream of assembly/nm/spmv.ts: M of 4 at most, four rows in the lanes, eight at once. A cut group that stores fewer than n
 * is a pass of its own: zeros in the places that it lacks would make NaN of an infinite input.
 */
export function lowerNmVector(memory: Memory, w: NmMatrix): Lowered {
  const { rows, cols, n, m } = w;
  const slices = Math.ceil(rows / 8);
  const perRow = placesNm(cols, n, m);
  const positions = readPositionsNm(w);
  const cut = cols % m;
  const groups = cut < n ? Math.floor(cols / m) : Math.ceil(cols / m);
  const parts = [{ groups, n, place: 0, x: 0 }];
  if (cut > 0 && cut < n) parts.push({ groups: 1, n: cut, place: groups * n, x: groups * m * 4 });
  const TABLE = 256 * 16;
  const vectorsOf = (part: (typeof parts)[number]) => slices * part.groups * part.n * 2;
  const bytes = parts.reduce((sum, part) => sum + PLAN + align16(vectorsOf(part) * 2) + vectorsOf(part) * 16, TABLE);
  return lower(memory, bytes, (ptr) => {
    const { u32, u16, f32 } = memory;
    // A word numbers the four bytes of one input.
    for (let i = 0; i < 1024; i++) u32[ptr / 4 + i] = 0x03020100 + (((i >> 2) >> (2 * (i & 3))) & 3) * 0x04040404;
    const passes: Pass[] = [];
    let at = ptr + TABLE;
    for (const part of parts) {
      const vectors = vectorsOf(part);
      const ids = at + PLAN;
      const values = ids + align16(vectors * 2);
      u32.set([rows, part.n, part.groups, m * 4, ptr, ids, values], at / 4);
      u16.fill(0, ids / 2, values / 2);
      f32.fill(0, values / 4, values / 4 + vectors * 4);
      const places = part.groups * part.n;
      for (let r = 0; r < rows; r++) {
        const lane = r & 3;
        const first = (r >> 3) * places * 2 + ((r >> 2) & 1);
        const from = r * perRow + part.place;
        for (let i = 0; i < places; i++) {
          u16[ids / 2 + first + i * 2] |= positions[from + i] << (2 * lane + 4);
          f32[values / 4 + (first + i * 2) * 4 + lane] = w.data[from + i];
        }
      }
      passes.push({ plan: at, x: part.x, row: 0, first: part === parts[0], last: part === parts.at(-1) });
      at = values + vectors * 16;
    }
    return passes;
  });
}
