/**
 * The example `examples/keyword-spotting`: its front end against the training's numbers, its networks against PyTorch's
 * and against dense kernels on the same weights, and the demo as a whole. A network whose file is not there is left out.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  createEngine,
  type Engine,
  readSafetensors,
  type SafetensorsEntry,
  type Serializable,
  serialize,
  toFloat32,
} from "skipzeros";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  BANDS,
  BINS,
  createFrontEnd,
  FRAMES,
  melFilters,
  readClip,
  readTestSet,
  SAMPLE_RATE,
} from "../examples/keyword-spotting/features.js";
import { createNetwork, decide, LAYERS } from "../examples/keyword-spotting/network.js";

const test = suite("keyword-spotting");
const SIZE = FRAMES * BANDS;

const folder = new URL("../examples/keyword-spotting/", import.meta.url);
const fileOf = (name: string) => readFileSync(new URL(`${name}.safetensors`, folder));
const expected = readSafetensors(fileOf("clips/expected"));
const clipNames = JSON.parse(expected.metadata.clips) as string[];
const names = ["dense", "weight-sparse", "sparse-sparse"].filter((name) =>
  existsSync(new URL(`${name}.safetensors`, folder)),
);
/** PyTorch's numbers for the clips, `[12, …]`; the export has its own name for one of the networks. */
const theirs = (tensor: string): Float32Array =>
  toFloat32(expected.tensors.get(tensor.replace("weight-sparse", "sparse-weights")) as SafetensorsEntry);
const featuresOf = (clip: number) => theirs("features").subarray(clip * SIZE, (clip + 1) * SIZE);

const engines: Engine[] = [];
for (const simd of ["simd128", "relaxed"] as const) {
  const engine = await createEngine({ simd }).catch((error: { code?: string }) => {
    if (simd === "relaxed" && error.code === "ERR_UNSUPPORTED") return undefined;
    throw error;
  });
  if (engine) engines.push(engine);
}

/** The largest difference; NaN if there is one. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.is(a.length, b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const error = Math.abs(a[i] - b[i]);
    if (!(error <= largest)) largest = error;
  }
  return largest;
}

/** The same network with every zero stored. */
function stored(engine: Engine, file: Uint8Array): Uint8Array {
  const { weights, tensors, metadata } = engine.deserialize(file);
  const parts: Record<string, Serializable> = Object.fromEntries(tensors);
  for (const [name, w] of Object.entries(weights)) parts[name] = engine.pack(w.toDense(), w.shape, { format: "dense" });
  return serialize(parts, metadata);
}

test("there are a dozen clips, one of each word, a second long", () => {
  assert.is(clipNames.length, 12);
  assert.equal([...(expected.tensors.get("labels") as SafetensorsEntry).data].map(Number), [...clipNames.keys()]);
  for (const name of clipNames) assert.is(readClip(new URL(`clips/${name}`, folder)).length, SAMPLE_RATE);
});

test("features are those of the training", () => {
  const scale = { mean: Number(expected.metadata.mean), std: Number(expected.metadata.std) };
  for (const engine of engines) {
    const frontEnd = createFrontEnd(engine, scale);
    clipNames.forEach((name, clip) => {
      const features = frontEnd(readClip(new URL(`clips/${name}`, folder)));
      const error = difference(features, featuresOf(clip));
      assert.ok(error <= 1e-4, `${name}, ${engine.simd}: off by ${error}`);
    });
  }
});

test("a clip that is too short ends in silence, one that is too long is cut, and nothing stays of the one before", () => {
  const frontEnd = createFrontEnd(engines[0], { mean: 0, std: 1 });
  const clip = readClip(new URL("clips/yes.wav", folder));
  const whole = frontEnd(clip);
  const long = new Float64Array(SAMPLE_RATE + 5000).fill(1);
  long.set(clip);
  assert.equal(frontEnd(long), whole);
  const half = frontEnd(clip.subarray(0, SAMPLE_RATE / 2));
  const silent = frontEnd(new Float64Array(0));
  assert.ok(silent.every((value) => Math.abs(value - Math.log(1e-6)) < 1e-5));
  assert.equal(half.subarray(0, 14 * BANDS), whole.subarray(0, 14 * BANDS)); // up to sample 512 · 13 + 575
  assert.equal(half.subarray(17 * BANDS), silent.subarray(17 * BANDS)); // from sample 512 · 17 − 448
  assert.not.equal(half.subarray(17 * BANDS), whole.subarray(17 * BANDS));
});

test("every mel band has a peak near 1 and shares its bins with its neighbours only", () => {
  const filters = melFilters();
  assert.is(filters.length, BANDS * BINS);
  for (let band = 0; band < BANDS; band++) {
    const filter = filters.subarray(band * BINS, (band + 1) * BINS);
    const highest = Math.max(...filter);
    assert.ok(highest > 0.5 && highest <= 1, `band ${band} reaches ${highest}`);
    const next = filters.subarray((band + 2) * BINS, (band + 3) * BINS);
    assert.ok(
      next.every((value, bin) => value * filter[bin] === 0),
      `bands ${band} and ${band + 2} overlap`,
    );
  }
});

