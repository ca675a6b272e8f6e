// Inline helpers shared by the kernels. Static methods of a class, because a top-level `@inline function`
// is not valid TypeScript; they leave no trace in the compiled module.

/** What a product kernel does besides multiplying; the bits of its `flags` argument. */
export class Flag {
  /** Start from what y holds: a residual, or the sum over earlier blocks of columns. */
  static readonly Accumulate: i32 = 1;
  /** Add the bias of the row. */
  static readonly Bias: i32 = 2;
  /** Clamp the result to lo..hi (relu, relu6). */
  static readonly Clamp: i32 = 4;
}

/** Whether this is the build whose multiply-adds may be fused. */
export function is_relaxed(): bool {
  return ASC_FEATURE_RELAXED_SIMD;
}

export class Simd {
  /** a·b + c; fused where the build may (the relaxed build is not the same bits on every host). */
  @inline static madd(a: v128, b: v128, c: v128): v128 {
    if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
    return f32x4.add(f32x4.mul(a, b), c);
  }

  /**
   * False, which an engine cannot know: `if (Simd.split(p)) break;` parts a loop's body for V8 11 (Node 20), which loads all that a
   * piece without branches needs before it computes, and spills what does not fit 15 registers. A trap instead of the break
   * parts nothing. Hosts of the relaxed build do not need it.
   *
   * @param p any address that the loop reads
   */
  @inline static split(p: usize): bool {
    return !ASC_FEATURE_RELAXED_SIMD && p == 0;
  }

  /** Zeros made of any number, where many sums start: the constant would take 18 bytes for each of them. */
  @inline static zeros(any: f32): v128 {
    const v = f32x4.splat(any);
    return v128.xor(v, v);
  }

  /** lo ≤ v ≤ hi. pmin and pmax are one instruction each on x86 (min and max are several) and let a NaN in v through. */
  @inline static clamp(v: v128, lo: v128, hi: v128): v128 {
    return f32x4.pmin(f32x4.pmax(v, lo), hi);
  }

  /** Lane i of v, 0, 1 or 2, in all four lanes: a shuffle's lanes must be literals. */
  @inline static lane(v: v128, i: i32): v128 {
    if (i == 0) return v128.shuffle<f32>(v, v, 0, 0, 0, 0);
    if (i == 1) return v128.shuffle<f32>(v, v, 1, 1, 1, 1);
    return v128.shuffle<f32>(v, v, 2, 2, 2, 2);
  }

  /** The bytes of v that i numbers, all in 0..15. */
  @inline static swizzle(v: v128, i: v128): v128 {
    if (ASC_FEATURE_RELAXED_SIMD) return i8x16.relaxed_swizzle(v, i);
    return i8x16.swizzle(v, i);
  }

  /** The floats at four addresses, put together in two pairs. */
  @inline static gather(p: usize, q: usize, r: usize, s: usize): v128 {
    const a = v128.load_lane<f32>(q, v128.load32_zero(p), 1);
    const b = v128.load_lane<f32>(s, v128.load32_zero(r), 1);
    return v128.shuffle<f32>(a, b, 0, 1, 4, 5);
  }

  /** Adds what is there and the bias to the next four sums, clamps them, stores the first n. */
  @inline static finish(sum: v128, y: usize, bias: usize, n: i32, flags: i32, lo: f32, hi: f32): void {
    let a = sum;
    if (flags & Flag.Accumulate) a = f32x4.add(a, v128.load(y));
    if (flags & Flag.Bias) a = f32x4.add(a, v128.load(bias));
    if (flags & Flag.Clamp) a = Simd.clamp(a, f32x4.splat(lo), f32x4.splat(hi));
    Simd.storeLanes(y, a, n);
  }

  /** Stores the first n lanes of v, n in 1..4. */
  @inline static storeLanes(p: usize, v: v128, n: i32): void {
    if (n >= 4) v128.store(p, v);
    else {
      v128.store_lane<f32>(p, v, 0);
      if (n > 1) v128.store_lane<f32>(p, v, 1, 4);
      if (n > 2) v128.store_lane<f32>(p, v, 2, 8);
    }
  }
}
