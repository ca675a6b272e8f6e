// Every row of the manifest against plain loops, called raw over buffers laid out here. Around each buffer lie guards of
// NaNs: what a kernel over-reads must not reach its result, and what it writes besides its result is found.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Build, type KernelFunction, loadKernels } from "../bindings/builds.js";
import { lowerCsr, lowerCsrVector, packCsr } from "../bindings/formats/csr.js";
import { lowerDense, lowerDenseVector } from "../bindings/formats/dense.js";
import type { InputMap, Pass } from "../bindings/formats/lowered.js";
import { KERNELS, type Kernel } from "../bindings/kernels.js";
import { Memory } from "../bindings/memory.js";
import { allowed, builds, close, type Expected, random, sameBits, seed, values } from "./oracle.js";

const test = suite("kernels");

// ---------------------------------------------------------------------------------------------------------------- buffers

const GUARD = 64;
/** A NaN that no arithmetic makes, unlike JavaScript's 0x7fc00000. */
const GUARD_WORD = 0x7fc0dead;
/** Passed where a kernel must not look: outside the memory, so that a read traps. */
const NOWHERE = 0x70000000;
/** What memory.ts leaves behind every block for vectors that read past its end. */
const TAIL = 16;

/** How buffers lie: all `shift` bytes off their alignment, or the one named `last` at the very end of the memory. */
interface View {
  shift?: number;
  last?: string;
}

const viewsOf = (...names: string[]): View[] => [{}, { shift: 4 }, ...names.map((last) => ({ last }))];

