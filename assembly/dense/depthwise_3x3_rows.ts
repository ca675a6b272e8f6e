// Depthwise convolution with kernels of 3 × 3, zeros around the image: y[c] = Σ over ky, kx of w[c][ky][kx] ·
// x[c / multiplier][s·row − top + ky][s·col − left + kx].
//
//   w      [channels][9] floats
//   x      [channels / multiplier][height][width] floats, read where they lie
//   edges  masks, for each four outputs of a row three vectors, one for each column of taps: all bits of a lane whose tap is
//          inside; then a row of 4 + width + 12 floats that are 0, for the rows above and below
//   y      [channels][rows][cols] floats, densely; bias  f32 by channel
//
// s is 1 or 2; top and left, and what lies below and to the right, 0 or 1. Nine weights stay in registers; each row of taps has a
// sum of its own, as one chain of nine multiply-adds takes longer than their number. Around x 16 bytes before and 40 behind are
// read, 12 past the end of y when it accumulates; they are never used.
import { Flag, Simd } from "../simd";

/** A kernel's row: three taps beside each other, for four outputs. */
class Taps {
  /** Of outputs beside each other. */
  @inline static one(p: usize, a: v128, b: v128, c: v128): v128 {
    return Simd.madd(v128.load(p, 8), c, Simd.madd(v128.load(p, 4), b, f32x4.mul(v128.load(p), a)));
  }

  /** Of outputs two columns apart. */
  @inline static two(p: usize, a: v128, b: v128, c: v128): v128 {
    const u = v128.load(p);
    const v = v128.load(p, 16);
    const even = v128.shuffle<f32>(u, v, 0, 2, 4, 6);
    const odd = v128.shuffle<f32>(u, v, 1, 3, 5, 7);
    const next = v128.shuffle<f32>(v128.load(p, 8), v128.load(p, 24), 0, 2, 4, 6);
    return Simd.madd(next, c, Simd.madd(odd, b, f32x4.mul(even, a)));
  }

  /** Of either, where some columns are outside. */
  @inline static edge(stride: i32, p: usize, masks: usize, a: v128, b: v128, c: v128): v128 {
    let u: v128, v: v128, w: v128;
    if (stride == 1) {
      u = v128.load(p);
      v = v128.load(p, 4);
      w = v128.load(p, 8);
    } else {
      const s = v128.load(p);
      const t = v128.load(p, 16);
      u = v128.shuffle<f32>(s, t, 0, 2, 4, 6);
      v = v128.shuffle<f32>(s, t, 1, 3, 5, 7);
      w = v128.shuffle<f32>(v128.load(p, 8), v128.load(p, 24), 0, 2, 4, 6);
    }
    u = f32x4.mul(v128.and(u, v128.load(masks)), a);
    return Simd.madd(v128.and(w, v128.load(masks, 32)), c, Simd.madd(v128.and(v, v128.load(masks, 16)), b, u));
  }
}

export function f32_dense_depthwise_3x3_rows(
  channels: i32,
  multiplier: i32,
  stride: i32,
  w: usize,
  x: usize,
  height: i32,
  width: i32,
  top: i32,
  left: i32,
  edges: usize,
  y: usize,
  rows: i32,
  cols: i32,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  // Without a clamp everything lies between these.
  const least = f32x4.splat(flags & Flag.Clamp ? lo : -Infinity);
  const most = f32x4.splat(flags & Flag.Clamp ? hi : Infinity);
  const xRow = (<usize>width) << 2;
  const zeros = edges + <usize>((cols + 3) >> 2) * 48 + 16;
  const step = (<usize>stride) << 4;
  // Vectors from..to of a row have all their taps inside.
  const from = left > 0 ? 4 : 0;
  const to = min(cols, (width + left - 3) / stride + 1) - 3;
  for (let c = 0, m = 0; c < channels; ++c, w += 36) {
    const b = flags & Flag.Bias ? v128.load32_splat(bias + ((<usize>c) << 2)) : f32x4.splat(0);
    const w0 = v128.load32_splat(w);
    const w1 = v128.load32_splat(w, 4);
    const w2 = v128.load32_splat(w, 8);
    const w3 = v128.load32_splat(w, 12);
    const w4 = v128.load32_splat(w, 16);
    const w5 = v128.load32_splat(w, 20);
    const w6 = v128.load32_splat(w, 24);
    const w7 = v128.load32_splat(w, 28);
    const w8 = v128.load32_splat(w, 32);
    let i = -top;
    for (let r = 0; r < rows; ++r, i += stride) {
      const line = x + <usize>i * xRow;
      let p = (i < 0 ? zeros : line) - ((<usize>left) << 2);
      let q = (i + 1 < height ? line + xRow : zeros) - ((<usize>left) << 2);
      let s = (i + 2 < height ? line + 2 * xRow : zeros) - ((<usize>left) << 2);
      for (let col = 0; col < cols; ) {
        // Whole vectors by themselves, for each stride: 1.15 times as fast as one loop that asks for both.
        if (col >= from && col < to) {
          if (stride == 1) {
            for (; col < to; col += 4) {
              const u = f32x4.add(Taps.one(p, w0, w1, w2), b);
              let sum = f32x4.add(f32x4.add(u, Taps.one(q, w3, w4, w5)), Taps.one(s, w6, w7, w8));
              if (flags & Flag.Accumulate) sum = f32x4.add(sum, v128.load(y));
              v128.store(y, Simd.clamp(sum, least, most));
              p += 16;
              q += 16;
              s += 16;
              y += 16;
            }
          } else {
            for (; col < to; col += 4) {
              const u = f32x4.add(Taps.two(p, w0, w1, w2), b);
              let sum = f32x4.add(f32x4.add(u, Taps.two(q, w3, w4, w5)), Taps.two(s, w6, w7, w8));
              if (flags & Flag.Accumulate) sum = f32x4.add(sum, v128.load(y));
              v128.store(y, Simd.clamp(sum, least, most));
              p += 32;
              q += 32;
              s += 32;
              y += 16;
            }
          }
        } else {
          const t = edges + <usize>(col * 12);
          const u = f32x4.add(Taps.edge(stride, p, t, w0, w1, w2), b);
          const v = Taps.edge(stride, q, t, w3, w4, w5);
          let sum = f32x4.add(f32x4.add(u, v), Taps.edge(stride, s, t, w6, w7, w8));
          if (flags & Flag.Accumulate) sum = f32x4.add(sum, v128.load(y));
          const n = min(cols - col, 4);
          Simd.storeLanes(y, Simd.clamp(sum, least, most), n);
          p += step;
          q += step;
          s += step;
          y += (<usize>n) << 2;
          col += 4;
        }
      }
    }
    if (++m == multiplier) {
      m = 0;
      x += <usize>height * xRow;
    }
  }
}
