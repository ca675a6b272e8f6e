// Sparse weights times sparse activations: each active input walks its column of W (Hunter, Spracklen, Ahmad 2021). One pass
// serves vectors, batches and convolutions: output p sums over taps t the list of the input row near[p][t].
//
//   plan     u32 m, u32 taps, u32 channels, u32 columns, u32 ahead (whether columns are long enough to read ahead)
//   columns  taps × channels × (u32 address, u32 n)
//   column   n × u16 number of the output, up to a multiple of 4 bytes; n × f32
//   ahead: up to 208 bytes from a column's start are read, also where n is 0
//   near     outputs × taps u32 numbers of input rows, 0xffffffff where there is none; or 0: each output reads its own row
//   indptr, indices, data   lists of active inputs, one for each input row (assembly/layout/lists.ts)
//   y        rows of m floats, yStride bytes apart, which are the sums where m is a multiple of 8
//   sums     m floats up to a multiple of 8, and 16 bytes more
//
// y and bias are read up to 12 bytes past the end and never written there.
import { Flag } from "../simd";
import { Ahead, Sums } from "../sums";

export function f32_csr_spmspv(
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
        let v = o + (((<usize>n + 1) >> 1) << 2);
        // Outputs of one column differ, so the sums of a turn do not wait for each other.
        for (; n > 3; n -= 4) {
          const first = load<u32>(o);
          const second = load<u32>(o, 4);
          const p = at + ((<usize>(first & 0xffff)) << 2);
          const q = at + ((<usize>(first >>> 16)) << 2);
          const r = at + ((<usize>(second & 0xffff)) << 2);
          const s = at + ((<usize>(second >>> 16)) << 2);
          const products = f32x4.mul(v128.load(v), x);
          const a = f32x4.extract_lane(products, 0) + load<f32>(p);
          const b = f32x4.extract_lane(products, 1) + load<f32>(q);
          const c = f32x4.extract_lane(products, 2) + load<f32>(r);
          const d = f32x4.extract_lane(products, 3) + load<f32>(s);
          store<f32>(p, a);
          store<f32>(q, b);
          store<f32>(r, c);
          store<f32>(s, d);
          o += 8;
          v += 16;
        }
        for (; n > 0; --n, o += 2, v += 4) {
          const p = at + ((<usize>load<u16>(o)) << 2);
          store<f32>(p, load<f32>(v) * f32x4.extract_lane(x, 0) + load<f32>(p));
        }
      }
    }
    v128.store(sums + (((<usize>m + 7) >> 3) << 5), touched);
    if (at != y || flags & Flag.Clamp) Sums.finish(at, m, y, flags, lo, hi);
  }
}
