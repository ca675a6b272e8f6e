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

/** Samples of a case in a round, and how long one runs at least. */
const SAMPLES = 2;
const SAMPLE_MS = 4;
/** A case warms up for so many calls or so long, whatever comes first: out of the baseline compiler. */
const WARM_UP = { calls: 30, ms: 25 };

/** @param rounds at least nine for a number that anyone quotes */
export async function interleave(cases: readonly Case[], rounds: number): Promise<Map<string, Timing>> {
  const samples = new Map<string, number[]>(cases.map(({ name }) => [name, []]));
  const quickest = new Map(cases.map((c) => [c.name, warmUp(c)]));
  // benny announces each suite; a round is none that a reader cares about.
  const { log } = console;
  console.log = () => {};
  try {
    for (let r = 0; r < rounds; r++) {
      await b.suite(
        "round",
        ...cases.map(({ name, run }) => {
          // Told how many calls fill a sample, benny does not spend samples on finding out.
          const initCount = Math.ceil((1.1 * SAMPLE_MS) / (quickest.get(name) as number));
          const options = { minSamples: SAMPLES, minTime: SAMPLE_MS / 1000, maxTime: 0.001, delay: 0, initCount };
          return b.add(name, () => () => run(), options);
        }),
        b.complete((summary) => {
          for (const { name, details } of summary.results) {
            const times = details.sampleResults.map((s) => s * 1000);
            samples.get(name)?.push(...times);
            quickest.set(name, Math.min(quickest.get(name) as number, ...times));
          }
        }),
      );
    }
  } finally {
    console.log = log;
  }
  return new Map([...samples].map(([name, times]) => [name, timing(times)]));
}

/** Runs a case until it is warm; ms of a call, if anything too many. */
function warmUp({ run }: Case): number {
  const start = performance.now();
  let calls = 0;
  let ms = 0;
  while (calls < 2 || (calls < WARM_UP.calls && ms < WARM_UP.ms)) {
    run();
    calls++;
    ms = performance.now() - start;
  }
  return Math.max(ms / calls, 1e-5);
}

export function timing(times: number[]): Timing {
  times.sort((p, q) => p - q);
  const [min, median] = [times[0], times[times.length >> 1]];
  return { min, median, spread: median / min - 1 };
}
