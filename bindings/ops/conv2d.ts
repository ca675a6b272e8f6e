import { fail, integer, options, sizeOf } from "../assert.js";
import { type BuildCosts, costOf, type Work } from "../costs.js";
import { type Candidate, candidates, forcedKernel, forcedKey, kernelsFor } from "../dispatch.js";
import type { Engine } from "../engine.js";
import type { InputMap } from "../formats/streams.js";
import { type Kernel, PANEL } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import { GROUP, macsOf, PANEL_MAP, type ProductPlan, panelMapOf, stripsPerPanel } from "./linear.js";
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
import { copyInto, flagsOf, runBytes, runStrips, type Strips, X_SHARE, Y_SHARE } from "./product.js";
import {
  type ImageLayout,
  type Images,
  imageShape,
  images,
  type Padding,
  type Pair,
  slide,
  type Window,
} from "./window.js";

/** Options of `engine.conv2d`. */
export interface Conv2dOptions extends ProductOptions {
  /** Default 1. */
  stride?: Pair | undefined;
  /** Default none. */
  padding?: Padding | undefined;
  /** Default 1. */
  dilation?: Pair | undefined;
  /** Default 1; the number of input channels for a depthwise convolution. */
  groups?: number | undefined;
  /** Of x, the result, `residual` and `out`; default that of a SparseTensor, else `"nchw"`. */
  layout?: ImageLayout | undefined;
}

export const CONV2D = [...PRODUCT, "stride", "padding", "dilation", "groups", "layout", "output"] as const;

/** One of the stride's phases: every sh-th row and sw-th column of the padded input, as planes of their own. */
interface Phase {
  /** Rows and columns of the input in it, and the first of each. */
  rows: number;
  cols: number;
  y: number;
  x: number;
  /** Zeros before the first of them, in floats of the plane. */
  head: number;
}

/**
 * How a convolution becomes a product: outputs of one image are columns of a flat plane of `oh` rows, `pitch` apart, and
 * each tap of each channel lies at a constant offset from an output. What is beyond a row's `ow` outputs is junk.
 */
export interface ConvPlan extends Convolution {
  /** What runs, and the other ways in the order of their predicted times. */
  ways: Candidate[];
  strips: Strips[];
  pitch: number;
  /** Columns of one run of the cuts: a whole plane with the junk between its rows, or one row. */
  columns: number;
  /** Runs of the cuts: 1 for a plane, `oh` row by row. */
  runs: number;
  /** Columns that take all passes before the next ones do. */
  columnsAtOnce: number;
  map: InputMap;
  /** Identifies the map among a weight's streams. */
  key: string;
  /** Planes to copy the input into first; none when it can be read where it lies. */
  phases: Phase[];
  /** How many channels are copied, and then used, at a time. */
  channels: number;
  /** Bytes of a plane of one phase. */
  plane: number;
  /** Whether each strip of x is copied into a panel first, of whose rows no vector crosses a cache line. */
  panels: boolean;
  /** The kernel of a depthwise convolution. */
  depthwise: Kernel | undefined;
  /** For those that read the image where it lies: which taps are inside, and a row of zeros. */
  edges: Uint32Array | undefined;
}

/**
 * What a pass may touch of x, to stay in L1 beside y and the stream. 3x3, 14², 256→256 at 90%, ms for 8, 12, 16, 20, 24, 32, 40
 * KiB: 1.16, 1.11, 1.08, 1.12, 1.28, 1.40, 1.50; at 28² and 128 channels 20 was best (Cascade Lake, L1 32 KiB, 2026-11-21).
 */
const L1_SHARE = 20 * 1024;

/** Padded planes that a depthwise kernel finds in L2: all at once were up to 1.06 times slower, 16 KiB the same (Zen 4). */
const L2_SHARE = 64 * 1024;

