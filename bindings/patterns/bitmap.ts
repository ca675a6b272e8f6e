import type { Source } from "../formats/source.js";

/**
 * One bit a place of a matrix, so that 32 weights are looked at in one step. Column c of row r is bit c % 32 of a word.
 */
export interface Bitmap {
  rows: number;
  cols: number;
  /** Words of a row; bits behind its last column are 0. */
  stride: number;
  words: Uint32Array;
}

function emptyBitmap(rows: number, cols: number): Bitmap {
  const stride = Math.ceil(cols / 32);
  return { rows, cols, stride, words: new Uint32Array(rows * stride) };
}

/** A bit for each weight that is not ±0. */
export function bitmapOf({ rows, cols, bits, columns }: Source): Bitmap {
  const map = emptyBitmap(rows, cols);
  const { stride, words } = map;
  // Without a branch, as zeros cannot be predicted: the float's sign goes, then x | −x is negative unless x is 0.
  if (columns) {
    // Along the columns, as their numbers lie side by side.
    for (let c = 0; c < cols; c++) {
      for (let r = 0, i = columns[c], at = c >>> 5; r < rows; r++, at += stride) {
        const x = bits[i++] << 1;
        words[at] |= ((x | -x) >>> 31) << (c & 31);
      }
    }
    return map;
  }
  for (let r = 0, i = 0, at = 0; r < rows; r++) {
    for (let w = 0; w < stride; w++) {
      const n = Math.min(32, cols - w * 32);
      let word = 0;
      for (let j = 0; j < n; j++, i++) {
        const x = bits[i] << 1;
        word |= ((x | -x) >>> 31) << j;
      }
      words[at++] = word;
    }
  }
  return map;
}

/** The place of the lowest bit that is set in a word other than 0. */
export const lowestBit = (word: number): number => 31 - Math.clz32(word & -word);

/** Bits that are set in a word. */
export function popcount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  n = (n + (n >>> 4)) & 0x0f0f0f0f;
  return Math.imul(n, 0x01010101) >>> 24;
}

/** A bit for each two rows, set where one of them has it. */
export function foldRows(map: Bitmap): Bitmap {
  const { rows, cols, stride, words } = map;
  if (rows < 2) return map;
  const out = emptyBitmap(Math.ceil(rows / 2), cols);
  for (let r = 0, at = 0; r < out.rows; r++) {
    let from = r * 2 * stride;
    // The last of an odd number of rows meets itself.
    let below = r * 2 + 1 < rows ? from + stride : from;
    for (let w = 0; w < stride; w++) out.words[at++] = words[from++] | words[below++];
  }
  return out;
}

/** A bit for each two columns, set where one of them has it. */
export function foldColumns(map: Bitmap): Bitmap {
  const { rows, cols, stride, words } = map;
  if (cols < 2) return map;
  const out = emptyBitmap(rows, Math.ceil(cols / 2));
  for (let r = 0, from = 0; r < rows; r++) {
    for (let w = 0; w < stride; w++) {
      let x = words[from++];
      x = (x | (x >>> 1)) & 0x55555555;
      x = (x | (x >>> 1)) & 0x33333333;
      x = (x | (x >>> 2)) & 0x0f0f0f0f;
      x = (x | (x >>> 4)) & 0x00ff00ff;
      x = (x | (x >>> 8)) & 0x0000ffff;
      out.words[r * out.stride + (w >>> 1)] |= x << ((w & 1) * 16);
    }
  }
  return out;
}

/** A bit for each block of r × c, or of the next powers of two, set where one of its places has it. */
export function blocksOf(map: Bitmap, r: number, c: number): Bitmap {
  let blocks = map;
  for (let high = 1; high < r; high *= 2) blocks = foldRows(blocks);
  for (let wide = 1; wide < c; wide *= 2) blocks = foldColumns(blocks);
  return blocks;
}

/** Bits set in columns from..to − 1 of a row that starts at word `row`. */
function countRange(words: Uint32Array, row: number, from: number, to: number): number {
  const last = row + ((to - 1) >>> 5);
  let n = 0;
  let mask = -1 << (from & 31);
  for (let w = row + (from >>> 5); w < last; w++) {
    n += popcount(words[w] & mask);
    mask = -1;
  }
  return n + popcount(words[last] & mask & (-1 >>> (31 - ((to - 1) & 31))));
}

/** Whether every aligned tile of p rows and q columns has at most `keep` bits, `keep` below p · q unless q is 1. */
export function fitsTiles(map: Bitmap, p: number, q: number, keep: number): boolean {
  if (q === 1) return fitsColumns(map, p, keep);
  if (p === 1 && q <= 32 && 32 % q === 0) return fitsFields(map, q, keep);
  const { rows, cols, stride, words } = map;
  for (let top = 0; top < rows; top += p) {
    const bottom = Math.min(top + p, rows);
    for (let left = 0; left < cols; left += q) {
      const right = Math.min(left + q, cols);
      let n = 0;
      for (let r = top; r < bottom; r++) n += countRange(words, r * stride, left, right);
      if (n > keep) return false;
    }
  }
  return true;
}

/** Tiles of p × 1, 32 at a time: bit i of `planes[b]` is bit b of the count in column i. */
function fitsColumns({ rows, stride, words }: Bitmap, p: number, keep: number): boolean {
  const planes = new Int32Array(32 - Math.clz32(keep));
  for (let top = 0; top < rows; top += p) {
    const end = Math.min(top + p, rows) * stride;
    for (let w = 0; w < stride; w++) {
      planes.fill(0);
      let above = 0;
      for (let at = top * stride + w; at < end; at += stride) {
        let carry = words[at];
        for (let b = 0; b < planes.length; b++) {
          const sum = planes[b];
          planes[b] = sum ^ carry;
          carry &= sum;
        }
        above |= carry;
      }
      let equal = -1;
      for (let b = planes.length - 1; b >= 0; b--) {
        if ((keep >>> b) & 1) equal &= planes[b];
        else {
          above |= equal & planes[b];
          equal &= ~planes[b];
        }
      }
      if (above !== 0) return false;
    }
  }
  return true;
}

/**
 * Tiles of 1 × q with q a divisor of 32: popcount stopped when its fields are q bits wide, and compared all at once.
 */
function fitsFields({ words }: Bitmap, q: number, keep: number): boolean {
  const ones = q === 32 ? 1 : Math.floor(2 ** 32 / (2 ** q - 1));
  const bias = Math.imul(ones, 2 ** (q - 1) - 1 - keep);
  const high = ones << (q - 1);
  for (let i = 0; i < words.length; i++) {
    let n = words[i] - ((words[i] >>> 1) & 0x55555555);
    if (q > 2) n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
    if (q > 4) n = (n + (n >>> 4)) & 0x0f0f0f0f;
    if (q > 8) n = (n & 0x00ff00ff) + ((n >>> 8) & 0x00ff00ff);
    if (q > 16) n = (n & 0xffff) + (n >>> 16);
    // A field with more than `keep` carries into its highest bit.
    if (((n + bias) & high) !== 0) return false;
  }
  return true;
}
