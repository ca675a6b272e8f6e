// The engine itself: memory that is accounted for, reused and never above its limit, what disposing means, views across
// growth, builds and modules, the allocator, and what a packed weight says of itself.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { supports } from "../bindings/builds.js";
import type { Conv2dOptions, EngineOptions, WeightLayout } from "../bindings/index.js";
import { createEngine, type Engine, type PackedWeight, type Tensor } from "../bindings/index.js";
import { KERNELS } from "../bindings/kernels.js";
import { Memory } from "../bindings/memory.js";
import {
  type ConvSizes,
  close,
  convOracle,
  linearOracle,
  onEachBuild,
  random,
  refuses,
  sameBits,
  seed,
  sizeOf,
  transpose,
  values,
} from "./oracle.js";

const test = suite("engine");

const zeros = (n: number) => new Float32Array(n);
const like = (...shape: number[]) => ({ data: zeros(sizeOf(shape)), shape });
const filled = (rnd: () => number, ...shape: number[]) => ({ data: values(sizeOf(shape), 0, rnd), shape });

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
  for (const format of ["dense", "csr"] as const) {
    const w = engine.pack(values(13 * 300, 0.5, rnd), [13, 300], { format });
    const long = engine.pack(values(5 * 16400, 0.9, rnd), [5, 16400], { format });
    const k = engine.pack(values(8 * 6 * 9, 0.5, rnd), [8, 6, 3, 3], { format });
    const depthwise = engine.pack(values(6 * 9, 0.5, rnd), [6, 1, 3, 3], { format });
    const point = engine.pack(values(70 * 6, 0.2, rnd), [70, 6, 1, 1], { format });
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

// First of all: the test after it shows what engines that others forgot can do to it.
collecting("what is forgotten is freed", () =>
  onEachBuild(async (engine) => {
    const rnd = random();
    const kept = engine.tensor(values(10, 0, rnd), [10]);
    const alias = (() => kept.reshape([5, 2]).reshape([10]))();
    const before = held(engine);
    const forget = () => {
      for (let i = 0; i < 50; i++) {
        const w = engine.pack(values(200, 0.5, rnd), [10, 20], { format: i % 2 ? "csr" : "dense" });
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

test("10,000 rounds of making, running and disposing leave memory as it was", () =>
  onEachBuild((engine) => {
    const rnd = random();
    const data = values(12 * 20, 0.7, rnd);
    const image = values(2 * 6 * 6, 0, rnd);
    const kernel = values(3 * 2 * 9, 0.5, rnd);
    const bytes: number[] = [];
    for (let i = 0; i < 10000; i++) {
      const rows = 1 + (i % 5);
      const x = engine.tensor(values(rows * 20, 0, rnd), [rows, 20]);
      const w = engine.pack(data, [12, 20], { format: i % 2 ? "csr" : "dense" });
      const k = engine.pack(kernel, [3, 2, 3, 3], { format: i % 3 ? "csr" : "dense" });
      const y = engine.linear(x, w, { activation: "relu" });
      const z = engine.conv2d({ data: image, shape: [1, 2, 6, 6] }, k, { padding: i % 3, stride: 1 + (i % 2) });
      for (const owner of [x, w, y, k, z]) owner.dispose();
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
  ...(["dense", "csr"] as const).flatMap((format) => {
    const n = format === "dense" ? 800 : 600;
    const pack = (engine: Engine) => engine.pack(zeros(n * n).fill(1), [n, n], { format });
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

test("maxMemory: never more than was asked for, and most of it is of use", async () => {
  for (const maxMemory of [65536, 100000, 131072, 1e6, 2 ** 20, 2 ** 21 + 1]) {
    const engine = await createEngine({ maxMemory });
    const pages = Math.floor(maxMemory / 65536) * 65536;
    assert.ok(engine.stats().bytesReserved <= maxMemory);
    // All in one piece.
    const most = Math.floor((pages * 0.99) / 4);
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
    assert.ok(made.length * 448 > pages * 0.98, `${made.length} tensors of 100 floats in ${maxMemory} bytes`);
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
  ];
  for (const [name, wasm] of sources) {
    const engine = await createEngine({ simd: "simd128", wasm });
    assert.is(engine.simd, "simd128");
    sameResults(everything(engine, random()), expected, name);
    engine.dispose();
  }
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
      const { ptr, scratch } = this.memory.working(result, sizes);
      assert.is(scratch.length, sizes.length);
      scratch.forEach((at, i) => {
        this.scratch.push(this.#take(at, sizes[i]));
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
    assert.ok(model.alloc(reserved - 64 - 64 - 64));
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
  fc.tuple(fc.nat(5), fc.nat(4), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
);
const packed = fc
  .tuple(weightShape, fc.constantFrom("dense" as const, "csr" as const, "auto" as const), fc.boolean())
  .chain(([shape, format, turned]) => {
    const layout: WeightLayout = shape.length === 2 ? (turned ? "io" : "oi") : turned ? "hwio" : "oihw";
    const n = sizeOf(shape);
    return fc.record({
      // The user's order of the dimensions, whatever it is, names the data's.
      shape: fc.constant<number[]>([...shape]),
      format: fc.constant(format),
      layout: fc.constant(layout),
      data: fc.array(weightValue, { minLength: n, maxLength: n }).map((list) => Float32Array.from(list)),
    });
  });

test("weights: toDense gives back what was packed, and the numbers about it are right", () =>
  onEachBuild((engine) => {
    const property = fc.property(packed, ({ shape, format, layout, data }) => {
      const w = engine.pack(data, shape, { format, layout });
      const ours =
        layout === "io" ? [shape[1], shape[0]] : layout === "hwio" ? [shape[3], shape[2], shape[0], shape[1]] : shape;
      assert.equal([...w.shape], ours);
      if (format !== "auto") assert.is(w.format, format);
      const nnz = data.filter((v) => v !== 0).length;
      assert.is(w.nnz, nnz);
      assert.is(w.density, data.length ? nnz / data.length : 0);
      assert.is(w.byteLength, w.format === "dense" ? 4 * data.length : 4 * (ours[0] + 1) + 6 * nnz);
      const dense = w.toDense();
      // −0 is a zero, and csr does not store those.
      sameBits(
        dense,
        w.format === "csr" ? data.map((v) => (v === 0 ? 0 : v)) : data,
        `${w.format} ${layout} [${shape}]`,
      );
      dense.fill(1);
      assert.is(w.toDense().filter((v) => v !== 0).length, nnz, "toDense is a copy");
      w.dispose();
      assert.equal(held(engine), NOTHING);
    });
    fc.assert(property, { seed, numRuns: 300 });
  }));

test("weights: columns beyond 16 bits", () =>
  onEachBuild((engine) => {
    const cols = 65536 + 40;
    const data = zeros(2 * cols);
    for (const at of [0, 65535, 65536, cols - 1, cols + 3, 2 * cols - 1]) data[at] = at + 1;
    const w = engine.pack(data, [2, cols], { format: "csr" });
    assert.is(w.byteLength, 3 * 4 + 6 * 8);
    sameBits(w.toDense(), data, "toDense");
    const x = values(3 * cols, 0, random());
    close(engine.linear({ data: x, shape: [3, cols] }, w).data, linearOracle(x, data, 3, cols, 2), "three rows");
    const row = { data: x.subarray(0, cols), shape: [cols] };
    close(engine.linear(row, w).data, linearOracle(row.data, data, 1, cols, 2), "one row");
    const tall = engine.pack(data, [2 * cols, 1], { format: "csr" });
    const back = engine.matmul({ data: x.subarray(0, 2 * cols), shape: [1, 2 * cols] }, tall);
    close(back.data, linearOracle(x.subarray(0, 2 * cols), data, 1, 2 * cols, 1), "many rows, transposed");
  }));

/** Every operation that takes the weight, so that every kind of its streams is used. */
function useWeight(engine: Engine, w: PackedWeight, rnd: () => number): Float32Array[] {
  const [m, k] = w.shape;
  const calls =
    w.shape.length === 2
      ? [
          engine.linear(filled(rnd, k), w),
          engine.linear(filled(rnd, 7, k), w),
          engine.matmul(w, filled(rnd, k, 1)),
          engine.matmul(w, filled(rnd, k, 9)),
          engine.matmul(filled(rnd, 1, m), w),
          engine.matmul(filled(rnd, 6, m), w),
        ]
      : [
          engine.conv2d(filled(rnd, 1, k, 5, 6), w),
          engine.conv2d(filled(rnd, 1, k, 5, 6), w, { padding: 1 }),
          engine.conv2d(filled(rnd, 1, 6, 5, 2 * k), w, { stride: 2, layout: "nhwc", groups: 2 }),
          engine.conv2d(filled(rnd, 2, k * m, 4, 4), w, { padding: "same", groups: m }),
        ];
  return calls.map((y) => {
    const copy = y.toArray();
    y.dispose();
    return copy;
  });
}

test("weights: after update every operation uses the new numbers", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of ["dense", "csr", "auto"] as const) {
      for (const shape of [
        [6, 10],
        [17, 33],
        [4, 3, 3, 3],
        [4, 1, 3, 2],
        [2, 5, 1, 1],
      ]) {
        for (const turned of [false, true]) {
          const layout = shape.length === 2 ? (turned ? "io" : "oi") : turned ? "hwio" : "oihw";
          // The data is a list of numbers: any shape of as many will do, in either order.
          const given = !turned
            ? shape
            : shape.length === 2
              ? [shape[1], shape[0]]
              : [shape[2], shape[3], shape[1], shape[0]];
          const data = values(sizeOf(shape), 0.6, rnd);
          const next = data.map((v) => (v === 0 ? 0 : rnd() * 2 - 1));
          const w = engine.pack(data, given, { format, layout });
          const label = `${engine.simd} ${format} ${layout} [${shape}]`;
          const use = (weight: PackedWeight) => useWeight(engine, weight, random(5));
          const old = use(w);
          w.update(next);
          next.fill(7, 0, 1); // a copy was taken
          if (data[0] !== 0) next[0] = w.toDense()[0];
          else next[0] = 0;
          sameBits(w.toDense(), next, `${label}: toDense`);
          const fresh = engine.pack(next, given, { format: w.format, layout });
          const expected = use(fresh);
          use(w).forEach((y, i) => {
            sameBits(y, expected[i], `${label}: operation ${i}`);
          });
          w.update(data);
          use(w).forEach((y, i) => {
            sameBits(y, old[i], `${label}: operation ${i}, back again`);
          });
          fresh.dispose();
          w.dispose();
        }
      }
    }
    assert.equal(held(engine), NOTHING);
  }));

test("weights: update refuses what the pattern has no place for, and changes nothing", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const shape of [
      [6, 10],
      [4, 3, 3, 3],
    ]) {
      const data = values(sizeOf(shape), 0.6, rnd);
      const w = engine.pack(data, shape, { format: "csr" });
      const before = useWeight(engine, w, random(5));
      // The last place that is zero, so that a careless update has written all others.
      const hole = data.lastIndexOf(0);
      for (const value of [1, -1e-45, NaN, Infinity]) {
        const next = data.map((v) => (v === 0 ? 0 : 9));
        next[hole] = value;
        refuses(engine, "ERR_VALUE", /^"values" expected zero where the pattern is/, () => w.update(next));
      }
      sameBits(w.toDense(), data, "toDense");
      useWeight(engine, w, random(5)).forEach((y, i) => {
        sameBits(y, before[i], `operation ${i}`);
      });
      // A zero of either sign is no nonzero, and a stored weight that becomes zero stays stored.
      w.update(data.map((v) => (v === 0 ? -0 : 0)));
      assert.is(w.nnz, data.filter((v) => v !== 0).length);
      assert.ok(useWeight(engine, w, random(5)).every((y) => y.every((v) => v === 0)));
      w.update(data);
      useWeight(engine, w, random(5)).forEach((y, i) => {
        sameBits(y, before[i], `operation ${i}, from zeros again`);
      });
    }
  }));

test("explain says what runs and why", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of ["dense", "csr", "auto"] as const) {
      for (const share of [0, 0.5, 0.9, 1]) {
        const w = engine.pack(values(40 * 50, share, rnd), [40, 50], { format });
        const why = w.explain();
        assert.is(why.format, w.format);
        assert.is(why.nnz, w.nnz);
        assert.is(why.density, w.density);
        assert.is(why.denseBytes, 8000);
        assert.is(why.packedBytes, w.byteLength);
        assert.ok(why.reason.includes("zeros") && why.reason.length > 20, why.reason);
        assert.equal(why.alternatives.map((a) => a.format).sort(), ["csr", "dense"]);
        for (const { oneRow, manyRows } of why.alternatives) assert.ok(oneRow > 0 && manyRows > 0);
        const k = engine.pack(values(8 * 5 * 9, share, rnd), [8, 5, 3, 3], { format });
        const dw = engine.pack(values(5 * 9, share, rnd), [5, 1, 3, 3], { format });
        const [mk, md] = [k.format === "dense" ? 360 : k.nnz, dw.format === "dense" ? 45 : dw.nnz];
        const mw = w.format === "dense" ? 2000 : w.nnz;
        const stats = JSON.stringify(engine.stats());
        const image = like(2, 5, 6, 7);
        for (const [weight, e, macs, denseMacs] of [
          [w, engine.explain("linear", like(50), w), mw, 2000],
          [w, engine.explain("linear", like(3, 11, 50), w), mw * 33, 2000 * 33],
          [w, engine.explain("linear", like(0, 50), w), 0, 0],
          [w, engine.explain("matmul", w, like(50, 7)), mw * 7, 14000],
          [w, engine.explain("matmul", like(9, 40), w), mw * 9, 18000],
          [k, engine.explain("conv2d", image, k), mk * 40, 360 * 40],
          [k, engine.explain("conv2d", image, k, { padding: 1, stride: 2 }), mk * 24, 360 * 24],
          [dw, engine.explain("conv2d", image, dw, { groups: 5 }), md * 40, 45 * 40],
        ] as const) {
          assert.is(e.format, weight.format);
          assert.is(e.density, weight.density);
          assert.is(e.macs, macs);
          assert.is(e.denseMacs, denseMacs);
          assert.is(e.reason, weight.explain().reason);
          assert.equal(e.alternatives, weight.explain().alternatives);
          const names = e.kernel.split(", ").map((part) => part.split(" × ")[0]);
          if (denseMacs === 0) assert.is(e.kernel, "none");
          else
            for (const name of names)
              assert.is(KERNELS.find((kernel) => kernel.name === name)?.format, weight.format, e.kernel);
        }
        assert.is(JSON.stringify(engine.stats()), stats, "explain runs nothing");
      }
    }
    const auto = (share: number) => engine.pack(values(256 * 256, share, rnd), [256, 256]).format;
    assert.equal([auto(0), auto(0.99)], ["dense", "csr"]);
  }));

test("a weight keeps streams for a few shapes, not for all it ever met", () =>
  onEachBuild((engine) => {
    const rnd = random();
    for (const format of ["dense", "csr"] as const) {
      const data = values(9 * 4 * 9, 0.5, rnd);
      const k = engine.pack(data, [9, 4, 3, 3], { format });
      const flat = engine.pack(data, [9, 36], { format });
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
        const y = engine.conv2d({ data: x, shape: [1, 4, 3, size] }, k);
        close(y.data, convOracle(x, data, s), `${engine.simd} ${format} conv2d of width ${size}`);
        const b = values(36 * size, 0, rnd);
        const z = engine.matmul(flat, { data: b, shape: [36, size] });
        close(
          transpose(z.toArray(), 9, size),
          linearOracle(transpose(b, 36, size), data, size, 36, 9),
          `w · x of ${size} columns`,
        );
        y.dispose();
        z.dispose();
        inUse.push(engine.stats().bytesInUse);
      }
      assert.ok(inUse[0] > 0 && inUse[0] < inUse[7]);
      assert.ok(Math.max(...inUse) <= inUse[9] * 1.1, `bytesInUse ${inUse}`);
      k.dispose();
      flat.dispose();
      assert.equal(held(engine), NOTHING);
    }
  }));

test.run();
