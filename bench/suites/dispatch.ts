// Is what the cost model chooses the fastest there is? Every kernel that takes a weight as "auto" packed it is forced in turn, and the
// weight packed as dense, csr, 2x1 and 4x1 runs by choice; regret is the first choice's time over the best one's.
import { kernelsFor } from "../../bindings/dispatch.js";
import { formatName } from "../../bindings/formats/format.js";
import { createEngine, type Engine, type Format, type PackedWeight, prune, type Tensor } from "../../bindings/index.js";
import { random, values } from "../../test/oracle.js";
import type { Bench } from "../groups.js";
import { type Case, interleave, type Timing } from "../rounds.js";
import type { Row } from "../rows.js";
import { geometric } from "../targets.js";
import { BLOCK_2, BLOCK_4 } from "../weights.js";

/** Above this the model has chosen wrong. */
const ALLOWED = 1.15;

const SHAPES = [
  [256, 256],
  [512, 512],
  [1024, 1024],
  [768, 3072],
] as const;
const PATTERNS = [
  "40%",
  "60%",
  "80%",
  "90%",
  "95%",
  "2x1@80%",
  "4x1@60%",
  "4x1@90%",
  "1x4@90%",
  "2:4",
  "1:8",
  "complementary:20x4",
];
const ROWS = [1, 3, 8, 49, 64];
/** Side, channels, outputs, kernel. */
const CONVS = [
  [112, 32, 64, 1],
  [28, 32, 192, 1],
  [56, 64, 64, 3],
  [28, 128, 128, 3],
  [14, 256, 256, 1],
  [7, 512, 512, 1],
] as const;
const CONV_PATTERNS = ["40%", "70%", "90%", "4x1@80%"];

/** What "auto" is compared with. */
const OTHERS: Format[] = ["dense", "csr", BLOCK_2, BLOCK_4];

/** The choice's time, and how many times the best one's that is. */
interface Regret extends Row {
  rate: number;
}

/** A weight as "auto" packed it, and in the other formats. */
function packed(engine: Engine, data: Float32Array, shape: number[]): PackedWeight[] {
  const w = engine.pack(data, shape);
  const others = OTHERS.filter((format) => formatName(format) !== formatName(w.format));
  return [w, ...others.map((format) => engine.pack(data, shape, { format }))];
}

/** Times one use of a weight by choice, by force and in other formats. */
async function regretOf(
  use: string,
  [w, ...others]: PackedWeight[],
  ops: ("spmm" | "spmv")[],
  call: (w: PackedWeight, forceKernel: string | undefined, out?: Tensor) => Tensor,
  explain: (w: PackedWeight, forceKernel: string | undefined) => string,
  rounds: number,
): Promise<Regret> {
  const out = call(w, undefined);
  const chosen = explain(w, undefined);
  const ways = [
    ...ops.flatMap((op) => kernelsFor(op, w.structure(false))).map(({ name }) => ({ name, w, force: name })),
    ...others.map((other) => ({ name: formatName(other.format), w: other, force: undefined })),
  ];
  // With what a forced kernel leaves to narrower tiles, or in another format, the same kernels may run: their time would mostly tell
  // how noisy the machine is.
  const able = ways.filter(({ w, force }) => explain(w, force) !== chosen);
  const cases: Case[] = [{ name: "choice", w, force: undefined }, ...able].map(({ name, w, force }) => ({
    name,
    run: () => void call(w, force, out),
  }));
  const times = await interleave(cases, rounds);
  out.dispose();
  const time = (key: string) => times.get(key)?.min ?? 0;
  const best = able.map(({ name }) => name).reduce((a, b) => (time(b) < time(a) ? b : a), "choice");
  const { simd: build } = w.engine;
  const choice = times.get("choice") as Timing;
  const rate = choice.min / time(best);
  const name = `${use} (${formatName(w.format)})`;
  return { suite: "dispatch", build, group: "choice", name, ...choice, kernel: chosen, rate, unit: `x ${best}` };
}

/** Prints a line for every use on the grid and what the worst and the mean of them are. */
export async function dispatch(bench: Bench): Promise<void> {
  const { rounds } = bench;
  const engine: Engine = await createEngine();
  const rnd = random(5);
  const found: Regret[] = [];
  const add = (r: Regret) => {
    found.push(r);
    bench.rows.push(r);
    const over = r.rate > ALLOWED;
    bench.print(`${r.name.padEnd(52)} ${r.rate.toFixed(2)}x  ${r.kernel}${over ? `, ${r.unit}  over ${ALLOWED}` : ""}`);
  };
  bench.print(`\ndispatch, ${engine.simd}: time of the chosen kernel over the best one's`);
  for (const [m, k] of SHAPES) {
    for (const pattern of PATTERNS) {
      const name = `linear ${m} × ${k}, ${pattern}`;
      if (!bench.wants("dispatch", engine.simd, name)) continue;
      const ws = packed(engine, prune(values(m * k, 0, rnd), [m, k], pattern), [m, k]);
      for (const rows of ROWS) {
        const x = engine.tensor(values(rows * k, 0, rnd), [rows, k]);
        const use = `${name}, ${rows} row${rows > 1 ? "s" : ""}`;
        const ops: ("spmm" | "spmv")[] = rows === 1 ? ["spmv"] : rows < 16 ? ["spmv", "spmm"] : ["spmm"];
        const call = (w: PackedWeight, forceKernel?: string, out?: Tensor) => engine.linear(x, w, { forceKernel, out });
        const explain = (w: PackedWeight, forceKernel?: string) =>
          engine.explain("linear", x, w, { forceKernel }).kernel;
        add(await regretOf(use, ws, ops, call, explain, rounds));
        x.dispose();
      }
      for (const w of ws) w.dispose();
    }
  }
  for (const [side, c, m, kernel] of CONVS) {
    for (const pattern of CONV_PATTERNS) {
      const name = `conv ${kernel}x${kernel}, ${side}², ${c}→${m}, ${pattern}`;
      if (!bench.wants("dispatch", engine.simd, name)) continue;
      const shape = [m, c, kernel, kernel];
      const ws = packed(engine, prune(values(m * c * kernel * kernel, 0, rnd), shape, pattern), shape);
      const x = engine.tensor(values(c * side * side, 0, rnd), [1, c, side, side]);
      const o = { padding: kernel >> 1 };
      const call = (w: PackedWeight, forceKernel?: string, out?: Tensor) =>
        engine.conv2d(x, w, { ...o, forceKernel, out });
      const explain = (w: PackedWeight, forceKernel?: string) =>
        engine.explain("conv2d", x, w, { ...o, forceKernel }).kernel;
      add(await regretOf(name, ws, ["spmm"], call, explain, rounds));
      for (const w of ws) w.dispose();
      x.dispose();
    }
  }
  if (found.length) {
    const worst = found.reduce((a, b) => (b.rate > a.rate ? b : a));
    const mean = geometric(found.map(({ rate }) => Math.max(1, rate)));
    const over = found.filter(({ rate }) => rate > ALLOWED).length;
    bench.print(
      `${found.length} uses: mean ${mean.toFixed(3)}x, worst ${worst.rate.toFixed(2)}x (${worst.name}), ${over} over ${ALLOWED}`,
    );
  }
  engine.dispose();
}
