// As spmm.ts, on the same plan, for tiles of 4, 8 and 16 columns: too few accumulators to hide the latency of an addition, so
// several entries at once go to sums of their own.
import { Flag, Simd } from "../simd";

class Tile {
  /**
   * Two entries as one vector, which narrow tiles take both values from: a load less, and loads are what they wait for once multiply
   * and add are one instruction. The other build, which gains nothing, loads value by value.
   */
  @inline static pair(e: usize): v128 {
    return ASC_FEATURE_RELAXED_SIMD ? v128.load(e) : f32x4.splat(0);
  }

  /** V = 1, 2 or 4 vectors wide: 4/V·2 entries at once into sums of their own, or the chain of additions would be the limit. */
  @inline static narrow(
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
        let n = load<u32>(record, 4);
        const out = y + row * yStride;
        const s = flags & Flag.Bias ? v128.load32_splat(bias + (row << 2)) : zero;
        let a0 = s,
          a1 = s,
          a2 = s,
          a3 = s;
        let b0 = zero,
          b1 = zero,
          b2 = zero,
          b3 = zero;
        let c0 = zero,
          c1 = zero,
          d0 = zero,
          d1 = zero;
        if (flags & Flag.Accumulate) {
          a0 = f32x4.add(s, v128.load(out));
          if (V > 1) a1 = f32x4.add(s, v128.load(out, 16));
          if (V > 2) a2 = f32x4.add(s, v128.load(out, 32));
          if (V > 2) a3 = f32x4.add(s, v128.load(out, 48));
        }
        if (V > 2) {
          for (; n > 1; n -= 2) {
            const pair = Tile.pair(e);
            const w = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(pair, 0) : v128.load32_splat(e);
            const p = x + load<u32>(e, 4);
            a0 = Simd.madd(v128.load(p), w, a0);
            a1 = Simd.madd(v128.load(p, 16), w, a1);
            a2 = Simd.madd(v128.load(p, 32), w, a2);
            a3 = Simd.madd(v128.load(p, 48), w, a3);
            if (Simd.split(e)) break;
            const v = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(pair, 2) : v128.load32_splat(e, 8);
            const q = x + load<u32>(e, 12);
            b0 = Simd.madd(v128.load(q), v, b0);
            b1 = Simd.madd(v128.load(q, 16), v, b1);
            b2 = Simd.madd(v128.load(q, 32), v, b2);
            b3 = Simd.madd(v128.load(q, 48), v, b3);
            e += 16;
          }
        } else {
          for (; n > 3; n -= 4) {
            const first = Tile.pair(e);
            const w = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(first, 0) : v128.load32_splat(e);
            const p = x + load<u32>(e, 4);
            a0 = Simd.madd(v128.load(p), w, a0);
            if (V > 1) a1 = Simd.madd(v128.load(p, 16), w, a1);
            const v = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(first, 2) : v128.load32_splat(e, 8);
            const q = x + load<u32>(e, 12);
            b0 = Simd.madd(v128.load(q), v, b0);
            if (V > 1) b1 = Simd.madd(v128.load(q, 16), v, b1);
            if (V > 1 && Simd.split(e)) break;
            const second = Tile.pair(e + 16);
            const u = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(second, 0) : v128.load32_splat(e, 16);
            const r = x + load<u32>(e, 20);
            c0 = Simd.madd(v128.load(r), u, c0);
            if (V > 1) c1 = Simd.madd(v128.load(r, 16), u, c1);
            const t = ASC_FEATURE_RELAXED_SIMD ? Simd.lane(second, 2) : v128.load32_splat(e, 24);
            const o = x + load<u32>(e, 28);
            d0 = Simd.madd(v128.load(o), t, d0);
            if (V > 1) d1 = Simd.madd(v128.load(o, 16), t, d1);
            e += 32;
          }
        }
        for (; n > 0; --n) {
          const w = v128.load32_splat(e);
          const p = x + load<u32>(e, 4);
          a0 = Simd.madd(v128.load(p), w, a0);
          if (V > 1) a1 = Simd.madd(v128.load(p, 16), w, a1);
          if (V > 2) a2 = Simd.madd(v128.load(p, 32), w, a2);
          if (V > 2) a3 = Simd.madd(v128.load(p, 48), w, a3);
          e += 8;
        }
        a0 = f32x4.add(a0, b0);
        if (V > 1) a1 = f32x4.add(a1, b1);
        if (V > 2) a2 = f32x4.add(a2, b2);
        if (V > 2) a3 = f32x4.add(a3, b3);
        if (V < 4) a0 = f32x4.add(a0, f32x4.add(c0, d0));
        if (V == 2) a1 = f32x4.add(a1, f32x4.add(c1, d1));
        if (flags & Flag.Clamp) {
          const l = f32x4.splat(lo),
            h = f32x4.splat(hi);
          a0 = Simd.clamp(a0, l, h);
          if (V > 1) a1 = Simd.clamp(a1, l, h);
          if (V > 2) a2 = Simd.clamp(a2, l, h);
          if (V > 2) a3 = Simd.clamp(a3, l, h);
        }
        v128.store(out, a0);
        if (V > 1) v128.store(out, a1, 16);
        if (V > 2) v128.store(out, a2, 32);
        if (V > 2) v128.store(out, a3, 48);
      }
      x += V << 4;
      y += V << 4;
    }
  }
}

export function f32_csr_spmm_16(
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
  Tile.narrow(4, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_csr_spmm_8(
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
  Tile.narrow(2, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_csr_spmm_4(
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
  Tile.narrow(1, plan, strips, x, y, yStride, bias, flags, lo, hi);
}
