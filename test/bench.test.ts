/** The microbenchmarks as programs: what they measure, what they say about it, and what is drawn of it. No times are judged. */
import { readFileSync } from "node:fs";
import module from "node:module";
import { createEngine } from "skipzeros";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Bench } from "../bench/groups.js";
import { page } from "../bench/page.js";
import { pictures } from "../bench/pictures.js";
import { timing } from "../bench/rounds.js";
import type { Results, Row } from "../bench/rows.js";
import { CONVS, LINEARS, MODELS, outputOf } from "../bench/shapes.js";
import { SUITES } from "../bench/suites.js";
import { verdicts } from "../bench/targets.js";
import { createNetwork } from "../examples/keyword-spotting/network.js";
import type { Step } from "../examples/step.js";
import { random, values } from "./oracle.js";

const test = suite("bench");

test("shapes are whole numbers of known operations, with their source", () => {
  assert.ok(MODELS.length >= 5);
  for (const { model, source, shapes } of MODELS) {
    assert.match(source, /arXiv \d{4}\.\d{4,5}/, model);
    assert.ok(shapes.length > 0, model);
    assert.is(new Set(shapes.map(({ name }) => name)).size, shapes.length, `${model}: two shapes of one name`);
    for (const { name, op, ...sizes } of shapes) {
      const keys = op === "linear" ? ["in", "out"] : ["in", "kernel", "out", "padding", "size", "stride"];
      assert.ok(["linear", "conv2d"].includes(op), `${model} ${name}: ${op}`);
      assert.equal(Object.keys(sizes).sort(), keys, `${model} ${name}`);
      for (const [key, n] of Object.entries(sizes)) {
        assert.ok(Number.isInteger(n) && n >= (key === "padding" ? 0 : 1), `${model} ${name}: ${key} is ${n}`);
      }
    }
  }
  for (const shape of CONVS) assert.ok(outputOf(shape) >= 1, shape.title);
  const titles = [...LINEARS, ...CONVS].map(({ title }) => title);
  assert.is(new Set(titles).size, titles.length, "two shapes of one title");
});

/** Runs a suite for one round; the rows, and what was printed. */
async function run(name: string, ...words: string[]): Promise<{ rows: Row[]; printed: string[] }> {
  const printed: string[] = [];
  const bench = new Bench(["simd128"], 1, words, (text) => printed.push(text));
  await SUITES[name](bench);
  for (const row of bench.rows) {
    for (const [key, value] of Object.entries(row)) {
      assert.ok(["string", "number", "undefined"].includes(typeof value), `${row.name}: ${key} is a ${typeof value}`);
      if (typeof value === "number") assert.ok(Number.isFinite(value) && value >= 0, `${row.name}: ${key} is ${value}`);
    }
    assert.ok(row.min > 0 && row.median >= row.min, row.name);
    assert.is(row.suite, name);
    assert.ok(
      printed.some((line) => line.startsWith(row.name)),
      `${row.name} is not printed`,
    );
  }
  return { rows: bench.rows, printed };
}

test("a row has its times, rates and bytes, and is compared with the dense kernel", async () => {
  const { rows, printed } = await run("spmv", "GRU", "csr", "98%");
  assert.is(rows.length, 2);
  const [dense, csr] = rows;
  assert.is(dense.format, "dense");
  assert.is(dense.ratio, 1);
  assert.is(csr.format, "csr");
  assert.is(csr.zeros, 0.98);
  assert.is(csr.dense, dense.min);
  assert.match(csr.kernel as string, /^f32_csr_spmv/);
  for (const key of ["gf", "denseGf", "limit", "share", "bytes", "ratio", "rate"] as const) {
    assert.ok((csr[key] as number) > 0, key);
  }
  // Of the same call: nonzeros over all weights.
  const density = (csr.gf as number) / (csr.denseGf as number);
  assert.ok(Math.abs(density - 0.02) < 0.005, `density ${density}`);
  assert.match(printed[0], /spmv simd128, GRU 384 gates 1152 × 384, limit \d/);
});

for (const [name, words, count] of [
  ["limit", ["multiply-add"], 1],
  ["kernels", ["f32_nm_spmv"], 2],
  ["spmm", ["GRU", "panels", "block_spmm_4x1_8", "98%"], 2],
  ["spmm", ["GRU", "8 rows", "auto", "98%"], 2],
  ["conv", ["Speech", "conv1", "block", "98%"], 2],
  ["sparse-sparse", ["hidden", "complementary", "5% active"], 2],
  ["sparse-sparse", ["kWinners", "1600"], 1],
  ["pack", ["GRU", "csr"], 1],
  ["load", ["first result"], "enableCompileCache" in module ? 2 : 1],
  ["nets", ["spotter", "conv2"], 3],
] as const) {
  test(`${name}: ${words.join(" ")}`, async () => {
    const { rows } = await run(name, ...words);
    assert.is(rows.length, count, rows.map((row) => row.name).join(", "));
  });
}

