// Whole networks, and their layers one by one: each layer's kernel and its share of the limit, and what they add up to. The
// examples import the built dist/, so that is what runs here.
import { existsSync, readFileSync } from "node:fs";
import { createEngine, type Engine, readSafetensors, type SafetensorsEntry, toFloat32 } from "skipzeros";
import type { Build } from "../../bindings/builds.js";
import { createNetwork } from "../../examples/keyword-spotting/network.js";
import { type Model, mobilenetV1, mobilenetV2, pruneModel } from "../../examples/mobilenet/model.js";
import { createMobileNet } from "../../examples/mobilenet/network.js";
import type { Step } from "../../examples/step.js";
import { random, values } from "../../test/oracle.js";
import type { Bench, Line } from "../groups.js";
import type { Row } from "../rows.js";

/** A network ready to run. */
interface Net {
  name: string;
  steps: Step[];
  run(): void;
}

/** What one network is made into: the same layers dense and pruned. */
interface Family {
  title: string;
  /** The dense one first. */
  make(engine: Engine): Net[];
}

const spotting = new URL("../../examples/keyword-spotting/", import.meta.url);

const FAMILIES: Family[] = [
  {
    title: "keyword spotter",
    make(engine) {
      const clips = readSafetensors(readFileSync(new URL("clips/expected.safetensors", spotting)));
      const features = toFloat32(clips.tensors.get("features") as SafetensorsEntry).subarray(0, 32 * 32);
      return ["dense", "weight-sparse", "sparse-sparse"]
        .map((name) => ({ name, file: new URL(`${name}.safetensors`, spotting) }))
        .filter(({ file }) => existsSync(file))
        .map(({ name, file }) => {
          const { steps, run } = createNetwork(engine, readFileSync(file));
          return { name, steps, run: () => void run(features) };
        });
    },
  },
  mobilenet("MobileNetV1", mobilenetV1),
  mobilenet("MobileNetV2", mobilenetV2),
];

/** Random weights: what they say means nothing, what they take does. */
function mobilenet(title: string, draw: (seed: number) => Model): Family {
  return {
    title,
    make(engine) {
      const model = draw(1);
      const image = values(3 * model.resolution ** 2, 0, random(1));
      const variants = [
        { name: "dense", model, format: "dense" as const },
        ...["90%", "95%"].map((zeros) => ({ name: zeros, model: pruneModel(model, zeros), format: "auto" as const })),
      ];
      return variants.map(({ name, model, format }) => {
        const { steps, run } = createMobileNet(engine, model, { format });
        return { name, steps, run: () => void run(image) };
      });
    },
  };
}

export async function nets(bench: Bench): Promise<void> {
  for (const build of bench.builds) {
    for (const family of FAMILIES) {
      const engine = await createEngine({ simd: build });
      const all = family.make(engine);
      await whole(bench, build, family.title, all);
      await layers(bench, build, family.title, all);
      engine.dispose();
    }
  }
}

const workOf = (steps: readonly Step[]) => ({
  flops: steps.reduce((sum, { macs }) => sum + 2 * macs, 0),
  denseFlops: steps.reduce((sum, { denseMacs }) => sum + 2 * denseMacs, 0),
  bytes: steps.reduce((sum, { bytes }) => sum + bytes, 0),
});

/** A run from input to scores. */
async function whole(bench: Bench, build: Build, title: string, all: readonly Net[]): Promise<void> {
  await bench.measure("nets", build, {
    title: `${title}, whole`,
    lines: all.map((net) => ({ name: net.name, op: "whole", format: net.name, dense: all[0].name, net })),
    setUp:
      () =>
      ({ net: { run, steps } }) => {
        run(); // what sparse activations hold, macs count
        return { run, ...workOf(steps) };
      },
  });
}

/** Every step on its own, and their sums. */
async function layers(bench: Bench, build: Build, title: string, all: readonly Net[]): Promise<void> {
  const lines = all.flatMap(({ name: net, steps, run }) =>
    steps.map((step): Line & { step: Step; prepare: () => void } => {
      const name = `${net}, ${step.name}`;
      const dense = all[0].steps.some(({ name }) => name === step.name) ? `${all[0].name}, ${step.name}` : undefined;
      return { name, dense, op: "layer", format: net, step, prepare: step === steps[0] ? run : () => {} };
    }),
  );
  const group = `${title}, layer by layer`;
  const rows = await bench.measure("nets", build, {
    title: group,
    lines,
    setUp:
      () =>
      ({ step, prepare }) => {
        prepare();
        return { run: () => step.run(), kernel: step.explain()?.kernel, ...workOf([step]) };
      },
  });
  const sums = all
    .map(({ name, steps }) => ({ name, steps, own: rows.filter(({ format }) => format === name) }))
    .filter(({ own, steps }) => own.length === steps.length)
    .map(({ name, steps, own }): Row => sumOf(name, steps, own));
  const [dense] = sums;
  if (sums.length > 0)
    bench.report(
      `nets ${build}, ${group}: sums`,
      sums.map((sum) => ({ ...sum, dense: dense.min, ratio: dense.min / sum.min })),
    );
}

function sumOf(name: string, steps: readonly Step[], rows: readonly Row[]): Row {
  const [min, median] = [rows.reduce((sum, row) => sum + row.min, 0), rows.reduce((sum, row) => sum + row.median, 0)];
  const { flops, denseFlops, bytes } = workOf(steps);
  const gf = flops / min / 1e6;
  const limit = rows.find((row) => row.limit)?.limit ?? gf;
  const { suite, build, group } = rows[0];
  return {
    suite,
    build,
    group,
    name: `${name}, sum`,
    op: "sum",
    format: name,
    min,
    median,
    spread: median / min - 1,
    gf,
    denseGf: denseFlops / min / 1e6,
    limit,
    share: gf / limit,
    bytes,
  };
}
