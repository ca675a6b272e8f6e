// `skipzeros bench`: from how many zeros on each format pays on this machine.
import { type Build, createEngine, type Engine, type PackedWeight, prune, type Tensor } from "../index.js";
import { interleave, randomValues, type Timing, warmed } from "../timing.js";
import { describeMachine, type Machine, machineOf } from "./machine.js";
import { parseFormat } from "./pack.js";
import { progressOf } from "./progress.js";
import { type Column, count, percent, table } from "./table.js";

export interface BenchArguments {
  quick?: boolean;
  only?: RegExp;
  json?: boolean;
  simd: "auto" | Build;
}

/** What the advice is given for, each on its own. */
type Kind = "row" | "batch" | "convolution";

/** One product with a weight: what it is called, what it multiplies. */
interface Work {
  kind: Kind;
  name: string;
  input: number[];
  run(engine: Engine, x: Tensor, w: PackedWeight, out?: Tensor): Tensor;
}

interface Weight {
  shape: number[];
  /** Also with `--quick`: the first of each kind. */
  quick: boolean;
  works: Work[];
}

/** A format, the shares of zeros it is timed at, and the pattern that draws a weight with such a share. */
interface Contender {
  name: string;
  zeros: number[];
  pattern(zeros: number): string;
}

interface Point {
  /** Share of all weights, 0..1. */
  zeros: number;
  /** Least of the rounds. */
  ms: number;
  /** Against the dense kernel in the same rounds. */
  speedup: number;
}

export interface BenchRow {
  work: string;
  kind: Kind;
  format: string;
  /** The same weight packed as "dense": least of the rounds. */
  denseMs: number;
  points: Point[];
  /** Share of zeros, or what all points say. */
  paysFrom: BreakEven;
  /** How far the median is above the least time, 0..: the worst of dense and all points. */
  spread: number;
  noisy: boolean;
}

/** A share of zeros, 0..1; "always": at all that were measured; "never": not at the most zeros that were measured. */
export type BreakEven = number | "always" | "never";

interface Report {
  machine: Machine;
  rounds: number;
  rows: BenchRow[];
  recommendation: string[];
  /** Names of rows that the minute had no room for. */
  leftOut: string[];
}

const ROUNDS = 41;
const QUICK_ROUNDS = 9;
/** No row is begun later: one takes a second or two, so that all take a minute. */
const LAST_START_MS = 55_000;
const NOISY = 0.15;
const BATCH = 64;

const linear = (rows: number, size: number): Work => ({
  kind: rows === 1 ? "row" : "batch",
  name: `linear, ${count(rows, "row")}, ${size} → ${size}`,
  input: [rows, size],
  run: (engine, x, w, out) => engine.linear(x, w, { out }),
});

const conv = (kernel: number, side: number, channels: number): Weight => ({
  shape: [channels, channels, kernel, kernel],
  quick: kernel > 1,
  works: [
    {
      kind: "convolution",
      name: `conv ${kernel}x${kernel}, ${side}², ${channels} → ${channels}`,
      input: [1, channels, side, side],
      run: (engine, x, w, out) => engine.conv2d(x, w, { padding: "same", out }),
    },
  ],
});

const square = (size: number, quick: boolean): Weight => ({
  shape: [size, size],
  quick,
  works: [linear(1, size), linear(BATCH, size)],
});

// Each kind once before any twice, so that a slow machine has advice for all of them.
const WEIGHTS: Weight[] = [square(768, true), conv(3, 14, 256), square(1024, false), conv(1, 14, 512)];

const CSR_ZEROS = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
const BLOCK_ZEROS = [0.2, ...CSR_ZEROS];

const block = (name: string): Contender => ({
  name,
  zeros: BLOCK_ZEROS,
  pattern: (zeros) => `${name}@${percent(zeros)}%`,
});
const groups = (n: number, m: number): Contender => ({
  name: `${n}:${m}`,
  zeros: [1 - n / m],
  pattern: () => `${n}:${m}`,
});

const CONTENDERS: Contender[] = [
  { name: "csr", zeros: CSR_ZEROS, pattern: (zeros) => `${percent(zeros)}%` },
  block("4x1"),
  block("2x1"),
  groups(2, 4),
  groups(1, 8),
];

