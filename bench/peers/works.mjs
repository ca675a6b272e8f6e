// What is measured: shapes, formats, networks, and what should be reached. draw.mjs makes the numbers.

/**
 * `targets`: the ratio that a work should reach to the best peer (`best`) and to others by name. `active`: how many inputs of a
 * row, or channels of a pixel, are not zero; ours are then a SparseTensor, and a convolution has no padding.
 */
const linear = (rows, k, m, zeros, format, least, active) => ({
  kind: "linear",
  rows,
  k,
  m,
  zeros,
  format,
  targets: { best: least },
  active,
  title: titled(`linear ${rows} × ${k} × ${m}`, format, zeros, active && 1 - active / k),
});
const conv = (size, c, m, kernel, zeros, format, least, active) => ({
  kind: "conv",
  size,
  c,
  m,
  kernel,
  zeros,
  format,
  targets: { best: least },
  active,
  title: titled(`conv ${kernel}x${kernel}, ${size}², ${c}→${m}`, format, zeros, active && 1 - active / c),
});
/** What the peers lack: judged by its time. `scopes` groups of `n` candidates, `k` winners in each. */
const winners = (scope, scopes, n, k, most) => ({
  kind: "winners",
  scope,
  scopes,
  n,
  k,
  most,
  title: `kWinners, ${scope}, ${k} of ${n}${scopes > 1 ? ` × ${scopes}` : ""}`,
});
/**
 * A 1x1 convolution inside a network: what a chain of the second depth takes more than one of the first, over the layers between.
 * `sparsePath`: LiteRT.js has one of its own for it.
 */
const chain = (size, channels, zeros, format, least) => ({
  kind: "chain",
  size,
  channels,
  zeros,
  format,
  targets: { best: least },
  depths: [2, 10],
  sparsePath: true,
  title: `${titled(`conv 1x1, ${size}², ${channels}→${channels}`, format, zeros)}, in a chain`,
});
/** `theirs`: the network that the peers run, for they have no k-winners. */
const spotter = (network, targets, theirs) => ({
  kind: "keywordSpotter",
  network,
  theirs,
  targets,
  title: `net keyword spotter, ${network}${theirs ? `; peers the ${theirs} net of that shape` : ""}`,
});
/** Its 1x1 convolutions pruned to a pattern; the peers run the same weights. */
const mobileNet = (version, pattern, targets) => ({
  kind: "mobileNet",
  version,
  pattern,
  targets,
  sparsePath: true,
  title: `net MobileNetV${version}-1.0-224, ${pattern}`,
});

function titled(name, format, zeros, inactive) {
  const kinds = {
    block: ({ rows, cols }) => `block ${rows}x${cols}`,
    nm: ({ n, m }) => `${n}:${m}`,
    complementary: ({ overlay, blockRows }) => `complementary ${overlay}x${blockRows}`,
  };
  const inputs = inactive ? `, inputs ${Math.round(inactive * 100)}%` : "";
  return `${name}, ${kinds[format.kind]?.(format) ?? format}${zeros ? ` ${zeros * 100}%` : ""}${inputs}`;
}

const BLOCK = { kind: "block", rows: 4, cols: 1 };
const nm = (n, m) => ({ kind: "nm", n, m });
/** 95% zeros: one of 20 rows, or blocks of rows, has a column. */
const overlaid = (blockRows) => ({ kind: "complementary", overlay: 20, blockRows });

export const WORKS = [
  linear(64, 512, 512, 0, "dense"),
  linear(64, 1024, 1024, 0, "dense"),
  linear(1, 512, 512, 0, "dense"),
  linear(1, 1024, 1024, 0, "dense"),
  linear(1, 2048, 2048, 0, "dense"),
  conv(28, 128, 128, 3, 0, "dense"),
  conv(14, 512, 512, 1, 0, "dense"),
  linear(64, 512, 512, 0.9, "csr"),
  linear(64, 1024, 1024, 0.9, "csr"),
  linear(1, 1024, 1024, 0.9, "csr", 3.5),
  linear(1, 1024, 1024, 0.95, "csr", 6.5),
  conv(28, 128, 128, 3, 0.9, "csr"),
  conv(14, 512, 512, 1, 0.9, "csr"),
  conv(7, 1024, 1024, 1, 0.9, "csr"),
  conv(14, 256, 256, 3, 0.9, "csr"),
  linear(64, 1024, 1024, 0.9, BLOCK, 9),
  linear(1, 1024, 1024, 0.9, BLOCK, 11),
  linear(1, 1024, 1024, 0.95, BLOCK, 20),
  linear(64, 512, 512, 0, nm(2, 4), 1.8),
  linear(64, 768, 3072, 0, nm(2, 4), 1.8),
  linear(64, 768, 3072, 0, nm(1, 8), 6.5),
  linear(1, 2048, 2048, 0, nm(2, 4), 1.5),
  linear(1, 1600, 1500, 0, overlaid(4), 18),
  linear(1, 1600, 1500, 0, overlaid(4), 100, 160),
  linear(1, 1600, 1500, 0, overlaid(1), 40, 160),
  linear(1, 1024, 1024, 0, overlaid(4), 85, 102),
  linear(1, 3072, 768, 0, "dense", 10, 184),
  conv(12, 64, 64, 5, 0, overlaid(4), 15, 8),
  winners("global", 1, 1600, 160, 3),
  winners("local", 100, 64, 8, 15),
  chain(14, 512, 0.9, "csr", 1.4),
  chain(7, 1024, 0.9, "csr", 1.8),
  spotter("dense"),
  spotter("weight-sparse", { best: 8 }),
  spotter("sparse-sparse", { best: 15, "onnxruntime-web": 20 }, "dense"),
  mobileNet(1, "90%", { "LiteRT.js-sparse": 1.25, "LiteRT.js": 6 }),
  mobileNet(1, "95%", { "LiteRT.js-sparse": 1.35 }),
  mobileNet(1, "4x1@90%", { "LiteRT.js-sparse": 1.25, "LiteRT.js": 6 }),
  mobileNet(2, "90%"),
];
