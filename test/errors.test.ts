// Every public method with arguments it must refuse: the code, the argument that the message names, and that nothing is
// kept. A table goes on after a row that fails and reports all of them. Then garbage, a few thousand times.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { supports } from "../bindings/builds.js";
import { formatName } from "../bindings/formats/format.js";
import {
  check,
  createEngine,
  detect,
  type Engine,
  type EngineOptions,
  type Format,
  type LinearOptions,
  type PackedWeight,
  prune,
  readSafetensors,
  type SparseTensor,
  type Tensor,
  writeSafetensors,
} from "../bindings/index.js";
import { KERNELS } from "../bindings/kernels.js";
import {
  ANY_MATRIX,
  costsWith,
  FORMATS,
  kernelsOf,
  onEachBuild,
  random,
  refuses,
  sameBits,
  seed,
  sizeOf,
  values,
  weightsFor,
} from "./oracle.js";

const test = suite("errors");

const zeros = (n: number) => new Float32Array(n);

/** The code of what a call throws, or all of it if that has none; undefined if it throws nothing. */
function codeOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const like = (...shape: number[]) => ({ data: zeros(sizeOf(shape)), shape });

/** What the rows of a table work with. */
interface Fixture {
  engine: Engine;
  /** [2, 3] */
  x: Tensor;
  /** [3, 3], so that a result may have the shape of x. */
  w: PackedWeight;
  /** [1, 2, 5, 5] */
  image: Tensor;
  /** [2, 2, 3, 3] */
  k: PackedWeight;
  /** Depthwise: [2, 1, 3, 3]. */
  dw: PackedWeight;
  /** [3, 1, 3, 3], whose outputs two groups do not divide, and [2, 2, 0, 3], which has no taps. */
  uneven: PackedWeight;
  tapless: PackedWeight;
  /** [6]: as many elements as x. */
  flat: Tensor;
  /** The same, [2, 3] and [1, 2, 5, 5], as lists. */
  sx: SparseTensor;
  sparseImage: SparseTensor;
  goneSparse: SparseTensor;
  otherSparse: SparseTensor;
  goneTensor: Tensor;
  goneWeight: PackedWeight;
  /** Of another engine: [2, 3] and [3, 3]. */
  otherTensor: Tensor;
  otherWeight: PackedWeight;
}

/** Code, the argument that the message must name, and the call. */
type Row = [code: string, argument: string, call: (f: Fixture) => unknown, label?: string];

/** A row for each of several values of one argument. */
const rows = (code: string, argument: string, bad: unknown[], call: (f: Fixture, value: never) => unknown): Row[] =>
  bad.map((value) => [code, argument, (f) => call(f, value as never), `${call} with ${describe(value)}`]);

function describe(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (Array.isArray(value)) return `[${value.map(describe).join(", ")}]`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${value.byteLength} bytes)`;
  if (typeof value !== "object" || value === null)
    return typeof value === "string" ? JSON.stringify(value) : String(value);
  return `{ ${Object.entries(value)
    .map(([key, v]) => `${key}: ${describe(v)}`)
    .join(", ")} }`;
}

async function withFixture(run: (f: Fixture) => void): Promise<void> {
  const other = await createEngine();
  await onEachBuild((engine) => {
    const rnd = random(1);
    const tensor = (...shape: number[]) => engine.tensor(values(sizeOf(shape), 0, rnd), shape);
    const pack = (...shape: number[]) => engine.pack(values(sizeOf(shape), 0.5, rnd), shape, { format: "csr" });
    const goneTensor = tensor(2, 3);
    const goneWeight = pack(3, 3);
    goneTensor.dispose();
    goneWeight.dispose();
    const otherTensor = other.tensor(zeros(6), [2, 3]);
    const otherWeight = other.pack(zeros(9), [3, 3]);
    const [x, w, image, k, dw] = [tensor(2, 3), pack(3, 3), tensor(1, 2, 5, 5), pack(2, 2, 3, 3), pack(2, 1, 3, 3)];
    const [uneven, tapless, flat] = [pack(3, 1, 3, 3), pack(2, 2, 0, 3), tensor(6)];
    const [sx, sparseImage, goneSparse] = [engine.toSparse(x), engine.toSparse(image), engine.toSparse(x)];
    goneSparse.dispose();
    const otherSparse = other.toSparse(otherTensor);
    const sparse = { sx, sparseImage, goneSparse, otherSparse };
    const strangers = { goneTensor, goneWeight, otherTensor, otherWeight };
    run({ engine, x, w, image, k, dw, uneven, tapless, flat, ...sparse, ...strangers });
  });
  other.dispose();
}

/** Some results of the fixture, which no error may change. */
function results({ engine, x, w, image, k, dw, sx, sparseImage }: Fixture): Float32Array[] {
  const ys = [
    engine.linear(x, w, { activation: "relu" }),
    engine.matmul(w, like(3, 4)),
    engine.conv2d(image, k, { padding: 1 }),
    engine.conv2d(image, dw, { groups: 2 }),
    engine.softmax(x),
    engine.linear(sx, w),
    engine.conv2d(sparseImage, k),
    sx.toDense(),
    engine.kWinners(image, { k: 7, output: "dense" }),
  ];
  return ys.map((y) => {
    const copy = y.toArray();
    y.dispose();
    return copy;
  });
}

/** All rows must refuse, and afterwards everything must be as it was before. */
function table(name: string, list: Row[]): void {
  test(name, () =>
    withFixture((f) => {
      const before = results(f);
      const failures: string[] = [];
      for (const [code, argument, call, label] of list) {
        try {
          const message = new RegExp(`^"${argument.replace(/[.[\]]/g, "\\$&")}" expected .+, got .+`);
          refuses(f.engine, code, message, () => call(f));
        } catch (error) {
          failures.push(`${label ?? call}\n    ${(error as Error).message.split(/: ?\(\) ?=>/)[0]}`);
        }
      }
      results(f).forEach((y, i) => {
        sameBits(y, before[i], `result ${i} after the errors`);
      });
      report(failures, list.length);
    }),
  );
}

/** Fails with every row that failed, or as many as a person reads. */
function report(failures: string[], of: number): void {
  if (failures.length === 0) return;
  const shown = failures.slice(0, 25).map((text) => `\n  ${text}`);
  throw new Error(`${failures.length} of ${of} rows failed:${shown.join("")}${failures.length > 25 ? "\n  …" : ""}`);
}

const NO_ARRAYS = [
  undefined,
  null,
  5,
  "x",
  [1, 2, 3, 4, 5, 6],
  {},
  new Float64Array(6),
  new Int32Array(6),
  new ArrayBuffer(24),
  1n,
  Symbol("s"),
];

/** Shapes that no array of 6 floats has. */
const BAD_SHAPES: [code: string, shape: unknown][] = [
  ...[undefined, null, 6, "2,3", {}, { length: 1, 0: 6 }, new Float32Array([2, 3]), true, 6n, () => [6]].map(
    (shape): [string, unknown] => ["ERR_TYPE", shape],
  ),
  ...[["2", 3], [null, 6], [6n], [Symbol("s")], [[6]], [undefined], new Array(1)].map((s): [string, unknown] => [
    "ERR_TYPE",
    s,
  ]),
  ...[[-2, -3], [1.5, 4], [NaN, 3], [Infinity, 1], [-Infinity], [2 ** 31], [2 ** 16, 2 ** 15], [2 ** 52, 2 ** 52]].map(
    (s): [string, unknown] => ["ERR_SHAPE", s],
  ),
  // Infinity · 0 is NaN.
  ["ERR_SHAPE", [1e308, 1e308, 0]],
];
const badShapes = (argument: string, call: (f: Fixture, shape: never) => unknown): Row[] =>
  BAD_SHAPES.flatMap(([code, shape]) => rows(code, argument, [shape], call));

table("tensor", [
  ...rows("ERR_TYPE", "data", NO_ARRAYS, ({ engine }, data) => engine.tensor(data, [6])),
  ...rows("ERR_LENGTH", "data", [zeros(0), zeros(5), zeros(7)], ({ engine }, data) => engine.tensor(data, [2, 3])),
  ...badShapes("shape", ({ engine }, shape) => engine.tensor(zeros(6), shape)),
]);

table("reshape", [
  ...badShapes("shape", ({ x }, shape) => x.reshape(shape)),
  ...rows("ERR_SHAPE", "shape", [[], [7], [2, 2], [0, 6]], ({ x }, shape) => x.reshape(shape)),
]);

table("pack", [
  ...rows("ERR_TYPE", "data", NO_ARRAYS, ({ engine }, data) => engine.pack(data, [2, 3])),
  ...rows("ERR_LENGTH", "data", [zeros(0), zeros(5), zeros(7)], ({ engine }, data) => engine.pack(data, [2, 3])),
  ...[undefined, null, 6, "2,3", {}, ["2", 3], [2n, 3], [Symbol("s"), 3], [null, 6]].flatMap((shape) =>
    rows("ERR_TYPE", "shape", [shape], ({ engine }, s) => engine.pack(zeros(6), s)),
  ),
  ...[
    [],
    [6],
    [1, 2, 3],
    [1, 1, 1, 2, 3],
    [-2, -3],
    [1.5, 4],
    [NaN, 3],
    [2 ** 31, 1],
    [2 ** 16, 2 ** 15, 1, 1],
  ].flatMap((shape) => rows("ERR_SHAPE", "shape", [shape], ({ engine }, s) => engine.pack(zeros(6), s))),
  ...rows("ERR_VALUE", "layout", ["hwio", "oihw", "OI", "nchw"], ({ engine }, layout) =>
    engine.pack(zeros(6), [2, 3], { layout }),
  ),
  ...rows("ERR_VALUE", "layout", ["io", "oi", "hwoi"], ({ engine }, layout) =>
    engine.pack(zeros(6), [1, 1, 2, 3], { layout }),
  ),
  ...rows("ERR_TYPE", "layout", [5, null, {}], ({ engine }, layout) => engine.pack(zeros(6), [2, 3], { layout })),
  ...rows("ERR_TYPE", "options", [null, 5, "csr", ["csr"], () => 1], ({ engine }, o) =>
    engine.pack(zeros(6), [2, 3], o),
  ),
  ...rows("ERR_VALUE", "options", [{ formt: "csr" }, { kind: "csr" }], ({ engine }, o) =>
    engine.pack(zeros(6), [2, 3], o),
  ),
]);

/** A field of a format that is wrong: by value, then by type. */
const field = (good: object, key: string, values: unknown[], types: unknown[]): Row[] => {
  const call = ({ engine }: Fixture, value: unknown) =>
    engine.pack(zeros(6), [2, 3], { format: { ...good, [key]: value } as never });
  return [
    ...rows("ERR_VALUE", `format.${key}`, values, call),
    ...rows("ERR_TYPE", `format.${key}`, [null, [4], {}, 4n, Symbol("s"), ...types], call),
  ];
};
const NO_SIZES = [0, -1, 1.5, NaN, Infinity, -Infinity, 2 ** 31];

table("pack: formats", [
  ...rows(
    "ERR_VALUE",
    "format",
    [
      ...["CSR", "coo", "", "AUTO", "block", "nm", "complementary", "2:4", "block 4x1"],
      // A key too many is a key misspelt.
      { kind: "block", rows: 4, cols: 1, r: 4 },
      { kind: "nm", n: 2, m: 4, M: 4 },
      { kind: "complementary", overlay: 2, blockrows: 4 },
      { kind: "complementary", overlay: 2, "": 4 },
    ],
    ({ engine }, format) => engine.pack(zeros(6), [2, 3], { format }),
  ),
  ...rows("ERR_TYPE", "format", [5, null, true, 1n, ["csr"], [], Symbol("s"), () => "csr"], ({ engine }, format) =>
    engine.pack(zeros(6), [2, 3], { format }),
  ),
  ...field({ rows: 4, cols: 1 }, "kind", ["csr", "dense", "auto", "bsr", "Block", ""], [undefined, 4]),
  ...field({ kind: "block", cols: 1 }, "rows", [...NO_SIZES, 3, 5, 6, 16], [undefined, "4"]),
  ...field({ kind: "block", rows: 4 }, "cols", [...NO_SIZES, 3, 5, 8], [undefined, "4"]),
  ...field({ kind: "nm", m: 4 }, "n", [...NO_SIZES, 5, 1024], [undefined, "4"]),
  ...field({ kind: "nm", n: 1 }, "m", [...NO_SIZES, 1, 1025, 2048], [undefined, "4"]),
  ...field({ kind: "complementary" }, "overlay", [...NO_SIZES, 65536], [undefined, "4"]),
  ...field({ kind: "complementary", overlay: 2 }, "blockRows", [...NO_SIZES, 2, 3, 16], ["4"]),
]);

table("weights: update", [
  ...rows("ERR_TYPE", "values", NO_ARRAYS, ({ w }, data) => w.update(data)),
  ...rows("ERR_LENGTH", "values", [zeros(0), zeros(8), zeros(10)], ({ w }, data) => w.update(data)),
  ["ERR_VALUE", "values", ({ w }) => w.update(zeros(9).fill(1))],
  ["ERR_VALUE", "values", ({ w }) => w.update(zeros(9).fill(NaN))],
]);

/** Every method with an input of [2, 3] or [1, 2, 5, 5], and the name of that argument. */
const TAKES_X: [argument: string, call: (f: Fixture, x: never) => unknown][] = [
  ["x", ({ engine, w }, x) => engine.linear(x, w)],
  ["a", ({ engine, w }, x) => engine.matmul(x, w)],
  ["b", ({ engine, w }, x) => engine.matmul(w, x)],
  ["x", ({ engine, k }, x) => engine.conv2d(x, k)],
  ["x", ({ engine }, x) => engine.maxPool2d(x, { kernel: 2 })],
  ["x", ({ engine }, x) => engine.avgPool2d(x, { kernel: 2 })],
  ["x", ({ engine }, x) => engine.globalAvgPool2d(x)],
  ["a", ({ engine, x: b }, x) => engine.add(x, b)],
  ["b", ({ engine, x: a }, x) => engine.add(a, x)],
  ["a", ({ engine, x: b }, x) => engine.mul(x, b)],
  ["b", ({ engine, x: a }, x) => engine.mul(a, x)],
  ["x", ({ engine }, x) => engine.relu(x)],
  ["x", ({ engine }, x) => engine.sigmoid(x)],
  ["x", ({ engine }, x) => engine.tanh(x)],
  ["x", ({ engine }, x) => engine.softmax(x)],
  ["x", ({ engine }, x) => engine.kWinners(x, { k: 1 })],
  ["x", ({ engine }, x) => engine.kWinners(x, { k: 1, output: "dense" })],
  ["x", ({ engine }, x) => engine.toSparse(x)],
  ["x", ({ engine, w }, x) => engine.linear(x, w, { output: "sparse" })],
  ["x", ({ engine, w }, x) => engine.explain("linear", x, w)],
  ["a", ({ engine, w }, x) => engine.explain("matmul", x, w)],
  ["b", ({ engine, w }, x) => engine.explain("matmul", w, x)],
  ["x", ({ engine, k }, x) => engine.explain("conv2d", x, k)],
  ["residual", ({ engine, x: own, w }, x) => engine.linear(own, w, { residual: x })],
  ["residual", ({ engine, w }, x) => engine.matmul(w, like(3, 2), { residual: x })],
  ["residual", ({ engine, image, k }, x) => engine.conv2d(image, k, { residual: x })],
  ["residual", ({ engine, sx, w }, x) => engine.linear(sx, w, { residual: x })],
  ["residual", ({ engine, sparseImage, k }, x) => engine.conv2d(sparseImage, k, { residual: x })],
];

table("whatever takes a tensor", [
  ...TAKES_X.flatMap(([argument, call]) => [
    ...rows(
      "ERR_TYPE",
      argument,
      [null, 5, "x", [], [1, 2], {}, () => 1, 1n, Symbol("s"), zeros(6), { data: zeros(6) }, { shape: [2, 3] }],
      call,
    ),
    ...NO_ARRAYS.flatMap((data) => rows("ERR_TYPE", `${argument}.data`, [{ data, shape: [2, 3] }], call)),
    ...[0, 5, 7].flatMap((n) => rows("ERR_LENGTH", `${argument}.data`, [{ data: zeros(n), shape: [2, 3] }], call)),
    ...rows("ERR_LENGTH", `${argument}.data`, [{ data: zeros(5), dims: [2, 3] }], call),
    ...BAD_SHAPES.flatMap(([code, shape]) => rows(code, `${argument}.shape`, [{ data: zeros(6), shape }], call)),
    ["ERR_DISPOSED", argument, (f: Fixture) => call(f, f.goneTensor as never), `${call} of a disposed tensor`] as Row,
    ["ERR_ENGINE", argument, (f: Fixture) => call(f, f.otherTensor as never), `${call} of another engine's`] as Row,
  ]),
  // A residual may be left out, an input may not.
  ...TAKES_X.filter(([argument]) => argument !== "residual").flatMap(([argument, call]) =>
    rows("ERR_TYPE", argument, [undefined], call),
  ),
]);

