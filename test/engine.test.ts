// The engine itself: memory that is accounted for, reused and never above its limit, what disposing means, views across
// growth, builds and modules, the allocator, and what a packed weight says of itself.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect as print } from "node:util";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { supports } from "../bindings/builds.js";
import { formatName } from "../bindings/formats/format.js";
import type {
  Conv2dOptions,
  Costs,
  EngineOptions,
  Explanation,
  Format,
  LinearOptions,
  TensorLike,
  WeightLayout,
} from "../bindings/index.js";
import {
  type CodedError,
  createEngine,
  type Engine,
  inspect,
  type PackedWeight,
  prune,
  readSafetensors,
  type SafetensorsEntry,
  SparseTensor,
  type Tensor,
  toFloat32,
  writeSafetensors,
} from "../bindings/index.js";
import { KERNELS, type Kernel } from "../bindings/kernels.js";
import { FIRST, Memory } from "../bindings/memory.js";
import {
  type ConvSizes,
  close,
  convOracle,
  costsWith,
  type Expected,
  FORMATS,
  keepNm,
  kernelsOf,
  linearOracle,
  onEachBuild,
  PRODUCTS,
  placesOf,
  random,
  refuses,
  sameBits,
  seed,
  sizeOf,
  toSpotsInOut,
  transpose,
  values,
  weightsFor,
} from "./oracle.js";

const test = suite("engine");

const zeros = (n: number) => new Float32Array(n);
const like = (...shape: number[]) => ({ data: zeros(sizeOf(shape)), shape });
const filled = (rnd: () => number, ...shape: number[]) => ({ data: values(sizeOf(shape), 0, rnd), shape });

type PackFormat = "auto" | Format;
const nameOf = (format: PackFormat): string => (format === "auto" ? format : formatName(format));

/** One of each kind. */
const BLOCK: Format = { kind: "block", rows: 4, cols: 2 };
const NM: Format = { kind: "nm", n: 2, m: 4 };
const SETS: Format = { kind: "complementary", overlay: 3, blockRows: 4 };
const KINDS: Format[] = ["dense", "csr", BLOCK, NM, SETS];

/** What must come back; the memory reserved may stay. */
function held(engine: Engine) {
  const { bytesInUse, tensors, weights } = engine.stats();
  return { bytesInUse, tensors, weights };
}
const NOTHING = { bytesInUse: 0, tensors: 0, weights: 0 };

/** The code of what `call` throws, which must be a RangeError. */
function codeOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    if (error instanceof RangeError) return (error as { code?: string }).code;
    throw error;
  }
  return undefined;
}

/** Some of everything that an engine can run: results by name. */
function everything(engine: Engine, rnd: () => number): Map<string, Float32Array> {
  const done = new Map<string, Float32Array>();
  const take = (name: string, y: Tensor) => {
    done.set(name, y.toArray());
    y.dispose();
  };
  const x = filled(rnd, 2, 6, 9, 11);
  for (const kind of KINDS) {
    const format = nameOf(kind);
    const pack = (zeros: number, m: number, k: number, ...taps: number[]) =>
      engine.pack(weightsFor(kind, m, k * sizeOf(taps), zeros, rnd), [m, k, ...taps], { format: kind });
    const w = pack(0.5, 13, 300);
    const long = pack(0.9, 5, 16400);
    const k = pack(0.5, 8, 6, 3, 3);
    const depthwise = pack(0.5, 6, 1, 3, 3);
    const point = pack(0.2, 70, 6, 1, 1);
    take(`${format} vector`, engine.linear(filled(rnd, 300), w, { bias: values(13, 0, rnd) }));
    take(`${format} long vector`, engine.linear(filled(rnd, 16400), long));
    take(`${format} linear`, engine.linear(filled(rnd, 45, 300), w, { residual: filled(rnd, 45, 13) }));
    take(`${format} w · x`, engine.matmul(w, filled(rnd, 300, 40), { activation: "relu" }));
    take(`${format} x · w`, engine.matmul(filled(rnd, 9, 13), w));
    take(`${format} conv2d`, engine.conv2d(x, k, { padding: 1, residual: filled(rnd, 2, 8, 9, 11) }));
    take(`${format} strided`, engine.conv2d(x, k, { padding: "same", stride: 2, dilation: [1, 2] }));
    take(`${format} nhwc`, engine.conv2d(filled(rnd, 1, 7, 7, 6), k, { layout: "nhwc" }));
    take(`${format} depthwise`, engine.conv2d(x, depthwise, { groups: 6, padding: 1 }));
    take(`${format} pointwise`, engine.conv2d(x, point));
    for (const owner of [w, long, k, depthwise, point]) owner.dispose();
  }
  take("maxPool2d", engine.maxPool2d(x, { kernel: 3, stride: 2, padding: 1 }));
  take("avgPool2d", engine.avgPool2d(x, { kernel: 2, countIncludePad: false, padding: "same" }));
  take("globalAvgPool2d", engine.globalAvgPool2d(x));
  for (const op of ["relu", "sigmoid", "tanh", "softmax"] as const) take(op, engine[op](x));
  take("add", engine.add(x, filled(rnd, 6, 1, 1)));
  take("mul", engine.mul(x, filled(rnd, 11), { activation: "relu6" }));
  return done;
}

function sameResults(actual: Map<string, Float32Array>, expected: Map<string, Float32Array>, label: string): void {
  assert.equal([...actual.keys()], [...expected.keys()]);
  for (const [name, y] of expected) sameBits(actual.get(name) as Float32Array, y, `${label}: ${name}`);
}

const collect = (globalThis as { gc?: () => void }).gc;
if (!collect) console.log("SKIP forgotten tensors and weights: this Node runs without --expose-gc");
const collecting = collect ? test : test.skip;

/** Collects until the engine holds what is wanted; the finalizers take their time, more so on a busy machine. */
async function settles(engine: Engine, wanted: ReturnType<typeof held>): Promise<void> {
  const deadline = performance.now() + 3000;
  while (JSON.stringify(held(engine)) !== JSON.stringify(wanted) && performance.now() < deadline) {
    (collect as () => void)();
    await sleep(5);
  }
  assert.equal(held(engine), wanted);
}

collecting("who holds a tensor's elements has not forgotten the tensor", () =>
  onEachBuild(async (engine) => {
    const held = (() => engine.relu({ data: zeros(16).fill(3), shape: [16] }).data)();
    for (let i = 0; i < 5; i++) {
      (collect as () => void)();
      await sleep(5);
    }
    engine.tensor(zeros(16).fill(9), [16]);
    assert.ok(
      held.every((v) => v === 3),
      `another tensor's elements: ${held}`,
    );
  }),
);

// First of all: the test after it shows what engines that others forgot can do to it.
collecting("what is forgotten is freed", () =>
  onEachBuild(async (engine) => {
    const rnd = random();
    const kept = engine.tensor(values(10, 0, rnd), [10]);
    const alias = (() => kept.reshape([5, 2]).reshape([10]))();
    const before = held(engine);
    const forget = () => {
      for (let i = 0; i < 50; i++) {
        const format = KINDS[i % KINDS.length];
        const w = engine.pack(weightsFor(format, 10, 20, 0.5, rnd), [10, 20], { format });
        const y = engine.linear(engine.tensor(values(60, 0, rnd), [3, 20]), w);
        engine.matmul(w, like(20, 1)).reshape([10]);
        y.reshape([30]);
        // One of them disposed by hand: it is not freed twice.
        if (i % 5 === 0) y.dispose();
      }
    };
    forget();
    assert.ok(engine.stats().weights >= 50);
    await settles(engine, { ...before, tensors: 2 });
    sameBits(alias.data, kept.data, "an alias that is still held");
  }),
);

collecting("a forgotten engine does not stop the freeing of another one's tensors", async () => {
  // In a list, so that no register of this function holds an engine.
  const forget = (engines: Engine[]) => {
    for (let i = 0; i < 10; i++) engines[0].tensor(zeros(10), [10]);
  };
  const make = async (engines: Engine[]) => {
    engines.push(await createEngine());
  };
  const lost: Engine[] = [];
  await make(lost);
  await sleep(20);
  // A FinalizationRegistry that dies between the collection that made its callback due and the callback itself stops
  // all registries of the process, for good (V8 in Node 20.20 and 24.21).
  forget(lost);
  (collect as () => void)();
  lost.length = 0;
  (collect as () => void)();
  await sleep(20);
  const engines: Engine[] = [];
  await make(engines);
  forget(engines);
  await settles(engines[0], NOTHING);
  engines[0].dispose();
});

test("stats count what lives, and dispose takes it back", () =>
  onEachBuild((engine) => {
    assert.equal(held(engine), NOTHING);
    const x = engine.tensor(zeros(6), [2, 3]);
    const one = engine.stats();
    assert.is(one.tensors, 1);
    assert.ok(one.bytesInUse >= 24 && one.bytesInUse <= one.bytesReserved);
    const w = engine.pack(zeros(12).fill(1), [4, 3]);
    assert.is(engine.stats().weights, 1);
    const y = engine.linear(x, w);
    assert.equal([engine.stats().tensors, engine.stats().weights], [2, 1]);
    assert.ok(engine.stats().bytesInUse > one.bytesInUse);
    assert.is(x.disposed, false);
    y.dispose();
    x.dispose();
    assert.is(x.disposed, true);
    assert.is(engine.stats().tensors, 0);
    // A second time does nothing, whoever calls.
    x.dispose();
    y.dispose();
    assert.is(engine.stats().tensors, 0);
    w.dispose();
    w.dispose();
    assert.is(w.disposed, true);
    assert.equal(held(engine), NOTHING);
    // What a result took over from x is its own.
    const again = engine.tensor(zeros(6).fill(7), [6]);
    x.dispose();
    assert.equal([...again.data], [7, 7, 7, 7, 7, 7]);
    again.dispose();
    assert.equal(held(engine), NOTHING);
  }));

test("a reshape shares the elements and lives as long as its last owner", () =>
  onEachBuild((engine) => {
    const x = engine.tensor(
      Float32Array.from({ length: 6 }, (_, i) => i),
      [2, 3],
    );
    const bytes = engine.stats().bytesInUse;
    const flat = x.reshape([6]);
    const tall = flat.reshape([3, 2, 1]);
    assert.equal(engine.stats(), { ...engine.stats(), tensors: 3, bytesInUse: bytes });
    assert.equal([[...x.shape], [...flat.shape], [...tall.shape]], [[2, 3], [6], [3, 2, 1]]);
    x.data[4] = 40;
    assert.is(tall.data[4], 40);
    x.dispose();
    tall.dispose();
    assert.is(engine.stats().bytesInUse, bytes);
    const other = engine.tensor(zeros(6).fill(9), [6]);
    assert.equal([...flat.data], [0, 1, 2, 3, 40, 5]);
    assert.is(
      codeOf(() => x.data),
      "ERR_DISPOSED",
    );
    flat.dispose();
    flat.dispose();
    other.dispose();
    assert.equal(held(engine), NOTHING);
  }));

const scoped = Symbol.dispose ? test : test.skip;
if (!Symbol.dispose) console.log(`SKIP using: Node ${process.version} has no Symbol.dispose`);
scoped("using disposes of tensors, weights and the engine", async () => {
  let kept: { engine: Engine; x: Tensor; w: PackedWeight };
  {
    using engine = await createEngine();
    {
      using x = engine.tensor(zeros(6).fill(1), [2, 3]);
      using w = engine.pack(zeros(6).fill(1), [2, 3]);
      using y = engine.linear(x, w);
      assert.equal([...y.data], [3, 3, 3, 3]);
      kept = { engine, x, w };
    }
    assert.equal(held(engine), NOTHING);
    assert.is(kept.x.disposed && kept.w.disposed, true);
    assert.is(engine.disposed, false);
  }
  assert.is(kept.engine.disposed, true);
});

