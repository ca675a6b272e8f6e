/** MobileNet in engine memory: a {@link Model} packed, and layers that can be run one by one. */
import type { Conv2dOptions, Engine, Explanation, Format, PackedWeight, Tensor, TensorLike } from "skipzeros";
import type { Step } from "../step.js";
import { type Model, resultsOf } from "./model.js";

export interface NetworkOptions {
  /** Of the 1x1 convolutions, default `"auto"`; everything else is packed dense. */
  format?: "auto" | Format;
}

export interface Network {
  /**
   * Layers, the mean, the classifier. What a step that is run alone reads and is not there, because a whole run frees what it no
   * longer needs, is computed first and stays until the next whole run.
   */
  steps: Step[];
  /**
   * From a normalised `[3, resolution, resolution]` image to `[1, classes]` scores, overwritten by the next call. The array is kept,
   * for steps that are run alone.
   * @throws RangeError for an image of another size
   */
  run(image: Float32Array): Tensor;
  /** Bytes of packed weights and biases. */
  byteLength: number;
  /** Weights that are not zero. */
  nnz: number;
  dispose(): void;
}

/** A step as the network sees it: what it reads are results of earlier stages, −1 is the image. */
interface Stage {
  name: string;
  input: number;
  /** The result that is added to this one. */
  residual?: number;
  weight?: PackedWeight;
  /** Outputs that each weight has a part in, and elements of the result. */
  pixels: number;
  size: number;
  compute(input: TensorLike, residual: Tensor | undefined, out: Tensor | undefined): Tensor;
  explain(): Explanation | undefined;
}

/** Makes a network's weights and tensors, and knows them all. */
interface Store {
  pack(values: Float32Array, shape: readonly number[], format: "auto" | Format): PackedWeight;
  tensor(values: Float32Array, shape: readonly number[]): Tensor;
  byteLength: number;
  nnz: number;
  dispose(): void;
}

/**
 * Packs a model. Beside the weights a whole run has at most three results alive: what a layer reads, what it writes, and in V2
 * what is added to it.
 *
 * @throws as `engine.pack` and `engine.tensor`; nothing stays behind then
 * @example
 * ```ts
 * const network = createMobileNet(engine, pruneModel(mobilenetV2(1), "90%"));
 * const scores = network.run(await readImage("picture.jpg"));
 * ```
 */
export function createMobileNet(engine: Engine, model: Model, { format = "auto" }: NetworkOptions = {}): Network {
  const store = createStore(engine);
  try {
    const stages = stagesOf(engine, store, model, format);
    const { resolution } = model;
    const size = 3 * resolution * resolution;
    // Not a tensor: only the first layer reads it, and copies it in.
    const image: { data: Float32Array; shape: number[] } = {
      data: new Float32Array(size),
      shape: [1, 3, resolution, resolution],
    };
    const { runAll, runAlone, free } = runsOf(stages, image);
    const elements = (i: number | undefined) => (i === undefined ? 0 : i < 0 ? size : stages[i].size);
    return {
      steps: stages.map(({ name, input, residual, weight, pixels, explain }, i) => ({
        name,
        run: () => runAlone(i),
        explain,
        macs: (weight?.nnz ?? 0) * pixels,
        denseMacs: weight ? weight.shape.reduce((a, b) => a * b) * pixels : 0,
        bytes: (weight?.byteLength ?? 0) + (elements(input) + elements(residual) + elements(i)) * 4,
      })),
      run(values) {
        if (values.length !== size) throw new RangeError(`"image" expected ${size} numbers, got ${values.length}`);
        image.data = values;
        return runAll();
      },
      byteLength: store.byteLength,
      nnz: store.nnz,
      dispose() {
        free();
        store.dispose();
      },
    };
  } catch (error) {
    store.dispose();
    throw error;
  }
}

