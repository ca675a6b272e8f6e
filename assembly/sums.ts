import { Flag, Simd } from "./simd";

/** The sums of one output row that active inputs scatter into: m floats in L1, up to a whole vector. */
export class Sums {
  static start(sums: usize, m: i32, y: usize, bias: usize, flags: i32): void {
    const end = sums + ((<usize>m) << 2);
    const zero = f32x4.splat(0);
    if (flags & (Flag.Accumulate | Flag.Bias)) {
      for (; sums < end; sums += 16, y += 16, bias += 16) {
        let a = zero;
        if (flags & Flag.Accumulate) a = v128.load(y);
        if (flags & Flag.Bias) a = f32x4.add(a, v128.load(bias));
        v128.store(sums, a);
      }
    } else {
      for (; sums < end; sums += 16) v128.store(sums, zero);
    }
  }

  static finish(sums: usize, m: i32, y: usize, flags: i32, lo: f32, hi: f32): void {
    // Without a clamp the range is everything; pmin and pmax let a NaN through.
    const l = f32x4.splat(flags & Flag.Clamp ? lo : -f32.POSITIVE_INFINITY),
      h = f32x4.splat(flags & Flag.Clamp ? hi : f32.POSITIVE_INFINITY);
    let n = m;
    for (; n > 7; n -= 8, sums += 32, y += 32) {
      v128.store(y, Simd.clamp(v128.load(sums), l, h));
      v128.store(y, Simd.clamp(v128.load(sums, 16), l, h), 16);
    }
    for (; n > 0; n -= 4, sums += 16, y += 16) Simd.storeLanes(y, Simd.clamp(v128.load(sums), l, h), n);
  }
}
