// y[m] = W · x for csr weights and one column x, four rows in the four lanes ("sliced ELLPACK", SELL-4-σ: Kreutzer et al.
// 2014). Rows of similar length share a slice, so that there is no horizontal sum and hardly any padding.
//
//   plan     u32 slices, u32 records, u32 offsets, u32 values, u32 m, u32 n
//   records  slices × (u32 steps, u32 lanes, 4 × u32 row); lanes < 4 in the last slice only,
//            where the other numbers repeat a row that exists: y and bias are read there too
//   offsets  slices × steps × 4 × u16, byte offset of the input within x
//   values   slices × steps × 4 × f32
//   x        the n floats of this pass; behind them lies a zero where they are brought: padded lanes multiply 0 · 0
//
// Four steps a turn into sums of their own hide the latency of the additions. A load is what the core has least of: u16 offsets in
// pairs as a u32, lanes put together in two pairs, 4.8 nonzeros/ns; two offsets one by one 4.5, all of them 3.9, all from a u64 3.7
// (Zen 4, Node 24; 4.8, 4.5, 4.0, 3.7 on Node 20; 2026-11).
import { Flag, Simd } from "../simd";
import { Vector } from "../vector";

class Gather {
  /** x at four offsets: one step of a slice. */
  @inline static step(o: usize): v128 {
    const p = load<u32>(o);
    const q = load<u32>(o, 4);
    return Vector.gather(p & 0xffff, p >>> 16, q & 0xffff, q >>> 16);
  }

  /** p at the rows of a slice. */
  @inline static rows(p: usize, record: usize): v128 {
    return Simd.gather(
      p + (load<u32>(record, 8) << 2),
      p + (load<u32>(record, 12) << 2),
      p + (load<u32>(record, 16) << 2),
      p + (load<u32>(record, 20) << 2),
    );
  }
}

export function f32_csr_spmv(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const zero = f32x4.splat(0);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    if (flags & Flag.Accumulate) a = Gather.rows(y, record);
    if (flags & Flag.Bias) a = f32x4.add(a, Gather.rows(bias, record));
    let n = load<u32>(record);
    for (; n > 3; n -= 4) {
      a = Simd.madd(Gather.step(o), v128.load(v), a);
      b = Simd.madd(Gather.step(o + 8), v128.load(v, 16), b);
      c = Simd.madd(Gather.step(o + 16), v128.load(v, 32), c);
      d = Simd.madd(Gather.step(o + 24), v128.load(v, 48), d);
      o += 32;
      v += 64;
    }
    for (; n > 0; --n) {
      a = Simd.madd(Gather.step(o), v128.load(v), a);
      o += 8;
      v += 16;
    }
    a = f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
    if (flags & Flag.Clamp) a = Simd.clamp(a, f32x4.splat(lo), f32x4.splat(hi));
    const lanes = load<u32>(record, 4);
    v128.store_lane<f32>(y + (load<u32>(record, 8) << 2), a, 0);
    if (lanes > 1) v128.store_lane<f32>(y + (load<u32>(record, 12) << 2), a, 1);
    if (lanes > 2) v128.store_lane<f32>(y + (load<u32>(record, 16) << 2), a, 2);
    if (lanes > 3) v128.store_lane<f32>(y + (load<u32>(record, 20) << 2), a, 3);
    record += 24;
  }
}