/** Shares of zeros that have a column of the table. */
const SHOWN = [0.5, 0.7, 0.8, 0.9, 0.95];

// With two spaces between columns the table stays within 120.
const COLUMNS: Column[] = [
  ["work", 30, "left"],
  ["format", 6, "left"],
  ["ms dense", 9, "right"],
  ...SHOWN.map((zeros): Column => [`${Math.round(zeros * 100)}%`, 7, "right"]),
  ["pays from", 15, "right"],
  ["spread", 7, "right"],
];

export async function runBench({ quick = false, only, json = false, simd }: BenchArguments): Promise<void> {
  const start = performance.now();
  const chosen = WEIGHTS.filter((weight) => weight.quick || !quick).flatMap(({ shape, works }) =>
    CONTENDERS.map((contender) => ({
      shape,
      contender,
      works: works.filter(({ name }) => !only || only.test(`${name}, ${contender.name}`)),
    })),
  );
  const plan = chosen.filter(({ works }) => works.length > 0);
  if (plan.length === 0) throw new Error(`Nothing to measure has a name that ${only} finds.`);
  const engine = await createEngine({ simd });
  const rounds = quick ? QUICK_ROUNDS : ROUNDS;
  const rows: BenchRow[] = [];
  const leftOut: string[] = [];
  const progress = progressOf("measuring", plan.length);
  try {
    for (const { shape, contender, works } of plan) {
      if (performance.now() - start < LAST_START_MS) rows.push(...measure(engine, shape, contender, works, rounds));
      else leftOut.push(...works.map(({ name }) => `${name}, ${contender.name}`));
      progress.add(1);
    }
    progress.stop();
    const order = WEIGHTS.flatMap(({ works }) => works.map(({ name }) => name));
    rows.sort((a, b) => order.indexOf(a.work) - order.indexOf(b.work));
    const report = { machine: machineOf(engine), rounds, rows, recommendation: recommend(rows), leftOut };
    process.stdout.write(`${json ? JSON.stringify(report, null, 2) : render(report)}\n`);
  } finally {
    progress.stop();
    engine.dispose();
  }
}

/** One format of one weight, at all its shares of zeros, in rounds with the dense weight. */
function measure(engine: Engine, shape: number[], contender: Contender, works: Work[], rounds: number): BenchRow[] {
  const { name, zeros, pattern } = contender;
  const values = randomValues(sizeOf(shape), 2);
  const weights: PackedWeight[] = [];
  try {
    weights.push(engine.pack(values, shape, { format: "dense" }));
    for (const share of zeros) {
      weights.push(engine.pack(prune(values, shape, pattern(share)), shape, { format: parseFormat(name) }));
    }
    return works.map((work) => {
      const [dense, ...times] = timesOf(engine, work, weights, rounds);
      const points = times.map(({ min }, i) => ({ zeros: zeros[i], ms: min, speedup: dense.min / min }));
      const spread = Math.max(...[dense, ...times].map(({ min, median }) => median / min - 1));
      return {
        work: work.name,
        kind: work.kind,
        format: name,
        denseMs: dense.min,
        points,
        paysFrom: breakEven(points.map((point) => [point.zeros, point.ms / dense.min])),
        spread,
        noisy: spread > NOISY,
      };
    });
  } finally {
    for (const w of weights) w.dispose();
  }
}

function timesOf(engine: Engine, work: Work, weights: PackedWeight[], rounds: number): Timing[] {
  const x = engine.tensor(randomValues(sizeOf(work.input)), work.input);
  const y = work.run(engine, x, weights[0]);
  try {
    const calls = weights.map((w) => () => void work.run(engine, x, w, y));
    warmed(() => interleave(calls, 1));
    return interleave(calls, rounds);
  } finally {
    y.dispose();
    x.dispose();
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, d) => size * d, 1);

/**
 * The share of zeros from which on a format is faster than dense at every point: where the straight line behind the last
 * point that is not crosses 1.
 *
 * @param points rising shares of zeros, each with time of the format / time of dense
 */