/**
 * Planes of x that a pass of a sparse kernel walks side by side where they come from beyond L2, beside those of y that it writes: the
 * prefetcher follows few. A pass has a block of rows at least, and two rows; where one row walks more than twice as many, it has as many
 * rows as ever. Against 8 rows and more, 1x1 at 80 to 95% zeros from cold caches: 112², 32→64 1.0 to 1.15 times as fast, 56², 64→128
 * 0.98 to 1.07, 128→128 1.03 to 1.17, 96→24 1.05 to 1.31, 144→24 1.05 to 1.26, 40², 128→64 1.03 to 1.12. Of planes of at most a page,
 * 28², 0.9 to 1.1; from L2, 32→32 at 56², 0.95 to 1.0; with 64 planes a row and more 0.9 to 1.06; 3x3, whose planes were just
 * copied, 0.8 to 1.0 (Zen 4, Node 24, 2026-11-21).
 */
const SIDE_BY_SIDE = 16;
const PAGE = 4096;
const L2 = 1024 * 1024;

/** What a plan of a convolution is of. */
export interface Convolution {
  image: Images;
  win: Window;
  groups: number;
  force: string | undefined;
}

function planConv(engine: Engine, w: PackedWeight, of: Convolution): ConvPlan {
  const last = w.lastConvolution;
  if (last && isOf(last, of)) return last;
  const { image, win, groups, force } = of;
  const { c, h, w: width, nhwc } = image;
  const key = `${c} ${h} ${width} ${nhwc} ${groups} ${Object.values(win).join(" ")} ${forcedKey(force)}`;
  w.lastConvolution = w.plans.get(key, () => makePlan(engine, w, of));
  return w.lastConvolution;
}

/** Whether a plan is of a call: a layer meets the same images again and again, and putting a key together takes ten times as long. */
export const isOf = (plan: Convolution, { image, win, groups, force }: Convolution): boolean =>
  plan.groups === groups && plan.force === force && same(plan.image, image) && same(plan.win, win);

/** Whether two objects of one shape have the same fields. */
function same<T extends object>(a: T, b: T): boolean {
  for (const key in a) if (a[key] !== b[key]) return false;
  return true;
}

/** Rows that a plan lists as runs at most: with padding a tiny image has as many as one likes, and memory is asked for later. */
const MOST_ROWS = 1 << 14;

/**
 * The ways to run: over whole planes with the junk between their rows, or row by row. Then there is no junk, and strips write
 * where the result stands; but each row has narrow strips of its own. Not for large dense weights: a call walks all of them, which
 * only a long run of strips pays for.
 */
function waysOf(
  engine: Engine,
  w: PackedWeight,
  work: Work,
  { image, win, groups, force }: Convolution,
  pitch: number,
): (Candidate & { runs: number })[] {
  const { oh, ow } = win;
  const structure = w.structure(false, groups);
  const depthwise =
    work.channels === 1 && groups > 1
      ? kernelsFor("depthwise", structure).filter((kernel) => fits(kernel, image, win))
      : [];
  const forced = forcedKernel(force, [...kernelsFor("spmm", structure), ...depthwise]);
  if (oh * ow === 0 || work.m === 0) return [];
  const { costs } = engine;
  const outputs = work.m * oh * ow;
  // A dense product of one row a group leaves most of its tile empty, which the model does not know.
  const cut = (columns: number) =>
    forced?.op === "depthwise"
      ? []
      : candidates("spmm", columns, structure, work, costs, forced).filter(
          ({ cuts }) => forced || depthwise.length === 0 || cuts[0].kernel.format !== "dense",
        );
  const direct = !image.nhwc && pitch === ow && (oh * ow) % 4 === 0;
  const flat = cut((oh - 1) * pitch + ow).map((way) => ({
    cuts: way.cuts,
    ns: way.ns + (direct ? 0 : outputs * costs.copy),
    runs: 1,
  }));
  const rows = !image.nhwc && pitch !== ow && ow % 4 === 0 && oh <= MOST_ROWS ? cut(ow) : [];
  const byRow = rows
    .filter(({ cuts }) => cuts[0].kernel.format !== "dense" || work.m * work.k * 4 <= L1_SHARE)
    .map(({ cuts, ns }) => ({ cuts, ns: ns * oh, runs: oh }));
  const alone = depthwise
    .filter((kernel) => !forced || kernel === forced)
    .map((kernel) => ({ cuts: [{ kernel, strips: 1 }], ns: depthwiseCost(kernel, image, win, work, costs), runs: 1 }));
  const seen = new Set<string>();
  return [...alone, ...flat, ...byRow]
    .sort((a, b) => a.ns - b.ns)
    .filter(({ cuts: [{ kernel }] }) => {
      const stream = `${kernel.op} ${kernel.stream}`;
      return !seen.has(stream) && seen.add(stream);
    })
    .map((way) => ({ ...way, ns: way.ns + costs.call }));
}

