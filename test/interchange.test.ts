// Weights from and to other libraries' arrays, and packed weights in files: what comes back is the same bit for bit, what is
// wrong is refused by name, and nothing that a file claims makes the engine crash or keep memory.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatName } from "../bindings/formats/format.js";
import {
  createEngine,
  type Engine,
  type Format,
  type IndexArray,
  inspect,
  type PackedWeight,
  readSafetensors,
  type SafetensorsEntry,
  type SafetensorsInput,
  serialize,
  type Tensor,
  writeSafetensors,
} from "../bindings/index.js";
import { prune } from "../bindings/patterns.js";
import {
  close,
  FORMATS,
  linearOracle,
  placesOf,
  random,
  refuses,
  sameBits,
  seed,
  sizeOf,
  values,
  weightsFor,
} from "./oracle.js";

const test = suite("interchange");
const engine = await createEngine();
const rnd = random();

/** Runs a property; its failures come with the path to repeat them. */
const holds = <T>(arbitrary: fc.Arbitrary<T>, predicate: (value: T) => void, numRuns = 150): void =>
  fc.assert(fc.property(arbitrary, predicate), { seed: seed | 0, numRuns });

const f32 = (...numbers: number[]): Float32Array => new Float32Array(numbers);

/** The arrays of every kind that IndexArray allows. */
const INDEX_KINDS: ((from: number[]) => IndexArray)[] = [
  (a) => a,
  (a) => Int32Array.from(a),
  (a) => Uint32Array.from(a),
  (a) => Uint16Array.from(a),
  (a) => BigInt64Array.from(a, BigInt),
  (a) => BigUint64Array.from(a, BigInt),
];

/** Rows of blocks at random columns in random order, some of their numbers 0; and the dense matrix that they say. */
function anyBlocks(rows: number, cols: number, r: number, c: number, density: number) {
  const [blockRows, blockCols] = [Math.ceil(rows / r), Math.ceil(cols / c)];
  const indptr = [0];
  const indices: number[] = [];
  const data: number[] = [];
  const dense = new Float32Array(rows * cols);
  const stored = new Uint8Array(rows * cols);
  for (let b = 0; b < blockRows; b++) {
    const columns = Array.from({ length: blockCols }, (_, i) => i).filter(() => rnd() < density);
    for (let i = columns.length - 1; i > 0; i--) {
      const j = Math.floor(rnd() * (i + 1));
      [columns[i], columns[j]] = [columns[j], columns[i]];
    }
    for (const column of columns) {
      indices.push(column);
      for (let i = 0; i < r; i++) {
        for (let k = 0; k < c; k++) {
          const [row, col] = [b * r + i, column * c + k];
          const inside = row < rows && col < cols;
          const v = inside && rnd() < 0.9 ? Math.fround(rnd() * 2 - 1) : 0;
          data.push(v);
          if (!inside) continue;
          dense[row * cols + col] = v;
          stored[row * cols + col] = 1;
        }
      }
    }
    indptr.push(indices.length);
  }
  return { data: new Float32Array(data), indices, indptr, dense, stored };
}

/** y of a few rows of x, whatever kernel runs them. */
function products(e: Engine, w: PackedWeight): Float32Array[] {
  const x = (shape: number[], from: number) => ({ data: values(sizeOf(shape), 0, random(from)), shape });
  const taken = (y: Tensor) => {
    const copy = y.toArray();
    y.dispose();
    return copy;
  };
  if (w.shape.length === 2) return [1, 5, 40].map((rows) => taken(e.linear(x([rows, w.shape[1]], rows), w)));
  const [, channels, kh, kw] = w.shape;
  return [taken(e.conv2d(x([1, channels, kh + 4, kw + 3], 7), w))];
}

test("fromCsr takes what SciPy 1.17 has in .data, .indices and .indptr", () => {
  // csr_array([[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 3, 4]]), int32.
  const w = engine.fromCsr(f32(2, 1, 3, 4), Int32Array.of(1, 0, 2, 3), Int32Array.of(0, 1, 1, 4), [3, 4]);
  assert.is(w.format, "csr");
  assert.is(w.nnz, 4);
  sameBits(w.toDense(), f32(0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 3, 4), "csr");
  // bsr_array of kron([[1, 0], [0, 2]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]) in 3 x 3.
  const nine = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const b = engine.fromBsr(f32(...nine, ...nine.map((v) => 2 * v)), [0, 1], [0, 1, 2], [6, 6], [3, 3]);
  assert.is(b.format, "csr");
  const dense = new Float32Array(36);
  for (let i = 0; i < 9; i++) {
    dense[Math.floor(i / 3) * 6 + (i % 3)] = i + 1;
    dense[(3 + Math.floor(i / 3)) * 6 + 3 + (i % 3)] = 2 * (i + 1);
  }
  sameBits(b.toDense(), dense, "bsr");
  for (const x of [w, b]) {
    assert.not.ok(x.explain().reason === "");
    x.dispose();
  }
});

test("fromCsr: any order, any integers, stored zeros stay, the user's arrays stay the user's", () => {
  const sizes = fc.record({
    rows: fc.nat(20),
    cols: fc.nat(40),
    density: fc.constantFrom(0, 0.1, 0.5, 1),
    kind: fc.nat(5),
  });
  holds(sizes, ({ rows, cols, density, kind }) => {
    const { data, indices, indptr, dense, stored } = anyBlocks(rows, cols, 1, 1, density);
    const before = data.slice();
    const given = INDEX_KINDS[kind](indices);
    const w = engine.fromCsr(data, given, INDEX_KINDS[kind](indptr), [rows, cols]);
    sameBits(data, before, "the user's data");
    assert.equal(Array.from(given, Number), indices);
    data.fill(7);
    sameBits(w.toDense(), dense, "toDense");
    sameBits(placesOf(w), Float32Array.from(stored), "stored places");
    assert.is(w.matrix.data.length, indices.length);
    const x = values(3 * cols, 0, rnd);
    const y = engine.linear({ data: x, shape: [3, cols] }, w);
    close(y.toArray(), linearOracle(x, dense, 3, cols, rows), "linear");
    y.dispose();
    const csr = w.toCsr();
    assert.equal(csr.shape, [rows, cols]);
    assert.equal(Array.from(csr.indptr), indptr);
    assert.instance(csr.indices, Int32Array);
    assert.instance(csr.indptr, Int32Array);
    csr.data.fill(9);
    sameBits(w.toDense(), dense, "toCsr gives copies");
    w.dispose();
  });
});

