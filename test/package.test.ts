// The package as a stranger gets it: its size, the README's code, the docstrings' examples, the tarball in an empty folder.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { buildSync, transformSync } from "esbuild";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as library from "../bindings/index.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const node = (cwd: string, ...args: string[]) => execFileSync(process.execPath, args, { cwd, encoding: "utf8" });

const test = suite("package");

/** Runs a script that lies in a folder of its own inside the clone or elsewhere. */
function inFolder(parent: string, run: (folder: string) => void): void {
  const folder = mkdtempSync(join(parent, "skipzeros-"));
  try {
    run(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test("both Wasm builds are at most 64 KiB, the ESM bundle with both at most 60 KiB gzipped", () => {
  const wasm = statSync(join(root, "dist/simd128.wasm")).size + statSync(join(root, "dist/relaxed.wasm")).size;
  const bundle = gzipSync(readFileSync(join(root, "dist/index.js")), { level: 9 }).length;
  assert.ok(wasm <= 64 * 1024, `Wasm builds are ${wasm} bytes`);
  assert.ok(wasm > 1024);
  assert.ok(bundle <= 60 * 1024, `ESM bundle is ${bundle} bytes gzipped`);
});

test("there are no run-time dependencies", () => {
  const { dependencies, peerDependencies, optionalDependencies } = JSON.parse(read("package.json"));
  assert.equal({ ...dependencies, ...peerDependencies, ...optionalDependencies }, {});
  const { inputs } = buildSync({
    entryPoints: [join(root, "dist/index.js")],
    bundle: true,
    platform: "neutral",
    write: false,
    metafile: true,
  }).metafile;
  assert.is(Object.keys(inputs).length, 1, "the bundle imports nothing");
});

test("a Worker's bundle compiles no bytes: it brings both builds as modules", () => {
  const { outputFiles, metafile } = buildSync({
    stdin: { contents: 'export { createEngine } from "skipzeros";', resolveDir: root },
    bundle: true,
    platform: "neutral",
    minify: true,
    conditions: ["workerd"],
    external: ["*.wasm"],
    write: false,
    metafile: true,
  });
  assert.ok("dist/workerd.js" in metafile.inputs, Object.keys(metafile.inputs).join());
  assert.equal(
    Object.values(metafile.outputs)[0]
      .imports.map(({ path }) => path)
      .sort(),
    ["./relaxed.wasm", "./simd128.wasm"],
  );
  const texts = statSync(join(root, "dist/index.js")).size - outputFiles[0].contents.length;
  assert.ok(texts > 64 * 1024, "the builds are not in it as texts");
});

test("the README's code runs as printed, in a script placed in the clone", () => {
  const blocks = [...read("README.md").matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code);
  assert.is(blocks.length, 3, "blocks of code");
  const [code, model, loading] = blocks;
  assert.ok(code.trim().split("\n").length <= 12, "the quickstart stays short");
  inFolder(root, (folder) => {
    writeFileSync(join(folder, "quickstart.mjs"), code);
    const out = node(folder, "quickstart.mjs");
    assert.match(out, /^csr fastest: unstructured, \d/);
    assert.match(out, /^\[ 64, 256 \] Float32Array\(16384\)/m);
    const tensors = Object.fromEntries(
      Object.entries({ "conv.weight": [8, 3, 3, 3], "conv.bias": [8], "fc.weight": [10, 8], "fc.bias": [10] }).map(
        ([name, shape]) => {
          const data = new Float32Array(shape.reduce((a, b) => a * b)).map((_, i) => (i % 3 ? 0 : i + 1));
          return [name, { shape, data }];
        },
      ),
    );
    writeFileSync(join(folder, "model.safetensors"), library.writeSafetensors(tensors));
    node(folder, join(root, "dist/cli.js"), "pack", "model.safetensors", "packed.safetensors");
    writeFileSync(join(folder, "model.mjs"), model);
    assert.match(node(folder, "model.mjs"), /^\[ 1, 10 \] Float32Array\(10\)/);
    const [first] = code.split("\n");
    writeFileSync(join(folder, "loading.mjs"), `${first}\n${loading}\nconsole.log(engine.simd);`);
    assert.is(node(folder, "loading.mjs").trim(), "simd128");
  });
});

/** Numbers behind an expression are what it gives. */
const GIVES = /^(?!console)(\S.*); \/\/ ([-\d., ]+)$/gm;
const CHECK = `const gives = (value, text) => {
  const found = (typeof value === "number" ? [value] : Array.from(value)).join(", ");
  if (found !== text) throw new Error(\`\${found} instead of \${text}\`);
};
`;

test("every docstring example runs, and gives what it says", () => {
  const sources = readdirSync(join(root, "bindings"), { recursive: true }).map(String);
  const names = Object.keys(library);
  let examples = 0;
  let results = 0;
  inFolder(root, (folder) => {
    for (const source of sources.filter((name) => name.endsWith(".ts"))) {
      for (const [, comment] of read(`bindings/${source}`).matchAll(/\/\*\*([\s\S]*?)\*\//g)) {
        const example = comment.match(/@example\n([\s\S]*?)(?=\n\s*\* @|\s*$)/)?.[1];
        if (!example) continue;
        const code = example
          .replace(/^\s*\* ?/gm, "")
          .replace(/^```.*$/gm, "")
          .replace(GIVES, (_, value, text) => `gives(${value}, "${text}"); // ${++results}`);
        const own = /createEngine\(/.test(code) ? "" : "const engine = await createEngine();\n";
        const imports = [...code.matchAll(/^import .*$/gm)].map(([line]) => line);
        const missing = names.filter((name) => !imports.some((line) => new RegExp(`\\b${name}\\b`).test(line)));
        const file = join(folder, `example${examples++}.mjs`);
        const { code: js } = transformSync(code, { loader: "ts", target: "es2022", treeShaking: false });
        writeFileSync(file, `import { ${missing.join(", ")} } from "skipzeros";\n${CHECK}${own}${js}`);
        node(folder, file);
      }
    }
  });
  assert.ok(examples >= 30 && results >= 20, `${examples} examples and ${results} results found`);
});

/** What a program under the strictest flags may write; a line that must not compile says so. */
const CONSUMER = `
import { createEngine, prune, serialize, Tensor, type Conv2dOptions, type LinearOptions, type PackOptions } from "skipzeros";
import type { PackedWeight, SparseOutput, SparseTensor, TensorLike } from "skipzeros";

interface Layer { bias?: Float32Array; threshold?: number; out?: Tensor; format?: PackOptions["format"]; options?: LinearOptions & SparseOutput }
export async function use(layer: Layer, maxMemory: number | undefined, either: TensorLike | SparseTensor, conv: Conv2dOptions & SparseOutput) {
  const engine = await createEngine({ maxMemory });
  const w: PackedWeight = engine.pack(prune(new Float32Array(64), [8, 8], "2:4"), [8, 8], { format: layer.format });
  const x = { data: new Float32Array(8), shape: [1, 8] as const };
  const y: Tensor = engine.linear(x, w, { bias: layer.bias, out: layer.out });
  engine.linear(x, w, { bias: x, activation: { min: 0, max: undefined } }).dispose();
  const any: Tensor | SparseTensor = engine.linear(either, w, layer.options);
  const image: Tensor | SparseTensor = engine.conv2d(either, w, conv);
  const pooled: Tensor | SparseTensor = engine.maxPool2d(either, { kernel: 2 });
  engine.explain("linear", x, w, layer.options);
  engine.toSparse(x, { threshold: layer.threshold, out: undefined }).dispose();
  const bodies = [new Blob([w.serialize()]), new Blob([serialize({ w })]), new Blob([y.toArray()]), new Blob([w.toDense()])];
  // @ts-expect-error: a format is read, not set
  w.format = "csr";
  // @ts-expect-error: operations make tensors
  new Tensor();
  // @ts-expect-error: no such activation
  engine.linear(x, w, { activation: "gelu" });
  // @ts-expect-error: lists are asked for by a word
  engine.linear(x, w, { output: true });
  return { any, image, pooled, bodies };
}
`;

test("the types take what a strict program writes", () => {
  inFolder(root, (folder) => {
    for (const [name, type] of [
      ["use.mts", "ES modules"],
      ["use.cts", "CommonJS"],
    ]) {
      const file = join(folder, name);
      writeFileSync(file, CONSUMER);
      const flags =
        "--ignoreConfig --noEmit --strict --exactOptionalPropertyTypes --noUncheckedIndexedAccess --target es2022";
      const args = [...flags.split(" "), "--module", "nodenext", "--lib", "es2022,dom", "--types", "", file];
      const tsc = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), ...args], {
        encoding: "utf8",
      });
      assert.equal([tsc.stdout, tsc.status], ["", 0], type);
    }
  });
});

test("the packed tarball works in an empty folder: ESM, CommonJS, the command", () => {
  inFolder(tmpdir(), (folder) => {
    // prepare would build again while other tests read dist/.
    const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], {
      cwd: root,
      encoding: "utf8",
    });
    const [{ filename, files }] = Object.values(JSON.parse(packed)) as {
      filename: string;
      files: { path: string }[];
    }[];
    const paths = files.map(({ path }) => path);
    for (const needed of [
      "dist/index.js",
      "dist/index.cjs",
      "dist/workerd.js",
      "dist/relaxed.wasm",
      "dist/simd128.wasm",
      "dist/index.d.ts",
      "dist/index.d.cts",
      "LICENSE",
      "README.md",
    ]) {
      assert.ok(paths.includes(needed), `${needed} is in the tarball`);
    }
    assert.not.ok(paths.some((path) => /^(test|bench|build|assembly|node_modules)\//.test(path)));
    const home = join(folder, "node_modules/skipzeros");
    mkdirSync(home, { recursive: true });
    execFileSync("tar", ["xzf", join(folder, filename), "-C", home, "--strip-components", "1"]);
    const use = `createEngine().then((engine) => {
      const w = engine.pack(new Float32Array([0, 2, 0, 0, 0, 3]), [2, 3]);
      console.log(engine.linear({ data: new Float32Array([1, 1, 1]), shape: [1, 3] }, w).toArray().join());
    });`;
    writeFileSync(join(folder, "a.mjs"), `import { createEngine } from "skipzeros";\n${use}`);
    writeFileSync(join(folder, "b.cjs"), `const { createEngine } = require("skipzeros");\n${use}`);
    assert.is(node(folder, "a.mjs").trim(), "2,3");
    assert.is(node(folder, "b.cjs").trim(), "2,3");
    assert.match(node(folder, join(home, "dist/cli.js"), "--help"), /inspect/);
    assert.ok(readdirSync(home).length > 3);
  });
});

test("errors of the minified bundle name its classes", async () => {
  const { createEngine } = await import("skipzeros");
  const engine = await createEngine();
  const x = engine.tensor(new Float32Array(2), [1, 2]);
  const w = engine.pack(new Float32Array(4), [2, 2]);
  for (const [given, name] of [
    [x, "a Tensor"],
    [engine.toSparse(x), "a SparseTensor"],
    [engine, "an Engine"],
  ] as const) {
    assert.throws(
      () => engine.linear(x, given as never),
      (e: Error) => e.message.endsWith(`got ${name}`),
    );
  }
  assert.throws(() => engine.relu(w as never), /got a PackedWeight$/);
  engine.dispose();
});

test("an engine starts with WebAssembly and nothing else that a host may lack", () => {
  const lacking = ["process", "Buffer", "DecompressionStream", "Response", "fetch", "atob", "TextDecoder"];
  const script = `
    const { createEngine } = await import(${JSON.stringify(pathToFileURL(join(root, "dist/index.js")).href)});
    for (const name of ${JSON.stringify(lacking)}) delete globalThis[name];
    const engine = await createEngine();
    const w = engine.pack(new Float32Array([1, 0, 0, 2]), [2, 2]);
    console.log(engine.linear({ data: new Float32Array([3, 4]), shape: [2] }, w).data.join());`;
  assert.is(node(root, "--input-type=module", "-e", script).trim(), "3,8");
});

test.run();
