import { fail, flag, options } from "../assert.js";
import type { Engine } from "../engine.js";
import type { Tensor } from "../tensor.js";
import { anyInput, checkOut, type Input, input, place, placeBytes } from "./operands.js";
import { type ImageLayout, imageShape, images, type Padding, type Pair, pair, slide } from "./window.js";

/** Options of `engine.maxPool2d`. */
export interface PoolOptions {
  /** Height and width of the window. */
  kernel: Pair;
  /** Default: the kernel, so that windows tile the image. */
  stride?: Pair | undefined;
  /** Default none; less than the kernel on each side. */
  padding?: Padding | undefined;
  /** Order of x's dimensions; default that of a SparseTensor, else `"nchw"`. */
  layout?: ImageLayout | undefined;
  /** A tensor of the result's shape to write to; not with a SparseTensor. */
  out?: Tensor | undefined;
}

/** Options of `engine.avgPool2d`. */
export interface AvgPoolOptions extends PoolOptions {
  /** Whether zeros of the padding count as pixels: true (default) as in PyTorch, false as in TensorFlow. */
  countIncludePad?: boolean | undefined;
}

/** Options of `engine.globalAvgPool2d`. */
export interface GlobalPoolOptions {
  /** Order of x's dimensions; default `"nchw"`. */
  layout?: ImageLayout | undefined;
  /** A tensor of the result's shape to write to. */
  out?: Tensor | undefined;
}

export const POOL = ["kernel", "stride", "padding", "layout", "out"] as const;

/** `counting` is what the kernel takes of its own. */
function pool2d(
  engine: Engine,
  kernel: "f32_max_pool" | "f32_avg_pool",
  x: Input,
  o: PoolOptions,
  ...counting: number[]
): Tensor {
  const image = images(x, o.layout);
  if (image.h * image.w === 0) fail("ERR_SHAPE", "x", "at least one pixel", x.shape);
  const [kh, kw] = pair("kernel", o.kernel, 1);
  const { sh, sw, top, left, bottom, right, oh, ow } = slide(image, [kh, kw], o, [kh, kw]);
  if (Math.max(top, bottom) >= kh || Math.max(left, right) >= kw) {
    fail("ERR_VALUE", "padding", "less than the kernel on each side", `[${top}, ${left}, ${bottom}, ${right}]`);
  }
  const shape = imageShape(image, image.n, image.c, oh, ow);
  const out = checkOut(engine, o.out, shape, [x]);
  const inner = image.nhwc ? image.c : 1;
  const planes = image.nhwc ? image.n : image.n * image.c;
  const line = ((image.w + left + right) * inner + 16) * 4;
  return engine.produce(shape, out, [placeBytes(x), line], (y, [xs, ls]) => {
    if (!y.size) return;
    const sizes = [planes, inner, image.h, image.w, kh, kw, sh, sw, top, left, right, oh, ow, ...counting];
    engine.kernels[kernel](...sizes, ls, place(engine, x, xs), y.ptr);
  });
}

/** Largest pixel under each window; a NaN under it wins. */
export function maxPool2d(engine: Engine, x: unknown, o: PoolOptions): Tensor {
  return pool2d(engine, "f32_max_pool", anyInput(engine, "x", x), options("options", o, POOL));
}

/** Mean of the pixels under each window. */
export function avgPool2d(engine: Engine, x: unknown, o: AvgPoolOptions): Tensor {
  const checked = options("options", o, [...POOL, "countIncludePad"]);
  const { countIncludePad = true } = checked;
  const counting = Number(flag("countIncludePad", countIncludePad));
  return pool2d(engine, "f32_avg_pool", input(engine, "x", x), checked, counting);
}

/** Mean of each channel: [N, C], ready for `linear`. */
export function globalAvgPool2d(engine: Engine, xIn: unknown, o?: GlobalPoolOptions): Tensor {
  const x = input(engine, "x", xIn);
  const opts = options("options", o, ["layout", "out"]);
  const { n, c, h, w, nhwc } = images(x, opts.layout);
  if (h * w === 0) fail("ERR_SHAPE", "x", "at least one pixel", x.shape);
  const out = checkOut(engine, opts.out, [n, c], [x]);
  return engine.produce([n, c], out, [placeBytes(x)], (y, [xs]) => {
    const from = place(engine, x, xs);
    if (!nhwc) engine.kernels.f32_global_avg_planes(n * c, h * w, from, y.ptr);
    else
      for (let i = 0; i < n; i++)
        engine.kernels.f32_global_avg_pixels(h * w, c, from + i * h * w * c * 4, y.ptr + i * c * 4);
  });
}
