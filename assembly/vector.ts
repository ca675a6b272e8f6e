/**
 * Where the kernels for one vector keep x while they run: at an address that is a constant to them, so that an offset from the stream is
 * the address itself. With x in a register csr takes an addition for each number: 4.4 instead of 4.8 nonzeros/ns, 4x1 11.2 instead
 * of 12.5, each with its best way to read offsets (Zen 4, Node 24; 4.2 and 4.8, 10.2 and 11.6 on Node 20; 2026-11). What reads at an
 * address elsewhere is written again here: a constant offset cannot be an argument, not even of an inlined function.
 */
export class Vector {
  /** Behind the tables of constants; bindings/memory.ts hands out what follows its 16 KiB. */
  static readonly At: i32 = 2048;

  /** Copies n floats from x, and four zeros behind them. */
  @inline static bring(x: usize, n: i32): void {
    const bytes = (<usize>n) << 2;
    memory.copy(Vector.At, x, bytes);
    v128.store(bytes, f32x4.splat(0), Vector.At);
  }

  /** The float at an offset, in all lanes. */
  @inline static splat(offset: usize): v128 {
    return v128.load32_splat(offset, Vector.At);
  }

  /** The two floats at each of two offsets. */
  @inline static pairs(p: usize, q: usize): v128 {
    return v128.load_lane<u64>(q, v128.load64_zero(p, Vector.At), 1, Vector.At);
  }

  /** The floats at two offsets, each in two lanes. */
  @inline static twice(p: usize, q: usize): v128 {
    return v128.shuffle<f32>(Vector.splat(p), Vector.splat(q), 0, 1, 4, 5);
  }

  /** Four floats from an offset on. */
  @inline static four(offset: usize): v128 {
    return v128.load(offset, Vector.At);
  }

  /** The floats at four offsets, put together in two pairs. */
  @inline static gather(p: usize, q: usize, r: usize, s: usize): v128 {
    const a = v128.load_lane<f32>(q, v128.load32_zero(p, Vector.At), 1, Vector.At);
    const b = v128.load_lane<f32>(s, v128.load32_zero(r, Vector.At), 1, Vector.At);
    return v128.shuffle<f32>(a, b, 0, 1, 4, 5);
  }
}
