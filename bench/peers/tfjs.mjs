// TensorFlow.js with its wasm backend, one thread.
import { createRequire } from "node:module";
import { dirname } from "node:path";

const require = createRequire(import.meta.url);

export async function tfjs() {
  const tf = require("@tensorflow/tfjs-core");
  const backend = require("@tensorflow/tfjs-backend-wasm");
  backend.setWasmPaths(`${dirname(require.resolve("@tensorflow/tfjs-backend-wasm/package.json"))}/dist/`);
  await tf.setBackend("wasm");
  await tf.ready();

  /** As in litert.mjs; W is turned into TensorFlow's [in, out] and [kh, kw, in, out]. */
  async function build({ x, xShape, w, wShape, conv }) {
    const given = tf.tensor(w, wShape);
    const weights = conv ? tf.transpose(given, [1, 2, 3, 0]) : tf.transpose(given);
    given.dispose();
    const input = tf.tensor(x, xShape);
    const once = () => (conv ? tf.conv2d(input, weights, 1, conv.same ? "same" : "valid") : tf.matMul(input, weights));
    return {
      run() {
        once().dispose();
      },
      result() {
        const y = once();
        const data = y.dataSync().slice();
        y.dispose();
        return data;
      },
      free() {
        weights.dispose();
        input.dispose();
      },
    };
  }
  return { name: `TensorFlow.js wasm ${backend.version_wasm}`, build };
}