test("the spotter's steps are its run, one by one", async () => {
  const folder = new URL("../examples/keyword-spotting/", import.meta.url);
  const engine = await createEngine();
  for (const name of ["dense", "weight-sparse", "sparse-sparse"]) {
    const network = createNetwork(engine, readFileSync(new URL(`${name}.safetensors`, folder)));
    const scores = network.run(values(32 * 32, 0, random(1)));
    const expected = [...scores.data];
    assert.ok(expected.some((score) => score !== expected[0]));
    scores.data.fill(0);
    for (const step of network.steps) for (let i = 0; i < 3; i++) step.run();
    assert.equal([...scores.data], expected);
    assert.is(network.steps.filter(({ explain }) => explain()).length, 4);
    const sum = (of: (step: Step) => number) => network.steps.reduce((total, step) => total + of(step), 0);
    const dense = sum(({ denseMacs }) => denseMacs);
    assert.is(dense, 28 * 28 * 64 * 25 + 10 * 10 * 64 * 64 * 25 + 1600 * 1500 + 1500 * 12);
    const share = sum(({ macs }) => macs) / dense;
    assert.ok(name === "dense" ? share > 0.9 && share <= 1 : share > 0 && share < 0.15, `${name}: ${share}`);
  }
  engine.dispose();
});

test("a filter that nothing matches measures nothing", async () => {
  for (const name of ["limit", "spmm", "spmv", "conv", "sparse-sparse", "pack", "load"]) {
    assert.equal(await run(name, "no such row"), { rows: [], printed: [] });
  }
});

test("timing: least, median, and how far apart they are", () => {
  assert.equal(timing([3, 1, 2]), { min: 1, median: 2, spread: 1 });
});

/** A row that says so much. */
const rowOf = (said: Partial<Row>): Row => ({
  suite: "spmm",
  build: "relaxed",
  group: "a <b> 1 × 2",
  name: "csr",
  min: 1,
  median: 1.2,
  spread: 0.2,
  ...said,
});

test("targets: of kernels on the same zeros the best counts, and only pruned rows of the suite do", () => {
  const panel = { op: "panels", format: "csr", zeros: 0.9 };
  const rows = [
    rowOf({ ...panel, share: 0.9, name: "32" }),
    rowOf({ ...panel, share: 0.3, name: "28" }),
    rowOf({ ...panel, share: 0.4, group: "other" }),
    rowOf({ ...panel, share: 0.001, zeros: 0.98 }),
    rowOf({ ...panel, share: 0.001, suite: "conv" }),
  ];
  const [mean, ...more] = verdicts(rows);
  assert.equal(more, []);
  assert.ok(Math.abs(mean.value - 0.6) < 1e-12, `${mean.value}`);
  assert.is(mean.wanted, "≥ 0.82");
  assert.is(mean.hit, false);
  assert.is(mean.rows, 2);
  assert.is(mean.worst, "other, csr");
  assert.is(verdicts([rowOf({ ...panel, share: 0.82 })])[0].hit, true);
  const [late] = verdicts([rowOf({ suite: "load", name: "import to first result", min: 16 })]);
  assert.is(late.hit, false);
});

const results: Results = {
  machine: { cpu: "Some CPU <3>", node: "v24.0.0", date: "2026-11-21" },
  rounds: 11,
  rows: [
    ...[0.5, 0.8, 0.98].flatMap((zeros) =>
      ["linear, one row", "conv 3x3"].map((op) =>
        rowOf({ op, format: "csr", zeros, ratio: 0.3 / (1 - zeros), gf: 20, limit: 50, share: 0.4, bytes: 1e6 }),
      ),
    ),
    rowOf({ suite: "limit", name: "loads from L1", rate: 100, unit: "GB/s" }),
    rowOf({ suite: "nets", group: "Net, whole", name: "dense", op: "whole", min: 3 }),
    rowOf({ suite: "nets", group: "Net, whole", name: "90%", op: "whole", ratio: 3 }),
  ],
};

/** What a page or a picture would fetch from somewhere else. */
const OUTSIDE = /(?:src|href)\s*=\s*["'](?!#)|url\(\s*["']?(?!#)|@import|<script/i;

test("every picture is an SVG on white with the CPU and the date, and fetches nothing", async () => {
  const drawn = await pictures(results);
  assert.equal(Object.keys(drawn), ["speedup", "roofline", "networks"]);
  for (const [name, svg] of Object.entries(drawn)) {
    assert.match(svg, /^<svg [^>]*><title>[^<]+<\/title><rect [^>]*fill="white"/, name);
    assert.match(svg, /Some CPU &lt;3&gt;.*v24\.0\.0.*2026-11-21, relaxed/, name);
    assert.not.match(svg, OUTSIDE, name);
    assert.not.match(svg, /NaN|undefined|Infinity/, name);
  }
  // 0.3 / density reaches 1 where 30% of the weights are left.
  assert.match(drawn.speedup, />30%<\/text>/);
  assert.match(drawn.networks, /1\.00 ms, 3\.0x/);
});

test("the page has all of them and all rows, and fetches nothing", async () => {
  const drawn = await pictures(results);
  const text = page(results, drawn);
  for (const svg of Object.values(drawn)) assert.ok(text.includes(svg));
  assert.is(text.match(/<tr/g)?.length, results.rows.length + 3); // a head for each of the three suites
  assert.ok(text.includes("a &lt;b&gt; 1 × 2") && !text.includes("a <b>"));
  assert.not.match(text, OUTSIDE);
});

test("rows of some suites draw some pictures", async () => {
  assert.equal(await pictures({ ...results, rows: [] }), {});
  const nets = results.rows.filter((row) => row.suite === "nets");
  assert.equal(Object.keys(await pictures({ ...results, rows: nets })), ["networks"]);
});

test.run();
