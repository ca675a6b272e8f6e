// TFLite files (schema: tensorflow/lite/schema/schema.fbs) of one layer and of a chain of layers.
import { Builder } from "flatbuffers";

/** Each operator's code, the type of its options and how to write them: [slots, ...fields]. */
const OPERATORS = {
  conv: {
    code: 3,
    type: 1,
    options: ({ same, stride = 1, relu6 }) => [
      6,
      [0, "Int8", same ? 0 : 1],
      [1, "Int32", stride],
      [2, "Int32", stride],
      [3, "Int8", relu6 ? 3 : 0],
    ],
  },
  depthToSpace: { code: 5, type: 94, options: ({ block }) => [1, [0, "Int32", block]] },
  linear: { code: 9, type: 8, options: () => [1] },
  pad: { code: 34, type: 22, options: () => [0] },
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

/** One operator: { xShape, w, wShape [out, in] or [out, kh, kw, in], yShape, conv?: { same } } → bytes */
export function layerModel({ xShape, w, wShape, yShape, conv }) {
  const bias = new Float32Array(yShape.at(-1));
  return write(
    [{ shape: xShape }, { shape: wShape, data: w }, { shape: [bias.length], data: bias }, { shape: yShape }],
    [{ op: conv ? "conv" : "linear", inputs: [0, 1, 2], output: 3, ...conv }],
  );
}

/**
 * The first `depth` layers of a chain (see works.mjs), then a depth-to-space of 2, for XNNPACK goes sparse only in a run of layers
 * that can be channel-major throughout: it must begin with a 3x3 convolution of 3 channels at stride 2, symmetrically padded,
 * end in an operator that turns the order back (this one keeps every value), and have over 2/3 zeros, stored as
 * sparse tensors behind DENSIFY.
 *
 * @param sparse store the same weights so, or densely
 */
export function chainModel({ size, channels: c, xShape, first, layers }, depth, sparse) {
  const tensors = [{ shape: xShape }];
  const operators = [];
  const tensor = (shape, data, csr) => tensors.push({ shape, data, csr }) - 1;
  const apply = (op, inputs, shape, options) => {
    const output = tensor(shape);
    operators.push({ op, inputs, output, ...options });
    return output;
  };
  const constant = (w, shape) => {
    if (!sparse) return tensor(shape, w);
    const { data, ...csr } = toCsr(w, c);
    return apply("densify", [tensor(shape, data, csr)], shape);
  };
  const [, height, width] = xShape;
  const padding = tensor([4, 2], Int32Array.of(0, 0, 1, 1, 1, 1, 0, 0));
  const shape = [1, size, size, c];
  let y = apply("pad", [0, padding], [1, height + 2, width + 2, 3]);
  y = apply("conv", [y, tensor([c, 3, 3, 3], first.w), tensor([c], first.bias)], shape, { stride: 2, relu6: true });
  for (const { w, bias } of layers.slice(0, depth)) {
    y = apply("conv", [y, constant(w, [c, 1, 1, c]), tensor([c], bias)], shape, { relu6: true });
  }
  apply("depthToSpace", [y], [1, 2 * size, 2 * size, c / 4], { block: 2 });
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
