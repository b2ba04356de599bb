"""Transcendental functions on fixed-point integers: Taylor series, with remainders, in Python's integers.

Numbers are integers x that stand for x 2^-BITS. Each function returns an integer y with |y - f(x)| <= ERROR, both sides
counted in 2^-BITS, for every x of at most 2^20 in value (and, where stated, beyond). The argument is exact: who knows
it only up to a radius adds that times a Lipschitz constant. Quotients of integers are floors, wrong by less than one
unit.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt

BITS = 240
ERROR = 1 << 60
"""Far above what any function here needs, far below what any claim needs: 2^-180."""

_ONE = 1 << BITS
_GUARD = 64


def exp_minus(t: int, bits: int = BITS) -> int:
    """exp(-t), t >= 0, within 2 units of 2^-bits: (exp(-t / 2^m))^(2^m) with t / 2^m < 2^-7.

    The series alternates with falling terms, so what is cut off is below one term; it has fewer than `bits` terms, each
    wrong by at most 2 units of 2^-(bits + 64), and the argument by one. A square of v <= 1 with an error of e <= 2^40
    units is wrong by at most 2 e + 2. So the end is wrong by at most 2^m (2 bits + 5) of these units, below 2^-bits for
    bits <= 2^10 (m <= 18). Beyond t = bits + 2 the value is below 2^-bits.
    """
    if t > (bits + 2) << bits:
        return 0
    fine, halvings = bits + _GUARD, 7 + (bits + 2).bit_length()
    t = (t << _GUARD) >> halvings
    total, term, j = 0, 1 << fine, 0
    while term:
        total += -term if j % 2 else term
        j += 1
        term = (term * t >> fine) // j
    for _ in range(halvings):
        total = total * total >> fine
    return total >> _GUARD


def logistic_tail(t: int) -> int:
    """1 / (1 + exp(t)) for t >= 0, as e / (1 + e), e = exp(-t); the derivative in e is at most 1."""
    e = exp_minus(t)
    return (e << BITS) // (_ONE + e)


def sigmoid(x: int) -> int:
    """1 / (1 + exp(-x))."""
    return logistic_tail(-x) if x < 0 else _ONE - logistic_tail(x)


def tanh(x: int) -> int:
    """sign(x) (1 - 2 / (1 + exp(2 |x|)))."""
    size = _ONE - 2 * logistic_tail(2 * abs(x))
    return -size if x < 0 else size


def softplus(x: int) -> int:
    """max(x, 0) + log(1 + w), w = exp(-|x|), log(1 + w) = 2 sum_j z^(2j + 1) / (2j + 1), z = w / (2 + w) <= 1/3.

    Terms fall by a factor of 9 and vanish after fewer than BITS steps; each is wrong by a few units, as are w and z.
    """
    w = exp_minus(abs(x))
    z = (w << BITS) // (2 * _ONE + w)
    square, power, total, j = z * z >> BITS, z, 0, 0
    while power:
        total += power // (2 * j + 1)
        power, j = power * square >> BITS, j + 1
    return max(x, 0) + 2 * total


def elu(x: int, alpha: Fraction, gamma: Fraction) -> int:
    """gamma x above 0, alpha gamma (exp(x) - 1) below; |alpha gamma| < 2^50."""
    factor, value = (gamma, x) if x > 0 else (alpha * gamma, exp_minus(-x) - _ONE)
    return factor.numerator * value // factor.denominator


def silu(x: int, beta: Fraction) -> int:
    """x s(beta x) with the sigmoid s, beta > 0: the floor of beta x changes s by at most 1/4 unit."""
    return x * sigmoid(beta.numerator * x // beta.denominator) >> BITS


def gelu(x: int) -> int:
    """x Phi(x) = max(x, 0) - |x| Q(|x|), Q = 1 - Phi = 1/2 - phi(t) sum_j t^(2j + 1) / (1 * 3 * ... * (2j + 1)).

    For t >= 19, t Q(t) <= phi(t) < 2^-260. Below, the series is less than 2^262 and has fewer than 2^11 terms; with 400
    bits more than BITS the error of phi, a few units of 2^-640, stays below 2^-370 when it is multiplied by the series.
    """
    t = abs(x)
    if t >= 19 << BITS:
        return max(x, 0)
    fine = BITS + 400
    y = t << 400
    square = y * y >> fine
    total, term, j = 0, y, 0
    while term:
        total += term
        j += 1
        term = (term * square >> fine) // (2 * j + 1)
    centre = density(square, fine) * total >> fine
    return max(x, 0) - (t * (((1 << fine) >> 1) - centre) >> fine)


def density(square: int, bits: int) -> int:
    """exp(-square / 2) / sqrt(2 pi) within a few units of 2^-bits."""
    return (exp_minus(square >> 1, bits) << bits) // isqrt(2 * pi(bits) << bits)


def tanh_gelu(x: int) -> int:
    """x s(w), w = 2 sqrt(2 / pi) (x + 0.044715 x^3), s the sigmoid.

    For |x| >= 64, |w| > 18000 and |x| s(-|w|) < 2^-1000. Below, |w| < 2^15, so that the errors of sqrt(2 / pi) and of
    the cube, two units each, make w wrong by fewer than 2^18 units, and the value by fewer than 2^24.
    """
    if abs(x) >= 64 << BITS:
        return max(x, 0)
    cube = x * x * x >> 2 * BITS
    inner = x + 44715 * cube // 10**6
    w = 2 * isqrt((2 << 3 * BITS) // pi(BITS)) * inner >> BITS
    return x * sigmoid(w) >> BITS


@lru_cache(maxsize=8)
def pi(bits: int) -> int:
    """pi within one unit of 2^-bits. Machin: pi = 16 arctan(1/5) - 4 arctan(1/239), with 64 bits more while summing."""
    return (16 * _arctan_inverse(5, bits + 64) - 4 * _arctan_inverse(239, bits + 64)) >> 64


def _arctan_inverse(m: int, bits: int) -> int:
    total, power, j = 0, (1 << bits) // m, 0
    while power:
        total += (-1) ** j * (power // (2 * j + 1))
        power //= m * m
        j += 1
    return total
