"""Activations x G(x) with a gate G that rises from 0 to 1, G(-x) = 1 - G(x): GELU, its tanh form, SiLU."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import erfc, sqrt
from typing import ClassVar

import numpy as np

from certlip.graph.kinds import Pointwise, library_error, parameter_error, rounding_error
from certlip.ops.activations import constant_slopes, logistic
from certlip.rigor import functions
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import TINY, Array, Precision, down, up

_CUBIC = functions.rational(Fraction("0.044715"))
_SPREAD = (Ball.exact([2.0]) / functions.PI).sqrt()[0]
_ONE = Ball.exact(1.0)
_erfc = np.frompyfunc(erfc, 1, 1)


@dataclass(frozen=True, eq=False)
class Gated(Pointwise):
    """phi(x) = x G(x) = max(x, 0) - |x| G(-|x|).

    G(x) + G(-x) = 1 makes phi'(x) + phi'(-x) = 1: the range of phi' is [1 - b, b], b its maximum over x >= 0.
    (For x >= 0, phi' = G + x G' >= 1/2 >= 1 - b.)
    """

    @abstractmethod
    def gate(self, x: Array) -> Array:
        """G(x) in floats, unproved."""

    @abstractmethod
    def tail(self, t: Array) -> Ball:
        """Ball around G(-t) for 0 <= t <= reach."""

    # Upper bound on t G(-t) for t > reach. For a gate with G(-t) <= exp(-t), t >= 2: 100 exp(-100) < 2^-137.
    @property
    def reach(self) -> float:
        return 100.0

    @property
    def negligible(self) -> float:
        return 2.0**-137

    @abstractmethod
    def peak(self) -> float:
        """Upper bound on phi'."""

    @property
    def scale(self) -> float:
        """phi'(x) is `slope_at(scale * x)`."""
        return 1.0

    turn: ClassVar[tuple[float, float]]
    """Floats below and above the only positive zero of the derivative of `slope_at`, where it is largest."""

    @abstractmethod
    def slope_at(self, x: Array) -> Ball:
        """Ball around phi'(x / scale), |x| <= 40."""

    def value(self, *inputs: Array) -> Array:
        return inputs[0] * self.gate(inputs[0])

    def slopes(self) -> tuple[Array, Array]:
        peak = self.peak()
        return constant_slopes(down(1.0 - peak), peak)

    @np.errstate(over="ignore")
    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """phi' falls from 0 to its minimum at -turn, rises to its maximum at +turn and falls to 1.

        So the ends of the interval hold its range unless a turning point lies between them. Beyond 40 phi' is between
        its value there and its limit.
        """
        if self.scale != 1.0:
            low, high = down(low * self.scale), up(high * self.scale)
        least, greatest = np.full(low.shape, np.inf), np.full(low.shape, -np.inf)
        for end in (low, high):
            slope = self.slope_at(np.clip(end, -40.0, 40.0))
            least = np.minimum(least, np.where(end > 40.0, np.minimum(slope.lower(), 1.0), slope.lower()))
            greatest = np.maximum(greatest, np.where(end < -40.0, np.maximum(slope.upper(), 0.0), slope.upper()))
        before, after = self.turn
        least[(low <= -before) & (high >= -after)] = -np.inf  # `slopes()` says more
        greatest[(low <= after) & (high >= before)] = np.inf
        return least, greatest

    def exact_value(self, x: Array) -> Ball:
        t = np.minimum(np.abs(x), self.reach)
        half = np.full(x.shape, 0.5 * self.negligible)
        beyond = np.abs(x) > self.reach
        lost = functions.select(beyond, Ball(half, half), Ball.exact(t) * self.tail(t))
        return Ball.exact(np.maximum(x, 0.0)) - lost

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """The gate is a library call with values up to 1 at a rounded argument, and is multiplied by x.

        The argument y is right to a relative error of 12 u, which changes the gate by 12 u |y| G'(y) <= 3 u;
        products and sums take at most five more units of |x|.
        """
        return size * library_error(np.ones(()), precision) + rounding_error(value + size, precision, 8)


