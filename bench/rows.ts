// One row for everything that the suites measure: what it says, and how it is printed.
import type { Build } from "../bindings/builds.js";
import type { Timing } from "./rounds.js";

/** One measured case. What does not apply to it is not there. */
export interface Row extends Timing {
  suite: string;
  build: Build;
  /** Rows of a group took turns with each other and with the limit. */
  group: string;
  name: string;
  /** "panels", "linear, 8 rows", "conv 3x3" …; of a network "whole", "layer" or "sum". */
  op?: string;
  /** As `formatName` has it, or "auto"; of a network its name. */
  format?: string;
  /** Share of zeros in the weights, and of active elements in x. */
  zeros?: number;
  active?: number;
  /** What ran. */
  kernel?: string;
  /** 10⁹ operations a second on nonzeros, and with the zeros counted too. */
  gf?: number;
  denseGf?: number;
  /** The register-only multiply-add of the same run, and `gf` over it. */
  limit?: number;
  share?: number;
  /** Read and written at least once. */
  bytes?: number;
  /** ms that the dense kernel took for the same work in the same run, and how many times as long that is. */
  dense?: number;
  ratio?: number;
  /** ms in a process whose V8 fuses 128-bit operations to 256 bits, with `--revectorize`. */
  revectorized?: number;
  /** What the row is about where neither time nor GF is. */
  rate?: number;
  unit?: string;
}

export interface Machine {
  cpu: string;
  node: string;
  date: string;
}

/** The file that `--json` writes and `npm run bench:report` reads. */
export interface Results {
  machine: Machine;
  rounds: number;
  rows: Row[];
}

/** One line for the head of a table or a picture. */
export const describe = ({ cpu, node, date }: Machine, rounds: number): string =>
  `${cpu}, Node ${node}, one thread, ${rounds} rounds, ${date}`;

/** Above this the machine was busy, and the row is marked. */
export const BUSY = 0.15;

const NAME = 46;
const COLUMNS: [head: string, width: number, cell: (row: Row) => string | false | undefined][] = [
  ["min ms", 11, ({ min }) => figure(min)],
  ["median", 11, ({ median }) => figure(median)],
  ["spread", 8, ({ spread }) => `${(100 * spread).toFixed(0)}%`],
  ["nz GF", 8, ({ gf }) => gf?.toFixed(1)],
  ["limit", 7, ({ share }) => share !== undefined && `${(100 * share).toFixed(0)}%`],
  ["dense GF", 10, ({ denseGf }) => denseGf?.toFixed(1)],
  ["bytes", 10, ({ bytes }) => bytes !== undefined && size(bytes)],
  ["dense ms", 11, ({ dense }) => dense !== undefined && figure(dense)],
  ["x dense", 9, ({ ratio }) => ratio !== undefined && `${ratio.toFixed(2)}x`],
  ["256 bit", 9, ({ min, revectorized }) => revectorized !== undefined && `${(min / revectorized).toFixed(2)}x`],
];

const figure = (ms: number): string => (ms >= 100 ? ms.toFixed(1) : ms.toPrecision(4));

const size = (bytes: number): string =>
  bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${bytes / 1e9} GB`;

/** The line above a group's rows. */
export const heading = " ".repeat(NAME) + COLUMNS.map(([head, width]) => head.padStart(width)).join("");

export function line(row: Row): string {
  const { name, rate, unit, kernel, spread } = row;
  const cells = COLUMNS.map(([, width, cell]) => (cell(row) || "").padStart(width));
  const notes = [rate === undefined ? "" : `${rate.toPrecision(3)} ${unit}`, kernel ?? "", spread > BUSY ? "busy" : ""];
  return [name.padEnd(NAME) + cells.join(""), ...notes.filter(Boolean)].join("  ");
}

/** Names a row among all of a run. */
export const keyOf = ({ suite, build, group, name }: Pick<Row, "suite" | "build" | "group" | "name">): string =>
  [suite, build, group, name].join("\n");
