// LiteRT.js (TFLite with XNNPACK) in Node: shims for its browser-only loader (importScripts, self, navigator).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { runInThisContext } from "node:vm";
import { chainModel, layerModel } from "./tflite.mjs";

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

  /** A model and its input → { run, result, free }. */
  async function compile(bytes, data, shape) {
    const compiled = await lib.loadAndCompile(bytes, { accelerator: "wasm", cpuOptions: { numThreads: 1 } });
    const x = new lib.Tensor(data, shape);
    const once = async () => (await compiled.run(x))[0];
    return {
      async run() {
        (await once()).delete();
      },
      async result() {
        const y = await once();
        const data = y.toTypedArray().slice();
        y.delete();
        return data;
      },
      free() {
        x.delete();
        compiled.delete();
      },
    };
  }
  /** One operator with constant weights: { x, xShape, w, wShape, yShape, conv? }. */
  const build = (layer) => compile(layerModel(layer), layer.x, layer.xShape);

  const chain = (sparse) => ({
    name: `LiteRT.js-${sparse ? "sparse" : "dense"} 2.5.3`,
    async build(net, depth) {
      const built = await compile(chainModel(net, depth, sparse), net.x, net.xShape);
      return { ...built, result: async () => spaceToDepth(await built.result(), net.size, net.channels) };
    },
  });
  return { name: "LiteRT.js 2.5.3", build, chains: [chain(true), chain(false)] };
}

/** Undoes the last operator of chainModel: [2 size, 2 size, c / 4] → [size, size, c]. */
function spaceToDepth(a, size, c) {
  const y = new Float32Array(a.length);
  const quarter = c / 4;
  for (let i = 0; i < a.length; i++) {
    const pixel = Math.floor(i / quarter);
    const [row, col] = [Math.floor(pixel / (2 * size)), pixel % (2 * size)];
    const at = (row >> 1) * size + (col >> 1);
    y[at * c + ((row % 2) * 2 + (col % 2)) * quarter + (i % quarter)] = a[i];
  }
  return y;
}
