import { type Bitmap, bitmapOf } from "../patterns/bitmap.js";
import type { WeightLayout } from "../weight.js";
import { bitsOf } from "./bits.js";

/**
 * Where the numbers of each column [in / groups, kh, kw] start, those of its rows follow one another: TensorFlow's orders. Undefined for
 * PyTorch's, which are row-major, and without outputs, as nothing then bounds the number of columns.
 */
export function columnsOf(
  [out, inn, kh = 1, kw = 1]: readonly number[],
  layout: WeightLayout,
): Uint32Array | undefined {
  if (layout === "oi" || layout === "oihw" || out === 0) return undefined;
  const spots = kh * kw;
  const columns = new Uint32Array(inn * spots);
  for (let c = 0; c < columns.length; c++) columns[c] = ((c % spots) * inn + Math.floor(c / spots)) * out;
  return columns;
}

/** A matrix as the caller has it, which packing reads where it lies: rows are outputs, columns the flattened inputs. */
export class Source {
  readonly rows: number;
  readonly cols: number;
  readonly bits: Int32Array;
  /** As {@link columnsOf}. */
  readonly columns: Uint32Array | undefined;
  #nonzeros: Bitmap | undefined;
  #row: Int32Array | undefined;

  /** `shape` is [out, in / groups, …] whatever the layout. */
  constructor(data: Float32Array, shape: readonly number[], layout: WeightLayout = "oi") {
    this.rows = shape[0];
    this.cols = shape.slice(1).reduce((a, b) => a * b, 1);
    this.bits = bitsOf(data);
    this.columns = columnsOf(shape, layout);
  }

  /** Where it is not ±0. */
  get nonzeros(): Bitmap {
    this.#nonzeros ??= bitmapOf(this);
    return this.#nonzeros;
  }

  /** Row r in the order of the columns: in place, or a copy that the next call writes over. */
  row(r: number): Int32Array {
    const { bits, cols, columns } = this;
    if (!columns) return bits.subarray(r * cols, (r + 1) * cols);
    this.#row ??= new Int32Array(cols);
    const row = this.#row;
    for (let c = 0; c < cols; c++) row[c] = bits[columns[c] + r];
    return row;
  }
}

/** A row-major copy. */
export function toRowMajor(source: Source): Float32Array<ArrayBuffer> {
  const { rows, cols } = source;
  const data = new Float32Array(rows * cols);
  const to = bitsOf(data);
  for (let r = 0; cols && r < rows; r++) to.set(source.row(r), r * cols);
  return data;
}

/** Row-major numbers with their columns where `columns` has them; the array itself where they are in order. */
export function fromRowMajor(
  data: Float32Array<ArrayBuffer>,
  rows: number,
  cols: number,
  columns: Uint32Array | undefined,
): Float32Array<ArrayBuffer> {
  if (!columns) return data;
  const placed = new Float32Array(data.length);
  const [from, to] = [bitsOf(data), bitsOf(placed)];
  for (let c = 0; c < cols; c++) {
    for (let r = 0, at = columns[c]; r < rows; r++) to[at++] = from[r * cols + c];
  }
  return placed;
}
