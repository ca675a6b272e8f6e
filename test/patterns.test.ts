// The twelve patterns: what prune keeps against a naive float64 model, what check finds, what detect names, with edges
// that cut blocks and tiles, ties, NaN and −0. The model below is slow, and shares no code with the bindings.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assignColumns } from "../bindings/patterns/complementary-assignment.js";
import {
  type CheckOptions,
  check,
  detect,
  evenness,
  gmpSparsity,
  type Pattern,
  type PatternLike,
  parsePattern,
  patternName,
  prune,
} from "../bindings/patterns.js";
import { random, sameBits, seed, sizeOf, values } from "./oracle.js";

const test = suite("patterns");

/** The rows of the table of patterns, each with its short form and its name. */
const TABLE: [row: string, pattern: Pattern, text: string, name: string][] = [
  ["unstructured", { sparsity: 0.9 }, "90%", "unstructured, 90% zeros"],
  ["Block-X", { block: [1, 4], sparsity: 0.8 }, "1x4@80%", "1x4 blocks, 80% zeros"],
  ["Block-Y", { block: [4, 1], sparsity: 0.75 }, "4x1@75%", "4x1 blocks, 75% zeros"],
  ["Block-XY", { block: [2, 4], sparsity: 0.6 }, "2x4@60%", "2x4 blocks, 60% zeros"],
  ["Partitioned-X", { tile: [1, 4], keep: 2 }, "2:4", "2:4"],
  ["Partitioned-Y", { tile: [4, 1], keep: 2 }, "2/4x1", "2:4 along the outputs"],
  ["Partitioned-XY", { tile: [4, 4], keep: 6 }, "6/4x4", "6 of each 4x4"],
  ["complementary", { tile: [5, 1], keep: 1 }, "complementary:5", "complementary, overlay 5"],
  [
    "Block-Y + Partitioned-Y, blocked complementary",
    { block: [4, 1], tile: [3, 1], keep: 1 },
    "complementary:3x4",
    "complementary, overlay 3 in blocks of 4 rows",
  ],
  ["Block-X + Partitioned-X", { block: [1, 4], tile: [1, 3], keep: 1 }, "1x4@1:3", "1:3 in 1x4 blocks"],
  [
    "Block-X + Partitioned-Y",
    { block: [1, 4], tile: [4, 1], keep: 1 },
    "1x4@1/4x1",
    "1:4 along the outputs in 1x4 blocks",
  ],
  ["Block-X + Partitioned-XY", { block: [1, 2], tile: [2, 3], keep: 2 }, "1x2@2/2x3", "2 of each 2x3 in 1x2 blocks"],
  ["Block-Y + Partitioned-X", { block: [4, 1], tile: [1, 4], keep: 2 }, "4x1@2:4", "2:4 in 4x1 blocks"],
  ["Block-XY + Partitioned-X", { block: [4, 2], tile: [1, 4], keep: 3 }, "4x2@3:4", "3:4 in 4x2 blocks"],
];

/** Shapes that the blocks and tiles of the table divide, that they do not, single rows and columns, convolutions. */
const SHAPES = [
  [60, 48],
  [61, 50],
  [7, 11],
  [1, 37],
  [37, 1],
  [1, 1],
  [3, 2],
  [10, 4, 3, 3],
  [6, 3, 2, 5],
];

const full = (pattern: PatternLike): [Pattern, number, number] => {
  const p = typeof pattern === "string" ? parsePattern(pattern) : pattern;
  return [p, ...((p.block ?? [1, 1]) as [number, number])];
};

/** A tile of the model: its blocks in row-major order, each a list of places. */
type Tile = { row: number; column: number; blocks: number[][] };

/** The model: tile after tile, block after block, place after place, from the definition. */
function tilesOf(shape: readonly number[], pattern: PatternLike): Tile[] {
  const [{ tile }, r, c] = full(pattern);
  const rows = shape[0];
  const cols = sizeOf(shape.slice(1));
  const [p, q] = tile ?? [Infinity, Infinity];
  const tiles = new Map<string, Tile>();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < cols; column++) {
      const [y, x] = [Math.floor(row / r), Math.floor(column / c)];
      const key = [p === Infinity ? 0 : Math.floor(y / p), q === Infinity ? 0 : Math.floor(x / q)].join();
      const t = tiles.get(key) ?? tiles.set(key, { row, column, blocks: [] }).get(key)!;
      const width = q === Infinity ? Math.ceil(cols / c) : Math.min(q, Math.ceil(cols / c) - Math.floor(x / q) * q);
      const index = (p === Infinity ? y : y % p) * width + (q === Infinity ? x : x % q);
      t.blocks[index] ??= [];
      t.blocks[index].push(row * cols + column);
    }
  }
  return [...tiles.values()];
}

function keptOf({ blocks }: Tile, pattern: PatternLike): number {
  const [{ keep, sparsity }] = full(pattern);
  return keep ? Math.min(keep, blocks.length) : blocks.length - Math.round(sparsity! * blocks.length);
}

const scoreOf = (data: Float32Array, places: number[]) => places.reduce((sum, i) => sum + Math.abs(data[i]), 0);

/** NaN above Infinity above all else; equal scores by position. */
function prunedByModel(data: Float32Array, shape: readonly number[], pattern: PatternLike): Float32Array {
  const out = new Float32Array(data.length);
  for (const t of tilesOf(shape, pattern)) {
    const ranked = t.blocks.map((places, index) => ({ places, index, score: scoreOf(data, places) }));
    ranked.sort((a, b) => {
      if (Number.isNaN(a.score) !== Number.isNaN(b.score)) return Number.isNaN(a.score) ? -1 : 1;
      return a.score > b.score ? -1 : a.score < b.score ? 1 : a.index - b.index;
    });
    for (const { places } of ranked.slice(0, keptOf(t, pattern))) for (const i of places) out[i] = data[i];
  }
  return out;
}

