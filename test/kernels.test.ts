// Every row of the manifest against plain loops, called raw over buffers laid out here. Around each buffer lie guards of
// NaNs: what a kernel over-reads must not reach its result, and what it writes besides its result is found.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { kernelCases } from "../bench/suites/kernels.js";
import { type Build, type KernelFunction, loadKernels } from "../bindings/builds.js";
import shipped from "../bindings/costs.json" with { type: "json" };
import { type BlockMatrix, packBlock, splitBlocks } from "../bindings/formats/block.js";
import { lowerColumns, lowerDenseColumns, type Part, type Reach, type Tap } from "../bindings/formats/columns.js";
import { lowerDense, lowerDenseVector } from "../bindings/formats/dense.js";
import {
  BLOCK_COLS,
  BLOCK_ROWS,
  type Format,
  packAs,
  toBlocks,
  toTransposedBlocks,
} from "../bindings/formats/format.js";
import { type NmMatrix, packNm } from "../bindings/formats/nm.js";
import { Source } from "../bindings/formats/source.js";
import {
  type InputMap,
  lowerBlocks,
  lowerNmVector,
  lowerSlices,
  type Pass,
  VECTOR_COLUMNS,
} from "../bindings/formats/streams.js";
import { KERNELS, type Kernel } from "../bindings/kernels.js";
import { FIRST, Memory, VECTOR_BYTES } from "../bindings/memory.js";
import {
  allowed,
  builds,
  close,
  type Expected,
  random,
  sameBits,
  seed,
  transpose as transposeOf,
  values,
} from "./oracle.js";

const test = suite("kernels");

// ---------------------------------------------------------------------------------------------------------------- buffers

const GUARD = 64;
/** A NaN that no arithmetic makes, unlike JavaScript's 0x7fc00000. */
const GUARD_WORD = 0x7fc0dead;
/** Passed where a kernel must not look: outside the memory, so that a read traps. */
const NOWHERE = 0x70000000;
/** Between the kernels' constant tables and what is handed out: where some bring x. */
const VECTOR = FIRST - VECTOR_BYTES;
/** What memory.ts leaves behind every block for vectors that read past its end. */
const TAIL = 16;

/** How buffers lie: all `shift` bytes off their alignment, or the one named `last` at the very end of the memory. */
interface View {
  shift?: number;
  last?: string;
}

const viewsOf = (...names: string[]): View[] => [{}, { shift: 4 }, ...names.map((last) => ({ last }))];

/** The engine's memory, too small to grow, with guards around every block, also around those of lowerBlocks and the like. */
class GuardedMemory extends Memory {
  #blocks: { name: string; whole: number; ptr: number; bytes: number }[] = [];
  #view: View = {};
  #slack: Record<string, number> = {};

  constructor() {
    super(4 * 65536);
  }

  /** @param slack bytes that may be read behind a buffer, by its name; behind the one at the end there are no more. */
  reset(view: View, slack: Record<string, number>): void {
    for (const { whole } of this.#blocks) this.free(whole);
    this.#blocks = [];
    this.#view = view;
    this.#slack = slack;
    this.u32.fill(GUARD_WORD, VECTOR / 4);
  }

  /** A block for `length` floats, all of them NaN. */
  room(name: string, length: number): number {
    if (name !== this.#view.last) return this.#guarded(name, length * 4, this.#view.shift ?? 0);
    const ptr = this.reserved - (this.#slack[name] ?? 0) - length * 4;
    this.#blocks.push({ name, whole: 0, ptr, bytes: length * 4 });
    return ptr;
  }

  #guarded(name: string, bytes: number, shift: number): number {
    const whole = super.alloc(bytes + shift + 2 * GUARD);
    const ptr = whole + GUARD + shift;
    this.#blocks.push({ name, whole, ptr, bytes });
    return ptr;
  }

  /** A block with the bits of `data`: a Float32Array, or words. */
  put(name: string, data: Float32Array | readonly number[]): number {
    const ptr = this.room(name, data.length);
    const words = data instanceof Float32Array ? new Uint32Array(data.buffer, data.byteOffset, data.length) : data;
    this.u32.set(words, ptr / 4);
    return ptr;
  }

  override alloc(bytes: number): number {
    return this.#guarded("streams", bytes, 0);
  }

  /** An address for people: bytes before (−) or after the start of the nearest block, and that block's length. */
  nameOf(address: number): string {
    const far = (b: { ptr: number; bytes: number }) => Math.max(b.ptr - address, address - b.ptr - b.bytes + 1, 0);
    const nearest = this.#blocks.reduce((a, b) => (far(b) < far(a) ? b : a));
    return `byte ${address - nearest.ptr} of ${nearest.name} (${nearest.bytes} bytes)`;
  }
}

/** One call of a kernel. */
interface Job {
  label: string;
  view?: View;
  slack?: Record<string, number>;
  inputs: Record<string, Float32Array>;
  /** What y holds before, or its length: then it is all NaN. */
  y: Float32Array | number;
  /** An input that y is, instead of a buffer of its own. */
  inPlace?: string;
  /** Which floats of y are results. */
  places: Uint32Array;
  /** Floats of y right behind the results that may change as well. */
  overrun?: number;
  /** Other floats of y that may. */
  junk?: Uint32Array;
  /** Elements of the lists that the kernel makes; y is their indptr. */
  lists?: number;
  /** Floats that each of the lists may take; default as many as they end with. */
  room?: number;
  /** Length of the buffer `work`, which may change as well. */
  work?: number;
  /** Most results are zeros, and should be: they do not make a test mistrusted. */
  zeros?: boolean;
  /** Whether the kernel brings x to a place of its own, which then may change as well. */
  brings?: boolean;
  /** From the addresses of inputs, y, indices and values, and work to the call. Streams are laid out here. */
  prepare(at: Record<string, number>): () => void;
}

/** A build over a guarded memory. */
class Bed {
  readonly memory = new GuardedMemory();
  kernels: Record<string, KernelFunction> = {};
  rnd = random();
  /** Of the whole memory: before the call, after it, and as it may be then. */
  #images = range(3).map(() => new Uint32Array(this.memory.reserved / 4));
  #compared = 0;
  #nonzero = 0;

  constructor(readonly build: Build) {}

  /** Runs a test, and mistrusts it if most of what it compared was zero. */
  trust(run: () => void): void {
    this.rnd = random();
    this.#compared = this.#nonzero = 0;
    run();
    assert.ok(this.#compared > 0, "nothing was compared");
    assert.ok(
      // Some tests draw half of their elements as zeros: a random draw must not fail those.
      this.#nonzero >= 0.4 * this.#compared,
      `mistrusted: ${this.#nonzero} of ${this.#compared} are not zero, seed ${seed}`,
    );
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.rnd() * list.length)];
  }

  /**
   * Calls a kernel twice and returns its results, having checked the same bits, all of them written, and nothing else. After
   * those in y come the indices and the values of lists.
   */
  perform(job: Job): Float32Array {
    const { memory } = this;
    memory.reset(job.view ?? {}, job.slack ?? {});
    const at: Record<string, number> = {};
    for (const [name, data] of Object.entries(job.inputs)) at[name] = memory.put(name, data);
    if (job.inPlace) at.y = at[job.inPlace];
    else at.y = typeof job.y === "number" ? memory.room("y", job.y) : memory.put("y", job.y);
    const outputs = [{ start: at.y / 4, places: job.places, overrun: job.overrun ?? 0 }];
    if (job.lists !== undefined) {
      for (const name of ["indices", "values"]) {
        const room = job.room ?? job.lists;
        at[name] = memory.room(name, room);
        outputs.push({ start: at[name] / 4, places: grid([job.lists, 1]), overrun: room - job.lists });
      }
    }
    if (job.work !== undefined) at.work = memory.room("work", job.work);
    const call = job.prepare(at);

    const [before, after, legal] = this.#images;
    before.set(memory.u32);
    legal.set(memory.u32);
    call();
    after.set(memory.u32);
    const results = new Uint32Array(outputs.reduce((sum, { places }) => sum + places.length, 0));
    let n = 0;
    for (const { start, places, overrun } of outputs) {
      for (const place of places) {
        const word = after[start + place];
        if (word === GUARD_WORD) throw new Error(`${job.label}: ${n} not written, or from a guard (seed ${seed})`);
        results[n++] = legal[start + place] = word;
        if (word << 1 && !job.zeros) this.#nonzero++;
      }
      const behind = start + endOf(places);
      if (overrun) legal.set(after.subarray(behind, behind + overrun), behind);
    }
    if (!job.zeros) this.#compared += n;
    for (const place of job.junk ?? []) legal[at.y / 4 + place] = after[at.y / 4 + place];
    if (job.brings) legal.set(after.subarray(VECTOR / 4, FIRST / 4), VECTOR / 4);
    if (job.work) legal.set(after.subarray(at.work / 4, at.work / 4 + job.work), at.work / 4);
    this.#same(after, legal, `${job.label}: wrote outside its result`);
    memory.u32.set(before);
    call();
    this.#same(memory.u32, after, `${job.label}: other bits the second time`);
    return new Float32Array(results.buffer);
  }

  #same(actual: Uint32Array, expected: Uint32Array, label: string): void {
    if (Buffer.compare(bytesOf(actual), bytesOf(expected)) === 0) return;
    const i = actual.findIndex((word, j) => word !== expected[j]);
    const words = `0x${expected[i].toString(16)} became 0x${actual[i].toString(16)}`;
    throw new Error(`${label}: ${this.memory.nameOf(i * 4)}: ${words} (seed ${seed})`);
  }
}

const bytesOf = (a: Uint32Array): Buffer => Buffer.from(a.buffer, a.byteOffset, a.byteLength);

/** 0 … n − 1. */
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Positions of a nest of (count, pitch), the outermost first, in floats. */
function grid(...dims: [count: number, pitch: number][]): Uint32Array {
  let starts = Uint32Array.of(0);
  for (const [count, pitch] of dims) {
    const next = new Uint32Array(starts.length * count);
    for (let i = 0; i < next.length; i++) next[i] = starts[Math.floor(i / count)] + (i % count) * pitch;
    starts = next;
  }
  return starts;
}

/** All pairs of 0 … n − 1. */
const pairs = (n: number): [number, number][] => range(n).flatMap((a) => range(n).map((b): [number, number] => [a, b]));

/** Sizes at which a loop that takes `tile` at a time runs never, once, more than once, and leaves a rest. */
function around(tile: number): number[] {
  const isPrime = (n: number) => range(n).every((i) => i < 2 || n % i !== 0);
  let prime = tile + 2;
  while (!isPrime(prime)) prime++;
  return [...new Set([0, 1, 2, 3, tile - 1, tile, tile + 1, prime, 2 * tile])];
}

/** Floats of any bits, signalling NaNs among them: for kernels that only move them. */
const anyBits = (n: number, rnd: () => number): Float32Array =>
  new Float32Array(Uint32Array.from({ length: n }, () => notGuard(rnd() * 2 ** 32)).buffer);

/** Of random bits, as one draw in millions is the guard's and would pass for a place that was not written. */
const notGuard = (word: number): number => (word >>> 0 === GUARD_WORD ? GUARD_WORD ^ 1 : word);

/** The floats at some places, bit for bit. */
function gather(x: Float32Array, places: Uint32Array): Float32Array {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const taken = new Uint32Array(places.length);
  for (let i = 0; i < taken.length; i++) taken[i] = words[places[i]];
  return new Float32Array(taken.buffer);
}

/** One more than the last of some places. */
const endOf = (places: Uint32Array): number => (places.at(-1) ?? -1) + 1;

/** Results that have no error. */
const exactly = (y: Float64Array): Expected => ({ y, bound: new Float64Array(y.length) });

type Tester = (bed: Bed, kernel: Kernel) => void;

/** Tests of one kernel, by title. */
type Testers = Record<string, Tester>;

/** The same tests, of something that their titles name. */
const titled = (of: string, testers: Testers): Testers =>
  Object.fromEntries(Object.entries(testers).map(([title, run]) => [`${of}: ${title}`, run]));

// --------------------------------------------------------------------------------------------------------------- products

const ACCUMULATE = 1;
const BIAS = 2;
const CLAMP = 4;
const FLAGS = range(8);
const ZEROS = [0, 0.5, 0.9, 0.99, 1];
const STRIPS = range(4);
const VIEWS = viewsOf("x", "y", "bias");

/** y[row, c] = Σ over stored j of W[row, j] · x[input(row, j) + columns[c]]. */
interface Product {
  m: number;
  k: number;
  w: Float32Array;
  /** For each place of W whether it is multiplied: what x holds there reaches y, also through a stored zero. */
  stored: Uint8Array;
  x: Float32Array;
  input(row: number, j: number): number;
  columns: ArrayLike<number>;
  /** Floats from one row of y to the next. */
  yPitch: number;
  brings?: boolean;
}

/** A product whose columns lie side by side, as the engine lays out matrices and padded planes. */
interface Matrix extends Product {
  strips: number;
  map: InputMap;
}

type Launch = (x: number, y: number, bias: number, flags: number, lo: number, hi: number) => void;
/** Lays out W's streams for a kernel. */
type Plan = (bed: Bed, kernel: Kernel, p: Matrix) => Launch;

/** At most n nonzeros in each m columns. */
type Limit = readonly [n: number, m: number];

/** What a family of product kernels needs to be tested. */
interface Family {
  /** Ways to lay out W: the engine's, and one written here after the kernel's header. */
  plans: Plan[];
  rows(kernel: Kernel): number[];
  columns(kernel: Kernel): number[];
  limit?: Limit;
  stored(w: Float32Array, m: number, k: number, kernel: Kernel): Uint8Array;
  /** Whether the kernels bring x to a place of their own. */
  brings?: boolean;
  /** Bytes that may be read behind buffers. */
  slack: Record<string, number>;
}

/** How a product is called. */
interface Call {
  label: string;
  flags: number;
  view: View;
  /** Bytes that may be read behind buffers. */
  slack: Record<string, number>;
  /** Lays out W's streams, once x, bias and y lie. */
  plan(): Launch;
}

/** What is added to a product, and its limits. */
interface Ending {
  y0?: Float32Array;
  bias?: Float32Array;
  lo: number;
  hi: number;
}

function productOracle(p: Product, { y0, bias, lo, hi }: Ending): Expected {
  const n = p.columns.length;
  const y = new Float64Array(p.m * n);
  const bound = new Float64Array(p.m * n);
  for (let row = 0, i = 0; row < p.m; row++) {
    const terms: { v: number; at: number }[] = [];
    for (let j = 0; j < p.k; j++) {
      if (p.stored[row * p.k + j]) terms.push({ v: p.w[row * p.k + j], at: p.input(row, j) });
    }
    const nonzeros = terms.filter(({ v }) => v !== 0).length;
    for (let c = 0; c < n; c++, i++) {
      let sum = (y0?.[i] ?? 0) + (bias?.[row] ?? 0);
      let size = Math.abs(y0?.[i] ?? 0) + Math.abs(bias?.[row] ?? 0);
      for (const { v, at } of terms) {
        const term = v * p.x[at + p.columns[c]];
        sum += term;
        size += Math.abs(term);
      }
      y[i] = Math.min(hi, Math.max(lo, sum));
      bound[i] = allowed(nonzeros + 2, size);
    }
  }
  return { y, bound };
}

