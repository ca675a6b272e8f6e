// The same work on skipzeros and on what people use today, in one process, interleaved round by round.
//
//   npm run bench:peers [-- FILTER]      installs the peers here first
//
// Weights are constant and uploaded once; inputs and results stay in each library's memory. Outputs are compared before a
// time counts. A ratio is the best dense peer's time over ours, both minima of this run.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { createEngine } from "../../dist/index.js";

const here = fileURLToPath(new URL(".", import.meta.url));
if (!existsSync(`${here}node_modules`)) {
  console.log("installing the peers …");
  execFileSync("npm", ["install", "--no-audit", "--no-fund"], { cwd: here, stdio: "inherit" });
}
const filter = process.argv[2] ?? "";
const ROUNDS = 15;

const engine = await createEngine();
const peers = [];
for (const load of [
  async () => (await import("./tfjs.mjs")).tfjs(),
  async () => (await import("./litert.mjs")).litert(engine.simd === "relaxed"),
]) {
  try {
    peers.push(await load());
  } catch (error) {
    console.log(`SKIP a peer that does not load here: ${error.message}`);
  }
}

let state = 1;
/** Uniform in −1..1 (mulberry32). */
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
};
const values = (n, zeros = 0) =>
  Float32Array.from({ length: n }, () => (zeros && Math.abs(random()) < zeros ? 0 : random()));

const linear = (rows, k, m, zeros, format) => ({ rows, k, m, zeros, format, name: `linear ${rows} × ${k} × ${m}` });
const conv = (size, c, m, kernel, zeros, format) => ({
  size,
  c,
  m,
  kernel,
  zeros,
  format,
  name: `conv ${kernel}x${kernel}, ${size}², ${c}→${m}`,
});
const WORKS = [
  linear(64, 512, 512, 0, "dense"),
  linear(64, 1024, 1024, 0, "dense"),
  linear(1, 512, 512, 0, "dense"),
  linear(1, 1024, 1024, 0, "dense"),
  linear(1, 2048, 2048, 0, "dense"),
  conv(28, 128, 128, 3, 0, "dense"),
  conv(14, 512, 512, 1, 0, "dense"),
  linear(64, 512, 512, 0.9, "csr"),
  linear(64, 1024, 1024, 0.9, "csr"),
  linear(1, 1024, 1024, 0.9, "csr"),
  linear(1, 1024, 1024, 0.95, "csr"),
  conv(28, 128, 128, 3, 0.9, "csr"),
  conv(14, 512, 512, 1, 0.9, "csr"),
  conv(14, 256, 256, 3, 0.9, "csr"),
];

/** ms of one call, as the mean over a sample of at least 10 ms: each library meets its own data in the caches, not the last one's. */
async function sample(run, calls) {
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const pending = run();
    if (pending) await pending;
  }
  return (performance.now() - start) / calls;
}

function ours({ rows, k, m, zeros, format, size, c, kernel }) {
  if (!kernel) {
    const w = values(m * k, zeros);
    const x = values(rows * k);
    const packed = engine.pack(w, [m, k], { format });
    const input = engine.tensor(x, [rows, k]);
    const out = engine.linear(input, packed);
    return {
      layer: { x, xShape: [rows, k], w, wShape: [m, k], yShape: [rows, m] },
      run: () => void engine.linear(input, packed, { out }),
      result: () => out.toArray(),
      free: () => [packed, input, out].forEach((t) => t.dispose()),
    };
  }
  // The peers take nhwc, ours its own nchw; pixels and weights are the same.
  const same = kernel > 1;
  const [x, w] = [values(size * size * c), values(m * kernel * kernel * c, zeros)];
  const turn = (a, outer, pixels, inner) => {
    const y = new Float32Array(a.length);
    for (let o = 0; o < outer; o++)
      for (let p = 0; p < pixels; p++)
        for (let i = 0; i < inner; i++) y[(o * inner + i) * pixels + p] = a[(o * pixels + p) * inner + i];
    return y;
  };
  const packed = engine.pack(turn(w, m, kernel * kernel, c), [m, c, kernel, kernel], { format });
  const input = engine.tensor(turn(x, 1, size * size, c), [1, c, size, size]);
  const options = { padding: same ? "same" : 0 };
  const out = engine.conv2d(input, packed, options);
  return {
    layer: {
      x,
      xShape: [1, size, size, c],
      w,
      wShape: [m, kernel, kernel, c],
      yShape: [1, size, size, m],
      conv: { same },
    },
    run: () => void engine.conv2d(input, packed, { ...options, out }),
    result: () => turn(out.toArray(), 1, m, size * size),
    free: () => [packed, input, out].forEach((t) => t.dispose()),
  };
}

console.log(
  `${cpus()[0].model}, Node ${process.version}, skipzeros ${engine.simd}, one thread, ${ROUNDS} rounds; ms min (median)`,
);
for (const work of WORKS) {
  const title = `${work.name}, ${work.format}${work.zeros ? ` ${work.zeros * 100}%` : ""}`;
  if (!title.includes(filter)) continue;
  const mine = ours(work);
  const entries = [{ name: "skipzeros", ...mine }];
  for (const peer of peers) {
    const built = await peer.build(mine.layer);
    const expected = await built.result();
    const actual = mine.result();
    let worst = 0;
    for (let i = 0; i < actual.length; i++) worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
    if (!(worst < 2e-3)) throw new Error(`${title}: ${peer.name} differs by ${worst}`);
    entries.push({ name: peer.name, ...built });
  }
  for (const entry of entries) {
    for (let i = 0; i < 30; i++) await entry.run();
    entry.calls = Math.max(1, Math.ceil(10 / (await sample(entry.run, 3))));
    entry.times = [];
  }
  for (let r = 0; r < ROUNDS; r++) for (const entry of entries) entry.times.push(await sample(entry.run, entry.calls));
  for (const entry of entries) {
    entry.times.sort((a, b) => a - b);
    entry.free();
  }
  const best = entries.slice(1).reduce((a, b) => (b.times[0] < a.times[0] ? b : a), entries[1]);
  const text = entries.map(
    (e) => `${e.name.split(" ")[0]} ${e.times[0].toFixed(4)} (${e.times[ROUNDS >> 1].toFixed(4)})`,
  );
  const ratio = best
    ? ` | ${(best.times[0] / entries[0].times[0]).toFixed(2)}x (${(best.times[ROUNDS >> 1] / entries[0].times[ROUNDS >> 1]).toFixed(2)}x) ${best.name}`
    : "";
  console.log(`${title.padEnd(34)} ${text.join("  ")}${ratio}`);
}
process.exit(0);
