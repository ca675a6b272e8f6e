// Which kernels run: all that can, at the least predicted time.
import { fail } from "./assert.js";
import { type BuildCosts, costOf, type Work } from "./costs.js";
import { KERNELS, type Kernel, type Structure } from "./kernels.js";

/** The kernels' part of a plan: runs of equal strips, widest first, and what they are predicted to take. */
export interface Candidate {
  cuts: { kernel: Kernel; strips: number }[];
  ns: number;
}

/** Names of the kernels and their strips: "f32_csr_spmm_28 × 7". */
export const describeCuts = (cuts: Candidate["cuts"]): string =>
  cuts.map(({ kernel, strips }) => (strips > 1 ? `${kernel.name} × ${strips}` : kernel.name)).join(", ");

/**
 * Cuts n columns into strips of one stream's tiles at the least cost; the last may be wider than what is left of it.
 * A handful of nearly equal strips beats wide ones with a ladder of narrow tails, each of which walks all weights again.
 *
 * @param n columns, at least 1; buffers have room up to the next multiple of 4
 * @param tiles kernels of one stream, one of them 4 columns wide
 * @param forced one of them that takes every strip it can
 */
function cutColumns(n: number, tiles: readonly Kernel[], cost: (kernel: Kernel) => number, forced?: Kernel): Candidate {
  const all = tiles.map((kernel) => ({ kernel, v: kernel.tile / 4, cost: cost(kernel) }));
  let vectors = Math.ceil(n / 4);
  const counts = new Map<Kernel, number>();
  const add = (kernel: Kernel, strips: number) => counts.set(kernel, (counts.get(kernel) ?? 0) + strips);
  // Far from the end only the cheapest tile per column matters; the rest is small enough to solve exactly.
  const best =
    all.find(({ kernel }) => kernel === forced) ?? all.reduce((a, b) => (b.cost / b.v < a.cost / a.v ? b : a));
  const far = Math.floor((forced ? vectors : vectors - 32) / best.v);
  if (far > 0) {
    add(best.kernel, far);
    vectors -= far * best.v;
  }
  const least: { cost: number; tile: (typeof all)[number] | null }[] = [{ cost: 0, tile: null }];
  for (let v = 1; v <= vectors; v++) {
    let choice = { cost: Infinity, tile: null as (typeof all)[number] | null };
    for (const tile of all) {
      if (tile.v > v) continue;
      const cost = least[v - tile.v].cost + tile.cost;
      if (cost < choice.cost) choice = { cost, tile };
    }
    least.push(choice);
  }
  for (let v = vectors; v > 0; ) {
    const tile = least[v].tile as (typeof all)[number];
    add(tile.kernel, 1);
    v -= tile.v;
  }
  const cuts = [...counts]
    .map(([kernel, strips]) => ({ kernel, strips }))
    .sort((a, b) => b.kernel.tile - a.kernel.tile);
  return { cuts, ns: cuts.reduce((sum, { kernel, strips }) => sum + strips * cost(kernel), 0) };
}

/** The name that a call asks for, as part of a plan's key: checked first, or another value might read like a known key. */
export function forcedKey(name: unknown): string {
  if (name === undefined) return "";
  if (typeof name !== "string") fail("ERR_TYPE", "forceKernel", "a kernel's name", name);
  return `by ${name}`;
}

/** The kernel that a call asks for by name: it must exist and take this weight. */
export function forcedKernel(name: string | undefined, able: readonly Kernel[]): Kernel | undefined {
  if (name === undefined) return undefined;
  const kernel = able.find((k) => k.name === name);
  if (kernel) return kernel;
  const known = KERNELS.some((k) => k.name === name);
  const names = able.map((k) => k.name).join(", ");
  return fail("ERR_VALUE", "forceKernel", `one of ${names} here`, name, known ? ", which cannot run this" : "");
}

/**
 * Ties go to the dense kernel: what a sparse one takes depends more on the shape and on the machine. 8 rows, 1600 → 1500, 50% zeros,
 * csr was chosen at 0.92 times the speed of dense (Zen 4, Node 20, 2026-11-21). One row at 70% zeros is a tie on Node 20, 0.87 on
 * Node 24 with the same build and so with the same table.
 */
const TIE = 1.1;

/**
 * The ways to multiply by a weight, best first: for many columns one for each stream that its kernels can read, for one column
 * one for each kernel.
 *
 * @param forced the only kernel (with the other tiles of its stream for columns that it does not fit)
 */
export function candidates(
  op: "spmm" | "spmv",
  columns: number,
  weight: Structure,
  work: Work,
  costs: BuildCosts,
  forced?: Kernel,
): Candidate[] {
  const able = kernelsFor(op, weight);
  const cost = (kernel: Kernel) => costOf(kernel, work, costs) * (kernel.format === "dense" ? 1 : TIE);
  if (op === "spmv") {
    return able
      .filter((kernel) => !forced || kernel === forced)
      .map((kernel) => ({ cuts: [{ kernel, strips: columns }], ns: columns * cost(kernel) }))
      .sort((a, b) => a.ns - b.ns);
  }
  const streams = new Map<string, Kernel[]>();
  for (const kernel of able) streams.set(kernel.stream, [...(streams.get(kernel.stream) ?? []), kernel]);
  return [...streams.values()]
    .filter((tiles) => !forced || tiles.includes(forced))
    .map((tiles) => cutColumns(columns, tiles, cost, forced))
    .sort((a, b) => a.ns - b.ns);
}

/** The manifest's kernels that take a weight. */
export const kernelsFor = (op: Kernel["op"], weight: Structure): Kernel[] =>
  KERNELS.filter((kernel) => kernel.op === op && kernel.accepts(weight));
