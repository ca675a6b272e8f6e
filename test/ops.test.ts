// What a chain of layers needs between its products (pooling, add, mul, activations, softmax, reshape) against float64
// loops, in both layouts and on every build. Operations that round once must give exactly the rounded result.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type {
  Activation,
  AvgPoolOptions,
  Engine,
  ImageLayout,
  Padding,
  Pair,
  Tensor,
  TensorLike,
} from "../bindings/index.js";
import {
  allowed,
  close,
  type Expected,
  linearOracle,
  onEachBuild,
  random,
  sameBits,
  seed,
  sizeOf,
  toNhwc,
  values,
} from "./oracle.js";

const test = suite("ops");

/** Below, at and above one, two and several vectors. */
const SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33];

/** What float32 can do to a float: zeros, ends of the range, subnormals, and what is no number. */
const SPECIAL = [
  0,
  -0,
  1,
  -1,
  NaN,
  Infinity,
  -Infinity,
  1e-45,
  -1e-45,
  2 ** -126,
  -(2 ** -126),
  3.4e38,
  -3.4e38,
  0.5,
  6,
  7,
];

const exactly = (y: ArrayLike<number>): Expected => ({ y: Float64Array.from(y), bound: new Float64Array(y.length) });

/** `x` in every spelling, as a tensor first; views lie at an odd place of a larger buffer full of NaN. */
function spellings(engine: Engine, data: Float32Array, shape: number[]): TensorLike[] {
  const larger = new Float32Array(data.length + 4).fill(NaN);
  larger.set(data, 1);
  const view = larger.subarray(1, 1 + data.length);
  return [engine.tensor(data, shape), { data, shape }, { data, dims: shape }, { data: view, shape }];
}

/**
 * Runs an operation on every spelling of x, into a new tensor and into `out`: all the same bits, within the oracle's
 * bound, nothing written past the end, nothing left behind.
 */
function check(
  engine: Engine,
  label: string,
  x: { data: Float32Array; shape: number[] },
  expected: Expected,
  shape: number[],
  run: (x: TensorLike, out?: Tensor) => Tensor,
): void {
  const name = `${engine.simd} ${label}`;
  const inputs = spellings(engine, x.data, x.shape);
  let first: Float32Array | undefined;
  for (const input of inputs) {
    const y = run(input);
    const out = engine.tensor(new Float32Array(y.size).fill(NaN), shape);
    assert.equal([...y.shape], shape, name);
    first ??= y.toArray();
    close(y.data, expected, name);
    sameBits(y.data, first, `${name}, another spelling of x`);
    assert.is(run(input, out), out);
    sameBits(out.data, first, `${name}, into out`);
    for (const t of [y, out]) {
      const tail = engine.memory.floats(t.ptr + t.size * 4, 4);
      assert.ok(
        tail.every((v) => v === 0),
        `${name}: wrote past its result: ${tail} (seed ${seed})`,
      );
      t.dispose();
    }
  }
  sameBits((inputs[0] as Tensor).data, x.data, `${name}: x afterwards`);
  (inputs[0] as Tensor).dispose();
  assert.is(engine.stats().bytesInUse, 0, `${name}: what is left`);
}

/** A pool as a table writes it down. */
interface Pool {
  n?: number;
  c?: number;
  h: number;
  w?: number;
  kernel: Pair;
  stride?: Pair;
  padding?: Padding;
}

const both = (p: Pair): [number, number] => (typeof p === "number" ? [p, p] : [p[0], p[1]]);