/**
 * Predicted ns of a depthwise convolution: the constants are of images of 28². Of a row, the vectors at the two ends take three
 * times as long; of a column it is five more of its vectors. The kernel for all shapes needs a padded copy, whose
 * rows cost as much as twenty floats more (Zen 4, both builds, 2026-11-21).
 */
function depthwiseCost(kernel: Kernel, { c, h, w }: Images, { oh, ow }: Window, work: Work, costs: BuildCosts): number {
  const pixel = costOf(kernel, work, costs);
  const vectors = Math.ceil(ow / 4);
  if (kernel.block[0] === 1) return pixel * oh * ow + c * h * (w + 20) * costs.copy;
  if (kernel.tile) return (pixel * 28 * 28 * vectors * (oh + 5)) / (7 * 33);
  return (pixel * 28 * oh * (vectors + 4)) / 11;
}

/**
 * Bytes of an image that is walked by columns: with its result it stays in L1, or each column would fetch its lines anew. Within
 * MobileNetV1 28², 256 channels took 161 by rows and 101 µs by columns, 56², 128 channels 268 and 196; 112², 32 channels 251 and 236,
 * but alone, from memory, 237 and 282 to 437 (Zen 4, L1 32 KiB, 2026-11-21).
 */
const WALKED = 16 * 1024;

/** Whether a depthwise kernel can run a window: those for 3 × 3 take at most one zero on each side. */
function fits({ block: [height, width], tile }: Kernel, { h, w }: Images, win: Window): boolean {
  const { kh, kw, sh, sw, dh, dw, top, left, bottom, right } = win;
  if (height === 1) return true;
  const plain = kh === height && kw === width && dh === 1 && dw === 1;
  const walked = tile === 0 ? sh <= 2 : sh === 1 && h * w * 4 <= WALKED;
  return plain && walked && sh === sw && Math.max(top, left, bottom, right) <= 1;
}

/** Where a kernel finds the input's rows. */
interface Planes {
  /** Floats from one row of a plane to the next, at least. */
  pitch: number;
  /** With a pitch of at least that, and with so many channels at a time. */
  lay(pitch: number, channels: number): { phases: Phase[]; plane: number; taps: number[] };
}

/** The input itself, or padded copies of it, one for each phase of the stride. */
function planesOf(image: Images, win: Window): Planes {
  const { kh, kw, dh, dw, sh, sw, top, left, oh, ow } = win;
  const kernel = Array.from({ length: kh * kw }, (_, i) => ({ y: Math.floor(i / kw) * dh, x: (i % kw) * dw }));
  if (sh === 1 && sw === 1 && top + left + win.bottom + win.right === 0) {
    const taps = kernel.map(({ y, x }) => (y * image.w + x) * 4);
    return { pitch: image.w, lay: () => ({ phases: [], plane: image.h * image.w * 4, taps }) };
  }
  // Columns and rows a phase must hold, and how far one row's right zeros can be the next one's left zeros.
  const held = ow + Math.floor(((kw - 1) * dw) / sw);
  const lines = oh + Math.floor(((kh - 1) * dh) / sh);
  let shared = held;
  const phaseOf = ({ y, x }: { y: number; x: number }) => `${y % sh},${x % sw}`;
  const found = new Map<string, { number: number; down: Span; across: Span }>();
  for (const tap of kernel) {
    if (found.has(phaseOf(tap))) continue;
    const across = inside((tap.x % sw) - left, sw, image.w, held);
    const down = inside((tap.y % sh) - top, sh, image.h, lines);
    found.set(phaseOf(tap), { number: found.size, down, across });
    if (across.count) shared = Math.min(shared, across.before, held - across.before - across.count);
  }
  const lay = (pitch: number, channels: number) => {
    const phases = [...found.values()].map(({ down, across }) => ({
      rows: across.count ? down.count : 0,
      cols: across.count,
      y: down.first,
      x: across.first,
      head: down.before * pitch + across.before,
    }));
    let plane = Math.ceil((lines * pitch + shared) / 16) * 64;
    // Planes a multiple of 4 KiB apart would share their cache sets.
    if (plane % 4096 === 0) plane += 64;
    const taps = kernel.map((tap) => {
      const phase = found.get(phaseOf(tap)) as { number: number };
      const at = Math.floor(tap.y / sh) * pitch + Math.floor(tap.x / sw);
      return phase.number * channels * plane + at * 4;
    });
    return { phases, plane, taps };
  };
  // Rows of outputs never overlap: a residual may differ where the inputs are the same zeros.
  return { pitch: Math.max(1, ow, held - shared), lay };
}