test("what console.log shows is the content, not the engine", () =>
  onEachBuild((engine) => {
    const x = engine.tensor(new Float32Array([1, 2, 3, 4]), [2, 2]);
    const w = engine.pack(new Float32Array([0, 2, 0, 3]), [2, 2], { format: "csr" });
    const text = (value: object) => print(value, { breakLength: Infinity });
    assert.is(text(x), "Tensor { shape: [ 2, 2 ], data: Float32Array(4) [ 1, 2, 3, 4 ] }");
    assert.match(text(engine.kWinners(x, { k: 1 })), /^SparseTensor \{ shape: \[ 2, 2 \], .*nnz: 2, density: 0.5 \}$/);
    assert.match(
      text(w),
      /^PackedWeight \{ shape: \[ 2, 2 \], .*format: 'csr', nnz: 2, density: 0.5, byteLength: \d+ \}$/,
    );
    for (const thing of [x, w]) thing.dispose();
    for (const thing of [x, w]) assert.match(text(thing), /^\w+ \{ shape: \[ 2, 2 \], disposed: true \}$/);
    assert.match(text([w]), /^\[ PackedWeight \{/);
  }));

test("what a caller does with w.format or explain() changes nothing of the weight", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const x = filled(rnd, 1, 64);
    for (const format of KINDS) {
      const w = engine.pack(weightsFor(format, 32, 64, 0.9, rnd), [32, 64], { format });
      const named = formatName(w.format);
      const before = taken(engine.linear(x, w));
      const { format: said } = engine.explain("linear", x, w);
      const why = w.explain();
      for (const given of [w.format, said, why.format])
        if (typeof given === "object") Object.assign(given, { rows: 8, cols: 4, blockRows: 8, overlay: 1, n: 1, m: 2 });
      assert.throws(() => Object.assign(w, { format: "csr" }), TypeError);
      why.reason = "mine";
      assert.is(formatName(w.format), named);
      assert.is(formatName(w.explain().format), named);
      assert.is.not(w.explain().reason, "mine");
      // A shape that needs a plan and streams of its own.
      const two = { data: new Float32Array([...x.data, ...x.data]), shape: [2, 64] };
      sameBits(taken(engine.linear(x, w)), before, named);
      assert.is(taken(engine.linear(two, w)).length, 64);
    }
  }));

test("explain takes the options of the call", () =>
  onEachBuild((engine) => {
    const w = engine.pack(zeros(64).fill(1), [8, 8]);
    const output = "sparse" as const;
    assert.ok(engine.explain("linear", like(1, 8), w, { output }).kernel);
    const image = engine.pack(zeros(9).fill(1), [1, 1, 3, 3]);
    assert.ok(engine.explain("conv2d", like(1, 1, 4, 4), image, { padding: 1, output }).kernel);
    assert.is(
      codeOf(() => engine.explain("matmul", like(1, 8), w, { output } as never)),
      "ERR_VALUE",
    );
  }));

test("one weight in many uses: each has a plan and streams of its own", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const given = values(4 * 4 * 9, 0, rnd);
    const w = engine.pack(given, [4, 4, 3, 3], { format: "csr" });
    const agree = (x: TensorLike, o: Conv2dOptions) => {
      const fresh = engine.pack(given, [4, 4, 3, 3], { format: "csr" });
      sameBits(taken(engine.conv2d(x, w, o)), taken(engine.conv2d(x, fresh, o)), JSON.stringify(o));
      fresh.dispose();
    };
    const large = filled(rnd, 1, 4, 40, 40);
    for (const dilation of [[2, 1], [1, 2], 1, 2] as const) agree(large, { dilation });
    const square = filled(rnd, 1, 8, 8, 4);
    agree({ data: square.data, shape: [1, 4, 8, 8] }, { padding: 1 });
    for (const channels of [4, 8]) {
      agree({ data: zeros(channels * 32).map(rnd), shape: [1, channels, 8, 4] }, { padding: 1, groups: channels / 4 });
    }
    const nhwc = { data: zeros(4 * 16).map(rnd), shape: [1, 4, 4, 4] };
    for (const layout of ["nchw", "nhwc"] as const) agree(nhwc, { padding: 1, layout });
  }));

test("an array from outside that changes its size under a call is read as it was checked, or refused", () =>
  onEachBuild((engine) => {
    const w = engine.pack(zeros(64).fill(1), [8, 8], { format: "csr" });
    const image = engine.pack(zeros(8 * 9).fill(1), [1, 8, 3, 3]);
    const others = Array.from({ length: 20 }, () => engine.tensor(zeros(1000).fill(7), [1000]));
    // The types are of a time before resizable buffers.
    const Resizable = ArrayBuffer as new (length: number, o: { maxByteLength: number }) => ArrayBuffer;
    const calls: ((data: Float32Array, o: object) => Tensor | SparseTensor)[] = [
      (data, o) => engine.linear({ data, shape: [1, 8] }, w, o),
      (data, o) => engine.linear({ data, shape: [1, 8] }, w, Object.assign(o, { residual: { data, shape: [1, 8] } })),
      (data, o) => engine.conv2d({ data, shape: [1, 8, 1, 1] }, image, Object.assign(o, { padding: 1 })),
      (data, o) => engine.add({ data, shape: [8] }, { data, shape: [8] }, o),
      (data, o) => engine.kWinners({ data, shape: [1, 8] }, Object.assign(o, { k: 8 })),
    ];
    for (const [i, call] of calls.entries()) {
      for (const act of ["grow", "shrink", "detach"] as const) {
        const buffer = new Resizable(32, { maxByteLength: 2 ** 16 });
        const data = new Float32Array(act === "detach" ? new ArrayBuffer(32) : buffer).fill(1);
        const change = () => {
          if (act === "detach") structuredClone(data.buffer, { transfer: [data.buffer] });
          else (buffer as unknown as { resize(length: number): void }).resize(act === "grow" ? 2 ** 16 : 0);
          return undefined;
        };
        const option = i === 4 ? "breakTies" : "activation";
        const { tensors } = engine.stats();
        const run = () => call(data, Object.defineProperty({}, option, { get: change, enumerable: true }));
        // A residual is checked after all options were read.
        const code = act === "detach" || i === 1 ? "ERR_LENGTH" : undefined;
        assert.is(
          codeOf(() => run().dispose()),
          code,
          `${i} ${act}`,
        );
        assert.is(engine.stats().tensors, tensors);
        for (const other of others)
          assert.ok(
            other.data.every((v) => v === 7),
            `${i} ${act} wrote over a tensor`,
          );
      }
    }
  }));

test("an array is as long as it is, whatever its class says", () =>
  onEachBuild((engine) => {
    class Liar extends Float32Array {
      override get length(): number {
        return 4;
      }
    }
    const others = Array.from({ length: 20 }, () => engine.tensor(zeros(1000).fill(7), [1000]));
    const w = engine.pack(new Float32Array(16), [4, 4]);
    const long = new Liar(100_000).fill(9);
    const before = engine.stats();
    for (const call of [
      () => engine.relu({ data: long, shape: [4] }),
      () => engine.tensor(long, [4]),
      () => engine.pack(long, [2, 2]),
      () => prune(long, [2, 2], "50%"),
      () => engine.linear({ data: zeros(4), shape: [1, 4] }, w, { bias: long }),
    ]) {
      assert.is(codeOf(call), "ERR_LENGTH");
    }
    // Proxies and what only looks like an array have no elements that can be copied.
    const refused = (call: () => unknown) => assert.throws(call, ({ code }: CodedError) => code === "ERR_TYPE");
    for (const data of [new Proxy(zeros(4), {}), Object.create(Float32Array.prototype)]) {
      refused(() => engine.relu({ data, shape: [4] }));
      refused(() => engine.pack(data, [2, 2]));
    }
    refused(() => engine.relu(new Proxy(others[0], {})));
    assert.equal(engine.stats(), before);
    assert.ok(others.every(({ data }) => data.every((v) => v === 7)));
  }));

test("objects that act while they are read get nobody else's memory, and a call that fails leaves out as it was", () =>
  onEachBuild((engine) => {
    /** An array that does something when its element i is read. */
    const acting = <T>(list: T[], i: number, act: () => void): T[] =>
      new Proxy(list, {
        get(target, key, self) {
          if (key === String(i)) act();
          return Reflect.get(target, key, self);
        },
      });
    const detach = (data: Float32Array) => void structuredClone(data.buffer, { transfer: [data.buffer] });

    const t = engine.tensor(zeros(16).fill(3), [16]);
    assert.is(
      codeOf(() => t.reshape(acting([4, 4], 0, () => t.dispose()))),
      "ERR_DISPOSED",
    );

    // A shape that answers otherwise the second time.
    let reads = 0;
    const shape = new Proxy([1, 5000], {
      get: (target, key) => (key === "1" ? (reads++ ? 2 : 5000) : Reflect.get(target, key)),
    });
    const given = engine.fromCsr(new Float32Array([1]), [4999], [0, 1], shape);
    assert.equal([given.shape, reads], [[1, 5000], 1]);

    for (const rows of [1, 5]) {
      for (const sparse of [false, true]) {
        const w = engine.pack(new Float32Array(16).fill(1), [4, 4], { format: "csr" });
        const x = sparse ? engine.toSparse({ data: zeros(rows * 4).fill(1), shape: [rows, 4] }) : undefined;
        const data = zeros(rows * 4);
        const out = engine.tensor(zeros(rows * 4).fill(3), [rows, 4]);
        const residual = { data: zeros(rows * 4).fill(9), shape: [rows, 4] };
        const o = Object.defineProperty({ residual, out }, x ? "bias" : "activation", {
          get: () => (x ? x.dispose() : detach(data)),
          enumerable: true,
        });
        assert.is(
          codeOf(() => engine.linear((x ?? { data, shape: [rows, 4] }) as TensorLike, w, o)),
          x ? "ERR_DISPOSED" : "ERR_LENGTH",
        );
        assert.ok(
          out.data.every((v) => v === 3),
          `${rows} rows, ${x ? "lists" : "an array"}: out was written`,
        );
      }
    }

    // Values that go while the places are read.
    const before = engine.stats();
    const values = () => new Float32Array([1, 2]);
    const lost = values();
    const places = acting([0, 1], 1, () => lost.length && detach(lost));
    assert.is(
      codeOf(() => engine.sparseTensor({ values: lost, indices: places }, [1, 4])),
      "ERR_LENGTH",
    );
    assert.equal(engine.stats(), before);
    const kept = values();
    const indices = acting([0, 1], 1, () => kept.length && detach(kept));
    const csr = engine.fromCsr(kept, indices as never, [0, 2], [1, 4]);
    assert.equal([...csr.toDense()], [1, 2, 0, 0]);
    const nm = values();
    const positions = acting([0, 1], 1, () => nm.length && detach(nm));
    assert.equal([...engine.fromNm(nm, positions as never, [1, 4], { n: 2, m: 4 }).toDense()], [1, 2, 0, 0]);
  }));

test("a call that fails in the middle leaves no tensor, a weight that is gone no streams", () =>
  onEachBuild((engine) => {
    const w = engine.pack(zeros(16).fill(1), [4, 4], { format: "csr" });
    const x = engine.tensor(zeros(4), [1, 4]);
    const late = {
      get activation() {
        x.dispose();
        return "relu" as const;
      },
    };
    assert.is(
      codeOf(() => engine.linear(x, w, late)),
      "ERR_DISPOSED",
    );
    assert.is(engine.stats().tensors, 0);
    const { size } = engine.memory.streams;
    for (let i = 0; i < 10; i++) engine.pack(zeros(4).fill(1), [2, 2]).dispose();
    assert.is(engine.memory.streams.size, size);
  }));

test("streams that a call reads are not given up for its result, nor does memory grow for what cannot fit", async () => {
  const of = async (maxMemory: number) => {
    const engine = await createEngine({ simd: "simd128", maxMemory });
    return { engine, w: engine.pack(zeros(65536).fill(1), [256, 256], { format: "csr" }) };
  };
  const small = await of(2 ** 20);
  const x = small.engine.tensor(zeros(256), [1, 256]);
  small.engine.linear(x, small.w).dispose();
  // One tensor takes all but some 512 bytes: a result has no place but that of the streams that are being read.
  const free = 2 ** 20 - FIRST - 64 - small.engine.stats().bytesInUse - 512;
  const rest = Math.floor(free / 64) * 16 - 16;
  small.engine.tensor(zeros(rest), [rest]);
  assert.is(
    codeOf(() => small.engine.linear(x, small.w)),
    "ERR_MEMORY",
  );
  const { engine, w } = await of(2 ** 24);
  const out = engine.tensor(zeros(8192 * 256), [8192, 256]);
  const { bytesReserved } = engine.stats();
  assert.is(
    codeOf(() => engine.linear(like(8192, 256), w, { out })),
    "ERR_MEMORY",
  );
  assert.is(engine.stats().bytesReserved, bytesReserved);
});

test("pooling counts rows in 31 bits, and refuses windows beyond", () =>
  onEachBuild((engine) => {
    const x = { data: new Float32Array([1, 2, 3, 4]), shape: [1, 1, 4, 1] };
    const most = 2 ** 31 - 1;
    for (const pool of [engine.maxPool2d, engine.avgPool2d]) {
      const run = (kernel: number, padding: number) =>
        pool.call(engine, x, { kernel: [kernel, 1], padding: [padding, 0] }) as Tensor;
      assert.is(
        codeOf(() => run(most, most - 1)),
        "ERR_SHAPE",
      );
    }
    assert.equal([...engine.maxPool2d(x, { kernel: [2 ** 29, 1], padding: [2 ** 29 - 1, 0] }).data], [1, 4]);
  }));

