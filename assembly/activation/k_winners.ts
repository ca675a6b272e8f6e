// k-winners (k-WTA; Ahmad & Scheinkman 2019, nupic.torch): in each scope of a matrix x[rows][cols], one or more whole rows, the k
// largest values pass. The result is a list for each row: indptr, ascending column numbers, values.
//
//   x        rows × cols floats
//   factors  cols floats that the ranking multiplies x by (boosting), or 0 for none
//   work     3 · (scopeRows · cols + 4) + 1024 floats
//   indptr   rows + 1 u32; indices  u32 and values  f32, rows · cols + 4 each
//   Dense    values are a matrix as x is, zero where nothing passes; indptr and indices are not used. It may be x.
//
// Up to 60 bytes past the end of x, work and values and 12 past that of factors are read. Nothing is sorted: of many ranks, a sample gives
// a bound that leaves little more than k of them; the range of these is narrowed until k are left. Rows that compete each by itself are
// turned, so that four are searched at once, one in each lane. What passes is found by walking the bits of 64 ranks.
import { Bits } from "../layout/lists";
import { f32_transpose } from "../layout/transpose";
import { Simd } from "../simd";

/** The bits of `flags`. */
class Mode {
  /** Only positive values can win. */
  static readonly Relu: i32 = 1;
  /** Exactly k: among equals the first ones. Otherwise all that equal the k-th pass. */
  static readonly Exact: i32 = 2;
  /** A matrix instead of lists; not with Exact. */
  static readonly Dense: i32 = 4;
}

/**
 * Thresholds are keys: integers that order like the floats, so that there is a middle between any two. This one, below that of
 * −Infinity, lets NaNs pass too.
 */
const LEAST: i32 = i32.MIN_VALUE;
/** The key of −Infinity. */
const LOWEST: i32 = i32.MIN_VALUE + 0x7fffff;
/** The bits of a NaN, which reaches nothing. */
const NONE: i32 = -1;
/** Below so many, a sample costs more than it saves. Four rows of fewer fit `work`. */
const FEW: i32 = 512;
/** Vectors of the smallest sample; of longer rows it is a 32nd. */
const LEAST_SAMPLE: i32 = 32;