test("fromCsr with the shape of a convolution", () => {
  const { data, indices, indptr, dense } = anyBlocks(6, 3 * 9, 1, 1, 0.4);
  const w = engine.fromCsr(data, indices, indptr, [6, 3, 3, 3]);
  const packed = engine.pack(dense, [6, 3, 3, 3], { format: "csr" });
  assert.equal(w.shape, [6, 3, 3, 3]);
  products(engine, w).forEach((y, i) => sameBits(y, products(engine, packed)[i], "conv2d"));
  w.dispose();
  packed.dispose();
});

test("fromBsr: any block, cut to the largest that kernels know, edges ragged", () => {
  const sizes = fc.record({
    rows: fc.nat(40),
    cols: fc.nat(40),
    r: fc.constantFrom(1, 2, 3, 4, 5, 6, 8, 12, 16, 32),
    c: fc.constantFrom(1, 2, 3, 4, 5, 6, 8, 16),
    density: fc.constantFrom(0, 0.2, 0.6, 1),
  });
  const largest = (of: number[], size: number) => Math.max(...of.filter((d) => size % d === 0));
  holds(sizes, ({ rows, cols, r, c, density }) => {
    const { data, indices, indptr, dense, stored } = anyBlocks(rows, cols, r, c, density);
    const w = engine.fromBsr(data, indices, indptr, [rows, cols], [r, c]);
    const [high, wide] = [largest([1, 2, 4, 8], r), largest([1, 2, 4], c)];
    assert.equal(w.format, high * wide === 1 ? "csr" : { kind: "block", rows: high, cols: wide });
    sameBits(w.toDense(), dense, "toDense");
    sameBits(placesOf(w), Float32Array.from(stored), "stored places");
    const x = values(2 * cols, 0, rnd);
    const y = engine.linear({ data: x, shape: [2, cols] }, w);
    close(y.toArray(), linearOracle(x, dense, 2, cols, rows), "linear");
    y.dispose();
    w.dispose();
  });
});

test("fromNm: positions in any order, a last group that is cut", () => {
  const sizes = fc
    .record({ rows: fc.nat(8), cols: fc.nat(70), m: fc.constantFrom(2, 3, 4, 8, 16, 17, 300), kind: fc.nat(5) })
    .chain((o) => fc.record({ o: fc.constant(o), n: fc.integer({ min: 1, max: o.m }) }));
  holds(sizes, ({ o: { rows, cols, m, kind }, n }) => {
    const dense = new Float32Array(rows * cols);
    const [given, indices]: number[][] = [[], []];
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c += m) {
        const free = Array.from({ length: Math.min(m, cols - c) }, (_, i) => i);
        for (let i = Math.min(n, free.length); i > 0; i--) {
          const [p] = free.splice(Math.floor(rnd() * free.length), 1);
          const v = rnd() < 0.1 ? 0 : Math.fround(rnd() - 0.5);
          dense[r * cols + c + p] = v;
          given.push(v);
          indices.push(p);
        }
      }
    }
    const w = engine.fromNm(f32(...given), INDEX_KINDS[kind](indices), [rows, cols], { n, m });
    assert.equal(w.format, { kind: "nm", n, m });
    sameBits(w.toDense(), dense, "toDense");
    w.dispose();
  });
});

/**
 * What sparse_semi_structured_from_dense_cutlass (torch/sparse/_semi_structured_conversions.py of PyTorch) makes of the matrices
 * below, computed by a transcription of it to NumPy; little-endian words in base64.
 */
const CUTLASS = {
  /** float16 [64, 64]: int16 [64, 4]. */
  half:
    "3IzexJzoRNjone3oxIzt3O3cnpydjsTM6YiI3MiOiITMyI2ZnulMjO6U1NyI2I5EjkTJzshIROzUne1IlN2EzsjO5E2ZzcmYyOiI" +
    "nI6djNnM3M7uSJiUSIhJyURO1I3kzYSY3uid2cTYTU3ezIjtTE2NnUScnp3txEiI6JhInc1Ejk2Njcjs6OTUTN7smJ6I2JiETOyJ" +
    "3c7OnO2JxIyETJzOTJyIjd6c7YnexNzk7o2IlEnd5E6E1MhJzpzdhI1E1JmEjI3t7uie6U6e7O7p7I6M6I7Inp1N7M3dzkzJSNyc" +
    "SezNnUlN3k3sSZjd2M7I1OmInp7Z3dRImNhM3kmYiE6JRISIjM3JnMzcTpzk7c1ElEnd1I7E6JiNnZlOnJTM5N2YnZSEzI3ojpTU" +
    "zpxOndTenOnuiYzchITEjZjk7tSI7M7IyelN5N3sjM7t2J2c3tmU3dSd2UxImOiM6ITcyU3dSOlOzZntiUjIzemdjE3cnehOiO3p" +
    "5MjU1M7t7N1NjohOiezd7knUjpzoTUTOztno1ITuSZ3pSc1E2O2dmU5EmM7MjJhMnu7snZlEnOTdjM5OjYmEyJTkjujM3e3pjI6d" +
    "3U2NyeRE2NlE7M3k7ZjMjuzt5JTo3pjoSJjt6OiEiZyO7p7Zjc2MTc1IzdnYzI3encSU7kTYTOSUntze2Z4=",
  /** float32 [32, 32]: int16 [32, 4]. */
  float:
    "ROROROTuRE7u5OTuROTkRORE7uTk7kRE7u7uRE7u7uRETuTu7u5E5O7kRETuTu5E7kROTk5ORORE5ORO5ETkTk5O5ETuRE7uTu7u" +
    "5O7k5E5ERE7uTu7kTu5OTkROROTkROTuTu7kTkRORERORO7kRETk5ETk7uTkRE7u7u5O5ERO7kTk7uRETuRERE7k5ORERORORETu" +
    "RO7u5OTuTuTkRORE7uTk5ETk7u7kRE7kTuRETuTu7u7kROTkROTu5O5E7uROTk7uRORE5ORO5E7k5E5O5ERE5E5ETu7u5O7kRE5E" +
    "RE7uTkTu5O5OTkTu5OREROTuTu7k7uRORERO5ORERA==",
  /** int8 [16, 128]: int32 [16, 4]. */
  int8:
    "3Iyc6N7ERNhOiYiMRITNye3cnY6enMTMRJTUjkndxOjMyJ7pjZlMjOTdlISYncyNjkTISMnOROzU3u6JnOmM3MjOmc3kTcmYiOzJ" +
    "6c7ITeTM3EiYzu6USN7Z1J2U3dlMzYTonZje2cRN3U7NSOmZ7U2NnJ6dRJ3t3J2I7ehO6eRE1MnslMzNTsyZTE7oydhEnczYncTe" +
    "SUyOiOyZTonu5OjJ2cyETJlNyJ6ZlJnsTEiEid7Y1E7o3szszNncmU2eiZxMRMRElN7JROzt7exEjZSI7M1N6ZnOTEmY3uiY5MTc" +
    "mN3YzZzkRNnNTpiJRNyd2Y2dTdicTt2IxM6MjsnY1A==",
};
const PAIRS = [
  [0, 1],
  [0, 2],
  [0, 3],
  [1, 2],
  [1, 3],
  [2, 3],
];

