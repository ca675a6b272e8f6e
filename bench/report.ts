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
if (positionals.length !== 1) {
  console.error(`usage: ${usage}`);
  process.exit(1);
}
let results: Results;
try {
  results = JSON.parse(readFileSync(positionals[0], "utf8"));
} catch (error) {
  console.error(`${positionals[0]} cannot be read: ${(error as Error).message}`);
  process.exit(1);
}
const drawn = await pictures(results);
mkdirSync(flags.out, { recursive: true });
const files = Object.entries(drawn).map(([name, svg]) => [`${name}.svg`, svg]);
for (const [name, text] of [...files, ["report.html", page(results, drawn)]]) {
  writeFileSync(join(flags.out, name), `${text}\n`);
  console.log(join(flags.out, name));
}