/** Every method with a weight. */
const TAKES_W: [argument: string, call: (f: Fixture, w: never) => unknown][] = [
  ["w", ({ engine, x }, w) => engine.linear(x, w)],
  ["w", ({ engine, image }, w) => engine.conv2d(image, w)],
  ["w", ({ engine, sx }, w) => engine.linear(sx, w)],
  ["w", ({ engine, sparseImage }, w) => engine.conv2d(sparseImage, w)],
  ["w", ({ engine, sx }, w) => engine.explain("linear", sx, w)],
  ["w", ({ engine, x }, w) => engine.explain("linear", x, w)],
  ["w", ({ engine, image }, w) => engine.explain("conv2d", image, w)],
];
const MATMULS: [argument: string, call: (f: Fixture, w: never) => unknown][] = [
  ["a", ({ engine }, w) => engine.matmul(w, like(3, 2))],
  ["b", ({ engine, x }, w) => engine.matmul(x, w)],
  ["a", ({ engine }, w) => engine.explain("matmul", w, like(3, 2))],
  ["b", ({ engine, x }, w) => engine.explain("matmul", x, w)],
];

table("whatever takes a weight", [
  ...TAKES_W.flatMap(([argument, call]) =>
    rows("ERR_TYPE", argument, [undefined, null, 5, "w", {}, zeros(9), like(3, 3), Symbol("s"), 1n], call),
  ),
  ...[...TAKES_W, ...MATMULS].flatMap(([argument, call]): Row[] => [
    ["ERR_DISPOSED", argument, (f) => call(f, f.goneWeight as never), `${call} disposed`],
    ["ERR_ENGINE", argument, (f) => call(f, f.otherWeight as never), `${call} of another engine`],
  ]),
  // Neither operand packed, or both.
  ...MATMULS.flatMap(([, call]) => rows("ERR_TYPE", "b", [undefined, null, {}, like(3, 3), zeros(9)], call)),
  ["ERR_TYPE", "b", ({ engine, w }) => engine.matmul(w, w)],
  ["ERR_TYPE", "b", ({ engine, w, goneWeight }) => engine.matmul(w, goneWeight)],
]);