test("fromNm keeps a signalling NaN's bits, in any order of positions", () => {
  const values = new Float32Array(2);
  new Uint32Array(values.buffer).set([0x7f800001, 0xff800002]);
  const w = engine.fromNm(values, [3, 0], [1, 4], { n: 2, m: 4 });
  assert.equal([...new Uint32Array(w.toDense().buffer)], [0xff800002, 0, 0, 0x7f800001]);
  w.dispose();
});

test("fromNm reads the metadata of PyTorch's semi-structured tensors", () => {
  for (const [name, rows, cols, m] of [
    ["half", 64, 64, 4],
    ["float", 32, 32, 2],
    ["int8", 16, 128, 4],
  ] as const) {
    const dense = new Float32Array(rows * cols);
    const kept: number[] = [];
    for (let r = 0, n = 1; r < rows; r++) {
      for (let g = 0; g < cols / m; g++, n++) {
        const v = r * 131 + g * 31 + 7;
        const hash = Math.imul(Math.imul(v, v), 2654435761) >>> 16;
        const at = r * cols + g * m;
        if (m === 2) {
          dense[at + (hash % 2)] = n;
          kept.push(n);
        } else {
          const [a, b] = PAIRS[hash % 6];
          dense[at + a] = (n % 100) + 1;
          dense[at + b] = -(n % 100) - 1;
          kept.push((n % 100) + 1, -(n % 100) - 1);
        }
      }
    }
    const { buffer } = new Uint8Array(Buffer.from(CUTLASS[name], "base64"));
    const metadata = name === "int8" ? new Int32Array(buffer) : new Int16Array(buffer);
    const format = { n: m / 2, m, encoding: "cutlass" as const };
    const w = engine.fromNm(f32(...kept), metadata, [rows, cols], format);
    sameBits(w.toDense(), dense, name);
    assert.equal(w.format, { kind: "nm", n: m / 2, m });
    w.dispose();
    const unsigned = name === "int8" ? new Uint32Array(buffer) : new Uint16Array(buffer);
    const u = engine.fromNm(f32(...kept), unsigned, [rows, cols], format);
    sameBits(u.toDense(), dense, `${name} as unsigned words`);
    u.dispose();
  }
});

