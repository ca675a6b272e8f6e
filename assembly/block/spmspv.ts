// As csr/spmspv.ts, on the same plan, for weights in blocks of 4 or 8 rows × 1 column: an active input and a block make one or
// two vector multiply-adds into sums in L1.
//
//   column   n × u16 an eighth of the byte offset of a block's first output, up to a multiple of 16 bytes; n × 4 or 8 f32
//   ahead: up to 208 bytes from a column's start are read, also where n is 0
import { Flag, Simd } from "../simd";
import { Ahead, Sums } from "../sums";

class Blocks {
  /** V vectors a block. */
  @inline static rows(
    V: i32,
    plan: usize,
    outputs: i32,
    near: usize,
    indptr: usize,
    indices: usize,
    data: usize,
    sums: usize,
    y: usize,
    yStride: usize,
    bias: usize,
    flags: i32,
    lo: f32,
    hi: f32,
  ): void {
    const m = <i32>load<u32>(plan);
    const taps = load<u32>(plan, 4);
    const channels: usize = load<u32>(plan, 8);
    const ahead = load<u32>(plan, 16);
    let touched = f32x4.splat(0);
    for (let output: usize = 0; output < <usize>outputs; ++output, y += yStride) {
      // Whole vectors of sums need no place of their own.
      const at = m & 7 ? sums : y;
      Sums.start(at, m, y, bias, flags);
      let columns: usize = load<u32>(plan, 12);
      for (let t = taps; t > 0; --t, columns += channels << 3) {
        let row = output;
        if (near) {
          row = load<u32>(near);
          near += 4;
          if (row == 0xffffffff) continue;
        }
        const end = (<usize>load<u32>(indptr + (row << 2), 4)) << 2;
        for (let i = (<usize>load<u32>(indptr + (row << 2))) << 2; i < end; i += 4) {
          const column = columns + ((<usize>load<u32>(indices + i)) << 3);
          const x = v128.load32_splat(data + i);
          let n = <i32>load<u32>(column, 4);
          let o: usize = load<u32>(column);
          if (ahead && i + 4 < end) touched = v128.or(touched, Ahead.touch(columns, load<u32>(indices + i, 4)));
          let v = o + (((<usize>n + 7) >> 3) << 4);
          // Blocks of one column differ, so the sums of a turn do not wait for each other.
          for (; n > 1; n -= 2) {
            const p = at + ((<usize>load<u16>(o)) << 3);
            const q = at + ((<usize>load<u16>(o, 2)) << 3);
            if (V == 1) {
              const a = Simd.madd(v128.load(v), x, v128.load(p));
              const b = Simd.madd(v128.load(v, 16), x, v128.load(q));
              v128.store(p, a);
              v128.store(q, b);
            } else {
              const a = Simd.madd(v128.load(v), x, v128.load(p));
              const b = Simd.madd(v128.load(v, 16), x, v128.load(p, 16));
              const c = Simd.madd(v128.load(v, 32), x, v128.load(q));
              const d = Simd.madd(v128.load(v, 48), x, v128.load(q, 16));
              v128.store(p, a);
              v128.store(p, b, 16);
              v128.store(q, c);
              v128.store(q, d, 16);
            }
            o += 4;
            v += V << 5;
          }
          if (n > 0) {
            const p = at + ((<usize>load<u16>(o)) << 3);
            v128.store(p, Simd.madd(v128.load(v), x, v128.load(p)));
            if (V == 2) v128.store(p, Simd.madd(v128.load(v, 16), x, v128.load(p, 16)), 16);
          }
        }
      }
      v128.store(sums + (((<usize>m + 7) >> 3) << 5), touched);
      if (at != y || flags & Flag.Clamp) Sums.finish(at, m, y, flags, lo, hi);
    }
  }
}

export function f32_block_spmspv_8x1(
  plan: usize,
  outputs: i32,
  near: usize,
  indptr: usize,
  indices: usize,
  data: usize,
  sums: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  Blocks.rows(2, plan, outputs, near, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}

export function f32_block_spmspv_4x1(
  plan: usize,
  outputs: i32,
  near: usize,
  indptr: usize,
  indices: usize,
  data: usize,
  sums: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  Blocks.rows(1, plan, outputs, near, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}
