// The graph (graph.mjs) of a work (works.mjs), with random numbers where it is not a trained network's.
import { transpose } from "./graph.mjs";
import { keywordSpotter, mobileNet } from "./networks.mjs";
import { someOf, values, weights } from "./random.mjs";

const layer = ({ rows, k, m, zeros, format, active }) => ({
  x: active ? someOf(rows, k, active) : values(rows * k),
  shape: [rows, k],
  sparse: active !== undefined,
  ops: [{ op: "linear", w: weights(format, zeros, m, k), wShape: [m, k], format }],
});

function image({ size, c, m, kernel, zeros, format, active }) {
  const pixels = size * size;
  return {
    x: active ? transpose(someOf(pixels, c, active), 1, pixels, c) : values(pixels * c),
    shape: [1, c, size, size],
    sparse: active !== undefined,
    ops: [
      {
        op: "conv",
        w: weights(format, zeros, m, c * kernel * kernel),
        wShape: [m, c, kernel, kernel],
        padding: active === undefined ? (kernel - 1) / 2 : 0,
        format,
      },
    ],
  };
}

/** Weights scaled so that some activations of every layer reach both ends of relu6. */
function layers({ size, channels: c, zeros, format, depths }) {
  const conv = (inputs, kernel, share, settings) => ({
    op: "conv",
    w: values(c * inputs * kernel ** 2, share, Math.sqrt(6 / (inputs * kernel ** 2 * (1 - share)))),
    wShape: [c, inputs, kernel, kernel],
    bias: values(c, 0, 0.1),
    activation: "relu6",
    ...settings,
  });
  return {
    x: values(4 * size * size * 3, 0, 6),
    shape: [1, 3, 2 * size, 2 * size],
    ops: [
      conv(3, 3, 0, { stride: 2, padding: 1, format: "dense" }),
      ...Array.from({ length: depths[1] }, () => conv(c, 1, zeros, { format })),
    ],
  };
}

const selection = ({ scope, scopes, n, k }) => ({
  x: values(scopes * n),
  shape: scope === "local" ? [1, n, 10, scopes / 10] : [scopes, n],
  ops: [{ op: "winners", scope, k }],
});

const GRAPHS = { linear: layer, conv: image, chain: layers, winners: selection, keywordSpotter, mobileNet };

/** A work's input and weights; `peers` is what they run if it is not the same. */
export const draw = (work, engine) => GRAPHS[work.kind](work, engine);
