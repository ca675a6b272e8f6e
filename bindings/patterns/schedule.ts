import { fail, finite, options, share } from "../assert.js";

/** When gradual magnitude pruning runs, and between which sparsities. */
export interface GmpSchedule {
  /** First step; before it and at it, the sparsity is `initial`. */
  begin: number;
  /** Last step; at it and after it, the sparsity is `final`, also where that is `begin`. Not before `begin`. */
  end: number;
  /** Share of zeros to begin with, 0..1; default 0. */
  initial?: number | undefined;
  /** Share of zeros to end with, 0..1. */
  final: number;
}

/**
 * The sparsity that gradual magnitude pruning asks for at a training step: fast at first, when there are many weights
 * to spare, and slower towards the end, `final + (initial − final)(1 − (step − begin) / (end − begin))³` (Zhu and
 * Gupta, "To prune, or not to prune", 2017).
 *
 * @param step training step, in the unit of `begin` and `end`; a fraction is fine
 * @returns share of zeros, 0..1
 * @throws TypeError `ERR_TYPE` for what is no number
 * @throws RangeError `ERR_VALUE` for a number that is not finite, an `end` before `begin`, a sparsity outside 0..1, an unknown key
 * @example
 * ```ts
 * import { gmpSparsity, prune } from "skipzeros";
 *
 * let w = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i + 1));
 * for (let step = 0; step <= 100; step += 10) {
 *   w = prune(w, [8, 8], { sparsity: gmpSparsity(step, { begin: 0, end: 100, final: 0.9 }) });
 * }
 * ```
 */
export function gmpSparsity(step: number, schedule: GmpSchedule): number {
  finite("step", step);
  if (schedule === undefined) fail("ERR_TYPE", "schedule", "an object", schedule);
  const { begin, end, initial = 0, final } = options("schedule", schedule, ["begin", "end", "initial", "final"]);
  finite("schedule.begin", begin);
  finite("schedule.end", end);
  if (end < begin) fail("ERR_VALUE", "schedule.end", `at least begin, ${begin}`, end);
  share("schedule.initial", initial);
  share("schedule.final", final);
  if (step >= end) return final;
  if (step <= begin) return initial;
  return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3;
}
