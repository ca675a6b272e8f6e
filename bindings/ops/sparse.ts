// Products with sparse activations: each active input walks its column of the weights. Above the density where walking all
// inputs is faster, the activations are spread out and the dense-input kernels run.
import { fail, oneOf, options, sizeOf } from "../assert.js";
import { costOf } from "../costs.js";
import { type Candidate, forcedKey, kernelsFor } from "../dispatch.js";
import type { Engine } from "../engine.js";
import type { Kernel } from "../kernels.js";
import type { SparseTensor } from "../sparse-tensor.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { CONV2D, type Conv2dOptions, checked, conv2d, planConv2d } from "./conv2d.js";
import { LINEAR, type LinearOptions, linear, macsOf, type ProductPlan, planLinear } from "./linear.js";
import { type Fused, fused, type Input, inputOrLists, place, placeBytes, weight } from "./operands.js";
import { maxPool2d, POOL, type PoolOptions } from "./pool.js";
import { copyInto, flagsOf } from "./product.js";
import { handOver } from "./winners.js";

/** Where there is no input row. */
const NOWHERE = 0xffffffff;

/** Numbers of {@link Walk.near} at most, 64 MiB: a 3 × 3 convolution of 1365² pixels. */
const MOST_NEAR = 2 ** 24;

/** A product over lists: which input rows each output sums over, tap by tap. */
interface Walk {
  /** Outputs of one sample, and the input rows that its lists hold. */
  outputs: number;
  inputRows: number;
  samples: number;
  taps: number;
  groups: number;
  /** outputs × taps numbers of input rows, or {@link NOWHERE}; none where each output reads its own row. */
  near?: Uint32Array;
  /** Whether they are too many to be worth their bytes. */
  tooMany?: boolean;
}

/** A kernel's predicted ns: what is fixed, and what each meeting of an active input and a tap adds. */
interface Line {
  kernel: Kernel;
  fixed: number;
  visit: number;
}

/** What does not change with the activations. */
interface SparsePlan {
  walk: Walk;
  lines: Line[];
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
  // 16 bits number the outputs of a column.
  const able = m <= 65535 && !walk.tooMany ? kernelsFor("spmspv", w.structure(false, groups)) : [];
  // Any other name is one of the dense way's, which knows all that it takes.
  const known = able.some(({ name }) => name === force);
  const best = known ? undefined : dense();
  const densely = best && { cuts: best.cuts, ns: best.ns * samples + size * costs.copy };
  const work = { m, k, places: w.places, channels: k, channelsPerBlock: k };
  const lines = able
    .filter(({ name }) => force === undefined || name === force)
    .map((kernel) => ({
      kernel,
      fixed: costs.call + samples * outputs * m * costs.copy,
      visit: costOf(kernel, work, costs),
    }));
  return { walk, lines, densely: samples * outputs * m ? densely : undefined };
}

/** How often an active input meets a tap: each time, but for strides and edges. */
const visitsOf = (x: SparseTensor, { taps, outputs, inputRows }: Walk): number =>
  (x.nnz * taps * outputs) / Math.max(1, inputRows);

/** The kernel for what x holds now; undefined for the way over dense activations. */
function choose({ lines, densely, walk }: SparsePlan, x: SparseTensor): Kernel | undefined {
  const visits = visitsOf(x, walk);
  let best: Line | undefined;
  for (const line of lines) {
    if (!best || line.fixed + visits * line.visit < best.fixed + visits * best.visit) best = line;
  }
  return best && !(densely && densely.ns < best.fixed + visits * best.visit) ? best.kernel : undefined;
}

/** Runs one kernel over all samples; results are rows of outputs, pixel by pixel. */
function run(
  engine: Engine,
  x: SparseTensor,
  w: PackedWeight,
  kernel: Kernel,
  walk: Walk,
  shape: readonly number[],
  f: Fused,
  planes: boolean,
): Tensor {
  const { memory, kernels } = engine;
  const m = w.dims[0];
  const { outputs, inputRows, samples, taps, groups } = walk;
  const { near } = walk;
  const call = kernels[kernel.name];
  const pixels = planes ? outputs * m * 4 : 0;
  return engine.produceWith(
    w,
    () => w.columnStreams(kernel, taps, groups),
    shape,
    f.out,
    [
      near ? near.length * 4 : 0,
      placeBytes(f.bias),
      Math.ceil(m / 8) * 32 + 16,
      pixels,
      planes ? placeBytes(f.residual) : 0,
    ],
    (y, [nearPlace, bs, sums, rowsAt, rs], lowered) => {
      const nearAt = near ? nearPlace : 0;
      const bias = place(engine, f.bias, bs);
      if (near) memory.u32.set(near, nearAt / 4);
      if (f.residual && !planes) copyInto(engine, f.residual, y.ptr);
      const residual = planes ? place(engine, f.residual, rs) : 0;
      const { ptr, indices, values } = x.lists;
      const [pass] = lowered.passes;
      const flags = flagsOf(pass, { bias, accumulate: f.residual !== undefined, fused: f });
      for (let i = 0; i < samples; i++) {
        const at = i * outputs * m * 4;
        const to = planes ? rowsAt : y.ptr + at;
        if (residual) kernels.f32_transpose(m, outputs, residual + at, outputs * 4, to, m * 4);
        const begin = ptr + i * inputRows * 4;
        call(pass.plan, outputs, nearAt, begin, indices, values, sums, to, m * 4, bias, flags, f.lo, f.hi);
        if (planes) kernels.f32_transpose(outputs, m, to, m * 4, y.ptr + at, outputs * 4);
      }
    },
  );
}

