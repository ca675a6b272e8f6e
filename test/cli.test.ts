// The command as a person runs it: dist/cli.js in a process of its own, on files with known zeros.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type BenchRow, type BreakEven, breakEven, recommend } from "../bindings/cli/bench.js";
import type { Machine } from "../bindings/cli/machine.js";
import { parseFormat } from "../bindings/cli/pack.js";
import { table } from "../bindings/cli/table.js";
import { formatName } from "../bindings/formats/format.js";
import { createEngine, type Format } from "../bindings/index.js";
import type { InspectRow, Measurement } from "../bindings/inspect.js";
import type { SafetensorsInput } from "../bindings/io/safetensors.js";
import { readSafetensors, toFloat32, writeSafetensors } from "../bindings/io/safetensors.js";
import { check, type Evenness, prune } from "../bindings/patterns.js";
import { FORMATS, random, sameBits, values } from "./oracle.js";

const test = suite("cli");
const root = fileURLToPath(new URL("..", import.meta.url));
const cli = join(root, "dist", "cli.js");
let folder = "";

interface Report {
  file: string;
  machine: Machine;
  rows: InspectRow[];
  totals: {
    matrices: number;
    tensors: number;
    elements: number;
    nnz: number;
    zeros: number;
    denseBytes: number;
    packedBytes: number;
    measured?: Measurement[];
  };
}

/** Runs `skipzeros` in the temporary folder. */
function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { NO_COLOR: _, FORCE_COLOR: __, ...env } = process.env;
  return spawnSync(process.execPath, [cli, ...args], { cwd: folder, env, encoding: "utf8", timeout: 60_000 });
}

function report(...args: string[]): Report {
  const { status, stdout, stderr } = run("inspect", ...args, "--json");
  assert.is(stderr, "");
  assert.is(status, 0);
  return JSON.parse(stdout);
}

/** All ones but for `zeros` of them, at places that a fixed generator shuffles. */
function matrix(shape: number[], zeros: number): SafetensorsInput {
  const size = shape.reduce((product, d) => product * d, 1);
  const places = Array.from({ length: size }, (_, i) => i);
  let state = 1;
  for (let i = size - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [places[i], places[j]] = [places[j], places[i]];
  }
  const data = new Float32Array(size).fill(1);
  for (const place of places.slice(0, zeros)) data[place] = 0;
  return { shape, data };
}

/** Half zeros; rows 0..2 and column 7 without a weight, and the zeros of the column negative. */
function emptied(): Float32Array {
  const data = matrix([40, 50], 1000).data as Float32Array;
  data.fill(0, 0, 150);
  for (let row = 3; row < 40; row++) data[row * 50 + 7] = -0;
  return data;
}

function modelTensors(): Record<string, SafetensorsInput> {
  return {
    "fc.weight": matrix([256, 256], 61_000),
    "fc.bias": matrix([256], 0),
    "empty.weight": { shape: [40, 50], data: emptied() },
    "zero.weight": matrix([4, 6], 24),
    "half.weight": { dtype: "F16", shape: [2, 2], data: new Uint16Array([0x3c00, 0x3c00, 0x4000, 0xbc00]) },
    "conv.weight": matrix([8, 4, 3, 3], 144),
    "depthwise.weight": matrix([8, 1, 3, 3], 36),
    "evil\u001b[2Jname": matrix([3, 3], 1),
    position_ids: { shape: [2, 2], data: new BigInt64Array(4) },
    "none.weight": { shape: [0, 4], data: new Float32Array() },
  };
}

const expectedRows: Record<string, Pick<InspectRow, "dtype" | "shape" | "nnz" | "structure">> = {
  "fc.weight": { dtype: "F32", shape: [256, 256], nnz: 65_536 - 61_000, structure: "unstructured" },
  "empty.weight": {
    dtype: "F32",
    shape: [40, 50],
    nnz: emptied().reduce((n, v) => n + (v === 0 ? 0 : 1), 0),
    structure: "unstructured, 3 empty rows, 1 empty column",
  },
  "zero.weight": { dtype: "F32", shape: [4, 6], nnz: 0, structure: "all zero" },
  "half.weight": { dtype: "F16", shape: [2, 2], nnz: 4, structure: "dense" },
  "conv.weight": { dtype: "F32", shape: [8, 4, 3, 3], nnz: 144, structure: "unstructured" },
  "depthwise.weight": {
    dtype: "F32",
    shape: [8, 1, 3, 3],
    nnz: 36,
    structure: "depthwise or one input channel, unstructured",
  },
  "evil\u001b[2Jname": { dtype: "F32", shape: [3, 3], nnz: 8, structure: "unstructured" },
};

