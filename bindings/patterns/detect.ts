import { floats } from "../assert.js";
import { Source } from "../formats/source.js";
import { type Bitmap, fitsTiles, foldColumns, foldRows, popcount } from "./bitmap.js";
import { MAX_OVERLAY, matrixOf, type Pattern, patternName } from "./pattern.js";

/** What the zeros of a matrix look like. */
export interface Detection {
  /** Outputs, and inputs flattened. */
  rows: number;
  cols: number;
  /** Weights that are not zero; NaN is not, −0 is. */
  nnz: number;
  /** Zeros over all weights, 0..1; 0 for an empty matrix. */
  sparsity: number;
  /**
   * For people: `"empty"`, `"dense"`, `"all zero"`, `"unstructured"`, `"4x1 blocks, 91% full"`, `"2:4 along the
   * inputs"`, `"complementary, overlay 20 in blocks of 4 rows"` and the other names of `patternName`, with how full the
   * pattern's places are unless they all are.
   */
  name: string;
  /** The pattern named, which the matrix obeys as `check` with `atMost` has it; null when there is none. */
  pattern: Pattern | null;
  /**
   * Share of nonzeros in the places stored if blocks of `rows` × `cols` are, for 1, 2, 4, 8 rows and 1, 2, 4 columns
   * but 1 × 1. Blocks are aligned; those that the matrix cuts count with all their places. 0 for a matrix without
   * nonzeros.
   */
  fills: { rows: number; cols: number; fill: number }[];
  /** At most N of each M consecutive inputs, of a matrix whose rows have hardly fewer; whatever the name is. */
  nm: { n: number; m: number } | null;
  /**
   * At most one of `overlay` blocks of 1, 4 or 8 rows in each column, in the order of the rows; fill is nonzeros over
   * places.
   */
  complementary: { overlay: number; blockRows: 1 | 4 | 8; fill: number } | null;
  /** Nonzeros of the emptiest and of the fullest row; 0 without rows. */
  rowNnz: { min: number; max: number };
}

/**
 * A pattern of which less is full is not worth its name. A tile of N blocks is nearly always full, or N is not its
 * number.
 */
const BLOCK_FILL = 0.8;
const TILE_FILL = 0.9;
const OVERLAY_FILL = 0.8;
/** A tile of N:M that keeps more is close to dense. */
const MAX_KEEP = 0.75;
/**
 * Nats by which a pattern must shorten the description of the zeros: by chance that happens to one matrix in e²⁵, or
 * for some hundred patterns tried, to one in 10⁸.
 */
const CERTAIN = 25;

type Tile = readonly [number, number];

const UP_TO_32 = Array.from({ length: 31 }, (_, i) => i + 2);
/** All lengths that fit a word, then powers of two up to the widest tile of the nm format. */
const ALONG_INPUTS: readonly Tile[] = [...UP_TO_32, 64, 128, 256, 512, 1024].map((m) => [1, m]);
const ALONG_OUTPUTS: readonly Tile[] = UP_TO_32.map((m) => [m, 1]);
const ALONG_BOTH: readonly Tile[] = [2, 4, 8, 16].flatMap((p) => [2, 4, 8, 16].map((q): Tile => [p, q]));

/** The places that are not zero, for one shape of blocks. */
interface Level {
  block: Tile;
  map: Bitmap;
  /** Blocks with a nonzero. */
  occupied: number;
  /** Rows that have any. */
  usedRows: number;
  /** Blocks with a nonzero in the emptiest and in the fullest row. */
  min: number;
  max: number;
}

interface Tiling {
  tile: Tile;
  keep: number;
  /** Blocks that the tiles have room for. */
  capacity: number;
  /** Nats saved. */
  gain: number;
}

/**
 * Finds the structure in the zeros of a matrix. Rows are taken in their own order and tiles where `prune` puts them.
 *
 * Patterns compete by description length: ln of how many patterns of a kind there are, and of how many ways the
 * nonzeros may lie in the places of one. A pattern is named if it describes the zeros far better than "so many
 * somewhere" does, which by chance it does not; of several, the one with the shortest description is. So 2:4 wins over
 * 4:8, a complementary pattern over rows of equal counts, unless both say as much, and full 4 × 1 blocks over the half
 * full 8 × 1 blocks around them. First the block shape is found, then tiles of such blocks.
 *
 * @param data row-major weights
 * @param shape `[out, in]` or `[out, in, kh, kw]`
 * @throws TypeError `ERR_TYPE` for a wrong argument
 * @throws RangeError `ERR_SHAPE` or `ERR_LENGTH` if shape and data do not fit
 * @example
 * ```ts
 * import { detect, prune } from "skipzeros";
 *
 * const w = Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i + 1));
 * console.log(detect(prune(w, [64, 64], "2:4"), [64, 64]).name); // 2:4 along the inputs
 * ```
 */
