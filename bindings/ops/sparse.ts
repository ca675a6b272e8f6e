// Products with sparse activations: each active input walks its column of the weights. Above the density where walking all
// inputs is faster, the activations are spread out and the dense-input kernels run.
import { fail, oneOf, options } from "../assert.js";
import { costOf } from "../costs.js";
import { type Candidate, forcedKey, kernelsFor } from "../dispatch.js";
import type { Engine } from "../engine.js";
import type { Kernel } from "../kernels.js";
import type { SparseTensor } from "../sparse-tensor.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { CONV2D, type Conv2dOptions, checkConv2d, conv2d, isOf, planConv2d } from "./conv2d.js";
import { LINEAR, type LinearOptions, linear, macsOf, type ProductPlan, planLinear } from "./linear.js";
import { anyInput, type Fused, fused, type Input, place, placeBytes, weight } from "./operands.js";
import { maxPool2d, POOL, type PoolOptions } from "./pool.js";
import { copyInto, flagsOf } from "./product.js";
import { type Spread, spreadOfRows, spreadsOfImage } from "./reach.js";
import { handOver } from "./winners.js";

/** A product over lists, apart from the kernel. */
interface Walk {
  /** Outputs of one sample, and the input rows that its lists hold. */
  outputs: number;
  inputRows: number;
  samples: number;
  taps: number;
  groups: number;
  /** Distinguishes a kernel's streams. */
  key: string;
  /** Where a kernel's sums lie, if it can run. */
  spread(kernel: Kernel): Spread | undefined;
}

/** A kernel's predicted ns: what is fixed, and what each active input adds. */
interface Way {
  kernel: Kernel;
  /** Names its streams. */
  key: string;
  spread: Spread;
  fixed: number;
  input: number;
}

/** What does not change with the activations. */
export interface SparsePlan {
  walk: Walk;
  ways: Way[];
  /** The way over dense activations, and what spreading them out adds to it. */
  densely: Candidate | undefined;
}

function makePlan(
  engine: Engine,
  w: PackedWeight,
  size: number,
  walk: Walk,
  force: string | undefined,
  dense: () => Candidate | undefined,
): SparsePlan {
  const { costs } = engine;
  const { samples, outputs, groups } = walk;
  const [m, k] = [w.dims[0], w.matrix.cols];
  const ways = kernelsFor("spmspv", w.structure(false, groups))
    .filter(({ name }) => force === undefined || name === force)
    .flatMap((kernel) => {
      const spread = walk.spread(kernel);
      if (!spread) return [];
      const { visits, columns, bytes } = spread;
      const fixed = costs.call + ((samples * bytes) / 4) * costs.copy;
      const work = { m, k, places: w.places, channels: k, channelsPerBlock: k, columns };
      return [{ kernel, key: kernel.name + walk.key, spread, fixed, input: visits * costOf(kernel, work, costs) }];
    });
  // Any other name is one of the dense way's, which knows all that it takes.
  const best = force !== undefined && ways.length ? undefined : dense();
  const densely = best && { cuts: best.cuts, ns: best.ns * samples + size * costs.copy };
  return { walk, ways, densely: samples * outputs * m ? densely : undefined };
}

/** The kernel for what x holds now; undefined for the way over dense activations. */
function choose({ ways, densely }: SparsePlan, { nnz }: SparseTensor): Way | undefined {
  let best: Way | undefined;
  for (const way of ways) {
    if (!best || way.fixed + nnz * way.input < best.fixed + nnz * best.input) best = way;
  }
  return best && !(densely && densely.ns < best.fixed + nnz * best.input) ? best : undefined;
}

