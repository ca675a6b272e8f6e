import type { Part, Reach, Tap } from "../formats/columns.js";
import type { Kernel } from "../kernels.js";
import type { Images, Window } from "./window.js";

/** A reach, and how the sums of one sample lie. */
export interface Spread {
  reach: Reach;
  units: number;
  /** Lines of outputs, and bytes from one to the next, and from output to output. */
  lines: number;
  line: number;
  pixel: number;
  /** Bytes of all sums, of which `lead` lie before the first output. */
  bytes: number;
  lead: number;
  /** Visits of each input, and columns that it adds in one. */
  visits: number;
  columns: number;
}

/** Visits of one image at most, and floats of sums beside the result's: 64 MiB of each. */
const MOST_VISITS = 2 ** 22;
const MOST_BESIDE = 2 ** 24;

/** What 16 bits can tell. */
const MOST = 65535;

/** Bytes of an output's sums: whole vectors of two, in which kernels start and end. */
const pitchOf = (m: number): number => Math.ceil(m / 8) * 32;

/** Each input row is read by one output: vectors, batches, and convolutions of 1 × 1. */
export const reachOfRow = (m: number, groups: number): Reach => ({
  taps: 1,
  groups,
  inputs: 1,
  outputs: 1,
  pitch: pitchOf(m),
  inPlace: m % 8 === 0,
  runs: [[{ tap: 0, at: 0 }]],
  parts: [{ run: 0, from: 0, to: 1 }],
  visits: new Uint32Array(3),
});

/**
 * Whether 16 bits tell where a run's sums lie, the last one `farthest` bytes from the first, and half the distance from its places to
 * its values: that is 1 byte for each output of a tap, and 2 where a visit may leave lines out in front.
 */
const fits = ({ block: [r] }: Kernel, farthest: number, outputs: number, lines: number): boolean =>
  farthest / (r === 1 ? 4 : 8) <= MOST && outputs * (lines > 1 ? 2 : 1) <= MOST;

/** Rows that are units of their own. */
export const spreadOfRows = (rows: number, m: number, groups: number, kernel: Kernel): Spread | undefined =>
  kernel.format === "dense" || fits(kernel, 0, m + 8, 1)
    ? {
        reach: reachOfRow(m, groups),
        units: rows,
        lines: 1,
        line: 0,
        pixel: m * 4,
        bytes: rows * m * 4,
        lead: 0,
        visits: 1,
        columns: 1,
      }
    : undefined;

const last = (list: readonly number[]): number => list[list.length - 1];

/** Taps along one direction through which inputs of one phase of the stride are read, and from how many outputs away: falling. */
interface Phase {
  taps: number[];
  away: number[];
}

/** The phases of one direction that have taps. */
function phasesOf(size: number, stride: number, dilation: number): Map<number, Phase> {
  const phases = new Map<number, Phase>();
  for (let k = 0; k < size; k++) {
    const phase = (k * dilation) % stride;
    const of = phases.get(phase) ?? { taps: [], away: [] };
    of.taps.push(k);
    of.away.push((phase - k * dilation) / stride);
    phases.set(phase, of);
  }
  return phases;
}

/** The most taps of a phase, and the most outputs that it spans but one. */
function largest(phases: ReadonlyMap<number, Phase>): [taps: number, span: number] {
  let [most, span] = [0, 0];
  for (const { taps, away } of phases.values()) {
    most = Math.max(most, taps.length);
    span = Math.max(span, away[0] - last(away));
  }
  return [most, span];
}

/** Taps whose columns are added in one go, line by line, and how many outputs away their lines are, and the taps of each. */
interface Run {
  index: number;
  taps: Tap[];
  down: number[];
  across: number[];
  /** Its parts by where they start and end. */
  parts: Map<number, number>;
}

/** From where to where falling numbers lie in 0..n − 1 once `at` is added. */
function inside(away: readonly number[], at: number, n: number): [from: number, to: number] {
  let from = 0;
  while (from < away.length && at + away[from] >= n) from++;
  let to = from;
  while (to < away.length && at + away[to] >= 0) to++;
  return [from, to];
}

/**
 * How the pixels of an image reach the outputs of a window over it: through all taps at once, or line by line where 16 bits can't
 * number their sums. What a pixel adds beyond the ends of a line lands between the lines, so that all taps of a line follow each
 * other; of dense columns any part can be taken. Undefined where that would be too much or too far apart. Kernels share what they can.
 */
