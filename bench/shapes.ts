// The shapes of bench/shapes: layers of real networks, with their source.
import { readdirSync, readFileSync } from "node:fs";

/** W of a product, `[out, in]`. */
export interface LinearShape {
  op: "linear";
  name: string;
  in: number;
  out: number;
}

/** A convolution of one square image. */
export interface ConvShape {
  op: "conv2d";
  name: string;
  size: number;
  in: number;
  out: number;
  kernel: number;
  stride: number;
  padding: number;
}

/** One file. */
export interface Model {
  model: string;
  source: string;
  shapes: (LinearShape | ConvShape)[];
}

const folder = new URL("shapes/", import.meta.url);

export const MODELS: readonly Model[] = readdirSync(folder)
  .filter((file) => file.endsWith(".json"))
  .sort()
  .map((file) => JSON.parse(readFileSync(new URL(file, folder), "utf8")));

const all = MODELS.flatMap(({ model, shapes }) => shapes.map((shape) => ({ ...shape, model })));

export const LINEARS = all
  .filter((shape) => shape.op === "linear")
  .map((shape) => ({ ...shape, title: `${shape.model} ${shape.name} ${shape.out} × ${shape.in}` }));

export const CONVS = all
  .filter((shape) => shape.op === "conv2d")
  .map((shape) => {
    const { model, name, kernel, size, in: c, out, stride } = shape;
    const strided = stride > 1 ? ` stride ${stride}` : "";
    return { ...shape, title: `${model} ${name}, ${kernel}x${kernel}${strided}, ${size}², ${c}→${out}` };
  });

/** Height and width of what a convolution gives. */
export const outputOf = ({ size, kernel, stride, padding }: ConvShape): number =>
  Math.floor((size + 2 * padding - kernel) / stride) + 1;
