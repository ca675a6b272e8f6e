// The ABI: every kernel the engine may call. Pure functions on pointers and sizes; nothing here allocates or throws.
export { f32_binary, f32_clamp, f32_sigmoid, f32_softmax, f32_tanh } from "./activation/elementwise";
export { f32_k_winners } from "./activation/k_winners";
export { f32_avg_pool, f32_global_avg_pixels, f32_global_avg_planes, f32_max_pool } from "./activation/pool";
export { f32_block_spmm_2x1_4, f32_block_spmm_2x1_16 } from "./block/spmm_2x1";
export { f32_block_spmm_4x1_4, f32_block_spmm_4x1_8 } from "./block/spmm_4x1";
export {
  f32_block_spmv_1x2,
  f32_block_spmv_1x4,
  f32_block_spmv_2x1,
  f32_block_spmv_4x1,
  f32_block_spmv_8x1,
} from "./block/spmv";
export { f32_csr_spmm_24, f32_csr_spmm_28, f32_csr_spmm_32 } from "./csr/spmm";
export { f32_csr_spmm_4, f32_csr_spmm_8, f32_csr_spmm_16 } from "./csr/spmm_narrow";
export { f32_csr_spmv } from "./csr/spmv";
export { f32_dense_depthwise } from "./dense/depthwise";
export { f32_dense_depthwise_3x3_columns } from "./dense/depthwise_3x3_columns";
export { f32_dense_depthwise_3x3_rows } from "./dense/depthwise_3x3_rows";
export { dense_gemm_rows, f32_dense_gemm_4, f32_dense_gemm_8 } from "./dense/gemm";
export { f32_dense_gemv } from "./dense/gemv";
export { f32_from_lists, f32_to_lists } from "./layout/lists";
export { f32_copy, f32_pad } from "./layout/planes";
export { f32_transpose } from "./layout/transpose";
export { f32_nm_spmv } from "./nm/spmv";
export { f32_spmm_runs } from "./runs";
export { is_relaxed } from "./simd";
export { f32_block_spmspv_4x1, f32_block_spmspv_8x1, f32_csr_spmspv, f32_dense_spmspv } from "./spmspv";
