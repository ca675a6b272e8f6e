// Each row of the manifest: one line for each, the kernel alone, on streams as the engine makes them.
import { type Build, loadKernels } from "../../bindings/builds.js";
import { packBlock } from "../../bindings/formats/block.js";
import { lowerColumns, lowerDenseColumns } from "../../bindings/formats/columns.js";
import { lowerDense, lowerDenseVector } from "../../bindings/formats/dense.js";
import { packNm } from "../../bindings/formats/nm.js";
import { Source } from "../../bindings/formats/source.js";
import { type Lowered, lowerBlocks, lowerNmVector, lowerSlices } from "../../bindings/formats/streams.js";
import { KERNELS, type Kernel } from "../../bindings/kernels.js";
import { Memory } from "../../bindings/memory.js";
import { panelMapFor } from "../../bindings/ops/linear.js";
import { reachOfRow } from "../../bindings/ops/reach.js";
import { workBytes } from "../../bindings/ops/winners.js";
import { prune } from "../../bindings/patterns.js";
import { random, values } from "../../test/oracle.js";
import type { Bench } from "../groups.js";

/** A kernel's call on prepared memory, with what it does. */
export interface KernelCase {
  name: string;
  shape: string;
  run: () => void;
  /** Useful floating-point operations, 0 for a copy. */
  flops: number;
  /** Those of the dense kernel for the same product, and its name. */
  denseFlops?: number;
  dense?: string;
  /** Bytes read and written at least once. */
  bytes: number;
}

const [M, K] = [512, 512];
/** Share of zeros, or of blocks of them. */
const ZEROS = 0.9;
/** Share of an activation's elements that are active. */
const ACTIVE = 0.1;
/** N:M. */
const [N, OF] = [2, 4];
/** Elements of an activation, a copy, a pooling. */
const SIZE = 64 * 28 * 28;

export async function kernels(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const cases = await kernelCases(build);
    const nameOf = ({ name, shape }: KernelCase) => `${name} (${shape})`;
    await bench.measure("kernels", build, {
      title: "one call",
      lines: cases.map((work) => {
        const dense = cases.find(({ name }) => name === work.dense);
        return { name: nameOf(work), dense: dense && nameOf(dense), work };
      }),
      setUp:
        () =>
        ({ work: { run, flops, denseFlops, bytes } }) => ({ run, flops, denseFlops, bytes }),
    });
  }
}

