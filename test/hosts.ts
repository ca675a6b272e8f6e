// The hosts that the library runs in, beside the Node that runs this: another Node, Bun, Deno and workerd from npm, and the
// browsers that are installed. Each runs a module of ours as one bundled file.
import { execFile, spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
/** A host that has said nothing for so long never will. */
const PATIENCE_MS = 180_000;
const FILE = "run.mjs";

export interface Host {
  name: string;
  /** What the function `default` of a module gives there, as JSON carries it; or the reason why nothing can run here. */
  run: ((module: string) => Promise<unknown>) | string;
}

/** A host that turned out not to run here. */
export class Absent extends Error {}

/** The number in what a binary says of itself. */
function versionOf(binary: string): string {
  const { stdout } = spawnSync(binary, ["--version"], { encoding: "utf8" });
  const version = /\d[\w.-]*/.exec(stdout ?? "")?.[0];
  if (!version) throw new Error(`no ${binary} starts here`);
  return version;
}

/**
 * A binary from npm's package for x64 Linux, installed outside the tree, or its `.bin` would shadow the system's.
 * @throws Error with the reason when it can't be had here
 */
export function fromNpm(spec: string, file: string): string {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(`${spec} is for linux-x64, this is ${process.platform}-${process.arch}`);
  }
  const home = join(tmpdir(), `skipzeros-${spec.replace(/\W+/g, "-")}`);
  const binary = join(home, "node_modules", spec.slice(0, spec.lastIndexOf("@")), file);
  if (!existsSync(binary)) {
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.json"), '{ "private": true }');
    const { status, stderr } = spawnSync("npm", ["install", "--no-save", spec], { cwd: home, encoding: "utf8" });
    if (status !== 0 || !existsSync(binary)) {
      throw new Error(`npm could not install ${spec}: ${stderr.trim().split("\n").at(-1)}`);
    }
  }
  return binary;
}

/** A module in one file that ends with `last`, where it is called `run`. */
async function bundle(folder: string, module: string, last: string, workerd = false): Promise<void> {
  await build({
    stdin: { contents: `import run from ${JSON.stringify(module)};\n${last}`, resolveDir: here },
    outfile: join(folder, FILE),
    bundle: true,
    platform: "neutral",
    format: "esm",
    target: "es2022",
    conditions: workerd ? ["workerd"] : [],
    external: ["*.wasm"],
    define: { "process.env.SEED": '"1"' },
    logLevel: "error",
  });
}

async function inFolder<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "skipzeros-"));
  try {
    return await run(folder);
  } finally {
    // A browser that was killed may still be writing.
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

const PRINT = `console.log("RESULT " + JSON.stringify(await run()))`;

async function printed(binary: string, args: string[]): Promise<unknown> {
  const { stdout, stderr } = await promisify(execFile)(binary, args, { timeout: PATIENCE_MS, maxBuffer: 2 ** 24 });
  const json = /^RESULT (.*?)(?:workerd\/|$)/m.exec(`${stdout}\n${stderr}`)?.[1];
  if (!json) throw new Error(`no result in ${stdout}${stderr}`);
  return JSON.parse(json);
}

const script = (binary: string, module: string, ...args: string[]) =>
  inFolder(async (folder) => {
    await bundle(folder, module, PRINT);
    return printed(binary, [...args, join(folder, FILE)]);
  });

/**
 * As a Worker gets it: no bytes are compiled at run time, the builds are modules of its own. The date is one from before workerd had
 * FinalizationRegistry, as many Workers have.
 */
const worker = (binary: string, module: string) =>
  inFolder(async (folder) => {
    await bundle(folder, module, `export default { async test() { ${PRINT} } };`, true);
    const builds = ["simd128.wasm", "relaxed.wasm"];
    for (const name of builds) copyFileSync(join(here, "../dist", name), join(folder, name));
    const modules = builds.map((name) => `(name = "${name}", wasm = embed "${name}")`);
    const config = join(folder, "config.capnp");
    writeFileSync(
      config,
      `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = .main)]);
const main :Workerd.Worker = (
  modules = [(name = "${FILE}", esModule = embed "${FILE}"), ${modules.join(", ")}],
  compatibilityDate = "2024-09-23",
);
`,
    );
    return printed(binary, ["test", config]);
  });

/** A page on this machine runs it and sends back what came out. */
const page = (binary: string, module: string, args: (profile: string) => string[]) =>
  inFolder(async (folder) => {
    const send = `(body) => fetch("/done", { method: "POST", body })`;
    await bundle(folder, module, `run().then((result) => "RESULT " + JSON.stringify(result), String).then(${send});`);
    const js = readFileSync(join(folder, FILE));
    let done: (text: string) => void;
    const answer = new Promise<string>((resolve) => (done = resolve));
    let loaded = false;
    const server = createServer(async (request, response) => {
      loaded = true;
      if (request.method === "POST") {
        let text = "";
        for await (const chunk of request) text += chunk;
        done(text);
      }
      const [type, body] =
        request.url === `/${FILE}`
          ? ["text/javascript", js]
          : ["text/html", `<script type="module" src="/${FILE}"></script>`];
      // A page that shares with no other may read finer clocks.
      const alone = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
      response.writeHead(200, { "content-type": type, ...alone }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    mkdirSync(join(folder, "profile"));
    const browser = spawn(binary, [...args(join(folder, "profile")), url], { stdio: "ignore", detached: true });
    const gone = new Promise<void>((resolve) => browser.once("exit", () => resolve()));
    gone.then(() => done("it left before it was done"));
    const timer = setTimeout(() => done(`nothing came in ${PATIENCE_MS / 1000} s`), PATIENCE_MS);
    const text = await answer;
    clearTimeout(timer);
    server.close();
    server.closeAllConnections();
    // Its helpers too; it may have left already.
    if (browser.exitCode === null) process.kill(-(browser.pid as number), "SIGKILL");
    await gone;
    if (!loaded) throw new Absent(`no page was loaded: ${text}`);
    if (!text.startsWith("RESULT ")) throw new Error(text);
    return JSON.parse(text.slice(7)) as unknown;
  });

/** Every host, those that can't run here with the reason. */
export function hosts(nodes: Iterable<string>): Host[] {
  const host = (title: string, find: () => string, run: (binary: string, module: string) => Promise<unknown>): Host => {
    try {
      const binary = find();
      return { name: `${title} ${versionOf(binary)}`, run: (module) => run(binary, module) };
    } catch (error) {
      return { name: title, run: (error as Error).message };
    }
  };
  const browser = (title: string, binary: string, args: (profile: string) => string[]) =>
    host(
      title,
      () => binary,
      (found, module) => page(found, module, args),
    );
  return [
    ...[...nodes].map((node) => host("Node", () => node, script)),
    host("Bun", () => fromNpm("@oven/bun-linux-x64@1", "bin/bun"), script),
    host(
      "Deno",
      () => fromNpm("@deno/linux-x64-glibc@2", "deno"),
      (deno, module) => script(deno, module, "run"),
    ),
    host("workerd", () => fromNpm("@cloudflare/workerd-linux-64@1", "bin/workerd"), worker),
    // Chromium's sandbox refuses to start for root, which CI may be, and its shared memory is small in containers.
    browser("Chromium", "chromium", (profile) => [
      "--headless",
      "--no-sandbox",
      "--disable-dev-shm-usage",
      `--user-data-dir=${profile}`,
    ]),
    browser("Firefox", "firefox", (profile) => ["--headless", "--no-remote", "--profile", profile]),
  ];
}
