// The stored forms themselves, without an engine: what is packed comes back bit for bit and lies where its layout says;
// what a file claims is accepted when an independent reading finds it legal, and refused with a code otherwise.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BlockMatrix } from "../bindings/formats/block.js";
import {
  type ComplementaryMatrix,
  checkComplementary,
  complementaryToBlocks,
  gatherComplementary,
  packComplementary,
  unpackComplementary,
  validateComplementary,
} from "../bindings/formats/complementary.js";
import { bytesOf, type Format, packAs } from "../bindings/formats/format.js";
import {
  checkNm,
  gatherNm,
  type NmMatrix,
  nmToCsr,
  packNm,
  placesNm,
  readPositionsNm,
  unpackNm,
  validateNm,
} from "../bindings/formats/nm.js";
import { Source } from "../bindings/formats/source.js";
import { detectIn } from "../bindings/patterns/detect.js";
import { random, sameBits, seed, values } from "./oracle.js";

const test = suite("formats");

const NONE = 0xffffffff;

/** Nonzeros over stored numbers, 0 where nothing is stored. */
const fillOf = ({ data }: ComplementaryMatrix): number =>
  data.length ? data.filter((v) => v !== 0).length / data.length : 0;

/** Bits that a float compare or copy could lose: NaNs with payloads (quiet, signalling), denormals, infinities. */
const RARE = [0x7fc00001, 0x7f800001, 0xffa00000, 0x00000001, 0x807fffff, 0x7f800000, 0xff800000, 0x00800000];

/** Signed floats of which a share is zero, some of it −0, and a few of the rare ones. */
function weights(n: number, zeros: number, rnd: () => number): Float32Array {
  const a = values(n, zeros, rnd);
  const bits = new Uint32Array(a.buffer);
  for (let i = 0; i < n; i++) {
    if (bits[i] << 1 === 0) bits[i] = rnd() < 0.1 ? 0x80000000 : 0;
    else if (rnd() < 0.05) bits[i] = RARE[Math.floor(rnd() * RARE.length)];
  }
  return a;
}

/** The same bits with −0 as 0. */
function positiveZeros(a: Float32Array): Float32Array {
  const copy = a.slice();
  const bits = new Uint32Array(copy.buffer);
  for (let i = 0; i < bits.length; i++) if (bits[i] === 0x80000000) bits[i] = 0;
  return copy;
}

const isZero = (a: Float32Array, i: number): boolean => a[i] === 0;

/** Zeroes all but n places, chosen at random, of each group of m. */
function prune(a: Float32Array, rows: number, cols: number, n: number, m: number, rnd: () => number): Float32Array {
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c += m) {
      const group = Array.from({ length: Math.min(m, cols - c) }, (_, p) => r * cols + c + p);
      for (let left = group.length; left > n; left--) a[group.splice(Math.floor(rnd() * left), 1)[0]] = 0;
    }
  }
  return a;
}

/** A matrix of which each aligned tile of `overlay` block rows is a set; perfect unless some columns are left out. */
function complementaryMask(
  rows: number,
  cols: number,
  overlay: number,
  blockRows: number,
  leftOut: number,
  rnd: () => number,
): Float32Array {
  const a = new Float32Array(rows * cols);
  const count = Math.ceil(rows / blockRows);
  for (let first = 0; first < count; first += overlay) {
    const members = Math.min(overlay, count - first);
    for (let c = 0; c < cols; c++) {
      if (rnd() < leftOut) continue;
      const b = first + Math.floor(rnd() * members);
      for (let r = b * blockRows; r < Math.min(rows, (b + 1) * blockRows); r++) a[r * cols + c] = rnd() + 0.5;
    }
  }
  return a;
}

/** Row-major values of blocks, as the definition reads; each must lie inside, ascending, once. */
function unpackBlocks(m: BlockMatrix): Float32Array {
  const dense = new Float32Array(m.rows * m.cols);
  const to = new Uint32Array(dense.buffer);
  const from = new Uint32Array(m.data.buffer, m.data.byteOffset, m.data.length);
  assert.is(m.indptr.length, Math.ceil(m.rows / m.r) + 1);
  assert.is(m.indptr[0], 0);
  assert.is(m.indptr.at(-1), m.indices.length);
  assert.is(m.data.length, m.indices.length * m.r * m.c);
  assert.is(m.indices instanceof Uint16Array, Math.ceil(m.cols / m.c) <= 65536);
  for (let b = 0; b + 1 < m.indptr.length; b++) {
    for (let i = m.indptr[b]; i < m.indptr[b + 1]; i++) {
      if (i > m.indptr[b]) assert.ok(m.indices[i] > m.indices[i - 1], "columns ascend");
      for (let j = 0; j < m.r * m.c; j++) {
        const row = b * m.r + Math.floor(j / m.c);
        const col = m.indices[i] * m.c + (j % m.c);
        if (row < m.rows && col < m.cols) to[row * m.cols + col] = from[i * m.r * m.c + j];
        else assert.is(from[i * m.r * m.c + j], 0, "zeros outside");
      }
    }
  }
  return dense;
}

/** Calls `run`, which must throw an error of this code; gives its message. */
function refuses(run: () => unknown, code: string, label: unknown = ""): string {
  try {
    run();
  } catch (error) {
    const { code: got, message } = error as Error & { code?: string };
    assert.is(got, code, `expected ${code}, got ${got}: ${message} (${label}, seed ${seed})`);
    assert.is(error instanceof TypeError, code === "ERR_TYPE");
    assert.ok(message.length < 300, `a message of ${message.length} characters`);
    return message;
  }
  throw new Error(`expected ${code}, nothing was thrown (${label}, seed ${seed})`);
}

/** Bytes of array buffers that `run` made: temporaries too, so no less than the peak unless some were collected. */
function allocated(run: () => unknown): number {
  (globalThis as { gc?: () => void }).gc?.();
  const before = process.memoryUsage().arrayBuffers;
  const kept = run();
  const after = process.memoryUsage().arrayBuffers;
  assert.ok(kept);
  return after - before;
}

const shareOfZeros = fc.constantFrom(0, 0.3, 0.5, 0.8, 0.95, 1);

// nm

