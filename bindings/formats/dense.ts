import type { Memory } from "../memory.js";
import { align16, type InputMap, type Lowered, lower, onePass, type Pass, PLAN } from "./streams.js";

/** A row-major matrix, zeros included. */
export interface DenseMatrix {
  rows: number;
  cols: number;
  data: Float32Array;
}

export function transposeDense({ rows, cols, data }: DenseMatrix): DenseMatrix {
  const turned = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) turned[c * rows + r] = data[r * cols + c];
  return { rows: cols, cols: rows, data: turned };
}

/**
 * Orders taps so that one whose channels lie behind another's follows it, and tells how many follow each other: the kernel takes such a
 * run in one loop. Taps of different phases of a stride do (3 channels, 3 × 3 with stride 2: runs of 12, 3, 3, 6 and 3 inputs).
 */
function runsOf(taps: readonly number[], bytes: number): { order: number[]; lengths: number[] } {
  const at = new Map(taps.map((offset, t) => [offset, t]));
  // Taps in one place, or of channels in one place, follow nothing.
  const apart = bytes > 0 && at.size === taps.length;
  const beside = (offset: number) => (apart ? at.get(offset) : undefined);
  const order: number[] = [];
  const lengths: number[] = [];
  for (const [first, offset] of taps.entries()) {
    if (beside(offset - bytes) !== undefined) continue;
    const before = order.length;
    for (let t: number | undefined = first; t !== undefined; t = beside(taps[t] + bytes)) order.push(t);
    lengths.push(order.length - before);
  }
  return { order, lengths };
}

/**
 * Inputs of a pass, about, so that a strip of x and a block of W share L1. Against one pass for all, in panels of 32 columns: 64 rows of
 * 512 to 1024 inputs 0.92 to 1.29 times as fast, of 2048 to 4096 1.03 to 1.76, 8 rows of 1024 1.13 to 1.37, 4 rows 1.14 to 1.22; 3x3
 * convolutions 0.95 to 1.1 (Zen 4, L1 32 KiB, Node 20 and 24, 2026-11-21).
 */
const INPUTS_PER_PASS = 384;

/** The streams of assembly/dense/gemm.ts. `blockRows` is what the build's dense_gemm_rows() says. */
export function lowerDense(memory: Memory, m: DenseMatrix, map: InputMap, blockRows: number): Lowered {
  const taps = map.taps.length;
  const channels = m.cols / taps;
  const rows = m.rows / map.groups;
  const blocks = Math.max(1, Math.min(channels, Math.round(m.cols / INPUTS_PER_PASS)));
  // A block's channels of one tap are never followed by another tap's.
  const { order, lengths } = runsOf(map.taps, blocks > 1 ? 0 : channels * map.channelStride);
  const bounds = Array.from({ length: blocks + 1 }, (_, b) => Math.round((b * channels) / blocks));
  const head = PLAN + align16(lengths.length * 8);
  const bytes = map.groups * (blocks * (head + 16) + (rows + 1) * m.cols * 4);
  return lower(memory, bytes, (ptr) => {
    const { u32, f32 } = memory;
    const passes: Pass[] = [];
    let at = ptr;
    for (let g = 0; g < map.groups; g++) {
      for (let b = 0; b < blocks; b++) {
        const [from, to] = [bounds[b], bounds[b + 1]];
        const k = (to - from) * taps;
        u32.set([rows, at + head, at + PLAN, lengths.length, k, map.channelStride], at / 4);
        let run = (at + PLAN) / 4;
        let t = 0;
        for (const length of lengths) {
          u32[run++] = map.taps[order[t]];
          u32[run++] = length * (to - from);
          t += length;
        }
        const x = g * map.groupStride + from * map.channelStride;
        passes.push({ plan: at, x, row: g * rows, first: b === 0, last: b === blocks - 1 });
        let w = (at + head) / 4;
        for (let r = 0; r < rows; ) {
          const left = rows - r;
          const high = left >= blockRows ? blockRows : 2;
          if (left === 1) f32.fill(0, w, w + 2 * k);
          for (let i = 0; i < Math.min(high, left); i++) {
            const row = (g * rows + r + i) * m.cols;
            let o = w + i;
            for (const tap of order) {
              for (let c = from; c < to; c++, o += high) f32[o] = m.data[row + c * taps + tap];
            }
          }
          w += high * k;
          r += high;
        }
        at = Math.ceil(w / 4) * 16;
      }
    }
    return passes;
  });
}

/** The stream of assembly/dense/gemv.ts. */
export function lowerDenseVector(memory: Memory, m: DenseMatrix): Lowered {
  const blocks = Math.ceil(m.rows / 16);
  return lower(memory, 16 + blocks * m.cols * 64, (ptr) => {
    const { u32, f32 } = memory;
    u32.set([m.rows, ptr + 16, m.cols], ptr / 4);
    f32.fill(0, ptr / 4 + 4, ptr / 4 + 4 + blocks * m.cols * 16);
    for (let r = 0; r < m.rows; r++) {
      const to = ptr / 4 + 4 + (r >> 4) * m.cols * 16 + (r & 15);
      for (let c = 0; c < m.cols; c++) f32[to + c * 16] = m.data[r * m.cols + c];
    }
    return onePass(ptr);
  });
}

/** Kernel offsets and the weights of each channel in turn, as the depthwise kernels take them. */
export const lowerDepthwise = (memory: Memory, { data }: DenseMatrix, taps: readonly number[]): Lowered =>
  lower(memory, (taps.length + data.length) * 4, (ptr) => {
    memory.u32.set(taps, ptr / 4);
    memory.f32.set(data, ptr / 4 + taps.length);
    return onePass(ptr);
  });
