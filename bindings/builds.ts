import { instantiate } from "@assemblyscript/loader";
import { relaxed, simd128 } from "../build/wasm.js";
import { fail, oneOf } from "./assert.js";

/** The two Wasm builds of the one kernel source. */
export type Build = "simd128" | "relaxed";

/** What a host may bring instead of the embedded bytes. */
export type WasmSource = BufferSource | WebAssembly.Module | Response;

/** A kernel's raw export: pointers and sizes in, nothing out. */
export type KernelFunction = (...args: number[]) => number;

const BUILDS: Record<Build, string> = { simd128, relaxed };

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

/** Instantiates a build, or the user's own copy of it, over the engine's memory. */
export async function loadKernels(build: Build, source: WasmSource | undefined, memory: WebAssembly.Memory) {
  const wasm = source ?? Uint8Array.from(atob(BUILDS[build]), (c) => c.charCodeAt(0));
  // The loader wraps exports to convert strings and arrays, at 42 ns a call; the raw ones cost 7.
  const { instance } = await instantiate(wasm as Parameters<typeof instantiate>[0], { env: { memory } });
  return instance.exports as unknown as Record<string, KernelFunction>;
}
