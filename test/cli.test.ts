// The command as a person runs it: dist/cli.js in a process of its own, on files with known zeros.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { InspectRow, Measurement } from "../bindings/inspect.js";
import type { SafetensorsInput } from "../bindings/io/safetensors.js";
import { writeSafetensors } from "../bindings/io/safetensors.js";

const test = suite("cli");
const root = fileURLToPath(new URL("..", import.meta.url));
const cli = join(root, "dist", "cli.js");
let folder = "";

interface Report {
  file: string;
  simd: string;
  cpu: string;
  runtime: string;
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

function modelTensors(): Record<string, SafetensorsInput> {
  // Rows 0..2 and column 7 without a weight: 150 + 37 zeros, the latter negative.
  const emptied = new Float32Array(40 * 50).fill(1).fill(0, 0, 150);
  for (let row = 3; row < 40; row++) emptied[row * 50 + 7] = -0;
  return {
    "fc.weight": matrix([256, 256], 61_000),
    "fc.bias": matrix([256], 0),
    "empty.weight": { shape: [40, 50], data: emptied },
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
    nnz: 2000 - 187,
    structure: "unstructured, 3 empty rows, 1 empty column",
  },
  "zero.weight": { dtype: "F32", shape: [4, 6], nnz: 0, structure: "all zero" },
  "half.weight": { dtype: "F16", shape: [2, 2], nnz: 4, structure: "dense" },
  "conv.weight": { dtype: "F32", shape: [8, 4, 3, 3], nnz: 144, structure: "unstructured" },
  "depthwise.weight": { dtype: "F32", shape: [8, 1, 3, 3], nnz: 36, structure: "depthwise, unstructured" },
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

test("--json: one object, with the zeros that were put in", () => {
  const { file, simd, cpu, runtime, rows, totals } = report("model.safetensors");
  assert.is(file, "model.safetensors");
  assert.ok(simd === "simd128" || simd === "relaxed", simd);
  assert.ok(cpu.length > 0);
  assert.ok(runtime.includes(process.versions.node), runtime);
  assert.equal(rows.map((row) => row.name).sort(), Object.keys(expectedRows).sort());
  for (const row of rows) {
    const { dtype, shape, nnz, structure } = expectedRows[row.name];
    const size = shape.reduce((product, d) => product * d, 1);
    assert.equal([row.dtype, row.shape, row.nnz, row.structure], [dtype, shape, nnz, structure], row.name);
    assert.is(row.zeros, (size - nnz) / size, row.name);
    assert.is(row.denseBytes, size * 4, row.name);
    assert.ok(["dense", "csr"].includes(row.format), row.name);
    assert.ok(row.reason.length > 0, row.name);
    assert.is(row.measured, undefined, row.name);
    if (row.format === "csr") assert.ok(row.packedBytes < size * 4 * 3, row.name);
    else assert.ok(row.packedBytes >= size * 4, row.name);
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
  assert.is(report("model.safetensors", "--simd", "simd128").simd, "simd128");
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
  assert.match(stdout, /^depthwise\.weight +8x1x3x3 +50\.0 +depthwise, /m);
  assert.match(stdout, /^total: 7 matrices +\d+\.\d +\d+\.\d +\d+\.\d$/m);
  assert.match(stdout, /^name +measured +ms dense +ms packed +speed-up$/m);
  assert.match(stdout, /^fc\.weight +linear, 1 row +\d+\.\d+ +\d+\.\d+ +\d+\.\d\dx$/m);
  assert.match(stdout, /^ +linear, 64 rows +\d+\.\d+ +\d+\.\d+ +\d+\.\d\dx$/m);
  assert.match(stdout, /Node\.js .* skipzeros \d+\.\d+\.\d+ \((simd128|relaxed)\)\n$/);
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

test("--help and --version", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.equal([run("--version").stdout, run("--version").status], [`${version}\n`, 0]);
  const help = run("inspect", "--help");
  assert.is(help.status, 0);
  for (const option of ["--measure", "--json", "--simd"]) assert.ok(help.stdout.includes(option), option);
});

test.run();
