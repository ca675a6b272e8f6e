// npm run bench -- [FILTER] [--json FILE] [--quick] [--revectorize]
//
// Runs the suites of bench/suites. FILTER is words that a row's suite, build, shape and name must all have; if the first is a
// suite's name, only that one runs: "spmm relaxed BERT csr". GF are 10⁹ operations a second on nonzeros, the limit is the
// register-only multiply-add of the same run, "x dense" the time of our own dense kernel for the same work over the row's. With
// --revectorize all rows are measured in another process first, whose V8 fuses neighbouring 128-bit operations to 256 bits (a flag
// today): "256 bit" is the time without over the time with it, of two processes that is.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { builds } from "../test/oracle.js";
import { args } from "./args.js";
import { Bench } from "./groups.js";
import { machine } from "./machine.js";
import { describe, keyOf, type Results } from "./rows.js";
import { BY_NAME, SUITES } from "./suites.js";
import { describeVerdict, verdicts } from "./targets.js";

const { values: flags, positionals } = args("npm run bench -- [WORDS] [--json FILE] [--quick] [--revectorize]", {
  allowPositionals: true,
  options: { json: { type: "string" }, quick: { type: "boolean" }, revectorize: { type: "boolean" } },
});
const words = positionals.flatMap((text) => text.split(" ")).filter(Boolean);
const named = words[0] in SUITES ? words.shift() : undefined;
const rounds = flags.quick ? 3 : 11;

function revectorized(): Map<string, number> {
  const folder = mkdtempSync(join(tmpdir(), "skipzeros-"));
  try {
    const json = join(folder, "rows.json");
    const flag = "--experimental-wasm-revectorize";
    const own = [process.argv[1], ...positionals, "--json", json, ...(flags.quick ? ["--quick"] : [])];
    const { status, stderr } = spawnSync(process.execPath, [flag, "--import", "tsx", ...own], { encoding: "utf8" });
    if (status !== 0) {
      console.log(`SKIP 256 bit: ${stderr.trim().split("\n")[0]}`);
      return new Map();
    }
    const { rows } = JSON.parse(readFileSync(json, "utf8")) as Results;
    return new Map(rows.map((row) => [keyOf(row), row.min]));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (flags.json !== undefined) {
  // Now, as it takes a while until there is something to write.
  try {
    mkdirSync(dirname(flags.json), { recursive: true });
    writeFileSync(flags.json, "", { flag: "a" });
  } catch (error) {
    console.error(`--json: ${flags.json || "an empty name"} cannot be written: ${(error as Error).message}`);
    process.exit(1);
  }
}

console.log(describe(machine, rounds));
const bench = new Bench(builds, rounds, words, console.log, flags.revectorize ? revectorized() : undefined);
for (const [name, suite] of Object.entries(SUITES)) {
  if (named ? name !== named : BY_NAME.includes(name)) continue;
  const start = performance.now();
  const before = bench.rows.length;
  await suite(bench);
  const rows = bench.rows.slice(before);
  if (rows.length === 0) continue;
  console.log(`\n${name}: ${rows.length} rows in ${((performance.now() - start) / 1000).toFixed(0)} s`);
  for (const verdict of verdicts(rows)) console.log(describeVerdict(verdict));
}
if (bench.rows.length === 0) {
  console.log(`no row has all of: ${positionals.join(" ")}`);
  process.exitCode = 1;
}
const results: Results = { machine, rounds, rows: bench.rows };
if (flags.json) writeFileSync(flags.json, JSON.stringify(results, null, 1));
