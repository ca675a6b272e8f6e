// npm run bench [-- FILTER] [--json FILE] [--quick]
//
// Suites: `load` (cold start), `kernels` (each row of the manifest), `spmm` (csr over sizes and zeros, against the limit), `ops` (whole calls, csr
// against dense and plain JavaScript), `dispatch` (every kernel forced beside the chosen one; only when named). GF are 10⁹ operations a second on nonzeros; "limit" is the register-only multiply-add.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Build, loadKernels } from "../bindings/builds.js";
import { packCsr } from "../bindings/formats/csr.js";
import { lowerBlocks } from "../bindings/formats/streams.js";
import { createEngine } from "../bindings/index.js";
import { Memory } from "../bindings/memory.js";
import { PANEL_MAP } from "../bindings/ops/linear.js";
import { builds, random, values } from "../test/oracle.js";
import { dispatch } from "./dispatch.js";
import { kernelCases } from "./kernels.js";
import { LIMIT_FLOPS, limitOf, machine } from "./machine.js";
import { type Case, interleave } from "./rounds.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" }, quick: { type: "boolean" } },
});
const filter = positionals[0] ?? "";
const rounds = flags.quick ? 3 : 11;
const rows: Record<string, string | number>[] = [];

interface Line extends Case {
  flops: number;
  bytes?: number;
  /** The line whose time is given as a ratio to this one's. */
  against?: string;
}

/** Times lines together with the limit and prints one row each. */
async function report(suite: string, build: Build, lines: Line[]): Promise<void> {
  const chosen = lines.filter(({ name }) => `${suite} ${build} ${name}`.includes(filter));
  if (chosen.length === 0) return;
  const times = await interleave([{ name: "limit", run: await limitOf(build) }, ...chosen], rounds);
  const limit = LIMIT_FLOPS / (times.get("limit")?.min ?? 1) / 1e6;
  console.log(`\n${suite}, ${build}: limit ${limit.toFixed(1)} GF`);
  for (const { name, flops, bytes, against } of chosen) {
    const t = times.get(name);
    if (!t) continue;
    const gf = flops / t.min / 1e6;
    const other = against ? times.get(against) : undefined;
    rows.push({
      suite,
      build,
      name,
      ms: t.min,
      median: t.median,
      spread: t.spread,
      gf,
      limit,
      share: gf / limit,
      ratio: other ? other.min / t.min : 0,
    });
    console.log(
      [
        name.padEnd(46),
        `${t.min.toFixed(4)} ms (median ${t.median.toFixed(4)})`,
        flops ? `${gf.toFixed(1).padStart(5)} GF ${((100 * gf) / limit).toFixed(0).padStart(3)}%` : "",
        bytes ? `${(bytes / t.min / 1e6).toFixed(1)} GB/s` : "",
        other ? `${(other.min / t.min).toFixed(2)}x ${against}` : "",
        t.spread > 0.15 ? `busy: spread ${(t.spread * 100).toFixed(0)}%` : "",
      ]
        .filter(Boolean)
        .join("  "),
    );
  }
}

/** csr over packed panels of 32 and 28 columns, 64 and more columns in all. */
async function spmm(build: Build): Promise<Line[]> {
  const memory = new Memory();
  const kernels = await loadKernels(build, undefined, memory.wasm);
  const rnd = random(2);
  const x = memory.alloc(3072 * 128);
  const y = memory.alloc(2 * 1024 * 128);
  memory.floats(x, 3072 * 32).set(values(3072 * 32, 0, rnd));
  const lines: Line[] = [];
  for (const [m, k] of [
    [512, 512],
    [1024, 1024],
    [768, 3072],
  ]) {
    for (const zeros of [0.8, 0.9, 0.95]) {
      const csr = packCsr(values(m * k, zeros, rnd), m, k);
      const lowered = lowerBlocks(memory, csr, PANEL_MAP);
      for (const tile of [32, 28]) {
        const run = kernels[`f32_csr_spmm_${tile}`];
        lines.push({
          name: `csr_spmm_${tile} ${m} × ${k} × ${2 * tile}, ${zeros * 100}%`,
          flops: 2 * csr.data.length * 2 * tile,
          run: () => {
            for (let s = 0; s < 2; s++) {
              for (const p of lowered.passes) run(p.plan, 1, x, y + s * 1024 * 128, 128, 0, p.first ? 0 : 1, 0, 0);
            }
          },
        });
      }
    }
  }
  return lines;
}

/** y = x · Wᵀ as anybody writes it. */
function plainLinear(x: Float32Array, w: Float32Array, rows: number, k: number, m: number, y: Float32Array): void {
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < m; i++) {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += w[i * k + j] * x[r * k + j];
      y[r * m + i] = sum;
    }
  }
}

