// Sparse activations at the public API: k-winners against sorting in float64, lists from and to dense tensors, and products, pools
// and dispatch over them, by every kernel and on every build.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { kernelsFor } from "../bindings/dispatch.js";
import { formatName } from "../bindings/formats/format.js";
import {
  type Activation,
  type Conv2dOptions,
  createEngine,
  type Engine,
  type Format,
  type ImageLayout,
  type KWinnersOptions,
  type LinearOptions,
  type PackedWeight,
  type Padding,
  type SparseTensor,
  type Tensor,
} from "../bindings/index.js";
import { KERNELS } from "../bindings/kernels.js";
import {
  ANY_MATRIX,
  type ConvSizes,
  close,
  convOracle,
  convOutput,
  costsWith,
  type Expected,
  FORMATS,
  kernelsOf,
  linearOracle,
  onEachBuild,
  placesOf,
  random,
  refuses,
  sameBits,
  seed,
  sizeOf,
  toNhwc,
  values,
  weightsFor,
} from "./oracle.js";

const test = suite("sparse");

/** Number i of a list that starts again at its end. */
const at = <T>(list: readonly T[], i: number): T => list[i % list.length];

/** Lists as plain arrays. */
interface PlainLists {
  indptr: number[];
  indices: number[];
  values: Float32Array;
}

/** A tensor as rows of lists: where element c of row r lies in it, and how many rows follow each other in one sample. */
interface Rows {
  rows: number;
  cols: number;
  perSample: number;
  place(row: number, col: number): number;
}

function rowsOf(shape: readonly number[], layout: ImageLayout = "nchw"): Rows {
  if (shape.length !== 4) {
    const cols = shape[shape.length - 1];
    return { rows: sizeOf(shape.slice(0, -1)), cols, perSample: 1, place: (r, c) => r * cols + c };
  }
  const [n, h, w, cols] = layout === "nhwc" ? shape : [shape[0], shape[2], shape[3], shape[1]];
  const pixels = h * w;
  const place = (r: number, c: number) =>
    layout === "nhwc" ? r * cols + c : (Math.floor(r / pixels) * cols + c) * pixels + (r % pixels);
  return { rows: n * pixels, cols, perSample: pixels, place };
}

/** The elements of x that `keep` marks, row by row. */
function plainLists(x: Float32Array, { rows, cols, place }: Rows, keep: (position: number) => boolean): PlainLists {
  const indptr = [0];
  const indices: number[] = [];
  const kept: number[] = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const position = place(r, c);
      if (!keep(position)) continue;
      indices.push(c);
      kept.push(x[position]);
    }
    indptr.push(indices.length);
  }
  return { indptr, indices, values: new Float32Array(kept) };
}

/** x where it is kept, 0 elsewhere. */
const spreadOut = (x: Float32Array, keep: (position: number) => boolean) => x.map((v, i) => (keep(i) ? v : 0));

function sameLists(actual: SparseTensor, expected: PlainLists, label: string): void {
  assert.equal([...actual.indptr], expected.indptr, `${label}: indptr (seed ${seed})`);
  assert.equal([...actual.indices], expected.indices, `${label}: indices (seed ${seed})`);
  sameBits(actual.values, expected.values, `${label}: values`);
  assert.is(actual.nnz, expected.indices.length, `${label}: nnz`);
  assert.is(actual.density, actual.size ? expected.indices.length / actual.size : 0, `${label}: density`);
}

/** Which positions win, by sorting: a NaN comes after −Infinity, equals stay in their order, pixel by pixel in an image. */
function winnersOf(x: Float32Array, of: Rows, o: KWinnersOptions): Set<number> {
  const { rows, cols, perSample, place } = of;
  const each = o.scope === "local" ? 1 : Math.max(1, perSample);
  const n = each * cols;
  const k = o.k ?? Math.round((o.fraction as number) * n);
  const won = new Set<number>();
  for (let first = 0; first < rows; first += each) {
    const scope: { position: number; rank: number }[] = [];
    for (let r = first; r < first + each; r++) {
      for (let c = 0; c < cols; c++) {
        const position = place(r, c);
        let rank = x[position];
        if (o.boost) {
          const { dutyCycle, target = n ? k / n : 0, strength } = o.boost;
          rank = Math.fround(rank * Math.fround(Math.exp((target - dutyCycle[c]) * strength)));
        }
        scope.push({ position, rank });
      }
    }
    const above = (a: number, b: number) => a > b || (Number.isNaN(b) && !Number.isNaN(a));
    const sorted = [...scope].sort((a, b) => (above(a.rank, b.rank) ? -1 : above(b.rank, a.rank) ? 1 : 0));
    const least = sorted[Math.min(k, n) - 1];
    scope.forEach((candidate) => {
      if (k === 0 || (o.relu && !(candidate.rank > 0))) return;
      if (o.breakTies ? sorted.indexOf(candidate) < k : !above(least.rank, candidate.rank)) won.add(candidate.position);
    });
  }
  return won;
}

/** kWinners in all its forms against the model. */
function checkWinners(engine: Engine, x: Float32Array, shape: number[], o: KWinnersOptions): void {
  const label = `${engine.simd} kWinners [${shape}] ${JSON.stringify({ ...o, boost: o.boost && "given" })}`;
  const before = engine.stats();
  const of = rowsOf(shape, o.layout);
  const won = winnersOf(x, of, o);
  const exact = plainLists(x, of, (i) => won.has(i));
  const y = engine.kWinners({ data: x, shape }, o);
  sameLists(y, exact, label);
  assert.equal([y.shape, y.size, y.rows, y.cols], [shape, x.length, of.rows, of.cols], label);
  assert.is(y.layout, shape.length === 4 ? (o.layout ?? "nchw") : undefined, label);
  const spread = y.toDense();
  const { out: _, ...rest } = o;
  const dense = engine.kWinners({ data: x, shape }, { ...rest, output: "dense" });
  const wanted = spreadOut(x, (i) => won.has(i));
  sameBits(spread.data, wanted, `${label}: toDense`);
  sameBits(dense.data, wanted, `${label}: output dense`);
  assert.equal(dense.shape, shape, label);
  // Into a result that held something else, from a tensor.
  const own = engine.tensor(x, shape);
  const image = o.layout && { layout: o.layout };
  const out = engine.toSparse({ data: x.map((_, i) => i + 1), shape }, image);
  assert.is(engine.kWinners(own, { ...o, out }), out, `${label}: out is what comes back`);
  sameLists(out, exact, `${label}: out`);
  const into = engine.tensor(new Float32Array(x.length).fill(NaN), shape);
  assert.is(y.toDense({ out: into }), into, `${label}: toDense gives its out back`);
  sameBits(into.data, wanted, `${label}: toDense into out`);
  into.data.fill(NaN);
  assert.is(engine.kWinners(own, { ...rest, output: "dense", out: into }), into, `${label}: dense out`);
  sameBits(into.data, wanted, `${label}: dense into out`);
  sameBits(own.data, x, `${label}: x afterwards`);
  engine.kWinners(own, { ...rest, output: "dense", out: own });
  sameBits(own.data, wanted, `${label}: dense in place`);
  for (const owner of [y, spread, dense, own, out, into]) owner.dispose();
  assert.equal([engine.stats().bytesInUse, engine.stats().tensors], [before.bytesInUse, before.tensors], label);
}

/** All that ranks strangely, and few enough different numbers that there are ties. */
const ODD = [NaN, -0, 0, 1, 1, -1, 2, -2, 0.5, 1e-45, -1e-45, 1e-40, -1e-40, Infinity, -Infinity, 3.4e38, -3.4e38];

const number = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...ODD) },
  { weight: 2, arbitrary: fc.integer({ min: -4, max: 4 }) },
  { weight: 3, arbitrary: fc.float() },
);

test("kWinners: rows of features, any values, against sorting", async () => {
  const problem = fc
    .tuple(fc.constantFrom<number[]>([1], [2], [5], [2, 3], [0]), fc.oneof(fc.nat(20), fc.constantFrom(0, 31, 64, 65)))
    .chain(([leading, cols]) =>
      fc.record({
        shape: fc.constant<number[]>(cols % 3 ? [...leading, cols] : leading[0] === 1 ? [cols] : [...leading, cols]),
        data: fc.array(number, { minLength: sizeOf(leading) * cols, maxLength: sizeOf(leading) * cols }),
        k: fc.oneof(fc.nat(cols + 2), fc.constantFrom(0, cols)),
        relu: fc.boolean(),
        breakTies: fc.boolean(),
        duty: fc.option(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: cols, maxLength: cols })),
        strength: fc.constantFrom(0, 1.5, -1, 100),
      }),
    );
  await onEachBuild((engine) => {
    const property = fc.property(problem, ({ shape, data, k, relu, breakTies, duty, strength }) => {
      const o: KWinnersOptions = { k, relu, breakTies };
      if (duty) o.boost = { dutyCycle: new Float32Array(duty), strength };
      checkWinners(engine, new Float32Array(data), shape, o);
    });
    fc.assert(property, { seed, numRuns: 400 });
  });
});

