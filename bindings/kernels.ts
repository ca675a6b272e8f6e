/** What dispatch knows of a weight in one use. */
export interface Structure {
  kind: "dense" | "csr" | "block" | "nm" | "complementary";
  /** Rows and columns of the blocks that are stored whole, in the orientation of the use; 1 × 1 for csr and N:M. */
  block: readonly [rows: number, cols: number];
  /** M of an N:M weight whose groups run along the inputs, otherwise 0. */
  group: number;
  /** Outputs of one group of a convolution, 0 when there are no groups. */
  rowsPerGroup: number;
  /** Whether the zeros may be multiplied too: the weight is dense, or its format was left to us. */
  dense: boolean;
}

/** One row of the manifest. */
export interface Kernel {
  /** The export's name in both Wasm builds: `f32_<format>_<op>_<block>_<tile>`; of dense products gemm and gemv instead of spmm and spmv. */
  name: string;
  /** The stream of weights that it reads; null for those that take no weights. */
  format: "dense" | "csr" | "block" | "nm" | null;
  op: "spmm" | "spmv" | "spmspv" | "depthwise" | null;
  /** Columns of one strip; 1 for a vector; of a depthwise one that walks an image by columns the width of a walk; otherwise 0. */
  tile: number;
  /** Rows and columns of one entry of the stream; of a depthwise one's only kernel, or 1 × 1 for all. */
  block: readonly [rows: number, cols: number];
  /** Names the stream: kernels with the same one differ in the tile only. */
  stream: string;
  /** Where f32_spmm_runs finds it. */
  index: number;
  /** Whether a weight can be lowered to its stream. */
  accepts(weight: Structure): boolean;
}

/** A row before it has its place. */
type Row = Omit<Kernel, "index">;

const csr = (op: "spmm" | "spmv" | "spmspv", tile: number): Row => ({
  name: op === "spmm" ? `f32_csr_spmm_${tile}` : `f32_csr_${op}`,
  format: "csr",
  op,
  tile,
  block: [1, 1],
  stream: "csr",
  accepts: ({ kind }) => kind !== "dense",
});

const block = (op: "spmm" | "spmv" | "spmspv", rows: number, cols: number, tile = 1): Row => ({
  name: `f32_block_${op}_${rows}x${cols}${op === "spmm" ? `_${tile}` : ""}`,
  format: "block",
  op,
  tile,
  block: [rows, cols],
  stream: `block ${rows}x${cols}`,
  // Blocks are split down to what a kernel reads, never put together. A block row lies in one group of a convolution.
  accepts: (w) =>
    w.kind !== "dense" && w.block[0] % rows === 0 && w.block[1] % cols === 0 && w.rowsPerGroup % rows === 0,
});

const dense = (name: string, op: Kernel["op"], tile: number): Row => ({
  name,
  format: "dense",
  op,
  tile,
  block: [1, 1],
  stream: "dense",
  accepts: (w) => w.dense,
});

const plain = (name: string): Row => ({
  name,
  format: null,
  op: null,
  tile: 0,
  block: [1, 1],
  stream: "",
  accepts: () => false,
});

const ROWS: Row[] = [
  csr("spmm", 32),
  csr("spmm", 28),
  csr("spmm", 24),
  csr("spmm", 16),
  csr("spmm", 8),
  csr("spmm", 4),
  csr("spmv", 1),
  block("spmm", 4, 1, 8),
  block("spmm", 4, 1, 4),
  block("spmm", 2, 1, 16),
  block("spmm", 2, 1, 4),
  block("spmv", 8, 1),
  block("spmv", 4, 1),
  block("spmv", 2, 1),
  block("spmv", 1, 4),
  block("spmv", 1, 2),
  {
    name: "f32_nm_spmv",
    format: "nm",
    op: "spmv",
    tile: 1,
    block: [1, 1],
    stream: "nm",
    accepts: ({ group }) => group > 1 && group <= 4,
  },
  dense("f32_dense_gemm_8", "spmm", 8),
  dense("f32_dense_gemm_4", "spmm", 4),
  dense("f32_dense_gemv", "spmv", 1),
  csr("spmspv", 1),
  block("spmspv", 8, 1),
  block("spmspv", 4, 1),
  { ...dense("f32_dense_spmspv", "spmspv", 1), accepts: (w) => w.dense && w.rowsPerGroup === 0 },
  dense("f32_dense_depthwise", "depthwise", 0),
  { ...dense("f32_dense_depthwise_3x3_rows", "depthwise", 0), block: [3, 3], stream: "dense 3x3" },
  { ...dense("f32_dense_depthwise_3x3_columns", "depthwise", 4), block: [3, 3], stream: "dense 3x3" },
  plain("f32_transpose"),
  plain("f32_pad"),
  plain("f32_copy"),
  plain("f32_to_lists"),
  plain("f32_from_lists"),
  plain("f32_binary"),
  plain("f32_clamp"),
  plain("f32_sigmoid"),
  plain("f32_tanh"),
  plain("f32_softmax"),
  plain("f32_k_winners"),
  plain("f32_max_pool"),
  plain("f32_avg_pool"),
  plain("f32_global_avg_planes"),
  plain("f32_global_avg_pixels"),
  plain("f32_spmm_runs"),
];

/** Every kernel there is. Dispatch, tests and bench read this list; what is not in it does not exist. */
export const KERNELS: readonly Kernel[] = ROWS.map((row, index) => ({ ...row, index }));

/** Floats of the widest strip of any kernel, and so of a row of the widest panel. */
export const PANEL = 32;
