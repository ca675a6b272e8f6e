// LiteRT.js (TFLite with XNNPACK) in Node: shims for its browser-only loader (importScripts, self, navigator).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";
import { channelsFirst, channelsLast, shapesOf } from "./graph.mjs";
import { tfliteModel } from "./tflite.mjs";

const require = createRequire(import.meta.url);
const core = join(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "node_modules/@litertjs/core");
const wasm = `${core}/wasm/`;

/** @param relaxed whether the host has relaxed SIMD; without it the "compat" build runs */
export async function litert(relaxed) {
  globalThis.self = globalThis;
  if (typeof navigator === "undefined") globalThis.navigator = { hardwareConcurrency: 1 };
  const { error } = console;
  console.error = (...a) => /WebGPU device|^(INFO|WARNING)/.test(String(a[0])) || error(...a);
  console.info = console.warn = () => {};
  globalThis.importScripts = (url) => {
    globalThis.require ??= require;
    globalThis.__dirname ??= wasm;
    globalThis.__filename ??= url;
    runInThisContext(readFileSync(url, "utf8"), { filename: url });
  };
  const file = relaxed ? "litert_wasm_internal.js" : "litert_wasm_compat_internal.js";
  globalThis.Module = {
    locateFile: (f) => wasm + basename(f),
    wasmBinary: readFileSync(wasm + file.replace(".js", ".wasm")),
  };
  const lib = await import("@litertjs/core");
  await lib.loadLiteRt(relaxed ? wasm : wasm + file, { threads: false });

  const builder = (sparse) => async (graph) => {
    const shape = shapesOf(graph).at(-1);
    const options = { accelerator: "wasm", cpuOptions: { numThreads: 1 } };
    const compiled = await lib.loadAndCompile(tfliteModel(graph, sparse), options);
    const [n, c, h, w] = graph.shape;
    const x = new lib.Tensor(channelsLast(graph.x, graph.shape), h ? [n, h, w, c] : [n, c]);
    const once = async () => (await compiled.run(x))[0];
    return {
      async run() {
        (await once()).delete();
      },
      async result() {
        const y = await once();
        const data = y.toTypedArray().slice();
        y.delete();
        return channelsFirst(sparse && shape.length === 4 ? spaceToDepth(data, shape) : data, shape);
      },
      free() {
        x.delete();
        compiled.delete();
      },
    };
  };
  return {
    name: "LiteRT.js 2.5.3",
    build: builder(false),
    sparse: { name: "LiteRT.js-sparse 2.5.3", build: builder(true) },
  };
}

/** Undoes the depth-to-space at the end of a sparse model: [2 h, 2 w, c / 4] → [h, w, c]. */
function spaceToDepth(a, [, c, , w]) {
  const y = new Float32Array(a.length);
  const quarter = c / 4;
  for (let i = 0; i < a.length; i++) {
    const pixel = Math.floor(i / quarter);
    const [row, col] = [Math.floor(pixel / (2 * w)), pixel % (2 * w)];
    const at = (row >> 1) * w + (col >> 1);
    y[at * c + ((row % 2) * 2 + (col % 2)) * quarter + (i % quarter)] = a[i];
  }
  return y;
}