test("arrays that are wrong: the argument by name, nothing kept", () => {
  const csr = (data: unknown, indices: unknown, indptr: unknown, shape: unknown) => () =>
    engine.fromCsr(data as Float32Array, indices as number[], indptr as number[], shape as number[]);
  const bsr = (blockSize: unknown, data: unknown, indices: unknown, indptr: unknown, shape: unknown) => () =>
    engine.fromBsr(
      data as Float32Array,
      indices as number[],
      indptr as number[],
      shape as number[],
      blockSize as [1, 1],
    );
  const nm = (given: unknown, indices: unknown, shape: unknown, format: unknown) => () =>
    engine.fromNm(given as Float32Array, indices as number[], shape as number[], format as { n: 2; m: 4 });
  const words = (n: number) => new Int16Array(n).fill(0x4444);
  const cutlass = { n: 2, m: 4, encoding: "cutlass" };
  const cases: [() => unknown, string, RegExp][] = [
    [csr([1, 2], [0, 1], [0, 2], [1, 2]), "ERR_TYPE", /"data" expected a Float32Array/],
    [csr(new Float64Array(2), [0, 1], [0, 2], [1, 2]), "ERR_TYPE", /"data" expected a Float32Array, got Float64Array/],
    [csr(f32(1, 2), f32(0, 1), [0, 2], [1, 2]), "ERR_TYPE", /"indices" expected an array of integers/],
    [csr(f32(1, 2), "01", [0, 2], [1, 2]), "ERR_TYPE", /"indices" expected an array of integers/],
    [csr(f32(1, 2), [0, "1"], [0, 2], [1, 2]), "ERR_TYPE", /"indices" expected numbers, got "1" at 1/],
    [csr(f32(1, 2), new Array(2), [0, 2], [1, 2]), "ERR_TYPE", /"indices" expected numbers, got undefined at 0/],
    [csr(f32(1, 2), [0, 1], null, [1, 2]), "ERR_TYPE", /"indptr" expected an array of integers, got null/],
    [csr(f32(1, 2), [0, 1], [0, 2], 2), "ERR_TYPE", /"shape" expected an array/],
    [csr(f32(1, 2), [0, 1], [0, 2], [2]), "ERR_SHAPE", /"shape"/],
    [csr(f32(1, 2), [0, 1], [0, 2], [1, -2]), "ERR_SHAPE", /"shape"/],
    [csr(f32(1, 2), [0, 1], [0, 2], [2 ** 20, 2 ** 20]), "ERR_SHAPE", /"shape" expected at most/],
    [csr(f32(1, 2, 3), [0, 1], [0, 2], [1, 2]), "ERR_LENGTH", /"data" expected 2 elements, got 3/],
    [csr(f32(1, 2), [0, 1], [0, 2, 2], [1, 2]), "ERR_LENGTH", /"indptr" expected 2 elements, got 3/],
    [csr(f32(1), [0], [0, 1], [1, 0]), "ERR_LENGTH", /"indices" expected no elements/],
    [csr(f32(1, 2), [0, 512], [0, 2], [1, 512]), "ERR_VALUE", /"indices" expected values in 0..511, got 512 at 1$/],
    [csr(f32(1, 2), [-1, 0], [0, 2], [1, 2]), "ERR_VALUE", /"indices" expected values in 0..1, got -1 at 0/],
    [csr(f32(1, 2), [0, 0.5], [0, 2], [1, 2]), "ERR_VALUE", /"indices" expected values in 0..1, got 0.5 at 1/],
    [csr(f32(1, 2), [0, Number.NaN], [0, 2], [1, 2]), "ERR_VALUE", /"indices" .* got NaN at 1/],
    [csr(f32(1, 2), BigInt64Array.of(0n, 2n ** 32n), [0, 2], [1, 2]), "ERR_VALUE", /"indices" .* got 4294967296n at 1/],
    [
      csr(f32(1, 2), [0, 1], BigInt64Array.of(0n, -(2n ** 63n)), [1, 2]),
      "ERR_VALUE",
      /"indptr" expected values in 0..2/,
    ],
    [csr(f32(1, 2), [0, 1], [1, 2], [1, 2]), "ERR_VALUE", /"indptr" expected 0 first, got 1/],
    [csr(f32(1, 2), [0, 1], [0, 1], [1, 2]), "ERR_VALUE", /"indptr" expected 2 last, .* got 1/],
    [csr(f32(1, 2), [0, 1], [0, 2, 1], [2, 2]), "ERR_VALUE", /"indptr" expected values that do not fall, got 1 at 2/],
    [csr(f32(1, 2), [0, 1], [0, 3, 2], [2, 2]), "ERR_VALUE", /"indptr" expected values in 0..2, got 3 at 1/],
    [
      csr(f32(1, 2, 3), [2, 1, 2], [0, 0, 3], [2, 3]),
      "ERR_VALUE",
      /"indices" expected each column once .* got 2 twice in row 1/,
    ],
    [bsr(4, f32(), [], [0], [0, 2]), "ERR_TYPE", /"blockSize" expected \[rows, cols\], got 4/],
    [bsr([4], f32(), [], [0], [0, 2]), "ERR_SHAPE", /"blockSize"/],
    [bsr([4, 0], f32(), [], [0], [0, 2]), "ERR_VALUE", /"blockSize\[1\]" expected an integer of at least 1, got 0/],
    [bsr(["4", 1], f32(), [], [0], [0, 2]), "ERR_TYPE", /"blockSize\[0\]"/],
    [bsr([2, 2], f32(1, 2, 3), [0], [0, 1], [2, 2]), "ERR_LENGTH", /"data" expected 4 elements, got 3/],
    [bsr([2, 2], f32(1, 2, 3, 4), [1], [0, 1], [2, 2]), "ERR_VALUE", /"indices" expected values in 0..0, got 1 at 0/],
    [bsr([2, 2], f32(1, 2, 3, 4), [0], [0, 1], [1, 2]), "ERR_VALUE", /"data" expected zeros outside the matrix, got 3/],
    [bsr([2 ** 31 - 1, 2 ** 31 - 1], f32(1), [0], [0, 1], [1, 2]), "ERR_LENGTH", /"data"/],
    [nm(f32(1, 2), [0, 1], [1, 4], undefined), "ERR_TYPE", /"format" expected an object/],
    [nm(f32(1, 2), [0, 1], [1, 4], { n: 2 }), "ERR_TYPE", /"format.m" expected an integer/],
    [nm(f32(1, 2), [0, 1], [1, 4], { n: 5, m: 4 }), "ERR_VALUE", /"format.n" expected an integer in 1..4, got 5/],
    [
      nm(f32(1, 2), [0, 1], [1, 4], { n: 2, m: 4, kind: "nm" }),
      "ERR_VALUE",
      /"format" expected the keys n, m, encoding/,
    ],
    [nm(f32(1, 2), [0, 1], [1, 4], { n: 2, m: 4, encoding: "csl" }), "ERR_VALUE", /"format.encoding" expected one of/],
    [nm(f32(1, 2, 3), [0, 1, 2], [1, 4], { n: 2, m: 4 }), "ERR_LENGTH", /"values" expected 2 elements, got 3/],
    [
      nm(f32(1, 2), [0], [1, 4], { n: 2, m: 4 }),
      "ERR_LENGTH",
      /"indices" expected 2 elements, one for each value, got 1/,
    ],
    [nm(f32(1, 2), [0, 4], [1, 4], { n: 2, m: 4 }), "ERR_VALUE", /"indices" expected values in 0..3, got 4 at 1/],
    [
      nm(f32(1, 2), [3, 3], [1, 4], { n: 2, m: 4 }),
      "ERR_VALUE",
      /"indices" expected each position once .* got 3 twice at row 0/,
    ],
    [nm(f32(1, 2, 3), [0, 1, 2], [1, 6], { n: 2, m: 4 }), "ERR_LENGTH", /"values" expected 4 elements/],
    [
      nm(f32(1, 2, 3, 4), [0, 1, 0, 2], [1, 6], { n: 2, m: 4 }),
      "ERR_VALUE",
      /"indices" expected values in 0..1, got 2 at row 0/,
    ],
    [
      nm(new Float32Array(512), new Int8Array(512), [32, 32], cutlass),
      "ERR_TYPE",
      /"indices" expected an Int16Array or an Int32Array/,
    ],
    [
      nm(new Float32Array(256), words(64), [32, 32], { ...cutlass, n: 1 }),
      "ERR_VALUE",
      /"format" expected 2:4 or 1:2 .* 16 bits, got "1:4"/,
    ],
    [
      nm(f32(), new Int32Array(0), [0, 32], { ...cutlass, n: 1, m: 2 }),
      "ERR_VALUE",
      /"format" expected 2:4 for cutlass in 32 bits/,
    ],
    [
      nm(new Float32Array(256), words(32), [16, 32], cutlass),
      "ERR_SHAPE",
      /"shape" expected multiples of 32 rows and 32 columns/,
    ],
    [
      nm(new Float32Array(256), words(32), [32, 16], cutlass),
      "ERR_SHAPE",
      /"shape" expected multiples of 32 rows and 32 columns/,
    ],
    [
      nm(new Float32Array(512), words(63), [32, 32], cutlass),
      "ERR_LENGTH",
      /"indices" expected 64 elements of 16 bits, got 63/,
    ],
    [
      nm(new Float32Array(512), words(64).fill(0), [32, 32], cutlass),
      "ERR_VALUE",
      /"indices" expected each position once/,
    ],
    [
      nm(new Float32Array(512), words(128).fill(0x4445), [32, 32], { ...cutlass, n: 1, m: 2 }),
      "ERR_VALUE",
      /"indices" expected 4 or 14 .* got 5/,
    ],
  ];
  for (const [call, code, message] of cases) refuses(engine, code, message, call);
});

test("toCsr: what is stored, for every format; fromCsr takes it back", () => {
  holds(
    fc.record({
      format: fc.constantFrom(...FORMATS),
      rows: fc.nat(30),
      cols: fc.nat(40),
      zeros: fc.constantFrom(0.3, 0.9),
    }),
    (o) => {
      const { format, rows, cols, zeros } = o;
      const w = engine.pack(weightsFor(format, rows, cols, zeros, rnd), [rows, cols], { format });
      const csr = w.toCsr();
      const dense = new Float32Array(rows * cols);
      for (let r = 0; r < rows; r++) {
        for (let i = csr.indptr[r]; i < csr.indptr[r + 1]; i++) {
          if (i > csr.indptr[r]) assert.ok(csr.indices[i] > csr.indices[i - 1], "ascending");
          dense[r * cols + csr.indices[i]] = csr.data[i];
        }
      }
      sameBits(dense, w.toDense(), formatName(format));
      assert.is(csr.indptr.length, rows + 1);
      if (format === "dense") assert.is(csr.data.length, w.nnz, "of a dense weight, its nonzeros");
      const back = engine.fromCsr(csr.data, csr.indices, csr.indptr, csr.shape);
      sameBits(back.toDense(), dense, "back");
      back.dispose();
      w.dispose();
    },
  );
});

