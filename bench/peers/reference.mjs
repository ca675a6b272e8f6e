// What a graph (graph.mjs) should give: plain loops in double precision, against which every library's result is checked.
import { shapesOf } from "./graph.mjs";

const ACTIVATIONS = { relu: (v) => Math.max(v, 0), relu6: (v) => Math.min(Math.max(v, 0), 6) };

export function evaluate(graph) {
  const shapes = shapesOf(graph);
  const values = [Float64Array.from(graph.x)];
  graph.ops.forEach((op, i) => {
    const y = new Float64Array(shapes[i + 1].reduce((a, b) => a * b));
    COMPUTE[op.op](op, values[i], shapes[i], y, shapes[i + 1], values);
    values.push(op.activation ? y.map(ACTIVATIONS[op.activation]) : y);
  });
  return values.at(-1);
}

const COMPUTE = {
  conv: convolve,
  depthwise: convolve,
  linear({ w, wShape: [m, k], bias }, x, [rows], y) {
    for (let r = 0; r < rows; r++)
      for (let o = 0; o < m; o++) {
        let sum = bias ? bias[o] : 0;
        for (let i = 0; i < k; i++) sum += w[o * k + i] * x[r * k + i];
        y[r * m + o] = sum;
      }
  },
  maxPool({ size }, x, [, , , width], y, [, c, h, w]) {
    const plane = x.length / c;
    for (let i = 0; i < y.length; i++) {
      const [channel, row, col] = [Math.floor(i / (h * w)), Math.floor(i / w) % h, i % w];
      const corner = channel * plane + row * size * width + col * size;
      y[i] = -Infinity;
      for (let dy = 0; dy < size; dy++)
        for (let dx = 0; dx < size; dx++) y[i] = Math.max(y[i], x[corner + dy * width + dx]);
    }
  },
  meanPool(_, x, [, c], y) {
    const plane = x.length / c;
    for (let i = 0; i < x.length; i++) y[Math.floor(i / plane)] += x[i] / plane;
  },
  add({ to }, x, _, y, __, values) {
    for (let i = 0; i < y.length; i++) y[i] = x[i] + values[to][i];
  },
  /** The k largest and what equals them, of each row or image, or of each pixel's channels. */
  winners({ k, scope }, x, [n, c], y) {
    const stride = scope === "local" ? x.length / n / c : 1;
    const groups = scope === "local" ? stride : n;
    const size = x.length / groups;
    const at = (group, i) => (stride === 1 ? group * size : group) + i * stride;
    for (let g = 0; g < groups; g++) {
      const least = Float64Array.from({ length: size }, (_, i) => x[at(g, i)]).sort()[size - k];
      for (let i = 0; i < size; i++) if (x[at(g, i)] >= least) y[at(g, i)] = x[at(g, i)];
    }
  },
};

/** One weight at a time over a plane, so that zeros cost nothing. */
function convolve(op, x, [, , height, width], y, [, , h, wide]) {
  const { w, wShape, bias, stride = 1, padding = 0 } = op;
  const [, depth, kh, kw] = wShape;
  const plane = h * wide;
  for (let i = 0; i < w.length; i++) {
    if (w[i] === 0) continue;
    const [out, tapRow, tapCol] = [Math.floor(i / (depth * kh * kw)), Math.floor(i / kw) % kh, i % kw];
    const channel = op.op === "depthwise" ? out : Math.floor(i / (kh * kw)) % depth;
    const first = Math.max(0, Math.ceil((padding - tapCol) / stride));
    const end = Math.min(wide, Math.floor((width - 1 + padding - tapCol) / stride) + 1);
    for (let r = 0; r < h; r++) {
      const row = r * stride + tapRow - padding;
      if (row < 0 || row >= height) continue;
      const from = (channel * height + row) * width + tapCol - padding;
      for (let c = first; c < end; c++) y[out * plane + r * wide + c] += w[i] * x[from + c * stride];
    }
  }
  if (bias) for (let i = 0; i < y.length; i++) y[i] += bias[Math.floor(i / plane)];
}
