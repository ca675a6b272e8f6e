import { fail, integer, oneOf } from "../assert.js";
import { type Bitmap, blocksOf, fitsTiles, lowestBit, popcount } from "../patterns/bitmap.js";
import { bitsOf } from "./bits.js";
import { type BlockMatrix, indexArray } from "./block.js";
import { claimed, claimedArray, claimedShape } from "./claims.js";
import type { Source } from "./source.js";

/**
 * Sparse rows with disjoint columns overlaid into dense ones (Complementary Sparsity: Hunter, Spracklen, Ahmad 2021,
 * arXiv 2112.13896). The rows are cut into aligned block rows of `blockRows`; a block row occupies a column where any
 * of its rows is nonzero; block rows that share no column may form a set. Every column has one place in every set: an
 * id that tells whose it is, and that block row's values, zeros where no member occupies the column.
 */
export interface ComplementaryMatrix {
  rows: number;
  cols: number;
  /** Block rows in the largest set; 1 for a matrix without rows. */
  overlay: number;
  /** 1, 4 or 8. The last block row may reach beyond `rows`: the values there are zeros. */
  blockRows: number;
  sets: number;
  /** [sets][overlay]: each set's block rows, ascending from the packer; then 0xffffffff where a set has fewer. */
  rowOf: Uint32Array;
  /** [cols][sets]: which of the set's block rows has this column; bytes at overlay ≤ 256. */
  ids: Uint8Array | Uint16Array;
  /** [cols][sets][blockRows]. */
  data: Float32Array;
}

const NONE = 0xffffffff;

/** @throws TypeError `ERR_TYPE` and RangeError `ERR_VALUE` unless overlay is in 1..65535 and blockRows 1, 4 or 8 */
export function checkComplementary(
  overlay: unknown,
  blockRows: unknown,
  of = "",
): { overlay: number; blockRows: number } {
  const most = integer(`${of}overlay`, overlay, 1, 65535);
  return { overlay: most, blockRows: oneOf(`${of}blockRows`, blockRows, [1, 4, 8]) };
}

/**
 * Sets, in words of 32, that a block row is tried in: the last 4096. Only matrices with more sets than that notice,
 * whose search would grow with the square of their rows; the sets closed first are those of the densest rows, which
 * have least room.
 */
const WINDOW = 128;

/**
 * Greedy colouring of the conflict graph: densest block rows first, each into the first set without its columns.
 * `taken` is the transpose of the sets' bitmaps (for 32 sets and each column one word), so that one AND tests a column
 * of 32 sets.
 */
function colour(blocks: Bitmap, overlay: number): { setOf: Uint32Array; sets: number } {
  const { rows: count, cols, stride, words } = blocks;
  const occupied = new Uint32Array(count);
  const order = new Uint32Array(count);
  for (let b = 0; b < count; b++) {
    order[b] = b;
    for (let w = 0; w < stride; w++) occupied[b] += popcount(words[b * stride + w]);
  }
  order.sort((a, b) => occupied[b] - occupied[a] || a - b);

  const setOf = new Uint32Array(count);
  const members = new Uint32Array(count);
  const room = new Int32Array(Math.ceil(count / 32));
  const taken: Int32Array[] = [];
  const columns = new Uint32Array(cols);
  let sets = 0;
  let most = 1;
  let next = 0;
  for (; next < count && occupied[order[next]] > 0; next++) {
    const b = order[next];
    let k = 0;
    for (let w = 0; w < stride; w++) {
      for (let word = words[b * stride + w]; word !== 0; word &= word - 1) columns[k++] = w * 32 + lowestBit(word);
    }
    let set = sets;
    for (let w = Math.max(0, taken.length - WINDOW); w < taken.length; w++) {
      const has = taken[w];
      let free = room[w];
      for (let i = 0; i < k && free !== 0; i++) free &= ~has[columns[i]];
      if (free !== 0) {
        set = w * 32 + lowestBit(free);
        break;
      }
    }
    const bit = 1 << (set & 31);
    if (set === sets) {
      sets++;
      if (bit === 1) taken.push(new Int32Array(cols));
      room[set >> 5] |= bit;
    }
    const has = taken[set >> 5];
    for (let i = 0; i < k; i++) has[columns[i]] |= bit;
    setOf[b] = set;
    if (++members[set] === overlay) room[set >> 5] ^= bit;
    if (members[set] > most) most = members[set];
  }
  // Empty block rows fit everywhere. They level the sets: one much larger set would widen `rowOf` for all.
  for (let set = 0; next < count; next++) {
    while (set < sets && members[set] >= most) set++;
    if (set === sets && most < overlay) {
      most++;
      set = 0;
    }
    if (set === sets) sets++;
    members[set]++;
    setOf[order[next]] = set;
  }
  return { setOf, sets };
}