/** What a legal weight is made of: each format, rank 2 and 4, every layout. */
const anyWeight = fc.record({
  format: fc.constantFrom<"auto" | Format>("auto", ...FORMATS),
  rows: fc.nat(40),
  cols: fc.nat(50),
  spots: fc.constantFrom<readonly number[] | null>(null, [1, 1], [3, 2]),
  tf: fc.boolean(),
  zeros: fc.constantFrom(0, 0.5, 0.9, 1),
});

type AnyWeight = typeof anyWeight extends fc.Arbitrary<infer T> ? T : never;

function pack({ format, rows, cols, spots, tf, zeros }: AnyWeight): PackedWeight {
  const ours = [rows, cols, ...(spots ?? [])];
  const data = weightsFor(format === "auto" ? "csr" : format, rows, sizeOf(ours.slice(1)), zeros, rnd);
  // Another order of the data would break the groups of N:M.
  if (!tf || (typeof format === "object" && format.kind === "nm")) return engine.pack(data, ours, { format });
  const shape = [...(spots ?? []), cols, rows];
  return engine.pack(data, shape, { format, layout: spots ? "hwio" : "io" });
}

test("deserialize(serialize(w)): the same arrays, the same format, the same bits of every product", () => {
  holds(
    anyWeight,
    (o) => {
      const w = pack(o);
      const bytes = w.serialize("some.weight");
      const { weights, tensors, metadata } = engine.deserialize(bytes);
      const back = weights["some.weight"];
      assert.equal([Object.keys(weights), tensors.size, Object.keys(metadata)], [["some.weight"], 0, []]);
      assert.equal([back.format, back.shape, back.layout, back.auto], [w.format, w.shape, w.layout, w.auto]);
      assert.equal([back.nnz, back.density, back.byteLength], [w.nnz, w.density, w.byteLength]);
      assert.equal(Object.keys(back.matrix).sort(), Object.keys(w.matrix).sort());
      for (const [key, field] of Object.entries(w.matrix)) {
        const other = (back.matrix as unknown as Record<string, unknown>)[key];
        if (!ArrayBuffer.isView(field)) assert.is(other, field, key);
        else {
          assert.is(Object.getPrototypeOf(other), Object.getPrototypeOf(field), key);
          const view = other as Uint8Array;
          const bytesOf = (a: ArrayBufferView) => Buffer.from(a.buffer, a.byteOffset, a.byteLength);
          assert.is(Buffer.compare(bytesOf(field), bytesOf(view)), 0, `${formatName(w.format)}: ${key}`);
        }
      }
      assert.is(Buffer.compare(bytes, back.serialize("some.weight")), 0, "the same file again");
      // What is loaded lies elsewhere: whoever writes into the file's bytes changes nothing.
      bytes.fill(0xff);
      sameBits(back.toDense(), w.toDense(), "toDense");
      const [ours, theirs] = [products(engine, w), products(engine, back)];
      ours.forEach((y, i) => sameBits(theirs[i], y, formatName(w.format)));
      const ones = w.toDense().map((v) => (v === 0 ? 0 : 1));
      w.update(ones);
      back.update(ones);
      sameBits(back.toDense(), w.toDense(), "after update");
      w.dispose();
      back.dispose();
    },
    250,
  );
  assert.is(engine.stats().weights, 0);
  assert.is(engine.stats().bytesInUse, 0);
});

test("a file with weights and plain tensors, of any names", () => {
  const w = engine.pack(weightsFor("csr", 20, 30, 0.8, rnd), [20, 30], { format: "csr" });
  const v = engine.pack(weightsFor({ kind: "nm", n: 2, m: 4 }, 8, 16, 0, rnd), [8, 16], {
    format: { kind: "nm", n: 2, m: 4 },
  });
  const names: [string, PackedWeight | SafetensorsInput][] = [
    ["fc.weight", w],
    ["__proto__", v],
    ["10", w],
    ["", v],
    ["fc.bias", { shape: [20], data: values(20, 0, rnd) }],
    ["fc", { shape: [2], data: new BigInt64Array([1n, -1n]) }],
    ["half", { shape: [1, 2], data: new Uint16Array([0x3c00, 0x7e00]), dtype: "F16" }],
  ];
  const bytes = serialize(names, { format: "pt", about: "é" });
  assert.is(Buffer.compare(bytes, serialize(new Map([...names].reverse()), { about: "é", format: "pt" })), 0);
  const { weights, tensors, metadata } = engine.deserialize(bytes);
  assert.equal(Object.keys(weights).sort(), ["", "10", "__proto__", "fc.weight"]);
  assert.equal([...tensors.keys()].sort(), ["fc", "fc.bias", "half"]);
  assert.equal({ ...metadata }, { format: "pt", about: "é" });
  assert.is(tensors.get("half")?.dtype, "F16");
  for (const name of ["fc.weight", "10"]) sameBits(weights[name].toDense(), w.toDense(), name);
  for (const name of ["__proto__", ""]) sameBits(weights[name].toDense(), v.toDense(), name);
  // Any reader of safetensors can take it, and SciPy the arrays of a csr weight.
  const file = readSafetensors(bytes);
  const csr = w.toCsr();
  for (const array of ["data", "indices", "indptr"] as const) {
    assert.equal(Array.from(file.tensors.get(`fc.weight.${array}`)?.data ?? [], Number), Array.from(csr[array]), array);
  }
  assert.is(file.tensors.get("fc.weight.indptr")?.dtype, "U16");
  const again = engine.deserialize(file);
  assert.equal(Object.keys(again.weights).length, 4);
  for (const x of [...Object.values(weights), ...Object.values(again.weights), w, v]) x.dispose();
  const none = engine.deserialize(writeSafetensors({ b: { shape: [1], data: f32(1) } }));
  assert.equal([Object.keys(none.weights).length, none.tensors.size], [0, 1]);
});

