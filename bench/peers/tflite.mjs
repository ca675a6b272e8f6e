// TFLite files (schema: tensorflow/lite/schema/schema.fbs) of a graph (graph.mjs), channels last.
import { Builder } from "flatbuffers";
import { channelsLast, readingChannelsLast, shapesOf, transpose } from "./graph.mjs";

const ACTIVATIONS = { relu: 1, relu6: 3 };
const slid = ({ same, stride = 1 }) => [
  [0, "Int8", same ? 0 : 1],
  [1, "Int32", stride],
  [2, "Int32", stride],
];
/** Each operator's code, the type of its options and how to write them: [slots, ...fields]. */
const OPERATORS = {
  add: { code: 0, type: 11, options: () => [2] },
  conv: { code: 3, type: 1, options: (o) => [6, ...slid(o), [3, "Int8", ACTIVATIONS[o.activation] ?? 0]] },
  depthwise: {
    code: 4,
    type: 2,
    options: (o) => [7, ...slid(o), [3, "Int32", 1], [4, "Int8", ACTIVATIONS[o.activation] ?? 0]],
  },
  depthToSpace: { code: 5, type: 94, options: ({ block }) => [1, [0, "Int32", block]] },
  linear: { code: 9, type: 8, options: ({ activation }) => [3, [0, "Int8", ACTIVATIONS[activation] ?? 0]] },
  maxPool: {
    code: 17,
    type: 5,
    options: ({ size }) => [6, ...slid({ stride: size }), [3, "Int32", size], [4, "Int32", size]],
  },
  reshape: { code: 22, type: 17, options: () => [1] },
  pad: { code: 34, type: 22, options: () => [0] },
  mean: { code: 40, type: 27, options: () => [1] },
  densify: { code: 124, type: 0 },
};

/**
 * Tensor 0 is the input, the last operator's output the output. An Int32Array makes an int32 tensor. `csr` ({ indptr, indices })
 * makes it sparse along its last dimension, `data` then are the nonzeros.
 *
 * @param tensors { shape, data?, csr? }
 * @param operators { op, inputs, output, …options }
 */
function write(tensors, operators) {
  const b = new Builder(1 << 20);
  const vector = (items, size, add) => {
    b.startVector(size, items.length, size);
    for (let i = items.length - 1; i >= 0; i--) add(items[i]);
    return b.endVector();
  };
  const ints = (items) => vector(items, 4, (v) => b.addInt32(v));
  const offsets = (items) => vector(items, 4, (v) => b.addOffset(v));
  /** A table of `fields`: [slot, "Offset" | "Int8" | "Int32", value]. */
  const table = (slots, ...fields) => {
    b.startObject(slots);
    for (const [slot, type, value] of fields) b[`addField${type}`](slot, value, 0);
    return b.endObject();
  };
  const buffer = (data) => {
    if (!data) return table(3);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    b.startVector(1, bytes.length, 16);
    b.space -= bytes.length;
    b.bb.bytes().set(bytes, b.space);
    return table(3, [0, "Offset", b.endVector()]);
  };
  const sparsity = (shape, { indptr, indices }) => {
    const order = ints(shape.map((_, d) => d));
    const dense = shape.slice(0, -1).map((size) => table(6, [1, "Int32", size]));
    const [segments, columns] = [indptr, indices].map((a) => table(1, [0, "Offset", ints(a)]));
    const int32 = 1;
    const last = table(
      6,
      [0, "Int8", 1],
      [2, "Int8", int32],
      [3, "Offset", segments],
      [4, "Int8", int32],
      [5, "Offset", columns],
    );
    return table(3, [0, "Offset", order], [2, "Offset", offsets([...dense, last])]);
  };

  const constants = tensors.filter(({ data }) => data);
  const buffers = [undefined, ...constants.map(({ data }) => data)].map(buffer);
  const allTensors = tensors.map((tensor, i) => {
    const { shape, data, csr } = tensor;
    const name = b.createString(`t${i}`);
    const zeros = csr ? sparsity(shape, csr) : 0;
    return table(
      8,
      [0, "Offset", ints(shape)],
      [1, "Int8", data instanceof Int32Array ? 2 : 0],
      [2, "Int32", data ? 1 + constants.indexOf(tensor) : 0],
      [3, "Offset", name],
      [6, "Offset", zeros],
    );
  });
  const used = [...new Set(operators.map(({ op }) => op))];
  const allOperators = operators.map(({ op, inputs, output, ...settings }) => {
    const { type, options } = OPERATORS[op];
    const written = options ? table(...options(settings)) : 0;
    const [from, to] = [ints(inputs), ints([output])];
    return table(
      9,
      [0, "Int32", used.indexOf(op)],
      [1, "Offset", from],
      [2, "Offset", to],
      [3, "Int8", type],
      [4, "Offset", written],
    );
  });
  const graph = table(
    5,
    [0, "Offset", offsets(allTensors)],
    [1, "Offset", ints([0])],
    [2, "Offset", ints([operators.at(-1).output])],
    [3, "Offset", offsets(allOperators)],
  );
  const codes = used.map((op) => {
    const { code } = OPERATORS[op];
    return table(4, [0, "Int8", code], [2, "Int32", 1], [3, "Int32", code]);
  });
  const [allCodes, graphs, all] = [offsets(codes), offsets([graph]), offsets(buffers)];
  b.finish(table(8, [0, "Int32", 3], [1, "Offset", allCodes], [2, "Offset", graphs], [4, "Offset", all]), "TFL3");
  return b.asUint8Array().slice();
}

