import { fail, integer, oneOf, options, shapeOf, sizeOf } from "./assert.js";
import { type Build, chooseBuild, type KernelFunction, loadKernels, type WasmSource } from "./builds.js";
import { type BuildCosts, type Costs, costsOf } from "./costs.js";
import { describeCuts } from "./dispatch.js";
import { type Format, formatName, type Matrix } from "./formats/format.js";
import type { Lowered } from "./formats/streams.js";
import { type IndexArray, matrixFromBsr, matrixFromCsr, matrixFromNm, type NmLayout } from "./io/arrays.js";
import { type PackedFile, readPacked } from "./io/packed.js";
import type { SafetensorsFile } from "./io/safetensors.js";
import { Memory } from "./memory.js";
import { CONV2D, type Conv2dOptions, conv2d, planConv2d } from "./ops/conv2d.js";
import type { BinaryOptions, ElementwiseOptions } from "./ops/elementwise.js";
import * as elementwise from "./ops/elementwise.js";
import { LINEAR, type LinearOptions, linear, planLinear } from "./ops/linear.js";
import { type MatmulOptions, matmul, planMatmul } from "./ops/matmul.js";
import { input, own, PRODUCT, type TensorLike, weight } from "./ops/operands.js";
import {
  type AvgPoolOptions,
  avgPool2d,
  type GlobalPoolOptions,
  globalAvgPool2d,
  maxPool2d,
  type PoolOptions,
} from "./ops/pool.js";
import { explainSparse, maxPoolSparse, productSparse, type SparseOutput, wantsSparse } from "./ops/sparse.js";
import type { ImageLayout } from "./ops/window.js";
import {
  handOver,
  type KWinnersDenseOptions,
  type KWinnersOptions,
  kWinners,
  kWinnersDense,
  type SparseData,
  sparseTensor,
  type ToSparseOptions,
  toSparse,
} from "./ops/winners.js";
import { SparseTensor } from "./sparse-tensor.js";
import { Tensor } from "./tensor.js";
import { givenWeight, PackedWeight, type PackOptions, packWeight } from "./weight.js";

/** Options of {@link createEngine}. */
export interface EngineOptions {
  /** Which build to run; default `"auto"`: relaxed where the host has it. Only simd128 gives the same bits on every host. */
  simd?: "auto" | Build | undefined;
  /**
   * The build's module, for hosts that must bring their own: `skipzeros/relaxed.wasm`, or `skipzeros/simd128.wasm` for one
   * without relaxed SIMD. Cloudflare Workers get theirs by the package's export condition `workerd`. A response may be of any
   * MIME type.
   */
  wasm?: WasmSource | Promise<WasmSource> | undefined;
  /**
   * Most bytes of WebAssembly memory the engine may reserve, at least 65536; rounded down to whole pages of 64 KiB. Where
   * that is too little, the forms of weights that kernels read are given up if that makes room; they are made again when they are
   * wanted, which takes time.
   */
  maxMemory?: number | undefined;
  /** Another machine's constants for the choice of kernels: what `npm run calibrate` writes in a clone of the repository. */
  costs?: Costs | undefined;
}

/** What an engine holds. */
export interface EngineStats {
  /** Bytes of WebAssembly memory. */
  bytesReserved: number;
  /** Bytes of it that living tensors and weights occupy. */
  bytesInUse: number;
  /** Living tensors, sparse ones included, and living weights. */
  tensors: number;
  weights: number;
}

/** Which kernel would run, and why. */
export interface Explanation {
  /** Kernel names, widest strip first; "none" where there is nothing to compute. */
  kernel: string;
  format: Format;
  reason: string;
  /** Nonzeros over all weights. */
  density: number;
  /** Multiply-adds that run, for a SparseTensor about, and that a dense kernel would run. */
  macs: number;
  denseMacs: number;
  /**
   * Every way to run it, the one that would run first; dense kernels are among them if the format was left to the engine. Predicted
   * milliseconds of the call, but of one image for `conv2d` of a dense x; for sparse weights and dense inputs a tenth more than the
   * model says, so that near ties go to the dense kernel.
   */
  alternatives: { kernel: string; ms: number }[];
}

