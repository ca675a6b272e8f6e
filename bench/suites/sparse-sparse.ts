// Sparse weights times sparse activations, and the choice of winners that makes them sparse.
import { createEngine, type Engine, type Format } from "../../bindings/index.js";
import { random, values } from "../../test/oracle.js";
import type { Bench, Group, Line } from "../groups.js";
import { CONVS, LINEARS, outputOf } from "../shapes.js";
import { lineOf, packerOf, percent, type WeightLine, workOf } from "../weights.js";

/** Layers that follow a ReLU or k-winners in their networks, the weights that they are pruned to, and what is active then. */
const LAYERS: {
  shape: (typeof LINEARS | typeof CONVS)[number];
  weights: [Format, zeros: number][];
  active: number[];
}[] = [
  {
    shape: LINEARS.find(({ model, name }) => model === "Speech CNN" && name === "hidden")!,
    weights: [
      ["dense", 0],
      ["csr", 0.95],
      [{ kind: "complementary", overlay: 20, blockRows: 4 }, 0.95],
    ],
    active: [0.05, 0.1, 0.2, 0.4],
  },
  {
    // 3% of the ReLU's outputs in T5-Base, 6.3% in ViT-B16 (Z. Li et al., The Lazy Neuron Phenomenon, arXiv 2210.06313).
    shape: LINEARS.find(({ model, name }) => model === "BERT" && name === "feed-forward down")!,
    weights: [
      ["dense", 0],
      ["csr", 0.9],
    ],
    active: [0.03, 0.063, 0.2],
  },
  {
    shape: CONVS.find(({ model, name }) => model === "Speech CNN" && name === "conv2")!,
    weights: [
      ["dense", 0],
      ["csr", 0.95],
      [{ kind: "complementary", overlay: 16, blockRows: 4 }, 0.9375],
    ],
    active: [0.125, 0.25, 0.5],
  },
];

export async function sparseSparse(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const engine = await createEngine({ simd: build });
    for (const layer of LAYERS) await bench.measure("sparse-sparse", build, product(engine, layer));
    await bench.measure("sparse-sparse", build, winners(engine));
    engine.dispose();
  }
}

type ActiveLine = WeightLine & { active: number };

function product(engine: Engine, { shape, weights, active }: (typeof LAYERS)[number]): Group<ActiveLine> {
  const image = shape.op === "conv2d";
  const xShape = image ? [1, shape.in, shape.size, shape.size] : [1, shape.in];
  const wShape = image ? [shape.out, shape.in, shape.kernel, shape.kernel] : [shape.out, shape.in];
  const outputs = image ? outputOf(shape) ** 2 : 1;
  const o = image ? { stride: shape.stride, padding: shape.padding } : {};
  const op = image ? `conv ${shape.kernel}x${shape.kernel}` : "linear, one row";
  const dense = { ...lineOf("dense", 0, op), active: 1 };
  const sparse = weights.flatMap(([as, zeros]) => {
    const line = lineOf(as, zeros, op);
    return active.map((share) => ({
      ...line,
      name: `${line.name}, ${percent(share)} active`,
      active: share,
      dense: dense.name,
    }));
  });
  return {
    title: shape.title,
    lines: [dense, ...sparse],
    setUp(own) {
      const pack = packerOf(engine, wShape, own);
      return (line) => {
        const w = pack(line);
        const size = xShape.reduce((a, b) => a * b);
        const tensor = own(engine.tensor(values(size, 1 - line.active, random(1)), xShape));
        const x = line.active < 1 ? own(engine.toSparse(tensor)) : tensor;
        const call = (out?: typeof tensor) =>
          image ? engine.conv2d(x, w, { ...o, out }) : engine.linear(x, w, { out });
        const out = own(call());
        const { flops, denseFlops } = workOf(w, outputs, x, out);
        const density = "density" in x ? x.density : 1;
        // An inactive input's column is not read, an inactive channel's may be at the next pixel.
        const columns = image ? 1 : density;
        return {
          run: () => void call(out),
          kernel: (image ? engine.explain("conv2d", x, w, o) : engine.explain("linear", x, w)).kernel,
          flops: flops * density,
          denseFlops,
          bytes: w.byteLength * columns + size * density * (density < 1 ? 8 : 4) + out.size * 4,
        };
      };
    },
  };
}

/** Selections: over a layer's outputs, and over the channels of each pixel. */
const WINNERS = [
  { scope: "global", shape: [1, 1600], k: 160 },
  { scope: "global", shape: [1, 64, 14, 14], k: 1192 },
  { scope: "local", shape: [1, 64, 10, 10], k: 8 },
] as const;

function winners(engine: Engine): Group<Line & (typeof WINNERS)[number]> {
  return {
    title: "kWinners",
    lines: WINNERS.map((line) => ({ ...line, name: `${line.scope}, k = ${line.k}, of ${line.shape.join(" × ")}` })),
    setUp:
      (own) =>
      ({ scope, shape, k }) => {
        const size = shape.reduce((a: number, b) => a * b, 1);
        const x = own(engine.tensor(values(size, 0, random(1)), shape));
        const out = own(engine.kWinners(x, { scope, k }));
        return {
          run: () => void engine.kWinners(x, { scope, k, out }),
          bytes: size * 4 + out.nnz * 8,
          rate: { unit: "values/ns", of: (ms: number) => size / ms / 1e6 },
        };
      },
  };
}
