import type { Engine } from "../engine.js";
import { SPMV_COLUMNS } from "../formats/csr.js";
import type { Lowered, Pass } from "../formats/lowered.js";
import type { Kernel } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { ACCUMULATE, BIAS, CLAMP, type Fused, type Input, place, placeBytes } from "./operands.js";

/** What a product ends with, as kernels take it. */
export interface Ending {
  bias: number;
  accumulate: boolean;
  fused: Fused;
}

const flagsOf = (pass: Pass, { bias, accumulate, fused }: Ending): number =>
  (accumulate || !pass.first ? ACCUMULATE : 0) |
  (bias && pass.first ? BIAS : 0) |
  (fused.clamp && pass.last ? CLAMP : 0);

/** A run of equal strips: where it starts within x and y, in bytes. */
export interface Strips {
  kernel: Kernel;
  strips: number;
  x: number;
  y: number;
}

/** Bytes of x that one call of a dense kernel may walk: it reads them again for each block of rows, from L2 then. */
const X_SHARE = 128 * 1024;

/** Bytes of y that a group of strips may sum in, pass by pass; they share L2 with the weights of a pass. */
const Y_SHARE = 256 * 1024;

/**
 * Runs all passes. Where passes add up, a group of strips takes one pass after another: the weights of a pass are read from
 * memory once a group, not once a strip.
 *
 * @param x address that the runs' offsets count from; y of the results, `rows` rows `yStride` bytes apart
 * @param columnBytes what one column of x takes over all channels
 */
export function runStrips(
  engine: Engine,
  lowered: Lowered,
  runs: readonly Strips[],
  x: number,
  y: number,
  yStride: number,
  rows: number,
  columnBytes: number,
  ending: Ending,
): void {
  const { lo, hi } = ending.fused;
  const sums = lowered.passes.some((pass) => !pass.first || !pass.last);
  const columns = sums ? Y_SHARE / (rows * 4) : X_SHARE / columnBytes;
  let group: Strips[] = [];
  let taken = 0;
  const flush = () => {
    for (const pass of lowered.passes) {
      const bias = ending.bias ? ending.bias + pass.row * 4 : 0;
      const flags = flagsOf(pass, ending);
      for (const run of group) {
        const to = y + run.y + pass.row * yStride;
        engine.kernels[run.kernel.name](pass.plan, run.strips, x + run.x + pass.x, to, yStride, bias, flags, lo, hi);
      }
    }
    group = [];
    taken = 0;
  };
  for (const run of runs) {
    const { tile } = run.kernel;
    for (let s = 0; s < run.strips; ) {
      const strips = Math.min(run.strips - s, Math.max(1, Math.floor((columns - taken) / tile)));
      group.push({ kernel: run.kernel, strips, x: run.x + s * tile * 4, y: run.y + s * tile * 4 });
      s += strips;
      taken += strips * tile;
      if (taken + tile > columns) flush();
    }
  }
  if (group.length) flush();
}

/**
 * y = W · x for one column, `k` floats.
 *
 * @param transposed whether W is used the other way round
 */
export function vectorProduct(
  engine: Engine,
  w: PackedWeight,
  kernel: Kernel,
  x: Input,
  k: number,
  shape: readonly number[],
  fused: Fused,
  transposed: boolean,
): Tensor {
  const { memory } = engine;
  const run = engine.kernels[kernel.name];
  const parts = w.format === "csr" && k > SPMV_COLUMNS;
  return engine.produceWith(
    w,
    () => w.vectorStreams(transposed),
    shape,
    fused.out,
    [placeBytes(x), placeBytes(fused.bias), parts ? SPMV_COLUMNS * 4 : 0],
    (y, [xs, bs, part], lowered) => {
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
    },
  );
}

/** Copies an input to an address, unless it lies there. */
export function copyInto(engine: Engine, x: Input, ptr: number): void {
  const from = x.tensor?.ptr;
  if (from === ptr) return;
  if (from === undefined) engine.memory.f32.set(x.data as Float32Array, ptr / 4);
  else engine.memory.f32.copyWithin(ptr / 4, from / 4, from / 4 + x.size);
}