/** What the engine frees when its last owner is gone. */
export type Resource = { ptr: number; owners: number } | Map<string, { ptr: number }>;

/** Of an operation without weights. */
const NOTHING: Lowered = { ptr: 0, passes: [] };

/**
 * Frees what the user forgot, but in Workers of a compatibility date before May 2025, which have no registries. One registry for all
 * engines: V8 (11 and 13) runs no finalizer of the process any more once a registry dies with callbacks due.
 */
const forgotten =
  typeof FinalizationRegistry === "undefined"
    ? undefined
    : new FinalizationRegistry<{ engine: Engine; resource: Resource; kind: "tensors" | "weights" }>(
        ({ engine, resource, kind }) => engine.drop(resource, kind),
      );

/** Kernels, their memory, and all operations. Made by {@link createEngine}; every call is synchronous. */
export class Engine {
  /** The build that runs. */
  readonly simd: Build;
  /** @internal Rows that the dense kernel of this build interleaves. */
  readonly blockRows: number;
  /** @internal What the cost model reads. */
  readonly costs: BuildCosts;
  #kernels: Record<string, KernelFunction> | undefined;
  #memory: Memory | undefined;
  #counts = { tensors: 0, weights: 0 };

  /** @internal Use {@link createEngine}. */
  constructor(simd: Build, kernels: Record<string, KernelFunction>, memory: Memory, costs: Costs | undefined) {
    this.simd = simd;
    this.costs = costsOf(simd, costs);
    this.#kernels = kernels;
    this.#memory = memory;
    this.blockRows = kernels.dense_gemm_rows();
  }

  /** @internal */
  get memory(): Memory {
    return this.#memory ?? this.#gone();
  }

  /** @internal The raw exports of the build. */
  get kernels(): Record<string, KernelFunction> {
    return this.#kernels ?? this.#gone();
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.#memory === undefined;
  }

