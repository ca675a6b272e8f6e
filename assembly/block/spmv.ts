// y[m] = W · x for weights in blocks and one column x. A slice is what fills the four lanes or is worked on at once: one
// block row of 4 or 8 rows, two of 2 rows, four rows of 1 × 2 or 1 × 4 blocks. Slices hold block rows of similar length.
//
//   plan     u32 slices, u32 records, u32 offsets, u32 values, u32 m, u32 n
//   records  slices × (u32 steps, u32 units, U × u32 block row); U is 1, 2 or 4 as above; units < U in the last slice only,
//            where the other numbers repeat a block row that exists
//   offsets  slices × steps × U × u16, byte offset of a block's first input within x
//   values   slices × steps × U × block, row by row
//   x        the n floats of this pass; behind them lie four zeros where they are brought: padded units, and blocks that the edge
//            cuts, read there
//
// y and bias are read up to 12 bytes past the end and never written there. Several steps a turn go to sums of their own, or
// the latency of the additions would be the limit. 4x1 reads offsets in pairs as a u32: 12.5 numbers/ns, two of
// four one by one 12.1 (Zen 4, Node 24; 11.6 and 11.5 on Node 20; eight sums are no faster; 2026-11).
import { Flag, Simd } from "../simd";
import { Vector } from "../vector";

class Block {
  /** Finishes four rows from `row`, as far as they exist. */
  @inline static finish(sum: v128, row: u32, m: u32, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
    const at = (<usize>row) << 2;
    Simd.finish(sum, y + at, bias + at, m - row, flags, lo, hi);
  }

  /** The two floats at each of two addresses. */
  @inline static pairs(p: usize, q: usize): v128 {
    return v128.load_lane<u64>(q, v128.load64_zero(p), 1);
  }

  /** As finish, for two or four rows or pairs of rows that lie anywhere: R = 1 or 2 rows a unit. */
  @inline static scatter(
    R: i32,
    sum: v128,
    record: usize,
    m: u32,
    y: usize,
    bias: usize,
    flags: i32,
    lo: f32,
    hi: f32,
  ): void {
    const units = load<u32>(record, 4);
    let a = sum;
    if (R == 1) {
      const r0: usize = load<u32>(record, 8) << 2;
      const r1: usize = load<u32>(record, 12) << 2;
      const r2: usize = load<u32>(record, 16) << 2;
      const r3: usize = load<u32>(record, 20) << 2;
      if (flags & Flag.Accumulate) a = f32x4.add(a, Simd.gather(y + r0, y + r1, y + r2, y + r3));
      if (flags & Flag.Bias) a = f32x4.add(a, Simd.gather(bias + r0, bias + r1, bias + r2, bias + r3));
      if (flags & Flag.Clamp) a = Simd.clamp(a, f32x4.splat(lo), f32x4.splat(hi));
      v128.store_lane<f32>(y + r0, a, 0);
      if (units > 1) v128.store_lane<f32>(y + r1, a, 1);
      if (units > 2) v128.store_lane<f32>(y + r2, a, 2);
      if (units > 3) v128.store_lane<f32>(y + r3, a, 3);
    } else {
      const r0: usize = load<u32>(record, 8) << 3;
      const r1: usize = load<u32>(record, 12) << 3;
      if (flags & Flag.Accumulate) a = f32x4.add(a, Block.pairs(y + r0, y + r1));
      if (flags & Flag.Bias) a = f32x4.add(a, Block.pairs(bias + r0, bias + r1));
      if (flags & Flag.Clamp) a = Simd.clamp(a, f32x4.splat(lo), f32x4.splat(hi));
      const bytes = (<usize>m) << 2;
      v128.store_lane<f32>(y + r0, a, 0);
      if (r0 + 4 < bytes) v128.store_lane<f32>(y + r0, a, 1, 4);
      if (units > 1) {
        v128.store_lane<f32>(y + r1, a, 2);
        if (r1 + 4 < bytes) v128.store_lane<f32>(y + r1, a, 3, 4);
      }
    }
  }
}

export function f32_block_spmv_8x1(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const m = load<u32>(plan, 16);
  const zero = Simd.zeros(lo);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    let e = zero,
      f = zero,
      g = zero,
      h = zero;
    let n = load<u32>(record);
    for (; n > 3; n -= 4) {
      let s = Vector.splat(load<u16>(o));
      a = Simd.madd(v128.load(v), s, a);
      b = Simd.madd(v128.load(v, 16), s, b);
      s = Vector.splat(load<u16>(o, 2));
      c = Simd.madd(v128.load(v, 32), s, c);
      d = Simd.madd(v128.load(v, 48), s, d);
      if (Simd.split(v)) break;
      s = Vector.splat(load<u16>(o, 4));
      e = Simd.madd(v128.load(v, 64), s, e);
      f = Simd.madd(v128.load(v, 80), s, f);
      s = Vector.splat(load<u16>(o, 6));
      g = Simd.madd(v128.load(v, 96), s, g);
      h = Simd.madd(v128.load(v, 112), s, h);
      o += 8;
      v += 128;
    }
    for (; n > 0; --n) {
      const s = Vector.splat(load<u16>(o));
      a = Simd.madd(v128.load(v), s, a);
      b = Simd.madd(v128.load(v, 16), s, b);
      o += 2;
      v += 32;
    }
    a = f32x4.add(f32x4.add(a, c), f32x4.add(e, g));
    b = f32x4.add(f32x4.add(b, d), f32x4.add(f, h));
    const row = load<u32>(record, 8) << 3;
    Block.finish(a, row, m, y, bias, flags, lo, hi);
    if (row + 4 < m) Block.finish(b, row + 4, m, y, bias, flags, lo, hi);
    record += 12;
  }
}