function makePlan(engine: Engine, w: PackedWeight, of: Convolution): ConvPlan {
  const { image, win, groups } = of;
  const { kh, kw, oh, ow } = win;
  const [features, perGroup] = w.dims;
  // A strip touches so much of each channel: kh rows of it, and part of a cache line before or after. Of one row a panel's number of
  // them is 1.0 to 1.05 times as fast at 80% zeros, the same at 90% (Zen 4, Node 20 and 24, 2026-11-21).
  const inPlanes = Math.max(1, Math.floor(L1_SHARE / (kh * (PANEL * 4 + 64))));
  const channelsPerBlock = kh * kw === 1 ? PANEL_MAP.channelsPerBlock : inPlanes;
  const work: Work = {
    m: features,
    k: perGroup * kh * kw,
    places: w.places,
    channels: perGroup,
    channelsPerBlock,
  };
  const planes = planesOf(image, win);
  const ways = waysOf(engine, w, work, of, planes.pitch);
  const best = ways[0] ?? { cuts: [], ns: 0, runs: 1 };
  const { runs } = best;
  const depthwise = best.cuts.find(({ kernel }) => kernel.op === "depthwise")?.kernel;
  let { pitch } = planes;
  let { phases, plane, taps } = planes.lay(pitch, image.c);
  // Rows that start on a vector: fewer loads cross a cache line (3x3, 56², 64→64: 1.08 to 1.10 times as fast; 28²: 1.02).
  if (phases.length && runs > 1) pitch = Math.ceil(pitch / 4) * 4;
  const few = Math.max(1, Math.floor(L2_SHARE / (phases.length * plane)));
  const channels = depthwise && phases.length ? Math.min(image.c, few) : image.c;
  ({ phases, plane, taps } = planes.lay(pitch, channels));
  const columns = runs > 1 ? ow : oh && ow ? (oh - 1) * pitch + ow : 0;
  const sparse = best.cuts.length > 0 && best.cuts[0].kernel.format !== "dense";
  // What a sparse kernel reads of x between two passes is less than all, so that it may walk more.
  const columnsAtOnce = ((sparse ? 2 : 1) * X_SHARE) / (image.c * 4);
  const rows = Y_SHARE / (4 * Math.min(columns * runs, columnsAtOnce));
  let rowsPerPass = Math.max(8, Math.floor(rows / 8) * 8);
  const inPlace = sparse && kh * kw === 1 && !phases.length;
  const long = columns * 4 > PAGE;
  // Where rows of x start anywhere, a panel saves the loads that cross a cache line: 7², 1024→1024 and 160→960 at 80 to 95% zeros
  // 1.07 to 1.16 times as fast; 14² and 28², whose rows start on a vector, 0.93 to 1.0; 33² 0.7 to 0.9, 45² 0.9 to 1.06, 57² 0.5 to 0.9,
  // 75² 0.6 to 0.8 (Zen 4, 2026-11-21).
  const panels = inPlace && !long && groups === 1 && (image.h * image.w) % 4 !== 0;
  const beside = w.places / features;
  if (inPlace && long && (image.c + features) * columns * 4 > L2 && beside <= 2 * SIDE_BY_SIDE) {
    const blocks = Math.max(1, Math.floor(SIDE_BY_SIDE / beside));
    rowsPerPass = Math.min(rowsPerPass, Math.max(2, blocks * best.cuts[0].kernel.block[0]));
  }
  // A single channel's kernel rows take the channels' place: the dense loop then has kh turns of kw, not kh · kw of one.
  const rowwise = perGroup === 1 && kh > 1 && win.sh === 1 && !depthwise;
  const map: InputMap = {
    taps: rowwise ? taps.slice(0, kw) : taps,
    channelStride: rowwise ? taps[kw] - taps[0] : plane,
    groups,
    groupStride: perGroup * plane,
    channelsPerBlock,
    rowsPerPass,
  };
  const panelMap = panelMapOf(best.cuts);
  const strips: Strips[] = [];
  for (let r = 0; r < runs && !depthwise; r++) {
    let column = 0;
    for (const { kernel, strips: n } of best.cuts) {
      const most = panels ? stripsPerPanel(panelMap, kernel) : n;
      for (let s = 0; s < n; s += most) {
        const x = panels ? strips.length * image.c * panelMap.channelStride : (r * pitch + column) * 4;
        const many = Math.min(most, n - s);
        strips.push({ kernel, strips: many, x, y: (r * ow + column) * 4 });
        column += many * kernel.tile;
      }
    }
  }
  return {
    ...of,
    ways,
    strips,
    pitch,
    columns,
    runs,
    columnsAtOnce,
    map: panels ? { ...panelMap, rowsPerPass } : map,
    key: panels
      ? `${best.cuts[0].kernel.stream} panel ${panelMap.channelStride}, ${rowsPerPass} rows`
      : `${best.cuts[0]?.kernel.stream} ${rowsPerPass} ${plane} ${map.channelStride}/${groups}/${taps.join()}`,
    phases,
    channels,
    plane,
    panels,
    depthwise,
    edges: depthwise && depthwise.block[0] > 1 ? edgesOf(image, win) : undefined,
  };
}

