// The recipe for a mixture of experts: a router scores the experts, the k best run, weighted by the softmax of their scores.
import type { Engine, PackedWeight, SparseTensor, Tensor } from "skipzeros";

/** One expert: down · relu(up · x), up `[hidden, model]`, down `[model, hidden]`. */
export interface ExpertWeights {
  up: Float32Array;
  down: Float32Array;
}

export interface MixtureWeights {
  model: number;
  hidden: number;
  /** Experts that run. */
  k: number;
  /** `[experts, model]` */
  router: Float32Array;
  experts: ExpertWeights[];
}

/** The layer in engine memory, with a place for each result. */
export interface Mixture {
  k: number;
  router: PackedWeight;
  experts: { up: PackedWeight; down: PackedWeight }[];
  scores: Tensor;
  winners: SparseTensor;
  hidden: Tensor;
  weighted: Tensor;
  y: Tensor;
}

export function createMixture(engine: Engine, { model, hidden, k, router, experts }: MixtureWeights): Mixture {
  const row = (n: number) => engine.tensor(new Float32Array(n), [1, n]);
  const scores = row(experts.length);
  return {
    k,
    router: engine.pack(router, [experts.length, model], { format: "dense" }),
    experts: experts.map(({ up, down }) => ({
      up: engine.pack(up, [hidden, model], { format: "dense" }),
      down: engine.pack(down, [model, hidden], { format: "dense" }),
    })),
    scores,
    winners: engine.kWinners(scores, { k, breakTies: true }),
    hidden: row(hidden),
    weighted: row(hidden),
    y: row(model),
  };
}

/** The experts that the router picks for x, and the share of each. */
export function route(
  engine: Engine,
  { k, router, scores, winners }: Mixture,
  x: Tensor,
): { chosen: Uint32Array; shares: Float64Array } {
  engine.linear(x, router, { out: scores });
  // Of two equal scores one must lose, or more than k experts would run.
  engine.kWinners(scores, { k, breakTies: true, out: winners });
  const { indices: chosen, values } = winners;
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const shares = Float64Array.from(values, (score) => Math.exp(score - largest));
  const sum = shares.reduce((a, b) => a + b, 0);
  return { chosen, shares: shares.map((share) => share / sum) };
}

/** Only the chosen experts run; the others' weights are not even read. */
export function runChosen(engine: Engine, layer: Mixture, x: Tensor): void {
  const { chosen, shares } = route(engine, layer, x);
  chosen.forEach((expert, i) => {
    runExpert(engine, layer, x, expert, shares[i], i === 0);
  });
}

/** All experts run, those that lost with a share of 0: what a graph without branches does. */
export function runAll(engine: Engine, layer: Mixture, x: Tensor): void {
  const { chosen, shares } = route(engine, layer, x);
  layer.experts.forEach((_, expert) => {
    const place = chosen.indexOf(expert);
    runExpert(engine, layer, x, expert, place < 0 ? 0 : shares[place], expert === 0);
  });
}

/** Adds an expert's share to y, or begins y with it. */
function runExpert(
  engine: Engine,
  { experts, hidden, weighted, y }: Mixture,
  x: Tensor,
  expert: number,
  share: number,
  first: boolean,
): void {
  const { up, down } = experts[expert];
  engine.linear(x, up, { activation: "relu", out: hidden });
  engine.mul(hidden, { data: Float32Array.of(share), shape: [1] }, { out: weighted });
  engine.linear(weighted, down, first ? { out: y } : { residual: y, out: y });
}
