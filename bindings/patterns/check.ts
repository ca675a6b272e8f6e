import { flag, floats, options } from "../assert.js";
import { bitsOf, countNonzeros } from "../formats/bits.js";
import { type Grid, gridOf, matrixOf, type PatternLike, parsePattern } from "./pattern.js";

/** Options of {@link check}. */
export interface CheckOptions {
  /**
   * Whether more zeros than the pattern asks for are fine: stored zeros inside kept blocks, tiles with fewer blocks, a
   * higher sparsity. Default false: every block is all zero or has no zero, and the number of kept blocks is that of
   * `prune`.
   */
  atMost?: boolean | undefined;
}

/** The first place that breaks a pattern. */
export interface Violation {
  ok: false;
  /** For people, such as `"row 3, columns 4..7: 3 nonzeros in a group of 4, at most 2"`. */
  message: string;
  /** First row and first column of the block or tile. */
  row: number;
  column: number;
  /** Its rows and columns, as far as the matrix goes. */
  rows: number;
  columns: number;
  /** Nonzeros of the block, or nonzero blocks of the tile. */
  found: number;
  /** How many it should have. */
  expected: number;
}

/** What {@link check} says. */
export type CheckResult = { ok: true } | Violation;

/**
 * Whether a matrix obeys a pattern, and if not, where first.
 *
 * A block counts as kept when it has a nonzero; −0 is a zero, NaN is not. Tiles are visited from left to right, then
 * from top to bottom; in each, first its blocks in the same order, then their number. A pattern with a sparsity is one
 * tile over all.
 *
 * @param data row-major weights
 * @param shape `[out, in]` or `[out, in, kh, kw]`
 * @param pattern see {@link PatternLike}
 * @param choices whether the pattern must hold exactly (default) or is an upper limit
 * @throws TypeError `ERR_TYPE` for a wrong argument
 * @throws RangeError `ERR_SHAPE` or `ERR_LENGTH` if shape and data do not fit, and as {@link parsePattern}
 * @example
 * ```ts
 * import { check } from "skipzeros";
 *
 * const result = check(Float32Array.of(1, 0, 2, 3), [1, 4], "2:4");
 * if (!result.ok) console.log(result.message); // row 0, columns 0..3: 3 nonzeros in a group of 4, expected 2
 * ```
 */
export function check(
  data: Float32Array,
  shape: readonly number[],
  pattern: PatternLike,
  choices?: CheckOptions,
): CheckResult {
  const { rows, cols } = matrixOf(shape);
  const weights = floats("data", data, rows * cols);
  const grid = gridOf(rows, cols, parsePattern(pattern));
  const atMost = flag("atMost", options("options", choices, ["atMost"]).atMost);
  const { gridRows, gridCols, tileRows, tileCols } = grid;
  if (gridRows * gridCols === 0) return { ok: true };
  const counts = new Uint32Array(tileRows * gridCols);
  for (let top = 0; top < gridRows; top += tileRows) {
    const height = Math.min(tileRows, gridRows - top);
    count(weights, grid, top, height, counts);
    for (let left = 0; left < gridCols; left += tileCols) {
      const width = Math.min(tileCols, gridCols - left);
      const violation = inTile(grid, counts, top, left, height, width, atMost);
      if (violation) return violation;
    }
  }
  return { ok: true };
}

/** Nonzeros of each block in a band of tiles. */
function count(data: Float32Array, grid: Grid, top: number, height: number, counts: Uint32Array): void {
  const { rows, cols, blockRows, blockCols, gridCols } = grid;
  counts.fill(0);
  for (let g = 0; g < height; g++) {
    const end = Math.min((top + g + 1) * blockRows, rows);
    for (let r = (top + g) * blockRows; r < end; r++) {
      for (let b = 0, c = 0; b < gridCols; b++) {
        let n = 0;
        for (const edge = Math.min(c + blockCols, cols); c < edge; c++) n += data[r * cols + c] === 0 ? 0 : 1;
        counts[g * gridCols + b] += n;
      }
    }
  }
}

