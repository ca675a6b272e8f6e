/** The example `examples/sparse-ffn` as a whole, with small sizes, and its float64 model against a plain loop. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Costs, createEngine } from "skipzeros";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import shipped from "../bindings/costs.json" with { type: "json" };
import { exactMixture, exactReglu, given, product } from "../examples/sparse-ffn/exact.js";
import { createMixture, route, runAll, runChosen } from "../examples/sparse-ffn/experts.js";
import { createReglu, dense, sparse } from "../examples/sparse-ffn/reglu.js";
import { mixtureWeights, regluWeights, token } from "../examples/sparse-ffn/weights.js";

const test = suite("sparse-ffn");

const demo = (...args: string[]) =>
  spawnSync(process.execPath, ["--import", "tsx", "examples/sparse-ffn/demo.ts", ...args], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    encoding: "utf8",
  });

/** Σ row[i] · x[i] */
const dot = (w: Float32Array, row: number, x: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += w[row * x.length + i] * x[i];
  return sum;
};

function within(actual: Float32Array, y: Float64Array, bound: Float64Array, what: string): void {
  assert.is(actual.length, y.length);
  assert.ok(
    y.some((v, i) => Math.abs(v) > 50 * bound[i]),
    `${what}: a bound that lets everything pass`,
  );
  for (let i = 0; i < y.length; i++) {
    assert.ok(Math.abs(actual[i] - y[i]) <= bound[i], `${what}, output ${i}: expected ${y[i]}, got ${actual[i]}`);
  }
}

test("ReGLU gives the same by every way, also where sizes are odd", async () => {
  const engine = await createEngine();
  for (const [model, hidden] of [
    [64, 256],
    [7, 93],
  ]) {
    const weights = regluWeights(model, hidden);
    const x = token(model, 0);
    const h = Array.from({ length: hidden }, (_, i) => {
      const gate = Math.max(0, dot(weights.gate, i, x) + weights.bias[i]);
      return gate && gate * dot(weights.up, i, x);
    });
    const open = h.filter((v) => v !== 0).length;
    assert.ok(open > 0 && open < hidden / 4, `${open} of ${hidden} gates are open`);
    const { y, bound } = exactReglu(weights, x);
    for (let r = 0; r < model; r++) assert.ok(Math.abs(y[r] - dot(weights.down, r, h)) < 1e-12, `model's output ${r}`);
    const layer = createReglu(engine, weights);
    const input = engine.tensor(x, [1, model]);
    for (const [name, up, down] of [
      ["dense", dense.up, dense.down] as const,
      ["sparse", sparse.up, sparse.down] as const,
      ["up in full", sparse.upInFull, sparse.down] as const,
    ]) {
      layer.y.data.fill(NaN);
      sparse.gate(engine, layer, input);
      assert.is(layer.open.nnz, open, name);
      up(engine, layer, input);
      down(engine, layer);
      within(layer.y.data, y, bound, `${model} → ${hidden}, ${name}`);
    }
    const fused = { bias: layer.bias, activation: "relu", output: "sparse" } as const;
    assert.equal(engine.linear(input, layer.gate, fused).indices, layer.open.indices);
  }
  engine.dispose();
});

test("the experts with the best scores run, and the others change nothing", async () => {
  const engine = await createEngine();
  const weights = mixtureWeights(32, 48, 8, 3);
  const x = token(32, 1);
  const scores = Array.from({ length: 8 }, (_, expert) => dot(weights.router, expert, x));
  const best = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, 3);
  const layer = createMixture(engine, weights);
  const input = engine.tensor(x, [1, 32]);
  const { chosen, shares } = route(engine, layer, input);
  assert.equal(
    [...chosen],
    best.sort((a, b) => a - b),
  );
  const sum = best.reduce((total, expert) => total + Math.exp(scores[expert]), 0);
  best.forEach((expert, i) => {
    assert.ok(Math.abs(shares[i] - Math.exp(scores[expert]) / sum) < 1e-6, `share of expert ${expert}`);
  });
  const { y, bound } = exactMixture(weights, x, chosen, shares);
  for (const [name, run] of [["chosen", runChosen] as const, ["all", runAll] as const]) {
    layer.y.data.fill(NaN);
    run(engine, layer, input);
    within(layer.y.data, y, bound, name);
  }
  engine.dispose();
});

test("the engine goes back to the dense kernel where so many inputs are active that lists do not pay", async () => {
  const { simd128 } = shipped as unknown as Required<Costs>;
  const kernels = { f32_dense_spmspv: [0.1, 0], f32_dense_gemv: [0.02, 0] } as const;
  const engine = await createEngine({
    simd: "simd128",
    costs: { simd128: { ...simd128, kernels, weights: [[0, 0]] } },
  });
  const weights = regluWeights(256, 1024).down;
  const down = engine.pack(weights, [256, 1024], { format: "dense" });
  for (const [share, kernel] of [
    [0.06, "f32_dense_spmspv"],
    [0.5, "f32_dense_gemv"],
    [1, "f32_dense_gemv"],
  ] as const) {
    const data = Float32Array.from({ length: 1024 }, (_, i) => (i < share * 1024 ? 1 : 0));
    const x = engine.toSparse({ data, shape: [1, 1024] });
    assert.match(engine.explain("linear", x, down).kernel, kernel, `${share} active`);
    const { y, bound } = product(weights, given(data));
    within(engine.linear(x, down).data, y, bound, `${share} active`);
  }
  engine.dispose();
});

test("a token leaves nothing behind in the engine", async () => {
  const engine = await createEngine();
  const layer = createReglu(engine, regluWeights(64, 256));
  const x = engine.tensor(token(64, 2), [1, 64]);
  const run = () => {
    for (const stage of [sparse.gate, sparse.up, sparse.down]) stage(engine, layer, x);
    return engine.stats();
  };
  run();
  assert.equal(run(), run());
  engine.dispose();
});

test("the demo runs, agrees with itself and prints its table", () => {
  const run = demo("--quick");
  assert.is(run.status, 0, run.stderr);
  const figures = /(\d+\.\d)% +\d+\.\d{3} +\d+\.\d{3} +\d+\.\dx \(\d+\.\dx\)$/;
  const rows = run.stdout.split("\n").filter((line) => figures.test(line));
  assert.is(rows.length, 6, run.stdout);
  const active = Number(figures.exec(rows[3])?.[1]);
  assert.ok(active > 2 && active < 12, `${active}% active`);
  assert.match(
    run.stdout,
    /^error +ReGLU dense \S+%, ReGLU sparse \S+%, ReGLU inFull \S+%, experts chosen \S+%, experts all \S+%$/m,
  );
  assert.match(run.stdout, /^down .*active: f32_dense_/m);
  assert.match(run.stdout, / 100\.0% active: f32_dense_/);
});

test("an option that the demo does not know is an error", () => {
  const run = demo("--fast");
  assert.is(run.status, 1);
  assert.match(run.stderr, /--quick/);
});

test.run();