@dataclass(frozen=True, eq=False)
class Gelu(Gated):
    """x Phi(x) with the normal distribution Phi (Hendrycks and Gimpel 2016)."""

    turn: ClassVar[tuple[float, float]] = (1.414213, 1.414214)

    def slope_at(self, x: Array) -> Ball:
        return gelu_slope(x)

    def gate(self, x: Array) -> Array:
        return 0.5 * np.asarray(_erfc(-x / sqrt(2.0)), dtype=np.float64)

    def tail(self, t: Array) -> Ball:
        return functions.normal_cdf(-t)

    def derivative(self, x: Array) -> Array:
        return self.gate(x) + x * functions.normal_density(x).mid

    def peak(self) -> float:
        return gelu_peak()


@dataclass(frozen=True, eq=False)
class Silu(Gated):
    """x s(beta x), s the sigmoid, beta > 0 (swish). Its derivative has the same range for all beta."""

    turn: ClassVar[tuple[float, float]] = (2.399357, 2.399358)

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.beta < np.inf:
            raise ValueError(f"SiLU needs a positive finite beta, got {self.beta}")

    @property
    def scale(self) -> float:
        return float(self.beta)

    def slope_at(self, x: Array) -> Ball:
        return silu_slope(x)

    @property
    def reach(self) -> float:
        return 101.0 / float(self.beta)

    @property
    def negligible(self) -> float:
        return 2.0**-136 / float(self.beta) + TINY

    @np.errstate(over="ignore")
    def gate(self, x: Array) -> Array:
        return logistic(self.beta * x)

    def tail(self, t: Array) -> Ball:
        return functions.sigmoid(-(Ball.exact(self.beta) * Ball.exact(t)))

    def derivative(self, x: Array) -> Array:
        gate, near = self.gate(x), np.clip(x, -self.reach, self.reach)
        return gate * (1.0 + self.beta * near * self.gate(-x))

    def peak(self) -> float:
        return silu_peak()

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """What beta x loses where beta underflows changes the gate by at most a quarter of that."""
        error = super().execution_error(size, value, precision)
        return error if self.beta == 1.0 else error + parameter_error(np.asarray(self.beta), size * size, precision)


@dataclass(frozen=True, eq=False)
class TanhGelu(Gated):
    """x/2 (1 + tanh(y)), y = sqrt(2/pi) (x + 0.044715 x^3); (1 + tanh(y)) / 2 is the sigmoid of 2 y."""

    turn: ClassVar[tuple[float, float]] = (1.418504, 1.418505)

    def slope_at(self, x: Array) -> Ball:
        return tanh_gelu_slope(x)

    def gate(self, x: Array) -> Array:
        near = np.clip(x, -self.reach, self.reach)
        return logistic(2.0 * _SPREAD.mid * near * (1.0 + _CUBIC.mid * near * near))

    def tail(self, t: Array) -> Ball:
        return functions.sigmoid(-_tanh_argument(Ball.exact(t))[0])

    def derivative(self, x: Array) -> Array:
        near = np.clip(x, -self.reach, self.reach)
        slope = 2.0 * _SPREAD.mid * (1.0 + 3.0 * _CUBIC.mid * near * near)
        return self.gate(x) * (1.0 + near * slope * self.gate(-x))

    def peak(self) -> float:
        return tanh_gelu_peak()


def _tanh_argument(x: Ball) -> tuple[Ball, Ball]:
    """w = 2 c (x + a x^3) and its derivative 2 c (1 + 3 a x^2), with c = sqrt(2/pi) and a = 0.044715."""
    twice = Ball.exact(2.0) * _SPREAD
    bend = _CUBIC * x * x
    return twice * x * (bend + _ONE), twice * (Ball.exact(3.0) * bend + _ONE)


