// Depthwise convolution with kernels of 3 × 3: y[c] = Σ over ky, kx of w[c][ky][kx] · x[c / multiplier][s·row + ky][s·col + kx].
//
//   w  [channels][9] floats
//   x  padded planes, xPlane bytes apart, their rows xRow bytes apart
//   y  [channels][rows][cols] floats, densely; bias  f32 by channel
//
// s is 1 or 2. Nine weights stay in registers; each row of taps has a sum of its own, as one chain of nine multiply-adds takes
// longer than their number. Reads up to 32 bytes past a row of x, and 12 past the end of y when it accumulates; never uses them.
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
}

export function f32_dense_depthwise_3x3(
  channels: i32,
  multiplier: i32,
  stride: i32,
  w: usize,
  x: usize,
  xPlane: usize,
  xRow: usize,
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
    let line = x;
    for (let r = rows; r > 0; --r, line += stride * xRow) {
      let p = line;
      let q = p + xRow;
      let s = q + xRow;
      let left = cols;
      // Whole vectors by themselves, for each stride: 1.15 times as fast as one loop that asks for both.
      if (stride == 1) {
        for (; left >= 4; left -= 4) {
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
        for (; left >= 4; left -= 4) {
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
      if (left > 0) {
        let u: v128, v: v128, t: v128;
        if (stride == 1) {
          u = Taps.one(p, w0, w1, w2);
          v = Taps.one(q, w3, w4, w5);
          t = Taps.one(s, w6, w7, w8);
        } else {
          u = Taps.two(p, w0, w1, w2);
          v = Taps.two(q, w3, w4, w5);
          t = Taps.two(s, w6, w7, w8);
        }
        let sum = f32x4.add(f32x4.add(f32x4.add(u, b), v), t);
        if (flags & Flag.Accumulate) sum = f32x4.add(sum, v128.load(y));
        Simd.storeLanes(y, Simd.clamp(sum, least, most), left);
        y += (<usize>left) << 2;
      }
    }
    if (++m == multiplier) {
      m = 0;
      x += xPlane;
    }
  }
}
