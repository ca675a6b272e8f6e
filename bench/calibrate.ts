// npm run calibrate [-- --simd simd128|relaxed] [--out FILE]
//
// Measures this machine and writes the constants of bindings/costs.ts: into the shipped table bindings/costs.json, or into a
// file for createEngine({ costs }). One build at a time, by default the one that an engine takes here.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { type Build, loadKernels } from "../bindings/builds.js";
import type { BuildCosts } from "../bindings/costs.js";
import { packBlock } from "../bindings/formats/block.js";
import { lowerColumns, lowerDenseColumns } from "../bindings/formats/columns.js";
import { lowerDense, lowerDenseVector } from "../bindings/formats/dense.js";
import { packNm } from "../bindings/formats/nm.js";
import { Source } from "../bindings/formats/source.js";
import { type Lowered, lowerBlocks, lowerNmVector, lowerSlices } from "../bindings/formats/streams.js";
import { createEngine } from "../bindings/index.js";
import { KERNELS, type Kernel, PANEL } from "../bindings/kernels.js";
import { Memory } from "../bindings/memory.js";
import { PANEL_MAP } from "../bindings/ops/linear.js";
import { reachOfRow } from "../bindings/ops/reach.js";
import { random } from "../test/oracle.js";
import { args } from "./args.js";
import { machine } from "./machine.js";
import { interleave } from "./rounds.js";
import { blocks } from "./weights.js";

const SHIPPED = "bindings/costs.json";
const usage = "npm run calibrate -- [--simd BUILD] [--out FILE]";
const { values: flags } = args(usage, {
  options: { simd: { type: "string", default: "auto" }, out: { type: "string" } },
});
const engine = await createEngine({ simd: flags.simd as "auto" | Build }).catch((error: Error) => {
  console.error(`${error.message}\nusage: ${usage}`);
  process.exit(1);
});
const build = engine.simd;

const ROUNDS = 15;
const SIZE = 512;
const rnd = random(1);
const memory = new Memory();
const kernels = await loadKernels(build, undefined, memory.wasm);
const x = memory.alloc(SIZE * 128 + 65536);
const y = memory.alloc(SIZE * 128 + 65536);
memory.floats(x, SIZE * 32).set(Float32Array.from({ length: SIZE * 32 }, () => rnd() - 0.5));

const ACTIVE = SIZE / 8;
const listed = memory.alloc(8 + SIZE * 4);
memory.u32.set([0, ACTIVE, ...Array.from({ length: ACTIVE }, (_, i) => i * 8)], listed / 4);
memory.floats(listed + 8 + SIZE, ACTIVE).fill(1);

/** The first n of each m. */
const firstOf = (n: number, m: number) => Float32Array.from({ length: SIZE * SIZE }, (_, i) => (i % m < n ? 1 : 0));

interface Point {
  name: string;
  run: () => void;
  /** How often the constants count: entries, and rows of entries. */
  entries: number;
  rows: number;
}

/** Two loads for each kernel, far apart in entries a row, so that both of its constants show. */
function points(kernel: Kernel): Point[] {
  const call = kernels[kernel.name];
  // 32 columns side by side, as in a convolution: alone in a panel of its own width a narrow tile is 1.0 to 1.1 times as fast.
  const strips = kernel.op === "spmm" ? Math.floor(PANEL / kernel.tile) : 1;
  const spmm = (low: Lowered) => () => {
    const pitch = PANEL_MAP.channelStride;
    for (const p of low.passes) call(p.plan, strips, x + p.x, y + p.row * pitch, pitch, 0, p.first ? 0 : 1, 0, 0);
  };
  const spmv = (low: Lowered) => () => {
    for (const p of low.passes) call(p.plan, x, y, 0, 0, 0, 0);
  };
  const point = (i: number, run: () => void, entries: number, rows: number): Point => ({
    name: `${kernel.name} ${i}`,
    run,
    entries: entries * strips,
    rows: rows * strips,
  });
  // Every eighth input is active; the constants are of an entry and of an active input.
  if (kernel.op === "spmspv") {
    const run = (low: Lowered) => () =>
      void call(low.passes[0].plan, 1, listed, listed + 8, listed + 8 + SIZE, x, y, 0, 0, 0, 0, 0);
    if (kernel.format === "dense") {
      return [SIZE, 32].map((rows, i) => {
        const low = lowerDenseColumns(
          memory,
          { rows, cols: SIZE, data: blocks(rows, SIZE, [1, 1], 0, rnd) },
          reachOfRow(rows, 1),
        );
        return point(i, run(low), rows * ACTIVE, ACTIVE);
      });
    }
    return [0.8, 0.99].map((zeros, i) => {
      const w = packBlock(
        new Source(blocks(SIZE, SIZE, [kernel.block[0], 1], zeros, rnd), [SIZE, SIZE]),
        kernel.block[0],
        1,
      );
      return point(i, run(lowerColumns(memory, w, reachOfRow(SIZE, 1))), (w.indices.length * ACTIVE) / SIZE, ACTIVE);
    });
  }
  if (kernel.format === "dense") {
    return [SIZE, 32].map((cols, i) => {
      const w = { rows: SIZE, cols, data: blocks(SIZE, cols, [1, 1], 0, rnd) };
      const run =
        kernel.op === "spmv"
          ? spmv(lowerDenseVector(memory, w))
          : spmm(lowerDense(memory, w, PANEL_MAP, engine.blockRows));
      return point(i, run, SIZE * cols, SIZE);
    });
  }
  if (kernel.format === "nm") {
    return [4, 2].map((m, i) => {
      const w = packNm(new Source(firstOf(m / 2, m), [SIZE, m === 4 ? SIZE : SIZE / 8]), m / 2, m);
      return point(i, spmv(lowerNmVector(memory, w)), w.data.length / 8, SIZE / 8);
    });
  }
  const [r, c] = kernel.block;
  return [0.5, 0.97].map((zeros, i) => {
    const w = packBlock(new Source(blocks(SIZE, SIZE, [r, c], zeros, rnd), [SIZE, SIZE]), r, c);
    const low = kernel.op === "spmv" ? lowerSlices(memory, w) : lowerBlocks(memory, w, PANEL_MAP);
    const run = kernel.op === "spmv" ? spmv(low) : spmm(low);
    return point(i, run, w.indices.length, (SIZE / r) * low.passes.length);
  });
}

