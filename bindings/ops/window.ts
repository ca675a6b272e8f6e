import { fail, integer, oneOf } from "../assert.js";
import type { Input } from "./operands.js";

/** A number for both directions, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];

/**
 * Zeros around the input: a number, [vertical, horizontal], [top, left, bottom, right], `"valid"` (none), or `"same"`
 * (TensorFlow's: ⌈size / stride⌉ outputs, the odd zero at the bottom and right).
 */
export type Padding = number | readonly [number, number] | readonly [number, number, number, number] | "same" | "valid";

/** Activations as [N, C, H, W] (PyTorch, ONNX; the default) or [N, H, W, C] (TensorFlow). */
export type ImageLayout = "nchw" | "nhwc";

/** A batch of images, apart from the order of its dimensions. */
export interface Images {
  n: number;
  c: number;
  h: number;
  w: number;
  nhwc: boolean;
}

/** A window that slides over an image. */
export interface Window {
  kh: number;
  kw: number;
  sh: number;
  sw: number;
  dh: number;
  dw: number;
  top: number;
  left: number;
  bottom: number;
  right: number;
  oh: number;
  ow: number;
}

/** x as images; lists know the order that they are in. */
export function images({ shape, sparse }: Input, layout: unknown): Images {
  const order = oneOf("layout", layout, ["nchw", "nhwc"], sparse?.layout ?? "nchw");
  const nhwc = order === "nhwc";
  if (sparse && sparse.layout !== order)
    fail("ERR_SHAPE", "x", `an image as ${order}`, sparse.layout ?? "rows of features");
  if (shape.length !== 4) fail("ERR_SHAPE", "x", `4 dimensions (${order})`, shape);
  const [n, a, b, d] = shape;
  return nhwc ? { n, h: a, w: b, c: d, nhwc } : { n, c: a, h: b, w: d, nhwc };
}

/** The shape of images in their own order. */
export const imageShape = ({ nhwc }: Images, n: number, c: number, h: number, w: number): number[] =>
  nhwc ? [n, h, w, c] : [n, c, h, w];

/** Both directions of an option that is at least `min`. */
export function pair(name: string, value: unknown, min: number, otherwise?: number): [number, number] {
  if (value === undefined && otherwise !== undefined) return [otherwise, otherwise];
  if (!Array.isArray(value)) {
    const one = integer(name, value, min);
    return [one, one];
  }
  if (value.length !== 2) fail("ERR_VALUE", name, "a number or [vertical, horizontal]", value);
  return [integer(`${name}[0]`, value[0], min), integer(`${name}[1]`, value[1], min)];
}

/** Resolves padding and checks that the window fits. */
export function slide(
  image: Images,
  kernel: [number, number],
  o: { stride?: unknown; dilation?: unknown; padding?: unknown },
  strideOtherwise: [number, number],
): Window {
  const [kh, kw] = kernel;
  const [sh, sw] = o.stride === undefined ? strideOtherwise : pair("stride", o.stride, 1);
  const [dh, dw] = pair("dilation", o.dilation, 1, 1);
  const spanH = (kh - 1) * dh + 1;
  const spanW = (kw - 1) * dw + 1;
  const [top, left, bottom, right] = zeros(o.padding, [image.h, image.w], [spanH, spanW], [sh, sw]);
  const height = image.h + top + bottom;
  const width = image.w + left + right;
  const most = 2 ** 31 - 1; // kernels count rows and columns in i32
  if (height > most || width > most)
    fail("ERR_SHAPE", "x", `at most ${most} pixels a side, padding included`, `${height} × ${width}`);
  if (spanH > height || spanW > width) {
    fail(
      "ERR_SHAPE",
      "x",
      `at least ${spanH} × ${spanW} pixels with padding, the kernel's span`,
      `${height} × ${width}`,
    );
  }
  const oh = Math.floor((height - spanH) / sh) + 1;
  const ow = Math.floor((width - spanW) / sw) + 1;
  return { kh, kw, sh, sw, dh, dw, top, left, bottom, right, oh, ow };
}

function zeros(padding: unknown, size: number[], span: number[], stride: number[]): [number, number, number, number] {
  if (padding === undefined || padding === "valid") return [0, 0, 0, 0];
  if (padding === "same") {
    const [v, h] = size.map((n, i) => Math.max((Math.ceil(n / stride[i]) - 1) * stride[i] + span[i] - n, 0));
    return [v >> 1, h >> 1, v - (v >> 1), h - (h >> 1)];
  }
  if (typeof padding === "string") oneOf("padding", padding, ["same", "valid"] as const);
  if (Array.isArray(padding) && padding.length === 4) {
    const [t, l, b, r] = padding.map((p, i) => integer(`padding[${i}]`, p, 0));
    return [t, l, b, r];
  }
  const [v, h] = pair("padding", padding, 0);
  return [v, h, v, h];
}
