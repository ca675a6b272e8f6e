/** The stable part of an error: programs branch on it, the message is for people. */
export type ErrorCode =
  | "ERR_TYPE" // the argument is of the wrong type
  | "ERR_SHAPE" // a shape is malformed or does not fit the others
  | "ERR_LENGTH" // an array does not hold as many elements as its shape says
  | "ERR_VALUE" // a number or a name outside the values allowed
  | "ERR_DISPOSED" // the tensor, weight or engine was disposed
  | "ERR_ENGINE" // the tensor or weight belongs to another engine
  | "ERR_MEMORY" // maxMemory, or the host, has no more
  | "ERR_FORMAT" // a file's bytes break the format they claim
  | "ERR_UNSUPPORTED"; // this host or this build lacks what was asked for

/** What every deliberate error of this library carries besides its message. */
export interface CodedError extends Error {
  code: ErrorCode;
}

/** `"name" expected what, got that`, as a `TypeError` when the code says so and a `RangeError` otherwise. */
export function fail(code: ErrorCode, name: string, expected: string, got: unknown, where = ""): never {
  const text = `"${name}" expected ${expected}, got ${show(got)}${where}`;
  const error = code === "ERR_TYPE" ? new TypeError(text) : new RangeError(text);
  throw Object.assign(error, { code });
}

/** A short, safe rendering of a user's value: never its whole contents. */
export function show(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "string") return value.length > 40 ? `"${value.slice(0, 40)}…"` : `"${value}"`;
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "undefined") return String(value);
  if (typeof value === "bigint") return value < 2n ** 64n && value > -(2n ** 64n) ? `${value}n` : "a large bigint";
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (Array.isArray(value)) {
    if (value.length > 8) return `an array of ${value.length}`;
    return `[${value.map((v) => (typeof v === "object" && v !== null ? "…" : show(v))).join(", ")}]`;
  }
  const array = kindOf(value);
  if (array) return `${array}(${lengthOf.call(value)})`;
  const kind = value.constructor?.name;
  if (typeof kind !== "string" || kind === "" || kind.length > 40) return "an object";
  return `${/^[AEIOU]/.test(kind) ? "an" : "a"} ${kind}`;
}

/** An integer in `min..max`. Both bounds are inclusive. */
export function integer(name: string, value: unknown, min: number, max = 2 ** 31 - 1): number {
  if (typeof value !== "number") fail("ERR_TYPE", name, "an integer", value);
  if (!Number.isInteger(value) || value < min || value > max) {
    fail(
      "ERR_VALUE",
      name,
      max === 2 ** 31 - 1 ? `an integer of at least ${min}` : `an integer in ${min}..${max}`,
      value,
    );
  }
  return value;
}

/** One of a closed set of names or numbers, or `otherwise` when the option was not given. */
export function oneOf<T extends string | number>(name: string, value: unknown, of: readonly T[], otherwise?: T): T {
  if (value === undefined && otherwise !== undefined) return otherwise;
  if (!of.includes(value as T)) {
    fail(typeof value === typeof of[0] ? "ERR_VALUE" : "ERR_TYPE", name, `one of ${of.join(", ")}`, value);
  }
  return value as T;
}

/** A boolean, false when it was not given. */
export function flag(name: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== "boolean") fail("ERR_TYPE", name, "a boolean", value);
  return value === true;
}

/** A number that is neither infinite nor NaN. */
export function finite(name: string, value: unknown): number {
  if (typeof value !== "number") fail("ERR_TYPE", name, "a number", value);
  if (!Number.isFinite(value)) fail("ERR_VALUE", name, "a finite number", value);
  return value;
}

/** A share of something: a number in 0..1. */
export function share(name: string, value: unknown): number {
  if (typeof value !== "number") fail("ERR_TYPE", name, "a number in 0..1", value);
  if (!(value >= 0 && value <= 1)) fail("ERR_VALUE", name, "a number in 0..1", value);
  return value;
}

/** A user's name for something as messages show it: a hostile one may be megabytes long. */
export const label = (name: string, most = 80): string => (name.length > most ? `${name.slice(0, most)}…` : name);

/** A plain options object; unknown keys are refused, so that a misspelt option is never silently ignored. */
export function options<T extends object>(name: string, value: T | undefined, keys: readonly string[]): T {
  if (value === undefined) return {} as T;
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail("ERR_TYPE", name, "an object", value);
  for (const key in value) {
    if (!keys.includes(key)) fail("ERR_VALUE", name, `the keys ${keys.join(", ")}`, key);
  }
  return value;
}

/** Most elements one array may have: float32 byte offsets inside the engine are 32 bits. */
export const MAX_ELEMENTS = 2 ** 30 - 16;

/** More dimensions than any framework has. */
export const MAX_RANK = 32;

/** What a typed array is and how long, whatever its class says: that decides what is written where. */
const own = (key: PropertyKey): (() => unknown) =>
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), key)?.get as () => unknown;
const [tagOf, lengthOf] = [own(Symbol.toStringTag), own("length")];

/** The name of a typed array's class, another realm's (a frame's, a test runner's) too; undefined for what is none. */
export const kindOf = (value: unknown): string | undefined => tagOf.call(value) as string | undefined;

/** A file's bytes. */
export const isBytes = (value: unknown): value is Uint8Array | ArrayBuffer =>
  kindOf(value) === "Uint8Array" || Object.prototype.toString.call(value) === "[object ArrayBuffer]";

export const isShape = (value: unknown): value is ArrayLike<number> =>
  Array.isArray(value) || /^U?[Ii]nt32Array$/.test(kindOf(value) ?? "");

/** A checked copy of a shape, which nobody changes afterwards, and its number of elements. */
export function shapeOf(name: string, value: unknown): { shape: readonly number[]; size: number } {
  // Copied before it is checked: what was checked must be what is used.
  const shape = isShape(value) && value.length <= MAX_RANK ? Array.prototype.slice.call(value) : value;
  const size = sizeOf(name, shape);
  return { shape: shape as readonly number[], size };
}

/** The number of elements of a shape, after checking each dimension. */
export function sizeOf(name: string, shape: unknown): number {
  if (!isShape(shape)) fail("ERR_TYPE", name, "an array of dimensions", shape);
  if (shape.length > MAX_RANK) fail("ERR_SHAPE", name, `at most ${MAX_RANK} dimensions`, shape.length);
  let size = 1;
  let most = 1;
  for (let i = 0; i < shape.length; i++) {
    const d = shape[i];
    if (typeof d !== "number") fail("ERR_TYPE", name, "numbers as dimensions", d, ` at ${i}`);
    if (!Number.isInteger(d) || d < 0)
      fail("ERR_SHAPE", name, "dimensions that are integers of at least 0", d, ` at ${i}`);
    size *= d;
    most *= Math.max(d, 1);
  }
  // A zero dimension must not hide how large the others are.
  if (most > MAX_ELEMENTS) fail("ERR_SHAPE", name, `at most ${MAX_ELEMENTS} elements`, shape);
  return size;
}

export const isFloats = (value: unknown): value is Float32Array => kindOf(value) === "Float32Array";

/** A `Float32Array` of exactly `length` elements. For none a new one: a detached array has none either, but no view can be made of it. */
export function floats(name: string, value: unknown, length: number): Float32Array {
  if (!isFloats(value)) fail("ERR_TYPE", name, "a Float32Array", value);
  const count = lengthOf.call(value);
  if (count !== length) fail("ERR_LENGTH", name, `${length} elements`, count);
  return length ? value : new Float32Array();
}
