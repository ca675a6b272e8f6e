// k-winners (k-WTA; Ahmad & Scheinkman 2019, nupic.torch): in each scope of a matrix x[rows][cols], one or more whole rows, the k
// largest values pass. The result is a list for each row: indptr, ascending column numbers, values.
//
//   x        rows × cols floats
//   factors  cols floats that the ranking multiplies x by (boosting), or 0 for none
//   work     2 · (scopeRows · cols + 4) i32
//   indptr   rows + 1 u32; indices  u32 and values  f32, rows · cols + 4 each
//   Dense    values are a matrix as x is, zero where nothing passes; indptr and indices are not used. It may be x.
//
// Up to 12 bytes past the end of x and factors are read. Nothing is sorted: values become integers that order like them; of many,
// a sample gives a bound that leaves little more than k of them; the range of these is halved until k are left. 160 of 1600:
// 2.3 µs, by a histogram of the upper 11 bits 3.2, of equal values 2.4 and 6.4 (Zen 4, Node 24, 2026-11).
import { Lists } from "../layout/lists";
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

/** The key of a NaN, below that of −Infinity. */
const LEAST: i32 = i32.MIN_VALUE;
/** Below so many, a sample costs more than it saves. */
const FEW: i32 = 512;
const SAMPLE: i32 = 128;

class Keys {
  /** Integers that order like the floats; −0 becomes 0, which it equals. */
  @inline static of(x: v128): v128 {
    const v = f32x4.add(x, f32x4.splat(0));
    const k = v128.xor(v, v128.and(i32x4.shr_s(v, 31), i32x4.splat(0x7fffffff)));
    return v128.bitselect(k, i32x4.splat(LEAST), f32x4.eq(v, v));
  }