table("shapes that do not fit each other", [
  ["ERR_SHAPE", "x", ({ engine, w }) => engine.linear(like(), w)],
  ["ERR_SHAPE", "x", ({ engine, w }) => engine.linear(like(4), w)],
  ["ERR_SHAPE", "x", ({ engine, w }) => engine.linear(like(3, 2), w)],
  ["ERR_SHAPE", "x", ({ engine, w }) => engine.linear(like(0), w)],
  ["ERR_SHAPE", "w", ({ engine, x, k }) => engine.linear(x, k)],
  ["ERR_SHAPE", "w", ({ engine, image, w }) => engine.conv2d(image, w)],
  ["ERR_SHAPE", "a", ({ engine, k }) => engine.matmul(k, like(3, 2))],
  ["ERR_SHAPE", "b", ({ engine, x, k }) => engine.matmul(x, k)],
  ["ERR_SHAPE", "b", ({ engine, w }) => engine.matmul(w, like(2, 3))],
  ["ERR_SHAPE", "b", ({ engine, w }) => engine.matmul(w, like(3))],
  ["ERR_SHAPE", "b", ({ engine, w }) => engine.matmul(w, like(1, 3, 2))],
  ["ERR_SHAPE", "a", ({ engine, w }) => engine.matmul(like(3, 2), w)],
  ["ERR_SHAPE", "a", ({ engine, w }) => engine.matmul(like(3), w)],
  ["ERR_SHAPE", "a", ({ engine, w }) => engine.matmul(like(2, 1, 3), w)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(2, 5, 5), k)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 3, 5, 5), k)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 2, 5, 5), k, { layout: "nhwc" })],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 2, 5, 2), k)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 2, 2, 5), k)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 2, 0, 0), k)],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.conv2d(like(1, 2, 1, 1), k, { padding: [1, 0, 0, 1] })],
  ["ERR_SHAPE", "x", ({ engine, image, k }) => engine.conv2d(image, k, { dilation: 3 })],
  ["ERR_SHAPE", "x", ({ engine, image, k }) => engine.conv2d(image, k, { groups: 2 })],
  ["ERR_SHAPE", "x", ({ engine, image, dw }) => engine.conv2d(image, dw)],
  ["ERR_VALUE", "groups", ({ engine, image, uneven }) => engine.conv2d(image, uneven, { groups: 2 })],
  ["ERR_SHAPE", "result", ({ engine, image, k }) => engine.conv2d(image, k, { padding: 2 ** 29 })],
  ["ERR_SHAPE", "x", ({ engine }) => engine.softmax(like())],
  ["ERR_SHAPE", "b", ({ engine, x }) => engine.add(x, like(2))],
  ["ERR_SHAPE", "b", ({ engine, x }) => engine.mul(x, like(3, 3))],
  ["ERR_SHAPE", "b", ({ engine, x }) => engine.mul(x, like(2, 2, 1, 2))],
  ["ERR_SHAPE", "b", ({ engine, x }) => engine.mul(x, like(0, 3))],
  ["ERR_SHAPE", "result", ({ engine }) => engine.add(like(2 ** 16, 1), like(2 ** 15))],
  ["ERR_SHAPE", "x", ({ engine }) => engine.globalAvgPool2d(like(2, 5, 5))],
  ["ERR_SHAPE", "x", ({ engine }) => engine.globalAvgPool2d(like(1, 2, 0, 5))],
  ["ERR_SHAPE", "x", ({ engine }) => engine.maxPool2d(like(5, 5), { kernel: 2 })],
  ["ERR_SHAPE", "x", ({ engine }) => engine.maxPool2d(like(1, 2, 5, 5), { kernel: 6 })],
  ["ERR_SHAPE", "x", ({ engine }) => engine.avgPool2d(like(1, 2, 5, 5), { kernel: [2, 8], padding: 1 })],
  ["ERR_SHAPE", "x", ({ engine }) => engine.avgPool2d(like(1, 2, 0, 0), { kernel: 2 })],
  // The maximum and the mean of no pixels at all.
  ["ERR_SHAPE", "x", ({ engine }) => engine.maxPool2d(like(1, 2, 0, 0), { kernel: 2, padding: 1 })],
  [
    "ERR_SHAPE",
    "x",
    ({ engine }) => engine.avgPool2d(like(1, 2, 0, 3), { kernel: 2, padding: 1, countIncludePad: false }),
  ],
]);

/** Methods with each set of options, for what they have in common. */
type WithOptions = (f: Fixture, o: never) => unknown;
const LINEAR: WithOptions = ({ engine, x, w }, o) => engine.linear(x, w, o);
const LEFT: WithOptions = ({ engine, w }, o) => engine.matmul(w, like(3, 2), o);
const RIGHT: WithOptions = ({ engine, x, w }, o) => engine.matmul(x, w, o);
const CONV: WithOptions = ({ engine, image, k }, o) => engine.conv2d(image, k, o);
const DEPTHWISE: WithOptions = ({ engine, image, dw }, o) => engine.conv2d(image, dw, { groups: 2, ...(o as object) });
const EXPLAIN: WithOptions = ({ engine, image, k }, o) => engine.explain("conv2d", image, k, o);
const EXPLAIN_FLAT: WithOptions[] = [
  ({ engine, x, w }, o) => engine.explain("linear", x, w, o),
  ({ engine, w }, o) => engine.explain("matmul", w, like(3, 2), o),
  ({ engine, x, w }, o) => engine.explain("matmul", x, w, o),
];
const MAX: WithOptions = ({ engine, image }, o) => engine.maxPool2d(image, o);
const AVG: WithOptions = ({ engine, image }, o) => engine.avgPool2d(image, o);
const GLOBAL: WithOptions = ({ engine, image }, o) => engine.globalAvgPool2d(image, o);
const BINARY: WithOptions[] = [({ engine, x }, o) => engine.add(x, x, o), ({ engine, x }, o) => engine.mul(x, x, o)];
const UNARY: WithOptions[] = [
  ({ engine, x }, o) => engine.relu(x, o),
  ({ engine, x }, o) => engine.sigmoid(x, o),
  ({ engine, x }, o) => engine.tanh(x, o),
  ({ engine, x }, o) => engine.softmax(x, o),
];

/** Each value as one option of several methods. */
const option = (
  code: string,
  key: string,
  bad: unknown[],
  calls: WithOptions[],
  argument = key,
  others: object = {},
): Row[] =>
  calls.flatMap((call) =>
    bad.map(
      (value): Row => [
        code,
        argument,
        (f) => call(f, { ...others, [key]: value } as never),
        `${call} with ${key}: ${describe(value)}`,
      ],
    ),
  );

const SPARSE_LINEAR: WithOptions = ({ engine, sx, w }, o) => engine.linear(sx, w, o);
const SPARSE_CONV: WithOptions = ({ engine, sparseImage, k }, o) => engine.conv2d(sparseImage, k, o);
const SPARSE_EXPLAIN: WithOptions = ({ engine, sparseImage, k }, o) => engine.explain("conv2d", sparseImage, k, o);
const SPARSE_MAX: WithOptions = ({ engine, sparseImage }, o) => engine.maxPool2d(sparseImage, o);
const WINNERS: WithOptions = ({ engine, x }, o) => engine.kWinners(x, o);
const TO_SPARSE: WithOptions = ({ engine, x }, o) => engine.toSparse(x, o);
const WINNERS_IMAGE: WithOptions = ({ engine, image }, o) => engine.kWinners(image, o);

const FUSING = [LINEAR, LEFT, RIGHT, CONV, SPARSE_LINEAR, SPARSE_CONV];

table("options as a whole", [
  ...[
    ...FUSING,
    EXPLAIN,
    ...EXPLAIN_FLAT,
    MAX,
    AVG,
    GLOBAL,
    ...BINARY,
    ...UNARY,
    SPARSE_MAX,
    WINNERS,
    TO_SPARSE,
  ].flatMap((call) => [
    ...rows("ERR_TYPE", "options", [null, 5, "relu", [], [{ kernel: 2 }], () => 1, 1n, Symbol("s")], call),
    ...rows("ERR_VALUE", "options", [{ kernel: 2, biass: zeros(3) }, { Kernel: 2 }, { "": 1 }], call),
  ]),
  ...[...BINARY, ...UNARY, LINEAR, ...EXPLAIN_FLAT].flatMap((call) =>
    rows("ERR_VALUE", "options", [{ stride: 1 }], call),
  ),
  ...[...BINARY, ...UNARY, MAX, GLOBAL].flatMap((call) =>
    rows("ERR_VALUE", "options", [{ forceKernel: "f32_binary" }], call),
  ),
  ...[...UNARY, MAX, AVG, GLOBAL].flatMap((call) => rows("ERR_VALUE", "options", [{ activation: "relu" }], call)),
  ...rows(
    "ERR_VALUE",
    "options",
    [
      { kernel: 2, countIncludePad: true },
      { kernel: 2, dilation: 1 },
    ],
    MAX,
  ),
  ...rows("ERR_VALUE", "options", [{ bias: zeros(3) }], BINARY[0]),
]);

table("bias, activation, residual and out", [
  ...option("ERR_TYPE", "bias", [null, 5, "b", [1, 2, 3], {}, new Float64Array(3), Symbol("s"), 1n], FUSING),
  ...option(
    "ERR_LENGTH",
    "bias",
    [zeros(0), zeros(1), zeros(4), like(4), like(3, 3)],
    [LINEAR, LEFT, RIGHT, SPARSE_LINEAR],
  ),
  ...option("ERR_LENGTH", "bias", [zeros(0), zeros(1), zeros(3)], [CONV, DEPTHWISE, SPARSE_CONV]),
  ...option("ERR_LENGTH", "bias", [{ data: zeros(2), shape: [3] }], FUSING, "bias.data"),
  ...[...FUSING, DEPTHWISE].flatMap((call): Row[] => [
    ["ERR_DISPOSED", "bias", (f) => call(f, { bias: f.goneTensor } as never)],
    ["ERR_ENGINE", "bias", (f) => call(f, { bias: f.otherTensor } as never)],
  ]),
  ...option(
    "ERR_VALUE",
    "activation",
    ["gelu", "RELU", "", { min: 1, max: 0 }, { min: NaN }, { max: NaN }, { low: 0 }],
    [...FUSING, ...BINARY],
  ),
  ...option(
    "ERR_TYPE",
    "activation",
    [null, 5, true, [], [0, 6], { min: "0" }, { max: null }, { max: 6n }, { min: Symbol("s") }, () => 0, 1n],
    [...FUSING, ...BINARY],
  ),
  ...option(
    "ERR_SHAPE",
    "residual",
    [like(), like(6), like(1, 6), like(2, 4), like(2, 3, 1), like(0)],
    [LINEAR, LEFT, RIGHT, SPARSE_LINEAR],
  ),
  ...option(
    "ERR_SHAPE",
    "residual",
    [like(1, 2, 3, 4), like(2, 3, 3), like(1, 3, 3, 2), like(18)],
    [CONV, DEPTHWISE, SPARSE_CONV],
  ),
  ...option(
    "ERR_TYPE",
    "out",
    [null, 5, "y", {}, like(2, 3), zeros(6), [], Symbol("s"), 1n],
    [...FUSING, ...BINARY, ...UNARY, GLOBAL],
  ),
  ...option("ERR_TYPE", "out", [null, 5, like(1, 2, 2, 2)], [MAX, AVG], "out", { kernel: 2 }),
  ...[LINEAR, RIGHT, CONV, GLOBAL, ...BINARY, ...UNARY, SPARSE_LINEAR, SPARSE_CONV].flatMap((call): Row[] => [
    ["ERR_DISPOSED", "out", (f) => call(f, { out: f.goneTensor } as never), `${call} into a disposed out`],
    ["ERR_ENGINE", "out", (f) => call(f, { out: f.otherTensor } as never), `${call} into another engine's out`],
    ["ERR_SHAPE", "out", (f) => call(f, { out: f.flat } as never), `${call} into an out of another shape`],
  ]),
  ["ERR_SHAPE", "out", ({ engine, image, x }) => engine.maxPool2d(image, { kernel: 2, out: x })],
  ["ERR_SHAPE", "out", ({ engine, image, x }) => engine.avgPool2d(image, { kernel: 2, out: x })],
]);

