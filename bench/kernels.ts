// The kernels that the suite `kernels` has a line for; a test holds the manifest against them.
import { kernelCases } from "./suites/kernels.js";

export const benchedKernels: readonly string[] = (await kernelCases("simd128")).map(({ name }) => name);
