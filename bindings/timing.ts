// How `inspect`, `skipzeros bench` and `npm run bench -- hosts` time calls of the library, and the numbers that they feed to them.

/** Milliseconds of one call, over all rounds. */
export interface Timing {
  min: number;
  median: number;
}

/**
 * Until V8 has optimised the call and its kernels a small matrix takes up to four times as long, and the order of the
 * two weights decides which looks faster. Took 120 ms on a Xeon at 2.5 GHz with Node 20.20, 2026-11-21.
 */
const WARM_UP_MS = 300;

/** Runs again and again, until what it runs is optimised; the last result. */
export function warmed<T>(run: () => T): T {
  const start = performance.now();
  let result = run();
  while (performance.now() - start < WARM_UP_MS) result = run();
  return result;
}

/**
 * Times calls round after round in turns: a change of the machine's clock or load then meets all alike.
 *
 * @param sampleMs least time of a sample, many times what the host's clock can tell apart
 */
export function interleave(calls: readonly (() => void)[], rounds: number, sampleMs = 1): Timing[] {
  const timers = calls.map((call) => timer(call, sampleMs));
  const samples = calls.map(() => new Float64Array(rounds));
  for (let round = 0; round < rounds; round++) {
    timers.forEach((sample, i) => {
      samples[i][round] = sample();
    });
  }
  return samples.map((times) => {
    times.sort();
    return { min: times[0], median: times[rounds >> 1] };
  });
}

/**
 * Returns ms of one call, from a sample of `sampleMs` at least. How many calls that takes is corrected with each sample: an
 * interruption may make one look long enough, and single calls would be timed with cold caches ever after.
 */
function timer(call: () => void, sampleMs: number): () => number {
  const elapsed = (calls: number): number => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) call();
    return performance.now() - start;
  };
  let calls = 1;
  return () => {
    let ms = elapsed(calls);
    while (ms < sampleMs) {
      calls *= 2;
      ms = elapsed(calls);
    }
    return ms / calls;
  };
}

/** Values in -1..1, the same on every run: a linear congruential generator (Numerical Recipes). */
export function randomValues(length: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
}