/** Runs a product and compares it with the oracle. */
function checkProduct(bed: Bed, p: Product, { flags, view, slack, plan, ...call }: Call): Float32Array {
  const places = grid([p.m, p.yPitch], [p.columns.length, 1]);
  const y0 = flags & ACCUMULATE ? values(places.length, 0, bed.rnd) : undefined;
  const bias = flags & BIAS ? values(p.m, 0, bed.rnd) : undefined;
  const [lo, hi] = flags & CLAMP ? [-1, 1.5] : [-Infinity, Infinity];
  const label = `${call.label}, flags ${flags}, view ${JSON.stringify(view)}`;
  const actual = bed.perform({
    label,
    view,
    slack,
    brings: p.brings,
    inputs: bias ? { x: p.x, bias } : { x: p.x },
    y: endOf(places),
    places,
    prepare({ x, y, bias: b = NOWHERE }) {
      if (y0) places.forEach((place, i) => (bed.memory.f32[y / 4 + place] = y0[i]));
      const launch = plan();
      // Without the flag the limits are such that using them would show.
      return () => (flags & CLAMP ? launch(x, y, b, flags, lo, hi) : launch(x, y, b, flags, 1e9, 1e9));
    },
  });
  close(actual, productOracle(p, { y0, bias, lo, hi }), label);
  return actual;
}

/** That as many results as meant to be are NaN or infinite, where a test is about those: a clamp takes infinities away. */
function reaches(y: Float32Array, value: number, flags: number, weights: ArrayLike<number>): void {
  const odd = y.filter((v) => !Number.isFinite(v)).length;
  const kept = Array.from(weights).filter((w) => Number.isNaN(value) || w === 0 || !(flags & CLAMP)).length;
  assert.is(odd, kept, `results that ${value} reached, flags ${flags}`);
}

interface MatrixSizes {
  m: number;
  channels: number;
  /** Share of W's blocks that are zero. */
  zeros?: number;
  /** Instead, the blocks of each row of them. */
  counts?: readonly number[];
  /** Instead, W itself. */
  w?: Float32Array;
  strips?: number;
  /** Floats from a channel's start. */
  taps?: number[];
  groups?: number;
  channelsPerBlock?: number;
  rowsPerPass?: number;
}

/** For each block row a flag for each block column: of those with the lowest ranks as many as its count, within a limit. */
function occupied(
  counts: readonly number[],
  width: number,
  rank: (row: number, col: number) => number,
  [n, m]: Limit = [1, 1],
): Uint8Array {
  const flags = new Uint8Array(counts.length * width);
  counts.forEach((count, row) => {
    const order = range(width).map((col) => ({ col, key: rank(row, col) }));
    order.sort((a, b) => a.key - b.key);
    const taken = new Map<number, number>();
    for (const { col } of order.slice(0, count)) {
      const group = Math.floor(col / m);
      const before = taken.get(group) ?? 0;
      if (before < n) flags[row * width + col] = 1;
      taken.set(group, before + 1);
    }
  });
  return flags;
}

/** Numbers in the blocks that are there, a quarter of them zeros unless a block is one number. */
function weights(m: number, k: number, [r, c]: Kernel["block"], blocks: Uint8Array, rnd: () => number): Float32Array {
  const width = Math.ceil(k / c);
  const zeros = r * c > 1 ? 0.25 : 0;
  const w = new Float32Array(m * k);
  for (let row = 0, i = 0; row < m; row++) {
    for (let j = 0; j < k; j++, i++) {
      if (!blocks[Math.floor(row / r) * width + Math.floor(j / c)] || rnd() < zeros) continue;
      w[i] = rnd() < 0.5 ? -0.1 - rnd() : 0.1 + rnd();
    }
  }
  return w;
}

function matrix(bed: Bed, kernel: Kernel, family: Family, o: MatrixSizes): Matrix {
  const {
    m,
    channels,
    zeros = 0,
    strips = 1,
    taps = [0],
    groups = 1,
    channelsPerBlock = Infinity,
    rowsPerPass = Infinity,
  } = o;
  const { rnd } = bed;
  const { block } = kernel;
  const { brings, limit } = family;
  const k = channels * taps.length;
  const n = kernel.tile * strips;
  const vector = kernel.op === "spmv";
  // Pitches that are no multiple of a vector: nothing is aligned by chance.
  const channel = vector ? 1 : n + Math.max(...taps) + 3;
  const group = channels * channel;
  const size = k && n ? (groups - 1) * group + (channels - 1) * channel + Math.max(...taps) + n : 0;
  const x = values(size, 0, rnd);
  const drawn = (): Float32Array => {
    const width = Math.ceil(k / block[1]);
    const some = () => range(width).filter(() => rnd() >= zeros).length;
    const counts = o.counts ?? range(Math.ceil(m / block[0])).map(some);
    return weights(m, k, block, occupied(counts, width, rnd, limit), rnd);
  };
  const w = o.w ?? drawn();
  const rowsPerGroup = m / groups;
  return {
    m,
    k,
    w,
    stored: family.stored(w, m, k, kernel),
    x,
    input: (row, j) =>
      taps[j % taps.length] + Math.floor(j / taps.length) * channel + Math.floor(row / rowsPerGroup) * group,
    columns: range(n),
    yPitch: vector ? 1 : n + 1,
    brings,
    strips,
    map: {
      taps: taps.map((t) => t * 4),
      channelStride: channel * 4,
      groups,
      groupStride: group * 4,
      channelsPerBlock,
      rowsPerPass,
    },
  };
}

/** Of several passes the first brings bias and y, the last clamps. */
const flagsOf = ({ first, last }: Pass, flags: number): number =>
  (first ? flags : (flags | ACCUMULATE) & ~BIAS) & (last ? 7 : ~CLAMP);

/** The strips of every pass. */
function runPasses({ kernels }: Bed, { name }: Kernel, p: Matrix, passes: Pass[]): Launch {
  const yStride = p.yPitch * 4;
  return (x, y, bias, flags, lo, hi) => {
    for (const pass of passes) {
      const { plan, row } = pass;
      const to = y + row * yStride;
      kernels[name](plan, p.strips, x + pass.x, to, yStride, bias + row * 4, flagsOf(pass, flags), lo, hi);
    }
  };
}

/** Every pass over its part of one vector. */
function runVector({ kernels }: Bed, { name }: Kernel, p: Matrix, passes: Pass[]): Launch {
  return (x, y, bias, flags, lo, hi) => {
    for (const pass of passes) {
      const from = x + p.input(0, pass.x / 4) * 4;
      kernels[name](pass.plan, from, y + pass.row * 4, bias + pass.row * 4, flagsOf(pass, flags), lo, hi);
    }
  };
}

/** All of W in one pass. */
const once = (plan: number): Pass[] => [{ plan, x: 0, row: 0, first: true, last: true }];

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

/** u16s as words. */
function halves(list: readonly number[]): number[] {
  const words = new Uint32Array(Math.ceil(list.length / 2));
  new Uint16Array(words.buffer).set(list);
  return [...words];
}

type Weights = Pick<Product, "m" | "k" | "w">;

/** W in the kernel's blocks. */
const blocksOf = ({ m, k, w }: Weights, { block: [r, c] }: Kernel): BlockMatrix =>
  packBlock(new Source(w, [m, k]), r, c);

/** The block rows of W, most blocks first and otherwise last row first, which the engine does not. */
const sortedRows = ({ m, k, stored }: Matrix, { block: [r, c] }: Kernel) =>
  range(Math.ceil(m / r))
    .map((row) => ({ row, cols: range(Math.ceil(k / c)).filter((col) => stored[row * r * k + col * c]) }))
    .reverse()
    .sort((a, b) => b.cols.length - a.cols.length);

/** The numbers of a block row by row, zeros where W ends in it. */
const numbersOf = ({ m, k, w }: Weights, { block: [r, c] }: Kernel, row: number, col: number): number[] =>
  range(r * c).map((i) => {
    const [y, x] = [row * r + Math.floor(i / c), col * c + (i % c)];
    return y < m && x < k ? bitsOf(w[y * k + x]) : 0;
  });

const blocksLowered: Plan = (bed, kernel, p) =>
  runPasses(bed, kernel, p, lowerBlocks(bed.memory, blocksOf(p, kernel), p.map).passes);

/** After the headers of assembly/csr/spmm.ts and assembly/block/spmm_*.ts. */
const blocksByHand: Plan = (bed, kernel, p) => {
  const rows = sortedRows(p, kernel);
  const offset = (row: number, j: number) => p.input(row * kernel.block[0], j) * 4;
  const records = bed.memory.put(
    "records",
    rows.flatMap(({ row, cols }) => [row, cols.length]),
  );
  const entries = bed.memory.put(
    "entries",
    rows.flatMap(({ row, cols }) => cols.flatMap((j) => [...numbersOf(p, kernel, row, j), offset(row, j)])),
  );
  const plan = [p.m, records, entries];
  if (kernel.format === "block") plan.push(rows.length);
  return runPasses(bed, kernel, p, once(bed.memory.put("plan", plan)));
};

const slicesLowered: Plan = (bed, kernel, p) =>
  runVector(bed, kernel, p, lowerSlices(bed.memory, blocksOf(p, kernel)).passes);

/** Block rows in a slice. */
const unitsOf = ({ block: [r] }: Kernel): number => (r === 1 ? 4 : r === 2 ? 2 : 1);

/** After the headers of assembly/csr/spmv.ts and assembly/block/spmv.ts. */
const slicesByHand: Plan = (bed, kernel, p) => {
  const rows = sortedRows(p, kernel);
  const [r, c] = kernel.block;
  const units = unitsOf(kernel);
  const records: number[] = [];
  const offsets: number[] = [];
  const data: number[] = [];
  for (let s = 0; s < rows.length; s += units) {
    const slice = rows.slice(s, s + units);
    const steps = slice[0].cols.length;
    records.push(steps, slice.length, ...range(units).map((unit) => slice[unit]?.row ?? 0));
    for (let step = 0; step < steps; step++) {
      for (let unit = 0; unit < units; unit++) {
        const { row = 0, cols = [] } = slice[unit] ?? {};
        const col = cols[step];
        // A padded unit reads the zeros behind x.
        offsets.push(col === undefined ? p.k * 4 : col * c * 4);
        data.push(...(col === undefined ? new Array(r * c).fill(0) : numbersOf(p, kernel, row, col)));
      }
    }
  }
  const { memory } = bed;
  const plan = [Math.ceil(rows.length / units), memory.put("records", records), memory.put("offsets", halves(offsets))];
  plan.push(memory.put("values", data));
  plan.push(p.m, p.k);
  return runVector(bed, kernel, p, once(memory.put("plan", plan)));
};

const nmLowered =
  ([n, m]: Limit): Plan =>
  (bed, kernel, p) =>
    runVector(bed, kernel, p, lowerNmVector(bed.memory, packNm(new Source(p.w, [p.m, p.k]), n, m)).passes);

/** The swizzle of each id: four lanes of bytes. */
const SWIZZLES = range(256 * 4).map((i) => (((i >> 2) >> (2 * (i & 3))) & 3) * 0x04040404 + 0x03020100);

/** After the header of assembly/nm/spmv.ts; what W's edge leaves of a group is a plan of its own, whose n is what it stores. */
const nmByHand =
  ([n, m]: Limit): Plan =>
  (bed, kernel, p) => {
    const { memory } = bed;
    const table = memory.put("table", SWIZZLES);
    const planOf = (from: number, groups: number, width: number): number => {
      const keep = Math.min(n, width);
      const ids: number[] = [];
      const data: number[] = [];
      for (const s of range(Math.ceil(p.m / 8))) {
        for (const g of range(groups)) {
          const start = from + g * width;
          // Last place first, which the engine does not.
          const places = range(8).map((lane) => {
            const row = s * 8 + lane;
            return row < p.m
              ? range(width)
                  .filter((i) => p.stored[row * p.k + start + i])
                  .reverse()
              : [];
          });
          for (const i of range(keep)) {
            for (const half of [0, 4]) {
              let id = 0;
              for (const lane of range(4)) {
                // Rows that W lacks multiply zeros by anything.
                const at = places[half + lane][i] ?? 3;
                const row = s * 8 + half + lane;
                id |= at << (2 * lane);
                data.push(row < p.m ? bitsOf(p.w[row * p.k + start + at]) : 0);
              }
              ids.push(id * 16);
            }
          }
        }
      }
      const streams = [memory.put("ids", halves(ids)), memory.put("values", data)];
      return memory.put("plan", [p.m, keep, groups, m * 4, table, ...streams]);
    };
    const whole = Math.floor(p.k / m);
    const cut = p.k % m;
    const passes = once(planOf(0, whole, m));
    if (cut) {
      passes[0].last = false;
      passes.push({ plan: planOf(whole * m, 1, cut), x: whole * m * 4, row: 0, first: false, last: true });
    }
    return runVector(bed, kernel, p, passes);
  };

const denseLowered: Plan = (bed, kernel, p) => {
  const weights = { rows: p.m, cols: p.k, data: p.w };
  return runPasses(bed, kernel, p, lowerDense(bed.memory, weights, p.map, bed.kernels.dense_gemm_rows()).passes);
};

/** After the header of assembly/dense/gemm.ts; a plan for each group. */
const denseByHand: Plan = (bed, kernel, p) => {
  const { memory } = bed;
  const R = bed.kernels.dense_gemm_rows();
  const { taps, groups, channelStride, groupStride } = p.map;
  const rows = p.m / groups;
  const channels = p.k / taps.length;
  const runs = memory.put(
    "runs",
    taps.flatMap((offset) => [offset, channels]),
  );
  const pairs = Math.ceil((rows % R) / 2);
  const blocks = [...new Array<number>(Math.floor(rows / R)).fill(R), ...new Array<number>(pairs).fill(2)];
  const passes = range(groups).map((g): Pass => {
    const w: number[] = [];
    let row = g * rows;
    for (const size of blocks) {
      for (let t = 0; t < taps.length; t++) {
        for (let c = 0; c < channels; c++) {
          for (let r = row; r < row + size; r++) {
            w.push(r < (g + 1) * rows ? bitsOf(p.w[r * p.k + c * taps.length + t]) : 0);
          }
        }
      }
      row += size;
    }
    const plan = memory.put("plan", [rows, memory.put("w", w), runs, taps.length, p.k, channelStride]);
    return { plan, x: g * groupStride, row: g * rows, first: true, last: true };
  });
  return runPasses(bed, kernel, p, passes);
};

