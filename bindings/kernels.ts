import type { Build } from "./builds.js";

/** Sizes that a product kernel's cost depends on. */
export interface Work {
  /** Rows of W. */
  m: number;
  /** Columns of W. */
  k: number;
  /** Stored weights. */
  nnz: number;
}

/** One row of the manifest. */
export interface Kernel {
  /** The export's name in both Wasm builds: `f32_<format>_<op>_<tile>`. */
  name: string;
  /** The weight format that it reads; null for those that take no weights. */
  format: "dense" | "csr" | null;
  op: "spmm" | "spmv" | "depthwise" | "layout" | "elementwise" | "pool";
  /** Columns of one strip; 1 for a vector; 0 where it does not apply. */
  tile: number;
  /** Predicted ns of one strip on the machine named below; only ratios are used. */
  cost(work: Work, build: Build): number;
}

/*
 * Costs in ns, measured on 512 × 512 by `npm run bench -- kernels` (Xeon at 2.5 GHz, Cascade Lake, 2026-11-21): relaxed on
 * Node 24.21; simd128 between Node 20.20, which spills at 32 columns, and Node 24.21, which does not. They rank tiles and
 * find the break-even between formats, so only ratios matter.
 */
/** Bytes of weights that stay near the core; from further away one row waits for them. */
const L2 = 2 ** 20;

const spmm = (tile: number, relaxed: number, simd128: number): Kernel => ({
  name: `f32_csr_spmm_${tile}`,
  format: "csr",
  op: "spmm",
  tile,
  cost: ({ m, nnz }, build) => nnz * (build === "relaxed" ? relaxed : simd128) + m * (2 + tile / 8),
});

const gemm = (tile: number, relaxed: number, simd128: number): Kernel => ({
  name: `f32_dense_gemm_${tile}`,
  format: "dense",
  op: "spmm",
  tile,
  cost: ({ m, k }, build) => m * k * (build === "relaxed" ? relaxed : simd128) + m * 2,
});

const plain = (op: Kernel["op"], name: string): Kernel => ({ name, format: null, op, tile: 0, cost: () => 0 });

/** Every kernel there is. Dispatch, tests and bench read this list; what is not in it does not exist. */
export const KERNELS: readonly Kernel[] = [
  spmm(32, 2.31, 3.5),
  spmm(28, 2.08, 2.95),
  spmm(24, 1.85, 2.6),
  spmm(16, 1.32, 2.0),
  spmm(8, 0.96, 1.45),
  spmm(4, 0.72, 0.9),
  {
    name: "f32_csr_spmv",
    format: "csr",
    op: "spmv",
    tile: 1,
    cost: ({ m, nnz }) => nnz * (nnz * 6 > L2 ? 0.5 : 0.4) + m * 2,
  },
  gemm(8, 0.455, 0.72),
  gemm(4, 0.3, 0.46),
  {
    name: "f32_dense_gemv",
    format: "dense",
    op: "spmv",
    tile: 1,
    cost: ({ m, k }) => m * k * (m * k * 4 > 8 * L2 ? 0.34 : m * k * 4 > L2 ? 0.165 : 0.105) + m * 0.2,
  },
  { ...plain("depthwise", "f32_dense_depthwise"), format: "dense" },
  plain("layout", "f32_transpose"),
  plain("layout", "f32_pad"),
  plain("layout", "f32_copy"),
  plain("elementwise", "f32_binary"),
  plain("elementwise", "f32_clamp"),
  plain("elementwise", "f32_sigmoid"),
  plain("elementwise", "f32_tanh"),
  plain("elementwise", "f32_softmax"),
  plain("pool", "f32_max_pool"),
  plain("pool", "f32_avg_pool"),
  plain("pool", "f32_global_avg_planes"),
  plain("pool", "f32_global_avg_pixels"),
];

/** Widest strip of any kernel: the pitch of a panel, in floats, whatever tile reads it. */
export const PANEL = 32;

const spmmTiles = (format: Kernel["format"]) => KERNELS.filter((k) => k.op === "spmm" && k.format === format);

/**
 * Cuts n columns into strips of the format's tiles at the least cost; the last may be wider than what is left of it.
 * A handful of nearly equal strips beats wide ones with a ladder of narrow tails, each of which walks all weights again.
 *
 * @param n columns, at least 1, already rounded up to a multiple of 4 by the caller's buffers
 * @returns runs of equal strips, widest first
 */
export function cutColumns(
  n: number,
  work: Work,
  build: Build,
  format: Kernel["format"],
): { kernel: Kernel; strips: number }[] {
  const tiles = spmmTiles(format).map((kernel) => ({ kernel, v: kernel.tile / 4, cost: kernel.cost(work, build) }));
  let vectors = Math.ceil(n / 4);
  const counts = new Map<Kernel, number>();
  const add = (kernel: Kernel, strips: number) => counts.set(kernel, (counts.get(kernel) ?? 0) + strips);
  // Far from the end only the cheapest tile per column matters; the rest is small enough to solve exactly.
  const best = tiles.reduce((a, b) => (b.cost / b.v < a.cost / a.v ? b : a));
  const far = Math.floor((vectors - 32) / best.v);
  if (far > 0) {
    add(best.kernel, far);
    vectors -= far * best.v;
  }
  const least: { cost: number; tile: (typeof tiles)[number] | null }[] = [{ cost: 0, tile: null }];
  for (let v = 1; v <= vectors; v++) {
    let choice = { cost: Infinity, tile: null as (typeof tiles)[number] | null };
    for (const tile of tiles) {
      if (tile.v > v) continue;
      const cost = least[v - tile.v].cost + tile.cost;
      if (cost < choice.cost) choice = { cost, tile };
    }
    least.push(choice);
  }
  for (let v = vectors; v > 0; ) {
    const tile = least[v].tile as (typeof tiles)[number];
    add(tile.kernel, 1);
    v -= tile.v;
  }
  return [...counts].map(([kernel, strips]) => ({ kernel, strips })).sort((a, b) => b.kernel.tile - a.kernel.tile);
}

/** Predicted ns of a cut. */
export function costOf(cuts: readonly { kernel: Kernel; strips: number }[], work: Work, build: Build): number {
  return cuts.reduce((sum, { kernel, strips }) => sum + strips * kernel.cost(work, build), 0);
}

/** The kernel for one column. */
export function vectorKernel(format: Kernel["format"]): Kernel {
  return KERNELS.find((k) => k.op === "spmv" && k.format === format) as Kernel;
}