/**
 * @param sparse XNNPACK's sparse path: weights of 1x1 convolutions as sparse tensors behind DENSIFY, where a run of layers can be
 *   channel-major throughout. It must begin with a 3x3 convolution of 3 channels at stride 2, all padding must be symmetric (that
 *   of a stride is an operator of its own, in the dense model too), over 2/3 of the 1x1 weights must be zeros, and an operator
 *   that turns the order back must end it: the mean of all pixels, or, put after a graph that ends in an image, a depth-to-space
 *   of 2, which keeps every value.
 */
export function tfliteModel(graph, sparse) {
  const shapes = shapesOf(graph);
  const last = ([n, c, h, w]) => (h ? [n, h, w, c] : [n, c]);
  const tensors = [];
  const operators = [];
  const tensor = (shape, data, csr) => tensors.push({ shape, data, csr }) - 1;
  const apply = (op, inputs, shape, options) => {
    const output = tensor(shape);
    operators.push({ op, inputs, output, ...options });
    return output;
  };
  const bias = ({ bias, wShape }) => tensor([wShape[0]], bias ?? new Float32Array(wShape[0]));

  function convWeights({ w, wShape: [m, c, kh, kw] }) {
    const shape = [m, kh, kw, c];
    if (!(sparse && kh * kw === 1 && w.includes(0))) return tensor(shape, transpose(w, m, c, kh * kw));
    const { data, ...csr } = toCsr(w, c);
    return apply("densify", [tensor(shape, data, csr)], shape);
  }
  function slide(op, x, xShape, shape, w) {
    const { stride = 1, padding = 0, activation } = op;
    const same = padding > 0 && stride === 1;
    let input = x;
    if (padding && !same) {
      const [n, h, wide, c] = last(xShape);
      const sides = tensor([4, 2], Int32Array.of(0, 0, padding, padding, padding, padding, 0, 0));
      input = apply("pad", [x, sides], [n, h + 2 * padding, wide + 2 * padding, c]);
    }
    return apply(op.op, [input, w, bias(op)], shape, { same, stride, activation });
  }
  const layers = {
    conv: (op, x, from, to) => slide(op, x, from, to, convWeights(op)),
    depthwise(op, x, from, to) {
      const [c, , kh, kw] = op.wShape;
      return slide(op, x, from, to, tensor([1, kh, kw, c], channelsLast(op.w, [1, c, kh, kw])));
    },
    linear(op, x, from, to) {
      const { w, wShape, activation } = op;
      const weights = tensor(wShape, readingChannelsLast(w, wShape[0], from));
      const flat = from.length === 4 ? [from[0], wShape[1]] : undefined;
      const input = flat ? apply("reshape", [x, tensor([2], Int32Array.from(flat))], flat) : x;
      return apply("linear", [input, weights, bias(op)], to, { activation });
    },
    maxPool: ({ size }, x, _, to) => apply("maxPool", [x], to, { size }),
    meanPool: (_op, x, _, to) => apply("mean", [x, tensor([2], Int32Array.of(1, 2))], to),
    add: ({ to: other }, x, _, to) => apply("add", [x, values[other]], to),
  };
  const values = [tensor(last(graph.shape))];
  graph.ops.forEach((op, i) => values.push(layers[op.op](op, values[i], shapes[i], last(shapes[i + 1]))));
  const [n, c, h, w] = shapes.at(-1);
  if (sparse && h) apply("depthToSpace", [values.at(-1)], [n, 2 * h, 2 * w, c / 4], { block: 2 });
  return write(tensors, operators);
}

function toCsr(w, cols) {
  const indptr = [0];
  const indices = [];
  for (let i = 0; i < w.length; i++) {
    if (w[i] !== 0) indices.push(i % cols);
    if ((i + 1) % cols === 0) indptr.push(indices.length);
  }
  return { data: w.filter((v) => v !== 0), indptr, indices };
}
