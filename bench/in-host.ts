// What the suite `hosts` runs in each of them, as a file of its own: nothing of Node may be imported here.
import { type Build, createEngine, prune } from "../bindings/index.js";
import { interleave, randomValues, warmed } from "../bindings/timing.js";

export interface HostTimes {
  build: Build;
  cases: { name: string; format: string; zeros: number; flops: number; min: number; median: number; dense: number }[];
}

/** BERT's first feed-forward layer, dense and with 90% zeros. */
const [M, K] = [3072, 768];
const ZEROS = 0.9;
/** Whatever the bench is told: the ratios are quoted. */
const ROUNDS = 11;
/** Browsers and Workers round their clocks, to a millisecond at worst. */
const SAMPLE_MS = 20;

export default async function inHost(): Promise<HostTimes> {
  const engine = await createEngine();
  const all = randomValues(M * K);
  const weights = [
    { format: "dense", zeros: 0, w: engine.pack(all, [M, K], { format: "dense" }) },
    { format: "csr", zeros: ZEROS, w: engine.pack(prune(all, [M, K], "90%"), [M, K], { format: "csr" }) },
    {
      format: "block 4x1",
      zeros: ZEROS,
      w: engine.pack(prune(all, [M, K], "4x1@90%"), [M, K], { format: { kind: "block", rows: 4, cols: 1 } }),
    },
  ];
  const cases: HostTimes["cases"] = [];
  for (const rows of [1, 64]) {
    const x = engine.tensor(randomValues(rows * K), [rows, K]);
    const out = engine.linear(x, weights[0].w);
    const calls = weights.map(
      ({ w }) =>
        () =>
          void engine.linear(x, w, { out }),
    );
    for (const call of calls) warmed(call);
    const times = interleave(calls, ROUNDS, SAMPLE_MS);
    for (const [i, { format, zeros, w }] of weights.entries()) {
      const name = `${format}${zeros ? `, ${zeros * 100}% zeros` : ""}, ${rows === 1 ? "one row" : `${rows} rows`}`;
      cases.push({ name, format, zeros, flops: 2 * w.nnz * rows, ...times[i], dense: times[0].min });
    }
  }
  return { build: engine.simd, cases };
}