for (const name of names) {
  // PyTorch's numbers are of float32 weights, and float16 keeps 11 bits of them. No winner of these clips is so close to a
  // loser that rounding swaps the two.
  const tolerance = name === "dense" ? 5e-3 : 1e-4;

  test(`${name}: scores are PyTorch's`, () => {
    for (const engine of engines) {
      const network = createNetwork(engine, fileOf(name));
      const logits = theirs(`logits.${name}`);
      const k = Object.values(JSON.parse(engine.deserialize(fileOf(name)).metadata.k ?? "{}") as object) as number[];
      for (let clip = 0; clip < clipNames.length; clip++) {
        const scores = network.run(featuresOf(clip));
        const error = difference(scores.data, logits.subarray(clip * 12, (clip + 1) * 12));
        assert.ok(error <= tolerance, `${clipNames[clip]}, ${engine.simd}: off by ${error}`);
        network.active.forEach(({ values }, i) => {
          // Exactly k, but for those that equal the last of them, as pixels of an even background do.
          const ascending = values.sort();
          assert.ok(ascending.length >= k[i], `${ascending.length} winners of ${k[i]}`);
          assert.is(ascending[ascending.length - k[i]], ascending[0], `${ascending.length} winners of ${k[i]}`);
        });
      }
    }
  });

  test(`${name}: with every zero stored it says the same`, () => {
    for (const engine of engines) {
      const packed = createNetwork(engine, fileOf(name));
      const dense = createNetwork(engine, stored(engine, fileOf(name)));
      for (const layer of LAYERS) assert.is(dense.layers[layer].weight.format, "dense");
      for (let clip = 0; clip < clipNames.length; clip++) {
        const scores = packed.run(featuresOf(clip)).toArray();
        const error = difference(scores, dense.run(featuresOf(clip)).data);
        assert.ok(error <= 1e-4, `${clipNames[clip]}, ${engine.simd}: off by ${error}`);
      }
    }
  });

  if (name === "dense") continue;

  test(`${name}: the large layers are complementary, and the file is a tenth of the dense weights`, () => {
    const { layers, byteLength } = createNetwork(engines[0], fileOf(name));
    for (const layer of ["conv2", "hidden"] as const) {
      const { format, density } = layers[layer].weight;
      assert.equal(format, { kind: "complementary", overlay: layer === "conv2" ? 16 : 20, blockRows: 4 });
      assert.ok(density > 0.045 && density <= 0.05, `${layer} has ${density}`);
    }
    const dense = LAYERS.reduce((sum, layer) => sum + layers[layer].weight.shape.reduce((a, b) => a * b) * 4, 0);
    assert.ok(fileOf(name).byteLength * 10 <= dense, `${fileOf(name).byteLength} of ${dense}`);
    assert.ok(byteLength <= fileOf(name).byteLength);
  });
}

test("the test set has a share of each class, and networks do on it as they should", () => {
  const { features, labels } = readTestSet(new URL("test-features.safetensors.br", folder));
  assert.is(features.length, labels.length * SIZE);
  assert.ok(labels.length >= 1500);
  const clips = Array.from({ length: labels.length }, (_, clip) => clip);
  for (let word = 0; word < 12; word++) assert.ok(clips.filter((clip) => labels[clip] === word).length > 100);
  // Every 8th clip, so that all words and voices come up.
  const some = clips.filter((clip) => clip % 8 === (clip >> 3) % 8);
  for (const name of names) {
    const network = createNetwork(engines[0], fileOf(name));
    const right = some.filter(
      (clip) => decide(network.run(features.subarray(clip * SIZE, (clip + 1) * SIZE))) === labels[clip],
    );
    assert.ok(right.length / some.length > 0.88, `${name}: ${right.length} of ${some.length}`);
  }
});

test("a file that lacks a layer, or asks for something else, is refused", () => {
  const [engine] = engines;
  const { weights, tensors, metadata } = engine.deserialize(fileOf(names[0]));
  const parts = { ...Object.fromEntries(tensors), ...weights };
  const { "output.bias": _, ...less } = parts;
  assert.throws(() => createNetwork(engine, serialize(less, metadata)), /no output\.bias/);
  assert.throws(() => createNetwork(engine, serialize(parts, { ...metadata, activation: "gelu" })), /"gelu"/);
  assert.throws(() => createNetwork(engine, serialize(parts, { ...metadata, order: "x" })), /order: "x"/);
});

const demo = (...args: string[]) =>
  spawnSync(process.execPath, ["--import", "tsx", "examples/keyword-spotting/demo.ts", ...args], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    encoding: "utf8",
  });

test("the demo runs, hears words and prints its table", () => {
  const run = demo("--quick");
  assert.is(run.status, 0, run.stderr);
  const columns = (row: string) => (run.stdout.match(new RegExp(`^${row} +(\\S.*)$`, "m"))?.[1] ?? "").split(/ {2,}/);
  assert.equal(columns("said"), names);
  for (const name of clipNames) assert.is(columns(name.replace(".wav", "")).length, names.length, name);
  for (const row of "these clips,test set,ms a clip,speed-up,nonzeros,inputs active,weight bytes,smaller,file bytes".split(
    ",",
  ))
    assert.is(columns(row).length, names.length, row);
  for (const cell of columns("these clips")) assert.ok(Number.parseInt(cell, 10) >= 10, `${cell} clips right`);
  for (const cell of columns("test set")) assert.ok(Number.parseFloat(cell) > 70, `${cell} of the test set`);
  assert.match(run.stdout, /^features +differ by at most \d\.\de-\d/m);
});

test("the demo refuses what it does not know", () => {
  const run = demo("--fast");
  assert.is(run.status, 1);
  assert.match(run.stderr, /--quick/);
});

test.run();
