/** The example `examples/mel`: its front end against closed forms and librosa's numbers, and the demo as a whole. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readSafetensors } from "skipzeros";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  BINS,
  createPowerSpectrum,
  FFT_SIZE,
  HOP,
  hannWindow,
  hzToMel,
  logMel,
  MELS,
  melFilterbank,
  melToHz,
  powerFrames,
  readSpeech,
  SAMPLE_RATE,
} from "../examples/mel/mel.js";

const test = suite("mel");
const UNIT = 2 ** -24; // of float32 rounding

const folder = new URL("../examples/mel/", import.meta.url);
const filterbank = melFilterbank();
const filters = Array.from({ length: MELS }, (_, mel) => filterbank.subarray(mel * BINS, (mel + 1) * BINS));
const corners = Array.from({ length: MELS + 2 }, (_, i) => melToHz((i * hzToMel(SAMPLE_RATE / 2)) / (MELS + 1)));

function near(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: expected ${expected} ± ${tolerance}, got ${actual}`);
}

test("Slaney's scale has its fixed points and undoes itself", () => {
  for (const [hz, mel] of [
    [0, 0],
    [200, 3],
    [1000, 15],
    [6400, 42],
  ]) {
    near(hzToMel(hz), mel, 1e-12, `${hz} Hz in mel`);
    near(melToHz(mel), hz, 1e-9, `${mel} mel in Hz`);
  }
  for (const hz of [1, 999, 1001, 11025]) near(melToHz(hzToMel(hz)), hz, 1e-9, `${hz} Hz there and back`);
});

test("the filterbank has the numbers that librosa's documentation shows", () => {
  // librosa.filters.mel(sr=22050, n_fft=2048) with its 128 filters, as printed by the Rust crate mel_filter's page.
  const weights = melFilterbank(22050, 2048, 128);
  const first = [0, 0.016182853208219942, 0.032365706416439884, 0.028990088037379964, 0.012807234829160026, 0];
  const second = [0, 0, 0, 0.009779235793639925, 0.025962089001859864, 0.035393705451959974, 0.01921085224374004];
  for (const [row, expected] of [first, second].entries()) {
    expected.forEach((value, bin) => {
      near(weights[row * BINS + bin], value, value * UNIT, `filter ${row}, bin ${bin}`);
    });
  }
});

test("the filterbank is 80 x 1025 and about 98% zeros", () => {
  assert.is(BINS, 1025);
  assert.is(filterbank.length, 80 * 1025);
  const zeros = filterbank.filter((weight) => weight === 0).length / filterbank.length;
  near(zeros, 0.976, 0.001, "share of zeros");
  assert.ok(filterbank.every((weight) => weight >= 0));
});

test("every filter rises to one peak at its centre, falls, and is zero beyond its corners", () => {
  for (const [mel, filter] of filters.entries()) {
    const [lower, centre, upper] = corners.slice(mel, mel + 3);
    const peak = filter.indexOf(Math.max(...filter));
    assert.ok(filter[peak] > 0, `filter ${mel} is empty`);
    near((peak * SAMPLE_RATE) / FFT_SIZE, centre, SAMPLE_RATE / FFT_SIZE, `peak of filter ${mel} in Hz`);
    for (let bin = 0; bin < BINS; bin++) {
      const hz = (bin * SAMPLE_RATE) / FFT_SIZE;
      assert.is(filter[bin] > 0, hz > lower && hz < upper, `filter ${mel}, bin ${bin} is a nonzero`);
      if (bin === 0 || filter[bin] + filter[bin - 1] === 0) continue;
      assert.is(filter[bin] > filter[bin - 1], bin <= peak, `filter ${mel} rises at bin ${bin}`);
    }
  }
});

test("every filter has the area 1, so that white noise is equally loud in all", () => {
  const step = SAMPLE_RATE / FFT_SIZE;
  for (const [mel, filter] of filters.entries()) {
    const [lower, centre, upper] = corners.slice(mel, mel + 3);
    const area = filter.reduce((sum, weight) => sum + weight * step, 0);
    // The rectangle rule is exact on a straight line; each of the three corners may cost (change of slope) · step² / 8.
    const height = 2 / (upper - lower);
    const tolerance = (2 * height * (1 / (centre - lower) + 1 / (upper - centre)) * step ** 2) / 8;
    near(area, 1, tolerance, `area of filter ${mel}`);
    assert.ok(tolerance < 0.1, `the check of filter ${mel} is too loose to mean anything: ${tolerance}`);
  }
});

test("neighbouring filters share their bins in pairs", () => {
  for (let bin = 0; bin < BINS; bin++) {
    assert.ok(filters.filter((filter) => filter[bin] > 0).length <= 2, `bin ${bin} is in more than two filters`);
  }
});

test("filterbank.safetensors holds the filterbank", () => {
  const { tensors } = readSafetensors(readFileSync(new URL("filterbank.safetensors", folder)));
  assert.equal([...tensors.keys()], ["mel_filters"]);
  const [{ dtype, shape, data }] = tensors.values();
  assert.is(dtype, "F32");
  assert.equal(shape, [MELS, BINS]);
  for (const [mel, filter] of filters.entries()) {
    // Not bit for bit: Math.exp and Math.log may differ in their last bit from one engine to the next.
    const tolerance = 2 * UNIT * Math.max(...filter);
    for (let bin = 0; bin < BINS; bin++) {
      near(Number(data[mel * BINS + bin]), filter[bin], tolerance, `filter ${mel}, bin ${bin}`);
      assert.is(data[mel * BINS + bin] === 0, filter[bin] === 0, `filter ${mel}, bin ${bin} is a zero`);
    }
  }
});

test("the power of a windowed sine on a bin is its closed form", () => {
  const [bin, amplitude] = [100, 0.7];
  const window = hannWindow(FFT_SIZE);
  const sine = window.map((w, i) => w * amplitude * Math.sin((2 * Math.PI * bin * i) / FFT_SIZE));
  const power = createPowerSpectrum(FFT_SIZE)(sine);
  // A periodic Hann window has three Fourier coefficients: 1/2, and -1/4 at either side.
  const peak = ((amplitude * FFT_SIZE) / 4) ** 2;
  power.forEach((value, k) => {
    const expected = k === bin ? peak : Math.abs(k - bin) === 1 ? peak / 4 : 0;
    near(value, expected, peak * 1e-12, `bin ${k}`);
  });
});

test("Parseval: the spectrum holds the power of the frame, 0 Hz and the highest bin included", () => {
  const frame = Float64Array.from({ length: FFT_SIZE }, (_, i) => Math.sin(i * i) + 0.3 + 0.2 * (-1) ** i);
  const power = createPowerSpectrum(FFT_SIZE)(frame);
  assert.is(power.length, BINS);
  const total = 2 * power.reduce((a, b) => a + b) - power[0] - power[BINS - 1];
  const expected = FFT_SIZE * frame.reduce((sum, value) => sum + value ** 2, 0);
  near(total, expected, expected * 1e-12, "power");
  near(power[0], frame.reduce((a, b) => a + b) ** 2, expected * 1e-12, "power at 0 Hz");
  near(power[BINS - 1], frame.reduce((sum, v, i) => sum + v * (-1) ** i, 0) ** 2, expected * 1e-12, "highest bin");
});

test("frames are centred a hop apart, with silence around the clip", () => {
  const samples = new Float64Array(3 * HOP + 10);
  samples[2 * HOP] = 1; // one click, in the middle of frame 2
  const { data, shape } = powerFrames(samples);
  assert.equal(shape, [4, BINS]);
  const window = hannWindow(FFT_SIZE);
  for (let frame = 0; frame < 4; frame++) {
    const expected = window[FFT_SIZE / 2 + (2 - frame) * HOP] ** 2; // a click has the same power in every bin
    for (let bin = 0; bin < BINS; bin++) near(data[frame * BINS + bin], expected, 1e-6, `frame ${frame}, bin ${bin}`);
  }
  assert.equal(powerFrames(new Float64Array(0)).shape, [1, BINS]);
});

test("the log scale keeps 8 decades and survives silence", () => {
  const scaled = logMel(Float32Array.of(1, 1e-2, 1e-8, 1e-9, 0));
  [1, 0.5, -1, -1, -1].forEach((value, i) => {
    near(scaled[i], value, 1e-6, `value ${i}`);
  });
  assert.ok(logMel(new Float32Array(4)).every((value) => value === Math.fround(-1.5)));
});

test("the clip is a few seconds of speech at the filterbank's rate", () => {
  const { samples, sampleRate } = readSpeech(new URL("speech.wav", folder));
  assert.is(sampleRate, SAMPLE_RATE);
  assert.ok(samples.length > 4 * sampleRate && samples.length < 8 * sampleRate);
  const loudest = samples.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  assert.ok(loudest > 0.1 && loudest <= 1, `loudest sample ${loudest}`);
});

test("the demo runs, agrees with itself and prints its table", () => {
  const run = spawnSync(process.execPath, ["--import", "tsx", "examples/mel/demo.ts"], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    encoding: "utf8",
  });
  assert.is(run.status, 0, run.stderr);
  const rows = "clip filterbank format weights plain dense packed speed-up error difference engine picture";
  for (const row of rows.split(" ")) assert.match(run.stdout, new RegExp(`^${row} +\\S`, "m"));
  assert.match(run.stdout, /^filterbank +80 x 1025, 97\.6% zeros, 2001 nonzeros$/m);
  const png = readFileSync(new URL("../out/mel.png", import.meta.url));
  assert.is(png.toString("latin1", 1, 4), "PNG");
});

test.run();