/** m, and n in 1..m, with the ends and the widths' edges often. */
const nmPattern = fc
  .oneof(fc.constantFrom(2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 1024), fc.integer({ min: 2, max: 1024 }))
  .chain((m) =>
    fc.tuple(fc.oneof(fc.constantFrom(1, Math.ceil(m / 2), m), fc.integer({ min: 1, max: m })), fc.constant(m)),
  );

/** A matrix that has an nm form. */
const nmProblem = fc
  .record({
    pattern: nmPattern,
    rows: fc.integer({ min: 0, max: 6 }),
    groups: fc.integer({ min: 0, max: 3 }),
    ragged: fc.nat(),
    zeros: shareOfZeros,
    from: fc.nat(),
  })
  .map(({ pattern: [n, m], rows, groups, ragged, zeros, from }) => {
    const cols = groups * m + (ragged % m);
    const rnd = random(from);
    return { n, m, rows, cols, dense: prune(weights(rows * cols, zeros, rnd), rows, cols, n, m, rnd), rnd };
  });

const bitsPerPosition = (m: number): number => (m <= 4 ? 2 : m <= 16 ? 4 : m <= 256 ? 8 : 16);

/** Positions read bit by bit, as the layout is documented; −1 behind them when a row's last byte has bits set there. */
function positionsByBits({ rows, cols, n, m, indices }: NmMatrix): number[][] {
  const width = bitsPerPosition(m);
  const places = Math.floor(cols / m) * n + Math.min(n, cols % m);
  const bytes = Buffer.from(indices.buffer, indices.byteOffset, indices.byteLength);
  const stride = Math.ceil((places * width) / 8);
  return Array.from({ length: rows }, (_, r) => {
    const bits = [...bytes.subarray(r * stride, (r + 1) * stride)].flatMap((byte) =>
      Array.from({ length: 8 }, (_, i) => (byte >> i) & 1),
    );
    const row = Array.from({ length: places }, (_, i) =>
      bits.slice(i * width, (i + 1) * width).reduce((sum, bit, j) => sum + bit * 2 ** j, 0),
    );
    if (bits.slice(places * width).some((bit) => bit)) row.push(-1);
    return row;
  });
}

/** Whether positions ascend inside their groups and nothing else is set. */
function nmIsLegal(p: NmMatrix): boolean {
  return positionsByBits(p).every((row) => {
    let k = 0;
    for (let c = 0; c < p.cols; c += p.m) {
      const width = Math.min(p.m, p.cols - c);
      const group = row.slice(k, k + Math.min(p.n, width));
      if (group.some((q, i) => q >= width || (i > 0 && q <= group[i - 1]))) return false;
      k += group.length;
    }
    return k === row.length;
  });
}

test("nm: what is packed comes back, lies where it should, and is valid", () => {
  const property = fc.property(nmProblem, ({ n, m, rows, cols, dense }) => {
    const before = dense.slice();
    const p = packNm(new Source(dense, [rows, cols]), n, m);
    sameBits(dense, before, "the input");
    const plain = positiveZeros(dense);
    const label = `${n}:${m} [${rows}, ${cols}]`;
    sameBits(unpackNm(p), plain, label);
    validateNm(p);

    const places = placesNm(cols, n, m);
    let counted = 0;
    for (let c = 0; c < cols; c += m) counted += Math.min(n, m, cols - c);
    assert.is(places, counted);
    assert.is(p.data.length, rows * places);
    assert.is(bytesOf({ kind: "nm", ...p }), p.indices.byteLength + 4 * rows * places);
    assert.is(p.indices.byteLength, rows * Math.ceil((places * bitsPerPosition(m)) / 8));
    assert.ok(nmIsLegal(p), `${label}: positions`);
    assert.equal([...readPositionsNm(p)], positionsByBits(p).flat());

    // A padded zero takes the lowest free position.
    const positions = readPositionsNm(p);
    for (let r = 0, i = 0; r < rows; r++) {
      for (let c = 0; c < cols; c += m) {
        const width = Math.min(m, cols - c);
        const used = Array.from({ length: width }, (_, q) => q).filter((q) => !isZero(dense, r * cols + c + q));
        const free = Array.from({ length: width }, (_, q) => q).filter((q) => isZero(dense, r * cols + c + q));
        const expected = [...used, ...free.slice(0, Math.min(n, width) - used.length)].sort((a, b) => a - b);
        assert.equal([...positions.subarray(i, i + expected.length)], expected, `${label} row ${r} column ${c}`);
        i += expected.length;
      }
    }
  });
  fc.assert(property, { seed, numRuns: 250 });
});

test("nm: indices by hand", () => {
  const row = (cols: number, ...at: number[]) => {
    const a = new Float32Array(cols);
    for (const c of at) a[c] = c + 1;
    return a;
  };
  const bytes = (cols: number, n: number, m: number, ...at: number[]) => {
    const { indices } = packNm(new Source(row(cols, ...at), [1, cols]), n, m);
    return [indices.constructor.name, ...indices];
  };
  assert.equal(bytes(10, 1, 2, 1, 2, 5, 7, 8), ["Uint8Array", 0b01_01_00_01, 0b00]);
  assert.equal(bytes(9, 2, 3, 0, 2, 4, 5, 6, 8), ["Uint8Array", 0b10_01_10_00, 0b10_00]);
  assert.equal(bytes(8, 2, 4, 1, 3, 4, 7), ["Uint8Array", 0b11_00_11_01]);
  assert.equal(bytes(10, 1, 5, 4, 7), ["Uint8Array", 0x24]);
  assert.equal(bytes(20, 3, 16, 2, 9, 15, 17, 18, 19), ["Uint8Array", 0x92, 0x1f, 0x32]);
  assert.equal(bytes(17, 2, 17, 3, 16), ["Uint8Array", 3, 16]);
  assert.equal(bytes(256, 2, 256, 7, 255), ["Uint8Array", 7, 255]);
  assert.equal(bytes(257, 2, 257, 7, 256), ["Uint16Array", 7, 256]);
  assert.equal(bytes(2048, 1, 1024, 1023, 1024 + 512), ["Uint16Array", 1023, 512]);
  // A second row starts on a byte of its own.
  assert.equal([...packNm(new Source(Float32Array.of(0, 0, 1, 0, 0, 2, 0, 0, 0), [3, 3]), 1, 4).indices], [2, 2, 0]);
  // Stored zeros, and the ragged group's fewer places.
  const padded = packNm(new Source(Float32Array.of(0, 0, 5, -0, 0, 7), [1, 6]), 3, 4);
  assert.equal([...readPositionsNm(padded)], [0, 1, 2, 0, 1]);
  assert.equal([...padded.data], [0, 0, 5, 0, 7]);
});

