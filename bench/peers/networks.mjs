// Whole networks of the examples: as graphs (graph.mjs), which the peers run densely, and the examples' own code, which is ours.
import { readFileSync } from "node:fs";
import { readSafetensors, toFloat32 } from "../../dist/index.js";
import { createNetwork } from "../../examples/keyword-spotting/network.ts";
import { mobilenetV1, mobilenetV2, pruneModel } from "../../examples/mobilenet/model.ts";
import { createMobileNet } from "../../examples/mobilenet/network.ts";
import { values } from "./random.mjs";

const spotterFile = (name) =>
  readFileSync(new URL(`../../examples/keyword-spotting/${name}.safetensors`, import.meta.url));

/** `network` by the name of its file, on the features of a spoken word; `theirs` if the peers run another one. */
export function keywordSpotter({ network, theirs }, engine) {
  const file = spotterFile(network);
  const shape = [1, 1, 32, 32];
  const x = toFloat32(readSafetensors(spotterFile("clips/expected")).tensors.get("features")).slice(0, 32 * 32);
  return {
    x,
    shape,
    ops: spotterOps(engine, file),
    peers: theirs && { x, shape, ops: spotterOps(engine, spotterFile(theirs)) },
    network() {
      const { run } = createNetwork(engine, file);
      // It has no dispose: the engine frees what is forgotten.
      return { run: () => void run(x), result: () => run(x).toArray(), free() {} };
    },
  };
}

function spotterOps(engine, file) {
  const { weights, tensors, metadata } = engine.deserialize(file);
  const k = metadata.activation === "k-winners" ? JSON.parse(metadata.k) : undefined;
  const layer = (op, name, activation) => {
    const packed = weights[`${name}.weight`];
    const plain = tensors.get(`${name}.weight`);
    const w = packed ? packed.toDense() : toFloat32(plain);
    packed?.dispose();
    return { op, w, wShape: (packed ?? plain).shape, bias: toFloat32(tensors.get(`${name}.bias`)), activation };
  };
  const active = k ? undefined : "relu";
  const winners = (name) => (k ? [{ op: "winners", scope: "global", k: k[name] }] : []);
  const pool = { op: "maxPool", size: 2 };
  return [
    layer("conv", "conv1", active),
    pool,
    ...winners("conv1"),
    layer("conv", "conv2", active),
    pool,
    ...winners("conv2"),
    layer("linear", "hidden", active),
    ...winners("hidden"),
    layer("linear", "output"),
  ];
}

/** Random weights and image; the 1x1 convolutions pruned to a pattern, and our formats chosen as for anybody. */
export function mobileNet({ version, pattern }, engine) {
  const model = pruneModel((version === 1 ? mobilenetV1 : mobilenetV2)(1), pattern);
  const { resolution, layers, classifier } = model;
  const x = values(3 * resolution ** 2, 0, 2);
  const ops = [];
  const ends = []; // the number of each layer's value
  for (const { kind, shape: wShape, weight: w, bias, stride, padding, relu6, residual } of layers) {
    const op = kind === "depthwise" ? kind : "conv";
    ops.push({ op, w, wShape, bias, stride, padding, activation: relu6 ? "relu6" : undefined });
    if (residual !== undefined) ops.push({ op: "add", to: ends[residual] });
    ends.push(ops.length);
  }
  ops.push({ op: "meanPool" });
  ops.push({ op: "linear", w: classifier.weight, wShape: classifier.shape, bias: classifier.bias });
  return {
    x,
    shape: [1, 3, resolution, resolution],
    ops,
    network() {
      const { run, dispose } = createMobileNet(engine, model);
      return { run: () => void run(x), result: () => run(x).toArray(), free: dispose };
    },
  };
}