class Ranks {
  /** How many of n ranks are at least the float of key t. No NaN is, nor what lies behind the last up to a whole vector. */
  static atLeast(ranks: usize, n: i32, t: i32): i32 {
    const limit = f32x4.splat(Ranks.float(t));
    let sum = i32x4.splat(0);
    for (const end = ranks + ((<usize>n) << 2); ranks < end; ranks += 16) {
      sum = i32x4.sub(sum, f32x4.ge(v128.load(ranks), limit));
    }
    sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
    return i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1);
  }

  @inline static float(key: i32): f32 {
    return reinterpret<f32>(key ^ ((key >> 31) & 0x7fffffff));
  }

  /** The floats of four keys, and back. */
  @inline static floats(keys: v128): v128 {
    return v128.xor(keys, i32x4.shr_u(i32x4.shr_s(keys, 31), 1));
  }

  /** The least floats that pass where the k-th have these keys. −0 is 0. */
  @inline static limits(keys: v128, flags: i32): v128 {
    const zeros = i32x4.eq(keys, i32x4.splat(-1));
    return Ranks.floats(flags & Mode.Relu ? i32x4.max_s(keys, i32x4.splat(1)) : i32x4.sub(keys, zeros));
  }

  /** The key of the k-th largest of n ranks, or of any number that exactly k of them reach; LEAST where fewer than k are numbers. */
  static search(ranks: usize, n: i32, k: i32, guess: i32): i32 {
    return i32x4.extract_lane(Ranks.searches(ranks, (n + 3) >> 2, k, guess, true), 0);
  }

  /** `search` of each lane of so many vectors by itself, or of all `together`, which then have the same result. */
  static searches(ranks: usize, vectors: i32, k: i32, first: i32, together: bool): v128 {
    const end = ranks + ((<usize>vectors) << 4);
    const wanted = i32x4.splat(k);
    const one = i32x4.splat(1);
    let least = f32x4.splat(Infinity);
    let most = f32x4.splat(-Infinity);
    for (let p = ranks; p < end; p += 16) {
      // What is NaN replaces neither.
      const v = v128.load(p);
      least = f32x4.pmin(least, v);
      most = f32x4.pmax(most, v);
    }
    if (together) {
      least = f32x4.pmin(least, v128.shuffle<i32>(least, least, 2, 3, 0, 1));
      most = f32x4.pmax(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
      // One number for all lanes: zeros of both signs are equal, but have keys of their own.
      least = f32x4.splat(min<f32>(f32x4.extract_lane(least, 0), f32x4.extract_lane(least, 1)));
      most = f32x4.splat(max<f32>(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)));
    }
    // k or more reach lo, but for the first, which stays where fewer are numbers; fewer reach hi.
    const below = i32x4.sub(Ranks.floats(least), one);
    let lo = below;
    let hi = i32x4.add(Ranks.floats(most), one);
    let guess = i32x4.splat(first);
    // How many reach lo, of each lane's all at first, and hi.
    let above = i32x4.splat(vectors);
    let fewer = i32x4.splat(0);
    for (let turn = 0; v128.any_true(i32x4.gt_s(i32x4.sub(hi, one), lo)); ++turn) {
      // Halfway where the guess does not lie between them, and after 18 turns, so that it ends whatever the guesses are.
      let t = i32x4.add(lo, i32x4.shr_u(i32x4.sub(hi, lo), 1));
      if (turn < 18) {
        const inside = v128.and(i32x4.gt_s(guess, lo), i32x4.lt_s(guess, hi));
        t = v128.bitselect(guess, t, inside);
      }
      const limit = Ranks.floats(t);
      let count = i32x4.splat(0);
      let more = count;
      let p = ranks;
      for (; p + 48 < end; p += 64) {
        count = i32x4.sub(count, f32x4.ge(v128.load(p), limit));
        more = i32x4.sub(more, f32x4.ge(v128.load(p, 16), limit));
        count = i32x4.sub(count, f32x4.ge(v128.load(p, 32), limit));
        more = i32x4.sub(more, f32x4.ge(v128.load(p, 48), limit));
      }
      for (; p < end; p += 16) count = i32x4.sub(count, f32x4.ge(v128.load(p), limit));
      count = i32x4.add(count, more);
      if (together) {
        count = i32x4.add(count, v128.shuffle<i32>(count, count, 2, 3, 0, 1));
        count = i32x4.add(count, v128.shuffle<i32>(count, count, 1, 0, 3, 2));
      }
      const enough = i32x4.ge_s(count, wanted);
      lo = v128.bitselect(t, lo, enough);
      hi = v128.bitselect(hi, t, enough);
      above = v128.bitselect(count, above, enough);
      fewer = v128.bitselect(fewer, count, enough);
      // Nobody asks for more than exactly k.
      hi = v128.bitselect(i32x4.add(t, one), hi, i32x4.eq(count, wanted));
      // Guesses take numbers to lie evenly between lo and hi, and each third to grow rarer towards the greatest about as in the tail of a
      // normal distribution. The one helps where the other is slow.
      let from = limit;
      let to = f32x4.add(f32x4.mul(most, f32x4.splat(0.75)), f32x4.mul(limit, f32x4.splat(0.25)));
      let parts = i32x4.sub(count, wanted);
      let among = i32x4.add(count, wanted);
      if (turn % 3) {
        from = Ranks.floats(lo);
        to = Ranks.floats(hi);
        parts = i32x4.sub(above, wanted);
        among = i32x4.sub(above, fewer);
      }
      const share = f32x4.div(f32x4.convert_i32x4_s(parts), f32x4.convert_i32x4_s(among));
      guess = Ranks.floats(f32x4.add(from, f32x4.mul(f32x4.sub(to, from), share)));
    }
    return v128.bitselect(i32x4.splat(LEAST), lo, i32x4.eq(lo, below));
  }
}

/** What reaches a limit. */
class Chosen {
  /** Which of n ranks, at most 64, reach a limit: all, NaNs too, that of LEAST. */
  @inline static bits(ranks: usize, n: i32, limit: v128): u64 {
    let bits: u64 = 0;
    for (let i = 0; i < n; i += 16) {
      const p = ranks + ((<usize>i) << 2);
      bits |=
        Bits.of(
          f32x4.ge(v128.load(p), limit),
          f32x4.ge(v128.load(p, 16), limit),
          f32x4.ge(v128.load(p, 32), limit),
          f32x4.ge(v128.load(p, 48), limit),
        ) << i;
    }
    if (i32x4.extract_lane(limit, 0) == -1) bits = -1;
    return bits & Bits.first(n);
  }

