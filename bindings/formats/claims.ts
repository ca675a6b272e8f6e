// What a packed file claims of its matrices, checked.
import { fail, MAX_ELEMENTS } from "../assert.js";

/** A number that a file claims: an integer in `min..max`, or `ERR_FORMAT`. */
export function claimed(name: string, value: unknown, min: number, max: number): void {
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    fail("ERR_FORMAT", name, `an integer in ${min}..${max}`, value);
  }
}

/** One of the values that a file may claim, or `ERR_FORMAT`. */
export function claimedOneOf<T>(name: string, value: unknown, of: readonly T[]): T {
  if (!of.includes(value as T)) fail("ERR_FORMAT", name, `one of ${of.join(", ")}`, value);
  return value as T;
}

/** An array that a file gives: of this class and length, or `ERR_FORMAT`. */
export function claimedArray(
  name: string,
  value: unknown,
  kind: Uint8ArrayConstructor | Uint16ArrayConstructor | Uint32ArrayConstructor | Float32ArrayConstructor,
  length: number,
): void {
  if (!(value instanceof kind)) fail("ERR_FORMAT", name, `a ${kind.name}`, value);
  if (value.length !== length) fail("ERR_FORMAT", name, `${length} elements`, value.length);
}

/** Sizes that a file claims, or `ERR_FORMAT`; a dimension of 0 must not hide how large the other is. */
export function claimedShape(rows: number, cols: number): void {
  claimed("rows", rows, 0, MAX_ELEMENTS);
  claimed("cols", cols, 0, Math.floor(MAX_ELEMENTS / Math.max(1, rows)));
}
