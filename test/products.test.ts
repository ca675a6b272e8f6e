// linear, matmul and conv2d at the public API, in every format, by every kernel and on every build, against float64 loops within
// the promised error. Each product runs twice, into a new tensor and into `out`, and must give the same bits both times.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatName } from "../bindings/formats/format.js";
import { VECTOR_COLUMNS as LONG } from "../bindings/formats/streams.js";
import type {
  Activation,
  Conv2dOptions,
  Engine,
  Format,
  ImageLayout,
  LinearOptions,
  PackedWeight,
  Padding,
  Pair,
  Tensor,
  TensorLike,
  WeightLayout,
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
  type Extras,
  FORMATS,
  kernelsOf,
  linearOracle,
  onEachBuild,
  PRODUCTS,
  placesOf,
  random,
  sameBits,
  seed,
  sizeOf,
  toNhwc,
  toSpotsInOut,
  transpose,
  values,
  weightsFor,
} from "./oracle.js";

const test = suite("products");

type PackFormat = "auto" | Format;
/** Formats that every shape is tried in; the others take turns. */
const BASIC: PackFormat[] = ["dense", "csr", "auto"];
/** One of each kind, for what has little to do with its parameters. */
const SOME: PackFormat[] = [
  ...BASIC,
  { kind: "block", rows: 4, cols: 1 },
  { kind: "block", rows: 2, cols: 4 },
  { kind: "nm", n: 2, m: 4 },
  { kind: "nm", n: 1, m: 8 },
  { kind: "complementary", overlay: 5, blockRows: 4 },
];
const ZEROS = [0, 0.5, 0.9, 0.99, 1];

const nameOf = (format: PackFormat): string => (format === "auto" ? format : formatName(format));

/** A matrix that a format may hold; one of any structure for `"auto"`. */
function weightsIn(format: PackFormat, rows: number, cols: number, zeros: number, rnd: () => number): Float32Array {
  const structure = format === "auto" ? at(FORMATS, Math.floor(rnd() * FORMATS.length)) : format;
  return weightsFor(structure, rows, cols, zeros, rnd);
}

/** Below, at, above, at twice and at a prime beside each tile (4, 8, 16, 24, 28, 32; dense rows: 4, 6, 16). */
const SIZES = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 27, 28, 29, 31, 32, 33, 37, 47, 48, 49, 53, 56, 61, 64,
  67,
];

/** What is fused to a product. */
interface Ending {
  bias?: "array" | "tensor";
  activation?: Activation;
  /** The range that the activation stands for. */
  lo?: number;
  hi?: number;
  /** `"out"`: the same tensor is residual and result. */
  residual?: "data" | "tensor" | "out";
}

const ENDINGS: Ending[] = [
  {},
  { bias: "array" },
  { activation: "none" },
  { activation: "relu", lo: 0 },
  { activation: "relu6", lo: 0, hi: 6 },
  { activation: { min: -0.25 }, lo: -0.25 },
  { activation: { max: 0.5 }, hi: 0.5 },
  { activation: { min: -0.5, max: 0.25 }, lo: -0.5, hi: 0.25 },
  { activation: { min: 0.125, max: 0.125 }, lo: 0.125, hi: 0.125 },
  { activation: {} },
  { residual: "data" },
  { residual: "tensor" },
  { residual: "out" },
  { bias: "tensor", activation: "relu", lo: 0 },
  { bias: "array", residual: "tensor", activation: "relu6", lo: 0, hi: 6 },
  { bias: "tensor", residual: "out", activation: { min: -1, max: 1 }, lo: -1, hi: 1 },
  { bias: "array", residual: "data", activation: { min: -0.5 }, lo: -0.5 },
];
const EVERYTHING = ENDINGS.length - 3;

/** One product: its operands, and the float64 result in the order of the library's. */
interface Problem {
  label: string;
  w: { data: Float32Array; shape: number[]; layout?: WeightLayout };
  x: { data: Float32Array; shape: number[] };
  shape: number[];
  bias: Float32Array;
  residual: Float32Array;
  oracle(o: Extras): Expected;
  call(engine: Engine, x: TensorLike, w: PackedWeight, o: LinearOptions): Tensor;
}

/** The oracle's answers are worked out once for all formats and builds. */
const answers = new WeakMap<Problem, Map<Ending, Expected>>();
function expected(p: Problem, e: Ending): Expected {
  const known = answers.get(p) ?? new Map<Ending, Expected>();
  answers.set(p, known);
  const answer =
    known.get(e) ??
    p.oracle({
      bias: e.bias && p.bias,
      residual: e.residual && p.residual,
      lo: e.lo ?? -Infinity,
      hi: e.hi ?? Infinity,
    });
  known.set(e, answer);
  return answer;
}

/** Nothing may be written past a result: the zeros behind it are what csr's padded lanes read next. */
function tailIsZero(engine: Engine, y: Tensor, label: string): void {
  const tail = engine.memory.floats(y.ptr + y.size * 4, 4);
  assert.ok(
    tail.every((v) => v === 0),
    `${label}: wrote past its result: ${tail} (seed ${seed})`,
  );
}

/** All that were forced: none of the manifest may be left over. */
const forced = new Set<string>();

/** Runs a problem in one format with one ending, and compares; `everyKernel` repeats it by each kernel that takes it. */
function check(engine: Engine, p: Problem, format: PackFormat, e: Ending, everyKernel = false): void {
  const label = `${engine.simd} ${nameOf(format)} ${p.label} ${JSON.stringify(e)}`;
  const answer = expected(p, e);
  const w = engine.pack(p.w.data, p.w.shape, { format, layout: p.w.layout });
  const x = engine.tensor(p.x.data, p.x.shape);
  const kept: { dispose(): void }[] = [w, x];
  const tensor = (data: Float32Array, shape: number[]) => {
    const t = engine.tensor(data, shape);
    kept.push(t);
    return t;
  };
  const fused: LinearOptions = {};
  if (e.activation !== undefined) fused.activation = e.activation;
  if (e.bias) fused.bias = e.bias === "array" ? p.bias : tensor(p.bias, [p.bias.length]);
  const residual = { data: p.residual, shape: p.shape };
  if (e.residual) fused.residual = e.residual === "data" ? residual : tensor(p.residual, p.shape);
  try {
    const y = p.call(engine, x, w, fused);
    kept.push(y);
    assert.equal([...y.shape], p.shape, label);
    close(y.data, answer, label);
    tailIsZero(engine, y, label);
    if (everyKernel) {
      for (const name of kernelsOf((forceKernel) => p.call(engine, x, w, { ...fused, forceKernel }))) {
        const z = p.call(engine, x, w, { ...fused, forceKernel: name });
        kept.push(z);
        close(z.data, answer, `${label} by ${name}`);
        tailIsZero(engine, z, `${label} by ${name}`);
        if (z.size) forced.add(name);
      }
    }

    const out = e.residual === "out" ? (fused.residual as Tensor) : tensor(new Float32Array(y.size).fill(NaN), p.shape);
    const again = p.call(engine, x, w, { ...fused, out });
    assert.is(again, out, `${label}: out is what comes back`);
    sameBits(out.data, y.data, `${label}, a second time into out`);
    tailIsZero(engine, out, label);
    sameBits(x.data, p.x.data, `${label}: x afterwards`);
    sameBits(w.toDense(), noNegativeZeros(p.w.data), `${label}: w afterwards`);
  } finally {
    for (const owner of kept) owner.dispose();
  }
  const { bytesInUse, tensors, weights } = engine.stats();
  assert.equal({ bytesInUse, tensors, weights }, { bytesInUse: 0, tensors: 0, weights: 0 }, `${label}: what is left`);
}

