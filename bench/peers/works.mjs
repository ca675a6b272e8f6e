// What is multiplied: shapes, formats, and weights drawn in each format's own pattern.

/**
 * `least`: the ratio to the best peer that a work should reach. `active`: how many inputs of a row, or channels of a pixel, are
 * not zero; ours are then a SparseTensor.
 */
const linear = (rows, k, m, zeros, format, least, active) => ({
  rows,
  k,
  m,
  zeros,
  format,
  least,
  active,
  title: titled(`linear ${rows} × ${k} × ${m}`, format, zeros, active && 1 - active / k),
});
const conv = (size, c, m, kernel, zeros, format, least, active) => ({
  size,
  c,
  m,
  kernel,
  zeros,
  format,
  least,
  active,
  valid: active !== undefined,
  title: titled(`conv ${kernel}x${kernel}, ${size}², ${c}→${m}`, format, zeros, active && 1 - active / c),
});
/** What the peers lack: checked against sorting, and judged by its time. `scopes` groups of `n` candidates, `k` winners in each. */
const winners = (scope, scopes, n, k, most) => ({
  scope,
  scopes,
  n,
  k,
  most,
  title: `kWinners, ${scope}, ${k} of ${n}${scopes > 1 ? ` × ${scopes}` : ""}`,
});
/** A 1x1 convolution inside a network: what a chain of the second depth takes more than one of the first, over the layers between. */
const chain = (size, channels, zeros, format, least) => ({
  size,
  channels,
  zeros,
  format,
  least,
  depths: [2, 10],
  title: `${titled(`conv 1x1, ${size}², ${channels}→${channels}`, format, zeros)}, in a chain`,
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
];

let state = 1;
/** Uniform in −1..1 (mulberry32). */
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
};
const values = (n, zeros = 0, scale = 1) =>
  Float32Array.from({ length: n }, () => (zeros && Math.abs(random()) < zeros ? 0 : random() * scale));

/** 0..n−1 in random order. */
function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(((random() + 1) / 2) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** `active` of each `n` numbers at random places, the rest zeros. */
function someOf(groups, n, active) {
  const x = new Float32Array(groups * n);
  for (let g = 0; g < groups; g++) for (const i of shuffled(n).subarray(0, active)) x[g * n + i] = random();
  return x;
}

/** The k largest of each n and what equals them, by sorting. */
function largest(x, n, k) {
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += n) {
    const scope = x.subarray(start, start + n);
    const least = scope.toSorted()[n - k];
    for (let i = 0; i < n; i++) if (scope[i] >= least) y[start + i] = scope[i];
  }
  return y;
}

function weights(format, zeros, rows, cols) {
  const draw = {
    block: drawBlocks,
    nm: drawNm,
    complementary: drawComplementary,
  }[format.kind];
  return draw ? draw(format, zeros, rows, cols) : values(rows * cols, zeros);
}

/** Fills one block of a matrix, as far as it reaches. */
function fill(w, rows, cols, [top, left], [height, width]) {
  for (let r = top; r < Math.min(rows, top + height); r++)
    for (let c = left; c < Math.min(cols, left + width); c++) w[r * cols + c] = random();
}

function drawBlocks({ rows: height, cols: width }, zeros, rows, cols) {
  const w = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r += height)
    for (let c = 0; c < cols; c += width) if (Math.abs(random()) >= zeros) fill(w, rows, cols, [r, c], [height, width]);
  return w;
}

function drawNm({ n, m }, _, rows, cols) {
  const w = new Float32Array(rows * cols);
  for (let group = 0; group < w.length; group += m)
    for (const place of shuffled(m).subarray(0, n)) w[group + place] = random();
  return w;
}

/** The columns of each set dealt out to its block rows, as many to each; a set with fewer block rows leaves some empty. */
function drawComplementary({ overlay, blockRows }, _, rows, cols) {
  const w = new Float32Array(rows * cols);
  const count = Math.floor(cols / overlay);
  let columns;
  for (let r = 0, member = 0; r < rows; r += blockRows, member++) {
    if (member % overlay === 0) columns = shuffled(cols);
    const start = (member % overlay) * count;
    for (const c of columns.subarray(start, start + count)) fill(w, rows, cols, [r, c], [blockRows, 1]);
  }
  return w;
}

/** Input and weights of a work, channels last as the peers take them; a chain's are scaled so that some activations of every layer reach both ends of relu6. */
export function draw(work) {
  const { rows, k, m, zeros, format, size, c, kernel, valid, active, channels, depths, scope, scopes, n } = work;
  if (scope) {
    const x = values(scopes * n);
    const xShape = scope === "local" ? [1, 10, scopes / 10, n] : [scopes, n];
    return { x, xShape, winners: { scope, k }, expected: largest(x, n, k) };
  }
  if (depths) {
    const bias = () => values(channels, 0, 0.1);
    const scale = Math.sqrt(6 / (channels * (1 - zeros)));
    return {
      size,
      channels,
      format,
      x: values(4 * size * size * 3, 0, 6),
      xShape: [1, 2 * size, 2 * size, 3],
      first: { w: values(channels * 27, 0, Math.sqrt(6 / 27)), bias: bias() },
      layers: Array.from({ length: depths[1] }, () => ({ w: values(channels ** 2, zeros, scale), bias: bias() })),
    };
  }
  if (!kernel) {
    const w = weights(format, zeros, m, k);
    const x = active ? someOf(rows, k, active) : values(rows * k);
    return { x, xShape: [rows, k], w, wShape: [m, k], yShape: [rows, m], format, sparse: active !== undefined };
  }
  const out = valid ? size - kernel + 1 : size;
  return {
    x: active ? someOf(size * size, c, active) : values(size * size * c),
    xShape: [1, size, size, c],
    w: weights(format, zeros, m, kernel * kernel * c),
    wShape: [m, kernel, kernel, c],
    yShape: [1, out, out, m],
    conv: { same: kernel > 1 && !valid },
    format,
    sparse: active !== undefined,
  };
}
