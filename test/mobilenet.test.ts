/**
 * The example `examples/mobilenet`: each layer of small networks against float64 loops, folding against unfolded arithmetic, names,
 * errors, memory of the full-size networks, images, and the demo as a whole.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import {
  type Conv2dOptions,
  check,
  createEngine,
  type Engine,
  type Format,
  type PackedWeight,
  prune,
  readSafetensors,
  type SafetensorsEntry,
  type Tensor,
  type TensorLike,
  writeSafetensors,
} from "skipzeros";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MEAN, readImage, STD } from "../examples/mobilenet/image.js";
import {
  type Layer,
  type Model,
  mobilenetV1,
  mobilenetV2,
  pruneModel,
  resultsOf,
} from "../examples/mobilenet/model.js";
import { createMobileNet } from "../examples/mobilenet/network.js";
import { planOf } from "../examples/mobilenet/plan.js";
import { randomTensors } from "../examples/mobilenet/random.js";
import {
  builds,
  type ConvSizes,
  close,
  convOracle,
  linearOracle,
  random,
  sameBits,
  seed,
  sizeOf,
  values,
} from "./oracle.js";

const test = suite("mobilenet");
console.log(`seed ${seed}`);

const SMALL = { widthMultiplier: 0.25, resolution: 64 };
const BLOCKS: Format = { kind: "block", rows: 4, cols: 1 };
const versions = [1, 2] as const;
const make = (version: 1 | 2) => (version === 1 ? mobilenetV1 : mobilenetV2);
const imageFor = ({ resolution }: Model) => values(3 * resolution * resolution, 0, random()).map((v) => v * 2);

/** The layer's convolution of an input of `height` × `height` pixels. */
function sizesOf({ kind, shape, stride, padding }: Omit<Layer, "weight" | "bias">, height: number): ConvSizes {
  const groups = kind === "depthwise" ? shape[0] : 1;
  return {
    n: 1,
    c: shape[1] * groups,
    h: height,
    w: height,
    m: shape[0],
    kh: shape[2],
    kw: shape[3],
    groups,
    stride: [stride, stride],
    dilation: [1, 1],
    padding: [padding, padding, padding, padding],
  };
}

/** Whether two models are the same to the bit. */
function sameModel(a: Model, b: Model): void {
  const numbers = ({ layers, classifier }: Model) =>
    [...layers, classifier].flatMap(({ weight, bias }) => [weight, bias]);
  const rest = (model: Model) => JSON.stringify(model, (_, value) => (ArrayBuffer.isView(value) ? undefined : value));
  assert.is(rest(a), rest(b));
  const others = numbers(b);
  numbers(a).forEach((array, i) => sameBits(array, others[i], `array ${i} of the model`));
}

interface Call {
  x: Float32Array;
  residual?: Float32Array;
  y: Float32Array;
  format: Format;
}

/** Notes every convolution that the engine runs; `seen` is called while operands and result are alive. */
function watch(engine: Engine, seen: (call: Call) => void): void {
  const conv2d = engine.conv2d.bind(engine) as (x: TensorLike, w: PackedWeight, o: Conv2dOptions) => Tensor;
  const watched = (x: TensorLike, w: PackedWeight, o: Conv2dOptions) => {
    // The result may be written where the residual stands.
    const before = { x: x.data.slice(), residual: o.residual?.data.slice(), format: w.format };
    const y = conv2d(x, w, o);
    seen({ ...before, y: y.toArray() });
    return y;
  };
  engine.conv2d = watched as typeof engine.conv2d;
}