const denseVectorLowered: Plan = (bed, kernel, p) =>
  runVector(bed, kernel, p, lowerDenseVector(bed.memory, { rows: p.m, cols: p.k, data: p.w }).passes);

/** After the header of assembly/dense/gemv.ts. */
const denseVectorByHand: Plan = (bed, kernel, p) => {
  const blocks = range(Math.ceil(p.m / 16));
  const weight = (row: number, j: number) => (row < p.m ? bitsOf(p.w[row * p.k + j]) : 0);
  const w = blocks.flatMap((b) => range(p.k).flatMap((j) => range(16).map((r) => weight(b * 16 + r, j))));
  return runVector(bed, kernel, p, once(bed.memory.put("plan", [p.m, bed.memory.put("w", w), p.k])));
};

/** A length of so many blocks, of which the last may be cut. */
const ragged = (bed: Bed, blocks: number, size: number): number => (blocks ? blocks * size - bed.pick(range(size)) : 0);

/** Tests of every kernel that multiplies by a matrix. */
function products(family: Family): Testers {
  const { plans, slack, limit } = family;
  const call = (bed: Bed, kernel: Kernel, p: Matrix, plan: Plan, flags: number, view: View, label: unknown) =>
    checkProduct(bed, p, {
      label: `${plan.name} ${JSON.stringify(label)}`,
      flags,
      view,
      slack,
      plan: () => plan(bed, kernel, p),
    });
  /** A random choice of what the sizes leave open. */
  const check = (
    bed: Bed,
    kernel: Kernel,
    sizes: MatrixSizes,
    open: { plan?: Plan; flags?: number; view?: View } = {},
  ) => {
    const { plan = bed.pick(plans), flags = bed.pick(FLAGS), view = bed.pick(VIEWS) } = open;
    call(bed, kernel, matrix(bed, kernel, family, sizes), plan, flags, view, sizes);
  };
  const stripsOf = ({ op }: Kernel) => (op === "spmv" ? [1] : STRIPS);
  return {
    "sizes around its tile and block, from dense to empty"(bed, kernel) {
      for (const m of family.rows(kernel)) {
        for (const channels of family.columns(kernel)) {
          for (const zeros of ZEROS) check(bed, kernel, { m, channels, zeros, strips: bed.pick(stripsOf(kernel)) });
        }
      }
    },
    "every flag, view and count of strips"(bed, kernel) {
      const [r, c] = kernel.block;
      for (const strips of stripsOf(kernel)) {
        for (const flags of FLAGS) {
          for (const view of VIEWS) {
            for (const plan of plans) {
              const [m, channels] = [ragged(bed, MIXED.length, r), ragged(bed, 11, c)];
              check(bed, kernel, { m, channels, counts: MIXED, strips }, { flags, view, plan });
            }
          }
        }
      }
    },
    "rows of 0 to 9 blocks"(bed, kernel) {
      const [r, c] = kernel.block;
      for (const rows of [...range(10), 16, 17]) {
        for (const count of range(10)) {
          for (const plan of plans) {
            const [m, channels] = [ragged(bed, rows, r), ragged(bed, 13, c)];
            check(bed, kernel, { m, channels, counts: new Array(rows).fill(count) }, { plan });
          }
        }
      }
    },
    "NaN and infinities reach y through stored weights only"(bed, kernel) {
      const [r, c] = kernel.block;
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const flags of FLAGS) {
          for (const plan of plans) {
            for (const where of ["first", "any", "last"]) {
              const [m, channels] = [ragged(bed, MIXED.length, r), ragged(bed, 23, c)];
              // Two rows want column 0, which is where padded lanes would look if nobody told them where; none column 1.
              const rank = (row: number, col: number) => (col > 1 ? bed.rnd() : col ? 3 : row < 2 ? -1 : 2);
              const counts = MIXED.map((count) => (limit ? 23 : count + 1));
              const w = weights(m, channels, kernel.block, occupied(counts, 23, rank, limit), bed.rnd);
              const strips = kernel.op === "spmv" ? 1 : 2;
              const p = matrix(bed, kernel, family, { m, channels, w, strips });
              const readers = range(p.k).map((j) => range(m).filter((row) => p.stored[row * p.k + j]));
              const all = kernel.format === "dense" || (limit && limit[0] === limit[1]);
              assert.is(!readers.every((rows) => rows.length), !all, "columns that no row stores");
              readers.forEach((rows, j) => {
                for (const n of p.columns as number[])
                  if (!rows.length) p.x[p.input(0, j) + n] = n % 2 ? Infinity : NaN;
              });
              const read = range(p.k).filter((j) => readers[j].length);
              const j = where === "any" ? bed.pick(read) : read.at(where === "first" ? 0 : -1 - bed.pick(range(4)))!;
              p.x[p.input(0, j) + p.columns.length - 1] = value;
              const label = { m, channels, value: `${value}`, j };
              const y = call(bed, kernel, p, plan, flags, bed.pick(VIEWS), label);
              reaches(
                y,
                value,
                flags,
                readers[j].map((row) => w[row * p.k + j]),
              );
            }
          }
        }
      }
    },
  };
}

/** Twenty rows of 0 to 9 blocks, out of order. */
const MIXED = range(20).map((row) => (row * 7) % 10);

/** Taps and groups: what convolutions ask of the kernels for many columns. */
const convolutions = (family: Family): Testers => ({
  "taps and groups"(bed, kernel) {
    for (const taps of [[0], [1], [0, 5], [7, 0, 2], [0, 1, 2, 9, 10, 11, 18, 19, 20]]) {
      for (const groups of [1, 2, 3]) {
        for (const channels of [0, 1, 2, 7]) {
          for (const perGroup of [1, 2, 7]) {
            const strips = bed.pick(STRIPS);
            // A block lies in one group.
            const m = groups * perGroup * kernel.block[0];
            const sizes = { m, channels, taps, groups, zeros: bed.pick(ZEROS), strips };
            const p = matrix(bed, kernel, family, sizes);
            for (const plan of family.plans) {
              const open = { flags: bed.pick(FLAGS), view: bed.pick(VIEWS), slack: family.slack };
              checkProduct(bed, p, { ...open, label: JSON.stringify(sizes), plan: () => plan(bed, kernel, p) });
            }
          }
        }
      }
    }
  },
});

/** Channels and rows cut into passes. */
const passes = (family: Family): Testers => ({
  "passes of eight rows, each with its own place in y and the bias"(bed, kernel) {
    const [r] = kernel.block;
    for (const flags of FLAGS) {
      for (const channelsPerBlock of [Infinity, Math.floor(20 / r)]) {
        const m = 16 + ragged(bed, 5, r);
        const sizes = { m, channels: 96, zeros: 0.5, strips: 2, channelsPerBlock, rowsPerPass: 8 };
        const p = matrix(bed, kernel, family, sizes);
        const plan = () => {
          const lowered = lowerBlocks(bed.memory, blocksOf(p, kernel), p.map);
          assert.is(new Set(lowered.passes.map(({ row }) => row)).size, Math.ceil(m / 8));
          return runPasses(bed, kernel, p, lowered.passes);
        };
        checkProduct(bed, p, { label: JSON.stringify(sizes), flags, view: bed.pick(VIEWS), slack: family.slack, plan });
      }
    }
  },
  "passes that add up"(bed, kernel) {
    const [r] = kernel.block;
    for (const flags of FLAGS) {
      for (const strips of STRIPS) {
        for (const taps of [[0], [0, 5]]) {
          for (const zeros of [0, 0.5]) {
            const m = ragged(bed, 5, r);
            const channelsPerBlock = Math.floor(20 / r);
            const sizes = { m, channels: 160, taps, zeros, strips, channelsPerBlock };
            const p = matrix(bed, kernel, family, sizes);
            const plan = () => {
              const lowered = lowerBlocks(bed.memory, blocksOf(p, kernel), p.map);
              assert.ok(lowered.passes.length > 2, "too few passes to tell first, middle and last");
              return runPasses(bed, kernel, p, lowered.passes);
            };
            checkProduct(bed, p, {
              label: JSON.stringify(sizes),
              flags,
              view: bed.pick(VIEWS),
              slack: family.slack,
              plan,
            });
          }
        }
      }
    }
  },
});

/** More inputs than a dense pass takes are cut, by channels. */
const densePasses: Testers = {
  "passes that add up"(bed, kernel) {
    for (const flags of FLAGS) {
      for (const [channels, taps, groups] of [
        [1000, [0], 1],
        [340, [0, 5, 2], 1],
        [3, range(400), 1],
        [520, [7, 0], 2],
      ] as const) {
        const m = groups * bed.pick([1, 4, 5, 7]);
        const sizes = { m, channels, taps: [...taps], groups, strips: bed.pick([1, 2]) };
        const p = matrix(bed, kernel, DENSE, sizes);
        const weights = { rows: p.m, cols: p.k, data: p.w };
        const plan = () => {
          const lowered = lowerDense(bed.memory, weights, p.map, bed.kernels.dense_gemm_rows());
          assert.ok(lowered.passes.length > 2 * groups, "too few passes to tell first, middle and last");
          return runPasses(bed, kernel, p, lowered.passes);
        };
        const label = JSON.stringify({ ...sizes, taps: taps.length });
        checkProduct(bed, p, { label, flags, view: bed.pick(VIEWS), slack: {}, plan });
      }
    }
  },
};

/** More columns than the kernels' place holds are cut into passes. */
const vectorPasses = (family: Family): Testers => ({
  "more columns than one pass brings"(bed, kernel) {
    const [r, c] = kernel.block;
    const check = (channels: number, flags: number) => {
      const rows = bed.pick([1, 2, unitsOf(kernel) + 1]);
      const m = ragged(bed, rows, r);
      const width = Math.ceil(channels / c);
      // A few anywhere, and on both sides of each cut; none in some rows.
      const blocks = new Uint8Array(rows * width);
      for (let row = 0; row < rows; row++) {
        for (let edge = 0; edge <= channels; edge += VECTOR_COLUMNS) {
          for (const col of [edge / c - 1, edge / c]) {
            if (col >= 0 && col < width) blocks[row * width + col] = bed.pick([0, 1]);
          }
        }
        for (let i = bed.pick([0, 1, 9]); i > 0; i--) blocks[row * width + Math.floor(bed.rnd() * width)] = 1;
      }
      const w = weights(m, channels, kernel.block, blocks, bed.rnd);
      const p = matrix(bed, kernel, family, { m, channels, w });
      const plan = () => {
        const lowered = lowerSlices(bed.memory, blocksOf(p, kernel));
        assert.is(lowered.passes.length, Math.ceil(channels / VECTOR_COLUMNS), "passes");
        return runVector(bed, kernel, p, lowered.passes);
      };
      checkProduct(bed, p, { label: `${m} × ${channels}`, flags, view: bed.pick(VIEWS), slack: family.slack, plan });
    };
    for (const channels of [VECTOR_COLUMNS, VECTOR_COLUMNS + 1]) check(channels, bed.pick(FLAGS));
    for (const flags of FLAGS) check(VECTOR_COLUMNS * 2 + bed.pick(range(9)), flags);
  },
});

/** Blocks of which any number is not zero. */
function storedBlocks(w: Float32Array, m: number, k: number, { block: [r, c] }: Kernel): Uint8Array {
  const width = Math.ceil(k / c);
  const blocks = new Uint8Array(Math.ceil(m / r) * width);
  const stored = new Uint8Array(w.length);
  for (const found of [false, true]) {
    for (let row = 0, i = 0; row < m; row++) {
      const start = Math.floor(row / r) * width;
      for (let j = 0; j < k; j++, i++) {
        const block = start + Math.floor(j / c);
        if (found) stored[i] = blocks[block];
        else if (w[i] !== 0) blocks[block] = 1;
      }
    }
  }
  return stored;
}

/** Of each group the nonzeros, and zeros from the first on where they are fewer than n. */
const storedGroups =
  ([n, m]: Limit): Family["stored"] =>
  (w, rows, k) => {
    const stored = new Uint8Array(w.length);
    for (const start of grid([rows, k], [Math.ceil(k / m), m])) {
      const group = range(Math.min(m, k - (start % k))).map((i) => start + i);
      const order = [...group.filter((i) => w[i] !== 0), ...group.filter((i) => w[i] === 0)];
      for (const i of order.slice(0, n)) stored[i] = 1;
    }
    return stored;
  };

const storedAll: Family["stored"] = (w) => new Uint8Array(w.length).fill(1);

const union = (...lists: number[][]): number[] => [...new Set(lists.flat())];

const ENTRIES: Family = {
  plans: [blocksLowered, blocksByHand],
  rows: ({ tile, block: [r] }) => union(around(tile), around(r)),
  columns: ({ tile }) => around(tile),
  stored: storedBlocks,
  slack: {},
};

/** The header's 12 bytes behind bias. */
const BLOCKS: Family = { ...ENTRIES, slack: { bias: 12 } };

const CSR_VECTOR: Family = {
  plans: [slicesLowered, slicesByHand],
  // Around what a vector holds, a block, a slice; and around what a turn of four steps takes.
  rows: (kernel) => union(around(4), around(kernel.block[0]), around(kernel.block[0] * unitsOf(kernel)), [16, 17]),
  columns: ({ block: [, c] }) => union(around(c), around(4 * c), [16, 17]),
  stored: storedBlocks,
  brings: true,
  slack: {},
};

/** The header's 12 bytes behind y and bias. */
const BLOCK_VECTOR: Family = { ...CSR_VECTOR, slack: { y: 12, bias: 12 } };

const nmVector = (limit: Limit): Family => ({
  plans: [nmLowered(limit), nmByHand(limit)],
  rows: () => union(around(8), [4, 5, 12, 13, 17]),
  columns: () => union(around(limit[1]), [16, 17]),
  limit,
  stored: storedGroups(limit),
  slack: { x: 12, y: 12, bias: 12 },
});

/** All N:M that the kernel takes. */
const LIMITED: Limit[] = [2, 3, 4].flatMap((m) => range(m).map((n): Limit => [n + 1, m]));

const DENSE: Family = {
  plans: [denseLowered, denseByHand],
  // All remainders of 6 and of 4 rows, with no, one and two full blocks before them.
  rows: ({ tile }) => union(range(18), around(tile)),
  columns: ({ tile }) => around(tile),
  stored: storedAll,
  slack: {},
};

const DENSE_VECTOR: Family = {
  plans: [denseVectorLowered, denseVectorByHand],
  rows: () => [...around(16), ...range(15).slice(4), 47],
  columns: () => around(16),
  stored: storedAll,
  // The header's 12 bytes behind bias; behind y what every buffer has.
  slack: { bias: 12, y: TAIL },
};