test("serialize refuses what would not be a file", () => {
  const w = engine.pack(f32(1, 0, 0, 2), [2, 2]);
  const of = (weights: unknown, metadata?: unknown) => () =>
    serialize(weights as Record<string, PackedWeight>, metadata as Record<string, string>);
  refuses(engine, "ERR_TYPE", /"weights" expected an object or a Map/, of(undefined));
  refuses(engine, "ERR_TYPE", /"weights" expected pairs/, of([w]));
  refuses(engine, "ERR_TYPE", /"weights" expected a name, got 1/, of([[1, w]]));
  refuses(engine, "ERR_TYPE", /"w" expected an object with shape and data/, of({ w: 3 }));
  refuses(engine, "ERR_TYPE", /"metadata" expected an object/, of({ w }, "text"));
  refuses(
    engine,
    "ERR_VALUE",
    /"metadata" expected names that do not start with "skipzeros:"/,
    of({ w }, { "skipzeros:w": "" }),
  );
  const twice = [
    ["w", w],
    ["w", w],
  ];
  refuses(engine, "ERR_VALUE", /each name once, got "w.data" again/, of(twice));
  refuses(engine, "ERR_VALUE", /each name once, got "w.data" again/, of({ w, "w.data": { shape: [0], data: f32() } }));
  refuses(engine, "ERR_TYPE", /"weights" expected a name, got 7/, () => w.serialize(7 as unknown as string));
  w.dispose();
  refuses(engine, "ERR_DISPOSED", /"w" expected a weight that lives/, of({ w }));
  refuses(engine, "ERR_DISPOSED", /"w" expected a weight that lives/, () => w.serialize());
  refuses(engine, "ERR_DISPOSED", /"w" expected a weight that lives/, () => w.toCsr());
});

test("deserialize refuses what is no file, and a disposed engine loads nothing", async () => {
  for (const source of [undefined, null, 3, "text", {}, { tensors: new Map() }, { tensors: {}, metadata: {} }]) {
    refuses(engine, "ERR_TYPE", /"source" expected a safetensors file or its bytes/, () =>
      engine.deserialize(source as never),
    );
  }
  refuses(engine, "ERR_FORMAT", /"bytes" expected a file of at least 8 bytes/, () =>
    engine.deserialize(new Uint8Array(3)),
  );
  const w = engine.pack(f32(1, 0, 0, 2), [2, 2]);
  const bytes = w.serialize();
  w.dispose();
  const gone = await createEngine();
  gone.dispose();
  refuses(gone, "ERR_DISPOSED", /"engine"/, () => gone.deserialize(bytes));
  refuses(gone, "ERR_DISPOSED", /"engine"/, () => gone.fromCsr(f32(1), [0], [0, 1], [1, 1]));
});

test("indptr goes into 16 bits up to 65535 numbers, and comes back", () => {
  for (const [rows, cols] of [
    [255, 257],
    [256, 256],
  ]) {
    const w = engine.pack(new Float32Array(rows * cols).fill(1), [rows, cols], { format: "csr" });
    const { weight } = engine.deserialize(w.serialize()).weights;
    assert.is(weight.nnz, rows * cols);
    weight.dispose();
    w.dispose();
  }
});

test("fromNm copies what it is given", () => {
  const given = f32(1, 2);
  const w = engine.fromNm(given, [3, 0], [1, 4], { n: 2, m: 4 });
  assert.equal([...given], [1, 2]);
  given.fill(9);
  assert.equal([...w.toDense()], [2, 0, 0, 1]);
  w.dispose();
});

test("a file whose bytes were transferred is refused", () => {
  const w = engine.pack(f32(0, 2, 0, 3), [1, 4], { format: "csr" });
  const bytes = w.serialize();
  const file = readSafetensors(bytes);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  refuses(engine, "ERR_FORMAT", /./, () => engine.deserialize(file));
  w.dispose();
});

test("an empty weight in a file is small", () => {
  for (const shape of [
    [70_000, 0],
    [0, 70_000],
  ]) {
    const w = engine.pack(f32(), shape, { format: { kind: "complementary", overlay: 2 } });
    refuses(engine, "ERR_FORMAT", /weight\.shape/, () => engine.deserialize(w.serialize()));
    w.dispose();
  }
});

/** One weight of each kind of format, small enough that every field can be broken in turn. */
const VICTIMS: Format[] = [
  "dense",
  "csr",
  { kind: "block", rows: 4, cols: 2 },
  { kind: "nm", n: 2, m: 4 },
  { kind: "nm", n: 3, m: 300 },
  { kind: "complementary", overlay: 4, blockRows: 4 },
  { kind: "complementary", overlay: 300 },
];

/** A victim's file, its text parsed. */
function victim(format: Format, shape: number[] = [22, 30]) {
  const w = engine.pack(weightsFor(format, shape[0], sizeOf(shape.slice(1)), 0.7, rnd), shape, { format });
  const { tensors, metadata } = readSafetensors(w.serialize("w"));
  w.dispose();
  return { tensors, text: JSON.parse(metadata["skipzeros:w"]) as Record<string, unknown> };
}

const fileOf = (tensors: Map<string, SafetensorsInput>, text: unknown): Uint8Array =>
  writeSafetensors(tensors, { "skipzeros:w": typeof text === "string" ? text : JSON.stringify(text) });

/** Loads, and runs what was loaded; undefined, or the message if the file was refused as it should be. */
function attempt(bytes: Uint8Array, what: string): string | undefined {
  const before = JSON.stringify(engine.stats());
  let loaded: ReturnType<Engine["deserialize"]>;
  try {
    loaded = engine.deserialize(bytes);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    assert.is(code, "ERR_FORMAT", `${what}: ${code} ${message}`);
    assert.ok(message.length < 500, `${what}: a message of ${message.length} characters`);
    assert.is(JSON.stringify(engine.stats()), before, `${what}: nothing is kept`);
    return message;
  }
  for (const w of Object.values(loaded.weights)) {
    // What was accepted must be safe to use; a claim of millions of rows is legal, and slow.
    if (sizeOf(w.shape) < 1e5 && w.shape.every((d) => d < 1e5)) {
      w.toDense();
      w.toCsr();
      products(engine, w);
    }
    w.dispose();
  }
  return undefined;
}