export function detect(data: Float32Array, shape: readonly number[]): Detection {
  const { rows, cols } = matrixOf(shape);
  return detectIn(new Source(floats("data", data, rows * cols), [rows, cols]).nonzeros);
}

/** As {@link detect}, of a matrix whose nonzeros are known. */
export function detectIn(base: Bitmap): Detection {
  const { rows, cols } = base;
  const size = rows * cols;
  // Rows without columns are not looked at one by one.
  const levels = levelsOf(size ? base : { ...base, rows: 0 });
  const { occupied: nnz, min, max } = levels[0];
  const fill = ({ block, occupied }: Level) => (nnz === 0 ? 0 : nnz / (occupied * block[0] * block[1]));
  const fills = levels.slice(1).map((level) => ({ rows: level.block[0], cols: level.block[1], fill: fill(level) }));
  const known = { rows, cols, nnz, sparsity: size === 0 ? 0 : (size - nnz) / size, fills, rowNnz: { min, max } };
  if (nnz === 0 || nnz === size) {
    const name = size === 0 ? "empty" : nnz === 0 ? "all zero" : "dense";
    return { ...known, name, pattern: null, nm: null, complementary: null };
  }

  const best = bestBlock(levels, nnz, size);
  const [blockRows, blockCols] = best.block;
  // What the places of a block share is one observation, not as many as there are places.
  const certain = CERTAIN * blockRows * blockCols;
  const inputs = mostSpecific(levels[0], ALONG_INPUTS, certain, null);
  const nm = inputs && { n: inputs.keep, m: inputs.tile[1] };
  let complementary: Detection["complementary"] = null;
  for (const b of [8, 4, 1] as const) {
    const level = levels.find(({ block }) => block[0] === b && block[1] === 1) as Level;
    const overlay = b > 1 && fill(level) < BLOCK_FILL ? null : overlaid(level, Math.max(CERTAIN, certain / b));
    if (!overlay) continue;
    complementary = { overlay: overlay.tile[0], blockRows: b, fill: nnz / (overlay.capacity * b) };
    break;
  }
  const inputsOfBlocks = best === levels[0] ? inputs : mostSpecific(best, ALONG_INPUTS, CERTAIN, null);
  return { ...known, ...named(best, inputsOfBlocks, nnz), nm, complementary };
}

/** Single weights first, then all other shapes of blocks. */
function levelsOf(base: Bitmap): Level[] {
  const levels: Level[] = [];
  let down = base;
  for (let r = 1; r <= 8; r *= 2) {
    if (r > 1) down = foldRows(down);
    let map = down;
    for (let c = 1; c <= 4; c *= 2) {
      if (c > 1) map = foldColumns(map);
      levels.push({ block: [r, c], map, ...countRows(map) });
    }
  }
  return levels;
}

function countRows({ rows, stride, words }: Bitmap): Omit<Level, "block" | "map"> {
  let [occupied, usedRows, min, max] = [0, 0, rows === 0 ? 0 : Infinity, 0];
  for (let r = 0, at = 0; r < rows; r++) {
    let n = 0;
    for (let w = 0; w < stride; w++) n += popcount(words[at++]);
    occupied += n;
    if (n > 0) usedRows++;
    if (n < min) min = n;
    if (n > max) max = n;
  }
  return { occupied, usedRows, min, max };
}

/** The level with the shortest description: which blocks, and which of their places. */
function bestBlock(levels: readonly Level[], nnz: number, size: number): Level {
  let best = levels[0];
  let least = lnChoose(size, nnz) - CERTAIN;
  for (const level of levels) {
    const { map, block, occupied } = level;
    const places = occupied * block[0] * block[1];
    if (level === levels[0] || nnz < BLOCK_FILL * places) continue;
    const nats = lnChoose(map.rows * map.cols, occupied) + lnChoose(places, nnz);
    if (nats >= least) continue;
    least = nats;
    best = level;
  }
  return best;
}

function named(level: Level, inputs: Tiling | null, nnz: number): Pick<Detection, "name" | "pattern"> {
  const { block, map, occupied } = level;
  let best = inputs;
  const overlay = overlaid(level, CERTAIN);
  if (overlay && (!best || overlay.gain > best.gain)) best = overlay;
  best = mostSpecific(level, ALONG_OUTPUTS, CERTAIN, best);
  best = mostSpecific(level, ALONG_BOTH, CERTAIN, best);
  const places = (best ? best.capacity : occupied) * block[0] * block[1];
  const percent = Math.floor((100 * nnz) / places);
  if (best) {
    const pattern = { block, tile: best.tile, keep: best.keep };
    const text = patternName(pattern);
    const name = best.tile[0] === 1 ? text.replace(/^\d+:\d+/, "$& along the inputs") : text;
    return { name: percent < 100 ? `${name}, ${percent}% full` : name, pattern };
  }
  if (block[0] * block[1] === 1) return { name: "unstructured", pattern: null };
  const blocks = map.rows * map.cols;
  const pattern = { block, sparsity: (blocks - occupied) / blocks };
  return { name: `${block[0]}x${block[1]} blocks, ${percent}% full`, pattern };
}

