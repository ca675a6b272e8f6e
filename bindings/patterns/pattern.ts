import { fail, integer, options, share, sizeOf } from "../assert.js";

/**
 * What pruning obeys. Rows are outputs, columns the flattened inputs. The matrix is cut into blocks, each all zero or
 * all kept; then either `keep` blocks are kept in every tile, or a share of all blocks is zero.
 *
 * | name | pattern |
 * |---|---|
 * | unstructured | `{ sparsity: 0.9 }` |
 * | Block-X, Block-Y, Block-XY | `{ block: [1, 4], sparsity: 0.9 }`, `[4, 1]`, `[4, 4]` |
 * | Partitioned-X, which is N:M | `{ tile: [1, 4], keep: 2 }` |
 * | Partitioned-Y, Partitioned-XY | `{ tile: [4, 1], keep: 2 }`, `{ tile: [4, 4], keep: 8 }` |
 * | complementary, overlay 20 | `{ tile: [20, 1], keep: 1 }` |
 * | the same in blocks of 4 rows | `{ block: [4, 1], tile: [20, 1], keep: 1 }` |
 * | any block in any tile | `{ block: [1, 4], tile: [2, 2], keep: 1 }` |
 *
 * **Edges.** Blocks and tiles start at row 0 and column 0. Where the matrix ends inside one, it is cut: a cut block is
 * all zero or all kept like any other and counts as one; a cut tile keeps `keep` blocks, or all that it has if they are
 * fewer.
 */
export interface Pattern {
  /** Rows and columns of a block; default `[1, 1]`, single weights. */
  block?: readonly [number, number] | undefined;
  /** Rows and columns of a tile, counted in blocks. */
  tile?: readonly [number, number] | null | undefined;
  /** Blocks kept in each tile: at least 1, at most all of them. Goes with `tile`. */
  keep?: number | null | undefined;
  /**
   * Share of zero blocks in the whole matrix, 0..1; `round(sparsity · blocks)` are zero, halves up. Goes without
   * `tile`.
   */
  sparsity?: number | null | undefined;
}

/**
 * A pattern, or its short form:
 *
 * - `"90%"` of all weights zero, `"4x1@90%"` of all blocks of 4 rows and 1 column
 * - `"2:4"`: 2 of each 4 consecutive inputs kept
 * - `"8/4x4"`: 8 kept of each tile of 4 rows and 4 columns; `"2/4x1"`: 2 of each 4 outputs
 * - `"1x4@2:4"`, `"4x1@1/2x2"`: the same of blocks
 * - `"complementary:20"` for `"1/20x1"`, `"complementary:20x4"` for `"4x1@1/20x1"`
 *
 * As a grammar: `[ROWSxCOLS@](PERCENT% | N:M | KEEP/ROWSxCOLS)` or `complementary:OVERLAY[xBLOCKROWS]`, overlay up to
 * 256.
 */
export type PatternLike = Pattern | string;

/** A pattern with everything said and checked. */
export type ParsedPattern = { block: readonly [number, number] } & (
  | { tile: readonly [number, number]; keep: number; sparsity: null }
  | { tile: null; keep: null; sparsity: number }
);

/** Sparse rows that a complementary pattern overlays at most: what a row id of one byte can tell apart. */
export const MAX_OVERLAY = 256;

const SHORT = /^(?:(\d+)x(\d+)@)?(?:(\d+(?:\.\d+)?)%|(\d+):(\d+)|(\d+)\/(\d+)x(\d+))$/;
const COMPLEMENTARY = /^complementary:(\d+)(?:x(\d+))?$/;

function fromText(text: string): Pattern {
  const overlay = COMPLEMENTARY.exec(text);
  if (overlay) {
    const rows = integer("pattern overlay", Number(overlay[1]), 1, MAX_OVERLAY);
    return { block: [Number(overlay[2] ?? 1), 1], tile: [rows, 1], keep: 1 };
  }
  const parts = SHORT.exec(text);
  if (!parts) fail("ERR_VALUE", "pattern", '"90%", "4x1@90%", "2:4", "4x1@8/4x4" or "complementary:20x4"', text);
  const [, blockRows = "1", blockCols = "1", percent, n, m, keep, rows, cols] = parts;
  const block: [number, number] = [Number(blockRows), Number(blockCols)];
  // Shifting the point in the text rounds once: 99.9 / 100 is not the float nearest to 0.999.
  if (percent !== undefined) return { block, sparsity: Number(`${percent}e-2`) };
  if (n !== undefined) return { block, tile: [1, Number(m)], keep: Number(n) };
  return { block, tile: [Number(rows), Number(cols)], keep: Number(keep) };
}

function size(name: string, value: unknown): [number, number] {
  if (!Array.isArray(value)) fail("ERR_TYPE", name, "[rows, columns]", value);
  if (value.length !== 2) fail("ERR_SHAPE", name, "[rows, columns]", value);
  return [integer(`${name}[0]`, value[0], 1), integer(`${name}[1]`, value[1], 1)];
}

/**
 * Reads and checks a pattern.
 *
 * @param pattern an object or its short form, see {@link PatternLike}
 * @returns the same pattern, with all its fields
 * @throws TypeError `ERR_TYPE` if it is neither, or a field is of the wrong type
 * @throws RangeError `ERR_VALUE` for a text that the grammar lacks, an unknown key, a size below 1, `keep` outside
 *   1..blocks of a tile, `sparsity` outside 0..1, and for both or neither of `tile` with `keep` and `sparsity`;
 *   `ERR_SHAPE` for a size that is no pair
 * @example
 * ```ts
 * import { parsePattern } from "skipzeros";
 *
 * console.log(parsePattern("2:4")); // { block: [1, 1], tile: [1, 4], keep: 2, sparsity: null }
 * ```
 */