test("nm: degenerate sizes", () => {
  for (const [rows, cols] of [
    [0, 0],
    [0, 7],
    [5, 0],
    [1, 1],
  ]) {
    const dense = new Float32Array(rows * cols).fill(3);
    const p = packNm(new Source(dense, [rows, cols]), 1, 4);
    sameBits(unpackNm(p), dense, `[${rows}, ${cols}]`);
    validateNm(p);
    sameBits(unpackBlocks(nmToCsr(p)), dense, `csr [${rows}, ${cols}]`);
  }
});

test("nm: a fuller group is named, and nothing allocated for it", () => {
  const pack = (dense: Float32Array, rows: number, cols: number, n: number, m: number) => () =>
    packNm(new Source(dense, [rows, cols]), n, m);
  const dense = new Float32Array(3 * 10);
  for (const c of [4, 5, 7]) dense[20 + c] = 1;
  assert.is(
    refuses(pack(dense, 3, 10, 2, 4), "ERR_VALUE"),
    '"data" expected at most 2 nonzeros in each 4 columns, got 3 at row 2, columns 4..7',
  );
  dense[18] = dense[19] = NaN;
  assert.is(
    refuses(pack(dense, 3, 10, 1, 4), "ERR_VALUE"),
    '"data" expected at most 1 nonzeros in each 4 columns, got 2 at row 1, columns 8..9',
  );
  const large = new Float32Array(1 << 20).fill(1, (1 << 20) - 3);
  const bytes = allocated(() => refuses(pack(large, 1024, 1024, 2, 4), "ERR_VALUE"));
  assert.ok(bytes < 1 << 16, `${bytes} bytes for an error`);

  const property = fc.property(nmProblem, fc.nat(), ({ n, m, rows, cols, dense }, pick) => {
    fc.pre(rows > 0 && cols > 0 && n < Math.min(m, cols));
    const groups = Math.floor(cols / m) + (cols % m > n ? 1 : 0);
    const r = pick % rows;
    const c = (pick % groups) * m;
    dense.fill(1, r * cols + c, r * cols + Math.min(cols, c + m));
    const message = refuses(pack(dense, rows, cols, n, m), "ERR_VALUE");
    const last = Math.min(cols, c + m) - 1;
    assert.ok(message.endsWith(`, got ${last - c + 1} at row ${r}, columns ${c}..${last}`), message);
  });
  fc.assert(property, { seed, numRuns: 200 });
});

test("nm: new numbers at the stored places", () => {
  const property = fc.property(nmProblem, ({ n, m, rows, cols, dense, rnd }) => {
    const p = packNm(new Source(dense, [rows, cols]), n, m);
    const label = `${n}:${m} [${rows}, ${cols}]`;
    sameBits(gatherNm(p, new Source(dense, [p.rows, p.cols])), p.data, `${label}: the same numbers`);
    // A matrix that is full gives numbers to padded places too; what is not stored is left out.
    const full = weights(rows * cols, 0.2, rnd);
    const other: NmMatrix = { ...p, data: gatherNm(p, new Source(full, [p.rows, p.cols])) };
    validateNm(other);
    const stored = nmToCsr(p);
    const expected = new Float32Array(rows * cols);
    const [to, from] = [new Uint32Array(expected.buffer), new Uint32Array(positiveZeros(full).buffer)];
    for (let r = 0; r < rows; r++) {
      for (let i = stored.indptr[r]; i < stored.indptr[r + 1]; i++) {
        to[r * cols + stored.indices[i]] = from[r * cols + stored.indices[i]];
      }
    }
    sameBits(unpackNm(other), expected, `${label}: other numbers`);
    // Stored weights that became 0 stay stored.
    const zeroed: NmMatrix = {
      ...p,
      data: gatherNm(p, new Source(new Float32Array(rows * cols).fill(-0), [p.rows, p.cols])),
    };
    assert.is(zeroed.data.length, p.data.length);
    sameBits(unpackNm(zeroed), new Float32Array(rows * cols), `${label}: zeros`);
    sameBits(gatherNm(zeroed, new Source(dense, [zeroed.rows, zeroed.cols])), p.data, `${label}: and back`);
    const negative = { ...p, data: p.data.map(() => -0) };
    sameBits(unpackNm(negative), new Float32Array(rows * cols), `${label}: −0`);
  });
  fc.assert(property, { seed, numRuns: 200 });
});

test("nm: as csr, with equal counts", () => {
  const property = fc.property(nmProblem, ({ n, m, rows, cols, dense }) => {
    const csr = nmToCsr(packNm(new Source(dense, [rows, cols]), n, m));
    sameBits(unpackBlocks(csr), positiveZeros(dense), `${n}:${m} [${rows}, ${cols}]`);
    assert.equal([csr.rows, csr.cols, csr.r, csr.c], [rows, cols, 1, 1]);
    assert.equal(
      [...csr.indptr],
      Array.from({ length: rows + 1 }, (_, r) => r * placesNm(cols, n, m)),
    );
  });
  fc.assert(property, { seed, numRuns: 200 });
  const cols = 65536 + 3;
  const wide = new Float32Array(2 * cols);
  for (const i of [0, 65535, 65536, cols - 1, cols, 2 * cols - 1]) wide[i] = i + 1;
  for (const [n, m] of [
    [1, 2],
    [2, 4],
    [1, 1024],
  ]) {
    sameBits(
      unpackBlocks(nmToCsr(packNm(new Source(prune(wide.slice(), 2, cols, n, m, random()), [2, cols]), n, m))),
      prune(wide.slice(), 2, cols, n, m, random()),
      `${n}:${m}`,
    );
  }
});

