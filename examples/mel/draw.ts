/** Draws a spectrogram: as text for a terminal, and as a PNG. Time runs to the right, low frequencies are at the bottom. */
import { PNG } from "pngjs";
import type { Frames } from "./mel.js";

type Rgb = [number, number, number];

/** From black over violet and orange to pale yellow: as bright to the eye as the value is high (after "magma"). */
const CONTROL_COLOURS: Rgb[] = [
  [0, 0, 4],
  [28, 16, 68],
  [79, 18, 123],
  [129, 37, 129],
  [181, 54, 122],
  [229, 80, 100],
  [251, 135, 97],
  [254, 194, 135],
  [252, 253, 191],
];
const CHARACTERS = " .:-=+*#%@";

/** The colour of a value in 0..1, as bytes. */
function colour(value: number): Rgb {
  const position = value * (CONTROL_COLOURS.length - 1);
  const index = Math.min(Math.floor(position), CONTROL_COLOURS.length - 2);
  const [from, to] = [CONTROL_COLOURS[index], CONTROL_COLOURS[index + 1]];
  const mix = (channel: number) => Math.round(from[channel] + (to[channel] - from[channel]) * (position - index));
  return [mix(0), mix(1), mix(2)];
}

/**
 * Averages a spectrogram into a raster of brightness values.
 *
 * @param image - `[frames, bands]`, lowest band first.
 * @param width - Columns of the result.
 * @param height - Rows of the result.
 * @returns `height × width` values in 0..1, the highest band in row 0.
 */
function raster(image: Frames, width: number, height: number): Float64Array {
  const [frames, bands] = image.shape;
  const averages = new Float64Array(width * height);
  for (let row = 0; row < height; row++) {
    const [bandFrom, bandTo] = span(height - 1 - row, height, bands);
    for (let column = 0; column < width; column++) {
      const [frameFrom, frameTo] = span(column, width, frames);
      let sum = 0;
      for (let frame = frameFrom; frame < frameTo; frame++) {
        for (let band = bandFrom; band < bandTo; band++) sum += image.data[frame * bands + band];
      }
      averages[row * width + column] = sum / ((frameTo - frameFrom) * (bandTo - bandFrom));
    }
  }
  const lowest = averages.reduce((a, b) => Math.min(a, b));
  const highest = averages.reduce((a, b) => Math.max(a, b));
  return averages.map((value) => (value - lowest) / (highest - lowest || 1));
}

/** Which of `size` source places fall on place `index` of `count`: at least one, so that the picture may also grow. */
function span(index: number, count: number, size: number): [number, number] {
  const from = Math.floor((index * size) / count);
  return [from, Math.max(from + 1, Math.floor(((index + 1) * size) / count))];
}

/**
 * @param image - `[frames, bands]`.
 * @param columns - Characters in a line.
 * @param rows - Lines.
 * @param colourBits - Colours the terminal has: 24 or 8 bits give coloured half blocks (two picture rows a line),
 *   anything else plain characters from blank to `@`.
 * @returns `rows` lines, each ended by a newline.
 */
export function spectrogramText(image: Frames, columns: number, rows: number, colourBits: number): string {
  if (colourBits < 8) {
    const brightness = raster(image, columns, rows);
    const characters = Array.from(brightness, (value) => CHARACTERS[Math.round(value * (CHARACTERS.length - 1))]);
    return lines(characters, columns);
  }
  const brightness = raster(image, columns, 2 * rows);
  const blocks = Array.from({ length: rows * columns }, (_, place) => {
    const upper = Math.floor(place / columns) * 2 * columns + (place % columns);
    const foreground = terminalColour(colour(brightness[upper]), colourBits);
    const background = terminalColour(colour(brightness[upper + columns]), colourBits);
    return `\x1b[38;${foreground};48;${background}m▀`;
  });
  return lines(blocks, columns, "\x1b[0m");
}

function lines(cells: string[], columns: number, end = ""): string {
  let text = "";
  for (let from = 0; from < cells.length; from += columns) {
    text += `${cells.slice(from, from + columns).join("")}${end}\n`;
  }
  return text;
}

/** The colour as a terminal takes it: as it is, or the nearest place in the 6 × 6 × 6 cube of the 256 colours. */
function terminalColour(rgb: Rgb, colourBits: number): string {
  if (colourBits >= 24) return `2;${rgb.join(";")}`;
  const [red, green, blue] = rgb.map((byte) => Math.round(byte / 51));
  return `5;${16 + 36 * red + 6 * green + blue}`;
}

/**
 * @param image - `[frames, bands]`.
 * @param frameWidth - Pixels a frame is wide.
 * @param bandHeight - Pixels a band is high.
 * @returns The bytes of a PNG file.
 */
export function spectrogramPng(image: Frames, frameWidth = 2, bandHeight = 5): Buffer {
  const [frames, bands] = image.shape;
  const png = new PNG({ width: frames * frameWidth, height: bands * bandHeight });
  raster(image, png.width, png.height).forEach((value, pixel) => {
    png.data.set([...colour(value), 255], pixel * 4);
  });
  return PNG.sync.write(png);
}
