"""Proved enclosures of exp, sigmoid, tanh, softplus and the normal distribution, entry by entry.

No library function is trusted: everything is a Taylor or continued-fraction argument carried out in balls,
with the remainder bound in the docstring. Arguments are arrays of at least one axis of finite floats, however
large; radii are about 1e-15 (relative to the value for exp).
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from certlip.rigor.ball import Ball, between
from certlip.rigor.rounding import TINY, UNIT, Array, down, inflate, up


def rational(value: Fraction) -> Ball:
    """Ball around a rational number, exact if that is a float. Python rounds integer quotients correctly."""
    mid = value.numerator / value.denominator
    return Ball(np.asarray(mid), np.asarray(0.0 if Fraction(mid) == value else 2 * UNIT * abs(mid) + TINY))


# The head has 40 bits: k * head is exact for |k| <= 2^12. The 1e-46 cut off lies in the tail's radius.
_LN2 = Fraction("0.6931471805599453094172321214581765680755001343")
_LN2_HEAD = Fraction(int(_LN2 * 2**40), 2**40)
_LN2_TAIL = Ball(rational(_LN2 - _LN2_HEAD).mid, np.asarray(4 * UNIT * 2.0**-40))

PI = Ball(np.asarray(3.141592653589793), np.asarray(2.0**-52))
"""The decimal is the float nearest to pi, and floats in [2, 4) are 2^-51 apart."""

_EXP = tuple(rational(Fraction(1, factorial(j))) for j in range(15))
_ATANH = tuple(rational(Fraction(1, 2 * j + 1)) for j in range(18))
_ERF_TERMS = 28
_ERF = tuple(rational(Fraction(1, prod(range(1, 2 * j + 2, 2)))) for j in range(_ERF_TERMS))
_ONE = Ball.exact(1.0)
_CENTRE = 2.0  # the normal distribution is a series up to here and a continued fraction beyond
_FAR = 40.0  # where exp(-x^2 / 2) is a ball that holds zero
_FRACTION_DEPTH = 100


def select(condition: NDArray[np.bool_], yes: Ball, no: Ball) -> Ball:
    """Entry by entry one ball or the other."""
    return Ball(np.where(condition, yes.mid, no.mid), np.where(condition, yes.rad, no.rad))


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def exp(x: Ball | Array) -> Ball:
    """exp(x) = 2^k exp(r) with k near x / ln 2 and |r| < 0.36, Taylor to r^14, remainder < 2^-60.

    The remainder is at most 2 * 0.36^15 / 15! < 4e-19. Below -708 the result is the ball [0, 2^-1021], above
    709.7 it has infinite radius. A radius s <= 1 of x multiplies by a factor within 2 s of one; a larger one
    proves nothing.
    """
    x = x if isinstance(x, Ball) else Ball.exact(x)
    point = np.clip(x.mid, -708.0, 709.7)
    # division and rint are correctly rounded, so |point / ln 2 - k| < 0.5 + 1e-12
    k = np.rint(point / 0.6931471805599453)
    reduced = (Ball.exact(point) - Ball.exact(k * float(_LN2_HEAD))) - Ball.exact(k) * _LN2_TAIL
    series = _widened(_horner(_EXP, reduced), 2.0**-60)
    power = k.astype(np.int64)
    mid = np.ldexp(series.mid, power)  # exact: a normal number for every k that the clipping leaves
    rad = np.where(x.mid > 709.7, np.inf, inflate(np.ldexp(series.rad, power), 1))
    small = x.mid < -708.0
    result = Ball(np.where(small, TINY, mid), np.where(small, TINY, rad))
    if x.is_exact:
        return result
    return result * Ball(np.ones_like(mid), np.where(x.rad > 1.0, np.inf, 2.0 * x.rad))


def sigmoid(x: Ball | Array) -> Ball:
    """1 / (1 + exp(-x)) as 1 / (1 + e) or e / (1 + e), e = exp of a ball whose centre is not positive."""
    x = x if isinstance(x, Ball) else Ball.exact(x)
    small = exp(Ball(-np.abs(x.mid), x.rad))
    total = small + _ONE
    return select(x.mid < 0, small, Ball.exact(np.ones_like(x.mid))) / total


def tanh(x: Array) -> Ball:
    """(1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x; the ball of e for 400 holds all e beyond."""
    small = exp(-2.0 * np.minimum(np.abs(x), 400.0))
    size = (_ONE - small) / (_ONE + small)
    return Ball(np.where(x < 0, -size.mid, size.mid), size.rad)


def softplus(x: Array) -> Ball:
    """log(1 + exp(x)) = max(x, 0) + log(1 + w), w = exp(-|x|) <= 1; log(1 + w) = 2 atanh(z), z = w / (2 + w).

    z <= 1/3, so cutting atanh(z) / z = sum z^2j / (2j + 1) after 18 terms leaves at most
    9/8 * 9^-18 / 37 < 2^-61.
    """
    w = exp(-np.abs(x))
    z = w / (w + Ball.exact(2.0))
    series = _widened(_horner(_ATANH, z * z), 2.0**-61)
    return Ball.exact(np.maximum(x, 0.0)) + Ball.exact(2.0) * z * series


def normal_density(x: Array) -> Ball:
    """exp(-x^2 / 2) / sqrt(2 pi); the ball for 40 holds the values for all |x| beyond."""
    point = Ball.exact(np.minimum(np.abs(x), _FAR))
    root = Ball(2.0 * PI.mid[None], 2.0 * PI.rad[None]).sqrt()[0]
    return exp(Ball.exact(-0.5) * (point * point)) / root


def normal_cdf(x: Array) -> Ball:
    """Phi(x): a series for |x| <= 2, the tail Q(|x|) or one minus it beyond."""
    mid, rad = np.empty_like(x), np.empty_like(x)
    near = np.abs(x) <= _CENTRE
    for chosen, function in ((near, _central_cdf), (~near, _outer_cdf)):
        if chosen.any():
            part = function(x[chosen])
            mid[chosen], rad[chosen] = part.mid, part.rad
    return Ball(mid, rad)


def _central_cdf(x: Array) -> Ball:
    return Ball.exact(x) * normal_density(x) * _central_series(x) + Ball.exact(0.5)


def _outer_cdf(x: Array) -> Ball:
    tail = normal_density(x) * _mills_ratio(np.abs(x))
    return select(x < 0, tail, _ONE - tail)


def _central_series(x: Array) -> Ball:
    """(Phi(x) - 1/2) / (x phi(x)) = sum_j x^2j / (1 * 3 * ... * (2j + 1)) for |x| <= 2.

    The terms are positive, and from j = 28 on less than 1/8 of the one before: the remainder is at most
    8/7 * 4^28 / (1 * 3 * ... * 57) < 2^-65.
    """
    square = Ball.exact(x) * Ball.exact(x)
    return _widened(_horner(_ERF, square), 2.0**-65)


def _mills_ratio(x: Array) -> Ball:
    """Q(x) / phi(x) for 2 <= x <= 40, Q = 1 - Phi; x outside are clipped, as 0 < Q(x) < Q(40) beyond 40.

    Let I_k = integral over t > x of (t - x)^k / k! phi(t) and I_-1 = phi(x), so that I_0 = Q. By parts
    k I_k = I_(k-2) - x I_(k-1), hence q_k = I_k / I_(k-1) > 0 obeys q_(k-1) = 1 / (x + k q_k), and every q_k
    lies in [0, 1/x]. Start from that interval at a large k; each step of interval arithmetic narrows it.
    """
    x = np.clip(x, _CENTRE, _FAR)
    low, high = np.zeros_like(x), up(1.0 / x)
    for k in range(_FRACTION_DEPTH, 0, -1):
        low, high = down(1.0 / up(x + up(k * high))), up(1.0 / down(x + down(k * low)))
    return between(low, high)


def _horner(coefficients: tuple[Ball, ...], x: Ball) -> Ball:
    """sum_j coefficients[j] x^j."""
    result = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        result = x * result + coefficient
    return result


def _widened(x: Ball, slack: float) -> Ball:
    return Ball(x.mid, up(x.rad + slack))
