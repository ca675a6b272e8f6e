// `skipzeros inspect`. It may only print what the library says: every number comes from inspect().
import { type Build, createEngine, inspect } from "../index.js";
import type { InspectRow, Measurement } from "../inspect.js";
import { describeMachine, type Machine, machineOf } from "./machine.js";
import { named, readModel } from "./model.js";
import { type Column, count, kib, percent, printable, table } from "./table.js";

// With two spaces between columns both tables stay within 120.
const MATRIX_COLUMNS: Column[] = [
  ["name", 19, "left"],
  ["shape", 14, "left"],
  ["zeros %", 7, "right"],
  ["structure", 14, "left"],
  ["format", 13, "left"],
  ["why", 20, "left"],
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

export interface InspectArguments {
  measure?: boolean;
  json?: boolean;
  simd: "auto" | Build;
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
  machine: Machine;
  rows: InspectRow[];
  totals: Totals;
}

export async function runInspect(
  path: string,
  { measure = false, json = false, simd }: InspectArguments,
): Promise<void> {
  const file = readModel(path);
  const engine = await createEngine({ simd });
  try {
    const rows = named(path, () => inspect(engine, file, { measure }));
    if (rows.length === 0) {
      throw new Error(
        `${path} has no weight matrix to look at: ${count(file.tensors.size, "tensor")}, but none that is float ` +
          "(F32, F64, F16, BF16) and of rank 2 or 4.",
      );
    }
    const totals = sumUp(rows, file.tensors.size);
    const report = { file: path, machine: machineOf(engine), rows, totals };
    process.stdout.write(`${json ? JSON.stringify(report, null, 2) : render(report)}\n`);
  } finally {
    engine.dispose();
  }
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

function render({ file, machine, rows, totals }: Report): string {
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
      (row.measured ?? []).map((m, i) => [i === 0 ? row.name : "", measuredOn(row, m), ...timeCells(m)]),
    );
    const sums = totals.measured.map((m, i) => [
      i === 0 ? total : "",
      m.rows === 1 ? "1 row or image each" : `${m.rows} rows each (rank 2 only)`,
      ...timeCells(m),
    ]);
    parts.push(table(TIME_COLUMNS, [...times, ...sums]));
  }
  parts.push(describeMachine(machine));
  return parts.join("\n\n");
}

function measuredOn(row: InspectRow, { rows }: Measurement): string {
  return row.shape.length === 2 ? `linear, ${count(rows, "row")}` : (row.note ?? "");
}

function timeCells({ denseMs, packedMs, speedup }: Measurement): string[] {
  return [denseMs.toFixed(4), packedMs.toFixed(4), `${speedup.toFixed(2)}x`];
}
