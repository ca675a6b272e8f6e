/**
 * The front end of a speech recogniser, up to and after its one matrix product:
 * WAV file → power spectrum of every frame → (mel filterbank, in `demo.ts`) → log-mel.
 *
 * The steps are those of Whisper's front end (Radford et al. 2022, "Robust Speech Recognition via Large-Scale
 * Weak Supervision", section 2.2) with librosa's default frame of 2048 samples at 22 050 Hz.
 */
import { readFileSync } from "node:fs";
import FFT from "fft.js";
import wavefile from "wavefile";

/** Samples a second of the clip and of the filterbank, in Hz. */
export const SAMPLE_RATE = 22050;
/** Samples in a frame: 93 ms. */
export const FFT_SIZE = 2048;
/** Frequencies from 0 Hz to half the sample rate, both included. */
export const BINS = FFT_SIZE / 2 + 1;
/** Samples from one frame to the next: 11.6 ms. */
export const HOP = 256;
/** Filters in the bank. */
export const MELS = 80;

/** A row-major picture in time and frequency. */
export interface Frames {
  /** `frames × width` values, one frame after the other. */
  data: Float32Array;
  /** `[frames, width]`; the width is 1025 bins or 80 mels. */
  shape: [number, number];
}

/**
 * Reads a mono 16-bit WAV file.
 *
 * @param file - Where the file is.
 * @returns The samples scaled to -1..1, and the rate in Hz.
 * @throws RangeError if the file has another format.
 */
export function readSpeech(file: URL): { samples: Float64Array; sampleRate: number } {
  const wav = new wavefile.WaveFile(readFileSync(file));
  // The package types its header as a bare object.
  const { numChannels, sampleRate } = wav.fmt as { numChannels: number; sampleRate: number };
  if (numChannels !== 1 || wav.bitDepth !== "16") {
    throw new RangeError(`expected a mono 16-bit WAV file, got ${numChannels} channels of ${wav.bitDepth} bits`);
  }
  return { samples: wav.getSamples().map((sample) => sample / 32768), sampleRate };
}

/**
 * The periodic Hann window, as spectral analysis wants it: sample `size` would be the first one again.
 *
 * @param size - Samples in the window.
 */
export function hannWindow(size: number): Float64Array {
  return Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
}

/**
 * Makes the function that turns one frame into its power spectrum |X|², unnormalised and in float64.
 *
 * @param size - Samples in a frame, a power of two.
 * @returns A function from `size` samples to `size / 2 + 1` powers. It hands back the same array on every call.
 */
export function createPowerSpectrum(size: number): (frame: Float64Array) => Float64Array {
  const fft = new FFT(size);
  const spectrum = new Float64Array(2 * size); // real and imaginary parts take turns
  const power = new Float64Array(size / 2 + 1);
  return (frame) => {
    fft.realTransform(spectrum, frame);
    for (let bin = 0; bin < power.length; bin++) power[bin] = spectrum[2 * bin] ** 2 + spectrum[2 * bin + 1] ** 2;
    return power;
  };
}

/**
 * Cuts a clip into overlapping frames and takes the power spectrum of each. Frame `t` is centred on sample
 * `t · hop`; what lies outside the clip counts as silence.
 *
 * @param samples - The clip.
 * @param fftSize - Samples in a frame, a power of two.
 * @param hop - Samples from one frame to the next.
 * @returns `1 + floor(samples / hop)` frames of `fftSize / 2 + 1` bins, rounded to float32.
 */
export function powerFrames(samples: Float64Array, fftSize = FFT_SIZE, hop = HOP): Frames {
  const bins = fftSize / 2 + 1;
  const frames = 1 + Math.floor(samples.length / hop);
  const window = hannWindow(fftSize);
  const powerSpectrum = createPowerSpectrum(fftSize);
  const frame = new Float64Array(fftSize);
  const data = new Float32Array(frames * bins);
  for (let t = 0; t < frames; t++) {
    const start = t * hop - fftSize / 2;
    for (let i = 0; i < fftSize; i++) frame[i] = window[i] * (samples[start + i] ?? 0);
    data.set(powerSpectrum(frame), t * bins);
  }
  return { data, shape: [frames, bins] };
}

// Slaney's mel scale: 66.7 Hz a mel up to 1 kHz, above it 27 mels for every factor of 6.4.
const HZ_PER_MEL = 200 / 3;
const LOG_FROM_HZ = 1000;
const LOG_FROM_MEL = LOG_FROM_HZ / HZ_PER_MEL;
const LOG_STEP = Math.log(6.4) / 27;

/** Hz to mel on Slaney's scale (see {@link melFilterbank}). */
export function hzToMel(hz: number): number {
  return hz < LOG_FROM_HZ ? hz / HZ_PER_MEL : LOG_FROM_MEL + Math.log(hz / LOG_FROM_HZ) / LOG_STEP;
}

/** Mel to Hz on Slaney's scale (see {@link melFilterbank}). */
export function melToHz(mel: number): number {
  return mel < LOG_FROM_MEL ? mel * HZ_PER_MEL : LOG_FROM_HZ * Math.exp((mel - LOG_FROM_MEL) * LOG_STEP);
}

/**
 * The mel filterbank that librosa computes by default and that Whisper ships as a file.
 *
 * `filters + 2` corner frequencies lie evenly on the mel scale from 0 Hz to half the sample rate. Filter `i` is a
 * triangle over corners `i`, `i + 1`, `i + 2`; its height 2 / (upper − lower corner, in Hz) gives it the area 1, so that
 * white noise is equally loud in all of them. Neighbours overlap by half: a bin is in two filters at most,
 * hence 2 / 80 nonzeros, and the zeros are nobody's pruning but the matrix's own.
 *
 * Source: M. Slaney, "Auditory Toolbox", Interval Research technical report 1998-010; `librosa.filters.mel`.
 *
 * @param sampleRate - In Hz.
 * @param fftSize - Samples in a frame.
 * @param filters - Rows of the result.
 * @returns Weights `[filters, fftSize / 2 + 1]`, row-major, in 1/Hz.
 */
export function melFilterbank(sampleRate = SAMPLE_RATE, fftSize = FFT_SIZE, filters = MELS): Float32Array {
  const bins = fftSize / 2 + 1;
  const melStep = hzToMel(sampleRate / 2) / (filters + 1);
  const weights = new Float32Array(filters * bins);
  for (let filter = 0; filter < filters; filter++) {
    const [lower, centre, upper] = [0, 1, 2].map((corner) => melToHz((filter + corner) * melStep));
    const height = 2 / (upper - lower);
    for (let bin = 0; bin < bins; bin++) {
      const hz = (bin * sampleRate) / fftSize;
      const slope = Math.min((hz - lower) / (centre - lower), (upper - hz) / (upper - centre));
      weights[filter * bins + bin] = height * Math.max(0, slope);
    }
  }
  return weights;
}

/**
 * Whisper's log scale: log10 of the power, with at most 8 decades (80 dB) kept below the loudest value of the clip,
 * shifted and scaled to about -1..1.
 *
 * @param power - Mel powers, all at least 0.
 * @returns As many values; the largest minus the smallest is 2 at most.
 */
export function logMel(power: Float32Array): Float32Array {
  const log = power.map((value) => Math.log10(Math.max(value, 1e-10)));
  const floor = log.reduce((a, b) => Math.max(a, b), -Infinity) - 8;
  return log.map((value) => (Math.max(value, floor) + 4) / 4);
}