/** Every kernel there is, by the format and operation of its row. */
export async function kernelCases(build: Build): Promise<KernelCase[]> {
  const memory = new Memory();
  const kernels = await loadKernels(build, undefined, memory.wasm);
  const rnd = random(1);
  const weights = values(M * K, 0, rnd);
  const [x, y, taps] = [memory.alloc(SIZE * 4 + 65536), memory.alloc(SIZE * 4 + 65536), memory.alloc(64)];
  memory.floats(x, SIZE).set(values(SIZE, 0, rnd));
  memory.u32.set([0, 4, 8, 120, 124, 128, 240, 244, 248], taps / 4);
  // Of 28 columns, all taps inside.
  const edges = memory.alloc(28 * 12 + (28 + 16) * 4);
  memory.u32.fill(0xffffffff, edges / 4, edges / 4 + 28 * 3);
  memory.f32.fill(0, edges / 4 + 28 * 3, edges / 4 + 28 * 4 + 16);

  /** Weights in a kernel's own pattern as it reads them, how many numbers it multiplies and what they take. */
  const streams = ({
    format,
    op,
    tile,
    block: [r, c],
  }: Kernel): { lowered: Lowered; stored: number; bytes: number } => {
    const vector = op === "spmv";
    if (format === "dense") {
      const w = { rows: M, cols: K, data: weights };
      const lowered = vector
        ? lowerDenseVector(memory, w)
        : lowerDense(memory, w, panelMapFor(tile), kernels.dense_gemm_rows());
      return { lowered, stored: M * K, bytes: M * K * 4 };
    }
    if (format === "nm") {
      const w = packNm(new Source(prune(weights, [M, K], `${N}:${OF}`), [M, K]), N, OF);
      const stored = w.data.length;
      return { lowered: lowerNmVector(memory, w), stored, bytes: stored * 4.5 };
    }
    const w = packBlock(new Source(prune(weights, [M, K], { block: [r, c], sparsity: ZEROS }), [M, K]), r, c);
    const lowered = vector ? lowerSlices(memory, w) : lowerBlocks(memory, w, panelMapFor(tile));
    return { lowered, stored: w.data.length, bytes: w.data.length * 4 + w.indices.length * (vector ? 2 : 4) };
  };

  const product = (kernel: Kernel): KernelCase => {
    const { lowered, stored, bytes } = streams(kernel);
    const { passes } = lowered;
    const run = kernels[kernel.name];
    const vector = kernel.op === "spmv";
    const columns = vector ? 1 : kernel.tile;
    const pitch = panelMapFor(columns).channelStride;
    const call = vector
      ? () => passes.forEach((p) => run(p.plan, x + p.x, y, 0, 0, 0, 0))
      : () => passes.forEach((p) => run(p.plan, 1, x + p.x, y + p.row * pitch, pitch, 0, p.first ? 0 : 1, 0, 0));
    return {
      name: kernel.name,
      shape: `${M} × ${K} × ${columns}`,
      run: call,
      flops: 2 * stored * columns,
      denseFlops: 2 * M * K * columns,
      dense: vector ? "f32_dense_gemv" : "f32_dense_gemm_8",
      bytes: bytes + (K + M) * columns * 4,
    };
  };

  /** An activation's lists: one row, as k-winners over all of x leave it. */
  const active = Math.round(K * ACTIVE);
  const lists = memory.alloc((4 + 2 * active) * 4);
  const [indptr, indices, data] = [lists, lists + 16, lists + 16 + active * 4];
  memory.u32.set([0, active], lists / 4);
  for (let i = 0; i < active; i++) memory.u32[indices / 4 + i] = Math.floor(i / ACTIVE);
  memory.floats(data, active).set(values(active, 0, rnd));
  const sums = memory.alloc(M * 4 + 16);

  /** A product with sparse activations. */
  const walk = (kernel: Kernel): KernelCase => {
    const { format, block } = kernel;
    const [r, c] = block;
    const pruned = () =>
      packBlock(new Source(prune(weights, [M, K], { block: [r, c], sparsity: ZEROS }), [M, K]), r, c);
    const dense = format === "dense";
    const { passes } = dense
      ? lowerDenseColumns(memory, { rows: M, cols: K, data: weights }, reachOfRow(M, 1))
      : lowerColumns(memory, pruned(), reachOfRow(M, 1));
    const stored = M * active * (dense ? 1 : 1 - ZEROS);
    const call = kernels[kernel.name];
    return {
      name: kernel.name,
      shape: `${M} × ${K}, ${active} active`,
      run: () => call(passes[0].plan, 1, indptr, indices, data, sums, y, M * 4, 0, 0, 0, 0),
      flops: 2 * stored,
      denseFlops: 2 * M * active,
      dense: "f32_dense_spmspv",
      bytes: stored * (dense ? 4 : 4 + 2 / r) + active * 8 + M * 4,
    };
  };

  const images = (name: string, call: () => void, flops: number, shape = "64 × 28 × 28"): KernelCase => ({
    name,
    shape,
    run: call,
    flops,
    bytes: SIZE * 8,
  });
  const plane = 28 * 28 * 4;
  const [indptrOf, indicesOf, valuesOf] = [785, SIZE + 4, SIZE + 4].map((n) => memory.alloc(n * 4));
  const work = memory.alloc(workBytes(1600));
  const line = memory.alloc(64 * 4);
  // Runs without strips: what a run costs beside its kernel.
  const [list, runs] = [memory.alloc(64 * 16), 64 * 16];
  memory.u32.fill(0, list / 4, (list + runs) / 4);
  const [nothing] = streams(KERNELS[0]).lowered.passes;
  // What f32_from_lists spreads out.
  kernels.f32_to_lists(x, 784, 64, 0.5, indptrOf, indicesOf, valuesOf);
  const others: KernelCase[] = [
    images(
      "f32_dense_depthwise",
      () => kernels.f32_dense_depthwise(64, 1, taps, 9, x, x, plane, 112, y, 26, 26, 0, 0, 0, 0),
      2 * 9 * 64 * 26 * 26,
      "64 × 28 × 28, 3 × 3",
    ),
    ...["f32_dense_depthwise_3x3_rows", "f32_dense_depthwise_3x3_columns"].map((name) =>
      images(
        name,
        () => kernels[name](64, 1, 1, x, x, 28, 28, 1, 1, edges, y, 28, 28, 0, 0, 0, 0),
        2 * 9 * 64 * 28 * 28,
        "64 × 28 × 28",
      ),
    ),
    images("f32_transpose", () => kernels.f32_transpose(64, 784, x, 784 * 4, y, 64 * 4), 0, "64 × 784"),
    images("f32_pad", () => kernels.f32_pad(64, 26, 26, x, plane, 112, 4, y, plane, 27 * 4, 27 * 4), 0),
    images("f32_copy", () => kernels.f32_copy(64, 28, 27, x, plane, 112, y, plane, 112), 0),
    images("f32_to_lists", () => kernels.f32_to_lists(x, 784, 64, 0.5, indptrOf, indicesOf, valuesOf), 0, "784 × 64"),
    images("f32_from_lists", () => kernels.f32_from_lists(784, 64, indptrOf, indicesOf, valuesOf, y), 0, "784 × 64"),
    images("f32_binary", () => kernels.f32_binary(0, SIZE, x, 1, x, 1, y, 0, 6), SIZE),
    images("f32_clamp", () => kernels.f32_clamp(SIZE, x, y, 0, 6), SIZE),
    images("f32_sigmoid", () => kernels.f32_sigmoid(SIZE, x, y), SIZE),
    images("f32_tanh", () => kernels.f32_tanh(SIZE, x, y), SIZE),
    images("f32_softmax", () => kernels.f32_softmax(64, 784, x, y), SIZE, "64 × 784"),
    {
      name: "f32_k_winners",
      shape: "1600, k = 160",
      run: () => kernels.f32_k_winners(x, 1, 1600, 1, 160, 0, 0, work, y + SIZE * 4, y, y + SIZE * 2),
      flops: 1600,
      bytes: 1600 * 4 + 160 * 8,
    },
    images("f32_max_pool", () => kernels.f32_max_pool(64, 1, 28, 28, 2, 2, 2, 2, 0, 0, 0, 14, 14, line, x, y), SIZE),
    images("f32_avg_pool", () => kernels.f32_avg_pool(64, 1, 28, 28, 2, 2, 2, 2, 0, 0, 0, 14, 14, 1, line, x, y), SIZE),
    images("f32_global_avg_planes", () => kernels.f32_global_avg_planes(64, 784, x, y), SIZE),
    {
      name: "f32_spmm_runs",
      shape: "64 runs without strips",
      run: () => kernels.f32_spmm_runs(list, list + runs, nothing.plan, x, y, 0, 0, 0, 0, 0),
      flops: 0,
      bytes: runs,
    },
    images("f32_global_avg_pixels", () => kernels.f32_global_avg_pixels(784, 64, x, y), SIZE, "28 × 28 × 64"),
  ];
  return [
    ...KERNELS.filter((k) => k.op === "spmm" || k.op === "spmv").map(product),
    ...KERNELS.filter((k) => k.op === "spmspv").map(walk),
    ...others,
  ];
}
