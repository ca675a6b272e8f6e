// The two copies around a convolution: into padded planes, and out of them again.

class Line {
  /** n floats, srcCol bytes apart, to d. May write up to 12 bytes past the end. */
  @inline static gather(s: usize, srcCol: usize, d: usize, n: i32): void {
    if (srcCol == 4) {
      for (; n > 0; n -= 4, s += 16, d += 16) v128.store(d, v128.load(s));
    } else if (srcCol == 8) {
      for (; n > 0; n -= 4, s += 32, d += 16) {
        v128.store(d, v128.shuffle<f32>(v128.load(s), v128.load(s, 16), 0, 2, 4, 6));
      }
    } else {
      for (; n > 0; --n, s += srcCol, d += 4) store<f32>(d, load<f32>(s));
    }
  }

  /** Zeros over d..end, in vectors, so up to 12 bytes past it. */
  @inline static zero(d: usize, end: usize): void {
    for (; d < end; d += 16) v128.store(d, f32x4.splat(0));
  }
}

/**
 * Planes of rows × cols floats (each srcCol bytes apart within a row) into planes of dstPlane bytes whose first row starts
 * `head` bytes in and whose rows are `pitch` bytes apart; all the rest of a plane becomes zero. The zeros right of a row are
 * also those left of the next. Everything is written in ascending order, so a vector may overrun: what follows mends it.
 * Reads up to 28 bytes past a source row; writes up to one pitch and 12 bytes past the last plane.
 * Without rows, `head` may lie past the plane.
 */
export function f32_pad(
  planes: i32,
  rows: i32,
  cols: i32,
  src: usize,
  srcPlane: usize,
  srcRow: usize,
  srcCol: usize,
  dst: usize,
  dstPlane: usize,
  head: usize,
  pitch: usize,
): void {
  const used = (<usize>cols) << 2;
  for (; planes > 0; --planes, src += srcPlane, dst += dstPlane) {
    Line.zero(dst, dst + head);
    let s = src;
    let d = dst + head;
    for (let r = 0; r < rows; ++r, s += srcRow, d += pitch) {
      Line.gather(s, srcCol, d, cols);
      if (pitch > used) Line.zero(d + used, d + pitch);
    }
    Line.zero(d, dst + dstPlane);
  }
}

/** Planes of rows × cols floats from one pair of strides (bytes) to another. Writes exactly those floats. */
export function f32_copy(
  planes: i32,
  rows: i32,
  cols: i32,
  src: usize,
  srcPlane: usize,
  srcRow: usize,
  dst: usize,
  dstPlane: usize,
  dstRow: usize,
): void {
  // A row ends with its last four once more, not float by float.
  const last: isize = (<isize>cols - 4) << 2;
  for (; planes > 0; --planes, src += srcPlane, dst += dstPlane) {
    let s = src;
    let d = dst;
    for (let r = 0; r < rows; ++r, s += srcRow, d += dstRow) {
      if (last < 0) {
        for (let i: usize = 0; i < (<usize>cols) << 2; i += 4) store<f32>(d + i, load<f32>(s + i));
        continue;
      }
      let i: isize = 0;
      for (; i < last - 47; i += 64) {
        const p = s + i;
        const q = d + i;
        v128.store(q, v128.load(p));
        v128.store(q, v128.load(p, 16), 16);
        v128.store(q, v128.load(p, 32), 32);
        v128.store(q, v128.load(p, 48), 48);
      }
      for (; i < last; i += 16) v128.store(d + i, v128.load(s + i));
      v128.store(d + last, v128.load(s + last));
    }
  }
}