interface DepthwiseSizes {
  inputs: number;
  multiplier: number;
  tapCount: number;
  rows: number;
  cols: number;
}

/** A depthwise product: row c of W is one channel's kernel, the columns are the pixels of an output plane. */
function depthwiseProduct(bed: Bed, { inputs, multiplier, tapCount, rows, cols }: DepthwiseSizes) {
  const channels = inputs * multiplier;
  const pitch = cols + 5;
  const taps = range(tapCount).map((t) => Math.floor(t / 3) * pitch + (t % 3));
  const last = Math.max(0, ...taps);
  const plane = Math.max(0, rows - 1) * pitch + last + cols + 1;
  const product: Product = {
    m: channels,
    k: tapCount,
    w: values(channels * tapCount, 0, bed.rnd),
    stored: new Uint8Array(channels * tapCount).fill(1),
    x: values(inputs && rows && cols ? (inputs - 1) * plane + (rows - 1) * pitch + last + cols : 0, 0, bed.rnd),
    input: (row, t) => Math.floor(row / multiplier) * plane + taps[t],
    columns: grid([rows, pitch], [cols, 1]),
    yPitch: rows * cols,
  };
  const plan = (kernel: Kernel) => (): Launch => {
    const offsets = taps.map((t) => t * 4);
    const weights = [bed.memory.put("taps", offsets), tapCount, bed.memory.put("w", product.w)];
    const run = bed.kernels[kernel.name];
    return (x, y, ...ending) =>
      run(channels, multiplier, ...weights, x, plane * 4, pitch * 4, y, rows, cols, ...ending);
  };
  return { product, plan, pitch };
}

/** The header's 28 bytes; behind y what every buffer has. */
const DEPTHWISE_SLACK = { x: 28, y: TAIL };

function checkDepthwise(
  bed: Bed,
  kernel: Kernel,
  sizes: DepthwiseSizes,
  flags = bed.pick(FLAGS),
  view = bed.pick(VIEWS),
) {
  const { product, plan } = depthwiseProduct(bed, sizes);
  const call = { label: JSON.stringify(sizes), flags, view, slack: DEPTHWISE_SLACK };
  checkProduct(bed, product, { ...call, plan: plan(kernel) });
}

const depthwise: Testers = {
  "kernels, columns and multipliers"(bed, kernel) {
    for (const tapCount of [0, 1, 2, 5, 9, 25]) {
      for (const cols of [...range(20), 32, 37]) {
        for (const multiplier of [1, 2, 3]) {
          const [inputs, rows] = [bed.pick([1, 2, 3]), bed.pick([1, 2, 3])];
          checkDepthwise(bed, kernel, { inputs, multiplier, tapCount, rows, cols });
        }
      }
    }
  },
  "every flag and view, none to three rows and inputs"(bed, kernel) {
    for (const tapCount of [9, 4]) {
      for (const flags of FLAGS) {
        for (const view of VIEWS) {
          for (const [inputs, rows] of pairs(4)) {
            checkDepthwise(bed, kernel, { inputs, multiplier: 2, tapCount, rows, cols: 21 }, flags, view);
          }
        }
      }
    }
  },
  "NaN and infinities reach the pixels around them only"(bed, kernel) {
    for (const tapCount of [9, 4]) {
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const flags of FLAGS) {
          const sizes = { inputs: 2, multiplier: 2, tapCount, rows: 5, cols: 21 };
          const { product, plan, pitch } = depthwiseProduct(bed, sizes);
          // In the second input, which both of the last two channels read, where each tap meets it once.
          product.x[product.input(2, 0) + 2 * pitch + 9] = value;
          const call = { label: `${value}`, flags, view: bed.pick(VIEWS), slack: DEPTHWISE_SLACK };
          const y = checkProduct(bed, product, { ...call, plan: plan(kernel) });
          reaches(y, value, flags, new Array(2 * tapCount).fill(1));
        }
      }
    }
  },
};

interface NineTaps {
  inputs: number;
  multiplier: number;
  stride: number;
  rows: number;
  cols: number;
  /** Zeros above, left, below and right; and rows and columns of the image that no tap reaches. */
  zeros: readonly number[];
  spare: number;
}

/** A 3 × 3 depthwise product over padded planes; the kernel gets the images without their zeros. */
function nineTaps(
  bed: Bed,
  { inputs, multiplier, stride, rows, cols, zeros: [top, left, below, right], spare }: NineTaps,
) {
  const [h, w] = [(rows - 1) * stride + 3 + spare, (cols - 1) * stride + 3 + spare];
  const inside = (r: number, c: number) => r >= top && r < h - below && c >= left && c < w - right;
  const taps = range(9).map((t) => Math.floor(t / 3) * w + (t % 3));
  const channels = inputs * multiplier;
  const product: Product = {
    m: channels,
    k: 9,
    w: values(channels * 9, 0, bed.rnd),
    stored: new Uint8Array(channels * 9).fill(1),
    x: values(inputs * h * w, 0, bed.rnd).map((v, i) => (inside(Math.floor(i / w) % h, i % w) ? v : 0)),
    input: (row, t) => Math.floor(row / multiplier) * h * w + taps[t],
    columns: grid([rows, stride * w], [cols, stride]),
    yPitch: rows * cols,
  };
  const plan = (kernel: Kernel) => (): Launch => {
    const [height, width] = [h - top - below, w - left - right];
    const image = gather(
      product.x,
      grid([inputs, h * w], [height, w], [width, 1]).map((at) => at + top * w + left),
    );
    const [weights, at] = [bed.memory.put("w", product.w), bed.memory.put("image", image)];
    const masks = Math.ceil(cols / 4) * 12;
    const edges = range(masks + 4 + width + 12).map((i) => {
      const column = (Math.floor(i / 12) * 4 + (i % 4)) * stride - left + (Math.floor(i / 4) % 3);
      return i < masks && column >= 0 && column < width ? 0xffffffff : 0;
    });
    const sizes = [channels, multiplier, stride, weights, at, height, width, top, left, bed.memory.put("edges", edges)];
    return (_, y, ...ending) => bed.kernels[kernel.name](...sizes, y, rows, cols, ...ending);
  };
  return { product, plan, width: w };
}

function checkNineTaps(bed: Bed, kernel: Kernel, sizes: NineTaps, flags = bed.pick(FLAGS), view = bed.pick(VIEWS)) {
  const { product, plan } = nineTaps(bed, sizes);
  const call = { label: JSON.stringify(sizes), flags, view, slack: { y: TAIL } };
  checkProduct(bed, product, { ...call, plan: plan(kernel) });
}

const ZEROS_AROUND = range(16).map((bits) => range(4).map((side) => (bits >> side) & 1));

const depthwise3x3 = (strides: readonly number[]): Testers => ({
  "strides, zeros on each side, rows and columns"(bed, kernel) {
    for (const stride of strides) {
      for (const zeros of ZEROS_AROUND) {
        for (const cols of [...range(14).slice(1), 16, 17, 29]) {
          const [inputs, multiplier, rows] = [bed.pick([1, 2]), bed.pick([1, 2, 3]), bed.pick([1, 2, 3, 5])];
          const sizes = { inputs, multiplier, stride, rows, cols, zeros, spare: bed.pick(stride > 1 ? [0, 1] : [0]) };
          // An image of nothing but zeros has no rows to read.
          const least = 3 - Math.max(zeros[0] + zeros[2], zeros[1] + zeros[3]);
          if (least > 0) checkNineTaps(bed, kernel, sizes);
        }
      }
    }
  },
  "every flag and view, none to three inputs"(bed, kernel) {
    for (const stride of strides) {
      for (const flags of FLAGS) {
        for (const view of VIEWS) {
          for (const inputs of range(4)) {
            const sizes = { inputs, multiplier: 2, stride, rows: 3, cols: 21, zeros: [1, 1, 1, 1], spare: 0 };
            checkNineTaps(bed, kernel, sizes, flags, view);
          }
        }
      }
    }
  },
  "NaN and infinities reach the pixels around them only"(bed, kernel) {
    for (const stride of strides) {
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const flags of FLAGS) {
          for (const column of [1, 2, 9, 20, 21]) {
            const sizes = { inputs: 2, multiplier: 2, stride, rows: 5, cols: 21, zeros: [1, 1, 1, 1], spare: 0 };
            const { product, plan, width } = nineTaps(bed, sizes);
            product.x[product.input(2, 0) + 2 * width + column] = value;
            const call = { label: `${value} at ${column}`, flags, view: bed.pick(VIEWS), slack: { y: TAIL } };
            const y = checkProduct(bed, product, { ...call, plan: plan(kernel) });
            // Of the taps those that an output in the plane has there.
            const meets = (t: number) => {
              const [r, c] = [2 - Math.floor(t / 3), column - (t % 3)];
              return r % stride === 0 && c >= 0 && c % stride === 0 && c / stride < 21;
            };
            reaches(y, value, flags, new Array(2 * range(9).filter(meets).length).fill(1));
          }
        }
      }
    }
  },
});

// ------------------------------------------------------------------------------------- products with sparse activations

/** Lists of one unit that meet outputs of the same one through a tap. */
type Meeting = readonly [list: number, tap: number, output: number];

/** y[unit, p, row] = Σ over the meetings of p and the elements of their lists of W[row, (channel, tap)] · element, in row's group. */
interface Walk extends Weights {
  /** For each place of W whether it is multiplied. */
  stored: Uint8Array;
  /** Channels of all groups. */
  channels: number;
  units: number;
  reach: Reach;
  meetings: Meeting[];
  indptr: Uint32Array;
  indices: Uint32Array;
  data: Float32Array;
}

/** Which outputs read which lists: each row its own; each tap at any places by itself; taps that go together. */
const MEETINGS = ["rows", "apart", "together"] as const;

interface WalkSizes {
  m: number;
  /** Channels of one group. */
  channels: number;
  taps?: number;
  groups?: number;
  /** Of all units. */
  outputs?: number;
  meet?: (typeof MEETINGS)[number];
  /** Share of W's blocks that are zero. */
  zeros?: number;
  /** Instead, the blocks of each column of W. */
  counts?: readonly number[];
  /** Instead, W itself. */
  w?: Float32Array;
  /** Share of the inputs that are active, and every output meets a list; otherwise it differs from list to list. */
  density?: number;
}

/** Lays out W's columns for a kernel: the address of its plan. */
type ColumnPlan = (bed: Bed, kernel: Kernel, walk: Walk) => number;

/** Numbers in as many blocks of each column as its count. */
function columnWeights(bed: Bed, m: number, k: number, [r]: Kernel["block"], counts: readonly number[]): Float32Array {
  const rows = Math.ceil(m / r);
  const columns = occupied(counts, rows, () => bed.rnd());
  const blocks = new Uint8Array(columns.length);
  for (let row = 0; row < rows; row++) for (let j = 0; j < k; j++) blocks[row * k + j] = columns[j * rows + row];
  return weights(m, k, [r, 1], blocks, bed.rnd);
}

/** Taps one behind the other reach outputs side by side, the last one the first. */
const together = (taps: number, pitch: number): Tap[] =>
  range(taps).map((tap) => ({ tap, at: (taps - 1 - tap) * pitch }));

/** A reach of each kind, and what it says of one unit. */
function reachOf(
  bed: Bed,
  kernel: Kernel,
  m: number,
  taps: number,
  groups: number,
  outputs: number,
  meet: WalkSizes["meet"],
  every: boolean,
): { reach: Reach; meetings: Meeting[] } {
  const { rnd } = bed;
  const vectors = Math.ceil(m / 8) * 32;
  if (meet === "rows") {
    const reach = { taps, groups, inputs: 1, outputs: 1, pitch: vectors, inPlace: m % 8 === 0 };
    const runs = [[{ tap: 0, at: 0 }]];
    return {
      reach: { ...reach, runs, parts: [{ run: 0, from: 0, to: 1 }], visits: new Uint32Array(3) },
      meetings: [[0, 0, 0]],
    };
  }
  // Dense columns are whole outputs.
  const dense = kernel.format === "dense";
  const pitch = vectors + (dense ? 0 : bed.pick([0, 32]));
  const inputs = bed.pick([1, 2, 5]);
  const runs: Tap[][] = meet === "apart" ? range(taps).map((tap) => [{ tap, at: 0 }]) : [together(taps, pitch)];
  const parts: Part[] = [];
  const visits: number[] = [];
  const meetings: Meeting[] = [];
  const visit = (list: number, run: number, from: number, to: number, output: number) => {
    // Dense columns start with the part, others where the run does.
    const base = dense ? 0 : runs[run][to - 1].at;
    visits.push(list, parts.push({ run, from, to }) - 1, output * pitch - base);
    for (let t = from; t < to; t++) {
      const { tap, at } = runs[run][t];
      meetings.push([list, tap, output + (at - runs[run][to - 1].at) / pitch]);
    }
  };
  if (meet === "apart") {
    for (const p of range(outputs)) {
      for (const t of range(taps)) if (every || rnd() >= 0.2) visit(bed.pick(range(inputs)), t, 0, 1, p);
    }
  } else {
    for (let i = 0; i < outputs * 3; i++) {
      const from = bed.pick(range(taps));
      const to = from + 1 + bed.pick(range(Math.min(taps - from, outputs)));
      visit(bed.pick(range(inputs)), 0, from, to, bed.pick(range(outputs - (to - from) + 1)));
    }
  }
  const reach = { taps, groups, inputs, outputs, pitch, inPlace: true, runs, parts };
  return { reach: { ...reach, visits: Uint32Array.from(visits) }, meetings };
}

function walkOf(bed: Bed, kernel: Kernel, o: WalkSizes): Walk {
  const { m, taps = 1, groups = 1, outputs = 1, zeros = 0, density } = o;
  const { rnd } = bed;
  const k = o.channels * taps;
  const blockRows = Math.ceil(m / kernel.block[0]);
  const counts = o.counts ?? range(k).map(() => range(blockRows).filter(() => rnd() >= zeros).length);
  const w = o.w ?? columnWeights(bed, m, k, kernel.block, counts);
  const channels = o.channels * groups;
  const able = MEETINGS.filter(
    (x) => (x !== "rows" || taps === 1) && (x !== "together" || (taps > 0 && density === undefined)),
  );
  const meet = o.meet ?? bed.pick(able);
  const units = meet === "rows" ? outputs : outputs % 2 === 0 ? bed.pick([1, 2]) : 1;
  const { reach, meetings } = reachOf(bed, kernel, m, taps, groups, outputs / units || 0, meet, density !== undefined);
  // Lists of another sample lie before: they begin anywhere, and what is there would show.
  const before = bed.pick([0, 3]);
  const indices: number[] = new Array(before).fill(0);
  const indptr = [before];
  for (let r = 0; r < units * reach.inputs; r++) {
    const share = density ?? bed.pick([0, 0.1, 0.5, 0.9, 1]);
    for (let c = 0; c < channels; c++) if (rnd() < share) indices.push(c);
    indptr.push(indices.length);
  }
  const data = values(indices.length, 0, rnd);
  data.fill(NaN, 0, before);
  const stored = kernel.format === "dense" ? new Uint8Array(w.length).fill(1) : storedBlocks(w, m, k, kernel);
  const lists = { indptr: Uint32Array.from(indptr), indices: Uint32Array.from(indices), data };
  return { m, k, w, stored, channels, units, reach, meetings, ...lists };
}

