// Between matrices x[rows][cols] and lists of their elements, a list for each row: indptr[rows + 1], indices of columns,
// ascending, values. indices and values need room for four more than they hold.

import { Simd } from "../simd";

/** For each of 16 masks the byte swizzle that brings the lanes whose bits are set to the front. */
const FRONT: usize = memory.data(256, 16);
// Made when the module starts: as data it would be 256 bytes of each build.
for (let i = 0; i < 64; ++i) {
  const mask = i >> 2;
  const lane = i & 3;
  const place = popcnt(mask & ((1 << lane) - 1));
  if ((mask >> lane) & 1) store<u32>(FRONT + ((<usize>mask) << 4) + (place << 2), 0x03020100 + lane * 0x04040404);
}

export class Lists {
  /** Stores the lanes of v whose bits are set at p, and three more that mean nothing; where the next goes. */
  @inline static keep(p: usize, v: v128, mask: i32): usize {
    v128.store(p, Simd.swizzle(v, v128.load(FRONT + ((<usize>mask) << 4))));
    return p + ((<usize>popcnt(mask)) << 2);
  }

  /** Appends the lanes of four columns from c whose bits are set to lists of `kept` elements; how many there are then. */
  @inline static append(indices: usize, values: usize, kept: u32, c: i32, v: v128, mask: i32): u32 {
    const at = (<usize>kept) << 2;
    Lists.keep(indices + at, i32x4.add(i32x4.splat(c), i32x4(0, 1, 2, 3)), mask);
    Lists.keep(values + at, v, mask);
    return kept + popcnt(mask);
  }

  /** The bits of lanes that a row of `left` more columns has. */
  @inline static inside(left: i32): i32 {
    return left < 4 ? (1 << left) - 1 : 15;
  }
}

/** The elements of x with |x| > threshold, NaNs included. Up to 12 bytes past the end of x are read. */
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
  let kept: u32 = 0;
  store<u32>(indptr, 0);
  for (; rows > 0; --rows, indptr += 4, x += (<usize>cols) << 2) {
    for (let c = 0; c < cols; c += 4) {
      const v = v128.load(x + ((<usize>c) << 2));
      const mask = (i32x4.bitmask(f32x4.le(f32x4.abs(v), limit)) ^ 15) & Lists.inside(cols - c);
      if (mask) kept = Lists.append(indices, values, kept, c, v, mask);
    }
    store<u32>(indptr, kept, 4);
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
