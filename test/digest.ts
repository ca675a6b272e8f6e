// Prints one hash over the results of every operation of the simd128 build, by every kernel, for comparing two runtimes bit for bit.
import { createHash } from "node:crypto";
import { createEngine, type LinearOptions, type PackedWeight, type Tensor } from "../bindings/index.js";
import { FORMATS, kernelsOf, random, sizeOf, values, weightsFor } from "./oracle.js";

const engine = await createEngine({ simd: "simd128" });
const rnd = random(1);
const hash = createHash("sha256");
const take = (y: Tensor) => {
  hash.update(new Uint8Array(y.data.buffer, y.data.byteOffset, y.data.byteLength));
  y.dispose();
};
const tensor = (...shape: number[]) => ({ data: values(sizeOf(shape), 0, rnd), shape });

/** What the costs choose, which is the same everywhere, and then each kernel that takes the weight. */
const takeAll = (call: (o: LinearOptions) => Tensor) => {
  take(call({}));
  for (const name of kernelsOf((forceKernel) => call({ forceKernel }))) take(call({ forceKernel: name }));
};

for (const format of FORMATS) {
  for (const zeros of [0, 0.5, 0.9, 0.99]) {
    const pack = (m: number, k: number, ...taps: number[]): PackedWeight =>
      engine.pack(weightsFor(format, m, k * sizeOf(taps), zeros, rnd), [m, k, ...taps], { format });
    const w = pack(61, 203);
    for (const rows of [1, 2, 7, 33, 100]) {
      const [x, bias] = [tensor(rows, 203), values(61, 0, rnd)];
      takeAll((o) => engine.linear(x, w, { ...o, bias, activation: "relu6" }));
    }
    const [columns, rows] = [tensor(203, 49), tensor(9, 61)];
    takeAll((o) => engine.matmul(w, columns, o));
    takeAll((o) => engine.matmul(rows, w, o));
    const k = pack(16, 8, 3, 3);
    for (const stride of [1, 2]) {
      const [images, pixels] = [tensor(2, 8, 14, 13), tensor(1, 14, 13, 16)];
      takeAll((o) => engine.conv2d(images, k, { ...o, stride, padding: "same" }));
      takeAll((o) => engine.conv2d(pixels, k, { ...o, stride, groups: 2, layout: "nhwc" }));
    }
    const depthwise = pack(12, 1, 3, 3);
    const image = tensor(1, 12, 9, 11);
    takeAll((o) => engine.conv2d(image, depthwise, { ...o, groups: 12, padding: 1 }));
    for (const owner of [w, k, depthwise]) owner.dispose();
  }
}
const long = engine.pack(weightsFor("csr", 13, 16400, 0.5, rnd), [13, 16400]);
const x = tensor(16400);
takeAll((o) => engine.linear(x, long, o));
const image = tensor(3, 4, 15, 17);
take(engine.maxPool2d(image, { kernel: 3, stride: 2, padding: 1 }));
take(engine.avgPool2d(image, { kernel: 2 }));
take(engine.globalAvgPool2d(image));
for (const op of ["relu", "sigmoid", "tanh", "softmax"] as const) take(engine[op](image));
take(engine.add(image, tensor(4, 1, 1)));
take(engine.mul(image, image));
console.log(hash.digest("hex"));
