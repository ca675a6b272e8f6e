// A TFLite file with one operator, a fully connected layer or a convolution (schema: tensorflow/lite/schema/schema.fbs).
import { Builder } from "flatbuffers";

const CONV_2D = 3;
const FULLY_CONNECTED = 9;

/** { xShape, w, wShape [out, in] or [out, kh, kw, in], yShape, conv?: { same } } → bytes */
export function model({ xShape, w, wShape, yShape, conv }) {
  const b = new Builder(1 << 20);
  const vector = (items, size, add) => {
    b.startVector(size, items.length, size);
    for (const item of [...items].reverse()) add(item);
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

  const bias = new Float32Array(yShape.at(-1));
  const data = [w, bias].map((a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
  const buffers = [new Uint8Array(0), ...data].map((bytes) => {
    if (!bytes.length) return table(3);
    b.startVector(1, bytes.length, 16);
    b.space -= bytes.length;
    b.bb.bytes().set(bytes, b.space);
    return table(3, [0, "Offset", b.endVector()]);
  });
  const tensors = [
    [xShape, 0],
    [wShape, 1],
    [[bias.length], 2],
    [yShape, 0],
  ].map(([shape, buffer], i) => {
    const name = b.createString(`t${i}`);
    return table(8, [0, "Offset", ints(shape)], [2, "Int32", buffer], [3, "Offset", name]);
  });
  const settings = conv
    ? table(6, [0, "Int8", conv.same ? 0 : 1], [1, "Int32", 1], [2, "Int32", 1])
    : table(1, [0, "Int8", 0]);
  const inputs = ints([0, 1, 2]);
  const outputs = ints([3]);
  const operator = table(
    9,
    [1, "Offset", inputs],
    [2, "Offset", outputs],
    [3, "Int8", conv ? 1 : 8],
    [4, "Offset", settings],
  );
  const graph = table(
    5,
    [0, "Offset", offsets(tensors)],
    [1, "Offset", ints([0])],
    [2, "Offset", ints([3])],
    [3, "Offset", offsets([operator])],
  );
  const code = conv ? CONV_2D : FULLY_CONNECTED;
  const codes = offsets([table(4, [0, "Int8", code], [2, "Int32", 1], [3, "Int32", code])]);
  const graphs = offsets([graph]);
  const all = offsets(buffers);
  b.finish(table(8, [0, "Int32", 3], [1, "Offset", codes], [2, "Offset", graphs], [4, "Offset", all]), "TFL3");
  return b.asUint8Array().slice();
}
