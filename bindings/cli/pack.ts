// `skipzeros pack`: a model's weights in the form that the engine loads without packing them again.
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { checkFormat, formatName } from "../formats/format.js";
import {
  type Build,
  createEngine,
  type Dtype,
  type Format,
  type SafetensorsEntry,
  type Serializable,
  serialize,
  toFloat32,
} from "../index.js";
import { isWeightMatrix } from "../inspect.js";
import { isPacked } from "../io/packed.js";
import { type Evenness, evenness, type ParsedPattern, prune } from "../patterns.js";
import { describeMachine, type Machine, machineOf } from "./machine.js";
import { messageOf, named, readModel } from "./model.js";
import { progressOf } from "./progress.js";
import { type Column, count, kib, percent, printable, table } from "./table.js";

export interface PackArguments {
  prune?: ParsedPattern;
  format?: "auto" | Format;
  only?: RegExp;
  skip?: RegExp;
  json?: boolean;
  simd: "auto" | Build;
}

/** What became of one weight matrix. */
interface Row {
  name: string;
  /** In the file given. */
  dtype: Dtype;
  shape: number[];
  /** Share and number after pruning. */
  zeros: number;
  nnz: number;
  /** The pattern found in the zeros. */
  structure: string;
  format: string;
  reason: string;
  bytesBefore: number;
  bytesAfter: number;
  /** How evenly a matrix that was pruned shares its nonzeros among its rows. */
  evenness?: Evenness;
}

interface Report {
  file: string;
  out: string;
  machine: Machine;
  rows: Row[];
  totals: {
    matrices: number;
    /** Tensors that passed as they are. */
    others: number;
    bytesBefore: number;
    bytesAfter: number;
    fileBytesBefore: number;
    fileBytesAfter: number;
  };
}

// With two spaces between columns the table stays within 120.
const COLUMNS: Column[] = [
  ["name", 28, "left"],
  ["shape", 14, "left"],
  ["zeros %", 7, "right"],
  ["structure", 17, "left"],
  ["format", 13, "left"],
  ["KiB before", 10, "right"],
  ["KiB after", 9, "right"],
  ["gain", 7, "right"],
];

/** What `--format` takes. */
export const FORMATS = '"auto", "dense", "csr", "4x1", "2:4" or "complementary:20x4"';

/** A format as {@link FORMATS} spells it, or as reports print it: "block 4x1", "complementary 20x4". */
export function parseFormat(text: string): "auto" | Format {
  if (text === "auto" || text === "dense" || text === "csr") return text;
  const block = /^(?:block )?(\d+)x(\d+)$/.exec(text);
  if (block) return checkFormat({ kind: "block", rows: Number(block[1]), cols: Number(block[2]) });
  const nm = /^(\d+):(\d+)$/.exec(text);
  if (nm) return checkFormat({ kind: "nm", n: Number(nm[1]), m: Number(nm[2]) });
  const sets = /^complementary[: ](\d+)(?:x(\d+))?$/.exec(text);
  if (sets) {
    return checkFormat({ kind: "complementary", overlay: Number(sets[1]), blockRows: Number(sets[2] ?? 1) });
  }
  throw new Error(`Expected ${FORMATS}.`);
}

export async function runPack(path: string, out: string, o: PackArguments): Promise<void> {
  const file = readModel(path);
  const target = targetOf(path, out);
  if (isPacked(file)) throw new Error(`${path} is packed already: give the file that it was made from.`);
  const chosen = ([name, { dtype, shape, data }]: [string, SafetensorsEntry]) =>
    isWeightMatrix(dtype, shape, data.length) && (!o.only || o.only.test(name)) && !o.skip?.test(name);
  const matrices = [...file.tensors].filter(chosen);
  if (matrices.length === 0) {
    throw new Error(
      `${path} has no weight matrix to pack: ${count(file.tensors.size, "tensor")}, but none that is float ` +
        `(F32, F64, F16, BF16) and of rank 2 or 4${o.only || o.skip ? ", and of a name that was asked for" : ""}.`,
    );
  }
  const engine = await createEngine({ simd: o.simd });
  const progress = progressOf(
    "packing",
    matrices.reduce((sum, [, { data }]) => sum + data.byteLength, 0),
  );
  try {
    const contents = new Map<string, Serializable>(file.tensors);
    const rows: Row[] = [];
    for (const [name, tensor] of matrices) {
      const { dtype, shape, data } = tensor;
      const { w, even } = named(name, () => {
        const values = toFloat32(tensor);
        const kept = o.prune ? prune(values, shape, o.prune) : values;
        const even = o.prune && { evenness: evenness(kept, shape) };
        return { w: engine.pack(kept, shape, { format: o.format }), even };
      });
      contents.set(name, w);
      const { structure, format, reason, nnz } = w.explain();
      const zeros = (data.length - nnz) / data.length;
      const bytes = { bytesBefore: data.byteLength, bytesAfter: w.byteLength };
      rows.push({ name, dtype, shape, zeros, nnz, structure, format: formatName(format), reason, ...bytes, ...even });
      progress.add(data.byteLength);
    }
    const bytes = serialize(contents, file.metadata);
    write(target, bytes);
    progress.stop();
    const totals = {
      matrices: rows.length,
      others: file.tensors.size - rows.length,
      bytesBefore: rows.reduce((sum, row) => sum + row.bytesBefore, 0),
      bytesAfter: rows.reduce((sum, row) => sum + row.bytesAfter, 0),
      fileBytesBefore: file.bytes,
      fileBytesAfter: bytes.length,
    };
    const report = { file: path, out, machine: machineOf(engine), rows, totals };
    process.stdout.write(`${o.json ? JSON.stringify(report, null, 2) : render(report)}\n`);
  } finally {
    progress.stop();
    engine.dispose();
  }
}

