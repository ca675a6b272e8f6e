// Pictures of a run's rows as SVG on white, so that light and dark pages can show them: speed-up over density, a roofline,
// networks. Vega renders without a browser.
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Build } from "../bindings/builds.js";
import { describe, type Results, type Row } from "./rows.js";
import { geometric } from "./targets.js";

/** SVG by name, for a run that has the rows; the relaxed build if it has rows of that. */
export async function pictures(results: Results): Promise<Record<string, string>> {
  const build: Build = results.rows.some((row) => row.build === "relaxed") ? "relaxed" : "simd128";
  const rows = results.rows.filter((row) => row.build === build);
  const subtitle = `${describe(results.machine, results.rounds)}, ${build}`;
  const specs = { speedup: speedup(rows), roofline: roofline(rows), networks: networks(rows) };
  const drawn: Record<string, string> = {};
  for (const [name, spec] of Object.entries(specs)) if (spec) drawn[name] = await svg(spec, subtitle);
  return drawn;
}

type Spec = { title: string } & Record<string, unknown>;

async function svg({ title, ...spec }: Spec, subtitle: string): Promise<string> {
  const config = {
    // A label for each of thousands of points would be half of the file.
    aria: false,
    font: "sans-serif",
    axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#e4e4e4" },
    legend: { labelFontSize: 12, labelLimit: 400, symbolStrokeWidth: 2 },
  };
  const head = {
    text: title,
    subtitle,
    anchor: "start",
    fontSize: 15,
    subtitleFontSize: 11,
    subtitleColor: "#555",
    offset: 12,
  };
  const whole = { background: "white", padding: 12, title: head, config, ...spec } as unknown as TopLevelSpec;
  const view = new vega.View(vega.parse(compile(whole).spec), { renderer: "none" });
  return (await view.toSVG()).replace(/^<svg [^>]*>/, (tag) => `${tag}<title>${title}</title>`);
}

/** Colours that are told apart in print and by most eyes (M. Okabe and K. Ito). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/** Operations with a dense time beside theirs, in the order of their columns. */
const OPS = ["linear, one row", "linear, 4 rows", "linear, 8 rows", "linear, 64 rows", "conv 1x1", "conv 3x3"];

/** Each format's geometric mean over shapes, by the share of weights that are left. */
function speedup(rows: readonly Row[]): Spec | undefined {
  const counted = rows.filter(
    (row) => row.active === undefined && OPS.includes(row.op ?? "") && row.ratio && row.zeros && row.format !== "dense",
  );
  if (counted.length === 0) return undefined;
  const means = [...groupBy(counted, (row) => `${row.op}|${row.format}|${row.zeros}`).values()].map((same) => ({
    op: same[0].op as string,
    format: same[0].format as string,
    density: Number((1 - (same[0].zeros as number)).toFixed(4)),
    speedup: geometric(same.map(({ ratio }) => ratio as number)),
  }));
  const ideal = [...new Set(means.map(({ op }) => op))].flatMap((op) =>
    [...new Set(means.map(({ density }) => density))].map((density) => ({ op, density, ideal: 1 / density })),
  );
  // "auto" takes the dense kernel below its break-even, so that its line follows 1 there.
  const autos = means.filter(({ format }) => format === "auto");
  const formats = means.filter(({ format }) => format !== "auto");
  const even = [...groupBy(formats, ({ op, format }) => `${op}|${format}`).values()].flatMap(breakEven);
  const densities = means.map(({ density }) => density);
  const tallest = Math.max(...[...means.map((mean) => mean.speedup), ...ideal.map((point) => point.ideal)]);
  const lowest = Math.min(0.8, ...means.map((mean) => mean.speedup));
  const x = {
    field: "density",
    type: "quantitative",
    scale: { type: "log", domain: [Math.max(...densities), Math.min(...densities)], nice: false },
    axis: { format: ".0%", values: [0.5, 0.3, 0.2, 0.1, 0.05, 0.02], grid: true, labelOverlap: false },
    title: "weights left (log)",
  };
  const y = (field: string) => ({
    field,
    type: "quantitative",
    scale: { type: "log", domain: [lowest / 1.1, tallest * 1.1], nice: false },
    axis: { values: [0.5, 1, 2, 5, 10, 20, 50].filter((tick) => tick > lowest / 1.1), grid: true },
    title: "times dense (log)",
  });
  const color = {
    field: "format",
    type: "nominal",
    sort: ["csr", "block 4x1"],
    scale: { range: COLOURS },
    title: null,
    legend: { symbolOpacity: 1 },
  };
  const panel = (op: string) => {
    const of = (values: readonly { op: string }[]) => ({ values: values.filter((value) => value.op === op) });
    return {
      title: { text: op, fontSize: 13, anchor: "middle" },
      width: 260,
      height: 200,
      layer: [
        { mark: { type: "rule", color: "#777" }, data: { values: [{ one: 1 }] }, encoding: { y: y("one") } },
        {
          mark: { type: "line", color: "#777", strokeDash: [5, 4] },
          data: of(ideal),
          encoding: { x, y: y("ideal") },
        },
        // Broad and below, as it follows the formats that it takes.
        {
          mark: { type: "line", strokeWidth: 7, opacity: 0.35 },
          data: of(autos),
          encoding: { x, y: y("speedup"), color },
        },
        {
          mark: { type: "line", point: { size: 25 }, strokeWidth: 2 },
          data: of(formats),
          encoding: { x, y: y("speedup"), color },
        },
        { mark: { type: "point", size: 110, strokeWidth: 2 }, data: of(even), encoding: { x, y: y("even"), color } },
        {
          mark: { type: "text", dy: 14, fontSize: 11 },
          data: of(even),
          encoding: { x, y: y("even"), color, text: { field: "density", format: ".0%" } },
        },
      ],
    };
  };
  return {
    title: "Times as fast as our dense kernel (dashed: 1/density, circled: break-even)",
    concat: OPS.filter((op) => means.some((mean) => mean.op === op)).map(panel),
    columns: 3,
  };
}