function inTile(
  grid: Grid,
  counts: Uint32Array,
  top: number,
  left: number,
  height: number,
  width: number,
  atMost: boolean,
): Violation | undefined {
  const { gridCols, keep, blockRows, blockCols } = grid;
  let found = 0;
  for (let g = 0; g < height; g++) {
    for (let b = left; b < left + width; b++) {
      const n = counts[g * gridCols + b];
      if (n === 0) continue;
      found++;
      if (atMost || n === blockRows * blockCols) continue;
      const place = extent(grid, top + g, b, 1, 1);
      const size = place.rows * place.columns;
      if (n === size) continue;
      const message = `${named(place)}: ${plural(n, "nonzero")} in a block of ${size}, expected 0 or ${size}`;
      return { ok: false, message, ...place, found: n, expected: size };
    }
  }
  const size = height * width;
  const expected = Math.min(keep, size);
  if (found === expected || (atMost && found < expected)) return undefined;
  const place = extent(grid, top, left, height, width);
  const what = plural(found, blockRows * blockCols === 1 ? "nonzero" : "nonzero block");
  const wanted = `${atMost ? "at most" : "expected"} ${expected}`;
  return {
    ok: false,
    message: `${named(place)}: ${what} in a group of ${size}, ${wanted}`,
    ...place,
    found,
    expected,
  };
}

type Extent = Pick<Violation, "row" | "column" | "rows" | "columns">;

/** The weights of `height` × `width` blocks. */
function extent(grid: Grid, top: number, left: number, height: number, width: number): Extent {
  const row = top * grid.blockRows;
  const column = left * grid.blockCols;
  const rows = Math.min(height * grid.blockRows, grid.rows - row);
  const columns = Math.min(width * grid.blockCols, grid.cols - column);
  return { row, column, rows, columns };
}

function named({ row, column, rows, columns }: Extent): string {
  return `${range("row", row, rows)}, ${range("column", column, columns)}`;
}

function range(what: string, first: number, length: number): string {
  return length === 1 ? `${what} ${first}` : `${what}s ${first}..${first + length - 1}`;
}

function plural(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** How evenly the nonzeros are shared among the outputs. */
export interface Evenness {
  /** Nonzeros of the emptiest and of the fullest row. */
  min: number;
  max: number;
  /** Nonzeros of a row on average. */
  mean: number;
  /** `max / mean`: 1 if all rows have as many; 1 without nonzeros. */
  imbalance: number;
}

/**
 * How evenly a matrix shares its nonzeros among its rows. After pruning to a complementary pattern, rows of the same
 * tile differ by one at most; the rows of a last tile that the matrix cuts have more, as fewer rows share as many
 * columns.
 *
 * @param data row-major weights
 * @param shape `[out, in]` or `[out, in, kh, kw]`
 * @returns all zero, and an imbalance of 1, for a matrix without rows
 * @throws TypeError `ERR_TYPE` for a wrong argument
 * @throws RangeError `ERR_SHAPE` or `ERR_LENGTH` if shape and data do not fit
 * @example
 * ```ts
 * import { evenness, prune } from "skipzeros";
 *
 * const w = Float32Array.from({ length: 20 * 200 }, (_, i) => Math.sin(i + 1));
 * console.log(evenness(prune(w, [20, 200], "complementary:20"), [20, 200])); // 10 nonzeros in each row
 * ```
 */
export function evenness(data: Float32Array, shape: readonly number[]): Evenness {
  const { rows, cols } = matrixOf(shape);
  const bits = bitsOf(floats("data", data, rows * cols));
  let [min, max, total] = [cols, 0, 0];
  for (let r = 0; r < rows; r++) {
    const n = countNonzeros(bits, r * cols, (r + 1) * cols);
    min = Math.min(min, n);
    max = Math.max(max, n);
    total += n;
  }
  if (total === 0) return { min: 0, max: 0, mean: 0, imbalance: 1 };
  return { min, max, mean: total / rows, imbalance: (max * rows) / total };
}