/** Sizes of a pool, its padding as the contract defines it: [top, left, bottom, right]. */
function poolSizes({ n = 1, c = 1, h, w = h, kernel, stride = kernel, padding = 0 }: Pool) {
  const [k, s] = [both(kernel), both(stride)];
  let around: number[];
  if (padding === "same") {
    const all = [h, w].map((size, d) => Math.max(0, (Math.ceil(size / s[d]) - 1) * s[d] + k[d] - size));
    around = [...all.map((p) => Math.floor(p / 2)), ...all.map((p) => Math.ceil(p / 2))];
  } else if (typeof padding === "object" && padding.length === 4) around = [...padding];
  else {
    const [v, l] = padding === "valid" ? [0, 0] : both(padding as Pair);
    around = [v, l, v, l];
  }
  const [top, left, bottom, right] = around;
  const oh = Math.floor((h + top + bottom - k[0]) / s[0]) + 1;
  const ow = Math.floor((w + left + right - k[1]) / s[1]) + 1;
  return { n, c, h, w, k, s, around, top, left, oh, ow };
}

/** Both pools of nchw images; without `count` the padding is no pixels. */
function poolOracle(x: Float32Array, pool: Pool, count: boolean): { max: Expected; avg: Expected } {
  const { n, c, h, w, k, s, top, left, oh, ow } = poolSizes(pool);
  const size = n * c * oh * ow;
  const [max, avg, bound] = [new Float64Array(size), new Float64Array(size), new Float64Array(size)];
  for (let plane = 0, at = 0; plane < n * c; plane++) {
    for (let i = 0; i < oh; i++) {
      for (let j = 0; j < ow; j++, at++) {
        let [most, sum, sizes, pixels] = [-Infinity, 0, 0, 0];
        for (let p = i * s[0] - top; p < i * s[0] - top + k[0]; p++) {
          for (let q = j * s[1] - left; q < j * s[1] - left + k[1]; q++) {
            if (p < 0 || p >= h || q < 0 || q >= w) continue;
            const v = x[(plane * h + p) * w + q];
            most = Math.max(most, v);
            sum += v;
            sizes += Math.abs(v);
            pixels++;
          }
        }
        const by = count ? k[0] * k[1] : pixels;
        max[at] = most;
        avg[at] = sum / by;
        bound[at] = allowed(k[0] * k[1] + 2, sizes / by);
      }
    }
  }
  return { max: { y: max, bound: new Float64Array(size) }, avg: { y: avg, bound } };
}

/** One pool as maximum and as both means. */
function checkPool(engine: Engine, pool: Pool, layout: ImageLayout, x: Float32Array): void {
  const { n, c, h, w, oh, ow } = poolSizes(pool);
  const nhwc = layout === "nhwc";
  const own = ({ y, bound }: Expected): Expected =>
    nhwc ? { y: toNhwc(y, n, c, oh, ow), bound: toNhwc(bound, n, c, oh, ow) } : { y, bound };
  const input = nhwc ? { data: toNhwc(x, n, c, h, w), shape: [n, h, w, c] } : { data: x, shape: [n, c, h, w] };
  const shape = nhwc ? [n, oh, ow, c] : [n, c, oh, ow];
  const { kernel, stride, padding } = pool;
  const label = `${JSON.stringify(pool)} ${layout}`;
  const { max, avg } = poolOracle(x, pool, true);
  const { avg: inside } = poolOracle(x, pool, false);
  const o: AvgPoolOptions = { kernel, stride, padding, layout };
  check(engine, `maxPool2d ${label}`, input, own(max), shape, (t, out) => engine.maxPool2d(t, { ...o, out }));
  check(engine, `avgPool2d ${label}`, input, own(avg), shape, (t, out) => engine.avgPool2d(t, { ...o, out }));
  for (const [count, expected] of [
    [true, avg],
    [false, inside],
  ] as const) {
    check(engine, `avgPool2d ${label} countIncludePad ${count}`, input, own(expected), shape, (t, out) =>
      engine.avgPool2d(t, { ...o, countIncludePad: count, out }),
    );
  }
}