test.before(() => {
  if (!existsSync(cli)) throw new Error("dist/cli.js is missing: npm run build");
  folder = mkdtempSync(join(tmpdir(), "skipzeros-cli-"));
  writeFileSync(join(folder, "model.safetensors"), writeSafetensors(modelTensors(), { format: "pt" }));
  writeFileSync(join(folder, "bias.safetensors"), writeSafetensors({ bias: matrix([8], 0) }));
  writeFileSync(join(folder, "text.safetensors"), "this is a text, not a model");
  const cut = writeSafetensors(modelTensors()).subarray(0, -1);
  writeFileSync(join(folder, "cut.safetensors"), cut);
});

test.after(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** What all three commands say of the machine. */
function checkMachine(machine: Machine): void {
  assert.equal(Object.keys(machine), ["cpu", "runtime", "simd", "version", "date"]);
  assert.ok(machine.cpu.length > 0);
  assert.ok(machine.runtime.includes(process.versions.node), machine.runtime);
  assert.ok(["simd128", "relaxed"].includes(machine.simd), machine.simd);
  assert.match(machine.version, /^\d+\.\d+\.\d+/);
  assert.match(machine.date, /^\d{4}-\d\d-\d\d$/);
}

test("--json: one object, with the zeros that were put in", () => {
  const { file, machine, rows, totals } = report("model.safetensors");
  assert.is(file, "model.safetensors");
  checkMachine(machine);
  assert.equal(rows.map((row) => row.name).sort(), Object.keys(expectedRows).sort());
  for (const row of rows) {
    const { dtype, shape, nnz, structure } = expectedRows[row.name];
    const size = shape.reduce((product, d) => product * d, 1);
    assert.equal([row.dtype, row.shape, row.nnz, row.structure], [dtype, shape, nnz, structure], row.name);
    assert.is(row.zeros, (size - nnz) / size, row.name);
    assert.is(row.denseBytes, size * 4, row.name);
    assert.match(row.format, /^(dense|csr|block \dx\d|\d+:\d+|complementary \d+(x\d)?)$/, row.name);
    assert.ok(row.reason.length > 0, row.name);
    assert.is(row.measured, undefined, row.name);
    if (row.format === "dense") assert.is(row.packedBytes, size * 4, row.name);
    else assert.ok(row.packedBytes < size * 4 * 3, row.name);
  }
  const byName = new Map(rows.map((row) => [row.name, row]));
  assert.is(byName.get("half.weight")?.format, "dense");
  // 93% zeros of 256 x 256: no machine is known where dense wins.
  assert.is(byName.get("fc.weight")?.format, "csr");
  const sum = (value: (row: InspectRow) => number) => rows.reduce((total, row) => total + value(row), 0);
  assert.is(totals.matrices, rows.length);
  assert.is(totals.tensors, rows.length + 3);
  assert.is(totals.elements, sum((row) => row.denseBytes) / 4);
  assert.is(
    totals.nnz,
    sum((row) => row.nnz),
  );
  assert.is(totals.zeros, (totals.elements - totals.nnz) / totals.elements);
  assert.is(
    totals.packedBytes,
    sum((row) => row.packedBytes),
  );
  assert.is(totals.measured, undefined);
});

test("--measure: a time for each batch size, dense and packed", () => {
  const { rows, totals } = report("model.safetensors", "--measure");
  const times: [string, number[]][] = rows.map((row) => [row.name, (row.measured ?? []).map((m) => m.rows)]);
  for (const [name, batches] of times) assert.equal(batches, /^(conv|depthwise)/.test(name) ? [1] : [1, 64], name);
  for (const { name, format, measured = [], note = "" } of rows) {
    for (const { denseMs, packedMs, speedup } of measured) {
      assert.ok(denseMs > 0 && denseMs < 1000, `${name}: ${denseMs} ms`);
      assert.ok(packedMs > 0 && packedMs < 1000, `${name}: ${packedMs} ms`);
      assert.is(speedup, denseMs / packedMs);
      if (format === "dense") assert.is(speedup, 1, name);
    }
    if (name === "depthwise.weight") assert.match(note, /28x28 image, 8 groups/);
    if (name === "conv.weight") assert.match(note, /28x28 image, 1 group$/);
  }
  assert.equal(totals.measured?.map((m) => m.rows).sort(), [1, 64]);
});

test("--simd picks the build", () => {
  assert.is(report("model.safetensors", "--simd", "simd128").machine.simd, "simd128");
});

test("the tables: every matrix, readable, and nothing of a name that could steer the terminal", () => {
  const { status, stdout, stderr } = run("inspect", "model.safetensors", "--measure");
  assert.is(stderr, "");
  assert.is(status, 0);
  for (const line of stdout.split("\n")) assert.ok(line.length <= 120, `${line.length} columns: ${line}`);
  assert.not.match(stdout, "\u001b");
  assert.match(stdout, /10 tensors, of which 7 looked at/);
  assert.match(stdout, /^name +shape +zeros % +structure +format +why +KiB dense +KiB packed$/m);
  assert.match(stdout, /^fc\.weight +256x256 +93\.1 +unstructured +csr .* 256\.0 +\d+\.\d$/m);
  assert.match(stdout, /^zero\.weight +4x6 +100\.0 +all zero /m);
  assert.match(stdout, /^depthwise\.weight +8x1x3x3 +50\.0 +depthwise or /m);
  assert.match(stdout, /^total: 7 matrices +\d+\.\d +\d+\.\d +\d+\.\d$/m);
  assert.match(stdout, /^name +measured +ms dense +ms packed +speed-up$/m);
  assert.match(stdout, /^fc\.weight +linear, 1 row +\d+\.\d+ +\d+\.\d+ +\d+\.\d\dx$/m);
  assert.match(stdout, /^ +linear, 64 rows +\d+\.\d+ +\d+\.\d+ +\d+\.\d\dx$/m);
  assert.match(stdout, /Node\.js .* skipzeros \d+\.\d+\.\d+ \((simd128|relaxed)\), \d{4}-\d\d-\d\d\n$/);
});

test("files that will not do: a sentence, exit code 1, no stack", () => {
  const cases: [string, RegExp][] = [
    ["missing.safetensors", /There is no file missing\.safetensors\./],
    [".", /\. is a folder, not a safetensors file\./],
    ["text.safetensors", /text\.safetensors is not a safetensors file: "header length" expected at most/],
    ["cut.safetensors", /cut\.safetensors is not a safetensors file: "[^"]+" expected/],
    ["bias.safetensors", /bias\.safetensors has no weight matrix to look at: 1 tensor, but none/],
  ];
  for (const [file, message] of cases) {
    for (const json of [[], ["--json"]]) {
      const { status, stdout, stderr } = run("inspect", file, ...json);
      assert.match(stderr, message);
      assert.match(stderr, /^skipzeros: [^\n]+\n$/);
      assert.is(stdout, "");
      assert.is(status, 1, file);
    }
  }
});

test("command lines that are wrong: exit code 2", () => {
  const cases: [string[], RegExp][] = [
    [[], /Usage: skipzeros/],
    [["inspect"], /missing required argument 'file'/],
    [["inspect", "a", "b"], /too many arguments/],
    [["inspect", "a", "--simd", "avx"], /Allowed choices are auto, simd128, relaxed/],
    [["inspect", "a", "--fast"], /unknown option '--fast'/],
    [["pack", "a"], /missing required argument 'out'/],
    [["pack", "a", "b", "--prune", "2:x"], /'2:x' is invalid\. "pattern" expected/],
    [["pack", "a", "b", "--prune", "5:4"], /'5:4' is invalid\. "pattern\.keep" expected an integer in 1\.\.4, got 5/],
    [["pack", "a", "b", "--format", "3x3"], /'3x3' is invalid\. "format\.rows" expected one of 1, 2, 4, 8, got 3/],
    [
      ["pack", "a", "b", "--format", "fast"],
      /'fast' is invalid\. Expected "auto", "dense", "csr", "4x1", "2:4" or "complementary:20x4"\./,
    ],
    [["pack", "a", "b", "--only", "("], /'\(' is invalid\. Invalid regular expression/],
    [["pack", "a", "b", "--simd", "avx"], /Allowed choices are auto, simd128, relaxed/],
    [["shrink"], /unknown command 'shrink'/],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run(...args);
    assert.match(stderr, message);
    assert.not.match(stderr, /\n +at /);
    assert.is(stdout, "");
    assert.is(status, 2, args.join(" "));
  }
});

test("--format takes what the reports print", () => {
  for (const format of FORMATS) assert.is(formatName(parseFormat(formatName(format)) as Format), formatName(format));
});

interface Packed {
  file: string;
  out: string;
  machine: Machine;
  rows: {
    name: string;
    dtype: string;
    shape: number[];
    zeros: number;
    nnz: number;
    structure: string;
    format: string;
    reason: string;
    bytesBefore: number;
    bytesAfter: number;
    evenness?: Evenness;
  }[];
  totals: {
    matrices: number;
    others: number;
    bytesBefore: number;
    bytesAfter: number;
    fileBytesBefore: number;
    fileBytesAfter: number;
  };
}

/** Packs; what is left in the folder besides is a mistake. */
function pack(...args: string[]): Packed {
  const { status, stdout, stderr } = run("pack", ...args, "--json");
  assert.is(stderr, "");
  assert.is(status, 0);
  assert.equal(
    readdirSync(folder).filter((file) => file.endsWith(".part")),
    [],
  );
  return JSON.parse(stdout);
}

const bytesOf = (file: string): number => statSync(join(folder, file)).size;

test("pack: every weight matrix loads as it was, the rest of the file passes", async () => {
  const { out, machine, rows, totals } = pack("model.safetensors", "packed.safetensors", "--format", "csr");
  checkMachine(machine);
  assert.is(out, "packed.safetensors");
  assert.equal(rows.map((row) => row.name).sort(), Object.keys(expectedRows).sort());
  const inputs = readSafetensors(readFileSync(join(folder, "model.safetensors"))).tensors;
  const engine = await createEngine();
  const { weights, tensors, metadata } = engine.deserialize(readFileSync(join(folder, "packed.safetensors")));
  assert.equal({ ...metadata }, { format: "pt" });
  assert.equal([...tensors.keys()].sort(), ["fc.bias", "none.weight", "position_ids"]);
  for (const [name, { dtype, data }] of tensors) {
    assert.equal([dtype, [...data]], [inputs.get(name)?.dtype, [...(inputs.get(name)?.data ?? [])]], name);
  }
  for (const row of rows) {
    const input = inputs.get(row.name);
    assert.ok(input);
    const w = weights[row.name];
    assert.equal([w.format, row.format, row.reason.length > 0], ["csr", "csr", true], row.name);
    assert.equal([row.dtype, row.shape, row.nnz], [input.dtype, input.shape, expectedRows[row.name].nnz], row.name);
    assert.equal([row.bytesBefore, row.bytesAfter], [input.data.byteLength, w.byteLength], row.name);
    sameBits(
      w.toDense(),
      toFloat32(input).map((v) => v + 0),
      row.name,
    );
  }
  engine.dispose();
  assert.equal([totals.matrices, totals.others], [7, 3]);
  assert.is(
    totals.bytesAfter,
    rows.reduce((sum, row) => sum + row.bytesAfter, 0),
  );
  const { fileBytesBefore, fileBytesAfter } = totals;
  assert.equal([fileBytesBefore, fileBytesAfter], [bytesOf("model.safetensors"), bytesOf("packed.safetensors")]);
  assert.ok(fileBytesAfter < fileBytesBefore / 2);

  const { rows: seen, totals: sums } = report("packed.safetensors");
  assert.is(sums.matrices, 7);
  for (const row of seen) {
    const { nnz, structure } = expectedRows[row.name];
    assert.equal(
      [row.nnz, row.structure, row.format, row.reason],
      [nnz, structure, "csr", "loaded from a file"],
      row.name,
    );
  }
});

test("pack --prune: the pattern of the library, only where names allow", async () => {
  const shape = [40, 50];
  const data = values(2000, 0, random(1));
  const tensors = Object.fromEntries(
    ["first.weight", "a.weight", "last.weight"].map((name) => [name, { shape, data }]),
  );
  writeFileSync(join(folder, "full.safetensors"), writeSafetensors(tensors));
  const args = ["--prune", "2:4", "--only", "weight$", "--skip", "^(first|last)\\."];
  const { rows, totals } = pack("full.safetensors", "pruned.safetensors", ...args);
  assert.equal(
    rows.map(({ name, zeros, nnz, structure }) => [name, zeros, nnz, structure]),
    [["a.weight", 0.48, 1040, "2:4 along the inputs"]],
  );
  assert.equal([totals.matrices, totals.others], [1, 2]);
  const engine = await createEngine();
  const file = engine.deserialize(readFileSync(join(folder, "pruned.safetensors")));
  const kept = file.weights["a.weight"].toDense();
  sameBits(kept, prune(data, shape, "2:4"), "a.weight");
  assert.ok(check(kept, shape, "2:4").ok);
  for (const name of ["first.weight", "last.weight"]) {
    const entry = file.tensors.get(name);
    assert.equal([entry?.dtype, entry?.shape], ["F32", shape], name);
    sameBits(entry?.data as Float32Array, data, name);
  }
  engine.dispose();
});

test("tables break texts after punctuation, but not within a number", () => {
  const lines = (text: string, width: number) =>
    table([["text", width, "left"]], [[text]])
      .trim()
      .split(/\s*\n\s*/)
      .slice(1);
  assert.equal(lines("predicted at 7.3x", 15).filter(Boolean), ["predicted at", "7.3x"]);
  assert.equal(lines("features.weight", 9).filter(Boolean), ["features.", "weight"]);
});

test("pack: a table of what was gained", () => {
  const { status, stdout, stderr } = run("pack", "model.safetensors", "table.safetensors", "--format", "csr");
  assert.is(stderr, "");
  assert.is(status, 0);
  for (const line of stdout.split("\n")) assert.ok(line.length <= 120, `${line.length} columns: ${line}`);
  assert.not.match(stdout, "\u001b");
  assert.match(stdout, /^model\.safetensors → table\.safetensors: 7 matrices packed, 3 other tensors as before$/m);
  assert.match(stdout, /^name +shape +zeros % +structure +format +KiB before +KiB after +gain$/m);
  assert.match(stdout, /^fc\.weight +256x256 +93\.1 +unstructured +csr +256\.0 +\d+\.\d +\d+\.\d\dx$/m);
  assert.match(stdout, /^total: 7 matrices +\d+\.\d +\d+\.\d +\d+\.\d\dx$/m);
  assert.match(stdout, /^the file +\d+\.\d +\d+\.\d +\d+\.\d\dx$/m);
});

test("pack --prune says how even the rows are", () => {
  const shape = [40, 50];
  const data = values(2000, 0, random(2));
  writeFileSync(join(folder, "even.safetensors"), writeSafetensors({ w: { shape, data } }));
  const { stdout } = run("pack", "even.safetensors", "evened.safetensors", "--prune", "complementary:20");
  assert.match(stdout, /^least even: w, rows of 2 to 3 nonzeros, the fullest 1\.20 times the mean$/m);
  const { rows } = pack("even.safetensors", "evened.safetensors", "--prune", "complementary:20");
  assert.equal(rows[0].evenness, { min: 2, max: 3, mean: 2.5, imbalance: 1.2 });
  assert.not.match(run("pack", "even.safetensors", "evened.safetensors").stdout, /least even/);
});

test("pack: what cannot be done leaves every file as it was", () => {
  mkdirSync(join(folder, "folder"), { recursive: true });
  for (const name of ["hard.safetensors", "soft.safetensors"]) rmSync(join(folder, name), { force: true });
  linkSync(join(folder, "model.safetensors"), join(folder, "hard.safetensors"));
  symlinkSync("model.safetensors", join(folder, "soft.safetensors"));
  pack("model.safetensors", "again.safetensors");
  const before = readdirSync(folder).map((file) => [file, bytesOf(file)]);
  const model = readFileSync(join(folder, "model.safetensors"));
  const same = /is the file to read: give another name/;
  const cases: [string[], RegExp][] = [
    [["missing.safetensors", "o"], /There is no file missing\.safetensors\./],
    [["text.safetensors", "o"], /text\.safetensors is not a safetensors file/],
    [["model.safetensors", "model.safetensors"], same],
    [["model.safetensors", "folder/../model.safetensors"], same],
    [["model.safetensors", "hard.safetensors"], same],
    [["model.safetensors", "soft.safetensors"], same],
    [["soft.safetensors", "model.safetensors"], same],
    [["model.safetensors", "folder"], /folder is a folder\./],
    [["model.safetensors", "nowhere/o"], /There is no folder nowhere\./],
    [["model.safetensors", "model.safetensors/o"], /There is no folder model\.safetensors\./],
    [["model.safetensors", ""], /"" is not the name of a file\./],
    [["model.safetensors", "o/"], /"o\/" is not the name of a file\./],
    [["again.safetensors", "o"], /again\.safetensors is packed already: give the file that it was made from\./],
    [["bias.safetensors", "o"], /bias\.safetensors has no weight matrix to pack: 1 tensor, but none that is float/],
    [
      ["model.safetensors", "o", "--only", "nothing"],
      /no weight matrix to pack: .* and of a name that was asked for\./,
    ],
    [
      ["model.safetensors", "o", "--format", "2:4"],
      /[a-z]+\.weight: "data" expected at most 2 nonzeros in each 4 columns/,
    ],
  ];
  for (const [args, message] of cases) {
    const { status, stdout, stderr } = run("pack", ...args);
    assert.match(stderr, message);
    assert.match(stderr, /^skipzeros: [^\n]+\n$/);
    assert.is(stdout, "");
    assert.is(status, 1, args.join(" "));
  }
  assert.equal(
    readdirSync(folder).map((file) => [file, bytesOf(file)]),
    before,
  );
  assert.ok(model.equals(readFileSync(join(folder, "model.safetensors"))));
});

test("pack replaces a file that is there, also behind a link", () => {
  writeFileSync(join(folder, "old.safetensors"), "old");
  rmSync(join(folder, "link.safetensors"), { force: true });
  symlinkSync("old.safetensors", join(folder, "link.safetensors"));
  pack("model.safetensors", "link.safetensors");
  assert.ok(bytesOf("old.safetensors") > 3);
  assert.is(report("old.safetensors").totals.matrices, 7);
  // The link's file need not be there yet.
  rmSync(join(folder, "old.safetensors"));
  pack("model.safetensors", "link.safetensors");
  assert.is(report("old.safetensors").totals.matrices, 7);
  assert.ok(lstatSync(join(folder, "link.safetensors")).isSymbolicLink());
});

test("a result that cannot be printed is said in a line", () => {
  if (!existsSync("/dev/full")) return console.log("SKIP a full disk: this system has no /dev/full");
  const script = '"$0" "$1" inspect model.safetensors > /dev/full';
  const { status, stderr } = spawnSync("sh", ["-c", script, process.execPath, cli], { cwd: folder, encoding: "utf8" });
  assert.is(status, 1);
  assert.match(stderr, /^skipzeros: the result cannot be printed: ENOSPC[^\n]*\n$/);
});

test("tables of many rows and of long names take no time", () => {
  const one = { shape: [2, 2], data: new Float32Array([1, 0, 0, 2]) };
  const many = Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`layer.${i}.weight`, one]));
  const long = "long.name.".repeat(10_000);
  writeFileSync(join(folder, "many.safetensors"), writeSafetensors({ ...many, [long]: one }));
  const { status, stdout, stderr } = run("inspect", "many.safetensors");
  assert.equal([status, stderr], [0, ""]);
  assert.match(stdout, /^layer\.1499\.weight +2x2 +50\.0 /m);
  assert.match(stdout, /…/);
  assert.ok(stdout.split("\n").filter((line) => line.startsWith("long")).length < 20);
});