/**
 * The longest tiles of one column that hold one block at most, and describe the zeros by more than `least` nats better.
 */
function overlaid(level: Level, least: number): Tiling | null {
  const { map, occupied } = level;
  let best: Tiling | null = null;
  for (let overlay = Math.min(MAX_OVERLAY, map.rows); overlay >= 2; overlay--) {
    const capacity = Math.ceil(map.rows / overlay) * map.cols;
    if (occupied > capacity) continue;
    // Shorter tiles only have more room.
    if (occupied < OVERLAY_FILL * capacity) break;
    const gain = gainOf(level, tilesOf(level, overlay, 1), overlay, 1);
    if (gain <= (best ? best.gain : least) || !fitsTiles(map, overlay, 1, 1)) continue;
    best = { tile: [overlay, 1], keep: 1, capacity, gain };
  }
  return best;
}

/** The tile that describes the zeros best; `best` unless there is a better one. */
function mostSpecific(level: Level, tiles: readonly Tile[], least: number, best: Tiling | null): Tiling | null {
  for (const tile of tiles) {
    const [p, q] = tile;
    if (p > level.map.rows || q > level.map.cols) continue;
    // 2:4 is 4:8 as well, and says more.
    if (best && p % best.tile[0] === 0 && q % best.tile[1] === 0) continue;
    best = tiling(level, tile, best ? best.gain : least) ?? best;
  }
  return best;
}

/**
 * Tiles that hold at most some number of blocks, and nearly that many; null if there is no such number, or it saves no
 * more than `least` nats.
 */
function tiling(level: Level, tile: Tile, least: number): Tiling | null {
  const { map, occupied } = level;
  const [p, q] = tile;
  const tiles = tilesOf(level, p, q);
  let count = 0;
  for (const t of tiles) count += t.count;
  const most = Math.floor(MAX_KEEP * p * q);
  for (let keep = Math.ceil(occupied / count); keep <= most; keep++) {
    const capacity = capacityOf(tiles, keep);
    if (occupied > capacity) continue;
    if (occupied < TILE_FILL * capacity) break;
    const gain = gainOf(level, tiles, p, keep);
    if (gain <= least) break;
    if (fitsTiles(map, p, q, keep)) return { tile, keep, capacity, gain };
  }
  return null;
}

/** How many tiles there are of a size in blocks: whole ones and those that an edge cuts. */
type Tiles = { count: number; size: number }[];

function tilesOf({ map, usedRows }: Level, p: number, q: number): Tiles {
  // Outputs pruned as a whole say nothing about the inputs of the others.
  const rows = p === 1 ? usedRows : map.rows;
  const [down, restDown] = [Math.floor(rows / p), rows % p];
  const [across, restAcross] = [Math.floor(map.cols / q), map.cols % q];
  const tiles = [{ count: down * across, size: p * q }];
  if (restAcross > 0) tiles.push({ count: down, size: p * restAcross });
  if (restDown > 0) tiles.push({ count: across, size: restDown * q });
  if (restDown > 0 && restAcross > 0) tiles.push({ count: 1, size: restDown * restAcross });
  return tiles;
}

function capacityOf(tiles: Tiles, keep: number): number {
  let blocks = 0;
  for (const { count, size } of tiles) blocks += count * Math.min(keep, size);
  return blocks;
}

/** Nats that tiles save over "so many blocks somewhere". */
function gainOf({ map, occupied, usedRows }: Level, tiles: Tiles, p: number, keep: number): number {
  let nats = lnChoose(capacityOf(tiles, keep), occupied);
  for (const { count, size } of tiles) nats += count * lnChoose(size, Math.min(keep, size));
  if (p === 1) nats += lnChoose(map.rows, usedRows);
  return lnChoose(map.rows * map.cols, occupied) - nats;
}

/** ln of the ways to choose k of n. */
function lnChoose(n: number, k: number): number {
  return k === 0 || k === n ? 0 : lnFactorial(n) - lnFactorial(k) - lnFactorial(n - k);
}

/** Stirling's series; its error is below 1e-9 from 16 on. */
function lnFactorial(n: number): number {
  if (n >= 16) return (n + 0.5) * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * n) - 1 / (360 * n ** 3);
  let product = 1;
  for (let i = 2; i <= n; i++) product *= i;
  return Math.log(product);
}