const products = KERNELS.filter(({ op }) => op === "spmm" || op === "spmv" || op === "spmspv");
const all = products.map(points);
const [channels, side, taps] = [64, 28, memory.alloc(64)];
memory.u32.set([0, 4, 8, 120, 124, 128, 240, 244, 248], taps / 4);
// All taps inside: the edges take as long. Other bits would make denormals.
const edges = memory.alloc(side * 12 + (side + 16) * 4);
memory.u32.fill(0xffffffff, edges / 4, edges / 4 + side * 3);
memory.f32.fill(0, edges / 4 + side * 3, edges / 4 + side * 4 + 16);
const image = memory.alloc(channels * 30 * 32 * 4);
const result = memory.alloc(channels * side * side * 4);
const tiny = engine.pack(new Float32Array(16), [4, 4], { format: "csr" });
const row = engine.tensor(new Float32Array(4), [1, 4]);
const out = engine.linear(row, tiny);
const nine = [channels, 1, 1, y, x, side, side, 1, 1, edges, result, side, side, 0, 0, 0, 0];
const others = {
  depthwise: () =>
    kernels.f32_dense_depthwise(channels, 1, taps, 9, result, image, 3840, 120, result, side, side, 0, 0, 0, 0),
  rows3x3: () => kernels.f32_dense_depthwise_3x3_rows(...nine),
  columns3x3: () => kernels.f32_dense_depthwise_3x3_columns(...nine),
  transpose: () => kernels.f32_transpose(32, SIZE, x, SIZE * 4, y, 128),
  copy: () => kernels.f32_copy(channels, side, side, image, 3600, 120, result, side * side * 4, side * 4),
  call: () => void engine.linear(row, tiny, { out }),
};
// One vector of dense weights that grow out of each cache: what a byte takes when nothing else does.
const sizes = Array.from({ length: 9 }, (_, i) => 2 ** (18 + i));
const vectors = sizes.map((bytes) => {
  const cols = bytes / 4 / SIZE;
  const w = lowerDenseVector(memory, { rows: SIZE, cols, data: new Float32Array(SIZE * cols).fill(1) });
  const long = memory.alloc(cols * 4);
  return { name: `bytes ${bytes}`, run: () => kernels.f32_dense_gemv(w.passes[0].plan, long, y, 0, 0, 0, 0) };
});

const cases = [...all.flat(), ...Object.entries(others).map(([name, run]) => ({ name, run }))];
const times = await interleave(cases, ROUNDS);
const streamed = await interleave(vectors, ROUNDS);
const ns = (name: string) => ((times.get(name) ?? streamed.get(name))?.min ?? 0) * 1e6;
const round = (n: number) => Number(n.toPrecision(3));

const table: Record<string, [number, number]> = {};
for (const [i, { name }] of products.entries()) {
  const [a, b] = all[i];
  const [s, t] = [ns(a.name), ns(b.name)];
  const entry = Math.max(0, (s * b.rows - t * a.rows) / (a.entries * b.rows - b.entries * a.rows));
  table[name] = [round(entry), round(Math.max(0, (t - entry * b.entries) / b.rows))];
}
const multiplied = channels * 9 * side * side;
table.f32_dense_depthwise = [round(ns("depthwise") / multiplied), 0];
table.f32_dense_depthwise_3x3_rows = [round(ns("rows3x3") / multiplied), 0];
table.f32_dense_depthwise_3x3_columns = [round(ns("columns3x3") / multiplied), 0];

const costs: BuildCosts = {
  machine: `${machine.cpu}, Node ${machine.node}, ${machine.date}`,
  kernels: table,
  weights: sizes.map((bytes) => [bytes, round(ns(`bytes ${bytes}`) / bytes)]),
  call: Math.round(ns("call")),
  transpose: round(ns("transpose") / (32 * SIZE)),
  copy: round(ns("copy") / (channels * side * side)),
};
for (const [name, [entry, r]] of Object.entries(table)) {
  console.log(`${name.padEnd(24)} ${String(entry).padStart(8)} ns an entry ${String(r).padStart(8)} ns a row`);
}
console.log(costs.weights.map(([bytes, each]) => `${bytes / 1024} KiB ${(1 / each).toFixed(0)} GB/s`).join(", "));
console.log(
  `call ${costs.call} ns, transpose ${costs.transpose} ns, copy ${costs.copy} ns a float; ${build}, ${costs.machine}`,
);

const file = flags.out ?? SHIPPED;
const known = flags.out ? {} : JSON.parse(readFileSync(SHIPPED, "utf8"));
writeFileSync(file, JSON.stringify({ ...known, [build]: costs }));
if (!flags.out) execFileSync("npx", ["biome", "format", "--write", SHIPPED], { stdio: "ignore" });
console.log(`written to ${file}`);