  /** Memory in use, for leak checks and for choosing `maxMemory`. */
  stats(): EngineStats {
    return { bytesReserved: this.#memory?.reserved ?? 0, bytesInUse: this.#memory?.inUse ?? 0, ...this.#counts };
  }

  /** Gives all memory back; tensors and weights of this engine are gone with it. A second call does nothing. */
  dispose(): void {
    this.#memory = undefined;
    this.#kernels = undefined;
    this.#counts = { tensors: 0, weights: 0 };
  }

  /** For `using`. */
  declare [Symbol.dispose]: () => void;

  /**
   * Puts an activation into engine memory, so that a chain of layers copies nothing.
   *
   * @param data row-major elements; copied
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_SHAPE`, `ERR_LENGTH`, `ERR_MEMORY`, `ERR_DISPOSED`
   * @example
   * const x = engine.tensor(new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
   */
  tensor(data: Float32Array, shape: readonly number[]): Tensor {
    const checked = shapeOf("shape", shape);
    const values = own(this, "data", data, checked.size);
    return this.produce(checked.shape, undefined, [], (y) => y.data.set(values));
  }

  /**
   * Packs a weight: finds its zeros, chooses a format, keeps the survivors. Nothing is pruned; a zero is what is stored as 0.
   *
   * @param data row-major values, zeros included; copied
   * @param shape `[out, in]` or `[out, in / groups, kh, kw]`; in TensorFlow's order with `layout`. Errors name rows and columns of
   *   `[out, in · kh · kw]` in either order
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_SHAPE`, `ERR_LENGTH`, `ERR_VALUE`, `ERR_DISPOSED`
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3]);
   * w.explain().reason;
   */
  pack(data: Float32Array, shape: readonly number[], o?: PackOptions): PackedWeight {
    void this.memory;
    return packWeight(this, data, shape, o);
  }

  /**
   * A weight from compressed sparse rows: `a.data, a.indices, a.indptr` of a SciPy csr_array (`.astype(np.float32)`),
   * `values(), col_indices(), crow_indices()` of a PyTorch sparse_csr tensor. Zeros that are stored stay stored; only what
   * is stored is ever multiplied.
   *
   * @param data numbers row by row; copied
   * @param indices their columns, in any order within a row but each once
   * @param indptr row r is `indptr[r]..indptr[r + 1]` of both; rows + 1 of them
   * @param shape `[out, in]`, or `[out, in / groups, kh, kw]` with the columns of `[in / groups, kh, kw]` flattened
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_SHAPE`, `ERR_LENGTH`, `ERR_VALUE`, `ERR_DISPOSED`
   * @example
   * const w = engine.fromCsr(new Float32Array([2, 3]), [1, 2], [0, 1, 2], [2, 3]);
   * w.toDense(); // 0, 2, 0, 0, 0, 3
   */
  fromCsr(data: Float32Array, indices: IndexArray, indptr: IndexArray, shape: readonly number[]): PackedWeight {
    return this.#given((shape) => matrixFromCsr(data, indices, indptr, shape), shape);
  }

  /**
   * A weight from compressed rows of blocks: SciPy's bsr_array (`.blocksize`), PyTorch's sparse_bsr. Blocks of other sizes
   * than 1, 2, 4 or 8 rows by 1, 2 or 4 columns are cut into the largest of those that divide them: 16 × 16 into 8 × 4,
   * 3 × 3 into csr. A last block may reach over the edge of the matrix, with zeros there.
   *
   * @param data `[blocks][rows][cols]`; copied
   * @param indices column of each block, counted in blocks; in any order within a row of blocks but each once
   * @param indptr one more than there are rows of blocks
   * @param shape as in {@link fromCsr}
   * @param blockSize `[rows, cols]`
   * @throws as {@link fromCsr}
   * @example
   * const w = engine.fromBsr(new Float32Array([1, 2]), [1], [0, 1], [2, 3], [2, 1]);
   * w.toDense(); // 0, 1, 0, 0, 2, 0
   */
  fromBsr(
    data: Float32Array,
    indices: IndexArray,
    indptr: IndexArray,
    shape: readonly number[],
    blockSize: readonly [rows: number, cols: number],
  ): PackedWeight {
    return this.#given((shape) => matrixFromBsr(data, indices, indptr, shape, blockSize), shape);
  }

  /**
   * A weight from values and their places in groups of m consecutive inputs, n to a group; a last group that the matrix
   * cuts has min(n, its inputs).
   *
   * With `encoding: "cutlass"` it takes `values()` and `indices()` of PyTorch's `to_sparse_semi_structured`, which torchao
   * uses too, as the CUTLASS backend makes them (`SparseSemiStructuredTensor._FORCE_CUTLASS = True`): 2:4 of float16,
   * bfloat16 and int8 tensors (`toFloat32` converts the values; scales are yours to apply), 1:2 of float32 ones. It does not
   * take what the cuSPARSELt backend makes, whose layout is not public, nor what PyTorch prunes in 4 × 4 tiles for training
   * (`prune_dense_static_sort`), whose metadata lie otherwise; neither can be told from the words, so a wrong one is at best
   * refused. Use `to_dense()` and {@link pack} for them.
   *
   * @param values `[out][groups of a row][n]`; copied
   * @param indices for each value its position in its group, 0..m − 1, each once and in any order; or PyTorch's metadata,
   *   int16 words of four groups or int32 words of eight
   * @param shape as in {@link fromCsr}
   * @param format n values (1..m) in each m inputs (2..1024), and how `indices` are written
   * @throws as {@link fromCsr}
   * @example
   * const w = engine.fromNm(new Float32Array([1, 2, 3, 4]), [0, 3, 1, 2], [1, 8], { n: 2, m: 4 });
   * w.toDense(); // 1, 0, 0, 2, 0, 3, 4, 0
   */
  fromNm(values: Float32Array, indices: IndexArray, shape: readonly number[], format: NmLayout): PackedWeight {
    return this.#given((shape) => matrixFromNm(values, indices, shape, format), shape);
  }

  /**
   * Loads what `serialize` or `skipzeros pack` wrote, without packing again: every array is checked and copied. The file may
   * come from a stranger. The zeros are not looked at again: `explain()` of such a weight knows no other formats.
   *
   * @param source the file's bytes, or what `readSafetensors` made of them
   * @returns the weights by name, and the file's other tensors and texts
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_FORMAT` that names what is wrong, and nothing was loaded; `ERR_DISPOSED`
   * @example
   * const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3]);
   * const { weights, tensors, metadata } = engine.deserialize(w.serialize("fc"));
   * weights.fc.format;
   */
  deserialize(source: Uint8Array | ArrayBuffer | SafetensorsFile): PackedFile {
    void this.memory;
    const { entries, tensors, metadata } = readPacked(source);
    const weights: Record<string, PackedWeight> = Object.create(null);
    for (const { name, matrix, shape, layout, auto } of entries) {
      weights[name] = givenWeight(this, matrix, shape, layout, auto, "loaded from a file");
    }
    return { weights, tensors, metadata };
  }

  #given(matrix: (shape: readonly number[]) => Matrix, given: readonly number[]): PackedWeight {
    void this.memory;
    const { shape } = shapeOf("shape", given);
    const layout = shape.length === 4 ? "oihw" : "oi";
    return givenWeight(this, matrix(shape), shape, layout, false, "given in this format");
  }

