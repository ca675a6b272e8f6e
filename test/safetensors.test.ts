// The safetensors reader and writer: against bytes of the reference implementation, round trips, hostile files, and a
// fuzz of bit flips. A file from outside must be read or refused with a code, quickly, whatever its bytes.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Dtype, SafetensorsData, SafetensorsEntry, SafetensorsInput } from "../bindings/io/safetensors.js";
import { readSafetensors, toFloat32, writeSafetensors } from "../bindings/io/safetensors.js";

const test = suite("safetensors");

/** A file of any header and data; the header may be as wrong as a test wants it. */
function fileOf(header: string | Uint8Array, data: ArrayLike<number> = [], headerLength?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

function bytesOf(data: SafetensorsData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function tensorOf(tensors: Map<string, SafetensorsEntry>, name: string): SafetensorsEntry {
  const entry = tensors.get(name);
  assert.ok(entry, `no tensor "${name}"`);
  return entry as SafetensorsEntry;
}

/** uvu's own `equal` takes seconds on large arrays, and takes all NaNs for the same. */
function sameBytes(actual: Uint8Array, expected: Uint8Array, what = ""): void {
  assert.is(actual.length, expected.length, `${what}: length`);
  const bad = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.is(bad, -1, `${what}: byte ${bad} is ${actual[bad]}, not ${expected[bad]}`);
}

function sameTensors(actual: Map<string, SafetensorsEntry>, expected: Map<string, SafetensorsEntry>): void {
  assert.equal([...actual.keys()].sort(), [...expected.keys()].sort());
  for (const [name, { dtype, shape, data }] of expected) {
    const entry = tensorOf(actual, name);
    assert.is(entry.dtype, dtype);
    assert.equal(entry.shape, shape);
    assert.is(Object.getPrototypeOf(entry.data), Object.getPrototypeOf(data), `${name}: class of the array`);
    sameBytes(bytesOf(entry.data), bytesOf(data), name);
  }
}

/** Calls `run`, which must throw a coded error of a message that matches. */
function refuses(run: () => unknown, code: string, message: RegExp): void {
  try {
    run();
  } catch (error) {
    const { code: got, message: text } = error as Error & { code?: string };
    assert.is(got, code, `expected ${code}, got ${got}: ${text}`);
    assert.match(text, message);
    assert.ok(text.length < 700, `a message of ${text.length} characters`);
    assert.is(error instanceof TypeError, code === "ERR_TYPE");
    return;
  }
  assert.unreachable(`expected ${code} ${message}`);
}

/** The bytes that safetensors 0.8.0 (Python, Rust) wrote for the tensors of the first test. */
const REFERENCE = fileOf(
  '{"__metadata__":{"format":"pt"},"long":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
    '"empty":{"dtype":"F64","shape":[0,3],"data_offsets":[8,8]},' +
    '"10":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},' +
    '"9":{"dtype":"BF16","shape":[1,2],"data_offsets":[16,20]},' +
    '"\uffff":{"dtype":"U8","shape":[1],"data_offsets":[20,21]},' +
    '"\u{1f600}":{"dtype":"U8","shape":[1],"data_offsets":[21,22]},' +
    '"a\\"\\n\\u0001\x7f":{"dtype":"BOOL","shape":[2],"data_offsets":[22,24]}} ',
  Buffer.from("ffffffffffffffff0000c03f0100c07f803f00c007080100", "hex"),
);

test("writes the reference implementation's bytes, and reads them back", () => {
  const inputs: Record<string, SafetensorsInput> = {
    "9": { dtype: "BF16", shape: [1, 2], data: new Uint16Array([0x3f80, 0xc000]) },
    "10": { shape: [2], data: new Float32Array(new Uint32Array([0x3fc00000, 0x7fc00001]).buffer) },
    "\u{1f600}": { shape: [1], data: new Uint8Array([8]) },
    "\uffff": { shape: [1], data: new Uint8Array([7]) },
    'a"\n\u0001\x7f': { dtype: "BOOL", shape: [2], data: new Uint8Array([1, 0]) },
    empty: { shape: [0, 3], data: new Float64Array() },
    long: { shape: [], data: new BigInt64Array([-1n]) },
  };
  assert.is(REFERENCE.length, 8 + 440 + 24);
  sameBytes(writeSafetensors(inputs, { format: "pt" }), REFERENCE, "object");
  sameBytes(writeSafetensors(new Map(Object.entries(inputs).reverse()), { format: "pt" }), REFERENCE, "map");
  const { tensors, metadata } = readSafetensors(REFERENCE);
  assert.is(metadata.format, "pt");
  assert.is(Object.getPrototypeOf(metadata), null);
  assert.equal([...tensors.keys()].slice(0, 3), ["long", "empty", "10"]);
  sameBytes(writeSafetensors(tensors, metadata), REFERENCE, "read and written");
});

test("a file without tensors", () => {
  const file = writeSafetensors({});
  sameBytes(file, fileOf("{}      "));
  assert.is(readSafetensors(file).tensors.size, 0);
  assert.equal(Object.keys(readSafetensors(fileOf('{ "__metadata__" : { } }\n\t')).metadata), []);
});

const ARRAYS: Record<Dtype, new (buffer: ArrayBuffer) => SafetensorsData> = {
  BOOL: Uint8Array,
  F4: Uint8Array,
  F6_E2M3: Uint8Array,
  F6_E3M2: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  F8_E5M2: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E8M0: Uint8Array,
  F8_E4M3FNUZ: Uint8Array,
  F8_E5M2FNUZ: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  C64: Uint8Array,
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
};
const BITS: Partial<Record<Dtype, number>> = { F4: 4, F6_E2M3: 6, F6_E3M2: 6, C64: 64 };

/** Tensors of every dtype and of random bytes: signalling NaNs, -0 and subnormals are among the floats. */
const anyTensor: fc.Arbitrary<SafetensorsEntry> = fc
  .record({
    dtype: fc.constantFrom(...(Object.keys(ARRAYS) as Dtype[])),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
    seed: fc.integer(),
  })
  .chain(({ dtype, shape }) => {
    const array = ARRAYS[dtype];
    const bits = BITS[dtype] ?? new array(new ArrayBuffer(0)).BYTES_PER_ELEMENT * 8;
    // Eight times the last dimension fills whole bytes at 4 and 6 bits; the empty shape has no last dimension.
    const whole = bits < 8 ? [...shape, 8] : shape;
    const byteLength = (whole.reduce((product, d) => product * d, 1) * bits) / 8;
    const special = fc.constantFrom(0, 0x7f, 0x80, 0xff);
    return fc
      .uint8Array({ minLength: byteLength, maxLength: byteLength })
      .chain((data) => fc.tuple(fc.constant(data), fc.array(special, { maxLength: byteLength })))
      .map(([data, head]) => {
        data.set(head);
        return { dtype, shape: whole, data: new array(data.slice().buffer) };
      });
  });

const anyName = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.constantFrom("__proto__", "constructor", "0", "10", "9", "", '"\\', "層.重み", "\u2028"),
);

test("read(write(x)) is x, bit for bit, wherever the file starts in its buffer", () => {
  const file = fc.record({
    tensors: fc.uniqueArray(fc.tuple(anyName, anyTensor), { selector: ([name]) => name, maxLength: 8 }),
    metadata: fc.uniqueArray(fc.tuple(anyName, anyName), { selector: ([key]) => key, maxLength: 3 }),
    shift: fc.nat({ max: 9 }),
  });
  fc.assert(
    fc.property(file, ({ tensors, metadata, shift }) => {
      const expected = new Map(tensors.filter(([name]) => name !== "__metadata__"));
      const texts: Record<string, string> = Object.assign(Object.create(null), Object.fromEntries(metadata));
      const written = writeSafetensors(expected, texts);
      const moved = new Uint8Array(written.length + shift).subarray(shift);
      moved.set(written);
      const read = readSafetensors(moved);
      sameTensors(read.tensors, expected);
      assert.equal({ ...read.metadata }, { ...texts });
      sameBytes(writeSafetensors([...expected].reverse(), texts), written, "order of the tensors");
      assert.is(new DataView(written.buffer).getBigUint64(0, true) % 8n, 0n);
    }),
    { numRuns: 400 },
  );
});

test("an aligned tensor is a view of the file, an unaligned one a copy", () => {
  const file = writeSafetensors({ w: { shape: [3], data: new Float32Array([1, -0, Number.NaN]) } });
  assert.is(tensorOf(readSafetensors(file).tensors, "w").data.buffer, file.buffer);
  assert.is(tensorOf(readSafetensors(file.buffer as ArrayBuffer).tensors, "w").data.buffer, file.buffer);
  // A Buffer's slice() would be a view: the copy must not lean on it.
  const shifted = Buffer.concat([Buffer.from([0]), file]).subarray(1);
  const { data } = tensorOf(readSafetensors(shifted).tensors, "w");
  assert.is.not(data.buffer, shifted.buffer);
  assert.ok(data instanceof Float32Array);
  assert.ok(Object.is(data[1], -0));
  const ofBytes = Buffer.from(fileOf(entry("w", "U8", "[1]", "[0,1]"), [5]));
  const raw = tensorOf(readSafetensors(ofBytes).tensors, "w").data;
  assert.is(Object.getPrototypeOf(raw), Uint8Array.prototype);
});

test("names such as __proto__ are names, in tensors and in metadata", () => {
  const file = fileOf(
    '{"__metadata__":{"__proto__":"a"},"__proto__":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}',
    [7],
  );
  const { tensors, metadata } = readSafetensors(file);
  assert.is(tensorOf(tensors, "__proto__").data[0], 7);
  assert.equal(Object.entries(metadata), [["__proto__", "a"]]);
  assert.is(({} as Record<string, unknown>).a, undefined);
});

function entry(name: string, dtype: string, shape: string, offsets: string): string {
  return `{"${name}":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}}`;
}

const eight = [0, 1, 2, 3, 4, 5, 6, 7];
const many = Array.from({ length: 33 }, () => 1).join();
const hostile: [what: string, file: Uint8Array, message: RegExp][] = [
  ["empty file", new Uint8Array(), /"bytes" expected a file of at least 8 bytes, got 0/],
  ["seven bytes", new Uint8Array(7), /at least 8 bytes, got 7/],
  ["header length of 0", new Uint8Array(8), /JSON text that starts with \{/],
  [
    "header above 100 MB",
    fileOf("{}", [], 100_000_001n),
    /"header length" expected at most 100000000 bytes, got 1000000/,
  ],
  ["header of 2^64 - 1", fileOf("{}", [], 2n ** 64n - 1n), /at most 100000000 bytes, got 18446744073709551615n/],
  ["header beyond the file", fileOf("{}", [], 3n), /at most the 2 bytes that follow it, got 3/],
  ["invalid UTF-8", fileOf(new Uint8Array([0x7b, 0x22, 0xff, 0x22])), /UTF-8/],
  ["overlong UTF-8", fileOf(new Uint8Array([0x7b, 0xc0, 0x80])), /UTF-8/],
  ["byte order mark", fileOf("\ufeff{}"), /starts with \{/],
  ["space first", fileOf(" {}"), /starts with \{/],
  ["array", fileOf("[]"), /starts with \{/],
  ["truncated", fileOf('{"a'), /"header" expected a name in valid JSON, got "a" at character 1 of 3/],
  ["only a brace", fileOf("{"), /"header" expected a name, got "" at character 1 of 1/],
  ["no colon", fileOf('{"a"}'), /expected ":", got "}"/],
  ["trailing comma", fileOf(`${entry("a", "U8", "[0]", "[0,0]").slice(0, -1)},}`), /expected a name/],
  ["text after it", fileOf("{} {}"), /nothing but spaces after the JSON object/],
  ["NUL padding", fileOf("{}\0\0"), /nothing but spaces/],
  ["unknown escape", fileOf('{"\\x":{}}'), /a name in valid JSON/],
  ["control character in a name", fileOf('{"a\nb":{}}'), /a name in valid JSON/],
  ["half a surrogate pair", fileOf(entry("\\ud800", "U8", "[0]", "[0,0]")), /a name in valid JSON/],
  [
    "deep nesting",
    fileOf(`{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`),
    /"a" expected a JSON object, got "\["/,
  ],
  ["deep nesting in a shape", fileOf(entry("a", "U8", "[[[[0]]]]", "[0,0]")), /"a.shape" expected integers.*got "\["/],
  ["deep objects", fileOf('{"a":'.repeat(100_000)), /"a" expected the keys dtype, shape, data_offsets, got "a"/],
  [
    "same name twice",
    fileOf(`${entry("a", "U8", "[0]", "[0,0]").slice(0, -1)},${entry("\\u0061", "U8", "[0]", "[0,0]").slice(1)}`),
    /"header" expected each name once, got "a" again/,
  ],
  ["same key twice", fileOf('{"a":{"dtype":"U8","dtype":"I8"}}'), /"a" expected each name once, got "dtype" again/],
  ["metadata twice", fileOf('{"__metadata__":{},"__metadata__":{}}'), /each name once, got "__metadata__"/],
  ["metadata is null", fileOf('{"__metadata__":null}'), /"__metadata__" expected a JSON object, got "null"/],
  ["metadata is an array", fileOf('{"__metadata__":[]}'), /"__metadata__" expected a JSON object/],
  ["metadata of a number", fileOf('{"__metadata__":{"k":1}}'), /"__metadata__.k" expected a string, got 1 at/],
  ["metadata of an object", fileOf('{"__metadata__":{"k":{}}}'), /"__metadata__.k" expected a string, got "{"/],
  ["tensor is null", fileOf('{"a":null}'), /"a" expected a JSON object, got "null"/],
  ["tensor is a number", fileOf('{"a":-1.5}'), /"a" expected a JSON object, got -1.5/],
  ["no keys", fileOf('{"a":{}}'), /"a" expected the keys dtype, shape, data_offsets, got "fewer"/],
  ["unknown key", fileOf('{"a":{"strides":[1]}}'), /keys dtype, shape, data_offsets, got "strides"/],
  ["unknown dtype", fileOf(entry("a", "F128", "[0]", "[0,0]")), /"a.dtype" expected one of BOOL, .*got "F128"/],
  ["dtype of Object", fileOf(entry("a", "constructor", "[0]", "[0,0]")), /"a.dtype" expected one of/],
  ["dtype in lower case", fileOf(entry("a", "f32", "[0]", "[0,0]")), /"a.dtype" expected one of/],
  ["dtype is a number", fileOf('{"a":{"dtype":4}}'), /"a.dtype" expected a string, got 4/],
  ["negative dimension", fileOf(entry("a", "U8", "[-1]", "[0,0]")), /"a.shape" expected integers in 0\.\..*got -1/],
  ["fraction", fileOf(entry("a", "U8", "[1.5]", "[0,0]")), /"a.shape" expected integers .*got 1.5/],
  ["exponent", fileOf(entry("a", "U8", "[1e0]", "[0,1]"), [0]), /"a.shape" expected integers .*got 1 /],
  ["leading zero", fileOf(entry("a", "U8", "[01]", "[0,1]"), [0]), /"a.shape" expected integers/],
  ["2^53", fileOf(entry("a", "U8", "[9007199254740992]", "[0,0]")), /"a.shape" expected integers in 0/],
  ["digits without end", fileOf(entry("a", "U8", `[${"9".repeat(1e6)}]`, "[0,0]")), /"a.shape" expected integers/],
  ["string in a shape", fileOf(entry("a", "U8", '["3"]', "[0,0]")), /"a.shape" expected integers .*got "3"/],
  ["null in a shape", fileOf(entry("a", "U8", "[null]", "[0,0]")), /got "null"/],
  ["shape is a string", fileOf(entry("a", "U8", '"3"', "[0,0]")), /"a.shape" expected an array of integers/],
  ["33 dimensions", fileOf(entry("a", "U8", `[${many}]`, "[0,1]"), [0]), /"a.shape" expected at most 32 integers/],
  ["elements beyond 2^53", fileOf(entry("a", "U8", "[4294967296,4294967296]", "[0,0]")), /fewer than 2\^53 elements/],
  [
    "elements beyond 2^53, then 0",
    fileOf(entry("a", "U8", "[9007199254740991,9007199254740991,0]", "[0,0]")),
    /fewer than 2\^53 elements, got \[9007199254740991, 9007199254740991, 0\]/,
  ],
  [
    "huge but absent",
    fileOf(entry("a", "F64", "[9007199254740991]", "[0,8]"), eight),
    /72057594037927930 bytes for F64/,
  ],
  ["one offset", fileOf(entry("a", "U8", "[8]", "[8]"), eight), /\[begin, end\] with begin <= end <= 8, got \[8\]/],
  ["no offset", fileOf(entry("a", "U8", "[8]", "[]"), eight), /\[begin, end\] .*got \[\]/],
  ["three offsets", fileOf(entry("a", "U8", "[8]", "[0,8,8]"), eight), /"a.data_offsets" expected at most 2 integers/],
  ["negative offset", fileOf(entry("a", "U8", "[8]", "[-8,0]"), eight), /"a.data_offsets" expected integers .*got -8/],
  ["end before begin", fileOf(entry("a", "U8", "[8]", "[8,0]"), eight), /begin <= end <= 8, got \[8, 0\]/],
  ["end beyond the file", fileOf(entry("a", "U8", "[9]", "[0,9]"), eight), /begin <= end <= 8, got \[0, 9\]/],
  [
    "too few bytes",
    fileOf(entry("a", "F32", "[3]", "[0,8]"), eight),
    /12 bytes for F32 of shape \[3\], got 8: \[0, 8\]/,
  ],
  ["too many bytes", fileOf(entry("a", "F32", "[]", "[0,8]"), eight), /4 bytes for F32 of shape \[\], got 8/],
  ["half a byte", fileOf(entry("a", "F4", "[3]", "[0,2]"), [0, 0]), /1.5 bytes for F4 of shape \[3\], got 2/],
  ["bytes for nothing", fileOf(entry("a", "F32", "[0]", "[0,8]"), eight), /0 bytes for F32 of shape \[0\]/],
  [
    "trailing byte",
    fileOf(entry("a", "U8", "[7]", "[0,7]"), eight),
    /"bytes" expected 7 bytes after the header.*got 8/,
  ],
  ["data of no tensor", fileOf("{}", eight), /"bytes" expected 0 bytes after the header/],
  [
    "hole at the start",
    fileOf(entry("a", "U8", "[7]", "[1,8]"), eight),
    /no hole before it, so begin = 0, got \[1, 8\]/,
  ],
  [
    "hole between",
    fileOf(`${entry("a", "U8", "[3]", "[0,3]").slice(0, -1)},${entry("b", "U8", "[4]", "[4,8]").slice(1)}`, eight),
    /"b.data_offsets" expected no hole before it, so begin = 3, got \[4, 8\]/,
  ],
  [
    "overlap",
    fileOf(`${entry("a", "U8", "[5]", "[0,5]").slice(0, -1)},${entry("b", "U8", "[4]", "[4,8]").slice(1)}`, eight),
    /"b.data_offsets" expected no overlap with "a", got \[4, 8\]/,
  ],
  [
    "the same bytes twice",
    fileOf(`${entry("a", "U8", "[8]", "[0,8]").slice(0, -1)},${entry("b", "U8", "[8]", "[0,8]").slice(1)}`, eight),
    /"b.data_offsets" expected no overlap with "a"/,
  ],
  ["a name of a megabyte", fileOf(entry("n".repeat(1e6), "F32", "[-1]", "[0,0]")), /n{80}….shape" expected integers/],
];

for (const [what, file, message] of hostile) {
  test(`refuses: ${what}`, () => {
    const start = performance.now();
    refuses(() => readSafetensors(file), "ERR_FORMAT", message);
    assert.ok(performance.now() - start < 5000, "quickly");
  });
}

test("refuses what is no bytes at all", () => {
  for (const value of [undefined, null, "file", [1, 2], new Float32Array(4), {}]) {
    refuses(() => readSafetensors(value as unknown as Uint8Array), "ERR_TYPE", /"bytes" expected a Uint8Array/);
  }
});

test("a header of a great many names stays cheap", () => {
  // 1.4 million metadata entries, 14 MB: refused by their number, before a heap of them is built.
  const members = Array.from({ length: 1_400_000 }, (_, i) => `"${i.toString(36)}":""`);
  const start = performance.now();
  const file = fileOf(`{"__metadata__":{${members.join()}}}`);
  refuses(() => readSafetensors(file), "ERR_FORMAT", /"__metadata__" expected at most 1000000 names/);
  assert.ok(performance.now() - start < 15_000);
});

test("bit flips and cuts: every file is read or refused with a code", () => {
  // xorshift32; the seed is in every message, so that a failure can be repeated.
  const seed = (Date.now() ^ (process.pid << 8)) >>> 0 || 1;
  let state = seed;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const start = performance.now();
  let refused = 0;
  const rounds = 6000;
  for (let round = 0; round < rounds; round++) {
    let file = REFERENCE.slice();
    for (let flips = 1 + random(3); flips > 0; flips--) {
      // Most of the flips into the header: in the data they change nothing.
      const at = random(4) === 0 ? random(file.length) : random(448);
      file[at] = random(2) === 0 ? file[at] ^ (1 << random(8)) : random(256);
    }
    if (random(8) === 0) file = file.slice(0, random(file.length + 1));
    try {
      const { tensors } = readSafetensors(file);
      for (const tensor of tensors.values()) assert.ok(tensor.data.byteLength <= file.length);
    } catch (error) {
      const { code, message } = error as Error & { code?: string };
      assert.is(code, "ERR_FORMAT", `seed ${seed}, round ${round}: ${message}`);
      refused++;
    }
  }
  const seconds = (performance.now() - start) / 1000;
  assert.ok(seconds < 20, `seed ${seed}: ${seconds} s`);
  assert.ok(refused > rounds / 2 && refused < rounds, `seed ${seed}: ${refused} of ${rounds} refused`);
});

test("toFloat32: all 65536 halves against their definition", () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const floats = toFloat32({ dtype: "F16", shape: [65536], data: halves });
  const bits = new Uint32Array(floats.buffer);
  for (let h = 0; h < 65536; h++) {
    const exponent = (h >> 10) & 31;
    const fraction = h & 1023;
    const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    const expected = exponent < 31 ? magnitude : fraction === 0 ? Infinity : Number.NaN;
    if (!Object.is(floats[h], h < 32768 ? expected : -expected)) assert.unreachable(`half ${h} gave ${floats[h]}`);
    if (bits[h] >>> 31 !== h >> 15) assert.unreachable(`half ${h} lost its sign`);
    if (exponent === 31 && ((bits[h] >>> 13) & 1023) !== fraction) assert.unreachable(`half ${h} lost its payload`);
  }
});

test("toFloat32: bfloat16 is the upper half of float32", () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const bits = new Uint32Array(toFloat32({ dtype: "BF16", shape: [65536], data: halves }).buffer);
  assert.is(
    bits.findIndex((value, i) => value !== (i << 16) >>> 0),
    -1,
  );
});

test("toFloat32: the other dtypes", () => {
  const floats = (dtype: Dtype, data: SafetensorsData): number[] => [...toFloat32({ dtype, shape: [2], data })];
  assert.equal(floats("F64", new Float64Array([0.1, -1e300])), [Math.fround(0.1), -Infinity]);
  assert.equal(floats("I64", new BigInt64Array([-3n, 2n ** 62n])), [-3, 2 ** 62]);
  assert.equal(floats("U64", new BigUint64Array([3n, 2n ** 64n - 1n])), [3, 2 ** 64]);
  assert.equal(floats("I32", new Int32Array([-3, 2 ** 31 - 1])), [-3, 2 ** 31]);
  assert.equal(floats("U32", new Uint32Array([3, 2 ** 32 - 1])), [3, 2 ** 32]);
  assert.equal(floats("I16", new Int16Array([-3, 3])), [-3, 3]);
  assert.equal(floats("U16", new Uint16Array([3, 65535])), [3, 65535]);
  assert.equal(floats("I8", new Int8Array([-3, 3])), [-3, 3]);
  assert.equal(floats("U8", new Uint8Array([3, 255])), [3, 255]);
  assert.equal(floats("BOOL", new Uint8Array([1, 0])), [1, 0]);
  const data = new Float32Array([1, 2]);
  assert.is(toFloat32({ dtype: "F32", shape: [2], data }), data, "no copy");
  for (const dtype of ["F4", "F6_E2M3", "F8_E4M3", "F8_E5M2", "F8_E8M0", "C64"] as const) {
    refuses(() => floats(dtype, new Uint8Array(2)), "ERR_UNSUPPORTED", /"entry.dtype" expected a dtype that converts/);
  }
  refuses(() => floats("F16", data), "ERR_TYPE", /"entry.data" expected a Uint16Array for F16, got Float32Array\(2\)/);
  refuses(() => floats("F8" as Dtype, data), "ERR_VALUE", /"entry.dtype" expected one of/);
  refuses(() => toFloat32(null as unknown as SafetensorsEntry), "ERR_TYPE", /"entry" expected a tensor/);
});

test("writeSafetensors refuses what would not be a file", () => {
  const w = { shape: [2], data: new Float32Array(2) };
  const write = (tensors: unknown, metadata?: unknown) => () =>
    writeSafetensors(tensors as Record<string, SafetensorsInput>, metadata as Record<string, string>);
  refuses(write(undefined), "ERR_TYPE", /"tensors" expected an object or a Map/);
  refuses(write([w]), "ERR_TYPE", /"tensors" expected pairs/);
  refuses(write([[1, w]]), "ERR_TYPE", /"tensors" expected a name, got 1/);
  refuses(write({ w: null }), "ERR_TYPE", /"w" expected an object with shape and data, got null/);
  refuses(write({ w: { shape: [2] } }), "ERR_TYPE", /"w.data" expected a typed array/);
  refuses(write({ w: { shape: [2], data: [1, 2] } }), "ERR_TYPE", /"w.data" expected a typed array/);
  refuses(write({ w: { ...w, dtype: "F99" } }), "ERR_VALUE", /"w.dtype" expected one of/);
  refuses(write({ w: { ...w, dtype: "BF16" } }), "ERR_TYPE", /"w.data" expected a Uint16Array for BF16/);
  refuses(write({ w: { ...w, shape: [3] } }), "ERR_LENGTH", /"w.data" expected 3 elements, got 2/);
  refuses(write({ w: { ...w, shape: [-2] } }), "ERR_SHAPE", /"w.shape" expected dimensions that are integers/);
  refuses(write({ w: { ...w, shape: undefined } }), "ERR_TYPE", /"w.shape" expected an array/);
  refuses(write({ __metadata__: w }), "ERR_VALUE", /a name other than that of the metadata/);
  refuses(write({ "\ud800": w }), "ERR_VALUE", /whole Unicode characters/);
  const other = { shape: [], data: new Int8Array(1) };
  refuses(
    write([
      ["w", w],
      ["w", other],
    ]),
    "ERR_VALUE",
    /each name once, got "w" again/,
  );
  refuses(write({ w }, { key: 1 }), "ERR_TYPE", /"metadata.key" expected a string, got 1/);
  refuses(write({ w }, "text"), "ERR_TYPE", /"metadata" expected an object/);
  refuses(write({ w }, { "\udc00": "" }), "ERR_VALUE", /whole Unicode characters/);
});

test.run();
