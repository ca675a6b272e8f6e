/**
 * Packs what `train/export.py` wrote into the files of this folder: `npx tsx examples/keyword-spotting/pack-weights.ts EXPORT`
 *
 * The sparse networks become packed weights, the dense one float16 to halve its file; the clips are copied, the test set is
 * compressed. A network that was not exported is left out.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { createEngine, type Format, readSafetensors, type Serializable, serialize, toFloat32 } from "skipzeros";

/** By the name of the file here, the name of the export. */
const NETWORKS = { dense: "dense", "weight-sparse": "sparse-weights", "sparse-sparse": "sparse-sparse" };
/** The layers with nearly all weights. */
const LARGE = ["conv2.weight", "hidden.weight"];

const [folder, ...more] = process.argv.slice(2);
if (folder === undefined || more.length) {
  console.error("pack-weights: give the folder that train/export.py wrote");
  process.exit(1);
}
const source = resolve(folder);
const target = fileURLToPath(new URL(".", import.meta.url));
const engine = await createEngine();

for (const [name, exported] of Object.entries(NETWORKS)) {
  const file = join(source, `${exported}.safetensors`);
  if (existsSync(file)) packNetwork(file, `${name}.safetensors`);
  else console.log(`${name}: skipped, there is no ${exported}.safetensors`);
}
mkdirSync(join(target, "clips"), { recursive: true });
for (const file of readdirSync(join(source, "clips")))
  copyFileSync(join(source, "clips", file), join(target, "clips", file));
write("test-features.safetensors.br", brotliCompressSync(readFileSync(join(source, "test-features.safetensors"))));
engine.dispose();

function packNetwork(file: string, name: string): void {
  const { tensors, metadata } = readSafetensors(readFileSync(file));
  const { format, mel: _, ...texts } = metadata;
  const patterns: Record<string, { blockRows: number; overlay: number }> = format ? JSON.parse(format) : {};
  const parts: Record<string, Serializable> = {};
  for (const [tensor, entry] of tensors) {
    if (tensor === "mel_filters") continue; // features.ts computes them
    const { shape } = entry;
    const values = toFloat32(entry);
    if (!tensor.endsWith("weight")) parts[tensor] = { shape, data: values };
    else if (LARGE.includes(tensor) && !format) {
      parts[tensor] = { shape, data: Uint16Array.from(values, float16), dtype: "F16" };
    } else {
      let packed: Format | "auto" = format ? "auto" : "dense";
      if (LARGE.includes(tensor) && format) packed = { kind: "complementary", ...patterns[tensor] };
      const weight = engine.pack(values, shape, { format: packed });
      const { reason, nnz, density, packedBytes } = weight.explain();
      console.log(`  ${tensor}: ${nnz} nonzeros (${(100 * density).toFixed(1)}%), ${packedBytes} bytes; ${reason}`);
      parts[tensor] = weight;
    }
  }
  write(name, serialize(parts, texts));
}

function write(name: string, bytes: Uint8Array): void {
  writeFileSync(join(target, name), bytes);
  console.log(`${name}: ${bytes.byteLength} bytes`);
}

/** The bits of the nearest float16, of two that are equally near the even one (IEEE 754 binary16). */
function float16(value: number): number {
  const size = Math.abs(value);
  if (!(size < 65520)) throw new RangeError(`float16 has no ${value}`);
  const exponent = Math.max(-14, Math.floor(new Uint32Array(Float32Array.of(size).buffer)[0] / 2 ** 23) - 127);
  const exact = size / 2 ** (exponent - 10);
  const least = Math.floor(exact);
  const up = exact - least > 0.5 || (exact - least === 0.5 && least % 2 === 1);
  // A carry out of the ten bits raises the exponent, as it should.
  return (value < 0 ? 0x8000 : 0) + (exponent + 14) * 1024 + least + (up ? 1 : 0);
}
