/**
 * `npm run example:mobilenet -- [IMAGE] [--version 1|2] [--weights FILE] [--zeros 0.9] [--pattern 4x1] [--seed N]`: an image through
 * MobileNet, dense and with its 1x1 convolutions pruned. Prints what both see, what an image costs, and whether the sparse kernels
 * say the same as the dense ones on the pruned weights; if not, the exit code is 1.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createEngine, patternName, readSafetensors } from "skipzeros";
import { readImage } from "./image.js";
import { type Model, mobilenetV1, mobilenetV2, pruneModel, resultsOf, type Source } from "./model.js";
import { createMobileNet, type NetworkOptions } from "./network.js";

const ROUNDS = 15;
const WARM_UP = 5; // the first calls run before V8 has optimised the code
/** Of the largest score; float32 rounding, layer after layer, makes some 1e-7 to 1e-6. */
const ALLOWED = 1e-4;

try {
  await main();
} catch (error) {
  console.error(`mobilenet: ${(error as Error).message}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  // 1. The model, the same pruned, and the image.
  const { file, version, weights, seed, pattern } = readOptions();
  const source: Source = weights === undefined ? seed : readSafetensors(readFileSync(weights)).tensors;
  const model = (version === 1 ? mobilenetV1 : mobilenetV2)(source);
  const pruned = pruneModel(model, pattern);
  const image = await readImage(file);

  // 2. Each network in an engine of its own, so that memory is told apart.
  const load = async (model: Model, o: NetworkOptions) => {
    const engine = await createEngine();
    return { engine, network: createMobileNet(engine, model, o) };
  };
  const dense = await load(model, { format: "dense" });
  const sparse = await load(pruned, {});
  const check = await load(pruned, { format: "dense" });
  const scores = [dense, sparse].map(({ network }) => network.run(image).toArray());
  const expected = check.network.run(image).toArray();
  check.engine.dispose();
  let difference = 0;
  let largest = 0;
  expected.forEach((score, i) => {
    const error = Math.abs(score - scores[1][i]);
    if (!(error <= difference)) difference = error; // a NaN stays
    largest = Math.max(largest, Math.abs(score));
  });
  const equal = difference <= ALLOWED * largest;

  // 3. The two take turns, so that a busy moment of the machine falls on both.
  const times: number[][] = [[], []];
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    [dense, sparse].forEach(({ network }, i) => {
      const start = performance.now();
      network.run(image);
      if (round >= 0) times[i].push(performance.now() - start);
    });
  }
  for (const ms of times) ms.sort((a, b) => a - b);

  // 4. The table.
  const row = (name: string, cells: (string | number)[]) =>
    console.log(name.padEnd(14) + cells.map((cell) => cell.toLocaleString("en").padStart(18)).join(""));
  const both = (of: (loaded: typeof dense, i: number) => string | number) => [dense, sparse].map(of);
  const median = ROUNDS >> 1;
  console.log(`MobileNetV${version}-1.0-224, 1x1 convolutions ${patternName(pattern)}, ${file}`);
  if (weights === undefined) {
    console.log(`The weights are random (seed ${seed}): the classes below mean nothing, times and bytes do.`);
  }
  console.log();
  row("", ["dense", "sparse"]);
  const best = scores.map(topFive);
  for (let place = 0; place < Math.min(5, scores[0].length); place++) {
    row(
      place ? "" : "class, score",
      best.map((classes, i) => `${classes[place]}  ${scores[i][classes[place]].toFixed(3).padStart(7)}`),
    );
  }
  row(
    "ms, least",
    both((_, i) => times[i][0].toFixed(2)),
  );
  row(
    "ms, median",
    both((_, i) => times[i][median].toFixed(2)),
  );
  row(
    "speed-up",
    both((_, i) => `${(times[0][0] / times[i][0]).toFixed(2)}x (${(times[0][median] / times[i][median]).toFixed(2)}x)`),
  );
  row(
    "nonzeros",
    both(({ network }) => network.nnz),
  );
  row(
    "multiply-adds",
    both(({ network }) => network.steps.reduce((sum, { macs }) => sum + macs, 0)),
  );
  row(
    "weight bytes",
    both(({ network }) => network.byteLength),
  );
  row(
    "peak bytes",
    both(({ engine }) => engine.stats().bytesReserved),
  );
  console.log();
  const result = Math.max(...resultsOf(model).map(([c, h, w]) => c * h * w * 4));
  console.log(`ms            an image, ${ROUNDS} rounds in turn; the speed-up of the medians in brackets`);
  console.log(`peak bytes    all that the engine reserved; the largest result takes ${result.toLocaleString("en")}`);
  console.log(
    `check         ${equal ? "sparse kernels agree" : "SPARSE KERNELS DIFFER"} with dense ones on the pruned weights: ` +
      `${difference.toExponential(1)} at most, allowed ${(ALLOWED * largest).toExponential(1)}`,
  );
  console.log(
    `engine        ${sparse.engine.simd} build on Node ${process.versions.node}, ${cpus()[0]?.model.trim() ?? "unknown CPU"}`,
  );
  dense.engine.dispose();
  sparse.engine.dispose();
  if (!equal) process.exitCode = 1;
}

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      version: { type: "string", default: "1" },
      weights: { type: "string" },
      zeros: { type: "string", default: "0.9" },
      pattern: { type: "string", default: "1x1" },
      seed: { type: "string", default: "1" },
    },
  });
  const refuse = (name: string, expected: string, got: unknown): never => {
    throw new RangeError(`"${name}" expected ${expected}, got ${got}`);
  };
  if (positionals.length > 1) refuse("IMAGE", "one file", positionals.join(" "));
  const version = Number(values.version);
  if (version !== 1 && version !== 2) refuse("--version", "1 or 2", values.version);
  const sparsity = Number(values.zeros);
  if (values.zeros.trim() === "" || !(sparsity >= 0 && sparsity <= 1))
    refuse("--zeros", "a number in 0..1", values.zeros);
  const block = /^([1-9]\d*)x([1-9]\d*)$/.exec(values.pattern);
  if (!block) throw new RangeError(`"--pattern" expected ROWSxCOLUMNS of a block such as 4x1, got ${values.pattern}`);
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(seed)) refuse("--seed", "an integer", values.seed);
  return {
    file: positionals[0] ?? fileURLToPath(new URL("picture.jpg", import.meta.url)),
    version,
    weights: values.weights,
    seed,
    pattern: { block: [Number(block[1]), Number(block[2])] as const, sparsity },
  };
}

/** The classes with the highest scores, best first. */
function topFive(scores: Float32Array): number[] {
  return [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 5);
}
