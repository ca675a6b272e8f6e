// ONNX files (schema: onnx/onnx.proto) of a graph (graph.mjs).
import { shapesOf } from "./graph.mjs";

function varint(n) {
  const bytes = [];
  for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) + 128);
  return [...bytes, n];
}
const integer = (field, n) => Buffer.from([...varint(field * 8), ...varint(n)]);
const bytes = (field, data) => Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(data.length)]), data]);
const text = (field, name) => bytes(field, Buffer.from(name));
const message = (field, ...parts) => bytes(field, Buffer.concat(parts));

const FLOAT = 1;
const [INT, INTS] = [2, 7];

const tensor = (name, dims, data) =>
  message(
    5,
    ...dims.map((d) => integer(1, d)),
    integer(2, FLOAT),
    text(8, name),
    bytes(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength)),
  );
const attribute = ([name, value]) =>
  Array.isArray(value)
    ? message(5, text(1, name), ...value.map((v) => integer(8, v)), integer(20, INTS))
    : message(5, text(1, name), integer(3, value), integer(20, INT));
const node = (op, inputs, output, attributes = {}) =>
  message(
    1,
    ...inputs.map((name) => text(1, name)),
    text(2, output),
    text(3, output),
    text(4, op),
    ...Object.entries(attributes).map(attribute),
  );
function valueInfo(field, name, shape) {
  const dims = shape.map((d) => message(1, integer(1, d)));
  return message(field, text(1, name), message(2, message(1, integer(1, FLOAT), message(2, ...dims))));
}

const image = (shape) => shape.length === 4;
const window = ({ wShape: [, , kh, kw], stride = 1, padding = 0 }, group) => ({
  kernel_shape: [kh, kw],
  strides: [stride, stride],
  pads: [padding, padding, padding, padding],
  group,
});
/** Nodes that make `y` of the value `x`; `weights` are the names of w and, if there is one, the bias. */
const NODES = {
  conv: (op, x, y, weights) => [node("Conv", [x, ...weights], y, window(op, 1))],
  depthwise: (op, x, y, weights) => [node("Conv", [x, ...weights], y, window(op, op.wShape[0]))],
  linear(_, x, y, weights, shape) {
    const flat = image(shape) ? `${x}.flat` : x;
    const gemm = node("Gemm", [flat, ...weights], y, { transB: 1 });
    return image(shape) ? [node("Flatten", [x], flat), gemm] : [gemm];
  },
  maxPool: ({ size }, x, y) => [node("MaxPool", [x], y, { kernel_shape: [size, size], strides: [size, size] })],
  meanPool: (_, x, y) => [node("GlobalAveragePool", [x], `${y}.pixel`), node("Flatten", [`${y}.pixel`], y)],
  add: ({ to }, x, y) => [node("Add", [x, valueName(to)], y)],
};
const valueName = (i) => `v${i}`;

/** Its input is v0. */
export function onnxModel(graph) {
  const shapes = shapesOf(graph);
  const initializers = [tensor("zero", [], Float32Array.of(0)), tensor("six", [], Float32Array.of(6))];
  const nodes = graph.ops.flatMap((op, i) => {
    const y = valueName(i + 1);
    const weights = [];
    const constant = (name, shape, data) => {
      initializers.push(tensor(name, shape, data));
      weights.push(name);
    };
    if (op.w) constant(`${y}.w`, op.wShape, op.w);
    if (op.bias) constant(`${y}.bias`, [op.bias.length], op.bias);
    if (!op.activation) return NODES[op.op](op, valueName(i), y, weights, shapes[i]);
    const sum = `${y}.sum`;
    const activation = op.activation === "relu6" ? node("Clip", [sum, "zero", "six"], y) : node("Relu", [sum], y);
    return [...NODES[op.op](op, valueName(i), sum, weights, shapes[i]), activation];
  });
  return Buffer.concat([
    integer(1, 8),
    message(
      7,
      ...nodes,
      text(2, "graph"),
      ...initializers,
      valueInfo(11, valueName(0), graph.shape),
      valueInfo(12, valueName(graph.ops.length), shapes.at(-1)),
    ),
    message(8, text(1, ""), integer(2, 17)),
  ]);
}