export function f32_block_spmv_4x1(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const m = load<u32>(plan, 16);
  const zero = Simd.zeros(lo);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    let n = load<u32>(record);
    for (; n > 3; n -= 4) {
      const p = load<u32>(o);
      const q = load<u32>(o, 4);
      a = Simd.madd(v128.load(v), Vector.splat(p & 0xffff), a);
      b = Simd.madd(v128.load(v, 16), Vector.splat(p >>> 16), b);
      c = Simd.madd(v128.load(v, 32), Vector.splat(q & 0xffff), c);
      d = Simd.madd(v128.load(v, 48), Vector.splat(q >>> 16), d);
      o += 8;
      v += 64;
    }
    for (; n > 0; --n) {
      a = Simd.madd(v128.load(v), Vector.splat(load<u16>(o)), a);
      o += 2;
      v += 16;
    }
    a = f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
    Block.finish(a, load<u32>(record, 8) << 2, m, y, bias, flags, lo, hi);
    record += 12;
  }
}

export function f32_block_spmv_2x1(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const m = load<u32>(plan, 16);
  const zero = Simd.zeros(lo);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    let n = load<u32>(record);
    for (; n > 3; n -= 4) {
      a = Simd.madd(v128.load(v), Vector.twice(load<u16>(o), load<u16>(o, 2)), a);
      b = Simd.madd(v128.load(v, 16), Vector.twice(load<u16>(o, 4), load<u16>(o, 6)), b);
      c = Simd.madd(v128.load(v, 32), Vector.twice(load<u16>(o, 8), load<u16>(o, 10)), c);
      d = Simd.madd(v128.load(v, 48), Vector.twice(load<u16>(o, 12), load<u16>(o, 14)), d);
      o += 16;
      v += 64;
    }
    for (; n > 0; --n) {
      a = Simd.madd(v128.load(v), Vector.twice(load<u16>(o), load<u16>(o, 2)), a);
      o += 4;
      v += 16;
    }
    a = f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
    Block.scatter(2, a, record, m, y, bias, flags, lo, hi);
    record += 16;
  }
}

export function f32_block_spmv_1x2(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const m = load<u32>(plan, 16);
  const zero = Simd.zeros(lo);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    let n = load<u32>(record);
    for (; n > 1; n -= 2) {
      a = Simd.madd(v128.load(v), Vector.pairs(load<u16>(o), load<u16>(o, 2)), a);
      b = Simd.madd(v128.load(v, 16), Vector.pairs(load<u16>(o, 4), load<u16>(o, 6)), b);
      c = Simd.madd(v128.load(v, 32), Vector.pairs(load<u16>(o, 8), load<u16>(o, 10)), c);
      d = Simd.madd(v128.load(v, 48), Vector.pairs(load<u16>(o, 12), load<u16>(o, 14)), d);
      o += 16;
      v += 64;
    }
    if (n > 0) {
      a = Simd.madd(v128.load(v), Vector.pairs(load<u16>(o), load<u16>(o, 2)), a);
      b = Simd.madd(v128.load(v, 16), Vector.pairs(load<u16>(o, 4), load<u16>(o, 6)), b);
      o += 8;
      v += 32;
    }
    a = f32x4.add(a, c);
    b = f32x4.add(b, d);
    a = f32x4.add(v128.shuffle<f32>(a, b, 0, 2, 4, 6), v128.shuffle<f32>(a, b, 1, 3, 5, 7));
    Block.scatter(1, a, record, m, y, bias, flags, lo, hi);
    record += 24;
  }
}

export function f32_block_spmv_1x4(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  let record: usize = load<u32>(plan, 4);
  let o: usize = load<u32>(plan, 8);
  let v: usize = load<u32>(plan, 12);
  const m = load<u32>(plan, 16);
  const zero = Simd.zeros(lo);
  Vector.bring(x, load<u32>(plan, 20));
  for (let slices = load<u32>(plan); slices > 0; --slices) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    for (let n = load<u32>(record); n > 0; --n) {
      a = Simd.madd(v128.load(v), Vector.four(load<u16>(o)), a);
      b = Simd.madd(v128.load(v, 16), Vector.four(load<u16>(o, 2)), b);
      c = Simd.madd(v128.load(v, 32), Vector.four(load<u16>(o, 4)), c);
      d = Simd.madd(v128.load(v, 48), Vector.four(load<u16>(o, 6)), d);
      o += 8;
      v += 64;
    }
    // Sums of each of the four, in lanes.
    const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 2, 4, 6), v128.shuffle<f32>(a, b, 1, 3, 5, 7));
    const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 2, 4, 6), v128.shuffle<f32>(c, d, 1, 3, 5, 7));
    a = f32x4.add(v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7));
    Block.scatter(1, a, record, m, y, bias, flags, lo, hi);
    record += 24;
  }
}
