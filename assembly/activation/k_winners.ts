// k-winners (k-WTA; Ahmad & Scheinkman 2019, nupic.torch): in each scope of a matrix x[rows][cols], one or more whole rows, the k
// largest values pass. The result is a list for each row: indptr, ascending column numbers, values.
//
//   x        rows × cols floats
//   factors  cols floats that the ranking multiplies x by (boosting), or 0 for none
//   work     2 · (scopeRows · cols + 4) floats
//   indptr   rows + 1 u32; indices  u32 and values  f32, rows · cols + 4 each
//   Dense    values are a matrix as x is, zero where nothing passes; indptr and indices are not used. It may be x.
//
// Up to 12 bytes past the end of x and factors are read. Nothing is sorted: of many ranks, a sample gives a bound that leaves little
// more than k of them; the range of these is narrowed until k are left. 160 of 1600: 1.7 µs, if it is halved each time 1.9, if integer
// keys of all ranks are stored first 2.3, by a histogram of the upper 11 bits of these 3.2, of equal values 2.4 and 6.4 (Zen 4,
// Node 24, 2026-11).
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

/**
 * Thresholds are keys: integers that order like the floats, so that there is a middle between any two. This one, below that of
 * −Infinity, lets NaNs pass too.
 */
const LEAST: i32 = i32.MIN_VALUE;
/** The key of −Infinity. */
const LOWEST: i32 = i32.MIN_VALUE + 0x7fffff;
/** The bits of a NaN, which reaches nothing. */
const NONE: i32 = -1;
/** Below so many, a sample costs more than it saves. */
const FEW: i32 = 512;
const SAMPLE: i32 = 128;
/** Of so many ranks and more, the first turns take them to lie evenly: of few, the division takes longer than the turns it saves. */
const MANY: i32 = 128;

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

  /** The float of a key, and back. */
  @inline static float(key: i32): f32 {
    return reinterpret<f32>(key ^ ((key >> 31) & 0x7fffffff));
  }

  @inline static key(x: f32): i32 {
    const bits = reinterpret<i32>(x);
    return bits ^ ((bits >> 31) & 0x7fffffff);
  }

  /**
   * The k-th largest of n ranks, or any number that exactly k of them reach; LEAST where fewer than k are numbers. `guess` is the
   * last scope's, which is a good guess at this one's.
   */
  static search(ranks: usize, n: i32, k: i32, guess: i32): i32 {
    let least = f32x4.splat(Infinity);
    let most = f32x4.splat(-Infinity);
    // What is NaN replaces neither.
    for (let p = ranks, end = ranks + ((<usize>n) << 2); p < end; p += 16) {
      const v = v128.load(p);
      least = f32x4.pmin(least, v);
      most = f32x4.pmax(most, v);
    }
    least = f32x4.pmin(least, v128.shuffle<i32>(least, least, 2, 3, 0, 1));
    most = f32x4.pmax(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
    const low = Ranks.key(min<f32>(f32x4.extract_lane(least, 0), f32x4.extract_lane(least, 1)));
    const top = max<f32>(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1));
    // At least k reach lo, unless there are NaNs; fewer reach hi. How many do, or may.
    let lo = low;
    let hi = Ranks.key(top) + 1;
    let above = n;
    let below = 0;
    for (let turn = 0; hi - 1 > lo; ++turn) {
      let t = lo + <i32>(<u32>(hi - lo) >> 1);
      // The guess goes first, and then what is a little further on. Of many, taking them to lie evenly between lo and hi saves some
      // turns more. Halving the floats' range takes about half as many as halving the integers', which lie densest around 0; those
      // end it in any case.
      if (turn < 18) {
        const share = n >= MANY && turn < 12 ? <f32>(above - k) / <f32>(above - below) : <f32>0.5;
        const between = Ranks.key(Ranks.float(lo) * (1 - share) + Ranks.float(hi) * share);
        const first = turn < 2 && guess > lo && guess < hi ? guess : between;
        if (first > lo && first < hi) t = first;
      }
      const count = Ranks.atLeast(ranks, n, t);
      if (count == k) return t;
      const x = Ranks.float(t);
      guess = Ranks.key(count > k ? x + (top - x) * 0.25 : x * 0.75);
      // Without a branch: which way it goes is a coin's toss.
      const up = (k - count) >> 31;
      lo = (t & up) | (lo & ~up);
      hi = (hi & up) | (t & ~up);
      above = (count & up) | (above & ~up);
      below = (below & up) | (count & ~up);
    }
    // Nobody has counted the lowest number yet.
    return lo == low && Ranks.atLeast(ranks, n, lo) < k ? LEAST : lo;
  }

  /** The k-th largest of n ranks, 0 < k < n, or any number that exactly k of them reach; LEAST where that is NaN. */
  static kth(ranks: usize, n: i32, k: i32, spare: usize, guess: i32): i32 {
    if (n < FEW) return Ranks.search(ranks, n, k, guess);
    // A bound that the k-th is hardly ever below: the rank that it would have in a sample, and three deviations more.
    const step = (<usize>((n >> 2) / (SAMPLE >> 2))) << 4;
    for (let i: usize = 0; i < <usize>(SAMPLE >> 2); ++i) v128.store(spare + (i << 4), v128.load(ranks + i * step));
    const rank = (<f32>k * <f32>SAMPLE) / <f32>n;
    const wide = <i32>(rank + 3 * sqrt<f32>(rank)) + 4;
    if (wide >= SAMPLE) return Ranks.search(ranks, n, k, guess);
    const bound = f32x4.splat(Ranks.float(Ranks.search(spare, SAMPLE, wide, 0)));
    let found = spare;
    for (let p = ranks, end = ranks + ((<usize>n) << 2); p < end; p += 16) {
      const v = v128.load(p);
      found = Lists.keep(found, v, i32x4.bitmask(f32x4.ge(v, bound)));
    }
    v128.store(found, i32x4.splat(NONE));
    const left = <i32>((found - spare) >> 2);
    return left >= k ? Ranks.search(spare, left, k, guess) : Ranks.search(ranks, n, k, guess);
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
    let t = i32.MAX_VALUE;
    if (k >= n) t = LEAST;
    else if (k > 0) t = guess = Ranks.kth(ranks, n, k, spare, guess);
    // −0 is 0.
    if (t == -1) t = 0;
    let equals = -1;
    if (flags & Mode.Relu && t < 1) t = 1;
    else if (flags & Mode.Exact && k > 0 && k < n) {
      // Those above the k-th are fewer than k; the rest are the first of its equals.
      const above = Ranks.atLeast(ranks, n, t == LEAST ? LOWEST : t + 1);
      if (above < k) equals = k - above;
    }
    const limit = f32x4.splat(Ranks.float(t));
    const all = i32x4.splat(t == LEAST ? -1 : 0);
    if (flags & Mode.Dense) {
      const bytes = (<usize>n) << 2;
      let left = n;
      for (let c: usize = 0; c < bytes; c += 16, left -= 4) {
        Simd.storeLanes(
          values + c,
          v128.and(v128.load(x + c), v128.or(f32x4.ge(v128.load(ranks + c), limit), all)),
          left,
        );
      }
      x += bytes;
      values += bytes;
      continue;
    }
    for (let r = scopeRows; r > 0; --r, indptr += 4, x += rowBytes, ranks += rowBytes) {
      for (let c = 0; c < cols; c += 4) {
        const v = v128.load(ranks + ((<usize>c) << 2));
        const inside = Lists.inside(cols - c);
        let mask = i32x4.bitmask(v128.or(f32x4.ge(v, limit), all)) & inside;
        if (equals >= 0) {
          // The lowest bits among the equals go on as long as there are any left to take.
          let same = i32x4.bitmask(v128.or(f32x4.eq(v, limit), v128.and(f32x4.ne(v, v), all))) & inside;
          mask ^= same;
          for (; same && equals; same &= same - 1, --equals) mask |= same & -same;
        }
        kept = Lists.append(indices, values, kept, c, v128.load(x + ((<usize>c) << 2)), mask);
      }
      store<u32>(indptr, kept, 4);
    }
  }
}
