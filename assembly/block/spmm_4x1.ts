// Y[m, tile] = W · X for weights in blocks of 4 rows × 1 column, one strip of `tile` columns after another.
//
//   plan     u32 m, u32 records, u32 entries, u32 blocks
//   records  blocks × (u32 block row, u32 count), longest first
//   entries  (4 × f32 value, u32 byte offset of the input row within x), block row by block row in the order of the records
//   x        at each offset `tile` floats; y  rows `yStride` bytes apart; bias  f32 by row
//
// Four rows share each load of x: 8 columns make 8 multiply-adds of 6 vector loads, where csr needs 9. When m is no multiple
// of 4 the rows that the last block lacks are computed into its last one's place, before that is written; up to 12 bytes past the end
// of bias are read for them.
import { Flag, Simd } from "../simd";

class Tile {
  /** V = 1 or 2 vectors wide. */
  @inline static four(
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
        const row = load<u32>(record) << 2;
        const rowEnd = e + load<u32>(record, 4) * 20;
        const left = m - row;
        const o0 = y + <usize>row * yStride;
        let o1 = o0 + yStride;
        let o2 = o1 + yStride;
        let o3 = o2 + yStride;
        // A branch that is nearly never taken, instead of three choices for each block.
        if (left < 4) {
          if (left < 2) o1 = o0;
          if (left < 3) o2 = o1;
          o3 = o2;
        }
        let a0 = zero,
          b0 = zero,
          c0 = zero,
          d0 = zero;
        if (flags & Flag.Bias) {
          const s = bias + (row << 2);
          a0 = v128.load32_splat(s);
          b0 = v128.load32_splat(s, 4);
          c0 = v128.load32_splat(s, 8);
          d0 = v128.load32_splat(s, 12);
        }
        // Of one vector's sums the second set starts from nothing.
        let a1 = V > 1 ? a0 : zero;
        let b1 = V > 1 ? b0 : zero;
        let c1 = V > 1 ? c0 : zero;
        let d1 = V > 1 ? d0 : zero;
        if (flags & Flag.Accumulate) {
          a0 = f32x4.add(a0, v128.load(o0));
          b0 = f32x4.add(b0, v128.load(o1));
          c0 = f32x4.add(c0, v128.load(o2));
          d0 = f32x4.add(d0, v128.load(o3));
          if (V > 1) {
            a1 = f32x4.add(a1, v128.load(o0, 16));
            b1 = f32x4.add(b1, v128.load(o1, 16));
            c1 = f32x4.add(c1, v128.load(o2, 16));
            d1 = f32x4.add(d1, v128.load(o3, 16));
          }
        }
        // Four sums would wait for the latency of an addition: entries take turns in two sets of them. Of an entry's four values
        // two come by one load, as loads are what one vector of x waits for; all four would keep the unit that moves lanes busy.
        if (V == 1) {
          for (; e + 40 <= rowEnd; e += 40) {
            const x0 = v128.load(x + load<u32>(e, 16));
            const w = v128.load(e);
            a0 = Simd.madd(x0, Simd.lane(w, 0), a0);
            b0 = Simd.madd(x0, Simd.lane(w, 1), b0);
            c0 = Simd.madd(x0, v128.load32_splat(e, 8), c0);
            d0 = Simd.madd(x0, v128.load32_splat(e, 12), d0);
            const x1 = v128.load(x + load<u32>(e, 36));
            const v = v128.load(e, 20);
            a1 = Simd.madd(x1, Simd.lane(v, 0), a1);
            b1 = Simd.madd(x1, Simd.lane(v, 1), b1);
            c1 = Simd.madd(x1, v128.load32_splat(e, 28), c1);
            d1 = Simd.madd(x1, v128.load32_splat(e, 32), d1);
          }
          a0 = f32x4.add(a0, a1);
          b0 = f32x4.add(b0, b1);
          c0 = f32x4.add(c0, c1);
          d0 = f32x4.add(d0, d1);
        }
        for (; e < rowEnd; e += 20) {
          const p = x + load<u32>(e, 16);
          const x0 = v128.load(p);
          const x1 = V > 1 ? v128.load(p, 16) : x0;
          let w = v128.load32_splat(e);
          a0 = Simd.madd(x0, w, a0);
          if (V > 1) a1 = Simd.madd(x1, w, a1);
          w = v128.load32_splat(e, 4);
          b0 = Simd.madd(x0, w, b0);
          if (V > 1) b1 = Simd.madd(x1, w, b1);
          w = v128.load32_splat(e, 8);
          c0 = Simd.madd(x0, w, c0);
          if (V > 1) c1 = Simd.madd(x1, w, c1);
          w = v128.load32_splat(e, 12);
          d0 = Simd.madd(x0, w, d0);
          if (V > 1) d1 = Simd.madd(x1, w, d1);
        }
        if (flags & Flag.Clamp) {
          const l = f32x4.splat(lo),
            h = f32x4.splat(hi);
          a0 = Simd.clamp(a0, l, h);
          b0 = Simd.clamp(b0, l, h);
          c0 = Simd.clamp(c0, l, h);
          d0 = Simd.clamp(d0, l, h);
          if (V > 1) {
            a1 = Simd.clamp(a1, l, h);
            b1 = Simd.clamp(b1, l, h);
            c1 = Simd.clamp(c1, l, h);
            d1 = Simd.clamp(d1, l, h);
          }
        }
        v128.store(o3, d0);
        if (V > 1) v128.store(o3, d1, 16);
        v128.store(o2, c0);
        if (V > 1) v128.store(o2, c1, 16);
        v128.store(o1, b0);
        if (V > 1) v128.store(o1, b1, 16);
        v128.store(o0, a0);
        if (V > 1) v128.store(o0, a1, 16);
      }
      x += V << 4;
      y += V << 4;
    }
  }
}

export function f32_block_spmm_4x1_8(
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
  Tile.four(2, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_block_spmm_4x1_4(
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
  Tile.four(1, plan, strips, x, y, yStride, bias, flags, lo, hi);
}
