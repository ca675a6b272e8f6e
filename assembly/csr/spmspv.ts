// Sparse weights times sparse activations: each active input walks its column of W (Hunter, Spracklen, Ahmad 2021). One pass
// serves vectors, batches and convolutions: output p sums over taps t the list of the input row near[p][t].
//
//   plan     u32 m, u32 taps, u32 channels, u32 columns, u32 ahead (whether columns are long enough to read ahead)
//   columns  taps × channels × (u32 address, u32 n)
//   column   n × u16 number of the output, up to a multiple of 4 bytes; n × f32
//   ahead: up to 336 bytes from a column's start are read, also where n is 0
//   near     outputs × taps u32 numbers of input rows, 0xffffffff where there is none
//   indptr, indices, data   lists of active inputs, one for each input row (assembly/layout/lists.ts)
//   y        rows of m floats, yStride bytes apart; sums  m floats up to a multiple of 8, and 16 bytes more
//
// y and bias are read up to 12 bytes past the end and never written there.
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
  for (; outputs > 0; --outputs, y += yStride) {
    Sums.start(sums, m, y, bias, flags);
    let columns: usize = load<u32>(plan, 12);
    for (let t = taps; t > 0; --t, near += 4, columns += channels << 3) {
      const row: usize = load<u32>(near);
      if (row == 0xffffffff) continue;
      const end = (<usize>load<u32>(indptr + (row << 2), 4)) << 2;
      for (let i = (<usize>load<u32>(indptr + (row << 2))) << 2; i < end; i += 4) {
        const column = columns + ((<usize>load<u32>(indices + i)) << 3);
        const x = load<f32>(data + i);
        let n = <i32>load<u32>(column, 4);
        let o: usize = load<u32>(column);
        if (ahead && i + 4 < end) touched = v128.or(touched, Ahead.touch(columns, load<u32>(indices + i, 4)));
        let v = o + (((<usize>n + 1) >> 1) << 2);
        // Outputs of one column differ, so the sums of a turn do not wait for each other.
        for (; n > 1; n -= 2) {
          const p = sums + ((<usize>load<u16>(o)) << 2);
          const q = sums + ((<usize>load<u16>(o, 2)) << 2);
          const a = load<f32>(p) + load<f32>(v) * x;
          const b = load<f32>(q) + load<f32>(v, 4) * x;
          store<f32>(p, a);
          store<f32>(q, b);
          o += 4;
          v += 8;
        }
        if (n > 0) {
          const p = sums + ((<usize>load<u16>(o)) << 2);
          store<f32>(p, load<f32>(p) + load<f32>(v) * x);
        }
      }
    }
    v128.store(sums + (((<usize>m + 7) >> 3) << 5), touched);
    Sums.finish(sums, m, y, flags, lo, hi);
  }
}