  /** How many of n keys are at least t. Those behind the last, up to a whole vector, are LEAST, and t is not. */
  @inline static atLeast(keys: usize, n: i32, t: i32): i32 {
    const limit = i32x4.splat(t);
    let sum = i32x4.splat(0);
    for (const end = keys + ((<usize>n) << 2); keys < end; keys += 16) {
      sum = i32x4.sub(sum, i32x4.ge_s(v128.load(keys), limit));
    }
    sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
    return i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1);
  }

  /** The float of a key, and back. */
  @inline static float(key: i32): f32 {
    return reinterpret<f32>(key ^ ((key >> 31) & 0x7fffffff));
  }

  @inline static key(x: f32): i32 {
    const bits = reinterpret<i32>(x);
    return bits ^ ((bits >> 31) & 0x7fffffff);
  }

  /**
   * The k-th largest of n keys, or any number that exactly k of them reach: at least k reach lo, fewer reach hi. Halving the
   * floats' range takes about half as many counts as halving the integers', which lie densest around 0; those end it in any case.
   */
  static between(keys: usize, n: i32, k: i32, low: i32, high: i32): i32 {
    let lo = low;
    let hi = high;
    for (let turn = 0; hi - 1 > lo; ++turn) {
      let t = lo + <i32>(<u32>(hi - lo) >> 1);
      if (turn < 16) {
        const half = Keys.key(Keys.float(lo) * 0.5 + Keys.float(hi) * 0.5);
        if (half > lo && half < hi) t = half;
      }
      const count = Keys.atLeast(keys, n, t);
      if (count == k) return t;
      // Without a branch: which way it goes is a coin's toss.
      const up = (k - count) >> 31;
      lo = (t & up) | (lo & ~up);
      hi = (hi & up) | (t & ~up);
    }
    return lo;
  }

  /** As between, over all there is. */
  static bracket(keys: usize, n: i32, k: i32, guess: i32): i32 {
    let least = i32x4.splat(i32.MAX_VALUE);
    let most = i32x4.splat(LEAST);
    let p = keys;
    for (const end = keys + ((<usize>(n & ~3)) << 2); p < end; p += 16) {
      const v = v128.load(p);
      least = i32x4.min_s(least, v);
      most = i32x4.max_s(most, v);
    }
    // The last vector may hold what lies behind the keys, which is the least there is.
    if (n & 3) {
      least = i32x4.splat(LEAST);
      most = i32x4.max_s(most, v128.load(p));
    }
    least = i32x4.min_s(least, v128.shuffle<i32>(least, least, 2, 3, 0, 1));
    most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
    const lo = min(i32x4.extract_lane(least, 0), i32x4.extract_lane(least, 1));
    const hi = max(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1));
    // The last scope's is a good guess at this one's, and what is a little further on, where it is not passed by, another.
    let from = lo;
    let to = hi + 1;
    let probe = guess > lo && guess <= hi ? guess : 0;
    for (let turn = 0; turn < 2 && probe > from && probe < to; ++turn) {
      const count = Keys.atLeast(keys, n, probe);
      if (count == k) return probe;
      const x = Keys.float(probe);
      if (count > k) {
        from = probe;
        probe = Keys.key(x + (Keys.float(hi) - x) * 0.25);
      } else {
        to = probe;
        probe = Keys.key(x * 0.75);
      }
    }
    return Keys.between(keys, n, k, from, to);
  }

  /** The k-th largest of n keys, 0 < k < n, or any number that exactly k of them reach. */
  static kth(keys: usize, n: i32, k: i32, spare: usize, guess: i32): i32 {
    if (n < FEW) return Keys.bracket(keys, n, k, guess);
    // A bound that the k-th is hardly ever below: the rank that it would have in a sample, and three deviations more.
    const step = (<usize>((n >> 2) / (SAMPLE >> 2))) << 4;
    for (let i: usize = 0; i < <usize>(SAMPLE >> 2); ++i) v128.store(spare + (i << 4), v128.load(keys + i * step));
    const rank = (<f32>k * <f32>SAMPLE) / <f32>n;
    const wide = <i32>(rank + 3 * sqrt<f32>(rank)) + 4;
    if (wide >= SAMPLE) return Keys.bracket(keys, n, k, guess);
    v128.store(spare + (SAMPLE << 2), i32x4.splat(LEAST));
    const bound = i32x4.splat(Keys.bracket(spare, SAMPLE, wide, 0));
    let found = spare;
    for (let p = keys, end = keys + ((<usize>n) << 2); p < end; p += 16) {
      const v = v128.load(p);
      found = Lists.keep(found, v, i32x4.bitmask(i32x4.ge_s(v, bound)));
    }
    v128.store(found, i32x4.splat(LEAST));
    const left = <i32>((found - spare) >> 2);
    return left >= k ? Keys.bracket(spare, left, k, guess) : Keys.bracket(keys, n, k, guess);
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
  let kept: u32 = 0;
  let guess = 0;
  if (!(flags & Mode.Dense)) store<u32>(indptr, 0);
  for (; rows > 0; rows -= scopeRows) {
    let key = work;
    let p = x;
    for (let r = scopeRows; r > 0; --r, p += rowBytes, key += rowBytes) {
      for (let c: usize = 0; c < rowBytes; c += 16) {
        const v = v128.load(p + c);
        v128.store(key + c, Keys.of(factors ? f32x4.mul(v, v128.load(factors + c)) : v));
      }
    }
    v128.store(work + ((<usize>n) << 2), i32x4.splat(LEAST));
    // No float's key reaches the greatest integer.
    let t = i32.MAX_VALUE;
    if (k >= n) t = LEAST;
    else if (k > 0) t = guess = Keys.kth(work, n, k, spare, guess);
    let equals = -1;
    if (flags & Mode.Relu && t < 1) t = 1;
    else if (flags & Mode.Exact && k > 0 && k < n) {
      // Those above the k-th are fewer than k; the rest are the first of its equals.
      const above = Keys.atLeast(work, n, t + 1);
      if (above < k) equals = k - above;
    }
    const limit = i32x4.splat(t);
    key = work;
    if (flags & Mode.Dense) {
      const bytes = (<usize>n) << 2;
      let left = n;
      for (let c: usize = 0; c < bytes; c += 16, left -= 4) {
        Simd.storeLanes(values + c, v128.and(v128.load(x + c), i32x4.ge_s(v128.load(key + c), limit)), left);
      }
      x += bytes;
      values += bytes;
      continue;
    }
    for (let r = scopeRows; r > 0; --r, indptr += 4, x += rowBytes, key += rowBytes) {
      for (let c = 0; c < cols; c += 4) {
        const v = v128.load(key + ((<usize>c) << 2));
        const inside = Lists.inside(cols - c);
        let mask = i32x4.bitmask(i32x4.ge_s(v, limit)) & inside;
        if (equals >= 0) {
          // The lowest bits among the equals go on as long as there are any left to take.
          let same = i32x4.bitmask(i32x4.eq(v, limit)) & inside;
          mask ^= same;
          for (; same && equals; same &= same - 1, --equals) mask |= same & -same;
        }
        kept = Lists.append(indices, values, kept, c, v128.load(x + ((<usize>c) << 2)), mask);
      }
      store<u32>(indptr, kept, 4);
    }
  }
}
