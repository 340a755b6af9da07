"""exp, log, tanh, sin, cos and pow from + - * /, comparisons and casts of bits: the same bits on every machine.

Libraries of C and of NumPy round differently from one processor or version to the next. These are written once, over
four primitives, and made for each tier by `make`: NumPy arrays (`NUMPY`), scalars of a compiler (`vm`), or whatever
else has arithmetic operators, such as a printer of C. Every operation is one IEEE 754 operation on doubles or on
unsigned 64-bit integers, in the order written; none may be contracted or reassociated.

Errors against the true value of the argument given, in units in the last place (tests measure them): at most 2.
Domain: all doubles, subnormal ones too. NaN gives NaN, also pow(NaN, 0) and pow(1, NaN); everything else as in C99.
sin and cos: 2 ulp to |x| <= TURN_MAX = 2**20; absolute error below |x| * 2**-51 to FAR_MAX = 2**32; NaN beyond.
"""

# One letter each, as in the literature; what differs from itself is NaN.
# ruff: noqa: PLR0124

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

TURN_MAX: Final = 2.0**20
FAR_MAX: Final = 2.0**32
INF: Final = math.inf
NAN: Final = math.nan
TINY: Final = 2.0**-1022
# Adding it leaves the nearest whole number in the low bits.
SHIFT: Final = 6755399441055744.0
SHIFT_BITS: Final = np.uint64(0x4338000000000000)
# Bits of 1.0 below those of sqrt(1/2), its mantissa mask, and widths.
LOG_OFFSET: Final = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
LOG_BASE: Final = np.uint64(0x3FE6A09E667F3BCD)
MANTISSA: Final = np.uint64(0x000FFFFFFFFFFFFF)
BITS: Final = np.uint64(52)
FAR: Final = np.uint64(2048)
ONE: Final = np.uint64(1)
TWO: Final = np.uint64(2)
SIGN: Final = np.uint64(63)
SPLIT: Final = 134217729.0

INV_LN2: Final = float.fromhex("0x1.71547652b82fep+0")
LN2_HI: Final = float.fromhex("0x1.62e42feep-1")
LN2_LO: Final = float.fromhex("0x1.a39ef35793c76p-33")
TWO_OVER_PI: Final = float.fromhex("0x1.45f306dc9c883p-1")
THIRD: Final = 1.0 / 3.0
THIRD_LO: Final = float.fromhex("0x1.5555555555555p-56")
# pi/2 in parts of 33 bits, so that 20 bits times a part are exact.
TURN: Final = tuple(
    float.fromhex(part)
    for part in ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2e0p-69", "0x1.b839a252049c1p-104")
)
# Polynomials through Chebyshev points: (exp r - 1 - r)/r^2 in r, |r| <= ln2/2
EXP: Final = tuple(
    float.fromhex(part)
    for part in (
        "0x1p-1", "0x1.5555555555557p-3", "0x1.5555555555556p-5", "0x1.11111111100dcp-7", "0x1.6c16c16c162d4p-10",
        "0x1.a01a01abe7fe1p-13", "0x1.a01a01a6d889cp-16", "0x1.71de0231960ebp-19", "0x1.27e4db646b17ep-22",
        "0x1.af4de97ca4194p-26", "0x1.1f730349868cep-29",
    )
)  # fmt: skip
# (log((1+s)/(1-s)) - 2s)/(s z) in z = s^2, |s| <= 0.1716
LOG: Final = tuple(
    float.fromhex(part)
    for part in (
        "0x1.5555555555555p-1", "0x1.9999999999a38p-2", "0x1.2492492476ba1p-2", "0x1.c71c72017a15cp-3",
        "0x1.745cf8f6c9117p-3", "0x1.3b1c38474d441p-3", "0x1.0fbe478771f40p-3", "0x1.0c06cf14ca68dp-3",
    )
)  # fmt: skip
# (atanh(s)/s - 1 - z/3)/z^2 in z = s^2
ATANH: Final = tuple(
    float.fromhex(part)
    for part in (
        "0x1.999999999999ap-3", "0x1.2492492492522p-3", "0x1.c71c71c6ea871p-4", "0x1.745d177aad02cp-4",
        "0x1.3b1395c881177p-4", "0x1.1118c9ee5d5f9p-4", "0x1.df7c5bc7744cap-5", "0x1.e032e4db33a72p-5",
    )
)  # fmt: skip
# (sin r - r)/r^3 and (cos r - 1 + r^2/2)/r^4 in r^2, |r| <= pi/4
SIN: Final = tuple(
    float.fromhex(part)
    for part in (
        "-0x1.5555555555555p-3", "0x1.1111111111110p-7", "-0x1.a01a01a019937p-13", "0x1.71de3a54607a5p-19",
        "-0x1.ae64541295cdfp-26", "0x1.61217ee5cc9cfp-33", "-0x1.ab17bdcbd0e45p-41",
    )
)  # fmt: skip
COS: Final = tuple(
    float.fromhex(part)
    for part in (
        "0x1.5555555555555p-5", "-0x1.6c16c16c16967p-10", "0x1.a01a019f4e9b4p-16", "-0x1.27e4fa17bf139p-22",
        "0x1.1eeb68cd22f1cp-29", "-0x1.907d8f29fc5c0p-37",
    )
)  # fmt: skip


