// The same work on skipzeros and on what people use today, in one process, interleaved round by round.
//
//   npm run bench:peers [-- FILTER]      installs the peers here first
//
// Weights are constant and uploaded once; inputs and results stay in each library's memory. Outputs are compared before a
// time counts. A ratio is the best peer's time over ours, both minima of this run (the one in brackets: both medians); where a
// work has a target, "at least" gives it, with hit or miss by the minima. A chain's time is that of one of its layers: the
// difference of two depths over the layers between them. Selections, which no peer has, are in µs, with the most they may take.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { createEngine } from "../../dist/index.js";
import { skipzeros } from "./skipzeros.mjs";
import { draw, WORKS } from "./works.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
if (!existsSync(`${here}node_modules`)) {
  console.log("installing the peers …");
  execFileSync("npm", ["install", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}
const filter = process.argv[2] ?? "";
const ROUNDS = 15;

const engine = await createEngine();
const libraries = [skipzeros(engine)];
for (const load of [
  async () => (await import("./tfjs.mjs")).tfjs(),
  async () => (await import("./litert.mjs")).litert(engine.simd === "relaxed"),
]) {
  try {
    libraries.push(await load());
  } catch (error) {
    console.log(`SKIP a peer that does not load here: ${error.message}`);
  }
}

/**
 * ms of one call, as the mean over a sample of at least 10 ms that begins with an untimed call: each library meets its own
 * data in the caches, not the last one's.
 */
async function sample(run, calls) {
  await run();
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const pending = run();
    if (pending) await pending;
  }
  return (performance.now() - start) / calls;
}

/** Throws unless two results are the same up to rounding, and say something. */
function compare(title, actual, expected) {
  let worst = actual.length === expected.length ? 0 : NaN;
  for (let i = 0; i < actual.length; i++) worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
  if (!(worst < 2e-3)) throw new Error(`${title} differs by ${worst}`);
  if (expected.every((v) => v === expected[0])) throw new Error(`${title}: all results are ${expected[0]}`);
}

/** Who can do a work. */
function able(work) {
  if (work.depths) return libraries.flatMap(({ chains = [] }) => chains);
  return work.scope ? libraries.slice(0, 1) : libraries;
}

/** Each library's builds of a work (one, or one for each depth of a chain), checked against the first library's or what is expected. */
async function build(work) {
  const given = draw(work);
  const entries = [];
  for (const { name, build } of able(work)) {
    const builds = [];
    for (const depth of work.depths ?? [1]) {
      const built = await build(given, depth);
      if (given.expected) compare(`${work.title}: ${name}`, await built.result(), given.expected);
      if (entries.length) {
        compare(`${work.title}: ${name}`, await built.result(), await entries[0].builds[builds.length].result());
      }
      builds.push(built);
    }
    entries.push({ name, builds });
  }
  return entries;
}

console.log(
  `${cpus()[0].model}, Node ${process.version}, skipzeros ${engine.simd}, one thread, ${ROUNDS} rounds; ms min (median)`,
);
for (const work of WORKS) {
  const { title, depths, least, most } = work;
  if (!title.includes(filter)) continue;
  const entries = await build(work);
  const all = entries.flatMap(({ builds }) => builds);
  for (const built of all) {
    for (let i = 0; i < 30; i++) await built.run();
    built.calls = Math.max(1, Math.ceil(10 / (await sample(built.run, 3))));
    built.times = [];
  }
  for (let r = 0; r < ROUNDS; r++) for (const built of all) built.times.push(await sample(built.run, built.calls));
  for (const built of all) {
    built.times.sort((a, b) => a - b);
    built.free();
  }
  const results = entries.map(({ name, builds: [one, deep] }) => {
    const at = (i) => (deep ? (deep.times[i] - one.times[i]) / (depths[1] - depths[0]) : one.times[i]);
    return { name, min: at(0), median: at(ROUNDS >> 1) };
  });
  const [ours, ...peers] = results;
  const figure = (ms) => (most ? `${(ms * 1000).toFixed(2)} µs` : ms.toFixed(4));
  const text = results.map((e) => `${e.name.split(" ")[0]} ${figure(e.min)} (${figure(e.median)})`);
  let verdict = most ? ` | at most ${most} µs: ${ours.min * 1000 <= most ? "hit" : "miss"}` : "";
  if (peers.length) {
    const best = peers.reduce((a, b) => (b.min < a.min ? b : a));
    const ratio = best.min / ours.min;
    verdict = ` | ${ratio.toFixed(2)}x (${(best.median / ours.median).toFixed(2)}x) ${best.name}`;
    if (least) verdict += `, at least ${least}x: ${ratio >= least ? "hit" : "miss"}`;
  }
  console.log(`${title.padEnd(34)} ${text.join("  ")}${verdict}`);
}
process.exit(0);