function createStore(engine: Engine): Store {
  const things: (PackedWeight | Tensor)[] = [];
  const store: Store = {
    pack(values, shape, format) {
      const weight = engine.pack(values, shape, { format });
      things.push(weight);
      store.byteLength += weight.byteLength;
      store.nnz += weight.nnz;
      return weight;
    },
    tensor(values, shape) {
      const tensor = engine.tensor(values, shape);
      things.push(tensor);
      return tensor;
    },
    byteLength: 0,
    nnz: 0,
    dispose() {
      for (const thing of things) thing.dispose();
    },
  };
  return store;
}

function stagesOf(engine: Engine, store: Store, model: Model, format: "auto" | Format): Stage[] {
  const { resolution, layers, classifier } = model;
  const biasOf = (values: Float32Array) => {
    store.byteLength += values.byteLength;
    return store.tensor(values, [values.length]);
  };
  /** For `explain`, which looks at shapes alone. */
  const blank = (shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape });

  const results = resultsOf(model);
  const stages = layers.map((layer, i): Stage => {
    const { name, kind, shape, stride, padding, relu6, residual } = layer;
    const [, height, width] = results[i];
    const weight = store.pack(layer.weight, shape, kind === "pointwise" ? format : "dense");
    const groups = kind === "depthwise" ? shape[0] : 1;
    const bias = biasOf(layer.bias);
    const o: Conv2dOptions = { stride, padding, groups, bias, activation: relu6 ? "relu6" : "none" };
    return {
      name,
      input: i - 1,
      residual,
      weight,
      pixels: height * width,
      size: shape[0] * height * width,
      compute: (input, residual, out) => engine.conv2d(input, weight, { ...o, residual, out }),
      explain: () => {
        const before = i === 0 ? [3, resolution, resolution] : results[i - 1];
        return engine.explain("conv2d", blank([1, ...before]), weight, o);
      },
    };
  });

  const weight = store.pack(classifier.weight, classifier.shape, "dense");
  // The number only: a closure over the classifier would keep its 4 MB twice.
  const [, features] = classifier.shape;
  const bias = biasOf(classifier.bias);
  return [
    ...stages,
    {
      name: "mean",
      input: layers.length - 1,
      pixels: 0,
      size: features,
      compute: (input, _, out) => engine.globalAvgPool2d(input, { out }),
      explain: () => undefined,
    },
    {
      name: "classifier",
      input: layers.length,
      weight,
      pixels: 1,
      size: weight.shape[0],
      compute: (input, _, out) => engine.linear(input, weight, { bias, out }),
      explain: () => engine.explain("linear", blank([1, features]), weight, { bias }),
    },
  ];
}

/** Runs stages and keeps their results, as long as something is to read them. */
function runsOf(stages: readonly Stage[], image: TensorLike) {
  const results: (Tensor | undefined)[] = stages.map(() => undefined);
  const lastReader = new Map<number, number>();
  const readsOf = ({ input, residual }: Stage) => (residual === undefined ? [input] : [input, residual]);
  stages.forEach((stage, i) => {
    for (const j of readsOf(stage)) lastReader.set(j, i);
  });
  function compute(i: number): void {
    const { input, residual, compute } = stages[i];
    const x = input < 0 ? image : (results[input] as Tensor);
    results[i] = compute(x, residual === undefined ? undefined : results[residual], results[i]);
  }

  function free(i: number): void {
    results[i]?.dispose();
    results[i] = undefined;
  }

  function runAll(): Tensor {
    stages.forEach((stage, i) => {
      const { residual } = stage;
      const inPlace = residual !== undefined && lastReader.get(residual) === i;
      if (inPlace) {
        // Nobody reads it again, so that the sum may take its place: no copy, and one result less alive.
        free(i);
        results[i] = results[residual];
      }
      compute(i);
      if (inPlace) results[residual] = undefined;
      for (const j of readsOf(stage)) if (lastReader.get(j) === i) free(j);
    });
    return results[stages.length - 1] as Tensor;
  }

  function runAlone(i: number): void {
    for (const j of readsOf(stages[i])) if (j >= 0 && !results[j]) runAlone(j);
    compute(i);
  }

  return {
    runAll,
    runAlone,
    free() {
      for (let i = 0; i < results.length; i++) free(i);
    },
  };
}