export function parsePattern(pattern: PatternLike): ParsedPattern {
  if (typeof pattern !== "string" && (typeof pattern !== "object" || pattern === null)) {
    fail("ERR_TYPE", "pattern", "an object or a string", pattern);
  }
  const given = typeof pattern === "string" ? fromText(pattern) : pattern;
  const { block, tile, keep, sparsity } = options("pattern", given, ["block", "tile", "keep", "sparsity"]);
  const parsedBlock = size("pattern.block", block ?? [1, 1]);
  if (tile === undefined || tile === null) {
    if (keep !== undefined && keep !== null) fail("ERR_VALUE", "pattern.tile", "a tile where there is a keep", tile);
    if (sparsity === undefined || sparsity === null) {
      fail("ERR_VALUE", "pattern.sparsity", "a sparsity where there is no tile", sparsity);
    }
    return { block: parsedBlock, tile: null, keep: null, sparsity: share("pattern.sparsity", sparsity) };
  }
  if (sparsity !== undefined && sparsity !== null) {
    fail("ERR_VALUE", "pattern.sparsity", "none where there is a tile", sparsity);
  }
  const parsedTile = size("pattern.tile", tile);
  if (keep === undefined || keep === null) fail("ERR_VALUE", "pattern.keep", "a keep where there is a tile", keep);
  const parsedKeep = integer("pattern.keep", keep, 1, parsedTile[0] * parsedTile[1]);
  return { block: parsedBlock, tile: parsedTile, keep: parsedKeep, sparsity: null };
}

/** Whether several rows, or blocks of rows, are overlaid into one: each column of a tile belongs to one of them. */
export function isComplementary({ block, tile, keep }: ParsedPattern): boolean {
  return block[1] === 1 && tile !== null && tile[0] > 1 && tile[0] <= MAX_OVERLAY && tile[1] === 1 && keep === 1;
}

/**
 * A pattern's name for people.
 *
 * @param pattern see {@link PatternLike}
 * @returns such as `"unstructured, 90% zeros"`, `"4x1 blocks, 90% zeros"`, `"2:4"`, `"2:4 along the outputs"`, `"8 of
 *   each 4x4"`, `"2:4 in 1x4 blocks"`, `"complementary, overlay 20"`, `"complementary, overlay 20 in blocks of 4 rows"`
 * @throws as {@link parsePattern}
 * @example
 * ```ts
 * import { patternName } from "skipzeros";
 *
 * console.log(patternName("complementary:20x4")); // complementary, overlay 20 in blocks of 4 rows
 * ```
 */
export function patternName(pattern: PatternLike): string {
  const parsed = parsePattern(pattern);
  const { block, tile, keep, sparsity } = parsed;
  const single = block[0] === 1 && block[1] === 1;
  if (tile === null) {
    const zeros = `${Number((sparsity * 100).toPrecision(12))}% zeros`;
    return single ? `unstructured, ${zeros}` : `${block[0]}x${block[1]} blocks, ${zeros}`;
  }
  if (isComplementary(parsed)) {
    return `complementary, overlay ${tile[0]}${single ? "" : ` in blocks of ${block[0]} rows`}`;
  }
  const blocks = single ? "" : ` in ${block[0]}x${block[1]} blocks`;
  if (tile[0] === 1) return `${keep}:${tile[1]}${blocks}`;
  if (tile[1] === 1) return `${keep}:${tile[0]} along the outputs${blocks}`;
  return `${keep} of each ${tile[0]}x${tile[1]}${blocks}`;
}

/** Rows and columns of a weight's matrix: `[out, in]`, or `[out, in, kh, kw]` with the last three flattened. */
export function matrixOf(shape: unknown): { rows: number; cols: number } {
  sizeOf("shape", shape);
  const dims = shape as ArrayLike<number>;
  if (dims.length !== 2 && dims.length !== 4) fail("ERR_SHAPE", "shape", "[out, in] or [out, in, kh, kw]", shape);
  let cols = 1;
  for (let i = 1; i < dims.length; i++) cols *= dims[i];
  return { rows: dims[0], cols };
}

/** A matrix cut into blocks and tiles. A sparsity over all is one tile over all. */
export interface Grid {
  rows: number;
  cols: number;
  /** Rows and columns of a block that no edge cuts. */
  blockRows: number;
  blockCols: number;
  /** Rows and columns of the matrix, in blocks. */
  gridRows: number;
  gridCols: number;
  /** Rows and columns of a tile that no edge cuts, in blocks. */
  tileRows: number;
  tileCols: number;
  /** Blocks kept in a tile that has as many. */
  keep: number;
}

/** Lays a pattern over a matrix. */
export function gridOf(rows: number, cols: number, { block, tile, keep, sparsity }: ParsedPattern): Grid {
  const [blockRows, blockCols] = block;
  const gridRows = Math.ceil(rows / blockRows);
  const gridCols = Math.ceil(cols / blockCols);
  const blocks = gridRows * gridCols;
  // A tile beyond the matrix is cut to it, so that no buffer is larger than the matrix.
  const tiles = tile
    ? { tileRows: Math.min(tile[0], gridRows), tileCols: Math.min(tile[1], gridCols), keep }
    : { tileRows: gridRows, tileCols: gridCols, keep: blocks - Math.round(sparsity * blocks) };
  return { rows, cols, blockRows, blockCols, gridRows, gridCols, ...tiles };
}
