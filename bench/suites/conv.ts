// Whole calls of `conv2d` on one image.
import { createEngine } from "../../bindings/index.js";
import { random, values } from "../../test/oracle.js";
import type { Bench } from "../groups.js";
import { CONVS, outputOf } from "../shapes.js";
import { BLOCK_4, linesOf, packerOf, workOf } from "../weights.js";

export async function conv(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const engine = await createEngine({ simd: build });
    for (const shape of CONVS) {
      const { title, size, in: c, out: m, kernel, stride, padding } = shape;
      await bench.measure("conv", build, {
        title,
        lines: linesOf(["csr", BLOCK_4, "auto"], `conv ${kernel}x${kernel}`),
        setUp(own) {
          const pack = packerOf(engine, [m, c, kernel, kernel], own);
          const x = own(engine.tensor(values(c * size * size, 0, random(1)), [1, c, size, size]));
          const o = { stride, padding };
          return (line) => {
            const w = pack(line);
            const out = own(engine.conv2d(x, w, o));
            return {
              run: () => void engine.conv2d(x, w, { ...o, out }),
              kernel: engine.explain("conv2d", x, w, o).kernel,
              ...workOf(w, outputOf(shape) ** 2, x, out),
            };
          };
        },
      });
    }
    engine.dispose();
  }
}