function walkOracle(o: Walk, { y0, bias, lo, hi }: Ending): Expected {
  const { m, k, w, units, reach, meetings, indptr, indices, data } = o;
  const { taps, groups, inputs, outputs } = reach;
  const perGroup = o.channels / groups;
  const y = new Float64Array(units * outputs * m);
  const bound = new Float64Array(y.length);
  for (let p = 0, i = 0; p < units * outputs; p++) {
    const unit = Math.floor(p / outputs);
    const met = meetings.filter(([, , output]) => output === p % outputs);
    for (let row = 0; row < m; row++, i++) {
      const first = Math.floor(row / (m / groups)) * perGroup;
      let sum = (y0?.[i] ?? 0) + (bias?.[row] ?? 0);
      let size = Math.abs(y0?.[i] ?? 0) + Math.abs(bias?.[row] ?? 0);
      let terms = 2;
      for (const [list, tap] of met) {
        const at = unit * inputs + list;
        for (let e = indptr[at]; e < indptr[at + 1]; e++) {
          const channel = indices[e] - first;
          const place = row * k + channel * taps + tap;
          if (channel < 0 || channel >= perGroup || !o.stored[place]) continue;
          const term = w[place] * data[e];
          sum += term;
          size += Math.abs(term);
          terms++;
        }
      }
      y[i] = Math.min(hi, Math.max(lo, sum));
      bound[i] = allowed(terms, size);
    }
  }
  return { y, bound };
}

const columnsLowered: ColumnPlan = ({ memory }, kernel, o) => {
  const lowered =
    kernel.format === "dense"
      ? lowerDenseColumns(memory, { rows: o.m, cols: o.k, data: o.w }, o.reach)
      : lowerColumns(memory, blocksOf(o, kernel), o.reach);
  return lowered.passes[0].plan;
};

/** After the header of assembly/spmspv.ts: columns for each part by themselves. */
const columnsByHand: ColumnPlan = ({ memory }, kernel, o) => {
  const { m, k, channels, reach } = o;
  const { taps, groups, inputs, outputs, pitch, inPlace, runs, parts, visits } = reach;
  const [r] = kernel.block;
  const perGroup = channels / groups;
  const dense = kernel.format === "dense";
  const floats = pitch / 4;
  const columns: number[] = [];
  const records: number[] = [];
  const tables: [at: number, bytes: number][] = [];
  // Of dense ones the longest part tells how far apart channels are.
  const widest = Math.max(0, ...parts.map(({ from, to }) => to - from)) + 1;
  for (const { run, from, to } of parts) {
    const part = runs[run].slice(from, to);
    const start = part[part.length - 1].at;
    tables.push([dense ? columns.length : records.length, dense ? part.length * pitch : 0]);
    for (const c of range(channels)) {
      if (dense) {
        const sums: number[] = new Array(widest * floats).fill(0);
        for (const { tap, at } of part) {
          for (const row of range(m)) sums[(at - start) / 4 + row] = bitsOf(o.w[row * k + c * taps + tap]);
        }
        columns.push(...sums);
        continue;
      }
      const group = Math.floor(c / perGroup);
      // Last tap first and last block first, which the engine does not. Its sums start where the run's do.
      const entries = [...part].reverse().flatMap(({ tap, at }) => {
        const j = (c % perGroup) * taps + tap;
        return range(Math.ceil(m / r))
          .filter((b) => Math.floor((b * r) / (m / groups)) === group && o.stored[b * r * k + j])
          .reverse()
          .map((b) => ({ place: (at + b * r * 4) / (r === 1 ? 4 : 8), numbers: numbersOf(o, kernel, b, j) }));
      });
      const places = halves(entries.map(({ place }) => place));
      while (r > 1 && places.length % 4) places.push(GUARD_WORD);
      records.push(columns.length * 4, entries.length | ((places.length * 2) << 16));
      columns.push(...places, ...entries.flatMap(({ numbers }) => numbers));
    }
  }
  const at = memory.put("columns", columns);
  const recordsAt = memory.put(
    "records",
    records.map((word, i) => (i % 2 ? word : at + word)),
  );
  const told = range(visits.length / 3).flatMap((i) => {
    const [list, part, to] = visits.subarray(i * 3);
    const [from, bytes] = tables[part];
    return [list, (dense ? at : recordsAt) + from * 4, to, bytes];
  });
  const visitsAt = memory.put("visits", told);
  const ahead = dense ? widest * pitch : 1;
  const sums = [inputs * 4, visitsAt, visitsAt + told.length * 4, ahead, inPlace ? 1 : 0];
  return memory.put("plan", [m, pitch, outputs * pitch, ...sums]);
};

/** Bytes from a column's start on that kernels may read ahead. */
const AHEAD = 208;

const COLUMN_PLANS: ColumnPlan[] = [columnsLowered, columnsByHand];
const LISTED = ["indptr", "indices", "data"];
const WALK_VIEWS = viewsOf("y", "bias", "work", ...LISTED, "columns", "records", "visits", "plan");

const asFloats = (words: Uint32Array): Float32Array => new Float32Array(words.buffer, words.byteOffset, words.length);

interface WalkCall {
  label: string;
  plan: ColumnPlan;
  flags: number;
  view: View;
}

/** Runs a product with sparse activations and compares it with the oracle. */
function checkWalk(bed: Bed, kernel: Kernel, o: Walk, { label: of, plan, flags, view }: WalkCall): Float32Array {
  const { m, units, reach } = o;
  const { outputs, inPlace } = reach;
  // Where sums lie elsewhere, or fill whole vectors, y needs no more than their floats.
  const alone = outputs === 1 && (!inPlace || m % 8 === 0);
  const pitch = reach.pitch / 4;
  const stride = alone ? m + bed.pick([0, 1, 4]) : outputs * pitch + bed.pick([0, 4]);
  const places = grid([units, stride], [outputs, pitch], [m, 1]);
  const beside = inPlace
    ? grid([units, stride], [outputs, pitch], [Math.ceil(m / 8) * 8 - m, 1]).map((i) => i + m)
    : [];
  const y0 = flags & ACCUMULATE ? values(places.length, 0, bed.rnd) : undefined;
  const bias = flags & BIAS ? values(m, 0, bed.rnd) : undefined;
  const [lo, hi] = flags & CLAMP ? [-1, 1.5] : [-Infinity, Infinity];
  const lists = { indptr: asFloats(o.indptr), indices: asFloats(o.indices), data: o.data };
  const label = `${plan.name} ${of}, flags ${flags}, view ${JSON.stringify(view)}`;
  const actual = bed.perform({
    label,
    view,
    slack: { y: 12, bias: 12, columns: kernel.format === "dense" ? 0 : AHEAD },
    inputs: bias ? { ...lists, bias } : lists,
    y: inPlace ? Math.max(endOf(places), endOf(Uint32Array.from(beside))) : endOf(places),
    places,
    junk: Uint32Array.from(beside),
    work: Math.ceil(m / 8) * 8 + 4,
    prepare(at) {
      if (y0) places.forEach((place, i) => (bed.memory.f32[at.y / 4 + place] = y0[i]));
      const from = [plan(bed, kernel, o), units, ...LISTED.map((name) => at[name])];
      // Without the flag the limits are such that using them would show.
      const limits = flags & CLAMP ? [lo, hi] : [1e9, 1e9];
      return () => bed.kernels[kernel.name](...from, at.work, at.y, stride * 4, at.bias ?? NOWHERE, flags, ...limits);
    },
  });
  close(actual, walkOracle(o, { y0, bias, lo, hi }), label);
  return actual;
}

/** Products with sparse activations, for each format; `groups` where its stream knows them. */
function walks(groups: readonly number[]): Testers {
  const check = (bed: Bed, kernel: Kernel, sizes: WalkSizes, open: Partial<WalkCall> = {}) => {
    const drawn = { plan: bed.pick(COLUMN_PLANS), flags: bed.pick(FLAGS), view: bed.pick(WALK_VIEWS) };
    checkWalk(bed, kernel, walkOf(bed, kernel, sizes), { ...drawn, ...open, label: JSON.stringify(sizes) });
  };
  return {
    "outputs around a vector and a block, inputs of all counts, from dense to empty"(bed, kernel) {
      for (const m of union(around(4), around(8), range(18), [31, 33])) {
        for (const channels of range(10)) {
          for (const zeros of ZEROS) check(bed, kernel, { m, channels, zeros, outputs: bed.pick(range(4)) });
        }
      }
    },
    "every flag and view, none to three outputs"(bed, kernel) {
      for (const outputs of range(4)) {
        for (const flags of FLAGS) {
          for (const view of WALK_VIEWS) {
            for (const plan of COLUMN_PLANS) {
              const m = ragged(bed, bed.pick([1, 2, 5]), Math.max(4, kernel.block[0]));
              check(bed, kernel, { m, channels: 13, zeros: 0.5, outputs, taps: 2 }, { plan, flags, view });
            }
          }
        }
      }
    },
    "columns of 0 to 9 blocks, lists of 0 to 9 elements"(bed, kernel) {
      for (const count of range(10)) {
        for (const channels of range(10)) {
          for (const plan of COLUMN_PLANS) {
            const m = ragged(bed, 10, kernel.block[0]);
            check(bed, kernel, { m, channels, counts: new Array(channels).fill(count), density: 1 }, { plan });
            const counts = range(channels).map((c) => (c + count) % 4);
            check(bed, kernel, { m, channels, counts, density: 1, outputs: 2 }, { plan });
          }
        }
      }
    },
    "taps and groups"(bed, kernel) {
      for (const taps of [0, 1, 2, 9]) {
        for (const group of groups) {
          for (const channels of [0, 1, 2, 7]) {
            for (const perGroup of [1, 2, 3]) {
              // The engine lowers no weight without taps.
              for (const plan of taps ? COLUMN_PLANS : [columnsByHand]) {
                // A block lies in one group.
                const m = group * perGroup * kernel.block[0];
                const zeros = bed.pick(ZEROS);
                check(bed, kernel, { m, channels, taps, groups: group, zeros, outputs: bed.pick([1, 2, 5]) }, { plan });
              }
            }
          }
        }
      }
    },
    "outputs that no list meets"(bed, kernel) {
      for (const flags of FLAGS.filter((f) => f & (ACCUMULATE | BIAS))) {
        for (const plan of COLUMN_PLANS) {
          const o = walkOf(bed, kernel, { m: 13, channels: 5, taps: 3, outputs: 2 });
          o.reach.visits = new Uint32Array(0);
          o.meetings = [];
          checkWalk(bed, kernel, o, { label: "nowhere", plan, flags, view: bed.pick(WALK_VIEWS) });
        }
      }
    },
    "NaN and infinities reach y through stored weights only"(bed, kernel) {
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const flags of FLAGS) {
          for (const plan of COLUMN_PLANS) {
            for (const channel of range(9)) {
              // Columns of 0 to 8 blocks, of 9; every input is active.
              const m = ragged(bed, 9, kernel.block[0]);
              const o = walkOf(bed, kernel, { m, channels: 9, counts: range(9), density: 1, outputs: 2 });
              for (let e = o.indptr[0]; e < o.data.length; e++) if (o.indices[e] === channel) o.data[e] = value;
              const call = { label: `${value} in ${channel}`, plan, flags, view: bed.pick(WALK_VIEWS) };
              const y = checkWalk(bed, kernel, o, call);
              const readers = range(m).filter((row) => o.stored[row * 9 + channel]);
              const met = [...readers, ...readers].map((row) => o.w[row * 9 + channel]);
              reaches(y, value, flags, met);
            }
          }
        }
      }
    },
    "columns of every format that it accepts"(bed, kernel) {
      let accepted = 0;
      for (const format of FORMATS) {
        for (const zeros of ZEROS) {
          const [r, c] = blockOf(format);
          const limit: Limit | undefined =
            typeof format !== "string" && format.kind === "nm" ? [format.n, format.m] : undefined;
          const kind = typeof format === "string" ? format : format.kind;
          const group = limit ? limit[1] : 0;
          if (!kernel.accepts({ kind, block: [r, c], group, rowsPerGroup: 0, dense: format === "dense" })) continue;
          accepted++;
          const [m, k] = [bed.pick(range(40)), bed.pick(range(40))];
          const width = Math.ceil(k / c);
          const counts = range(Math.ceil(m / r)).map(() => range(width).filter(() => bed.rnd() >= zeros).length);
          const w = weights(m, k, [r, c], occupied(counts, width, bed.rnd, limit), bed.rnd);
          const o = walkOf(bed, kernel, { m, channels: k, w, outputs: 2 });
          o.stored.fill(1);
          const plan: ColumnPlan = (_, { block: [rows, cols] }) => {
            if (kernel.format === "dense") return columnsLowered(bed, kernel, o);
            const packed = packAs(format, new Source(w, [m, k]));
            if (packed.kind === "dense") throw new Error("a dense matrix has no blocks");
            const blocks = splitBlocks(toBlocks(packed), rows, cols);
            return lowerColumns(bed.memory, blocks, o.reach).passes[0].plan;
          };
          const label = `${JSON.stringify(format)} ${m} × ${k}`;
          for (const flags of FLAGS) checkWalk(bed, kernel, o, { label, plan, flags, view: bed.pick(WALK_VIEWS) });
        }
      }
      assert.ok(accepted > 0, "accepted nothing");
    },
  };
}

// ----------------------------------------------------------------------------------------------------- differential fuzzing

/** Every kind of format, and all blocks. */
const FORMATS: Format[] = [
  "dense",
  "csr",
  ...BLOCK_ROWS.flatMap((rows) => BLOCK_COLS.map((cols): Format => ({ kind: "block", rows, cols }))),
  ...[...LIMITED, [3, 8] as const, [2, 16] as const].map(([n, m]): Format => ({ kind: "nm", n, m })),
  ...[1, 4, 8].map((blockRows): Format => ({ kind: "complementary", overlay: 3, blockRows })),
];

/** Rows and columns that a format stores as one. */
const blockOf = (format: Format): [number, number] => {
  if (typeof format === "string" || format.kind === "nm") return [1, 1];
  return format.kind === "block" ? [format.rows, format.cols] : [format.blockRows ?? 1, 1];
};