const isFair = (pattern: PatternLike): boolean => {
  const [{ tile, keep }, , c] = full(pattern);
  return c === 1 && tile?.[1] === 1 && keep === 1 && tile[0] > 1;
};

const exact = (data: Float32Array, shape: readonly number[], pattern: PatternLike, options?: CheckOptions) => {
  const result = check(data, shape, pattern, options);
  assert.ok(result.ok, `${patternName(pattern)} on ${shape}: ${!result.ok && result.message} (seed ${seed})`);
};

/** Never zero, so that what is kept can be counted. */
const nonzero = (n: number, rnd: () => number) => values(n, 0, rnd).map((v) => v || 1);

test("a pattern, its short form and its name are the same thing", () => {
  for (const [row, pattern, text, name] of TABLE) {
    assert.equal(parsePattern(text), parsePattern(pattern), row);
    assert.equal(parsePattern(parsePattern(text)), parsePattern(pattern), `${row}, parsed again`);
    assert.is(patternName(pattern), name);
    assert.is(patternName(text), name);
  }
  assert.equal(parsePattern("99.9%"), { block: [1, 1], tile: null, keep: null, sparsity: 0.999 });
  assert.is(patternName("99.9%"), "unstructured, 99.9% zeros");
  assert.is(patternName({ sparsity: 0.1 + 0.2 }), "unstructured, 30% zeros");
  assert.equal(parsePattern("complementary:20x4"), { block: [4, 1], tile: [20, 1], keep: 1, sparsity: null });
  assert.equal(parsePattern({ block: [2, 1], tile: null, keep: null, sparsity: 0 }).sparsity, 0);
  assert.is(patternName("1/300x1"), "1:300 along the outputs", "too tall for row ids of one byte");
});

test("prune keeps the largest blocks, and check accepts the result as exact", () => {
  const rnd = random();
  for (const [row, pattern] of TABLE) {
    for (const shape of SHAPES) {
      const data = nonzero(sizeOf(shape), rnd);
      const before = data.slice();
      const pruned = prune(data, shape, pattern);
      sameBits(data, before, `${row}: the input afterwards`);
      exact(pruned, shape, pattern);
      exact(pruned, shape, pattern, { atMost: true });
      for (let i = 0; i < data.length; i++) {
        const right = Object.is(pruned[i], data[i]) || Object.is(pruned[i], 0);
        assert.ok(right, `${row} ${shape}: element ${i} is ${pruned[i]}, of ${data[i]} (seed ${seed})`);
      }
      if (!isFair(pattern)) sameBits(pruned, prunedByModel(data, shape, pattern), `${row} ${shape}`);
    }
  }
});

