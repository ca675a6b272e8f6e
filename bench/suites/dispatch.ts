// Is the kernel that the cost model chooses the fastest there is? Every kernel that takes a weight is forced in turn and timed
// beside the choice; regret is the choice's time over the best one's.
import { kernelsFor } from "../../bindings/dispatch.js";
import { formatName } from "../../bindings/formats/format.js";
import { createEngine, type Engine, type PackedWeight, prune, type Tensor } from "../../bindings/index.js";
import { random, values } from "../../test/oracle.js";
import type { Bench } from "../groups.js";
import { type Case, interleave, type Timing } from "../rounds.js";
import type { Row } from "../rows.js";
import { geometric } from "../targets.js";

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
  [56, 64, 64, 3],
  [28, 128, 128, 3],
  [14, 256, 256, 1],
  [7, 512, 512, 1],
] as const;
const CONV_PATTERNS = ["40%", "70%", "90%", "4x1@80%"];

/** The choice's time, and how many times the best one's that is. */
interface Regret extends Row {
  rate: number;
}

/** Times one use of a weight by choice and by force. */
async function regretOf(
  name: string,
  w: PackedWeight,
  ops: ("spmm" | "spmv")[],
  call: (forceKernel: string | undefined, out?: Tensor) => Tensor,
  explain: (forceKernel: string | undefined) => string,
  rounds: number,
): Promise<Regret> {
  const out = call(undefined);
  const chosen = explain(undefined);
  // What a forced kernel leaves to narrower tiles may be the choice itself: its time would tell how noisy the machine is.
  const able = ops
    .flatMap((op) => kernelsFor(op, w.structure(false)))
    .filter((kernel) => explain(kernel.name) !== chosen);
  const cases: Case[] = [undefined, ...able.map((kernel) => kernel.name)].map((force) => ({
    name: force ?? "choice",
    run: () => void call(force, out),
  }));
  const times = await interleave(cases, rounds);
  out.dispose();
  const time = (key: string) => times.get(key)?.min ?? 0;
  const best = able.map((kernel) => kernel.name).reduce((a, b) => (time(b) < time(a) ? b : a), "choice");
  const { simd: build } = w.engine;
  const choice = times.get("choice") as Timing;
  const rate = choice.min / time(best);
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
      const w = engine.pack(prune(values(m * k, 0, rnd), [m, k], pattern), [m, k]);
      for (const rows of ROWS) {
        const x = engine.tensor(values(rows * k, 0, rnd), [rows, k]);
        const use = `${name}, ${rows} row${rows > 1 ? "s" : ""} (${formatName(w.format)})`;
        const ops: ("spmm" | "spmv")[] = rows === 1 ? ["spmv"] : rows < 16 ? ["spmv", "spmm"] : ["spmm"];
        const call = (forceKernel: string | undefined, out?: Tensor) => engine.linear(x, w, { forceKernel, out });
        const explain = (forceKernel: string | undefined) => engine.explain("linear", x, w, { forceKernel }).kernel;
        add(await regretOf(use, w, ops, call, explain, rounds));
        x.dispose();
      }
      w.dispose();
    }
  }
  for (const [side, c, m, kernel] of CONVS) {
    for (const pattern of CONV_PATTERNS) {
      const name = `conv ${kernel}x${kernel}, ${side}², ${c}→${m}, ${pattern}`;
      if (!bench.wants("dispatch", engine.simd, name)) continue;
      const shape = [m, c, kernel, kernel];
      const w = engine.pack(prune(values(m * c * kernel * kernel, 0, rnd), shape, pattern), shape);
      const x = engine.tensor(values(c * side * side, 0, rnd), [1, c, side, side]);
      const o = { padding: kernel >> 1 };
      const call = (forceKernel: string | undefined, out?: Tensor) => engine.conv2d(x, w, { ...o, forceKernel, out });
      const explain = (forceKernel: string | undefined) => engine.explain("conv2d", x, w, { ...o, forceKernel }).kernel;
      add(await regretOf(`${name} (${formatName(w.format)})`, w, ["spmm"], call, explain, rounds));
      w.dispose();
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
