import { fail, options, sizeOf } from "../assert.js";
import type { Work } from "../costs.js";
import { type Candidate, candidates, forcedKernel, forcedKey, kernelsFor } from "../dispatch.js";
import type { Engine } from "../engine.js";
import type { InputMap, Lowered } from "../formats/streams.js";
import { type Kernel, PANEL } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import {
  anyInput,
  type Fused,
  fused,
  type Input,
  PRODUCT,
  type ProductOptions,
  place,
  placeBytes,
  weight,
} from "./operands.js";
import { runBytes, runStrips, type Strips, vectorProduct, X_SHARE, Y_SHARE } from "./product.js";

/** Options of `engine.linear`. */
export type LinearOptions = ProductOptions;

export const LINEAR = [...PRODUCT, "output"] as const;

/** What a product will run, before anything is copied. */
export interface ProductPlan {
  /** What runs, and the other ways in the order of their predicted times. */
  ways: Candidate[];
  macs: number;
  denseMacs: number;
  /** What the input has to do with the choice. */
  note?: string;
}

/** The part of a plan that depends on the number of rows only. */
interface RowsPlan {
  /** Of the result when x is a matrix. */
  matrix: readonly number[];
  ways: Candidate[];
  map: InputMap;
  macs: number;
}

/** Bytes of panels, x and y, that are filled before any of them is multiplied: half of a small L2. */
export const GROUP = 512 * 1024;

/** Bytes of y that passes sum in one after another: they share L2 with their weights. With fewer columns these are walked too often. */
const SUMS_SHARE = 256 * 1024;
const SUMS_LEAST = 128;

/**
 * The input maps of panels x[K][columns] and y[M][columns]. A panel is as wide as the tile that reads it: rows lie close together then,
 * so that L1 holds more of their inputs and passes are fewer; the narrower a tile is, the more of the weights goes through L1 beside
 * it. Against panels of 32 columns for all tiles: 64 rows in 4x1 1.01 to 1.14 times as fast (Node 20 and 24, both builds), in 2x1 1.01 to
 * 1.12 (relaxed); csr at 80 and 90% zeros 4 rows 1.08 to 1.21, 8 1.03 to 1.15, 16 1.02 to 1.06; with 24 KiB of inputs for all 0.79 to
 * 1.22, 4x1 with 128 to 448 inputs the same (relaxed; Zen 4, L1 32 KiB, Node 24, 2026-11-21).
 */
const PANEL_MAPS = (
  [
    [4, 768],
    [8, 448],
    [16, 256],
    [PANEL, 192],
  ] as const
).map(
  ([columns, channelsPerBlock]): InputMap => ({
    taps: [0],
    channelStride: columns * 4,
    groups: 1,
    groupStride: 0,
    channelsPerBlock,
    rowsPerPass: Y_SHARE / (columns * 4),
  }),
);

/** The map of the narrowest panel that so many columns fit, or of the widest. */
export const panelMapFor = (columns: number): InputMap =>
  PANEL_MAPS.find(({ channelStride }) => columns * 4 <= channelStride) ?? (PANEL_MAPS.at(-1) as InputMap);

/** The map of panels as wide as the widest tile. */
export const panelMapOf = (cuts: Candidate["cuts"]): InputMap =>
  panelMapFor(Math.max(...cuts.map(({ kernel }) => kernel.tile)));

export const stripsPerPanel = ({ channelStride }: InputMap, { tile }: Kernel): number =>
  Math.floor(channelStride / (tile * 4));

/** The map of the widest panels. */
export const PANEL_MAP = panelMapFor(PANEL);

/** From so many rows on, multiplying them one by one is never the best: each walks all weights again. */
const FEW = 16;

export function planLinear(
  engine: Engine,
  x: Input,
  w: PackedWeight,
  force?: string,
  transposed = false,
): ProductPlan & Omit<RowsPlan, "matrix"> & { shape: readonly number[]; rows: number } {
  const rank = x.shape.length;
  if (w.dims.length !== 2) fail("ERR_SHAPE", "w", "a matrix of 2 dimensions", w.dims);
  const [m, k] = transposed ? [w.dims[1], w.dims[0]] : w.dims;
  if (rank === 0 || x.shape[rank - 1] !== k) fail("ERR_SHAPE", "x", `a last dimension of ${k}`, x.shape);
  let rows = 1;
  for (let i = 0; i < rank - 1; i++) rows *= x.shape[i];
  // A number where nothing is forced: a string to put together would take longer than a small product.
  const key = force === undefined ? 2 * rows + (transposed ? 1 : 0) : `${transposed} ${rows} ${forcedKey(force)}`;
  const { matrix, ways, map, macs } = w.plans.get(key, () => {
    const matrix = [rows, m];
    sizeOf("result", matrix);
    const ways = waysOf(engine, w, m, k, rows, panelMapFor(rows), force, transposed);
    return { matrix, ways, map: panelMapOf(ways[0]?.cuts ?? []), macs: macsOf(w, ways) * rows };
  });
  const shape = rank === 2 ? matrix : [...x.shape.slice(0, -1), m];
  return { shape, rows, ways, map, macs, denseMacs: m * k * rows };
}

/** Multiply-adds of one column: a dense kernel takes all, the others what is stored. */
export const macsOf = (w: PackedWeight, [best]: readonly Candidate[]): number =>
  best?.cuts[0].kernel.format === "dense" ? w.matrix.rows * w.matrix.cols : w.places;

/**
 * What a kernel's call for each further row takes, and what filling and emptying panels does, both in calls: 4 → 4 in csr, 2 rows by
 * themselves 1.01 µs, in panels 1.39, 4 rows 1.23 and 1.39 (Zen 4, Node 24, 2026-11-21).
 */
