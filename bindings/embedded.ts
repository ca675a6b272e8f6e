import { texts } from "../build/wasm.js";
import type { Build } from "./builds.js";

/** A build's bytes: every second text is of the other one, and a character is a byte and 35. */
export function embedded(build: Build): WebAssembly.Module | Uint8Array<ArrayBuffer> {
  const own = texts.filter((_, i) => i % 2 === (build === "simd128" ? 0 : 1));
  const bytes = new Uint8Array(own.reduce((n, text) => n + text.length, 0));
  let at = 0;
  // A loop, since a callback for each byte takes 8 ms of a cold start. The array keeps the lowest eight bits.
  for (const text of own) for (let i = 0; i < text.length; i++) bytes[at++] = text.charCodeAt(i) - 35;
  return bytes;
}
