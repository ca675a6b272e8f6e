import { instantiate, instantiateSync } from "@assemblyscript/loader";
import { deflated, lengths, pieces } from "../build/wasm.js";
import { fail, oneOf } from "./assert.js";
import { KERNELS } from "./kernels.js";

/** The two Wasm builds of the one kernel source. */
export type Build = "simd128" | "relaxed";

/** What a host may bring instead of the embedded bytes. */
export type WasmSource = BufferSource | WebAssembly.Module | Response;

/** A kernel's raw export: pointers and sizes in, nothing out. */
export type KernelFunction = (...args: number[]) => number;

// Two modules of one function each that use f32x4.splat and f32x4.relaxed_madd: the smallest that only such a host takes.
const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10];
const zero = [253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const probe = (code: number[]) => {
  const body = [0, ...code, 11];
  return WebAssembly.validate(new Uint8Array([...header, body.length + 2, 1, body.length, ...body]));
};

/** Whether this host can run a build. */
export const supports = (build: Build): boolean =>
  probe(build === "relaxed" ? [...zero, ...zero, ...zero, 253, 133, 2] : zero);

/** The build that `simd` asks for, as far as the host goes. */
export function chooseBuild(simd: unknown): Build {
  const wish = oneOf("simd", simd, ["auto", "simd128", "relaxed"] as const);
  const build = wish === "auto" ? (supports("relaxed") ? "relaxed" : "simd128") : wish;
  if (!supports(build)) fail("ERR_UNSUPPORTED", "simd", `a host with WebAssembly ${build} SIMD`, "one without");
  return build;
}

let inflated: Promise<Uint8Array<ArrayBuffer>> | undefined;

/** What of a server's runtime is used where there is one. */
interface Builtins {
  getBuiltinModule?(name: "node:zlib"): { inflateRawSync(bytes: Uint8Array): Uint8Array<ArrayBuffer> } | undefined;
}

/** Both builds' bytes; inflated once. Deflated they halve the download. */
async function inflate(): Promise<Uint8Array<ArrayBuffer>> {
  // A loop, since a callback for each byte takes 8 ms of a cold start.
  const binary = atob(deflated);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  // createEngine in a fresh Node: 5.3 ms; by the streams that every host has 14.5.
  const zlib = (globalThis as { process?: Builtins }).process?.getBuiltinModule?.("node:zlib");
  if (zlib) return zlib.inflateRawSync(bytes);
  if (typeof DecompressionStream === "undefined") {
    fail("ERR_UNSUPPORTED", "wasm", "a build of your own on a host without DecompressionStream", undefined);
  }
  // Not through a Blob or a Response: naming those makes Node load an HTTP client, 50 ms.
  const stream = new DecompressionStream("deflate-raw");
  const writer = stream.writable.getWriter();
  void writer.write(bytes);
  void writer.close();
  const reader = stream.readable.getReader();
  const result = new Uint8Array(lengths[0] + lengths[1]);
  for (let at = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return result;
    result.set(value, at);
    at += value.length;
  }
}

/** A build's bytes: pieces of both lie in turn, as build.mjs put them. */
async function embedded(build: Build): Promise<Uint8Array<ArrayBuffer>> {
  inflated ??= inflate();
  const bytes = await inflated;
  const own = build === "simd128" ? 0 : 1;
  const result = new Uint8Array(lengths[own]);
  for (let i = 0, at = 0; i < pieces; i++) {
    for (const b of [0, 1]) {
      const start = Math.floor((i * lengths[b]) / pieces);
      const end = Math.floor(((i + 1) * lengths[b]) / pieces);
      if (b === own) result.set(bytes.subarray(at, at + end - start), start);
      at += end - start;
    }
  }
  return result;
}

/** What a user may hand over; a Response is told by its method. */
const isResponse = (source: unknown): source is Response =>
  typeof source === "object" && source !== null && "arrayBuffer" in source;
const isBytes = (source: unknown): source is BufferSource =>
  source instanceof ArrayBuffer || ArrayBuffer.isView(source);

/**
 * Instantiates the embedded build, or the user's own copy of one, over the engine's memory.
 *
 * @throws TypeError `ERR_TYPE`; RangeError `ERR_FORMAT` when `wasm` is no build of this library that the host can compile
 */
export async function loadKernels(build: Build, source: unknown, memory: WebAssembly.Memory) {
  if (source !== undefined && !isBytes(source) && !isResponse(source) && !(source instanceof WebAssembly.Module)) {
    fail("ERR_TYPE", "wasm", "bytes, a WebAssembly.Module or a Response", source);
  }
  const imports = { env: { memory } };
  const wasm =
    source instanceof DataView
      ? source.buffer.slice(source.byteOffset, source.byteOffset + source.byteLength)
      : (source ?? (await embedded(build)));
  let kernels: Record<string, KernelFunction> | undefined;
  let reason = "other exports";
  try {
    // The loader's asynchronous way asks for the class Response first, so bytes take its other one. Compiling stays
    // asynchronous, which a browser's main thread insists on.
    const { instance } = isResponse(wasm)
      ? await instantiate(wasm, imports)
      : instantiateSync(
          wasm instanceof WebAssembly.Module ? wasm : await WebAssembly.compile(wasm as BufferSource),
          imports,
        );
    // The loader wraps exports to convert strings and arrays, at 42 ns a call; the raw ones cost 7.
    kernels = instance.exports as unknown as Record<string, KernelFunction>;
  } catch (error) {
    reason = String(error);
  }
  if (!kernels || !KERNELS.every(({ name }) => name in kernels)) {
    fail("ERR_FORMAT", "wasm", "a build of this version of skipzeros", reason);
  }
  return kernels;
}
