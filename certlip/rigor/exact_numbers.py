"""Exact arithmetic on arrays: numbers in base 2^20, products by float64 matrix products that cannot round.

An exact array is a sum of limbs, X = sum_e X_e 2^(20 e), the X_e arrays of integers of at most 2^19 in size. A bilinear
map (a matrix product, a convolution, an entrywise product) of two such arrays is the sum over pairs of limbs, and each
pair is evaluated by the ordinary float64 routine. All its numbers are integers; where the number of terms times the
largest product is at most 2^53, every partial sum is one too and is represented exactly: no operation rounds, in
whatever order and with or without fused multiply-add. That condition is checked before each product; no rounding error
is ever estimated. This is the splitting of Ozaki et al. (2012), with fixed point in place of error-free
transformations.

`Exact` is a ball of such numbers: all real arrays X with |X - mid| <= rad. Radii come from digits that were cut off,
from constants that are irrational and from weights that are balls already; they are carried by the same exact
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

Integers = NDArray[np.int64]
Limbs = Mapping[int, Integers]
"""By exponent e, in ascending order: the integers that count 2^(20 e). Limbs that are zero everywhere are left out."""

WIDTH = 20
BASE = 1 << WIDTH
PRECISION = 13
"""Limbs that are kept of a result; what lies below goes into the radius."""


class NotExact(Exception):
    """Exact arithmetic does not apply: a number that is not finite, or one too large; the message says which."""


Bilinear = Callable[[Array, Array], Array]
"""A map of two arrays whose result entries are sums of products of an entry of each, all with the factor 1."""


@dataclass(frozen=True, eq=False)
class Exact:
    """All real arrays X of `shape` with |X - mid| <= rad entrywise; both are limbs, rad is not negative."""

    mid: Limbs
    rad: Limbs
    shape: tuple[int, ...]

    @staticmethod
    def of(x: Any) -> Exact:
        """The numbers that floats stand for; radii where an array spans more than `PRECISION` limbs. A ball keeps its
        radius. Raises NotExact for numbers that are not finite."""
        ball = x if isinstance(x, Ball) else Ball.exact(x)
        mid, lost = _digits(ball.mid)
        rad, more = _digits(np.broadcast_to(ball.rad, ball.shape))
        return _rounded(mid, _sum(_sum(rad, more), lost), ball.shape)

    @staticmethod
    def of_integers(x: Any, exponent: int, error: Any = 0) -> Exact:
        """Python integers (an object array) that count 2^(20 exponent), each off by at most `error` of the same."""
        x = np.asarray(x, dtype=object)
        slack = np.broadcast_to(np.asarray(error, dtype=object), x.shape)
        return _rounded(_counted(x, exponent), _counted(slack, exponent), x.shape)

    @staticmethod
    def of_counts(x: Integers, exponent: int) -> Exact:
        """Integers below 2^62 that count 2^(20 exponent)."""
        return Exact(_carried({exponent: x}), {}, x.shape)

    def integers(self, exponent: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Centre and radius as Python integers that count 2^(20 exponent); what lies below is in the radius."""
        sums = [np.zeros(self.shape, dtype=object) for _ in range(2)]
        for total, limbs in zip(sums, _cut(self.mid, self.rad, exponent), strict=True):
            for e, limb in limbs.items():
                total[...] += limb.astype(object) << WIDTH * (e - exponent)
        return sums[0], sums[1]

    def ends(self) -> tuple[list[Fraction], list[Fraction]]:
        """The least and the greatest members, flattened."""
        last = min([*self.mid, *self.rad], default=0)
        mid, rad = self.integers(last)
        unit = Fraction(2) ** (WIDTH * last)
        mid, rad = mid.ravel(), rad.ravel()
        return [unit * int(x) for x in mid - rad], [unit * int(x) for x in mid + rad]

    def near(self) -> Array:
        """Floats near the centre; nothing is proved about them."""
        return sum((np.ldexp(limb.astype(np.float64), WIDTH * e) for e, limb in self.mid.items()), np.zeros(self.shape))

    def grid(self, exponent: int = -3) -> tuple[Integers, Integers]:
        """Centre and radius as counts of 2^(20 exponent), below 2^61. Raises NotExact for larger numbers."""
        counts = []
        for limbs in _cut(self.mid, self.rad, exponent):
            total = np.zeros(self.shape, dtype=np.int64)
            for e, limb in limbs.items():
                if _size(limb) << WIDTH * (e - exponent) >= 1 << 60:
                    raise NotExact("a number is too large for its grid")
                total += limb << min(WIDTH * (e - exponent), 60)
            counts.append(total)
        return counts[0], counts[1]

    def map(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Exact:
        """Apply a rearrangement of entries to centre and radius; zeros may be filled in."""
        shape = move(np.zeros(self.shape, dtype=np.int8)).shape
        mid, rad = ({e: move(limb) for e, limb in limbs.items()} for limbs in (self.mid, self.rad))
        return Exact(mid, rad, shape)

    def _aligned(self, shape: tuple[int, ...]) -> Exact:
        common = np.broadcast_shapes(self.shape, shape)
        return self if common == self.shape else self.map(lambda array: np.broadcast_to(array, common))

    def shifted(self, exponent: int) -> Exact:
        """2^(20 exponent) times this."""
        mid, rad = ({e + exponent: limb for e, limb in limbs.items()} for limbs in (self.mid, self.rad))
        return Exact(mid, rad, self.shape)

    def __getitem__(self, key: Any) -> Exact:
        return self.map(lambda array: array[key])

    def __neg__(self) -> Exact:
        return Exact({e: -limb for e, limb in self.mid.items()}, self.rad, self.shape)

    def __add__(self, other: Exact) -> Exact:
        one, two = self._aligned(other.shape), other._aligned(self.shape)
        return _rounded(_sum(one.mid, two.mid), _sum(one.rad, two.rad), one.shape)

    def __sub__(self, other: Exact) -> Exact:
        return self + (-other)

    def __mul__(self, other: Exact) -> Exact:
        return bilinear(np.multiply, self, other, 1)

    def __matmul__(self, other: Exact) -> Exact:
        return bilinear(np.matmul, self, other, self.shape[-1])

    def sign(self) -> Integers:
        """The sign of the centre: that of its leading digit, as the rest is smaller than one unit of that."""
        return _sign(self.mid, self.shape)

    def size(self) -> Limbs:
        """|mid|."""
        return _scaled(self.mid, self.sign())

    def where(self, condition: NDArray[np.bool_], other: Exact) -> Exact:
        """Entry by entry this ball or the other one."""
        one, two = self._aligned(condition.shape), other._aligned(condition.shape)
        chosen = condition.astype(np.int64)
        mid, rad = (
            _sum(_scaled(yes, chosen), _scaled(no, 1 - chosen))
            for yes, no in ((one.mid, two.mid), (one.rad, two.rad))
        )
        return Exact(mid, rad, one.shape)

    def widened(self, slack: Limbs) -> Exact:
        """The same centre with a larger radius."""
        return _rounded(self.mid, _sum(self.rad, slack), self.shape)


def bilinear(act: Bilinear, left: Exact, right: Exact, terms: int) -> Exact:
    """Ball around act(X, Y) for all members, with act summing at most `terms` products for each entry.

    |act(X, Y) - act(x, y)| <= act(|x|, r_y) + act(r_x, |y| + r_y).
    """
    mid = _product(act, left.mid, right.mid, terms)
    rad: Limbs = {}
    if right.rad:
        rad = _product(act, _above(left.size()), _above(right.rad), terms)
    if left.rad:
        rad = _sum(rad, _product(act, _above(left.rad), _above(_sum(right.size(), right.rad)), terms))
    known = next(iter({**mid, **rad}.values()), None)
    shape = act(np.zeros(left.shape), np.zeros(right.shape)).shape if known is None else known.shape
    return _rounded(mid, rad, shape)


def concatenate(parts: list[Exact], axis: int) -> Exact:
    """Join balls along an axis."""

    def join(limbs: list[Limbs]) -> Limbs:
        exponents = sorted(set().union(*limbs))
        zeros = [np.zeros(part.shape, dtype=np.int64) for part in parts]
        pairs = list(zip(limbs, zeros, strict=True))
        return {e: np.concatenate([limb.get(e, zero) for limb, zero in pairs], axis) for e in exponents}

    mid, rad = join([part.mid for part in parts]), join([part.rad for part in parts])
    return Exact(mid, rad, np.concatenate([np.zeros(part.shape, dtype=np.int8) for part in parts], axis).shape)


def maximum(left: Exact, right: Exact) -> Exact:
    """|max(X, Y) - max(x, y)| <= max(|X - x|, |Y - y|)."""
    left, right = left._aligned(right.shape), right._aligned(left.shape)
    mid, rad = (_larger(*pair, left.shape) for pair in ((left.mid, right.mid), (left.rad, right.rad)))
    return Exact(mid, rad, left.shape)


def sqrt_up(square: Fraction, bits: int = 300) -> Fraction:
    """The root of a number >= 0 where that is rational, else a number above it by a factor of about 1 + 2^-bits."""
    numerator, denominator = square.numerator, square.denominator
    roots = isqrt(numerator), isqrt(denominator)
    if roots[0] ** 2 == numerator and roots[1] ** 2 == denominator:
        return Fraction(*roots)
    shift = max(0, bits + (denominator.bit_length() - numerator.bit_length()) // 2 + 1)
    return Fraction(isqrt((numerator << 2 * shift) // denominator) + 1, 1 << shift)


def _digits(x: Array) -> tuple[Limbs, Limbs]:
    """The limbs of floats from the top, and one unit of the last of them where digits are lost.

    x - d 2^(20 e) with d = rint(x 2^(-20 e)) is a float: it is a multiple of the last bit of x and no larger than x
    (and where 2^(20 e) is below the smallest float, x 2^(-20 e) is an integer). What scaling makes underflow has d = 0.
    """
    if not (np.abs(x) < 2.0**1000).all():  # beyond, a digit that is rounded up may exceed the floats
        raise NotExact("a number is not finite, or as large as 2^1000")
    rest = np.array(x, dtype=np.float64)
    limbs: dict[int, Integers] = {}
    while rest.any():
        e = -(-(int(np.frexp(np.abs(rest).max())[1]) + 1) // WIDTH) - 1  # so that |rest| <= 2^19 2^(20 e)
        e = min([e, *(below - 1 for below in limbs)])  # after rounding at most half a unit is left
        last = max(limbs, default=e) - PRECISION + 1
        if e < last:
            return limbs, {last: (rest != 0).astype(np.int64)}
        digit = np.rint(np.ldexp(rest, -WIDTH * e))
        limbs[e] = digit.astype(np.int64)
        rest = rest - np.ldexp(digit, WIDTH * e)
    return limbs, {}


def _counted(x: NDArray[Any], exponent: int) -> Limbs:
    limbs: dict[int, Integers] = {}
    while np.any(x != 0):
        digit = (x + BASE // 2) % BASE - BASE // 2
        limbs[exponent] = np.asarray(digit, dtype=np.int64)
        x, exponent = (x - digit) // BASE, exponent + 1
    return limbs


def _product(act: Bilinear, left: Limbs, right: Limbs, terms: int) -> Limbs:
    pairs = {e: limb.astype(np.float64) for e, limb in right.items()}
    result: dict[int, Integers] = {}
    for e, one in left.items():
        x = one.astype(np.float64)
        for f, y in pairs.items():
            if terms * _size(one) * _size(right[f]) > 1 << 53:
                raise NotExact(f"sums of {terms} products are too long for exact arithmetic")
            part = act(x, y).astype(np.int64)
            result[e + f] = result[e + f] + part if e + f in result else part
    return _carried(result)


def _carried(limbs: Limbs) -> Limbs:
    """The same numbers with digits of at most 2^19. Entries stay below 2^62: fewer than 2^8 numbers up to 2^53."""
    waiting = sorted(limbs)
    result: dict[int, Integers] = {}
    carry: Integers | None = None
    e = 0
    while waiting or carry is not None:
        e = waiting[0] if carry is None else e + 1
        parts = [] if carry is None else [carry]
        if waiting and waiting[0] == e:
            parts.append(limbs[waiting.pop(0)])
        total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        digit = ((total + BASE // 2) & (BASE - 1)) - BASE // 2
        rest = (total - digit) >> WIDTH
        if digit.any():
            result[e] = digit
        carry = rest if rest.any() else None
    return result


def _sum(left: Limbs, right: Limbs) -> Limbs:
    if not (left and right):
        return left or right
    shared = {e: left[e] + right[e] for e in left.keys() & right.keys()}
    return _carried({**left, **right, **shared})


def _scaled(limbs: Limbs, signs: Integers) -> Limbs:
    return {e: limb * signs for e, limb in limbs.items()}


def _larger(left: Limbs, right: Limbs, shape: tuple[int, ...]) -> Limbs:
    """The larger number of each pair. Their difference keeps all its limbs: an entry may be far below the others."""
    wins = (_sign(_sum(left, _scaled(right, np.array(-1))), shape) >= 0).astype(np.int64)
    return _sum(_scaled(left, wins), _scaled(right, 1 - wins))


def _sign(limbs: Limbs, shape: tuple[int, ...]) -> Integers:
    sign = np.zeros(shape, dtype=np.int64)
    for _, limb in sorted(limbs.items(), reverse=True):
        sign = np.where(sign == 0, np.sign(limb), sign)
    return sign


def _cut(mid: Limbs, rad: Limbs, exponent: int) -> tuple[Limbs, Limbs]:
    """Without the limbs below an exponent. What is cut off is less than one unit of the last limb that stays."""
    lost = [limb != 0 for limbs in (mid, rad) for e, limb in limbs.items() if e < exponent]
    if not lost:
        return mid, rad
    kept = [{e: limb for e, limb in limbs.items() if e >= exponent} for limbs in (mid, rad)]
    # one unit for the centre and one for the radius
    slack = {exponent: 2 * np.logical_or.reduce(np.broadcast_arrays(*lost)).astype(np.int64)}
    return kept[0], _sum(kept[1], slack)


def _rounded(mid: Limbs, rad: Limbs, shape: tuple[int, ...]) -> Exact:
    """At most `PRECISION` limbs, the radius no finer than two limbs."""
    top = max(mid, default=min(rad, default=0))
    mid, rad = _cut(mid, rad, top - PRECISION + 1)
    return Exact(mid, _above(rad), shape)


def _above(limbs: Limbs) -> Limbs:
    """At most two limbs of non-negative numbers, rounded up."""
    return _cut({}, limbs, max(limbs, default=0) - 1)[1]


def _size(limb: Integers) -> int:
    return int(np.abs(limb).max(initial=0))