const noNegativeZeros = (a: Float32Array) => a.map((v) => (v === 0 ? 0 : v));

/** Every problem in several formats on every build; the endings take turns, `everything` adds a long one to each. */
async function checkAll(problems: Problem[], endings: Ending[], everything = false): Promise<void> {
  await onEachBuild((engine) => {
    problems.forEach((p, i) => {
      for (const format of [...BASIC, at(ANY_MATRIX, i)]) {
        check(engine, p, format, endings[i % endings.length]);
        if (everything) check(engine, p, format, ENDINGS[EVERYTHING]);
      }
    });
  });
}

/** The three ways to spell one matrix product: x · Wᵀ, W · X and X · W. */
type MatrixCall = "linear" | "left" | "right";

function matrixProblem(
  kind: MatrixCall,
  rows: number,
  k: number,
  m: number,
  zeros: number,
  rnd: () => number,
  w = values(m * k, zeros, rnd),
): Problem {
  const x = values(rows * k, 0.1, rnd);
  const bias = values(m, 0, rnd);
  const residual = values(rows * m, 0, rnd);
  const left = kind === "left";
  // The oracle's order is [rows, m]; W on the left gives [m, rows].
  const own = <T extends Float32Array | Float64Array>(a: T): T => (left ? transpose(a, rows, m) : a);
  return {
    label: `${kind} rows ${rows} k ${k} m ${m} zeros ${zeros}`,
    w: kind === "right" ? { data: transpose(w, m, k), shape: [k, m] } : { data: w, shape: [m, k] },
    x: left ? { data: transpose(x, rows, k), shape: [k, rows] } : { data: x, shape: [rows, k] },
    shape: left ? [m, rows] : [rows, m],
    bias,
    residual: own(residual),
    oracle(o) {
      const { y, bound } = linearOracle(x, w, rows, k, m, { ...o, residual: o.residual && residual });
      return { y: own(y), bound: own(bound) };
    },
    call: (engine, a, b, o) =>
      kind === "linear" ? engine.linear(a, b, o) : left ? engine.matmul(b, a, o) : engine.matmul(a, b, o),
  };
}

const MATRIX_CALLS: MatrixCall[] = ["linear", "left", "right"];

/** Number i of a list that starts again at its end. */
const at = <T>(list: readonly T[], i: number): T => list[i % list.length];

/** As matrixProblem, with weights that a format may hold: along the inputs of W as it is packed. */
function matrixIn(
  format: PackFormat,
  kind: MatrixCall,
  rows: number,
  k: number,
  m: number,
  zeros: number,
  rnd: () => number,
): Problem {
  const w =
    kind === "right" ? transpose(weightsIn(format, k, m, zeros, rnd), k, m) : weightsIn(format, m, k, zeros, rnd);
  return matrixProblem(kind, rows, k, m, zeros, rnd, w);
}

for (const kind of MATRIX_CALLS) {
  test(`${kind}: sizes around every tile, from no zeros to nothing but zeros`, async () => {
    const rnd = random();
    const problems = SIZES.flatMap((size, i) =>
      ZEROS.flatMap((zeros) => {
        // Each size is once the rows, once k and once m, among sizes that change from one to the next.
        const [p, q] = [at(SIZES, 7 * i + 3), at(SIZES, 11 * i + 5)];
        return [
          matrixProblem(kind, size, p, q, zeros, rnd),
          matrixProblem(kind, q, size, p, zeros, rnd),
          matrixProblem(kind, p, q, size, zeros, rnd),
          matrixProblem(kind, 1, size, p, zeros, rnd),
          matrixProblem(kind, 1, q, size, zeros, rnd),
        ];
      }),
    );
    await checkAll(problems, ENDINGS);
  });

  test(`${kind}: more than one block of K`, async () => {
    const rnd = random(seed + 1);
    const problems = [319, 320, 321, 700, 3072].flatMap((k) => [
      matrixProblem(kind, 33, k, 13, 0.5, rnd),
      matrixProblem(kind, 5, k, 61, 0.5, rnd),
      matrixProblem(kind, 1, k, 17, 0.5, rnd),
      matrixProblem(kind, 29, k, 7, 0.99, rnd),
      matrixProblem(kind, 32, k, 4, 0, rnd),
    ]);
    await checkAll(problems, [{}], true);
  });

  test(`${kind}: one column longer than a pass brings`, async () => {
    const rnd = random(seed + 2);
    const problems = [LONG - 1, LONG, LONG + 1, 2 * LONG + 1].flatMap((k, i) => [
      matrixProblem(kind, 1, k, 1 + i, 0.5, rnd),
      matrixProblem(kind, 1, k, 6, 0.99, rnd),
      matrixProblem(kind, 1, k, 1, 1, rnd),
    ]);
    await checkAll([...problems, matrixProblem(kind, 1, 49157, 5, 0.9, rnd)], ENDINGS.slice(EVERYTHING));
  });

  test(`${kind}: nothing to do`, async () => {
    const rnd = random(seed + 3);
    const sizes = [0, 1, 5];
    const problems = sizes.flatMap((rows) =>
      sizes.flatMap((k) => sizes.map((m) => matrixProblem(kind, rows, k, m, 0.5, rnd))),
    );
    for (const ending of [{}, ENDINGS[EVERYTHING]])
      await checkAll(
        problems.filter((p) => !sizeOf([...p.shape, ...p.x.shape])),
        [ending],
      );
  });

  test(`${kind}: every ending`, async () => {
    const rnd = random(seed + 4);
    for (const rows of [1, 2, 32, 37])
      await checkAll(
        ENDINGS.map(() => matrixProblem(kind, rows, 41, 19, 0.8, rnd)),
        ENDINGS,
      );
  });
}

/** Problems made for a format, by every kernel that takes them; the endings take turns. */
async function checkFormats(problemsOf: (format: Format, i: number) => Problem[], formats = FORMATS): Promise<void> {
  const problems = formats.map(problemsOf);
  await onEachBuild((engine) => {
    formats.forEach((format, i) => {
      problems[i].forEach((p, j) => {
        check(engine, p, format, at(ENDINGS, 3 * i + j), true);
      });
    });
  });
}

