// dst[c][r] = src[r][c], rows srcStride and dstStride bytes apart, in squares of 4 × 4.
// Reads and writes exactly rows × cols floats.

class Square {
  @inline static turn(s: usize, srcStride: usize, d: usize, dstStride: usize): void {
    const a = v128.load(s),
      b = v128.load(s + srcStride);
    const c = v128.load(s + (srcStride << 1)),
      e = v128.load(s + srcStride * 3);
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5),
      AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const ce = v128.shuffle<f32>(c, e, 0, 4, 1, 5),
      CE = v128.shuffle<f32>(c, e, 2, 6, 3, 7);
    v128.store(d, v128.shuffle<f32>(ab, ce, 0, 1, 4, 5));
    v128.store(d + dstStride, v128.shuffle<f32>(ab, ce, 2, 3, 6, 7));
    v128.store(d + (dstStride << 1), v128.shuffle<f32>(AB, CE, 0, 1, 4, 5));
    v128.store(d + dstStride * 3, v128.shuffle<f32>(AB, CE, 2, 3, 6, 7));
  }

  @inline static scalar(rows: i32, cols: i32, s: usize, srcStride: usize, d: usize, dstStride: usize): void {
    for (let r = 0; r < rows; ++r, s += srcStride, d += 4) {
      let q = d;
      for (let c = 0; c < cols; ++c, q += dstStride) store<f32>(q, load<f32>(s + ((<usize>c) << 2)));
    }
  }
}

/** Source rows that are turned together: 16 floats of a destination row are the whole of a cache line. */
const BAND = 16;

export function f32_transpose(rows: i32, cols: i32, src: usize, srcStride: usize, dst: usize, dstStride: usize): void {
  const wide = cols & ~3;
  const tall = rows & ~3;
  for (let r0 = 0; r0 < tall; r0 += BAND) {
    const r1 = min(r0 + BAND, tall);
    let s = src + <usize>r0 * srcStride;
    let d = dst + ((<usize>r0) << 2);
    // Lines of both sides are finished while they are in L1, also where rows a power of two apart share a few of its sets.
    for (let c = 0; c < wide; c += 4, s += 16, d += dstStride << 2) {
      let p = s;
      let q = d;
      for (let r = r0; r < r1; r += 4, p += srcStride << 2, q += 16) Square.turn(p, srcStride, q, dstStride);
    }
    Square.scalar(r1 - r0, cols - wide, s, srcStride, d, dstStride);
  }
  Square.scalar(rows - tall, cols, src + <usize>tall * srcStride, srcStride, dst + ((<usize>tall) << 2), dstStride);
}
