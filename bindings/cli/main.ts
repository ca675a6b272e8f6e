// The `skipzeros` command. It may only print what the library says: every number comes from inspect().
// Exit codes: 0, 1 for a file or host that will not do, 2 for a command line that is wrong.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import Table from "cli-table3";
import { Command, CommanderError, Option } from "commander";
import { createEngine, inspect, readSafetensors } from "../index.js";
import type { InspectRow, Measurement } from "../inspect.js";
import type { SafetensorsFile } from "../io/safetensors.js";

/** Put in by the bundler, from package.json. */
declare const __VERSION__: string;
const version = typeof __VERSION__ === "string" ? __VERSION__ : "0.0.0-source";

/** One column of a table: its heading, the widest its text may get before it is folded, and its side. */
type Column = [head: string, width: number, align: "left" | "right"];

// With two spaces between columns both tables stay within 120.
const MATRIX_COLUMNS: Column[] = [
  ["name", 23, "left"],
  ["shape", 14, "left"],
  ["zeros %", 7, "right"],
  ["structure", 13, "left"],
  ["format", 7, "left"],
  ["why", 23, "left"],
  ["KiB dense", 9, "right"],
  ["KiB packed", 10, "right"],
];

const TIME_COLUMNS: Column[] = [
  ["name", 44, "left"],
  ["measured", 40, "left"],
  ["ms dense", 9, "right"],
  ["ms packed", 9, "right"],
  ["speed-up", 8, "right"],
];

interface InspectArguments {
  measure?: boolean;
  json?: boolean;
  simd: "auto" | "simd128" | "relaxed";
}

/** Sums over the rows of a report. */
interface Totals {
  matrices: number;
  /** Tensors of the file, biases and all. */
  tensors: number;
  elements: number;
  nnz: number;
  zeros: number;
  denseBytes: number;
  packedBytes: number;
  /** By batch size: 1 is one row of every `[out, in]` and one image of every convolution. */
  measured?: Measurement[];
}

interface Report {
  file: string;
  simd: string;
  cpu: string;
  runtime: string;
  rows: InspectRow[];
  totals: Totals;
}

async function runInspect(path: string, { measure = false, json = false, simd }: InspectArguments): Promise<void> {
  const file = readModel(path);
  const engine = await createEngine({ simd });
  try {
    const rows = inspect(engine, file, { measure });
    if (rows.length === 0) {
      throw new Error(
        `${path} has no weight matrix to look at: ${count(file.tensors.size, "tensor")}, but none that is float ` +
          "(F32, F64, F16, BF16) and of rank 2 or 4.",
      );
    }
    const cpu = cpus()[0]?.model.trim() || "unknown CPU";
    const totals = sumUp(rows, file.tensors.size);
    const report = { file: path, simd: engine.simd, cpu, runtime: runtimeName(), rows, totals };
    process.stdout.write(`${json ? JSON.stringify(report, null, 2) : render(report)}\n`);
  } finally {
    engine.dispose();
  }
}

function readModel(path: string): SafetensorsFile {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Error(`There is no file ${path}.`);
    if (code === "EISDIR") throw new Error(`${path} is a folder, not a safetensors file.`);
    if (code === "ERR_FS_FILE_TOO_LARGE") throw new Error(`${path} is over 2 GiB: inspect its shards one by one.`);
    throw new Error(`${path} cannot be read: ${message}`);
  }
  try {
    return readSafetensors(bytes);
  } catch (error) {
    throw new Error(`${path} is not a safetensors file: ${messageOf(error)}`);
  }
}

function runtimeName(): string {
  const { bun, deno, v8 } = process.versions as Record<string, string | undefined>;
  if (bun) return `Bun ${bun}`;
  return deno ? `Deno ${deno} (V8 ${v8})` : `Node.js ${process.version} (V8 ${v8})`;
}

function sumUp(rows: readonly InspectRow[], tensors: number): Totals {
  const sum = (value: (row: InspectRow) => number) => rows.reduce((total, row) => total + value(row), 0);
  const elements = sum((row) => row.denseBytes / 4);
  const nnz = sum((row) => row.nnz);
  const totals: Totals = {
    matrices: rows.length,
    tensors,
    elements,
    nnz,
    zeros: (elements - nnz) / elements,
    denseBytes: sum((row) => row.denseBytes),
    packedBytes: sum((row) => row.packedBytes),
  };
  const all = rows.flatMap((row) => row.measured ?? []);
  if (all.length === 0) return totals;
  const measured = [...new Set(all.map((m) => m.rows))].map((batch) => {
    const alike = all.filter((m) => m.rows === batch);
    const denseMs = alike.reduce((total, m) => total + m.denseMs, 0);
    const packedMs = alike.reduce((total, m) => total + m.packedMs, 0);
    return { rows: batch, denseMs, packedMs, speedup: denseMs / packedMs };
  });
  return { ...totals, measured };
}

