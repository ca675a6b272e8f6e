// npm run bench [-- FILTER] [--json FILE] [--quick]
//
// Runs the suites of bench/suites. FILTER is words that a row's suite, build, shape and name must all have; if the first is a
// suite's name, only that one runs: "spmm relaxed BERT csr". GF are 10⁹ operations a second on nonzeros, the limit is the
// register-only multiply-add of the same run, "x dense" the time of our own dense kernel for the same work over the row's.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { builds } from "../test/oracle.js";
import { Bench } from "./groups.js";
import { machine } from "./machine.js";
import { describe, type Results } from "./rows.js";
import { BY_NAME, SUITES } from "./suites.js";
import { describeVerdict, verdicts } from "./targets.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" }, quick: { type: "boolean" } },
});
const words = positionals.flatMap((text) => text.split(" ")).filter(Boolean);
const named = words[0] in SUITES ? words.shift() : undefined;
const rounds = flags.quick ? 3 : 11;
const bench = new Bench(builds, rounds, words, console.log);

console.log(describe(machine, rounds));
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
if (bench.rows.length === 0) console.log(`no row has all of: ${positionals.join(" ")}`);
const results: Results = { machine, rounds, rows: bench.rows };
if (flags.json) writeFileSync(flags.json, JSON.stringify(results, null, 1));