const FORCING = [...FUSING, DEPTHWISE, EXPLAIN, ...EXPLAIN_FLAT, SPARSE_EXPLAIN];

table("forceKernel", [
  ...option(
    "ERR_TYPE",
    "forceKernel",
    [null, 5, true, {}, [], ["f32_csr_spmm_4"], [""], 1n, Symbol("s"), () => 1, new String("f32_csr_spmm_4")],
    FORCING,
  ),
  ...option(
    "ERR_VALUE",
    "forceKernel",
    [
      ...["", "undefined", "csr", "f32_csr_spmm", "f32_csr_spmm_5", "F32_CSR_SPMM_4", " f32_csr_spmm_4", "__proto__"],
      // They exist, but take no weights, or not these.
      ...["f32_transpose", "f32_clamp", "f32_max_pool", "f32_dense_gemm_8", "f32_dense_gemv", "f32_dense_depthwise"],
      ...["f32_nm_spmv", "f32_block_spmv_4x1", "f32_block_spmm_4x1_8", "f32_block_spmm_2x1_4"],
      "x".repeat(1e5),
    ],
    FORCING,
  ),
  // One row has no strips, and a convolution no single vector.
  ["ERR_VALUE", "forceKernel", ({ engine, w }) => engine.linear(like(3), w, { forceKernel: "f32_csr_spmm_4" })],
  ["ERR_VALUE", "forceKernel", ({ engine, w }) => engine.matmul(w, like(3, 1), { forceKernel: "f32_csr_spmm_4" })],
  ["ERR_VALUE", "forceKernel", ({ engine, w }) => engine.matmul(w, like(3, 2), { forceKernel: "f32_csr_spmv" })],
  ["ERR_VALUE", "forceKernel", ({ engine, image, k }) => engine.conv2d(image, k, { forceKernel: "f32_csr_spmv" })],
  // Nothing to do is no reason to take it.
  ["ERR_VALUE", "forceKernel", ({ engine, w }) => engine.linear(like(0, 3), w, { forceKernel: "f32_dense_gemv" })],
  ["ERR_VALUE", "forceKernel", ({ engine, w }) => engine.matmul(w, like(3, 0), { forceKernel: "f32_dense_gemv" })],
  // A plan that is known for one name is not found under a value that reads like it.
  [
    "ERR_TYPE",
    "forceKernel",
    ({ engine, x, w }) => {
      engine.explain("linear", x, w, { forceKernel: "f32_csr_spmm_4" });
      engine.linear(x, w, { forceKernel: ["f32_csr_spmm_4"] as never });
    },
  ],
  [
    "ERR_TYPE",
    "forceKernel",
    ({ engine, image, k }) => {
      engine.explain("conv2d", image, k, { forceKernel: "f32_csr_spmm_4" });
      engine.conv2d(image, k, { forceKernel: { toString: () => "f32_csr_spmm_4" } as never });
    },
  ],
]);

test("forceKernel: what cannot run a weight names all that can, and those do", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const own = (f: Format | "auto") => (f === "auto" ? "csr" : f);
    for (const format of ["auto", ...FORMATS] as const) {
      const w = engine.pack(weightsFor(own(format), 8, 16, 0.4, rnd), [8, 16], { format });
      const k = engine.pack(weightsFor(own(format), 8, 16, 0.4, rnd), [8, 4, 2, 2], { format });
      const calls: [label: string, weight: PackedWeight, call: (o: LinearOptions) => Tensor][] = [
        ["one row", w, (o) => engine.linear(like(16), w, o)],
        ["rows", w, (o) => engine.linear(like(5, 16), w, o)],
        ["column", w, (o) => engine.matmul(w, like(16, 1), o)],
        ["columns", w, (o) => engine.matmul(w, like(16, 5), o)],
        ["x · w", w, (o) => engine.matmul(like(1, 8), w, o)],
        ["conv2d", k, (o) => engine.conv2d(like(1, 4, 4, 4), k, o)],
        ["groups of two rows", k, (o) => engine.conv2d(like(1, 16, 4, 4), k, { ...o, groups: 4 })],
      ];
      for (const [label, weight, call] of calls) {
        const names = kernelsOf((forceKernel) => call({ forceKernel }));
        const list = names.join(", ");
        for (const { name } of KERNELS) {
          if (names.includes(name)) {
            call({ forceKernel: name }).dispose();
            continue;
          }
          const message = new RegExp(
            `^"forceKernel" expected one of ${list} here, got "${name}", which cannot run this$`,
          );
          refuses(engine, "ERR_VALUE", message, () => call({ forceKernel: name }));
        }
        // Zeros are multiplied only where that was left to us; csr takes whatever is sparse.
        const where = `${format === "auto" ? format : formatName(format)} ${label}: ${list}`;
        assert.is(/dense/.test(list), format === "auto" || format === "dense", where);
        assert.is(/csr/.test(list), weight.format !== "dense", where);
      }
      w.dispose();
      k.dispose();
    }
  }));

test("forceKernel: blocks are split, never put together, and stay inside their group", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const pack = (format: Format, ...shape: number[]) =>
      engine.pack(weightsFor(format, shape[0], sizeOf(shape) / shape[0], 0.4, rnd), shape, { format });
    const block = (rows: number, cols: number): Format => ({ kind: "block", rows, cols });
    const sets: Format = { kind: "complementary", overlay: 2, blockRows: 8 };
    const row = (format: Format) => {
      const w = pack(format, 8, 16);
      return kernelsOf((forceKernel) => engine.linear(like(16), w, { forceKernel }));
    };
    const back = (format: Format) => {
      const w = pack(format, 8, 16);
      return kernelsOf((forceKernel) => engine.matmul(like(1, 8), w, { forceKernel }));
    };
    const grouped = (format: Format, m: number) => {
      const w = pack(format, m, 2, 2, 2);
      return kernelsOf((forceKernel) => engine.conv2d(like(1, 4, 3, 3), w, { groups: 2, forceKernel }));
    };
    const has = (names: string[], wanted: string, not: string) => {
      for (const text of wanted.split(" "))
        assert.ok(
          names.some((n) => n.includes(text)),
          `${text} of ${names}`,
        );
      for (const text of not.split(" ")) assert.ok(!names.some((n) => n.includes(text)), `no ${text} in ${names}`);
    };
    has(row(block(4, 2)), "csr_spmv 4x1 2x1 1x2", "8x1 1x4 nm");
    has(row(block(1, 4)), "csr_spmv 1x4 1x2", "2x1 4x1 8x1 nm");
    has(row(sets), "csr_spmv 8x1 4x1 2x1", "1x2 1x4 nm");
    has(row({ kind: "nm", n: 2, m: 4 }), "csr_spmv nm_spmv", "block");
    has(row({ kind: "nm", n: 1, m: 8 }), "csr_spmv", "nm_spmv block");
    // The other way round, rows are columns.
    has(back(block(4, 2)), "csr_spmv 2x1 1x4 1x2", "4x1 8x1");
    has(back(sets), "csr_spmv 1x4 1x2", "2x1 4x1 8x1");
    has(back({ kind: "nm", n: 2, m: 4 }), "csr_spmv", "nm block");
    has(grouped(block(8, 1), 16), "csr_spmm 4x1 2x1", "spmv");
    has(grouped(block(8, 1), 12), "csr_spmm 2x1", "4x1 spmv");
    has(grouped(block(8, 1), 6), "csr_spmm", "block");
    has(grouped(sets, 8), "csr_spmm 4x1 2x1", "spmv");
  }));

test("out is never what the same call reads", () =>
  withFixture((f) => {
    const { engine, x, w, image, k } = f;
    const square = engine.tensor(zeros(9), [3, 3]);
    const alias = x.reshape([2, 3]);
    const one = engine.tensor(zeros(3), [1, 3]);
    const row = engine.tensor(zeros(3), [3]);
    const pixel = engine.pack(zeros(4), [2, 2, 1, 1]);
    const out = /^"out" expected a tensor that is not read/;
    refuses(engine, "ERR_VALUE", out, () => engine.linear(x, w, { out: x }));
    refuses(engine, "ERR_VALUE", out, () => engine.linear(x, w, { out: alias }));
    refuses(engine, "ERR_VALUE", out, () => engine.linear(one, w, { out: one }));
    refuses(engine, "ERR_VALUE", out, () => engine.linear(row, w, { out: row }));
    refuses(engine, "ERR_VALUE", out, () => engine.linear(like(3), w, { bias: row, out: row }));
    refuses(engine, "ERR_VALUE", out, () => engine.matmul(w, square, { out: square }));
    refuses(engine, "ERR_VALUE", out, () => engine.matmul(x, w, { out: x }));
    refuses(engine, "ERR_VALUE", out, () => engine.conv2d(image, k, { padding: 1, out: image }));
    refuses(engine, "ERR_VALUE", out, () => engine.conv2d(image, pixel, { out: image }));
    refuses(engine, "ERR_VALUE", out, () => engine.maxPool2d(image, { kernel: 1, out: image }));
    refuses(engine, "ERR_VALUE", out, () => engine.avgPool2d(image, { kernel: 3, stride: 1, padding: 1, out: image }));
    const small = engine.tensor(zeros(2), [1, 2, 1, 1]);
    const means = small.reshape([1, 2]);
    refuses(engine, "ERR_VALUE", out, () => engine.globalAvgPool2d(small, { out: means }));
  }));

const NUMBERS_BELOW_1 = [0, -1, 1.5, NaN, Infinity, -Infinity, 2 ** 31, 1e300];
const NO_NUMBERS = [null, "2", true, {}, 2n, Symbol("s"), () => 2];
const SLIDING = [CONV, DEPTHWISE, EXPLAIN, SPARSE_CONV, SPARSE_EXPLAIN];