const POOLS: Pool[] = [
  { h: 1, kernel: 1 },
  { h: 4, kernel: 4 },
  { n: 2, c: 3, h: 6, w: 7, kernel: 2 },
  { n: 3, c: 5, h: 7, w: 6, kernel: 3 },
  { c: 2, h: 9, w: 8, kernel: [2, 3] },
  { c: 2, h: 9, w: 8, kernel: [5, 1], stride: 1 },
  { c: 4, h: 8, kernel: 3, stride: 2, padding: 1 },
  { c: 4, h: 8, kernel: 3, stride: [1, 2], padding: [1, 2] },
  { c: 3, h: 7, w: 9, kernel: 3, stride: [2, 1], padding: [0, 1, 2, 0] },
  { c: 3, h: 7, w: 9, kernel: 4, stride: 3, padding: [3, 3, 3, 3] },
  { c: 3, h: 5, w: 11, kernel: 2, stride: 5 },
  { c: 3, h: 5, w: 11, kernel: 2, stride: 100, padding: 1 },
  { c: 1, h: 1, kernel: 5, stride: 1, padding: 4 },
  { c: 7, h: 2, w: 3, kernel: 3, stride: 1, padding: 2 },
  { c: 2, h: 12, w: 13, kernel: 7, stride: 1, padding: "valid" },
  { n: 0, c: 3, h: 5, kernel: 2 },
  { n: 2, c: 0, h: 5, kernel: 2, padding: 1 },
  ...[1, 2, 5, 6].flatMap((h): Pool[] =>
    [1, 2, 3].map((stride) => ({ c: 2, h, w: 9 - h, kernel: [3, 2], stride, padding: "same" as const })),
  ),
];

test("pools: kernels, strides, paddings and batches", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const pool of POOLS) {
      const { n, c, h, w } = poolSizes(pool);
      for (const layout of ["nchw", "nhwc"] as const) checkPool(engine, pool, layout, values(n * c * h * w, 0.1, rnd));
    }
  }));

test("pools: widths and channels around the vectors", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const size of SIZES) {
      for (const [kernel, stride, padding] of [
        [2, 2, 1],
        [3, 1, 1],
        [3, 2, 0],
        [1, 3, 0],
      ]) {
        for (const [c, w] of [
          [2, size + 2],
          [size, 3],
        ]) {
          const pool = { n: 2, c, h: 3, w, kernel, stride, padding };
          for (const layout of ["nchw", "nhwc"] as const) checkPool(engine, pool, layout, values(6 * c * w, 0, rnd));
        }
      }
    }
  }));

test("pools: NaN and infinities reach what looks at them, and nothing else", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const pool of POOLS) {
      const { n, c, h, w } = poolSizes(pool);
      const x = values(n * c * h * w, 0, rnd).map((v) =>
        rnd() < 0.1 ? [NaN, Infinity, -Infinity][Math.floor(rnd() * 3)] : v,
      );
      for (const layout of ["nchw", "nhwc"] as const) checkPool(engine, pool, layout, x);
    }
    const lowest = { data: new Float32Array(9).fill(-Infinity), shape: [1, 1, 3, 3] };
    assert.ok(engine.maxPool2d(lowest, { kernel: 3, stride: 1, padding: 1 }).data.every((v) => v === -Infinity));
    // Zeros of the padding are no pixels of a maximum.
    const negative = { data: new Float32Array(9).fill(-2), shape: [1, 1, 3, 3] };
    assert.ok(engine.maxPool2d(negative, { kernel: 3, stride: 1, padding: 2 }).data.every((v) => v === -2));
  }));

test("pools: a window of more places than 32 bits count", () =>
  onEachBuild((engine) => {
    for (const [kernel, padding] of [
      [
        [65536, 65536],
        [65535, 65535],
      ],
      [
        [40000, 60000],
        [39999, 59999],
      ],
    ] as [Pair, Pair][]) {
      const o = { kernel, padding, stride: 2 ** 17 };
      const [y] = engine.avgPool2d({ data: new Float32Array([1]), shape: [1, 1, 1, 1] }, o).data;
      const mean = 1 / sizeOf(both(kernel));
      assert.ok(Math.abs(y - mean) <= mean * 2 ** -22, `kernel [${kernel}]: ${y}, expected ${mean}`);
    }
  }));