  /**
   * Lists of the rows of x, whose ranks lie `apart` from them, from `to` on among the values; where they end. The limits of four rows
   * take turns.
   */
  static lists(
    x: usize,
    apart: usize,
    rows: i32,
    cols: i32,
    limits: v128,
    indptr: usize,
    indices: usize,
    values: usize,
    to: usize,
  ): usize {
    const aside = indices - values;
    for (; rows > 0; --rows, indptr += 4) {
      const limit = Simd.lane(limits, 0);
      limits = v128.shuffle<i32>(limits, limits, 1, 2, 3, 0);
      for (let c = 0; c < cols; c += 64) {
        const n = min<i32>(cols - c, 64);
        for (let bits = Chosen.bits(x + apart, n, limit); bits; bits &= bits - 1, to += 4) {
          const i = <i32>ctz(bits);
          store<u32>(to + aside, c + i);
          store<f32>(to, load<f32>(x + ((<usize>i) << 2)));
        }
        x += (<usize>n) << 2;
      }
      store<u32>(indptr, <u32>((to - values) >> 2), 4);
    }
    return to;
  }

  /**
   * What reaches another limit among such lists, whose ranks are given, in their place: nothing is written where something is still to be
   * read. Of those that equal the limit only the first, unless `equals` is negative.
   */
  static again(
    ranks: usize,
    rows: i32,
    equals: i32,
    limit: v128,
    indptr: usize,
    indices: usize,
    values: usize,
    to: usize,
  ): usize {
    const aside = indices - values;
    const all = i32x4.eq(limit, i32x4.splat(-1));
    const lastRow = indptr + ((<usize>rows) << 2);
    const end = values + ((<usize>load<u32>(lastRow)) << 2);
    for (let from = to; from < end; ) {
      const n = min<i32>(<i32>((end - from) >> 2), 64);
      let bits = Chosen.bits(ranks, n, limit);
      if (equals >= 0) {
        let same: u64 = 0;
        for (let i = 0; i < n; i += 4) {
          const v = v128.load(ranks + ((<usize>i) << 2));
          const equal = v128.or(f32x4.eq(v, limit), v128.and(f32x4.ne(v, v), all));
          same |= (<u64>i32x4.bitmask(equal)) << i;
        }
        same &= bits;
        bits ^= same;
        for (; same && equals; same &= same - 1, --equals) bits |= same & (0 - same);
      }
      // Rows end where those ended that are read, less what did not stay.
      const read = <u32>((from - values) >> 2);
      const kept = <u32>((to - values) >> 2);
      for (; indptr < lastRow; indptr += 4) {
        const left = load<u32>(indptr, 4) - read;
        if (left > <u32>n) break;
        store<u32>(indptr, kept + <u32>popcnt(bits & Bits.first(left)), 4);
      }
      for (; bits; bits &= bits - 1, to += 4) {
        const at = from + ((<usize>ctz(bits)) << 2);
        store<u32>(to + aside, load<u32>(at + aside));
        store<u32>(to, load<u32>(at));
      }
      from += (<usize>n) << 2;
      ranks += (<usize>n) << 2;
    }
    return to;
  }
}

