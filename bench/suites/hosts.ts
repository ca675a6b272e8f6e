// One layer in every host that test/hosts.ts finds: their engines compile the same kernels differently.
import { fileURLToPath } from "node:url";
import { hosts as findHosts } from "../../test/hosts.js";
import type { Bench } from "../groups.js";
import type { HostTimes } from "../in-host.js";
import type { Row } from "../rows.js";

const MODULE = fileURLToPath(new URL("../in-host.ts", import.meta.url));

export async function hosts(bench: Bench): Promise<void> {
  for (const { name: host, run } of findHosts([process.execPath])) {
    const group = `BERT 768 → 3072, ${host}`;
    const found = typeof run === "string" ? run : ((await run(MODULE).catch(String)) as HostTimes | string);
    if (typeof found === "string") {
      bench.print(`\nSKIP ${group}: ${found}`);
      continue;
    }
    const { build, cases } = found;
    const rows = cases
      .filter(({ name }) => bench.wants("hosts", build, group, name))
      .map(({ flops, ...c }): Row => {
        const spread = c.median / c.min - 1;
        return { suite: "hosts", build, group, ...c, spread, gf: flops / c.min / 1e6, ratio: c.dense / c.min };
      });
    if (rows.length) bench.report(`hosts ${build}, ${group}`, rows);
  }
}
