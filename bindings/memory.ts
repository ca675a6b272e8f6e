import { fail } from "./assert.js";

const PAGE = 65536;
/** Blocks start on a cache line, so that no vector of a panel lies across two. */
const ALIGN = 64;
/** Where kernels for one vector keep it while they run: `Vector.At` in assembly/vector.ts. */
export const VECTOR_BYTES = 16384;
/** The kernels' constant tables and that vector lie below; address 0, which means "none" to a kernel, among them. */
export const FIRST = 2048 + VECTOR_BYTES;
/** Zeros behind every block, never written: kernels read whole vectors. */
const TAIL = 16;
/** Never handed out at the end of memory, so that a kernel's widest over-read (60 bytes) stays inside. */
const GUARD = 64;

const up = (n: number, to: number) => Math.ceil(n / to) * to;

/** Bytes of a block in the scratch: nothing has no place of its own. */
const placed = (size: number) => (size ? up(size + TAIL, ALIGN) : 0);

function scratchBytes(sizes: readonly number[]): number {
  let bytes = 0;
  for (const size of sizes) bytes += placed(size);
  return bytes;
}

/**
 * The engine's memory and its allocator: first fit over an address-ordered free list whose neighbours merge, so that what is
 * disposed is reused and a steady load reserves nothing more. The only file that asks for `wasm.buffer`.
 */
export class Memory {
  readonly wasm: WebAssembly.Memory;
  readonly #max: number;
  /** Free blocks by address, in bytes; the last reaches the end of memory and may be empty. */
  readonly #free: { ptr: number; size: number }[];
  readonly #live = new Map<number, number>();
  /** Streams of living weights by their keys, least recently used first. They are made again when they are wanted. */
  readonly streams = new Set<Map<unknown, { ptr: number }>>();
  /** Address of the streams that the operation at work reads, which must stay; 0 for none. */
  reading = 0;
  #nextShape: readonly number[] | undefined;
  #nextScratch: readonly number[] = [];
  #scratch = { ptr: 0, size: 0 };
  #inUse = 0;
  /** Whether an operation holds the scratch. */
  #working = false;
  #f32 = new Float32Array(0);
  #u32 = new Uint32Array(0);
  #u16 = new Uint16Array(0);

