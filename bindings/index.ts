/// <reference lib="esnext.disposable" preserve="true" />
/** Public names only. */
export type { CodedError, ErrorCode } from "./assert.js";
export type { Build, WasmSource } from "./builds.js";
export type { BuildCosts, Costs } from "./costs.js";
export { createEngine, type Engine, type EngineOptions, type EngineStats, type Explanation } from "./engine.js";
export type { Format } from "./formats/format.js";
export type * from "./inspect.js";
export { inspect } from "./inspect.js";
export type { CsrArrays, IndexArray, NmLayout } from "./io/arrays.js";
export { type PackedFile, type Serializable, serialize } from "./io/packed.js";
export * from "./io/safetensors.js";
export type { Conv2dOptions } from "./ops/conv2d.js";
export type { BinaryOptions, ElementwiseOptions } from "./ops/elementwise.js";
export type { LinearOptions } from "./ops/linear.js";
export type { MatmulOptions } from "./ops/matmul.js";
export type { Activation, FusedOptions, TensorLike } from "./ops/operands.js";
export type { AvgPoolOptions, GlobalPoolOptions, PoolOptions } from "./ops/pool.js";
export type { SparseOutput } from "./ops/sparse.js";
export type { ImageLayout, Padding, Pair } from "./ops/window.js";
export type { Boost, KWinnersDenseOptions, KWinnersOptions, SparseData, ToSparseOptions } from "./ops/winners.js";
export * from "./patterns.js";
export { SparseTensor } from "./sparse-tensor.js";
export { Tensor } from "./tensor.js";
export { PackedWeight, type PackOptions, type WeightExplanation, type WeightLayout } from "./weight.js";