/** Where the result goes: the file that a link points to. Neither the file it is made from nor a folder, and in one that exists. */
function targetOf(path: string, out: string): string {
  if (!/[^/]$/.test(out)) throw new Error(`"${out}" is not the name of a file.`);
  if (!statSync(dirname(out), { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(`There is no folder ${dirname(out)}.`);
  }
  const there = statSync(out, { bigint: true, throwIfNoEntry: false });
  // A link may point to a file that is still to be made.
  const link = !there && lstatSync(out, { throwIfNoEntry: false });
  if (link) return targetOf(path, resolve(dirname(out), readlinkSync(out)));
  if (!there) return out;
  if (there.isDirectory()) throw new Error(`${out} is a folder.`);
  const source = statSync(path, { bigint: true });
  if (there.ino === source.ino && there.dev === source.dev) {
    throw new Error(
      `${out} is the file to read: give another name, the original cannot be made again from the result.`,
    );
  }
  // Of a pipe behind /dev/stdout the real path is the name of nothing.
  return there.isFile() ? realpathSync(out) : out;
}

/** All of the file or none of it: whoever reads `path` meanwhile sees the old one. A device or a pipe is written to. */
function write(path: string, bytes: Uint8Array): void {
  const there = statSync(path, { throwIfNoEntry: false });
  const part = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  let made = false;
  try {
    if (there && !there.isFile()) {
      writeFileSync(path, bytes);
      return;
    }
    const handle = openSync(part, "wx");
    made = true;
    try {
      if (there) fchmodSync(handle, there.mode);
      writeFileSync(handle, bytes);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(part, path);
  } catch (error) {
    if (made) rmSync(part, { force: true });
    throw new Error(`${path} cannot be written: ${messageOf(error)}`);
  }
}

function render({ file, out, machine, rows, totals }: Report): string {
  const cells = rows.map((row) => [
    row.name,
    row.shape.join("x"),
    percent(row.zeros),
    row.structure,
    row.format,
    kib(row.bytesBefore),
    kib(row.bytesAfter),
    gain(row.bytesBefore, row.bytesAfter),
  ]);
  const total = (name: string, before: number, after: number) => {
    cells.push([name, "", "", "", "", kib(before), kib(after), gain(before, after)]);
  };
  total(`total: ${count(totals.matrices, "matrix", "matrices")}`, totals.bytesBefore, totals.bytesAfter);
  total("the file", totals.fileBytesBefore, totals.fileBytesAfter);
  return [
    `${printable(file)} → ${printable(out)}: ${count(totals.matrices, "matrix", "matrices")} packed, ` +
      `${count(totals.others, "other tensor")} as before`,
    table(COLUMNS, cells),
    ...leastEven(rows),
    describeMachine(machine),
  ].join("\n\n");
}

/** What pruning left least even; nothing to say where nothing was pruned. */
function leastEven(rows: readonly Row[]): string[] {
  const worst = (a: Row, b: Row) => ((b.evenness?.imbalance ?? 0) > (a.evenness?.imbalance ?? 0) ? b : a);
  const { name, evenness } = rows.reduce(worst);
  if (!evenness) return [];
  const { min, max, imbalance } = evenness;
  return [
    `least even: ${printable(name)}, rows of ${min} to ${max} nonzeros, the fullest ${imbalance.toFixed(2)} times the mean`,
  ];
}

const gain = (before: number, after: number): string => (after > 0 ? `${(before / after).toFixed(2)}x` : "");