test("pack keeps a file's mode, and writes to a pipe instead of taking its place", () => {
  if (process.platform === "win32") return console.log("SKIP pack to a pipe: this system has no mkfifo");
  writeFileSync(join(folder, "secret.safetensors"), "old");
  chmodSync(join(folder, "secret.safetensors"), 0o600);
  pack("model.safetensors", "secret.safetensors");
  assert.is(statSync(join(folder, "secret.safetensors")).mode & 0o777, 0o600);
  const script = 'mkfifo pipe && { cat pipe > copy & } && "$0" "$1" pack model.safetensors pipe && wait';
  const { status, stderr } = spawnSync("sh", ["-c", script, process.execPath, cli], { cwd: folder, encoding: "utf8" });
  assert.equal([status, stderr], [0, ""]);
  assert.ok(statSync(join(folder, "pipe")).isFIFO());
  assert.equal(bytesOf("copy"), bytesOf("secret.safetensors"));
  rmSync(join(folder, "pipe"));
});

test("pack writes through a link to a pipe, and names the weight whose arrays meet another tensor", () => {
  if (process.platform === "win32") return console.log("SKIP pack to /dev/stdout: this system has none");
  const { status, stderr } = spawnSync(
    "sh",
    ["-c", '"$0" "$1" pack model.safetensors /dev/stdout --json | wc -c', process.execPath, cli],
    { cwd: folder, encoding: "utf8" },
  );
  assert.equal([status, stderr], [0, ""]);
  const data = new Float32Array([1, 0, 0, 1]);
  const both = { fc: { shape: [2, 2], data }, "fc.data": { shape: [4], data } };
  writeFileSync(join(folder, "both.safetensors"), writeSafetensors(both));
  const refused = run("pack", "both.safetensors", "o");
  assert.match(refused.stderr, /each name once, got "fc\.data" again: the weight "fc" is stored under it/);
  assert.is(refused.status, 1);
});