test("toArray is a copy, data is live", () =>
  onEachBuild((engine) => {
    const given = new Float32Array([1, -2, 3]);
    const x = engine.tensor(given, [3]);
    given.fill(0);
    const copy = x.toArray();
    x.data[0] = 5;
    assert.equal([...engine.relu(x).data], [5, 0, 3]);
    assert.equal([...copy], [1, -2, 3]);
    assert.is(x.data, x.data, "no new view each time");
  }));

/** Allocates until memory has grown, and returns what it allocated. */
function grow(engine: Engine): Tensor[] {
  const { bytesReserved } = engine.stats();
  const made: Tensor[] = [];
  while (engine.stats().bytesReserved === bytesReserved) made.push(engine.tensor(zeros(60000).fill(NaN), [60000]));
  return made;
}

test("views and contents survive the growth of memory", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const data = Array.from({ length: 20 }, (_, i) => values(1 + 97 * i, 0, rnd));
    const tensors = data.map((d) => engine.tensor(d, [d.length]));
    const w = engine.pack(values(300, 0.5, rnd), [10, 30], { format: "csr" });
    const x = engine.tensor(values(90, 0, rnd), [3, 30]);
    const y = engine.linear(x, w).toArray();
    for (let round = 0; round < 6; round++) {
      const old = tensors[5].data;
      const made = grow(engine);
      assert.is(old.length, 0, "a view kept across growth is a detached one");
      tensors.forEach((t, i) => {
        sameBits(t.data, data[i], `tensor ${i} after growth ${round}`);
      });
      // What is written into the new view is what the next operation reads.
      tensors[5].data[0] = round;
      data[5][0] = round;
      assert.is(engine.relu(tensors[5]).data[0], round);
      sameBits(engine.linear(x, w).data, y, `a weight's streams after growth ${round}`);
      for (const t of made.slice(1)) t.dispose();
    }
  }));

test("a tensor's own data may go into a call that makes memory grow", async () => {
  const n = 400000;
  const calls: [name: string, call: (engine: Engine, view: Float32Array) => Tensor][] = [
    ["tensor", (engine, view) => engine.tensor(view, [n])],
    ["relu", (engine, data) => engine.relu({ data, shape: [n] })],
    ["add", (engine, data) => engine.add({ data, shape: [n] }, { data: zeros(1), shape: [1] })],
    [
      "residual",
      (engine, data) => {
        const w = engine.pack(zeros(n), [n, 1], { format: "csr" });
        return engine.linear(like(1), w, { residual: { data, shape: [n] } });
      },
    ],
    ["bias", (engine, bias) => engine.linear(like(1), engine.pack(zeros(n), [n, 1], { format: "csr" }), { bias })],
    [
      "conv2d",
      (engine, data) => {
        const w = engine.pack(new Float32Array([1]), [1, 1, 1, 1]);
        return engine.conv2d({ data, shape: [1, 1, 1, n] }, w);
      },
    ],
  ];
  const failures: string[] = [];
  await onEachBuild(async ({ simd }) => {
    for (const [name, call] of calls) {
      const engine = await createEngine({ simd });
      const x = engine.tensor(zeros(n).fill(2), [n]);
      const { bytesReserved } = engine.stats();
      try {
        const y = call(engine, x.data);
        if (!y.data.every((v) => v === 2)) failures.push(`${name}: wrong numbers`);
        assert.ok(engine.stats().bytesReserved > bytesReserved, `${name}: the test needs a growth`);
      } catch (error) {
        failures.push(`${name}: ${error} (${(error as { code?: string }).code})`);
      }
      engine.dispose();
    }
  });
  assert.is(failures.length, 0, failures.join("\n"));
});

test("10,000 rounds of making, running, updating and disposing leave memory as it was", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const kinds = KINDS.map((format) => ({
      format,
      flat: weightsFor(format, 12, 20, 0.5, rnd),
      kernel: weightsFor(format, 4, 18, 0.5, rnd),
      forceKernel: format === "dense" ? "f32_dense_gemv" : "f32_csr_spmv",
    }));
    const image = values(2 * 6 * 6, 0, rnd);
    const bytes: number[] = [];
    for (let i = 0; i < 10000; i++) {
      const { format, flat, kernel, forceKernel } = kinds[i % kinds.length];
      const rows = 1 + (i % 7);
      const x = engine.tensor(values(rows * 20, 0, rnd), [rows, 20]);
      const w = engine.pack(flat, [12, 20], { format });
      const k = engine.pack(kernel, [4, 2, 3, 3], { format });
      const y = engine.linear(x, w, { activation: "relu" });
      w.update(flat);
      const again = engine.linear(x, w, { forceKernel });
      const z = engine.conv2d({ data: image, shape: [1, 2, 6, 6] }, k, { padding: i % 3, stride: 1 + (i % 2) });
      for (const owner of [x, w, y, again, k, z]) owner.dispose();
      if (i === 100 || i === 9999) bytes.push(engine.stats().bytesReserved);
    }
    assert.is(bytes[1], bytes[0], "bytesReserved after 100 and after 10,000 rounds");
    assert.equal(held(engine), NOTHING);
  }));

const LIMIT = 2 ** 21;

/** Calls that need more than 2 MiB, each for another reason; what they work on fits. */
const TOO_LARGE: [why: string, prepare: (engine: Engine) => () => unknown][] = [
  ["tensor", (engine) => () => engine.tensor(zeros(600000), [600000])],
  [
    "linear: the result",
    (engine) => {
      const [x, w] = [engine.tensor(zeros(2800), [700, 4]), engine.pack(zeros(4000), [1000, 4], { format: "dense" })];
      return () => engine.linear(x, w);
    },
  ],
  [
    "linear: x to copy",
    (engine) => {
      const w = engine.pack(zeros(4).fill(1), [1, 4]);
      return () => engine.linear(like(150000, 4), w);
    },
  ],
  [
    "linear: a residual to copy",
    (engine) => {
      const [x, w] = [engine.tensor(zeros(300), [300, 1]), engine.pack(zeros(1000), [1000, 1])];
      return () => engine.linear(x, w, { residual: like(300, 1000) });
    },
  ],
  ...(["dense", "csr", BLOCK, { kind: "nm", n: 4, m: 4 }, SETS] as Format[]).flatMap((kind) => {
    const format = nameOf(kind);
    // Kernels that share indices have smaller streams.
    const n = kind === "csr" ? 600 : 800;
    const pack = (engine: Engine) => engine.pack(zeros(n * n).fill(1), [n, n], { format: kind });
    const one = (call: (engine: Engine, w: PackedWeight) => unknown) => (engine: Engine) => {
      const w = pack(engine);
      return () => call(engine, w);
    };
    return [
      [`linear: ${format} streams`, one((engine, w) => engine.linear(like(2, n), w))],
      [`linear: ${format} streams of a vector`, one((engine, w) => engine.linear(like(n), w))],
      [`w · x: ${format} streams`, one((engine, w) => engine.matmul(w, like(n, 3)))],
      [`x · w: ${format} streams`, one((engine, w) => engine.matmul(like(3, n), w))],
    ] as [string, (engine: Engine) => () => unknown][];
  }),
  ...(
    [
      ["padded planes", [1, 1, 2, 2], [1, 1, 1, 1], { dilation: 800, padding: [0, 0, 800, 800] }],
      ["the result", [1, 1, 1, 1], [1, 1, 1, 1], { padding: 400 }],
      ["streams", [300, 300, 3, 3], [1, 300, 3, 3], {}],
      ["depthwise streams", [60000, 1, 3, 3], [1, 2, 3, 3], { groups: 2 }],
      ["planes to turn", [300, 1, 1, 1], [1, 30, 30, 1], { layout: "nhwc" }],
    ] as [string, number[], number[], Conv2dOptions][]
  ).map(([why, kernel, shape, o]): [string, (engine: Engine) => () => unknown] => [
    `conv2d: ${why}`,
    (engine) => {
      const x = engine.tensor(zeros(sizeOf(shape)), shape);
      const w = engine.pack(zeros(sizeOf(kernel)).fill(1), kernel, { format: "dense" });
      return () => engine.conv2d(x, w, o);
    },
  ]),
  ...(
    [
      ["maxPool2d", (engine, x) => engine.maxPool2d(x, { kernel: 1 })],
      ["avgPool2d", (engine, x) => engine.avgPool2d(x, { kernel: 1 })],
      ["relu", (engine, x) => engine.relu(x)],
      ["sigmoid", (engine, x) => engine.sigmoid(x)],
      ["tanh", (engine, x) => engine.tanh(x)],
      ["softmax", (engine, x) => engine.softmax(x)],
      ["add", (engine, x) => engine.add(x, x)],
      ["mul", (engine, x) => engine.mul(x, { data: zeros(1), shape: [1] })],
    ] as [string, (engine: Engine, x: Tensor) => unknown][]
  ).map(([name, call]): [string, (engine: Engine) => () => unknown] => [
    `${name}: the result`,
    (engine) => {
      const x = engine.tensor(zeros(300000), [1, 3, 1000, 100]);
      return () => call(engine, x);
    },
  ]),
  ["add: a stretched result", (engine) => () => engine.add(like(1000, 1), like(700))],
  ["relu: x to copy", (engine) => () => engine.relu(like(300000))],
  ["globalAvgPool2d: x to copy", (engine) => () => engine.globalAvgPool2d(like(1, 6, 1000, 100))],
];

/** Each call in an engine of its own, limited to 2 MiB. */
async function tooLarge(look: (engine: Engine, why: string, call: () => unknown) => string | undefined): Promise<void> {
  const failures: string[] = [];
  await onEachBuild(async ({ simd }) => {
    for (const [why, prepare] of TOO_LARGE) {
      const engine = await createEngine({ simd, maxMemory: LIMIT });
      const failure = look(engine, why, prepare(engine));
      if (failure) failures.push(`${why}: ${failure}`);
      engine.dispose();
    }
  });
  assert.is(failures.length, 0, `${failures.length} failures:\n  ${failures.join("\n  ")}`);
}

test("maxMemory: what does not fit is ERR_MEMORY, keeps nothing, and the engine goes on", () =>
  tooLarge((engine, _, call) => {
    const before = JSON.stringify(held(engine));
    const code = codeOf(call);
    if (code !== "ERR_MEMORY") return `expected ERR_MEMORY, got ${code}`;
    const after = JSON.stringify(held(engine));
    if (after !== before) return `held ${before} before, ${after} after`;
    if (engine.stats().bytesReserved > LIMIT) return `reserved ${engine.stats().bytesReserved} bytes`;
    const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2], { format: "csr" });
    const y = engine.linear({ data: new Float32Array([3, 4]), shape: [1, 2] }, w);
    const z = engine.relu(y);
    assert.equal([...z.data], [3, 8]);
    for (const owner of [w, y, z]) owner.dispose();
    const left = JSON.stringify(held(engine));
    return left === before ? undefined : `held ${before} before, ${left} after going on`;
  }));

test("maxMemory: what does not fit does not make memory grow either", () =>
  tooLarge((engine, _, call) => {
    const { bytesReserved } = engine.stats();
    codeOf(call);
    const now = engine.stats().bytesReserved;
    return now === bytesReserved ? undefined : `reserved ${bytesReserved} bytes before, ${now} after`;
  }));

test("maxMemory: what kernels read of other weights and shapes makes room before anything is refused", () =>
  onEachBuild(async ({ simd }) => {
    const engine = await createEngine({ simd, maxMemory: LIMIT });
    const rnd = random();
    const n = 380;
    const weights = [1, 2, 3].map(() => values(n * n, 0, rnd));
    const packed = weights.map((w) => engine.pack(w, [n, n], { format: "csr" }));
    const x = values(4 * n, 0, rnd);
    for (let round = 0; round < 2; round++) {
      for (const [i, w] of packed.entries()) {
        const y = engine.linear({ data: x, shape: [4, n] }, w);
        close(y.data, linearOracle(x, weights[i], 4, n, n), `weight ${i} in round ${round}`);
        y.dispose();
        const row = engine.linear({ data: x.subarray(0, n), shape: [1, n] }, w);
        close(row.data, linearOracle(x.subarray(0, n), weights[i], 1, n, n), `one row, weight ${i} in round ${round}`);
        row.dispose();
      }
    }
    // All of them at once would not fit, so some have gone.
    assert.ok(engine.stats().bytesInUse < 2 * n * n * 8, `${engine.stats().bytesInUse} bytes in use`);
    assert.ok(engine.stats().bytesReserved <= LIMIT);

    // Too much for memory without any of them: they stay.
    const before = engine.stats();
    assert.is(
      codeOf(() => engine.tensor(zeros(LIMIT / 4), [LIMIT / 4])),
      "ERR_MEMORY",
    );
    assert.equal(engine.stats(), before);
    const y = engine.linear({ data: x.subarray(0, n), shape: [1, n] }, packed[2]);
    assert.equal(engine.stats(), { ...before, tensors: 1, bytesInUse: engine.stats().bytesInUse });
    y.dispose();
    assert.is(engine.stats().bytesInUse, before.bytesInUse, "made again though they were there");

    // A tensor that fits without them takes their place, and they are made again when it is gone.
    const large = engine.tensor(zeros(LIMIT / 4 - 10000), [LIMIT / 4 - 10000]);
    assert.is(engine.stats().bytesInUse, Math.ceil((LIMIT - 40000 + 16) / 64) * 64);
    large.dispose();
    const again = engine.linear({ data: x, shape: [4, n] }, packed[0]);
    close(again.data, linearOracle(x, weights[0], 4, n, n), "made again");
    for (const owner of [again, ...packed]) owner.dispose();
    assert.equal(held(engine), NOTHING);
    engine.dispose();
  }));