export function breakEven(points: readonly (readonly [zeros: number, ratio: number])[]): BreakEven {
  let last = points.length - 1;
  while (last >= 0 && points[last][1] < 1) last--;
  if (last === points.length - 1) return "never";
  if (last < 0) return "always";
  const [[zeros, ratio], [nextZeros, nextRatio]] = points.slice(last);
  return zeros + ((nextZeros - zeros) * (ratio - 1)) / (ratio - nextRatio);
}

const LEADS: [Kind, string][] = [
  ["row", "On this machine, with one row"],
  ["batch", `On this machine, with a batch of ${BATCH}`],
  ["convolution", "On this machine, for a convolution"],
];

/** A sentence for each kind of work; of several shapes the one where a format pays least speaks for all. */
export function recommend(rows: readonly Pick<BenchRow, "kind" | "format" | "points" | "paysFrom">[]): string[] {
  return LEADS.flatMap(([kind, lead]) => {
    const alike = rows.filter((row) => row.kind === kind);
    const formats = [...new Set(alike.map(({ format }) => format))];
    const parts = formats.map((format) => advice(alike.filter((row) => row.format === format)));
    return parts.length > 0 ? [`${lead}: ${parts.join(", ")}.`] : [];
  });
}

/** What to say of one format: the zeros it takes, or where its zeros are given, whether it pays. */
function advice(rows: readonly Pick<BenchRow, "format" | "points" | "paysFrom">[]): string {
  const [{ format, points }] = rows;
  if (points.length === 1) {
    const least = Math.min(...rows.map((row) => row.points[0].speedup));
    return `${format} ${least > 1 ? "pays" : "does not pay"} (${least.toFixed(2)}x)`;
  }
  const blocks = format !== "csr";
  const name = blocks ? `${format} blocks` : format;
  const found = rows.map(({ paysFrom }) => paysFrom);
  if (found.includes("never")) {
    return `${name} ${blocks ? "do" : "does"} not pay${found.every((from) => from === "never") ? "" : " on every shape"}`;
  }
  const crossings = found.filter((from) => typeof from === "number");
  const from =
    crossings.length > 0 ? `${whole(Math.max(...crossings))} zeros` : `${whole(points[0].zeros)} zeros or fewer`;
  return `${name} ${blocks ? "pay" : "pays"} from ${from}`;
}

/** Whole percent, upwards: a format that is said to pay does. The rounding of a float is no reason to go up. */
const whole = (zeros: number): string => `${Math.ceil(zeros * 100 - 1e-6)}%`;

function render({ machine, rounds, rows, recommendation, leftOut }: Report): string {
  const cells = rows.map(({ work, format, denseMs, points, paysFrom, spread, noisy }, i) => [
    work === rows[i - 1]?.work ? "" : work,
    format,
    denseMs.toFixed(4),
    ...SHOWN.map((zeros) => {
      const point = points.find((p) => p.zeros === zeros);
      return point ? times(point.speedup) : "";
    }),
    pays(points, paysFrom),
    `${Math.round(spread * 100)}%${noisy ? " *" : "  "}`,
  ]);
  const parts = [
    describeMachine(machine),
    table(COLUMNS, cells),
    `Speed-up over dense at each share of zeros: least times of ${rounds} rounds in turns, one thread.`,
  ];
  const noisy = rows.filter((row) => row.noisy).length;
  if (noisy > 0) {
    parts.push(
      `* noisy: a median over ${NOISY * 100}% above the least time, in ${noisy} of ${count(rows.length, "row")}. ` +
        "Again on a quiet machine?",
    );
  }
  if (leftOut.length > 0) parts.push(`The minute was up, left out: ${leftOut.join("; ")}.`);
  return [...parts, recommendation.join("\n")].map(wrapped).join("\n\n");
}

/** Broken at spaces, to lines no wider than a table. */
const wrapped = (text: string): string => text.replace(/(?=.{121})(.{1,120}) /g, "$1\n");

/** A share of zeros, or where it is given, what it brings. */
function pays([first, ...others]: readonly Point[], paysFrom: BreakEven): string {
  if (others.length === 0) return `${times(first.speedup)} at ${Number(percent(first.zeros))}%`;
  if (typeof paysFrom === "number") return whole(paysFrom);
  return paysFrom === "never" ? "never" : `${whole(first.zeros)} or fewer`;
}

const times = (speedup: number): string => `${speedup.toFixed(2)}x`;
