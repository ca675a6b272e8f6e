import type { Memory } from "../memory.js";
import { type BlockMatrix, transposeBlock } from "./block.js";
import type { DenseMatrix } from "./dense.js";
import { align16, type Lowered, lower, onePass, PLAN } from "./streams.js";

/** A tap of a kernel, and the bytes from where a run's sums start to those of the output that reads the input through it. */
export interface Tap {
  tap: number;
  at: number;
}

/** Some of a run's taps, one behind the other. */
export interface Part {
  run: number;
  from: number;
  to: number;
}

/**
 * Where active inputs add to: what columns of W need to know of a shape. A unit is a row of a batch or an image; columns are
 * [channel][tap], channels those of one group.
 */
export interface Reach {
  taps: number;
  groups: number;
  /** Lists of a unit, and its outputs, those besides the result included. */
  inputs: number;
  outputs: number;
  /** Bytes from output to output of a unit. */
  pitch: number;
  /** Whether y has room for whole vectors of sums; otherwise a unit has one output. */
  inPlace: boolean;
  /** Taps whose columns an input adds in one go. */
  runs: readonly (readonly Tap[])[];
  parts: readonly Part[];
  /** × (list, part, bytes from the start of the unit's sums, modulo 2³²). */
  visits: Uint32Array;
}

/** Bytes from a record's start on that the kernels may read ahead. */
const AHEAD = 208;

/** Bytes of a visit. */
const VISIT = 16;

/**
 * Allocates a plan with its visits and lets `write` fill in the columns behind them; what that returns tells for each part where its
 * columns start, and of dense ones how many bytes they are.
 */
function lowerPlan(
  memory: Memory,
  m: number,
  reach: Reach,
  bytes: number,
  ahead: number,
  write: (ptr: number) => [columns: number, bytes: number][],
): Lowered {
  const { visits, pitch } = reach;
  const count = visits.length / 3;
  const records = PLAN + count * VISIT;
  return lower(memory, records + bytes, (ptr) => {
    const { u32 } = memory;
    const at = ptr + PLAN;
    const size = reach.outputs * pitch;
    u32.set([m, pitch, size, reach.inputs * 4, at, at + count * VISIT, ahead, reach.inPlace ? 1 : 0], ptr / 4);
    const parts = write(ptr + records);
    for (let i = 0, to = at / 4; i < visits.length; i += 3) {
      const [columns, size] = parts[visits[i + 1]];
      u32[to++] = visits[i];
      u32[to++] = columns;
      u32[to++] = visits[i + 2];
      u32[to++] = size;
    }
    return onePass(ptr);
  });
}

/**
 * The streams of assembly/spmspv.ts: a record for each run and channel with what its columns of W add to which sums.
 *
 * @param m blocks of one column
 */
export function lowerColumns(memory: Memory, m: BlockMatrix, reach: Reach): Lowered {
  const { r } = m;
  const { taps, groups, runs, parts } = reach;
  const t = transposeBlock(m);
  const perGroup = m.cols / taps;
  const channels = perGroup * groups;
  const blocksPerGroup = m.indptr.length - 1 > 0 ? Math.ceil(m.rows / groups / r) : 0;
  // Where the entries of a column that lie in the channel's group start and end: they ascend, so they follow each other.
  const rangeOf = (channel: number, tap: number): [number, number] => {
    const column = (channel % perGroup) * taps + tap;
    const group = Math.floor(channel / perGroup);
    let i = t.indptr[column];
    let end = t.indptr[column + 1];
    while (i < end && t.indices[i] < group * blocksPerGroup) i++;
    while (i < end && t.indices[end - 1] >= (group + 1) * blocksPerGroup) end--;
    return [i, end];
  };
  const tables = align16(parts.length * channels * 8);
  const columns = runs.length * channels;
  // A column of numbers starts at 4 bytes, one of blocks at 16; each tap is in one run.
  const [step, bytes] = [r === 1 ? 4 : 16, m.indices.length * (2 + 4 * r)];
  // Short columns have little to bring near, and the reading would be most of the work.
  const ahead = bytes > 128 * columns ? 1 : 0;
  return lowerPlan(memory, m.rows, reach, tables + bytes + columns * step + AHEAD, ahead, (ptr) => {
    const { u32, u16, f32 } = memory;
    let at = ptr + tables;
    const starts = [0];
    const partsOf: number[][] = runs.map(() => []);
    for (const [p, { run }] of parts.entries()) partsOf[run].push(p);
    for (const [index, run] of runs.entries()) {
      for (let c = 0; c < channels; c++) {
        at = Math.ceil(at / step) * step;
        let n = 0;
        for (const [i, { tap, at: offset }] of run.entries()) {
          const [from, to] = rangeOf(c, tap);
          for (let e = from; e < to; e++) u16[at / 2 + n++] = (offset + t.indices[e] * r * 4) / (r === 1 ? 4 : 8);
          starts[i + 1] = n;
        }
        const values = at + Math.ceil((n * 2) / step) * step;
        for (const [i, { tap }] of run.entries()) {
          const [from, to] = rangeOf(c, tap);
          f32.set(t.data.subarray(from * r, to * r), values / 4 + starts[i] * r);
        }
        for (const p of partsOf[index]) {
          const part = parts[p];
          const first = starts[part.from];
          const entry = (ptr + (p * channels + c) * 8) / 4;
          u32[entry] = at + first * 2;
          const distance = values + first * r * 4 - (at + first * 2);
          u32[entry + 1] = (starts[part.to] - first) | ((distance / 2) << 16);
        }
        at = values + n * r * 4;
      }
    }
    return parts.map((_, i) => [ptr + i * channels * 8, 0]);
  });
}

/** The same of dense weights. Taps of a run reach outputs side by side, each one before the last; there are no groups. */
export function lowerDenseColumns(memory: Memory, m: DenseMatrix, reach: Reach): Lowered {
  const { taps, runs, parts, pitch } = reach;
  const channels = m.cols / taps;
  const starts = [0];
  for (const run of runs) starts.push(starts[starts.length - 1] + run.length * pitch);
  const channel = starts[runs.length];
  return lowerPlan(memory, m.rows, reach, channels * channel, channel, (ptr) => {
    const { f32 } = memory;
    f32.fill(0, ptr / 4, (ptr + channels * channel) / 4);
    for (const [index, run] of runs.entries()) {
      for (const { tap, at } of run) {
        for (let c = 0; c < channels; c++) {
          const to = (ptr + c * channel + starts[index] + at) / 4;
          for (let i = 0; i < m.rows; i++) f32[to + i] = m.data[i * m.cols + c * taps + tap];
        }
      }
    }
    return parts.map(({ run, from, to }) => [ptr + starts[run] + runs[run][to - 1].at, (to - from) * pitch]);
  });
}
