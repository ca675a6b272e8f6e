// y[m] = W · x for dense weights and one column x. Bound by the bytes of W, which are read once, in order.
//
//   plan  u32 m, u32 w, u32 k
//   w     blocks of 16 rows interleaved, [k][16]; the rows that the last block lacks are zeros
//   x     k floats; y  m floats; bias  f32 by row; of y, when it accumulates, and of bias
//         up to 12 bytes past the end are read, never used
import { Simd } from "../simd";

export function f32_dense_gemv(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  const k = load<u32>(plan, 8);
  const zero = Simd.zeros(lo);
  let w: usize = load<u32>(plan, 4);
  for (let left = <i32>load<u32>(plan); left > 0; left -= 16) {
    let a0 = zero,
      a1 = zero,
      a2 = zero,
      a3 = zero;
    let b0 = zero,
      b1 = zero,
      b2 = zero,
      b3 = zero;
    let p = x;
    let n = k;
    for (; n > 1; n -= 2) {
      const s = v128.load32_splat(p);
      a0 = Simd.madd(v128.load(w), s, a0);
      a1 = Simd.madd(v128.load(w, 16), s, a1);
      a2 = Simd.madd(v128.load(w, 32), s, a2);
      a3 = Simd.madd(v128.load(w, 48), s, a3);
      if (Simd.split(p)) break;
      const t = v128.load32_splat(p, 4);
      b0 = Simd.madd(v128.load(w, 64), t, b0);
      b1 = Simd.madd(v128.load(w, 80), t, b1);
      b2 = Simd.madd(v128.load(w, 96), t, b2);
      b3 = Simd.madd(v128.load(w, 112), t, b3);
      w += 128;
      p += 8;
    }
    if (n > 0) {
      const s = v128.load32_splat(p);
      a0 = Simd.madd(v128.load(w), s, a0);
      a1 = Simd.madd(v128.load(w, 16), s, a1);
      a2 = Simd.madd(v128.load(w, 32), s, a2);
      a3 = Simd.madd(v128.load(w, 48), s, a3);
      w += 64;
    }
    a0 = f32x4.add(a0, b0);
    a1 = f32x4.add(a1, b1);
    a2 = f32x4.add(a2, b2);
    a3 = f32x4.add(a3, b3);
    for (let rows = min<i32>(left, 16); rows > 0; rows -= 4, y += 16, bias += 16) {
      Simd.finish(a0, y, bias, rows, flags, lo, hi);
      a0 = a1;
      a1 = a2;
      a2 = a3;
    }
  }
}