test("layers, parameters and multiply-adds are the published ones", () => {
  const published = {
    1: { parameters: 4_231_976, macs: 568_740_352, layers: 27, residuals: 0, tensors: 27 * 5 + 2 },
    2: { parameters: 3_504_872, macs: 300_774_272, layers: 52, residuals: 10, tensors: 52 * 5 + 2 },
  };
  for (const version of versions) {
    const tensors = randomTensors(version, 1);
    let parameters = 0;
    for (const [name, { data }] of tensors) if (!name.includes("running")) parameters += data.length;
    const model = make(version)(tensors);
    const { layers, classifier } = model;
    const macs = resultsOf(model).reduce((sum, [, h, w], i) => sum + layers[i].weight.length * h * w, 0);
    assert.equal(
      {
        parameters,
        macs: macs + classifier.weight.length,
        layers: layers.length,
        residuals: layers.filter(({ residual }) => residual !== undefined).length,
        tensors: tensors.size,
      },
      published[version],
    );
    assert.equal(resultsOf(model).at(-1)?.slice(1), [7, 7]);
    // A bottleneck is linear, and all else is clamped.
    const linear = layers.filter(({ relu6 }) => !relu6).map(({ name }) => name);
    assert.is(linear.length, version === 1 ? 0 : 17);
    assert.ok(linear.every((name) => /^features\.\d+\.conv\.[12]$/.test(name)));
  }
});

test("names are those of torchvision, and of V1's usual layout", () => {
  const names = versions.map((version) => new Set(randomTensors(version, 1, SMALL).keys()));
  for (const name of [
    "model.0.0.weight",
    "model.0.1.running_mean",
    "model.1.0.weight",
    "model.1.3.weight",
    "model.13.4.bias",
  ])
    assert.ok(names[0].has(name), name);
  for (const name of [
    "features.0.0.weight",
    "features.1.conv.0.0.weight",
    "features.1.conv.0.1.running_var",
    "features.1.conv.1.weight",
    "features.1.conv.2.bias",
    "features.2.conv.1.0.weight",
    "features.17.conv.2.weight",
    "features.17.conv.3.running_mean",
    "features.18.0.weight",
    "features.18.1.weight",
    "classifier.1.bias",
  ])
    assert.ok(names[1].has(name), name);
});

test("a file gives the same model as its tensors, whatever else is in it and in whatever order", () => {
  for (const version of versions) {
    const tensors = randomTensors(version, 5, { ...SMALL, classes: 10 });
    const file = writeSafetensors({
      ...Object.fromEntries([...tensors].reverse()),
      "features.0.1.num_batches_tracked": { shape: [], data: new BigInt64Array([7n]) },
    });
    const read = make(version)(readSafetensors(file).tensors, SMALL);
    assert.is(read.classifier.shape[0], 10);
    const direct = make(version)(tensors, SMALL);
    sameModel(read, direct);
    assert.equal(
      read.layers.map(({ name }) => name),
      planOf(version, 0.25).layers.map(({ name }) => name),
    );
  }
});

test("a seed gives the same model again, another one another", () => {
  sameModel(mobilenetV2(3, SMALL), mobilenetV2(3, SMALL));
  assert.not.equal(mobilenetV2(3, SMALL).layers[0].weight, mobilenetV2(4, SMALL).layers[0].weight);
});

test("folding batch norm changes nothing but rounding", () => {
  const rnd = random();
  for (const version of versions) {
    const tensors = randomTensors(version, 2, SMALL);
    const { layers } = make(version)(tensors, SMALL);
    const dataOf = (name: string) => (tensors.get(name) as SafetensorsEntry).data as Float32Array;
    const plans = planOf(version, 0.25).layers;
    for (const i of [0, 1, 2, 3, 8, plans.length - 1]) {
      const { name, norm } = plans[i];
      const size = 7;
      const sizes = sizesOf(plans[i], size);
      const x = values(sizes.c * size * size, 0, rnd);
      const plain = convOracle(x, dataOf(`${name}.weight`), sizes);
      const folded = convOracle(x, layers[i].weight, sizes, { bias: layers[i].bias });
      const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) =>
        dataOf(`${norm}.${part}`),
      );
      const spots = plain.y.length / sizes.m;
      for (let at = 0; at < plain.y.length; at++) {
        const m = Math.floor(at / spots);
        const expected = (gamma[m] * (plain.y[at] - mean[m])) / Math.sqrt(variance[m] + 1e-5) + beta[m];
        // The bound is that of float32 sums; folding rounds each weight once, which is less.
        const error = Math.abs(folded.y[at] - expected);
        assert.ok(error <= folded.bound[at], `${name}, ${at}: ${folded.y[at]}, expected ${expected}`);
      }
    }
  }
});