  /**
   * y = x · Wᵀ (+ bias): x `[..., in]`, w `[out, in]` → `[..., out]`. One row is a matrix-vector product.
   *
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_SHAPE`, `ERR_LENGTH`, `ERR_VALUE`, `ERR_DISPOSED`, `ERR_ENGINE`, `ERR_MEMORY`
   * @example
   * const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2]);
   * engine.linear({ data: new Float32Array([3, 4]), shape: [1, 2] }, w, { activation: "relu" }).data; // 3, 8
   */
  linear(x: TensorLike | SparseTensor, w: PackedWeight, o: LinearOptions & { output: "sparse" }): SparseTensor;
  linear(x: TensorLike | SparseTensor, w: PackedWeight, o?: LinearOptions & { output?: "dense" | undefined }): Tensor;
  linear(x: TensorLike | SparseTensor, w: PackedWeight, o?: LinearOptions & SparseOutput): Tensor | SparseTensor;
  linear(x: TensorLike | SparseTensor, w: PackedWeight, o?: LinearOptions & SparseOutput): Tensor | SparseTensor {
    const sparse = wantsSparse(o);
    const y = SparseTensor.is(x) ? productSparse(this, "linear", x, w, o) : linear(this, x, w, o);
    return sparse ? handOver(this, y, undefined, w) : y;
  }

  /**
   * The true matrix product C[m,n] = A[m,k] · B[k,n], exactly one of the two packed. A bias belongs to the packed side's outputs:
   * m of them when it is on the left, n when it is on the right.
   *
   * @throws as {@link linear}
   * @example
   * const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2]);
   * engine.matmul(w, { data: new Float32Array([1, 2, 3, 4]), shape: [2, 2] }).data; // 1, 2, 6, 8
   */
  matmul(a: TensorLike | PackedWeight, b: TensorLike | PackedWeight, o?: MatmulOptions): Tensor {
    return matmul(this, a, b, o);
  }