test("nm: arguments", () => {
  for (const [n, m] of [
    [1, 2],
    [2, 2],
    [1024, 1024],
  ])
    checkNm(n, m);
  assert.match(
    refuses(() => checkNm(0, 4), "ERR_VALUE"),
    /"n" expected an integer in 1\.\.4, got 0/,
  );
  assert.match(
    refuses(() => checkNm(5, 4), "ERR_VALUE"),
    /"n" expected an integer in 1\.\.4, got 5/,
  );
  assert.match(
    refuses(() => checkNm(1, 1), "ERR_VALUE"),
    /"m" expected an integer in 2\.\.1024, got 1/,
  );
  assert.match(
    refuses(() => checkNm(1, 1025), "ERR_VALUE"),
    /"m"/,
  );
  assert.match(
    refuses(() => checkNm(1.5, 4), "ERR_VALUE"),
    /"n"/,
  );
  assert.match(
    refuses(() => checkNm("2", 4), "ERR_TYPE"),
    /"n" expected an integer, got "2"/,
  );
  assert.match(
    refuses(() => checkNm(2, undefined), "ERR_TYPE"),
    /"m"/,
  );
});

/** What no numeric field of a file may be. */
const WRONG_NUMBERS = [-1, 0.5, NaN, Infinity, 2 ** 31, 2 ** 53, "4", null, undefined, {}];

test("nm: a file's fields, each wrong in turn", () => {
  const p = packNm(new Source(prune(values(5 * 22, 0, random()), 5, 22, 2, 4, random()), [5, 22]), 2, 4);
  const bad = (fields: object, expected: RegExp) =>
    assert.match(
      refuses(() => validateNm({ ...p, ...fields }), "ERR_FORMAT", JSON.stringify(fields)),
      expected,
    );
  for (const field of ["rows", "cols", "n", "m"]) {
    for (const wrong of WRONG_NUMBERS) bad({ [field]: wrong }, new RegExp(`"${field}" expected an integer in`));
  }
  bad({ m: 1 }, /"m" expected an integer in 2\.\.1024, got 1/);
  bad({ m: 1025 }, /"m"/);
  bad({ n: 0 }, /"n" expected an integer in 1\.\.4, got 0/);
  bad({ n: 5 }, /"n"/);
  bad({ rows: 2 ** 30 - 16, cols: 2 }, /"cols"/);
  // Sizes whose product wraps around in 32 bits.
  bad({ rows: 65536, cols: 65536 }, /"cols"/);
  bad({ rows: 6 }, /"indices" expected \d+ elements, got \d+/);
  bad({ cols: 26 }, /"indices" expected \d+ elements/);
  bad({ indices: p.indices.subarray(1) }, /"indices" expected 15 elements, got 14/);
  bad({ data: p.data.subarray(1) }, /"data" expected 60 elements, got 59/);
  bad({ indices: Uint16Array.from(p.indices) }, /"indices" expected a Uint8Array/);
  bad({ m: 257 }, /"indices" expected a Uint16Array/);
  bad({ data: Float64Array.from(p.data) }, /"data" expected a Float32Array/);
  bad({ data: undefined }, /"data"/);
  bad({ indices: [...p.indices] }, /"indices"/);
  // Row 1, its ragged group (columns 20 and 21) in the upper half of the third byte: positions 1 and 2 of two columns.
  const indices = p.indices.slice();
  indices[5] = 0b1001_0000 | (p.indices[5] & 15);
  bad({ indices }, /"indices" expected ascending positions in 0\.\.1, got 2 at row 1, columns 20\.\.21$/);
  indices[5] = 0b0101_0000 | (p.indices[5] & 15);
  bad({ indices }, /got 1 at row 1, columns 20\.\.21$/);
  assert.is(p.indices.length, 15);
  const short = packNm(new Source(new Float32Array(2 * 3), [2, 3]), 1, 4);
  bad({ ...short, indices: Uint8Array.of(0, 4) }, /zeros in the highest 6 bits of a row's last byte, got 4 at row 1$/);
});

/** Sets one element, or cuts or lengthens: what an accident or an attacker may do to an array. */
const damage = fc.record({
  at: fc.nat(),
  value: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.nat({ max: NONE })),
  way: fc.constantFrom("set", "swap", "cut", "lengthen"),
});

function damaged<T extends Uint8Array | Uint16Array | Uint32Array | Float32Array>(
  array: T,
  { at, value, way }: { at: number; value: number; way: string },
): T {
  const copy = array.slice() as T;
  if (way === "cut") return copy.subarray(0, Math.max(0, copy.length - 1 - (at % 3))) as T;
  if (way === "lengthen") {
    const longer = new (array.constructor as new (n: number) => T)(array.length + 1);
    longer.set(array);
    return longer;
  }
  if (copy.length === 0) return copy;
  const [i, j] = [at % copy.length, value % copy.length];
  if (way === "swap") [copy[i], copy[j]] = [copy[j], copy[i]];
  else copy[i] = value;
  return copy;
}

test("nm: damaged indices are refused exactly when an independent reading finds them illegal", () => {
  let refused = 0;
  let accepted = 0;
  const property = fc.property(nmProblem, damage, ({ n, m, rows, cols, dense, rnd }, how) => {
    const p = packNm(new Source(dense, [rows, cols]), n, m);
    const bad: NmMatrix = { ...p, indices: damaged(p.indices, how) };
    if (bad.indices.length === p.indices.length && nmIsLegal(bad)) {
      accepted++;
      validateNm(bad);
      const full = weights(rows * cols, 0, rnd);
      const stored: NmMatrix = { ...bad, data: gatherNm(bad, new Source(full, [bad.rows, bad.cols])) };
      sameBits(
        gatherNm(stored, new Source(unpackNm(stored), [stored.rows, stored.cols])),
        stored.data,
        "another pattern",
      );
    } else {
      refused++;
      refuses(() => validateNm(bad), "ERR_FORMAT", `${n}:${m} [${rows}, ${cols}] ${JSON.stringify(how)}`);
    }
    const numbers: NmMatrix = { ...p, data: damaged(p.data, how) };
    if (numbers.data.length === p.data.length) validateNm(numbers);
    else refuses(() => validateNm(numbers), "ERR_FORMAT");
  });
  fc.assert(property, { seed, numRuns: 400 });
  assert.ok(refused > 60 && accepted > 30, `${refused} refused, ${accepted} accepted`);
});

