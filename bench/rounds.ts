// Timing, the only file that knows benny. Noise comes in bursts on shared machines, so cases take turns, round by round: a
// burst meets all of them, and minima compare quiet moments with quiet moments.
import b from "benny";

export interface Case {
  name: string;
  run: () => void;
}

/** ms a call over all rounds. */
export interface Timing {
  min: number;
  median: number;
  /** How far the median is above the minimum: over 0.15 the machine was busy. */
  spread: number;
}

/** @param rounds at least nine for a number that anyone quotes */
export async function interleave(cases: readonly Case[], rounds: number): Promise<Map<string, Timing>> {
  const samples = new Map<string, number[]>(cases.map(({ name }) => [name, []]));
  for (const { run } of cases) for (let i = 0; i < 30; i++) run(); // out of the baseline compiler
  // benny announces each suite; a round is none that a reader cares about.
  const { log } = console;
  console.log = () => {};
  for (let r = 0; r < rounds; r++) {
    await b.suite(
      "round",
      ...cases.map(({ name, run }) =>
        b.add(name, () => () => run(), { minSamples: 3, minTime: 0.004, maxTime: 0.008, delay: 0, initCount: 1 }),
      ),
      b.complete((summary) => {
        for (const { name, details } of summary.results) {
          samples.get(name)?.push(...details.sampleResults.map((s) => s * 1000));
        }
      }),
    );
  }
  console.log = log;
  return new Map(
    [...samples].map(([name, times]) => {
      times.sort((p, q) => p - q);
      const [min, median] = [times[0], times[times.length >> 1]];
      return [name, { min, median, spread: median / min - 1 }];
    }),
  );
}