  /**
   * Convolution (cross-correlation) of images with w `[out, in / groups, kh, kw]`. Any kernel size, stride, dilation, padding
   * and groups; x, the result, `residual` and `out` are in the order that `layout` names.
   *
   * @throws as {@link linear}; `ERR_SHAPE` when the kernel is larger than the padded input
   * @example
   * const w = engine.pack(new Float32Array(9).fill(1), [1, 1, 3, 3]);
   * engine.conv2d({ data: new Float32Array(16).fill(1), shape: [1, 1, 4, 4] }, w, { padding: "same" }).shape; // 1, 1, 4, 4
   */
  conv2d(x: TensorLike | SparseTensor, w: PackedWeight, o: Conv2dOptions & { output: "sparse" }): SparseTensor;
  conv2d(x: TensorLike | SparseTensor, w: PackedWeight, o?: Conv2dOptions & { output?: "dense" | undefined }): Tensor;
  conv2d(x: TensorLike | SparseTensor, w: PackedWeight, o?: Conv2dOptions & SparseOutput): Tensor | SparseTensor;
  conv2d(x: TensorLike | SparseTensor, w: PackedWeight, o?: Conv2dOptions & SparseOutput): Tensor | SparseTensor {
    const layout = wantsSparse(o) ? (o?.layout ?? (SparseTensor.is(x) && x.layout ? x.layout : "nchw")) : undefined;
    const y = SparseTensor.is(x) ? productSparse(this, "conv2d", x, w, o) : conv2d(this, x, w, o);
    return layout ? handOver(this, y, layout, w) : y;
  }

  /**
   * Largest pixel under each window. Of a sparse tensor what was dropped counts as 0, and the result holds all that is not 0: of
   * windows of four pixels with 12.5% active channels each, up to 50% are active. Pool before k-winners where the network allows.
   *
   * @throws as {@link conv2d}
   * @example
   * engine.maxPool2d({ data: new Float32Array([1, 2, 3, 4]), shape: [1, 1, 2, 2] }, { kernel: 2 }).data; // 4
   */
  maxPool2d(x: SparseTensor, o: PoolOptions): SparseTensor;
  maxPool2d(x: TensorLike, o: PoolOptions): Tensor;
  maxPool2d(x: TensorLike | SparseTensor, o: PoolOptions): Tensor | SparseTensor;
  maxPool2d(x: TensorLike | SparseTensor, o: PoolOptions): Tensor | SparseTensor {
    return SparseTensor.is(x) ? maxPoolSparse(this, x, o) : maxPool2d(this, x, o);
  }

  /**
   * k-winners (k-WTA): the k largest elements of each scope pass with their own values, the rest are dropped (Ahmad & Scheinkman
   * 2019; nupic.torch). A NaN ranks last. Time grows with the elements, not with k. With `output: "dense"` the winners stay where
   * they are among zeros, which is what a layer wants that reads all its inputs, and takes less time than lists of them; with
   * `boost`, `breakTies` or local winners of nchw it takes more, as they are made of lists.
   *
   * @param x rows of features, or an image; of a sparse tensor what was dropped takes part as 0
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_VALUE`, `ERR_SHAPE`, `ERR_LENGTH`, `ERR_DISPOSED`, `ERR_ENGINE`, `ERR_MEMORY`
   * @example
   * const x = { data: new Float32Array([3, -1, 2, 0]), shape: [1, 4] };
   * engine.kWinners(x, { k: 2 }).indices; // 0, 2
   */
  kWinners(x: TensorLike | SparseTensor, o: KWinnersDenseOptions): Tensor;
  kWinners(x: TensorLike | SparseTensor, o: KWinnersOptions & { output?: "sparse" | undefined }): SparseTensor;
  kWinners(
    x: TensorLike | SparseTensor,
    o: KWinnersDenseOptions | (KWinnersOptions & { output?: "sparse" | undefined }),
  ): Tensor | SparseTensor {
    const dense = oneOf("output", o?.output, ["sparse", "dense"] as const, "sparse") === "dense";
    return (dense ? kWinnersDense : kWinners)(this, x, o);
  }