test("nm: any claim of sizes is refused or backed by the arrays", () => {
  const size = fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 2 ** 31 - 1 }), fc.constantFrom(...WRONG_NUMBERS));
  const p = packNm(new Source(new Float32Array(12 * 16), [12, 16]), 2, 4);
  // One field in two is right, or no claim would ever pass.
  const or = (right: number) => fc.oneof(fc.constant(right), size);
  let [refused, accepted] = [0, 0];
  const property = fc.property(or(12), or(16), or(2), or(4), (rows, cols, n, m) => {
    const claim = { ...p, rows, cols, n, m } as NmMatrix;
    try {
      validateNm(claim);
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_FORMAT");
      refused++;
      return;
    }
    accepted++;
    assert.is(claim.rows * placesNm(claim.cols, claim.n, claim.m), p.data.length);
    assert.ok(nmIsLegal(claim));
  });
  fc.assert(property, { seed, numRuns: 1000 });
  assert.ok(refused > 100 && accepted > 20, `${refused} refused, ${accepted} accepted`);
});

// complementary

const complementaryProblem = fc
  .record({
    rows: fc.integer({ min: 0, max: 70 }),
    cols: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 100 })),
    overlay: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(20, 64, 300, 65535)),
    blockRows: fc.constantFrom(1, 4, 8),
    kind: fc.constantFrom("perfect", "gaps", "spoilt", "random"),
    zeros: shareOfZeros,
    from: fc.nat(),
  })
  .map(({ rows, cols, overlay, blockRows, kind, zeros, from }) => {
    const rnd = random(from);
    const dense =
      kind === "random"
        ? weights(rows * cols, zeros, rnd)
        : complementaryMask(rows, cols, overlay, blockRows, kind === "perfect" ? 0 : 0.3, rnd);
    if (kind === "spoilt" && dense.length) dense[Math.floor(rnd() * dense.length)] = 1;
    return {
      rows,
      cols,
      overlay,
      blockRows,
      dense,
      rnd,
      label: `${kind} [${rows}, ${cols}] L ${overlay} b ${blockRows}`,
    };
  });

/** Columns that each block row occupies, by the definition. */
function columnsOf(dense: Float32Array, rows: number, cols: number, blockRows: number): Set<number>[] {
  return Array.from({ length: Math.ceil(rows / blockRows) }, (_, b) => {
    const columns = new Set<number>();
    for (let r = b * blockRows; r < Math.min(rows, (b + 1) * blockRows); r++) {
      for (let c = 0; c < cols; c++) if (!isZero(dense, r * cols + c)) columns.add(c);
    }
    return columns;
  });
}

/** Each set's block rows. */
const setsOf = (m: ComplementaryMatrix): number[][] =>
  Array.from({ length: m.sets }, (_, s) =>
    [...m.rowOf.subarray(s * m.overlay, (s + 1) * m.overlay)].filter((b) => b !== NONE),
  );

const disjoint = (a: Set<number>, b: Set<number>): boolean => ![...a].some((c) => b.has(c));

/** The packer's rule by the plainest means: aligned tiles if they are sets, else first fit of what is not empty. */
function naiveSets(columns: Set<number>[], overlay: number): number[][] {
  const tiles: number[][] = [];
  for (let b = 0; b < columns.length; b += overlay) {
    tiles.push(Array.from({ length: Math.min(overlay, columns.length - b) }, (_, i) => b + i));
  }
  const clash = (tile: number[]) =>
    tile.some((b, i) => tile.some((d, j) => j > i && !disjoint(columns[b], columns[d])));
  if (!tiles.some(clash)) return tiles;
  const order = [...columns.keys()].filter((b) => columns[b].size > 0);
  order.sort((a, b) => columns[b].size - columns[a].size || a - b);
  const sets: number[][] = [];
  for (const b of order) {
    const home = sets.find((set) => set.length < overlay && set.every((d) => disjoint(columns[b], columns[d])));
    if (home) home.push(b);
    else sets.push([b]);
  }
  return sets.map((set) => set.sort((a, b) => a - b));
}

/** Everything that a legal matrix is, read from its fields by the definition. */
function complementaryIsLegal(m: ComplementaryMatrix): boolean {
  const count = Math.ceil(m.rows / m.blockRows);
  if (m.rowOf.length !== m.sets * m.overlay || m.ids.length !== m.cols * m.sets) return false;
  if (m.data.length !== m.ids.length * m.blockRows) return false;
  const sets = setsOf(m);
  const inFront = sets.every((set, s) => set.every((b, i) => m.rowOf[s * m.overlay + i] === b));
  const all = sets.flat().sort((a, b) => a - b);
  if (!inFront || sets.some((set) => set.length === 0)) return false;
  if (all.length !== count || all.some((b, i) => b !== i)) return false;
  for (let i = 0; i < m.ids.length; i++) {
    const set = sets[i % m.sets];
    if (m.ids[i] >= set.length) return false;
    const height = m.rows - set[m.ids[i]] * m.blockRows;
    const place = m.data.subarray(i * m.blockRows, (i + 1) * m.blockRows);
    if (place.some((v, j) => j >= height && v !== 0)) return false;
  }
  return true;
}

