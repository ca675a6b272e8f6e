// Weights as the bits of their float32.

/** As integers, NaNs keep all their bits and −0 is told from 0 without a float compare. */
export const bitsOf = (a: Float32Array): Int32Array => new Int32Array(a.buffer, a.byteOffset, a.length);

/** Numbers that are not ±0 in bits[from..to). No branch: at half zeros it would be mispredicted. */
export function countNonzeros(bits: Int32Array, from = 0, to = bits.length): number {
  let count = 0;
  for (let i = from; i < to; i++) {
    const magnitude = bits[i] << 1;
    count += (magnitude | -magnitude) >>> 31;
  }
  return count;
}