test("a packed file that is broken: a sentence that names the tensor", () => {
  pack("model.safetensors", "broken.safetensors", "--format", "csr");
  const { tensors, metadata } = readSafetensors(readFileSync(join(folder, "broken.safetensors")));
  tensors.delete("fc.weight.indptr");
  writeFileSync(join(folder, "broken.safetensors"), writeSafetensors(tensors, metadata));
  const { status, stdout, stderr } = run("inspect", "broken.safetensors");
  assert.equal([status, stdout], [1, ""]);
  assert.match(stderr, /^skipzeros: broken\.safetensors: "fc\.weight\.indptr" expected a tensor, [^\n]+\n$/);
});

test("--help and --version", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.equal([run("--version").stdout, run("--version").status], [`${version}\n`, 0]);
  const help = run("inspect", "--help");
  assert.is(help.status, 0);
  for (const option of ["--measure", "--json", "--simd"]) assert.ok(help.stdout.includes(option), option);
  const packing = run("pack", "--help").stdout;
  for (const option of ["--prune", "--format", "--only", "--skip", "--json"])
    assert.ok(packing.includes(option), option);
});

// bench

/** From the source, so that it needs no build. */
function bench(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { NO_COLOR: _, FORCE_COLOR: __, ...env } = process.env;
  const main = ["--import", "tsx", join("bindings", "cli", "main.ts"), "bench"];
  return spawnSync(process.execPath, [...main, ...args], { cwd: root, env, encoding: "utf8", timeout: 60_000 });
}

