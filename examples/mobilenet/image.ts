/** A picture as ImageNet's networks want it: the evaluation transform of PyTorch's reference recipe. */
import { readFile } from "node:fs/promises";
import sharp from "sharp";

/** Mean and standard deviation of ImageNet's red, green and blue, of values in 0..1. */
export const MEAN = [0.485, 0.456, 0.406] as const;
export const STD = [0.229, 0.224, 0.225] as const;

/** The shorter side before the crop, as a multiple of the crop. */
const RESIZED = 256 / 224;

/**
 * Reads a PNG or JPEG file: shorter side to 256 (bilinear, antialiased), the middle 224 × 224, values to 0..1, minus the mean, over
 * the standard deviation. Grey becomes three equal channels, transparency is dropped, 16 bits become 8.
 *
 * @param file - its path, or its bytes
 * @param size - height and width of the result; the shorter side before the crop follows it
 * @returns `[3, size, size]`
 * @throws what reading and decoding throw
 * @example
 * ```ts
 * const image = await readImage("picture.jpg"); // 3 · 224 · 224 numbers
 * ```
 */
export async function readImage(file: string | URL | Uint8Array, size = 224): Promise<Float32Array> {
  const bytes = file instanceof Uint8Array ? file : await readFile(file);
  const decoded = await sharp(bytes).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const { width, height } = decoded.info;
  const short = Math.round(size * RESIZED);
  const side = (length: number) => Math.floor((short * length) / Math.min(width, height));
  const [newWidth, newHeight] = [side(width), side(height)];
  const columns = windows(width, newWidth, halfToEven(newWidth - size), size);
  const rows = windows(height, newHeight, halfToEven(newHeight - size), size);
  // Across, then down, each rounded to bytes, as Pillow does it.
  const wide = resample(decoded.data, columns, { lines: height, line: width * 3, step: 3 });
  const pixels = resample(wide, rows, { lines: size, line: 3, step: size * 3 });
  const image = new Float32Array(3 * size * size);
  for (let c = 0, to = 0; c < 3; c++) {
    // The second pass left columns as lines.
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        image[to++] = (pixels[(column * size + row) * 3 + c] / 255 - MEAN[c]) / STD[c];
      }
    }
  }
  return image;
}

/** What one pixel of a resized line is the mean of: `weights` of the pixels from `first` on. */
interface Window {
  first: number;
  weights: number[];
}

/**
 * `count` of the pixels of a line that is resized, from `start` on: a triangle around each one's middle, wider where the line gets
 * shorter. libvips, which decodes here, would take means of whole pixels first, and place them otherwise to enlarge: of noise up to 13
 * and 139 of 255 levels apart.
 */
function windows(length: number, resized: number, start: number, count: number): Window[] {
  const scale = length / resized;
  const reach = Math.max(1, scale);
  return Array.from({ length: count }, (_, i) => {
    const middle = (start + i + 0.5) * scale;
    const first = Math.max(0, Math.floor(middle - reach + 0.5));
    const end = Math.min(length, Math.floor(middle + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, j) =>
      Math.max(0, 1 - Math.abs(first + j + 0.5 - middle) / reach),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((w) => w / sum) };
  });
}

/** Each of the lines resized: `line` bytes from one to the next, `step` from one of its pixels of three bytes to the next. */
function resample(
  from: Uint8Array,
  to: readonly Window[],
  { lines, line, step }: { lines: number; line: number; step: number },
): Uint8Array {
  const result = new Uint8Array(lines * to.length * 3);
  for (let l = 0, at = 0; l < lines; l++) {
    for (const { first, weights } of to) {
      for (let c = 0; c < 3; c++, at++) {
        let sum = 0;
        for (let j = 0; j < weights.length; j++) sum += weights[j] * from[l * line + (first + j) * step + c];
        result[at] = Math.floor(sum + 0.5);
      }
    }
  }
  return result;
}

/** Half of n; what lies between two integers goes to the even one, as Python rounds the crop's corner. */
function halfToEven(n: number): number {
  const half = Math.floor(n / 2);
  return n % 2 && half % 2 ? half + 1 : half;
}
