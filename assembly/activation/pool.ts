// Pooling over planes of h × w pixels of `inner` floats each: inner is 1 for nchw and the channels for nhwc.
//
//   line  (w + left + right) · inner floats of scratch and 16 more: a kernel-high stripe of x, reduced over its height
//   y     planes × oh × ow × inner floats
//
// Up to 28 bytes past the end of x are read, never used.
// Two passes a stripe, down and then across, take kh + kw steps a pixel instead of kh · kw.
import { Simd } from "../simd";

class Op {
  /**
   * Maximum (a NaN wins) or sum. One pmax keeps a's NaN, the other b's; their union is still one, and otherwise both are the
   * same, but for zeros of both signs. Three instructions on x86, where max is eight.
   */
  @inline static join(most: bool, a: v128, b: v128): v128 {
    return most ? v128.or(f32x4.pmax(a, b), f32x4.pmax(b, a)) : f32x4.add(a, b);
  }
}

class Pool {
  /**
   * Maxima of windows of 2 × 2 beside each other, inside planes of one float a pixel, four and more in a row: no line between the two
   * passes. The last four of a row may be some of those before once more.
   */
  @inline static quarters(planes: i32, h: i32, w: i32, oh: i32, ow: i32, x: usize, y: usize): void {
    const row = (<usize>w) << 2;
    for (; planes > 0; --planes, x += <usize>h * row) {
      let line = x;
      for (let r = oh; r > 0; --r, line += row << 1) {
        for (let i = 0; i < ow; i += 4) {
          const c = <usize>min(i, ow - 4);
          const p = line + (c << 3);
          const a = Op.join(true, v128.load(p), v128.load(p + row));
          const b = Op.join(true, v128.load(p, 16), v128.load(p + row, 16));
          const even = v128.shuffle<f32>(a, b, 0, 2, 4, 6);
          v128.store(y + (c << 2), Op.join(true, even, v128.shuffle<f32>(a, b, 1, 3, 5, 7)));
        }
        y += (<usize>ow) << 2;
      }
    }
  }

  // One function for both, though each asks which it is: they would be twice its 800 bytes.
  static planes(
    most: bool,
    planes: i32,
    inner: i32,
    h: i32,
    w: i32,
    kh: i32,
    kw: i32,
    sh: i32,
    sw: i32,
    top: i32,
    left: i32,
    right: i32,
    oh: i32,
    ow: i32,
    countPad: i32,
    line: usize,
    x: usize,
    y: usize,
  ): void {
    const none = f32x4.splat(most ? -f32.POSITIVE_INFINITY : 0);
    const pixel = (<usize>inner) << 2;
    const row = <usize>w * pixel;
    const before = line + <usize>left * pixel;
    const after = before + row;
    const end = after + <usize>right * pixel;
    const step = <usize>sw * pixel;
    for (; planes > 0; --planes, x += <usize>h * row) {
      for (let i = 0; i < oh; ++i) {
        let r0 = i * sh - top;
        const r1 = min(r0 + kh, h);
        r0 = max(r0, 0);
        for (let p = line; p < before; p += 16) v128.store(p, none);
        for (let p: usize = 0; p < row; p += 16) {
          let a = none;
          let s = x + <usize>r0 * row + p;
          if (most) for (let r = r0; r < r1; ++r, s += row) a = Op.join(true, a, v128.load(s));
          else for (let r = r0; r < r1; ++r, s += row) a = Op.join(false, a, v128.load(s));
          v128.store(before + p, a);
        }
        for (let p = after; p < end; p += 16) v128.store(p, none);
        // One float a pixel: four outputs at once, if they step by one or two and all divide by the same count.
        if (inner == 1 && sw < 3 && (most || countPad)) {
          const all = f32x4.splat(1 / (<f32>kh * <f32>kw));
          let p = line;
          for (let n = ow; n > 0; n -= 4, p += step << 2) {
            let a = none;
            let q = p;
            for (let c = 0; c < kw; ++c, q += 4) {
              const v = v128.load(q);
              a = Op.join(most, a, sw == 1 ? v : v128.shuffle<f32>(v, v128.load(q, 16), 0, 2, 4, 6));
            }
            if (!most) a = f32x4.mul(a, all);
            Simd.storeLanes(y, a, n);
            y += (<usize>min(n, 4)) << 2;
          }
          continue;
        }
        for (let j = 0; j < ow; ++j, y += pixel) {
          const c0 = j * sw - left;
          let scale: f32 = 1;
          if (!most) {
            const inside = (min(c0 + kw, w) - max(c0, 0)) * (r1 - r0);
            scale = 1 / (countPad ? <f32>kh * <f32>kw : <f32>inside);
          }
          let p = line + <usize>j * step;
          for (let n = inner; n > 0; n -= 4, p += 16) {
            let q = p;
            let a = v128.load(q);
            for (let c = 1; c < kw; ++c) {
              q += pixel;
              a = Op.join(most, a, v128.load(q));
            }
            if (!most) a = f32x4.mul(a, f32x4.splat(scale));
            Simd.storeLanes(y + <usize>(inner - n) * 4, a, n);
          }
        }
      }
    }
  }
}

