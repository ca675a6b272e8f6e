/**
 * MobileNetV1 (A. G. Howard et al., arXiv 1704.04861) and V2 (M. Sandler et al., arXiv 1801.04381) as plain data: layers with
 * batch norm folded into them, made from a safetensors file's tensors or from a seed. Knows nothing of the engine, so that other
 * runtimes can be given the same network.
 */
import { type PatternLike, prune, type SafetensorsEntry, toFloat32 } from "skipzeros";
import { type LayerPlan, planOf, type Version } from "./plan.js";
import { randomTensors } from "./random.js";

export interface Layer extends Omit<LayerPlan, "norm"> {
  /** Row-major, of `shape`, batch norm folded; and `[out]`. */
  weight: Float32Array;
  bias: Float32Array;
}

/** Layers one after another, then the mean of each channel, then the classifier. */
export interface Model {
  version: Version;
  /** Height and width of the image; it has three channels. */
  resolution: number;
  layers: Layer[];
  /** `[classes, in]` */
  classifier: { weight: Float32Array; bias: Float32Array; shape: [number, number] };
}

export interface ModelOptions {
  /** Of all channels, for small networks; default 1. */
  widthMultiplier?: number;
  /** Default 224. */
  resolution?: number;
}

/** Tensors by name, as `readSafetensors(file).tensors` has them, or a seed for random weights. */
export type Source = ReadonlyMap<string, SafetensorsEntry> | number;

/** PyTorch's and torchvision's. */
const EPSILON = 1e-5;

/**
 * MobileNetV1 from tensors in the widespread PyTorch layout (torchvision has no V1): `model.0.0.weight` and its batch norm
 * `model.0.1`, then of each block `model.N.0` depthwise, `.1` norm, `.3` pointwise, `.4` norm, at last `fc`.
 *
 * @param source - tensors by name; other tensors of the file are ignored. A seed makes random ones.
 * @throws RangeError that names the tensor which is missing or of another shape, or the option that is out of range
 * @example
 * ```ts
 * const model = mobilenetV1(readSafetensors(readFileSync("mobilenet.safetensors")).tensors);
 * const random = mobilenetV1(1, { widthMultiplier: 0.25, resolution: 64 });
 * ```
 */
export function mobilenetV1(source: Source, o?: ModelOptions): Model {
  return build(1, source, o);
}

/**
 * MobileNetV2 from tensors with torchvision's names: `features.0.0.weight`, its batch norm `features.0.1`, `features.N.conv.…`,
 * `classifier.1`.
 *
 * @param source - see {@link mobilenetV1}
 * @throws see {@link mobilenetV1}
 * @example
 * ```ts
 * const model = mobilenetV2(readSafetensors(readFileSync("mobilenet_v2.safetensors")).tensors);
 * ```
 */
export function mobilenetV2(source: Source, o?: ModelOptions): Model {
  return build(2, source, o);
}

function build(version: Version, source: Source, { widthMultiplier = 1, resolution = 224 }: ModelOptions = {}): Model {
  if (!(widthMultiplier > 0 && widthMultiplier <= 4)) refuse("widthMultiplier", "a number in 0..4", widthMultiplier);
  if (!(Number.isInteger(resolution) && resolution >= 32 && resolution <= 1024)) {
    refuse("resolution", "an integer in 32..1024", resolution);
  }
  const { layers, classifier, features } = planOf(version, widthMultiplier);
  const tensors = typeof source === "number" ? randomTensors(version, source, { widthMultiplier }) : source;
  const entry = tensors.get(`${classifier}.weight`);
  // The file says how many classes there are.
  const shape: [number, number] = [entry?.shape[0] ?? 1000, features];
  return {
    version,
    resolution,
    layers: layers.map((plan) => fold(tensors, plan)),
    classifier: {
      weight: read(tensors, `${classifier}.weight`, shape),
      bias: read(tensors, `${classifier}.bias`, [shape[0]]),
      shape,
    },
  };
}

/** y = γ · (W · x − mean) / √(variance + ε) + β as one weight and one bias; in float64, rounded once. */
function fold(tensors: ReadonlyMap<string, SafetensorsEntry>, { norm, ...layer }: LayerPlan): Layer {
  const { name, shape } = layer;
  const [out] = shape;
  const unfolded = read(tensors, `${name}.weight`, shape);
  const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) =>
    read(tensors, `${norm}.${part}`, [out]),
  );
  const weight = new Float32Array(unfolded.length);
  const bias = new Float32Array(out);
  const inputs = unfolded.length / out;
  for (let o = 0; o < out; o++) {
    if (!(variance[o] >= 0)) refuse(`${norm}.running_var`, "variances of at least 0", `${variance[o]} at ${o}`);
    const scale = gamma[o] / Math.sqrt(variance[o] + EPSILON);
    for (let i = o * inputs; i < (o + 1) * inputs; i++) weight[i] = unfolded[i] * scale;
    bias[o] = beta[o] - mean[o] * scale;
  }
  return { ...layer, weight, bias };
}

function read(tensors: ReadonlyMap<string, SafetensorsEntry>, name: string, shape: readonly number[]): Float32Array {
  const entry = tensors.get(name);
  const expected = `a tensor of shape [${shape.join(", ")}]`;
  if (!entry) refuse(name, expected, "none");
  if (entry.shape.length !== shape.length || entry.shape.some((d, i) => d !== shape[i])) {
    refuse(name, expected, `[${entry.shape.join(", ")}]`);
  }
  const values = toFloat32(entry);
  const size = shape.reduce((a, b) => a * b);
  if (values.length !== size) refuse(name, `${size} elements`, values.length);
  return values;
}

function refuse(name: string, expected: string, got: unknown): never {
  throw new RangeError(`"${name}" expected ${expected}, got ${got}`);
}

/**
 * Prunes the 1x1 convolutions by magnitude, where nearly all multiply-adds are. The first convolution, the depthwise ones and
 * the classifier stay dense: they have few weights to an output, or run once an image.
 *
 * @param pattern - a share of zeros, or what `prune` takes: `"90%"`, `"4x1@90%"`, `"2:4"`
 * @returns a new model; layers that are not pruned are the same objects
 * @throws as `prune`
 * @example
 * ```ts
 * const sparse = pruneModel(model, "4x1@90%");
 * ```
 */
export function pruneModel(model: Model, pattern: PatternLike | number): Model {
  const wanted = typeof pattern === "number" ? { sparsity: pattern } : pattern;
  const layers = model.layers.map((layer) =>
    layer.kind === "pointwise" ? { ...layer, weight: prune(layer.weight, layer.shape, wanted) } : layer,
  );
  return { ...model, layers };
}

/** What each layer's result is, `[channels, height, width]`. */
export function resultsOf({ resolution, layers }: Model): [channels: number, height: number, width: number][] {
  let size = resolution;
  return layers.map(({ shape, stride, padding }) => {
    size = Math.floor((size + 2 * padding - shape[2]) / stride) + 1;
    return [shape[0], size, size];
  });
}
