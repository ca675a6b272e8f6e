import { instantiateSync } from "@assemblyscript/loader";
import { embedded } from "#embedded";
import { fail, isBytes, oneOf } from "./assert.js";
import { KERNELS } from "./kernels.js";

/** The two Wasm builds of the one kernel source. */
export type Build = "simd128" | "relaxed";

/** What a host may bring instead of the embedded bytes. */
export type WasmSource = BufferSource | WebAssembly.Module | Response;

/** A raw export: pointers and sizes in; only `is_relaxed` and `dense_gemm_rows` give something back. */
export type KernelFunction = (...args: number[]) => number;

// Two modules of one function each that use v128.const and f32x4.relaxed_madd: the smallest that only such a host takes.
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

/** What a user may hand over; a Response is told by its method. */
const isResponse = (source: unknown): source is Response =>
  typeof source === "object" && source !== null && "arrayBuffer" in source;
const isSource = (source: unknown): source is BufferSource => isBytes(source) || ArrayBuffer.isView(source);

async function bodyOf(response: Response): Promise<ArrayBuffer> {
  if (response.ok === false) throw new Error(`HTTP status ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

/**
 * Instantiates the embedded build, or the user's own copy of one, over the engine's memory.
 *
 * @throws TypeError `ERR_TYPE`; RangeError `ERR_FORMAT` when `wasm` is no build of this library that the host can compile
 */
export async function loadKernels(build: Build, source: unknown, memory: WebAssembly.Memory) {
  if (source !== undefined && !isSource(source) && !isResponse(source) && !(source instanceof WebAssembly.Module)) {
    fail("ERR_TYPE", "wasm", "bytes, a WebAssembly.Module or a Response", source);
  }
  const imports = { env: { memory } };
  const wasm =
    source instanceof DataView
      ? source.buffer.slice(source.byteOffset, source.byteOffset + source.byteLength)
      : (source ?? embedded(build));
  let kernels: Record<string, KernelFunction> | undefined;
  let found = "other exports";
  let reason = "";
  try {
    // The loader's asynchronous way asks for the class Response first and insists on a response's MIME type, so all take its
    // other one. Compiling stays asynchronous, which a browser's main thread insists on.
    const bytes = isResponse(wasm) ? await bodyOf(wasm) : wasm;
    const module = bytes instanceof WebAssembly.Module ? bytes : await WebAssembly.compile(bytes);
    const { instance } = instantiateSync(module, imports);
    // The loader wraps exports to convert strings and arrays, at 42 ns a call; the raw ones cost 7.
    kernels = instance.exports as unknown as Record<string, KernelFunction>;
  } catch (error) {
    found = "none";
    reason = `: ${String(error).slice(0, 200)}`;
  }
  if (!kernels || !KERNELS.every(({ name }) => name in kernels)) {
    fail("ERR_FORMAT", "wasm", "a build of this version of skipzeros", found, reason);
  }
  const { table } = kernels as unknown as { table: WebAssembly.Table };
  table.grow(KERNELS.length);
  for (const { op, index, name } of KERNELS) if (op === "spmm") table.set(index, kernels[name]);
  return kernels;
}