for (const kind of MATRIX_CALLS) {
  test(`${kind}: every format by every kernel`, async () => {
    const rnd = random(seed + 10);
    await checkFormats((format, i) =>
      // One row, a few rows, and batches that no tile fits.
      [1, 1, 2, 3, 4, 5, 6, 13, 31, 47, 70].map((rows, j) => {
        const [k, m] = [at(SIZES, 5 * i + 7 * j), at(SIZES, 11 * i + 3 * j + 1)];
        return matrixIn(format, kind, rows, k, m, at(ZEROS, i + j), rnd);
      }),
    );
  });

  test(`${kind}: every format with more inputs than a pass brings`, async () => {
    const rnd = random(seed + 11);
    await checkFormats((format, i) => {
      const k = at([LONG + 1, LONG + 4, LONG + 17, 2 * LONG + 1], i);
      return [matrixIn(format, kind, i % 2 ? 1 : 3, k, 3 + (i % 11), 0.7, rnd)];
    });
  });

  test(`${kind}: every format with several passes over K`, async () => {
    const rnd = random(seed + 12);
    await checkFormats((format, i) => [matrixIn(format, kind, 33, 800 + 7 * i, 19 + i, 0.2, rnd)]);
  });

  test(`${kind}: every format with one element, with none, and with nothing but zeros`, async () => {
    const rnd = random(seed + 13);
    const sizes = [0, 1, 2];
    await checkFormats((format) => [
      ...sizes.flatMap((rows) => sizes.flatMap((k) => sizes.map((m) => matrixIn(format, kind, rows, k, m, 0, rnd)))),
      ...[1, 4, 30].map((rows) => matrixIn(format, kind, rows, 23, 17, 1, rnd)),
    ]);
  });
}

test("linear keeps the leading dimensions of x", async () => {
  const rnd = random();
  await onEachBuild((engine) => {
    for (const format of SOME) {
      const w = weightsIn(format, 6, 5, 0.5, rnd);
      const packed = engine.pack(w, [6, 5], { format });
      for (const shape of [[5], [1, 5], [1, 1, 5], [7, 5], [2, 3, 5], [2, 1, 3, 5], [2, 0, 5], [0, 5]]) {
        const rows = sizeOf(shape) / 5;
        const x = values(sizeOf(shape), 0, rnd);
        const y = engine.linear({ data: x, shape }, packed);
        assert.equal([...y.shape], [...shape.slice(0, -1), 6]);
        close(y.data, linearOracle(x, w, rows, 5, 6), `${engine.simd} ${nameOf(format)} x [${shape}]`);
      }
    }
  });
});

/** A convolution as a test's table writes it down; what is left out is 1, or square, or none. */
interface Conv {
  n?: number;
  c?: number;
  h: number;
  w?: number;
  m?: number;
  k: Pair;
  stride?: Pair;
  dilation?: Pair;
  padding?: Padding;
  groups?: number;
}

const both = (p: Pair = 1): [number, number] => (typeof p === "number" ? [p, p] : [p[0], p[1]]);

/** Padding as the contract defines it: [top, left, bottom, right]. */
function zerosAround(
  padding: Padding = 0,
  size: number[],
  span: number[],
  stride: number[],
): [number, number, number, number] {
  if (padding === "valid") return [0, 0, 0, 0];
  if (padding === "same") {
    const [v, h] = [0, 1].map((d) => Math.max(0, (Math.ceil(size[d] / stride[d]) - 1) * stride[d] + span[d] - size[d]));
    return [Math.floor(v / 2), Math.floor(h / 2), Math.ceil(v / 2), Math.ceil(h / 2)];
  }
  if (typeof padding === "number") return [padding, padding, padding, padding];
  return padding.length === 4 ? [...padding] : [padding[0], padding[1], padding[0], padding[1]];
}

