// The same work on skipzeros and on what people use today, in one process, interleaved round by round.
//
//   npm run bench:peers [-- [--rounds N] FILTER]
//
// Installs the peers here first; FILTER is a part of a title, "net" the whole networks. A peer that does not load is named, and
// without any peer the command fails. On a machine whose speed changes by the minute more than 15 rounds find its best more often.
//
// Weights are constant and uploaded once; inputs and results stay in each library's memory, but for onnxruntime-web, which has no
// such thing (ort.mjs), and for whole networks, into which ours copies the image. Results are checked against plain loops
// before a time counts. A ratio is a peer's time over ours, both minima of this run (the one in brackets: both medians); where
// a work has a target, "at least" gives it, with hit or miss by the minima. A chain's time is that of one of its layers: the
// difference of two depths over the layers between them. Selections, which no peer has, are in µs, with the most they may take.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { createEngine } from "../../dist/index.js";
import { args } from "../args.js";
import { draw } from "./draw.mjs";
import { evaluate } from "./reference.mjs";
import { time } from "./rounds.mjs";
import { skipzeros } from "./skipzeros.mjs";
import { WORKS } from "./works.mjs";

const usage = "npm run bench:peers -- [--rounds N, 9 at least] [FILTER]";
const { values, positionals } = args(usage, {
  allowPositionals: true,
  options: { rounds: { type: "string", default: "15" } },
});
const filter = positionals.join(" ");
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 9) {
  console.error(`--rounds: at least 9, got ${values.rounds}\nusage: ${usage}`);
  process.exit(1);
}

const here = fileURLToPath(new URL(".", import.meta.url));
if (!existsSync(`${here}node_modules/.package-lock.json`)) {
  console.log("installing the peers …");
  execFileSync("npm", ["install", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}

const engine = await createEngine();
const ours = skipzeros(engine);
const peers = [];
for (const [name, load] of [
  ["TensorFlow.js", async () => (await import("./tfjs.mjs")).tfjs()],
  ["LiteRT.js", async () => (await import("./litert.mjs")).litert(engine.simd === "relaxed")],
  ["onnxruntime-web", async () => (await import("./ort.mjs")).onnxruntime()],
]) {
  try {
    peers.push(await load());
  } catch (error) {
    console.log(`SKIP ${name}, which does not load here: ${error.message}`);
  }
}

/** Throws unless a result is as expected up to rounding, and says something. */
function compare(name, actual, expected) {
  const most = (a, size) => a.reduce((most, v, i) => Math.max(most, size(v, i)), 0); // a NaN stays
  const scale = most(expected, Math.abs);
  const error = actual.length === expected.length ? most(actual, (v, i) => Math.abs(v - expected[i])) : NaN;
  if (!(error <= 1e-4 * scale)) throw new Error(`${name} differs by ${error} where numbers reach ${scale}`);
  if (expected.every((v) => v === expected[0])) throw new Error(`all results are ${expected[0]}`);
}

/** Who does a work, with their short names. */
function contenders({ kind, sparsePath }) {
  const others = peers.flatMap((peer) => (sparsePath && peer.sparse ? [peer, peer.sparse] : [peer]));
  return [ours, ...(kind === "winners" ? [] : others)].map((library) => ({
    ...library,
    id: library.name.split(" ")[0],
  }));
}

/** Each library's builds of a work (one, or one for each depth of a chain), checked. */
async function build(work) {
  const drawn = draw(work, engine);
  const depths = work.depths?.map((depth) => depth + 1) ?? [Infinity];
  const cut = (graph) => depths.map((depth) => ({ ...graph, ops: graph.ops.slice(0, depth) }));
  const withResults = (graphs) => graphs.map((graph) => ({ graph, expected: evaluate(graph) }));
  const given = withResults(cut(drawn));
  const theirs = drawn.peers ? withResults(cut(drawn.peers)) : given;
  const entries = [];
  for (const { name, id, build } of contenders(work)) {
    const builds = [];
    for (const { graph, expected } of name === ours.name ? given : theirs) {
      const built = await build(graph);
      compare(name, await built.result(), expected);
      builds.push(built);
    }
    entries.push({ name, id, builds });
  }
  return entries;
}

/** How ours compares with the best peer, unless that has a target by name, and with those that have one. */
function verdicts([own, ...others], { targets = {}, most }) {
  if (most) return [`at most ${most} µs: ${own.min * 1000 <= most ? "hit" : "miss"}`];
  if (!others.length) return ["no peer to compare with"];
  const best = others.reduce((a, b) => (b.min < a.min ? b : a));
  const wanted = Object.entries(targets);
  if (!("best" in targets || best.id in targets)) wanted.unshift(["best"]);
  return wanted.map(([id, least]) => {
    const peer = id === "best" ? best : others.find((other) => other.id === id);
    if (!peer) return `${id} did not run: at least ${least}x is not judged`;
    const ratio = peer.min / own.min;
    const text = `${ratio.toFixed(2)}x (${(peer.median / own.median).toFixed(2)}x) ${peer.name}`;
    return least ? `${text}, at least ${least}x: ${ratio >= least ? "hit" : "miss"}` : text;
  });
}

async function report(work) {
  const results = await time(await build(work), work.depths, rounds);
  const figure = (ms) => (work.most ? `${(ms * 1000).toFixed(2)} µs` : ms.toFixed(4));
  const text = results.map(({ id, min, median }) => `${id} ${figure(min)} (${figure(median)})`);
  console.log([`${work.title.padEnd(34)} ${text.join("  ")}`, ...verdicts(results, work)].join(" | "));
}

console.log(
  `${cpus()[0].model}, Node ${process.version}, skipzeros ${engine.simd}, one thread, ${rounds} rounds; ms min (median)`,
);
const chosen = WORKS.filter(({ title }) => title.includes(filter));
let failed = chosen.length === 0 || peers.length === 0;
if (chosen.length === 0) console.log(`no work's title has: ${filter}`);
for (const work of chosen) {
  try {
    await report(work);
  } catch (error) {
    console.log(`FAIL ${work.title}: ${error.message}`);
    failed = true;
  }
}
process.exit(failed ? 1 : 0);