test("kWinners: images in both layouts, globally and locally", async () => {
  const problem = fc
    .record({ n: fc.nat(3), c: fc.nat(9), h: fc.nat(4), w: fc.nat(5), layout: fc.constantFrom("nchw", "nhwc") })
    .chain(({ n, c, h, w, layout }) =>
      fc.record({
        shape: fc.constant<number[]>(layout === "nchw" ? [n, c, h, w] : [n, h, w, c]),
        layout: fc.constant(layout as ImageLayout),
        data: fc.array(number, { minLength: n * c * h * w, maxLength: n * c * h * w }),
        scope: fc.constantFrom("global", "local", undefined),
        k: fc.option(fc.nat(c * h * w + 1)),
        fraction: fc.constantFrom(0, 0.1, 0.125, 0.5, 0.9, 1),
        relu: fc.boolean(),
        breakTies: fc.boolean(),
        boost: fc.boolean(),
        channels: fc.constant(c),
      }),
    );
  await onEachBuild((engine) => {
    const property = fc.property(problem, (p) => {
      const { shape, layout, data, scope, k, fraction, relu, breakTies, channels } = p;
      const o: KWinnersOptions = { layout, relu, breakTies, ...(k === null ? { fraction } : { k }) };
      if (scope) o.scope = scope as "global" | "local";
      if (p.boost) {
        const dutyCycle = Float32Array.from({ length: channels }, (_, c) => ((c * 7) % 5) / 5);
        o.boost = { dutyCycle, strength: 1.5, target: 0.3 };
      }
      checkWinners(engine, new Float32Array(data), shape, o);
    });
    fc.assert(property, { seed, numRuns: 300 });
  });
});

test("kWinners: long rows, few different values and many", async () => {
  const rnd = random(seed + 1);
  await onEachBuild((engine) => {
    for (const cols of [509, 511, 512, 513, 1024, 1600, 2051]) {
      const rows: Record<string, Float32Array> = {
        random: values(cols, 0.2, rnd),
        "all equal": new Float32Array(cols).fill(rnd() - 0.5),
        "all zero of both signs": Float32Array.from({ length: cols }, () => (rnd() < 0.5 ? 0 : -0)),
        "all negative": Float32Array.from({ length: cols }, () => -rnd() - 1e-3),
        "all NaN": new Float32Array(cols).fill(NaN),
        "mostly NaN": Float32Array.from({ length: cols }, () => (rnd() < 0.9 ? NaN : rnd() - 0.5)),
        denormals: Float32Array.from({ length: cols }, () => Math.round(rnd() * 40 - 20) * 2 ** -149),
        "one bin": Float32Array.from({ length: cols }, () => 1 + Math.floor(rnd() * 30) * 2 ** -23),
        "three values": Float32Array.from({ length: cols }, () => Math.floor(rnd() * 3) - 1),
        odd: Float32Array.from({ length: cols }, () => at(ODD, Math.floor(rnd() * ODD.length))),
      };
      Object.values(rows).forEach((x, i) => {
        for (const k of [0, 1, Math.round(cols / 10), cols - 1, cols, cols + 5]) {
          checkWinners(engine, x, [cols], { k, breakTies: (i + k) % 2 === 0, relu: (i + k) % 3 === 0 });
          if (k === 1) checkWinners(engine, x, [1, cols], { fraction: 0.1, breakTies: true });
        }
      });
    }
  });
});

test("kWinners: winners keep their values, ties may exceed k, and breakTies takes the first", () =>
  onEachBuild((engine) => {
    const indices = (x: number[], o: KWinnersOptions) => {
      const y = engine.kWinners({ data: new Float32Array(x), shape: [x.length] }, o);
      return [...y.indices];
    };
    assert.equal(indices([3, -1, 2, 0], { k: 2 }), [0, 2]);
    assert.equal(indices([5, 5, 1, 5], { k: 2 }), [0, 1, 3]);
    assert.equal(indices([5, 5, 1, 5], { k: 2, breakTies: true }), [0, 1]);
    assert.equal(indices([0, -0, -1], { k: 1 }), [0, 1]);
    assert.equal(indices([-0, 0, -1], { k: 1, breakTies: true }), [0]);
    assert.equal(indices([-3, -1, -2], { k: 2 }), [1, 2]);
    assert.equal(indices([-3, -1, -2], { k: 2, relu: true }), []);
    assert.equal(indices([NaN, -Infinity, NaN], { k: 1 }), [1]);
    assert.equal(indices([NaN, -Infinity, NaN], { k: 2 }), [0, 1, 2]);
    assert.equal(indices([NaN, -Infinity, NaN], { k: 2, breakTies: true }), [0, 1]);
    assert.equal(indices([NaN, 1], { k: 2, relu: true }), [1]);
    // A unit that wins often ranks lower, and still passes what it is.
    const boost = { dutyCycle: new Float32Array([1, 0]), strength: 2 };
    const y = engine.kWinners({ data: new Float32Array([2, 1]), shape: [2] }, { k: 1, boost });
    assert.equal([[...y.indices], [...y.values]], [[1], [1]]);
  }));

test("kWinners: the same image has the same winners in both layouts", async () => {
  const rnd = random(seed + 2);
  await onEachBuild((engine) => {
    for (const [n, c, h, w] of [
      [1, 64, 10, 10],
      [2, 5, 3, 7],
      [3, 33, 4, 4],
    ]) {
      const x = Float32Array.from({ length: n * c * h * w }, () => Math.floor(rnd() * 9) - 4);
      for (const scope of ["global", "local"] as const) {
        const o = { fraction: 0.125, scope, breakTies: true };
        const planes = engine.kWinners({ data: x, shape: [n, c, h, w] }, o);
        const pixels = engine.kWinners({ data: toNhwc(x, n, c, h, w), shape: [n, h, w, c] }, { ...o, layout: "nhwc" });
        assert.equal(pixels.indptr, planes.indptr);
        assert.equal(pixels.indices, planes.indices);
        const scopes = scope === "local" ? n * h * w : n;
        assert.is(planes.nnz, Math.round(0.125 * (planes.size / scopes)) * scopes);
        planes.dispose();
        pixels.dispose();
      }
    }
  });
});

test("toSparse and toDense: any values, thresholds and layouts", async () => {
  const problem = fc
    .oneof(
      fc.array(fc.nat(9), { minLength: 1, maxLength: 3 }),
      fc.tuple(fc.nat(3), fc.nat(6), fc.nat(5), fc.nat(5)) as fc.Arbitrary<number[]>,
    )
    .chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        data: fc.array(number, { minLength: sizeOf(shape), maxLength: sizeOf(shape) }),
        threshold: fc.constantFrom(undefined, 0, 1e-45, 1e-50, 0.1, 0.7, 1, 2.5, 1e39, Infinity),
        nhwc: fc.boolean(),
      }),
    );
  await onEachBuild((engine) => {
    const property = fc.property(problem, ({ shape, data, threshold, nhwc }) => {
      const x = new Float32Array(data);
      const layout: ImageLayout | undefined = shape.length === 4 ? (nhwc ? "nhwc" : "nchw") : undefined;
      const label = `${engine.simd} toSparse [${shape}] ${layout} ${threshold}`;
      const of = rowsOf(shape, layout);
      const keep = (i: number) => !(Math.abs(x[i]) <= (threshold ?? 0));
      const exact = plainLists(x, of, keep);
      const o = { ...(threshold === undefined ? {} : { threshold }), ...(layout ? { layout } : {}) };
      const y = engine.toSparse({ data: x, shape }, o);
      sameLists(y, exact, label);
      const dense = y.toDense();
      assert.equal(dense.shape, shape);
      sameBits(dense.data, spreadOut(x, keep), `${label}: toDense`);
      const again = engine.toSparse(dense, { ...o, out: y });
      assert.is(again, y);
      sameLists(y, exact, `${label}: a second time`);
      // And the same lists as a user's own.
      const own = engine.sparseTensor(exact, shape, layout && { layout });
      sameLists(own, exact, `${label}: sparseTensor`);
      const spread = own.toDense();
      sameBits(spread.data, dense.data, `${label}: sparseTensor, toDense`);
      for (const owner of [y, dense, own, spread]) owner.dispose();
      const { bytesInUse, tensors } = engine.stats();
      assert.equal([bytesInUse, tensors], [0, 0], label);
    });
    fc.assert(property, { seed, numRuns: 300 });
  });
});

test("sparseTensor: arrays of any integers, copied; stored zeros and odd numbers stay", () =>
  onEachBuild((engine) => {
    const data = new Float32Array([0, NaN, -0, 5]);
    for (const indices of [[0, 2, 1, 3], new Uint32Array([0, 2, 1, 3]), new Uint8Array([0, 2, 1, 3])]) {
      for (const indptr of [[0, 2, 2, 4], new Int32Array([0, 2, 2, 4])]) {
        const x = engine.sparseTensor({ indices, values: data, indptr }, [3, 4]);
        indices[0] = 3;
        data[3] = 9;
        sameLists(
          x,
          { indptr: [0, 2, 2, 4], indices: [0, 2, 1, 3], values: new Float32Array([0, NaN, -0, 5]) },
          "own lists",
        );
        indices[0] = 0;
        data[3] = 5;
        // What is handed out is a copy as well.
        x.values.fill(7);
        x.indices.fill(1e9);
        x.indptr.fill(1e9);
        assert.equal([...x.toDense().data], [0, 0, NaN, 0, 0, 0, 0, 0, 0, -0, 0, 5]);
      }
    }
    const row = engine.sparseTensor({ indices: [], values: new Float32Array(0) }, [4]);
    assert.equal([...row.toDense().data], [0, 0, 0, 0]);
    const none = engine.sparseTensor({ indices: [], values: new Float32Array(0), indptr: [0] }, [0, 4]);
    assert.equal([none.nnz, none.density, none.toDense().size], [0, 0, 0]);
  }));

