import { fail, integer, options } from "../assert.js";
import type { Engine } from "../engine.js";
import type { InputMap } from "../formats/lowered.js";
import { costOf, cutColumns, KERNELS, type Kernel, PANEL } from "../kernels.js";
import type { Tensor } from "../tensor.js";
import type { PackedWeight } from "../weight.js";
import {
  ACCUMULATE,
  BIAS,
  CLAMP,
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
import { copyInto, runStrips, type Strips } from "./product.js";
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

export interface Conv2dOptions extends FusedOptions {
  /** Default 1. */
  stride?: Pair;
  /** Default none. */
  padding?: Padding;
  /** Default 1. */
  dilation?: Pair;
  /** Default 1; the number of input channels for a depthwise convolution. */
  groups?: number;
  /** Of x, the result, `residual` and `out`; default "nchw". */
  layout?: ImageLayout;
}

const KEYS = [...FUSED, "stride", "padding", "dilation", "groups", "layout"] as const;

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
export interface ConvPlan {
  cuts: { kernel: Kernel; strips: number }[];
  strips: Strips[];
  image: Images;
  stride: { sh: number; sw: number };
  features: number;
  oh: number;
  ow: number;
  pitch: number;
  /** Columns of one run of the cuts: a whole plane with the junk between its rows, or one row. */
  columns: number;
  /** Runs of the cuts: 1 for a plane, `oh` row by row. */
  runs: number;
  map: InputMap;
  /** Identifies the map among a weight's streams. */
  key: string;
  /** Planes to copy the input into first; none when it can be read where it lies. */
  phases: Phase[];
  /** Bytes of a plane of one phase. */
  plane: number;
  depthwise: boolean;
}

/**
 * What a pass may touch of x, to stay in L1 beside y and the stream. 3x3, 14², 256→256 at 90%, ms for 8, 12, 16, 20, 24, 32, 40
 * KiB: 1.16, 1.11, 1.08, 1.12, 1.28, 1.40, 1.50; at 28² and 128 channels 20 was best (Cascade Lake, L1 32 KiB, 2026-11-21).
 */
const L1_SHARE = 20 * 1024;

function planConv(engine: Engine, w: PackedWeight, image: Images, win: Window, groups: number): ConvPlan {
  const { c, h, w: width, nhwc } = image;
  const key = `${c} ${h} ${width} ${nhwc} ${groups} ${Object.values(win).join(" ")}`;
  return w.plans.get(key, () => makePlan(engine, w, image, win, groups)) as ConvPlan;
}

function makePlan(engine: Engine, w: PackedWeight, image: Images, win: Window, groups: number): ConvPlan {
  const { kh, kw, sh, sw, dh, dw, top, left, oh, ow } = win;
  const [features, perGroup] = w.shape;
  const depthwise = w.format === "dense" && perGroup === 1 && groups > 1;
  const copied = sh > 1 || sw > 1 || top + left + win.bottom + win.right > 0;
  const work = {
    m: features,
    k: perGroup * kh * kw,
    nnz: w.format === "dense" ? features * perGroup * kh * kw : w.nnz,
  };
  const cut = (columns: number) => (columns && features ? cutColumns(columns, work, engine.simd, w.format) : []);
  const cost = (cuts: ConvPlan["cuts"]) => costOf(cuts, work, engine.simd);
  const flatColumns = (pitch: number) => (oh && ow ? (oh - 1) * pitch + ow : 0);
  // Row by row there is no junk, and strips write where the result stands; but each row has narrow strips of its own.
  // Not for dense weights: a call walks all of them, which only a long run of strips pays for.
  const byRow = (pitch: number) =>
    !image.nhwc &&
    w.format !== "dense" &&
    pitch !== ow &&
    ow % 4 === 0 &&
    oh * cost(cut(ow)) < cost(cut(flatColumns(pitch))) + features * oh * ow * CROP;
  const taps: number[] = [];
  let phases: Phase[] = [];
  let pitch = image.w;
  let plane = image.h * image.w * 4;
  if (copied) {
    // Columns and rows a phase must hold, and how far one row's right zeros can be the next one's left zeros.
    const held = ow + Math.floor(((kw - 1) * dw) / sw);
    const lines = oh + Math.floor(((kh - 1) * dh) / sh);
    let shared = held;
    const numbers = new Map<string, number>();
    const found: { down: Span; across: Span }[] = [];
    for (let ky = 0; ky < kh; ky++) {
      for (let kx = 0; kx < kw; kx++) {
        const py = (ky * dh) % sh;
        const px = (kx * dw) % sw;
        if (numbers.has(`${py},${px}`)) continue;
        numbers.set(`${py},${px}`, found.length);
        const across = inside(px - left, sw, image.w, held);
        found.push({ down: inside(py - top, sh, image.h, lines), across });
        if (across.count) shared = Math.min(shared, across.before, held - across.before - across.count);
      }
    }
    // Rows of outputs never overlap: a residual may differ where the inputs are the same zeros.
    pitch = Math.max(1, ow, held - shared);
    // Rows that start on a vector: fewer loads cross a cache line (3x3, 56², 64→64: 1.08 to 1.10 times as fast; 28²: 1.02).
    if (byRow(pitch)) pitch = Math.ceil(pitch / 4) * 4;
    phases = found.map(({ down, across }) => ({
      rows: across.count ? down.count : 0,
      cols: across.count,
      y: down.first,
      x: across.first,
      head: down.before * pitch + across.before,
    }));
    plane = Math.ceil((lines * pitch + shared) / 16) * 64;
    // Planes a multiple of 4 KiB apart would share their cache sets.
    if (plane % 4096 === 0) plane += 64;
    for (let ky = 0; ky < kh; ky++) {
      for (let kx = 0; kx < kw; kx++) {
        const phase = numbers.get(`${(ky * dh) % sh},${(kx * dw) % sw}`) as number;
        const at = Math.floor((ky * dh) / sh) * pitch + Math.floor((kx * dw) / sw);
        taps.push(phase * image.c * plane + at * 4);
      }
    }
  } else {
    for (let ky = 0; ky < kh; ky++) for (let kx = 0; kx < kw; kx++) taps.push((ky * dh * image.w + kx * dw) * 4);
  }
  // A strip touches so much of each channel: kh rows of it, and part of a cache line before or after.
  const touched = kh * (PANEL * 4 + 64);
  const map: InputMap = {
    taps,
    channelStride: plane,
    groups,
    groupStride: perGroup * plane,
    channelsPerBlock: Math.max(1, Math.floor(L1_SHARE / touched)),
  };
  const runs = byRow(pitch) ? oh : 1;
  const columns = runs > 1 ? ow : flatColumns(pitch);
  const cuts = depthwise ? [{ kernel: KERNELS.find((k) => k.op === "depthwise") as Kernel, strips: 1 }] : cut(columns);
  const strips: Strips[] = [];
  for (let r = 0; r < runs; r++) {
    let column = 0;
    for (const { kernel, strips: n } of depthwise ? [] : cuts) {
      strips.push({ kernel, strips: n, x: (r * pitch + column) * 4, y: (r * ow + column) * 4 });
      column += n * kernel.tile;
    }
  }
  return {
    cuts,
    strips,
    image,
    stride: { sh, sw },
    features,
    oh,
    ow,
    pitch,
    columns,
    runs,
    map,
    key: `${map.channelStride}/${groups}/${taps.join()}`,
    phases,
    plane,
    depthwise,
  };
}

/** ns to copy one output out of the flat planes (Cascade Lake, 2026-11). */
const CROP = 0.3;

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
export function planPointwise(engine: Engine, w: PackedWeight, n: number): ConvPlan {
  const image: Images = { n: 1, c: w.shape[1], h: 1, w: n, nhwc: false };
  const win: Window = { kh: 1, kw: 1, sh: 1, sw: 1, dh: 1, dw: 1, top: 0, left: 0, bottom: 0, right: 0, oh: 1, ow: n };
  return planConv(engine, w, image, win, 1);
}

function checked(x: Input, w: PackedWeight, o: Conv2dOptions) {
  if (w.shape.length !== 4) fail("ERR_SHAPE", "w", "4 dimensions [out, in / groups, kh, kw]", w.shape);
  const image = images("x", x.shape, o.layout);
  const groups = o.groups === undefined ? 1 : integer("groups", o.groups, 1);
  const [features, perGroup, kh, kw] = w.shape;
  if (kh < 1 || kw < 1) fail("ERR_SHAPE", "w", "a kernel of at least 1 × 1", w.shape);
  if (perGroup * groups !== image.c) {
    fail("ERR_SHAPE", "x", `${perGroup * groups} channels (${perGroup} × ${groups} groups)`, image.c);
  }
  if (features % groups) fail("ERR_VALUE", "groups", `a divisor of the ${features} outputs`, groups);
  const win = slide(image, [kh, kw], o, [1, 1]);
  return { image, groups, win, shape: imageShape(image, image.n, features, win.oh, win.ow) };
}

/** For `explain`. */
export function planConv2d(engine: Engine, x: Input, w: PackedWeight, o: Conv2dOptions | undefined) {
  const { image, groups, win } = checked(x, w, options("options", o, KEYS));
  const plan = planConv(engine, w, image, win, groups);
  const pixels = image.n * win.oh * win.ow;
  const all = w.shape.reduce((a, b) => a * b, 1);
  return { cuts: plan.cuts, macs: (w.format === "dense" ? all : w.nnz) * pixels, denseMacs: all * pixels };
}

/** Cross-correlation of images with W, as every framework's convolution. */
export function conv2d(engine: Engine, xIn: unknown, wIn: unknown, o: Conv2dOptions | undefined): Tensor {
  const w = weight(engine, "w", wIn);
  const x = input(engine, "x", xIn);
  const opts = options("options", o, KEYS);
  const { image, groups, win, shape } = checked(x, w, opts);
  const f = fused(engine, opts, shape, w.shape[0], x);
  return convolve(engine, w, x, planConv(engine, w, image, win, groups), image.n, shape, f, image.nhwc);
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
  nhwc: boolean,
): Tensor {
  const { f32_transpose: transpose, f32_copy: copy, f32_pad: pad } = engine.kernels;
  const {
    image,
    stride: { sh, sw },
    features,
    oh,
    ow,
    pitch,
    columns,
    runs,
    map,
    phases,
    plane,
    depthwise,
  } = plan;
  const pixels = image.h * image.w;
  const outputs = oh * ow;
  // A strip may write where it stands if there is no junk to drop and no vector reaches into the next row.
  const direct = !nhwc && (depthwise || runs > 1 || (pitch === ow && outputs % 4 === 0));
  const flat = depthwise ? outputs * 4 : Math.ceil(columns / 4) * 16;
  const padded = phases.length * image.c * plane;
  const scratch = [
    placeBytes(x),
    placeBytes(f.bias),
    direct ? 0 : placeBytes(f.residual),
    nhwc ? image.c * pixels * 4 : 0,
    padded ? padded + pitch * 4 + 12 : 0,
    direct ? 0 : features * flat,
  ];
  if (n === 0 || outputs === 0 || features === 0) return engine.produce(shape, f.out, [], () => {});
  const streams = () => (depthwise ? w.depthwiseStreams(plan.key, map.taps) : w.streams(plan.key, map));
  return engine.produceWith(w, streams, shape, f.out, scratch, (y, ptrs, lowered) => {
    const from = place(engine, x, ptrs[0]);
    const bias = f.bias ? place(engine, f.bias, ptrs[1]) : 0;
    const [, , , turned, planes, flatAt] = ptrs;
    if (f.residual && direct) copyInto(engine, f.residual, y.ptr);
    const residual = f.residual && !direct ? place(engine, f.residual, ptrs[2]) : 0;
    const ending = { bias, accumulate: f.residual !== undefined, fused: f };
    for (let i = 0; i < n; i++) {
      let source = from + i * image.c * pixels * 4;
      if (nhwc) {
        transpose(pixels, image.c, source, image.c * 4, turned, pixels * 4);
        source = turned;
      }
      phases.forEach((phase, p) => {
        const at = source + (phase.y * image.w + phase.x) * 4;
        const to = planes + p * image.c * plane;
        pad(
          image.c,
          phase.rows,
          phase.cols,
          at,
          pixels * 4,
          sh * image.w * 4,
          sw * 4,
          to,
          plane,
          phase.head * 4,
          pitch * 4,
        );
      });
      if (phases.length) source = planes;
      const result = y.ptr + i * features * outputs * 4;
      const to = direct ? result : flatAt;
      const stride = direct ? outputs * 4 : flat;
      const before = residual + i * features * outputs * 4;
      if (residual) layOut(before, to, true);

      if (depthwise) {
        const flags = (ending.accumulate ? ACCUMULATE : 0) | (bias ? BIAS : 0) | (f.clamp ? CLAMP : 0);
        const taps = lowered.ptr;
        engine.kernels.f32_dense_depthwise(
          features,
          features / image.c,
          taps,
          map.taps.length,
          taps + map.taps.length * 4,
          source,
          plane,
          pitch * 4,
          to,
          oh,
          ow,
          bias,
          flags,
          f.lo,
          f.hi,
        );
      } else {
        runStrips(engine, lowered, plan.strips, source, to, stride, features, image.c * 4, ending);
      }
      if (!direct) layOut(result, to, false);

      /** Between the result's own order and the flat planes; `inward` for a residual. */
      function layOut(own: number, flatTo: number, inward: boolean): void {
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
      }
    }
  });
}