test("property: pools of any kind", async () => {
  const side = (most: number) => fc.integer({ min: 1, max: most });
  const pair = (most: number): fc.Arbitrary<Pair> => fc.oneof(side(most), fc.tuple(side(most), side(most)));
  const pool: fc.Arbitrary<Pool> = fc
    .record({
      n: fc.nat(2),
      c: fc.nat(9),
      h: side(12),
      w: side(40),
      kernel: pair(5),
      stride: fc.option(pair(4), { nil: undefined }),
    })
    .chain((p) => {
      const [kh, kw] = both(p.kernel);
      const around = fc.tuple(fc.nat(kh - 1), fc.nat(kw - 1), fc.nat(kh - 1), fc.nat(kw - 1));
      const padding: fc.Arbitrary<Padding> = fc.oneof(
        fc.constantFrom("same" as const, "valid" as const),
        fc.nat(Math.min(kh, kw) - 1),
        fc.tuple(fc.nat(kh - 1), fc.nat(kw - 1)),
        around,
      );
      return padding.map((q) => ({ ...p, padding: q }));
    })
    .filter((p) => {
      const { oh, ow } = poolSizes(p);
      return oh > 0 && ow > 0;
    });
  await onEachBuild((engine) => {
    const property = fc.property(pool, fc.constantFrom<ImageLayout>("nchw", "nhwc"), fc.nat(), (p, layout, from) => {
      const { n, c, h, w } = poolSizes(p);
      checkPool(engine, p, layout, values(n * c * h * w, 0.1, random(from)));
    });
    fc.assert(property, { seed, numRuns: 200 });
  });
});

test("globalAvgPool2d", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const n of [0, 1, 3]) {
      for (const c of [0, 1, 3, 4, 9, 33]) {
        for (const [h, w] of [
          [1, 1],
          [1, 7],
          [2, 4],
          [3, 3],
          [4, 8],
          [7, 7],
          [19, 5],
          [27, 19],
        ]) {
          const x = values(n * c * h * w, 0.1, rnd);
          const y = new Float64Array(n * c);
          const bound = new Float64Array(n * c);
          for (let p = 0; p < n * c; p++) {
            const plane = x.subarray(p * h * w, (p + 1) * h * w);
            y[p] = plane.reduce((sum, v) => sum + v, 0) / (h * w);
            // reduce keeps its accumulator a double.
            bound[p] = allowed(h * w + 2, plane.reduce((sum, v) => sum + Math.abs(v), 0) / (h * w));
          }
          const expected = { y, bound };
          const label = `globalAvgPool2d [${[n, c, h, w]}]`;
          check(engine, `${label} nchw`, { data: x, shape: [n, c, h, w] }, expected, [n, c], (t, out) =>
            engine.globalAvgPool2d(t, { out }),
          );
          const turned = { data: toNhwc(x, n, c, h, w), shape: [n, h, w, c] };
          check(engine, `${label} nhwc`, turned, expected, [n, c], (t, out) =>
            engine.globalAvgPool2d(t, { layout: "nhwc", out }),
          );
        }
      }
    }
    const mixed = { data: new Float32Array([1, NaN, 3, 4, 5, Infinity]), shape: [1, 3, 1, 2] };
    assert.equal([...engine.globalAvgPool2d(mixed).data], [NaN, 3.5, Infinity]);
    // A million equal numbers: one after another float32 adds them up to 1% more or less.
    const many = new Float32Array(1024 * 1024 * 2).fill(0.1);
    for (const [shape, layout] of [
      [[1, 2, 1024, 1024], "nchw"],
      [[1, 1024, 1024, 2], "nhwc"],
    ] as const) {
      for (const mean of engine.globalAvgPool2d({ data: many, shape }, { layout }).data) {
        assert.ok(Math.abs(mean / Math.fround(0.1) - 1) < 1e-4, `${layout}: ${mean}`);
      }
    }
  }));