test("maxMemory: streams that would leave no room for the result are not made, nor does memory grow for them", async () => {
  const engine = await createEngine({ maxMemory: 17 * 65536 });
  const w = engine.pack(zeros(512 * 512).fill(1), [512, 512], { format: "dense" });
  const before = engine.stats();
  assert.is(
    codeOf(() => engine.linear(like(200, 512), w)),
    "ERR_MEMORY",
  );
  assert.equal(engine.stats(), before);
  engine.linear(like(1, 512), w).dispose();
  engine.dispose();
});

test("maxMemory: a result that does not fit as lists leaves no streams", async () => {
  const engine = await createEngine({ maxMemory: 2 * 65536 });
  const w = engine.pack(
    zeros(8000 * 4).map((_, i) => (i % 400 ? 0 : 1)),
    [8000, 4],
    { format: "csr" },
  );
  const x = engine.toSparse({ data: zeros(4).fill(1), shape: [1, 4] });
  const walk = engine.explain("linear", x, w).alternatives.find(({ kernel }) => kernel.includes("spmspv"));
  const o = { forceKernel: walk?.kernel };
  const other = engine.tensor(zeros(6000), [6000]);
  const before = held(engine);
  const refused = () => codeOf(() => engine.linear(x, w, { ...o, output: "sparse" }));
  assert.is(refused(), "ERR_MEMORY");
  assert.equal(held(engine), before);
  // Streams that were there stay.
  engine.linear(x, w, o).dispose();
  const after = held(engine);
  assert.ok(after.bytesInUse > before.bytesInUse);
  assert.is(refused(), "ERR_MEMORY");
  assert.equal(held(engine), after);
  for (const owner of [other, x, w]) owner.dispose();
  engine.dispose();
});

test("maxMemory: streams that cannot be made take none of the others with them", async () => {
  const engine = await createEngine({ maxMemory: LIMIT });
  const w = engine.pack(zeros(400 * 400).fill(1), [400, 400], { format: "csr" });
  engine.linear(like(1, 400), w).dispose();
  const before = held(engine);
  assert.ok(before.bytesInUse > 0);
  const rows = Math.floor(LIMIT / 4 / 400) - 50;
  assert.is(
    codeOf(() => engine.linear(like(rows, 400), w)),
    "ERR_MEMORY",
  );
  assert.equal(held(engine), before);
  engine.dispose();
});

test("maxMemory: a memory in 125,000 pieces refuses without an overflow, and keeps its streams", async () => {
  const engine = await createEngine({ maxMemory: 2 ** 25 });
  const w = engine.pack(zeros(300 * 300).fill(1), [300, 300], { format: "csr" });
  engine.linear(like(1, 300), w).dispose();
  engine.linear(like(64, 300), w).dispose();
  const pieces = Array.from({ length: 250_000 }, () => engine.tensor(zeros(1), [1]));
  for (let i = 0; i < pieces.length; i += 2) pieces[i].dispose();
  const before = held(engine);
  assert.is(
    codeOf(() => engine.tensor(zeros(2 ** 23 - 10_000), [2 ** 23 - 10_000])),
    "ERR_MEMORY",
  );
  assert.equal(held(engine), before);
  const y = engine.linear({ data: zeros(300).fill(1), shape: [1, 300] }, w);
  assert.ok(y.data.every((v) => v === 300));
  engine.dispose();
});

test("maxMemory: of a weight, what it keeps for other shapes goes first", async () => {
  const engine = await createEngine({ maxMemory: LIMIT });
  const rnd = random();
  const [data, other] = [values(96 * 96 * 9, 0, rnd), values(64, 0, rnd)];
  const w = engine.pack(data, [96, 96, 3, 3], { format: "csr" });
  const small = engine.pack(other, [8, 8], { format: "csr" });
  engine.linear({ data: zeros(8), shape: [1, 8] }, small).dispose();
  const { bytesInUse } = engine.stats();
  for (let size = 3; size < 12; size++) {
    const x = values(96 * size * size, 0, rnd);
    const y = engine.conv2d({ data: x, shape: [1, 96, size, size] }, w);
    const spec: ConvSizes = {
      n: 1,
      c: 96,
      h: size,
      w: size,
      m: 96,
      kh: 3,
      kw: 3,
      groups: 1,
      stride: [1, 1],
      dilation: [1, 1],
      padding: [0, 0, 0, 0],
    };
    close(y.data, convOracle(x, data, spec), `an image of ${size} × ${size}`);
    y.dispose();
  }
  w.dispose();
  assert.is(engine.stats().bytesInUse, bytesInUse, "the other weight keeps its only one");
  engine.dispose();
});

test("maxMemory: never more than was asked for, and most of it is of use", async () => {
  for (const maxMemory of [65536, 100000, 131072, 1e6, 2 ** 20, 2 ** 21 + 1]) {
    const engine = await createEngine({ maxMemory });
    const pages = Math.floor(maxMemory / 65536) * 65536;
    assert.ok(engine.stats().bytesReserved <= maxMemory);
    // All in one piece.
    const most = Math.floor(((pages - FIRST) * 0.99) / 4);
    const whole = engine.tensor(zeros(most), [most]);
    whole.dispose();
    // In small pieces, until no more fits.
    const made: Tensor[] = [];
    let error: string | undefined;
    while (!error && made.length < 1e5) {
      error = codeOf(() => made.push(engine.tensor(zeros(100).fill(made.length), [100])));
      assert.ok(engine.stats().bytesReserved <= maxMemory, `${engine.stats().bytesReserved} of ${maxMemory}`);
    }
    assert.is(error, "ERR_MEMORY");
    assert.ok(made.length * 448 > (pages - FIRST) * 0.98, `${made.length} tensors of 100 floats in ${maxMemory} bytes`);
    assert.ok(made.every((t, i) => t.data.every((v) => v === i)));
    // Room that comes free is used again, also joined to its neighbours.
    made.splice(10, 5).forEach((t) => {
      t.dispose();
    });
    made.push(engine.tensor(zeros(500).fill(-1), [500]));
    assert.ok(made.every((t, i) => i === made.length - 1 || t.data.every((v) => v === t.data[0] && v >= 0)));
    for (const t of made) t.dispose();
    assert.equal(held(engine), NOTHING);
    engine.tensor(zeros(most), [most]);
    engine.dispose();
  }
});

test("memory: a host that refuses the first bytes is ERR_MEMORY", () => {
  const { Memory: Own } = WebAssembly;
  WebAssembly.Memory = class {
    constructor() {
      throw new RangeError("could not allocate memory");
    }
  } as unknown as typeof Own;
  try {
    assert.throws(
      () => new Memory(),
      (e: RangeError & { code: string }) =>
        e instanceof RangeError &&
        e.code === "ERR_MEMORY" &&
        /^"memory" expected a host with 1048576 bytes/.test(e.message),
    );
  } finally {
    WebAssembly.Memory = Own;
  }
});

test("memory: a host that refuses to grow is ERR_MEMORY, keeps nothing, and the engine goes on", () =>
  onEachBuild((engine) => {
    const { wasm } = engine.memory;
    // The first growth of a call is its result's, the second its scratch's.
    for (const granted of [0, 1]) {
      let left = granted;
      wasm.grow = (pages) => {
        if (left-- <= 0) throw new RangeError("no");
        return WebAssembly.Memory.prototype.grow.call(wasm, pages);
      };
      const before = engine.stats();
      const n = 4e6 * (granted + 1);
      const refused = () => engine.relu({ data: new Float32Array(n), shape: [n] });
      assert.throws(
        refused,
        (e: CodedError) => e.code === "ERR_MEMORY" && /^"memory" expected a host with/.test(e.message),
      );
      const { bytesInUse, tensors, weights } = engine.stats();
      assert.equal([bytesInUse, tensors, weights], [before.bytesInUse, before.tensors, before.weights]);
      assert.equal([...engine.relu({ data: new Float32Array([-1, 2]), shape: [2] }).data], [0, 2]);
      left = Infinity;
      const y = engine.relu({ data: new Float32Array(1e5).fill(-1), shape: [1e5] });
      assert.is(
        y.data.every((v) => v === 0),
        true,
      );
    }
  }));

test("shapes are what they were checked to be", () =>
  onEachBuild((engine) => {
    const w = engine.pack(new Float32Array([1, 0, 0, 2]), new Int32Array([2, 2]) as never);
    const x = engine.tensor(new Float32Array([3, 4]), [1, 2]);
    const lists = engine.toSparse(x);
    for (const { shape } of [w, x, engine.relu(x), engine.linear(x, w), lists, x.reshape([2])]) {
      assert.throws(() => Object.assign(shape, { 0: 1e6 }), /read only/);
    }
    // Read once: what answers otherwise a second time changes nothing.
    let reads = 0;
    const shape = new Proxy([1, 2], {
      get: (target, key) => (key === "0" ? (reads++ ? 1e6 : 1) : Reflect.get(target, key)),
    });
    assert.equal(engine.linear({ data: new Float32Array([3, 4]), shape }, w).shape, [1, 2]);
    let biases = 0;
    const o = {
      get bias() {
        return new Float32Array(biases++ ? 1e6 : 2).fill(1);
      },
    };
    assert.equal([...engine.linear(x, w, o).data], [4, 9]);
    assert.equal([reads, biases], [1, 1]);
    assert.throws(() => engine.tensor(new Float32Array(1), new Array(33).fill(1)), /at most 32 dimensions/);
  }));

test("arrays of another realm, and onnxruntime's spelling beside an empty one of ours", () =>
  onEachBuild((engine) => {
    const foreign = runInNewContext("Float32Array.of(3, 4)") as Float32Array;
    assert.not(foreign instanceof Float32Array);
    const w = engine.pack(runInNewContext("Float32Array.of(1, 0, 0, 2)"), [2, 2]);
    const x = { data: foreign, shape: undefined, dims: [1, 2] };
    assert.equal([...engine.linear(x as never, w, { bias: foreign }).data], [6, 12]);
    const inContext = (code: string) => runInNewContext(code) as never;
    const shape = inContext("Int32Array.of(2, 2)");
    assert.equal([...engine.pack(Float32Array.of(1, 0, 0, 2), shape).toDense()], [1, 0, 0, 2]);
    const indices = inContext("BigInt64Array.of(1n, 0n)");
    const csr = engine.fromCsr(foreign, indices, inContext("Uint16Array.of(0, 1, 2)"), [2, 2]);
    assert.equal([...csr.toDense()], [0, 3, 4, 0]);
    const halves = inContext("Int16Array.of(3, 0)");
    assert.equal([...engine.fromNm(foreign, halves, [1, 8], { n: 1, m: 4 }).toDense()], [0, 0, 0, 3, 4, 0, 0, 0]);
    const file = writeSafetensors({ w: { shape: [1, 2], data: foreign } });
    for (const bytes of [inContext(`Uint8Array.of(${file})`), inContext(`Uint8Array.of(${file}).buffer`)]) {
      assert.equal([...toFloat32(readSafetensors(bytes).tensors.get("w") as SafetensorsEntry)], [3, 4]);
      assert.is(inspect(engine, bytes).length, 1);
      assert.equal(Object.keys(engine.deserialize(bytes).weights), []);
    }
    assert.is(inspect(engine, [["w", { shape, data: Float32Array.of(1, 0, 0, 2) }]]).length, 1);
    const lists = { indices: inContext("Int32Array.of(1)"), values: inContext("Float32Array.of(5)") };
    assert.equal([...engine.sparseTensor(lists, [1, 2]).toDense().data], [0, 5]);
    const other = { dtype: "f32" as never, shape: [2, 2], data: new Float32Array(4) };
    assert.throws(() => inspect(engine, [["w", other]]), /"w.dtype" expected a dtype of safetensors, got "f32"/);
    const words = { indices: inContext("BigInt64Array.of(1n)"), values: Float32Array.of(5) };
    assert.throws(() => engine.sparseTensor(words, [1, 2]), /"indices" expected an array of integers/);
  }));