/**
 * Packs a matrix; any has such a form, nonzeros over stored numbers tell how good it is. −0 counts as zero. Where the aligned tiles
 * of `overlay` block rows are sets already (as masks made for this format are) the sets are those tiles in order, otherwise they are
 * found greedily. Places that no member occupies go to the member with the fewest, so that counts stay even. Block rows ascend in each
 * set. overlay and blockRows are those that {@link checkComplementary} accepts; the matrix's own `overlay` is what its largest set has.
 */
export function packComplementary(source: Source, overlay: number, blockRows: number): ComplementaryMatrix {
  const blocks = blocksOf(source.nonzeros, blockRows, 1);
  const { rows: count, cols, stride, words } = blocks;
  let sets = Math.ceil(count / overlay);
  let setOf: Uint32Array;
  if (fitsTiles(blocks, overlay, 1, 1)) setOf = new Uint32Array(count).map((_, b) => Math.floor(b / overlay));
  else ({ setOf, sets } = colour(blocks, overlay));

  const members = new Uint32Array(sets);
  let most = 1;
  for (let b = 0; b < count; b++) most = Math.max(most, ++members[setOf[b]]);
  const rowOf = new Uint32Array(sets * most).fill(NONE);
  members.fill(0);
  for (let b = 0; b < count; b++) rowOf[setOf[b] * most + members[setOf[b]]++] = b;

  const ids = most <= 256 ? new Uint8Array(cols * sets) : new Uint16Array(cols * sets);
  const union = new Int32Array(stride);
  const stored = new Uint32Array(most);
  for (let s = 0; s < sets; s++) {
    union.fill(0);
    stored.fill(0);
    for (let id = 0; id < members[s]; id++) {
      const b = rowOf[s * most + id];
      for (let w = 0; w < stride; w++) {
        let word = words[b * stride + w];
        union[w] |= word;
        stored[id] += popcount(word);
        for (; word !== 0; word &= word - 1) ids[(w * 32 + lowestBit(word)) * sets + s] = id;
      }
    }
    if (members[s] === 1) continue;
    for (let c = 0; c < cols; c++) {
      if ((union[c >> 5] >> (c & 31)) & 1) continue;
      let least = 0;
      for (let id = 1; id < members[s]; id++) if (stored[id] < stored[least]) least = id;
      ids[c * sets + s] = least;
      stored[least]++;
    }
  }
  const places = { rows: source.rows, cols, overlay: most, blockRows, sets, rowOf, ids };
  return { ...places, data: gatherComplementary(places, source) };
}

/** Row-major values, zeros included; −0 comes back as 0. */
export function unpackComplementary(m: ComplementaryMatrix): Float32Array<ArrayBuffer> {
  const { rows, cols, overlay, blockRows, sets, rowOf, ids, data } = m;
  const dense = new Float32Array(rows * cols);
  const to = bitsOf(dense);
  const from = bitsOf(data);
  for (let c = 0, place = 0; c < cols; c++) {
    for (let s = 0; s < sets; s++, place++) {
      const row = rowOf[s * overlay + ids[place]] * blockRows;
      for (let j = 0; j < blockRows; j++) {
        const v = from[place * blockRows + j];
        if (v << 1 !== 0) to[(row + j) * cols + c] = v;
      }
    }
  }
  return dense;
}

/** `data` anew: the numbers of a matrix at the stored places, −0 as 0. Other places are not looked at. */
export function gatherComplementary(m: Omit<ComplementaryMatrix, "data">, { bits, columns }: Source): Float32Array {
  const { rows, cols, overlay, blockRows, sets, rowOf, ids } = m;
  const step = columns ? 1 : cols;
  const data = new Float32Array(cols * sets * blockRows);
  const to = bitsOf(data);
  for (let c = 0, place = 0; c < cols; c++) {
    const column = columns ? columns[c] : c;
    for (let s = 0; s < sets; s++, place++) {
      const row = rowOf[s * overlay + ids[place]] * blockRows;
      const height = Math.min(blockRows, rows - row);
      for (let j = 0; j < height; j++) {
        const v = bits[(row + j) * step + column];
        if (v << 1 !== 0) to[place * blockRows + j] = v;
      }
    }
  }
  return data;
}

