// As depthwise_3x3_rows.ts, for stride 1 and images that the caches bring near in any order: four columns of outputs at a time, from
// the top down. A row of x is loaded once for the three rows of outputs that it is part of, so that loads are a third of one for each
// multiply-add. Columns whose taps are all inside have a loop of their own: with masks for all, 28² took 1.2 times as long. The stride
// is an argument for the sake of one signature.
import { Flag, Simd } from "../simd";

class Walk {
  /** Four columns of outputs beside each other, n of which exist. */
  @inline static down(
    edge: bool,
    p: usize,
    xRow: usize,
    height: i32,
    top: i32,
    o: usize,
    yRow: usize,
    rows: i32,
    n: i32,
    masks: usize,
    w0: v128,
    w1: v128,
    w2: v128,
    w3: v128,
    w4: v128,
    w5: v128,
    w6: v128,
    w7: v128,
    w8: v128,
    bias: v128,
    flags: i32,
    least: v128,
    most: v128,
  ): void {
    const l = edge ? v128.load(masks) : bias;
    const m = edge ? v128.load(masks, 16) : bias;
    const h = edge ? v128.load(masks, 32) : bias;
    // Sums of the output rows r and r + 1; the first may lie above the image.
    let a = bias;
    let b = bias;
    let r = top - 2;
    for (const end = r + height; r < end; ++r) {
      let u = v128.load(p);
      let v = v128.load(p, 4);
      let w = v128.load(p, 8);
      if (edge) {
        u = v128.and(u, l);
        v = v128.and(v, m);
        w = v128.and(w, h);
      }
      a = f32x4.add(a, Simd.madd(w, w8, Simd.madd(v, w7, f32x4.mul(u, w6))));
      if (r >= 0) {
        Walk.store(o, a, n, flags, least, most);
        o += yRow;
      }
      a = f32x4.add(b, Simd.madd(w, w5, Simd.madd(v, w4, f32x4.mul(u, w3))));
      b = Simd.madd(w, w2, Simd.madd(v, w1, Simd.madd(u, w0, bias)));
      p += xRow;
    }
    // The last row's third row of taps lies below the image.
    if (r < rows) Walk.store(o, a, n, flags, least, most);
  }

  @inline static store(o: usize, sum: v128, n: i32, flags: i32, least: v128, most: v128): void {
    let v = sum;
    if (flags & Flag.Accumulate) v = f32x4.add(v, v128.load(o));
    Simd.storeLanes(o, Simd.clamp(v, least, most), n);
  }
}

export function f32_dense_depthwise_3x3_columns(
  channels: i32,
  multiplier: i32,
  _stride: i32,
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
  const least = f32x4.splat(flags & Flag.Clamp ? lo : -Infinity);
  const most = f32x4.splat(flags & Flag.Clamp ? hi : Infinity);
  const xRow = (<usize>width) << 2;
  const yRow = (<usize>cols) << 2;
  // Vectors from..to of a row have all their taps inside.
  const from = left > 0 ? 4 : 0;
  const to = min(cols, width + left - 2) - 3;
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
    // Not one loop that asks which: Binaryen would fold the two walks into one that carries the answer along.
    const first = x - ((<usize>left) << 2);
    let col = from;
    for (; col < to; col += 4) {
      const at: usize = col << 2;
      Walk.down(
        false,
        first + at,
        xRow,
        height,
        top,
        y + at,
        yRow,
        rows,
        4,
        edges,
        w0,
        w1,
        w2,
        w3,
        w4,
        w5,
        w6,
        w7,
        w8,
        b,
        flags,
        least,
        most,
      );
    }
    const rest = col;
    for (col = from > 0 ? 0 : rest; col < cols; col = max(col + 4, rest)) {
      const at: usize = col << 2;
      const masks = edges + <usize>(col * 12);
      const n = min(cols - col, 4);
      Walk.down(
        true,
        first + at,
        xRow,
        height,
        top,
        y + at,
        yRow,
        rows,
        n,
        masks,
        w0,
        w1,
        w2,
        w3,
        w4,
        w5,
        w6,
        w7,
        w8,
        b,
        flags,
        least,
        most,
      );
    }
    y += <usize>rows * yRow;
    if (++m == multiplier) {
      m = 0;
      x += <usize>height * xRow;
    }
  }
}