function convSizes(conv: Conv): ConvSizes {
  const { n = 1, c = 1, h, w = h, m = 1, groups = 1 } = conv;
  const [kh, kw] = both(conv.k);
  const stride = both(conv.stride);
  const dilation = both(conv.dilation);
  const span = [(kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1];
  return { n, c, h, w, m, kh, kw, groups, stride, dilation, padding: zerosAround(conv.padding, [h, w], span, stride) };
}

function convProblem(conv: Conv, layout: ImageLayout, zeros: number, rnd: () => number, given?: Float32Array): Problem {
  const s = convSizes(conv);
  const [oh, ow] = convOutput(s);
  const wShape = [s.m, s.c / s.groups, s.kh, s.kw];
  const w = given ?? values(sizeOf(wShape), zeros, rnd);
  const x = values(s.n * s.c * s.h * s.w, 0.1, rnd);
  const residual = values(s.n * s.m * oh * ow, 0, rnd);
  const nhwc = layout === "nhwc";
  const own = <T extends Float32Array | Float64Array>(a: T): T => (nhwc ? toNhwc(a, s.n, s.m, oh, ow) : a);
  const { stride, dilation, padding, groups } = conv;
  const options: Conv2dOptions = { stride, dilation, padding, groups, layout };
  return {
    label: `conv2d ${JSON.stringify(conv)} ${layout} zeros ${zeros}`,
    w: { data: w, shape: wShape },
    x: nhwc
      ? { data: toNhwc(x, s.n, s.c, s.h, s.w), shape: [s.n, s.h, s.w, s.c] }
      : { data: x, shape: [s.n, s.c, s.h, s.w] },
    shape: nhwc ? [s.n, oh, ow, s.m] : [s.n, s.m, oh, ow],
    bias: values(s.m, 0, rnd),
    residual: own(residual),
    oracle(o) {
      const { y, bound } = convOracle(x, w, s, { ...o, residual: o.residual && residual });
      return { y: own(y), bound: own(bound) };
    },
    call: (engine, a, b, o) => engine.conv2d(a, b, { ...options, ...o }),
  };
}

/** As convProblem, with weights that a format may hold. */
function convIn(format: PackFormat, conv: Conv, layout: ImageLayout, zeros: number, rnd: () => number): Problem {
  const { m, c, groups, kh, kw } = convSizes(conv);
  return convProblem(conv, layout, zeros, rnd, weightsIn(format, m, (c / groups) * kh * kw, zeros, rnd));
}

/** Each convolution in both layouts; zeros and endings take turns. */
async function checkConvs(convs: Conv[], from = seed): Promise<void> {
  const rnd = random(from);
  const problems = convs.flatMap((conv, i) => [
    convProblem(conv, "nchw", at(ZEROS, i), rnd),
    convProblem(conv, "nhwc", at(ZEROS, i + 1), rnd),
  ]);
  await checkAll(problems, ENDINGS, true);
}

test("conv2d: kernel sizes", async () => {
  const kernels: Pair[] = [1, 2, 3, 5, [1, 7], [7, 1], [2, 3], [1, 9], [9, 9]];
  await checkConvs(
    kernels.flatMap((k) => [
      { c: 3, h: 9, m: 5, k },
      { n: 2, c: 2, h: 11, w: 9, m: 4, k, padding: "same" },
    ]),
  );
});

test("conv2d: the kernel covers the input, one pixel, no pixels in x but in its padding", async () => {
  await checkConvs([
    { c: 4, h: 1, m: 3, k: 1 },
    { c: 4, h: 5, w: 3, m: 7, k: [5, 3] },
    { c: 2, h: 4, m: 4, k: 4, groups: 2 },
    { c: 2, h: 1, m: 3, k: 3, padding: 1 },
    { c: 2, h: 1, w: 8, m: 3, k: [1, 3] },
    { c: 2, h: 0, m: 3, k: 2, padding: 1 },
    { c: 2, h: 3, w: 0, m: 3, k: 2, padding: 2 },
  ]);
});

test("conv2d: strides, also longer than the kernel", async () => {
  const strides: Pair[] = [1, 2, 3, [1, 2], [2, 1], [3, 2], 4, 7, [9, 1], 100];
  await checkConvs(
    strides.flatMap((stride) => [
      { c: 3, h: 11, w: 10, m: 4, k: 3, stride },
      { c: 3, h: 10, w: 11, m: 5, k: 1, stride },
      { c: 2, h: 13, w: 9, m: 3, k: [2, 5], stride, padding: "same" },
      { c: 4, h: 9, w: 12, m: 4, k: 3, stride, padding: 1, groups: 4 },
      { n: 2, c: 4, h: 8, w: 8, m: 6, k: 2, stride, padding: [1, 0, 0, 2], groups: 2 },
    ]),
  );
});

test("conv2d: every spelling of padding", async () => {
  const paddings: Padding[] = [
    0,
    1,
    2,
    "valid",
    "same",
    [1, 2],
    [0, 3],
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
    [2, 0, 1, 3],
  ];
  await checkConvs(
    paddings.flatMap((padding) => [
      { c: 2, h: 7, w: 6, m: 3, k: 3, padding },
      { c: 2, h: 6, w: 7, m: 3, k: 2, padding, stride: 2 },
      { c: 3, h: 6, w: 5, m: 4, k: 1, padding },
      { c: 3, h: 8, w: 9, m: 3, k: [3, 2], padding, groups: 3, stride: [2, 1] },
    ]),
  );
});

test("conv2d: same padding of even and odd sizes", async () => {
  const convs: Conv[] = [];
  for (const h of [1, 2, 5, 6]) {
    for (const w of [3, 8]) {
      for (const k of [2, 3, [4, 5]] as Pair[]) {
        for (const stride of [1, 2, 3])
          convs.push({ c: 2, h, w, m: 3, k, stride, padding: "same", dilation: at([1, 2], convs.length) });
      }
    }
  }
  await checkConvs(convs);
});

test("conv2d: as much padding as kernel, and more", async () => {
  const paddings: Padding[] = [3, 4, 7, [3, 0], [0, 6], [5, 0, 0, 0], [0, 0, 0, 5], [4, 9, 3, 0]];
  await checkConvs(
    paddings.flatMap((padding) => [
      { c: 2, h: 4, m: 3, k: 3, padding },
      { c: 2, h: 5, w: 3, m: 3, k: 3, padding, stride: 2 },
      { c: 2, h: 3, w: 5, m: 2, k: 2, padding, stride: [1, 3], groups: 2 },
      { c: 2, h: 2, m: 3, k: 1, padding, stride: 5 },
    ]),
  );
});

test("conv2d: a residual where the zeros beside neighbouring rows overlap", async () => {
  // Outputs that see nothing but those zeros are equal without a residual; with one they are not.
  const rnd = random(seed + 8);
  const residuals = ENDINGS.filter((e) => e.residual);
  for (const [k, padding, groups] of [
    [1, 1, 1],
    [2, 2, 1],
    [3, 3, 1],
    [3, 3, 2],
    [1, 2, 2],
  ]) {
    for (const layout of ["nchw", "nhwc"] as const) {
      const conv = { n: 2, c: 2, h: 3, w: 4, m: 4, k, padding, groups };
      await checkAll(
        residuals.map(() => convProblem(conv, layout, 0.5, rnd)),
        residuals,
      );
    }
  }
});

test("conv2d: dilation", async () => {
  const dilations: Pair[] = [1, 2, 3, [1, 3], [4, 1]];
  await checkConvs(
    dilations.flatMap((dilation) => [
      { c: 3, h: 13, w: 11, m: 4, k: 3, dilation },
      { c: 3, h: 12, w: 11, m: 4, k: 3, dilation, padding: "same" },
      { c: 2, h: 12, w: 13, m: 4, k: [2, 3], dilation, padding: 2, stride: 2, groups: 2 },
      { c: 3, h: 12, w: 13, m: 3, k: 3, dilation, padding: [3, 1], stride: [3, 2], groups: 3 },
    ]),
  );
});

test("conv2d: groups, up to depthwise with a multiplier, and batches", async () => {
  const convs: Conv[] = [];
  for (const n of [1, 2, 3]) {
    for (const [groups, m] of [
      [1, 6],
      [2, 4],
      [2, 10],
      [6, 6],
      [6, 12],
    ]) {
      for (const k of [1, 3, 5, [3, 2]] as Pair[]) {
        convs.push({ n, c: 6, h: 7, w: 9, m, k, groups });
        convs.push({ n, c: 6, h: 8, w: 5, m, k, groups, padding: "same", stride: at([1, 2], convs.length >> 1) });
      }
    }
  }
  await checkConvs(convs);
});

test("conv2d: depthwise rows around every vector", async () => {
  await checkConvs(
    SIZES.flatMap((w) => [
      { c: 3, h: 4, w, m: 3, k: 3, groups: 3, padding: 1 },
      { c: 2, h: 2, w, m: 4, k: [2, 1], groups: 2 },
    ]),
  );
});

test("conv2d: pixels and outputs around every tile", async () => {
  await checkConvs(
    SIZES.flatMap((size, i) => [
      { c: at(SIZES, 5 * i + 2), h: 1, w: size, m: at(SIZES, 3 * i + 1), k: 1 },
      { c: 3, h: 3, w: size, m: at(SIZES, 13 * i + 4), k: 3, padding: 1 },
      { c: 5, h: 2, w: 3, m: size, k: 2, padding: [0, 1] },
    ]),
  );
});

test("conv2d: enough channels for panels, for several passes and for planes of whole pages", async () => {
  await checkConvs([
    { c: 700, h: 7, m: 61, k: 1 },
    { c: 330, h: 3, w: 33, m: 9, k: 1 },
    { c: 160, h: 7, m: 8, k: 3, padding: 1 },
    { c: 110, h: 6, m: 5, k: 5, padding: 2, stride: 2 },
    { c: 320, h: 4, m: 6, k: 3, groups: 2 },
    { c: 160, h: 5, m: 61, k: 1, stride: 2 },
    { n: 2, c: 64, h: 6, m: 64, k: 1, groups: 2 },
    { n: 2, c: 4, h: 29, w: 32, m: 3, k: 3, padding: 1 },
  ]);
  // Those with zeros at a half have several passes in csr.
  const rnd = random(seed + 5);
  const halves = [
    { c: 700, h: 7, m: 61, k: 1 },
    { c: 160, h: 7, m: 8, k: 3, padding: 1 },
    { c: 400, h: 4, m: 6, k: 3, groups: 2 },
  ];
  await checkAll(
    halves.map((conv) => convProblem(conv, "nchw", 0.5, rnd)),
    [{}],
    true,
  );
});

test("conv2d: images so large that rows of outputs are cut into passes", async () => {
  const convs: Conv[] = [
    { c: 3, h: 42, w: 50, m: 21, k: 1 },
    { n: 2, c: 2, h: 47, m: 18, k: 1 },
    { c: 2, h: 41, w: 52, m: 19, k: 3, padding: 1 },
    { c: 4, h: 46, m: 34, k: 2, groups: 2, stride: [1, 1] },
  ];
  const rnd = random(seed + 7);
  for (const layout of ["nchw", "nhwc"] as const) {
    await checkAll(
      convs.map((conv) => convProblem(conv, layout, 0.5, rnd)),
      ENDINGS,
      true,
    );
  }
});

test("conv2d: every format on images beyond L2, whose passes write a block of rows or two", async () => {
  const rnd = random(seed + 27);
  const even = { c: 9, h: 80, w: 84, m: 31, k: 1 };
  // Planes that start anywhere.
  const odd = { ...even, h: 83, w: 81 };
  await checkFormats((format) => [even, odd].map((conv) => convIn(format, conv, "nchw", 0.4, rnd)));
});

test("conv2d: empty batches, no channels, no outputs", async () => {
  await checkConvs([
    { n: 0, c: 3, h: 5, m: 4, k: 3, padding: 1 },
    { c: 0, h: 5, m: 4, k: 3 },
    { c: 0, h: 4, m: 4, k: 1, stride: 2 },
    { c: 3, h: 5, m: 0, k: 3, padding: "same" },
    { n: 0, c: 0, h: 2, m: 0, k: 1 },
    { n: 2, c: 0, h: 4, m: 4, k: 2, groups: 2 },
  ]);
});

test("conv2d: every ending", async () => {
  const rnd = random(seed + 6);
  const convs: Conv[] = [
    { c: 5, h: 6, m: 7, k: 1 },
    { n: 2, c: 4, h: 7, m: 6, k: 3, padding: 1, stride: 2 },
    { n: 2, c: 4, h: 6, w: 7, m: 8, k: 3, padding: "same", groups: 4 },
    { c: 4, h: 8, m: 4, k: 3, padding: [0, 1, 2, 1], groups: 2 },
  ];
  for (const conv of convs) {
    for (const layout of ["nchw", "nhwc"] as const) {
      await checkAll(
        ENDINGS.map(() => convProblem(conv, layout, 0.6, rnd)),
        ENDINGS,
      );
    }
  }
});

test("conv2d: every format by every kernel", async () => {
  const rnd = random(seed + 14);
  const convs: Conv[] = [
    { c: 5, h: 6, m: 11, k: 1 },
    { c: 6, h: 1, w: 70, m: 9, k: 1, stride: [1, 3] },
    { n: 2, c: 3, h: 7, w: 8, m: 13, k: 3, padding: 1 },
    { c: 4, h: 9, w: 10, m: 8, k: 3, padding: "same", stride: 2 },
    { c: 3, h: 8, w: 11, m: 10, k: [2, 3], dilation: [2, 1], padding: [1, 2, 0, 1], stride: [1, 2] },
    { n: 2, c: 6, h: 5, w: 12, m: 16, k: 3, groups: 2, padding: 1 },
    { c: 4, h: 6, w: 9, m: 12, k: [3, 1], groups: 4, dilation: 2 },
    { c: 6, h: 6, m: 6, k: 3, groups: 6, padding: 1, stride: 2 },
    { n: 2, c: 4, h: 7, w: 9, m: 8, k: 3, groups: 4, padding: [1, 0, 0, 1] },
    { n: 3, c: 2, h: 5, w: 6, m: 4, k: 2, groups: 2 },
  ];
  await checkFormats((format, i) =>
    convs.map((conv, j) => convIn(format, conv, (i + j) % 2 ? "nhwc" : "nchw", at(ZEROS, i + j), rnd)),
  );
});

test("conv2d: groups that cut a block of rows", async () => {
  const rnd = random(seed + 15);
  const blocks = FORMATS.filter((f) => typeof f === "object" && f.kind !== "nm");
  // Outputs of one group that blocks of 2, 4 and 8 rows divide, or do not; the last block row is cut as well.
  const convs = [1, 2, 3, 4, 5, 6, 7, 9, 12].map(
    (perGroup): Conv => ({ c: 6, h: 5, w: 6, m: 3 * perGroup, k: [1, 2], groups: 3, padding: [0, 1] }),
  );
  await checkFormats(
    (format, i) => convs.map((conv, j) => convIn(format, conv, (i + j) % 2 ? "nhwc" : "nchw", 0.4, rnd)),
    blocks,
  );
});

const zerosShare = fc.constantFrom(...ZEROS);
const ending = fc.constantFrom(...ENDINGS);
const format = fc.constantFrom<PackFormat>("auto", ...FORMATS);

test("property: linear and matmul of any sizes", async () => {
  const sizes = fc.record({ rows: fc.nat(70), k: fc.nat(400), m: fc.nat(70) });
  const call = fc.constantFrom(...MATRIX_CALLS);
  await onEachBuild((engine) => {
    const property = fc.property(
      call,
      sizes,
      zerosShare,
      ending,
      format,
      fc.nat(),
      (kind, { rows, k, m }, zeros, e, f, from) =>
        check(engine, matrixIn(f, kind, rows, k, m, zeros, random(from)), f, e),
    );
    fc.assert(property, { seed, numRuns: 150 });
  });
});

const pairOf = (most: number): fc.Arbitrary<Pair> => {
  const one = fc.integer({ min: 1, max: most });
  return fc.oneof(one, fc.tuple(one, one));
};
const paddingOf = (most: number): fc.Arbitrary<Padding> => {
  const one = fc.nat(most);
  return fc.oneof(
    fc.constantFrom("same" as const, "valid" as const),
    one,
    fc.tuple(one, one),
    fc.tuple(one, one, one, one),
  );
};

test("property: convolutions of any kind", async () => {
  const conv = fc
    .record({
      n: fc.nat(3),
      perGroup: fc.nat(4),
      mPerGroup: fc.nat(5),
      groups: fc.integer({ min: 1, max: 4 }),
      h: fc.nat(14),
      w: fc.nat(40),
      k: pairOf(5),
      stride: pairOf(4),
      dilation: pairOf(3),
      padding: paddingOf(6),
    })
    .map(
      ({ perGroup, mPerGroup, ...rest }): Conv => ({ ...rest, c: perGroup * rest.groups, m: mPerGroup * rest.groups }),
    )
    // "same" of an image without pixels has no outputs to ask for.
    .filter(
      (c) => (c.padding !== "same" || (c.h > 0 && (c.w as number) > 0)) && convOutput(convSizes(c)).every((d) => d > 0),
    );
  const layout = fc.constantFrom<ImageLayout>("nchw", "nhwc");
  await onEachBuild((engine) => {
    const property = fc.property(conv, layout, zerosShare, ending, format, fc.nat(), (c, l, zeros, e, f, from) =>
      check(engine, convIn(f, c, l, zeros, random(from)), f, e),
    );
    fc.assert(property, { seed, numRuns: 300 });
  });
});

/** Runs one packed weight through all problems; they differ in all but the weight. */
function checkOne(engine: Engine, problems: Problem[], w: PackedWeight): void {
  for (const p of problems) {
    const y = p.call(engine, p.x, w, {});
    assert.equal([...y.shape], p.shape);
    close(y.data, expected(p, ENDINGS[0]), `${engine.simd} ${p.label}, one of ${problems.length} with one weight`);
    y.dispose();
  }
}

test("property: one weight serves shapes and options in any order", async () => {
  // More of them than a weight keeps plans and streams for, some of them more than once.
  const option = fc.record({
    n: fc.nat(2),
    times: fc.constantFrom(1, 1, 2, 4),
    h: fc.integer({ min: 4, max: 8 }),
    w: fc.integer({ min: 4, max: 8 }),
    stride: pairOf(2),
    dilation: pairOf(2),
    padding: paddingOf(2),
    layout: fc.constantFrom<ImageLayout>("nchw", "nhwc"),
  });
  const turns = fc.array(fc.tuple(fc.nat(11), fc.constantFrom(...MATRIX_CALLS)), { minLength: 30, maxLength: 30 });
  const options = fc.array(option, { minLength: 12, maxLength: 12 });
  const weight = fc.record({ perGroup: fc.constantFrom(1, 1, 2), k: pairOf(2), zeros: fc.constantFrom(0, 0.6) });
  await onEachBuild((engine) => {
    const property = fc.property(options, turns, weight, format, fc.nat(), (list, order, kind, f, from) => {
      const rnd = random(from);
      const { perGroup, k, zeros } = kind;
      const shape = [4, perGroup, ...both(k)];
      const data = weightsIn(f, 4, sizeOf(shape) / 4, zeros, rnd);
      const filters = engine.pack(data, shape, { format: f });
      const convs = list.map(({ times, layout, ...rest }) =>
        convProblem({ ...rest, k, m: 4, groups: times, c: times * perGroup }, layout, zeros, rnd, data),
      );
      checkOne(
        engine,
        order.map(([i]) => convs[i]),
        filters,
      );

      // [7, 10] as it is, and as the right operand of x · W.
      const flat = weightsIn(f, 7, 10, zeros, rnd);
      const matrix = engine.pack(flat, [7, 10], { format: f });
      const products = order.map(([rows, call]) =>
        call === "right"
          ? matrixProblem(call, rows + 1, 7, 10, zeros, rnd, transpose(flat, 7, 10))
          : matrixProblem(call, rows + 1, 10, 7, zeros, rnd, flat),
      );
      checkOne(engine, products, matrix);
      filters.dispose();
      matrix.dispose();
      assert.is(engine.stats().bytesInUse, 0);
    });
    fc.assert(property, { seed, numRuns: 25 });
  });
});

test("differential fuzz: every format, every kernel and every spelling of one product agree", async () => {
  const sizes = fc.record({
    n: fc.integer({ min: 1, max: 70 }),
    k: fc.integer({ min: 1, max: 400 }),
    m: fc.integer({ min: 1, max: 60 }),
  });
  const others = fc.subarray(["auto", ...ANY_MATRIX] as PackFormat[], { minLength: 2, maxLength: 3 });
  await onEachBuild((engine) => {
    const property = fc.property(sizes, format, others, zerosShare, fc.nat(), ({ n, k, m }, own, more, zeros, from) => {
      const rnd = random(from);
      const w = weightsIn(own, m, k, zeros, rnd);
      const x = values(n * k, 0, rnd);
      const rows = { data: x, shape: [n, k] };
      const columns = { data: transpose(x, n, k), shape: [k, n] };
      const exact = linearOracle(x, w, n, k, m);
      let first: Expected | undefined;
      for (const f of [own, ...more]) {
        const oi = engine.pack(w, [m, k], { format: f });
        // N:M along the outputs is another matter.
        const turned = typeof f === "object" && f.kind === "nm" ? "csr" : f;
        const io = engine.pack(transpose(w, m, k), [k, m], { format: turned });
        const oihw = engine.pack(w, [m, k, 1, 1], { format: f });
        const spellings: [label: string, features: boolean, call: (o: LinearOptions) => Tensor][] = [
          ["linear", false, (o) => engine.linear(rows, oi, o)],
          ["w · x", true, (o) => engine.matmul(oi, columns, o)],
          ["x · w", false, (o) => engine.matmul(rows, io, o)],
          ["nchw", true, (o) => engine.conv2d({ data: columns.data, shape: [1, k, 1, n] }, oihw, o)],
          ["nhwc", false, (o) => engine.conv2d({ data: x, shape: [1, n, 1, k] }, oihw, { ...o, layout: "nhwc" })],
        ];
        for (const [spelling, features, call] of spellings) {
          for (const forceKernel of [undefined, ...kernelsOf((name) => call({ forceKernel: name }))]) {
            const y = call({ forceKernel });
            // Results that come out feature by feature are turned.
            const answer = features ? transpose(y.toArray(), m, n) : y.toArray();
            const label = `${engine.simd} ${nameOf(f)} ${spelling} by ${forceKernel} n ${n} k ${k} m ${m} zeros ${zeros}`;
            close(answer, exact, label);
            // Two that are each within the bound differ by at most twice as much.
            first ??= { y: Float64Array.from(answer), bound: exact.bound.map((b) => 2 * b) };
            close(answer, first, `${label} against the first`);
            y.dispose();
          }
        }
        for (const packed of [oi, io, oihw]) packed.dispose();
      }
      assert.is(engine.stats().bytesInUse, 0);
    });
    fc.assert(property, { seed, numRuns: 40 });
  });
});

test("property: whatever kernels are said to cost, the results are right", async () => {
  // Strips of several tiles beside each other, panels and rows one by one: what a table of costs decides.
  const cost = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40 }));
  const table = fc.array(cost, { minLength: KERNELS.length, maxLength: KERNELS.length });
  const problem = fc.record({
    kind: fc.constantFrom(...MATRIX_CALLS),
    rows: fc.integer({ min: 1, max: 150 }),
    k: fc.integer({ min: 1, max: 60 }),
    m: fc.integer({ min: 1, max: 40 }),
    f: format,
    zeros: zerosShare,
    w: fc.integer({ min: 3, max: 40 }),
    padding: fc.nat(2),
    from: fc.nat(),
  });
  for (const list of fc.sample(table, { seed, numRuns: 8 })) {
    const costs = costsWith((kernel) => list[KERNELS.indexOf(kernel)]);
    await onEachBuild(
      (engine) => {
        const property = fc.property(problem, ({ kind, rows, k, m, f, zeros, w, padding, from }) => {
          const rnd = random(from);
          check(engine, matrixIn(f, kind, rows, k, m, zeros, rnd), f, at(ENDINGS, from));
          const conv = { c: 3, h: 4, w, m, k: 3, padding };
          check(engine, convIn(f, conv, from % 2 ? "nhwc" : "nchw", zeros, rnd), f, at(ENDINGS, from));
        });
        fc.assert(property, { seed, numRuns: 12 });
      },
      { costs },
    );
  }
});

