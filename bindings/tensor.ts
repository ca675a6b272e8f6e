import { fail, shapeOf } from "./assert.js";
import type { Engine } from "./engine.js";
import { Shaped } from "./shaped.js";

/** A block of engine memory that one or more tensors (reshape) look at. */
interface Storage {
  ptr: number;
  owners: number;
}

/** Who holds a tensor's elements has not forgotten the tensor. */
const VIEWED = new WeakMap<Float32Array, Tensor>();

/** An activation in engine memory, row-major float32. Made by `engine.tensor` and by every operation. */
export class Tensor extends Shaped {
  /** Number of elements. */
  readonly size: number;
  readonly #storage: Storage;
  #view = new Float32Array(0);

  /** @internal */
  constructor(engine: Engine, shape: readonly number[], size: number, storage: Storage) {
    super(engine, shape, "tensors", storage);
    this.size = size;
    this.#storage = storage;
    storage.owners++;
  }

  /** @internal Takes V8 3 ns instead of the 30 of `instanceof`: bundles have classes in variables, which may change. */
  static is(value: unknown): value is Tensor {
    return typeof value === "object" && value !== null && #storage in value;
  }

  /** @internal Byte address; checks that the tensor still lives. */
  get ptr(): number {
    // Each call asks several times: only what fails looks closer.
    if (this.disposed) this.assertLive("tensor");
    return this.#storage.ptr;
  }

  /**
   * The elements, live: what is written here the next operation reads. The property stays right when the engine's memory
   * grows; an array kept in a variable across an operation may be a detached, empty one. While it is held, the tensor is not collected
   * by the garbage collector; a subarray of it does not hold the tensor.
   * @throws RangeError `ERR_DISPOSED`
   * @example
   * const x = engine.tensor(new Float32Array([1, -2]), [2]);
   * x.data[0] = 3;
   * engine.relu(x).data; // 3, 0
   */
  get data(): Float32Array<ArrayBuffer> {
    const ptr = this.ptr;
    // Growing detaches all views, which have no elements then.
    if (this.#view.length !== this.size) {
      this.#view = this.engine.memory.floats(ptr, this.size);
      VIEWED.set(this.#view, this);
    }
    return this.#view;
  }

  /**
   * A copy that no operation changes.
   * @throws RangeError `ERR_DISPOSED`
   * @example
   * engine.tensor(new Float32Array([1, 2]), [2]).toArray(); // 1, 2
   */
  toArray(): Float32Array<ArrayBuffer> {
    return this.data.slice();
  }

  /**
   * The same elements under another shape, without a copy. Each of the two is disposed on its own.
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED`, `ERR_SHAPE` when the number of elements differs
   * @example
   * engine.tensor(new Float32Array(6), [2, 3]).reshape([6]).shape; // 6
   */
  reshape(shape: readonly number[]): Tensor {
    const checked = shapeOf("shape", shape);
    // Now, as reading a user's object may run any code.
    this.assertLive("tensor");
    if (checked.size !== this.size) fail("ERR_SHAPE", "shape", `dimensions of ${this.size} elements`, shape);
    return new Tensor(this.engine, checked.shape, this.size, this.#storage);
  }
}