/** A matrix and one of its uses. */
interface Use {
  format: Format;
  /** Whether W is used the other way round. */
  transposed: boolean;
  rows: number;
  cols: number;
  zeros: number;
  /** Of a convolution with as many times the rows and inputs. */
  groups: number;
  taps: number[];
  strips: number;
  channelsPerBlock: number;
  rowsPerPass: number;
  flags: number;
  view: View;
  data: number;
}

/** Runs one matrix through a kernel, if that accepts it, and says whether it does. */
function fuzz(bed: Bed, kernel: Kernel, use: Use): boolean {
  const { format, transposed, cols, zeros, flags, view } = use;
  // Only products of many columns know convolutions.
  const conv = kernel.op === "spmm" && !transposed;
  const [groups, taps] = conv ? [use.groups, use.taps] : [1, [0]];
  const [rows, inputs] = [use.rows * groups, cols * taps.length];
  const [r, c] = blockOf(format);
  const limit: Limit | undefined =
    typeof format !== "string" && format.kind === "nm" ? [format.n, format.m] : undefined;
  const accepted = kernel.accepts({
    kind: typeof format === "string" ? format : format.kind,
    block: transposed ? [c, r] : [r, c],
    group: limit && !transposed ? limit[1] : 0,
    rowsPerGroup: groups > 1 ? use.rows : 0,
    dense: format === "dense" || use.data % 2 === 0,
  });
  if (!accepted) return false;

  const run = (at: View): Float32Array => {
    bed.rnd = random(use.data);
    const width = Math.ceil(inputs / c);
    const counts = range(Math.ceil(rows / r)).map(() => range(width).filter(() => bed.rnd() >= zeros).length);
    const w = weights(rows, inputs, [r, c], occupied(counts, width, bed.rnd, limit), bed.rnd);
    const packed = packAs(format, new Source(w, [rows, inputs]));
    const family = { ...FAMILIES[keyOf(kernel)], stored: storedAll };
    const p = matrix(bed, kernel, family, {
      m: transposed ? inputs : rows,
      channels: transposed ? rows : cols,
      w: transposed ? transposeOf(w, rows, inputs) : w,
      strips: kernel.op === "spmv" ? 1 : use.strips,
      taps,
      groups,
      channelsPerBlock: use.channelsPerBlock,
      rowsPerPass: use.rowsPerPass,
    });
    const plan = (): Launch => {
      const { memory } = bed;
      const vector = kernel.op === "spmv";
      if (kernel.format === "dense" || packed.kind === "dense") {
        return (vector ? denseVectorLowered : denseLowered)(bed, kernel, p);
      }
      if (kernel.format === "nm") return runVector(bed, kernel, p, lowerNmVector(memory, packed as NmMatrix).passes);
      const blocks = splitBlocks(transposed ? toTransposedBlocks(packed) : toBlocks(packed), ...kernel.block);
      return vector
        ? runVector(bed, kernel, p, lowerSlices(memory, blocks).passes)
        : runPasses(bed, kernel, p, lowerBlocks(memory, blocks, p.map).passes);
    };
    const label = `${kernel.name} ${JSON.stringify(use)}`;
    return checkProduct(bed, p, { label, flags, view: at, slack: family.slack, plan });
  };
  const y = run(view);
  // Where the buffers lie must not matter. The other build promises no bits.
  if (bed.build === "simd128") sameBits(run({ shift: 8 }), y, `${kernel.name} elsewhere`);
  return true;
}

/** The same matrix through every kernel that accepts it. */
function fuzzAll(bed: Bed): void {
  const kernels = KERNELS.filter(({ op }) => op === "spmm" || op === "spmv");
  const seen = new Set<Kernel>();
  const size = fc.integer({ min: 0, max: 40 });
  for (const [i, format] of FORMATS.entries()) {
    for (const transposed of [false, true]) {
      const use: fc.Arbitrary<Use> = fc.record({
        format: fc.constant<Format>(format),
        transposed: fc.constant(transposed),
        rows: size,
        cols: size,
        // Dense ones more often, or the few large matrices may all be empty.
        zeros: fc.constantFrom(...ZEROS, 0, 0, 0.5),
        groups: fc.constantFrom(1, 2, 3),
        taps: fc.constantFrom([0], [0, 5], [7, 0, 2]),
        strips: fc.constantFrom(1, 1, 2),
        channelsPerBlock: fc.constantFrom(2, Infinity),
        rowsPerPass: fc.constantFrom(8, 16, Infinity),
        flags: fc.constantFrom(...FLAGS),
        view: fc.constantFrom(...VIEWS),
        data: fc.nat(),
      });
      const property = fc.property(use, (u) => {
        for (const kernel of kernels) if (fuzz(bed, kernel, u)) seen.add(kernel);
      });
      // Each with draws of its own: one unlucky draw, of empty matrices only, would otherwise be that of all of them.
      fc.assert(property, { numRuns: 4, seed: seed + 2 * i + Number(transposed) });
    }
  }
  assert.equal(
    kernels.filter((kernel) => !seen.has(kernel)).map(({ name }) => name),
    [],
    "kernels that accepted nothing",
  );
}

// ----------------------------------------------------------------------------------------------------------------- layout

const transpose: Testers = {
  "rows and columns around a square, dense and strided"(bed, kernel) {
    for (const rows of [...range(10), 16, 17]) {
      for (const cols of [...range(10), 16, 17]) {
        for (const gap of [0, 3]) {
          const [from, to] = [cols + gap, rows + 2 * gap];
          const src = anyBits(rows && cols ? (rows - 1) * from + cols : 0, bed.rnd);
          const places = grid([cols, to], [rows, 1]);
          const label = `${rows} × ${cols}, gap ${gap}`;
          const actual = bed.perform({
            label,
            view: bed.pick(viewsOf("src", "y")),
            inputs: { src },
            y: endOf(places),
            places,
            prepare: (at) => () => bed.kernels[kernel.name](rows, cols, at.src, from * 4, at.y, to * 4),
          });
          sameBits(actual, gather(src, grid([cols, 1], [rows, from])), label);
        }
      }
    }
  },
};

const copy: Testers = {
  "none to three planes and rows, from one pair of strides to another"(bed, kernel) {
    for (const planes of range(4)) {
      for (const rows of range(4)) {
        for (const cols of [...range(10), 16, 17]) {
          const [srcRow, dstRow] = [cols + bed.pick([0, 1, 5]), cols + bed.pick([0, 2, 3])];
          const [srcPlane, dstPlane] = [rows * srcRow + bed.pick([0, 7]), rows * dstRow + bed.pick([0, 9])];
          const from = grid([planes, srcPlane], [rows, srcRow], [cols, 1]);
          const to = grid([planes, dstPlane], [rows, dstRow], [cols, 1]);
          const src = anyBits(endOf(from), bed.rnd);
          const label = `${planes} × ${rows} × ${cols}, rows ${srcRow} → ${dstRow}, planes ${srcPlane} → ${dstPlane}`;
          const bytes = [srcPlane * 4, srcRow * 4];
          const actual = bed.perform({
            label,
            view: bed.pick(viewsOf("src", "y")),
            slack: { src: TAIL },
            inputs: { src },
            y: endOf(to),
            places: to,
            prepare: (at) => () =>
              bed.kernels[kernel.name](planes, rows, cols, at.src, ...bytes, at.y, dstPlane * 4, dstRow * 4),
          });
          sameBits(actual, gather(src, from), label);
        }
      }
    }
  },
};

/** Sizes of f32_pad in floats. */
interface PadSizes {
  planes: number;
  rows: number;
  cols: number;
  srcCol: number;
  head: number;
  pitch: number;
  dstPlane: number;
}

/** @param overrun floats that it may write behind the last plane */
function checkPad(bed: Bed, kernel: Kernel, o: PadSizes, overrun: number): void {
  const { planes, rows, cols, srcCol, head, pitch, dstPlane } = o;
  const srcRow = cols * srcCol + 2;
  const srcPlane = rows * srcRow + 3;
  const from = grid([planes, srcPlane], [rows, srcRow], [cols, srcCol]);
  const src = anyBits(endOf(from), bed.rnd);
  const taken = gather(src, from);
  const expected = new Float32Array(planes * dstPlane);
  const words = new Uint32Array(expected.buffer);
  const bits = new Uint32Array(taken.buffer);
  grid([planes, dstPlane], [rows, pitch], [cols, 1]).forEach((place, i) => (words[head + place] = bits[i]));
  const label = JSON.stringify(o);
  const actual = bed.perform({
    label,
    view: bed.pick(viewsOf("src")),
    slack: { src: 28 },
    inputs: { src },
    y: planes * dstPlane + overrun,
    places: grid([planes * dstPlane, 1]),
    overrun: planes ? overrun : 0,
    prepare: (at) => () => {
      const source = [at.src, srcPlane * 4, srcRow * 4, srcCol * 4];
      bed.kernels[kernel.name](planes, rows, cols, ...source, at.y, dstPlane * 4, head * 4, pitch * 4);
    },
  });
  sameBits(actual, expected, label);
}

const pad: Testers = {
  "strides, heads, pitches with shared padding, nothing at all"(bed, kernel) {
    for (const planes of range(4)) {
      for (const cols of [...range(10), 16, 19, 32]) {
        for (const srcCol of [1, 2, 3]) {
          for (const gap of [0, 1, 2, 3]) {
            const pitch = cols + gap;
            const rows = bed.pick([0, 1, 2, 3, 7, 11]);
            const head = bed.pick([0, 0, 1]) * pitch + bed.pick(range(gap + 1));
            const used = head + Math.max(0, rows - 1) * pitch + (rows ? cols : 0);
            const dstPlane = used + bed.pick([0, 1, 3, pitch]);
            checkPad(bed, kernel, { planes, rows, cols, srcCol, head, pitch, dstPlane }, pitch + 3);
          }
        }
      }
    }
  },
  "goes no further than a pitch and 12 bytes past the last plane"(bed, kernel) {
    for (const planes of [1, 2]) {
      for (const rows of [1, 3]) {
        for (const cols of range(10).slice(1)) {
          for (const gap of range(8)) {
            // The last row ends with the plane, so that its zeros are all behind it.
            const pitch = cols + gap;
            const dstPlane = (rows - 1) * pitch + cols;
            for (const srcCol of [1, 2, 3]) {
              checkPad(bed, kernel, { planes, rows, cols, srcCol, head: 0, pitch, dstPlane }, pitch + 3);
            }
          }
        }
      }
    }
  },
};

/** indptr, indices and values as one list of bits, as a kernel's results come. */
function listBits(x: Float32Array, rows: number, cols: number, kept: (i: number) => boolean): Float32Array {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const [indptr, indices, data]: number[][] = [[0], [], []];
  for (let row = 0, i = 0; row < rows; row++) {
    for (let c = 0; c < cols; c++, i++) {
      if (!kept(i)) continue;
      indices.push(c);
      data.push(words[i]);
    }
    indptr.push(indices.length);
  }
  return asFloats(Uint32Array.from([...indptr, ...indices, ...data]));
}

const toLists: Testers = {
  "rows and columns of all counts, thresholds, NaN and zeros of both signs"(bed, kernel) {
    for (const rows of range(5)) {
      for (const cols of [...range(14), 16, 17]) {
        for (const threshold of [0, 0.5, 1e-40, Infinity]) {
          for (const zeros of [0, 0.5, 0.9, 1]) {
            const x = Float32Array.from(wild(rows * cols, 1, bed), (v) =>
              bed.rnd() < zeros ? bed.pick([0, -0, threshold, -threshold]) : v,
            );
            const expected = listBits(x, rows, cols, (i) => !(Math.abs(x[i]) <= Math.fround(threshold)));
            const label = `${rows} × ${cols}, threshold ${threshold}, zeros ${zeros}`;
            const actual = bed.perform({
              label,
              view: bed.pick(viewsOf("x", "y", "indices", "values")),
              slack: { x: 60 },
              inputs: { x },
              y: rows + 1,
              places: grid([rows + 1, 1]),
              lists: (expected.length - rows - 1) / 2,
              prepare: (at) => () => bed.kernels[kernel.name](at.x, rows, cols, threshold, at.y, at.indices, at.values),
            });
            sameBits(actual, expected, label);
          }
        }
      }
    }
  },
};

const fromLists: Testers = {
  "rows and columns of all counts, from empty to full, any bits"(bed, kernel) {
    for (const rows of range(5)) {
      for (const cols of [...range(10), 16, 17]) {
        for (const zeros of ZEROS) {
          for (const before of [0, 3]) {
            const y = anyBits(rows * cols, bed.rnd);
            const words = new Uint32Array(y.buffer);
            const [indptr, indices, data]: number[][] = [
              [before],
              new Array(before).fill(0),
              new Array(before).fill(1),
            ];
            for (let i = 0; i < words.length; i++) {
              if (bed.rnd() < zeros) words[i] = 0;
              else {
                indices.push(i % cols);
                data.push(words[i]);
              }
              if (i % cols === cols - 1) indptr.push(indices.length);
            }
            while (indptr.length <= rows) indptr.push(before);
            const [p, i, d] = [indptr, indices, data].map((list) => asFloats(Uint32Array.from(list)));
            const label = `${rows} × ${cols}, zeros ${zeros}, from ${before}`;
            const actual = bed.perform({
              label,
              view: bed.pick(viewsOf("y", "indptr", "indices", "values")),
              inputs: { indptr: p, indices: i, values: d },
              y: rows * cols,
              places: grid([rows * cols, 1]),
              prepare: (at) => () => bed.kernels[kernel.name](rows, cols, at.indptr, at.indices, at.values, at.y),
            });
            sameBits(actual, y, label);
          }
        }
      }
    }
    // Mostly zeros are what this kernel is for; a full matrix more makes the comparison one to trust.
    const y = values(9999, 0, bed.rnd);
    const list = { indptr: [0, 9999], indices: range(9999) };
    const actual = bed.perform({
      label: "one full row",
      inputs: {
        indptr: asFloats(Uint32Array.from(list.indptr)),
        indices: asFloats(Uint32Array.from(list.indices)),
        values: y,
      },
      y: 9999,
      places: grid([9999, 1]),
      prepare: (at) => () => bed.kernels[kernel.name](1, 9999, at.indptr, at.indices, at.values, at.y),
    });
    sameBits(actual, y, "one full row");
  },
};

// ----------------------------------------------------------------------------------------------------------- elementwise

const COUNTS = [...range(10), 1000];

/** Where a function of one float may go wrong: zeros, denormals, both sides of every bound in exp.ts, what overflows. */
const SPECIAL = [
  0, 1e-45, 1e-40, 1.2e-38, 0.6249999, 0.625, 0.6250001, 1, 87.33, 87.34, 88, 88.72, 88.73, 89, 104, 3e38,
]
  .concat(Infinity)
  .flatMap((v) => [v, -v])
  .concat(NaN);