/** NaN and infinities in some of x, so that each row of W meets them at zeros, at stored weights or both. */
function poison(x: Float32Array, rnd: () => number): Float32Array {
  return x.map((v) => (rnd() < 0.15 ? at([NaN, Infinity, -Infinity], Math.floor(rnd() * 3)) : v));
}

/** Formats that never multiply a place that they do not store. */
const SPARSE: Format[] = [
  "csr",
  { kind: "block", rows: 4, cols: 1 },
  { kind: "block", rows: 8, cols: 2 },
  { kind: "block", rows: 1, cols: 4 },
  { kind: "nm", n: 2, m: 4 },
  { kind: "nm", n: 3, m: 4 },
  { kind: "nm", n: 1, m: 8 },
  { kind: "complementary", overlay: 5, blockRows: 1 },
  { kind: "complementary", overlay: 2, blockRows: 8 },
];
const isNm = (format: Format) => typeof format === "object" && format.kind === "nm";

test("sparse formats: x may be nothing but NaN where nothing of W is stored", async () => {
  const rnd = random();
  const convs: Conv[] = [
    { c: 5, h: 6, m: 7, k: 1 },
    { n: 2, c: 4, h: 7, m: 6, k: 3, padding: 1, stride: 2 },
    { n: 2, c: 4, h: 6, w: 7, m: 8, k: 3, padding: "same", groups: 4 },
  ];
  const problems = [
    ...MATRIX_CALLS.flatMap((kind) => [1, 2, 28, 33].map((rows) => matrixProblem(kind, rows, 21, 6, 1, rnd))),
    ...MATRIX_CALLS.map((kind) => matrixProblem(kind, 1, LONG + 17, 7, 1, rnd)),
    ...convs.flatMap((conv) => [convProblem(conv, "nchw", 1, rnd), convProblem(conv, "nhwc", 1, rnd)]),
  ];
  const spoiled = problems.map((p) => ({ ...p, x: { ...p.x, data: p.x.data.fill(NaN) } }));
  await onEachBuild((engine) => {
    for (const format of SPARSE.filter((f) => !isNm(f))) {
      for (const p of spoiled) for (const e of [{}, ENDINGS[EVERYTHING]]) check(engine, p, format, e, true);
    }
  });
});

