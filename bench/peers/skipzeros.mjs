// skipzeros itself, in the peers' form: weights packed once, inputs and results in the engine's memory.
import { shapesOf } from "./graph.mjs";

/** How each op is called: the method, what comes after x, and its options. */
const CALLS = {
  conv: ({ w, wShape, stride, padding, format }, engine) => ({
    method: "conv2d",
    packed: engine.pack(w, wShape, { format }),
    options: { stride: stride ?? 1, padding: padding ?? 0 },
  }),
  linear: ({ w, wShape, format }, engine) => ({
    method: "linear",
    packed: engine.pack(w, wShape, { format }),
    options: {},
  }),
  winners: ({ k, scope }) => ({ method: "kWinners", options: { k, scope } }),
};

export function skipzeros(engine) {
  /** An input as lists of what is not zero. */
  function lists({ x, shape }) {
    const tensor = engine.tensor(x, shape);
    const sparse = engine.toSparse(tensor);
    tensor.dispose();
    return sparse;
  }

  function build(graph) {
    if (graph.network) return graph.network();
    const shapes = shapesOf(graph);
    const owned = new Set();
    const own = (thing) => {
      owned.add(thing);
      return thing;
    };

    let x = own(graph.sparse ? lists(graph) : engine.tensor(graph.x, graph.shape));
    // Of the results of one shape two take turns: a chain keeps to what fits the caches.
    const results = new Map();
    const steps = graph.ops.map((op, i) => {
      const { method, packed, options } = CALLS[op.op](op, engine);
      const operands = packed ? [x, own(packed)] : [x];
      if (op.bias) options.bias = own(engine.tensor(op.bias, [op.bias.length]));
      if (op.activation) options.activation = op.activation;
      const place = `${shapes[i + 1]} ${i % 2}`;
      const out = results.get(place) ?? own(engine[method](...operands, options));
      results.set(place, out);
      x = out;
      return engine[method].bind(engine, ...operands, { ...options, out });
    });
    const run = () => {
      for (const step of steps) step();
    };
    return {
      run,
      result() {
        run();
        if (!x.toDense) return x.toArray();
        const dense = x.toDense();
        const y = dense.toArray();
        dense.dispose();
        return y;
      },
      free() {
        for (const thing of owned) thing.dispose();
      },
    };
  }
  return { name: "skipzeros", build };
}
