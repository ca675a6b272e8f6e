// What a number is measured on and against.
import { mkdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { main as asc } from "assemblyscript/asc";
import type { Build } from "../bindings/builds.js";
import type { Machine } from "./rows.js";

export const machine: Machine = {
  cpu: cpus()[0].model.trim(),
  node: process.version,
  date: new Date().toISOString().slice(0, 10),
};

const TURNS = 20_000;

/** Floating-point operations of one call of the function that {@link limitOf} returns. */
export const LIMIT_FLOPS = TURNS * 12 * 8;

/** Where the loops' buffer starts: above what AssemblyScript keeps for itself. */
const BUFFER = 1024;

interface Limits {
  limit(n: number, p: number): void;
  loads(n: number, p: number, bytes: number): void;
  memory: WebAssembly.Memory;
}

const modules = new Map<Build, Promise<WebAssembly.Module>>();

/** bench/limit.ts in a build, compiled once. */
async function compile(build: Build): Promise<WebAssembly.Module> {
  mkdirSync("build", { recursive: true });
  const enable = build === "relaxed" ? ["--enable", "relaxed-simd"] : [];
  const file = `build/limit.${build}.wasm`;
  const config = ["--config", "none", "-O3", "--runtime", "stub", "--noAssert", "--uncheckedBehavior", "always"];
  const { error } = await asc(["bench/limit.ts", "-o", file, ...config, "--enable", "simd", ...enable]);
  if (error) throw error;
  return WebAssembly.compile(readFileSync(file));
}

async function instantiate(build: Build, bytes: number): Promise<Limits> {
  if (!modules.has(build)) modules.set(build, compile(build));
  const module = (await modules.get(build)) as WebAssembly.Module;
  const limits = (await WebAssembly.instantiate(module)).exports as unknown as Limits;
  const { memory } = limits;
  memory.grow(Math.max(0, Math.ceil((BUFFER + bytes - memory.buffer.byteLength) / 65536)));
  new Float32Array(memory.buffer).fill(0.5);
  return limits;
}

/** The register-only multiply-add loop of a build. */
export async function limitOf(build: Build): Promise<() => void> {
  const { limit } = await instantiate(build, 4096);
  return () => limit(TURNS, BUFFER);
}

/** Loads a buffer of so many bytes, a multiple of 256, n times a call. */
export async function loadsOf(build: Build, bytes: number, n: number): Promise<() => void> {
  const { loads } = await instantiate(build, bytes);
  return () => loads(n, BUFFER, bytes);
}