/** The shape that two stretch to, by NumPy's rule. */
function stretched(a: number[], b: number[]): number[] {
  const rank = Math.max(a.length, b.length);
  const [p, q] = [a, b].map((s) => [...new Array(rank - s.length).fill(1), ...s]);
  return p.map((d, i) => (d === 1 ? q[i] : d));
}

/** Element `at` of the result's shape, in x stretched to it. */
function pick(x: Float32Array, own: number[], shape: number[], at: number): number {
  let index = 0;
  let step = 1;
  for (let i = shape.length - 1, d = own.length - 1; d >= 0; i--, d--) {
    if (own[d] !== 1) index += (at % shape[i]) * step;
    step *= own[d];
    at = Math.floor(at / shape[i]);
  }
  return x[index];
}

const ACTIVATIONS: [activation: Activation | undefined, lo: number, hi: number][] = [
  [undefined, -Infinity, Infinity],
  ["none", -Infinity, Infinity],
  ["relu", 0, Infinity],
  ["relu6", 0, 6],
  [{ min: -0.5, max: 0.25 }, -0.5, 0.25],
  [{ max: 0.1 }, -Infinity, 0.1],
  [{}, -Infinity, Infinity],
];

/** add and mul of two shapes, both ways round, with one of the activations. */
function checkBinary(engine: Engine, a: number[], b: number[], rnd: () => number, which: number): void {
  const shape = stretched(a, b);
  const [p, q] = [values(sizeOf(a), 0.1, rnd), values(sizeOf(b), 0.1, rnd)].map((x) => x.map((v) => v * 3));
  const [activation, lo, hi] = ACTIVATIONS[which % ACTIVATIONS.length];
  for (const op of ["add", "mul"] as const) {
    const y = Array.from({ length: sizeOf(shape) }, (_, i) => {
      const [u, v] = [pick(p, a, shape, i), pick(q, b, shape, i)];
      return Math.min(hi, Math.max(lo, Math.fround(op === "add" ? u + v : u * v)));
    });
    const expected = exactly(Float32Array.from(y));
    const label = `${op} [${a}] [${b}] ${JSON.stringify(activation)}`;
    const other = { data: q, shape: b };
    check(engine, label, { data: p, shape: a }, expected, shape, (x, out) => engine[op](x, other, { activation, out }));
    check(engine, `${label}, turned`, { data: p, shape: a }, expected, shape, (x, out) =>
      engine[op](other, x, { activation, out }),
    );
  }
}

const SHAPES: [a: number[], b: number[]][] = [
  [[], []],
  [[], [5]],
  [[1], [7]],
  [[1, 1, 1], []],
  [[3, 4], [4]],
  [
    [3, 4],
    [3, 1],
  ],
  [
    [3, 4],
    [1, 4],
  ],
  [
    [3, 1],
    [1, 4],
  ],
  [[3, 1], [4]],
  [
    [2, 3, 4],
    [3, 1],
  ],
  [
    [2, 3, 4],
    [2, 1, 1],
  ],
  [
    [2, 3, 4],
    [2, 1, 4],
  ],
  [
    [2, 1, 4],
    [3, 1],
  ],
  [
    [1, 3, 1, 5],
    [2, 1, 4, 1],
  ],
  [
    [8, 1, 6, 1],
    [7, 1, 5],
  ],
  [
    [2, 3, 5, 7],
    [3, 1, 1],
  ],
  [[2, 5, 7, 3], [3]],
  [
    [2, 2, 2, 2, 3],
    [2, 1, 2, 1, 3],
  ],
  [[0], []],
  [[0], [1]],
  [[0, 3], [3]],
  [
    [2, 0, 3],
    [1, 1],
  ],
  [
    [1, 0],
    [4, 1],
  ],
];