export function f32_max_pool(
  planes: i32,
  inner: i32,
  h: i32,
  w: i32,
  kh: i32,
  kw: i32,
  sh: i32,
  sw: i32,
  top: i32,
  left: i32,
  right: i32,
  oh: i32,
  ow: i32,
  line: usize,
  x: usize,
  y: usize,
): void {
  const halves = kh == 2 && kw == 2 && sh == 2 && sw == 2 && (top | left | right) == 0;
  if (inner == 1 && halves && oh << 1 <= h && ow > 3) Pool.quarters(planes, h, w, oh, ow, x, y);
  else Pool.planes(true, planes, inner, h, w, kh, kw, sh, sw, top, left, right, oh, ow, 0, line, x, y);
}

export function f32_avg_pool(
  planes: i32,
  inner: i32,
  h: i32,
  w: i32,
  kh: i32,
  kw: i32,
  sh: i32,
  sw: i32,
  top: i32,
  left: i32,
  right: i32,
  oh: i32,
  ow: i32,
  countPad: i32,
  line: usize,
  x: usize,
  y: usize,
): void {
  Pool.planes(false, planes, inner, h, w, kh, kw, sh, sw, top, left, right, oh, ow, countPad, line, x, y);
}

class Mean {
  /**
   * Floats of a plane, or pixels, that are summed by themselves: a number added to the sum of a million others loses its last bits (1024²
   * equal ones were 0.1 and 1% off, by parts 4e-5).
   */
  static readonly PART: i32 = 256;
}

/** y[plane] = mean of n floats, for planes that lie one after another (nchw). */
export function f32_global_avg_planes(planes: i32, n: i32, x: usize, y: usize): void {
  for (; planes > 0; --planes, y += 4) {
    let sum: f32 = 0;
    for (let left = n; left > 0; left -= Mean.PART) {
      let i = left < Mean.PART ? left : Mean.PART;
      let a = f32x4.splat(0),
        b = a;
      for (; i > 7; i -= 8, x += 32) {
        a = f32x4.add(a, v128.load(x));
        b = f32x4.add(b, v128.load(x, 16));
      }
      a = f32x4.add(a, b);
      sum +=
        f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + (f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3));
      for (; i > 0; --i, x += 4) sum += load<f32>(x);
    }
    store<f32>(y, sum / <f32>n);
  }
}

/** y[c] = mean over n pixels of `channels` floats (nhwc). */
export function f32_global_avg_pixels(n: i32, channels: i32, x: usize, y: usize): void {
  const scale = f32x4.splat(1 / <f32>n);
  const pixel = (<usize>channels) << 2;
  for (let left = channels; left > 0; left -= 4, x += 16, y += 16) {
    let sum = f32x4.splat(0);
    let p = x;
    for (let rest = n; rest > 0; rest -= Mean.PART) {
      let a = f32x4.splat(0);
      for (let i = rest < Mean.PART ? rest : Mean.PART; i > 0; --i, p += pixel) a = f32x4.add(a, v128.load(p));
      sum = f32x4.add(sum, a);
    }
    Simd.storeLanes(y, f32x4.mul(sum, scale), left);
  }
}
