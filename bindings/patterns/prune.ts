import { floats } from "../assert.js";
import { bitsOf } from "../formats/bits.js";
import { assignColumns } from "./complementary-assignment.js";
import { type Grid, gridOf, isComplementary, matrixOf, type PatternLike, parsePattern } from "./pattern.js";
import { nthLargest } from "./selection.js";

/**
 * Prunes by magnitude: keeps the blocks whose weights have the largest sum of |w| and sets the others to zero.
 *
 * Sums are float64. Of equal blocks the first of its tile in row-major order is kept. A NaN counts as more than
 * Infinity, which counts as more than any number. The result depends on the input alone.
 *
 * For a complementary pattern (tiles of L × 1, L up to 256, that keep one block of one column) the largest total that
 * is fair is found: of the K columns of a tile each of its L outputs, or blocks of outputs, keeps ⌊K/L⌋ or ⌈K/L⌉. In a
 * last tile that the matrix cuts, fewer outputs share as many columns. `evenness` tells how even it is over all. Where
 * equal weights compete, which is kept is fixed but follows no simple rule.
 *
 * `check` accepts the result as exact, unless a zero was among the weights kept.
 *
 * @param data row-major weights; not changed
 * @param shape `[out, in]` or `[out, in, kh, kw]`
 * @param pattern see {@link PatternLike}
 * @returns as many weights, those pruned +0, the others as they were
 * @throws TypeError `ERR_TYPE` for a wrong argument
 * @throws RangeError `ERR_SHAPE` or `ERR_LENGTH` if shape and data do not fit, and as {@link parsePattern}
 * @example
 * ```ts
 * import { prune } from "skipzeros";
 *
 * console.log(prune(Float32Array.of(1, -4, 2, 3), [1, 4], "2:4")); // 0, -4, 0, 3
 * ```
 */
export function prune(data: Float32Array, shape: readonly number[], pattern: PatternLike): Float32Array<ArrayBuffer> {
  const { rows, cols } = matrixOf(shape);
  const weights = floats("data", data, rows * cols);
  const parsed = parsePattern(pattern);
  const grid = gridOf(rows, cols, parsed);
  const out = new Float32Array(weights.length);
  const { gridRows, gridCols, tileRows } = grid;
  if (gridRows * gridCols === 0) return out;
  const scores = new Float64Array(tileRows * gridCols);
  const kept = new Uint8Array(tileRows * gridCols);
  const select = isComplementary(parsed) ? keepFairly : keepLargest(grid);
  for (let top = 0; top < gridRows; top += tileRows) {
    const height = Math.min(tileRows, gridRows - top);
    score(weights, grid, top, height, scores);
    kept.fill(0);
    select(scores, height, gridCols, kept);
    copyKept(bitsOf(weights), grid, top, height, kept, bitsOf(out));
  }
  return out;
}

/** Marks in `kept` what the tiles of one band keep; both are `[height][cols]`. */
type Select = (scores: Float64Array, height: number, cols: number, kept: Uint8Array) => void;

/**
 * Σ|w| of each block in a band of tiles. Finite sums stay below MAX_VALUE, which stands for Infinity as Infinity does
 * for NaN.
 */
function score(data: Float32Array, grid: Grid, top: number, height: number, scores: Float64Array): void {
  const { rows, cols, blockRows, blockCols, gridCols } = grid;
  scores.fill(0);
  for (let g = 0; g < height; g++) {
    const end = Math.min((top + g + 1) * blockRows, rows);
    for (let r = (top + g) * blockRows; r < end; r++) {
      for (let b = 0, c = 0; b < gridCols; b++) {
        let sum = scores[g * gridCols + b];
        for (const edge = Math.min(c + blockCols, cols); c < edge; c++) sum += Math.abs(data[r * cols + c]);
        scores[g * gridCols + b] = sum;
      }
    }
  }
  for (let i = 0; i < height * gridCols; i++) {
    const sum = scores[i];
    if (!(sum < Infinity)) scores[i] = sum === Infinity ? Number.MAX_VALUE : Infinity;
  }
}

function keepLargest({ tileRows, tileCols, keep }: Grid): Select {
  const tile = new Float64Array(tileRows * tileCols);
  return (scores, height, cols, kept) => {
    for (let left = 0; left < cols; left += tileCols) {
      const right = Math.min(left + tileCols, cols);
      const blocks = height * (right - left);
      const n = Math.min(keep, blocks);
      if (n === 0) continue;
      for (let g = 0, i = 0; g < height; g++) for (let b = left; b < right; b++) tile[i++] = scores[g * cols + b];
      const least = nthLargest(tile, blocks, n);
      let equals = n;
      for (let g = 0; g < height; g++) {
        for (let at = g * cols + left; at < g * cols + right; at++) {
          if (scores[at] > least) {
            kept[at] = 1;
            equals--;
          }
        }
      }
      for (let g = 0; g < height && equals > 0; g++) {
        for (let at = g * cols + left; at < g * cols + right && equals > 0; at++) {
          if (scores[at] === least) {
            kept[at] = 1;
            equals--;
          }
        }
      }
    }
  };
}

const keepFairly: Select = (scores, height, cols, kept) => {
  const owner = assignColumns(scores, height, cols);
  for (let c = 0; c < cols; c++) kept[owner[c] * cols + c] = 1;
};

function copyKept(bits: Int32Array, grid: Grid, top: number, height: number, kept: Uint8Array, out: Int32Array): void {
  const { rows, cols, blockRows, blockCols, gridCols } = grid;
  for (let g = 0; g < height; g++) {
    const end = Math.min((top + g + 1) * blockRows, rows);
    for (let r = (top + g) * blockRows; r < end; r++) {
      for (let b = 0; b < gridCols; b++) {
        if (kept[g * gridCols + b] === 0) continue;
        const edge = Math.min((b + 1) * blockCols, cols);
        for (let i = r * cols + b * blockCols; i < r * cols + edge; i++) out[i] = bits[i];
      }
    }
  }
}
