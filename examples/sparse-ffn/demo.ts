/**
 * `npm run example:sparse-ffn`: the feed-forward half of a transformer layer, token by token, with and without what its own
 * activations leave out: the closed gates of ReGLU, and the experts that a router does not pick. Checks every answer against
 * float64, times both ways, and shows when the engine goes back to the dense kernel. `--quick` takes small sizes.
 */
import { cpus } from "node:os";
import { createEngine, type Tensor } from "skipzeros";
import { type Exact, exactMixture, exactReglu, given, product } from "./exact.js";
import { createMixture, route, runAll, runChosen } from "./experts.js";
import { createReglu, dense, sparse } from "./reglu.js";
import { mixtureWeights, regluWeights, token } from "./weights.js";

const [flag, ...more] = process.argv.slice(2);
if (more.length || (flag !== undefined && flag !== "--quick")) fail("the only option is --quick");
const quick = flag === "--quick";
const [MODEL, HIDDEN, EXPERT_HIDDEN] = quick ? [64, 256, 64] : [768, 3072, 768];
const EXPERTS = 8;
const CHOSEN = 2;
const TOKENS = quick ? 4 : 16; // each opens other gates and picks other experts, so that no cache holds just theirs
const ROUNDS = quick ? 4 : 32;
const WARM_UP = 5; // the first calls run before V8 has optimised the code

// 1. Layers and tokens, in engine memory once.
const engine = await createEngine();
const reglu = createReglu(engine, regluWeights(MODEL, HIDDEN));
const mixtureGiven = mixtureWeights(MODEL, EXPERT_HIDDEN, EXPERTS, CHOSEN);
const mixture = createMixture(engine, mixtureGiven);
const tokens = Array.from({ length: TOKENS }, (_, i) => token(MODEL, i));
const inputs = tokens.map((numbers) => engine.tensor(numbers, [1, MODEL]));

// 2. Each way as stages that a whole is put together from.
const ways = {
  dense: [dense.gate, dense.up, dense.down],
  sparse: [sparse.gate, sparse.up, sparse.down],
  inFull: [sparse.gate, sparse.upInFull, sparse.down],
};

// 3. All answers must be those of float64, to the last bit that float32 can promise.
const errors: Record<string, number> = {};
let active = 0;
tokens.forEach((numbers, i) => {
  const x = inputs[i];
  const exact = exactReglu(reglu.weights, numbers);
  for (const [name, stages] of Object.entries(ways)) {
    reglu.y.data.fill(NaN);
    for (const stage of stages) stage(engine, reglu, x);
    check(`ReGLU ${name}`, reglu.y, exact);
  }
  active += reglu.active.density / TOKENS;
  const { chosen, shares } = route(engine, mixture, x);
  checkChoice(chosen, numbers);
  const exactSum = exactMixture(mixtureGiven, numbers, chosen, shares);
  for (const [name, experts] of [["chosen", runChosen] as const, ["all", runAll] as const]) {
    mixture.y.data.fill(NaN);
    experts(engine, mixture, x);
    check(`experts ${name}`, mixture.y, exactSum);
  }
});

// 4. The ways take turns, so that a busy moment of the machine falls on all of them. A stage is timed where it stands in its
// way: by itself it would find its weights in the cache, where the stages before it may have left none of them. Before each
// comes an untimed token, or a way would find in the caches what another left there.
const ofReglu = (stages: (typeof ways)[keyof typeof ways]) =>
  stages.map((stage) => (x: Tensor) => stage(engine, reglu, x));
const contenders: Record<string, ((x: Tensor) => void)[]> = {
  dense: ofReglu(ways.dense),
  sparse: ofReglu(ways.sparse),
  inFull: ofReglu(ways.inFull),
  all: [(x) => runAll(engine, mixture, x)],
  chosen: [(x) => runChosen(engine, mixture, x)],
};
/** By way: for each round, the ms of its stages. */
const times: Record<string, number[][]> = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
for (let round = -WARM_UP; round < ROUNDS; round++) {
  const [before, x] = [0, 1].map((i) => inputs[(round + WARM_UP + i) % TOKENS]);
  for (const [name, stages] of Object.entries(contenders)) {
    for (const stage of stages) stage(before);
    const taken = stages.map((stage) => {
      const start = performance.now();
      stage(x);
      return performance.now() - start;
    });
    if (round >= 0) times[name].push(taken);
  }
}

