/**
 * The speech-commands CNN of the complementary-sparsity work, from features to the scores of twelve words:
 * conv 5x5 1 → 64, max-pool 2, conv 5x5 64 → 64, max-pool 2, linear 1600 → 1500, linear 1500 → 12.
 */
import {
  type Engine,
  type PackedWeight,
  type SafetensorsEntry,
  type SparseTensor,
  type Tensor,
  toFloat32,
} from "skipzeros";
import { BANDS, FRAMES, type Scale } from "./features.js";

/** The layers that have weights, first to last. */
export const LAYERS = ["conv1", "conv2", "hidden", "output"] as const;
export type LayerName = (typeof LAYERS)[number];

export interface Layer {
  weight: PackedWeight;
  bias: Tensor;
}

/** A network in engine memory. All results have their place, so that a clip allocates next to nothing. */
export interface Network {
  words: string[];
  scale: Scale;
  layers: Record<LayerName, Layer>;
  /** Bytes of weights, their indices and biases in engine memory. */
  byteLength: number;
  /** Weights that are not zero. */
  nnz: number;
  /** What enters conv2, hidden and output, where k-winners make it sparse. */
  active: SparseTensor[];
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
  const { conv1, conv2, hidden, output } = layers;

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

  if (metadata.activation === "relu") {
    const activation = "relu";
    return {
      ...common,
      active: [],
      // ReLU keeps the order of numbers, so that it may come before the pooling, where it is fused and costs nothing.
      run(features) {
        image.data.set(features);
        engine.conv2d(image, conv1.weight, { bias: conv1.bias, activation, out: planes1 });
        engine.maxPool2d(planes1, { kernel: 2, out: pooled1 });
        engine.conv2d(pooled1, conv2.weight, { bias: conv2.bias, activation, out: planes2 });
        engine.maxPool2d(planes2, { kernel: 2, out: pooled2 });
        engine.linear(row2, hidden.weight, { bias: hidden.bias, activation, out: units });
        return engine.linear(units, output.weight, { bias: output.bias, out: scores });
      },
    };
  }
  if (metadata.activation !== "k-winners")
    throw new RangeError(`activation: "${metadata.activation}" is not supported`);
  const k = JSON.parse(metadata.k) as Record<LayerName, number>;
  const [active1, active2, active3] = [pooled1, row2, units].map((x) => engine.toSparse(x));
  return {
    ...common,
    active: [active1, active2, active3],
    // Winners may be negative: they take the place of ReLU. Pooled first, a pixel is as sparse as k says when it is read.
    run(features) {
      image.data.set(features);
      engine.conv2d(image, conv1.weight, { bias: conv1.bias, out: planes1 });
      engine.maxPool2d(planes1, { kernel: 2, out: pooled1 });
      engine.kWinners(pooled1, { k: k.conv1, out: active1 });
      engine.conv2d(active1, conv2.weight, { bias: conv2.bias, out: planes2 });
      engine.maxPool2d(planes2, { kernel: 2, out: pooled2 });
      engine.kWinners(row2, { k: k.conv2, out: active2 });
      engine.linear(active2, hidden.weight, { bias: hidden.bias, out: units });
      engine.kWinners(units, { k: k.hidden, out: active3 });
      return engine.linear(active3, output.weight, { bias: output.bias, out: scores });
    },
  };
}

/** The class with the highest score. */
export function decide({ data }: Tensor): number {
  return data.indexOf(data.reduce((a, b) => Math.max(a, b), -Infinity));
}
