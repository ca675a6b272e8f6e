// y[m] = W · x for N:M weights with M of 4 at most and one column x. Four rows lie in the four lanes; each lane takes its input
// out of the group's four by a byte swizzle, so that no address is computed: the next group is the next 4·M bytes of x.
//
//   plan     u32 m, u32 n, u32 groups, u32 stride (bytes of x from group to group), u32 table, u32 ids, u32 values
//   table    256 × 16 bytes: for ids a, b, c, d in the byte a | b << 2 | c << 4 | d << 6 the swizzle that gives lane a of a
//            vector in lane 0, b in lane 1 and so on
//   ids      slices of 8 rows × groups × n × 2 × u16: the byte of four rows, then that of the next four, times 16
//   values   slices × groups × n × 2 × 4 × f32, zeros for the rows m lacks
//   x        groups · stride bytes; up to 12 more are read, which no id selects
//
// y and bias are read up to 12 bytes past the end and never written there. u16 ids that need no shift and eight rows to a load
// of x: 10.3 numbers/ns in L2, 8.9 from L3; a byte and four rows: 8.1 and 7.8; without the table, by shuffles of the ids: 3.4.
import { Simd } from "../simd";

class Lanes {
  /** s with its lanes as the table's entry says. */
  @inline static pick(s: v128, table: usize, id: usize): v128 {
    return Simd.swizzle(s, v128.load(table + id));
  }
}

export function f32_nm_spmv(plan: usize, x: usize, y: usize, bias: usize, flags: i32, lo: f32, hi: f32): void {
  const m = <i32>load<u32>(plan);
  const n = load<u32>(plan, 4);
  const groups = load<u32>(plan, 8);
  const stride: usize = load<u32>(plan, 12);
  const table: usize = load<u32>(plan, 16);
  let ids: usize = load<u32>(plan, 20);
  let v: usize = load<u32>(plan, 24);
  const zero = f32x4.splat(0);
  for (let left = m; left > 0; left -= 8) {
    let a = zero,
      b = zero,
      c = zero,
      d = zero;
    let p = x;
    if (n == 2) {
      for (let g = groups; g > 0; --g) {
        const s = v128.load(p);
        a = Simd.madd(v128.load(v), Lanes.pick(s, table, load<u16>(ids)), a);
        b = Simd.madd(v128.load(v, 16), Lanes.pick(s, table, load<u16>(ids, 2)), b);
        c = Simd.madd(v128.load(v, 32), Lanes.pick(s, table, load<u16>(ids, 4)), c);
        d = Simd.madd(v128.load(v, 48), Lanes.pick(s, table, load<u16>(ids, 6)), d);
        ids += 8;
        v += 64;
        p += stride;
      }
    } else {
      for (let g = groups; g > 0; --g) {
        const s = v128.load(p);
        for (let i = n; i > 0; --i) {
          a = Simd.madd(v128.load(v), Lanes.pick(s, table, load<u16>(ids)), a);
          b = Simd.madd(v128.load(v, 16), Lanes.pick(s, table, load<u16>(ids, 2)), b);
          ids += 4;
          v += 32;
        }
        p += stride;
      }
    }
    Simd.finish(f32x4.add(a, c), y, bias, left, flags, lo, hi);
    if (left > 4) Simd.finish(f32x4.add(b, d), y + 16, bias + 16, left - 4, flags, lo, hi);
    y += 32;
    bias += 32;
  }
}