test("toSparse: a threshold between two float32 drops the lower one only", () =>
  onEachBuild((engine) => {
    // Of these the float32 next to it lies above, below and above.
    for (const threshold of [0.1, 0.7, 1e39]) {
      const near = Math.fround(threshold);
      const data = new Float32Array([near, -near, near * (1 + 2 ** -23), near * (1 - 2 ** -24), 3e38]);
      const kept = [...data].filter((v) => Math.abs(v) > threshold);
      assert.equal([...engine.toSparse({ data, shape: [5] }, { threshold }).values], kept, `${threshold}`);
    }
  }));

test("sparseTensor: what was checked is what is stored, and the engine's own views may be given", () =>
  onEachBuild((engine) => {
    let reads = 0;
    const indices = [0];
    Object.defineProperty(indices, 0, { get: () => (reads++ ? 2 ** 28 : 1) });
    assert.equal(
      [...engine.sparseTensor({ indices, values: new Float32Array([5]) }, [4]).toDense().data],
      [0, 5, 0, 0],
    );
    assert.is(reads, 1);
    let lengths = 0;
    const growing = new Proxy([1], {
      get: (list, key) => (key === "length" && lengths++ ? 1e7 : Reflect.get(list, key)),
    });
    const x1 = engine.sparseTensor({ indices: growing, values: new Float32Array([5]) }, [4]);
    assert.equal([...x1.indices], [1]);
    assert.ok(lengths > 1);
    const a = engine.tensor(new Float32Array([1, 2, 3]), [3]);
    // Large enough for the memory to grow.
    const x = engine.sparseTensor({ indices: [5, 7, 9], values: a.data }, [1 << 22]);
    assert.equal([...x.values], [1, 2, 3]);
    assert.equal([...a.data], [1, 2, 3]);
    refuses(engine, "ERR_LENGTH", /^"values" expected/, () =>
      engine.sparseTensor({ indices: new Array(2 ** 32 - 1), values: new Float32Array(1) }, [4]),
    );
  }));

test("sparseTensor: any lists work as they are, or are refused and nothing is kept", async () => {
  const small = fc.oneof(
    { weight: 20, arbitrary: fc.nat(6) },
    { weight: 1, arbitrary: fc.constantFrom(-1, 0.5, NaN, 2 ** 31, 2 ** 32, 2 ** 32 + 1, Infinity, 1e300) },
  );
  // Legal rows, of which one number may be replaced.
  const problem = fc.array(fc.uniqueArray(fc.nat(5), { maxLength: 4 }), { maxLength: 3 }).chain((lists) => {
    const indices = lists.flatMap((row) => row.sort((a, b) => a - b));
    const indptr = [0];
    for (const row of lists) indptr.push((indptr.at(-1) as number) + row.length);
    return fc.record({
      rows: fc.oneof({ weight: 9, arbitrary: fc.constant(lists.length) }, { weight: 1, arbitrary: fc.nat(3) }),
      cols: fc.oneof({ weight: 9, arbitrary: fc.constant(6) }, { weight: 1, arbitrary: fc.nat(6) }),
      lists: fc.constant({ indices, indptr: lists.length === 1 ? undefined : indptr }),
      wrong: fc.option(fc.record({ list: fc.boolean(), at: fc.nat(6), value: small })),
    });
  });
  await onEachBuild((engine) => {
    let [good, bad] = [0, 0];
    const property = fc.property(problem, ({ rows, cols, lists, wrong }) => {
      const indices = [...lists.indices];
      const indptr = lists.indptr && [...lists.indptr];
      const spoiled = (wrong?.list && indptr) || indices;
      if (wrong && spoiled.length) spoiled[wrong.at % spoiled.length] = wrong.value;
      const n = indices.length;
      const bounds = indptr ?? [0, n];
      const legal =
        bounds.length === rows + 1 &&
        bounds[0] === 0 &&
        bounds[rows] === n &&
        bounds.every((b, r) => Number.isInteger(b) && (r === 0 || b >= bounds[r - 1])) &&
        bounds.every((b, r) =>
          indices
            .slice(b, bounds[r + 1] ?? b)
            .every((c, i, row) => Number.isInteger(c) && c >= 0 && c < cols && (i === 0 || c > row[i - 1])),
        );
      const kept = Float32Array.from({ length: n }, (_, i) => i + 1);
      const make = () => engine.sparseTensor({ indices, values: kept, ...(indptr ? { indptr } : {}) }, [rows, cols]);
      if (legal) {
        good++;
        const x = make();
        sameLists(x, { indptr: bounds, indices, values: kept }, "sparseTensor");
        x.dispose();
        return;
      }
      bad++;
      const before = engine.stats();
      assert.throws(make, (error: { code?: string }) => /^ERR_(VALUE|LENGTH|TYPE)$/.test(error.code ?? ""));
      assert.equal(engine.stats(), before);
    });
    fc.assert(property, { seed, numRuns: 1500 });
    assert.ok(good > 100 && bad > 100, `${good} legal, ${bad} not (seed ${seed})`);
  });
});

type PackFormat = "auto" | Format;
const nameOf = (format: PackFormat): string => (format === "auto" ? format : formatName(format));
const SPMSPV = KERNELS.filter(({ op }) => op === "spmspv").map(({ name }) => name);

/** Formats of the user's own: a dense kernel may not run. */
const ALL: PackFormat[] = ["auto", ...FORMATS];
const structureIn = (format: PackFormat, i: number): Format => (format === "auto" ? at(FORMATS, i) : format);

interface Ending {
  bias?: "array" | "tensor";
  residual?: "data" | "tensor" | "out";
  activation?: Activation;
  lo?: number;
  hi?: number;
}
const ENDINGS: Ending[] = [
  {},
  { bias: "array" },
  { activation: "relu", lo: 0 },
  { residual: "data" },
  { residual: "tensor", activation: "relu6", lo: 0, hi: 6 },
  { residual: "out" },
  { bias: "tensor", residual: "out", activation: { min: -0.5, max: 0.25 }, lo: -0.5, hi: 0.25 },
  { bias: "array", residual: "data", activation: { min: -1 }, lo: -1 },
];

/** All that an engine holds; memory once reserved stays. */
const usedBy = (engine: Engine) => ({ ...engine.stats(), bytesReserved: 0 });

/** Kernels that ran. */
const ran = new Set<string>();

/** One product in one format by every kernel: chosen, each for sparse inputs, and those for dense ones. */
function checkProduct(
  engine: Engine,
  label: string,
  w: PackedWeight,
  x: { sparse: SparseTensor; dense: Tensor },
  groups: number,
  e: Ending,
  shape: number[],
  extras: { bias: Float32Array; residual: Float32Array },
  exact: Expected,
  call: (x: Tensor | SparseTensor, o: LinearOptions) => Tensor,
): void {
  const kept: { dispose(): void }[] = [];
  const keep = <T extends { dispose(): void }>(owner: T): T => {
    kept.push(owner);
    return owner;
  };
  const options = (): LinearOptions => {
    const o: LinearOptions = {};
    if (e.activation !== undefined) o.activation = e.activation;
    if (e.bias) o.bias = e.bias === "array" ? extras.bias : keep(engine.tensor(extras.bias, [extras.bias.length]));
    if (e.residual === "data") o.residual = { data: extras.residual, shape };
    else if (e.residual) o.residual = keep(engine.tensor(extras.residual, shape));
    if (e.residual === "out") o.out = o.residual as Tensor;
    return o;
  };
  try {
    const able = kernelsFor("spmspv", w.structure(false, groups)).map(({ name }) => name);
    // But for dense weights in groups there is one.
    assert.ok(able.length || (groups > 1 && w.format === "dense"), `${label}: no kernel for sparse inputs`);
    const others = kernelsOf((forceKernel) => call(x.dense, { forceKernel })).slice(0, 2);
    for (const forceKernel of [undefined, ...able, ...others]) {
      const by = `${label} by ${forceKernel ?? "what explain says"}`;
      const o = options();
      if (forceKernel) o.forceKernel = forceKernel;
      const y = keep(call(x.sparse, o));
      if (o.out) assert.is(y, o.out, by);
      assert.equal([...y.shape], shape, by);
      close(y.data, exact, by);
      const out = keep(engine.tensor(new Float32Array(y.size).fill(NaN), shape));
      const bits = y.toArray();
      const again = call(x.sparse, { ...options(), ...(forceKernel ? { forceKernel } : {}), out });
      if (e.residual !== "out") assert.is(again, out, by);
      sameBits(again.data, bits, `${by}, a second time`);
      const tail = engine.memory.floats(y.ptr + y.size * 4, 4);
      assert.ok(
        tail.every((v) => v === 0),
        `${by}: wrote past its result: ${tail} (seed ${seed})`,
      );
      if (forceKernel && y.size) ran.add(forceKernel);
    }
    close(keep(call(x.dense, options())).data, exact, `${label} from dense inputs`);
  } finally {
    for (const owner of kept) owner.dispose();
  }
}

