import type { Memory } from "../memory.js";

/**
 * Which columns of W read which inputs: what a plan knows about a shape and a format needs for its streams. Column j of a
 * row in group g reads `taps[j % taps.length]` + (j / taps.length) · channelStride + g · groupStride bytes into x, that is,
 * columns are laid out [channel][tap] as in PyTorch and ONNX. A plain matrix has the one tap 0.
 */
export interface InputMap {
  taps: readonly number[];
  channelStride: number;
  groups: number;
  groupStride: number;
  /** At most so many channels in one pass, so that what a pass reads of x stays in L1. */
  channelsPerBlock: number;
}

/** One pass of a product kernel: a plan in engine memory, and where it starts. */
export interface Pass {
  plan: number;
  /** Byte offset within x. */
  x: number;
  /** First row of y that it writes. */
  row: number;
  /** Whether it is the first and the last to write its rows; the last applies the activation. */
  first: boolean;
  last: boolean;
}

/** A weight's streams for one input map, as kernels read them. */
export interface Lowered {
  ptr: number;
  passes: Pass[];
}

/** Allocates `bytes` and lets `write` fill them. */
export function lower(memory: Memory, bytes: number, write: (ptr: number) => Pass[]): Lowered {
  const ptr = memory.alloc(bytes);
  return { ptr, passes: write(ptr) };
}

/** Next multiple of 16 bytes: where a stream of vectors may start. */
export const align16 = (n: number): number => Math.ceil(n / 16) * 16; // no bit operations: addresses reach 4 GiB
