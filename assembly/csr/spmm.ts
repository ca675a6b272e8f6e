// Y[m, tile] = W · X for csr weights, one strip of `tile` columns after another.
//
//   plan     u32 m, u32 records, u32 entries
//   records  m × (u32 row, u32 count), longest row first: equal counts follow each other, so the loop's end is predicted
//   entries  (f32 value, u32 byte offset of the input row within x), row by row in the order of the records
//   x        at each offset `tile` floats; y  rows `yStride` bytes apart; bias  f32 by row
//
// Tiles of 24 to 32 columns; spmm_narrow.ts has the others. Reads nothing past the tile, writes every element of it, also
// for rows without entries.
import { Flag, Simd } from "../simd";

class Tile {
  /** V = 6, 7 or 8 vectors wide: as many accumulators as the latency of an addition needs. */
  @inline static wide(
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
    const end = records + (m << 3);
    const zero = f32x4.splat(0);
    for (; strips > 0; --strips) {
      let e: usize = entries;
      for (let record: usize = records; record < end; record += 8) {
        const row: usize = load<u32>(record);
        const n = load<u32>(record, 4);
        const rowEnd = e + (n << 3);
        const out = y + row * yStride;
        const b = flags & Flag.Bias ? v128.load32_splat(bias + (row << 2)) : zero;
        let a0 = b,
          a1 = b,
          a2 = b,
          a3 = b,
          a4 = b,
          a5 = b,
          a6 = b,
          a7 = b;
        if (flags & Flag.Accumulate) {
          a0 = v128.load(out);
          a1 = v128.load(out, 16);
          a2 = v128.load(out, 32);
          a3 = v128.load(out, 48);
          a4 = v128.load(out, 64);
          a5 = v128.load(out, 80);
          if (V > 6) a6 = v128.load(out, 96);
          if (V > 7) a7 = v128.load(out, 112);
          // Most passes add to what others left and have no bias: eight additions less in rows of some 16 entries.
          if (flags & Flag.Bias) {
            a0 = f32x4.add(a0, b);
            a1 = f32x4.add(a1, b);
            a2 = f32x4.add(a2, b);
            a3 = f32x4.add(a3, b);
            a4 = f32x4.add(a4, b);
            a5 = f32x4.add(a5, b);
            if (V > 6) a6 = f32x4.add(a6, b);
            if (V > 7) a7 = f32x4.add(a7, b);
          }
        }
        // Two entries a turn save a fifth of the loop's bookkeeping, which the front end of a 4-wide core feels once
        // multiply and add are one instruction. In the other build they save nothing.
        if (ASC_FEATURE_RELAXED_SIMD) {
          for (const pairs = e + ((n >> 1) << 4); e < pairs; e += 16) {
            const w = v128.load32_splat(e);
            const v = v128.load32_splat(e, 8);
            const p = x + load<u32>(e, 4);
            const q = x + load<u32>(e, 12);
            a0 = Simd.madd(v128.load(q), v, Simd.madd(v128.load(p), w, a0));
            a1 = Simd.madd(v128.load(q, 16), v, Simd.madd(v128.load(p, 16), w, a1));
            a2 = Simd.madd(v128.load(q, 32), v, Simd.madd(v128.load(p, 32), w, a2));
            a3 = Simd.madd(v128.load(q, 48), v, Simd.madd(v128.load(p, 48), w, a3));
            a4 = Simd.madd(v128.load(q, 64), v, Simd.madd(v128.load(p, 64), w, a4));
            a5 = Simd.madd(v128.load(q, 80), v, Simd.madd(v128.load(p, 80), w, a5));
            if (V > 6) a6 = Simd.madd(v128.load(q, 96), v, Simd.madd(v128.load(p, 96), w, a6));
            if (V > 7) a7 = Simd.madd(v128.load(q, 112), v, Simd.madd(v128.load(p, 112), w, a7));
          }
        }
        for (; e < rowEnd; e += 8) {
          const w = v128.load32_splat(e);
          const p = x + load<u32>(e, 4);
          a0 = Simd.madd(v128.load(p), w, a0);
          a1 = Simd.madd(v128.load(p, 16), w, a1);
          a2 = Simd.madd(v128.load(p, 32), w, a2);
          a3 = Simd.madd(v128.load(p, 48), w, a3);
          if (Simd.split(p)) break;
          a4 = Simd.madd(v128.load(p, 64), w, a4);
          a5 = Simd.madd(v128.load(p, 80), w, a5);
          if (V > 6) a6 = Simd.madd(v128.load(p, 96), w, a6);
          if (V > 7) a7 = Simd.madd(v128.load(p, 112), w, a7);
        }
        if (flags & Flag.Clamp) {
          const l = f32x4.splat(lo),
            h = f32x4.splat(hi);
          a0 = Simd.clamp(a0, l, h);
          a1 = Simd.clamp(a1, l, h);
          a2 = Simd.clamp(a2, l, h);
          a3 = Simd.clamp(a3, l, h);
          a4 = Simd.clamp(a4, l, h);
          a5 = Simd.clamp(a5, l, h);
          if (V > 6) a6 = Simd.clamp(a6, l, h);
          if (V > 7) a7 = Simd.clamp(a7, l, h);
        }
        v128.store(out, a0);
        v128.store(out, a1, 16);
        v128.store(out, a2, 32);
        v128.store(out, a3, 48);
        v128.store(out, a4, 64);
        v128.store(out, a5, 80);
        if (V > 6) v128.store(out, a6, 96);
        if (V > 7) v128.store(out, a7, 112);
      }
      x += V << 4;
      y += V << 4;
    }
  }
}

export function f32_csr_spmm_32(
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
  Tile.wide(8, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_csr_spmm_28(
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
  Tile.wide(7, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_csr_spmm_24(
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
  Tile.wide(6, plan, strips, x, y, yStride, bias, flags, lo, hi);
}
