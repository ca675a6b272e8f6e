/** Writes `filterbank.safetensors`, the weights of the demo: `npx tsx examples/mel/make-filterbank.ts` */
import { writeFileSync } from "node:fs";
import { writeSafetensors } from "skipzeros";
import { BINS, MELS, melFilterbank } from "./mel.js";

const file = new URL("filterbank.safetensors", import.meta.url);
const bytes = writeSafetensors({ mel_filters: { data: melFilterbank(), shape: [MELS, BINS] } });
writeFileSync(file, bytes);
console.log(`filterbank.safetensors: mel_filters [${MELS}, ${BINS}], ${bytes.byteLength} bytes`);
