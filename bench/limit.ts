// The machine's limits, in AssemblyScript: as many multiply-adds as the registers allow, with nothing to load; and as many loads
// as a buffer's place in the caches allows, with nothing to compute. Compiled by bench/machine.ts in both builds, so that every
// other number can be given as a share of them.

class Chain {
  @inline static madd(a: v128, b: v128, c: v128): v128 {
    if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
    return f32x4.add(f32x4.mul(a, b), c);
  }
}

/** n × 12 multiply-adds of four lanes, in twelve chains: the latency of one is hidden by the other eleven. */
export function limit(n: i32, p: usize): void {
  const s = v128.load(p);
  const t = v128.load(p, 16);
  let a = v128.load(p, 32),
    b = v128.load(p, 48),
    c = v128.load(p, 64),
    d = v128.load(p, 80);
  let e = v128.load(p, 96),
    f = v128.load(p, 112),
    g = v128.load(p, 128),
    h = v128.load(p, 144);
  let i = v128.load(p, 160),
    j = v128.load(p, 176),
    k = v128.load(p, 192),
    l = v128.load(p, 208);
  for (; n > 0; --n) {
    a = Chain.madd(a, s, t);
    b = Chain.madd(b, s, t);
    c = Chain.madd(c, s, t);
    d = Chain.madd(d, s, t);
    e = Chain.madd(e, s, t);
    f = Chain.madd(f, s, t);
    g = Chain.madd(g, s, t);
    h = Chain.madd(h, s, t);
    i = Chain.madd(i, s, t);
    j = Chain.madd(j, s, t);
    k = Chain.madd(k, s, t);
    l = Chain.madd(l, s, t);
  }
  v128.store(p, a, 32);
  v128.store(p, b, 48);
  v128.store(p, c, 64);
  v128.store(p, d, 80);
  v128.store(p, e, 96);
  v128.store(p, f, 112);
  v128.store(p, g, 128);
  v128.store(p, h, 144);
  v128.store(p, i, 160);
  v128.store(p, j, 176);
  v128.store(p, k, 192);
  v128.store(p, l, 208);
}

/** Adds up `bytes` bytes from p on, a multiple of 256, n times over: nothing but loads, and one operation to use each. */
export function loads(n: i32, p: usize, bytes: usize): void {
  let a = v128.load(p),
    b = v128.load(p, 16),
    c = v128.load(p, 32),
    d = v128.load(p, 48);
  let e = v128.load(p, 64),
    f = v128.load(p, 80),
    g = v128.load(p, 96),
    h = v128.load(p, 112);
  const end = p + bytes;
  for (; n > 0; --n) {
    for (let q = p; q < end; q += 256) {
      a = v128.xor(a, v128.load(q));
      b = v128.xor(b, v128.load(q, 16));
      c = v128.xor(c, v128.load(q, 32));
      d = v128.xor(d, v128.load(q, 48));
      e = v128.xor(e, v128.load(q, 64));
      f = v128.xor(f, v128.load(q, 80));
      g = v128.xor(g, v128.load(q, 96));
      h = v128.xor(h, v128.load(q, 112));
      a = v128.xor(a, v128.load(q, 128));
      b = v128.xor(b, v128.load(q, 144));
      c = v128.xor(c, v128.load(q, 160));
      d = v128.xor(d, v128.load(q, 176));
      e = v128.xor(e, v128.load(q, 192));
      f = v128.xor(f, v128.load(q, 208));
      g = v128.xor(g, v128.load(q, 224));
      h = v128.xor(h, v128.load(q, 240));
    }
  }
  a = v128.xor(v128.xor(v128.xor(a, b), v128.xor(c, d)), v128.xor(v128.xor(e, f), v128.xor(g, h)));
  v128.store(p, a);
}