test("pruning leaves the share of zeros that was asked for, in 1x1 convolutions only", () => {
  const model = mobilenetV2(1, SMALL);
  const before = structuredClone(model);
  for (const [wanted, pattern] of [
    [0.9, "90%"],
    ["4x1@75%", "4x1@75%"],
  ] as const) {
    const pruned = pruneModel(model, wanted);
    model.layers.forEach((layer, i) => {
      const { weight, shape } = pruned.layers[i];
      if (layer.kind === "pointwise") {
        assert.ok(check(weight, shape, pattern).ok, layer.name);
        sameBits(weight, prune(layer.weight, shape, pattern), layer.name);
      } else assert.is(pruned.layers[i], layer);
    });
    assert.is(pruned.classifier, model.classifier);
  }
  sameModel(model, before);
});

for (const version of versions) {
  test(`V${version}: each layer is that of float64 loops, in every format`, async () => {
    const model = make(version)(1, SMALL);
    const image = imageFor(model);
    const cases: [Model, Format | "auto"][] = [
      [model, "dense"],
      [pruneModel(model, 0.9), "dense"],
      [pruneModel(model, 0.9), "csr"],
      [pruneModel(model, 0.9), "auto"],
      [pruneModel(model, "4x1@90%"), "dense"],
      [pruneModel(model, "4x1@90%"), BLOCKS],
      [pruneModel(model, "4x1@90%"), "auto"],
    ];
    for (const simd of builds) {
      let dense: Float32Array = new Float32Array();
      for (const [given, format] of cases) {
        const label = `V${version}, ${simd}, ${JSON.stringify(format)}`;
        const engine = await createEngine({ simd });
        const network = createMobileNet(engine, given, { format });
        const calls: Call[] = [];
        watch(engine, (call) => calls.push(call));
        const scores = network.run(image).toArray();

        assert.is(calls.length, given.layers.length);
        let clamped = 0;
        let zeros = 0;
        let input: Float32Array = image;
        calls.forEach(({ x, residual, y, format: packed }, i) => {
          const layer = given.layers[i];
          sameBits(x, input, `${label}: what ${layer.name} reads`);
          if (layer.kind !== "pointwise") assert.is(packed, "dense");
          else if (format !== "auto") assert.equal(packed, format);
          const clamp = layer.relu6 ? { lo: 0, hi: 6 } : {};
          const added = layer.residual === undefined ? undefined : calls[layer.residual].y;
          assert.is(residual?.length, added?.length, `${label}: ${layer.name}`);
          if (residual && added) sameBits(residual, added, `${label}: what ${layer.name} adds`);
          const height = Math.sqrt(x.length / sizesOf(layer, 1).c);
          const expected = convOracle(x, layer.weight, sizesOf(layer, height), {
            bias: layer.bias,
            residual,
            ...clamp,
          });
          close(y, expected, `${label}: ${layer.name}`);
          for (const v of y) {
            if (v === 6) clamped++;
            if (v === 0) zeros++;
          }
          input = y;
        });
        // Both ends of ReLU6 are met, or it would not be tested; and no layer is all zeros.
        assert.ok(zeros > 1000 && (clamped > 10 || given !== model), `${zeros} zeros, ${clamped} sixes`);
        assert.ok(
          calls.every(({ y }) => y.some((v) => v !== 0)),
          label,
        );

        const last = calls[calls.length - 1].y;
        const { weight, bias, shape } = given.classifier;
        const mean = new Float32Array(shape[1]);
        const spots = last.length / shape[1];
        for (let c = 0; c < shape[1]; c++) {
          mean[c] = last.subarray(c * spots, (c + 1) * spots).reduce((a, b) => a + b / spots, 0);
        }
        const expected = linearOracle(mean, weight, 1, shape[1], shape[0], { bias });
        expected.bound.forEach((bound, i) => (expected.bound[i] = bound * 2)); // the mean is rounded as well
        close(scores, expected, `${label}: classifier`);
        if (format === "dense") dense = scores;
        else {
          const most = Math.max(...dense.map(Math.abs));
          const error = Math.max(...scores.map((v, i) => Math.abs(v - dense[i])));
          assert.ok(error <= 1e-5 * most, `${label}: ${error} from dense, of ${most}`);
        }
        engine.dispose();
      }
    }
  });

  test(`V${version}: steps can be run alone, in any order, as often as one likes`, async () => {
    const model = pruneModel(make(version)(2, SMALL), 0.8);
    const image = imageFor(model);
    for (const simd of builds) {
      const engine = await createEngine({ simd });
      const network = createMobileNet(engine, model);
      const { steps } = network;
      assert.equal(
        steps.map(({ name }) => name),
        [...model.layers.map(({ name }) => name), "mean", "classifier"],
      );
      const scores = network.run(image);
      const once = scores.toArray();
      const between = engine.stats();
      for (const order of [[...steps].reverse(), steps]) {
        for (const step of order) for (let i = 0; i < 3; i++) step.run();
        scores.data.fill(NaN);
        steps[steps.length - 1].run();
        assert.equal(scores.toArray(), once, "alone");
        scores.data.fill(NaN);
        assert.equal(network.run(image).toArray(), once, "as a whole");
        assert.is(engine.stats().bytesInUse, between.bytesInUse);
        assert.is(engine.stats().tensors, between.tensors);
      }
      // A step alone sees the image of the last run.
      network.run(image.map((v) => -v));
      const other = scores.toArray();
      assert.not.equal(other, once);
      for (const step of steps) step.run();
      assert.equal(scores.toArray(), other);
      engine.dispose();
    }
  });
}

