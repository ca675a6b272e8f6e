// The formats by name, and what each can do: the one place that knows all of them.
import { fail, oneOf, options } from "../assert.js";
import { type BlockMatrix, gatherBlock, packBlock, transposeBlock, unpackBlock } from "./block.js";
import {
  type ComplementaryMatrix,
  checkComplementary,
  complementaryToBlocks,
  gatherComplementary,
  packComplementary,
  unpackComplementary,
} from "./complementary.js";
import type { DenseMatrix } from "./dense.js";
import { checkNm, gatherNm, type NmMatrix, nmToCsr, packNm, unpackNm } from "./nm.js";
import { type Source, toRowMajor } from "./source.js";

/** How the survivors of pruning are stored. */
export type Format =
  | "dense"
  /** Compressed sparse rows. */
  | "csr"
  /** Blocks of rows × cols that are stored whole: rows 1, 2, 4 or 8 and cols 1, 2 or 4. */
  | { kind: "block"; rows: number; cols: number }
  /** At most n (1..m) nonzeros in each m (2..1024) consecutive inputs. */
  | { kind: "nm"; n: number; m: number }
  /**
   * Up to `overlay` (1..65535) sparse rows, or blocks of `blockRows` (1, 4 or 8; default 1) rows, with disjoint columns in one
   * dense row.
   */
  | { kind: "complementary"; overlay: number; blockRows?: number | undefined };

/** A packed weight on the JavaScript heap. */
export type Matrix =
  | ({ kind: "dense" } & DenseMatrix)
  | ({ kind: "csr" | "block" } & BlockMatrix)
  | ({ kind: "nm" } & NmMatrix)
  | ({ kind: "complementary" } & ComplementaryMatrix);

export const BLOCK_ROWS = [1, 2, 4, 8] as const;
export const BLOCK_COLS = [1, 2, 4] as const;

/** A user's format, checked and complete. */
export function checkFormat(value: unknown): Format {
  const names = `"auto", "dense", "csr" or { kind: "block" | "nm" | "complementary", … }`;
  if (value === "dense" || value === "csr") return value;
  if (typeof value === "string") fail("ERR_VALUE", "format", names, value);
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail("ERR_TYPE", "format", names, value);
  const kind = oneOf("format.kind", (value as { kind?: unknown }).kind, ["block", "nm", "complementary"] as const);
  if (kind === "block") {
    const { rows, cols } = options("format", value as { rows?: unknown; cols?: unknown }, ["kind", "rows", "cols"]);
    return { kind, rows: oneOf("format.rows", rows, BLOCK_ROWS), cols: oneOf("format.cols", cols, BLOCK_COLS) };
  }
  if (kind === "nm") {
    const o = options("format", value as { n?: unknown; m?: unknown }, ["kind", "n", "m"]);
    return { kind, ...checkNm(o.n, o.m, "format.") };
  }
  const o = options("format", value as { overlay?: unknown; blockRows?: unknown }, ["kind", "overlay", "blockRows"]);
  return { kind, ...checkComplementary(o.overlay, o.blockRows === undefined ? 1 : o.blockRows, "format.") };
}

/** A format for people: "csr", "block 4x1", "2:4", "complementary 20x4" (blocks of four rows). */
export function formatName(format: Format): string {
  if (typeof format === "string") return format;
  if (format.kind === "block") return `block ${format.rows}x${format.cols}`;
  if (format.kind === "nm") return `${format.n}:${format.m}`;
  return `complementary ${format.overlay}${(format.blockRows ?? 1) > 1 ? `x${format.blockRows}` : ""}`;
}

export function formatOf(m: Matrix): Format {
  if (m.kind === "dense" || m.kind === "csr") return m.kind;
  if (m.kind === "nm") return { kind: m.kind, n: m.n, m: m.m };
  if (m.kind === "complementary") return { kind: m.kind, overlay: m.overlay, blockRows: m.blockRows };
  return { kind: "block", rows: m.r, cols: m.c };
}

/** Packs a matrix: first the places, then their numbers. */
export function packAs(format: Format, source: Source): Matrix {
  if (format === "dense") {
    const { rows, cols } = source;
    return { kind: "dense", rows, cols, data: toRowMajor(source) };
  }
  if (format === "csr") return { kind: "csr", ...packBlock(source, 1, 1) };
  if (format.kind === "block") return { kind: "block", ...packBlock(source, format.rows, format.cols) };
  if (format.kind === "nm") return { kind: "nm", ...packNm(source, format.n, format.m) };
  return { kind: "complementary", ...packComplementary(source, format.overlay, format.blockRows ?? 1) };
}

/** Row-major values, zeros included. */
export function unpack(m: Matrix): Float32Array<ArrayBuffer> {
  if (m.kind === "dense") return m.data.slice();
  if (m.kind === "nm") return unpackNm(m);
  return m.kind === "complementary" ? unpackComplementary(m) : unpackBlock(m);
}

/** The numbers of a matrix at the places that m stores: another `data`. */
export function gather(m: Matrix, source: Source): Float32Array {
  if (m.kind === "dense") return toRowMajor(source);
  if (m.kind === "nm") return gatherNm(m, source);
  return m.kind === "complementary" ? gatherComplementary(m, source) : gatherBlock(m, source);
}

/** Bytes of values, indices and pointers. */
export const bytesOf = (m: Matrix): number =>
  Object.values(m).reduce((bytes, field) => bytes + (ArrayBuffer.isView(field) ? field.byteLength : 0), 0);

/** The blocks that kernels for dense activations multiply. */
export function toBlocks(m: Exclude<Matrix, { kind: "dense" }>): BlockMatrix {
  if (m.kind === "nm") return nmToCsr(m);
  return m.kind === "complementary" ? complementaryToBlocks(m) : m;
}

/** As {@link toBlocks}, of Wᵀ. */
export const toTransposedBlocks = (m: Exclude<Matrix, { kind: "dense" }>): BlockMatrix => transposeBlock(toBlocks(m));