/** Inputs of which a share is zero; some rows have none that is active, one has nothing else. */
function activations(rows: number, cols: number, zeros: number, rnd: () => number): Float32Array {
  const x = values(rows * cols, zeros, rnd);
  if (rows > 1 && rnd() < 0.5) x.fill(0, 0, cols);
  if (rows > 2 && rnd() < 0.5) x.set(values(cols, 0, rnd), (rows - 1) * cols);
  return x;
}

function checkLinear(
  engine: Engine,
  format: PackFormat,
  leading: number[],
  k: number,
  m: number,
  zeros: [w: number, x: number],
  e: Ending,
  from: number,
): void {
  const before = usedBy(engine);
  const rnd = random(from);
  const rows = sizeOf(leading);
  const w = weightsFor(structureIn(format, from), m, k, zeros[0], rnd);
  const x = activations(rows, k, zeros[1], rnd);
  const extras = { bias: values(m, 0, rnd), residual: values(rows * m, 0, rnd) };
  const { lo = -Infinity, hi = Infinity } = e;
  const bias = e.bias && extras.bias;
  const exact = linearOracle(x, w, rows, k, m, { bias, residual: e.residual && extras.residual, lo, hi });
  const packed = engine.pack(w, [m, k], { format });
  const dense = engine.tensor(x, [...leading, k]);
  const sparse = engine.toSparse(dense);
  const label = `${engine.simd} ${nameOf(format)} linear [${leading}] k ${k} m ${m} zeros ${zeros} ${JSON.stringify(e)}`;
  checkProduct(engine, label, packed, { sparse, dense }, 1, e, [...leading, m], extras, exact, (a, o) =>
    engine.linear(a, packed, o),
  );
  if (format !== "auto" && format !== "dense") {
    const { kernel, alternatives } = engine.explain("linear", sparse, packed);
    assert.not.match([kernel, ...alternatives.map((way) => way.kernel)].join(), /dense/, label);
  }
  for (const owner of [packed, dense, sparse]) owner.dispose();
  assert.equal(usedBy(engine), before, `${label}: what is left`);
}

const SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 64, 67];
const ZEROS: [number, number][] = [
  [0, 0.5],
  [0.5, 0.9],
  [0.9, 0.5],
  [0.95, 0.9],
  [0.9, 0],
  [0.5, 1],
  [1, 0.5],
];

test("linear: sizes around every tile, every format, every kernel", () =>
  onEachBuild((engine) => {
    SIZES.forEach((size, i) => {
      ALL.forEach((format, f) => {
        const j = 5 * i + f;
        const [p, e, zeros] = [at(SIZES, 7 * i + f), at(ENDINGS, j), at(ZEROS, j)];
        checkLinear(engine, format, [], size, p, zeros, e, seed + j);
        checkLinear(engine, format, [at([1, 2, 3, 20], j)], p, size, zeros, at(ENDINGS, j + 3), seed + j);
      });
    });
  }));

test("linear: property over shapes, formats and endings", async () => {
  const problem = fc.record({
    format: fc.constantFrom(...ALL),
    leading: fc.array(fc.nat(4), { maxLength: 2 }),
    k: fc.nat(70),
    m: fc.nat(70),
    w: fc.constantFrom(0, 0.5, 0.9, 0.97, 1),
    x: fc.constantFrom(0, 0.02, 0.5, 0.9, 0.98, 1),
    e: fc.constantFrom(...ENDINGS),
    from: fc.nat(),
  });
  await onEachBuild((engine) => {
    const property = fc.property(problem, (p) => {
      if (p.m === 0 || sizeOf(p.leading) === 0) return;
      checkLinear(engine, p.format, p.leading, p.k, p.m, [p.w, p.x], p.e, p.from);
    });
    fc.assert(property, { seed, numRuns: 200 });
  });
});

test("linear: the sizes of the papers, from k-winners", async () => {
  const rnd = random(seed + 3);
  await onEachBuild((engine) => {
    for (const blockRows of [1, 4, 8]) {
      const format: Format = { kind: "complementary", overlay: 20, blockRows };
      const w = weightsFor(format, 1500, 1600, 0.05, rnd);
      const packed = engine.pack(w, [1500, 1600], { format });
      const data = values(1600, 0, rnd);
      const x = engine.kWinners({ data, shape: [1, 1600] }, { fraction: 0.1 });
      assert.is(x.nnz, 160);
      const exact = linearOracle(x.toDense().toArray(), w, 1, 1600, 1500);
      for (const { name } of kernelsFor("spmspv", packed.structure(false)))
        close(engine.linear(x, packed, { forceKernel: name }).data, exact, `${engine.simd} ${blockRows} by ${name}`);
      packed.dispose();
    }
  });
});

test("nothing to do: no rows, no inputs, no outputs, no pixels", () =>
  onEachBuild((engine) => {
    for (const format of ["auto", "dense", "csr", { kind: "block", rows: 4, cols: 1 }] as PackFormat[]) {
      for (const [rows, k, m] of [
        [0, 3, 2],
        [2, 0, 3],
        [2, 3, 0],
        [0, 0, 0],
      ]) {
        const w = engine.pack(new Float32Array(m * k).fill(1), [m, k], { format });
        const x = engine.toSparse({ data: new Float32Array(rows * k).fill(2), shape: [rows, k] });
        const bias = new Float32Array(m).fill(3);
        const able = kernelsFor("spmspv", w.structure(false)).map(({ name }) => name);
        for (const forceKernel of [undefined, ...able]) {
          const y = engine.linear(x, w, { bias, ...(forceKernel ? { forceKernel } : {}) });
          assert.equal([...y.shape], [rows, m]);
          assert.ok(y.data.every((v) => v === 3));
        }
        assert.is(typeof engine.explain("linear", x, w).kernel, "string");
      }
      const w = engine.pack(new Float32Array(4).fill(1), [2, 2, 1, 1], { format });
      for (const shape of [
        [0, 2, 3, 3],
        [1, 2, 2, 1],
      ]) {
        const x = engine.toSparse({ data: new Float32Array(sizeOf(shape)), shape });
        const able = kernelsFor("spmspv", w.structure(false)).map(({ name }) => name);
        for (const forceKernel of [undefined, ...able]) {
          const y = engine.conv2d(x, w, forceKernel ? { forceKernel } : {});
          assert.equal([...y.shape], shape);
          assert.ok(y.data.every((v) => v === 0));
        }
      }
    }
  }));

interface Conv {
  n?: number;
  c: number;
  h: number;
  w?: number;
  m: number;
  k: number | [number, number];
  groups?: number;
  stride?: number | [number, number];
  dilation?: number | [number, number];
  padding?: Padding;
}
const both = (p: number | readonly [number, number]): [number, number] => (typeof p === "number" ? [p, p] : [...p]);

function sizesOfConv({ n = 1, c, h, w = h, m, k, groups = 1, stride = 1, dilation = 1, padding = 0 }: Conv): ConvSizes {
  const [kh, kw] = both(k);
  const [sh, sw] = both(stride);
  const [dh, dw] = both(dilation);
  let zeros: [number, number, number, number];
  if (padding === "same") {
    const total = (size: number, s: number, span: number) => Math.max((Math.ceil(size / s) - 1) * s + span - size, 0);
    const [v, u] = [total(h, sh, (kh - 1) * dh + 1), total(w, sw, (kw - 1) * dw + 1)];
    zeros = [v >> 1, u >> 1, v - (v >> 1), u - (u >> 1)];
  } else if (typeof padding === "object" && padding.length === 4) zeros = [...padding];
  else {
    const [v, u] = padding === "valid" ? [0, 0] : both(padding as number | [number, number]);
    zeros = [v, u, v, u];
  }
  return { n, c, h, w, m, kh, kw, groups, stride: [sh, sw], dilation: [dh, dw], padding: zeros };
}

function checkConv(
  engine: Engine,
  format: PackFormat,
  conv: Conv,
  layout: ImageLayout,
  zeros: [w: number, x: number],
  e: Ending,
  from: number,
): void {
  const before = usedBy(engine);
  const rnd = random(from);
  const s = sizesOfConv(conv);
  const { n, c, h, w: wide, m, kh, kw, groups } = s;
  const [oh, ow] = convOutput(s);
  const perGroup = c / groups;
  const weights = weightsFor(structureIn(format, from), m, perGroup * kh * kw, zeros[0], rnd);
  const x = activations(n * c, h * wide, zeros[1], rnd);
  const extras = { bias: values(m, 0, rnd), residual: values(n * m * oh * ow, 0, rnd) };
  const { lo = -Infinity, hi = Infinity } = e;
  const own = <T extends Float32Array | Float64Array>(a: T) => (layout === "nhwc" ? toNhwc(a, n, m, oh, ow) : a);
  const { y, bound } = convOracle(x, weights, s, {
    bias: e.bias && extras.bias,
    residual: e.residual && extras.residual,
    lo,
    hi,
  });
  const nhwc = layout === "nhwc";
  const packed = engine.pack(weights, [m, perGroup, kh, kw], { format });
  const dense = engine.tensor(nhwc ? toNhwc(x, n, c, h, wide) : x, nhwc ? [n, h, wide, c] : [n, c, h, wide]);
  const sparse = engine.toSparse(dense, { layout });
  const { stride, dilation, padding } = conv;
  const o: Conv2dOptions = { groups, layout };
  if (stride) o.stride = stride;
  if (dilation) o.dilation = dilation;
  if (padding) o.padding = padding;
  const label = `${engine.simd} ${nameOf(format)} conv2d ${JSON.stringify(conv)} ${layout} zeros ${zeros} ${JSON.stringify(e)}`;
  const shape = nhwc ? [n, oh, ow, m] : [n, m, oh, ow];
  const theirs = { bias: extras.bias, residual: own(extras.residual) };
  checkProduct(
    engine,
    label,
    packed,
    { sparse, dense },
    groups,
    e,
    shape,
    theirs,
    { y: own(y), bound: own(bound) },
    (a, more) => engine.conv2d(a, packed, { ...o, ...more }),
  );
  if (format !== "auto" && format !== "dense") {
    const { kernel, alternatives } = engine.explain("conv2d", sparse, packed, o);
    // A depthwise kernel does not multiply the zeros of other channels; all others would.
    assert.not.match([kernel, ...alternatives.map((way) => way.kernel)].join(), /dense_(gem|spmspv)/, label);
  }
  for (const owner of [packed, dense, sparse]) owner.dispose();
  assert.equal(usedBy(engine), before, `${label}: what is left`);
}

