// One hash over the results of every operation of the simd128 build, by every kernel, for comparing hosts bit for bit. It asks
// for nothing that a host may lack, for hosts.ts runs it wherever the library runs.
import { kernelsFor } from "../bindings/dispatch.js";
import {
  type Build,
  createEngine,
  type Engine,
  type LinearOptions,
  type PackedWeight,
  type SparseTensor,
  type Tensor,
} from "../bindings/index.js";
import { FORMATS, kernelsOf, random, sizeOf, values, weightsFor } from "./oracle.js";

/** The results of every operation of an engine, by every kernel. */
function resultsOf(engine: Engine): Uint8Array[] {
  const rnd = random(1);
  const parts: Uint8Array[] = [];
  const take = (y: Tensor) => {
    parts.push(new Uint8Array(y.toArray().buffer));
    y.dispose();
  };
  const takeLists = (y: SparseTensor) => {
    for (const list of [y.indptr, y.indices, y.values]) parts.push(new Uint8Array(list.buffer));
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
  // Sparse activations: the lists themselves, and products over them by what the costs choose and by each kernel.
  const features = tensor(5, 203);
  for (const k of [0, 1, 20, 203]) {
    for (const breakTies of [false, true]) takeLists(engine.kWinners(features, { k, breakTies, relu: k === 20 }));
  }
  const dutyCycle = values(203, 0.5, rnd).map(Math.abs);
  takeLists(engine.kWinners(features, { fraction: 0.1, boost: { dutyCycle, strength: 1.5 } }));
  takeLists(engine.kWinners(tensor(1600), { k: 160 }));
  const pixels = tensor(2, 9, 8, 16);
  for (const scope of ["global", "local"] as const) {
    takeLists(engine.kWinners(image, { fraction: 0.25, scope }));
    takeLists(engine.kWinners(pixels, { fraction: 0.125, scope, layout: "nhwc" }));
  }
  takeLists(engine.toSparse(features, { threshold: 0.5 }));
  takeLists(engine.toSparse(image));
  const winners = engine.kWinners(pixels, { fraction: 0.125, scope: "local", layout: "nhwc" });
  takeLists(engine.maxPool2d(winners, { kernel: 2, layout: "nhwc" }));
  take(winners.toDense());
  const active = engine.kWinners(features, { fraction: 0.1 });
  const activeImage = engine.kWinners(tensor(2, 16, 7, 6), { fraction: 0.125 });
  for (const format of FORMATS) {
    for (const zeros of [0, 0.5, 0.95]) {
      const w = engine.pack(weightsFor(format, 61, 203, zeros, rnd), [61, 203], { format });
      const bias = values(61, 0, rnd);
      const names = kernelsFor("spmspv", w.structure(false)).map(({ name }) => name);
      take(engine.linear(active, w));
      takeLists(engine.linear(active, w, { bias, activation: "relu", output: "sparse" }));
      for (const forceKernel of names) take(engine.linear(active, w, { bias, activation: "relu6", forceKernel }));
      for (const groups of [1, 2]) {
        const cols = 16 / groups;
        const k = engine.pack(weightsFor(format, 24, cols * 9, zeros, rnd), [24, cols, 3, 3], { format });
        const o = { groups, padding: 1, stride: 2 };
        take(engine.conv2d(activeImage, k, o));
        for (const { name } of kernelsFor("spmspv", k.structure(false, groups)))
          take(engine.conv2d(activeImage, k, { ...o, forceKernel: name }));
        k.dispose();
      }
      w.dispose();
    }
  }
  return parts;
}

export interface Digest {
  /** SHA-256 of what the simd128 build computes. */
  simd128: string;
  /** The build that the host takes by itself. */
  auto: Build;
}

/** Both builds do the same work: lists of the same places, numbers that rounding explains. */
export default async function digest(): Promise<Digest> {
  const [plain, auto] = [await createEngine({ simd: "simd128" }), await createEngine()];
  const [parts, others] = [resultsOf(plain), resultsOf(auto)];
  for (const [i, part] of parts.entries()) {
    // Places are whole numbers below 2 ** 23, as floats denormal: of those and of zeros only the same bits will do.
    const [a, b] = [part, others[i]].map((bytes) => new Float32Array(bytes.buffer));
    const [u, v] = [part, others[i]].map((bytes) => new Uint32Array(bytes.buffer));
    const near = (x: number, y: number) => Math.abs(x - y) <= 1e-3 * (1 + Math.abs(x));
    const bad = a.findIndex((x, at) => u[at] !== v[at] && !((u[at] >= 2 ** 23 || v[at] >= 2 ** 23) && near(x, b[at])));
    if (bad >= 0 || a.length !== b.length) {
      throw new Error(
        `result ${i} of ${auto.simd}: ${b[bad]} at ${bad} of ${b.length}, simd128 has ${a[bad]} of ${a.length}`,
      );
    }
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts as BlobPart[]).arrayBuffer()));
  return { simd128: Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join(""), auto: auto.simd };
}
