// exp, the logistic function and tanh of four floats, to about two units in the last place. Polynomials and range reduction
// are those of Cephes' expf and tanhf (S. Moshier); multiply and add stay apart, so both builds give the same bits.

export class Exp {
  /** e^x: 0 below -87.34, Infinity above 88.72, NaN for NaN. */
  // Not inlined: three callers, 400 bytes each.
  static exp(x: v128): v128 {
    const lo = f32x4.splat(-87.3365478515625),
      hi = f32x4.splat(88.72283172607422);
    const t = f32x4.pmin(f32x4.pmax(x, lo), hi);
    const n = f32x4.nearest(f32x4.mul(t, f32x4.splat(1.44269504)));
    // ln 2 in two parts, so that the remainder loses nothing.
    const r = f32x4.sub(f32x4.sub(t, f32x4.mul(n, f32x4.splat(0.693359375))), f32x4.mul(n, f32x4.splat(-2.1219444e-4)));
    let p = f32x4.splat(1.98756915e-4);
    p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
    p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
    p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
    p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
    p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
    p = f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(p, r), r), r), f32x4.splat(1));
    // 2^n in two factors: n = 128 does not fit one.
    const i = i32x4.trunc_sat_f32x4_s(n);
    const half = i32x4.shr_s(i, 1);
    const bias = i32x4.splat(127);
    const y = f32x4.mul(
      f32x4.mul(p, i32x4.shl(i32x4.add(half, bias), 23)),
      i32x4.shl(i32x4.add(i32x4.sub(i, half), bias), 23),
    );
    const small = v128.andnot(y, f32x4.lt(x, lo));
    return v128.bitselect(
      f32x4.splat(f32.POSITIVE_INFINITY),
      v128.bitselect(x, small, f32x4.ne(x, x)),
      f32x4.gt(x, hi),
    );
  }

  /** 1 / (1 + e^-x) */
  @inline static sigmoid(x: v128): v128 {
    const one = f32x4.splat(1);
    return f32x4.div(one, f32x4.add(one, Exp.exp(f32x4.neg(x))));
  }

  @inline static tanh(x: v128): v128 {
    const one = f32x4.splat(1);
    const m = f32x4.abs(x);
    const large = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(Exp.exp(f32x4.add(m, m)), one)));
    // Near zero the subtraction above would cancel.
    const s = f32x4.mul(x, x);
    let p = f32x4.splat(-5.70498872745e-3);
    p = f32x4.add(f32x4.mul(p, s), f32x4.splat(2.06390887954e-2));
    p = f32x4.add(f32x4.mul(p, s), f32x4.splat(-5.37397155531e-2));
    p = f32x4.add(f32x4.mul(p, s), f32x4.splat(1.33314422036e-1));
    p = f32x4.add(f32x4.mul(p, s), f32x4.splat(-3.33332819422e-1));
    const small = f32x4.add(x, f32x4.mul(x, f32x4.mul(p, s)));
    // The sign of −0 too, which the sum in `small` loses.
    const sign = v128.and(x, i32x4.splat(0x80000000));
    return v128.or(v128.bitselect(small, large, f32x4.lt(m, f32x4.splat(0.625))), sign);
  }
}