export function f32_k_winners(
  x: usize,
  rows: i32,
  cols: i32,
  scopeRows: i32,
  k: i32,
  factors: usize,
  flags: i32,
  work: usize,
  indptr: usize,
  indices: usize,
  values: usize,
): void {
  const n = scopeRows * cols;
  const spare = work + ((<usize>n + 4) << 2);
  const rowBytes = (<usize>cols) << 2;
  const dense = flags & Mode.Dense;
  const exact = flags & Mode.Exact && k > 0 && k < n;
  let to = values;
  let guess = 0;
  const each = scopeRows == 1 && n < FEW && k > 0 && k < n && !(factors || dense || exact);
  if (!dense) store<u32>(indptr, 0);
  for (let row = 0; row < rows; ) {
    // Nothing but the keys must be known of four rows before they are listed.
    if (each && row + 4 <= rows) {
      f32_transpose(4, cols, x, rowBytes, spare, 16);
      const keys = Ranks.searches(spare, n, k, guess, false);
      guess = i32x4.extract_lane(keys, 1);
      to = Chosen.lists(x, 0, 4, cols, Ranks.limits(keys, flags), indptr, indices, values, to);
      x += rowBytes << 2;
      indptr += 16;
      row += 4;
      continue;
    }
    row += scopeRows;
    // What is ranked lies in x already, unless it must be made or ends within a vector.
    let ranks = x;
    if (factors || n & 3) {
      let rank = (ranks = work);
      let p = x;
      for (let r = scopeRows; r > 0; --r, p += rowBytes, rank += rowBytes) {
        for (let c: usize = 0; c < rowBytes; c += 16) {
          const v = v128.load(p + c);
          v128.store(rank + c, factors ? f32x4.mul(v, v128.load(factors + c)) : v);
        }
      }
      v128.store(work + ((<usize>n) << 2), i32x4.splat(NONE));
    }
    // No number's key reaches the greatest integer.
    let t = k < n ? i32.MAX_VALUE : LEAST;
    let sure = true;
    if (k > 0 && k < n) {
      let from = ranks;
      let among = n;
      let rank = k;
      if (n >= FEW) {
        // A bound that k and few more hardly ever fail to reach: what the k-th would be in a sample, and two deviations more.
        const vectors = max<i32>(LEAST_SAMPLE, n >> 7);
        const step = (<usize>((n >> 2) / vectors)) << 4;
        among = vectors << 2;
        for (let i: usize = 0; i < <usize>vectors; ++i) v128.store(spare + (i << 4), v128.load(ranks + i * step));
        const share = (<f32>k * <f32>among) / <f32>n;
        sure = false;
        from = spare;
        rank = <i32>(share + 2 * sqrt<f32>(share)) + 4;
      }
      t = guess = Ranks.search(from, among, rank, guess);
      // Of NaNs alone: nothing is below −Infinity, and they are not counted.
      if (!sure) t = max<i32>(t, LOWEST);
    }
    const first = to;
    // Ranks of what was listed, one after another: the values, unless these have other ranks or are not listed.
    const chosen = dense || factors ? spare : to;
    let found = chosen;
    let limit: v128;
    let again = false;
    while (true) {
      limit = Ranks.limits(i32x4.splat(t), sure ? flags : 0);
      if (again) break;
      if (!dense) to = Chosen.lists(x, ranks - x, scopeRows, cols, limit, indptr, indices, values, first);
      if (sure && !exact) break;
      found = to;
      if (chosen == spare) {
        // As a single row. Its numbers of columns and where it ends lie behind, of no use.
        const behind = spare + ((<usize>n + 4) << 2);
        found = Chosen.lists(ranks, 0, 1, n, limit, behind, behind, spare, spare);
      }
      v128.store(found, i32x4.splat(NONE));
      if (sure) break;
      sure = true;
      // Too few because of NaNs, or of a sample that is not like the rest.
      const left = <i32>((found - chosen) >> 2);
      again = left >= k;
      t = guess = Ranks.search(again ? chosen : ranks, again ? left : n, k, guess);
    }
    if (dense) {
      const bytes = (<usize>n) << 2;
      let left = n;
      for (let c: usize = 0; c < bytes; c += 16, left -= 4) {
        Simd.storeLanes(
          to + c,
          v128.and(v128.load(x + c), v128.or(f32x4.ge(v128.load(ranks + c), limit), i32x4.eq(limit, i32x4.splat(-1)))),
          left,
        );
      }
      x += bytes;
      to += bytes;
      continue;
    }
    let equals = -1;
    if (exact && !(flags & Mode.Relu && t < 1)) {
      // Those above the k-th are fewer than k; the rest are the first of its equals.
      t = t == -1 ? 0 : t;
      const above = Ranks.atLeast(chosen, <i32>((found - chosen) >> 2), t == LEAST ? LOWEST : t + 1);
      if (above < k) equals = k - above;
    }
    if (again || equals >= 0) to = Chosen.again(chosen, scopeRows, equals, limit, indptr, indices, values, first);
    x += (<usize>n) << 2;
    indptr += (<usize>scopeRows) << 2;
  }
}