test("steps say what they cost and which kernel runs", async () => {
  const engine = await createEngine();
  const model = pruneModel(mobilenetV2(1, SMALL), 0.9);
  const { steps, nnz, byteLength } = createMobileNet(engine, model, { format: "csr" });
  const sizes = resultsOf(model);
  let stored = 0;
  steps.forEach(({ name, macs, denseMacs, explain }, i) => {
    const why = explain();
    if (name === "mean") {
      assert.equal([why, macs, denseMacs], [undefined, 0, 0]);
      return;
    }
    const { weight } = model.layers[i] ?? model.classifier;
    const pixels = i < sizes.length ? sizes[i][1] * sizes[i][2] : 1;
    const nonzero = weight.reduce((n, v) => n + Number(v !== 0), 0);
    stored += nonzero;
    assert.equal([macs, denseMacs], [nonzero * pixels, weight.length * pixels], name);
    assert.is(why?.denseMacs, denseMacs, name);
    const kind = model.layers[i]?.kind;
    assert.match(why?.kernel ?? "", kind === "pointwise" ? /csr/ : /dense/, name);
  });
  assert.is(nnz, stored);
  assert.ok(byteLength > stored * 4 && byteLength < stored * 4 * 2.5, `${byteLength} bytes for ${stored} weights`);
  engine.dispose();
});