def gelu_slope(x: Array) -> Ball:
    """phi' = Phi + x phi_0 with the density phi_0; phi'' = phi_0 (2 - x^2) is zero at +-sqrt 2 alone."""
    return functions.normal_cdf(x) + Ball.exact(x) * functions.normal_density(x)


def silu_slope(x: Array) -> Ball:
    """phi' = (1 - T) (1 + x T) with T = s(-x), s the sigmoid.

    phi'' = s' (2 + x (1 - 2 s)) = s' (2 - x tanh(x / 2)), and x tanh(x / 2) rises with |x|: one zero on each side.
    """
    tail = functions.sigmoid(-x)
    return (_ONE - tail) * (Ball.exact(x) * tail + _ONE)


def tanh_gelu_slope(x: Array) -> Ball:
    """phi' = (1 - T) (1 + x w' T) with T = s(-w), w = 2 y, y = c (x + a x^3), c = sqrt(2/pi).

    phi'' = sech^2(y) (y' + x y'' / 2 - x tanh(y) y'^2), where y' + x y'' / 2 = c (1 + 6 a x^2) > 0. Divided by it, the
    subtrahend is c x tanh(y) (1 + 9 a^2 x^4 / (1 + 6 a x^2)), which rises with |x|: one zero on each side.
    """
    argument, steepness = _tanh_argument(Ball.exact(x))
    tail = functions.sigmoid(-argument)
    return (_ONE - tail) * (Ball.exact(x) * steepness * tail + _ONE)


@lru_cache(maxsize=1)
def gelu_peak() -> float:
    """The maximum of phi' is at sqrt 2. The float below is within 2^-52 of it, and |phi''| <= 1."""
    return float(up(gelu_slope(np.array([1.4142135623730951])).upper() + 2.0**-52)[0])


@lru_cache(maxsize=1)
def silu_peak() -> float:
    """|phi''| = |2 s' + x s''| <= 1/2 + |x| exp(-|x|) < 1, as |s''| <= s' <= min(1/4, exp(-|x|)).

    For x >= 16, phi' <= 1 + x exp(-x) < 1.00001, which is below the maximum.
    """
    return max(_maximum(silu_slope, lipschitz=1.0), 1.00001)


@lru_cache(maxsize=1)
def tanh_gelu_peak() -> float:
    """In the notation of `tanh_gelu_slope`, with c in (0.79, 0.8):

    Let h = sech^2 y <= min(1, 4 exp(-2y)), so y^n h <= 4 (n / 2e)^n, and x <= y / c. The three terms of
    phi'' = h y' - x tanh(y) h y'^2 + x h y'' / 2 are at most c + 3a (y^2 h) / c < 0.9,
    c (y h) + 6a (y^3 h) / c + 9a^2 (y^5 h) / c^3 < 0.92 and 3a (y^2 h) / c < 0.1, so that |phi''| < 2.
    For x >= 16, x y' <= 3y and y > 12 give phi' <= 1 + x h y' / 2 <= 1 + 6 y exp(-2y) < 1.00001, which is
    below the maximum.
    """
    return max(_maximum(tanh_gelu_slope, lipschitz=2.0), 1.00001)


def _maximum(function: Callable[[Array], Ball], lipschitz: float, tolerance: float = 2.0**-28) -> float:
    """Upper bound on a function over [0, 16] that changes by at most `lipschitz` per unit.

    On a cell of half-width h around c it is at most f(c) + lipschitz h. Cells that may exceed the best value
    seen by more than the tolerance are halved, the others are covered by best + tolerance. Centres are exact.
    """
    half, best = 2.0**-6, -np.inf
    centres = half * np.arange(1, 1024, 2, dtype=np.float64)
    while centres.size:
        values = function(centres)
        best = max(best, float(values.lower().max()))
        open_cells = up(values.upper() + lipschitz * half) > best + tolerance
        half *= 0.5
        kept = centres[open_cells]
        centres = np.concatenate([kept - half, kept + half])
    return best + tolerance