table("stride, dilation, padding, groups, kernel and layout", [
  ...["stride", "dilation"].flatMap((key) => [
    ...option("ERR_VALUE", key, [...NUMBERS_BELOW_1, [], [1], [1, 2, 3], [1, 1, 1, 1]], SLIDING),
    ...option("ERR_TYPE", key, [...NO_NUMBERS, new Int32Array([1, 1])], SLIDING),
    ...option(
      "ERR_VALUE",
      key,
      [
        [0, 1],
        [-1, 1],
        [1.5, 1],
        [NaN, 1],
      ],
      SLIDING,
      `${key}[0]`,
    ),
    ...option(
      "ERR_TYPE",
      key,
      [
        [1, "1"],
        [1, null],
        [1, 1n],
        [1, Symbol("s")],
        [1, [1]],
      ],
      SLIDING,
      `${key}[1]`,
    ),
  ]),
  ...option("ERR_VALUE", "padding", [-1, 0.5, NaN, Infinity, 2 ** 31, [], [1], [1, 2, 3], [0, 0, 0, 0, 0]], SLIDING),
  ...option("ERR_VALUE", "padding", ["SAME", "full", "", "1", "same_upper"], SLIDING),
  ...option("ERR_TYPE", "padding", [null, true, {}, 1n, Symbol("s"), () => 1], SLIDING),
  ...option(
    "ERR_VALUE",
    "padding",
    [
      [0, -1],
      [0, 1.5],
    ],
    SLIDING,
    "padding[1]",
  ),
  ...option(
    "ERR_VALUE",
    "padding",
    [
      [0, 0, 0, -1],
      [0, 0, 0, NaN],
    ],
    SLIDING,
    "padding[3]",
  ),
  ...option(
    "ERR_TYPE",
    "padding",
    [
      ["1", 0],
      ["same", "same"],
      [null, 0, 0, 0],
    ],
    SLIDING,
    "padding[0]",
  ),
  ...option("ERR_VALUE", "groups", NUMBERS_BELOW_1, [CONV, EXPLAIN]),
  ...option("ERR_TYPE", "groups", [...NO_NUMBERS, [1]], [CONV, EXPLAIN]),
  ...option("ERR_VALUE", "layout", ["NCHW", "nwhc", "", "channels_last"], [...SLIDING, GLOBAL]),
  ...option("ERR_TYPE", "layout", [null, 5, {}, ["nchw"], Symbol("s")], [...SLIDING, GLOBAL]),
  ...option("ERR_VALUE", "layout", ["NCHW", "oihw"], [MAX, AVG], "layout", { kernel: 2 }),
  ...option("ERR_TYPE", "layout", [null, 5], [MAX, AVG], "layout", { kernel: 2 }),
  ...[MAX, AVG].flatMap((call) => rows("ERR_TYPE", "kernel", [undefined, {}], call)),
  ...option("ERR_VALUE", "kernel", [...NUMBERS_BELOW_1, [], [2], [2, 2, 2]], [MAX, AVG]),
  ...option("ERR_TYPE", "kernel", NO_NUMBERS, [MAX, AVG]),
  ...option("ERR_VALUE", "kernel", [[2, 0]], [MAX, AVG], "kernel[1]"),
  ...option("ERR_VALUE", "stride", [0, -1, 0.5, [1]], [MAX, AVG], "stride", { kernel: 2 }),
  ...option("ERR_TYPE", "stride", [null, "2"], [MAX, AVG], "stride", { kernel: 2 }),
  ...option("ERR_VALUE", "padding", [2, [0, 2], [2, 0, 0, 0], [0, 0, 0, 3], -1, "SAME"], [MAX, AVG], "padding", {
    kernel: 2,
  }),
  ...option("ERR_TYPE", "countIncludePad", [null, 0, 1, "true", {}], [AVG], "countIncludePad", { kernel: 2 }),
  ["ERR_SHAPE", "w", ({ engine, image, tapless }) => engine.conv2d(image, tapless)],
]);

/** One wrong part of {@link Engine.sparseTensor}'s lists: otherwise 2 rows, [0: 1 2, 1: 0]. */
const listed = (code: string, argument: string, bad: object[], shape: unknown = [2, 3]): Row[] =>
  bad.map((part): Row => {
    const data = { indices: [1, 2, 0], values: zeros(3), indptr: [0, 2, 3], ...part };
    return [code, argument, ({ engine }) => engine.sparseTensor(data, shape as never), describe(part)];
  });
const NO_LISTS = [
  null,
  5,
  "120",
  {},
  { length: 3 },
  new Set([1]),
  new ArrayBuffer(12),
  new DataView(new ArrayBuffer(12)),
];

table("sparseTensor", [
  ...rows("ERR_TYPE", "data", [null, 5, "x", [], () => 1, 1n], ({ engine }, d) => engine.sparseTensor(d, [2, 3])),
  ...rows("ERR_VALUE", "data", [{ index: [1] }, { indices: [], values: zeros(0), shape: [3] }], ({ engine }, d) =>
    engine.sparseTensor(d, [3]),
  ),
  ...badShapes("shape", ({ engine }, shape) => engine.sparseTensor({ indices: [], values: zeros(0) }, shape)),
  ["ERR_SHAPE", "x", ({ engine }) => engine.sparseTensor({ indices: [], values: zeros(0) }, [])],
  ["ERR_MEMORY", "maxMemory", ({ engine }) => engine.sparseTensor({ indices: [0], values: zeros(1) }, [2 ** 30 - 16])],
  ...listed(
    "ERR_TYPE",
    "indices",
    NO_LISTS.map((indices) => ({ indices })),
  ),
  ...listed(
    "ERR_TYPE",
    "indptr",
    NO_LISTS.map((indptr) => ({ indptr })),
  ),
  ...listed("ERR_TYPE", "indptr", [{ indptr: undefined }]),
  ...listed("ERR_TYPE", "indices", [{ indices: undefined }, { indices: new BigInt64Array(3) }]),
  [
    "ERR_TYPE",
    "indices",
    ({ engine }) => engine.sparseTensor({ indices: new BigUint64Array(0) as never, values: zeros(0) }, [3]),
  ],
  ...listed(
    "ERR_TYPE",
    "values",
    NO_ARRAYS.map((values) => ({ values })),
  ),
  ...listed("ERR_LENGTH", "values", [{ values: zeros(2) }, { values: zeros(4) }, { indices: [1, 2] }]),
  ...listed("ERR_LENGTH", "indptr", [{ indptr: [] }, { indptr: [0, 3] }, { indptr: [0, 1, 2, 3] }]),
  ...listed("ERR_VALUE", "indptr", [
    { indptr: [1, 2, 3] },
    { indptr: [0, 2, 2] },
    { indptr: [0, 2, 4] },
    { indptr: [0, 4, 3] },
    { indptr: [0, -1, 3] },
    { indptr: [0, 1.5, 3] },
    { indptr: [0, NaN, 3] },
    { indptr: [0, 2 ** 32 + 2, 3] },
    { indptr: ["0", 2, 3] },
    { indptr: [0, 2n, 3] },
    { indptr: [0, undefined, 3] },
    { indptr: [-0.5, 2, 3] },
    { indptr: new Int32Array([0, -2, 3]) },
  ]),
  ...listed("ERR_VALUE", "indices", [
    { indices: [1, 3, 0] },
    { indices: [1, 2, 3] },
    { indices: [-1, 2, 0] },
    { indices: [0.5, 2, 0] },
    { indices: [NaN, 2, 0] },
    { indices: [2 ** 32, 2, 0] },
    { indices: [1, 2 ** 32 + 2, 0] },
    { indices: [2, 1, 0] },
    { indices: [1, 1, 0] },
    { indices: ["1", 2, 0] },
    { indices: [1n, 2, 0] },
    { indices: [1, undefined, 0] },
    { indices: [Symbol("s"), 2, 0] },
    { indices: new Int8Array([-1, 2, 0]) },
  ]),
  ...listed("ERR_VALUE", "indices", [{ indptr: [0, 3] }], [1, 3]),
  ...listed("ERR_VALUE", "indices", [{}], [2, 0]),
  ...rows("ERR_VALUE", "layout", ["nchw", 5], ({ engine }, layout) =>
    engine.sparseTensor({ indices: [], values: zeros(0) }, [3], { layout }),
  ),
  ...rows("ERR_VALUE", "layout", ["NCHW", "oihw"], ({ engine }, layout) =>
    engine.sparseTensor({ indices: [], values: zeros(0) }, [1, 3, 1, 1], { layout }),
  ),
  ...rows("ERR_TYPE", "layout", [5, null], ({ engine }, layout) =>
    engine.sparseTensor({ indices: [], values: zeros(0) }, [1, 3, 1, 1], { layout }),
  ),
  ...rows("ERR_TYPE", "options", [null, 5, "nchw", []], ({ engine }, o) =>
    engine.sparseTensor({ indices: [], values: zeros(0) }, [3], o),
  ),
]);

