/**
 * `npm run demo:keywords`: three networks hear a dozen words. One is dense, one has 5% of its weights left, and one has sparse
 * activations too. The program says what each heard, how often it is right on voices that no network was trained on, and what
 * a clip costs. `--quick` takes one round and a part of the test set.
 */
import { existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { createEngine, readSafetensors, toFloat32 } from "skipzeros";
import { BANDS, createFrontEnd, FRAMES, readClip, readTestSet } from "./features.js";
import { createNetwork, decide, type Network } from "./network.js";

const [flag, ...more] = process.argv.slice(2);
if (more.length || (flag !== undefined && flag !== "--quick")) fail("the only option is --quick");
const quick = flag === "--quick";
const ROUNDS = quick ? 1 : 25;
const WARM_UP = quick ? 0 : 3; // the first calls run before V8 has optimised the code
const SIZE = FRAMES * BANDS;
const ALLOWED = 1e-4;
const near = (name: string) => new URL(name, import.meta.url);

// 1. The networks, in engine memory once.
const engine = await createEngine();
const networks: Record<string, Network> = {};
const fileBytes: Record<string, number> = {};
for (const name of ["dense", "weight-sparse", "sparse-sparse"]) {
  const file = near(`${name}.safetensors`);
  if (!existsSync(file)) {
    console.log(`${name}: skipped, there is no ${name}.safetensors`);
    continue;
  }
  const bytes = readFileSync(file);
  networks[name] = createNetwork(engine, bytes);
  fileBytes[name] = bytes.byteLength;
}
const names = Object.keys(networks);
if (names.length === 0) fail("there is no network");
const { words, scale } = networks[names[0]];

// 2. The clips as features, which must be those that the networks were trained on.
const expected = readSafetensors(readFileSync(near("clips/expected.safetensors")));
const clipNames = JSON.parse(expected.metadata.clips) as string[];
const labels = expected.tensors.get("labels")?.data;
const theirs = expected.tensors.get("features");
if (!labels || !theirs) fail("clips/expected.safetensors has no labels or no features");
const frontEnd = createFrontEnd(engine, scale);
const samples = clipNames.map((name) => readClip(near(`clips/${name}`)));
const clips = samples.map(frontEnd);
const trained = toFloat32(theirs);
let difference = 0;
clips.forEach((features, clip) => {
  features.forEach((value, i) => {
    const error = Math.abs(value - trained[clip * SIZE + i]);
    if (!(error <= difference)) difference = error; // a NaN stays
  });
});
if (!(difference <= ALLOWED)) fail(`features differ by ${difference} from those of the training, more than ${ALLOWED}`);

// 3. What each network hears, and how often it is right.
const heard = names.map((name) => clips.map((features) => decide(networks[name].run(features))));
const testSet = readTestSet(near("test-features.safetensors.br"));
const tested = quick ? 64 : testSet.labels.length;
const right = names.map((name) => {
  let count = 0;
  for (let clip = 0; clip < tested; clip++) {
    const features = testSet.features.subarray(clip * SIZE, (clip + 1) * SIZE);
    if (decide(networks[name].run(features)) === testSet.labels[clip]) count++;
  }
  return count;
});

// 4. The networks take turns, so that a busy moment of the machine falls on all of them.
const contenders: Record<string, () => void> = { "front end": () => samples.forEach(frontEnd) };
for (const name of names) contenders[name] = () => clips.forEach((features) => networks[name].run(features));
const least = Object.fromEntries(Object.keys(contenders).map((name) => [name, Infinity]));
for (let round = -WARM_UP; round < ROUNDS; round++) {
  for (const [name, run] of Object.entries(contenders)) {
    const start = performance.now();
    run();
    const ms = (performance.now() - start) / clips.length;
    if (round >= 0) least[name] = Math.min(least[name], ms);
  }
}

// 5. The table.
printRow("said", names);
clipNames.forEach((_, clip) => {
  const said = words[labels[clip] as number];
  printRow(
    said,
    heard.map((answers) => words[answers[clip]] + (answers[clip] === labels[clip] ? "" : " (wrong)")),
  );
});
console.log();
const each = (of: (name: string, i: number) => string) => names.map(of);
printRow("", names);
printRow(
  "these clips",
  each((_, i) => `${heard[i].filter((word, clip) => word === labels[clip]).length} of ${clips.length}`),
);
printRow(
  "test set",
  each((_, i) => `${((100 * right[i]) / tested).toFixed(2)}%`),
);
printRow(
  "ms a clip",
  each((name) => least[name].toFixed(3)),
);
if (networks.dense) {
  printRow(
    "speed-up",
    each((name) => `${(least.dense / least[name]).toFixed(1)}x`),
  );
}
printRow(
  "nonzeros",
  each((name) => count(networks[name].nnz)),
);
printRow("inputs active", each(activeOf));
printRow(
  "weight bytes",
  each((name) => count(networks[name].byteLength)),
);
if (networks.dense) {
  printRow(
    "smaller",
    each((name) => `${(networks.dense.byteLength / networks[name].byteLength).toFixed(1)}x`),
  );
}
printRow(
  "file bytes",
  each((name) => count(fileBytes[name])),
);
console.log();
console.log(`test set       ${count(tested)} clips by voices that no network was trained on`);
console.log(
  `ms a clip      features to word, the least of ${ROUNDS} ${ROUNDS === 1 ? "round" : "rounds"}; the front end takes ${least["front end"].toFixed(3)} more`,
);
console.log(`features       differ by at most ${difference.toExponential(1)} from those of the training`);
console.log(
  `engine         ${engine.simd} build on Node ${process.versions.node}, ${cpus()[0]?.model.trim() ?? "unknown CPU"}`,
);
engine.dispose();

/** Shares of inputs that conv2, hidden and output read, in the last clip that ran. */
function activeOf(name: string): string {
  const { active } = networks[name];
  return active.length ? active.map(({ density }) => `${(100 * density).toFixed(0)}%`).join(" ") : "all";
}

function printRow(name: string, cells: string[]): void {
  console.log(name.padEnd(14) + cells.map((cell) => cell.padStart(16)).join(""));
}

function count(n: number): string {
  return n.toLocaleString("en");
}

function fail(message: string): never {
  console.error(`demo: ${message}`);
  process.exit(1);
}