class Primitives(NamedTuple):
    """What a tier brings.

    Attributes:
        wrap: decorator of every function.
        where: where(c, a, b), a where c holds, else b; c is a comparison of doubles or of integers.
        bits: the 64 bits of a double as an unsigned integer.
        real: the double of 64 bits.
    """

    wrap: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]
    bits: Callable[[Any], Any]
    real: Callable[[Any], Any]


class Functions(NamedTuple):
    """The functions of one tier; `pow` takes two arguments."""

    exp: Callable[[Any], Any]
    log: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    pow: Callable[[Any, Any], Any]


def make(tier: Primitives) -> Functions:
    """The six functions over the primitives of a tier."""
    scaled = _make_scaled(tier)
    exp = _make_exp(tier, scaled)
    turn, wave = _make_turn(tier), _make_wave(tier)
    sin, cos = _make_sin(tier, turn, wave), _make_cos(tier, turn, wave)
    return Functions(exp, _make_log(tier), _make_tanh(tier, exp), sin, cos, _make_pow(tier, scaled))


def _make_scaled(tier: Primitives) -> Callable[..., Any]:
    wrap, _, bits, real = tier

    @wrap
    def scaled(x: Any, low: Any) -> Any:
        """exp(x + low) for |x| <= 800; low is at most a few units in the last place of x."""
        t = x * INV_LN2 + SHIFT
        k = t - SHIFT
        r = ((x - k * LN2_HI) - k * LN2_LO) + low
        q = EXP[8] + r * (EXP[9] + r * EXP[10])
        q = EXP[4] + r * (EXP[5] + r * (EXP[6] + r * (EXP[7] + r * q)))
        q = EXP[0] + r * (EXP[1] + r * (EXP[2] + r * (EXP[3] + r * q)))
        y = 1.0 + (r + (r * r) * q)
        # 2^k in two halves: k reaches beyond the exponents of doubles, and a subnormal result is rounded once.
        n = (bits(t) - SHIFT_BITS) + FAR
        half = n >> ONE
        first = real((half - ONE) << BITS)
        second = real(((n - half) - ONE) << BITS)
        return (y * first) * second

    return scaled  # type: ignore[no-any-return]  # `wrap` may be any decorator


def _make_exp(tier: Primitives, scaled: Callable[..., Any]) -> Callable[[Any], Any]:
    wrap, where, _, _ = tier

    @wrap
    def exp(x: Any) -> Any:
        c = where(x < -800.0, -800.0, x)
        c = where(c > 800.0, 800.0, c)
        return scaled(c, 0.0)

    return exp  # type: ignore[no-any-return]  # as above


def _make_log(tier: Primitives) -> Callable[[Any], Any]:
    wrap, where, bits, real = tier

    @wrap
    def log(x: Any) -> Any:
        small = x < TINY
        scaled = where(small, x * 18014398509481984.0, x)
        # x = 2^k m with m in [sqrt(1/2), sqrt(2))
        b = bits(scaled) + LOG_OFFSET
        k = (real((b >> BITS) + SHIFT_BITS) - SHIFT) - where(small, 1077.0, 1023.0)
        f = real((b & MANTISSA) + LOG_BASE) - 1.0
        s = f / (2.0 + f)
        z = s * s
        q = LOG[4] + z * (LOG[5] + z * (LOG[6] + z * LOG[7]))
        q = z * (LOG[0] + z * (LOG[1] + z * (LOG[2] + z * (LOG[3] + z * q))))
        h = (0.5 * f) * f
        y = k * LN2_HI - ((h - (s * (h + q) + k * LN2_LO)) - f)
        y = where(x == INF, INF, y)
        y = where(x > 0.0, y, NAN)
        return where(x == 0.0, -INF, y)

    return log  # type: ignore[no-any-return]  # as above