interface Mean {
  op: string;
  format: string;
  density: number;
  speedup: number;
}

/** Where a format's line crosses 1, straight between its points in logarithms; nowhere if all of it lies on one side. */
function breakEven(means: readonly Mean[]): { op: string; format: string; density: number; even: number }[] {
  const line = [...means].sort((a, b) => b.density - a.density);
  const i = line.findIndex(({ speedup }) => speedup >= 1);
  if (i <= 0) return [];
  const [a, b] = [line[i - 1], line[i]];
  const share = Math.log(a.speedup) / (Math.log(a.speedup) - Math.log(b.speedup));
  const density = Math.exp(Math.log(a.density) + share * (Math.log(b.density) - Math.log(a.density)));
  return [{ op: a.op, format: a.format, density, even: 1 }];
}

/** Every row with operations and bytes under the roofs of the suite `limit`. */
function roofline(rows: readonly Row[]): Spec | undefined {
  const suites = ["spmm", "spmv", "conv", "sparse-sparse"];
  const points = rows
    .filter(({ suite, gf, bytes }) => suites.includes(suite) && gf && bytes)
    .map(({ op, format, gf, bytes, min }) => {
      return { op, format, gf, intensity: ((gf as number) * min * 1e6) / (bytes as number) };
    });
  if (points.length === 0) return undefined;
  const top = Math.max(...rows.map(({ limit = 0 }) => limit));
  const all = points.map(({ intensity }) => intensity);
  const [from, to] = [Math.min(...all) / 1.5, Math.max(...all) * 1.5];
  const loads = rows.filter(({ suite, unit }) => suite === "limit" && unit === "GB/s");
  const roofs = [
    { roof: `multiply-add ${top.toFixed(0)} GF`, intensity: from, roofGf: top },
    { roof: `multiply-add ${top.toFixed(0)} GF`, intensity: to, roofGf: top },
    ...loads.flatMap(({ name, rate = 0 }) => {
      const ends = [from, Math.min(to, Math.max(from, top / rate))];
      return ends.map((x) => ({
        roof: `${name} ${rate.toFixed(0)} GB/s`,
        intensity: x,
        roofGf: Math.min(top, x * rate),
      }));
    }),
  ];
  const slowest = Math.min(...points.map(({ gf }) => gf as number));
  const axis = { grid: true, tickCount: 5 };
  const x = {
    field: "intensity",
    type: "quantitative",
    scale: { type: "log", domain: [from, to], nice: false },
    axis,
    title: "operations on nonzeros a byte (log)",
  };
  const y = (field: string) => ({
    field,
    type: "quantitative",
    scale: { type: "log", domain: [slowest / 1.5, top * 1.5], nice: false },
    axis,
    title: "10⁹ operations a second on nonzeros (log)",
  });
  return {
    title: "Roofline: every row under what registers, caches and memory allow",
    width: 640,
    height: 380,
    layer: [
      {
        data: { values: points },
        mark: { type: "point", filled: true, size: 22, opacity: 0.55 },
        encoding: {
          x,
          y: y("gf"),
          color: { field: "op", type: "nominal", sort: OPS, title: null, legend: { symbolOpacity: 1 } },
        },
      },
      {
        data: { values: roofs },
        mark: { type: "line", color: "#333", clip: true },
        encoding: { x, y: y("roofGf"), strokeDash: { field: "roof", title: null } },
      },
    ],
    resolve: { legend: { strokeDash: "independent" } },
  };
}

/** A bar for each network, dense and pruned. */
function networks(rows: readonly Row[]): Spec | undefined {
  const bars = rows
    .filter(({ suite, op }) => suite === "nets" && op === "whole")
    .map(({ group, name, min, ratio = 1 }) => ({
      network: group.replace(/,.*/, ""),
      name,
      ms: min,
      label: `${min.toPrecision(3)} ms${name === "dense" ? "" : `, ${ratio.toFixed(1)}x`}`,
    }));
  if (bars.length === 0) return undefined;
  const panel = ([network, values]: [string, typeof bars]) => {
    const longest = Math.max(...values.map(({ ms }) => ms));
    const scale = { domain: [0, longest * 1.5], nice: false };
    const x = { field: "ms", type: "quantitative", title: "ms a run", axis: { tickCount: 5 }, scale };
    const y = { field: "name", type: "nominal", sort: null, title: null };
    const color = { condition: { test: "datum.name === 'dense'", value: "#999999" }, value: COLOURS[0] };
    return {
      title: { text: network, fontSize: 13, anchor: "middle" },
      width: 240,
      height: { step: 30 },
      data: { values },
      layer: [
        { mark: { type: "bar", height: 20 }, encoding: { x, y, color } },
        { mark: { type: "text", align: "left", dx: 4, fontSize: 11 }, encoding: { x, y, text: { field: "label" } } },
      ],
    };
  };
  return {
    title: "Networks from input to scores, least time",
    concat: [...groupBy(bars, ({ network }) => network)].map(panel),
    columns: 3,
    resolve: { scale: { x: "independent", y: "independent" } },
  };
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
