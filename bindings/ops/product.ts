import type { Engine } from "../engine.js";
import type { Lowered, Pass } from "../formats/lowered.js";
import type { Kernel } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { SPMV_COLUMNS } from "../formats/csr.js";
import { ACCUMULATE, BIAS, CLAMP, type Fused, type Input, place, placeBytes } from "./operands.js";

/** What a product ends with, as kernels take it. */
export interface Ending {
  bias: number;
  accumulate: boolean;
  fused: Fused;
}

const flagsOf = (pass: Pass, { bias, accumulate, fused }: Ending): number =>
  (accumulate || !pass.first ? ACCUMULATE : 0) | (bias && pass.first ? BIAS : 0) | (fused.clamp && pass.last ? CLAMP : 0);

/** Bytes of x that the strips of one call may walk: they are read again for each block of rows, from L2 then. */
const L2_SHARE = 128 * 1024;

/**
 * All passes over a run of strips. Where passes add up, they follow one another strip by strip, while x's part is in L1.
 *
 * @param x address of the first strip's columns; y of its results, rows `yStride` bytes apart
 * @param columnBytes what one column of x takes over all channels
 */
export function runStrips(engine: Engine, lowered: Lowered, kernel: Kernel, strips: number, x: number, y: number, yStride: number, columnBytes: number, ending: Ending): void {
  const run = engine.kernels[kernel.name];
  const { lo, hi } = ending.fused;
  const width = kernel.tile * 4;
  const sums = lowered.passes.some((pass) => !pass.first || !pass.last);
  const most = sums ? 1 : Math.max(1, Math.floor(L2_SHARE / (columnBytes * kernel.tile)));
  for (let s = 0; s < strips; s += most) {
    const now = Math.min(most, strips - s);
    for (const pass of lowered.passes) {
      const to = y + s * width + pass.row * yStride;
      const bias = ending.bias ? ending.bias + pass.row * 4 : 0;
      run(pass.plan, now, x + s * width + pass.x, to, yStride, bias, flagsOf(pass, ending), lo, hi);
    }
  }
}

/**
 * y = W · x for one column, `k` floats.
 *
 * @param transposed whether W is used the other way round
 */
export function vectorProduct(engine: Engine, w: PackedWeight, kernel: Kernel, x: Input, k: number, shape: readonly number[], fused: Fused, transposed: boolean): Tensor {
  const { memory } = engine;
  const lowered = w.vectorStreams(transposed);
  const run = engine.kernels[kernel.name];
  const parts = lowered.passes.length > 1;
  return engine.produce(shape, fused.out, [placeBytes(x), placeBytes(fused.bias), parts ? SPMV_COLUMNS * 4 : 0], (y, [xs, bs, part]) => {
    if (fused.residual) copyInto(engine, fused.residual, y.ptr);
    const bias = fused.bias ? place(engine, fused.bias, bs) : 0;
    const from = place(engine, x, xs);
    // Padded lanes read the float behind x. It is zero behind a tensor; scratch has been used before.
    if (x.data) memory.f32[from / 4 + k] = 0;
    const ending = { bias, accumulate: fused.residual !== undefined, fused };
    for (const pass of lowered.passes) {
      let at = from + pass.x;
      if (parts) {
        const n = Math.min(SPMV_COLUMNS, k - pass.x / 4);
        memory.f32.copyWithin(part / 4, at / 4, at / 4 + n);
        memory.f32[part / 4 + n] = 0;
        at = part;
      }
      run(pass.plan, at, y.ptr, bias, flagsOf(pass, ending), fused.lo, fused.hi);
    }
  });
}

/** Copies an input to an address, unless it lies there. */
export function copyInto(engine: Engine, x: Input, ptr: number): void {
  const from = x.tensor?.ptr;
  if (from === ptr) return;
  if (from === undefined) engine.memory.f32.set(x.data as Float32Array, ptr / 4);
  else engine.memory.f32.copyWithin(ptr / 4, from / 4, from / 4 + x.size);
}