def _make_tanh(tier: Primitives, exp: Callable[[Any], Any]) -> Callable[[Any], Any]:
    wrap, where, _, _ = tier

    @wrap
    def tanh(x: Any) -> Any:
        # Small: Lambert's continued fraction x/(1 + z/(3 + z/(5 + ... z/17))) is x - x z P/Q with these whole numbers.
        # Large: 1 - 2/(exp(2|x|) + 1). One division serves both.
        a = where(x < 0.0, -x, x)
        small = a < 0.75
        c = where(small, x, 0.0)
        z = c * c
        p = 11486475.0 + z * (810810.0 + z * (12870.0 + z * 44.0))
        q = 34459425.0 + z * (16216200.0 + z * (945945.0 + z * (13860.0 + z * 45.0)))
        e = exp(a + a)
        one = where(x < 0.0, -1.0, 1.0)
        base = where(small, x, where(x == x, one, x))
        top = where(small, (c * z) * p, one + one)
        return where(x == 0.0, x, base - top / where(small, q, e + 1.0))

    return tanh  # type: ignore[no-any-return]  # as above


def _make_turn(tier: Primitives) -> Callable[[Any], Any]:
    wrap, where, bits, _ = tier

    @wrap
    def turn(x: Any) -> Any:
        """Rest r + l of x less the nearest multiple k of pi/2, and the bits of k."""
        a = where(x < 0.0, -x, x)
        c = where(a <= FAR_MAX, x, NAN)
        t = c * TWO_OVER_PI + SHIFT
        k = t - SHIFT
        first = c - k * TURN[0]
        # Differences with their rounding errors (Knuth).
        w = k * TURN[1]
        second = first - w
        b = second - first
        e1 = (first - (second - b)) - (w + b)
        w = k * TURN[2]
        third = second - w
        b = third - second
        e2 = (second - (third - b)) - (w + b)
        low = (e1 + e2) - k * TURN[3]
        r = third + low
        return r, (third - r) + low, bits(t)

    return turn  # type: ignore[no-any-return]  # as above


def _make_wave(tier: Primitives) -> Callable[..., Any]:
    wrap, where, _, _ = tier

    @wrap
    def wave(r: Any, low: Any, quarter: Any) -> Any:
        """sin(r + low + quarter pi/2) for |r| <= pi/4."""
        z = r * r
        v = z * r
        p = SIN[1] + z * (SIN[2] + z * (SIN[3] + z * (SIN[4] + z * (SIN[5] + z * SIN[6]))))
        s = r - ((z * (0.5 * low - v * p) - low) - v * SIN[0])
        p = COS[0] + z * (COS[1] + z * (COS[2] + z * (COS[3] + z * (COS[4] + z * COS[5]))))
        h = 0.5 * z
        w = 1.0 - h
        c = w + (((1.0 - w) - h) + ((z * z) * p - r * low))
        y = where((quarter & ONE) == ONE, c, s)
        return where((quarter & TWO) == TWO, -y, y)

    return wave  # type: ignore[no-any-return]  # as above


def _make_sin(tier: Primitives, turn: Callable[[Any], Any], wave: Callable[..., Any]) -> Callable[[Any], Any]:
    wrap, where, _, _ = tier

    @wrap
    def sin(x: Any) -> Any:
        r, low, quarter = turn(x)
        return where(x == 0.0, x, wave(r, low, quarter))

    return sin  # type: ignore[no-any-return]  # as above


def _make_cos(tier: Primitives, turn: Callable[[Any], Any], wave: Callable[..., Any]) -> Callable[[Any], Any]:
    @tier.wrap
    def cos(x: Any) -> Any:
        r, low, quarter = turn(x)
        return wave(r, low, quarter + ONE)

    return cos  # type: ignore[no-any-return]  # as above


