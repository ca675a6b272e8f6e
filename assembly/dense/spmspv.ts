// As csr/spmspv.ts, for dense weights: the columns of inactive inputs are skipped, those of four active ones are added at once.
//
//   plan    u32 m, u32 taps, u32 channels, u32 values, u32 columnBytes
//   values  taps × channels columns of columnBytes, a multiple of 16: m floats and zeros
//   sums    columnBytes

import { Simd } from "../simd";
import { Sums } from "../sums";

export function f32_dense_spmspv(
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
  const channels = load<u32>(plan, 8);
  const bytes: usize = load<u32>(plan, 16);
  const stop = sums + bytes;
  for (let output: usize = 0; output < <usize>outputs; ++output, y += yStride) {
    Sums.start(sums, m, y, bias, flags);
    let values: usize = load<u32>(plan, 12);
    for (let t = taps; t > 0; --t, values += channels * bytes) {
      let row = output;
      if (near) {
        row = load<u32>(near);
        near += 4;
        if (row == 0xffffffff) continue;
      }
      const end = (<usize>load<u32>(indptr + (row << 2), 4)) << 2;
      let i = (<usize>load<u32>(indptr + (row << 2))) << 2;
      for (; i + 12 < end; i += 16) {
        let p = values + load<u32>(indices + i) * bytes;
        let q = values + load<u32>(indices + i, 4) * bytes;
        let r = values + load<u32>(indices + i, 8) * bytes;
        let s = values + load<u32>(indices + i, 12) * bytes;
        const a = v128.load32_splat(data + i);
        const b = v128.load32_splat(data + i, 4);
        const c = v128.load32_splat(data + i, 8);
        const d = v128.load32_splat(data + i, 12);
        for (let to = sums; to < stop; to += 16, p += 16, q += 16, r += 16, s += 16) {
          const sum = Simd.madd(v128.load(q), b, Simd.madd(v128.load(p), a, v128.load(to)));
          v128.store(to, Simd.madd(v128.load(s), d, Simd.madd(v128.load(r), c, sum)));
        }
      }
      for (; i < end; i += 4) {
        let p = values + load<u32>(indices + i) * bytes;
        const a = v128.load32_splat(data + i);
        for (let to = sums; to < stop; to += 16, p += 16) v128.store(to, Simd.madd(v128.load(p), a, v128.load(to)));
      }
    }
    Sums.finish(sums, m, y, flags, lo, hi);
  }
}
