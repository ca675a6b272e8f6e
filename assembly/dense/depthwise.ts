// Depthwise convolution: y[c] = Σ over taps of w[c][tap] · x[c / multiplier] shifted by that tap.
//
//   taps   u32 byte offset of each kernel position within a padded plane (or its stride phases)
//   w      [channels][tapCount] floats
//   x      padded planes, xPlane bytes apart; output row r starts xRow · r bytes into one
//   y      [channels][rows][cols] floats, densely; bias  f32 by channel
//
// Reads up to 28 bytes past a row of x, and 12 past the end of y when it accumulates; never uses them. Eight outputs share the
// address and the weight of a tap. Windows of 3 × 3 have faster kernels of their own (depthwise_3x3_*.ts).
import { Flag, Simd } from "../simd";

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
  // Without a clamp everything lies between these.
  const least = f32x4.splat(flags & Flag.Clamp ? lo : -Infinity);
  const most = f32x4.splat(flags & Flag.Clamp ? hi : Infinity);
  for (let c = 0, m = 0; c < channels; ++c) {
    const start = flags & Flag.Bias ? v128.load32_splat(bias + ((<usize>c) << 2)) : f32x4.splat(0);
    let line = x;
    for (let r = rows; r > 0; --r, line += xRow) {
      let p = line;
      for (let left = cols; left > 0; left -= 8, p += 32) {
        let a = start,
          b = start;
        for (let t = 0; t < tapCount; ++t) {
          const s = v128.load32_splat(w + ((<usize>t) << 2));
          const q = p + load<u32>(taps + ((<usize>t) << 2));
          a = Simd.madd(v128.load(q), s, a);
          b = Simd.madd(v128.load(q, 16), s, b);
        }
        if (flags & Flag.Accumulate) {
          a = f32x4.add(a, v128.load(y));
          if (left > 4) b = f32x4.add(b, v128.load(y, 16));
        }
        Simd.storeLanes(y, Simd.clamp(a, least, most), left);
        if (left > 4) Simd.storeLanes(y + 16, Simd.clamp(b, least, most), left - 4);
        y += (<usize>min(left, 8)) << 2;
      }
    }
    w += (<usize>tapCount) << 2;
    if (++m == multiplier) {
      m = 0;
      x += xPlane;
    }
  }
}