test("any pattern on any shape does what the model does", () => {
  const size = fc.integer({ min: 1, max: 5 });
  const pair = fc.tuple(size, size);
  const pattern: fc.Arbitrary<Pattern> = fc.oneof(
    fc.record({ block: pair, sparsity: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc
      .record({ block: pair, tile: pair, part: fc.double({ min: 0, max: 0.999, noNaN: true }) })
      .map(({ block, tile, part }) => ({ block, tile, keep: 1 + Math.floor(part * tile[0] * tile[1]) })),
  );
  const dimension = fc.integer({ min: 0, max: 12 });
  fc.assert(
    fc.property(pattern, dimension, dimension, fc.nat(), (p, rows, cols, from) => {
      const rnd = random(from);
      // Few different values, for ties; zeros of both signs.
      const data = Float32Array.from({ length: rows * cols }, () => Math.round(rnd() * 6 - 3));
      const shape = [rows, cols];
      const pruned = prune(data, shape, p);
      exact(pruned, shape, p, { atMost: true });
      if (!isFair(p)) sameBits(pruned, prunedByModel(data, shape, p), JSON.stringify(p));
      exact(
        prune(
          data.map((v) => v || 0.5),
          shape,
          p,
        ),
        shape,
        p,
      );
    }),
    { seed, numRuns: 2000 },
  );
});

test("sums are float64, and of equal blocks the first is kept", () => {
  // In float32 both sums are 2^24: the one cannot be seen.
  const data = Float32Array.of(2 ** 24, 0, 2 ** 24, 1);
  sameBits(prune(data, [1, 4], { block: [1, 2], sparsity: 0.5 }), Float32Array.of(0, 0, 2 ** 24, 1), "float64");
  sameBits(prune(Float32Array.of(1, -1, 1, -1), [1, 4], "2:4"), Float32Array.of(1, -1, 0, 0), "2:4");
  sameBits(prune(Float32Array.of(1, 2, 2, 2), [2, 2], "50%"), Float32Array.of(0, 2, 2, 0), "50%");
  sameBits(prune(Float32Array.of(1, 1, 1, 1), [2, 2], "1/2x2"), Float32Array.of(1, 0, 0, 0), "1/2x2");
  for (const blocks of [1, 2, 3, 7, 8, 1000]) {
    for (const sparsity of [0, 0.1, 0.5, 0.85, 0.9, 0.999, 1]) {
      const kept = prune(new Float32Array(blocks).fill(3), [blocks, 1], { sparsity });
      const left = blocks - Math.round(sparsity * blocks);
      const first = kept.every((v, i) => v === (i < left ? 3 : 0));
      assert.ok(
        first,
        `${sparsity} of ${blocks}: kept ${kept.filter((v) => v !== 0).length}, expected the first ${left}`,
      );
    }
  }
});

test("what is kept keeps its bits, a signalling NaN's too", () => {
  const data = new Float32Array(4096);
  new Uint32Array(data.buffer).fill(0x7f800001);
  // By what V8 has compiled by then, too.
  for (let i = 0; i < 20; i++) {
    const bits = new Uint32Array(prune(data, [64, 64], "0%").buffer);
    assert.ok(bits.every((word) => word === 0x7f800001));
  }
});

test("NaN ranks above Infinity above numbers, and zeros of both signs are zeros", () => {
  sameBits(prune(Float32Array.of(9, -Infinity, NaN, 8), [1, 4], "1:4"), Float32Array.of(0, 0, NaN, 0), "NaN");
  sameBits(
    prune(Float32Array.of(9, -Infinity, 3e38, 8), [1, 4], "1:4"),
    Float32Array.of(0, -Infinity, 0, 0),
    "Infinity",
  );
  sameBits(
    prune(Float32Array.of(NaN, 0, Infinity, 3), [1, 4], "1x2@50%"),
    Float32Array.of(NaN, 0, 0, 0),
    "a block of NaN",
  );
  sameBits(prune(Float32Array.of(-0, 0, -0, 1e-45), [1, 4], "1:4"), Float32Array.of(0, 0, 0, 1e-45), "a denormal");
  const zeros = prune(Float32Array.of(-0, -0, -0, -0), [1, 4], "2:4");
  assert.ok(zeros.every((v) => v === 0));
  assert.ok(Object.is(zeros[3], 0), "what is pruned is +0");
  exact(Float32Array.of(-0, NaN, 1, -0), [1, 4], "2:4");
  assert.not(check(Float32Array.of(1, NaN, 1, -0), [1, 4], "2:4").ok);
  // Exact counts blocks that have a nonzero, so that a zero kept is one too few; at most does not mind.
  const few = prune(Float32Array.of(0, 0, 1, 0), [1, 4], "2:4");
  assert.not(check(few, [1, 4], "2:4").ok);
  exact(few, [1, 4], "2:4", { atMost: true });
  // Complementary: NaN first, then Infinities, then the sum of the rest, each as if the next were nothing.
  const fair = (...data: number[]) => prune(Float32Array.from(data), [data.length / 3, 3], "complementary:3");
  sameBits(fair(NaN, 1, 1, Infinity, 5, 1, 7, 1, 9), Float32Array.of(NaN, 0, 0, 0, 5, 0, 0, 0, 9), "one column");
  sameBits(
    fair(NaN, Infinity, 1, Infinity, 3e38, 3e38, 1, 1, Infinity),
    Float32Array.of(NaN, 0, 0, 0, 3e38, 0, 0, 0, Infinity),
    "NaN before Infinities",
  );
  sameBits(
    fair(NaN, Infinity, 1, Infinity, 1, 1, 1, 1, 1),
    Float32Array.of(NaN, 0, 0, 0, 1, 0, 0, 0, 1),
    "NaN before two Infinities",
  );
  sameBits(
    fair(Infinity, 3e38, 0, 3e38, 1, 0, 0, 0, 1),
    Float32Array.of(Infinity, 0, 0, 0, 1, 0, 0, 0, 1),
    "Infinity before two large",
  );
});

test("a matrix without rows, without columns, and of one weight", () => {
  for (const [row, pattern] of TABLE) {
    for (const shape of [
      [0, 5],
      [5, 0],
      [0, 0],
      [0, 3, 3, 3],
      [4, 2, 0, 3],
    ]) {
      assert.is(prune(new Float32Array(0), shape, pattern).length, 0, row);
      exact(new Float32Array(0), shape, pattern);
      const found = detect(new Float32Array(0), shape);
      assert.equal(
        [found.name, found.pattern, found.nnz, found.sparsity, found.rowNnz],
        ["empty", null, 0, 0, { min: 0, max: 0 }],
        `${shape}`,
      );
    }
    const one = prune(Float32Array.of(7), [1, 1], pattern);
    assert.is(one[0], parsePattern(pattern).tile ? 7 : 0, row);
  }
  assert.equal(evenness(new Float32Array(0), [0, 4]), { min: 0, max: 0, mean: 0, imbalance: 1 });
  assert.equal(evenness(new Float32Array(0), [4, 0]), { min: 0, max: 0, mean: 0, imbalance: 1 });
});

test("edges: cut blocks count as blocks, cut tiles keep what they have", () => {
  const ones = (n: number) => new Float32Array(n).fill(1);
  // 10 columns in groups of 4: 2, 2, and both of the last two.
  sameBits(prune(ones(10), [1, 10], "2:4"), Float32Array.of(1, 1, 0, 0, 1, 1, 0, 0, 1, 1), "2:4");
  sameBits(prune(ones(9), [1, 9], "2:4"), Float32Array.of(1, 1, 0, 0, 1, 1, 0, 0, 1), "2:4 with a group of one");
  // A block cut to one place with a larger weight than whole blocks.
  sameBits(prune(Float32Array.of(1, 1, 2, 0, 5), [5, 1], "2x1@67%"), Float32Array.of(0, 0, 0, 0, 5), "cut block");
  // 5 rows, overlay 3: in the second tile two rows share all columns.
  const w = prune(ones(5 * 6), [5, 6], "complementary:3");
  const perRow = Array.from({ length: 5 }, (_, r) => w.subarray(r * 6, r * 6 + 6).filter((v) => v !== 0).length);
  assert.equal(perRow, [2, 2, 2, 3, 3]);
  assert.equal(evenness(w, [5, 6]), { min: 2, max: 3, mean: 12 / 5, imbalance: 15 / 12 });
  // One row alone in its tile keeps everything.
  assert.is(evenness(prune(ones(4 * 6), [4, 6], "complementary:3"), [4, 6]).max, 6);
  // Tiles and blocks far larger than the matrix.
  sameBits(
    prune(ones(6), [2, 3], { block: [2 ** 31 - 1, 2 ** 31 - 1], tile: [2 ** 30, 2 ** 30], keep: 1 }),
    ones(6),
    "huge",
  );
});

/** Columns of each row, and the total score. */
function summary(scores: Float64Array, owner: Uint32Array, rows: number, cols: number) {
  const counts = new Array<number>(rows).fill(0);
  let total = 0;
  for (let c = 0; c < cols; c++) {
    counts[owner[c]]++;
    total += scores[owner[c] * cols + c];
  }
  return { counts, total };
}

/** The best fair total by trying everything: column after column, over the counts that remain possible. */
function bestTotal(scores: Float64Array, rows: number, cols: number): number {
  const least = Math.floor(cols / rows);
  const more = cols - least * rows;
  const known = new Map<string, number>();
  const visit = (c: number, counts: number[]): number => {
    if (counts.filter((n) => n > least).length > more || counts.some((n) => n > least + 1)) return -Infinity;
    if (c === cols) return counts.every((n) => n >= least) ? 0 : -Infinity;
    const key = counts.join();
    const cached = known.get(key);
    if (cached !== undefined) return cached;
    let best = -Infinity;
    for (let r = 0; r < rows; r++) {
      const next = counts.slice();
      next[r]++;
      best = Math.max(best, scores[r * cols + c] + visit(c + 1, next));
    }
    known.set(key, best);
    return best;
  };
  return visit(0, new Array<number>(rows).fill(0));
}

test("the complementary assignment is fair and the best there is", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 11 }),
      fc.constantFrom(2, 4, 1000),
      fc.boolean(),
      fc.nat(),
      (rows, cols, levels, scaled, from) => {
        const rnd = random(from);
        const scores = Float64Array.from(
          { length: rows * cols },
          (_, i) => Math.floor(rnd() * levels) * (scaled ? 1 + 10 * Math.floor(i / cols) : 1),
        );
        const { counts, total } = summary(scores, assignColumns(scores, rows, cols), rows, cols);
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${rows}x${cols}: ${counts} (seed ${seed})`);
        assert.is(total, bestTotal(scores, rows, cols), `${rows}x${cols}: ${scores} (seed ${seed})`);
      },
    ),
    { seed, numRuns: 1500 },
  );
});

/** The Hungarian method on rows repeated: another algorithm, for sizes that cannot be tried out. cols must be rows · n. */
function hungarianTotal(scores: Float64Array, rows: number, cols: number): number {
  const share = cols / rows;
  const [u, v] = [new Float64Array(cols + 1), new Float64Array(cols + 1)];
  const match = new Int32Array(cols + 1);
  const way = new Int32Array(cols + 1);
  const cost = (i: number, j: number) => -scores[Math.floor((i - 1) / share) * cols + j - 1];
  for (let i = 1; i <= cols; i++) {
    match[0] = i;
    let at = 0;
    const low = new Float64Array(cols + 1).fill(Infinity);
    const used = new Uint8Array(cols + 1);
    do {
      used[at] = 1;
      let [delta, next] = [Infinity, 0];
      for (let j = 1; j <= cols; j++) {
        if (used[j]) continue;
        const reduced = cost(match[at], j) - u[match[at]] - v[j];
        if (reduced < low[j]) [low[j], way[j]] = [reduced, at];
        if (low[j] < delta) [delta, next] = [low[j], j];
      }
      for (let j = 0; j <= cols; j++) {
        if (used[j]) {
          u[match[j]] += delta;
          v[j] -= delta;
        } else low[j] -= delta;
      }
      at = next;
    } while (match[at] !== 0);
    for (; at !== 0; at = way[at]) match[at] = match[way[at]];
  }
  let total = 0;
  for (let j = 1; j <= cols; j++) total -= cost(match[j], j);
  return total;
}

test("the complementary assignment is the best on larger tiles, also where one row has all large weights", () => {
  const rnd = random();
  for (const [rows, cols] of [
    [20, 160],
    [7, 203],
    [40, 40],
    [64, 128],
  ]) {
    const product = (i: number) => (1 + Math.floor(i / cols)) * (1 + (i % cols));
    for (const scale of [0, 1, 100, undefined]) {
      const scores = Float64Array.from({ length: rows * cols }, (_, i) =>
        scale === undefined ? product(i) : rnd() * (i < cols ? 1 + scale : 1),
      );
      const { counts, total } = summary(scores, assignColumns(scores, rows, cols), rows, cols);
      assert.ok(
        counts.every((n) => n === cols / rows),
        `${rows}x${cols}: ${counts} (seed ${seed})`,
      );
      const best = hungarianTotal(scores, rows, cols);
      assert.ok(Math.abs(total - best) <= 1e-9 * best, `${rows}x${cols}: ${total}, expected ${best} (seed ${seed})`);
    }
  }
  // More rows than columns: a row has one or none.
  const scores = Float64Array.from({ length: 50 * 8 }, rnd);
  assert.is(Math.max(...summary(scores, assignColumns(scores, 50, 8), 50, 8).counts), 1);
});

test("the complementary assignment is quick also where all rows want the same columns", () => {
  const [rows, cols] = [20, 6400];
  const scores = Float64Array.from({ length: rows * cols }, (_, i) => (1 + Math.floor(i / cols)) * (1 + (i % cols)));
  const start = performance.now();
  const { counts } = summary(scores, assignColumns(scores, rows, cols), rows, cols);
  assert.ok(counts.every((n) => n === cols / rows));
  // Some 0.5 s, or 20 and more where each step looks through a row's columns.
  assert.ok(performance.now() - start < 6000, `${performance.now() - start} ms`);
});

test("a complementary matrix is even, for whole tiles to one nonzero", () => {
  const rnd = random();
  for (const [rows, cols, text] of [
    [60, 50, "complementary:20"],
    [80, 33, "complementary:5x4"],
  ] as const) {
    const pruned = prune(nonzero(rows * cols, rnd), [rows, cols], text);
    const { min, max, mean, imbalance } = evenness(pruned, [rows, cols]);
    const overlay = parsePattern(text).tile![0];
    assert.equal([min, max], [Math.floor(cols / overlay), Math.ceil(cols / overlay)]);
    assert.is(mean, cols / overlay);
    assert.is(imbalance, (max * rows) / ((rows / overlay) * cols));
  }
  const w = nonzero(40 * 100, rnd);
  sameBits(prune(w, [40, 100], "complementary:20"), prune(w, [40, 100], "complementary:20"), "twice");
});

test("check names the first violation", () => {
  const at = (data: number[], shape: number[], pattern: PatternLike, options?: CheckOptions) => {
    const { ok, ...rest } = check(Float32Array.from(data), shape, pattern, options) as Exclude<
      ReturnType<typeof check>,
      { ok: true }
    >;
    assert.not(ok);
    return rest;
  };
  const groups = [1, 0, 1, 0, 1, 1, 0, 0, /* row 1 */ 1, 0, 0, 1, 1, 1, 0, 1, /* row 2 */ 1, 1, 1, 1, 0, 0, 1, 1];
  assert.equal(at(groups, [3, 8], "2:4"), {
    message: "row 1, columns 4..7: 3 nonzeros in a group of 4, expected 2",
    row: 1,
    column: 4,
    rows: 1,
    columns: 4,
    found: 3,
    expected: 2,
  });
  assert.is(
    at(groups, [3, 8], "2:4", { atMost: true }).message,
    "row 1, columns 4..7: 3 nonzeros in a group of 4, at most 2",
  );
  const message = (...args: Parameters<typeof at>) => at(...args).message;
  assert.is(message([1, 1, 0, 0, 1, 0], [1, 6], "2:4"), "row 0, columns 4..5: 1 nonzero in a group of 2, expected 2");
  assert.is(
    message([1, 1, 1, 0, 1, 0, 0, 0], [4, 2], "4x1@50%"),
    "rows 0..3, column 0: 3 nonzeros in a block of 4, expected 0 or 4",
  );
  assert.is(
    message([1, 1, 1, 0, 0, 1], [3, 2], "2x1@50%"),
    "rows 0..1, column 1: 1 nonzero in a block of 2, expected 0 or 2",
  );
  assert.is(
    message([1, 0, 1, 1, 0, 0, 1, 1], [4, 2], "complementary:4", { atMost: true }),
    "rows 0..3, column 0: 3 nonzeros in a group of 4, at most 1",
  );
  assert.is(
    message([1, 0, 1, 0, 1, 0, 1, 0], [4, 2], "2x1@1/2x1", { atMost: true }),
    "rows 0..3, column 0: 2 nonzero blocks in a group of 2, at most 1",
  );
  assert.is(
    message([1, 1, 0, 0, 0, 0, 0, 0], [2, 4], "50%"),
    "rows 0..1, columns 0..3: 2 nonzeros in a group of 8, expected 4",
  );
  assert.is(
    message([1, 1, 1, 0], [1, 4], "50%", { atMost: true }),
    "row 0, columns 0..3: 3 nonzeros in a group of 4, at most 2",
  );
  assert.is(message([1], [1, 1], "100%"), "row 0, column 0: 1 nonzero in a group of 1, expected 0");
  exact(Float32Array.of(1, 1, 0, 0, 0, 0, 0, 0), [2, 4], "50%", { atMost: true });
  exact(Float32Array.of(1, 0, 1, 0, 0, 0, 0, 0), [4, 2], "4x1@50%", { atMost: true });
});

test("check finds one weight too many, or one too few, wherever it is", () => {
  fc.assert(
    fc.property(fc.nat(TABLE.length - 1), fc.nat(SHAPES.length - 1), fc.nat(), fc.nat(), (row, s, from, place) => {
      const [label, pattern] = TABLE[row];
      const shape = SHAPES[s];
      const pruned = prune(nonzero(sizeOf(shape), random(from)), shape, pattern);
      const at = place % pruned.length;
      pruned[at] = pruned[at] === 0 ? 1 : 0;
      const result = check(pruned, shape, pattern);
      if (result.ok) throw new Error(`${label} ${shape}: element ${at} was not found (seed ${seed})`);
      const cols = pruned.length / shape[0];
      const [r, c] = [Math.floor(at / cols), at % cols];
      const inside = r >= result.row && r < result.row + result.rows;
      assert.ok(
        inside && c >= result.column && c < result.column + result.columns,
        `${label}: ${result.message} for ${at}`,
      );
    }),
    { seed, numRuns: 1000 },
  );
});

/** The shares of `Detection.fills`, from the definition. */
function fillsByModel(data: Float32Array, rows: number, cols: number) {
  const fills: { rows: number; cols: number; fill: number }[] = [];
  const nnz = data.filter((v) => v !== 0).length;
  for (const r of [1, 2, 4, 8]) {
    for (const c of [1, 2, 4]) {
      if (r * c === 1) continue;
      const blocks = new Set<string>();
      for (let i = 0; i < data.length; i++) {
        if (data[i] !== 0) blocks.add([Math.floor(Math.floor(i / cols) / r), Math.floor((i % cols) / c)].join());
      }
      fills.push({ rows: r, cols: c, fill: nnz === 0 ? 0 : nnz / (blocks.size * r * c) });
    }
  }
  assert.is(rows * cols, data.length);
  return fills;
}

test("detect counts nonzeros and fills as the definition does, on any shape", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 140 }),
      fc.constantFrom(0, 0.3, 0.9, 0.99, 1),
      fc.nat(),
      (rows, cols, zeros, from) => {
        const data = values(rows * cols, zeros, random(from)).map((v, i) => (i % 17 === 3 ? (v === 0 ? -0 : NaN) : v));
        // A view at an odd place of a larger buffer.
        const view = new Float32Array(data.length + 3).fill(1).subarray(1, 1 + data.length);
        view.set(data);
        const found = detect(view, [rows, cols]);
        const nnz = data.filter((v) => v !== 0).length;
        assert.equal([found.rows, found.cols, found.nnz], [rows, cols, nnz]);
        assert.is(found.sparsity, (data.length - nnz) / data.length);
        assert.equal(found.fills, fillsByModel(data, rows, cols), `${rows}x${cols} (seed ${seed})`);
        const { min, max } = evenness(view, [rows, cols]);
        assert.equal(found.rowNnz, { min, max });
        if (found.pattern) exact(view, [rows, cols], found.pattern, { atMost: true });
      },
    ),
    { seed, numRuns: 300 },
  );
});

test("detect names every kind of matrix that prune makes", () => {
  const rnd = random();
  const none = { nm: null, complementary: null };
  const overlay = (rows: number, blockRows = 1, fill = 1) => ({
    nm: null,
    complementary: { overlay: rows, blockRows, fill },
  });
  const nm = (n: number, m: number) => ({ nm: { n, m }, complementary: null });
  const cases: [PatternLike, number[], string, object][] = [
    ["90%", [128, 256], "unstructured", none],
    ["2:4", [128, 256], "2:4 along the inputs", nm(2, 4)],
    ["1:4", [64, 64], "1:4 along the inputs", nm(1, 4)],
    ["1:2", [64, 96], "1:2 along the inputs", nm(1, 2)],
    ["4:8", [64, 96], "4:8 along the inputs", nm(4, 8)],
    ["1:8", [96, 200], "1:8 along the inputs", nm(1, 8)],
    ["3:10", [64, 100], "3:10 along the inputs", nm(3, 10)],
    ["5:9", [64, 16, 3, 3], "5:9 along the inputs", nm(5, 9)],
    ["8:32", [64, 128], "8:32 along the inputs", nm(8, 32)],
    ["6:64", [64, 256], "6:64 along the inputs", nm(6, 64)],
    ["100:1024", [64, 2048], "100:1024 along the inputs", nm(100, 1024)],
    ["2:4", [127, 255], "2:4 along the inputs", nm(2, 4)],
    ["2:4", [32, 3, 5, 5], "2:4 along the inputs", nm(2, 4)],
    ["4x1@90%", [256, 256], "4x1 blocks, 100% full", none],
    ["1x4@90%", [256, 256], "1x4 blocks, 100% full", none],
    ["8x1@70%", [256, 256], "8x1 blocks, 100% full", none],
    ["4x1@25%", [256, 256], "4x1 blocks, 100% full", none],
    ["2x1@50%", [128, 128], "2x1 blocks, 100% full", none],
    ["8x4@95%", [256, 256], "8x4 blocks, 100% full", none],
    ["16x16@90%", [256, 256], "8x4 blocks, 100% full", none],
    ["4x1@20%", [255, 251], "4x1 blocks, 99% full", none],
    ["2/4x1", [128, 128], "2:4 along the outputs", none],
    ["3/14x1", [140, 128], "3:14 along the outputs", none],
    ["8/4x4", [128, 128], "8 of each 4x4", none],
    ["3/2x8", [64, 64], "3 of each 2x8", none],
    ["complementary:20", [300, 320], "complementary, overlay 20", overlay(20)],
    ["complementary:20", [310, 320], "complementary, overlay 20", overlay(20)],
    ["complementary:2", [64, 96], "complementary, overlay 2", overlay(2)],
    // An equal share for every row is N:M too, of which it says less.
    ["complementary:16", [512, 512], "complementary, overlay 16", { ...overlay(16), nm: { n: 32, m: 512 } }],
    ["complementary:64", [512, 512], "complementary, overlay 64", { ...overlay(64), nm: { n: 8, m: 512 } }],
    ["complementary:250", [500, 400], "complementary, overlay 250", overlay(250)],
    ["complementary:20x4", [320, 320], "complementary, overlay 20 in blocks of 4 rows", overlay(20, 4)],
    ["complementary:10x8", [320, 320], "complementary, overlay 10 in blocks of 8 rows", overlay(10, 8)],
    ["complementary:10x2", [320, 320], "complementary, overlay 10 in blocks of 2 rows", none],
    ["4x1@2:4", [256, 256], "2:4 along the inputs in 4x1 blocks", nm(2, 4)],
    ["1x2@1:4", [256, 256], "1:4 along the inputs in 1x2 blocks", nm(2, 8)],
    ["1x4@1/4x1", [256, 256], "1:4 along the outputs in 1x4 blocks", overlay(4)],
    ["4x2@3:4", [256, 256], "3:4 along the inputs in 4x2 blocks", nm(6, 8)],
    ["1x4@2/2x2", [256, 256], "2 of each 2x2 in 1x4 blocks", none],
  ];
  for (const [pattern, shape, name, fields] of cases) {
    const data = prune(nonzero(sizeOf(shape), rnd), shape, pattern);
    const found = detect(data, shape);
    const label = `${patternName(pattern)} on ${shape} (seed ${seed})`;
    assert.is(found.name, name, label);
    assert.equal({ nm: found.nm, complementary: found.complementary }, fields, label);
    if (name === "unstructured") assert.is(found.pattern, null, label);
    else exact(data, shape, found.pattern!, { atMost: true });
    if (parsePattern(pattern).tile) assert.equal(parsePattern(found.pattern!), parsePattern(pattern), label);
  }
  assert.is(detect(nonzero(64, rnd), [8, 8]).name, "dense");
  assert.is(detect(new Float32Array(64).fill(-0), [8, 8]).name, "all zero");
  assert.is(detect(Float32Array.of(1), [1, 1]).name, "dense");
});

test("detect sees through stored zeros and outputs pruned as a whole", () => {
  const rnd = random();
  const holes = (data: Float32Array, share: number) => data.map((v) => (rnd() < share ? 0 : v));
  const name = (data: Float32Array, shape: number[]) => {
    const found = detect(data, shape);
    if (found.pattern) exact(data, shape, found.pattern, { atMost: true });
    return found.name;
  };
  const w = nonzero(256 * 256, rnd);
  const shape = [256, 256];
  assert.match(name(holes(prune(w, shape, "4x1@90%"), 0.08), shape), /^4x1 blocks, 9[0-4]% full$/);
  assert.is(name(holes(prune(w, shape, "4x1@90%"), 0.4), shape), "unstructured");
  assert.match(name(holes(prune(w, shape, "2:4"), 0.03), shape), /^2:4 along the inputs, 9[5-8]% full$/);
  assert.match(
    name(holes(prune(w, shape, "complementary:16x4"), 0.1), shape),
    /^complementary, overlay 16 in blocks of 4 rows, (8[7-9]|9[0-3])% full$/,
  );
  const dead = prune(w, shape, "2:4");
  for (let r = 0; r < 256; r++) if (r < 3 || rnd() < 0.3) dead.fill(0, r * 256, r * 256 + 256);
  assert.match(name(dead, shape), /^2:4 along the inputs/);
  // One group too full, anywhere, and it is no 2:4 any more.
  const broken = prune(w, shape, "2:4");
  const at = Math.floor(rnd() * (w.length / 4)) * 4;
  broken.fill(1, at, at + 3);
  assert.not.match(name(broken, shape), /^2:4/);
});

test("a matrix of random zeros is unstructured, whatever its size and density", () => {
  const rnd = random();
  const sizes = [
    [1, 1],
    [1, 8],
    [2, 2],
    [3, 5],
    [4, 4],
    [8, 8],
    [1, 64],
    [64, 1],
    [7, 33],
    [16, 16],
    [64, 64],
    [20, 400],
  ];
  for (const [rows, cols] of [...sizes, [400, 20], [256, 256], [100, 1024], [300, 1100]]) {
    const repeats = rows * cols < 5000 ? 40 : 3;
    for (const zeros of [0.02, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.99, 0.999]) {
      for (let k = 0; k < repeats; k++) {
        const data = values(rows * cols, zeros, rnd);
        const { name, pattern, nm, complementary, nnz } = detect(data, [rows, cols]);
        const expected = nnz === 0 ? "all zero" : nnz === data.length ? "dense" : "unstructured";
        assert.is(name, expected, `${rows}x${cols}, ${zeros} zeros (seed ${seed})`);
        assert.equal([pattern, nm, complementary], [null, null, null]);
      }
    }
  }
  // Rows and columns of very different densities are no structure either.
  const uneven = Float32Array.from({ length: 128 * 128 }, (_, i) =>
    rnd() < ((i % 128) * (i >> 7)) / 128 ** 2 ? 1 : 0,
  );
  assert.is(detect(uneven, [128, 128]).name, "unstructured", `seed ${seed}`);
});

test("gmpSparsity follows the cubic, and stays at its ends outside", () => {
  const schedule = { begin: 100, end: 500, initial: 0.2, final: 0.9 };
  for (const step of [-5, 0, 99, 100]) assert.is(gmpSparsity(step, schedule), 0.2);
  for (const step of [500, 501, 1e9]) assert.is(gmpSparsity(step, schedule), 0.9);
  assert.ok(Math.abs(gmpSparsity(300, schedule) - (0.9 - 0.7 / 8)) < 1e-15, "half way: an eighth is left to do");
  assert.ok(Math.abs(gmpSparsity(200, schedule) - (0.9 - (0.7 * 27) / 64)) < 1e-15, "a quarter");
  assert.is(gmpSparsity(0, { begin: 0, end: 10, final: 0.5 }), 0);
  assert.is(gmpSparsity(5, { begin: 5, end: 5, final: 0.5 }), 0.5);
  assert.is(gmpSparsity(4, { begin: 5, end: 5, final: 0.5 }), 0);
  let last = 0;
  for (let step = 101; step < 500; step++) {
    const next = gmpSparsity(step, schedule);
    assert.ok(next > last && next < 0.9, `step ${step}: ${next} after ${last}`);
    last = next;
  }
});

test("bad arguments are refused with a code and the argument's name", () => {
  const data = new Float32Array(12);
  const bad = (code: string, name: string, call: () => unknown) => {
    let error: { code?: string; message?: string } | undefined;
    try {
      call();
    } catch (e) {
      error = e as typeof error;
    }
    assert.ok(error, `nothing was thrown: ${call}`);
    assert.is(error!.code, code, `${error} of ${call}`);
    assert.ok(error instanceof (code === "ERR_TYPE" ? TypeError : RangeError), `${call}`);
    assert.ok(error!.message!.startsWith(`"${name}`), `${error!.message} of ${call}`);
  };
  const text = [
    "",
    "90",
    "90 %",
    "-5%",
    "1e1%",
    ".5%",
    "2:",
    "2/4",
    "x4@90%",
    "4x@90%",
    "4x1@",
    "4x1",
    "4X1@90%",
    "complementary",
    "complementary:",
    "complementary:-3",
    "complementary:20x",
    "dense",
    " 2:4",
    "2:4\n",
    "2:4:8",
    "٢:٤",
  ];
  const values: [string, string, unknown][] = [
    ...text.map((t): [string, string, unknown] => ["ERR_VALUE", "pattern", t]),
    ["ERR_VALUE", "pattern.sparsity", "101%"],
    ["ERR_VALUE", "pattern.keep", "5:4"],
    ["ERR_VALUE", "pattern.keep", "0:4"],
    ["ERR_VALUE", "pattern.tile[1]", "1:0"],
    ["ERR_VALUE", "pattern.block[0]", "0x1@90%"],
    ["ERR_VALUE", "pattern.tile[0]", "1/99999999999999999999x1"],
    ["ERR_VALUE", "pattern overlay", "complementary:0"],
    ["ERR_VALUE", "pattern overlay", "complementary:257"],
    ["ERR_VALUE", "pattern.block[0]", "complementary:4x0"],
    ["ERR_TYPE", "pattern", undefined],
    ["ERR_TYPE", "pattern", null],
    ["ERR_TYPE", "pattern", 0.9],
    ["ERR_TYPE", "pattern", [1, 4]],
    ["ERR_VALUE", "pattern", { sparsity: 0.5, blocks: [1, 4] }],
    ["ERR_VALUE", "pattern.sparsity", {}],
    ["ERR_VALUE", "pattern.sparsity", { block: [4, 1] }],
    ["ERR_VALUE", "pattern.sparsity", { sparsity: -0.1 }],
    ["ERR_VALUE", "pattern.sparsity", { sparsity: 1.1 }],
    ["ERR_VALUE", "pattern.sparsity", { sparsity: NaN }],
    ["ERR_TYPE", "pattern.sparsity", { sparsity: "0.5" }],
    ["ERR_VALUE", "pattern.sparsity", { tile: [1, 4], keep: 2, sparsity: 0.5 }],
    ["ERR_VALUE", "pattern.tile", { keep: 2, sparsity: 0.5 }],
    ["ERR_VALUE", "pattern.tile", { keep: 2 }],
    ["ERR_VALUE", "pattern.keep", { tile: [1, 4] }],
    ["ERR_VALUE", "pattern.keep", { tile: [1, 4], keep: -1 }],
    ["ERR_VALUE", "pattern.keep", { tile: [1, 4], keep: 0 }],
    ["ERR_VALUE", "pattern.keep", { tile: [2, 2], keep: 5 }],
    ["ERR_VALUE", "pattern.keep", { tile: [2, 2], keep: 1.5 }],
    ["ERR_TYPE", "pattern.keep", { tile: [2, 2], keep: "1" }],
    ["ERR_TYPE", "pattern.tile", { tile: 4, keep: 1 }],
    ["ERR_SHAPE", "pattern.tile", { tile: [4], keep: 1 }],
    ["ERR_SHAPE", "pattern.block", { block: [1, 2, 3], sparsity: 0.5 }],
    ["ERR_VALUE", "pattern.block[1]", { block: [1, 0], sparsity: 0.5 }],
    ["ERR_VALUE", "pattern.block[0]", { block: [1.5, 1], sparsity: 0.5 }],
    ["ERR_TYPE", "pattern.block[0]", { block: ["4", 1], sparsity: 0.5 }],
  ];
  for (const [code, name, value] of values) {
    const pattern = value as Pattern;
    bad(code, name, () => parsePattern(pattern));
    bad(code, name, () => patternName(pattern));
    bad(code, name, () => prune(data, [3, 4], pattern));
    bad(code, name, () => check(data, [3, 4], pattern));
  }
  const calls: ((d: Float32Array, s: number[]) => unknown)[] = [
    (d, s) => prune(d, s, "2:4"),
    (d, s) => check(d, s, "2:4"),
    (d, s) => detect(d, s),
    (d, s) => evenness(d, s),
  ];
  for (const call of calls) {
    bad("ERR_TYPE", "data", () => call([1, 2] as never, [1, 2]));
    bad("ERR_TYPE", "data", () => call(new Float64Array(12) as never, [3, 4]));
    bad("ERR_LENGTH", "data", () => call(data, [3, 5]));
    bad("ERR_LENGTH", "data", () => call(data, [3, 0]));
    bad("ERR_SHAPE", "shape", () => call(data, [12]));
    bad("ERR_SHAPE", "shape", () => call(data, [1, 3, 4]));
    bad("ERR_SHAPE", "shape", () => call(data, [-3, -4]));
    bad("ERR_SHAPE", "shape", () => call(data, [2.5, 4]));
    bad("ERR_SHAPE", "shape", () => call(data, [0, 2 ** 40]));
    bad("ERR_TYPE", "shape", () => call(data, "3,4" as never));
    bad("ERR_TYPE", "shape", () => call(data, [3, "4"] as never));
  }
  bad("ERR_TYPE", "atMost", () => check(data, [3, 4], "2:4", { atMost: 1 as never }));
  bad("ERR_VALUE", "options", () => check(data, [3, 4], "2:4", { atmost: true } as never));
  bad("ERR_TYPE", "options", () => check(data, [3, 4], "2:4", null as never));
  const schedule = { begin: 0, end: 10, final: 0.9 };
  bad("ERR_TYPE", "step", () => gmpSparsity("1" as never, schedule));
  bad("ERR_VALUE", "step", () => gmpSparsity(NaN, schedule));
  bad("ERR_TYPE", "schedule", () => gmpSparsity(1, undefined as never));
  bad("ERR_TYPE", "schedule.begin", () => gmpSparsity(1, { ...schedule, begin: undefined as never }));
  bad("ERR_VALUE", "schedule.end", () => gmpSparsity(1, { ...schedule, end: -1 }));
  bad("ERR_VALUE", "schedule.end", () => gmpSparsity(1, { ...schedule, end: Infinity }));
  bad("ERR_VALUE", "schedule.final", () => gmpSparsity(1, { ...schedule, final: 1.5 }));
  bad("ERR_TYPE", "schedule.final", () => gmpSparsity(1, { begin: 0, end: 10 } as never));
  bad("ERR_VALUE", "schedule.initial", () => gmpSparsity(1, { ...schedule, initial: -0.1 }));
  bad("ERR_VALUE", "schedule", () => gmpSparsity(1, { ...schedule, steps: 3 } as never));
});

test.run();
