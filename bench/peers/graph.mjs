// What is computed, in one form for all libraries and in PyTorch's order: images [1, c, h, w], weights [out, in / groups, kh, kw].
//
// { x, shape, ops }; value 0 is the input, value i + 1 what op i makes of value i. An op is { op, … } with
//   conv, depthwise  w, wShape, bias?, stride = 1, padding = 0 (the same on all sides), activation?: "relu" | "relu6"
//   linear           w, wShape [out, in], bias?, activation?; it flattens an image channel by channel
//   maxPool          size, which is the stride too
//   meanPool         of all pixels of a channel: [1, c]
//   add              to: the number of a value
//   winners          k, scope: "global" | "local"; no peer has it
// Ours also reads `format` of an op, `sparse` of the graph (x as lists) and `network` (a network of the examples that computes it).

const slid = ([n, , h, w], { wShape: [m, , kh, kw], stride = 1, padding = 0 }) => {
  const places = (size, kernel) => Math.floor((size + 2 * padding - kernel) / stride) + 1;
  return [n, m, places(h, kh), places(w, kw)];
};
const same = (shape) => shape;
const SHAPES = {
  conv: slid,
  depthwise: slid,
  linear: ([n], { wShape: [m] }) => [n, m],
  maxPool: ([n, c, h, w], { size }) => [n, c, Math.floor(h / size), Math.floor(w / size)],
  meanPool: ([n, c]) => [n, c],
  add: same,
  winners: same,
};

/** The shape of each value. */
export function shapesOf({ shape, ops }) {
  const shapes = [shape];
  for (const op of ops) shapes.push(SHAPES[op.op](shapes.at(-1), op));
  return shapes;
}

/** [outer][rows][cols] → [outer][cols][rows]: channels first to last, or back. */
export function transpose(a, outer, rows, cols) {
  const y = new Float32Array(a.length);
  for (let o = 0; o < outer; o++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) y[(o * cols + c) * rows + r] = a[(o * rows + r) * cols + c];
  return y;
}

const pixels = ([, , h = 1, w = 1]) => h * w;
/** A value, and a linear layer's weights that read one, for libraries that have channels last. */
export const channelsLast = (a, shape) => transpose(a, shape[0], shape[1], pixels(shape));
export const channelsFirst = (a, shape) => transpose(a, shape[0], pixels(shape), shape[1]);
export const readingChannelsLast = (w, rows, shape) => transpose(w, rows, shape[1], pixels(shape));