const CONVS: Conv[] = [
  { c: 5, h: 4, m: 7, k: 1 },
  { n: 3, c: 8, h: 3, w: 5, m: 16, k: 1, stride: 2 },
  { c: 4, h: 6, m: 8, k: 3 },
  { n: 2, c: 3, h: 7, w: 5, m: 5, k: 3, padding: 1 },
  { c: 6, h: 7, m: 12, k: 3, padding: "same", stride: 2 },
  { c: 2, h: 9, m: 9, k: 3, dilation: 2, padding: [2, 1] },
  { n: 2, c: 2, h: 5, w: 8, m: 8, k: [2, 3], stride: [2, 1], padding: [1, 0, 0, 2] },
  { c: 2, h: 7, m: 4, k: 5, padding: 2 },
  { c: 1, h: 5, m: 17, k: 5 },
  { n: 2, c: 4, h: 5, m: 8, k: 3, groups: 2, padding: 1 },
  { c: 4, h: 5, m: 16, k: 1, groups: 2 },
  { c: 6, h: 5, m: 6, k: 3, groups: 6, padding: "same" },
  { c: 6, h: 5, m: 9, k: [1, 3], groups: 3, stride: [1, 2], dilation: [1, 2], padding: [0, 2] },
  { c: 3, h: 2, m: 4, k: 3, padding: 4, stride: 3 },
];

test("conv2d: strides, padding, dilation, groups, layouts, every format and kernel", () =>
  onEachBuild((engine) => {
    CONVS.forEach((conv, i) => {
      ALL.forEach((format, f) => {
        const j = 3 * i + f;
        const layout: ImageLayout = j % 2 ? "nhwc" : "nchw";
        checkConv(engine, format, conv, layout, at(ZEROS, j), at(ENDINGS, j + (j >> 3)), seed + j);
      });
    });
  }));

test("conv2d: property over shapes", async () => {
  const two = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));
  const problem = fc.record({
    format: fc.constantFrom<PackFormat>("auto", ...ANY_MATRIX),
    n: fc.integer({ min: 1, max: 3 }),
    per: two(1, 9),
    groups: fc.constantFrom(1, 1, 2, 4),
    size: two(1, 8),
    k: two(1, 4),
    stride: two(1, 3),
    dilation: two(1, 2),
    padding: fc.oneof(fc.constant("same" as const), two(0, 3)),
    nhwc: fc.boolean(),
    zeros: fc.constantFrom(...ZEROS),
    e: fc.constantFrom(...ENDINGS),
    from: fc.nat(),
  });
  await onEachBuild((engine) => {
    const property = fc.property(problem, (p) => {
      const { per, groups, size, k, stride, dilation, padding, zeros, e, from } = p;
      const conv = { n: p.n, c: per[0] * groups, m: per[1] * groups, h: size[0], w: size[1] };
      const whole = { ...conv, k, groups, stride, dilation, padding };
      const {
        padding: [t, l, b, r],
        kh,
        kw,
      } = sizesOfConv(whole);
      fc.pre((kh - 1) * dilation[0] < size[0] + t + b && (kw - 1) * dilation[1] < size[1] + l + r);
      checkConv(engine, p.format, whole, p.nhwc ? "nhwc" : "nchw", zeros, e, from);
    });
    fc.assert(property, { seed, numRuns: 120 });
  });
});

/** A convolution of one pixel by one kernel; undefined if that can't run, as `explain` then says. */
function onePixel(engine: Engine, m: number, forceKernel: string, kernel: [number, number], o: Conv2dOptions) {
  const rows = forceKernel.includes("8x1") ? 8 : forceKernel.includes("4x1") ? 4 : 1;
  const format: Format = forceKernel.includes("dense") ? "dense" : rows > 1 ? { kind: "block", rows, cols: 1 } : "csr";
  const k = kernel[0] * kernel[1];
  const w = engine.pack(
    values(m * k, 0, random(seed)).map((v) => v || 1),
    [m, 1, ...kernel],
    { format },
  );
  const x = engine.tensor(new Float32Array([2]), [1, 1, 1, 1]);
  const lists = engine.toSparse(x);
  const { alternatives, reason } = engine.explain("conv2d", lists, w, o);
  const runs = alternatives.some((way) => way.kernel === forceKernel);
  if (runs) {
    const y = engine.conv2d(lists, w, { ...o, forceKernel });
    sameBits(y.toArray(), engine.conv2d(x, w, o).toArray(), JSON.stringify([m, forceKernel, kernel, o]));
  } else {
    assert.match(reason, /^dense inputs, as no kernel for sparse inputs takes these taps and weights: 100.0% /);
    refuses(engine, "ERR_VALUE", /forceKernel/, () => engine.conv2d(lists, w, { ...o, forceKernel }));
  }
  for (const owner of [w, x, lists]) owner.dispose();
  return runs;
}

test("conv2d: taps that lie too far apart for lists go the dense way, and explain says so", async () => {
  const engine = await createEngine();
  // 8 floats an output, of which 16 bits number 65536 one by one, and so many pairs.
  for (const [kernel, m, most] of [
    ["f32_csr_spmspv", 1, 8191],
    ["f32_block_spmspv_8x1", 8, 16382],
  ] as const) {
    for (const [d, runs] of [
      [most, true],
      [most + 1, false],
    ] as const) {
      assert.is(onePixel(engine, m, kernel, [1, 2], { dilation: [1, d], padding: [0, d] }), runs, `${kernel} ${d}`);
      // Lines of taps need not be added together.
      assert.ok(onePixel(engine, m, kernel, [2, 1], { dilation: [d, 1], padding: [d, 0] }), `${kernel} ${d} down`);
    }
  }
  // 400 sums beside each of 5241 or 5245 lines: 8 floats each, 2²⁴ at most.
  for (const [padding, runs] of [
    [2620, true],
    [2622, false],
  ] as const) {
    const o = { dilation: [1, 1000], padding: [padding, 600] } as const;
    assert.is(onePixel(engine, 1, "f32_csr_spmspv", [1, 2], o), runs, `padding ${padding}`);
  }
  assert.ok(onePixel(engine, 1, "f32_dense_spmspv", [1, 2], { dilation: [1, 10000], padding: [0, 10000] }));
  engine.dispose();
});

test("conv2d and linear: as many entries a column as 16 bits count", async () => {
  const engine = await createEngine();
  for (const kernel of ["f32_csr_spmspv", "f32_block_spmspv_4x1", "f32_block_spmspv_8x1"]) {
    // 9 taps of full columns are added together up to 3632 outputs, then line by line.
    for (const m of [3632, 3633, 21837, 21838]) {
      assert.is(onePixel(engine, m, kernel, [3, 3], { padding: 2 }), m < 21838, `${kernel} ${m}`);
    }
    for (const m of [65527, 65528]) {
      assert.is(onePixel(engine, m, kernel, [1, 1], {}), m < 65528, `${kernel} ${m}`);
    }
  }
  engine.dispose();
});

test("conv2d: parts of a run are told apart however many taps it has", async () => {
  const engine = await createEngine();
  const kh = 140_000;
  const w = new Float32Array(kh * 2);
  w.set([1, 10], w.length - 2);
  const dense = engine.pack(w, [1, 1, kh, 2], { format: "dense" });
  const x = engine.toSparse(engine.tensor(new Float32Array([1, 2, 3]), [1, 1, 1, 3]));
  const forceKernel = "f32_dense_spmspv";
  assert.equal([...engine.conv2d(x, dense, { padding: [kh - 1, 0, 0, 0], forceKernel }).data], [21, 32]);
  engine.dispose();
});

test("every kernel for sparse inputs ran", () => {
  assert.equal(
    SPMSPV.filter((name) => !ran.has(name)),
    [],
  );
});