test("bench: the break-even lies on the line between the points around it", () => {
  const cases: [zeros: number[], ratios: number[], expected: BreakEven][] = [
    [[0.5, 0.75], [1.5, 0.5], 0.625],
    [[0.5, 0.75, 1], [2, 1.25, 0.25], 0.8125],
    // As fast as dense is not faster.
    [[0.5, 0.75], [1, 0.5], 0.5],
    [[0.5, 0.75], [1.5, 1], "never"],
    [[0.5, 0.75], [3, 2], "never"],
    [[0.5, 0.75], [0.75, 0.5], "always"],
    // Noise: what pays at 50% but not at 62.5% pays from beyond 62.5% on.
    [[0.25, 0.5, 0.625, 0.875], [1.5, 0.75, 1.5, 0.5], 0.75],
    [[0.5, 0.75, 0.875], [0.5, 0.25, 1.25], "never"],
    [[0.5], [0.5], "always"],
    [[0.5], [2], "never"],
    [[], [], "never"],
  ];
  for (const [zeros, ratios, expected] of cases) {
    const points = zeros.map((share, i) => [share, ratios[i]] as const);
    assert.is(breakEven(points), expected, JSON.stringify(points));
  }
});

test("bench: the recommendation speaks for the shape where a format pays least", () => {
  const row = (kind: BenchRow["kind"], format: string, paysFrom: BreakEven, ...speedups: number[]) => {
    const points = speedups.map((speedup, i) => ({ zeros: 0.5 + i / 10, ms: 1, speedup }));
    return { kind, format, paysFrom, points };
  };
  const rows = [
    row("batch", "csr", 0.55, 0.9, 1.2),
    row("batch", "4x1", 0.501, 0.9, 1.2),
    row("batch", "2:4", "always", 1.75),
    row("row", "csr", "never", 0.5, 0.9),
    row("row", "4x1", "always", 1.1, 2),
    row("row", "2:4", "never", 0.75),
    row("batch", "csr", 0.58, 0.8, 1.1),
    row("batch", "4x1", "always", 1.1, 2),
    row("batch", "2:4", "always", 1.5),
    row("row", "csr", "never", 0.5, 0.9),
    row("convolution", "csr", "never", 0.5, 0.9),
    row("convolution", "csr", 0.55, 0.5, 1.5),
    row("convolution", "2x1", "never", 0.5, 0.9),
  ];
  assert.equal(recommend(rows), [
    "On this machine, with one row: csr does not pay, 4x1 blocks pay from 50% zeros or fewer, 2:4 does not pay (0.75x).",
    "On this machine, with a batch of 64: csr pays from 58% zeros, 4x1 blocks pay from 51% zeros, 2:4 pays (1.50x).",
    "On this machine, for a convolution: csr does not pay on every shape, 2x1 blocks do not pay.",
  ]);
  assert.equal(recommend([]), []);
});

