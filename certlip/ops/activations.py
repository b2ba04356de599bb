"""Piecewise linear activations, and the smooth ones whose slopes are read off: ELU, softplus, sigmoid, tanh.

The functions x G(x) with a sigmoidal gate G (GELU, SiLU) live in `smooth.py`. An execution may round parameters once
to its format.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from certlip.graph.kinds import Pointwise, library_error, parameter_error, rounding_error
from certlip.rigor import functions
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision


def constant_slopes(low: float, high: float) -> tuple[Array, Array]:
    """One slope range for all entries."""
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def kinked(low: Array, high: Array, below: Array | float, above: Array | float) -> tuple[Array, Array]:
    """Slope ranges on [low, high] of a function with the slope `below` left of 0 and `above` right of it."""
    left, right = np.where(low < 0, below, above), np.where(high > 0, above, below)
    return np.minimum(left, right), np.maximum(left, right)


def bell(low: Array, high: Array, speed: float) -> tuple[Array, Array]:
    """Bounds of e / (1 + e)^2, e = exp(-speed |x|), on [low, high]: largest nearest to 0, smallest furthest away.

    Beyond 1000 the value there is used: its ball holds zero.
    """

    def value(distance: Array) -> Ball:
        e = functions.exp(-speed * np.minimum(distance, 1000.0))
        total = e + Ball.exact(1.0)
        return e / (total * total)

    nearest, furthest = np.maximum(np.maximum(low, -high), 0.0), np.maximum(-low, high)
    return value(furthest).lower(), value(nearest).upper()


def ends(ball: Ball) -> tuple[Array, Array]:
    """Floats that no member is outside of, the numbers themselves where they are known exactly."""
    return (ball.mid, ball.mid) if ball.is_exact else (ball.lower(), ball.upper())


def finite(ball: Ball) -> Ball:
    """The same ball, with infinite radius where its centre overflowed."""
    fits = np.isfinite(ball.mid)
    return ball if fits.all() else Ball(np.where(fits, ball.mid, 0.0), np.where(fits, ball.rad, np.inf))


@dataclass(frozen=True, eq=False)
class Relu(Pointwise):
    """max(x, 0)."""

    def value(self, *inputs: Array) -> Array:
        return np.maximum(inputs[0], 0.0)

    def derivative(self, x: Array) -> Array:
        return (x > 0).astype(np.float64)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(0.0, 1.0)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        return kinked(low, high, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Abs(Pointwise):
    """|x|."""

    def value(self, *inputs: Array) -> Array:
        return np.abs(inputs[0])

    def derivative(self, x: Array) -> Array:
        return np.sign(x)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(-1.0, 1.0)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        return kinked(low, high, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class LeakyRelu(Pointwise):
    """x where x > 0, slope * x elsewhere. The slope may have any sign and is a float, array or ball that
    broadcasts to the shape (PReLU: one per channel)."""

    slope: Ball

    def __post_init__(self) -> None:
        slope = self.slope if isinstance(self.slope, Ball) else Ball.exact(self.slope)
        if not (np.isfinite(slope.mid).all() and np.isfinite(slope.rad).all()):
            raise ValueError("the slope of a leaky ReLU must be finite")
        object.__setattr__(self, "slope", slope)

    def value(self, *inputs: Array) -> Array:
        return np.where(inputs[0] > 0, inputs[0], self.slope.mid * np.minimum(inputs[0], 0.0))

    def derivative(self, x: Array) -> Array:
        return np.where(x > 0, 1.0, self.slope.mid)

    def slopes(self) -> tuple[Array, Array]:
        """The function is continuous with slopes `slope` and 1: quotients are averages of the two."""
        low, high = ends(self.slope)
        return np.asarray(np.minimum(low, 1.0)), np.asarray(np.maximum(high, 1.0))

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        least, greatest = ends(self.slope)
        return kinked(low, high, least, 1.0)[0], kinked(low, high, greatest, 1.0)[1]

    @np.errstate(over="ignore")
    def exact_value(self, x: Array) -> Ball:
        below = finite(self.slope * Ball.exact(np.minimum(x, 0.0)))
        return functions.select(x > 0, Ball.exact(x), below)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return rounding_error(value, precision, 2) + parameter_error(self.slope.magnitude(), size, precision)


@dataclass(frozen=True, eq=False)
class Clip(Pointwise):
    """min(max(x, low), high); bounds are floats or arrays that broadcast to the shape, infinite for none."""

    low: Array
    high: Array

    def __post_init__(self) -> None:
        low, high = (np.asarray(bound, dtype=np.float64) for bound in (self.low, self.high))
        if not ((low <= high) & (low < np.inf) & (high > -np.inf)).all():
            raise ValueError("a clip needs low <= high, low < inf and high > -inf")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def value(self, *inputs: Array) -> Array:
        return np.minimum(np.maximum(inputs[0], self.low), self.high)

    def derivative(self, x: Array) -> Array:
        return ((x > self.low) & (x < self.high)).astype(np.float64)

    def slopes(self) -> tuple[Array, Array]:
        """0 where constant, 1 where there are no bounds, [0, 1] elsewhere."""
        low = np.isneginf(self.low) & np.isposinf(self.high)
        return np.asarray(low.astype(np.float64)), np.asarray((self.low < self.high).astype(np.float64))

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        constant = (high <= self.low) | (low >= self.high)
        linear = (low >= self.low) & (high <= self.high) & ~constant
        return np.where(linear, 1.0, 0.0), np.where(constant, 0.0, 1.0)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """A result that a rounded bound changes is at the bound or between it and the rounded one: it has that size.

        Integers up to 256 are exact in every format. A bound that overflows is one that no value reaches, or `value`
        is too large for the format as well.
        """
        bounds = np.concatenate([side[np.isfinite(side)] for side in (self.low.ravel(), self.high.ravel())])
        if precision.unit == 0.0 or ((bounds == np.rint(bounds)) & (np.abs(bounds) <= 256.0)).all():
            return np.zeros(())
        return rounding_error(value, precision, 2)


@dataclass(frozen=True, eq=False)
class Elu(Pointwise):
    """gamma x where x > 0, gamma alpha (exp(x) - 1) elsewhere, gamma > 0, any alpha; SELU has gamma != 1."""

    alpha: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.alpha * self.gamma) and 0.0 < self.gamma < np.inf):
            raise ValueError(f"ELU needs a finite alpha and a gamma > 0, got {self.alpha} and {self.gamma}")

    @property
    def _steepest(self) -> Ball:
        """alpha * gamma, the slope at 0 from below; exact where the product is."""
        return functions.rational(Fraction(float(self.alpha)) * Fraction(float(self.gamma)))

    def value(self, *inputs: Array) -> Array:
        x = inputs[0]
        return np.where(x > 0, self.gamma * x, self.gamma * self.alpha * np.expm1(np.minimum(x, 0.0)))

    def derivative(self, x: Array) -> Array:
        return np.where(x > 0, self.gamma, self.gamma * self.alpha * np.exp(np.minimum(x, 0.0)))

    def slopes(self) -> tuple[Array, Array]:
        """Continuous, with derivative gamma above 0 and between 0 and alpha gamma below; gamma > 0."""
        low, high = (float(end) for end in ends(self._steepest))
        return constant_slopes(min(0.0, low), max(self.gamma, high))

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Below 0 the derivative alpha gamma exp(x) is monotone; at -1000 the ball of exp holds all values beyond."""
        left, right = (self._steepest * functions.exp(np.clip(end, -1000.0, 0.0)) for end in (low, high))
        least = np.where(low < 0, np.minimum(left.lower(), right.lower()), self.gamma)
        greatest = np.where(low < 0, np.maximum(left.upper(), right.upper()), self.gamma)
        bent = high > 0
        return (
            np.where(bent, np.minimum(least, self.gamma), least),
            np.where(bent, np.maximum(greatest, self.gamma), greatest),
        )

    @np.errstate(over="ignore")
    def exact_value(self, x: Array) -> Ball:
        above = finite(Ball.exact(self.gamma) * Ball.exact(np.maximum(x, 0.0)))
        below = self._steepest * (functions.exp(np.minimum(x, 0.0)) - Ball.exact(1.0))
        linear = Ball.exact(x) if self.gamma == 1.0 else above
        return functions.select(x > 0, linear, below)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """exp is a library call with values up to 1; a subtraction and two products follow. What underflows in a
        product or parameter is multiplied by the others; alpha gamma may be computed first."""
        scale = abs(self.alpha) * self.gamma
        parts = np.asarray(max(1.0, abs(self.alpha)) * max(1.0, self.gamma))
        rounded = rounding_error(value + scale, precision, 4) + 4.0 * parameter_error(parts, parts + size, precision)
        return scale * library_error(np.ones(()), precision) + rounded