test("sparse formats: poisoned x spoils exactly the outputs that use it", async () => {
  const rnd = random(seed + 7);
  await onEachBuild((engine) => {
    /** Numbers in every place that the format stores for a random pattern, so that the oracle knows the places. */
    const stored = (format: Format, rows: number, cols: number, zeros: number): Float32Array => {
      const w = engine.pack(weightsFor(format, rows, cols, zeros, rnd), [rows, cols], { format });
      const places = placesOf(w);
      w.dispose();
      return places.map((place) => (place ? rnd() + 0.5 : 0));
    };
    for (const format of SPARSE) {
      for (const [n, k, m] of [
        [1, 21, 6],
        [1, 40, 17],
        [1, 4 * LONG + 22, 5],
        [2, 21, 7],
        [7, 33, 8],
        [29, 30, 5],
        [64, 330, 9],
      ]) {
        const w = stored(format, m, k, k > 1000 ? 0.999 : 0.9);
        const x = poison(values(n * k, 0, rnd), rnd);
        const exact = linearOracle(x, w, n, k, m);
        const packed = engine.pack(w, [m, k], { format });
        const label = `${engine.simd} ${nameOf(format)} ${[n, k, m]}`;
        const rows = { data: x, shape: [n, k] };
        for (const forceKernel of [
          undefined,
          ...kernelsOf((name) => engine.linear(rows, packed, { forceKernel: name })),
        ])
          close(engine.linear(rows, packed, { forceKernel }).data, exact, `${label} linear by ${forceKernel}`);
        close(engine.linear(engine.tensor(x, [n, k]), packed).data, exact, `${label} linear of a tensor`);
        const left = engine.matmul(packed, { data: transpose(x, n, k), shape: [k, n] }).toArray();
        close(transpose(left, m, n), exact, `${label} w · x`);
        const turned = stored(format, k, m, 0.9);
        const io = engine.pack(turned, [k, m], { format });
        close(engine.matmul(rows, io).data, linearOracle(x, transpose(turned, k, m), n, k, m), `${label} x · w`);
      }
      for (const conv of [
        { n: 2, c: 5, h: 6, m: 7, k: 1 },
        { c: 6, h: 7, m: 6, k: 3, padding: 1, stride: 2 },
        { c: 4, h: 6, w: 7, m: 8, k: 3, padding: "same" as const, groups: 2 },
      ]) {
        const s = convSizes(conv);
        const perGroup = s.c / s.groups;
        const w = stored(format, s.m, perGroup * s.kh * s.kw, 0.9);
        const x = poison(values(s.n * s.c * s.h * s.w, 0, rnd), rnd);
        const packed = engine.pack(w, [s.m, perGroup, s.kh, s.kw], { format });
        const { stride, padding, groups } = conv as Conv;
        const y = engine.conv2d({ data: x, shape: [s.n, s.c, s.h, s.w] }, packed, { stride, padding, groups });
        close(y.data, convOracle(x, w, s), `${engine.simd} ${nameOf(format)} ${JSON.stringify(conv)}`);
      }
    }
  });
});