export function spreadsOfImage(
  image: Images,
  win: Window,
  m: number,
  groups: number,
): (kernel: Kernel) => Spread | undefined {
  const { kh, kw, sh, sw, dh, dw, left, oh, ow } = win;
  const pitch = pitchOf(m);
  const rows = phasesOf(kh, sh, dh);
  const cols = phasesOf(kw, sw, dw);
  let lead = 0;
  let trail = 0;
  const meets = Array.from({ length: image.w }, (_, i) => {
    const away = cols.get((i + left) % sw)?.away;
    if (!away) return false;
    const at = Math.floor((i + left) / sw);
    const [first, end] = [at + last(away), at + away[0] + 1];
    if (end <= 0 || first >= ow) return false;
    lead = Math.max(lead, -first);
    trail = Math.max(trail, end - ow);
    return true;
  });
  const width = ow + Math.max(lead, trail);
  // Dense columns leave out what lies beside the lines.
  const spread = (dense: boolean, byLine: boolean) =>
    spreadOf({
      image,
      win,
      groups,
      rows,
      cols,
      pitch,
      meets,
      ...(dense ? { width: ow, lead: 0 } : { width, lead }),
      dense,
      byLine,
    });
  const [high, tall] = largest(rows);
  const [wide, long] = largest(cols);
  const made = new Map<boolean, Spread | undefined>();
  return (kernel) => {
    if (kernel.format === "dense") return spread(true, true);
    if ((width - ow) * oh * pitch > MOST_BESIDE * 4) return undefined;
    const reaches = (lines: number, down: number) =>
      fits(kernel, (down * width + long) * pitch + (m - 1) * 4, lines * wide * (m + 8), lines);
    const byLine = !reaches(high, tall);
    if (byLine && !reaches(1, 0)) return undefined;
    if (!made.has(byLine)) made.set(byLine, spread(false, byLine));
    return made.get(byLine);
  };
}

interface Geometry {
  image: Images;
  win: Window;
  groups: number;
  /** Phases down and across. */
  rows: ReadonlyMap<number, Phase>;
  cols: ReadonlyMap<number, Phase>;
  /** Which columns of pixels meet outputs. */
  meets: readonly boolean[];
  /** Bytes of an output; outputs from line to line, and before the first. */
  pitch: number;
  width: number;
  lead: number;
  dense: boolean;
  byLine: boolean;
}

function spreadOf({
  image,
  win,
  groups,
  rows,
  cols,
  meets,
  pitch,
  width,
  lead,
  dense,
  byLine,
}: Geometry): Spread | undefined {
  const { kh, kw, sh, sw, top, left, oh, ow } = win;
  const runs: Run[] = [];
  const runsOf = new Map<number, Map<number, Run[]>>();
  for (const [phase, { taps: kys, away: dys }] of rows) {
    const line = new Map<number, Run[]>();
    runsOf.set(phase, line);
    for (const [phase, { taps: kxs, away: dxs }] of cols) {
      const high = byLine ? 1 : kys.length;
      // Dense columns are stored as they are added: to outputs side by side, if they are that.
      const wide = dense && dxs.some((dx, i) => dx !== dxs[0] - i) ? 1 : kxs.length;
      const own: Run[] = [];
      line.set(phase, own);
      for (let i = 0; i < kys.length; i += high) {
        for (let j = 0; j < kxs.length; j += wide) {
          const down = dys.slice(i, i + high);
          const across = dxs.slice(j, j + wide);
          const taps = down.flatMap((dy, l) =>
            across.map((dx, c) => ({
              tap: kys[i + l] * kw + kxs[j + c],
              at: ((dy - last(down)) * width + dx - last(across)) * pitch,
            })),
          );
          const run = { index: runs.length, taps, down, across, parts: new Map() };
          own.push(run);
          runs.push(run);
        }
      }
      if (image.h * image.w * own.length > MOST_VISITS) return undefined;
    }
  }
  const visits: number[] = [];
  const parts: Part[] = [];
  let columns = 0;
  for (let iy = 0; iy < image.h; iy++) {
    const y = Math.floor((iy + top) / sh);
    const line = runsOf.get((iy + top) % sh);
    for (let ix = 0; ix < image.w; ix++) {
      const x = Math.floor((ix + left) / sw);
      for (const run of (meets[ix] && line?.get((ix + left) % sw)) || []) {
        const { index, down, across, taps } = run;
        const [above, below] = inside(down, y, oh);
        const [first, end] = dense ? inside(across, x, ow) : [0, across.length];
        if (above === below || first === end) continue;
        const from = above * across.length + first;
        const to = (below - 1) * across.length + end;
        const key = from * taps.length + to;
        const part = run.parts.get(key) ?? parts.push({ run: index, from, to }) - 1;
        run.parts.set(key, part);
        visits.push(iy * image.w + ix, part, ((y + last(down)) * width + x + across[end - 1]) * pitch);
        columns += to - from;
      }
    }
  }
  const inputs = image.h * image.w;
  const outputs = oh * width;
  const met = visits.length / 3;
  const reach = { taps: kh * kw, groups, inputs, outputs, pitch, inPlace: true, parts };
  return {
    reach: { ...reach, runs: runs.map(({ taps }) => taps), visits: Uint32Array.from(visits) },
    units: 1,
    lines: width === ow ? 1 : oh,
    line: width * pitch,
    pixel: pitch,
    bytes: (lead + outputs) * pitch,
    lead: lead * pitch,
    visits: met / Math.max(1, inputs),
    columns: columns / Math.max(1, met),
  };
}
