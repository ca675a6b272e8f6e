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
  // Decoded and cast first: a resize in the same pipeline would weigh colours by their transparency.
  const decoded = await sharp(bytes).removeAlpha().toColourspace("srgb").raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = decoded.info;
  const short = Math.round(size * RESIZED);
  const side = (length: number) => Math.floor((short * length) / Math.min(width, height));
  const [newWidth, newHeight] = [side(width), side(height)];
  const { data } = await sharp(decoded.data, { raw: { width, height, channels } })
    .resize(newWidth, newHeight, { fit: "fill", kernel: "linear" })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const top = halfToEven(newHeight - size);
  const left = halfToEven(newWidth - size);
  const image = new Float32Array(3 * size * size);
  for (let c = 0, to = 0; c < 3; c++) {
    for (let row = top; row < top + size; row++) {
      for (let column = left; column < left + size; column++) {
        image[to++] = (data[(row * newWidth + column) * 3 + c] / 255 - MEAN[c]) / STD[c];
      }
    }
  }
  return image;
}

/** Half of n; what lies between two integers goes to the even one, as Python rounds the crop's corner. */
function halfToEven(n: number): number {
  const half = Math.floor(n / 2);
  return n % 2 && half % 2 ? half + 1 : half;
}