test("add and mul: every way of stretching", () =>
  onEachBuild((engine) => {
    const rnd = random();
    SHAPES.forEach(([a, b], i) => {
      checkBinary(engine, a, b, rnd, i);
    });
    for (const n of SIZES) {
      for (const [a, b] of [
        [[n], [n]],
        [[n], [1]],
        [
          [3, n],
          [3, 1],
        ],
        [
          [n, 3],
          [n, 1],
        ],
        [[n, 2], [2]],
      ])
        checkBinary(engine, a, b, rnd, n);
    }
  }));

test("property: add and mul of any shapes that stretch to each other", async () => {
  const dimension = fc.tuple(fc.integer({ min: 0, max: 6 }), fc.constantFrom("both", "both", "a", "b"));
  const dimensions = fc.tuple(fc.array(dimension, { maxLength: 5 }), fc.nat(2), fc.boolean());
  await onEachBuild((engine) => {
    const property = fc.property(dimensions, fc.nat(6), fc.nat(), ([dims, drop, first], which, from) => {
      const a = dims.map(([d, who]) => (who === "b" ? 1 : d));
      const b = dims.map(([d, who]) => (who === "a" ? 1 : d));
      // One of the two may lack leading dimensions, which counts as ones.
      const shorter = first ? a : b;
      if (dims.slice(0, drop).every((_, i) => shorter[i] === 1)) shorter.splice(0, drop);
      checkBinary(engine, a, b, random(from), which);
    });
    fc.assert(property, { seed, numRuns: 250 });
  });
});

test("add and mul: special values", () =>
  onEachBuild((engine) => {
    const n = SPECIAL.length;
    const column = { data: Float32Array.from(SPECIAL), shape: [n, 1] };
    const row = { data: Float32Array.from(SPECIAL), shape: [n] };
    const pairs = Float32Array.from({ length: n * n }, (_, i) => column.data[Math.floor(i / n)] + row.data[i % n]);
    const products = pairs.map((_, i) => column.data[Math.floor(i / n)] * row.data[i % n]);
    close(engine.add(column, row).data, exactly(pairs), "add");
    close(engine.mul(column, row).data, exactly(products), "mul");
    // A NaN passes an activation, as it does in every framework.
    const relu = products.map((v) => Math.max(0, v));
    close(engine.mul(column, row, { activation: "relu" }).data, exactly(relu), "mul, relu");
  }));

test("add and mul in place", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const n of [1, 4, 7, 33]) {
      const [p, q] = [values(2 * n, 0, rnd), values(2 * n, 0, rnd)];
      for (const op of ["add", "mul"] as const) {
        const of = (u: Float32Array, v: Float32Array) =>
          exactly(u.map((_, i) => (op === "add" ? u[i] + v[i] : u[i] * v[i])));
        const fresh = () => [engine.tensor(p, [2, n]), engine.tensor(q, [2, n])];
        let [a, b] = fresh();
        assert.is(engine[op](a, b, { out: a }), a);
        close(a.data, of(p, q), `${op} into a`);
        sameBits(b.data, q, `${op} into a: b`);
        [a, b] = fresh();
        close(engine[op](a, b, { out: b }).data, of(p, q), `${op} into b`);
        [a] = fresh();
        close(engine[op](a, a, { out: a }).data, of(p, p), `${op} of one tensor into itself`);
        // Stretched b, and a under another shape of as many elements.
        [a] = fresh();
        const bias = { data: q.subarray(0, n), shape: [n] };
        const tiled = p.map((_, i) => q[i % n]);
        close(engine[op](a, bias, { out: a }).data, of(p, tiled), `${op} of a stretched b into a`);
        [a] = fresh();
        close(
          engine[op](a.reshape([1, 2, n]), bias, { out: a.reshape([1, 2, n]) }).data,
          of(p, tiled),
          `${op} into an alias`,
        );
        [a] = fresh();
        const live = { data: a.data, shape: [2, n] };
        close(engine[op](live, bias, { out: a }).data, of(p, tiled), `${op} of a's own view into a`);
      }
    }
  }));

