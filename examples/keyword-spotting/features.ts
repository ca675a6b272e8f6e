/**
 * What the networks look at: one second of sound as 32 frames of 32 mel bands, log scale. `train/data.py` defines it; the
 * steps are those of `log_mel` there, and the test holds both to within 1e-4 of each other.
 */
import { readFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { type Engine, readSafetensors, type SafetensorsEntry } from "skipzeros";
import { powerFrames, readSpeech } from "../mel/mel.js";

/** Samples a second, in Hz; a clip is one second. */
export const SAMPLE_RATE = 16000;
/** Samples in a frame: 64 ms. */
const FRAME = 1024;
/** Samples from one frame to the next: 32 ms. */
export const HOP = 512;
/** Silence before the first sample: frame t is samples 512 t − 448 … 512 t + 575. */
const PAD = 448;
/** Frames of a clip. */
export const FRAMES = 32;
/** Mel bands, and features of a frame. */
export const BANDS = 32;
/** Frequencies from 0 Hz to half the sample rate, both included. */
export const BINS = FRAME / 2 + 1;

const LOWEST_HZ = 20;
const HIGHEST_HZ = 8000;
/** Added to the power, so that silence has a logarithm. */
const FLOOR = 1e-6;

/**
 * Reads a clip.
 *
 * @param file - A mono 16-bit WAV file at 16 kHz.
 * @returns Samples scaled to -1..1.
 * @throws RangeError if the file has another format.
 */
export function readClip(file: URL): Float64Array {
  const { samples, sampleRate } = readSpeech(file);
  if (sampleRate !== SAMPLE_RATE)
    throw new RangeError(`expected a WAV file at ${SAMPLE_RATE} Hz, got ${sampleRate} Hz`);
  return samples;
}

/**
 * Triangles of height 1 whose corners lie evenly on the mel scale of HTK, 2595 · log10(1 + f / 700), from 20 to 8000 Hz
 * (S. Young et al., "The HTK Book", section 5.4). Most of it is zeros.
 *
 * @returns Weights `[32, 513]`, row-major.
 */
export function melFilters(): Float32Array {
  const mel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const step = (mel(HIGHEST_HZ) - mel(LOWEST_HZ)) / (BANDS + 1);
  const corners = Array.from({ length: BANDS + 2 }, (_, i) => 700 * (10 ** ((mel(LOWEST_HZ) + i * step) / 2595) - 1));
  const weights = new Float32Array(BANDS * BINS);
  for (let band = 0; band < BANDS; band++) {
    const [lower, centre, upper] = corners.slice(band, band + 3);
    for (let bin = 0; bin < BINS; bin++) {
      const hz = (bin * SAMPLE_RATE) / FRAME;
      weights[band * BINS + bin] = Math.max(
        0,
        Math.min((hz - lower) / (centre - lower), (upper - hz) / (upper - centre)),
      );
    }
  }
  return weights;
}

/**
 * Makes the function that turns a clip into what the networks take.
 *
 * @param scale - Mean and standard deviation of the training set's features, as the networks' files name them.
 * @returns A function from samples at 16 kHz, of which the first second counts, to `32 × 32` features, frame after frame:
 *   (ln(mel power + 1e-6) − mean) / std.
 */
export function createFrontEnd(
  engine: Engine,
  { mean, std }: Scale,
): (samples: Float64Array) => Float32Array<ArrayBuffer> {
  const filters = engine.pack(melFilters(), [BANDS, BINS]);
  const bands = engine.tensor(new Float32Array(FRAMES * BANDS), [FRAMES, BANDS]);
  const padded = new Float64Array(PAD + SAMPLE_RATE);
  return (samples) => {
    padded.fill(0, PAD);
    padded.set(samples.subarray(0, SAMPLE_RATE), PAD);
    // powerFrames centres its first frame on the first sample; the frame after that is the first one of ours.
    const { data } = powerFrames(padded, FRAME, HOP);
    const power = data.subarray(BINS, BINS * (1 + FRAMES));
    engine.linear({ data: power, shape: [FRAMES, BINS] }, filters, { out: bands });
    return Float32Array.from(bands.data, (value) => (Math.log(value + FLOOR) - mean) / std);
  };
}

/** What features are centred and scaled by. */
export interface Scale {
  mean: number;
  std: number;
}

/** Features of clips, and the class of each. */
export interface TestSet {
  /** `clips × 32 × 32`. */
  features: Float32Array<ArrayBuffer>;
  labels: ArrayLike<number>;
}

/**
 * Reads the test set: 70 voices that no network was trained on. Its features are bytes q, in steps of 0.1, which is 0.4 dB.
 *
 * @param file - A safetensors file, compressed with brotli: `features` U8 `[clips, 32, 32]`, `labels` U8 `[clips]`; `offset`,
 *   `step`, `mean` and `std` in its metadata.
 * @returns (offset + step · q − mean) / std.
 */
export function readTestSet(file: URL): TestSet {
  const { tensors, metadata } = readSafetensors(brotliDecompressSync(readFileSync(file)));
  const [features, labels] = ["features", "labels"].map((name) => bytesOf(tensors.get(name), `${file}: ${name}`));
  const [offset, step, mean, std] = ["offset", "step", "mean", "std"].map((name) => Number(metadata[name]));
  return { features: Float32Array.from(features, (q) => (offset + step * q - mean) / std), labels };
}

function bytesOf(entry: SafetensorsEntry | undefined, name: string): Uint8Array {
  if (!(entry?.data instanceof Uint8Array))
    throw new RangeError(`${name}: expected bytes, got ${entry?.dtype ?? "nothing"}`);
  return entry.data;
}