/** Options of a product that may hand over lists. */
export interface SparseOutput {
  /** `"sparse"`: a SparseTensor of the elements that are not zero, as `activation: "relu"` leaves them, and no `out`. Default `"dense"`. */
  output?: "dense" | "sparse";
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
    const walk: Walk = { outputs: rows, inputRows: rows, samples: 1, taps: 1, groups: 1 };
    const dense = () => planLinear(engine, { shape: [rows, k], size: x.size }, w, force).ways[0];
    return makePlan(engine, w, x.size, walk, force, dense);
  }) as SparsePlan;
  const shape = x.dims.slice();
  shape[shape.length - 1] = w.dims[0];
  return { plan, shape, planes: false };
}

function planConv2dSparse(engine: Engine, x: SparseTensor, w: PackedWeight, o: Conv2dOptions): Planned {
  const input: Input = { shape: x.dims, size: x.size, lists: x };
  const { image, groups, win, shape } = checked(input, w, o);
  sizeOf("result", shape);
  const key = `sparse ${image.n} ${image.h} ${image.w} ${groups} ${Object.values(win).join(" ")} ${forcedKey(o.forceKernel)}`;
  const plan = w.plans.get(key, () => {
    const { kh, kw, sh, sw, dh, dw, top, left, oh, ow } = win;
    const tooMany = oh * ow * kh * kw > MOST_NEAR;
    const near = new Uint32Array(tooMany ? 0 : oh * ow * kh * kw);
    for (let oy = 0, i = 0; !tooMany && oy < oh; oy++) {
      for (let ox = 0; ox < ow; ox++) {
        for (let ky = 0; ky < kh; ky++) {
          for (let kx = 0; kx < kw; kx++) {
            const y = oy * sh - top + ky * dh;
            const x = ox * sw - left + kx * dw;
            near[i++] = y >= 0 && y < image.h && x >= 0 && x < image.w ? y * image.w + x : NOWHERE;
          }
        }
      }
    }
    const inputRows = image.h * image.w;
    const walk: Walk = { outputs: oh * ow, inputRows, samples: image.n, taps: kh * kw, groups, near, tooMany };
    return makePlan(engine, w, x.size, walk, o.forceKernel, () => planConv2d(engine, input, w, o).ways[0]);
  }) as SparsePlan;
  // One plan for both layouts: only the order of the result's dimensions differs.
  return { plan, shape, planes: !image.nhwc };
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
  const lists = inputOrLists(engine, "x", x);
  const opts = options("options", o, OPS[op].keys);
  const { plan, shape, planes } = OPS[op].plan(engine, x, w, opts);
  const kernel = choose(plan, x);
  if (!kernel) return OPS[op].densely(engine, x, w, opts);
  return run(engine, x, w, kernel, plan.walk, shape, fused(engine, opts, shape, w.dims[0], lists), planes);
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
  inputOrLists(engine, "x", x);
  const { plan } = OPS[op].plan(engine, x, w, o);
  const { walk, lines } = plan;
  const visits = visitsOf(x, walk);
  const ways = lines.map(({ kernel, fixed, visit }) => ({ cuts: [{ kernel, strips: 1 }], ns: fixed + visits * visit }));
  if (plan.densely) ways.push(plan.densely as (typeof ways)[number]);
  ways.sort((a, b) => a.ns - b.ns);
  const best = ways[0]?.cuts[0].kernel;
  const stored = macsOf(w, ways);
  const denseMacs = walk.samples * walk.outputs * w.dims[0] * w.matrix.cols;
  const macs =
    best?.op === "spmspv" ? (visits * stored) / Math.max(1, w.matrix.cols) : walk.samples * walk.outputs * stored;
  const active = `${(100 * x.density).toFixed(1)}% of the input active`;
  const other = ways.find(({ cuts }) => cuts[0].kernel.op === "spmspv");
  const because = walk.tooMany ? "there are too many taps to list" : "no kernel walks this weight's columns";
  const none = o.forceKernel === undefined ? `, as ${because}` : "";
  const why = other ? `, ${(other.ns / ways[0].ns).toFixed(2)}x as fast here as sparse inputs` : none;
  const note = best?.op === "spmspv" ? active : `dense inputs${why}: ${active}`;
  return { ways, macs: Math.round(macs), denseMacs, note };
}