/** As assembly/dense/depthwise_3x3_rows.ts reads them. */
function edgesOf({ w }: Images, { ow, sw, left }: Window): Uint32Array {
  const masks = Math.ceil(ow / 4) * 12;
  return Uint32Array.from({ length: masks + w + 16 }, (_, i) => {
    const column = (Math.floor(i / 12) * 4 + (i % 4)) * sw - left + (Math.floor(i / 4) % 3);
    return i < masks && column >= 0 && column < w ? 0xffffffff : 0;
  });
}

/** Of a row of positions, those inside the input. */
interface Span {
  first: number;
  before: number;
  count: number;
}

/** Of `count` positions start + i · step: the first inside 0..size, how many come before it, and how many are inside. */
function inside(start: number, step: number, size: number, count: number): Span {
  const before = Math.min(count, Math.max(0, Math.ceil(-start / step)));
  const first = start + before * step;
  const n = Math.max(0, Math.min(count - before, Math.ceil((size - first) / step)));
  return { first: n ? first : 0, before, count: n };
}

/** W · x for feature-major x[k, n]: a 1 × 1 convolution of one image with one row. */
export function planPointwise(engine: Engine, w: PackedWeight, n: number, force?: string): ConvPlan {
  const image: Images = { n: 1, c: w.dims[1], h: 1, w: n, nhwc: false };
  const win: Window = { kh: 1, kw: 1, sh: 1, sw: 1, dh: 1, dw: 1, top: 0, left: 0, bottom: 0, right: 0, oh: 1, ow: n };
  return planConv(engine, w, { image, win, groups: 1, force });
}

