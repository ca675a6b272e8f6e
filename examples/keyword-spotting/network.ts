/**
 * The speech-commands CNN of the complementary-sparsity work, from features to the scores of twelve words:
 * conv 5x5 1 → 64, max-pool 2, conv 5x5 64 → 64, max-pool 2, linear 1600 → 1500, linear 1500 → 12.
 */
import {
  type Engine,
  type Explanation,
  type PackedWeight,
  type SafetensorsEntry,
  type SparseTensor,
  type Tensor,
  toFloat32,
} from "skipzeros";
import type { Step } from "../step.js";
import { BANDS, FRAMES, type Scale } from "./features.js";

/** The layers that have weights, first to last. */
export const LAYERS = ["conv1", "conv2", "hidden", "output"] as const;
export type LayerName = (typeof LAYERS)[number];

export interface Layer {
  weight: PackedWeight;
  bias: Tensor;
}

/** What k-winners let pass: the numbers, and their share. */
type Winners = Pick<SparseTensor, "values" | "density">;

/** A network in engine memory. All results have their place, so that a clip allocates next to nothing. */
export interface Network {
  words: string[];
  scale: Scale;
  layers: Record<LayerName, Layer>;
  /** Bytes of the packed weights and of the biases. */
  byteLength: number;
  /** Weights that are not zero. */
  nnz: number;
  /** What enters conv2, hidden and output, where k-winners make it sparse. */
  active: Winners[];
  /** What a run does to the features, first to last. */
  steps: Step[];
  /** From `32 × 32` features to `[1, 12]` scores, overwritten by the next call. */
  run(features: Float32Array): Tensor;
}

/**
 * Loads a network.
 *
 * @param file - A safetensors file: `conv1.weight`, `conv1.bias` and so on to `output`, weights packed or plain. Its metadata
 *   have the `words`, the features' `mean` and `std`, and, where k-winners take the place of ReLU, `k` for each layer.
 * @throws RangeError if the file holds something else.
 */