test("bench --json: the machine, every row that was asked for, and what follows", () => {
  const { status, stdout, stderr } = bench("--quick", "--json", "--simd", "simd128", "--only", "linear.*(csr|2:4)$");
  assert.equal([stderr, status], ["", 0]);
  const { machine, rounds, rows, recommendation, leftOut } = JSON.parse(stdout) as {
    machine: Machine;
    rounds: number;
    rows: BenchRow[];
    recommendation: string[];
    leftOut: string[];
  };
  checkMachine(machine);
  assert.is(machine.simd, "simd128");
  assert.is(rounds, 9);
  assert.equal(
    rows.map(({ work, kind, format }) => [work, kind, format]),
    [
      ["linear, 1 row, 768 → 768", "row", "csr"],
      ["linear, 1 row, 768 → 768", "row", "2:4"],
      ["linear, 64 rows, 768 → 768", "batch", "csr"],
      ["linear, 64 rows, 768 → 768", "batch", "2:4"],
    ],
  );
  for (const { work, format, denseMs, points, paysFrom, spread, noisy } of rows) {
    const name = `${work}, ${format}`;
    assert.ok(denseMs > 0 && denseMs < 1000, name);
    assert.equal(
      points.map(({ zeros }) => zeros),
      format === "csr" ? [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95] : [0.5],
      name,
    );
    for (const { ms, speedup } of points) assert.ok(ms > 0 && speedup === denseMs / ms, name);
    assert.is(paysFrom, breakEven(points.map(({ zeros, ms }) => [zeros, ms / denseMs])), name);
    assert.is(noisy, spread > 0.15, name);
    assert.ok(spread >= 0, name);
  }
  assert.equal(recommendation, recommend(rows));
  assert.is(recommendation.length, 2);
  assert.equal(leftOut, []);
});