function render({ file, simd, cpu, runtime, rows, totals }: Report): string {
  const total = `total: ${count(totals.matrices, "matrix", "matrices")}`;
  const matrices = rows.map((row) => [
    row.name,
    row.shape.join("x"),
    percent(row.zeros),
    row.structure,
    row.format,
    row.reason,
    kib(row.denseBytes),
    kib(row.packedBytes),
  ]);
  matrices.push([total, "", percent(totals.zeros), "", "", "", kib(totals.denseBytes), kib(totals.packedBytes)]);
  const parts = [
    `${printable(file)}: ${count(totals.tensors, "tensor")}, of which ${totals.matrices} looked at`,
    table(MATRIX_COLUMNS, matrices),
  ];
  if (totals.measured) {
    const times = rows.flatMap((row) =>
      (row.measured ?? []).map((m, i) => [i === 0 ? row.name : "", measuredOn(row, m), ...times3(m)]),
    );
    const sums = totals.measured.map((m, i) => [
      i === 0 ? total : "",
      m.rows === 1 ? "1 row or image each" : `${m.rows} rows each (rank 2 only)`,
      ...times3(m),
    ]);
    parts.push(table(TIME_COLUMNS, [...times, ...sums]));
  }
  parts.push(`${cpu}, ${runtime}, skipzeros ${version} (${simd})`);
  return parts.join("\n\n");
}

function measuredOn(row: InspectRow, { rows }: Measurement): string {
  return row.shape.length === 2 ? `linear, ${count(rows, "row")}` : (row.note ?? "");
}

function times3({ denseMs, packedMs, speedup }: Measurement): string[] {
  return [denseMs.toFixed(4), packedMs.toFixed(4), `${speedup.toFixed(2)}x`];
}

function percent(fraction: number): string {
  const text = (fraction * 100).toFixed(1);
  // One weight among millions must not turn "almost" into "all".
  if (text === "100.0" && fraction < 1) return ">99.9";
  return text === "0.0" && fraction > 0 ? "<0.1" : text;
}

function kib(bytes: number): string {
  return (bytes / 1024).toFixed(1);
}

function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** A table without borders: a heading in bold where a person looks at it, folded cells, numbers to the right. */
function table(columns: readonly Column[], rows: readonly string[][]): string {
  const none = { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" };
  const edges = { top: "", "top-mid": "", "top-left": "", "top-right": "", left: "", right: "" };
  const floor = { bottom: "", "bottom-mid": "", "bottom-left": "", "bottom-right": "" };
  const colour = process.stdout.isTTY && !process.env.NO_COLOR;
  const grid = new Table({
    head: columns.map(([head]) => head),
    colAligns: columns.map(([, , align]) => align),
    chars: { ...none, ...edges, ...floor, middle: "  " },
    style: { "padding-left": 0, "padding-right": 0, head: colour ? ["bold"] : [], border: [] },
  });
  for (const row of rows) grid.push(row.map((text, i) => fold(printable(text), columns[i][1])));
  return grid
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

/** Breaks a text into lines of at most `width`: at a space or after punctuation if there is one, otherwise anywhere. */
function fold(text: string, width: number): string {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const breaks = [...rest.slice(0, width + 1).matchAll(/ |[./,_](?=.)/g)].map((match) =>
      match[0] === " " ? match.index : match.index + 1,
    );
    const at = breaks.filter((place) => place > width / 3 && place <= width).pop() ?? width;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return [...lines, rest].join("\n");
}

/** Names come from a file that anyone may have made: what could steer the terminal is replaced. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, "\ufffd");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const program = new Command("skipzeros")
  .description("Pruned neural networks, fast on the CPU: look at a model's zeros and what they are worth here.")
  .version(version)
  .exitOverride();

program
  .command("inspect")
  .description("List every weight matrix of a model: its zeros, the format they allow, and why")
  .argument("<file>", "a safetensors file")
  .option("--measure", "time every matrix on this machine, dense and packed")
  .option("--json", "print one JSON object in place of the tables")
  .addOption(new Option("--simd <build>", "engine build").choices(["auto", "simd128", "relaxed"]).default("auto"))
  .action(runInspect);

// A reader that has seen enough (`| head`) closes the pipe; that is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its own message (usage, help or version) by now.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    process.stderr.write(`skipzeros: ${printable(messageOf(error))}\n`);
    process.exitCode = 1;
  }
}
