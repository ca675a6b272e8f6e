// Weights times sparse activations (Hunter, Spracklen, Ahmad 2021): each active input adds its columns of W to the outputs that read
// it. One walk serves vectors, batches and convolutions. A unit is a row of a batch or an image; its visits are meetings of one
// list with columns of W: a row's only one, or for each pixel the taps that lie on outputs.
//
//   plan     u32 m, pitch (bytes from output to output of a unit), size (bytes of all its outputs), lists (bytes of its part of
//            indptr), visits, their end, whether columns are long enough to read ahead (of dense ones the bytes from channel to
//            channel), whether y takes the sums
//   visits   × (u32 number of the list, u32 columns, u32 byte offset in the unit's sums, u32 bytes of a dense column)
//   columns  channels × (u32 address, u16 n, u16 half of the distance from there to the values)
//   entries  n × u16 where the sums of one lie: in floats, of blocks in pairs of floats; n × 1, 4 or 8 f32
//   dense    instead, for each channel the bytes that the visit tells, a multiple of 16: an f32 for each sum
//   ahead    up to 208 bytes from the address on are read, also where n is 0; not of dense columns
//   indptr, indices, data   lists of active inputs (assembly/layout/lists.ts)
//   y        units yStride bytes apart. Where it takes the sums it is written up to the next multiple of 8 floats from each output
//   sums     m floats up to a multiple of 8, and 16 bytes more; where y does not take the sums; units then have one output
//
// y and bias are read up to 12 bytes past the end and never written there. Convolutions scatter because a column of one tap holds an entry
// or none: gathering tap by tap for each output took 1.3 to 3.1 times as long (bench/TRIED.md).
import { Flag, Simd } from "./simd";
import { Sums } from "./sums";

/** How columns are stored: dense, number by number, in blocks of 4 or 8 rows. */
class Column {
  static readonly DENSE: i32 = -1;
  static readonly CSR: i32 = 0;
  static readonly BLOCK_4: i32 = 1;
  static readonly BLOCK_8: i32 = 2;

  /** Adds n numbers. Outputs of one column differ, so the sums of a turn do not wait for each other. */
  @inline static numbers(at: usize, o: usize, v: usize, n: i32, x: v128): void {
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

  /** Adds n blocks of V vectors. */
  @inline static blocks(V: i32, at: usize, o: usize, v: usize, n: i32, x: v128): void {
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

  /** Adds `bytes` of dense columns, those of four active inputs at once: the list's elements from byte i to byte end. */
  @inline static dense(
    at: usize,
    columns: usize,
    bytes: usize,
    channel: usize,
    i: usize,
    end: usize,
    indices: usize,
    data: usize,
  ): void {
    const stop = at + bytes;
    for (; i + 12 < end; i += 16) {
      let p = columns + <usize>load<u32>(indices + i) * channel;
      let q = columns + <usize>load<u32>(indices + i, 4) * channel;
      let r = columns + <usize>load<u32>(indices + i, 8) * channel;
      let s = columns + <usize>load<u32>(indices + i, 12) * channel;
      const a = v128.load32_splat(data + i);
      const b = v128.load32_splat(data + i, 4);
      const c = v128.load32_splat(data + i, 8);
      const d = v128.load32_splat(data + i, 12);
      for (let to = at; to < stop; to += 16, p += 16, q += 16, r += 16, s += 16) {
        const sum = Simd.madd(v128.load(q), b, Simd.madd(v128.load(p), a, v128.load(to)));
        v128.store(to, Simd.madd(v128.load(s), d, Simd.madd(v128.load(r), c, sum)));
      }
    }
    for (; i < end; i += 4) {
      let p = columns + <usize>load<u32>(indices + i) * channel;
      const a = v128.load32_splat(data + i);
      for (let to = at; to < stop; to += 16, p += 16) v128.store(to, Simd.madd(v128.load(p), a, v128.load(to)));
    }
  }

  /**
   * Reads a vector of each of the first four cache lines of a column, so that they are in L1 when its turn comes: it lies where no
   * prefetcher expects it. What is read must go somewhere, or the engine drops the loads. 4x1 blocks, 95% zeros, 160 of 1600
   * inputs: 2.5 µs, without 3.0 (Zen 4, Node 24, 2026-11). Six lines: 0.96 to 0.98 of the speed (Cascade Lake).
   */
  @inline static touch(columns: usize, channel: usize): v128 {
    const p: usize = load<u32>(columns + (channel << 3));
    return v128.or(v128.or(v128.load(p), v128.load(p, 64)), v128.or(v128.load(p, 128), v128.load(p, 192)));
  }
}

class Walk {
  @inline static units(
    kind: i32,
    plan: usize,
    units: i32,
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
    const pitch: usize = load<u32>(plan, 4);
    const size: usize = load<u32>(plan, 8);
    const visitsEnd: usize = load<u32>(plan, 20);
    const ahead = load<u32>(plan, 24);
    let touched = f32x4.splat(0);
    for (; units > 0; --units, y += yStride, indptr += <usize>load<u32>(plan, 12)) {
      const at = load<u32>(plan, 28) ? y : sums;
      for (let i: usize = 0; i < size; i += pitch) Sums.start(at + i, m, y + i, bias, flags);
      for (let visit: usize = load<u32>(plan, 16); visit < visitsEnd; visit += 16) {
        const list = indptr + ((<usize>load<u32>(visit)) << 2);
        const columns: usize = load<u32>(visit, 4);
        const to = at + load<u32>(visit, 8);
        const end = (<usize>load<u32>(list, 4)) << 2;
        let i = (<usize>load<u32>(list)) << 2;
        if (kind == Column.DENSE) Column.dense(to, columns, load<u32>(visit, 12), ahead, i, end, indices, data);
        else {
          for (; i < end; i += 4) {
            const column = columns + ((<usize>load<u32>(indices + i)) << 3);
            const x = v128.load32_splat(data + i);
            const n = load<u32>(column, 4);
            const o: usize = load<u32>(column);
            if (ahead && i + 4 < end) touched = v128.or(touched, Column.touch(columns, load<u32>(indices + i, 4)));
            const v = o + ((n >>> 16) << 1);
            if (kind == Column.CSR) Column.numbers(to, o, v, <i32>(n & 0xffff), x);
            else Column.blocks(kind, to, o, v, <i32>(n & 0xffff), x);
          }
        }
      }
      v128.store(sums + (((<usize>m + 7) >> 3) << 5), touched);
      if (at != y || flags & Flag.Clamp) {
        for (let i: usize = 0; i < size; i += pitch) Sums.finish(at + i, m, y + i, flags, lo, hi);
      }
    }
  }
}

export function f32_csr_spmspv(
  plan: usize,
  units: i32,
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
  Walk.units(Column.CSR, plan, units, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}

export function f32_block_spmspv_8x1(
  plan: usize,
  units: i32,
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
  Walk.units(Column.BLOCK_8, plan, units, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}

export function f32_block_spmspv_4x1(
  plan: usize,
  units: i32,
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
  Walk.units(Column.BLOCK_4, plan, units, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}

export function f32_dense_spmspv(
  plan: usize,
  units: i32,
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
  Walk.units(Column.DENSE, plan, units, indptr, indices, data, sums, y, yStride, bias, flags, lo, hi);
}
