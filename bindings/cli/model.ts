// Files from outside, and where the command runs.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { type Build, type Engine, readSafetensors, type SafetensorsFile } from "../index.js";

/** Put in by the bundler, from package.json. */
declare const __VERSION__: string;
export const version = typeof __VERSION__ === "string" ? __VERSION__ : "0.0.0-source";

/** A safetensors file, and how many bytes it has; what is wrong with it is said in a sentence. */
export function readModel(path: string): SafetensorsFile & { bytes: number } {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Error(`There is no file ${path}.`);
    if (code === "EISDIR") throw new Error(`${path} is a folder, not a safetensors file.`);
    if (code === "ERR_FS_FILE_TOO_LARGE") throw new Error(`${path} is over 2 GiB: take its shards one by one.`);
    throw new Error(`${path} cannot be read: ${message}`);
  }
  try {
    return { ...readSafetensors(bytes), bytes: bytes.length };
  } catch (error) {
    throw new Error(`${path} is not a safetensors file: ${messageOf(error)}`);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Puts a name before the message of what goes wrong. */
export function named<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new Error(`${name}: ${messageOf(error)}`);
  }
}

/** What ran where and when, for a report that someone else reads. */
export interface Machine {
  cpu: string;
  runtime: string;
  simd: Build;
  version: string;
  date: string;
}

export const machineOf = ({ simd }: Engine): Machine => ({
  cpu: cpus()[0]?.model.trim() || "unknown CPU",
  runtime: runtimeName(),
  simd,
  version,
  date: new Date().toISOString().slice(0, 10),
});

export const describeMachine = ({ cpu, runtime, simd, version, date }: Machine): string =>
  `${cpu}, ${runtime}, skipzeros ${version} (${simd}), ${date}`;

function runtimeName(): string {
  const { bun, deno, v8 } = process.versions as Record<string, string | undefined>;
  if (bun) return `Bun ${bun}`;
  return deno ? `Deno ${deno} (V8 ${v8})` : `Node.js ${process.version} (V8 ${v8})`;
}