test("one weight on lists in many uses: each has lines, plans and streams of its own", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const forceKernel = "f32_csr_spmspv";
    const agree = (w: PackedWeight, shape: number[], o: Conv2dOptions) => {
      const x = { data: values(sizeOf(shape), 0.6, rnd), shape };
      const y = engine.conv2d(engine.toSparse(x), w, { ...o, forceKernel }).toArray();
      const dense = engine.conv2d(x, w, o).data;
      const furthest = y.reduce((most, v, i) => Math.max(most, Math.abs(v - dense[i])), 0);
      assert.ok(furthest < 1e-4, `${shape} ${JSON.stringify(o)}: off by ${furthest}`);
    };
    const w = engine.pack(values(4 * 2 * 9, 0, rnd), [4, 2, 3, 3], { format: "csr" });
    for (const groups of [2, 1, 2]) agree(w, [1, 2 * groups, 5, 5], { groups, padding: 1 });
    for (const n of [1, 3, 1]) agree(w, [n, 2, 5, 5], { padding: 1 });
    const wide = engine.pack(values(8 * 2 * 3, 0, rnd), [8, 2, 1, 3], { format: "csr" });
    for (const padding of [
      [0, 2, 0, 0],
      [0, 0, 0, 2],
      [0, 1, 0, 1],
      [0, 2, 0, 1],
    ] as const) {
      agree(wide, [1, 2, 5, 6], { padding });
    }
  }));

test("a sparse image keeps its layout without being told", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const image = { data: values(4 * 36, 0.5, rnd), shape: [1, 6, 6, 4] };
    const x = engine.toSparse(image, { layout: "nhwc" });
    const w = engine.pack(values(8 * 4 * 9, 0.5, rnd), [8, 4, 3, 3]);
    assert.equal(engine.conv2d(x, w).shape, [1, 4, 4, 8]);
    sameBits(engine.conv2d(x, w).toArray(), engine.conv2d(x, w, { layout: "nhwc" }).toArray(), "conv2d");
    const kept = engine.conv2d(x, w, { activation: "relu", output: "sparse" });
    assert.equal([kept.layout, kept.shape], ["nhwc", [1, 4, 4, 8]]);
    const pooled = engine.maxPool2d(x, { kernel: 2 });
    assert.equal([pooled.layout, pooled.shape], ["nhwc", [1, 3, 3, 4]]);
    const winners = engine.kWinners(x, { k: 2, scope: "local" });
    assert.equal([winners.layout, winners.shape], ["nhwc", [1, 6, 6, 4]]);
    assert.ok(engine.explain("conv2d", x, w).kernel);
    refuses(engine, "ERR_SHAPE", /^"x" expected an image as nchw, got "nhwc"/, () =>
      engine.conv2d(x, w, { layout: "nchw" }),
    );
  }));

/** Formats that multiply only what they store. */
const SPARSE: Format[] = FORMATS.filter((format) => format !== "dense");

test("NaN and Infinity: an inactive input never reaches y, an active one where W stores something", async () => {
  const rnd = random(seed + 5);
  await onEachBuild((engine) => {
    for (const format of SPARSE) {
      for (const [rows, k, m] of [
        [1, 21, 8],
        [3, 40, 17],
        [20, 33, 6],
      ]) {
        const first = engine.pack(weightsFor(format, m, k, 0.8, rnd), [m, k], { format });
        // A number in every place that is stored.
        const w = placesOf(first).map((place) => (place ? rnd() + 0.5 : 0));
        first.dispose();
        const packed = engine.pack(w, [m, k], { format });
        const odd = values(rows * k, 0, rnd).map((v) =>
          rnd() < 0.2 ? at([NaN, Infinity, -Infinity], (rnd() * 3) | 0) : v,
        );
        const label = `${engine.simd} ${nameOf(format)} [${rows}, ${k}] × ${m}`;
        // Finite numbers win, what is lost is odd.
        const finite = odd.map((v) => (Number.isFinite(v) ? v : -1e9));
        const won = plainLists(finite, rowsOf([rows, k]), (i) => finite[i] > 0);
        const clean = engine.sparseTensor(won, [rows, k]);
        const cleanExact = linearOracle(
          finite.map((v) => Math.max(0, v)),
          w,
          rows,
          k,
          m,
        );
        const all = engine.toSparse({ data: odd, shape: [rows, k] }, { threshold: 0.3 });
        const allExact = linearOracle(
          odd.map((v) => (Math.abs(v) <= 0.3 ? 0 : v)),
          w,
          rows,
          k,
          m,
        );
        const kernels = kernelsFor("spmspv", packed.structure(false)).map(({ name }) => name);
        for (const forceKernel of [undefined, ...kernels]) {
          const o = forceKernel ? { forceKernel } : {};
          // What the last call left behind is odd too.
          engine.relu({ data: new Float32Array(4000).fill(NaN), shape: [4000] }).dispose();
          close(engine.linear(clean, packed, o).data, cleanExact, `${label} by ${forceKernel}: inactive`);
          close(engine.linear(all, packed, o).data, allExact, `${label} by ${forceKernel}: active`);
        }
        packed.dispose();
      }
    }
    // k-winners drop a NaN, a dense kernel would not.
    for (const format of ["auto", "dense", "csr"] as const) {
      const w = engine.pack(new Float32Array(12).fill(1), [3, 4], { format });
      const x = engine.kWinners({ data: new Float32Array([NaN, 2, NaN, 1]), shape: [4] }, { k: 2 });
      const kernels = kernelsFor("spmspv", w.structure(false)).map(({ name }) => name);
      for (const forceKernel of [undefined, ...kernels])
        assert.equal([...engine.linear(x, w, forceKernel ? { forceKernel } : {}).data], [3, 3, 3]);
    }
    const s = sizesOfConv({ c: 4, h: 5, m: 8, k: 3, padding: 1 });
    for (const format of SPARSE) {
      const first = engine.pack(weightsFor(format, 8, 36, 0.9, rnd), [8, 4, 3, 3], { format });
      const w = placesOf(first).map((place) => (place ? rnd() + 0.5 : 0));
      first.dispose();
      const packed = engine.pack(w, [8, 4, 3, 3], { format });
      const x = values(100, 0.7, rnd).map((v) => (v !== 0 && rnd() < 0.2 ? at([NaN, Infinity], (rnd() * 2) | 0) : v));
      const sparse = engine.toSparse({ data: x, shape: [1, 4, 5, 5] });
      for (const { name } of kernelsFor("spmspv", packed.structure(false))) {
        const y = engine.conv2d(sparse, packed, { padding: 1, forceKernel: name });
        close(y.data, convOracle(x, w, s), `${engine.simd} ${nameOf(format)} conv2d by ${name}`);
      }
      packed.dispose();
    }
  });
});

test("a weight with new numbers: its columns have them too", async () => {
  const rnd = random(seed + 6);
  await onEachBuild((engine) => {
    for (const format of FORMATS) {
      const w = engine.pack(weightsFor(format, 16, 24, 0.5, rnd), [16, 24], { format });
      const x = engine.toSparse({ data: values(48, 0.8, rnd), shape: [2, 24] });
      const names = kernelsFor("spmspv", w.structure(false)).map(({ name }) => name);
      for (const forceKernel of names) engine.linear(x, w, { forceKernel }).dispose();
      const next = placesOf(w).map((place) => (place ? rnd() - 0.5 : 0));
      w.update(next);
      const exact = linearOracle(x.toDense().toArray(), next, 2, 24, 16);
      for (const forceKernel of names)
        close(engine.linear(x, w, { forceKernel }).data, exact, `${nameOf(format)} by ${forceKernel} after update`);
      w.dispose();
    }
  });
});