for (const version of versions) {
  // By bytesInUse, which counts weights and results; scratch of the operations and spare room are not among it.
  test(`V${version} at full size: at most three of the largest result beside the weights`, async () => {
    const model = pruneModel(make(version)(1), 0.9);
    const largest = Math.max(...resultsOf(model).map((shape) => sizeOf(shape) * 4));
    assert.is(largest, (version === 1 ? 64 : 96) * 112 * 112 * 4);
    const image = imageFor(model);
    for (const simd of builds) {
      const engine = await createEngine({ simd });
      const network = createMobileNet(engine, model, { format: "csr" });
      network.run(image);
      const weights = engine.stats().bytesInUse;
      assert.ok(weights > network.nnz * 4, `${weights}`);
      let peak = 0;
      watch(engine, () => {
        peak = Math.max(peak, engine.stats().bytesInUse);
      });
      network.run(image);
      const share = (peak - weights) / largest;
      assert.ok(share > 1 && share <= 3, `${share} of the largest result`);
      assert.is(engine.stats().bytesInUse, weights);
      // The first runs put weights between results, until all have their place.
      const runs = (n: number) => {
        for (let i = 0; i < n; i++) network.run(image);
        return engine.stats().bytesReserved;
      };
      const reserved = runs(8);
      assert.is(runs(8), reserved);
      assert.ok(reserved <= weights + 3 * largest, `${reserved} bytes reserved, ${weights} of weights`);
      network.dispose();
      const { bytesInUse, tensors, weights: left } = engine.stats();
      assert.equal([bytesInUse, tensors, left], [0, 0, 0]);
      engine.dispose();
    }
  });
}

test("a network that does not fit leaves nothing behind", async () => {
  const engine = await createEngine({ maxMemory: 2 ** 16 });
  // Biases alone fit one page; a model with a bias of two pages does not.
  const model = mobilenetV1(1, SMALL);
  const bias = new Float32Array(2 ** 15);
  const classifier = {
    weight: new Float32Array(bias.length * 256),
    bias,
    shape: [bias.length, 256] as [number, number],
  };
  assert.throws(() => createMobileNet(engine, { ...model, classifier }), /maxMemory/);
  const { bytesInUse, tensors, weights } = engine.stats();
  assert.equal([bytesInUse, tensors, weights], [0, 0, 0]);
  engine.dispose();
});

test("what is missing or of another shape is named, with what was expected and what came", () => {
  const tensors = randomTensors(2, 1, SMALL);
  const refused = (change: (copy: typeof tensors) => void, message: string) => {
    const copy = new Map(tensors);
    change(copy);
    try {
      mobilenetV2(copy, SMALL);
    } catch (error) {
      assert.instance(error, RangeError);
      assert.is((error as Error).message, message);
      return;
    }
    assert.unreachable(message);
  };
  const put = (name: string, shape: number[], data = new Float32Array(sizeOf(shape))) => {
    return (copy: typeof tensors) => copy.set(name, { dtype: "F32", shape, data });
  };
  const point = "features.2.conv.0.0.weight";
  refused((copy) => copy.delete(point), `"${point}" expected a tensor of shape [48, 8, 1, 1], got none`);
  refused(put(point, [48, 8]), `"${point}" expected a tensor of shape [48, 8, 1, 1], got [48, 8]`);
  refused(put(point, [48, 16, 1, 1]), `"${point}" expected a tensor of shape [48, 8, 1, 1], got [48, 16, 1, 1]`);
  refused(put(point, [48, 8, 1, 1], new Float32Array(7)), `"${point}" expected 384 elements, got 7`);
  const norm = "features.0.1.running_var";
  refused((copy) => copy.delete(norm), `"${norm}" expected a tensor of shape [8], got none`);
  refused(put(norm, [8], new Float32Array(8).fill(-1)), `"${norm}" expected variances of at least 0, got -1 at 0`);
  const last = "classifier.1.weight";
  refused(put(last, [10, 64]), `"${last}" expected a tensor of shape [10, 1280], got [10, 64]`);
  refused(put(last, [10, 1280]), `"classifier.1.bias" expected a tensor of shape [10], got [1000]`);
  refused((copy) => copy.delete(last), `"${last}" expected a tensor of shape [1000, 1280], got none`);
  assert.throws(() => mobilenetV1(tensors, SMALL), /"model\.0\.0\.weight" .* got none/);
  assert.throws(() => mobilenetV2(tensors), /"features\.0\.0\.weight" expected .*\[32, 3, 3, 3\], got \[8, 3, 3, 3\]/);
  assert.throws(() => mobilenetV1(1, { widthMultiplier: 0 }), /"widthMultiplier"/);
  assert.throws(() => mobilenetV1(1, { resolution: 31 }), /"resolution"/);
});