const [ROW, PANELS] = [0.25, 2];

/** How many times as long a row takes to transpose that is part of no square of four: 3 rows of 1024 1.87 µs, 4 rows 0.67 (as above). */
const CUT = 3.5;

/** Row by row and in panels: each way with what it takes to bring x in and y out. */
function waysOf(
  engine: Engine,
  w: PackedWeight,
  m: number,
  k: number,
  rows: number,
  { channelsPerBlock }: InputMap,
  force: string | undefined,
  transposed: boolean,
): Candidate[] {
  const structure = w.structure(transposed);
  const work: Work = { m, k, places: w.places, channels: k, channelsPerBlock };
  const { costs } = engine;
  const few = force !== undefined || rows < FEW;
  const forced = forcedKernel(force, [
    ...kernelsFor("spmv", structure),
    ...(rows === 1 ? [] : kernelsFor("spmm", structure)),
  ]);
  if (rows === 0 || m === 0) return [];
  const ways = few ? candidates("spmv", rows, structure, work, costs, forced) : [];
  for (const way of ways) way.ns += costs.call + (rows - 1) * ROW * costs.call;
  if (rows > 1) {
    const weighted = rows + (rows % 4) * (CUT - 1);
    for (const way of candidates("spmm", rows, structure, work, costs, forced)) {
      ways.push({ ...way, ns: way.ns + PANELS * costs.call + weighted * (m + k) * costs.transpose });
    }
  }
  return ways.sort((a, b) => a.ns - b.ns);
}

/** y[..., out] = x[..., in] · Wᵀ. */
export function linear(engine: Engine, xIn: unknown, wIn: unknown, o: LinearOptions | undefined): Tensor {
  const w = weight(engine, "w", wIn);
  return rowMajor(engine, anyInput(engine, "x", xIn), w, options("options", o, LINEAR), false);
}

/** x by rows times W: `linear`, and `matmul` with W on the right (transposed). */
export function rowMajor(engine: Engine, x: Input, w: PackedWeight, o: ProductOptions, transposed: boolean): Tensor {
  const plan = planLinear(engine, x, w, o.forceKernel, transposed);
  const { shape, ways } = plan;
  const m = shape[shape.length - 1];
  const k = x.shape[x.shape.length - 1];
  const f = fused(engine, o, shape, m, x);
  if (ways.length && ways[0].cuts[0].kernel.op === "spmv") {
    return vectorProduct(engine, w, ways[0].cuts[0], x, k, shape, f, transposed);
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
  { shape, rows, ways, map }: ReturnType<typeof planLinear>,
  f: Fused,
  transposed: boolean,
): Tensor {
  if (ways.length === 0) return engine.produce(shape, f.out, [], () => {});
  const { f32_transpose: transpose } = engine.kernels;
  const { cuts } = ways[0];
  const [{ kernel }] = cuts;
  const pitch = map.channelStride;
  const panels = cuts.reduce((sum, { kernel, strips }) => sum + Math.ceil(strips / stripsPerPanel(map, kernel)), 0);
  const group = Math.max(1, Math.min(panels, Math.floor(GROUP / ((k + m) * pitch))));
  return engine.produceWith(
    w,
    () => w.streams(kernel, `${kernel.stream} panel ${pitch}${transposed ? "ᵀ" : ""}`, map, transposed),
    shape,
    f.out,
    [placeBytes(x), placeBytes(f.bias), placeBytes(f.residual), group * k * pitch, group * m * pitch, runBytes(group)],
    (y, ptrs, lowered) => {
      const from = place(engine, x, ptrs[0]);
      const bias = place(engine, f.bias, ptrs[1]);
      const residual = place(engine, f.residual, ptrs[2]);
      const ending = { bias, accumulate: residual !== 0, fused: f };
      const [, , , xp, yp, list] = ptrs;
      const columns = columnsAtOnce(lowered, m, k);
      const to = y.ptr;
      let r = 0;
      // A group at a time: of rows without an input nothing bounds the number, and a list of all their panels took gigabytes.
      let now: Strips[] = [];
      const run = () => {
        const first = r;
        now.forEach(({ kernel, strips }, i) => {
          const n = Math.min(strips * kernel.tile, rows - r);
          const panel = xp + i * k * pitch;
          // Lanes without a row are multiplied too, and old bits may be denormal numbers, as in conv2d.ts.
          if (n % 4) engine.memory.f32.fill(0, panel / 4, (panel + k * pitch) / 4);
          transpose(n, k, from + r * k * 4, k * 4, panel, pitch);
          if (residual) transpose(n, m, residual + r * m * 4, m * 4, yp + i * m * pitch, pitch);
          r += n;
        });
        runStrips(engine, lowered, now, list, xp, yp, pitch, columns, ending);
        r = first;
        now.forEach(({ kernel, strips }, i) => {
          const n = Math.min(strips * kernel.tile, rows - r);
          transpose(m, n, yp + i * m * pitch, pitch, to + r * m * 4, m * 4);
          r += n;
        });
        now = [];
      };
      for (const { kernel, strips } of cuts) {
        const most = stripsPerPanel(map, kernel);
        for (let s = 0; s < strips; s += most) {
          const i = now.length;
          now.push({ kernel, strips: Math.min(most, strips - s), x: i * k * pitch, y: i * m * pitch });
          if (now.length === group) run();
        }
      }
      if (now.length) run();
    },
  );
}

/** Columns of panels that take all passes before the next ones do. */
export const columnsAtOnce = ({ passes }: Lowered, m: number, k: number): number =>
  passes.length > 1 ? Math.max(SUMS_LEAST, SUMS_SHARE / (m * 4)) : X_SHARE / (k * 4);