/** Runs one kernel over all samples. Where the result is not what sums are, outputs one by one, they have a place of their own. */
function run(
  engine: Engine,
  x: SparseTensor,
  w: PackedWeight,
  { kernel, key, spread: { reach, units, lines, line, pixel, bytes, lead } }: Way,
  { outputs, inputRows, samples }: Walk,
  shape: readonly number[],
  f: Fused,
  planes: boolean,
): Tensor {
  const { memory, kernels } = engine;
  const m = w.dims[0];
  const call = kernels[kernel.name];
  const apart = planes || bytes !== outputs * m * 4;
  const wide = outputs / Math.max(1, lines);
  /** Copies a sample between the order of the result and that of the sums. */
  const copy = (result: number, rows: number, back: boolean) => {
    if (!planes && back) kernels.f32_copy(lines, wide, m, rows, line, pixel, result, wide * m * 4, m * 4);
    else if (!planes) kernels.f32_copy(lines, wide, m, result, wide * m * 4, m * 4, rows, line, pixel);
    else {
      for (let l = 0; l < lines; l++, rows += line, result += wide * 4) {
        if (back) kernels.f32_transpose(wide, m, rows, pixel, result, outputs * 4);
        else kernels.f32_transpose(m, wide, result, outputs * 4, rows, pixel);
      }
    }
  };
  return engine.produceWith(
    w,
    () => w.columnStreams(kernel, key, reach),
    shape,
    f.out,
    [placeBytes(f.bias), Math.ceil(m / 8) * 32 + 16, apart ? bytes : 0, apart ? placeBytes(f.residual) : 0],
    (y, [bs, sums, own, rs], lowered) => {
      const bias = place(engine, f.bias, bs);
      const { ptr, indices, values } = x.lists;
      if (f.residual && !apart) copyInto(engine, f.residual, y.ptr);
      const residual = apart ? place(engine, f.residual, rs) : 0;
      // Kernels add to what lies before and between the lines too: not to what some tensor left there, which may take them long.
      if (apart) memory.f32.fill(0, own / 4, (own + (residual ? bytes : lead)) / 4);
      const [pass] = lowered.passes;
      const flags = flagsOf(pass, { bias, accumulate: f.residual !== undefined, fused: f });
      for (let i = 0; i < samples; i++) {
        const at = i * outputs * m * 4;
        const to = apart ? own + lead : y.ptr + at;
        if (residual) copy(residual + at, to, false);
        call(pass.plan, units, ptr + i * inputRows * 4, indices, values, sums, to, pixel, bias, flags, f.lo, f.hi);
        if (apart) copy(y.ptr + at, to, true);
      }
    },
  );
}

/** Options of a product that may hand over lists. */
export interface SparseOutput {
  /** `"sparse"`: a SparseTensor of the elements that are not zero, as `activation: "relu"` leaves them, and no `out`. Default `"dense"`. */
  output?: "dense" | "sparse" | undefined;
}

/** Whether `output` asks for lists; `out` is then none. */
export function wantsSparse(o: (SparseOutput & { out?: unknown }) | undefined): boolean {
  // What is no object at all is for the operation to refuse.
  if (typeof o !== "object" || o === null || !("output" in o)) return false;
  const sparse = oneOf("output", o.output, ["dense", "sparse"] as const, "dense") === "sparse";
  if (sparse && o.out !== undefined) fail("ERR_VALUE", "out", "none with a sparse output", o.out);
  return sparse;
}

/** The plan, which calls of other shapes of x share, and what is this call's own. */
interface Planned {
  plan: SparsePlan;
  shape: number[];
  /** Whether results are planes of an image, not rows. */
  planes: boolean;
}

function planLinearSparse(
  engine: Engine,
  x: SparseTensor,
  w: PackedWeight,
  { forceKernel: force }: LinearOptions,
): Planned {
  if (w.dims.length !== 2) fail("ERR_SHAPE", "w", "a matrix of 2 dimensions", w.dims);
  const k = w.dims[1];
  if (x.layout !== undefined) fail("ERR_SHAPE", "x", "rows of features, not an image", x.shape);
  if (x.cols !== k) fail("ERR_SHAPE", "x", `a last dimension of ${k}`, x.shape);
  const { rows } = x;
  const key = force === undefined ? -1 - rows : `sparse ${rows} ${forcedKey(force)}`;
  const plan = w.plans.get(key, () => {
    const walk: Walk = {
      outputs: rows,
      inputRows: rows,
      samples: 1,
      taps: 1,
      groups: 1,
      key: "",
      spread: (kernel) => spreadOfRows(rows, w.dims[0], 1, kernel),
    };
    const dense = () => planLinear(engine, { shape: [rows, k], size: x.size }, w, force).ways[0];
    return makePlan(engine, w, x.size, walk, force, dense);
  });
  const shape = x.dims.slice();
  shape[shape.length - 1] = w.dims[0];
  return { plan, shape, planes: false };
}

