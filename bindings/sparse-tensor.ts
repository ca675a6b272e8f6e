import { options } from "./assert.js";
import type { Engine } from "./engine.js";
import { checkOut } from "./ops/operands.js";
import type { ImageLayout } from "./ops/window.js";
import { Shaped } from "./shaped.js";
import { Tensor } from "./tensor.js";

/** Lists in engine memory: addresses of indptr (u32), indices (u32) and values (f32). */
export interface Lists {
  ptr: number;
  indices: number;
  values: number;
}

/** Bytes for lists of `rows` rows with up to `most` elements; kernels write four beyond what they keep. */
export const listBytes = (rows: number, most: number): number => (rows + 1 + 2 * (most + 4)) * 4;

/** Where each part of a block for {@link listBytes} lies. */
export const listsAt = (ptr: number, rows: number, most: number): Lists => {
  const indices = ptr + (rows + 1) * 4;
  return { ptr, indices, values: indices + (most + 4) * 4 };
};

/**
 * An activation of which only some elements are kept, as a list of (feature, value) for each row, or for each pixel of an image.
 * Made by `engine.kWinners`, `engine.toSparse` and `engine.sparseTensor`; `linear`, `conv2d`, `maxPool2d` and `kWinners` take it as x.
 * It has room for all elements of the dense tensor, 8 bytes each, however few it keeps.
 */
export class SparseTensor extends Shaped {
  /** Elements of the dense tensor. */
  readonly size: number;
  /** Order of `shape` when it is an image's; undefined for rows of features. */
  readonly layout: ImageLayout | undefined;
  /** Lists: rows of features, or pixels. */
  readonly rows: number;
  /** Features of a row, or channels of a pixel. */
  readonly cols: number;
  readonly #ptr: number;

  /** @internal */
  constructor(
    engine: Engine,
    shape: readonly number[],
    size: number,
    rows: number,
    cols: number,
    layout: ImageLayout | undefined,
    ptr: number,
  ) {
    super(engine, shape, "tensors", { ptr, owners: 1 });
    this.size = size;
    this.rows = rows;
    this.cols = cols;
    this.layout = layout;
    this.#ptr = ptr;
  }

  /** @internal As {@link Tensor.is}, which comes first: to find that a field is not there takes V8 35 ns, and a Tensor is the usual case. */
  static is(value: unknown): value is SparseTensor {
    return !Tensor.is(value) && typeof value === "object" && value !== null && #ptr in value;
  }

  /** @internal Byte addresses; checks that the tensor still lives. */
  get lists(): Lists {
    this.assertLive("tensor");
    return listsAt(this.#ptr, this.rows, this.size);
  }

  /**
   * Elements kept.
   * @throws RangeError `ERR_DISPOSED`, as do the lists
   */
  get nnz(): number {
    return this.engine.memory.u32[this.lists.ptr / 4 + this.rows];
  }

  /** nnz over size; 0 for an empty tensor. */
  get density(): number {
    return this.size ? this.nnz / this.size : 0;
  }

  /** Where each row's list begins, and where the last ends: rows + 1 numbers. A copy. */
  get indptr(): Uint32Array<ArrayBuffer> {
    const at = this.lists.ptr / 4;
    return this.engine.memory.u32.slice(at, at + this.rows + 1);
  }

  /** Features, or channels, of the elements, ascending in each row. A copy. */
  get indices(): Uint32Array<ArrayBuffer> {
    const at = this.lists.indices / 4;
    return this.engine.memory.u32.slice(at, at + this.nnz);
  }

  /** The elements' values, one for each index. A copy. */
  get values(): Float32Array<ArrayBuffer> {
    const at = this.lists.values / 4;
    return this.engine.memory.f32.slice(at, at + this.nnz);
  }

  /**
   * The dense tensor, zero where nothing is kept.
   *
   * @param o `out`: a tensor of this shape to write it to
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED`, `ERR_SHAPE`, `ERR_ENGINE`, `ERR_MEMORY`
   * @example
   * engine.kWinners({ data: new Float32Array([1, 4, 3, 2]), shape: [1, 4] }, { k: 2 }).toDense().data; // 0, 4, 3, 0
   */
  toDense(o?: { out?: Tensor | undefined }): Tensor {
    const { engine, dims: shape, size } = this;
    this.assertLive("tensor");
    const out = checkOut(engine, options("options", o, ["out"]).out, shape, []);
    return engine.produce(shape, out, [this.#turned ? size * 4 : 0], (y, [pixels]) => this.#spread(y.ptr, pixels));
  }

  /** Whether the dense order is not that of the lists. */
  get #turned(): boolean {
    return this.layout === "nchw" && this.size > 0;
  }

  #spread(to: number, pixels: number): void {
    const { engine, rows, cols, dims: shape } = this;
    const { ptr, indices, values } = this.lists;
    const { f32_from_lists: spread, f32_transpose: transpose } = engine.kernels;
    const turned = this.#turned;
    spread(rows, cols, ptr, indices, values, turned ? pixels : to);
    if (!turned) return;
    const each = shape[2] * shape[3];
    for (let i = 0; i < shape[0]; i++) {
      const from = i * each * cols * 4;
      transpose(each, cols, pixels + from, cols * 4, to + from, each * 4);
    }
  }

  /** @internal Bytes that {@link spread} takes. */
  get spreadBytes(): number {
    return this.size * 4 + (this.#turned ? this.#apart : 0);
  }

  /** @internal Writes the dense elements to an address; behind them lies what is turned. */
  spread(to: number): void {
    this.#spread(to, to + this.#apart);
  }

  /** Bytes of the dense elements, in whole vectors. */
  get #apart(): number {
    return Math.ceil(this.size / 4) * 16;
  }

  /**
   * The elements that are not 0 under another shape, in lists of their own: of an image, [n, c · h · w] is what `linear` takes.
   *
   * @param o `layout`: of four dimensions, which are an image's; default `"nchw"`
   * @throws TypeError `ERR_TYPE`; RangeError `ERR_DISPOSED`, `ERR_SHAPE`, `ERR_VALUE`, `ERR_MEMORY`
   * @example
   * const winners = engine.kWinners({ data: new Float32Array([1, 4, 3, 2]), shape: [1, 1, 2, 2] }, { k: 2 });
   * winners.reshape([1, 4]).indices; // 1, 2
   */
  reshape(shape: readonly number[], o?: { layout?: ImageLayout | undefined }): SparseTensor {
    const dense = this.toDense();
    let shaped: Tensor | undefined;
    try {
      shaped = dense.reshape(shape);
      return this.engine.toSparse(shaped, options("options", o, ["layout"]));
    } finally {
      shaped?.dispose();
      dense.dispose();
    }
  }
}
