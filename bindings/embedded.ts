import { texts } from "../build/wasm.js";
import type { Build } from "./builds.js";

/**
 * A module with a page of memory "m" and a function "f" that takes 35 from each byte, 16 at a time, from an address down to 0:
 * `loop (v128.store p (i8x16.sub (v128.load p) (i8x16.splat 35))) (br_if (i32.ge_s (p -= 16) 0))`.
 */
// biome-ignore format: a section a line
const UNSHIFT = [
  0, 97, 115, 109, 1, 0, 0, 0,
  1, 5, 1, 96, 1, 127, 0, // (param i32)
  3, 2, 1, 0,
  5, 3, 1, 0, 1, // one page
  7, 9, 2, 1, 109, 2, 0, 1, 102, 0, 0,
  10, 37, 1, 35, 0, 3, 64, 32, 0, 32, 0, 253, 0, 4, 0, 65, 35, 253, 15, 253, 113, 253, 11, 4, 0, // store
  32, 0, 65, 16, 107, 34, 0, 65, 0, 78, 13, 0, 11, 11, // next
];

/**
 * A build's bytes: every second text is of the other one, and a character is a byte plus 35. A Wasm module takes the 35 off, and
 * Node's and Bun's Buffer makes bytes of characters: loops in JavaScript would run before V8 optimises them. createEngine in a fresh
 * process takes 2.9 ms, with a loop over words 4.3 (Node 20 4.2 and 7.7; Cascade Lake, 2026-11-23).
 */
export function embedded(build: Build): WebAssembly.Module | Uint8Array<ArrayBuffer> {
  const text = texts()
    .filter((_, i) => i % 2 === (build === "simd128" ? 0 : 1))
    .join("");
  const { Buffer } = globalThis as { Buffer?: { from(text: string, encoding: "latin1"): Uint8Array } };
  const shifted = Buffer ? Buffer.from(text, "latin1") : new Uint8Array(text.length);
  if (!Buffer) for (let i = 0; i < text.length; i++) shifted[i] = text.charCodeAt(i);
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(UNSHIFT)));
    const { m, f } = exports as { m: WebAssembly.Memory; f(last: number): void };
    const bytes = new Uint8Array(m.buffer, 0, text.length);
    bytes.set(shifted);
    f((text.length - 1) & ~15);
    return bytes;
  } catch {
    // A host that refuses a second memory.
    return new Uint8Array(shifted).map((byte) => byte - 35);
  }
}
