/** The nth largest of the first `length` values, n from 1; reorders them. Hoare's selection: linear time on average. */
export function nthLargest(values: Float64Array, length: number, n: number): number {
  const target = length - n;
  let lo = 0;
  let hi = length - 1;
  while (lo < hi) {
    // A random pivot: no input can be made to take quadratic time, and the result does not depend on it.
    const pivot = values[lo + Math.floor(Math.random() * (hi - lo + 1))];
    let i = lo;
    let j = hi;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const v = values[i];
      values[i++] = values[j];
      values[j--] = v;
    }
    if (target <= j) hi = j;
    else if (target >= i) lo = i;
    else break;
  }
  return values[target];
}
