// onnxruntime-web with its wasm execution provider, one thread.
//
// A call takes its input from JavaScript's memory and brings the result back there, and both copies are in its time: unlike
// TensorFlow.js and LiteRT.js it keeps no tensors of its own between calls. Outputs allocated beforehand save nothing: in 1.30
// this provider copies them in and never writes their data back.
import * as ort from "onnxruntime-web";
import { onnxModel } from "./onnx.mjs";

export async function onnxruntime() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;

  async function build(graph) {
    const session = await ort.InferenceSession.create(onnxModel(graph), {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
    const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", graph.x, graph.shape) };
    return {
      run: () => session.run(feeds),
      result: async () => (await session.run(feeds))[session.outputNames[0]].data,
      free: () => session.release(),
    };
  }
  return { name: `onnxruntime-web ${ort.env.versions.web}`, build };
}
