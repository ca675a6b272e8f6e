// Sparse matrix times many columns: kernels alone on packed panels, and whole calls of `linear` on a few rows and on many.
import { createEngine, type Engine } from "../../bindings/index.js";
import { KERNELS } from "../../bindings/kernels.js";
import { columnsAtOnce, panelMapFor, stripsPerPanel } from "../../bindings/ops/linear.js";
import { runBytes, runStrips } from "../../bindings/ops/product.js";
import { random, values } from "../../test/oracle.js";
import type { Bench, Group } from "../groups.js";
import { LINEARS } from "../shapes.js";
import { BLOCK_2, BLOCK_4, lineOf, linesOf, packerOf, type WeightLine, workOf, ZEROS } from "../weights.js";

const BATCHES = [4, 8, 64];
const COLUMNS = 64;

export async function spmm(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const engine = await createEngine({ simd: build });
    for (const shape of LINEARS) {
      await bench.measure("spmm", build, panels(engine, shape));
      await bench.measure("spmm", build, linear(engine, shape));
    }
    engine.dispose();
  }
}

/** Kernels whose strips fill the registers, by what is packed for them. */
const TILES = KERNELS.filter(({ op, tile, block: [r] }) => op === "spmm" && tile * r >= 24).map((kernel) => ({
  kernel,
  as: kernel.block[0] === 4 ? BLOCK_4 : kernel.block[0] === 2 ? BLOCK_2 : ("csr" as const),
}));
const DENSE = KERNELS.filter(({ op, format }) => op === "spmm" && format === "dense")[0];

/** Panels as wide as a kernel's tile, as many as COLUMNS have room for, in the passes and groups of `linear`. */
function panels(engine: Engine, shape: (typeof LINEARS)[number]): Group<WeightLine & { kernel: typeof DENSE }> {
  const [m, k] = [shape.out, shape.in];
  const dense = { ...lineOf("dense", 0, "panels", DENSE.name), kernel: DENSE };
  const sparse = TILES.flatMap(({ kernel, as }) =>
    ZEROS.map((zeros) => ({ ...lineOf(as, zeros, "panels", kernel.name), kernel, dense: dense.name })),
  );
  return {
    title: `${shape.title}, kernels on panels`,
    lines: [dense, ...sparse],
    setUp(own) {
      const pack = packerOf(engine, [m, k], own);
      const x = own(engine.tensor(values(k * COLUMNS, 0, random(1)), [k * COLUMNS]));
      const y = own(engine.tensor(new Float32Array(m * COLUMNS), [m * COLUMNS]));
      const ending = { bias: 0, accumulate: false, fused: { clamp: false, lo: 0, hi: 0 } };
      return (line) => {
        const { kernel } = line;
        const w = pack(line);
        const map = panelMapFor(kernel.tile);
        const pitch = map.channelStride;
        const lowered = w.streams(kernel, `${kernel.stream} panel ${pitch}`, map);
        const panels = Math.floor((COLUMNS * 4) / pitch);
        const strips = stripsPerPanel(map, kernel);
        const runs = Array.from({ length: panels }, (_, i) => ({ kernel, strips, x: i * k * pitch, y: i * m * pitch }));
        const columns = panels * strips * kernel.tile;
        const group = columnsAtOnce(lowered, m, k);
        const list = own(engine.tensor(new Float32Array(runBytes(panels) / 4), [runBytes(panels) / 4]));
        return {
          run: () => runStrips(engine, lowered, runs, list.ptr, x.ptr, y.ptr, pitch, group, ending),
          ...workOf(w, columns, { size: k * columns }, { size: m * columns }),
        };
      };
    },
  };
}

const opOf = (rows: number) => `linear, ${rows} rows`;

function linear(engine: Engine, shape: (typeof LINEARS)[number]): Group<WeightLine & { rows: number }> {
  const [m, k] = [shape.out, shape.in];
  return {
    title: shape.title,
    lines: BATCHES.flatMap((rows) => linesOf(["csr", BLOCK_4, "auto"], opOf(rows)).map((line) => ({ ...line, rows }))),
    setUp(own) {
      const pack = packerOf(engine, [m, k], own);
      const inputs = new Map(
        BATCHES.map((rows) => [rows, own(engine.tensor(values(rows * k, 0, random(1)), [rows, k]))]),
      );
      return (line) => {
        const w = pack(line);
        const x = inputs.get(line.rows)!;
        const out = own(engine.linear(x, w));
        return {
          run: () => void engine.linear(x, w, { out }),
          kernel: engine.explain("linear", x, w).kernel,
          ...workOf(w, line.rows, x, out),
        };
      };
    },
  };
}