  /** @param maxBytes most bytes ever reserved; rounded down to whole pages of 64 KiB. */
  constructor(maxBytes?: number) {
    const pages = maxBytes === undefined ? undefined : Math.min(65536, Math.floor(maxBytes / PAGE));
    // 65,535 pages: the last byte's address plus an over-read still fits 32 bits.
    this.#max = Math.min(pages ?? 65535, 65535) * PAGE;
    const initial = Math.min(16, this.#max / PAGE);
    try {
      this.wasm = new WebAssembly.Memory(pages === undefined ? { initial } : { initial, maximum: pages });
    } catch {
      fail(
        "ERR_MEMORY",
        "memory",
        `a host with ${initial * PAGE} bytes of WebAssembly memory`,
        "one that refuses them",
      );
    }
    this.#free = [{ ptr: FIRST, size: initial * PAGE - FIRST - GUARD }];
  }

  get reserved(): number {
    return this.wasm.buffer.byteLength;
  }

  /** Bytes of living blocks; the scratch that operations share is not counted. */
  get inUse(): number {
    return this.#inUse;
  }

  get f32(): Float32Array {
    if (!this.#f32.length) this.#f32 = new Float32Array(this.wasm.buffer);
    return this.#f32;
  }

  get u32(): Uint32Array {
    if (!this.#u32.length) this.#u32 = new Uint32Array(this.wasm.buffer);
    return this.#u32;
  }

  get u16(): Uint16Array {
    if (!this.#u16.length) this.#u16 = new Uint16Array(this.wasm.buffer);
    return this.#u16;
  }

  /** Whether an array is a view of this memory. */
  owns(data: Float32Array): boolean {
    return data.buffer === this.wasm.buffer;
  }

  /** A view of `length` floats at `ptr`, good until the next allocation. */
  floats(ptr: number, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.wasm.buffer, ptr, length);
  }

  /**
   * A block of `bytes`, uninitialised but for its tail.
   * @throws RangeError `ERR_MEMORY`, also where what was announced would not fit beside it; nothing has changed but
   *   the scratch, unless it is the host that refuses: then streams may be gone
   */
  alloc(bytes: number): number {
    const shape = this.#nextShape;
    const blocks = shape ? [bytes, shape.reduce((size, d) => size * d, 4)] : [bytes];
    // What an operation works in is its own until it rests.
    if (this.#working) this.#settle(blocks);
    else this.#prepare(blocks, scratchBytes(this.#nextScratch));
    const ptr = this.#take(bytes);
    this.#inUse += this.#live.get(ptr) as number;
    return ptr;
  }

  free(ptr: number): void {
    this.#inUse -= this.#live.get(ptr) ?? 0;
    this.#give(ptr);
  }

  /**
   * What an operation will work in once its streams are made: these must not be made where a result of that shape and scratch of those
   * sizes do not fit beside them. Until the next announcement.
   */
  announce(shape?: readonly number[], scratch: readonly number[] = []): void {
    this.#nextShape = shape;
    this.#nextScratch = scratch;
  }

  /**
   * What an operation works in: a block for its result, unless it has one, whose address is given, and scratch. The sizes become
   * addresses, but for 0 of no meaning, which are its own until {@link rest}. The scratch is one block that stays: operations follow one
   * another.
   * @throws RangeError `ERR_MEMORY`; then there is neither, and memory has not grown, unless it is the host that refuses
   */
  working(result: number | undefined, sizes: number[]): number {
    const total = scratchBytes(sizes);
    if (result !== undefined || total > this.#scratch.size) this.#prepare(result === undefined ? [] : [result], total);
    const ptr = result === undefined ? 0 : this.alloc(result);
    try {
      if (total > this.#scratch.size) this.#scratch = { ptr: this.#take(total), size: total };
    } catch (error) {
      if (result !== undefined) this.free(ptr);
      throw error;
    }
    this.#working = true;
    let at = this.#scratch.ptr;
    for (let i = 0; i < sizes.length; i++) {
      const size = sizes[i];
      sizes[i] = at;
      at += placed(size);
    }
    return ptr;
  }

  /** Ends an operation. */
  rest(): void {
    this.#working = false;
  }

  /** Makes sure that blocks of these sizes may be taken, and a scratch of `total` bytes after them. */
  #prepare(blocks: readonly number[], total: number): void {
    if (total <= this.#scratch.size && this.#missing(blocks) === 0) return;
    // What operations worked in is not worth an error, nor growing for.
    if (this.#scratch.size) this.#give(this.#scratch.ptr);
    this.#scratch = { ptr: 0, size: 0 };
    this.#settle(total ? [...blocks, total] : blocks);
  }

  #settle(blocks: readonly number[]): void {
    if (this.#makeRoom(blocks)) return;
    const bytes = blocks.reduce((sum, block) => sum + block, 0);
    fail("ERR_MEMORY", "maxMemory", `room for ${bytes} more bytes`, this.#max, ` with ${this.#inUse} in use`);
  }

  /**
   * Whether blocks of these sizes may be taken, by growing or, where that is not enough, by freeing streams: first those that weights
   * keep for other shapes than their last, then all. If they would not do either, nothing has changed.
   */
  #makeRoom(blocks: readonly number[]): boolean {
    if (this.#missing(blocks) <= this.#room) return true;
    const free = this.#free.map((block) => ({ ...block }));
    for (const kept of [1, 0]) {
      const spare = [...this.streams].flatMap((streams) =>
        [...streams].slice(0, streams.size - kept).flatMap(([key, { ptr }]) => {
          return ptr === this.reading ? [] : { streams, key, ptr, size: this.#live.get(ptr) as number };
        }),
      );
      for (const { ptr } of spare) this.#give(ptr);
      if (this.#missing(blocks) <= this.#room) {
        for (const { streams, key, size } of spare) {
          streams.delete(key);
          this.#inUse -= size;
        }
        return true;
      }
      // One by one: there may be more than a call takes arguments.
      this.#free.length = 0;
      for (const block of free) this.#free.push({ ...block });
      for (const { ptr, size } of spare) this.#live.set(ptr, size);
    }
    return false;
  }

  /** Bytes that memory must grow by until blocks of these sizes all find a place. */
  #missing(blocks: readonly number[]): number {
    // Most operations have one block at most, which is found without a copy.
    if (blocks.length === 0 || (blocks.length === 1 && this.#find(up(blocks[0] + TAIL, ALIGN)) >= 0)) return 0;
    const left = this.#free.map(({ size }) => size);
    const last = left.length - 1;
    let missing = 0;
    for (const bytes of blocks) {
      const size = up(bytes + TAIL, ALIGN);
      const i = left.findIndex((free) => free >= size);
      if (i >= 0) left[i] -= size;
      else {
        missing += size - left[last];
        left[last] = 0;
      }
    }
    return up(missing, PAGE);
  }

  /** Bytes that memory may still grow by. */
  get #room(): number {
    return this.#max - this.reserved;
  }

  /** The first free block that is large enough, or −1. */
  #find(size: number): number {
    return this.#free.findIndex((block) => block.size >= size);
  }

  #take(bytes: number): number {
    const size = up(bytes + TAIL, ALIGN);
    let i = this.#find(size);
    const last = this.#free.length - 1;
    if (i < 0) {
      this.#grow(size);
      i = last;
    }
    const block = this.#free[i];
    const { ptr } = block;
    block.ptr += size;
    block.size -= size;
    if (block.size === 0 && i < last) this.#free.splice(i, 1);
    this.#live.set(ptr, size);
    // Up to three bytes of the tail fall in the last float's word when bytes is no multiple of 4.
    this.u32.fill(0, Math.ceil((ptr + bytes) / 4), (ptr + size) / 4);
    return ptr;
  }

  #give(ptr: number): void {
    const size = this.#live.get(ptr);
    if (size === undefined) return;
    this.#live.delete(ptr);
    const i = this.#free.findIndex((block) => block.ptr > ptr);
    const next = this.#free[i];
    if (ptr + size === next.ptr) {
      next.ptr = ptr;
      next.size += size;
    } else this.#free.splice(i, 0, { ptr, size });
    const before = this.#free[i - 1];
    if (before && before.ptr + before.size === ptr) {
      before.size += this.#free[i].size;
      this.#free.splice(i, 1);
    }
  }

  /** Makes the last free block at least `size` long; the caller knows that there is room. */
  #grow(size: number): void {
    const last = this.#free[this.#free.length - 1];
    const need = up(size - last.size, PAGE);
    // A sixteenth more than there is, so that a growing model does not grow the memory tensor by tensor, nor reserves much in vain.
    const { reserved } = this;
    const bytes = Math.min(Math.max(need, up(reserved / 16, PAGE)), this.#room);
    if (!this.#tryGrow(bytes) && !this.#tryGrow(need)) {
      fail(
        "ERR_MEMORY",
        "memory",
        `a host with ${need} more bytes`,
        "one that refuses them",
        ` with ${this.#inUse} in use`,
      );
    }
    last.size += this.reserved - reserved;
  }

  #tryGrow(bytes: number): boolean {
    try {
      this.wasm.grow(bytes / PAGE);
      return true;
    } catch {
      return false; // the host refused
    }
  }
}
