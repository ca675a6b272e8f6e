// What a number is measured on and against.
import { mkdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { main as asc } from "assemblyscript/asc";
import type { Build } from "../bindings/builds.js";

export const machine = {
  cpu: cpus()[0].model.trim(),
  node: process.version,
  date: new Date().toISOString().slice(0, 10),
};

/** Floating-point operations of one call of the function that {@link limitOf} returns. */
export const LIMIT_FLOPS = 20_000 * 12 * 8;

/** The register-only multiply-add loop of a build. */
export async function limitOf(build: Build): Promise<() => void> {
  mkdirSync("build", { recursive: true });
  const enable = build === "relaxed" ? ["--enable", "relaxed-simd"] : [];
  const file = `build/limit.${build}.wasm`;
  const config = ["--config", "none", "-O3", "--runtime", "stub", "--noAssert", "--uncheckedBehavior", "always"];
  const { error } = await asc(["bench/limit.ts", "-o", file, ...config, "--enable", "simd", ...enable]);
  if (error) throw error;
  const { instance } = await WebAssembly.instantiate(readFileSync(file));
  const { limit, memory } = instance.exports as { limit(n: number, p: number): void; memory: WebAssembly.Memory };
  if (memory.buffer.byteLength === 0) memory.grow(1);
  new Float32Array(memory.buffer).fill(0.5);
  return () => limit(20_000, 1024);
}