test("an image of another size is refused", async () => {
  const engine = await createEngine();
  const { run } = createMobileNet(engine, mobilenetV1(1, SMALL));
  assert.throws(() => run(new Float32Array(3 * 63 * 64)), /"image" expected 12288 numbers, got 12096/);
  engine.dispose();
});

/** A PNG file of the colours that `at` gives, 1 to 4 channels. */
function png(width: number, height: number, at: (x: number, y: number) => number[]): Promise<Buffer> {
  const channels = at(0, 0).length as 1 | 2 | 3 | 4;
  const data = new Uint8Array(width * height * channels);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data.set(at(x, y), (y * width + x) * channels);
  return sharp(data, { raw: { width, height, channels } }).png().toBuffer();
}

/** 0..255 again, of one channel. */
const colours = (image: Float32Array, c: number) =>
  image.subarray((c * image.length) / 3, ((c + 1) * image.length) / 3).map((v) => (v * STD[c] + MEAN[c]) * 255);

test("a constant colour gives the constants of the recipe, whatever the size, grey and transparent ones too", async () => {
  const [r, g, b] = [255, 51, 0];
  for (const [width, height] of [
    [256, 256],
    [300, 500],
    [1000, 640],
    [20, 10],
  ]) {
    const expected = [(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, -0.406 / 0.225];
    for (const colour of [
      [r, g, b],
      [r, g, b, 255],
      [r, g, b, 0],
      [r, g, b, 100],
    ]) {
      const image = await readImage(await png(width, height, () => colour));
      assert.is(image.length, 3 * 224 * 224);
      image.forEach((v, i) => {
        const c = Math.floor(i / (224 * 224));
        if (!(Math.abs(v - expected[c]) < 1e-6)) assert.unreachable(`${width} × ${height}, ${colour}: ${v} at ${i}`);
      });
    }
    for (const grey of [[51], [51, 0], [51, 255]]) {
      const image = await readImage(await png(width, height, () => grey));
      for (let c = 0; c < 3; c++) {
        const level = (0.2 - MEAN[c]) / STD[c];
        assert.ok(
          image.subarray(c * 224 * 224, (c + 1) * 224 * 224).every((v) => Math.abs(v - level) < 1e-6),
          `${grey}, channel ${c}`,
        );
      }
    }
  }
});

test("the crop is the middle, where Python's rounding puts it", async () => {
  // Nothing to resize: each pixel is its column and row.
  for (const [width, height, left, top] of [
    [256, 256, 16, 16],
    [512, 256, 144, 16],
    [256, 280, 16, 28],
    [341, 256, 58, 16], // 58.5 and 59.5: to the even one
    [343, 256, 60, 16],
  ]) {
    const image = await readImage(await png(width, height, (x, y) => [x & 255, y & 255, x >> 8]));
    const [x, y, high] = [0, 1, 2].map((c) => colours(image, c));
    for (const [column, row] of [
      [0, 0],
      [223, 0],
      [100, 223],
    ]) {
      const at = row * 224 + column;
      assert.is(Math.round(x[at]) + 256 * Math.round(high[at]), left + column, `${width} × ${height}`);
      assert.is(Math.round(y[at]), top + row, `${width} × ${height}`);
    }
  }
});

test("the shorter side becomes 256, smoothed where pixels become fewer", async () => {
  // Every fourth column lit: a resize that looks at two pixels only would miss them all.
  const stripes = await readImage(await png(1024, 1024, (x) => [x % 4 ? 0 : 200, 0, 0]));
  const lit = colours(stripes, 0);
  assert.ok(
    lit.every((v) => Math.abs(v - 50) < 1),
    `${Math.min(...lit)} to ${Math.max(...lit)}`,
  );
  assert.ok(Math.abs(lit.reduce((a, b) => a + b) / lit.length - 50) < 2);
  // A ramp of 512 columns becomes one of 256: output column c is the middle of input columns 2 (16 + c) and the next.
  const ramp = colours(await readImage(await png(512, 512, (x) => [x >> 1, 0, 0])), 0);
  for (const c of [0, 50, 223]) assert.ok(Math.abs(ramp[c] - (16 + c)) < 0.51, `${ramp[c]} at ${c}`);
  // Enlarged twice: an output's middle lies a quarter of a pixel beside an input's, across and down.
  const lines = await readImage(await png(128, 128, (x, y) => [x === 64 ? 255 : 0, y === 64 ? 255 : 0, 0]));
  const seen = Array.from({ length: 6 }, (_, i) => 127 - 16 + i - 1);
  const across = seen.map((c) => Math.round(colours(lines, 0)[100 * 224 + c]));
  const down = seen.map((r) => Math.round(colours(lines, 1)[r * 224 + 100]));
  assert.equal(
    [across, down],
    [
      [0, 64, 191, 191, 64, 0],
      [0, 64, 191, 191, 64, 0],
    ],
  );
  const small = await readImage(await png(64, 64, (x) => [x, 0, 0]), 64);
  assert.is(small.length, 3 * 64 * 64);
});

test("the demo's picture is read, and what is no image is an error", async () => {
  const image = await readImage(new URL("../examples/mobilenet/picture.jpg", import.meta.url));
  for (let c = 0; c < 3; c++) {
    const levels = colours(image, c);
    assert.ok(Math.min(...levels) >= -0.01 && Math.max(...levels) <= 255.01);
    assert.ok(Math.max(...levels) - Math.min(...levels) > 100, `channel ${c}`);
  }
  let refused = false;
  await readImage(new TextEncoder().encode("no image")).catch(() => (refused = true));
  assert.ok(refused);
});

const demo = (...args: string[]) =>
  spawnSync(process.execPath, ["--import", "tsx", "examples/mobilenet/demo.ts", ...args], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    encoding: "utf8",
  });

