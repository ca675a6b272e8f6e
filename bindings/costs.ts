// What a kernel takes: the constants that `npm run calibrate` measured, and the model that reads them. Only ratios matter: the
// model ranks tiles and formats.
import { fail, options } from "./assert.js";
import type { Build } from "./builds.js";
import shipped from "./costs.json" with { type: "json" };
import { passesOf } from "./formats/streams.js";
import type { Kernel } from "./kernels.js";

/** One machine's constants for one build, all in ns. */
export interface BuildCosts {
  /** CPU, runtime and date of the measurement. */
  machine: string;
  /**
   * By kernel: of one stored entry (a number, a block, a group's vector) and of one row of them, for one strip or vector; of an
   * spmspv kernel of one entry and of one active input.
   */
  kernels: Record<string, readonly [entry: number, row: number]>;
  /** Of a byte of weights that one call reads once, by how many bytes it reads: rising sizes, the last is for all above. */
  weights: readonly (readonly [bytes: number, ns: number])[];
  /** Of a call from JavaScript. */
  call: number;
  /** Of one float between rows and panels, and of one copied. */
  transpose: number;
  copy: number;
}

/** The table that `npm run calibrate` writes; a build that is missing keeps the shipped constants. */
export type Costs = Partial<Record<Build, BuildCosts | undefined>>;

const SHIPPED = shipped as unknown as Record<Build, BuildCosts>;

/** Seconds are no cost of a kernel, and sums of them must stay finite. */
const MOST = 1e9;

const isCost = (n: unknown) => typeof n === "number" && n >= 0 && n <= MOST;

const isSize = (n: unknown) => typeof n === "number" && n >= 0;

const isPair = (value: unknown) => Array.isArray(value) && value.length === 2;

/** A build's constants: the user's where there are any. All tables are checked, as another host runs the other build. */
export function costsOf(build: Build, own: Costs | undefined): BuildCosts {
  const builds = Object.keys(SHIPPED) as Build[];
  const given = options("costs", own, builds);
  let costs = SHIPPED[build];
  for (const name of builds) {
    const table = given[name];
    if (table === undefined) continue;
    const checked = checkTable(`costs.${name}`, table);
    if (name === build) costs = { ...checked, kernels: { ...costs.kernels, ...checked.kernels } };
  }
  return costs;
}

function checkTable(where: string, given: BuildCosts): BuildCosts {
  const table = options(where, given, Object.keys(SHIPPED.simd128));
  const { kernels, weights, call, transpose, copy } = table;
  for (const [name, value] of Object.entries({ call, transpose, copy })) {
    if (typeof value !== "number") fail("ERR_TYPE", `${where}.${name}`, "nanoseconds", value);
    if (!isCost(value)) fail("ERR_VALUE", `${where}.${name}`, `nanoseconds in 0..${MOST}`, value);
  }
  if (!Array.isArray(weights)) fail("ERR_TYPE", `${where}.weights`, "pairs of bytes and nanoseconds", weights);
  if (!weights.length || !weights.every((w) => isPair(w) && isSize(w[0]) && isCost(w[1]))) {
    fail("ERR_VALUE", `${where}.weights`, "pairs of bytes and nanoseconds", weights);
  }
  if (typeof kernels !== "object" || kernels === null || Array.isArray(kernels)) {
    fail("ERR_TYPE", `${where}.kernels`, "an object", kernels);
  }
  for (const [name, pair] of Object.entries(kernels)) {
    if (!isPair(pair) || !pair.every(isCost))
      fail("ERR_VALUE", `${where}.kernels.${name}`, "[ns an entry, ns a row]", pair);
  }
  return { ...table, kernels, weights, call, transpose, copy };
}

/** Sizes that a product's cost depends on. */
export interface Work {
  /** Rows and columns of W. */
  m: number;
  k: number;
  /** Numbers that W stores. */
  places: number;
  /** Input channels, and how many of them a pass of a sparse kernel may take: about, as panels of narrow tiles hold more. */
  channels: number;
  channelsPerBlock: number;
  /** Columns of W that an active input adds in one go, by default one. */
  columns?: number;
}

/** ns of a byte, between the measured sizes in a straight line. */
function perByte(weights: BuildCosts["weights"], bytes: number): number {
  const i = weights.findIndex(([size]) => bytes <= size);
  if (i === 0) return weights[0][1];
  if (i < 0) return weights[weights.length - 1][1];
  const [[s, a], [t, b]] = [weights[i - 1], weights[i]];
  return t > s ? a + ((b - a) * (bytes - s)) / (t - s) : b;
}

/** Predicted ns of one strip, of one vector, or of one active input's columns. */
export function costOf(kernel: Kernel, work: Work, costs: BuildCosts): number {
  const [entry, row] = costs.kernels[kernel.name];
  const { m, k, places } = work;
  const [r, c] = kernel.block;
  const lanes = kernel.format === "nm" ? 8 : 1;
  const rows = Math.ceil(m / r / lanes);
  const entries = kernel.format === "dense" ? m * k : places / (r * c * lanes);
  // One active input: its columns' entries, and finding them.
  if (kernel.op === "spmspv") {
    const size = r * c * 4 + (kernel.format === "dense" ? 0 : 2);
    const met = (entries / Math.max(1, k)) * (work.columns ?? 1);
    return met * Math.max(entry, size * perByte(costs.weights, entries * size)) + row;
  }
  if (kernel.op !== "spmv") {
    if (kernel.format === "dense") return entries * entry + rows * row;
    const passes = passesOf(r, entries / Math.max(1, rows), work.channels, work.channelsPerBlock);
    return entries * entry + rows * passes * row;
  }
  // One vector walks its weights once: beyond the caches their bytes are what takes the time.
  const index = kernel.format === "dense" ? 0 : kernel.format === "nm" ? 4 : 2;
  const bytes = entries * (r * c * lanes * 4 + index);
  return Math.max(entries * entry, bytes * perByte(costs.weights, bytes)) + rows * row;
}
