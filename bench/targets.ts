// What the numbers should be: means over a suite's shapes, and whether they are there.
import type { Build } from "../bindings/builds.js";
import type { Row } from "./rows.js";

interface Target {
  suite: string;
  name: string;
  /** The value that counts, undefined for a row that does not. */
  of(row: Row): number | undefined;
  /** How values become one: of rows with the same shape and zeros the best counts. */
  mean: "geometric" | "least" | "greatest";
  /** What it should be at least, or at most. */
  least?: Partial<Record<Build, number>>;
  most?: number;
  unit: string;
}

/** Rows that targets are about. */
const pruned = ({ zeros = 0 }: Row) => zeros >= 0.8 && zeros <= 0.95;

/** Bytes of a product with one row that stays in L2, 1 MiB on the smallest machine that we know. */
const IN_L2 = 0.75 * 2 ** 20;

const share = (suite: string, name: string, op: RegExp, format: string, least: Target["least"]): Target => ({
  suite,
  name,
  of: (row) => (op.test(row.op ?? "") && row.format === format && pruned(row) ? row.share : undefined),
  mean: "geometric",
  least,
  unit: "of the limit",
});

const oneRow = (format: string, rate: number): Target => ({
  suite: "spmv",
  name: `one row, ${format}, 80 to 95% zeros, in L2`,
  of: (row) => (row.format === format && pruned(row) && (row.bytes ?? 0) <= IN_L2 ? row.rate : undefined),
  mean: "geometric",
  least: { simd128: rate, relaxed: rate },
  unit: "nonzeros/ns",
});

const auto = (suite: string): Target => ({
  suite,
  name: `"auto" against our own dense kernel, the worst row`,
  of: ({ format, ratio }) => (format === "auto" ? ratio : undefined),
  mean: "least",
  least: { simd128: 0.95, relaxed: 0.95 },
  unit: "x dense",
});

const both = (share: number) => ({ simd128: share, relaxed: share });

const TARGETS: readonly Target[] = [
  share("spmm", "csr on panels, 80 to 95% zeros", /^panels$/, "csr", { simd128: 0.85, relaxed: 0.82 }),
  share("spmm", "block 4x1 on panels, 80 to 95% zeros", /^panels$/, "block 4x1", { simd128: 0.92, relaxed: 0.88 }),
  ...["csr", "block 4x1"].flatMap((format) =>
    [4, 8].map((rows) =>
      share("spmm", `linear, ${rows} rows, ${format}, 80 to 95% zeros`, RegExp(` ${rows} rows$`), format, both(0.6)),
    ),
  ),
  auto("spmm"),
  oneRow("csr", 2.7),
  oneRow("block 4x1", 9),
  auto("spmv"),
  {
    suite: "spmv",
    name: "a call of linear with out, 16 → 16",
    of: ({ op, rate }) => (op === "linear, a call" ? rate : undefined),
    mean: "greatest",
    most: 0.5,
    unit: "µs",
  },
  share("conv", "conv 3x3, csr, 80 to 95% zeros", /^conv 3x3$/, "csr", both(0.75)),
  auto("conv"),
  {
    suite: "load",
    name: "import to first result",
    of: ({ name, min }) => (name === "import to first result" ? min : undefined),
    mean: "greatest",
    most: 15,
    unit: "ms",
  },
];

/** A target with what was measured. */
export interface Verdict {
  suite: string;
  build: Build;
  name: string;
  value: number;
  unit: string;
  /** "≥ 0.82" */
  wanted: string;
  hit: boolean;
  /** Rows that it is the mean of, and the name of the one that is furthest below. */
  rows: number;
  worst: string;
}

/** The targets that rows have something to say about. */
export function verdicts(rows: readonly Row[]): Verdict[] {
  const builds = [...new Set(rows.map(({ build }) => build))];
  return TARGETS.flatMap((target) => builds.flatMap((build) => verdict(target, build, rows) ?? []));
}

function verdict({ suite, name, of, mean, least, most, unit }: Target, build: Build, rows: readonly Row[]) {
  const better = (a: number, b: number) => (most === undefined ? a > b : a < b);
  const best = new Map<string, { value: number; row: Row }>();
  for (const row of rows) {
    const value = row.suite === suite && row.build === build ? of(row) : undefined;
    if (value === undefined) continue;
    const key = `${row.group} ${row.zeros} ${row.op}`;
    const known = best.get(key);
    if (!known || better(value, known.value)) best.set(key, { value, row });
  }
  if (best.size === 0) return undefined;
  const all = [...best.values()];
  const numbers = all.map(({ value }) => value);
  const value =
    mean === "geometric" ? geometric(numbers) : mean === "least" ? Math.min(...numbers) : Math.max(...numbers);
  const worst = all.reduce((a, b) => (better(a.value, b.value) ? b : a)).row;
  const bound = most ?? least?.[build] ?? 0;
  return {
    suite,
    build,
    name,
    value,
    unit,
    wanted: `${most === undefined ? "≥" : "≤"} ${bound}`,
    hit: most === undefined ? value >= bound : value <= bound,
    rows: all.length,
    worst: `${worst.group}, ${worst.name}`,
  };
}

export const geometric = (numbers: readonly number[]): number =>
  Math.exp(numbers.reduce((sum, n) => sum + Math.log(n), 0) / numbers.length);

export const describeVerdict = ({ build, name, value, unit, wanted, hit, rows, worst }: Verdict): string =>
  `${hit ? "hit " : "miss"} ${build.padEnd(8)} ${name}: ${value.toPrecision(3)} ${unit}, ${wanted} wanted (${rows} ${rows === 1 ? "row" : "rows"}, the worst is ${worst})`;