/** Whether any of the values of a place is nonzero. */
function isOccupied(bits: Int32Array, place: number, blockRows: number): boolean {
  let any = 0;
  for (let j = 0; j < blockRows; j++) any |= bits[place * blockRows + j] << 1;
  return any !== 0;
}

/** Blocks of blockRows × 1 in the order of the rows, without the places that hold nothing but zeros. */
export function complementaryToBlocks(m: ComplementaryMatrix): BlockMatrix {
  const { rows, cols, overlay, blockRows, sets, rowOf, ids } = m;
  const from = bitsOf(m.data);
  const indptr = new Uint32Array(Math.ceil(rows / blockRows) + 1);
  for (let c = 0, place = 0; c < cols; c++) {
    for (let s = 0; s < sets; s++, place++) {
      if (isOccupied(from, place, blockRows)) indptr[rowOf[s * overlay + ids[place]] + 1]++;
    }
  }
  for (let b = 1; b < indptr.length; b++) indptr[b] += indptr[b - 1];
  const blocks = indptr[indptr.length - 1];
  const indices = indexArray(cols, blocks);
  const data = new Float32Array(blocks * blockRows);
  const to = bitsOf(data);
  const next = indptr.slice(0, -1);
  for (let c = 0, place = 0; c < cols; c++) {
    for (let s = 0; s < sets; s++, place++) {
      if (!isOccupied(from, place, blockRows)) continue;
      const i = next[rowOf[s * overlay + ids[place]]]++;
      indices[i] = c;
      for (let j = 0; j < blockRows; j++) to[i * blockRows + j] = from[place * blockRows + j];
    }
  }
  return { rows, cols, r: blockRows, c: 1, indptr, indices, data };
}

/**
 * Checks every field of a matrix from outside: after this, nothing that takes one leaves its arrays.
 * @throws RangeError `ERR_FORMAT` that names the field and the first wrong place
 */
export function validateComplementary(m: ComplementaryMatrix): void {
  const { rows, cols, overlay, blockRows, sets, rowOf, ids, data } = m;
  claimedShape(rows, cols);
  claimed("overlay", overlay, 1, 65535);
  if (blockRows !== 1 && blockRows !== 4 && blockRows !== 8) fail("ERR_FORMAT", "blockRows", "1, 4 or 8", blockRows);
  const count = Math.ceil(rows / blockRows);
  claimed("sets", sets, Math.ceil(count / overlay), count);
  claimedArray("rowOf", rowOf, Uint32Array, sets * overlay);
  claimedArray("ids", ids, overlay <= 256 ? Uint8Array : Uint16Array, cols * sets);
  claimedArray("data", data, Float32Array, cols * sets * blockRows);

  const members = new Uint32Array(sets);
  const seen = new Uint8Array(count);
  let all = 0;
  for (let s = 0; s < sets; s++) {
    const from = s * overlay;
    let n = 0;
    while (n < overlay && rowOf[from + n] !== NONE) {
      const b = rowOf[from + n];
      if (b >= count) fail("ERR_FORMAT", "rowOf", `block rows in 0..${count - 1}`, b, ` at ${from + n}`);
      if (seen[b]) fail("ERR_FORMAT", "rowOf", "each block row once", b, ` again at ${from + n}`);
      seen[b] = 1;
      n++;
    }
    if (n === 0) fail("ERR_FORMAT", "rowOf", "a block row in each set", "none", ` in set ${s}`);
    for (let i = n; i < overlay; i++) {
      if (rowOf[from + i] !== NONE) {
        fail("ERR_FORMAT", "rowOf", `${NONE} behind a set's last block row`, rowOf[from + i], ` at ${from + i}`);
      }
    }
    members[s] = n;
    all += n;
  }
  if (all !== count) fail("ERR_FORMAT", "rowOf", `${count} block rows`, all);

  const ragged = rows % blockRows;
  const bits = bitsOf(data);
  for (let c = 0, place = 0; c < cols; c++) {
    for (let s = 0; s < sets; s++, place++) {
      const id = ids[place];
      if (id >= members[s]) {
        fail("ERR_FORMAT", "ids", `ids in 0..${members[s] - 1}`, id, ` at column ${c}, set ${s}`);
      }
      if (ragged === 0 || rowOf[s * overlay + id] !== count - 1) continue;
      for (let j = ragged; j < blockRows; j++) {
        if (bits[place * blockRows + j] << 1 !== 0) {
          fail(
            "ERR_FORMAT",
            "data",
            `zeros beyond row ${rows - 1}`,
            data[place * blockRows + j],
            ` at column ${c}, set ${s}`,
          );
        }
      }
    }
  }
}
