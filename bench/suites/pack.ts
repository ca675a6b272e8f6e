// What packing takes, by format; plain JavaScript, so on one build only.
import { createEngine, type Format } from "../../bindings/index.js";
import type { Bench } from "../groups.js";
import { LINEARS } from "../shapes.js";
import { BLOCK_2, BLOCK_4, drawn, lineOf, type WeightLine } from "../weights.js";

const FORMATS: [Format | "auto", zeros: number][] = [
  ["dense", 0],
  ["csr", 0.9],
  [BLOCK_2, 0.9],
  [BLOCK_4, 0.9],
  [{ kind: "block", rows: 4, cols: 4 }, 0.9],
  [{ kind: "nm", n: 2, m: 4 }, 0.5],
  [{ kind: "nm", n: 1, m: 8 }, 0.875],
  [{ kind: "complementary", overlay: 20 }, 0.95],
  [{ kind: "complementary", overlay: 20, blockRows: 4 }, 0.95],
  ["auto", 0.9],
];

export async function pack(bench: Bench): Promise<void> {
  const build = bench.builds[0];
  const engine = await createEngine({ simd: build });
  for (const { title, in: k, out: m } of LINEARS) {
    await bench.measure("pack", build, {
      title,
      lines: FORMATS.map(([as, zeros]): WeightLine => ({ ...lineOf(as, zeros, "pack"), dense: undefined })),
      setUp:
        () =>
        ({ as, zeros }) => {
          const w = drawn(as, zeros, m, k);
          return {
            run: () => engine.pack(w, [m, k], { format: as }).dispose(),
            bytes: w.byteLength,
            rate: { unit: "M weights/s", of: (ms: number) => w.length / ms / 1e3 },
          };
        },
    });
  }
  engine.dispose();
}