test("millions of rows of outputs are refused before they are planned", () =>
  onEachBuild(
    (engine) => {
      const x = { data: new Float32Array(16).fill(1), shape: [1, 1, 4, 4] };
      for (const format of ["dense", "csr"] as const) {
        const w = engine.pack(new Float32Array(9).fill(1), [1, 1, 3, 3], { format });
        const tall: Conv2dOptions = { padding: [0, 1, 2 ** 26, 1] };
        const over: Conv2dOptions = { padding: [0, 1, 2 ** 28, 1] };
        for (const input of [x, engine.toSparse(x)]) {
          assert.throws(
            () => engine.conv2d(input, w, tall),
            ({ code }: CodedError) => code === "ERR_MEMORY",
          );
          assert.ok(engine.explain("conv2d", input, w, tall).macs > 2 ** 26);
          assert.throws(
            () => engine.conv2d(input, w, over),
            ({ code }: CodedError) => code === "ERR_SHAPE",
          );
          assert.throws(
            () => engine.explain("conv2d", input, w, over),
            ({ code }: CodedError) => code === "ERR_SHAPE",
          );
        }
        // As many as are planned row by row, and more.
        for (const rows of [2 ** 14, 2 ** 14 + 1]) {
          const { data, shape } = engine.conv2d(x, w, { padding: [0, 1, rows - 2, 1] });
          assert.equal([shape[2], data[1], data[5], data[9]], [rows, 9, 9, 6]);
          assert.is(
            data.subarray(16).every((v) => v === 0),
            true,
          );
        }
      }
    },
    { maxMemory: 64 * 1024 * 1024 },
  ));

test("hundreds of millions of rows without an input are refused before they are planned", () =>
  onEachBuild(
    (engine) => {
      const rows = { data: new Float32Array(0), shape: [2 ** 29, 0] };
      const columns = { data: new Float32Array(0), shape: [0, 2 ** 29] };
      for (const format of ["dense", "csr"] as const) {
        for (const [outputs, code] of [
          [1, "ERR_MEMORY"],
          [64, "ERR_SHAPE"],
        ] as const) {
          const w = engine.pack(new Float32Array(0), [outputs, 0], { format });
          const v = engine.pack(new Float32Array(0), [0, outputs], { format });
          const calls = [() => engine.linear(rows, w), () => engine.matmul(rows, v), () => engine.matmul(w, columns)];
          for (const call of calls) assert.is(codeOf(call), code);
          const plans = [
            () => engine.explain("linear", rows, w).macs,
            () => engine.explain("matmul", rows, v).macs,
            () => engine.explain("matmul", w, columns).macs,
          ];
          for (const plan of plans) {
            if (outputs === 1) assert.is(plan(), 0);
            else assert.is(codeOf(plan), code);
          }
        }
      }
    },
    { maxMemory: 64 * 1024 * 1024 },
  ));

test("options may be inherited, with an output or without", () =>
  onEachBuild((engine) => {
    const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2]);
    const x = { data: new Float32Array([-1, 3]), shape: [1, 2] };
    const base = { activation: "relu" as const };
    const dense: LinearOptions = Object.create(base, { output: { value: "dense", enumerable: true } });
    assert.equal([...engine.linear(x, w, Object.create(base) as LinearOptions).data], [0, 6]);
    assert.equal([...engine.linear(x, w, dense).data], [0, 6]);
    const sparse = Object.create(base, { output: { value: "sparse" } });
    assert.instance(engine.linear(x, w, sparse), SparseTensor);
    const winners: Tensor = engine.kWinners(
      x,
      Object.create({ k: 1, output: "dense" }) as { k: number; output: "dense" },
    );
    assert.equal([...winners.data], [0, 3]);
  }));

test("maxMemory: what an operation worked in is there for tensors and weights afterwards", async () => {
  const afterwards: [name: string, call: (engine: Engine) => Tensor][] = [
    ["tensor", (engine) => engine.tensor(zeros(150000), [150000])],
    ["result", (engine) => engine.add(like(300, 1), like(500))],
    [
      "streams",
      (engine) => engine.linear(like(2, 270), engine.pack(zeros(270 * 270).fill(1), [270, 270], { format: "csr" })),
    ],
  ];
  for (const [name, call] of afterwards) {
    const engine = await createEngine({ maxMemory: 2 ** 20 });
    const k = engine.pack(zeros(4).fill(1), [1, 1, 2, 2]);
    // Padded planes of 640 kB for one pixel.
    engine.conv2d(like(1, 1, 1, 1), k, { dilation: 400, padding: [0, 0, 400, 400] }).dispose();
    k.dispose();
    assert.equal(held(engine), NOTHING);
    const y = call(engine);
    assert.ok(
      y.data.every((v) => v === 0),
      name,
    );
    engine.dispose();
  }
});

test("addresses above 2 GiB", async () => {
  const engine = await createEngine({ simd: "simd128" });
  const low = everything(engine, random());
  const { memory } = engine;
  try {
    // Nothing of it is touched, so the host need not have it.
    memory.alloc(2 ** 31 + 2 ** 20);
  } catch {
    console.log("SKIP addresses above 2 GiB: the host has no room for them");
    engine.dispose();
    return;
  }
  // Small blocks at low addresses that first fit would take.
  const fill: number[] = [];
  for (const size of [2 ** 19, 2 ** 16, 2 ** 12, 2 ** 8, 64]) {
    for (let ptr = memory.alloc(size); ptr < 2 ** 31; ptr = memory.alloc(size)) fill.push(ptr);
  }
  const x = engine.tensor(new Float32Array([1, -2]), [2]);
  assert.ok(x.ptr > 2 ** 31);
  sameResults(everything(engine, random()), low, "above 2 GiB");
  engine.dispose();
});

test("after engine.dispose every call is ERR_DISPOSED", async () => {
  const engine = await createEngine();
  const x = engine.tensor(zeros(6), [2, 3]);
  const image = engine.tensor(zeros(16), [1, 1, 4, 4]);
  const w = engine.pack(zeros(9), [3, 3]);
  const k = engine.pack(zeros(4), [1, 1, 2, 2]);
  engine.linear(x, w);
  engine.dispose();
  engine.dispose();
  assert.is(engine.disposed, true);
  for (const thing of [x, w]) assert.ok(thing.disposed, `a ${thing.constructor.name} outlives its engine`);
  assert.equal(engine.stats(), { bytesReserved: 0, bytesInUse: 0, tensors: 0, weights: 0 });
  const calls: (() => unknown)[] = [
    () => engine.tensor(zeros(6), [6]),
    () => engine.pack(zeros(6), [2, 3]),
    () => engine.linear(x, w),
    () => engine.linear(like(2, 3), w),
    () => engine.matmul(w, like(3, 3)),
    () => engine.matmul(x, w),
    () => engine.conv2d(image, k),
    () => engine.conv2d(like(1, 1, 4, 4), k),
    ...[image, like(1, 1, 4, 4)].flatMap((i) => [
      () => engine.maxPool2d(i, { kernel: 2 }),
      () => engine.avgPool2d(i, { kernel: 2 }),
      () => engine.globalAvgPool2d(i),
      () => engine.add(i, i),
      () => engine.mul(i, i),
      () => engine.relu(i),
      () => engine.relu(i, { out: image }),
      () => engine.sigmoid(i),
      () => engine.tanh(i),
      () => engine.softmax(i),
    ]),
    () => engine.explain("linear", like(2, 3), w),
    () => engine.explain("matmul", w, like(3, 3)),
    () => engine.explain("conv2d", like(1, 1, 4, 4), k),
    () => x.data,
    () => x.toArray(),
    () => x.reshape([6]),
    () => w.toDense(),
    () => w.update(zeros(9)),
  ];
  for (const call of calls) refuses(engine, "ERR_DISPOSED", /expected .+ that lives/, call);
  // Disposing what is gone is no error, in any order.
  for (const owner of [x, image, w, k, engine]) owner.dispose();
  assert.is(x.disposed, true);
});

test("two engines side by side", async () => {
  const [a, b] = [await createEngine({ simd: "simd128" }), await createEngine({ simd: "simd128" })];
  const x = a.tensor(zeros(6).fill(1), [2, 3]);
  const w = b.pack(zeros(6).fill(1), [2, 3]);
  const own = a.pack(zeros(6).fill(2), [2, 3]);
  refuses(a, "ERR_ENGINE", /^"w" expected a weight of this engine/, () => a.linear(x, w));
  refuses(b, "ERR_ENGINE", /^"x" expected a tensor of this engine/, () => b.linear(x, w));
  sameResults(everything(a, random()), everything(b, random()), "both engines");
  b.dispose();
  assert.equal([...a.linear(x, own).data], [6, 6, 6, 6]);
  a.dispose();
});

test("simd chooses the build", async () => {
  for (const simd of ["simd128", "relaxed", "auto", undefined] as const) {
    if (simd === "relaxed" && !supports("relaxed")) {
      console.log(`SKIP simd relaxed: Node ${process.version} has no relaxed SIMD without a flag`);
      continue;
    }
    const engine = await createEngine(simd && { simd });
    const best = supports("relaxed") ? "relaxed" : "simd128";
    assert.is(engine.simd, simd === undefined || simd === "auto" ? best : simd);
    engine.dispose();
  }
});

const bytes = new Uint8Array(readFileSync(new URL("../build/simd128.wasm", import.meta.url)));
const response = () => new Response(bytes, { headers: { "content-type": "application/wasm" } });

test("wasm may be bytes, a module, a response, or a promise of one", async () => {
  const embedded = await createEngine({ simd: "simd128" });
  const expected = everything(embedded, random());
  embedded.dispose();
  const padded = new Uint8Array(bytes.length + 8);
  padded.set(bytes, 4);
  const sources: [name: string, wasm: EngineOptions["wasm"]][] = [
    ["Uint8Array", bytes],
    ["a view", padded.subarray(4, 4 + bytes.length)],
    ["ArrayBuffer", bytes.slice().buffer],
    ["Module", new WebAssembly.Module(bytes)],
    ["Response", response()],
    ["a promise of bytes", Promise.resolve(bytes)],
    ["a promise of a module", WebAssembly.compile(bytes)],
    ["a promise of a response", Promise.resolve(response())],
    ["a response of another type", new Response(bytes)],
  ];
  for (const [name, wasm] of sources) {
    const engine = await createEngine({ simd: "simd128", wasm });
    assert.is(engine.simd, "simd128");
    sameResults(everything(engine, random()), expected, name);
    engine.dispose();
  }
  const missing = await createEngine({ wasm: new Response("", { status: 404 }) }).catch((reason: Error) => reason);
  assert.match((missing as Error).message, /^"wasm" expected .*: Error: HTTP status 404/);
  const failing = Promise.reject(new Error("the user's own"));
  const error = await createEngine({ wasm: failing }).catch((reason: Error) => reason);
  assert.is((error as Error).message, "the user's own");
});

test("engine.simd says what runs, also for a module that the host brought", async () => {
  const engine = await createEngine({ wasm: bytes });
  assert.is(engine.simd, "simd128");
  engine.dispose();
});

test("one module serves several engines", async () => {
  const module = new WebAssembly.Module(bytes);
  const engines = await Promise.all([1, 2, 3].map(() => createEngine({ simd: "simd128", wasm: module })));
  const ys = engines.map((engine) => everything(engine, random()));
  for (const y of ys) sameResults(y, ys[0], "engines of one module");
  for (const engine of engines) engine.dispose();
});

/** A block of the allocator with the byte that fills it. */
interface Block {
  ptr: number;
  bytes: number;
  mark: number;
}

/** The allocator next to a plain list of what it handed out. */
class Model {
  readonly live: Block[] = [];
  /** Of the operation that runs. */
  scratch: Block[] = [];
  #mark = 1;

  constructor(readonly memory: Memory) {}

  #view = ({ ptr, bytes }: Block) => new Uint8Array(this.memory.wasm.buffer, ptr, bytes);

  #take(ptr: number, bytes: number): Block {
    this.#mark = (this.#mark % 255) + 1;
    const block = { ptr, bytes, mark: this.#mark };
    assert.is(ptr % 64, 0, `address ${ptr} is not aligned`);
    assert.ok(ptr > 0, "address 0 means none");
    assert.ok(
      ptr + bytes + 16 <= this.memory.reserved - 64,
      `${ptr} + ${bytes} reaches the end of ${this.memory.reserved}`,
    );
    for (const other of [...this.live, ...this.scratch]) {
      const apart = ptr + bytes + 16 <= other.ptr || other.ptr + other.bytes + 16 <= ptr;
      assert.ok(apart, `${ptr} + ${bytes} overlaps ${other.ptr} + ${other.bytes}`);
    }
    this.#view(block).fill(block.mark);
    return block;
  }

