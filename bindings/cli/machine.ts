// Where the command runs.
import { cpus } from "node:os";
import type { Build, Engine } from "../index.js";

/** Put in by the bundler, from package.json. */
declare const __VERSION__: string;
export const version = typeof __VERSION__ === "string" ? __VERSION__ : "0.0.0-source";

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
