// Text for a terminal: tables of at most 120 columns, numbers for people.
import Table from "cli-table3";

/** One column of a table: its heading, the widest its text may get before it is folded, and its side. */
export type Column = [head: string, width: number, align: "left" | "right"];

/** A table without borders: a heading in bold where a person looks at it, folded cells, numbers to the right. */
export function table(columns: readonly Column[], rows: readonly string[][]): string {
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

/**
 * Breaks a text into lines of at most `width`: at a space or after punctuation, but not within a number, if there is one, otherwise
 * anywhere.
 */
function fold(text: string, width: number): string {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const breaks = [...rest.slice(0, width + 1).matchAll(/ |[./,_](?=\D)|(?<!\d)[./,_](?=\d)/g)].map((match) =>
      match[0] === " " ? match.index : match.index + 1,
    );
    const at = breaks.filter((place) => place > width / 3 && place <= width).pop() ?? width;
    lines.push(rest.slice(0, at));
    rest = rest.slice(at).trimStart();
  }
  return [...lines, rest].join("\n");
}

/** Names come from a file that anyone may have made: what could steer the terminal is replaced. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, "\ufffd");
}

export function percent(fraction: number): string {
  const text = (fraction * 100).toFixed(1);
  // One weight among millions must not turn "almost" into "all".
  if (text === "100.0" && fraction < 1) return ">99.9";
  return text === "0.0" && fraction > 0 ? "<0.1" : text;
}

export function kib(bytes: number): string {
  return (bytes / 1024).toFixed(1);
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