test("bench: a table, and sentences at the end", () => {
  const { status, stdout, stderr } = bench("--quick", "--only", "conv.*(4x1|1:8)$");
  assert.equal([stderr, status], ["", 0]);
  for (const line of stdout.split("\n")) assert.ok(line.length <= 120, `${line.length} columns: ${line}`);
  assert.not.match(stdout, "\u001b");
  // A CPU's name may be so long that the line is two.
  const machine = stdout.split("\n\n")[0].replaceAll("\n", " ");
  assert.match(machine, /^.*Node\.js .* skipzeros \S+ \((simd128|relaxed)\), \d{4}-\d\d-\d\d$/);
  assert.match(stdout, /^work +format +ms dense +50% +70% +80% +90% +95% +pays from +spread$/m);
  const first = /^conv 3x3, 14², 256 → 256 +4x1 +\d+\.\d{4}( +\d+\.\d\dx){5} +(\d+%( or fewer)?|never) +\d+%( \*)?$/m;
  assert.match(stdout, first);
  assert.match(stdout, /^ +1:8 +\d+\.\d{4} +\d+\.\d\dx at 87\.5% +\d+%( \*)?$/m);
  assert.match(
    stdout,
    /\n\nOn this machine, for a convolution: 4x1 blocks [^:]+, 1:8 [^:]*pay[^:]* \(\d+\.\d\dx\)\.\n$/,
  );
});

test("bench: what it cannot do", () => {
  const cases: [string[], RegExp, number][] = [
    [["--fast"], /unknown option '--fast'/, 2],
    [["model.safetensors"], /too many arguments/, 2],
    [["--simd", "avx"], /Allowed choices are auto, simd128, relaxed/, 2],
    [["--only", "("], /'\(' is invalid\. Invalid regular expression/, 2],
    [["--only", "gru"], /^skipzeros: Nothing to measure has a name that \/gru\/u finds\.\n$/, 1],
  ];
  for (const [args, message, code] of cases) {
    const { status, stdout, stderr } = bench(...args);
    assert.match(stderr, message);
    assert.not.match(stderr, /\n +at /);
    assert.equal([stdout, status], ["", code], args.join(" "));
  }
});

test.run();