test("costs and the density of x decide, and explain says so", async () => {
  const rnd = random(seed + 7);
  const [m, k] = [32, 64];
  const formats: PackFormat[] = ["csr", "auto", "dense", { kind: "block", rows: 8, cols: 1 }];
  const withDensity = (engine: Engine, density: number) => {
    const data = new Float32Array(k);
    for (let i = 0; i < Math.round(k * density); i++) data[(i * 37) % k] = rnd() + 0.1;
    return engine.toSparse({ data, shape: [1, k] });
  };
  // Sparse, dense, and even: an entry costs twice as much from sparse inputs, so that they break even at half.
  for (const [way, sparse, dense] of [
    ["sparse", 0, 1],
    ["dense", 1, 0],
    ["even", 2, 1],
  ] as const) {
    const costs = costsWith(({ op, format }) => [op === "spmspv" ? sparse * (format === "block" ? 8 : 1) : dense, 0]);
    if (way === "even") {
      // Blocks count as one entry: all kernels must cost by the number.
      const table = costsWith(({ op, block: [r, c], format }) => {
        const lanes = format === "nm" ? 8 : 1;
        return [(op === "spmspv" ? 2 : 1) * r * c * lanes, 0];
      });
      Object.assign(costs, table);
    }
    await onEachBuild(
      (engine) => {
        for (const format of formats) {
          const data = weightsFor(format === "auto" ? "csr" : format, m, k, format === "dense" ? 0 : 0.8, rnd);
          const w = engine.pack(data, [m, k], { format });
          for (const density of [0.05, 0.25, 0.75, 1]) {
            const x = withDensity(engine, density);
            const label = `${engine.simd} ${way} ${nameOf(format)} density ${density}`;
            const told = engine.explain("linear", x, w);
            const lists = way === "sparse" || (way === "even" && density < 0.5);
            assert.is(/spmspv/.test(told.kernel), lists, `${label}: ${told.kernel}`);
            // Both ways are named, the other one as slower or as fast.
            const kernels = told.alternatives.map((other) => other.kernel).join();
            assert.match(kernels, /spmspv/, label);
            assert.ok(
              told.alternatives.some((other) => !/spmspv/.test(other.kernel)),
              `${label}: ${kernels}`,
            );
            for (let i = 1; i < told.alternatives.length; i++)
              assert.ok(told.alternatives[i - 1].ms <= told.alternatives[i].ms, label);
            assert.is(told.alternatives[0].kernel, told.kernel, label);
            const most =
              w.format === "dense" || /dense/.test(told.kernel) ? m * k : placesOf(w).reduce((a, b) => a + b, 0);
            assert.is(told.macs, Math.round(most * (lists ? x.density : 1)), `${label}: multiply-adds`);
            assert.is(told.denseMacs, m * k, label);
            // What is said is what runs, bit by bit.
            const y = engine.linear(x, w);
            const by = told.kernel.split(" ")[0];
            sameBits(engine.linear(x, w, { forceKernel: by }).data, y.data, `${label} by ${by}`);
            close(y.data, linearOracle(x.toDense().toArray(), data, 1, k, m), label);
          }
          w.dispose();
        }
        const image = engine.toSparse({ data: values(4 * 36, 0.9, rnd), shape: [1, 4, 6, 6] });
        const kernel = engine.pack(values(8 * 36, 0.5, rnd), [8, 4, 3, 3], { format: "csr" });
        const told = engine.explain("conv2d", image, kernel, { padding: 1 });
        if (way !== "even") assert.is(/spmspv/.test(told.kernel), way === "sparse", `conv2d ${way}: ${told.kernel}`);
        // Dense weights in groups have no kernel that walks columns.
        const grouped = engine.pack(values(8 * 18, 0, rnd), [8, 2, 3, 3], { format: "dense" });
        assert.match(
          engine.explain("conv2d", image, grouped, { groups: 2 }).reason,
          /as no kernel for sparse inputs takes these taps and weights/,
        );
        close(
          engine.conv2d(image, kernel, { padding: 1 }).data,
          convOracle(image.toDense().toArray(), kernel.toDense(), sizesOfConv({ c: 4, h: 6, m: 8, k: 3, padding: 1 })),
          `conv2d ${way}`,
        );
      },
      { costs },
    );
  }
});

test("shipped costs: few active inputs walk columns, all active ones do not", () =>
  onEachBuild((engine) => {
    const w = engine.pack(weightsFor("csr", 512, 512, 0.9, random(1)), [512, 512], { format: "csr" });
    const few = engine.sparseTensor({ indices: [3, 400], values: new Float32Array([1, 2]) }, [512]);
    const all = engine.toSparse({ data: new Float32Array(512).fill(1), shape: [512] });
    assert.match(engine.explain("linear", few, w).kernel, /spmspv/);
    assert.not.match(engine.explain("linear", all, w).kernel, /spmspv/);
  }));

test("maxPool2d of lists is the dense one's", async () => {
  const rnd = random(seed + 8);
  await onEachBuild((engine) => {
    for (const layout of ["nchw", "nhwc"] as const) {
      for (const [n, c, h, w] of [
        [1, 1, 4, 4],
        [2, 5, 7, 6],
        [3, 9, 5, 8],
      ]) {
        const shape = layout === "nchw" ? [n, c, h, w] : [n, h, w, c];
        const data = values(sizeOf(shape), 0, rnd).map((v) => (rnd() < 0.02 ? NaN : v));
        for (const o of [
          { kernel: 2 },
          { kernel: 3, stride: 2, padding: 1 },
          { kernel: [1, 2] as [number, number], stride: 1 },
          { kernel: 3, padding: "same" as const, stride: 1 },
        ]) {
          const label = `${engine.simd} ${layout} [${shape}] ${JSON.stringify(o)}`;
          const x = engine.kWinners({ data, shape }, { fraction: 0.125, scope: "local", layout });
          const dense = engine.maxPool2d(x.toDense(), { ...o, layout });
          const y = engine.maxPool2d(x, { ...o, layout });
          assert.is(y.layout, layout, label);
          assert.equal(y.shape, dense.shape, label);
          const of = rowsOf(dense.shape, layout);
          sameLists(
            y,
            plainLists(dense.toArray(), of, (i) => dense.data[i] !== 0),
            label,
          );
          for (const owner of [x, dense, y]) owner.dispose();
        }
      }
    }
    // An eighth of the elements, each alone under its window, is half of the pooled ones.
    const x = new Float32Array(8 * 16);
    for (let c = 0; c < 8; c++) for (const p of [0, 10]) x[c * 16 + p] = 1;
    const winners = engine.kWinners({ data: x, shape: [1, 8, 4, 4] }, { k: 16, breakTies: true });
    assert.equal([winners.density, engine.maxPool2d(winners, { kernel: 2 }).density], [0.125, 0.5]);
  });
});

test("kWinners, toSparse and reshape of lists are those of the dense tensor", async () => {
  const rnd = random(seed + 12);
  const cases: [shape: number[], layout?: ImageLayout][] = [
    [[3, 20]],
    [[2, 3, 5]],
    [[2, 5, 4, 3], "nchw"],
    [[2, 4, 3, 5], "nhwc"],
    [[0, 5, 4, 3], "nchw"],
  ];
  await onEachBuild((engine) => {
    const before = engine.stats();
    for (const [shape, layout] of cases) {
      const label = `${engine.simd} ${layout} [${shape}]`;
      const image = layout && { layout };
      const x = engine.toSparse({ data: values(sizeOf(shape), 0.5, rnd), shape }, image);
      const dense = x.toDense();
      const same = (a: SparseTensor, b: SparseTensor, what: string) => {
        assert.equal([a.shape, a.layout], [b.shape, b.layout], `${label}: ${what}`);
        sameLists(a, { indptr: [...b.indptr], indices: [...b.indices], values: b.values }, `${label}: ${what}`);
        a.dispose();
        b.dispose();
      };
      for (const o of [{ k: 4 }, { fraction: 0.6, breakTies: true }]) {
        same(engine.kWinners(x, { ...o, ...image }), engine.kWinners(dense, { ...o, ...image }), "kWinners");
        const there = engine.kWinners(x, { ...o, ...image, output: "dense" });
        const wanted = engine.kWinners(dense, { ...o, ...image, output: "dense" });
        sameBits(there.data, wanted.data, `${label}: dense winners`);
        there.dispose();
        wanted.dispose();
      }
      const threshold = 0.5;
      same(engine.toSparse(x, { threshold, ...image }), engine.toSparse(dense, { threshold, ...image }), "toSparse");
      const [n] = shape;
      const features = shape.slice(1).reduce((a, b) => a * b, 1);
      for (const flat of [[n, features], [n * features], [n, features, 1, 1]]) {
        const shaped = dense.reshape(flat);
        same(x.reshape(flat), engine.toSparse(shaped), `reshape [${flat}]`);
        shaped.dispose();
      }
      const wide = dense.reshape([n, 1, features, 1]);
      same(
        x.reshape([n, 1, features, 1], { layout: "nhwc" }),
        engine.toSparse(wide, { layout: "nhwc" }),
        "reshape to nhwc",
      );
      // Into itself.
      const once = engine.kWinners(dense, { k: 3, breakTies: true, ...image });
      assert.is(engine.kWinners(x, { k: 3, breakTies: true, ...image, out: x }), x);
      sameLists(
        x,
        { indptr: [...once.indptr], indices: [...once.indices], values: once.values },
        `${label}: into itself`,
      );
      for (const owner of [once, wide, x, dense]) owner.dispose();
    }
    // The published order: winners, pooled, flattened, multiplied.
    const image = engine.tensor(values(2 * 6 * 64, 0, rnd), [2, 6, 8, 8]);
    const pooled = engine.maxPool2d(engine.kWinners(image, { fraction: 0.1 }), { kernel: 2 });
    const w = weightsFor("csr", 7, 96, 0.5, rnd);
    const y = engine.linear(pooled.reshape([2, 96]), engine.pack(w, [7, 96]));
    close(y.data, linearOracle(pooled.toDense().toArray(), w, 2, 96, 7), "kWinners, maxPool2d, reshape, linear");
    assert.ok(engine.stats().tensors > before.tensors);
  });
});