test("what an earlier call left in scratch memory does not reach y", async () => {
  // Rows of unlike length: the lanes of the shorter ones read the place behind x.
  const rnd = random(seed + 9);
  await onEachBuild((engine) => {
    for (const format of SPARSE) {
      for (const k of [1, 5, 8, 63, 64, LONG + 13]) {
        // Its kernel brings all of x to the place where the one tested brings its own.
        const every = engine.pack(new Float32Array(2 * k + 64).fill(1), [1, 2 * k + 64], { format: "csr" });
        const w = weightsFor(format, 7, k, 0.5, rnd).map((v, i) => (i % 3 ? v : 0));
        const packed = engine.pack(w, [7, k], { format });
        const x = values(k, 0, rnd);
        const exact = linearOracle(x, w, 1, k, 7);
        const call = (o: LinearOptions) => engine.linear({ data: x, shape: [k] }, packed, o);
        for (const forceKernel of kernelsOf((name) => call({ forceKernel: name }))) {
          const dirt = new Float32Array(2 * k + 64).fill(NaN);
          engine.relu({ data: dirt, shape: [dirt.length] }).dispose();
          engine.linear({ data: dirt, shape: [dirt.length] }, every).dispose();
          close(call({ forceKernel }).data, exact, `${engine.simd} ${nameOf(format)} k ${k} by ${forceKernel}`);
        }
      }
    }
  });
});

