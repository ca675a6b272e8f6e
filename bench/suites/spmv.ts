// Sparse matrix times one row: whole calls of `linear`, in nonzeros a nanosecond.
import { createEngine } from "../../bindings/index.js";
import { random, values } from "../../test/oracle.js";
import type { Bench } from "../groups.js";
import { LINEARS } from "../shapes.js";
import { BLOCK_4, lineOf, linesOf, packerOf, workOf } from "../weights.js";

const OP = "linear, one row";
/** So small that calling takes longer than multiplying. */
const CALL = { op: "linear, a call", size: 16 };

export async function spmv(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const engine = await createEngine({ simd: build });
    for (const { title, in: k, out: m } of LINEARS) {
      await bench.measure("spmv", build, {
        title,
        lines: [...linesOf(["csr", BLOCK_4, "auto"], OP), lineOf({ kind: "nm", n: 2, m: 4 }, 0.5, OP)],
        setUp(own) {
          const pack = packerOf(engine, [m, k], own);
          const x = own(engine.tensor(values(k, 0, random(1)), [1, k]));
          return (line) => {
            const w = pack(line);
            const out = own(engine.linear(x, w));
            return {
              run: () => void engine.linear(x, w, { out }),
              kernel: engine.explain("linear", x, w).kernel,
              rate: { unit: "nonzeros/ns", of: (ms: number) => w.nnz / ms / 1e6 },
              ...workOf(w, 1, x, out),
            };
          };
        },
      });
    }
    await bench.measure("spmv", build, {
      title: `a call with out, ${CALL.size} → ${CALL.size}`,
      lines: [lineOf("dense", 0, CALL.op)],
      setUp(own) {
        const pack = packerOf(engine, [CALL.size, CALL.size], own);
        const x = own(engine.tensor(values(CALL.size, 0, random(1)), [1, CALL.size]));
        return (line) => {
          const w = pack(line);
          const out = own(engine.linear(x, w));
          const rate = { unit: "µs", of: (ms: number) => ms * 1e3 };
          return { run: () => void engine.linear(x, w, { out }), rate };
        };
      },
    });
    engine.dispose();
  }
}