def _make_product(tier: Primitives) -> Callable[[Any, Any], Any]:
    @tier.wrap
    def product(a: Any, b: Any) -> Any:
        """Product a b and its rounding error (Dekker, Veltkamp); exact unless it overflows or vanishes."""
        p = a * b
        t = SPLIT * a
        ah = t - (t - a)
        al = a - ah
        t = SPLIT * b
        bh = t - (t - b)
        bl = b - bh
        return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl

    return product  # type: ignore[no-any-return]  # as above


def _make_logarithm(tier: Primitives, product: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    wrap, where, bits, real = tier

    @wrap
    def logarithm(a: Any) -> Any:
        """log(a) of a finite a > 0 as a sum of two doubles, to 2^-64 of it: 2 atanh(s) with s = (m - 1)/(m + 1)."""
        small = a < TINY
        b = bits(where(small, a * 18014398509481984.0, a)) + LOG_OFFSET
        k = (real((b >> BITS) + SHIFT_BITS) - SHIFT) - where(small, 1077.0, 1023.0)
        f = real((b & MANTISSA) + LOG_BASE) - 1.0
        d = 2.0 + f
        s = f / d
        p, e = product(s, d)
        sl = (((f - p) - e) - s * (f - (d - 2.0))) / d
        z, e = product(s, s)
        zl = e + (s + s) * sl
        t = ATANH[4] + z * (ATANH[5] + z * (ATANH[6] + z * ATANH[7]))
        t = z * (ATANH[0] + z * (ATANH[1] + z * (ATANH[2] + z * (ATANH[3] + z * t))))
        q = THIRD + t
        ql = (t - (q - THIRD)) + THIRD_LO
        c, e = product(z, q)
        cl = e + (z * ql + zl * q)
        g, e = product(s, c)
        gl = e + (s * cl + sl * c)
        whole, s, g = k * LN2_HI, s + s, g + g
        first = whole + s
        e = s - (first - whole)
        second = first + g
        low = (e + (g - (second - first))) + ((sl + sl) + (gl + gl) + k * LN2_LO)
        y = second + low
        return y, low - (y - second)

    return logarithm  # type: ignore[no-any-return]  # as above


def _make_pow(tier: Primitives, scaled: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    wrap, where, bits, _ = tier
    product = _make_product(tier)
    logarithm = _make_logarithm(tier, product)

    @wrap
    def power(x: Any, y: Any) -> Any:
        a, b = where(x < 0.0, -x, x), where(y < 0.0, -y, y)
        h, hl = logarithm(a)
        c = where(b > 18446744073709551616.0, where(y < 0.0, -18446744073709551616.0, 18446744073709551616.0), y)
        p, e = product(c, h)
        low = where(p > 800.0, 0.0, where(p < -800.0, 0.0, e + c * hl))
        p = where(p > 800.0, 800.0, where(p < -800.0, -800.0, p))
        r = scaled(p, low)
        # A base without logarithm, and the sign of a negative one.
        r = where(a == INF, where(y < 0.0, 0.0, INF), r)
        r = where(a == 0.0, where(y < 0.0, INF, 0.0), r)
        half = b * 0.5
        whole = where(b >= 4503599627370496.0, b, (b + 4503599627370496.0) - 4503599627370496.0)
        even = where(half >= 4503599627370496.0, half, (half + 4503599627370496.0) - 4503599627370496.0)
        unreal = where(whole == b, r, where(a == 0.0, r, where(a == INF, r, NAN)))
        turned = where(whole == b, where(even == half, r, -r), unreal)
        r = where((bits(x) >> SIGN) == ONE, turned, r)
        r = where(b == 0.0, 1.0, r)
        r = where(y == y, r, y)
        return where(x == x, r, x)

    return power  # type: ignore[no-any-return]  # as above


def _array_where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b)


def _array_bits(x: Any) -> Any:
    return np.asarray(x, np.float64).view(np.uint64)


def _array_real(b: Any) -> Any:
    return np.asarray(b, np.uint64).view(np.float64)


# Over NumPy arrays; overflow and invalid operations are part of the method, so callers silence them.
NUMPY: Final = make(Primitives(lambda function: function, _array_where, _array_bits, _array_real))
