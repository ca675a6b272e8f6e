import { fail, floats, isFloats, options, shapeOf, sizeOf } from "../assert.js";
import type { Engine } from "../engine.js";
import { SparseTensor } from "../sparse-tensor.js";
import { Tensor } from "../tensor.js";
import { PackedWeight } from "../weight.js";

/**
 * An activation: a tensor of this engine, read where it lies, or arrays from outside, copied in for the one call. `dims` is
 * onnxruntime's spelling of `shape`.
 */
export type TensorLike =
  | Tensor
  | { data: Float32Array; shape: readonly number[] }
  | { data: Float32Array; dims: readonly number[] };

/** Fused, and so free of a pass over the result: nothing, max(0, ·), 0..6, or any range. */
export type Activation = "none" | "relu" | "relu6" | { min?: number | undefined; max?: number | undefined };

/** What is fused into a product. */
export interface FusedOptions {
  /** Added to each output feature: as many numbers as there are, in any shape. */
  bias?: Float32Array | TensorLike | undefined;
  /** Applied last. */
  activation?: Activation | undefined;
  /** Of the result's shape; added before the activation. */
  residual?: TensorLike | undefined;
  /** A tensor of the result's shape that receives it; never the input itself. */
  out?: Tensor | undefined;
}

const FUSED = ["bias", "activation", "residual", "out"] as const;

/** What every product by a packed weight takes. */
export interface ProductOptions extends FusedOptions {
  /**
   * A kernel of the manifest by name (as `explain().alternatives` have it, without "× n" and what follows) in place of the predicted
   * best; columns that its strip does not fit go to the narrower tiles of the same stream. For comparisons and for machines that
   * the cost model gets wrong.
   */
  forceKernel?: string | undefined;
}

export const PRODUCT = [...FUSED, "forceKernel"] as const;

/** A checked activation: in engine memory already, still the user's, or lists that are spread out for the one call. */
export interface Input {
  shape: readonly number[];
  size: number;
  tensor?: Tensor;
  data?: Float32Array;
  sparse?: SparseTensor;
}

/** @throws TypeError `ERR_TYPE`, RangeError `ERR_SHAPE`, `ERR_LENGTH`, `ERR_DISPOSED`, `ERR_ENGINE` */
export function input(engine: Engine, name: string, value: unknown, expected = "a tensor or { data, shape }"): Input {
  if (Tensor.is(value)) {
    value.assertLive(name, engine);
    return { shape: value.dims, size: value.size, tensor: value };
  }
  // A proxy, as Vue's reactive() makes, has no private fields.
  if (value instanceof Tensor) fail("ERR_TYPE", name, "a tensor itself, not a proxy of it", value);
  if (typeof value !== "object" || value === null || !("data" in value) || !("shape" in value || "dims" in value)) {
    fail("ERR_TYPE", name, expected, value);
  }
  const { shape: given, dims } = value as { shape?: unknown; dims?: unknown };
  const { shape, size } = shapeOf(`${name}.shape`, given ?? dims);
  return { shape, size, data: own(engine, `${name}.data`, value.data, size) };
}

/** As {@link input}, of a sparse tensor too. */
export function anyInput(engine: Engine, name: string, value: unknown): Input {
  if (!SparseTensor.is(value)) return input(engine, name, value);
  value.assertLive(name, engine);
  return { shape: value.dims, size: value.size, sparse: value };
}

/**
 * `length` floats from outside that stay as many: copied where a call's own growth of memory, or whoever resizes their buffer, would take
 * them away or add to them.
 */
export function own(engine: Engine, name: string, value: unknown, length: number): Float32Array {
  const data = floats(name, value, length);
  const { resizable, growable } = data.buffer as { resizable?: boolean; growable?: boolean };
  return resizable || growable || engine.memory.owns(data) ? data.slice(0, length) : data;
}

/** A weight of this engine, alive. */
export function weight(engine: Engine, name: string, value: unknown): PackedWeight {
  if (!PackedWeight.is(value)) fail("ERR_TYPE", name, "a packed weight (engine.pack)", value);
  value.assertLive(name, engine);
  return value;
}