test("complementary: what is packed comes back, in sets that are valid", () => {
  const property = fc.property(complementaryProblem, ({ rows, cols, overlay, blockRows, dense, label }) => {
    const before = dense.slice();
    const m = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
    sameBits(dense, before, "the input");
    sameBits(unpackComplementary(m), positiveZeros(dense), label);
    validateComplementary(m);
    assert.ok(complementaryIsLegal(m), label);
    assert.is(m.blockRows, blockRows);
    assert.ok(m.overlay <= overlay, `${label}: overlay ${m.overlay}`);
    assert.is(m.ids instanceof Uint8Array, m.overlay <= 256);
    assert.is(bytesOf({ kind: "complementary", ...m }), m.rowOf.byteLength + m.ids.byteLength + m.data.byteLength);
    const nnz = dense.reduce((n, v) => n + (v === 0 ? 0 : 1), 0);
    assert.is(fillOf(m), m.data.length ? nnz / (cols * m.sets * blockRows) : 0);

    const columns = columnsOf(dense, rows, cols, blockRows);
    const sets = setsOf(m);
    assert.is(m.overlay, Math.max(1, ...sets.map((set) => set.length)));
    sets.forEach((set, s) => {
      for (let i = 1; i < set.length; i++) assert.ok(set[i] > set[i - 1], "block rows ascend in a set");
      const stored = set.map(() => 0);
      const padded = set.map(() => 0);
      for (let c = 0; c < cols; c++) {
        const owners = set.filter((b) => columns[b].has(c));
        assert.ok(owners.length <= 1, `${label}: set ${s} has column ${c} ${owners.length} times`);
        const id = m.ids[c * m.sets + s];
        if (owners.length) assert.is(set[id], owners[0]);
        else padded[id]++;
        stored[id]++;
      }
      // No padded place could have made the counts more even.
      const least = Math.min(...stored);
      stored.forEach((n, id) => {
        if (padded[id] > 0) assert.ok(n <= least + 1, `${label}: set ${s} stores ${stored}, padded ${padded}`);
      });
    });
    const again = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
    assert.equal([...again.rowOf], [...m.rowOf]);
    assert.equal(Buffer.from(again.ids.buffer), Buffer.from(m.ids.buffer));
  });
  fc.assert(property, { seed, numRuns: 400 });
});

test("complementary: the sets are those of plain first fit", () => {
  const property = fc.property(complementaryProblem, ({ rows, cols, overlay, blockRows, dense, label }) => {
    const columns = columnsOf(dense, rows, cols, blockRows);
    const naive = naiveSets(columns, overlay);
    const sets = setsOf(packComplementary(new Source(dense, [rows, cols]), overlay, blockRows));
    const tiles = naive.flat().length === columns.length && naive.every((set, t) => set[0] === t * overlay);
    // Empty block rows only level the sets; where they fit they open none.
    const occupied = tiles ? sets : sets.map((set) => set.filter((b) => columns[b].size > 0));
    assert.equal(
      occupied.filter((set) => set.length),
      naive,
      label,
    );
    if (tiles) return;
    const largest = Math.max(...naive.map((set) => set.length));
    const bound = Math.max(largest, Math.ceil(columns.length / naive.length));
    assert.ok(Math.max(...sets.map((set) => set.length)) <= bound, `${label}: empty block rows make a set larger`);
    assert.is(sets.length, Math.max(naive.length, Math.ceil(columns.length / overlay)), label);
  });
  fc.assert(property, { seed, numRuns: 400 });
});

test("complementary: perfect masks keep their tiles and have fill 1", () => {
  for (const [rows, cols, overlay, blockRows] of [
    [60, 100, 20, 1],
    [160, 64, 20, 4],
    [96, 33, 4, 8],
    [6, 7, 6, 1],
    [256, 300, 256, 1],
    [257, 300, 257, 1],
    [2400, 40, 300, 8],
    [5, 5, 1, 1],
  ]) {
    const label = `[${rows}, ${cols}] L ${overlay} b ${blockRows}`;
    const dense = complementaryMask(rows, cols, overlay, blockRows, 0, random());
    const m = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
    assert.is(fillOf(m), 1, label);
    assert.is(m.overlay, overlay);
    assert.is(m.sets, rows / blockRows / overlay);
    assert.equal([...m.rowOf], [...Array(rows / blockRows).keys()], label);
    assert.is(m.ids instanceof Uint16Array, overlay > 256);
    sameBits(m.data.slice().sort(), dense.filter((v) => v !== 0).sort(), label);
  }
});