function planConv2dSparse(engine: Engine, x: SparseTensor, w: PackedWeight, o: Conv2dOptions): Planned {
  const input: Input = { shape: x.dims, size: x.size, sparse: x };
  const { of, shape } = checkConv2d(input, w, o);
  const { image, win, groups, force } = of;
  // One plan for both layouts: only the order of the result's dimensions differs.
  const planned = (plan: SparsePlan) => ({ plan, shape, planes: !image.nhwc });
  const last = w.lastSparseConvolution;
  if (last && isOf(last, of)) return planned(last.plan);
  const geometry = ` ${groups} ${image.h} ${image.w} ${Object.values(win).join(" ")}`;
  const key = `sparse ${image.n}${geometry} ${forcedKey(force)}`;
  const plan = w.plans.get(key, () => {
    const { kh, kw, sh, sw, top, left, oh, ow } = win;
    const [m] = w.dims;
    const inputRows = image.h * image.w;
    const byRow = kh * kw * sh * sw === 1 && top + left === 0 && oh * ow === inputRows;
    const walk: Walk = {
      outputs: oh * ow,
      inputRows,
      samples: image.n,
      taps: kh * kw,
      groups,
      // Rows of linear and of 1 × 1 share theirs.
      key: !byRow ? geometry : groups === 1 ? "" : ` ${groups}`,
      spread: byRow ? (kernel) => spreadOfRows(oh * ow, m, groups, kernel) : spreadsOfImage(image, win, m, groups),
    };
    return makePlan(engine, w, x.size, walk, force, () => planConv2d(engine, input, w, o).ways[0]);
  });
  w.lastSparseConvolution = { ...of, plan };
  return planned(plan);
}

const OPS = {
  linear: { keys: LINEAR, plan: planLinearSparse, densely: linear },
  conv2d: { keys: CONV2D, plan: planConv2dSparse, densely: conv2d },
};

/** `linear` and `conv2d` for lists. */
export function productSparse(
  engine: Engine,
  op: "linear" | "conv2d",
  x: SparseTensor,
  wIn: unknown,
  o: Conv2dOptions | undefined,
): Tensor {
  const w = weight(engine, "w", wIn);
  const input = anyInput(engine, "x", x);
  const opts = options("options", o, OPS[op].keys);
  const { plan, shape, planes } = OPS[op].plan(engine, x, w, opts);
  const way = choose(plan, x);
  if (!way) return OPS[op].densely(engine, x, w, opts);
  return run(engine, x, w, way, plan.walk, shape, fused(engine, opts, shape, w.dims[0], input), planes);
}

/** The largest under each window, dropped elements being 0; the result is at least as dense as what went in. */
export function maxPoolSparse(engine: Engine, x: SparseTensor, given: PoolOptions): SparseTensor {
  const o = options("options", given, POOL);
  if (o.out !== undefined) fail("ERR_VALUE", "out", "none for a sparse tensor", o.out);
  return handOver(engine, maxPool2d(engine, x, o), x.layout);
}

/** For `explain`: multiply-adds are an estimate from how many columns x visits. */
export function explainSparse(
  engine: Engine,
  op: "linear" | "conv2d",
  x: SparseTensor,
  w: PackedWeight,
  o: Conv2dOptions,
): ProductPlan {
  anyInput(engine, "x", x);
  const { plan } = OPS[op].plan(engine, x, w, o);
  const { walk } = plan;
  const { nnz } = x;
  const ways: Candidate[] = plan.ways.map(({ kernel, fixed, input }) => ({
    cuts: [{ kernel, strips: 1 }],
    ns: fixed + nnz * input,
  }));
  if (plan.densely) ways.push(plan.densely);
  ways.sort((a, b) => a.ns - b.ns);
  const best = ways[0]?.cuts[0].kernel;
  const stored = macsOf(w, ways);
  const denseMacs = walk.samples * walk.outputs * w.dims[0] * w.matrix.cols;
  // How often an active input meets a tap: each time, but for strides and edges.
  const meetings = (nnz * walk.taps * walk.outputs) / Math.max(1, walk.inputRows);
  const macs =
    best?.op === "spmspv" ? (meetings * stored) / Math.max(1, w.matrix.cols) : walk.samples * walk.outputs * stored;
  const active = `${(100 * x.density).toFixed(1)}% of the input active`;
  const other = ways.find(({ cuts }) => cuts[0].kernel.op === "spmspv");
  const none = o.forceKernel === undefined ? ", as no kernel for sparse inputs takes these taps and weights" : "";
  const why = other ? `, ${(other.ns / ways[0].ns).toFixed(2)}x as fast here as sparse inputs` : none;
  const note = best?.op === "spmspv" ? active : `dense inputs${why}: ${active}`;
  return { ways, macs: Math.round(macs), denseMacs, note };
}
