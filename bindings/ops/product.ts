import type { Engine } from "../engine.js";
import type { Lowered, Pass } from "../formats/streams.js";
import type { Kernel } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { type Fused, type Input, place, placeBytes } from "./operands.js";

/** What a product ends with, as kernels take it. */
export interface Ending {
  bias: number;
  accumulate: boolean;
  fused: Fused;
}

/** The bits of assembly/simd.ts. */
const ACCUMULATE = 1;
const BIAS = 2;
const CLAMP = 4;

/** What a kernel does of it in one pass. */
export const flagsOf = (pass: Pass, { bias, accumulate, fused }: Ending): number =>
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
export const X_SHARE = 128 * 1024;

/**
 * What a pass writes of y. Of panels, 16 to 64 rows, 768 → 3072 in csr were 1.08 to 1.22 times as fast as with all rows in one pass, up
 * to 2048 outputs 1.0 to 1.07; with a fourth of it 0.96 to 1.12. Rows of an image lie a plane apart, and a strip of all of them
 * fetches line after line from memory: 1x1 at 90%, 112², 32→64, within MobileNetV1 608 to 258 µs; where caches hold the result 56²,
 * 64→128 1.2 to 1.6 times as fast, 28² and smaller 0.97 to 1.07, with half of it 0.92 to 1.05 (Zen 4, L1 32 KiB, L2 1 MiB, Node 24,
 * 2026-11-21).
 */
export const Y_SHARE = 64 * 1024;

/** Bytes of the list that {@link runStrips} makes of so many runs. */
export const runBytes = (runs: number): number => runs * 16;

/**
 * Runs all passes over a group of strips, then over the next: the weights of a pass are read from memory once a group, not once a
 * strip, and what it reads of x for the first time, the following passes find in L2. Each pass is one call, which walks a list of
 * the group's runs: a call of a kernel by name takes 44 ns from here
 * (Node 20 and 24), 10 to 12 from there (`npm run bench -- kernels f32_spmm_runs`, Node 24; Cascade Lake).
 *
 * @param list where the runs may be listed
 * @param x address that the runs' offsets count from; y of the results, rows `yStride` bytes apart
 * @param columns of a group, at least one strip's
 */
export function runStrips(
  engine: Engine,
  lowered: Lowered,
  runs: readonly Strips[],
  list: number,
  x: number,
  y: number,
  yStride: number,
  columns: number,
  ending: Ending,
): void {
  const { lo, hi } = ending.fused;
  const { kernels, memory } = engine;
  const { u32 } = memory;
  let end = list;
  let taken = 0;
  const run = () => {
    for (const pass of lowered.passes) {
      const bias = ending.bias ? ending.bias + pass.row * 4 : 0;
      const flags = flagsOf(pass, ending);
      kernels.f32_spmm_runs(list, end, pass.plan, x + pass.x, y + pass.row * yStride, yStride, bias, flags, lo, hi);
    }
    end = list;
    taken = 0;
  };
  for (const { kernel, strips: n, x: start, y: to } of runs) {
    const { tile, index } = kernel;
    for (let s = 0; s < n; ) {
      if (taken && taken + tile > columns) run();
      const strips = Math.min(n - s, Math.max(1, Math.floor((columns - taken) / tile)));
      const at = end / 4;
      u32[at] = index;
      u32[at + 1] = strips;
      u32[at + 2] = start + s * tile * 4;
      u32[at + 3] = to + s * tile * 4;
      end += 16;
      s += strips;
      taken += strips * tile;
    }
  }
  if (taken) run();
}

/**
 * y = W · x for `rows` columns of `k` floats, each on its own: rows of x and of the result are contiguous.
 *
 * @param transposed whether W is used the other way round
 */
export function vectorProduct(
  engine: Engine,
  w: PackedWeight,
  { kernel, strips: rows }: { kernel: Kernel; strips: number },
  x: Input,
  k: number,
  shape: readonly number[],
  fused: Fused,
  transposed: boolean,
): Tensor {
  const run = engine.kernels[kernel.name];
  return engine.produceWith(
    w,
    () => w.vectorStreams(kernel, transposed),
    shape,
    fused.out,
    [placeBytes(x), placeBytes(fused.bias)],
    (y, [xs, bs], lowered) => {
      const bias = place(engine, fused.bias, bs);
      const from = place(engine, x, xs);
      if (fused.residual) copyInto(engine, fused.residual, y.ptr);
      const m = rows ? y.size / rows : 0;
      const ending = { bias, accumulate: fused.residual !== undefined, fused };
      for (let r = 0; r < rows; r++) {
        for (const pass of lowered.passes) {
          const at = from + r * k * 4 + pass.x;
          run(pass.plan, at, y.ptr + r * m * 4, bias, flagsOf(pass, ending), fused.lo, fused.hi);
        }
      }
    },
  );
}

/** Copies an input to an address, unless it lies there. */
export function copyInto(engine: Engine, x: Input, ptr: number): void {
  const from = x.tensor?.ptr;
  if (from === ptr) return;
  if (from === undefined) place(engine, x, ptr);
  else engine.memory.f32.copyWithin(ptr / 4, from / 4, from / 4 + x.size);
}
