"""Cosines and sines of the angles 2 pi k / n, proved by integer arithmetic."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import UNIT, Array

_ONE = 1 << 128  # integers stand for multiples of 2^-128


@lru_cache(maxsize=64)
def roots_of_unity(n: int) -> tuple[Ball, Ball]:
    """Balls around cos(2 pi k / n) and sin(2 pi k / n), k = 0, ..., n - 1; exact where 0, +-1/2 or +-1.

    The integers below, times 2^-128, are within 2^-116 of what they stand for: fewer than 2^7 divisions, each
    wrong by less than one unit of 2^-128 and amplified by less than 2^5. A value other than zero is at least
    1 / n, so for n <= 2^40 rounding and this error together stay below 2 u |mid|.
    """
    if not 1 <= n <= 1 << 40:
        raise ValueError(f"there are no {n}-th roots of unity here: n must lie between 1 and 2^40")
    pairs = [cos_sin(k, n) for k in range(n)]
    return _ball([cos for cos, _ in pairs], n), _ball([sin for _, sin in pairs], n)


def _ball(fixed: list[int], n: int) -> Ball:
    mid: Array = np.array([value / _ONE for value in fixed])  # a quotient of integers is correctly rounded
    # At multiples of 30 degrees the values are 0, +-1/2, +-1 or +-sqrt(3)/2; only the last is not a float.
    exact = (12 * np.arange(n) % n == 0) & (np.rint(2 * mid) == 2 * mid)
    rad = np.where(exact, 0.0, 2 * UNIT * np.abs(mid))
    mid.setflags(write=False)
    rad.setflags(write=False)
    return Ball(mid, rad)


def cos_sin(k: int, n: int) -> tuple[int, int]:
    """cos and sin of 2 pi k / n: the angle within its quadrant by Taylor, turned by right angles exactly."""
    quadrant, rest = divmod(4 * k, n)
    cos, sin = _taylor(_pi() * rest // (2 * n))
    for _ in range(quadrant % 4):
        cos, sin = -sin, cos
    return cos, sin


def _taylor(angle: int) -> tuple[int, int]:
    """cos and sin of an angle in [0, pi/2]: Taylor until a term vanishes, with less than 2^4 units beyond."""
    sums, term, j = [0, 0, 0, 0], _ONE, 0
    while term:
        sums[j % 4] += term
        j += 1
        term = term * angle // (_ONE * j)
    return sums[0] - sums[2], sums[1] - sums[3]


@lru_cache(maxsize=1)
def _pi() -> int:
    """Machin: pi = 16 arctan(1/5) - 4 arctan(1/239), with 64 more bits than needed while summing."""
    return (16 * _arctan_inverse(5) - 4 * _arctan_inverse(239)) >> 64


def _arctan_inverse(m: int) -> int:
    total, power, j = 0, (_ONE << 64) // m, 0
    while power:
        total += (-1) ** j * (power // (2 * j + 1))
        power //= m * m
        j += 1
    return total