/** Distance of two neighbouring floats at y. */
function ulp(y: number): number {
  const [bits] = new Uint32Array(Float32Array.of(Math.abs(y)).buffer);
  return Math.abs(y) < 2 ** -126
    ? 2 ** -126
    : new Float32Array(Uint32Array.of(bits + 1).buffer)[0] - Math.abs(Math.fround(y));
}

/** Numbers near and far, near zero of both signs, and near where the implementations change their formula. */
function inputs(rnd: () => number): Float32Array {
  const list = [...SPECIAL];
  for (const edge of [0.625, 9, 17, 44, 87.33654, 88.72283, 103.97, 104, 200])
    list.push(edge, -edge, edge * 1.000001, -edge * 0.999999);
  for (const range of [1e-30, 1e-3, 0.1, 1, 5, 20, 90, 110])
    for (let i = 0; i < 1500; i++) list.push((rnd() * 2 - 1) * range);
  return Float32Array.from(list);
}

const UNARY = [
  ["relu", (v: number) => Math.max(0, v), 0],
  ["sigmoid", (v: number) => 1 / (1 + Math.exp(-v)), 2.5],
  ["tanh", Math.tanh, 2.5],
] as const;

for (const [op, f, ulps] of UNARY) {
  test(`${op}: ${ulps ? `within ${ulps} units in the last place` : "exact"}, also for special values`, () =>
    onEachBuild((engine) => {
      const x = inputs(random());
      const y = Float64Array.from(x, f);
      // Below 2⁻¹²⁶ the results may be flushed to zero.
      const bound = y.map((v) => (Number.isFinite(v) ? ulps * ulp(v) : 0));
      check(engine, op, { data: x, shape: [x.length] }, { y, bound }, [x.length], (t, out) => engine[op](t, { out }));
      if (op === "tanh")
        sameBits(engine.tanh({ data: new Float32Array([0, -0]), shape: [2] }).data, new Float32Array([0, -0]), "signs");
    }));

  test(`${op}: all sizes and shapes, in place`, () =>
    onEachBuild((engine) => {
      const rnd = random();
      for (const shape of [[], [0], [3, 0, 2], ...SIZES.map((n) => [n]), [2, 3, 5], [1, 2, 3, 4], [1, 1, 1, 1, 1]]) {
        const x = values(sizeOf(shape), 0.1, rnd).map((v) => v * 8);
        const y = Float64Array.from(x, f);
        const expected = { y, bound: y.map((v) => ulps * ulp(v)) };
        check(engine, `${op} [${shape}]`, { data: x, shape }, expected, shape, (t, out) => engine[op](t, { out }));
        const own = engine.tensor(x, shape);
        assert.is(engine[op](own, { out: own }), own);
        close(own.data, expected, `${op} [${shape}] in place`);
        own.dispose();
      }
    }));
}

/** Softmax of rows; what rounding x − max costs grows with that difference. */
function softmaxOracle(x: Float32Array, n: number): Expected {
  const y = new Float64Array(x.length);
  const bound = new Float64Array(x.length);
  for (let from = 0; from < x.length; from += n) {
    const row = [...x.subarray(from, from + n)];
    const top = row.some(Number.isNaN) ? NaN : row.reduce((a, b) => Math.max(a, b), -Infinity);
    const e = row.map((v) => Math.exp(v - top));
    const sum = e.reduce((a, b) => a + b, 0);
    const far = row.map((v) => (Number.isFinite(v - top) ? top - v : 0));
    const spread = e.reduce((a, v, i) => a + v * far[i], 0) / sum;
    row.forEach((_, i) => {
      y[from + i] = e[i] / sum;
      bound[from + i] = y[from + i] * 2 ** -24 * (14 + n / 4 + far[i] + spread) + 2 ** -126;
    });
  }
  return { y, bound };
}