test("complementary: cases by hand", () => {
  // Rows 0 and 1 clash, so the tiles are not sets: row 0 (three columns) first, row 2 does not fit it, row 3 does.
  const dense = Float32Array.of(1, 2, 3, 0, 4, 0, 0, 5, 0, 6, 0, 0, 0, 0, 0, 7);
  const m = packComplementary(new Source(dense, [4, 4]), 2, 1);
  assert.equal([m.sets, m.overlay], [2, 2]);
  assert.equal([...m.rowOf], [0, 3, 1, 2]);
  assert.equal([...m.ids], [0, 0, 0, 1, 0, 1, 1, 0]);
  assert.equal([...m.data], [1, 4, 2, 6, 3, 0, 7, 5]);
  assert.is(fillOf(m), 7 / 8);

  // Nothing at all: the places are dealt out evenly.
  const empty = packComplementary(new Source(new Float32Array(4 * 10).fill(-0), [4, 10]), 4, 1);
  assert.is(empty.sets, 1);
  assert.is(fillOf(empty), 0);
  for (let id = 0; id < 4; id++) assert.ok([2, 3].includes(empty.ids.filter((i) => i === id).length));
  assert.is(complementaryToBlocks(empty).indices.length, 0);

  // One element in a ragged block row: the missing rows are zeros.
  const one = packComplementary(new Source(Float32Array.of(9), [1, 1]), 20, 8);
  assert.equal([...one.data], [9, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal([one.sets, one.overlay, ...one.rowOf], [1, 1, 0]);
  assert.is(fillOf(one), 1 / 8);

  for (const [rows, cols] of [
    [0, 0],
    [0, 5],
    [5, 0],
  ]) {
    const none = packComplementary(new Source(new Float32Array(), [rows, cols]), 2, 4);
    assert.is(none.sets, Math.ceil(rows / 4 / 2));
    assert.is(fillOf(none), 0);
    validateComplementary(none);
    assert.is(unpackComplementary(none).length, 0);
    unpackBlocks(complementaryToBlocks(none));
  }

  // A full row, and empty ones that must not make one set much larger than the others: 3 + 9 rows in 3 sets.
  const tall = new Float32Array(12 * 8);
  for (const r of [0, 1, 5]) tall.fill(r + 1, r * 8, r * 8 + 8);
  const level = packComplementary(new Source(tall, [12, 8]), 10, 1);
  assert.equal(
    setsOf(level).map((set) => set.length),
    [4, 4, 4],
  );
  sameBits(unpackComplementary(level), tall, "level");
});

test("complementary: more sets than are searched", () => {
  const rows = 4500;
  const dense = new Float32Array(rows * 3);
  for (let r = 0; r < rows; r++) {
    if (r % 10 > 1) dense.fill(r + 1, r * 3, r * 3 + 3);
    else dense[r * 3 + (r % 10)] = r + 1;
  }
  const m = packComplementary(new Source(dense, [rows, 3]), 2, 1);
  sameBits(unpackComplementary(m), dense, "4500 rows");
  validateComplementary(m);
  assert.is(m.sets, 3600 + 450);
});

test("complementary: new numbers at the stored places", () => {
  const property = fc.property(complementaryProblem, ({ rows, cols, overlay, blockRows, dense, rnd, label }) => {
    const m = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
    sameBits(gatherComplementary(m, new Source(dense, [m.rows, m.cols])), m.data, `${label}: the same numbers`);
    const full = weights(rows * cols, 0.2, rnd);
    const other: ComplementaryMatrix = { ...m, data: gatherComplementary(m, new Source(full, [m.rows, m.cols])) };
    validateComplementary(other);
    const expected = new Float32Array(rows * cols);
    const [to, from] = [new Uint32Array(expected.buffer), new Uint32Array(positiveZeros(full).buffer)];
    setsOf(m).forEach((set, s) => {
      for (let c = 0; c < cols; c++) {
        const b = set[m.ids[c * m.sets + s]];
        for (let r = b * blockRows; r < Math.min(rows, (b + 1) * blockRows); r++) to[r * cols + c] = from[r * cols + c];
      }
    });
    sameBits(unpackComplementary(other), expected, `${label}: other numbers`);
    const zeroed = {
      ...m,
      data: gatherComplementary(m, new Source(new Float32Array(rows * cols).fill(-0), [m.rows, m.cols])),
    };
    sameBits(unpackComplementary(zeroed), new Float32Array(rows * cols), `${label}: zeros`);
    sameBits(gatherComplementary(zeroed, new Source(dense, [zeroed.rows, zeroed.cols])), m.data, `${label}: and back`);
    const negative = { ...m, data: m.data.map(() => -0) };
    sameBits(unpackComplementary(negative), new Float32Array(rows * cols), `${label}: −0`);
  });
  fc.assert(property, { seed, numRuns: 200 });
});

test("complementary: as blocks, without the empty places", () => {
  const property = fc.property(complementaryProblem, ({ rows, cols, overlay, blockRows, dense, label }) => {
    const m = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
    const blocks = complementaryToBlocks(m);
    sameBits(unpackBlocks(blocks), positiveZeros(dense), label);
    assert.equal([blocks.rows, blocks.cols, blocks.r, blocks.c], [rows, cols, blockRows, 1]);
    const columns = columnsOf(dense, rows, cols, blockRows);
    columns.forEach((of, b) => assert.is(blocks.indptr[b + 1] - blocks.indptr[b], of.size, `${label} block row ${b}`));
  });
  fc.assert(property, { seed, numRuns: 200 });
  const cols = 65536 + 3;
  const wide = new Float32Array(2 * cols);
  for (const i of [0, 65535, 65536, cols - 1, cols + 1, 2 * cols - 2]) wide[i] = i + 1;
  const m = packComplementary(new Source(wide, [2, cols]), 2, 1);
  assert.is(m.sets, 1);
  sameBits(unpackComplementary(m), wide, "wide");
  sameBits(unpackBlocks(complementaryToBlocks(m)), wide, "wide blocks");
});

test("complementary: arguments", () => {
  for (const blockRows of [1, 4, 8]) for (const overlay of [1, 20, 65535]) checkComplementary(overlay, blockRows);
  assert.match(
    refuses(() => checkComplementary(0, 1), "ERR_VALUE"),
    /"overlay" expected an integer in 1\.\.65535, got 0/,
  );
  assert.match(
    refuses(() => checkComplementary(65536, 1), "ERR_VALUE"),
    /"overlay"/,
  );
  assert.match(
    refuses(() => checkComplementary(undefined, 1), "ERR_TYPE"),
    /"overlay" expected an integer/,
  );
  assert.match(
    refuses(() => checkComplementary(20, 2), "ERR_VALUE"),
    /"blockRows" expected one of 1, 4, 8, got 2/,
  );
  assert.match(
    refuses(() => checkComplementary(20, 16), "ERR_VALUE"),
    /"blockRows" expected one of 1, 4, 8, got 16/,
  );
  assert.match(
    refuses(() => checkComplementary(20, "4"), "ERR_TYPE"),
    /"blockRows"/,
  );
});

test("complementary: a file's fields, each wrong in turn", () => {
  // Block rows 0, 1 and 2 (one row of four) in sets {0, 1} and {2}.
  const rows = 9;
  const m = packComplementary(new Source(complementaryMask(rows, 6, 2, 4, 0, random()), [rows, 6]), 2, 4);
  assert.equal([m.sets, m.overlay, ...m.rowOf], [2, 2, 0, 1, 2, NONE]);
  const bad = (fields: object, expected: RegExp) =>
    assert.match(
      refuses(() => validateComplementary({ ...m, ...fields }), "ERR_FORMAT", JSON.stringify(fields)),
      expected,
    );
  for (const field of ["rows", "cols", "overlay", "sets"]) {
    for (const wrong of WRONG_NUMBERS) bad({ [field]: wrong }, new RegExp(`"${field}" expected an integer in`));
  }
  for (const wrong of [...WRONG_NUMBERS, 0, 2, 16]) bad({ blockRows: wrong }, /"blockRows" expected 1, 4 or 8/);
  bad({ overlay: 0 }, /"overlay"/);
  bad({ overlay: 65536 }, /"overlay"/);
  bad({ rows: 65536, cols: 65536 }, /"cols"/);
  bad({ sets: 1 }, /"sets" expected an integer in 2\.\.3, got 1/);
  bad({ sets: 4 }, /"sets"/);
  bad({ sets: 3 }, /"rowOf" expected 6 elements, got 4/);
  bad({ rows: 13 }, /"rowOf" expected 4 block rows, got 3/);
  bad({ cols: 7 }, /"ids" expected 14 elements, got 12/);
  bad({ rowOf: Int32Array.from(m.rowOf) }, /"rowOf" expected a Uint32Array/);
  bad({ ids: Uint16Array.from(m.ids) }, /"ids" expected a Uint8Array/);
  bad({ ids: m.ids.subarray(1) }, /"ids" expected 12 elements, got 11/);
  bad({ data: m.data.subarray(1) }, /"data" expected 48 elements, got 47/);
  bad({ data: [...m.data] }, /"data" expected a Float32Array/);
  bad({ rowOf: Uint32Array.of(0, 1, 3, NONE) }, /"rowOf" expected block rows in 0\.\.2, got 3 at 2/);
  bad({ rowOf: Uint32Array.of(0, 1, 1, NONE) }, /"rowOf" expected each block row once, got 1 again at 2/);
  bad({ rowOf: Uint32Array.of(0, 1, NONE, 2) }, /"rowOf" expected a block row in each set, got "none" in set 1/);
  bad({ rowOf: Uint32Array.of(0, NONE, 2, NONE) }, /"rowOf" expected 3 block rows, got 2/);
  const late = packComplementary(new Source(new Float32Array(5), [5, 1]), 3, 1);
  bad({ ...late, rowOf: Uint32Array.of(0, 1, 2, 3, NONE, 4) }, /"rowOf" expected 4294967295 behind .*, got 4 at 5/);
  const ids = m.ids.slice();
  ids[3 * 2 + 1] = 1;
  bad({ ids }, /"ids" expected ids in 0\.\.0, got 1 at column 3, set 1/);
  const data = m.data.slice();
  data[(5 * 2 + 1) * 4 + 1] = 7;
  bad({ data }, /"data" expected zeros beyond row 8, got 7 at column 5, set 1/);
  data[(5 * 2 + 1) * 4 + 1] = NaN;
  bad({ data }, /"data" expected zeros beyond row 8, got NaN/);
});

test("complementary: damaged arrays are refused exactly when an independent reading finds them illegal", () => {
  let refused = 0;
  let accepted = 0;
  const property = fc.property(
    complementaryProblem,
    fc.constantFrom("rowOf" as const, "ids" as const, "data" as const),
    damage,
    ({ rows, cols, overlay, blockRows, dense, label }, field, how) => {
      const m = packComplementary(new Source(dense, [rows, cols]), overlay, blockRows);
      const bad: ComplementaryMatrix = { ...m, [field]: damaged(m[field], how) };
      if (complementaryIsLegal(bad)) {
        accepted++;
        validateComplementary(bad);
        const numbers = unpackComplementary(bad);
        sameBits(unpackBlocks(complementaryToBlocks(bad)), positiveZeros(numbers), label);
        assert.is(gatherComplementary(bad, new Source(numbers, [bad.rows, bad.cols])).length, bad.data.length);
      } else {
        refused++;
        refuses(() => validateComplementary(bad), "ERR_FORMAT", `${label} ${field} ${JSON.stringify(how)}`);
      }
    },
  );
  fc.assert(property, { seed, numRuns: 800 });
  assert.ok(refused > 200 && accepted > 100, `${refused} refused, ${accepted} accepted`);
});

test("complementary: any claim of sizes is refused or backed by the arrays", () => {
  const size = fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 2 ** 31 - 1 }), fc.constantFrom(...WRONG_NUMBERS));
  const m = packComplementary(new Source(new Float32Array(12 * 16), [12, 16]), 4, 1);
  const or = (right: number) => fc.oneof(fc.constant(right), size);
  let [refused, accepted] = [0, 0];
  const property = fc.property(or(12), or(16), or(4), or(m.sets), (rows, cols, overlay, sets) => {
    const claim = { ...m, rows, cols, overlay, sets } as ComplementaryMatrix;
    try {
      validateComplementary(claim);
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_FORMAT");
      refused++;
      return;
    }
    accepted++;
    assert.ok(complementaryIsLegal(claim));
  });
  fc.assert(property, { seed, numRuns: 1000 });
  assert.ok(refused > 100 && accepted > 20, `${refused} refused, ${accepted} accepted`);
});

