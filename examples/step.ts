import type { Explanation } from "skipzeros";

/** One step of a network, which can be run, timed and explained alone: a layer, a pooling, a choice of winners. */
export interface Step {
  name: string;
  /** Runs this step alone, as often as you like, on what the steps before it left. */
  run(): void;
  /** Which kernel runs, and why; of a step without weights nothing. */
  explain(): Explanation | undefined;
  /** Multiply-adds of weights that are not zero (with inputs that are not, where those are lists), and of all. */
  macs: number;
  denseMacs: number;
  /** Read and written at least once: weights, inputs and results. */
  bytes: number;
}
