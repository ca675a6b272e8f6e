// What the machine can do at most: multiply-adds with nothing to load, loads with nothing to multiply.
import type { Bench } from "../groups.js";
import { LIMIT_FLOPS, limitOf, loadsOf } from "../machine.js";

/** Buffers that lie in L1, in L2, and in no cache of today's machines; how often a call walks them. */
const BUFFERS = [
  { name: "loads from L1", bytes: 16 * 1024, walks: 64 },
  { name: "loads from L2", bytes: 256 * 1024, walks: 4 },
  { name: "loads from memory", bytes: 256 * 1024 * 1024, walks: 1 },
];
const MULTIPLY_ADD = "multiply-add in registers";

export async function limit(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    const wanted = BUFFERS.filter(({ name }) => bench.wants("limit", build, "registers and loads", name));
    const loads = new Map(
      await Promise.all(
        wanted.map(async ({ name, bytes, walks }) => [name, await loadsOf(build, bytes, walks)] as const),
      ),
    );
    const multiplyAdd = await limitOf(build);
    await bench.measure("limit", build, {
      title: "registers and loads",
      lines: [{ name: MULTIPLY_ADD }, ...BUFFERS.map(({ name }) => ({ name }))],
      setUp:
        () =>
        ({ name }) => {
          const buffer = BUFFERS.find((b) => b.name === name);
          if (!buffer) return { run: multiplyAdd, flops: LIMIT_FLOPS };
          const bytes = buffer.bytes * buffer.walks;
          const rate = { unit: "GB/s", of: (ms: number) => bytes / ms / 1e6 };
          return { run: loads.get(name) as () => void, bytes, rate };
        },
    });
  }
}