// 5. What it took.
const experts = `${CHOSEN} of ${EXPERTS} experts`;
console.log(`${"one token".padEnd(34)} active   dense ms  sparse ms  speed-up`);
printTimes("gate, relu, to a list", 1, "dense", "sparse", 0);
printTimes("up, rows of the open gates", active, "dense", "sparse", 1);
printTimes("down, columns of the open gates", active, "dense", "sparse", 2);
printTimes(`ReGLU ${MODEL} → ${HIDDEN} → ${MODEL}`, active, "dense", "sparse");
printTimes("the same with up in full", active, "dense", "inFull");
printTimes(`${experts} ${MODEL} → ${EXPERT_HIDDEN} → ${MODEL}`, CHOSEN / EXPERTS, "all", "chosen");
console.log();
console.log(
  `error     ${Object.entries(errors)
    .map(([name, share]) => `${name} ${(100 * share).toPrecision(2)}%`)
    .join(", ")}`,
);
console.log("          of what float32 rounding may cost");

// 6. When it does not pay: what would run for inputs of which more are active.
for (const share of [active, 0.25, 0.5, 1]) {
  const values = Float32Array.from({ length: HIDDEN }, (_, i) =>
    Math.floor((i + 1) * share) > Math.floor(i * share) ? 1 : 0,
  );
  const input = engine.toSparse({ data: values, shape: [1, HIDDEN] });
  const [best, next] = engine.explain("linear", input, reglu.down).alternatives;
  const than = next ? `, predicted at ${(next.ms / best.ms).toFixed(1)}x ${next.kernel}` : "";
  console.log(`${share === active ? "down" : ""}`.padEnd(9), `${percent(input.density)} active: ${best.kernel}${than}`);
  input.dispose();
}
console.log(
  `engine    ${engine.simd} build on Node ${process.versions.node}, ${cpus()[0]?.model.trim() ?? "unknown CPU"}`,
);
engine.dispose();

/** Keeps the largest error of each way, as a share of what is allowed. */
function check(name: string, actual: Tensor, exact: Exact): void {
  const share = largestShare(actual, exact);
  if (!(share <= 1)) fail(`${name}: off by ${share.toFixed(2)} times what float32 rounding explains`);
  errors[name] = Math.max(errors[name] ?? 0, share);
}

/** The k best of the router's true scores must have been chosen, up to scores that rounding may swap. */
function checkChoice(chosen: Uint32Array, numbers: Float32Array): void {
  const { y, bound } = product(mixtureGiven.router, given(numbers));
  if (chosen.length !== CHOSEN) fail(`${chosen.length} experts were chosen, not ${CHOSEN}`);
  const least = [...y].sort((a, b) => b - a)[CHOSEN - 1];
  const slack = 2 * Math.max(...bound);
  for (const expert of chosen)
    if (!(y[expert] >= least - slack)) fail(`expert ${expert} is not among the best ${CHOSEN}`);
}

/** The largest error as a share of its bound. NaN if any value is NaN. */
function largestShare({ data }: Tensor, { y, bound }: Exact): number {
  return data.reduce((largest, value, i) => {
    const error = Math.abs(value - y[i]);
    return Math.max(largest, error === 0 ? 0 : error / bound[i]);
  }, 0);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`.padStart(6);
}

/**
 * The least ms of this run, of one stage or of whole rounds, and their ratio; the one in brackets is of the medians. What runs
 * longer is interrupted in more of its rounds, so that on a busy machine medians flatter the short one.
 */
function printTimes(name: string, share: number, before: string, after: string, stage?: number): void {
  const sorted = (way: string) =>
    times[way]
      .map((taken) => (stage === undefined ? taken.reduce((a, b) => a + b) : taken[stage]))
      .sort((a, b) => a - b);
  const [slow, fast] = [sorted(before), sorted(after)];
  const figures = [slow[0], fast[0]].map((ms) => ms.toFixed(3).padStart(9)).join("  ");
  const ratio = (i: number) => `${(slow[i] / fast[i]).toFixed(1)}x`;
  console.log(`${name.padEnd(34)} ${percent(share)}  ${figures}  ${ratio(0).padStart(8)} (${ratio(ROUNDS >> 1)})`);
}

function fail(message: string): never {
  console.error(`sparse-ffn: ${message}`);
  process.exit(1);
}
