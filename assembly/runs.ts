// A product over many runs of strips: an image row by row has hundreds of them, and a call from JavaScript takes as long as a strip.
//
//   runs..end  of each (u32 place of the kernel in the table, u32 strips, u32 byte offset within x, u32 the same within y); one at least
//
// All else is what the kernels of op spmm take. The host puts these into the table that the module exports.

export function f32_spmm_runs(
  runs: usize,
  end: usize,
  plan: usize,
  x: usize,
  y: usize,
  yStride: usize,
  bias: usize,
  flags: i32,
  lo: f32,
  hi: f32,
): void {
  do {
    const strips = load<i32>(runs, 4);
    const from = x + load<u32>(runs, 8);
    const to = y + load<u32>(runs, 12);
    call_indirect<void>(load<u32>(runs), plan, strips, from, to, yStride, bias, flags, lo, hi);
    runs += 16;
  } while (runs < end);
}