test("hostile texts: every field, every wrong value", () => {
  const wrong = [
    undefined,
    null,
    true,
    false,
    "",
    "csr",
    "oi",
    "1",
    {},
    [],
    [[]],
    -1,
    0,
    0.5,
    3,
    1e9,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    1e300,
    [22],
    [22, 30, 1],
    [22, -30],
    [22, 30.5],
    [22, "30"],
    [2 ** 30, 2 ** 30],
    [0, 2 ** 40],
    [1e300, 1e300],
    [22, 30, 1, 0],
    [30, 22],
  ]; // prettier-ignore
  for (const format of VICTIMS) {
    const { tensors, text } = victim(format);
    const name = formatName(format);
    assert.is(attempt(fileOf(tensors, text), name), undefined);
    for (const field of Object.keys(text)) {
      for (const value of wrong) {
        const changed = { ...text, [field]: value };
        if (JSON.stringify(changed[field]) === JSON.stringify(text[field])) continue;
        const what = `${name}: ${field} = ${JSON.stringify(value)}`;
        const message = attempt(fileOf(tensors, changed), what);
        // The other truth value is as good, and a transposed block may hold as many numbers.
        if (field !== "auto" || typeof value !== "boolean") assert.ok(message !== undefined || field === "shape", what);
        if (message) assert.match(message, /^"(skipzeros:)?w/, what);
      }
    }
    for (const kind of ["dense", "csr", "block", "nm", "complementary"]) {
      if (kind === text.kind) continue;
      const message = attempt(fileOf(tensors, { ...text, kind }), `${name} as ${kind}`);
      assert.ok(message, `${name} as ${kind}`);
    }
    for (const bad of [
      "",
      "{",
      "null",
      "[]",
      "3",
      '"w"',
      JSON.stringify({ ...text, more: 1 }),
      '{"__proto__":{}}',
      "[".repeat(1001),
    ]) {
      assert.ok(attempt(fileOf(tensors, bad), `${name}: ${bad.slice(0, 20)}`), bad.slice(0, 20));
    }
  }
  const nothing = new Map<string, SafetensorsInput>();
  assert.match(
    attempt(fileOf(nothing, victim("csr").text), "no tensors") ?? "",
    /"w.indices" expected a tensor, .* got "none"/,
  );
});

test("hostile arrays: missing, cut, grown, of another type", () => {
  for (const format of VICTIMS) {
    const { tensors, text } = victim(format);
    for (const [key, { dtype, data }] of tensors) {
      const others = new Map<string, SafetensorsInput>(tensors);
      const what = `${formatName(format)}: ${key}`;
      const named = new RegExp(`"${key}"|"w\\.(indices|data|indptr|rowOf|ids|sets)"`);
      const put = (input: SafetensorsInput, note: string) => {
        others.set(key, input);
        assert.match(attempt(fileOf(others, text), `${what} ${note}`) ?? "accepted", named, `${what} ${note}`);
      };
      others.delete(key);
      assert.match(attempt(fileOf(others, text), `${what} missing`) ?? "accepted", named, `${what} missing`);
      put({ shape: [0], data: data.slice(0, 0), dtype }, "empty");
      put({ shape: [data.length - 1], data: data.slice(1), dtype }, "cut");
      const grown = new (data.constructor as Uint8ArrayConstructor)(data.length + 1);
      grown.set(data as Uint8Array);
      put({ shape: [grown.length], data: grown, dtype }, "grown");
      put({ shape: [data.length], data: new Float64Array(data.length) }, "F64");
      put({ shape: [data.length], data: new Int32Array(data.length) }, "I32");
      if (dtype !== "U32" || key.endsWith("indices")) {
        if (key !== "w.indptr") put({ shape: [data.length], data: Uint32Array.from(data as Uint8Array) }, "U32");
      }
      if (dtype === "U16") put({ shape: [data.length], data, dtype: "F16" }, "F16");
      // The shape is for other readers.
      others.set(key, { shape: [1, data.length, 1], data, dtype });
      assert.is(attempt(fileOf(others, text), `${what} reshaped`), undefined);
    }
  }
});

test("files that someone put together: every array's class is checked, and every text", () => {
  for (const format of VICTIMS) {
    const w = engine.pack(weightsFor(format, 22, 30, 0.7, rnd), [22, 30], { format });
    const bytes = w.serialize("a");
    w.dispose();
    const arrays: ((data: Float32Array) => unknown)[] = [
      (data) => new Float64Array(data),
      (data) => new BigInt64Array(data.length),
      (data) => new Uint8ClampedArray(data.length),
      (data) => new DataView(data.slice().buffer),
      (data) => "x".repeat(data.length),
      () => undefined,
      () => null,
    ];
    for (const key of readSafetensors(bytes).tensors.keys()) {
      for (const other of arrays) {
        const file = readSafetensors(bytes);
        const entry = file.tensors.get(key) as SafetensorsEntry;
        file.tensors.set(key, { ...entry, data: other(entry.data as Float32Array) as never });
        refuses(engine, "ERR_FORMAT", new RegExp(`"${key}"`), () => engine.deserialize(file));
      }
    }
    const file = readSafetensors(bytes);
    file.metadata["skipzeros:a"] = null as never;
    refuses(engine, "ERR_FORMAT", /"skipzeros:a" expected a text, got null/, () => engine.deserialize(file));
  }
});

test("a Buffer in a file object is copied, though its slice would be a view", () => {
  const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2], { format: { kind: "nm", n: 1, m: 2 } });
  const file = readSafetensors(w.serialize("a"));
  const entry = file.tensors.get("a.indices") as SafetensorsEntry;
  const bytes = Buffer.from(entry.data as Uint8Array);
  file.tensors.set("a.indices", { ...entry, data: bytes });
  const read = engine.deserialize(file).weights.a;
  bytes.fill(0);
  assert.equal([...read.toDense()], [1, 0, 0, 2]);
  for (const owner of [w, read]) owner.dispose();
});

test("toCsr of blocks keeps every bit of a NaN", () => {
  const data = new Float32Array(16);
  new Uint32Array(data.buffer).fill(0x7fa00001);
  const w = engine.pack(data, [4, 4], { format: { kind: "block", rows: 4, cols: 4 } });
  for (let i = 0; i < 500; i++) sameBits(w.toCsr().data, data, "signalling NaNs");
  w.dispose();
});

test("hostile arrays: integers that point elsewhere", () => {
  let refused = 0;
  let accepted = 0;
  holds(
    fc.record({
      format: fc.constantFrom(...VICTIMS.slice(1)),
      places: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
      to: fc.nat(),
    }),
    ({ format, places, to }) => {
      const { tensors, text } = victim(format);
      const integers = [...tensors].filter(([, { dtype, data }]) => dtype !== "F32" && data.length > 0);
      const [key, entry] = integers[to % integers.length];
      const data = entry.data.slice() as Uint32Array;
      const most = 2 ** (8 * data.BYTES_PER_ELEMENT) - 1;
      for (const place of places) {
        const at = place % data.length;
        data[at] = [0, 1, most, data[at] + 1, data[at] - 1, to % (most + 1)][place % 6];
      }
      const message = attempt(
        fileOf(new Map(tensors).set(key, { ...entry, data }), text),
        `${formatName(format)} ${key}`,
      );
      if (message) refused++;
      else accepted++;
    },
    400,
  );
  assert.ok(refused > 50 && accepted > 0, `${refused} refused, ${accepted} accepted`);
});