table("kWinners and toSparse", [
  ...rows("ERR_VALUE", "options", [undefined, {}, { relu: true }, { k: 1, fraction: 0.5 }], WINNERS),
  ...option("ERR_VALUE", "k", [-1, 0.5, NaN, Infinity, 2 ** 31], [WINNERS, WINNERS_IMAGE]),
  ...option("ERR_TYPE", "k", [null, "2", true, {}, 2n, Symbol("s")], [WINNERS, WINNERS_IMAGE]),
  ...option("ERR_VALUE", "fraction", [-0.1, 1.1, NaN, Infinity], [WINNERS, WINNERS_IMAGE]),
  ...option("ERR_TYPE", "fraction", [null, "0.5", true, {}, 1n], [WINNERS, WINNERS_IMAGE]),
  ...option("ERR_VALUE", "scope", ["", "GLOBAL", "pixel"], [WINNERS, WINNERS_IMAGE], "scope", { k: 1 }),
  ...option("ERR_VALUE", "scope", ["local"], [WINNERS], "scope", { k: 1 }),
  ...option("ERR_TYPE", "scope", [null, 5, {}], [WINNERS], "scope", { k: 1 }),
  ...["relu", "breakTies"].flatMap((key) =>
    option("ERR_TYPE", key, [null, 0, 1, "true", {}], [WINNERS], key, { k: 1 }),
  ),
  ...option("ERR_TYPE", "boost", [null, 5, [], "x"], [WINNERS], "boost", { k: 1 }),
  ...option("ERR_VALUE", "boost", [{ duty: 1 }], [WINNERS], "boost", { k: 1 }),
  ...option("ERR_TYPE", "boost", [{}, { dutyCycle: [1, 2, 3] }], [WINNERS], "boost.dutyCycle", { k: 1 }),
  ...option("ERR_LENGTH", "boost", [{ dutyCycle: zeros(2), strength: 1 }], [WINNERS], "boost.dutyCycle", { k: 1 }),
  ...option("ERR_LENGTH", "boost", [{ dutyCycle: zeros(50), strength: 1 }], [WINNERS_IMAGE], "boost.dutyCycle", {
    k: 1,
  }),
  ...option("ERR_TYPE", "boost", [{ dutyCycle: zeros(3) }], [WINNERS], "boost.strength", { k: 1 }),
  ...option(
    "ERR_VALUE",
    "boost",
    [NaN, Infinity].map((strength) => ({ dutyCycle: zeros(3), strength })),
    [WINNERS],
    "boost.strength",
    { k: 1 },
  ),
  ...option("ERR_VALUE", "boost", [{ dutyCycle: zeros(3), strength: 1, target: NaN }], [WINNERS], "boost.target", {
    k: 1,
  }),
  ...option("ERR_VALUE", "output", ["lists", ""], [WINNERS, LINEAR, CONV, SPARSE_LINEAR, SPARSE_CONV], "output", {}),
  ...option("ERR_TYPE", "output", [null, 5, {}], [WINNERS, LINEAR, CONV, SPARSE_LINEAR, SPARSE_CONV], "output", {}),
  ...option("ERR_VALUE", "threshold", [-1, NaN, -Infinity], [TO_SPARSE]),
  ...option("ERR_TYPE", "threshold", [null, "1", 1n, {}], [TO_SPARSE]),
  ...option("ERR_VALUE", "layout", ["nchw", "nhwc", 5], [WINNERS, TO_SPARSE]),
  ...[WINNERS, TO_SPARSE].flatMap((call, i): Row[] => {
    const o = (out: unknown) => ({ ...(i === 0 ? { k: 1 } : {}), out }) as never;
    return [
      ...[null, 5, {}, zeros(6)].map((out): Row => ["ERR_TYPE", "out", (f) => call(f, o(out)), describe(out)]),
      ["ERR_TYPE", "out", (f) => call(f, o(f.flat))],
      ["ERR_DISPOSED", "out", (f) => call(f, o(f.goneSparse))],
      ["ERR_ENGINE", "out", (f) => call(f, o(f.otherSparse))],
      ["ERR_SHAPE", "out", (f) => call(f, o(f.sparseImage))],
    ];
  }),
  ...(["kWinners", "toDense"] as const).flatMap((call): Row[] => {
    const to = ({ engine, x, sx }: Fixture, out: unknown) =>
      call === "kWinners" ? engine.kWinners(x, { k: 1, output: "dense", out } as never) : sx.toDense({ out } as never);
    return [
      ...[null, 5, {}, zeros(6)].map((out): Row => ["ERR_TYPE", "out", (f) => to(f, out), `${call} ${describe(out)}`]),
      ["ERR_TYPE", "out", (f) => to(f, f.sx), `${call} densely into lists`],
      ["ERR_DISPOSED", "out", (f) => to(f, f.goneTensor), `${call} into a disposed out`],
      ["ERR_ENGINE", "out", (f) => to(f, f.otherTensor), `${call} into another engine's out`],
      ["ERR_SHAPE", "out", (f) => to(f, f.image), `${call} into an out of another shape`],
    ];
  }),
  ["ERR_VALUE", "options", ({ sx }) => sx.toDense({ into: 1 } as never)],
  ["ERR_TYPE", "options", ({ sx }) => sx.toDense(5 as never)],
  ["ERR_VALUE", "out", ({ engine, x, w }) => engine.linear(x, w, { output: "sparse", out: x } as never)],
  ["ERR_SHAPE", "x", ({ engine }) => engine.kWinners(like(), { k: 1 })],
  ["ERR_SHAPE", "x", ({ engine }) => engine.toSparse(like())],
]);

table("sparse inputs", [
  ["ERR_DISPOSED", "x", ({ engine, goneSparse, w }) => engine.linear(goneSparse, w)],
  ["ERR_DISPOSED", "x", ({ engine, goneSparse, k }) => engine.conv2d(goneSparse, k)],
  ["ERR_DISPOSED", "x", ({ engine, goneSparse }) => engine.maxPool2d(goneSparse, { kernel: 2 })],
  ["ERR_DISPOSED", "x", ({ engine, goneSparse, w }) => engine.explain("linear", goneSparse, w)],
  ["ERR_DISPOSED", "tensor", ({ goneSparse }) => goneSparse.toDense()],
  ["ERR_ENGINE", "x", ({ engine, otherSparse, w }) => engine.linear(otherSparse, w)],
  ["ERR_ENGINE", "x", ({ engine, otherSparse, k }) => engine.conv2d(otherSparse, k)],
  ["ERR_ENGINE", "x", ({ engine, otherSparse }) => engine.maxPool2d(otherSparse, { kernel: 2 })],
  ["ERR_ENGINE", "x", ({ engine, otherSparse, w }) => engine.explain("linear", otherSparse, w)],
  ["ERR_SHAPE", "x", ({ engine, sparseImage, w }) => engine.linear(sparseImage, w)],
  ["ERR_SHAPE", "x", ({ engine, sx, k }) => engine.conv2d(sx, k)],
  ["ERR_SHAPE", "x", ({ engine, sparseImage, k }) => engine.conv2d(sparseImage, k, { layout: "nhwc" })],
  ["ERR_SHAPE", "x", ({ engine, sparseImage, k }) => engine.conv2d(sparseImage, k, { groups: 2 })],
  ["ERR_SHAPE", "x", ({ engine, sparseImage, k }) => engine.conv2d(sparseImage, k, { dilation: 3 })],
  ["ERR_SHAPE", "result", ({ engine, sparseImage, k }) => engine.conv2d(sparseImage, k, { padding: 2 ** 29 })],
  [
    "ERR_SHAPE",
    "result",
    ({ engine, sparseImage, k }) => engine.explain("conv2d", sparseImage, k, { padding: 2 ** 29 }),
  ],
  ["ERR_SHAPE", "x", ({ engine, sx }) => engine.maxPool2d(sx, { kernel: 2 })],
  ["ERR_SHAPE", "x", ({ engine, sparseImage }) => engine.maxPool2d(sparseImage, { kernel: 2, layout: "nhwc" })],
  [
    "ERR_VALUE",
    "out",
    ({ engine, sparseImage, image }) => engine.maxPool2d(sparseImage, { kernel: 2, out: image } as never),
  ],
  ["ERR_TYPE", "kernel", ({ engine, sparseImage }) => engine.maxPool2d(sparseImage, undefined as never)],
  // Whatever else takes a tensor takes no lists.
  ["ERR_TYPE", "b", ({ engine, w, sx }) => engine.matmul(w, sx as never)],
  ["ERR_TYPE", "x", ({ engine, sx }) => engine.relu(sx as never)],
  ["ERR_TYPE", "x", ({ engine, sx }) => engine.sigmoid(sx as never)],
  ["ERR_TYPE", "x", ({ engine, sparseImage }) => engine.globalAvgPool2d(sparseImage as never)],
  ["ERR_TYPE", "x", ({ engine, sparseImage }) => engine.avgPool2d(sparseImage as never, { kernel: 2 })],
  ["ERR_TYPE", "residual", ({ engine, x, w, sx }) => engine.linear(x, w, { residual: sx as never })],
  ["ERR_TYPE", "out", ({ engine, x, w, sx }) => engine.linear(x, w, { out: sx as never })],
  ["ERR_TYPE", "bias", ({ engine, x, w, sx }) => engine.linear(x, w, { bias: sx as never })],
]);

table("explain", [
  ...rows("ERR_VALUE", "op", ["gemm", "relu", "", "LINEAR"], ({ engine, x, w }, op) => engine.explain(op, x, w)),
  ...rows("ERR_TYPE", "op", [undefined, null, 5, {}, Symbol("s")], ({ engine, x, w }, op) => engine.explain(op, x, w)),
  ["ERR_SHAPE", "x", ({ engine, w }) => engine.explain("linear", like(2, 4), w)],
  ["ERR_SHAPE", "b", ({ engine, w }) => engine.explain("matmul", w, like(2, 4))],
  ["ERR_SHAPE", "x", ({ engine, k }) => engine.explain("conv2d", like(1, 2, 2, 2), k)],
]);

table("what was disposed", [
  ["ERR_DISPOSED", "tensor", ({ goneTensor }) => goneTensor.data],
  ["ERR_DISPOSED", "tensor", ({ goneTensor }) => goneTensor.toArray()],
  ["ERR_DISPOSED", "tensor", ({ goneTensor }) => goneTensor.reshape([6])],
  ["ERR_DISPOSED", "w", ({ goneWeight }) => goneWeight.toDense()],
  ["ERR_DISPOSED", "w", ({ goneWeight }) => goneWeight.update(zeros(9))],
]);

test("a shape without elements costs nothing, however large its other dimension", () =>
  withFixture(({ engine }) => {
    const failures: string[] = [];
    for (const [shape, o] of [
      [[2 ** 40, 0], { format: "csr" }],
      [[2 ** 28, 0], { layout: "io" }],
      [[1, 1, 2 ** 28, 0], { layout: "hwio" }],
    ] as const) {
      const start = performance.now();
      const label = `pack [${shape}] ${JSON.stringify(o)}`;
      try {
        engine.pack(zeros(0), [...shape], o).dispose();
      } catch (error) {
        const { code } = error as { code?: string };
        if (code !== "ERR_SHAPE") failures.push(`${label}: ${error} (${code})`);
      }
      const ms = performance.now() - start;
      if (ms > 500) failures.push(`${label}: ${ms.toFixed()} ms`);
    }
    report(failures, 3);
  }));