/** Signed floats up to a size, every fourth of them special. */
const wild = (n: number, size: number, bed: Bed): Float32Array =>
  Float32Array.from({ length: n }, () => (bed.rnd() < 0.25 ? bed.pick(SPECIAL) : (bed.rnd() * 2 - 1) * size));

const LIMITS = [
  [-Infinity, Infinity],
  [0, Infinity],
  [-0.5, 0.75],
] as const;

const clampTo = (v: number, lo: number, hi: number): number => Math.min(hi, Math.max(lo, v));

/** Within 4 ulp, or what flushing a denormal costs. */
const fourUlp = (y: Float64Array): Expected => ({ y, bound: y.map((v) => 4 * 2 ** -23 * Math.abs(v) + 2 ** -126) });

/** A kernel of one operand: calls it over x, in place or not, and gives the results. */
function unary(
  bed: Bed,
  kernel: Kernel,
  x: Float32Array,
  label: string,
  inPlace: boolean,
  ...more: number[]
): Float32Array {
  return bed.perform({
    label,
    view: bed.pick(viewsOf("x", "y")),
    slack: { x: TAIL },
    inputs: { x },
    y: x.length,
    inPlace: inPlace ? "x" : undefined,
    places: grid([x.length, 1]),
    prepare: (at) => () => bed.kernels[kernel.name](x.length, at.x, at.y, ...more),
  });
}

/** A function of one float. */
const curve = (f: (x: number) => number): Testers => ({
  "all counts and sizes, in place too"(bed, kernel) {
    for (const n of COUNTS) {
      for (const size of [1, 10, 100]) {
        for (const inPlace of [false, true]) {
          const x = wild(n, size, bed);
          const label = `n ${n}, up to ${size}, in place ${inPlace}`;
          close(unary(bed, kernel, x, label, inPlace), fourUlp(Float64Array.from(x, f)), label);
        }
      }
    }
  },
  "special values in every lane"(bed, kernel) {
    for (let lane = 0; lane < 4; lane++) {
      const x = Float32Array.from([...new Array<number>(lane).fill(1), ...SPECIAL]);
      close(unary(bed, kernel, x, `from lane ${lane}`, false), fourUlp(Float64Array.from(x, f)), `from lane ${lane}`);
    }
  },
});

const negated = (x: Float32Array): Float32Array => x.map((v) => -v);

const tanh: Testers = {
  ...curve(Math.tanh),
  "odd to the last bit, zero included"(bed, kernel) {
    const x = Float32Array.from([...SPECIAL.filter((v) => !Number.isNaN(v)), ...values(1000, 0, bed.rnd)]);
    const turned = negated(unary(bed, kernel, negated(x), "-x", false));
    sameBits(turned, unary(bed, kernel, x, "x", false), "-tanh(-x)");
  },
};

const clamp: Testers = {
  "limits, all counts, in place too"(bed, kernel) {
    for (const n of COUNTS) {
      for (const [lo, hi] of LIMITS) {
        for (const inPlace of [false, true]) {
          const x = wild(n, 2, bed);
          const expected = Float64Array.from(x, (v) => clampTo(v, lo, hi));
          const label = `n ${n}, ${lo}..${hi}, in place ${inPlace}`;
          close(unary(bed, kernel, x, label, inPlace, lo, hi), exactly(expected), label);
        }
      }
    }
  },
};

const binary: Testers = {
  "sums and products, steps, limits, in place of either operand"(bed, kernel) {
    for (const n of COUNTS) {
      for (const [aStep, bStep] of pairs(2)) {
        for (const inPlace of [undefined, "a", "b"]) {
          for (const [lo, hi] of LIMITS) {
            for (const op of [0, 1]) {
              const inputs = { a: wild(Math.max(n, 1), 2, bed), b: wild(Math.max(n, 1), 2, bed) };
              const expected = Float64Array.from({ length: n }, (_, i) => {
                const [u, v] = [inputs.a[i * aStep], inputs.b[i * bStep]];
                return clampTo(Math.fround(op ? u * v : u + v), lo, hi);
              });
              const label = `op ${op}, n ${n}, steps ${aStep} and ${bStep}, ${lo}..${hi}, in place of ${inPlace}`;
              const actual = bed.perform({
                label,
                view: bed.pick(viewsOf("a", "b", "y")),
                slack: { a: TAIL, b: TAIL },
                inputs,
                y: n,
                inPlace,
                places: grid([n, 1]),
                prepare: (at) => () => bed.kernels[kernel.name](op, n, at.a, aStep, at.b, bStep, at.y, lo, hi),
              });
              close(actual, exactly(expected), label);
            }
          }
        }
      }
    }
  },
};

/** The kernel subtracts in float32, so that is part of the definition; then come the errors of two exp, a sum and two more. */
function softmaxOracle(x: Float32Array, rows: number, n: number): Expected {
  const y = new Float64Array(rows * n);
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * n, (r + 1) * n);
    const top = Math.max(...row);
    const e = Float64Array.from(row, (v) => Math.exp(Math.fround(v - top)));
    const sum = e.reduce((a, b) => a + b, 0);
    e.forEach((v, i) => (y[r * n + i] = v / sum));
  }
  return { y, bound: y.map((v) => (21 + n / 4) * 2 ** -24 * v + 2 ** -126) };
}

const softmax: Testers = {
  "rows of all counts, in place too, with NaN and infinities"(bed, kernel) {
    for (const n of COUNTS) {
      for (const rows of range(4)) {
        for (const size of [1, 100]) {
          for (const odd of [undefined, NaN, Infinity, -Infinity]) {
            const x = values(rows * n, 0, bed.rnd).map((v) => v * size);
            // The second row's: those beside it must not feel it.
            if (odd !== undefined && rows > 1) x[n + Math.floor(bed.rnd() * n)] = odd;
            const inPlace = bed.pick([undefined, "x"]);
            const label = `${rows} rows of ${n}, up to ${size}, one ${odd}, in place ${inPlace}`;
            const actual = bed.perform({
              label,
              view: bed.pick(viewsOf("x", "y")),
              slack: { x: TAIL, y: TAIL },
              inputs: { x },
              y: rows * n,
              inPlace,
              places: grid([rows * n, 1]),
              prepare: (at) => () => bed.kernels[kernel.name](rows, n, at.x, at.y),
            });
            close(actual, softmaxOracle(x, rows, n), label);
          }
        }
      }
    }
  },
};

/** Sizes of f32_k_winners. */
interface WinnersSizes {
  scopes: number;
  scopeRows: number;
  cols: number;
  k: number;
  relu?: boolean;
  exact?: boolean;
}

/** Whether a ranks before b: NaN comes last, behind −Infinity. */
const ranksAbove = (a: number, b: number): boolean => a > b || (Number.isNaN(b) && !Number.isNaN(a));

/** The positions that win in one scope, by sorting it. */
function winnersOf(ranked: Float32Array, k: number, relu: boolean, exact: boolean): Set<number> {
  const order = range(ranked.length).sort((i, j) => {
    const [a, b] = [ranked[i], ranked[j]];
    return ranksAbove(a, b) ? -1 : ranksAbove(b, a) ? 1 : i - j;
  });
  let n = Math.min(k, order.length);
  if (!exact && n > 0) while (n < order.length && !ranksAbove(ranked[order[n - 1]], ranked[order[n]])) n++;
  return new Set(order.slice(0, n).filter((i) => !relu || ranked[i] > 0));
}

function checkWinners(
  bed: Bed,
  kernel: Kernel,
  o: WinnersSizes,
  x: Float32Array,
  kind: string,
  factors?: Float32Array,
) {
  const { scopes, scopeRows, cols, k, relu = false, exact = false } = o;
  const n = scopeRows * cols;
  const rows = scopes * scopeRows;
  const ranked = factors ? x.map((v, i) => v * factors[i % cols]) : x;
  const won = range(scopes).map((s) => winnersOf(ranked.subarray(s * n, (s + 1) * n), k, relu, exact));
  const expected = listBits(x, rows, cols, (i) => won[Math.floor(i / n)].has(i % n));
  const view = bed.pick(viewsOf("x", "factors", "y", "indices", "values", "work"));
  const label = `${kind} ${JSON.stringify(o)}, factors ${!!factors}, view ${JSON.stringify(view)}`;
  const flags = (relu ? 1 : 0) | (exact ? 2 : 0);
  const job = {
    view,
    slack: { x: 60, factors: 12, values: 60, work: 60 },
    inputs: (factors ? { x, factors } : { x }) as Record<string, Float32Array>,
    work: 3 * (n + 4) + 1024,
  };
  const actual = bed.perform({
    ...job,
    label,
    y: rows + 1,
    places: grid([rows + 1, 1]),
    lists: (expected.length - rows - 1) / 2,
    room: x.length + 4,
    prepare: (at) => {
      const to = [at.work, at.y, at.indices, at.values];
      return () => bed.kernels[kernel.name](at.x, rows, cols, scopeRows, k, at.factors ?? 0, flags, ...to);
    },
  });
  sameBits(actual, expected, label);
  if (exact) return;
  // The same winners where they are, into another matrix or x itself.
  const bits = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const wanted = new Float32Array(bits.map((word, i) => (won[Math.floor(i / n)].has(i % n) ? word : 0)).buffer);
  for (const inPlace of [undefined, "x"]) {
    const dense = bed.perform({
      ...job,
      label: `${label}, dense${inPlace ? " in place" : ""}`,
      y: x.length,
      places: grid([x.length, 1]),
      zeros: true,
      inPlace,
      prepare: (at) => () =>
        bed.kernels[kernel.name](at.x, rows, cols, scopeRows, k, at.factors ?? 0, flags | 4, at.work, 0, 0, at.y),
    });
    sameBits(dense, wanted, `${label}, dense`);
  }
}

/** What a scope may hold, by name. Those of one bin share their upper 11 bits. */
const RANKED: Record<string, (bed: Bed) => number> = {
  any: ({ rnd }) => rnd() * 2 - 1,
  wide: (bed) => (bed.rnd() * 2 - 1) * 2 ** bed.pick([-140, -60, 0, 60, 127]),
  "ties, zeros of both signs": (bed) => bed.pick([-1, -0, 0, 0.5, 0.5, 2]),
  "mostly zeros": (bed) => (bed.rnd() < 0.9 ? bed.pick([0, -0]) : bed.rnd() - 0.5),
  "all equal": () => 0.75,
  "all −0": () => -0,
  "all NaN": () => NaN,
  "all Infinity": () => Infinity,
  "all −Infinity": () => -Infinity,
  "all negative": ({ rnd }) => -rnd() - 0.01,
  special: (bed) => bed.pick([...SPECIAL, NaN, NaN, Infinity, -Infinity]),
  "half NaN": (bed) => (bed.rnd() < 0.5 ? NaN : bed.rnd() - 0.5),
  denormals: (bed) => Math.floor(bed.rnd() * 64 - 32) * 1e-45,
  "one bin": ({ rnd }) => 1 + rnd() * 0.249,
  "one negative bin": ({ rnd }) => -1 - rnd() * 0.249,
  "neighbours in one bin": (bed) => 1 + bed.pick(range(20)) * 2 ** -23,
  "one outlier above a bin": (bed) => (bed.rnd() < 0.01 ? 1e30 : 1 + bed.rnd() * 0.249),
};

/** Gives NaNs any bits: of either sign, signalling ones too. */
const anyNaNs = (x: Float32Array, rnd: () => number): Float32Array => {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < x.length; i++) {
    if (!Number.isNaN(x[i])) continue;
    words[i] = notGuard((rnd() < 0.5 ? 0x80000000 : 0) + 0x7f800001 + Math.floor(rnd() * 0x7ffffe));
  }
  return x;
};

/** Every k that is special for n, and one that is not. */
const ksOf = (n: number, bed: Bed): number[] =>
  union([0, 1, 2, n >> 1, n - 1, n, n + 1, Math.floor(bed.rnd() * n)]).filter((k) => k >= 0);

const winners: Testers = {
  ...Object.fromEntries(
    Object.entries(RANKED).map(([kind, draw]): [string, Tester] => [
      `scopes of ${kind}`,
      (bed, kernel) => {
        const check = (scopeRows: number, cols: number, ks: number[]) => {
          for (const k of ks) {
            const o = { scopes: bed.pick([1, 1, 2, 3]), scopeRows, cols, k };
            const x = Float32Array.from({ length: o.scopes * scopeRows * cols }, () => draw(bed));
            const factors = Float32Array.from({ length: cols }, () => Math.exp(bed.rnd() * 4 - 2));
            anyNaNs(x, bed.rnd);
            for (const [relu, exact] of pairs(2)) {
              const modes = { ...o, relu: !!relu, exact: !!exact };
              checkWinners(bed, kernel, modes, x, kind, bed.pick([undefined, undefined, factors]));
            }
          }
        };
        for (const cols of [1, 2, 3, 4, 5, 7, 8, 13, 64]) {
          for (const scopeRows of [1, 2, 3]) check(scopeRows, cols, ksOf(cols * scopeRows, bed));
        }
        // Around 512 candidates, where the histogram begins.
        for (const cols of [509, 511, 512, 513, 515, 1600]) {
          check(1, cols, [1, Math.floor(bed.rnd() * cols), bed.pick([0, cols >> 1, cols - 1, cols, cols + 1])]);
        }
        for (const [scopeRows, cols] of [
          [5, 103],
          [128, 4],
          [171, 3],
          [600, 1],
        ]) {
          check(scopeRows, cols, [1, Math.floor(bed.rnd() * cols * scopeRows)]);
        }
        // What the rest of a title's runs may lack: results that are not zero.
        const full = Float32Array.from({ length: 8192 }, (_, i) => i + 1);
        checkWinners(bed, kernel, { scopes: 1, scopeRows: 1, cols: 8192, k: 8192 }, full, "ascending");
      },
    ]),
  ),
  "no scopes, no columns"(bed, kernel) {
    for (const k of [0, 1]) {
      for (const cols of [0, 5]) {
        checkWinners(bed, kernel, { scopes: cols ? 0 : 3, scopeRows: 2, cols, k }, new Float32Array(0), "nothing");
      }
    }
    checkWinners(bed, kernel, { scopes: 1, scopeRows: 1, cols: 9, k: 9 }, values(9, 0, bed.rnd), "nine");
  },
  "factors that make zeros, infinities and NaN"(bed, kernel) {
    for (const cols of [5, 8, 600]) {
      for (const k of ksOf(cols, bed)) {
        for (const [relu, exact] of pairs(2)) {
          const x = Float32Array.from({ length: 2 * cols }, () => bed.pick([1, -1, 0, 3e38, -3e38, Infinity, 1e-45]));
          const factors = Float32Array.from({ length: cols }, () => bed.pick([0, 0.1, 1, 10, Infinity]));
          const o = { scopes: 2, scopeRows: 1, cols, k, relu: !!relu, exact: !!exact };
          checkWinners(bed, kernel, o, x, "factors", factors);
        }
      }
    }
  },
};