@dataclass(frozen=True, eq=False)
class Softplus(Pointwise):
    """log(1 + exp(x)); its derivative is the sigmoid."""

    def value(self, *inputs: Array) -> Array:
        return np.maximum(inputs[0], 0.0) + np.log1p(np.exp(-np.abs(inputs[0])))

    def derivative(self, x: Array) -> Array:
        return logistic(x)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(0.0, 1.0)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The sigmoid rises; beyond 1000 its ball reaches 0 and 1."""
        left, right = (functions.sigmoid(np.clip(end, -1000.0, 1000.0)) for end in (low, high))
        return left.lower(), right.upper()

    def exact_value(self, x: Array) -> Ball:
        return functions.softplus(x)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return library_error(value, precision)


@dataclass(frozen=True, eq=False)
class Sigmoid(Pointwise):
    """s(x) = 1 / (1 + exp(-x)); its derivative s (1 - s) lies in [0, 1/4]."""

    def value(self, *inputs: Array) -> Array:
        return logistic(inputs[0])

    def derivative(self, x: Array) -> Array:
        return logistic(x) * logistic(-x)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(0.0, 0.25)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """s (1 - s) = e / (1 + e)^2 with e = exp(-|x|)."""
        return bell(low, high, 1.0)

    def exact_value(self, x: Array) -> Ball:
        return functions.sigmoid(x)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return library_error(value, precision)


@dataclass(frozen=True, eq=False)
class Tanh(Pointwise):
    """tanh(x); its derivative 1 - tanh^2 lies in [0, 1]."""

    def value(self, *inputs: Array) -> Array:
        return np.tanh(inputs[0])

    def derivative(self, x: Array) -> Array:
        return 1.0 - np.tanh(x) ** 2

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(0.0, 1.0)

    def _slopes_within(self, low: Array, high: Array) -> tuple[Array, Array]:
        """1 - tanh^2 = 4 e / (1 + e)^2 with e = exp(-2 |x|)."""
        least, greatest = bell(low, high, 2.0)
        return 4.0 * least, 4.0 * greatest

    def exact_value(self, x: Array) -> Ball:
        return functions.tanh(x)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return library_error(value, precision)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) in floats without overflow; nothing is proved about it."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)