test("packing takes at most twice the dense array's bytes", () => {
  const rnd = random();
  const [rows, cols] = [512, 640];
  const bytes = 4 * rows * cols;
  const full = values(rows * cols, 0, rnd);
  for (const m of [4, 16, 64, 640]) {
    const extra = allocated(() => packNm(new Source(full, [rows, cols]), m, m));
    assert.ok(extra <= 2 * bytes, `${m}:${m} took ${extra / bytes} times the matrix (seed ${seed})`);
  }
  for (const zeros of [0, 0.5, 0.95, 0.999]) {
    for (const [overlay, blockRows] of [
      [20, 1],
      [65535, 1],
      [20, 4],
    ]) {
      const dense = values(rows * cols, zeros, rnd);
      const extra = allocated(() => packComplementary(new Source(dense, [rows, cols]), overlay, blockRows));
      assert.ok(extra <= 2 * bytes, `${zeros} L ${overlay} b ${blockRows} took ${extra / bytes} times (seed ${seed})`);
    }
  }
});

test("whatever the format and the order, finding the structure and packing take at most twice the dense array's bytes", () => {
  const formats: Format[] = [
    "dense",
    "csr",
    { kind: "block", rows: 1, cols: 2 },
    { kind: "block", rows: 8, cols: 4 },
    { kind: "nm", n: 4, m: 4 },
    { kind: "nm", n: 512, m: 512 },
    { kind: "complementary", overlay: 20 },
    { kind: "complementary", overlay: 20, blockRows: 4 },
  ];
  const orders = [
    ["oi", [512, 640]],
    ["io", [512, 640]],
    ["oihw", [64, 512, 3, 3]],
    ["hwio", [64, 512, 3, 3]],
  ] as const;
  for (const [layout, shape] of orders) {
    const size = shape.reduce((a, b) => a * b, 1);
    const full = values(size, 0, random());
    for (const format of formats) {
      const extra = allocated(() => {
        const source = new Source(full, shape, layout);
        return [packAs(format, source), detectIn(source.nonzeros)];
      });
      assert.ok(
        extra <= 8 * size,
        `${JSON.stringify(format)} from ${layout} took ${extra / 4 / size} times the matrix`,
      );
    }
  }
});

test.run();