  /**
   * The elements with |x| > threshold (0 by default: all but exact zeros) as lists, for activations that are sparse by
   * themselves. A NaN is kept.
   *
   * @throws as {@link kWinners}
   * @example
   * engine.toSparse({ data: new Float32Array([0, 5, 0, 7]), shape: [1, 4] }).values; // 5, 7
   */
  toSparse(x: TensorLike | SparseTensor, o?: ToSparseOptions): SparseTensor {
    return toSparse(this, x, o);
  }

  /**
   * A sparse activation from lists of your own: for each row, or each pixel of an image, ascending indices and their values.
   *
   * @param shape of the dense tensor
   * @throws RangeError `ERR_VALUE` for an index that is out of range, not ascending or double; `ERR_SHAPE`, `ERR_LENGTH`, `ERR_MEMORY`,
   *   `ERR_DISPOSED`; TypeError `ERR_TYPE`
   * @example
   * const x = engine.sparseTensor({ indices: [1, 3], values: new Float32Array([5, 7]) }, [1, 4]);
   * x.toDense().data; // 0, 5, 0, 7
   */
  sparseTensor(data: SparseData, shape: readonly number[], o?: { layout?: ImageLayout | undefined }): SparseTensor {
    return sparseTensor(this, data, shape, o);
  }

  /**
   * Mean of the pixels under each window.
   * @throws as {@link conv2d}
   * @example
   * engine.avgPool2d({ data: new Float32Array([1, 2, 3, 6]), shape: [1, 1, 2, 2] }, { kernel: 2 }).data; // 3
   */
  avgPool2d(x: TensorLike, o: AvgPoolOptions): Tensor {
    return avgPool2d(this, x, o);
  }

  /**
   * Mean of each channel, `[N, C]`, ready for {@link linear}.
   * @throws as {@link conv2d}
   * @example
   * engine.globalAvgPool2d({ data: new Float32Array([1, 2, 3, 6]), shape: [1, 1, 2, 2] }).data; // 3
   */
  globalAvgPool2d(x: TensorLike, o?: GlobalPoolOptions): Tensor {
    return globalAvgPool2d(this, x, o);
  }

  /**
   * a + b, shapes stretched to each other as in NumPy.
   * @throws as {@link linear}
   * @example
   * const row = { data: new Float32Array([1, 2]), shape: [2] };
   * engine.add(row, { data: new Float32Array([10]), shape: [1] }).data; // 11, 12
   */
  add(a: TensorLike, b: TensorLike, o?: BinaryOptions): Tensor {
    return elementwise.add(this, a, b, o);
  }

  /**
   * a · b element by element, shapes stretched to each other as in NumPy.
   * @throws as {@link linear}
   * @example
   * const row = { data: new Float32Array([1, 2]), shape: [2] };
   * engine.mul(row, row).data; // 1, 4
   */
  mul(a: TensorLike, b: TensorLike, o?: BinaryOptions): Tensor {
    return elementwise.mul(this, a, b, o);
  }

  /**
   * max(0, x) of each element; the result has the shape of x.
   * @throws as {@link linear}
   * @example
   * engine.relu({ data: new Float32Array([-1, 2]), shape: [2] }).data; // 0, 2
   */
  relu(x: TensorLike, o?: ElementwiseOptions): Tensor {
    return elementwise.relu(this, x, o);
  }

  /**
   * 1 / (1 + e⁻ˣ) of each element, to about two units in the last place; 0 below −88.7. The result has the shape of x.
   * @throws as {@link linear}
   * @example
   * engine.sigmoid({ data: new Float32Array([0]), shape: [1] }).data; // 0.5
   */
  sigmoid(x: TensorLike, o?: ElementwiseOptions): Tensor {
    return elementwise.sigmoid(this, x, o);
  }