/** A convolution whose shapes fit, and the shape of its result. */
export function checkConv2d(x: Input, w: PackedWeight, o: Conv2dOptions): { of: Convolution; shape: number[] } {
  if (w.dims.length !== 4) fail("ERR_SHAPE", "w", "4 dimensions [out, in / groups, kh, kw]", w.dims);
  const image = images(x, o.layout);
  const groups = o.groups === undefined ? 1 : integer("groups", o.groups, 1);
  const [features, perGroup, kh, kw] = w.dims;
  if (kh < 1 || kw < 1) fail("ERR_SHAPE", "w", "a kernel of at least 1 × 1", w.dims);
  if (perGroup * groups !== image.c) {
    fail("ERR_SHAPE", "x", `${perGroup * groups} channels (${perGroup} × ${groups} groups)`, image.c);
  }
  if (features % groups) fail("ERR_VALUE", "groups", `a divisor of the ${features} outputs`, groups);
  const win = slide(image, [kh, kw], o, [1, 1]);
  const shape = imageShape(image, image.n, features, win.oh, win.ow);
  // Before anything is planned for it.
  sizeOf("result", shape);
  return { of: { image, win, groups, force: o.forceKernel }, shape };
}

/** For `explain`. */
export function planConv2d(engine: Engine, x: Input, w: PackedWeight, o: Conv2dOptions): ProductPlan {
  const { of } = checkConv2d(x, w, o);
  const { ways } = planConv(engine, w, of);
  const pixels = of.image.n * of.win.oh * of.win.ow;
  const all = w.dims.reduce((a, b) => a * b, 1);
  return { ways, macs: macsOf(w, ways) * pixels, denseMacs: all * pixels };
}

/** Cross-correlation of images with W, as every framework's convolution. */
export function conv2d(engine: Engine, xIn: unknown, wIn: unknown, o: Conv2dOptions | undefined): Tensor {
  const w = weight(engine, "w", wIn);
  const x = anyInput(engine, "x", xIn);
  const opts = options("options", o, CONV2D);
  const { of, shape } = checkConv2d(x, w, opts);
  const f = fused(engine, opts, shape, w.dims[0], x);
  return convolve(engine, w, x, planConv(engine, w, of), of.image.n, shape, f);
}

