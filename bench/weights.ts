// Weights as pruning leaves them, and the lines that compare their formats.
import { type Format, formatName } from "../bindings/formats/format.js";
import { type Engine, type PackedWeight, prune } from "../bindings/index.js";
import { random, values } from "../test/oracle.js";
import type { Line, Own, Work } from "./groups.js";

/** Shares of zeros that suites go through. */
export const ZEROS = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98];

/** A line whose weights are packed in a format; `"auto"` has unstructured zeros and is left to the engine. */
export interface WeightLine extends Line {
  as: Format | "auto";
  zeros: number;
}

export const BLOCK_4 = { kind: "block", rows: 4, cols: 1 } as const;
export const BLOCK_2 = { kind: "block", rows: 2, cols: 1 } as const;

/** The dense line of an operation, and formats at all shares of zeros compared with it. */
export function linesOf(formats: readonly (Format | "auto")[], op: string): WeightLine[] {
  const dense = lineOf("dense", 0, op);
  return [dense, ...formats.flatMap((as) => ZEROS.map((zeros) => lineOf(as, zeros, op)))];
}

/** One of them. */
export function lineOf(as: Format | "auto", zeros: number, op: string, title = op): WeightLine {
  const format = as === "auto" ? as : formatName(as);
  const name = `${title}, ${format}${as === "dense" ? "" : ` ${percent(zeros)}`}`;
  return { name, op, format, as, zeros, dense: `${title}, dense` };
}

export const percent = (share: number): string => `${Number((100 * share).toFixed(1))}%`;

/** Blocks of r × c, of which a share is zero. */
export function blocks(
  rows: number,
  cols: number,
  [r, c]: readonly [number, number],
  zeros: number,
  rnd: () => number,
): Float32Array {
  const w = new Float32Array(rows * cols);
  for (let i = 0; i < rows; i += r) {
    for (let j = 0; j < cols; j += c) {
      if (rnd() < zeros) continue;
      for (let p = i; p < Math.min(rows, i + r); p++) {
        for (let q = j; q < Math.min(cols, j + c); q++) w[p * cols + q] = rnd() * 2 - 1;
      }
    }
  }
  return w;
}

/** A matrix with the zeros that a format is for; the same one for "csr" and "auto". */
export function drawn(as: Format | "auto", zeros: number, rows: number, cols: number): Float32Array {
  const rnd = random(rows * 31 + cols);
  if (as === "dense") return values(rows * cols, 0, rnd);
  if (as === "auto" || as === "csr") return values(rows * cols, zeros, rnd);
  if (as.kind === "block") return blocks(rows, cols, [as.rows, as.cols], zeros, rnd);
  const pattern =
    as.kind === "nm" ? `${as.n}:${as.m}` : `complementary:${as.overlay}${as.blockRows ? `x${as.blockRows}` : ""}`;
  return prune(values(rows * cols, 0, rnd), [rows, cols], pattern);
}

/** Packs the weights of lines, each kind once a group. */
export function packerOf(engine: Engine, shape: readonly number[], own: Own): (line: WeightLine) => PackedWeight {
  const known = new Map<string, PackedWeight>();
  const [rows] = shape;
  const cols = shape.slice(1).reduce((a, b) => a * b);
  return ({ as, zeros }) => {
    const key = `${JSON.stringify(as)} ${zeros}`;
    const w = known.get(key) ?? own(engine.pack(drawn(as, zeros, rows, cols), shape, { format: as }));
    known.set(key, w);
    return w;
  };
}

/** Operations and bytes of a product with `columns` outputs of each weight. */
export function workOf(w: PackedWeight, columns: number, x: { size: number }, y: { size: number }) {
  return {
    flops: 2 * w.nnz * columns,
    denseFlops: 2 * w.matrix.rows * w.matrix.cols * columns,
    bytes: w.byteLength + (x.size + y.size) * 4,
  } satisfies Partial<Work>;
}