// --------------------------------------------------------------------------------------------------------------- pooling

interface PoolSizes {
  planes: number;
  inner: number;
  h: number;
  w: number;
  kernel: [number, number];
  stride: [number, number];
  /** Top, left, bottom, right. */
  padding: number[];
  /** For the mean: whether padding counts. */
  countPad?: boolean;
}

const outputs = ({ h, w, kernel, stride, padding: [top, left, bottom, right] }: PoolSizes): [number, number] => [
  Math.floor((h + top + bottom - kernel[0]) / stride[0]) + 1,
  Math.floor((w + left + right - kernel[1]) / stride[1]) + 1,
];

function poolOracle(x: Float32Array, o: PoolSizes, most: boolean): Expected {
  const [oh, ow] = outputs(o);
  const y: number[] = [];
  const bound: number[] = [];
  for (const start of grid([o.planes, o.h * o.w * o.inner])) {
    for (let i = 0; i < oh; i++) {
      for (let j = 0; j < ow; j++) {
        const under: number[] = [];
        for (let p = 0; p < o.kernel[0]; p++) {
          for (let q = 0; q < o.kernel[1]; q++) {
            const row = i * o.stride[0] + p - o.padding[0];
            const col = j * o.stride[1] + q - o.padding[1];
            if (row >= 0 && row < o.h && col >= 0 && col < o.w) under.push(start + (row * o.w + col) * o.inner);
          }
        }
        const count = o.countPad ? o.kernel[0] * o.kernel[1] : under.length;
        for (let c = 0; c < o.inner; c++) {
          const pixels = under.map((at) => x[at + c]);
          const size = pixels.reduce((sum, v) => sum + Math.abs(v), 0);
          y.push(most ? Math.max(...pixels) : pixels.reduce((sum, v) => sum + v, 0) / count);
          bound.push(most ? 0 : allowed(pixels.length, size) / count);
        }
      }
    }
  }
  return { y: Float64Array.from(y), bound: Float64Array.from(bound) };
}

function checkPool(bed: Bed, kernel: Kernel, o: PoolSizes, most: boolean, spoil?: (x: Float32Array) => void): void {
  const {
    planes,
    inner,
    h,
    w,
    kernel: [kh, kw],
    stride: [sh, sw],
    padding: [top, left, , right],
  } = o;
  const [oh, ow] = outputs(o);
  const x = values(planes * h * w * inner, 0, bed.rnd);
  spoil?.(x);
  const size = planes * oh * ow * inner;
  const label = JSON.stringify(o);
  const actual = bed.perform({
    label,
    view: bed.pick(viewsOf("x", "y", "work")),
    slack: { x: 28 },
    inputs: { x },
    y: size,
    places: grid([size, 1]),
    work: (w + left + right) * inner + 16,
    prepare: (at) => () => {
      const sizes = [planes, inner, h, w, kh, kw, sh, sw, top, left, right, oh, ow];
      bed.kernels[kernel.name](...sizes, ...(most ? [] : [Number(o.countPad)]), at.work, at.x, at.y);
    },
  });
  close(actual, poolOracle(x, o, most), label);
}

/** Kernels, strides and widths, with padding on every side of less than the kernel. */
function* poolSizes(bed: Bed, most: boolean): Generator<PoolSizes> {
  for (const inner of [1, 3, 4, 7, 8]) {
    // With one float a pixel, vectors run along the width; with more, along the pixel.
    const widths = inner === 1 ? [1, 2, 3, 4, 5, 6, 7, 8, 9, 13] : [1, 2, 5, 9];
    for (const [kh, kw] of pairs(3)) {
      for (const [sh, sw] of pairs(3)) {
        for (const w of widths) {
          for (const countPad of most ? [undefined] : [false, true]) {
            const padding = [kh, kw, kh, kw].map((k) => bed.pick(range(k + 1)));
            const [planes, h] = [bed.pick([0, 1, 2, 3]), bed.pick([1, 2, 3, 6])];
            const sizes = { planes, inner, h, w, padding, countPad };
            const o: PoolSizes = { ...sizes, kernel: [kh + 1, kw + 1], stride: [sh + 1, sw + 1] };
            if (outputs(o).every((n) => n > 0)) yield o;
          }
        }
      }
    }
  }
}

/** Windows that have a loop of their own, where inner is 1. */
const QUARTERS: Omit<PoolSizes, "planes" | "h" | "w"> = {
  inner: 1,
  kernel: [2, 2],
  stride: [2, 2],
  padding: [0, 0, 0, 0],
  countPad: undefined,
};

const pool = (most: boolean): Testers => ({
  "kernels, strides, widths and padding"(bed, kernel) {
    for (const o of poolSizes(bed, most)) checkPool(bed, kernel, o, most);
  },
  "quarters of planes of all sizes"(bed, kernel) {
    for (const planes of range(4)) {
      for (const h of [2, 3, 4, 7]) {
        for (const w of [...range(20).slice(2), 34]) {
          checkPool(bed, kernel, { ...QUARTERS, planes, h, w, countPad: most ? undefined : true }, most);
        }
      }
    }
  },
  "NaN and infinities reach the windows over them only"(bed, kernel) {
    for (const inner of [1, 3, 8]) {
      for (const stride of [1, 2, 3]) {
        for (const value of [NaN, Infinity, -Infinity]) {
          const sizes = { planes: 3, inner, h: 7, w: 11, padding: [1, 1, 1, 1], countPad: most ? undefined : true };
          const o: PoolSizes = { ...sizes, kernel: [3, 3], stride: [stride, stride] };
          checkPool(bed, kernel, o, most, (x) => (x[Math.floor(bed.rnd() * x.length)] = value));
          checkPool(bed, kernel, o, most, (x) => x.fill(value));
          const quarters = { ...QUARTERS, ...sizes, padding: QUARTERS.padding };
          checkPool(bed, kernel, quarters, most, (x) => (x[Math.floor(bed.rnd() * x.length)] = value));
        }
      }
    }
  },
});

/** @param input of plane p, the index of its i-th float */
function checkMean(
  bed: Bed,
  label: string,
  planes: number,
  n: number,
  index: (p: number, i: number) => number,
  call: Job["prepare"],
) {
  const x = values(planes * n, 0, bed.rnd);
  const odd = bed.pick([undefined, NaN, Infinity]);
  if (odd !== undefined && planes) x[index(planes >> 1, n >> 1)] = odd;
  const sums = range(planes).map((p) => range(n).map((i) => x[index(p, i)]));
  const y = Float64Array.from(sums, (terms) => terms.reduce((a, b) => a + b, 0) / n);
  const bound = Float64Array.from(
    sums,
    (terms) =>
      allowed(
        n,
        terms.reduce((a, b) => a + Math.abs(b), 0),
      ) / n,
  );
  const view = bed.pick(viewsOf("x", "y"));
  const slack = { x: TAIL };
  const actual = bed.perform({
    label,
    view,
    slack,
    inputs: { x },
    y: planes,
    places: grid([planes, 1]),
    prepare: call,
  });
  close(actual, { y, bound }, label);
}

const meanOfPlanes: Testers = {
  "planes of all counts"(bed, kernel) {
    for (const planes of range(4)) {
      for (const n of [...range(10).slice(1), 15, 16, 17, 24, 1000]) {
        const call: Job["prepare"] = (at) => () => bed.kernels[kernel.name](planes, n, at.x, at.y);
        checkMean(bed, `${planes} planes of ${n}`, planes, n, (p, i) => p * n + i, call);
      }
    }
  },
};

const meanOfPixels: Testers = {
  "pixels and channels of all counts"(bed, kernel) {
    for (const n of [1, 2, 3, 49, 1000]) {
      for (const channels of [...range(10), 16, 17]) {
        const call: Job["prepare"] = (at) => () => bed.kernels[kernel.name](n, channels, at.x, at.y);
        checkMean(bed, `${n} pixels of ${channels}`, channels, n, (p, i) => i * channels + p, call);
      }
    }
  },
};

// -------------------------------------------------------------------------------------------------------------- manifest

/** Of products, by op and format. */
const FAMILIES: Record<string, Family> = {
  "spmm/csr": ENTRIES,
  "spmm/block": BLOCKS,
  "spmm/dense": DENSE,
  "spmv/csr": CSR_VECTOR,
  "spmv/block": BLOCK_VECTOR,
  "spmv/nm": nmVector([2, 4]),
  "spmv/dense": DENSE_VECTOR,
};

/** A product's columns cut into runs of all kernels that read its stream. */
const runs: Testers = {
  "runs of several kernels, in any order"(bed) {
    const spmm = KERNELS.filter(({ op }) => op === "spmm");
    for (const stream of new Set(spmm.map((kernel) => kernel.stream))) {
      const kernels = spmm.filter((kernel) => kernel.stream === stream);
      const [widest] = kernels;
      const lowered = widest.format === "dense" ? denseLowered : blocksLowered;
      for (const [i, flags] of FLAGS.entries()) {
        const sizes = { m: 9, channels: 11, zeros: 0.5, strips: 6, channelsPerBlock: i % 2 ? 4 : Infinity };
        const p = matrix(bed, widest, FAMILIES[keyOf(widest)], sizes);
        const words: number[] = [];
        for (let column = 0; column < p.columns.length; ) {
          const left = p.columns.length - column;
          const { index, tile } = bed.pick(kernels.filter((kernel) => kernel.tile <= left));
          const strips = 1 + Math.floor(bed.rnd() * Math.min(3, left / tile));
          words.push(index, Math.min(strips, Math.floor(left / tile)), column * 4, column * 4);
          column += (words.at(-3) as number) * tile;
        }
        words.push(...words.splice(0, 4 * Math.floor(bed.rnd() * (words.length / 4))));
        const plan = () => {
          const list = bed.memory.put("runs", words);
          const end = list + words.length * 4;
          const walk: KernelFunction = (plan, _strips, ...rest) => bed.kernels.f32_spmm_runs(list, end, plan, ...rest);
          const { memory } = bed;
          return lowered({ memory, kernels: { ...bed.kernels, [widest.name]: walk } } as Bed, widest, p);
        };
        checkProduct(bed, p, { label: `${stream}, ${words}`, flags, view: {}, slack: {}, plan });
      }
    }
  },
};

/** By op and format; by name where there is no format, and of depthwise ones. */
const TESTERS: Record<string, Testers> = {
  "spmm/csr": { ...products(ENTRIES), ...convolutions(ENTRIES), ...passes(ENTRIES) },
  "spmm/block": { ...products(BLOCKS), ...convolutions(BLOCKS), ...passes(BLOCKS) },
  "spmm/dense": { ...products(DENSE), ...convolutions(DENSE), ...densePasses },
  "spmv/csr": { ...products(CSR_VECTOR), ...vectorPasses(CSR_VECTOR) },
  "spmv/block": { ...products(BLOCK_VECTOR), ...vectorPasses(BLOCK_VECTOR) },
  "spmv/nm": Object.assign({}, ...LIMITED.map((limit) => titled(limit.join(":"), products(nmVector(limit))))),
  "spmv/dense": products(DENSE_VECTOR),
  "spmspv/csr": walks([1, 2, 3]),
  "spmspv/block": walks([1, 2, 3]),
  "spmspv/dense": walks([1]),
  f32_dense_depthwise: depthwise,
  f32_dense_depthwise_3x3_columns: depthwise3x3([1]),
  f32_dense_depthwise_3x3_rows: depthwise3x3([1, 2]),
  f32_transpose: transpose,
  f32_pad: pad,
  f32_copy: copy,
  f32_to_lists: toLists,
  f32_from_lists: fromLists,
  f32_binary: binary,
  f32_clamp: clamp,
  f32_sigmoid: curve((x) => 1 / (1 + Math.exp(-x))),
  f32_tanh: tanh,
  f32_softmax: softmax,
  f32_k_winners: winners,
  f32_max_pool: pool(true),
  f32_avg_pool: pool(false),
  f32_global_avg_planes: meanOfPlanes,
  f32_global_avg_pixels: meanOfPixels,
  f32_spmm_runs: runs,
};

const keyOf = ({ name, op, format }: Kernel): string => (format && op !== "depthwise" ? `${op}/${format}` : name);

/** Exports that are no kernels, and why. */
const NOT_KERNELS: Record<string, string> = {
  table: "of the kernels that f32_spmm_runs calls; filled by the engine",
  dense_gemm_rows: "tells formats/dense.ts how many rows of W to interleave; computes nothing",
  is_relaxed: "tells the engine which build it was given; computes nothing",
};

test("every row of the manifest has a tester, and every tester a row", () => {
  const keys = KERNELS.map(keyOf);
  assert.equal(
    keys.filter((key) => !TESTERS[key]),
    [],
    "rows without a tester",
  );
  assert.equal(
    Object.keys(TESTERS).filter((key) => !keys.includes(key)),
    [],
    "testers without a row",
  );
  assert.is(new Set(KERNELS.map((k) => k.name)).size, KERNELS.length, "two rows of one name");
});

test("every product's row of the manifest has its constants in costs.json, and nothing else has", () => {
  const products = KERNELS.filter(({ op }) => op).map(({ name }) => name);
  for (const { kernels } of Object.values(shipped)) assert.equal(Object.keys(kernels).sort(), products.sort());
});

test("every row of the manifest is benchmarked", async () => {
  const benched = (await kernelCases("simd128")).map(({ name }) => name);
  assert.equal(
    KERNELS.map((k) => k.name).filter((name) => !benched.includes(name)),
    [],
  );
});

for (const build of builds) {
  const bed = new Bed(build);
  bed.kernels = await loadKernels(build, undefined, bed.memory.wasm);

  test(`${build}: exports are the manifest's rows`, () => {
    const names = KERNELS.map((k) => k.name);
    const exported = Object.keys(bed.kernels);
    assert.equal(
      names.filter((name) => !exported.includes(name)),
      [],
      "rows without an export",
    );
    assert.equal(
      exported.filter((name) => !names.includes(name) && !NOT_KERNELS[name]),
      [],
      "exports without a row",
    );
    assert.equal(
      Object.keys(NOT_KERNELS).filter((name) => !exported.includes(name)),
      [],
      "listed, not exported",
    );
  });

  test(`${build}: every kernel that accepts a matrix gives its product`, () => bed.trust(() => fuzzAll(bed)));

  for (const kernel of KERNELS) {
    for (const [title, run] of Object.entries(TESTERS[keyOf(kernel)] ?? {})) {
      test(`${build} ${kernel.name}: ${title}`, () => bed.trust(() => run(bed, kernel)));
    }
  }
}

test.run();