test("an array that was transferred has no elements, wherever it comes", () =>
  withFixture(({ engine }) => {
    const gone = <A extends Float32Array | Uint8Array>(array: A): A => {
      structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
      return array;
    };
    const file = engine.pack(zeros(4), [2, 2]).serialize();
    const before = engine.stats().bytesInUse;
    const none = () => gone(zeros(4));
    const empty = () => ({ data: none(), shape: [0, 4] });
    const w = engine.pack(zeros(0), [0, 4]);
    const calls: [string | undefined, (() => unknown)[]][] = [
      ["ERR_FORMAT", [() => engine.deserialize(gone(file.slice())), () => readSafetensors(gone(file.slice()).buffer)]],
      ["ERR_LENGTH", [() => engine.tensor(none(), [4]), () => engine.pack(none(), [2, 2])]],
      [
        undefined,
        [
          () => engine.tensor(none(), [0]).dispose(),
          () => engine.pack(none(), [0, 4]).dispose(),
          () => w.update(none()),
          () => engine.relu(empty()).dispose(),
          () => engine.softmax(empty()).dispose(),
          () => engine.linear(empty(), w, { bias: none() }).dispose(),
          () => engine.toSparse(empty()).dispose(),
          () => engine.kWinners(empty(), { k: 1 }).dispose(),
          () => engine.sparseTensor({ indices: [], values: none() }, [1, 4]).dispose(),
          () => detect(none(), [0, 4]),
          () => check(none(), [0, 4], "2:4"),
          () => prune(none(), [0, 4], "2:4"),
          () => writeSafetensors({ a: { shape: [0], data: none() } }),
        ],
      ],
    ];
    for (const [expected, runs] of calls) {
      for (const run of runs) assert.is(codeOf(run), expected, run.toString());
    }
    w.dispose();
    assert.is(engine.stats().bytesInUse, before);
  }));

test("options that are a class's getters, and getters that dispose of what the call reads", () =>
  withFixture(({ engine }) => {
    class Relu {
      get activation() {
        return "relu" as const;
      }
    }
    class Nhwc {
      get layout() {
        return "nhwc" as const;
      }
      get output() {
        return "sparse" as const;
      }
    }
    const square = engine.pack(new Float32Array([1, 0, 0, -1]), [2, 2]);
    const x = engine.tensor(new Float32Array([3, 8]), [1, 2]);
    assert.equal([...engine.linear(x, square, new Relu()).data], [3, 0]);
    assert.equal([...engine.linear(x, square, Object.assign(new Relu(), { output: "dense" as const })).data], [3, 0]);
    const point = engine.pack(new Float32Array([1, 1]), [1, 2, 1, 1]);
    const image = { data: new Float32Array([1, 2, 3, 4]), shape: [1, 2, 1, 2] };
    assert.equal(engine.conv2d(image, point, new Nhwc()).shape, [1, 2, 1, 1]);
    const winners = Object.assign(Object.create({ k: 1 }), { output: "dense" as const });
    assert.equal([...engine.kWinners(x, winners).data], [0, 8]);

    for (const warm of [true, false]) {
      const w = engine.pack(
        zeros(64 * 256).map((_, i) => (i % 3 ? 0 : 1)),
        [64, 256],
        { format: "csr" },
      );
      const rows = engine.tensor(zeros(8 * 256), [8, 256]);
      if (warm) engine.linear(rows, w).dispose();
      const before = engine.stats();
      const bias = {
        get bias() {
          w.dispose();
          return undefined;
        },
      };
      assert.is(
        codeOf(() => engine.linear(rows, w, bias)),
        "ERR_DISPOSED",
      );
      assert.ok(engine.stats().bytesInUse <= before.bytesInUse);
      assert.is(engine.stats().weights, before.weights - 1);
      const threshold = {
        get threshold() {
          rows.dispose();
          return 0;
        },
      };
      const { tensors } = engine.stats();
      assert.is(
        codeOf(() => engine.toSparse(rows, threshold)),
        "ERR_DISPOSED",
      );
      assert.is(engine.stats().tensors, tensors - 1);
    }
  }));

test("getters that make tensors, dispose, or answer otherwise the second time", async () => {
  const engine = await createEngine({ maxMemory: 2 ** 20 });
  const w = engine.pack(new Float32Array([1]), [1, 1, 1, 1], { format: "csr" });
  const x = engine.tensor(zeros(64), [1, 1, 8, 8]);
  const made: Tensor[] = [];
  const make = () => {
    for (let i = 0; i < 50; i++) made.push(engine.tensor(zeros(100).fill(7), [100]));
  };
  let reads = 0;
  const pooling = {
    kernel: 2,
    get countIncludePad() {
      if (++reads > 1) make();
      return true;
    },
  };
  engine.avgPool2d(x, pooling).dispose();
  reads = 0;
  const layout = {
    output: "sparse" as const,
    get layout() {
      if (++reads < 2) return "nchw" as const;
      w.dispose();
      make();
      return "bogus" as never;
    },
  };
  codeOf(() => engine.conv2d(x, w, layout));
  make();
  assert.ok(made.every(({ data }) => data.every((v) => v === 7)));
  engine.dispose();
});

test("an error names what came, briefly, whatever it is", () =>
  withFixture(({ engine }) => {
    for (const value of [
      "x".repeat(1e6),
      new Array(1e5).fill("y".repeat(100)),
      ["z".repeat(1e6)],
      zeros(1e5),
      { a: "b".repeat(1e6) },
    ]) {
      try {
        engine.tensor(value as never, [3]);
        assert.unreachable();
      } catch (error) {
        const { message } = error as Error;
        assert.ok(message.length < 500, `a message of ${message.length} characters: ${message.slice(0, 60)}…`);
      }
    }
  }));

test("createEngine", async () => {
  const empty = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
  const list: [code: RegExp, argument: string, options: unknown][] = [
    ...[null, 5, "simd128", [], () => 1].map((o): [RegExp, string, unknown] => [/^ERR_TYPE$/, "options", o]),
    [/^ERR_VALUE$/, "options", { memory: 1 }],
    [/^ERR_VALUE$/, "options", { SIMD: "auto" }],
    ...["avx", "", "SIMD128"].map((simd): [RegExp, string, unknown] => [/^ERR_VALUE$/, "simd", { simd }]),
    ...[5, null, {}, Symbol("s"), true].map((simd): [RegExp, string, unknown] => [/^ERR_TYPE$/, "simd", { simd }]),
    ...[0, -1, 65535, 1e5 + 0.5, NaN, Infinity, 2 ** 33].map((maxMemory): [RegExp, string, unknown] => [
      /^ERR_VALUE$/,
      "maxMemory",
      { maxMemory },
    ]),
    ...["65536", null, {}, 65536n, Symbol("s")].map((maxMemory): [RegExp, string, unknown] => [
      /^ERR_TYPE$/,
      "maxMemory",
      { maxMemory },
    ]),
    ...[null, 5, "x", {}, [], true, Symbol("s"), Promise.resolve(5)].map((wasm): [RegExp, string, unknown] => [
      /^ERR_TYPE$/,
      "wasm",
      { wasm },
    ]),
    // Bytes that are no module, and modules that are not the build's.
    ...[zeros(0), zeros(4), new Uint8Array([0, 97, 115, 109]), empty, new WebAssembly.Module(empty)].map(
      (wasm): [RegExp, string, unknown] => [/^ERR_(FORMAT|VALUE)$/, "wasm", { wasm }],
    ),
  ];
  // Tables of costs: each row breaks one thing.
  const table = costsWith(() => [1, 1]).simd128 as object;
  const broken: [code: RegExp, argument: string, costs: unknown][] = [
    ...[null, 5, "fast", [], () => 1, 1n].map((costs): [RegExp, string, unknown] => [/^ERR_TYPE$/, "costs", costs]),
    [/^ERR_VALUE$/, "costs", { simd: table }],
    // Also in the table of a build that this host does not run.
    ...(["simd128", "relaxed"] as const).flatMap((build) => [
      ...[null, 5, "fast", [table]].map((wrong): [RegExp, string, unknown] => [
        /^ERR_TYPE$/,
        `costs.${build}`,
        { [build]: wrong },
      ]),
      ...(
        [
          [/^ERR_VALUE$/, "", { speed: 1 }],
          ...["call", "transpose", "copy"].flatMap((key) => [
            ...[-1, NaN, Infinity, 2e9].map((v) => [/^ERR_VALUE$/, `.${key}`, { [key]: v }]),
            ...[undefined, null, "1", 1n, [1]].map((v) => [/^ERR_TYPE$/, `.${key}`, { [key]: v }]),
          ]),
          ...[undefined, null, 5, "x", {}].map((weights) => [/^ERR_TYPE$/, ".weights", { weights }]),
          ...[
            [],
            [5],
            [null],
            [[]],
            [[1]],
            [[1, 2, 3]],
            [[1, -1]],
            [["1", 1]],
            [[1, "1"]],
            [[1, NaN]],
            [[1, 1], []],
          ].map((weights) => [/^ERR_VALUE$/, ".weights", { weights }]),
          [/^ERR_VALUE$/, ".weights", { weights: [[Symbol("s"), 1n]] }],
          ...[undefined, null, 5, "x", []].map((kernels) => [/^ERR_TYPE$/, ".kernels", { kernels }]),
          ...[null, 5, [], [1], [1, 2, 3], [-1, 1], [1, NaN], [Infinity, 1], [1, 2e9], ["1", 1], [1n, 1], {}].map(
            (pair) => [/^ERR_VALUE$/, ".kernels.f32_csr_spmv", { kernels: { f32_csr_spmv: pair } }],
          ),
        ] as [RegExp, string, object][]
      ).map(([code, field, wrong]): [RegExp, string, unknown] => [
        code,
        `costs.${build}${field}`,
        { [build]: { ...table, ...wrong } },
      ]),
    ]),
  ];
  list.push(...broken.map(([code, name, costs]): [RegExp, string, unknown] => [code, name, { costs }]));
  if (!supports("relaxed")) list.push([/^ERR_UNSUPPORTED$/, "simd", { simd: "relaxed" }]);
  const failures: string[] = [];
  for (const [code, argument, options] of list) {
    const label = `createEngine(${describe(options)})`;
    const error = await createEngine(options as EngineOptions).then(
      (engine) => {
        engine.dispose();
        return undefined;
      },
      (reason: Error & { code?: string }) => reason,
    );
    if (!error) failures.push(`${label} expected ${code.source}, got an engine`);
    else if (!code.test(error.code ?? "") || !error.message.startsWith(`"${argument}" expected`)) {
      failures.push(`${label} expected ${code.source} about "${argument}", got ${error} (${error.code})`);
    } else if (
      error instanceof TypeError !== (error.code === "ERR_TYPE") ||
      error instanceof RangeError !== (error.code !== "ERR_TYPE")
    ) {
      failures.push(`${label}: ${error.code} as a ${error.name}`);
    }
  }
  // What is left out keeps the shipped constants.
  for (const costs of [undefined, {}, { simd128: { ...table, kernels: {} } as never }, costsWith(() => [0, 0])]) {
    const engine = await createEngine({ costs, simd: "simd128" });
    assert.equal([...engine.linear(like(2, 3), engine.pack(zeros(9), [3, 3])).data], [0, 0, 0, 0, 0, 0]);
    engine.dispose();
  }
  report(failures, list.length);
});