test("the demo runs on a weights file, agrees with itself and prints its table", () => {
  const folder = mkdtempSync(join(tmpdir(), "skipzeros-mobilenet-"));
  try {
    const file = join(folder, "weights.safetensors");
    writeFileSync(file, writeSafetensors(Object.fromEntries(randomTensors(2, 9, { classes: 20 }))));
    const run = demo("--version", "2", "--weights", file, "--zeros", "0.9", "--pattern", "4x1");
    assert.is(run.status, 0, run.stderr);
    assert.match(run.stdout, /^MobileNetV2-1\.0-224, 1x1 convolutions 4x1 blocks, 90% zeros/m);
    assert.not.match(run.stdout, /random/);
    for (const name of [
      "ms, least",
      "ms, median",
      "speed-up",
      "nonzeros",
      "multiply-adds",
      "weight bytes",
      "peak bytes",
    ])
      assert.match(run.stdout, new RegExp(`^${name} +[\\d.,]+.* {3,}[\\d.,]+`, "m"), name);
    assert.is([...run.stdout.matchAll(/^(?:class, score)? +\d+ +-?\d+\.\d{3} +\d+ +-?\d+\.\d{3}$/gm)].length, 5);
    assert.match(run.stdout, /^check +sparse kernels agree/m);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the demo says that random weights mean nothing, and refuses what it does not know", () => {
  for (const [option, value] of [
    ["--zeros", "1.5"],
    ["--weights", "nothing.safetensors"],
  ]) {
    const run = demo(option, value);
    assert.is(run.status, 1, option);
    assert.match(run.stderr, option === "--weights" ? /nothing\.safetensors/ : new RegExp(`"${option}" expected`));
    assert.is(run.stdout, "");
  }
  assert.is(demo("--fast").status, 1);
  const run = demo();
  assert.is(run.status, 0, run.stderr);
  assert.match(run.stdout, /^MobileNetV1-1\.0-224, 1x1 convolutions unstructured, 90% zeros/m);
  assert.match(run.stdout, /random \(seed 1\): the classes below mean nothing/);
  assert.match(run.stdout, /^check +sparse kernels agree/m);
});

test.run();
