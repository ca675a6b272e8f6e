// Between matrices x[rows][cols] and lists of their elements, a list for each row: indptr[rows + 1], indices of columns,
// ascending, values.

/** Places among 64 numbers, a bit each; walking the bits costs as much as there are set. */
export class Bits {
  /** Of 16 lanes of four vectors, each all ones or zero, a bit each. */
  @inline static of(a: v128, b: v128, c: v128, d: v128): u64 {
    return i8x16.bitmask(i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d)));
  }

  /** The first n of 64. */
  @inline static first(n: i32): u64 {
    return n < 64 ? ((<u64>1) << n) - 1 : -1;
  }
}

/** The elements of x with |x| > threshold, NaNs included. Up to 60 bytes past the end of x are read. */
export function f32_to_lists(
  x: usize,
  rows: i32,
  cols: i32,
  threshold: f32,
  indptr: usize,
  indices: usize,
  values: usize,
): void {
  const limit = f32x4.splat(threshold);
  const aside = indices - values;
  let to = values;
  store<u32>(indptr, 0);
  for (; rows > 0; --rows, indptr += 4) {
    for (let c = 0; c < cols; c += 64) {
      const n = min<i32>(cols - c, 64);
      let bits: u64 = 0;
      for (let i = 0; i < n; i += 16) {
        const p = x + ((<usize>i) << 2);
        bits |=
          Bits.of(
            f32x4.le(f32x4.abs(v128.load(p)), limit),
            f32x4.le(f32x4.abs(v128.load(p, 16)), limit),
            f32x4.le(f32x4.abs(v128.load(p, 32)), limit),
            f32x4.le(f32x4.abs(v128.load(p, 48)), limit),
          ) << i;
      }
      for (bits = ~bits & Bits.first(n); bits; bits &= bits - 1, to += 4) {
        const i = <i32>ctz(bits);
        store<u32>(to + aside, c + i);
        store<f32>(to, load<f32>(x + ((<usize>i) << 2)));
      }
      x += (<usize>n) << 2;
    }
    store<u32>(indptr, <u32>((to - values) >> 2), 4);
  }
}

/** y[rows][cols], zero but for the lists' elements. */
export function f32_from_lists(rows: i32, cols: i32, indptr: usize, indices: usize, values: usize, y: usize): void {
  const rowBytes = (<usize>cols) << 2;
  memory.fill(y, 0, <usize>rows * rowBytes);
  for (; rows > 0; --rows, indptr += 4, y += rowBytes) {
    const end = (<usize>load<u32>(indptr, 4)) << 2;
    for (let i = (<usize>load<u32>(indptr)) << 2; i < end; i += 4) {
      store<f32>(y + ((<usize>load<u32>(indices + i)) << 2), load<f32>(values + i));
    }
  }
}
