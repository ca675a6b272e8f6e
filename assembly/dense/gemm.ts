// Y[m, tile] = W · X for dense weights, one strip of `tile` columns after another: the honest baseline of every sparse kernel.
//
//   plan     u32 m, u32 w, u32 runs, u32 runCount, u32 k, u32 stride
//   runs     of inputs at equal distances, u32 byte offset of the first one's `tile` floats within x, u32 count; k in all (one
//            run for a plain matrix, one for each kernel position of most convolutions)
//   w        blocks of R rows interleaved, [k in the order of the runs][R]; the last m % R rows as blocks of 2, zeros for a row
//            that is not there
//   y        rows `yStride` bytes apart; bias  f32 by row
//
// The strips are the inner loop, so that a block of W stays in L1. 6 rows × 8 columns take 12 accumulators and 3 more
// registers, all that V8 has on x86-64; V8 11 hoists loads and spills there, so the build it runs takes 4 rows.
import { Flag, Simd } from "../simd";

class Block {
  /** Rows in a full block; formats/dense.ts packs by the same number (exported as dense_gemm_rows). */
  static readonly Rows: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 4;

  /** Stores the C vectors of a row of the tile. */
  @inline static finish(C: i32, out: usize, first: v128, second: v128, least: v128, most: v128): void {
    v128.store(out, Simd.clamp(first, least, most));
    if (C > 1) v128.store(out, Simd.clamp(second, least, most), 16);
  }

  /** R rows from `row`, over all strips of C·4 columns; R in 2, 4, 6 and C in 1, 2. */
  @inline static rows(
    R: i32,
    C: i32,
    plan: usize,
    row: i32,
    w: usize,
    strips: i32,
    x: usize,
    y: usize,
    yStride: usize,
    bias: usize,
    flags: i32,
    lo: f32,
    hi: f32,
  ): void {
    const runs: usize = load<u32>(plan, 8);
    const runsEnd = runs + (load<u32>(plan, 12) << 3);
    const stride: usize = load<u32>(plan, 20);
    const l = f32x4.splat(lo);
    const h = f32x4.splat(hi);
    const zero = Simd.zeros(lo);
    const starts = bias + (row << 2);
    // Only a pair may lack its second row, which then is the first, written once more.
    const lone = R === 2 && row + 1 === <i32>load<u32>(plan);
    const next: usize = lone ? 0 : yStride;
    let out = y + <usize>row * yStride;
    for (; strips > 0; --strips) {
      let a0 = zero,
        b0 = zero,
        c0 = zero,
        d0 = zero,
        e0 = zero,
        f0 = zero;
      if (flags & Flag.Bias) {
        a0 = v128.load32_splat(starts);
        b0 = v128.load32_splat(lone ? starts : starts + 4);
        if (R > 2) {
          c0 = v128.load32_splat(starts, 8);
          d0 = v128.load32_splat(starts, 12);
        }
        if (R > 4) {
          e0 = v128.load32_splat(starts, 16);
          f0 = v128.load32_splat(starts, 20);
        }
      }
      let a1 = a0,
        b1 = b0,
        c1 = c0,
        d1 = d0,
        e1 = e0,
        f1 = f0;
      if (flags & Flag.Accumulate) {
        let o = out;
        a0 = f32x4.add(a0, v128.load(o));
        if (C > 1) a1 = f32x4.add(a1, v128.load(o, 16));
        o += next;
        b0 = f32x4.add(b0, v128.load(o));
        if (C > 1) b1 = f32x4.add(b1, v128.load(o, 16));
        if (R > 2) {
          o += yStride;
          c0 = f32x4.add(c0, v128.load(o));
          if (C > 1) c1 = f32x4.add(c1, v128.load(o, 16));
          o += yStride;
          d0 = f32x4.add(d0, v128.load(o));
          if (C > 1) d1 = f32x4.add(d1, v128.load(o, 16));
        }
        if (R > 4) {
          o += yStride;
          e0 = f32x4.add(e0, v128.load(o));
          if (C > 1) e1 = f32x4.add(e1, v128.load(o, 16));
          o += yStride;
          f0 = f32x4.add(f0, v128.load(o));
          if (C > 1) f1 = f32x4.add(f1, v128.load(o, 16));
        }
      }
      let wp = w;
      for (let run = runs; run < runsEnd; run += 8) {
        let p = x + load<u32>(run);
        for (let n = load<u32>(run, 4); n > 0; --n) {
          const u = v128.load(p);
          const v = C > 1 ? v128.load(p, 16) : u;
          let s = v128.load32_splat(wp);
          a0 = Simd.madd(u, s, a0);
          if (C > 1) a1 = Simd.madd(v, s, a1);
          s = v128.load32_splat(wp, 4);
          b0 = Simd.madd(u, s, b0);
          if (C > 1) b1 = Simd.madd(v, s, b1);
          if (R > 2) {
            s = v128.load32_splat(wp, 8);
            c0 = Simd.madd(u, s, c0);
            if (C > 1) c1 = Simd.madd(v, s, c1);
            s = v128.load32_splat(wp, 12);
            d0 = Simd.madd(u, s, d0);
            if (C > 1) d1 = Simd.madd(v, s, d1);
          }
          if (R > 4) {
            s = v128.load32_splat(wp, 16);
            e0 = Simd.madd(u, s, e0);
            if (C > 1) e1 = Simd.madd(v, s, e1);
            s = v128.load32_splat(wp, 20);
            f0 = Simd.madd(u, s, f0);
            if (C > 1) f1 = Simd.madd(v, s, f1);
          }
          wp += R << 2;
          p += stride;
        }
      }
      let o = out + next;
      Block.finish(C, o, b0, b1, l, h);
      if (R > 2) {
        o += yStride;
        Block.finish(C, o, c0, c1, l, h);
        o += yStride;
        Block.finish(C, o, d0, d1, l, h);
      }
      if (R > 4) {
        o += yStride;
        Block.finish(C, o, e0, e1, l, h);
        o += yStride;
        Block.finish(C, o, f0, f1, l, h);
      }
      Block.finish(C, out, a0, a1, l, h);
      x += C << 4;
      out += C << 4;
    }
  }

  @inline static all(
    C: i32,
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
    const m = <i32>load<u32>(plan);
    // Without a clamp everything lies between these: no question, and less code, at each of a tile's ends.
    const least = flags & Flag.Clamp ? lo : -f32.POSITIVE_INFINITY;
    const most = flags & Flag.Clamp ? hi : f32.POSITIVE_INFINITY;
    const rowBytes = load<u32>(plan, 16) << 2;
    let w: usize = load<u32>(plan, 4);
    let row = 0;
    for (; row + Block.Rows <= m; row += Block.Rows) {
      Block.rows(Block.Rows, C, plan, row, w, strips, x, y, yStride, bias, flags, least, most);
      w += rowBytes * Block.Rows;
    }
    for (; row < m; row += 2) {
      Block.rows(2, C, plan, row, w, strips, x, y, yStride, bias, flags, least, most);
      w += rowBytes << 1;
    }
  }
}

/** Rows that a full block of W interleaves in this build. */
export function dense_gemm_rows(): i32 {
  return Block.Rows;
}

export function f32_dense_gemm_8(
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
  Block.all(2, plan, strips, x, y, yStride, bias, flags, lo, hi);
}

export function f32_dense_gemm_4(
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
  Block.all(1, plan, strips, x, y, yStride, bias, flags, lo, hi);
}
