// Depthwise convolution: y[c] = Σ over taps of w[c][tap] · x[c / multiplier] shifted by that tap.
//
//   taps   u32 byte offset of each kernel position within a padded plane (or its stride phases)
//   w      [channels][tapCount] floats
//   x      padded planes, xPlane bytes apart; output row r starts xRow · r bytes into one
//   y      [channels][rows][cols] floats, densely; bias  f32 by channel
//
// Reads up to 60 bytes past a row of x, and 12 past the end of y when it accumulates; never uses them. Sixteen outputs share the address and
// the weight of a tap; nine weights held in registers, four or eight outputs at a time, reached 0.75 of that (Node 24).
import { Flag, Simd } from "../simd";

class Row {
  @inline static finish(sum: v128, y: usize, b: v128, left: i32, flags: i32, lo: f32, hi: f32): void {
    let a = f32x4.add(sum, b);
    if (flags & Flag.Accumulate) a = f32x4.add(a, v128.load(y));
    if (flags & Flag.Clamp) a = Simd.clamp(a, f32x4.splat(lo), f32x4.splat(hi));
    Simd.storeLanes(y, a, left);
  }
}

export function f32_dense_depthwise(
  channels: i32,
  multiplier: i32,
  taps: usize,
  tapCount: i32,
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
  const zero = f32x4.splat(0);
  for (let c = 0, m = 0; c < channels; ++c) {
    const b = flags & Flag.Bias ? v128.load32_splat(bias + ((<usize>c) << 2)) : zero;
    let line = x;
    for (let r = 0; r < rows; ++r, line += xRow) {
      let p = line;
      for (let left = cols; left > 0; left -= 16) {
        let a0 = zero,
          a1 = zero,
          a2 = zero,
          a3 = zero;
        for (let t = 0; t < tapCount; ++t) {
          const s = v128.load32_splat(w + ((<usize>t) << 2));
          const q = p + load<u32>(taps + ((<usize>t) << 2));
          a0 = Simd.madd(v128.load(q), s, a0);
          a1 = Simd.madd(v128.load(q, 16), s, a1);
          a2 = Simd.madd(v128.load(q, 32), s, a2);
          a3 = Simd.madd(v128.load(q, 48), s, a3);
        }
        Row.finish(a0, y, b, left, flags, lo, hi);
        if (left > 4) Row.finish(a1, y + 16, b, left - 4, flags, lo, hi);
        if (left > 8) Row.finish(a2, y + 32, b, left - 8, flags, lo, hi);
        if (left > 12) Row.finish(a3, y + 48, b, left - 12, flags, lo, hi);
        p += 64;
        y += (<usize>min(left, 16)) << 2;
      }
    }
    w += (<usize>tapCount) << 2;
    if (++m == multiplier) {
      m = 0;
      x += xPlane;
    }
  }
}