/** Bytes of scratch that placing the input takes: none when it lies in the engine. */
export const placeBytes = (x: Input | undefined): number => (x?.data ? x.size * 4 : (x?.sparse?.spreadBytes ?? 0));

/**
 * The input's address, after copying what is still outside to `scratch` and spreading out lists there; without an input 0, which
 * kernels take for none.
 */
export function place(engine: Engine, x: Input | undefined, scratch: number): number {
  if (!x) return 0;
  if (x.tensor) return x.tensor.ptr;
  if (x.sparse) x.sparse.spread(scratch);
  else {
    const data = x.data as Float32Array;
    // Reading an option may have detached it.
    if (data.length !== x.size) fail("ERR_LENGTH", "data", `${x.size} elements`, data.length);
    engine.memory.f32.set(data, scratch / 4);
  }
  return scratch;
}

/** Checked fused options. */
export interface Fused {
  bias?: Input;
  residual?: Input;
  out?: Tensor;
  clamp: boolean;
  lo: number;
  hi: number;
}

const NONE = { clamp: false, lo: -Infinity, hi: Infinity };

export function activationRange(value: unknown): { clamp: boolean; lo: number; hi: number } {
  if (value === undefined || value === "none") return NONE;
  if (value === "relu") return { clamp: true, lo: 0, hi: Infinity };
  if (value === "relu6") return { clamp: true, lo: 0, hi: 6 };
  if (typeof value !== "object" || value === null) {
    const code = typeof value === "string" ? "ERR_VALUE" : "ERR_TYPE";
    fail(code, "activation", `"none", "relu", "relu6" or { min, max }`, value);
  }
  const { min: lo = -Infinity, max: hi = Infinity } = options("activation", value as { min?: number; max?: number }, [
    "min",
    "max",
  ]);
  if (typeof lo !== "number" || typeof hi !== "number") fail("ERR_TYPE", "activation", "numbers as min and max", value);
  if (!(lo <= hi)) fail("ERR_VALUE", "activation", "min at most max", `${lo}..${hi}`);
  return { clamp: true, lo, hi };
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

/** Checks `out`: of this engine, alive, of the result's shape, and none of the tensors that are read while it is written. */
export function checkOut(
  engine: Engine,
  out: unknown,
  shape: readonly number[],
  read: (Input | undefined)[],
): Tensor | undefined {
  if (out === undefined) return undefined;
  if (!Tensor.is(out)) fail("ERR_TYPE", "out", "a tensor", out);
  out.assertLive("out", engine);
  const { ptr } = out;
  if (!sameShape(out.dims, shape)) {
    fail("ERR_SHAPE", "out", `the shape [${shape.join(", ")}]`, out.shape);
  }
  for (const x of read) {
    if (out.size && x?.tensor?.ptr === ptr)
      fail("ERR_VALUE", "out", "a tensor that is not read by the same call", "one of its inputs");
  }
  return out;
}

/** Checks bias, activation, residual and out for a result of `shape` with `features` output features. */
export function fused(engine: Engine, o: FusedOptions, shape: readonly number[], features: number, x: Input): Fused {
  sizeOf("result", shape);
  // Each option is read once: what was checked must be what is used.
  const { bias: added, residual: start, out: into, activation } = o;
  let bias: Input | undefined;
  if (added !== undefined) {
    bias = isFloats(added)
      ? { shape: [added.length], size: added.length, data: own(engine, "bias", added, added.length) }
      : input(engine, "bias", added, "a Float32Array, a tensor or { data, shape }");
    if (bias.size !== features) fail("ERR_LENGTH", "bias", `${features} elements, one for each output`, bias.size);
  }
  let residual: Input | undefined;
  if (start !== undefined) {
    residual = input(engine, "residual", start);
    if (!sameShape(residual.shape, shape)) {
      fail("ERR_SHAPE", "residual", `the shape [${shape.join(", ")}]`, residual.shape);
    }
  }
  // A residual may be the result's own place: each element is read before it is written.
  const out = into === undefined ? undefined : checkOut(engine, into, shape, [x, bias]);
  const { clamp, lo, hi } = activationRange(activation);
  return { bias, residual, out, clamp, lo, hi };
}