  alloc(bytes: number): boolean {
    const { inUse } = this.memory;
    try {
      const ptr = this.memory.alloc(bytes);
      this.live.push(this.#take(ptr, bytes));
      assert.ok(this.memory.inUse >= inUse + bytes);
      return true;
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_MEMORY", String(error));
      assert.is(this.memory.inUse, inUse);
      return false;
    }
  }

  free(which: number): void {
    if (!this.live.length) return;
    const [block] = this.live.splice(which % this.live.length, 1);
    assert.ok(
      this.#view(block).every((b) => b === block.mark),
      "somebody wrote into a living block",
    );
    const { inUse } = this.memory;
    this.memory.free(block.ptr);
    assert.ok(this.memory.inUse <= inUse - block.bytes);
  }

  /** An operation: a result or none, and what it works in, which is its own until the end of it. */
  work(result: number | undefined, sizes: number[], meanwhile: number): void {
    const { inUse, reserved } = this.memory;
    try {
      const scratch = sizes.slice();
      const ptr = this.memory.working(result, scratch);
      // Nothing has no place of its own.
      scratch.forEach((at, i) => {
        if (sizes[i]) this.scratch.push(this.#take(at, sizes[i]));
      });
      if (result === undefined) assert.is(ptr, 0);
      else this.live.push(this.#take(ptr, result));
      assert.ok(this.memory.inUse >= inUse + (result ?? 0));
      // What is allocated during it must not be taken from its scratch.
      this.alloc(meanwhile);
      this.check();
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_MEMORY", String(error));
      assert.equal([this.memory.inUse, this.memory.reserved], [inUse, reserved], "after a refusal");
    }
    this.scratch = [];
    this.memory.rest();
  }

  check(): void {
    for (const block of [...this.live, ...this.scratch]) {
      const bad = this.#view(block).findIndex((b) => b !== block.mark);
      assert.is(bad, -1, `byte ${bad} of the block at ${block.ptr} was overwritten`);
    }
    for (const { ptr, bytes } of this.live) {
      const tail = new Uint8Array(this.memory.wasm.buffer, ptr + bytes, 16);
      assert.ok(
        tail.every((b) => b === 0),
        `the tail of the block at ${ptr} is ${tail}`,
      );
    }
  }
}

type Step = ["alloc", number] | ["free", number] | ["work", [number | undefined, number[], number]];
const words = (most: number) => fc.nat(most).map((n) => n * 4);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("alloc" as const), fc.oneof(words(40), words(3000), words(60000))) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("free" as const), fc.nat()) },
  {
    weight: 2,
    arbitrary: fc.tuple(
      fc.constant("work" as const),
      fc.tuple(fc.option(words(20000), { nil: undefined }), fc.array(words(5000), { maxLength: 6 }), words(1000)),
    ),
  },
);

function play(model: Model, steps: Step[]): void {
  for (const [what, with_] of steps) {
    if (what === "alloc") model.alloc(with_);
    else if (what === "free") model.free(with_);
    else model.work(...with_);
  }
  model.check();
}

test("allocator: blocks are apart, aligned, ended by zeros, and never at the end of memory", () => {
  const limit = fc.constantFrom(undefined, 65536, 2 ** 17 + 5, 2 ** 20, 2 ** 21);
  const property = fc.property(fc.array(step, { maxLength: 120 }), limit, (steps, max) => {
    const model = new Model(new Memory(max));
    play(model, steps);
    assert.ok(model.memory.reserved <= (max ?? Infinity));
    while (model.live.length) model.free(0);
    assert.is(model.memory.inUse, 0);
  });
  fc.assert(property, { seed, numRuns: 120 });
});

test("allocator: what is free merges, so that repeating a load reserves nothing more", () => {
  const property = fc.property(fc.array(step, { minLength: 1, maxLength: 80 }), (steps) => {
    const model = new Model(new Memory());
    const reserved: number[] = [];
    for (let round = 0; round < 6; round++) {
      play(model, steps);
      while (model.live.length) model.free(round % 2 ? model.live.length - 1 : 0);
      reserved.push(model.memory.reserved);
    }
    // The scratch block may move once it has reached its size; then all is settled.
    assert.is(reserved[5], reserved[2], `reserved ${reserved}`);
  });
  fc.assert(property, { seed, numRuns: 60 });
});

test("allocator: freed in any order, all of it is one block again", () => {
  const order = fc.array(fc.nat(), { minLength: 40, maxLength: 40 });
  const property = fc.property(fc.array(words(2000), { minLength: 40, maxLength: 40 }), order, (sizes, which) => {
    const model = new Model(new Memory());
    for (const size of sizes) model.alloc(size);
    for (const w of which) model.free(w);
    const { reserved } = model.memory;
    // All that is reserved but the ends and the tail.
    assert.ok(model.alloc(reserved - FIRST - 64 - 64));
    assert.is(model.memory.reserved, reserved);
  });
  fc.assert(property, { seed, numRuns: 100 });
});

test("allocator: full to the last block, but for the guard at the end", () => {
  for (const max of [65536, 2 ** 17, 2 ** 18]) {
    for (const bytes of [48, 176, 4096]) {
      const model = new Model(new Memory(max));
      while (model.alloc(bytes));
      model.check();
      assert.is(model.memory.reserved, max);
    }
  }
});

test("allocator: freeing what is not there does nothing", () => {
  const memory = new Memory();
  const ptr = memory.alloc(100);
  const { inUse } = memory;
  for (const none of [0, ptr + 64, 12345, -1, 2 ** 40]) memory.free(none);
  assert.is(memory.inUse, inUse);
  memory.free(ptr);
  memory.free(ptr);
  assert.is(memory.inUse, 0);
  const [a, b] = [memory.alloc(100), memory.alloc(100)];
  assert.is.not(a, b);
});

/** A number that a weight may hold: mostly ordinary ones, zeros of both signs, and what is no number. */
const weightValue = fc.oneof(
  { weight: 6, arbitrary: fc.float({ noNaN: true }) },
  { weight: 6, arbitrary: fc.constantFrom(0, -0) },
  { weight: 1, arbitrary: fc.constantFrom(NaN, Infinity, -Infinity, 1e-45, -3.4e38) },
);
const weightShape = fc.oneof(
  fc.tuple(fc.nat(9), fc.nat(12)),
  fc.tuple(fc.nat(17), fc.nat(40)),
  fc.tuple(fc.nat(5), fc.nat(4), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
);

/** What is packed, in the library's own order of dimensions and in the one that a layout gives it. */
interface Given {
  ours: number[];
  values: Float32Array;
  layout: WeightLayout;
  shape: number[];
  data: Float32Array;
}

function given(ours: readonly number[], values: Float32Array, turned: boolean): Given {
  const [out, inn, ...taps] = ours;
  const flat = ours.length === 2;
  const layout = flat ? (turned ? "io" : "oi") : turned ? "hwio" : "oihw";
  const shape = turned ? [...taps, inn, out] : [...ours];
  return {
    ours: [...ours],
    values,
    layout,
    shape,
    data: turned ? toSpotsInOut(values, out, inn, sizeOf(taps)) : values,
  };
}

const packed = fc
  .tuple(weightShape, fc.constantFrom<PackFormat>("auto", ...FORMATS), fc.boolean())
  .chain(([shape, format, turned]) => {
    const n = sizeOf(shape);
    return fc.array(weightValue, { minLength: n, maxLength: n }).map((list) => {
      const w = Float32Array.from(list);
      const [rows, ...cols] = shape;
      if (typeof format === "object" && format.kind === "nm") {
        keepNm(w, rows, sizeOf(cols), format.n, format.m, () => 0);
      }
      return { format, ...given(shape, w, turned) };
    });
  });

/** Bytes that a format's description makes of a matrix; all but the number of sets is known beforehand. */
function bytesOf(format: Format, w: Float32Array, rows: number, cols: number, bytes: number): number {
  const nnz = w.filter((v) => v !== 0).length;
  if (format === "dense") return 4 * w.length;
  if (format === "csr") return 4 * (rows + 1) + 6 * nnz;
  if (format.kind === "nm") {
    const { n, m } = format;
    const places = Math.floor(cols / m) * n + Math.min(n, cols % m);
    const bits = m <= 4 ? 2 : m <= 16 ? 4 : m <= 256 ? 8 : 16;
    return rows * (places * 4 + Math.ceil((places * bits) / 8));
  }
  if (format.kind === "block") {
    const { rows: r, cols: c } = format;
    const wide = Math.ceil(cols / c);
    const blocks = new Set<number>();
    w.forEach((v, i) => {
      if (v !== 0) blocks.add(Math.floor(Math.floor(i / cols) / r) * wide + Math.floor((i % cols) / c));
    });
    return 4 * (Math.ceil(rows / r) + 1) + blocks.size * (2 + 4 * r * c);
  }
  const { overlay, blockRows = 1 } = format;
  const set = 4 * overlay + cols * (1 + 4 * blockRows);
  const count = Math.ceil(rows / blockRows);
  return set * Math.min(count, Math.max(Math.ceil(count / overlay), Math.round(bytes / set)));
}

test("weights: toDense gives back what was packed, and the numbers about it are right", () =>
  onEachBuild((engine) => {
    const property = fc.property(packed, ({ ours, values, format, layout, shape, data }) => {
      const w = engine.pack(data, shape, { format, layout });
      const label = `${nameOf(format)} ${layout} [${shape}]`;
      assert.equal([...w.shape], ours);
      if (typeof format === "object" && format.kind === "complementary") {
        // No more of them than the largest set has.
        const { overlay } = w.format as typeof format;
        assert.ok(overlay >= 1 && overlay <= format.overlay, label);
        assert.equal(w.format, { ...format, overlay });
      } else if (format !== "auto") assert.equal(w.format, format);
      const nnz = data.filter((v) => v !== 0).length;
      assert.is(w.nnz, nnz);
      assert.is(w.density, data.length ? nnz / data.length : 0);
      const cols = sizeOf(ours.slice(1));
      assert.is(w.byteLength, bytesOf(w.format, values, ours[0], cols, w.byteLength), label);
      // −0 is a zero, and only dense weights store those.
      const same = w.format === "dense" ? data : data.map((v) => (v === 0 ? 0 : v));
      const dense = w.toDense();
      sameBits(dense, same, label);
      dense.fill(1);
      sameBits(w.toDense(), same, `${label}, a second time`);
      w.dispose();
      assert.equal(held(engine), NOTHING);
    });
    fc.assert(property, { seed, numRuns: 1500 });
  }));

test("weights: a NaN comes back with all its bits", () =>
  onEachBuild((engine) => {
    // Signalling, which a float register would quiet, negative, and with a payload.
    const data = new Float32Array(Uint32Array.of(0x7f800001, 0, 0xffa00002, 0, 0, 0x7fc12345, 0, 0x3f800000).buffer);
    for (const format of [...FORMATS, "auto" as const]) {
      if (typeof format === "object" && format.kind === "nm" && format.n < format.m / 2) continue;
      for (const layout of ["oi", "io"] as const) {
        const w = engine.pack(data, [2, 4], { format, layout });
        assert.equal(
          [...new Uint32Array(w.toDense().buffer)],
          [...new Uint32Array(data.buffer)],
          nameOf(format) + layout,
        );
      }
    }
  }));

test("auto offers blocks as full as pay: a convolution from 80%, a matrix, which may meet one row, from 60%", () =>
  onEachBuild((engine) => {
    for (const [full, ofImages, ofRows] of [
      [9, true, true],
      [7, false, true],
      [5, false, false],
    ] as const) {
      // A fifth of all 4x1 blocks, in which `full` of ten floats are no zeros, apart from each other.
      const data = new Float32Array(256 * 60).map((_, i) => {
        const [row, column] = [Math.floor(i / 60), i % 60];
        return column % 5 || (row * 3 + column) % 10 >= full ? 0 : 1 + i / 1e4;
      });
      const offered = (...shape: number[]) =>
        engine
          .pack(data, shape)
          .explain()
          .alternatives.some(
            ({ format }) => typeof format === "object" && format.kind === "block" && format.rows === 4,
          );
      assert.is(offered(256, 60, 1, 1), ofImages, `${full}0% of images`);
      assert.is(offered(256, 60), ofRows, `${full}0% of rows`);
    }
  }));

test("explain of a format that was asked for tells its own speed, and how empty it is", () =>
  onEachBuild((engine) => {
    const data = weightsFor("csr", 64, 128, 0.95, random());
    const format = { kind: "complementary", overlay: 4, blockRows: 4 } as const;
    const w = engine.pack(data, [64, 128], { format });
    const { reason, alternatives } = w.explain();
    // As it was made: no set may have had room for a fourth block row.
    const name = formatName(w.format);
    assert.match(name, /^complementary [1-4]x4$/);
    assert.match(reason, RegExp(`^asked for: .*, ${name}, \\d+% full predicted at `));
    assert.ok(alternatives.some((other) => formatName(other.format) === name));
    assert.match(
      engine.pack(data, [64, 128], { format: "dense" }).explain().reason,
      /^asked for dense: .* csr predicted at /,
    );
  }));

test("weights: columns beyond 16 bits", () =>
  onEachBuild((engine) => {
    const cols = 65536 + 40;
    const data = zeros(2 * cols);
    for (const at of [0, 65535, 65536, cols - 1, cols + 3, 2 * cols - 1]) data[at] = at + 1;
    const x = values(3 * cols, 0, random());
    const rows = { data: x, shape: [3, cols] };
    const row = { data: x.subarray(0, cols), shape: [cols] };
    const wide = { data: x.subarray(0, 2 * cols), shape: [1, 2 * cols] };
    const formats: Format[] = [
      "csr",
      { kind: "block", rows: 2, cols: 1 },
      { kind: "block", rows: 1, cols: 4 },
      NM,
      SETS,
    ];
    for (const format of formats) {
      const label = `${engine.simd} ${nameOf(format)}`;
      const w = engine.pack(data, [2, cols], { format });
      if (format === "csr") assert.is(w.byteLength, 3 * 4 + 6 * 8);
      sameBits(w.toDense(), data, `${label}: toDense`);
      const tall = engine.pack(data, [2 * cols, 1], { format });
      sameBits(tall.toDense(), data, `${label}: toDense of a column`);
      const calls: [name: string, expected: Expected, call: (forceKernel?: string) => Tensor][] = [
        ["three rows", linearOracle(x, data, 3, cols, 2), (forceKernel) => engine.linear(rows, w, { forceKernel })],
        ["one row", linearOracle(row.data, data, 1, cols, 2), (forceKernel) => engine.linear(row, w, { forceKernel })],
        [
          "many rows, transposed",
          linearOracle(wide.data, data, 1, 2 * cols, 1),
          (forceKernel) => engine.matmul(wide, tall, { forceKernel }),
        ],
      ];
      for (const [name, expected, call] of calls) {
        for (const kernel of [undefined, ...kernelsOf(call)]) {
          const y = call(kernel);
          close(y.data, expected, `${label}: ${name} by ${kernel}`);
          y.dispose();
        }
      }
      w.dispose();
      tall.dispose();
    }
  }));

type Use = (w: PackedWeight, forceKernel?: string) => Tensor;

/** Every operation that takes a weight of this shape, so that every kind of its streams can be used. */
function usesOf(engine: Engine, [m, k, ...taps]: readonly number[], rnd: () => number): Use[] {
  if (!taps.length) {
    const [row, rows, column, columns] = [filled(rnd, k), filled(rnd, 7, k), filled(rnd, k, 1), filled(rnd, k, 9)];
    const [back, backs] = [filled(rnd, 1, m), filled(rnd, 6, m)];
    return [
      (w, forceKernel) => engine.linear(row, w, { forceKernel }),
      (w, forceKernel) => engine.linear(rows, w, { forceKernel }),
      (w, forceKernel) => engine.matmul(w, column, { forceKernel }),
      (w, forceKernel) => engine.matmul(w, columns, { forceKernel }),
      (w, forceKernel) => engine.matmul(back, w, { forceKernel }),
      (w, forceKernel) => engine.matmul(backs, w, { forceKernel }),
    ];
  }
  const [image, pixels, groups] = [filled(rnd, 1, k, 5, 6), filled(rnd, 1, 6, 5, 2 * k), filled(rnd, 2, k * m, 4, 4)];
  return [
    (w, forceKernel) => engine.conv2d(image, w, { forceKernel }),
    (w, forceKernel) => engine.conv2d(image, w, { padding: 1, forceKernel }),
    (w, forceKernel) => engine.conv2d(pixels, w, { stride: 2, layout: "nhwc", groups: 2, forceKernel }),
    (w, forceKernel) => engine.conv2d(groups, w, { padding: "same", groups: m, forceKernel }),
  ];
}

/** The numbers of a result, which is disposed. */
function taken(y: Tensor): Float32Array {
  const copy = y.toArray();
  y.dispose();
  return copy;
}

const SHAPES = [
  [6, 10],
  [17, 33],
  [4, 3, 3, 3],
  [4, 1, 3, 2],
  [2, 5, 1, 1],
];

test("weights: after update every operation uses the new numbers, by every kernel", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of ["auto", ...FORMATS] as PackFormat[]) {
      for (const [i, shape] of SHAPES.entries()) {
        const [rows, ...cols] = shape;
        const structure = format === "auto" ? FORMATS[i] : format;
        const old = weightsFor(structure, rows, sizeOf(cols), 0.5, rnd);
        for (const turned of [false, true]) {
          const { layout, shape: own, data } = given(shape, old, turned);
          const label = `${engine.simd} ${nameOf(format)} ${layout} [${shape}]`;
          const w = engine.pack(data, own, { format, layout });
          // Zeros that are stored take numbers too.
          const next = given(
            shape,
            placesOf(w).map((place) => (place ? rnd() - 2 : 0)),
            turned,
          ).data;
          const fresh = engine.pack(data, own, { format, layout });
          fresh.update(next);
          sameBits(fresh.toDense(), next, `${label}: toDense`);
          assert.is(fresh.nnz, next.filter((v) => v !== 0).length);
          for (const [u, use] of usesOf(engine, shape, rnd).entries()) {
            for (const kernel of [undefined, ...kernelsOf((name) => use(w, name))]) {
              const which = `${label}: operation ${u} by ${kernel}`;
              const before = taken(use(w, kernel));
              const given = next.slice();
              w.update(given);
              given.fill(7); // a copy was taken
              const after = taken(use(w, kernel));
              sameBits(after, taken(use(fresh, kernel)), which);
              if (fresh.nnz)
                assert.ok(
                  after.some((v, at) => v !== before[at]),
                  `${which}: nothing has changed`,
                );
              w.update(data);
              sameBits(taken(use(w, kernel)), before, `${which}, back again`);
            }
          }
          fresh.dispose();
          w.dispose();
        }
      }
    }
    assert.equal(held(engine), NOTHING);
  }));

