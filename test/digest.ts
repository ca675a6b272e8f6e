// Prints one hash over the results of every operation of the simd128 build, for comparing two runtimes bit for bit.
import { createHash } from "node:crypto";
import { createEngine, type Tensor } from "../bindings/index.js";
import { random, values } from "./oracle.js";

const engine = await createEngine({ simd: "simd128" });
const rnd = random(1);
const hash = createHash("sha256");
const take = (y: Tensor) => {
  hash.update(new Uint8Array(y.data.buffer, y.data.byteOffset, y.data.byteLength));
  y.dispose();
};
const tensor = (...shape: number[]) => ({
  data: values(
    shape.reduce((a, b) => a * b),
    0,
    rnd,
  ),
  shape,
});

for (const format of ["csr", "dense"] as const) {
  for (const zeros of [0, 0.5, 0.9, 0.99]) {
    const w = engine.pack(values(61 * 203, zeros, rnd), [61, 203], { format });
    for (const rows of [1, 2, 7, 33, 100])
      take(engine.linear(tensor(rows, 203), w, { bias: values(61, 0, rnd), activation: "relu6" }));
    take(engine.matmul(w, tensor(203, 49)));
    take(engine.matmul(tensor(9, 61), w));
    const k = engine.pack(values(16 * 8 * 9, zeros, rnd), [16, 8, 3, 3], { format });
    for (const stride of [1, 2]) {
      take(engine.conv2d(tensor(2, 8, 14, 13), k, { stride, padding: "same" }));
      take(engine.conv2d(tensor(1, 14, 13, 16), k, { stride, groups: 2, layout: "nhwc" }));
    }
    const depthwise = engine.pack(values(12 * 9, zeros, rnd), [12, 1, 3, 3], { format });
    take(engine.conv2d(tensor(1, 12, 9, 11), depthwise, { groups: 12, padding: 1 }));
  }
}
const x = tensor(3, 4, 15, 17);
take(engine.maxPool2d(x, { kernel: 3, stride: 2, padding: 1 }));
take(engine.avgPool2d(x, { kernel: 2 }));
take(engine.globalAvgPool2d(x));
for (const op of ["relu", "sigmoid", "tanh", "softmax"] as const) take(engine[op](x));
take(engine.add(x, tensor(4, 1, 1)));
take(engine.mul(x, x));
console.log(hash.digest("hex"));