/** The engine's memory, too small to grow, with guards around every block, also around those of lowerCsr and the like. */
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
    this.u32.fill(GUARD_WORD);
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
  /** Length of the buffer `line`, which may change as well. */
  line?: number;
  /** From the addresses of inputs, y and line to the call. Streams are laid out here. */
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
    assert.ok(this.#nonzero * 2 >= this.#compared, `mistrusted: ${this.#nonzero} of ${this.#compared} are not zero`);
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.rnd() * list.length)];
  }

  /** Calls a kernel twice and returns its results, having checked the same bits, all of them written, and nothing else. */
  perform(job: Job): Float32Array {
    const { memory } = this;
    memory.reset(job.view ?? {}, job.slack ?? {});
    const at: Record<string, number> = {};
    for (const [name, data] of Object.entries(job.inputs)) at[name] = memory.put(name, data);
    if (job.inPlace) at.y = at[job.inPlace];
    else at.y = typeof job.y === "number" ? memory.room("y", job.y) : memory.put("y", job.y);
    if (job.line !== undefined) at.line = memory.room("line", job.line);
    const call = job.prepare(at);

    const [before, after, legal] = this.#images;
    before.set(memory.u32);
    legal.set(memory.u32);
    call();
    after.set(memory.u32);
    const y = at.y / 4;
    const results = new Uint32Array(job.places.length);
    for (let i = 0; i < results.length; i++) {
      const word = after[y + job.places[i]];
      if (word === GUARD_WORD) throw new Error(`${job.label}: ${i} not written, or from a guard (seed ${seed})`);
      results[i] = legal[y + job.places[i]] = word;
      if (word << 1) this.#nonzero++;
    }
    this.#compared += results.length;
    const behind = y + endOf(job.places);
    if (job.overrun) legal.set(after.subarray(behind, behind + job.overrun), behind);
    if (job.line) legal.set(after.subarray(at.line / 4, at.line / 4 + job.line), at.line / 4);
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
  new Float32Array(Uint32Array.from({ length: n }, () => rnd() * 2 ** 32).buffer);

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

// --------------------------------------------------------------------------------------------------------------- products

const ACCUMULATE = 1;
const BIAS = 2;
const CLAMP = 4;
const FLAGS = range(8);
const ZEROS = [0, 0.5, 0.9, 0.99, 1];
const STRIPS = range(4);
const VIEWS = viewsOf("x", "y", "bias");

/** y[row, c] = Σ over j of W[row, j] · x[input(row, j) + columns[c]]. */
interface Product {
  m: number;
  k: number;
  w: Float32Array;
  x: Float32Array;
  input(row: number, j: number): number;
  columns: ArrayLike<number>;
  /** Floats from one row of y to the next. */
  yPitch: number;
}

/** A product whose columns lie side by side, as the engine lays out matrices and padded planes. */
interface Matrix extends Product {
  strips: number;
  map: InputMap;
}

type Launch = (x: number, y: number, bias: number, flags: number, lo: number, hi: number) => void;
/** Lays out W's streams for a kernel. */
type Plan = (bed: Bed, kernel: Kernel, p: Matrix) => Launch;

/** What a family of product kernels needs to be tested. */
interface Family {
  /** Ways to lay out W: the engine's, and one written here after the kernel's header. */
  plans: Plan[];
  rows(kernel: Kernel): number[];
  columns(kernel: Kernel): number[];
  /** Whether zeros of W are left out. */
  sparse: boolean;
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
    const stored = range(p.k).filter((j) => p.w[row * p.k + j] !== 0);
    const terms = stored.map((j) => ({ v: p.w[row * p.k + j], at: p.input(row, j) }));
    for (let c = 0; c < n; c++, i++) {
      let sum = (y0?.[i] ?? 0) + (bias?.[row] ?? 0);
      let size = Math.abs(y0?.[i] ?? 0) + Math.abs(bias?.[row] ?? 0);
      for (const { v, at } of terms) {
        const term = v * p.x[at + p.columns[c]];
        sum += term;
        size += Math.abs(term);
      }
      y[i] = Math.min(hi, Math.max(lo, sum));
      bound[i] = allowed(terms.length + 2, size);
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
function reaches(y: Float32Array, value: number, flags: number, count: number): void {
  const odd = y.filter((v) => !Number.isFinite(v)).length;
  assert.is(odd, flags & CLAMP && !Number.isNaN(value) ? 0 : count, `results that ${value} reached, flags ${flags}`);
}

interface MatrixSizes {
  m: number;
  channels: number;
  zeros?: number;
  w?: Float32Array;
  strips?: number;
  /** Floats from a channel's start. */
  taps?: number[];
  groups?: number;
  channelsPerBlock?: number;
}

function matrix(bed: Bed, kernel: Kernel, o: MatrixSizes): Matrix {
  const { m, channels, strips = 1, taps = [0], groups = 1, channelsPerBlock = Infinity } = o;
  const k = channels * taps.length;
  const n = kernel.tile * strips;
  const vector = kernel.op === "spmv";
  // Pitches that are no multiple of a vector: nothing is aligned by chance.
  const channel = vector ? 1 : n + Math.max(...taps) + 3;
  const group = channels * channel;
  const size = k && n ? (groups - 1) * group + (channels - 1) * channel + Math.max(...taps) + n : 0;
  const x = values(size, 0, bed.rnd);
  const rowsPerGroup = m / groups;
  return {
    m,
    k,
    w: o.w ?? values(m * k, o.zeros ?? 0, bed.rnd),
    // The vector kernel of csr wants a zero behind x.
    x: vector && kernel.format === "csr" ? Float32Array.of(...x, 0) : x,
    input: (row, j) =>
      taps[j % taps.length] + Math.floor(j / taps.length) * channel + Math.floor(row / rowsPerGroup) * group,
    columns: range(n),
    yPitch: vector ? 1 : n + 1,
    strips,
    map: { taps: taps.map((t) => t * 4), channelStride: channel * 4, groups, groupStride: group * 4, channelsPerBlock },
  };
}

/** A matrix whose rows have as many nonzeros as `counts` says, at random columns. */
function withCounts(counts: readonly number[], k: number, rnd: () => number): Float32Array {
  const w = new Float32Array(counts.length * k);
  counts.forEach((count, row) => {
    const order = range(k).map((j) => ({ j, key: rnd() }));
    order.sort((a, b) => a.key - b.key);
    for (const { j } of order.slice(0, count)) w[row * k + j] = rnd() < 0.5 ? -0.1 - rnd() : 0.1 + rnd();
  });
  return w;
}

/** The strips of every pass; of several the first brings bias and y, the last clamps. */
function runPasses({ kernels }: Bed, { name }: Kernel, p: Matrix, passes: Pass[]): Launch {
  const yStride = p.yPitch * 4;
  return (x, y, bias, flags, lo, hi) => {
    for (const { plan, x: from, row, first, last } of passes) {
      const own = (first ? flags : (flags | ACCUMULATE) & ~BIAS) & (last ? 7 : ~CLAMP);
      kernels[name](plan, p.strips, x + from, y + row * yStride, yStride, bias + row * 4, own, lo, hi);
    }
  };
}

const runVector =
  ({ kernels }: Bed, { name }: Kernel, plan: number): Launch =>
  (x, y, bias, flags, lo, hi) =>
    kernels[name](plan, x, y, bias, flags, lo, hi);

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

/** The rows of W, most nonzeros first and otherwise last row first, which the engine does not. */
const sortedRows = ({ m, k, w }: Matrix) =>
  range(m)
    .map((row) => ({ row, stored: range(k).filter((j) => w[row * k + j] !== 0) }))
    .reverse()
    .sort((a, b) => b.stored.length - a.stored.length);

const csrLowered: Plan = (bed, kernel, p) =>
  runPasses(bed, kernel, p, lowerCsr(bed.memory, packCsr(p.w, p.m, p.k), p.map).passes);

/** After the header of assembly/csr/spmm.ts. */
const csrByHand: Plan = (bed, kernel, p) => {
  const rows = sortedRows(p);
  const entry = (row: number, j: number) => [bitsOf(p.w[row * p.k + j]), p.input(row, j) * 4];
  const records = bed.memory.put(
    "records",
    rows.flatMap(({ row, stored }) => [row, stored.length]),
  );
  const entries = bed.memory.put(
    "entries",
    rows.flatMap(({ row, stored }) => stored.flatMap((j) => entry(row, j))),
  );
  const plan = bed.memory.put("plan", [p.m, records, entries]);
  return runPasses(bed, kernel, p, [{ plan, x: 0, row: 0, first: true, last: true }]);
};

const csrVectorLowered: Plan = (bed, kernel, p) =>
  runVector(bed, kernel, lowerCsrVector(bed.memory, packCsr(p.w, p.m, p.k)).passes[0].plan);

/** After the header of assembly/csr/spmv.ts. */
const csrVectorByHand: Plan = (bed, kernel, p) => {
  const rows = sortedRows(p);
  const records: number[] = [];
  const offsets: number[] = [];
  const data: number[] = [];
  for (let s = 0; s < p.m; s += 4) {
    const slice = rows.slice(s, s + 4);
    const steps = Math.max(...slice.map(({ stored }) => stored.length));
    records.push(steps, slice.length, ...range(4).map((lane) => slice[lane]?.row ?? 0));
    for (let step = 0; step < steps; step++) {
      for (let lane = 0; lane < 4; lane++) {
        const { row = 0, stored = [] } = slice[lane] ?? {};
        const j = stored[step];
        // A padded lane reads the zero behind x.
        offsets.push(j === undefined ? p.k * 4 : j * 4);
        data.push(j === undefined ? 0 : p.w[row * p.k + j]);
      }
    }
  }
  const { memory } = bed;
  const halves = new Uint32Array(Uint16Array.from(offsets).buffer);
  const streams = [
    memory.put("records", records),
    memory.put("offsets", [...halves]),
    memory.put("values", data.map(bitsOf)),
  ];
  return runVector(bed, kernel, memory.put("plan", [Math.ceil(p.m / 4), ...streams]));
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
  const tapsAt = memory.put("taps", taps);
  const blocks = [...new Array<number>(Math.floor(rows / R)).fill(R), ...[4, 2, 1].filter((size) => (rows % R) & size)];
  const passes = range(groups).map((g): Pass => {
    const w: number[] = [];
    let row = g * rows;
    for (const size of blocks) {
      for (let t = 0; t < taps.length; t++) {
        for (let c = 0; c < channels; c++) {
          for (let r = 0; r < size; r++) w.push(bitsOf(p.w[(row + r) * p.k + c * taps.length + t]));
        }
      }
      row += size;
    }
    const plan = memory.put("plan", [rows, memory.put("w", w), tapsAt, taps.length, channels, channelStride]);
    return { plan, x: g * groupStride, row: g * rows, first: true, last: true };
  });
  return runPasses(bed, kernel, p, passes);
};

const denseVectorLowered: Plan = (bed, kernel, p) =>
  runVector(bed, kernel, lowerDenseVector(bed.memory, { rows: p.m, cols: p.k, data: p.w }).passes[0].plan);

/** After the header of assembly/dense/gemv.ts. */
const denseVectorByHand: Plan = (bed, kernel, p) => {
  const blocks = range(Math.ceil(p.m / 16));
  const weight = (row: number, j: number) => (row < p.m ? bitsOf(p.w[row * p.k + j]) : 0);
  const w = blocks.flatMap((b) => range(p.k).flatMap((j) => range(16).map((r) => weight(b * 16 + r, j))));
  return runVector(bed, kernel, bed.memory.put("plan", [p.m, bed.memory.put("w", w), p.k]));
};

/** Tests of every kernel that multiplies by a matrix. */
function products({ plans, slack, sparse, ...family }: Family): Testers {
  /** A random choice of what the sizes leave open. */
  const check = (
    bed: Bed,
    kernel: Kernel,
    sizes: MatrixSizes,
    open: { plan?: Plan; flags?: number; view?: View } = {},
  ) => {
    const { plan = bed.pick(plans), flags = bed.pick(FLAGS), view = bed.pick(VIEWS) } = open;
    const p = matrix(bed, kernel, sizes);
    const label = `${plan.name} ${JSON.stringify(sizes, (key, value) => (key === "w" ? undefined : value))}`;
    checkProduct(bed, p, { label, flags, view, slack, plan: () => plan(bed, kernel, p) });
  };
  const stripsOf = ({ op }: Kernel) => (op === "spmv" ? [1] : STRIPS);
  return {
    "sizes around its tile, from dense to empty"(bed, kernel) {
      for (const m of family.rows(kernel)) {
        for (const channels of family.columns(kernel)) {
          for (const zeros of ZEROS) check(bed, kernel, { m, channels, zeros, strips: bed.pick(stripsOf(kernel)) });
        }
      }
    },
    "every flag, view and count of strips"(bed, kernel) {
      for (const strips of stripsOf(kernel)) {
        for (const flags of FLAGS) {
          for (const view of VIEWS) {
            for (const plan of plans) {
              const w = withCounts(MIXED, 11, bed.rnd);
              check(bed, kernel, { m: MIXED.length, channels: 11, w, strips }, { flags, view, plan });
            }
          }
        }
      }
    },
    "rows of 0 to 9 nonzeros"(bed, kernel) {
      for (const m of [...range(10), 16, 17]) {
        for (const count of range(10)) {
          for (const plan of plans) {
            const w = withCounts(new Array(m).fill(count), 13, bed.rnd);
            check(bed, kernel, { m, channels: 13, w }, { plan });
          }
        }
      }
    },
    "NaN and infinities reach y through stored weights only"(bed, kernel) {
      for (const value of [NaN, Infinity, -Infinity]) {
        for (const flags of FLAGS) {
          for (const plan of plans) {
            const [m, k] = [MIXED.length, 23];
            const w = sparse ? withCounts(MIXED, k, bed.rnd) : values(m * k, 0, bed.rnd);
            // Two rows store column 0, which is where padded lanes would look if nobody told them where; none column 1.
            if (sparse) for (let row = 0; row < m; row++) w[row * k] = w[row * k + 1] = row < 2 ? 0.5 : 0;
            if (sparse) w[1] = w[k + 1] = 0;
            const p = matrix(bed, kernel, { m, channels: k, w, strips: kernel.op === "spmv" ? 1 : 2 });
            p.x[p.input(0, 0) + p.columns.length - 1] = value;
            if (sparse) for (let c = 0; c < p.columns.length; c++) p.x[p.input(0, 1) + c] = c % 2 ? Infinity : NaN;
            const call = { label: `${plan.name} ${value}`, flags, view: bed.pick(VIEWS), slack };
            const y = checkProduct(bed, p, { ...call, plan: () => plan(bed, kernel, p) });
            reaches(y, value, flags, sparse ? 2 : m);
          }
        }
      }
    },
  };
}

/** Twenty rows of 0 to 9 nonzeros, out of order. */
const MIXED = range(20).map((row) => (row * 7) % 10);

/** Taps and groups: what convolutions ask of the kernels for many columns. */
const convolutions = ({ plans, slack }: Family): Testers => ({
  "taps and groups"(bed, kernel) {
    for (const taps of [[0], [1], [0, 5], [7, 0, 2], [0, 1, 2, 9, 10, 11, 18, 19, 20]]) {
      for (const groups of [1, 2, 3]) {
        for (const channels of [0, 1, 2, 7]) {
          for (const perGroup of [1, 2, 7]) {
            const strips = bed.pick(STRIPS);
            const sizes = { m: groups * perGroup, channels, taps, groups, zeros: bed.pick(ZEROS), strips };
            const p = matrix(bed, kernel, sizes);
            for (const plan of plans) {
              const call = { label: JSON.stringify(sizes), flags: bed.pick(FLAGS), view: bed.pick(VIEWS), slack };
              checkProduct(bed, p, { ...call, plan: () => plan(bed, kernel, p) });
            }
          }
        }
      }
    }
  },
});

const passes: Testers = {
  "passes that add up"(bed, kernel) {
    for (const flags of FLAGS) {
      for (const strips of STRIPS) {
        const p = matrix(bed, kernel, { m: 5, channels: 96, strips, channelsPerBlock: 20 });
        const plan = () => {
          const lowered = lowerCsr(bed.memory, packCsr(p.w, p.m, p.k), p.map);
          assert.ok(lowered.passes.length > 2, "too few passes to tell first, middle and last");
          return runPasses(bed, kernel, p, lowered.passes);
        };
        checkProduct(bed, p, { label: `${strips} strips`, flags, view: bed.pick(VIEWS), slack: {}, plan });
      }
    }
  },
};

const CSR: Family = {
  plans: [csrLowered, csrByHand],
  rows: ({ tile }) => around(tile),
  columns: ({ tile }) => around(tile),
  sparse: true,
  slack: {},
};

const DENSE: Family = {
  plans: [denseLowered, denseByHand],
  // All remainders of 6 and of 4 rows, with no, one and two full blocks before them.
  rows: ({ tile }) => [...new Set([...range(18), ...around(tile)])],
  columns: ({ tile }) => around(tile),
  sparse: false,
  slack: {},
};

const CSR_VECTOR: Family = {
  plans: [csrVectorLowered, csrVectorByHand],
  rows: () => [...around(4), 16, 17],
  columns: () => [...around(4), 16, 17],
  sparse: true,
  slack: {},
};

const DENSE_VECTOR: Family = {
  plans: [denseVectorLowered, denseVectorByHand],
  rows: () => [...around(16), ...range(15).slice(4), 47],
  columns: () => around(16),
  sparse: false,
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

/** The header's 60 bytes; behind y what every buffer has. */
const DEPTHWISE_SLACK = { x: 60, y: TAIL };

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
          reaches(y, value, flags, 2 * tapCount);
        }
      }
    }
  },
};

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
    view: bed.pick(viewsOf("x", "y", "line")),
    slack: { x: TAIL },
    inputs: { x },
    y: size,
    places: grid([size, 1]),
    line: (w + left + right) * inner + 16,
    prepare: (at) => () => {
      const sizes = [planes, inner, h, w, kh, kw, sh, sw, top, left, right, oh, ow];
      bed.kernels[kernel.name](...sizes, ...(most ? [] : [Number(o.countPad)]), at.line, at.x, at.y);
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

const pool = (most: boolean): Testers => ({
  "kernels, strides, widths and padding"(bed, kernel) {
    for (const o of poolSizes(bed, most)) checkPool(bed, kernel, o, most);
  },
  "NaN and infinities reach the windows over them only"(bed, kernel) {
    for (const inner of [1, 3, 8]) {
      for (const stride of [1, 2, 3]) {
        for (const value of [NaN, Infinity, -Infinity]) {
          const sizes = { planes: 3, inner, h: 7, w: 11, padding: [1, 1, 1, 1], countPad: most ? undefined : true };
          const o: PoolSizes = { ...sizes, kernel: [3, 3], stride: [stride, stride] };
          checkPool(bed, kernel, o, most, (x) => (x[Math.floor(bed.rnd() * x.length)] = value));
          checkPool(bed, kernel, o, most, (x) => x.fill(value));
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

/** By op and format; by name where there is no format. */
const TESTERS: Record<string, Testers> = {
  "spmm/csr": { ...products(CSR), ...convolutions(CSR), ...passes },
  "spmv/csr": products(CSR_VECTOR),
  "spmm/dense": { ...products(DENSE), ...convolutions(DENSE) },
  "spmv/dense": products(DENSE_VECTOR),
  "depthwise/dense": depthwise,
  f32_transpose: transpose,
  f32_pad: pad,
  f32_copy: copy,
  f32_binary: binary,
  f32_clamp: clamp,
  f32_sigmoid: curve((x) => 1 / (1 + Math.exp(-x))),
  f32_tanh: tanh,
  f32_softmax: softmax,
  f32_max_pool: pool(true),
  f32_avg_pool: pool(false),
  f32_global_avg_planes: meanOfPlanes,
  f32_global_avg_pixels: meanOfPixels,
};

const keyOf = ({ name, op, format }: Kernel): string => (format ? `${op}/${format}` : name);

/** Exports that are no kernels, and why. */
const NOT_KERNELS: Record<string, string> = {
  memory: "the engine's own, imported and passed on",
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

test("every row of the manifest is benchmarked", async () => {
  const { benchedKernels } = await import("../bench/kernels.js");
  assert.equal(
    KERNELS.map((k) => k.name).filter((name) => !benchedKernels.includes(name)),
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

  for (const kernel of KERNELS) {
    for (const [title, run] of Object.entries(TESTERS[keyOf(kernel)] ?? {})) {
      test(`${build} ${kernel.name}: ${title}`, () => bed.trust(() => run(bed, kernel)));
    }
  }
}

test.run();