test("weights: what update gives is what is multiplied", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of FORMATS) {
      const w = engine.pack(weightsFor(format, 21, 40, 0.5, rnd), [21, 40], { format });
      const x = filled(rnd, 3, 40);
      engine.linear(x, w).dispose();
      const next = placesOf(w).map((place) => (place ? rnd() - 0.5 : 0));
      w.update(next);
      close(engine.linear(x, w).data, linearOracle(x.data, next, 3, 40, 21), `${engine.simd} ${nameOf(format)}`);
    }
  }));

test("weights: update refuses what the pattern has no place for, and changes nothing", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of FORMATS.filter((f) => f !== "dense")) {
      let holes = 0;
      for (const shape of [
        [16, 40],
        [10, 3, 3, 3],
      ]) {
        for (const turned of [false, true]) {
          const [rows, ...cols] = shape;
          const drawn = weightsFor(format, rows, sizeOf(cols), 0.6, rnd);
          // A draw may fill all blocks; rows that are all zero leave out one of any size.
          if (turned) drawn.fill(0, 0, 8 * sizeOf(cols));
          const { layout, shape: own, data } = given(shape, drawn, turned);
          const w = engine.pack(data, own, { format, layout });
          const places = given(shape, placesOf(w), turned).data;
          const uses = usesOf(engine, shape, rnd);
          const before = uses.map((use) => taken(use(w)));
          const explained = w.explain();
          const stats = engine.stats();
          // The last place that is not stored, so that a careless update has written all others.
          const hole = places.lastIndexOf(0);
          for (const value of hole < 0 ? [] : [1, -1e-45, NaN, Infinity]) {
            const next = places.map((place) => place * 9);
            next[hole] = value;
            refuses(
              engine,
              "ERR_VALUE",
              /^"values" expected zero where the pattern is, got .+ at row \d+, column \d+$/,
              () => w.update(next),
            );
            holes++;
          }
          assert.equal(engine.stats(), stats);
          assert.equal(w.explain(), explained);
          sameBits(w.toDense(), data, "toDense");
          uses.forEach((use, i) => {
            sameBits(taken(use(w)), before[i], `${nameOf(format)}: operation ${i}`);
          });
          // A zero of either sign is no nonzero, and a stored weight that becomes zero stays stored.
          w.update(data.map((v) => (v === 0 ? -0 : 0)));
          assert.is(w.nnz, 0);
          assert.ok(w.toDense().every((v) => Object.is(v, 0)));
          assert.ok(uses.every((use) => taken(use(w)).every((v) => v === 0)));
          w.update(data);
          uses.forEach((use, i) => {
            sameBits(taken(use(w)), before[i], `${nameOf(format)}: operation ${i}, from zeros again`);
          });
          w.dispose();
        }
      }
      const full = typeof format === "object" && format.kind === "nm" && format.n === format.m;
      assert.is(holes > 0, !full, `${nameOf(format)}: ${holes} nonzeros were refused`);
    }
    assert.equal(held(engine), NOTHING);
  }));

test("weights: more nonzeros in a group than N are named by row, columns and count, and nothing is kept", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of FORMATS) {
      if (typeof format !== "object" || format.kind !== "nm" || format.n === format.m) continue;
      const { n, m } = format;
      const cols = 2 * m + n + 1;
      const good = weightsFor(format, 5, cols, 0.3, rnd);
      for (const [row, group] of [
        [0, 0],
        [4, 1],
        [3, 2],
      ]) {
        const [first, last] = [group * m, Math.min(cols, (group + 1) * m) - 1];
        for (let count = n + 1; count <= last - first + 1; count += 3) {
          const data = good.slice();
          data.fill(0, row * cols + first, row * cols + last + 1);
          data.fill(NaN, row * cols + first, row * cols + first + count);
          // A later one must not be what is named.
          data.fill(1, 4 * cols + 2 * m, 5 * cols);
          const message = new RegExp(
            `^"data" expected at most ${n} nonzeros in each ${m} columns, got ${count} at row ${row}, columns ${first}\\.\\.${last}$`,
          );
          const io = given([5, cols], data, true);
          const taps = given([5, 1, 1, cols], data, true);
          refuses(engine, "ERR_VALUE", message, () => engine.pack(data, [5, cols], { format }));
          refuses(engine, "ERR_VALUE", message, () => engine.pack(io.data, io.shape, { format, layout: "io" }));
          refuses(engine, "ERR_VALUE", message, () => engine.pack(taps.data, taps.shape, { format, layout: "hwio" }));
        }
      }
      const w = engine.pack(good, [5, cols], { format });
      sameBits(w.toDense(), good, `${nameOf(format)} afterwards`);
      w.dispose();
    }
    assert.equal(held(engine), NOTHING);
  }));

/** Names of the kernels in what explain calls a way: "f32_csr_spmm_28 × 7, f32_csr_spmm_4". */
const namesIn = (kernel: string) => kernel.split(", ").map((part) => part.split(" × ")[0]);
const kernelNamed = (name: string): Kernel => KERNELS.find((kernel) => kernel.name === name) as Kernel;

