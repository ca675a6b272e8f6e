// Import, engine and first result in fresh processes: what a serverless function waits for. Runs the built dist/.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import module from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chooseBuild } from "../../bindings/builds.js";
import type { Bench } from "../groups.js";
import { timing } from "../rounds.js";

const SCRIPT = `
  const start = performance.now();
  const { createEngine } = await import(${JSON.stringify(new URL("../../dist/index.js", import.meta.url).href)});
  const imported = performance.now();
  const engine = await createEngine();
  const w = engine.pack(Float32Array.from({ length: 64 * 64 }, (_, i) => (i % 10 ? 0 : 1)), [64, 64]);
  engine.linear({ data: new Float32Array(64), shape: [1, 64] }, w);
  const end = performance.now();
  console.log(imported - start, end - imported, end - start);`;
const NAMES = ["import", "createEngine, pack and first linear", "import to first result"];

const FRESH = "fresh processes";
/** Much of a cold start is V8 reading JavaScript; a process may leave the next one what it compiled. */
const CACHED = "fresh processes, compile cache";

export async function load(bench: Bench): Promise<void> {
  const build = chooseBuild("auto");
  const wanted = (group: string) => NAMES.filter((name) => bench.wants("load", build, group, name));
  const groups = wanted(FRESH).length > 0 ? [FRESH] : [];
  if (wanted(CACHED).length > 0) {
    if ("enableCompileCache" in module) groups.push(CACHED);
    else bench.print(`\nSKIP load ${build}, ${CACHED}: Node ${process.version} has none, 22.1 and later have`);
  }
  if (groups.length === 0) return;
  const folder = mkdtempSync(join(tmpdir(), "skipzeros-"));
  const run = (group: string) => {
    const env = { ...process.env, NODE_COMPILE_CACHE: group === CACHED ? folder : undefined };
    return execFileSync(process.execPath, ["--input-type=module", "-e", SCRIPT], { encoding: "utf8", env })
      .trim()
      .split(" ")
      .map(Number);
  };
  try {
    if (groups.includes(CACHED)) run(CACHED); // fills it
    const rounds = Array.from({ length: bench.rounds }, () => groups.map(run));
    groups.forEach((group, i) => {
      const rows = wanted(group).map((name) => {
        const times = rounds.map((runs) => runs[i][NAMES.indexOf(name)]);
        return { suite: "load", build, group, name, ...timing(times) };
      });
      bench.report(`load ${build}, ${group}`, rows);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
