/**
 * `npm run demo:mel`: a spoken sentence becomes a log-mel spectrogram, the picture that speech recognisers look at.
 * The one matrix product on the way multiplies by a matrix that is 97.6% zeros; this program runs it with the zeros
 * and without them, checks both answers, times both, and draws the result.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { createEngine, readSafetensors, toFloat32 } from "skipzeros";
import { spectrogramPng, spectrogramText } from "./draw.js";
import { BINS, logMel, MELS, powerFrames, readSpeech, SAMPLE_RATE } from "./mel.js";

if (process.argv.length > 2) fail("there are no options");

const ROUNDS = 15;

// 1. The input: the clip as the power spectra of its frames, and the filterbank as a saved model would bring it.
const { samples, sampleRate } = readSpeech(new URL("speech.wav", import.meta.url));
if (sampleRate !== SAMPLE_RATE) fail(`speech.wav has ${sampleRate} Hz, the filterbank is for ${SAMPLE_RATE} Hz`);
const power = powerFrames(samples);
const frames = power.shape[0];
const { tensors } = readSafetensors(readFileSync(new URL("filterbank.safetensors", import.meta.url)));
const melFilters = tensors.get("mel_filters");
if (!melFilters) fail("filterbank.safetensors has no tensor mel_filters");
const weights = toFloat32(melFilters);

// 2. The same weights twice: with every zero stored, and as the engine packs them when it may choose.
const engine = await createEngine();
const dense = engine.pack(weights, [MELS, BINS], { format: "dense" });
const packed = engine.pack(weights, [MELS, BINS]);

// 3. One call each. The input goes into engine memory once, as the result of an earlier layer would lie there.
const x = engine.tensor(power.data, power.shape);
const denseMel = engine.linear(x, dense);
const packedMel = engine.linear(x, packed);

// 4. Both must agree with a float64 product and with each other, to the last bit that float32 can promise.
const oracle = plainLinear(power.data, weights);
const allowed = roundingBound(oracle);
const denseError = largestShare(denseMel.data, oracle, allowed);
const packedError = largestShare(packedMel.data, oracle, allowed);
const difference = largestShare(packedMel.data, denseMel.data, allowed) / 2; // both may be off, to either side
if (!(denseError <= 1 && packedError <= 1 && difference <= 1)) {
  fail(
    "the answers disagree by more than float32 rounding explains: " +
      `dense ${denseError.toFixed(2)}, packed ${packedError.toFixed(2)}, one against the other ` +
      `${difference.toFixed(2)} times what is allowed`,
  );
}

// 5. The contenders take turns, so that a busy moment of the machine falls on all of them.
const contenders = {
  plain: () => plainLinear(power.data, weights, oracle),
  dense: () => engine.linear(x, dense, { out: denseMel }),
  packed: () => engine.linear(x, packed, { out: packedMel }),
};
const times: Record<keyof typeof contenders, number[]> = { plain: [], dense: [], packed: [] };
const WARM_UP = 3; // the first calls run before V8 has optimised the code
for (let round = -WARM_UP; round < ROUNDS; round++) {
  for (const name of Object.keys(contenders) as (keyof typeof contenders)[]) {
    const start = performance.now();
    contenders[name]();
    if (round >= 0) times[name].push(performance.now() - start);
  }
}

// 6. The picture, and what it took.
const image = { data: logMel(packedMel.toArray()), shape: [frames, MELS] as [number, number] };
const png = new URL("../../out/mel.png", import.meta.url);
mkdirSync(new URL(".", png), { recursive: true });
writeFileSync(png, spectrogramPng(image));

const columns = Math.min(96, process.stdout.columns ?? 96);
const colourBits = process.stdout.isTTY && !process.env.NO_COLOR ? process.stdout.getColorDepth() : 1;
const speedUp = median(times.dense) / median(times.packed);
const share = (error: number) => `${(100 * error).toPrecision(2)}%`;

console.log(spectrogramText(image, columns, 20, colourBits));
printRows([
  ["clip", `speech.wav, ${(samples.length / sampleRate).toFixed(2)} s at ${sampleRate} Hz, ${frames} frames`],
  ["filterbank", `${MELS} x ${BINS}, ${(100 * (1 - packed.density)).toFixed(1)}% zeros, ${packed.nnz} nonzeros`],
  ["format", packed.explain().reason],
  ["weights", `${dense.byteLength} bytes dense, ${packed.byteLength} bytes packed`],
  ["plain JS", duration(times.plain)],
  ["dense", duration(times.dense)],
  ["packed", duration(times.packed)],
  ["speed-up", `${speedUp.toFixed(1)}x packed over dense, by the medians of this run`],
  ["error", `dense ${share(denseError)}, packed ${share(packedError)} of what float32 rounding may cost`],
  ["difference", `${share(difference)} of what it may cost between the two`],
  ["engine", `${engine.simd} build on Node ${process.versions.node}, ${cpus()[0]?.model.trim() ?? "unknown CPU"}`],
  ["picture", "out/mel.png"],
]);
engine.dispose();

/**
 * x `[frames, 1025]` times the filterbank `[80, 1025]`, as it is written without a library; summed in float64.
 * One view a row: V8 runs that faster than indices into the whole.
 */
function plainLinear(x: Float32Array, w: Float32Array, y = new Float64Array(frames * MELS)): Float64Array<ArrayBuffer> {
  for (let frame = 0; frame < frames; frame++) {
    const powers = x.subarray(frame * BINS, (frame + 1) * BINS);
    for (let mel = 0; mel < MELS; mel++) {
      const filter = w.subarray(mel * BINS, (mel + 1) * BINS);
      let sum = 0;
      for (let bin = 0; bin < filter.length; bin++) sum += powers[bin] * filter[bin];
      y[frame * MELS + mel] = sum;
    }
  }
  return y;
}

/**
 * How far a float32 sum may stray from the true one, in any order of summing: γ(n) · Σ|w||x|, where n counts the row's
 * nonzeros and γ(n) = n·u / (1 − n·u), u = 2⁻²⁴ (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1).
 * Zeros cost nothing. Neither powers nor filters are ever negative, so Σ|w||x| is the true sum itself.
 *
 * @param y - The true sums `[frames, 80]`.
 * @returns As many bounds.
 */
function roundingBound(y: Float64Array): Float64Array {
  const unit = 2 ** -24;
  const gamma = Array.from({ length: MELS }, (_, mel) => {
    const nonzeros = weights.subarray(mel * BINS, (mel + 1) * BINS).filter((weight) => weight !== 0).length;
    return (nonzeros * unit) / (1 - nonzeros * unit);
  });
  return y.map((sum, place) => gamma[place % MELS] * sum);
}

/** The largest |a − b| as a share of its bound. NaN if any value is NaN. */
function largestShare(a: ArrayLike<number>, b: ArrayLike<number>, bound: Float64Array): number {
  return bound.reduce((largest, allowance, place) => {
    const error = Math.abs(a[place] - b[place]);
    return Math.max(largest, error === 0 ? 0 : error / allowance);
  }, 0);
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function duration(values: number[]): string {
  const [least, middle] = [Math.min(...values), median(values)].map((ms) => ms.toFixed(3).padStart(9));
  return `${middle} ms median, ${least} ms least of ${ROUNDS}`;
}

function printRows(rows: [string, string][]): void {
  for (const [name, text] of rows) console.log(`${name.padEnd(11)} ${text}`);
}

function fail(message: string): never {
  console.error(`demo: ${message}`);
  process.exit(1);
}
