// Builds everything: two Wasm modules from one source, ESM and CJS bundles with both embedded, the command, the types.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { main as asc } from "assemblyscript/asc";
import { build } from "esbuild";
import { minify } from "terser";

const { version } = JSON.parse(readFileSync("package.json", "utf8"));
const BUILDS = ["simd128", "relaxed"];

mkdirSync("build", { recursive: true });
for (const name of BUILDS) {
  const { error, stderr } = await asc(["--target", name]);
  // An unknown target prints a text and succeeds: only the file tells.
  if (error || !existsSync(`build/${name}.wasm`)) throw new Error(`${name}: ${stderr ?? error}`);
}
// As text, since a host has to load nothing to read that. A character is a byte plus 35, which makes most bytes printable.
// Pieces of both builds take turns: they share most of their code, and gzip looks back over 32 KiB only.
const PIECES = 2;
const builds = BUILDS.map((name) => readFileSync(`build/${name}.wasm`));
const piece = (bytes, i) =>
  bytes.subarray(Math.floor((i * bytes.length) / PIECES), Math.floor(((i + 1) * bytes.length) / PIECES));
const pieces = Array.from({ length: PIECES }, (_, i) => builds.map((bytes) => piece(bytes, i))).flat();
const texts = pieces.map((bytes) => Buffer.from(bytes.map((byte) => byte + 35)).toString("latin1"));
writeFileSync(
  "build/wasm.ts",
  `// Made by build.mjs: pieces of the builds ${BUILDS.join(" and ")} in turn, a character for each byte.
export const texts = () => ${JSON.stringify(texts, null, 2)};
`,
);

rmSync("dist", { recursive: true, force: true });
const shared = {
  bundle: true,
  minify: true,
  target: "es2022",
  logLevel: "warning",
};
const library = { ...shared, entryPoints: ["bindings/index.ts"], platform: "neutral" };
// The texts come last: code that gzip finds together, and not on both sides of them, is 0.8 KB smaller.
const last = {
  footer: { js: `var TEXTS = ${JSON.stringify(texts)};` },
  plugins: [
    {
      name: "texts come last",
      setup: (bundle) =>
        bundle.onLoad({ filter: /build.wasm\.ts$/ }, () => ({ contents: "export const texts = () => TEXTS;" })),
    },
  ],
};
await build({ ...library, ...last, format: "esm", outfile: "dist/index.js" });
await build({ ...library, ...last, format: "cjs", outfile: "dist/index.cjs" });
await build({ ...library, format: "esm", outfile: "dist/workerd.js", conditions: ["workerd"], external: ["*.wasm"] });
// What esbuild leaves: 2 KiB gzipped, 0.1 of it as constants stay on the right of comparisons. Only ASCII,
// so that a character of the builds' texts stays a byte whatever the page's charset.
for (const name of ["index.js", "index.cjs", "workerd.js"]) {
  const { code } = await minify(readFileSync(`dist/${name}`, "utf8"), {
    ecma: 2022,
    module: name.endsWith(".js"),
    compress: { passes: 3, lhs_constants: false },
    format: { ascii_only: true },
  });
  writeFileSync(`dist/${name}`, code);
}
await build({
  ...shared,
  entryPoints: ["bindings/cli/main.ts"],
  platform: "node",
  format: "esm",
  outfile: "dist/cli.js",
  // The command's libraries are CommonJS and want a require of their own.
  banner: {
    js: '#!/usr/bin/env node\nimport { createRequire } from "node:module";\nconst require = createRequire(import.meta.url);',
  },
  define: { __VERSION__: JSON.stringify(version) },
});
for (const name of BUILDS) copyFileSync(`build/${name}.wasm`, `dist/${name}.wasm`);

execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.types.json"], { stdio: "inherit" });
// tsc keeps the folders of its sources; a CommonJS importer needs the same files under names of its own.
const files = (dir) =>
  readdirSync(dir).flatMap((f) => (statSync(join(dir, f)).isDirectory() ? files(join(dir, f)) : join(dir, f)));
for (const file of files("dist/types").filter((f) => f.endsWith(".d.ts"))) {
  const told = readFileSync(file, "utf8");
  // A constructor that is internal is left out: without one in its place anybody could call the default.
  const own = told.includes("constructor(") ? "$&" : "$&\n    private constructor();";
  const text = told.replace(/^export declare class .*\{$/gm, own);
  writeFileSync(file, text);
  writeFileSync(file.replace(/\.d\.ts$/, ".d.cts"), text.replace(/(from\s+|import\()"(\.[^"]*)\.js"/g, '$1"$2.cjs"'));
}
for (const end of ["ts", "cts"]) {
  const to = end === "ts" ? "js" : "cjs";
  writeFileSync(`dist/index.d.${end}`, `export * from "./types/bindings/index.${to}";\n`);
}
