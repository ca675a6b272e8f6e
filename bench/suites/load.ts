// Import, engine and first result in fresh processes: what a serverless function waits for. Runs the built dist/.
import { execFileSync } from "node:child_process";
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

export async function load(bench: Bench): Promise<void> {
  const build = chooseBuild("auto");
  const group = "fresh processes";
  const chosen = NAMES.filter((name) => bench.wants("load", build, group, name));
  if (chosen.length === 0) return;
  const runs = Array.from({ length: bench.rounds }, () =>
    execFileSync(process.execPath, ["--input-type=module", "-e", SCRIPT], { encoding: "utf8" })
      .trim()
      .split(" ")
      .map(Number),
  );
  const rows = chosen.map((name) => {
    const times = runs.map((run) => run[NAMES.indexOf(name)]);
    return { suite: "load", build, group, name, ...timing(times) };
  });
  bench.report(`load ${build}, ${group}`, rows);
}
