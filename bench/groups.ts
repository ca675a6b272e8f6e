// Groups of cases that take turns with each other and with the machine's limit, and the rows that come of them.
import type { Build } from "../bindings/builds.js";
import { LIMIT_FLOPS, limitOf } from "./machine.js";
import { interleave, type Timing } from "./rounds.js";
import { heading, keyOf, line, type Row } from "./rows.js";

/** A row before it is measured. */
export type Line = Pick<Row, "name" | "op" | "format" | "zeros" | "active"> & {
  /** Name of the line that is this work by the dense kernel; the line itself where it is one. */
  dense?: string;
};

/** A line set up: one call of it, and what the call does. */
export interface Work {
  run: () => void;
  /** Floating-point operations on nonzeros, and with the zeros counted too; none for what only moves bytes. */
  flops?: number;
  denseFlops?: number;
  bytes?: number;
  kernel?: string;
  /** What a row is about, by ms of a call. */
  rate?: { unit: string; of: (ms: number) => number };
}

/** Takes what must be given back once the group is measured. */
export type Own = <T extends { dispose(): void }>(owned: T) => T;

export interface Group<L extends Line> {
  title: string;
  lines: readonly L[];
  /** Called if any line is wanted; what it returns sets up one line. */
  setUp(own: Own): (line: L) => Work;
}

/** A run of the suites: how thorough, of what, and all rows so far. */
export class Bench {
  readonly rows: Row[] = [];

  /**
   * @param words a row is measured if its suite, build, group and name have all of them
   * @param print where tables go, line by line
   * @param revectorized ms of rows, by {@link keyOf}, in a process with wider vectors
   */
  constructor(
    readonly builds: readonly Build[],
    readonly rounds: number,
    readonly words: readonly string[],
    readonly print: (text: string) => void,
    readonly revectorized: ReadonlyMap<string, number> = new Map(),
  ) {}

  wants(...of: string[]): boolean {
    const name = of.join(" ");
    return this.words.every((word) => name.includes(word));
  }

  /** Measures the lines of a group that are wanted, and the dense ones that they are compared with. */
  async measure<L extends Line>(suite: string, build: Build, { title, lines, setUp }: Group<L>): Promise<Row[]> {
    const wanted = new Set(lines.filter(({ name }) => this.wants(suite, build, title, name)).map(({ name }) => name));
    if (wanted.size === 0) return [];
    const compared = new Set(lines.filter(({ name }) => wanted.has(name)).map(({ dense }) => dense));
    const owned: { dispose(): void }[] = [];
    const prepare = setUp((resource) => {
      owned.push(resource);
      return resource;
    });
    const cases = lines
      .filter(({ name }) => wanted.has(name) || compared.has(name))
      .map((line) => ({ line, name: line.name, ...prepare(line) }));
    const limit = { name: "the machine's limit", run: await limitOf(build) };
    const times = await interleave([limit, ...cases], this.rounds);
    for (const resource of owned.reverse()) resource.dispose();
    const most = LIMIT_FLOPS / (times.get(limit.name) as Timing).min / 1e6;
    const rows = cases.map(({ line, flops, denseFlops = flops, bytes, kernel, rate }): Row => {
      const { name, op, format, zeros, active } = line;
      const t = times.get(name) as Timing;
      const gf = flops ? flops / t.min / 1e6 : undefined;
      const reference = cases.find((other) => other.name === line.dense);
      // The dense line may do another amount of work: a kernel's own tile, for one.
      const dense =
        reference?.flops && denseFlops
          ? (times.get(reference.name) as Timing).min * (denseFlops / reference.flops)
          : undefined;
      return {
        suite,
        build,
        group: title,
        name,
        op,
        format,
        zeros,
        active,
        ...t,
        kernel,
        ...(gf && denseFlops ? { gf, denseGf: denseFlops / t.min / 1e6, limit: most, share: gf / most } : {}),
        bytes,
        ...(dense ? { dense, ratio: dense / t.min } : {}),
        revectorized: this.revectorized.get(keyOf({ suite, build, group: title, name })),
        ...(rate ? { rate: rate.of(t.min), unit: rate.unit } : {}),
      };
    });
    this.report(`${suite} ${build}, ${title}, limit ${most.toFixed(1)} GF`, rows);
    return rows;
  }

  /** Keeps rows and prints them. */
  report(title: string, rows: readonly Row[]): void {
    this.print(`\n${title}\n${heading}`);
    for (const row of rows) this.print(line(row));
    this.rows.push(...rows);
  }
}
