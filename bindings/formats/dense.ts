import type { Memory } from "../memory.js";
import { align16, type InputMap, type Lowered, lower, type Pass } from "./streams.js";

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

const PLAN = 32;

/** The streams of assembly/dense/gemm.ts. `blockRows` is what the build's dense_gemm_rows() says. */
export function lowerDense(memory: Memory, m: DenseMatrix, map: InputMap, blockRows: number): Lowered {
  const taps = map.taps.length;
  const channels = m.cols / taps;
  const rows = m.rows / map.groups;
  const group = align16((rows + 1) * m.cols * 4);
  const bytes = align16(taps * 4) + map.groups * (PLAN + group);
  return lower(memory, bytes, (ptr) => {
    const { u32, f32 } = memory;
    u32.set(map.taps, ptr / 4);
    const passes: Pass[] = [];
    let at = ptr + align16(taps * 4);
    for (let g = 0; g < map.groups; g++) {
      u32.set([rows, at + PLAN, ptr, taps, channels, map.channelStride], at / 4);
      passes.push({ plan: at, x: g * map.groupStride, row: g * rows, first: true, last: true });
      let w = (at + PLAN) / 4;
      for (let r = 0; r < rows; ) {
        const left = rows - r;
        const high = left >= blockRows ? blockRows : 2;
        if (left === 1) f32.fill(0, w, w + 2 * m.cols);
        for (let i = 0; i < Math.min(high, left); i++) {
          const row = (g * rows + r + i) * m.cols;
          for (let t = 0, o = w + i; t < taps; t++) {
            for (let c = 0; c < channels; c++, o += high) f32[o] = m.data[row + c * taps + t];
          }
        }
        w += high * m.cols;
        r += high;
      }
      at += PLAN + group;
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
    return [{ plan: ptr, x: 0, row: 0, first: true, last: true }];
  });
}