test("explain says what runs and why", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of ["auto", ...FORMATS] as PackFormat[]) {
      for (const share of [0, 0.5, 0.9, 1]) {
        const label = `${engine.simd} ${nameOf(format)} zeros ${share}`;
        const pack = (m: number, k: number, ...taps: number[]) =>
          engine.pack(
            weightsFor(format === "auto" ? "csr" : format, m, k * sizeOf(taps), share, rnd),
            [m, k, ...taps],
            {
              format,
            },
          );
        // Sizes that blocks divide: stored zeros beyond the edge would count as multiplications.
        const w = pack(40, 48);
        const why = w.explain();
        assert.equal(why.format, w.format);
        assert.is(why.nnz, w.nnz);
        assert.is(why.density, w.density);
        assert.is(why.denseBytes, 7680);
        assert.is(why.packedBytes, w.byteLength);
        const stored = (weight: PackedWeight) => placesOf(weight).reduce((a, b) => a + b, 0);
        assert.is(why.fill, stored(w) ? w.nnz / stored(w) : 1, label);
        assert.ok(why.structure.length > 0);
        assert.ok(why.reason.includes("zeros") && why.reason.includes(why.structure), why.reason);
        assert.equal(why.alternatives[0], { format: "dense", oneRow: 1, manyRows: 1 });
        assert.ok(why.alternatives.some((a) => a.format === "csr"));
        for (const { oneRow, manyRows } of why.alternatives) {
          assert.ok(oneRow > 0 && manyRows > 0 && oneRow + manyRows < Infinity, `${label}: ${oneRow}, ${manyRows}`);
        }
        const k = pack(8, 4, 3, 3);
        const dw = pack(8, 1, 2, 2);
        const stats = JSON.stringify(engine.stats());
        const [image, wide] = [like(2, 4, 6, 7), like(2, 8, 6, 7)];
        const list: [weight: PackedWeight, columns: number, all: number, ask: (o?: Conv2dOptions) => Explanation][] = [
          [w, 1, 1920, (o) => engine.explain("linear", like(48), w, o)],
          [w, 3, 1920, (o) => engine.explain("linear", like(3, 48), w, o)],
          [w, 33, 1920, (o) => engine.explain("linear", like(3, 11, 48), w, o)],
          [w, 0, 1920, (o) => engine.explain("linear", like(0, 48), w, o)],
          [w, 1, 1920, (o) => engine.explain("matmul", w, like(48, 1), o)],
          [w, 7, 1920, (o) => engine.explain("matmul", w, like(48, 7), o)],
          [w, 9, 1920, (o) => engine.explain("matmul", like(9, 40), w, o)],
          [k, 40, 288, (o) => engine.explain("conv2d", image, k, o)],
          [k, 24, 288, (o) => engine.explain("conv2d", image, k, { ...o, padding: 1, stride: 2 })],
          [dw, 60, 32, (o) => engine.explain("conv2d", wide, dw, { ...o, groups: 8 })],
        ];
        for (const [weight, columns, all, ask] of list) {
          const e = ask();
          assert.equal(e.format, weight.format);
          assert.is(e.density, weight.density);
          assert.is(e.denseMacs, all * columns);
          if (columns === 0) {
            assert.equal([e.kernel, e.macs, e.alternatives], ["none", 0, []]);
            continue;
          }
          const ways = e.alternatives.map((a) => namesIn(a.kernel).map(kernelNamed));
          const dense = ways.map((way) => way.every((kernel) => kernel.format === "dense"));
          assert.is(e.alternatives[0].kernel, e.kernel);
          assert.is(new Set(e.alternatives.map((a) => a.kernel)).size, ways.length, label);
          e.alternatives.forEach(({ ms }, i) => {
            assert.ok(ms >= (i ? e.alternatives[i - 1].ms : 0) && ms < Infinity, `${label}: ${ms} ms`);
          });
          if (format !== "auto")
            assert.ok(
              dense.every((one) => one === (format === "dense")),
              `${label}: ${e.kernel}`,
            );
          else assert.is(dense.includes(false), weight.format !== "dense");
          assert.is(e.macs, columns * (dense[0] ? all : stored(weight)), label);
          if (dense[0] && weight.format !== "dense") {
            assert.match(e.reason, /^dense kernel, \d+\.\d\dx as fast here as /);
            assert.ok(e.reason.endsWith(weight.explain().reason));
          } else assert.is(e.reason, weight.explain().reason);
          // What is forced is what is explained; columns that it does not fit go to its narrower tiles.
          for (const name of kernelsOf((forceKernel) => ask({ forceKernel }))) {
            const by = ask({ forceKernel: name });
            assert.is(by.alternatives.length, 1, `${label}: ${name}`);
            const named = namesIn(by.kernel).map(kernelNamed);
            assert.ok(named.every((kernel) => kernel.stream === kernelNamed(name).stream));
            if (columns >= kernelNamed(name).tile && weight === w) assert.is(named[0].name, name, by.kernel);
            assert.is(by.macs, columns * (kernelNamed(name).format === "dense" ? all : stored(weight)));
          }
        }
        assert.is(JSON.stringify(engine.stats()), stats, "explain runs nothing");
        for (const owner of [w, k, dw]) owner.dispose();
      }
    }
  }));

test("costs decide which kernel runs", async () => {
  const rnd = random();
  for (const kernel of PRODUCTS) {
    const { name, format, block, tile } = kernel;
    const [rows, cols] = block;
    const kind: Format = format === "block" ? { kind: format, rows, cols } : format === "nm" ? NM : (format as "csr");
    await onEachBuild(
      (engine) => {
        if (kernel.op === "depthwise") {
          const data = values(6 * 9, 0.3, rnd);
          const w = engine.pack(data, [6, 1, 3, 3], { format: "dense" });
          assert.is(engine.explain("conv2d", like(1, 6, 8, 8), w, { groups: 6 }).kernel, name);
          return;
        }
        const data = weightsFor(kind, 24, 32, 0.5, rnd);
        const w = engine.pack(data, [24, 32], { format: kind });
        const n = kernel.op === "spmv" ? 1 : 3 * tile;
        const x = filled(rnd, n, 32);
        const label = n > 1 ? `${name} × 3` : name;
        assert.is(engine.explain("linear", x, w).kernel, label);
        assert.is(engine.explain("matmul", w, like(32, n)).kernel, label);
        close(engine.linear(x, w).data, linearOracle(x.data, data, n, 32, 24), `${engine.simd} by ${name}`);
      },
      { costs: costsWith((other) => (other === kernel ? [0.001, 0.001] : [10, 10])) },
    );
  }
});

/** Per multiplication and column: a table in which only what is said here matters. */
const perMac = (cost: (kernel: Kernel) => number) =>
  costsWith((kernel) => [cost(kernel) * kernel.tile * sizeOf(kernel.block) * (kernel.format === "nm" ? 8 : 1), 0]);

test("auto takes the structure that costs the least", async () => {
  const rnd = random();
  const [m, k] = [80, 96];
  const full = (format: Format) => ({ data: complete(format, m, k, rnd), shape: [m, k] });
  const random90 = { data: values(m * k, 0.9, rnd), shape: [m, k] };
  const formatIn = async (costs: Costs, { data, shape }: { data: Float32Array; shape: number[] }) => {
    const engine = await createEngine({ costs });
    const { format } = engine.pack(data, shape);
    engine.dispose();
    return format;
  };
  const even = perMac(() => 1);
  assert.is(await formatIn(even, { data: values(m * k, 0, rnd), shape: [m, k] }), "dense");
  assert.is(await formatIn(even, random90), "csr");
  assert.is(
    await formatIn(
      perMac(({ format }) => (format === "dense" ? 0.01 : 1)),
      random90,
    ),
    "dense",
  );
  assert.equal(await formatIn(even, full(NM)), NM);
  const sets: Format = { kind: "complementary", overlay: 10, blockRows: 4 };
  assert.equal(await formatIn(even, full(sets)), sets);
  const tall: Format = { kind: "block", rows: 4, cols: 1 };
  // Sharing what is loaded of x makes a block cheaper than its numbers.
  assert.equal(
    await formatIn(
      perMac(({ block }) => 1 / block[0]),
      full(tall),
    ),
    tall,
  );
});

/** A matrix whose structure is complete: 3 in 10 of the blocks, all groups, all places of each set. */
function complete(format: Format, rows: number, cols: number, rnd: () => number): Float32Array {
  const w = values(rows * cols, 0, rnd);
  if (typeof format === "string") return w;
  if (format.kind === "nm") {
    keepNm(w, rows, cols, format.n, format.m, rnd);
    return w;
  }
  const [high, wide] = format.kind === "block" ? [format.rows, format.cols] : [format.blockRows ?? 1, 1];
  const members = format.kind === "block" ? 1 : format.overlay;
  for (let c = 0; c < cols; c += wide) {
    for (let b = 0; b * high < rows; b += members) {
      const kept = members === 1 ? (rnd() < 0.3 ? 0 : -1) : Math.floor(rnd() * members);
      for (let member = 0; member < members; member++) {
        if (member === kept) continue;
        for (let r = (b + member) * high; r < Math.min(rows, (b + member + 1) * high); r++) {
          w.fill(0, r * cols + c, r * cols + Math.min(cols, c + wide));
        }
      }
    }
  }
  return w;
}

test("a dense kernel may run an automatic weight where it is faster, and only then", async () => {
  const rnd = random();
  // csr for many columns, dense for one.
  const costs = perMac(({ format, op }) =>
    format === "dense" ? (op === "spmv" ? 0.01 : 10) : op === "spmv" ? 5 : 0.5,
  );
  await onEachBuild(
    (engine) => {
      const data = values(30 * 40, 0.8, rnd);
      const auto = engine.pack(data, [30, 40]);
      const own = engine.pack(data, [30, 40], { format: "csr" });
      assert.equal([auto.format, own.format], ["csr", "csr"]);
      const [one, many] = [filled(rnd, 40), filled(rnd, 64, 40)];
      const e = engine.explain("linear", one, auto);
      assert.is(e.kernel, "f32_dense_gemv");
      assert.is(e.macs, 1200);
      const [dense, sparse] = ["f32_dense_gemv", "f32_csr_spmv"].map((name) => {
        const way = e.alternatives.find((a) => a.kernel === name);
        return (way as { ms: number }).ms;
      });
      const [, times] = e.reason.match(/^dense kernel, (\d+\.\d\d)x as fast here as csr; packed as csr: fastest/) ?? [];
      assert.ok(Math.abs(Number(times) - sparse / dense) < 0.0051, e.reason);
      assert.is(engine.explain("linear", one, own).kernel, "f32_csr_spmv");
      assert.is(engine.explain("linear", one, own).macs, own.nnz);
      for (const w of [auto, own]) {
        assert.match(engine.explain("linear", many, w).kernel, /^f32_csr_spmm/);
        assert.is(engine.explain("linear", many, w).reason, w.explain().reason);
        close(engine.linear(one, w).data, linearOracle(one.data, data, 1, 40, 30), "one row");
        close(engine.linear(many, w).data, linearOracle(many.data, data, 64, 40, 30), "many rows");
      }
      // What is forced has nothing to be compared with.
      const by = engine.explain("linear", one, auto, { forceKernel: "f32_dense_gemv" });
      assert.ok(by.reason.startsWith("dense kernel, in place of csr; packed as csr: "), by.reason);
    },
    { costs },
  );
});

test("costs of nothing at all are no error", () =>
  onEachBuild(
    (engine) => {
      const rnd = random();
      for (const format of ["auto", ...FORMATS] as PackFormat[]) {
        const data = weightsFor(format === "auto" ? "csr" : format, 9, 12, 0.5, rnd);
        const w = engine.pack(data, [9, 12], { format });
        for (const rows of [1, 3, 40]) {
          const x = filled(rnd, rows, 12);
          const { alternatives, reason } = engine.explain("linear", x, w);
          assert.ok(alternatives.every(({ ms }) => ms === 0));
          assert.ok(!/NaN|Infinity/.test(reason), reason);
          close(engine.linear(x, w).data, linearOracle(x.data, data, rows, 12, 9), `${nameOf(format)} ${rows} rows`);
        }
      }
    },
    { costs: costsWith(() => [0, 0]) },
  ));

test("a weight keeps streams for a few shapes, not for all it ever met", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const kind of KINDS) {
      const format = nameOf(kind);
      const forceKernel =
        kind === "dense"
          ? "f32_dense_gemm_4"
          : kind === BLOCK || kind === SETS
            ? "f32_block_spmm_4x1_4"
            : "f32_csr_spmm_4";
      const data = weightsFor(kind, 9, 36, 0.5, rnd);
      const k = engine.pack(data, [9, 4, 3, 3], { format: kind });
      const flat = engine.pack(data, [9, 36], { format: kind });
      const inUse: number[] = [];
      for (let i = 0; i < 60; i++) {
        // Forth and back, so that what was dropped is asked for again.
        const size = 3 + (i < 30 ? i : 59 - i);
        const s: ConvSizes = {
          n: 1,
          c: 4,
          h: 3,
          w: size,
          m: 9,
          kh: 3,
          kw: 3,
          groups: 1,
          stride: [1, 1],
          dilation: [1, 1],
          padding: [0, 0, 0, 0],
        };
        const x = values(12 * size, 0, rnd);
        const y = engine.conv2d({ data: x, shape: [1, 4, 3, size] }, k, { forceKernel });
        close(y.data, convOracle(x, data, s), `${engine.simd} ${format} conv2d of width ${size}`);
        const b = values(36 * size, 0, rnd);
        const z = engine.matmul(flat, { data: b, shape: [36, size] }, { forceKernel });
        close(
          transpose(z.toArray(), 9, size),
          linearOracle(transpose(b, 36, size), data, size, 36, 9),
          `w · x of ${size} columns`,
        );
        y.dispose();
        z.dispose();
        inUse.push(engine.stats().bytesInUse);
      }
      // Each of the two keeps eight.
      assert.ok(inUse[0] > 0 && inUse[0] < inUse[7]);
      assert.ok(Math.max(...inUse) <= inUse[0] * 8 * 1.1, `bytesInUse ${inUse}`);
      k.dispose();
      flat.dispose();
      assert.equal(held(engine), NOTHING);
    }
  }));

test.run();
