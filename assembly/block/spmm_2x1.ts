// As spmm_4x1.ts, for blocks of 2 rows × 1 column: 16 columns make 8 multiply-adds of 6 vector loads.
//
//   plan     u32 m, u32 records, u32 entries, u32 blocks
//   records  blocks × (u32 block row, u32 count), longest first
//   entries  (2 × f32 value, u32 byte offset of the input row within x), block row by block row in the order of the records
//   x        at each offset `tile` floats; y  rows `yStride` bytes apart; bias  f32 by row
//
// 4 bytes past the end of bias are read when m is odd.
import { Flag, Simd } from "../simd";

class Tile {
  /** V = 1, 2 or 4 vectors wide; below 4, entries take turns in two sets of sums, or the chain of additions would be the limit. */
  @inline static two(
    V: i32,
    plan: usize,
    strips: i32,
    x: usize,
    y: usize,
    yStride: usize,
    bias: usize,
    flags: i32,
    lo: f32,
    hi: f32,
  ): void {
    const m = load<u32>(plan);
    const records = load<u32>(plan, 4);
    const entries = load<u32>(plan, 8);
    const end = records + (load<u32>(plan, 12) << 3);
    const zero = f32x4.splat(0);
    for (; strips > 0; --strips) {
      let e: usize = entries;
      for (let record: usize = records; record < end; record += 8) {
        const row = load<u32>(record) << 1;
        const n = load<u32>(record, 4);
        const rowEnd = e + n * 12;
        const o0 = y + <usize>row * yStride;
        const o1 = m - row > 1 ? o0 + yStride : o0;
        let a0 = zero,
          b0 = zero;
        if (flags & Flag.Bias) {
          a0 = v128.load32_splat(bias + (row << 2));
          b0 = v128.load32_splat(bias + (row << 2), 4);
        }
        // Of one vector's sums the second set starts from nothing.
        let a1 = V > 1 ? a0 : zero,
          a2 = V > 1 ? a0 : zero,
          a3 = V > 1 ? a0 : zero;
        let b1 = V > 1 ? b0 : zero,
          b2 = V > 1 ? b0 : zero,
          b3 = V > 1 ? b0 : zero;
        if (flags & Flag.Accumulate) {
          a0 = f32x4.add(a0, v128.load(o0));
          b0 = f32x4.add(b0, v128.load(o1));
          if (V > 1) {
            a1 = f32x4.add(a1, v128.load(o0, 16));
            b1 = f32x4.add(b1, v128.load(o1, 16));
            a2 = f32x4.add(a2, v128.load(o0, 32));
            b2 = f32x4.add(b2, v128.load(o1, 32));
            a3 = f32x4.add(a3, v128.load(o0, 48));
            b3 = f32x4.add(b3, v128.load(o1, 48));
          }
        }
        // Two sums would wait for the latency of an addition: entries take turns in two sets of them.
        if (V == 1) {
          for (const pairs = e + (n >> 1) * 24; e < pairs; e += 24) {
            const x0 = v128.load(x + load<u32>(e, 8));
            a0 = Simd.madd(x0, v128.load32_splat(e), a0);
            b0 = Simd.madd(x0, v128.load32_splat(e, 4), b0);
            const x1 = v128.load(x + load<u32>(e, 20));
            a1 = Simd.madd(x1, v128.load32_splat(e, 12), a1);
            b1 = Simd.madd(x1, v128.load32_splat(e, 16), b1);
          }
          a0 = f32x4.add(a0, a1);
          b0 = f32x4.add(b0, b1);
        }
        for (; e < rowEnd; e += 12) {
          const p = x + load<u32>(e, 8);
          const x0 = v128.load(p);
          const x1 = V > 1 ? v128.load(p, 16) : x0;
          const x2 = V > 1 ? v128.load(p, 32) : x0;
          const x3 = V > 1 ? v128.load(p, 48) : x0;
          let w = v128.load32_splat(e);
          a0 = Simd.madd(x0, w, a0);
          if (V > 1) a1 = Simd.madd(x1, w, a1);
          if (V > 1) a2 = Simd.madd(x2, w, a2);
          if (V > 1) a3 = Simd.madd(x3, w, a3);
          w = v128.load32_splat(e, 4);
          b0 = Simd.madd(x0, w, b0);
          if (V > 1) b1 = Simd.madd(x1, w, b1);
          if (V > 1) b2 = Simd.madd(x2, w, b2);
          if (V > 1) b3 = Simd.madd(x3, w, b3);
        }
        if (flags & Flag.Clamp) {
          const l = f32x4.splat(lo),
            h = f32x4.splat(hi);
          a0 = Simd.clamp(a0, l, h);
          b0 = Simd.clamp(b0, l, h);
          if (V > 1) {
            a1 = Simd.clamp(a1, l, h);
            b1 = Simd.clamp(b1, l, h);
            a2 = Simd.clamp(a2, l, h);
            a3 = Simd.clamp(a3, l, h);
            b2 = Simd.clamp(b2, l, h);
            b3 = Simd.clamp(b3, l, h);
          }
        }
        // The row that an odd m lacks is written into the last one's place, before that is.
        v128.store(o1, b0);
        if (V > 1) v128.store(o1, b1, 16);
        if (V > 1) v128.store(o1, b2, 32);
        if (V > 1) v128.store(o1, b3, 48);
        v128.store(o0, a0);
        if (V > 1) v128.store(o0, a1, 16);
        if (V > 1) v128.store(o0, a2, 32);
        if (V > 1) v128.store(o0, a3, 48);
      }
      x += V << 4;
      y += V << 4;
    }
  }
}

export function f32_block_spmm_2x1_16(
  plan: usize,
  strips: i32,
  x: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  Tile.two(4, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_block_spmm_2x1_4(
  plan: usize,
  strips: i32,
  x: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  Tile.two(1, plan, strips, x, y, yStride, bias, flags, lo, hi);
}