test(`output: "sparse" is toSparse of the dense result`, async () => {
  const rnd = random(seed + 9);
  await onEachBuild((engine) => {
    const before = engine.stats();
    const w = engine.pack(weightsFor("csr", 9, 20, 0.6, rnd), [9, 20], { format: "csr" });
    const k = engine.pack(weightsFor("csr", 6, 27, 0.6, rnd), [6, 3, 3, 3], { format: "csr" });
    const rows = engine.tensor(values(60, 0, rnd), [3, 20]);
    for (const x of [rows, engine.toSparse(rows, { threshold: 0.8 })]) {
      const o = { activation: "relu", bias: values(9, 0, rnd) } as const;
      const dense = engine.linear(x, w, { ...o, output: "dense" });
      sameBits(dense.data, engine.linear(x, w, o).data, "output dense is the default");
      const y = engine.linear(x, w, { ...o, output: "sparse" });
      sameLists(
        y,
        plainLists(dense.toArray(), rowsOf([3, 9]), (i) => dense.data[i] !== 0),
        "linear",
      );
      assert.ok(y.density > 0 && y.density < 1);
      assert.is(y.layout, undefined);
    }
    // Four dimensions are no image to linear: features stay last.
    const deep = engine.tensor(values(2 * 3 * 2 * 20, 0, rnd), [2, 3, 2, 20]);
    const dense = engine.linear(deep, w, { activation: "relu" });
    const lists = engine.linear(deep, w, { activation: "relu", output: "sparse" });
    assert.equal([lists.shape, lists.layout, lists.rows, lists.cols], [[2, 3, 2, 9], undefined, 12, 9]);
    sameBits(lists.toDense().data, dense.data, "linear of four dimensions");
    const last = engine.pack(weightsFor("csr", 4, 9, 0.5, rnd), [4, 9]);
    const next = engine.linear(lists, last);
    assert.equal(next.shape, [2, 3, 2, 4]);
    close(next.data, linearOracle(dense.toArray(), last.toDense(), 12, 9, 4), "linear of its lists");
    sameLists(
      engine.kWinners(lists, { k: 9 }),
      plainLists(dense.toArray(), rowsOf([12, 9]), () => true),
      "winners of its lists",
    );
    for (const layout of ["nchw", "nhwc", undefined] as const) {
      const o = layout ? { layout, padding: 1 } : { padding: 1 };
      const image = engine.tensor(values(2 * 75, 0, rnd), layout === "nhwc" ? [2, 5, 5, 3] : [2, 3, 5, 5]);
      for (const x of [image, engine.toSparse(image, { threshold: 0.7, ...(layout ? { layout } : {}) })]) {
        const dense = engine.conv2d(x, k, { ...o, activation: "relu" });
        const y = engine.conv2d(x, k, { ...o, activation: "relu", output: "sparse" });
        assert.is(y.layout, layout ?? "nchw");
        assert.equal(y.shape, dense.shape);
        sameLists(
          y,
          plainLists(dense.toArray(), rowsOf(dense.shape, layout), (i) => dense.data[i] !== 0),
          "conv2d",
        );
      }
    }
    // A chain of layers that never goes through dense activations of the user's.
    const first = engine.linear(rows, w, { activation: "relu", output: "sparse" });
    const square = weightsFor("csr", 4, 9, 0.5, rnd);
    const second = engine.linear(first, engine.pack(square, [4, 9]), { output: "sparse" });
    const exact = linearOracle(first.toDense().toArray(), square, 3, 9, 4);
    close(second.toDense().data, exact, "second layer");
    assert.ok(engine.stats().tensors > before.tensors);
    const same = { k: 2, output: undefined } as never as KWinnersOptions;
    assert.is(engine.kWinners(rows, same).nnz, 6);
    assert.equal([...engine.linear(rows, w, { output: undefined } as LinearOptions).shape], [3, 9]);
  });
});

test("lists, layouts and owners that do not fit are refused", async () => {
  const other = await createEngine();
  const theirs = other.toSparse({ data: new Float32Array(6), shape: [2, 3] });
  await onEachBuild((engine) => {
    const x = engine.toSparse({ data: new Float32Array(6).fill(1), shape: [2, 3] });
    const image = engine.toSparse({ data: new Float32Array(50).fill(1), shape: [1, 2, 5, 5] });
    const pixels = engine.toSparse({ data: new Float32Array(50).fill(1), shape: [1, 5, 5, 2] }, { layout: "nhwc" });
    const gone = engine.toSparse({ data: new Float32Array(6), shape: [2, 3] });
    gone.dispose();
    gone.dispose();
    const w = engine.pack(new Float32Array(9).fill(1), [3, 3], { format: "csr" });
    const k = engine.pack(new Float32Array(36).fill(1), [2, 2, 3, 3], { format: "csr" });
    const calls: [code: string, argument: string, call: () => unknown][] = [
      ["ERR_SHAPE", "x", () => engine.linear(image, w)],
      ["ERR_SHAPE", "x", () => engine.explain("linear", image, w)],
      ["ERR_SHAPE", "x", () => engine.conv2d(x, k)],
      ["ERR_SHAPE", "x", () => engine.conv2d(pixels, k, { layout: "nchw" })],
      ["ERR_SHAPE", "x", () => engine.conv2d(image, k, { layout: "nhwc" })],
      ["ERR_SHAPE", "x", () => engine.explain("conv2d", pixels, k, { layout: "nchw" })],
      ["ERR_SHAPE", "x", () => engine.maxPool2d(x, { kernel: 2 })],
      ["ERR_SHAPE", "x", () => engine.maxPool2d(pixels, { kernel: 2, layout: "nchw" })],
      ["ERR_SHAPE", "x", () => engine.maxPool2d(image, { kernel: 2, layout: "nhwc" })],
      ["ERR_SHAPE", "x", () => engine.kWinners(image, { k: 1, layout: "nhwc" })],
      ["ERR_SHAPE", "x", () => engine.toSparse(pixels, { layout: "nchw" })],
      ["ERR_VALUE", "layout", () => engine.kWinners(x, { k: 1, layout: "nchw" })],
      ["ERR_SHAPE", "shape", () => image.reshape([2, 24])],
      ["ERR_TYPE", "shape", () => image.reshape("50" as never)],
      ["ERR_VALUE", "layout", () => image.reshape([50], { layout: "nchw" })],
      ["ERR_VALUE", "options", () => image.reshape([50], { stride: 1 } as never)],
      // What takes no lists.
      ["ERR_TYPE", "x", () => engine.avgPool2d(image as never, { kernel: 2 })],
      ["ERR_TYPE", "x", () => engine.globalAvgPool2d(image as never)],
      ["ERR_TYPE", "x", () => engine.relu(x as never)],
      ["ERR_TYPE", "a", () => engine.matmul(x as never, w)],
      ["ERR_TYPE", "residual", () => engine.linear(x, w, { residual: x as never })],
      ["ERR_DISPOSED", "x", () => engine.kWinners(gone, { k: 1 })],
      ["ERR_DISPOSED", "tensor", () => gone.reshape([6])],
      ["ERR_ENGINE", "x", () => engine.toSparse(theirs)],
      ["ERR_DISPOSED", "tensor", () => gone.indices],
      ["ERR_DISPOSED", "tensor", () => gone.values],
      ["ERR_DISPOSED", "tensor", () => gone.indptr],
      ["ERR_DISPOSED", "tensor", () => gone.nnz],
      ["ERR_DISPOSED", "tensor", () => gone.density],
      ["ERR_DISPOSED", "tensor", () => gone.toDense()],
      ["ERR_DISPOSED", "x", () => engine.linear(gone, w)],
      ["ERR_ENGINE", "x", () => engine.linear(theirs, w)],
      ["ERR_ENGINE", "x", () => engine.explain("linear", theirs, w)],
    ];
    for (const [code, argument, call] of calls) refuses(engine, code, new RegExp(`^"${argument}" expected`), call);
    assert.is(gone.disposed, true);
    assert.is(x.disposed, false);
  });
  const late = await createEngine();
  const x = late.toSparse({ data: new Float32Array(6).fill(1), shape: [2, 3] });
  late.dispose();
  assert.throws(() => x.toDense(), /disposed/);
  assert.throws(() => late.kWinners({ data: new Float32Array(6), shape: [6] }, { k: 1 }), /disposed/);
  assert.throws(() => late.sparseTensor({ indices: [], values: new Float32Array(0) }, [4]), /disposed/);
  x.dispose();
  other.dispose();
});

test("no memory: nothing is kept, and what was there still works", () =>
  onEachBuild(
    (engine) => {
      const big = { data: new Float32Array(40_000).fill(1), shape: [200, 200] };
      const x = engine.toSparse({ data: new Float32Array([1, 0, 2]), shape: [3] });
      const none = /^"maxMemory" expected/;
      refuses(engine, "ERR_MEMORY", none, () => engine.toSparse(big));
      refuses(engine, "ERR_MEMORY", none, () => engine.kWinners(big, { k: 3 }));
      refuses(engine, "ERR_MEMORY", none, () =>
        engine.sparseTensor({ indices: [1], values: new Float32Array(1) }, [2 ** 30 - 16]),
      );
      const w = engine.pack(new Float32Array(60_000).fill(1), [20_000, 3], { format: "csr" });
      for (const { name } of kernelsFor("spmspv", w.structure(false)))
        refuses(engine, "ERR_MEMORY", none, () => engine.linear(x, w, { forceKernel: name }));
      assert.equal([...x.toDense().data], [1, 0, 2]);
    },
    { maxMemory: 2 * 65536 },
  ));

test("10,000 rounds reserve nothing more", () =>
  onEachBuild((engine) => {
    const rnd = random(seed + 10);
    const w = engine.pack(weightsFor("csr", 24, 64, 0.8, rnd), [24, 64], { format: "csr" });
    const x = engine.tensor(values(128, 0, rnd), [2, 64]);
    const forceKernel = "f32_csr_spmspv";
    const round = (k: number) => {
      const winners = engine.kWinners(x, { k });
      const y = engine.linear(winners, w, { forceKernel });
      winners.dispose();
      y.dispose();
    };
    round(64);
    const before = engine.stats();
    for (let i = 0; i < 10_000; i++) round(i % 65);
    assert.equal(engine.stats(), before);
  }));

test.run();
