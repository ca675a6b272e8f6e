import { fail, options } from "../assert.js";
import type { Engine } from "../engine.js";
import { cutColumns, type Kernel, PANEL, vectorKernel } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import {
  FUSED,
  type Fused,
  type FusedOptions,
  fused,
  type Input,
  input,
  place,
  placeBytes,
  weight,
} from "./operands.js";
import { runStrips, type Strips, vectorProduct } from "./product.js";

export type LinearOptions = FusedOptions;

/** What a product will run, before anything is copied. */
export interface ProductPlan {
  shape: number[];
  /** Kernels with the number of strips each takes. */
  cuts: { kernel: Kernel; strips: number }[];
  macs: number;
  denseMacs: number;
}

/** The part of a plan that depends on the number of rows only. */
interface RowsPlan {
  cuts: ProductPlan["cuts"];
  panels: Strips[];
}

/** Bytes of one row of a panel: x[K][PANEL] and y[M][PANEL], whatever tile reads it, so that one stream serves all. */
const PITCH = PANEL * 4;

/** Inputs of a panel that fit L1 beside y and the stream: 24 of 32 KiB. */
const PANEL_CHANNELS = 192;

/** Bytes of panels, x and y, that are filled before any of them is multiplied: half of a small L2. */
const GROUP = 512 * 1024;

/** The input map of a panel. */
export const PANEL_MAP = {
  taps: [0],
  channelStride: PITCH,
  groups: 1,
  groupStride: 0,
  channelsPerBlock: PANEL_CHANNELS,
};

export function planLinear(
  engine: Engine,
  x: Input,
  w: PackedWeight,
  transposed = false,
): ProductPlan & RowsPlan & { rows: number } {
  const rank = x.shape.length;
  if (w.shape.length !== 2) fail("ERR_SHAPE", "w", "a matrix of 2 dimensions", w.shape);
  const [m, k] = transposed ? [w.shape[1], w.shape[0]] : w.shape;
  if (rank === 0 || x.shape[rank - 1] !== k) fail("ERR_SHAPE", "x", `a last dimension of ${k}`, x.shape);
  const shape = [...x.shape.slice(0, -1), m];
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  const nnz = w.format === "dense" ? m * k : w.nnz;
  const { cuts, panels } = w.plans.get(`${transposed ? "ᵀ" : ""}rows ${rows}`, () => {
    const cuts =
      rows === 0 || m === 0
        ? []
        : rows === 1
          ? [{ kernel: vectorKernel(w.format), strips: 1 }]
          : cutColumns(rows, { m, k, nnz }, engine.simd, w.format);
    return { cuts, panels: cutPanels(cuts, k, m) };
  }) as RowsPlan;
  return { shape, rows, cuts, panels, macs: nnz * rows, denseMacs: m * k * rows };
}

/** y[..., out] = x[..., in] · Wᵀ. */
export function linear(engine: Engine, xIn: unknown, wIn: unknown, o: LinearOptions | undefined): Tensor {
  const w = weight(engine, "w", wIn);
  return rowMajor(engine, input(engine, "x", xIn), w, options("options", o, FUSED), false);
}

/** x by rows times W: `linear`, and `matmul` with W on the right (transposed). */
export function rowMajor(engine: Engine, x: Input, w: PackedWeight, o: FusedOptions, transposed: boolean): Tensor {
  const plan = planLinear(engine, x, w, transposed);
  const { shape, cuts } = plan;
  const m = shape[shape.length - 1];
  const k = x.shape[x.shape.length - 1];
  const f = fused(engine, o, shape, m, x);
  if (cuts.length && cuts[0].kernel.op === "spmv") {
    return vectorProduct(engine, w, cuts[0].kernel, x, k, shape, f, transposed);
  }
  return inPanels(engine, w, x, k, m, plan, f, transposed);
}

/** Rows of x become columns of panels, a group of them at a time; results come back the same way. */
function inPanels(
  engine: Engine,
  w: PackedWeight,
  x: Input,
  k: number,
  m: number,
  { shape, rows, panels: all }: ReturnType<typeof planLinear>,
  f: Fused,
  transposed: boolean,
): Tensor {
  const { f32_transpose: transpose } = engine.kernels;
  const group = Math.max(1, Math.min(all.length, Math.floor(GROUP / ((k + m) * PITCH))));
  if (all.length === 0) return engine.produce(shape, f.out, [], () => {});
  return engine.produceWith(
    w,
    () => w.streams("panel", PANEL_MAP, transposed),
    shape,
    f.out,
    [placeBytes(x), placeBytes(f.bias), placeBytes(f.residual), group * k * PITCH, group * m * PITCH],
    (y, ptrs, lowered) => {
      const from = place(engine, x, ptrs[0]);
      const bias = f.bias ? place(engine, f.bias, ptrs[1]) : 0;
      const residual = f.residual ? place(engine, f.residual, ptrs[2]) : 0;
      const ending = { bias, accumulate: residual !== 0, fused: f };
      const [, , , xp, yp] = ptrs;
      const to = y.ptr;
      let r = 0;
      for (let p = 0; p < all.length; p += group) {
        const now = all.slice(p, p + group);
        const first = r;
        now.forEach(({ kernel, strips }, i) => {
          const n = Math.min(strips * kernel.tile, rows - r);
          transpose(n, k, from + r * k * 4, k * 4, xp + i * k * PITCH, PITCH);
          if (residual) transpose(n, m, residual + r * m * 4, m * 4, yp + i * m * PITCH, PITCH);
          r += n;
        });
        const base = all[p];
        runStrips(engine, lowered, now, xp - base.x, yp - base.y, PITCH, m, k * 4, ending);
        r = first;
        now.forEach(({ kernel, strips }, i) => {
          const n = Math.min(strips * kernel.tile, rows - r);
          transpose(m, n, yp + i * m * PITCH, PITCH, to + r * m * 4, m * 4);
          r += n;
        });
      }
    },
  );
}

/** Strips side by side in panels, and each panel's place behind the one before. */
function cutPanels(cuts: ProductPlan["cuts"], k: number, m: number): Strips[] {
  const all: Strips[] = [];
  for (const { kernel, strips } of cuts) {
    const perPanel = Math.floor(PANEL / kernel.tile);
    for (let s = 0; s < strips; s += perPanel) {
      const i = all.length;
      all.push({ kernel, strips: Math.min(perPanel, strips - s), x: i * k * PITCH, y: i * m * PITCH });
    }
  }
  return all;
}