/** Runs a plan over a batch of n images. */
export function convolve(
  engine: Engine,
  w: PackedWeight,
  x: Input,
  plan: ConvPlan,
  n: number,
  shape: number[],
  f: Fused,
): Tensor {
  const { f32_transpose: transpose, f32_copy: copy, f32_pad: pad } = engine.kernels;
  const { image, win, pitch, columns, runs, map, phases, channels, plane, panels, depthwise, edges } = plan;
  const { nhwc } = image;
  const { oh, ow } = win;
  const [features] = w.dims;
  const pixels = image.h * image.w;
  const outputs = oh * ow;
  // A strip may write where it stands if there is no junk to drop and no vector reaches into the next row.
  const direct = !nhwc && (depthwise || runs > 1 || (pitch === ow && outputs % 4 === 0));
  const flat = depthwise ? outputs * 4 : Math.ceil(columns / 4) * 16;
  const padded = edges ? 0 : phases.length * channels * plane;
  const { channelStride } = map;
  const group = Math.max(1, Math.min(plan.strips.length, Math.floor(GROUP / (image.c * channelStride))));
  const scratch = [
    placeBytes(x),
    placeBytes(f.bias),
    direct ? 0 : placeBytes(f.residual),
    nhwc ? image.c * pixels * 4 : 0,
    padded ? padded + pitch * 4 + 12 : 0,
    direct ? 0 : features * flat,
    panels ? group * image.c * channelStride : 0,
    edges ? edges.length * 4 : 0,
    runBytes(plan.strips.length),
  ];
  if (n === 0 || outputs === 0 || features === 0) return engine.produce(shape, f.out, [], () => {});
  const streams = () =>
    depthwise ? w.depthwiseStreams(plan.key, map.taps) : w.streams(plan.strips[0].kernel, plan.key, map);
  return engine.produceWith(w, streams, shape, f.out, scratch, (y, ptrs, lowered) => {
    const from = place(engine, x, ptrs[0]);
    const bias = place(engine, f.bias, ptrs[1]);
    const [, , , planar, planes, flatAt, panelsAt, edgesAt, list] = ptrs;
    if (edges) engine.memory.u32.set(edges, edgesAt / 4);
    if (f.residual && direct) copyInto(engine, f.residual, y.ptr);
    const residual = direct ? 0 : place(engine, f.residual, ptrs[2]);
    const ending = { bias, accumulate: f.residual !== undefined, fused: f };
    /** Copies n channels of an image from the given one on into padded planes, and tells where to read them. */
    const padFrom = (source: number, channel: number, n: number): number => {
      phases.forEach((phase, p) => {
        const at = source + (channel * pixels + phase.y * image.w + phase.x) * 4;
        const to = planes + p * channels * plane;
        const [row, col] = [win.sh * image.w * 4, win.sw * 4];
        pad(n, phase.rows, phase.cols, at, pixels * 4, row, col, to, plane, phase.head * 4, pitch * 4);
      });
      return phases.length ? planes : source + channel * pixels * 4;
    };

    /** Between the result's own order and the flat planes; `inward` for a residual. */
    const layOut = (own: number, flatTo: number, inward: boolean): void => {
      const row = depthwise ? ow : pitch;
      if (!nhwc) {
        if (inward) copy(features, oh, ow, own, outputs * 4, ow * 4, flatTo, flat, row * 4);
        else copy(features, oh, ow, flatTo, flat, row * 4, own, outputs * 4, ow * 4);
        return;
      }
      for (let r = 0; r < oh; r++) {
        const pixel = own + r * ow * features * 4;
        const line = flatTo + r * row * 4;
        if (inward) transpose(ow, features, pixel, features * 4, line, flat);
        else transpose(features, ow, line, flat, pixel, features * 4);
      }
    };

    for (let i = 0; i < n; i++) {
      let source = from + i * image.c * pixels * 4;
      if (nhwc) {
        transpose(pixels, image.c, source, image.c * 4, planar, pixels * 4);
        source = planar;
      }
      const result = y.ptr + i * features * outputs * 4;
      const to = direct ? result : flatAt;
      const stride = direct ? outputs * 4 : flat;
      const before = residual + i * features * outputs * 4;
      if (residual) layOut(before, to, true);

      if (depthwise) {
        const multiplier = features / image.c;
        const flags = flagsOf(lowered.passes[0], ending);
        const weights = lowered.ptr + map.taps.length * 4;
        const run = engine.kernels[depthwise.name];
        const rest = (first: number) => [to + first * outputs * 4, oh, ow, bias && bias + first * 4, flags, f.lo, f.hi];
        if (edges) {
          const { sh, top, left } = win;
          run(features, multiplier, sh, weights, source, image.h, image.w, top, left, edgesAt, ...rest(0));
        } else {
          for (let c = 0; c < image.c; c += channels) {
            const n = Math.min(channels, image.c - c) * multiplier;
            const own = weights + c * multiplier * map.taps.length * 4;
            const from = padFrom(source, c, n / multiplier);
            run(n, multiplier, lowered.ptr, map.taps.length, own, from, plane, pitch * 4, ...rest(c * multiplier));
          }
        }
      } else if (panels) {
        for (let p = 0; p < plan.strips.length; p += group) {
          const now = plan.strips.slice(p, p + group);
          now.forEach(({ kernel, strips, y }, j) => {
            // Whole vectors, of the next plane then: what lies in lanes without a column is multiplied too, and denormal numbers, as which
            // old offsets read, take many times as long (7², MobileNetV2's layers at 50% zeros 3 to 6 times, Cascade Lake).
            const n = Math.min(strips * kernel.tile, Math.ceil((columns - y / 4) / 4) * 4);
            copy(image.c, 1, n, source + y, pixels * 4, 0, panelsAt + j * image.c * channelStride, channelStride, 0);
          });
          runStrips(engine, lowered, now, list, panelsAt - now[0].x, to, stride, plan.columnsAtOnce, ending);
        }
      } else {
        runStrips(
          engine,
          lowered,
          plan.strips,
          list,
          padFrom(source, 0, image.c),
          to,
          stride,
          plan.columnsAtOnce,
          ending,
        );
      }
      if (!direct) layOut(result, to, false);
    }
  });
}
