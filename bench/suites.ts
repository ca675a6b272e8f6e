// All suites by name, in the order in which they run.
import type { Bench } from "./groups.js";
import { conv } from "./suites/conv.js";
import { dispatch } from "./suites/dispatch.js";
import { hosts } from "./suites/hosts.js";
import { kernels } from "./suites/kernels.js";
import { limit } from "./suites/limit.js";
import { load } from "./suites/load.js";
import { nets } from "./suites/nets.js";
import { pack } from "./suites/pack.js";
import { sparseSparse } from "./suites/sparse-sparse.js";
import { spmm } from "./suites/spmm.js";
import { spmv } from "./suites/spmv.js";

export type Suite = (bench: Bench) => Promise<void>;

export const SUITES: Readonly<Record<string, Suite>> = {
  limit,
  kernels,
  spmm,
  spmv,
  conv,
  "sparse-sparse": sparseSparse,
  pack,
  load,
  nets,
  dispatch,
  hosts,
};

/** Suites that run only when they are named: what a wrong choice of kernel costs takes minutes, hosts must be installed. */
export const BY_NAME: readonly string[] = ["dispatch", "hosts"];