test("softmax: rows of all lengths", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const shape of [
      ...SIZES.map((n) => [n]),
      ...SIZES.map((n) => [5, n]),
      [2, 3, 7],
      [1, 1000],
      [3, 4, 1],
      [0],
      [3, 0],
      [0, 3],
    ]) {
      const n = shape.at(-1) as number;
      for (const scale of [1, 20, 1000]) {
        const x = values(sizeOf(shape), 0.1, rnd).map((v) => v * scale);
        const expected = softmaxOracle(x, n || 1);
        check(engine, `softmax [${shape}] × ${scale}`, { data: x, shape }, expected, shape, (t, out) =>
          engine.softmax(t, { out }),
        );
        const own = engine.tensor(x, shape);
        engine.softmax(own, { out: own });
        close(own.data, expected, `softmax [${shape}] in place`);
        own.dispose();
      }
    }
  }));

test("softmax: special values stay within their row", () =>
  onEachBuild((engine) => {
    const ordinary = [0.5, -1, 2, 0.25, 1];
    const rows: number[][] = [
      ordinary,
      [-Infinity, 0, -Infinity, 1, 0],
      ordinary,
      [NaN, 1, 2, 3, 4],
      ordinary,
      [0, 0, 0, 0, Infinity],
      ordinary,
      [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
      ordinary,
      [3.4e38, -3.4e38, 0, 3.4e38, 1],
      [-3.4e38, -3.4e38, -3.4e38, -3.4e38, -3.4e38],
      [1e4, 1e4, 1e4, 1e4, 1e4],
      [-0, 0, -0, 0, 1e-45],
    ];
    const x = { data: Float32Array.from(rows.flat()), shape: [rows.length, 5] };
    check(engine, "softmax", x, softmaxOracle(x.data, 5), x.shape, (t, out) => engine.softmax(t, { out }));
  }));

test("reshape goes between operations without a copy", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const data = values(2 * 6 * 4 * 5, 0, rnd);
    const x = engine.tensor(data, [2, 6, 4, 5]);
    const { bytesInUse } = engine.stats();
    for (const shape of [[240], [2, 120], [1, 1, 240, 1], [12, 20], [2, 2, 2, 2, 3, 5]]) {
      const y = x.reshape(shape);
      assert.equal([...y.shape], shape);
      assert.is(y.size, 240);
      sameBits(y.data, data, `reshape [${shape}]`);
      assert.is(engine.stats().bytesInUse, bytesInUse);
      y.dispose();
    }
    const w = values(3 * 120, 0.5, rnd);
    const packed = engine.pack(w, [3, 120]);
    close(engine.linear(x.reshape([2, 120]), packed).data, linearOracle(data, w, 2, 120, 3), "linear of a reshape");
    const pooled = engine.globalAvgPool2d(x.reshape([2, 3, 8, 5])).reshape([1, 6]);
    close(pooled.data, exactly(engine.globalAvgPool2d({ data, shape: [6, 1, 8, 5] }).data), "pool of a reshape");
    const none = engine.tensor(new Float32Array(0), [0, 3]).reshape([5, 0, 1]);
    assert.equal([[...none.shape], none.data.length], [[5, 0, 1], 0]);
    const one = engine.tensor(new Float32Array([7]), [1, 1]).reshape([]);
    assert.equal([[...one.shape], [...engine.relu(one).data]], [[], [7]]);
    // The shape is the reshape's own.
    const dims = [12, 20];
    const y = x.reshape(dims);
    dims[0] = 99;
    assert.equal([...y.shape], [12, 20]);
  }));

test.run();
