// Random inputs, and weights in each format's own pattern.

let state = 1;
/** Uniform in −1..1 (mulberry32). */
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
};
export const values = (n, zeros = 0, scale = 1) =>
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
export function someOf(groups, n, active) {
  const x = new Float32Array(groups * n);
  for (let g = 0; g < groups; g++) for (const i of shuffled(n).subarray(0, active)) x[g * n + i] = random();
  return x;
}

/** [rows][cols]; `zeros` is the share that a format leaves open. */
export function weights(format, zeros, rows, cols) {
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
