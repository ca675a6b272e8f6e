// The recipe for a ReLU-gated feed-forward layer, y = down · (relu(gate · x + bias) ⊙ (up · x)), one token at a time.
import type { Engine, PackedWeight, SparseTensor, Tensor } from "skipzeros";

/** Weights of one layer as a model file holds them, `[out, in]`: gate and up `[hidden, model]`, down `[model, hidden]`. */
export interface RegluWeights {
  model: number;
  hidden: number;
  gate: Float32Array;
  bias: Float32Array;
  up: Float32Array;
  down: Float32Array;
}

/** The layer in engine memory. All results have their place, so that a token allocates next to nothing. */
export interface Reglu {
  weights: RegluWeights;
  gate: PackedWeight;
  bias: Tensor;
  up: PackedWeight;
  down: PackedWeight;
  gated: Tensor;
  risen: Tensor;
  hidden: Tensor;
  /** The gates that are open, and after `up` what passed them. */
  open: SparseTensor;
  active: SparseTensor;
  y: Tensor;
}

export function createReglu(engine: Engine, weights: RegluWeights): Reglu {
  const { model, hidden, gate, bias, up, down } = weights;
  const row = (n: number) => engine.tensor(new Float32Array(n), [1, n]);
  const gated = row(hidden);
  return {
    weights,
    gate: engine.pack(gate, [hidden, model], { format: "dense" }),
    bias: engine.tensor(bias, [hidden]),
    up: engine.pack(up, [hidden, model], { format: "dense" }),
    down: engine.pack(down, [model, hidden], { format: "dense" }),
    gated,
    risen: row(hidden),
    hidden: row(hidden),
    open: engine.toSparse(gated),
    active: engine.toSparse(gated),
    y: row(model),
  };
}

/** All that multiplies by zero, stage by stage. */
export const dense = {
  gate(engine: Engine, { gate, bias, gated }: Reglu, x: Tensor): void {
    engine.linear(x, gate, { bias, activation: "relu", out: gated });
  },
  up(engine: Engine, { up, gated, risen, hidden }: Reglu, x: Tensor): void {
    engine.linear(x, up, { out: risen });
    engine.mul(gated, risen, { out: hidden });
  },
  down(engine: Engine, { down, hidden, y }: Reglu): void {
    engine.linear(hidden, down, { out: y });
  },
};

/** The same result from the open gates only. */
export const sparse = {
  /**
   * Nobody knows which gates open before all are computed, so this stage stays dense.
   * `engine.linear(x, gate, { bias, activation: "relu", output: "sparse" })` is the same in one call, with a new result each time.
   */
  gate(engine: Engine, layer: Reglu, x: Tensor): void {
    dense.gate(engine, layer, x);
    engine.toSparse(layer.gated, { out: layer.open });
  },
  /** Rows of up whose gate is open. The engine has no product with a few rows that change from call to call; a loop does. */
  up(engine: Engine, layer: Reglu, x: Tensor): void {
    const { model, hidden, up } = layer.weights;
    const { indices, values } = layer.open;
    gateRows(values, x.data, up, indices, model);
    layer.active.dispose();
    layer.active = engine.sparseTensor({ indices, values }, [1, hidden]);
  },
  /** With engine calls alone: all rows of up, then the closed gates dropped. */
  upInFull(engine: Engine, layer: Reglu, x: Tensor): void {
    dense.up(engine, layer, x);
    engine.toSparse(layer.hidden, { out: layer.active });
  },
  /** Columns of down whose input is active; the engine walks no others. */
  down(engine: Engine, { active, down, y }: Reglu): void {
    engine.linear(active, down, { out: y });
  },
};

/** values[i] *= rows[indices[i]] · x, summed in float64; four sums at a time, as one waits for its own last addition. */
function gateRows(values: Float32Array, x: Float32Array, rows: Float32Array, indices: Uint32Array, k: number): void {
  for (let i = 0; i < indices.length; i++) {
    const row = rows.subarray(indices[i] * k, (indices[i] + 1) * k);
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let j = 0;
    for (; j + 4 <= k; j += 4) {
      a += row[j] * x[j];
      b += row[j + 1] * x[j + 1];
      c += row[j + 2] * x[j + 2];
      d += row[j + 3] * x[j + 3];
    }
    for (; j < k; j++) a += row[j] * x[j];
    values[i] *= a + b + c + d;
  }
}