export function createNetwork(engine: Engine, file: Uint8Array): Network {
  const { weights, tensors, metadata } = engine.deserialize(file);
  if (metadata.order !== "conv pool activation") throw new RangeError(`order: "${metadata.order}" is not supported`);
  const plain = (name: string): SafetensorsEntry => {
    const entry = tensors.get(name);
    if (!entry) throw new RangeError(`the file has no ${name}`);
    return entry;
  };
  const layer = (name: LayerName): Layer => {
    const bias = plain(`${name}.bias`);
    return {
      weight: weights[`${name}.weight`] ?? packDense(`${name}.weight`),
      bias: engine.tensor(toFloat32(bias), bias.shape),
    };
  };
  const packDense = (name: string): PackedWeight => {
    const entry = plain(name);
    return engine.pack(toFloat32(entry), entry.shape, { format: "dense" });
  };
  const layers = { conv1: layer("conv1"), conv2: layer("conv2"), hidden: layer("hidden"), output: layer("output") };

  const tensor = (...shape: number[]) => engine.tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const image = tensor(1, 1, FRAMES, BANDS);
  const planes1 = tensor(1, 64, 28, 28);
  const pooled1 = tensor(1, 64, 14, 14);
  const planes2 = tensor(1, 64, 10, 10);
  const pooled2 = tensor(1, 64, 5, 5);
  const row2 = pooled2.reshape([1, 1600]);
  const units = tensor(1, 1500);
  const scores = tensor(1, 12);

  const sum = (of: (name: LayerName) => number) => LAYERS.reduce((total, name) => total + of(name), 0);
  const common = {
    words: JSON.parse(metadata.words) as string[],
    scale: { mean: Number(metadata.mean), std: Number(metadata.std) },
    layers,
    byteLength: sum((name) => layers[name].weight.byteLength + layers[name].bias.size * 4),
    nnz: sum((name) => layers[name].weight.nnz),
  };

  const { activation: kind } = metadata;
  if (kind !== "relu" && kind !== "k-winners") throw new RangeError(`activation: "${kind}" is not supported`);
  // ReLU keeps the order of numbers, so that it may come before the pooling, where it is fused and costs nothing.
  const fused = kind === "relu" ? "relu" : "none";
  const conv = (name: LayerName, x: Tensor | SparseTensor, out: Tensor): Step => {
    const { weight, bias } = layers[name];
    const o = { bias, activation: fused, out } as const;
    const run = () => void engine.conv2d(x, weight, o);
    return product(name, weight, x, out, run, () => engine.explain("conv2d", x, weight, o));
  };
  const linear = (name: LayerName, x: Tensor | SparseTensor, out: Tensor, activation: "relu" | "none"): Step => {
    const { weight, bias } = layers[name];
    const o = { bias, activation, out };
    const run = () => void engine.linear(x, weight, o);
    return product(name, weight, x, out, run, () => engine.explain("linear", x, weight, o));
  };
  const pool = (name: string, x: Tensor, out: Tensor) =>
    between(name, x, out, () => void engine.maxPool2d(x, { kernel: 2, out }));
  const network = (steps: Step[], active: Winners[]): Network => ({
    ...common,
    active,
    steps,
    run(features) {
      image.data.set(features);
      for (const step of steps) step.run();
      return scores;
    },
  });

  const start = [conv("conv1", image, planes1), pool("pool1", planes1, pooled1)];
  if (kind === "relu") {
    const steps = [
      conv("conv2", pooled1, planes2),
      pool("pool2", planes2, pooled2),
      linear("hidden", row2, units, "relu"),
      linear("output", units, scores, "none"),
    ];
    return network([...start, ...steps], []);
  }
  const k = JSON.parse(metadata.k) as Record<LayerName, number>;
  const [active1, active2, active3] = [pooled1, row2, units].map((x) => engine.toSparse(x));
  // Winners may be negative: they take the place of ReLU. Pooled first, a pixel is as sparse as k says when it is read.
  const winners = (name: string, x: Tensor, k: number, out: SparseTensor) =>
    between(name, x, out, () => void engine.kWinners(x, { k, out }));
  const steps = [
    winners("winners1", pooled1, k.conv1, active1),
    conv("conv2", active1, planes2),
    pool("pool2", planes2, pooled2),
    winners("winners2", row2, k.conv2, active2),
    linear("hidden", active2, units, "none"),
    winners("winners3", units, k.hidden, active3),
    linear("output", active3, scores, "none"),
  ];
  return network([...start, ...steps], [active1, active2, active3]);
}

/** Of lists what they hold now, a number and its place each. */
const bytesOf = (x: Tensor | SparseTensor): number => ("nnz" in x ? x.nnz * 8 : x.size * 4);

/** A layer. Of a sparse input counts what it holds now. */
function product(
  name: string,
  { nnz, shape, byteLength }: PackedWeight,
  x: Tensor | SparseTensor,
  out: Tensor,
  run: () => void,
  explain: () => Explanation,
): Step {
  // That each weight has a part in.
  const outputs = out.size / shape[0];
  return {
    name,
    run,
    explain,
    get macs() {
      return Math.round(nnz * outputs * ("density" in x ? x.density : 1));
    },
    denseMacs: shape.reduce((a, b) => a * b) * outputs,
    get bytes() {
      return byteLength + bytesOf(x) + bytesOf(out);
    },
  };
}

const between = (name: string, x: Tensor, out: Tensor | SparseTensor, run: () => void): Step => ({
  name,
  run,
  explain: () => undefined,
  macs: 0,
  denseMacs: 0,
  get bytes() {
    return bytesOf(x) + bytesOf(out);
  },
});

/** The class with the highest score. */
export function decide({ data }: Tensor): number {
  return data.indexOf(data.reduce((a, b) => Math.max(a, b), -Infinity));
}