  /**
   * Hyperbolic tangent of each element, to about two units in the last place. The result has the shape of x.
   * @throws as {@link linear}
   * @example
   * engine.tanh({ data: new Float32Array([0, 20]), shape: [2] }).data; // 0, 1
   */
  tanh(x: TensorLike, o?: ElementwiseOptions): Tensor {
    return elementwise.tanh(this, x, o);
  }

  /**
   * Softmax along the last dimension, whose elements then sum to 1; the result has the shape of x.
   * @throws as {@link linear}
   * @example
   * engine.softmax({ data: new Float32Array([1, 1]), shape: [2] }).data; // 0.5, 0.5
   */
  softmax(x: TensorLike, o?: ElementwiseOptions): Tensor {
    return elementwise.softmax(this, x, o);
  }

  /**
   * Which kernels a call would run, without running it. Takes the arguments of the operation; what has no part in the choice
   * (bias, activation, residual, out, output) is not looked at.
   *
   * @throws as {@link linear}
   * @example
   * const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2]);
   * engine.explain("linear", { data: new Float32Array(2), shape: [1, 2] }, w).kernel;
   */
  explain(op: "linear", x: TensorLike | SparseTensor, w: PackedWeight, o?: LinearOptions & SparseOutput): Explanation;
  explain(op: "matmul", a: TensorLike | PackedWeight, b: TensorLike | PackedWeight, o?: MatmulOptions): Explanation;
  explain(op: "conv2d", x: TensorLike | SparseTensor, w: PackedWeight, o?: Conv2dOptions & SparseOutput): Explanation;
  explain(op: "linear" | "matmul" | "conv2d", a: unknown, b: unknown, o?: Conv2dOptions): Explanation {
    oneOf("op", op, ["linear", "matmul", "conv2d"] as const);
    const { w, plan } = this.#plan(op, a, b, o);
    const { ways, macs, denseMacs, note } = plan;
    const [best] = ways;
    const dense = best && w.format !== "dense" && best.cuts[0].kernel.format === "dense";
    const name = formatName(w.format);
    const sparse = ways.find(({ cuts }) => cuts[0].kernel.format !== "dense");
    const faster = sparse && best.ns > 0 ? `${(sparse.ns / best.ns).toFixed(2)}x as fast here as` : "in place of";
    return {
      kernel: best ? describeCuts(best.cuts) : "none",
      format: w.format,
      reason: `${note ? `${note}; ` : ""}${dense ? `dense kernel, ${faster} ${name}; packed as ${name}: ` : ""}${w.explain().reason}`,
      density: w.density,
      macs,
      denseMacs,
      alternatives: ways.map(({ cuts, ns }) => ({ kernel: describeCuts(cuts), ms: ns / 1e6 })),
    };
  }