async function ops(build: Build): Promise<Line[]> {
  const engine = await createEngine({ simd: build });
  const rnd = random(3);
  const lines: Line[] = [];
  for (const [rows, k, m] of [
    [64, 512, 512],
    [64, 1024, 1024],
    [1, 512, 512],
    [1, 1024, 1024],
  ]) {
    const title = `linear ${rows} × ${k} × ${m}`;
    const xs = values(rows * k, 0, rnd);
    const x = engine.tensor(xs, [rows, k]);
    const full = values(m * k, 0, rnd);
    const dense = engine.pack(full, [m, k], { format: "dense" });
    const out = engine.linear(x, dense);
    const base = `${title} dense`;
    lines.push({ name: base, flops: 2 * rows * k * m, run: () => void engine.linear(x, dense, { out }) });
    const plain = new Float32Array(rows * m);
    lines.push({
      name: `${title} plain JavaScript`,
      flops: 2 * rows * k * m,
      against: base,
      run: () => plainLinear(xs, full, rows, k, m, plain),
    });
    for (const zeros of [0.5, 0.7, 0.8, 0.9, 0.95]) {
      const w = engine.pack(values(m * k, zeros, rnd), [m, k], { format: "csr" });
      lines.push({
        name: `${title} csr ${zeros * 100}%`,
        flops: 2 * rows * w.nnz,
        against: base,
        run: () => void engine.linear(x, w, { out }),
      });
    }
  }
  for (const [size, c, m, kernel] of [
    [56, 64, 64, 3],
    [28, 128, 128, 3],
    [14, 256, 256, 3],
    [7, 512, 512, 3],
    [14, 64, 64, 5],
    [14, 512, 512, 1],
    [7, 1024, 1024, 1],
  ]) {
    const title = `conv ${kernel}x${kernel}, ${size}², ${c}→${m}`;
    const padding = kernel === 5 ? 0 : "same";
    const x = engine.tensor(values(c * size * size, 0, rnd), [1, c, size, size]);
    const shape = [m, c, kernel, kernel];
    const count = m * c * kernel * kernel;
    const dense = engine.pack(values(count, 0, rnd), shape, { format: "dense" });
    const out = engine.conv2d(x, dense, { padding });
    const pixels = out.shape[2] * out.shape[3];
    const base = `${title} dense`;
    lines.push({ name: base, flops: 2 * count * pixels, run: () => void engine.conv2d(x, dense, { padding, out }) });
    for (const zeros of [0.5, 0.8, 0.9, 0.95]) {
      const w = engine.pack(values(count, zeros, rnd), shape, { format: "csr" });
      lines.push({
        name: `${title} csr ${zeros * 100}%`,
        flops: 2 * w.nnz * pixels,
        against: base,
        run: () => void engine.conv2d(x, w, { padding, out }),
      });
    }
  }
  return lines;
}

/** Import, engine and first result in fresh processes: what a serverless function waits for. */
function load(): void {
  if (!"load".includes(filter)) return;
  const script = `
    const start = performance.now();
    const { createEngine } = await import(${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)});
    const imported = performance.now();
    const engine = await createEngine();
    const w = engine.pack(Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 10 ? 0 : 1)), [64, 64]);
    engine.linear({ data: new Float32Array(64), shape: [1, 64] }, w);
    console.log(imported - start, performance.now() - imported);`;
  const runs = Array.from({ length: rounds }, () =>
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })
      .trim()
      .split(" ")
      .map(Number),
  );
  console.log("\nload, fresh processes (built dist/)");
  for (const [i, name] of ["import", "createEngine, pack and first linear"].entries()) {
    const times = runs.map((run) => run[i]).sort((a, b) => a - b);
    const [min, median] = [times[0], times[times.length >> 1]];
    rows.push({ suite: "load", build: "auto", name, ms: min, median, spread: median / min - 1 });
    console.log(`${name.padEnd(46)}${min.toFixed(1)} ms (median ${median.toFixed(1)})`);
  }
}

console.log(`${machine.cpu}, Node ${machine.node}, one thread, ${rounds} rounds, ${machine.date}`);
for (const build of builds) {
  const kernels = (await kernelCases(build)).map((k) => ({ ...k, name: `${k.name} (${k.shape})` }));
  await report("kernels", build, kernels);
  await report("spmm", build, await spmm(build));
  await report("ops", build, await ops(build));
}
load();
// Some minutes, so by name only.
if (filter.startsWith("dispatch"))
  for (const row of await dispatch(filter, rounds)) rows.push({ suite: "dispatch", ...row });
if (flags.json) writeFileSync(flags.json, JSON.stringify({ ...machine, rounds, rows }, null, 2));