test("lanes of panels that no row and no column fills hold nothing of an earlier call", async () => {
  // Offsets of freed streams read as denormal numbers, which make multiply-adds many times as slow.
  const OLD = 1;
  const SIZE = 1 << 18;
  await onEachBuild(async (engine) => {
    const { memory } = engine;
    const w = values(8 * 16, 0.5, random());
    const cases: { title: string; shape: number[]; words: number; run(x: Tensor): Tensor }[] = [];
    for (const rows of [5, 6, 7]) {
      const weight = engine.pack(w, [8, 16], { format: "csr" });
      const run = (x: Tensor) => engine.linear(x, weight, { forceKernel: "f32_csr_spmm_8" });
      cases.push({ title: `linear, ${rows} rows`, shape: [rows, 16], words: 16 * 8, run });
    }
    for (const [h, w_] of [
      [3, 3],
      [2, 5],
      [1, 11],
    ]) {
      const weight = engine.pack(w, [8, 16, 1, 1], { format: "csr" });
      const run = (x: Tensor) => engine.conv2d(x, weight, { forceKernel: "f32_csr_spmm_4" });
      cases.push({ title: `1 × 1, ${h} × ${w_}`, shape: [1, 16, h, w_], words: 16 * Math.ceil((h * w_) / 4) * 4, run });
    }
    for (const { title, shape, words, run } of cases) {
      const x = engine.tensor(values(sizeOf(shape), 0, random()), shape);
      const blocks = [SIZE * 4];
      memory.working(undefined, blocks);
      const [old] = blocks;
      memory.u32.fill(OLD, old / 4, old / 4 + SIZE);
      memory.rest();
      run(x).dispose();
      // The panels begin with the first number of x.
      const scratch = memory.u32.subarray(old / 4, old / 4 + SIZE);
      const start = scratch.indexOf(memory.u32[x.ptr / 4]);
      assert.ok(start >= 0, `${title}: no panels`);
      assert.is(scratch.subarray(start, start + words).indexOf(OLD), -1, title);
      x.dispose();
    }
  });
});

test("x may be a tensor, { data, shape }, { data, dims } or a view into a larger buffer", async () => {
  const rnd = random();
  const problems = [
    ...MATRIX_CALLS.flatMap((kind) => [
      matrixProblem(kind, 1, 37, 11, 0.8, rnd),
      matrixProblem(kind, 9, 37, 11, 0.8, rnd),
    ]),
    convProblem({ c: 3, h: 6, m: 4, k: 1 }, "nchw", 0.5, rnd),
    convProblem({ n: 2, c: 3, h: 6, m: 4, k: 3, padding: 1 }, "nhwc", 0.5, rnd),
    convProblem({ c: 3, h: 6, m: 3, k: 3, groups: 3 }, "nchw", 0.5, rnd),
  ];
  await onEachBuild((engine) => {
    for (const p of problems) {
      for (const f of BASIC) {
        const { data, shape } = p.x;
        const larger = new Float32Array(data.length + 9).fill(NaN);
        larger.set(data, 3);
        const view = larger.subarray(3, 3 + data.length);
        assert.is(view.byteOffset, 12);
        const weights = new Float32Array(p.w.data.length + 2).fill(NaN);
        weights.set(p.w.data, 1);
        const w = engine.pack(weights.subarray(1, -1), p.w.shape, { format: f });
        const tensor = engine.tensor(data, shape);
        const expectedBits = p.call(engine, tensor, w, {}).toArray();
        close(expectedBits, expected(p, ENDINGS[0]), p.label);
        const spellings: TensorLike[] = [
          { data, shape },
          { data, dims: shape },
          { data: view, shape },
          { data: view, dims: shape },
          engine.tensor(view, shape),
          tensor.reshape([data.length]).reshape(shape),
        ];
        spellings.forEach((x, i) => {
          sameBits(p.call(engine, x, w, {}).data, expectedBits, `${engine.simd} ${f} ${p.label} spelling ${i}`);
        });
        // Views serve as bias and residual as well.
        const bias = new Float32Array(p.bias.length + 1);
        bias.set(p.bias, 1);
        const e = { bias: "array", residual: "data" } as const;
        const residual = { data: p.residual, dims: p.shape };
        const y = p.call(engine, { data: view, shape }, w, { bias: bias.subarray(1), residual });
        close(y.data, expected(p, { ...e }), `${engine.simd} ${f} ${p.label} bias and residual views`);
      }
    }
  });
});

test("weights packed in TensorFlow's order are the same weights", async () => {
  const rnd = random();
  await onEachBuild((engine) => {
    for (const f of SOME) {
      for (const [out, inn] of [
        [5, 7],
        [1, 9],
        [8, 1],
        [33, 20],
      ]) {
        const data = weightsIn(f, out, inn, 0.7, rnd);
        const turned = toSpotsInOut(data, out, inn, 1);
        const oi = engine.pack(data, [out, inn], { format: f, layout: "oi" });
        const io = engine.pack(turned, [inn, out], { format: f, layout: "io" });
        assert.equal([...io.shape], [out, inn]);
        assert.is(io.nnz, oi.nnz);
        sameBits(io.toDense(), turned, "toDense of io");
        for (const rows of [1, 6]) {
          const x = { data: values(rows * inn, 0, rnd), shape: [rows, inn] };
          sameBits(engine.linear(x, io).data, engine.linear(x, oi).data, `${engine.simd} ${nameOf(f)} io`);
        }
      }
      for (const [out, inn, kh, kw] of [
        [4, 3, 3, 3],
        [5, 2, 1, 1],
        [6, 1, 2, 3],
        [2, 5, 1, 4],
      ]) {
        const data = weightsIn(f, out, inn * kh * kw, 0.5, rnd);
        const turned = toSpotsInOut(data, out, inn, kh * kw);
        const oihw = engine.pack(data, [out, inn, kh, kw], { format: f, layout: "oihw" });
        const hwio = engine.pack(turned, [kh, kw, inn, out], { format: f, layout: "hwio" });
        assert.equal([...hwio.shape], [out, inn, kh, kw]);
        sameBits(hwio.toDense(), turned, "toDense of hwio");
        const x = { data: values(2 * inn * 42, 0, rnd), shape: [2, inn, 6, 7] };
        sameBits(engine.conv2d(x, hwio).data, engine.conv2d(x, oihw).data, `${engine.simd} ${nameOf(f)} hwio`);
      }
    }
  });
});

test("the packed data is a copy", async () => {
  await onEachBuild((engine) => {
    for (const f of SOME) {
      const data = new Float32Array([1, 0, 0, 2]);
      const w = engine.pack(data, [2, 2], { format: f });
      data.fill(9);
      assert.equal([...engine.linear({ data: new Float32Array([3, 4]), shape: [2] }, w).data], [3, 8]);
    }
  });
});

test("subnormal, huge and tiny numbers", async () => {
  const rnd = random();
  await onEachBuild((engine) => {
    for (const f of SOME) {
      for (const scale of [2 ** -140, 2 ** -80, 2 ** 60, 2 ** 100]) {
        const w = weightsIn(f, 6, 9, 0.5, rnd).map((v) => v * scale);
        const x = values(5 * 9, 0, rnd);
        const packed = engine.pack(w, [6, 9], { format: f });
        const exact = linearOracle(x, w, 5, 9, 6);
        // Products below 2⁻¹²⁶ round by absolute steps of 2⁻¹⁴⁹.
        const bound = exact.bound.map((b) => b + 12 * 2 ** -149);
        const y = engine.linear({ data: x, shape: [5, 9] }, packed);
        close(y.data, { y: exact.y, bound }, `${engine.simd} ${nameOf(f)} scale ${scale}`);
      }
    }
  });
});

test("every kernel of a product was forced", () => {
  const left = PRODUCTS.filter(({ name }) => !forced.has(name)).map(({ name }) => name);
  assert.equal(left, []);
});

test.run();
