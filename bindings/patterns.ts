/** What pruning obeys: patterns by object or by name, and the pure functions that make, test and find them. */
export {
  type CheckOptions,
  type CheckResult,
  check,
  type Evenness,
  evenness,
  type Violation,
} from "./patterns/check.js";
export { type Detection, detect } from "./patterns/detect.js";
export { type ParsedPattern, type Pattern, type PatternLike, parsePattern, patternName } from "./patterns/pattern.js";
export { prune } from "./patterns/prune.js";
export { type GmpSchedule, gmpSparsity } from "./patterns/schedule.js";