test("hostile bytes: a bit here and there", () => {
  holds(
    fc.record({ format: fc.constantFrom(...VICTIMS), places: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }) }),
    ({ format, places }) => {
      const { tensors, text } = victim(format, [8, 4, 3, 2]);
      const bytes = fileOf(tensors, text);
      for (const place of places) bytes[place % bytes.length] ^= 1 << ((place >>> 16) % 8);
      attempt(bytes, `${formatName(format)} flipped at ${places}`);
    },
    400,
  );
});

test("a file whose second weight is broken gives nothing and keeps nothing", () => {
  const w = engine.pack(weightsFor("csr", 20, 30, 0.8, rnd), [20, 30], { format: "csr" });
  const { tensors, metadata } = readSafetensors(serialize({ a: w, b: w, c: w }));
  w.dispose();
  const data = Uint16Array.from((tensors.get("b.indices") as SafetensorsEntry).data as Uint16Array);
  data[0] = 30;
  tensors.set("b.indices", { dtype: "U16", shape: [data.length], data });
  refuses(engine, "ERR_FORMAT", /"b.indices" expected values in 0..29, got 30 at 0/, () =>
    engine.deserialize({ tensors, metadata }),
  );
  assert.is(engine.stats().weights, 0);
});

test("an empty weight may claim a large side; nothing is made of that size", () => {
  const empty = (text: object, arrays: [string, SafetensorsInput][]) =>
    attempt(fileOf(new Map(arrays), text), JSON.stringify(text));
  const head = { version: 1, layout: "oi", auto: false };
  const none = (data: Float32Array | Uint8Array | Uint16Array): SafetensorsInput => ({ shape: [0], data });
  const wide = { ...head, shape: [0, 2 ** 30 - 16] };
  const start = performance.now();
  empty({ ...wide, kind: "nm", n: 4, m: 4 }, [
    ["w.data", none(f32())],
    ["w.indices", none(new Uint8Array())],
  ]);
  empty({ ...wide, kind: "dense" }, [["w.data", none(f32())]]);
  empty({ ...wide, kind: "csr" }, [
    ["w.data", none(f32())],
    ["w.indices", none(new Uint16Array())],
    ["w.indptr", { shape: [1], data: new Uint16Array(1) }],
  ]);
  assert.ok(performance.now() - start < 2000);
  // A product would make each of the outputs.
  for (const [rows, legal] of [
    [65536, true],
    [65537, false],
    [1e9, false],
  ] as const) {
    const file = fileOf(new Map([["w.data", none(f32())]]), { ...head, shape: [rows, 0], kind: "dense" });
    if (legal) {
      const { w } = engine.deserialize(file).weights;
      assert.equal(w.shape, [rows, 0]);
      w.dispose();
    } else
      refuses(engine, "ERR_FORMAT", /^"w\.shape" expected an integer in 0\.\.65536/, () => engine.deserialize(file));
  }
});

test("hostile texts that fit their arrays", () => {
  const head = { version: 1, layout: "oi", auto: false };
  const file = (text: unknown, indptr: number) =>
    fileOf(
      new Map<string, SafetensorsInput>([
        ["w.data", { shape: [3], data: f32(1, 2, 3) }],
        ["w.indices", { shape: [1], data: Uint16Array.of(0) }],
        ["w.indptr", { shape: [indptr], data: new Uint16Array(indptr).fill(1, 1) }],
      ]),
      text,
    );
  // Blocks that no kernel reads.
  const three = { ...head, kind: "block", shape: [3, 4], rows: 3, cols: 1 };
  assert.match(attempt(file(three, 2), "3x1") ?? "", /"w.rows" expected one of 1, 2, 4, 8, got 3/);
  const across = { ...head, kind: "block", shape: [1, 9], rows: 1, cols: 3 };
  assert.match(attempt(file(across, 2), "1x3") ?? "", /"w.cols" expected one of 1, 2, 4, got 3/);
  // A zero must not hide how large the rest is.
  const hidden = { ...head, kind: "csr", shape: [0, 2 ** 20, 2 ** 20, 1], layout: "oihw" };
  assert.match(attempt(file(hidden, 1), "hidden") ?? "", /"skipzeros:w.shape" expected at most \d+ elements/);
  const { tensors, text } = victim("csr");
  const long = `${JSON.stringify(text)}${" ".repeat(1000)}`;
  assert.match(attempt(fileOf(tensors, long), "long") ?? "", /"skipzeros:w" expected at most 1000 characters/);
});

test("more blocks than 16 bits can count", () => {
  const w = engine.pack(values(300 * 300, 0, rnd), [300, 300], { format: "csr" });
  const bytes = w.serialize();
  assert.is(readSafetensors(bytes).tensors.get("weight.indptr")?.dtype, "U32");
  const back = engine.deserialize(bytes).weights.weight;
  sameBits(back.toDense(), w.toDense(), "90000 nonzeros");
  w.dispose();
  back.dispose();
});

test("inspect looks at packed files: their weights in their formats, and what is plain", () => {
  const format = { kind: "nm", n: 2, m: 4 } as const;
  const data = prune(values(32 * 64, 0, rnd), [32, 64], "2:4");
  const w = engine.pack(data, [32, 64], { format });
  const plain = { shape: [4, 4], data: values(16, 0, rnd) };
  const bytes = serialize({ w, plain, bias: { shape: [4], data: f32(1, 2, 3, 4) } });
  w.dispose();
  const rows = inspect(engine, bytes, { measure: true });
  assert.equal(
    rows.map((row) => row.name),
    ["w", "plain"],
  );
  const [row] = rows;
  assert.equal([row.dtype, row.shape, row.format, row.reason], ["F32", [32, 64], "2:4", "loaded from a file"]);
  assert.is(row.structure, "2:4 along the inputs");
  assert.is(
    row.nnz,
    data.reduce((n, v) => n + (v === 0 ? 0 : 1), 0),
  );
  assert.ok(row.packedBytes < row.denseBytes);
  assert.equal(
    row.measured?.map((m) => m.rows),
    [1, 64],
  );
  assert.is(engine.stats().weights, 0);
  const { tensors, metadata } = readSafetensors(bytes);
  tensors.delete("w.data");
  refuses(engine, "ERR_FORMAT", /"w.data" expected a tensor/, () => inspect(engine, { tensors, metadata }));
});

test.run();
