// A run's rows as one page that needs nothing else: pictures, targets, all tables.
import { BUSY, describe, type Results, type Row } from "./rows.js";
import { type Verdict, verdicts } from "./targets.js";

const STYLE = `
  body { font: 15px/1.5 sans-serif; color: #222; background: white; margin: 2em auto; max-width: 70em; padding: 0 1em }
  svg { max-width: 100%; height: auto; margin: 1em 0 }
  table { border-collapse: collapse; font-size: 13px }
  td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
  td:first-child, th:first-child { text-align: left }
  summary { cursor: pointer; font-weight: bold; margin-top: .6em }
  .miss { color: #b00 } .busy { color: #888 }`;

type Column<T> = [head: string, cell: (item: T) => string | number | false | undefined];

const ROWS: Column<Row>[] = [
  ["", ({ group, name }) => `${group}, ${name}`],
  ["min ms", ({ min }) => min.toPrecision(4)],
  ["median", ({ median }) => median.toPrecision(4)],
  ["spread", ({ spread }) => percent(spread)],
  ["nonzero GF", ({ gf }) => gf?.toFixed(1)],
  ["of the limit", ({ share }) => share !== undefined && percent(share)],
  ["dense GF", ({ denseGf }) => denseGf?.toFixed(1)],
  ["bytes", ({ bytes }) => bytes?.toLocaleString("en")],
  ["dense ms", ({ dense }) => dense?.toPrecision(4)],
  ["x dense", ({ ratio }) => ratio?.toFixed(2)],
  ["256 bit", ({ min, revectorized }) => revectorized !== undefined && `${(min / revectorized).toFixed(2)}x`],
  ["rate", ({ rate, unit }) => rate !== undefined && `${rate.toPrecision(3)} ${unit}`],
  ["kernel", ({ kernel }) => kernel],
];

const VERDICTS: Column<Verdict>[] = [
  ["target", ({ name }) => name],
  ["build", ({ build }) => build],
  ["measured", ({ value, unit }) => `${value.toPrecision(3)} ${unit}`],
  ["wanted", ({ wanted }) => wanted],
  ["", ({ hit }) => (hit ? "hit" : "miss")],
  ["rows", ({ rows }) => rows],
];

/** @param pictures SVG by name */
export function page(results: Results, pictures: Readonly<Record<string, string>>): string {
  const { machine, rounds, rows } = results;
  const judged = verdicts(rows);
  const suites = [...new Set(rows.map(({ suite, build }) => `${suite}, ${build}`))];
  const tables = suites.map((title) => {
    const own = rows.filter(({ suite, build }) => `${suite}, ${build}` === title);
    const body = table(ROWS, own, ({ spread }) => (spread > BUSY ? "busy" : ""));
    return `<details><summary>${html(title)}: ${own.length} rows</summary>${body}</details>`;
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>skipzeros: microbenchmarks</title>
<style>${STYLE}
</style>
<h1>skipzeros: microbenchmarks</h1>
<p>${html(describe(machine, rounds))}</p>
${Object.values(pictures).join("\n")}
${judged.length ? `<h2>Targets</h2>\n${table(VERDICTS, judged, ({ hit }) => (hit ? "" : "miss"))}` : ""}
<h2>All rows</h2>
<p>GF are 10⁹ operations a second, on nonzeros or with the zeros counted; the limit is the register-only multiply-add of the same
run; grey rows have a median more than ${percent(BUSY)} above their minimum.</p>
${tables.join("\n")}
</html>`;
}

function table<T>(columns: readonly Column<T>[], items: readonly T[], classOf: (item: T) => string): string {
  const row = (cells: string[], name = "") => `<tr${name && ` class="${name}"`}>${cells.join("")}</tr>`;
  const head = row(columns.map(([text]) => `<th>${html(text)}</th>`));
  const body = items.map((item) =>
    row(
      columns.map(([, cell]) => `<td>${html(String(cell(item) || ""))}</td>`),
      classOf(item),
    ),
  );
  return `<table>${head}${body.join("\n")}</table>`;
}

const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;

const html = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] as string);