  #plan(op: "linear" | "matmul" | "conv2d", a: unknown, b: unknown, given: Conv2dOptions | undefined) {
    const o = options("options", given, op === "conv2d" ? CONV2D : op === "linear" ? LINEAR : PRODUCT);
    if (op === "matmul") return planMatmul(this, a, b, o.forceKernel);
    const w = weight(this, "w", b);
    if (SparseTensor.is(a)) return { w, plan: explainSparse(this, op, a, w, o) };
    const x = input(this, "x", a);
    return { w, plan: op === "linear" ? planLinear(this, x, w, o.forceKernel) : planConv2d(this, x, w, o) };
  }

  /**
   * @internal The result of an operation: `out` or a new tensor, filled by `write`, which gets an address for each size of scratch.
   * Nothing is kept when memory runs out.
   */
  produce(
    shape: readonly number[],
    out: Tensor | undefined,
    scratch: number[],
    write: (y: Tensor, scratch: readonly number[], lowered: Lowered) => void,
    lowered: Lowered = NOTHING,
  ): Tensor {
    const size = sizeOf("result", shape);
    const { memory } = this;
    const ptr = memory.working(out ? undefined : size * 4, scratch);
    const y = out ?? new Tensor(this, shape, size, { ptr, owners: 0 });
    try {
      write(y, scratch, lowered);
    } catch (error) {
      if (!out) y.dispose();
      throw error;
    } finally {
      memory.rest();
    }
    return y;
  }

  /** @internal As `produce`, for a product: W's streams are made first, and not kept when there is no room for the rest. */
  produceWith(
    w: PackedWeight,
    streams: () => Lowered,
    shape: readonly number[],
    out: Tensor | undefined,
    scratch: number[],
    write: (y: Tensor, scratch: readonly number[], lowered: Lowered) => void,
  ): Tensor {
    const { memory } = this;
    // Options are a user's own objects, and reading one may run any code.
    w.assertLive("w");
    try {
      memory.announce(out ? undefined : shape, scratch);
      const lowered = streams();
      memory.announce();
      memory.reading = lowered.ptr;
      return this.produce(shape, out, scratch, write, lowered);
    } catch (error) {
      w.undoStreams();
      throw error;
    } finally {
      memory.announce();
      memory.reading = 0;
    }
  }

  /** @internal Counts an owner and frees what it owns when it is forgotten. */
  adopt(owner: object, resource: Resource, kind: "tensors" | "weights"): void {
    this.#counts[kind]++;
    if (resource instanceof Map) this.memory.streams.add(resource);
    forgotten?.register(owner, { engine: this, resource, kind }, owner);
  }

  /** @internal */
  release(owner: object, resource: Resource, kind: "tensors" | "weights"): void {
    forgotten?.unregister(owner);
    this.drop(resource, kind);
  }

  /** @internal Frees what lost an owner. */
  drop(resource: Resource, kind: "tensors" | "weights"): void {
    if (!this.#memory) return;
    this.#counts[kind]--;
    if (resource instanceof Map) {
      for (const { ptr } of resource.values()) this.#memory.free(ptr);
      // Nobody frees them again.
      resource.clear();
      this.#memory.streams.delete(resource);
    } else if (--resource.owners === 0) this.#memory.free(resource.ptr);
  }

  #gone(): never {
    return fail("ERR_DISPOSED", "engine", "an engine that lives", "a disposed one");
  }
}

if (Symbol.dispose) Object.defineProperty(Engine.prototype, Symbol.dispose, { value: Engine.prototype.dispose });

// Minified classes have other names, which errors and console.log would show.
for (const [name, value] of Object.entries({ Engine, Tensor, SparseTensor, PackedWeight })) {
  Object.defineProperty(value, "name", { value: name });
}

/**
 * Loads the kernels. One engine an app: tensors and weights of one engine do not mix with those of another.
 *
 * @throws RangeError `ERR_UNSUPPORTED` on a host without the SIMD that was asked for, `ERR_MEMORY` on one that refuses the first
 *   1 MiB, `ERR_FORMAT` when `wasm` is no build of this version, `ERR_VALUE`; TypeError `ERR_TYPE`; what a
 *   promise of `wasm` rejects with
 * @example
 * const engine = await createEngine({ maxMemory: 64 * 1024 * 1024 });
 */
export async function createEngine(o?: EngineOptions): Promise<Engine> {
  const { simd = "auto", wasm, maxMemory, costs } = options("options", o, ["simd", "wasm", "maxMemory", "costs"]);
  const build = chooseBuild(simd);
  if (maxMemory !== undefined) integer("maxMemory", maxMemory, 65536, 2 ** 32);
  const memory = new Memory(maxMemory);
  const kernels = await loadKernels(build, await wasm, memory.wasm);
  // A host's own module decides what runs, unless another build was asked for.
  const loaded: Build = kernels.is_relaxed() ? "relaxed" : "simd128";
  if (simd !== "auto" && loaded !== simd) fail("ERR_VALUE", "wasm", `the ${simd} build`, loaded);
  return new Engine(loaded, kernels, memory, costs);
}