const KEYS = [
  "bias",
  "activation",
  "residual",
  "out",
  "stride",
  "padding",
  "dilation",
  "groups",
  "layout",
  "kernel",
  "countIncludePad",
  "format",
  "forceKernel",
  "k",
  "fraction",
  "scope",
  "relu",
  "breakTies",
  "boost",
  "threshold",
  "output",
  "indices",
  "values",
  "indptr",
  "x",
];
const NAMES = [
  "none",
  "relu",
  "relu6",
  "same",
  "valid",
  "nchw",
  "nhwc",
  "auto",
  "dense",
  "csr",
  "io",
  "hwio",
  "linear",
  "matmul",
  "conv2d",
  "f32_csr_spmm_8",
  "f32_csr_spmv",
  "f32_block_spmm_2x1_4",
  "f32_dense_gemv",
  "f32_dense_depthwise",
  "f32_csr_spmspv",
  "global",
  "local",
  "sparse",
  "",
];
const SCALARS = [
  undefined,
  null,
  true,
  false,
  0,
  1,
  2,
  3,
  7,
  -1,
  0.5,
  NaN,
  Infinity,
  2 ** 20,
  2 ** 31 - 1,
  2 ** 31,
  1n,
  Symbol("s"),
];

test("fuzz: any arguments work or are refused with a code", () =>
  withFixture((f) => {
    const { engine } = f;
    const rnd = random();
    const pick = <T>(list: readonly T[]): T => list[Math.floor(rnd() * list.length)];
    const own = [
      f.x,
      f.image,
      f.flat,
      engine.tensor(zeros(9), [3, 3]),
      engine.tensor(zeros(3), [3]),
      engine.tensor(zeros(0), [0, 3]),
      f.sx,
      f.sparseImage,
      engine.sparseTensor({ indices: [], values: zeros(0), indptr: [0] }, [0, 3]),
    ];
    const dense = engine.pack(zeros(9).fill(1), [3, 3], { format: "dense" });
    const weights = [
      f.w,
      f.k,
      f.dw,
      f.uneven,
      f.tapless,
      dense,
      engine.pack(zeros(36).fill(1), [2, 2, 3, 3], { format: "dense" }),
      ...FORMATS.filter((_, i) => i % 3 === 0).flatMap((format) => [
        engine.pack(weightsFor(format, 3, 3, 0.3, rnd), [3, 3], { format }),
        engine.pack(weightsFor(format, 2, 8, 0.3, rnd), [2, 2, 2, 2], { format }),
      ]),
    ];
    const shape = (): unknown => {
      const dims: unknown[] = Array.from({ length: Math.floor(rnd() * 5) }, () => pick([0, 1, 2, 3, 5]));
      // Not beside a zero: shapes of no elements and huge dimensions have a test of their own.
      if (dims.length && rnd() < 0.1)
        dims[0] = rnd() < 0.5 ? pick(SCALARS.filter((v) => v !== 2 ** 20)) : pick([[], "2", {}]);
      return dims.includes(0) ? dims.map((d) => (typeof d === "number" && d > 100 ? 4 : d)) : dims;
    };
    const data = (n = pick([0, 1, 3, 6, 9])): unknown =>
      rnd() < 0.9 ? values(n, 0.3, rnd) : pick<unknown>([new Float64Array(n), [1, 2], new ArrayBuffer(8), null]);
    const tensorLike = (): unknown => {
      const dims = shape();
      const fits = Array.isArray(dims) && dims.every((d) => typeof d === "number" && d >= 0 && d < 100);
      return {
        data: data(fits && rnd() < 0.9 ? sizeOf(dims as number[]) : undefined),
        [pick(["shape", "shape", "dims"])]: dims,
      };
    };
    const scalar = (): unknown => (rnd() < 0.5 ? pick(SCALARS) : pick([1, 2, 3]));
    const format = (): unknown =>
      rnd() < 0.5
        ? pick([...ANY_MATRIX, ...FORMATS])
        : {
            kind: pick(["block", "nm", "complementary", "", 5]),
            [pick(["rows", "n", "overlay"])]: scalar(),
            [pick(["cols", "m", "blockRows", "x"])]: scalar(),
          };
    const anything = (depth = 0): unknown =>
      pick<() => unknown>([
        scalar,
        () => pick(NAMES),
        shape,
        data,
        tensorLike,
        () => pick(own),
        () => pick(weights),
        () => pick([f.goneTensor, f.otherTensor, f.goneWeight, f.otherWeight, f.goneSparse, f.otherSparse]),
        () => Array.from({ length: pick([1, 2, 2, 4]) }, scalar),
        () => ({ min: scalar(), max: scalar() }),
        format,
        () => pick([new Date(0), Object.create(null), () => 1, new Map(), /x/]),
        () => (depth < 2 ? options(depth + 1) : {}),
      ])();
    const options = (depth = 0): unknown => {
      if (rnd() < 0.1) return anything(2);
      const o: Record<string, unknown> = {};
      for (let i = Math.floor(rnd() * 4); i > 0; i--) o[pick(KEYS)] = anything(depth + 1);
      // Pools need one, and half of the time it should fit.
      if (rnd() < 0.3) o.kernel = pick([1, 2, 3, [1, 2]]);
      if (rnd() < 0.1) o.format = format();
      if (rnd() < 0.1) o.forceKernel = pick(KERNELS).name;
      return o;
    };
    const x = (): unknown => (rnd() < 0.7 ? pick<() => unknown>([() => pick(own), tensorLike])() : anything());
    const w = (): unknown => (rnd() < 0.8 ? pick(weights) : anything());
    const o = (): unknown => (rnd() < 0.5 ? undefined : options());
    const lists = (): unknown => ({
      indices: pick<unknown>([[], [0], [1], [0, 1], [1, 0], [7], [-1], zeros(1), anything()]),
      values: pick<unknown>([zeros(0), zeros(1), zeros(2), anything()]),
      ...(rnd() < 0.5 ? { indptr: pick<unknown>([[0], [0, 1], [0, 0, 1], [0, 1, 2], anything()]) } : {}),
    });
    // Methods by name with an argument maker for each parameter.
    const methods: [target: object, name: string, args: (() => unknown)[]][] = [
      [engine, "tensor", [data, shape]],
      [engine, "pack", [data, shape, o]],
      [engine, "linear", [x, w, o]],
      [engine, "matmul", [x, w, o]],
      [engine, "matmul", [w, x, o]],
      [engine, "conv2d", [x, w, o]],
      [engine, "maxPool2d", [x, o]],
      [engine, "avgPool2d", [x, o]],
      [engine, "globalAvgPool2d", [x, o]],
      [engine, "add", [x, x, o]],
      [engine, "mul", [x, x, o]],
      [engine, "relu", [x, o]],
      [engine, "sigmoid", [x, o]],
      [engine, "tanh", [x, o]],
      [engine, "softmax", [x, o]],
      [engine, "kWinners", [x, () => (rnd() < 0.5 ? { k: pick([0, 1, 2, 9]), ...(options(1) as object) } : o())]],
      [engine, "toSparse", [x, o]],
      [engine, "sparseTensor", [lists, shape, o]],
      [engine, "explain", [() => pick(NAMES), x, w, o]],
      [f.x, "reshape", [shape]],
      [dense, "update", [data]],
      [f.w, "update", [data]],
    ];
    const before = engine.stats();
    let worked = 0;
    const CALLS = 6000;
    for (let i = 0; i < CALLS; i++) {
      const [target, name, makers] = pick(methods);
      const args = makers.map((make) => (rnd() < 0.95 ? make() : anything()));
      const label = `call ${i} (seed ${seed}), ${name}(${args.map(safe).join(", ")})`;
      try {
        const method = (target as Record<string, (...args: unknown[]) => unknown>)[name];
        const result = method.apply(target, args) as { dispose?: () => void } | undefined;
        worked++;
        if (result?.dispose && !own.includes(result as Tensor | SparseTensor)) result.dispose();
      } catch (error) {
        const { code } = error as { code?: unknown };
        const coded = typeof code === "string" && /^ERR_[A-Z]+$/.test(code);
        const type = code === "ERR_TYPE" ? TypeError : RangeError;
        if (!coded || !(error instanceof type)) throw new Error(`${label}: ${error} (${String(code)})`);
      }
      const { tensors, weights: packed, bytesReserved } = engine.stats();
      assert.is(tensors, before.tensors, `${label}: tensors`);
      assert.is(packed, before.weights, `${label}: weights`);
      assert.ok(bytesReserved < 2 ** 28, `${label}: reserved ${bytesReserved} bytes`);
    }
    assert.ok(worked > CALLS / 20, `only ${worked} of ${CALLS} calls got through: the fuzz tests too little`);
    // Weights keep streams for the shapes they met; with their owners all is given back.
    for (const owner of [...own, ...weights]) owner.dispose();
    const { bytesInUse, tensors, weights: left } = engine.stats();
    assert.equal({ bytesInUse, tensors, left }, { bytesInUse: 0, tensors: 0, left: 0 });
    const y = engine.linear(like(2, 3), engine.pack(zeros(9).fill(1), [3, 3]), { bias: zeros(3).fill(2) });
    assert.equal([...y.data], [2, 2, 2, 2, 2, 2]);
  }));

/** A label for whatever it is. */
function safe(value: unknown): string {
  try {
    return value === undefined || value === null || ArrayBuffer.isView(value) || typeof value !== "object"
      ? describe(value)
      : "shape" in value && "engine" in value
        ? `${value.constructor.name}[${value.shape}]`
        : describe(value);
  } catch {
    return typeof value;
  }
}

test.run();
