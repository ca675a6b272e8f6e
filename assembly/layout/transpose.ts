// dst[c][r] = src[r][c], rows srcStride and dstStride bytes apart, in blocks of 4 × 4.
// Reads and writes exactly rows × cols floats.

class Square {
  @inline static turn(s: usize, srcStride: usize, d: usize, dstStride: usize): void {
    const a = v128.load(s), b = v128.load(s + srcStride);
    const c = v128.load(s + (srcStride << 1)), e = v128.load(s + srcStride * 3);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const ce = v128.shuffle<f32>(c, e, 0, 4, 1, 5), CE = v128.shuffle<f32>(c, e, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(ab, ce, 0, 1, 4, 5));
    v128.store(d + dstStride, v128.shuffle<f32>(ab, ce, 2, 3, 6, 7));
    v128.store(d + (dstStride << 1), v128.shuffle<f32>(AB, CE, 0, 1, 4, 5));
    v128.store(d + dstStride * 3, v128.shuffle<f32>(AB, CE, 2, 3, 6, 7));
  }

  @inline static scalar(rows: i32, cols: i32, s: usize, srcStride: usize, d: usize, dstStride: usize): void {
    for (let r = 0; r < rows; ++r, s += srcStride, d += 4) {
      let q = d;
      for (let c = 0; c < cols; ++c, q += dstStride) store<f32>(q, load<f32>(s + (<usize>c << 2)));
    }
  }
}

export function f32_transpose(rows: i32, cols: i32, src: usize, srcStride: usize, dst: usize, dstStride: usize): void {
  const wide = cols & ~3;
  let r = 0;
  // Along the source rows: they are read in order, and a page of them is left behind once.
  for (; r + 4 <= rows; r += 4, src += srcStride << 2, dst += 16) {
    let s = src;
    let d = dst;
    for (let c = 0; c < wide; c += 4, s += 16, d += dstStride << 2) Square.turn(s, srcStride, d, dstStride);
    Square.scalar(4, cols - wide, s, srcStride, d, dstStride);
  }
  Square.scalar(rows - r, cols, src, srcStride, dst, dstStride);
}
