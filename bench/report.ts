// npm run bench:report -- FILE.json [--out DIR]
//
// Makes one self-contained page, report.html, of what `npm run bench -- --json FILE.json` measured, and its pictures as SVG
// beside it. DIR is out/bench if none is given; the README's pictures are in bench/pictures.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { args } from "./args.js";
import { page } from "./page.js";
import { pictures } from "./pictures.js";
import type { Results } from "./rows.js";

const usage = "npm run bench:report -- FILE.json [--out DIR]";
const { values: flags, positionals } = args(usage, {
  allowPositionals: true,
  options: { out: { type: "string", default: "out/bench" } },
});
if (positionals.length !== 1) stop(`usage: ${usage}`);
function stop(why: string): never {
  console.error(why);
  process.exit(1);
}

const isResults = (json: Partial<Results> | null): json is Results =>
  Array.isArray(json?.rows) && json.rows.every((row) => typeof row?.suite === "string") && json.machine !== undefined;

function resultsIn(file: string): Results {
  let json: Results;
  try {
    json = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    return stop(`${file} cannot be read: ${(error as Error).message}`);
  }
  return isResults(json) ? json : stop(`${file} is no result of npm run bench`);
}

const results = resultsIn(positionals[0]);
try {
  mkdirSync(flags.out, { recursive: true });
} catch (error) {
  stop(`${flags.out} is no folder to write to: ${(error as Error).message}`);
}
const drawn = await pictures(results);
const files = Object.entries(drawn).map(([name, svg]) => [`${name}.svg`, svg]);
for (const [name, text] of [...files, ["report.html", page(results, drawn)]]) {
  writeFileSync(join(flags.out, name), `${text}\n`);
  console.log(join(flags.out, name));
}
