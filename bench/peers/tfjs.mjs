// TensorFlow.js with its wasm backend, one thread.
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { channelsFirst, channelsLast, readingChannelsLast, shapesOf } from "./graph.mjs";

const require = createRequire(import.meta.url);

export async function tfjs() {
  const tf = require("@tensorflow/tfjs-core");
  const backend = require("@tensorflow/tfjs-backend-wasm");
  backend.setWasmPaths(`${dirname(require.resolve("@tensorflow/tfjs-backend-wasm/package.json"))}/dist/`);
  await tf.setBackend("wasm");
  await tf.ready();

  const slide = (op, apply) => (x, filter, bias) =>
    apply({ x, filter, bias, strides: op.stride ?? 1, pad: op.padding ?? 0, activation: op.activation ?? "linear" });
  /** What an op does with a value, its weights and its bias, and with another value. */
  const APPLY = {
    conv: (op) => slide(op, tf.fused.conv2d),
    depthwise: (op) => slide(op, tf.fused.depthwiseConv2d),
    linear:
      ({ activation = "linear" }) =>
      (x, b, bias) => {
        const a = x.rank === 2 ? x : tf.reshape(x, [1, -1]);
        // With nothing to fuse, matMul takes 4 µs less for a call.
        const y = bias ? tf.fused.matMul({ a, b, bias, activation }) : tf.matMul(a, b);
        if (a !== x) a.dispose();
        return y;
      },
    maxPool:
      ({ size }) =>
      (x) =>
        tf.maxPool(x, size, size, "valid"),
    meanPool: () => (x) => {
      const pixel = tf.avgPool(x, x.shape[1], 1, "valid");
      const y = tf.reshape(pixel, [1, -1]);
      pixel.dispose();
      return y;
    },
    add: () => (x, _filter, _bias, other) => tf.add(x, other),
  };
  /** TensorFlow's order of dimensions: [kh, kw, in, out], [kh, kw, channels, 1], [in, out]. */
  const ORDER = { conv: [2, 3, 1, 0], depthwise: [2, 3, 0, 1], linear: [1, 0] };

  function weights({ op, w, wShape }, xShape) {
    if (!w) return undefined;
    const given = tf.tensor(op === "linear" ? readingChannelsLast(w, wShape[0], xShape) : w, wShape);
    const turned = tf.transpose(given, ORDER[op]);
    given.dispose();
    return turned;
  }

  async function build(graph) {
    const shapes = shapesOf(graph);
    const image = ([n, c, h, w]) => (h ? [n, h, w, c] : [n, c]);
    const input = tf.tensor(channelsLast(graph.x, graph.shape), image(graph.shape));
    const steps = graph.ops.map((op, i) => ({
      to: op.to,
      apply: APPLY[op.op](op),
      filter: weights(op, shapes[i]),
      bias: op.bias && tf.tensor(op.bias),
    }));
    // A value goes with the op that needs it last, so that the next one may have its memory.
    const lastUse = new Map();
    for (const [i, { to = i }] of steps.entries()) lastUse.set(i, i).set(to, i);
    for (const step of steps) step.done = [];
    for (const [value, i] of lastUse) if (value > 0) steps[i].done.push(value);

    const values = [input];
    const once = () => {
      for (const [i, { to, apply, filter, bias, done }] of steps.entries()) {
        values[i + 1] = apply(values[i], filter, bias, values[to]);
        for (const value of done) values[value].dispose();
      }
      return values[steps.length];
    };
    return {
      run() {
        once().dispose();
      },
      result() {
        const y = once();
        const data = channelsFirst(y.dataSync(), shapes.at(-1));
        y.dispose();
        return data;
      },
      free() {
        input.dispose();
        for (const { filter, bias } of steps) {
          filter?.dispose();
          bias?.dispose();
        }
      },
    };
  }
  return { name: `TensorFlow.js wasm ${backend.version_wasm}`, build };
}
