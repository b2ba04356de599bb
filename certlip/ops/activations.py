"""Piecewise linear activations, and the smooth ones whose slopes are read off: ELU, softplus, sigmoid, tanh.

The functions x G(x) with a sigmoidal gate G (GELU, SiLU) live in `smooth.py`. Parameters count as exactly
representable in the arithmetic of an execution.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from certlip.graph.kinds import Pointwise, library_error, rounding_error
from certlip.rigor import functions
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision


def constant_slopes(low: float, high: float) -> tuple[Array, Array]:
    """One slope range for all entries."""
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


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


@dataclass(frozen=True, eq=False)
class Abs(Pointwise):
    """|x|."""

    def value(self, *inputs: Array) -> Array:
        return np.abs(inputs[0])

    def derivative(self, x: Array) -> Array:
        return np.sign(x)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(-1.0, 1.0)


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
        exact = self.slope.is_exact
        low = self.slope.mid if exact else self.slope.lower()
        high = self.slope.mid if exact else self.slope.upper()
        return np.asarray(np.minimum(low, 1.0)), np.asarray(np.maximum(high, 1.0))

    @np.errstate(over="ignore")
    def exact_value(self, x: Array) -> Ball:
        below = finite(self.slope * Ball.exact(np.minimum(x, 0.0)))
        return functions.select(x > 0, Ball.exact(x), below)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return rounding_error(value, precision, 2)


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
        steepest = self._steepest
        exact = steepest.is_exact
        low = float(steepest.mid if exact else steepest.lower())
        high = float(steepest.mid if exact else steepest.upper())
        return constant_slopes(min(0.0, low), max(self.gamma, high))

    @np.errstate(over="ignore")
    def exact_value(self, x: Array) -> Ball:
        above = finite(Ball.exact(self.gamma) * Ball.exact(np.maximum(x, 0.0)))
        below = self._steepest * (functions.exp(np.minimum(x, 0.0)) - Ball.exact(1.0))
        linear = Ball.exact(x) if self.gamma == 1.0 else above
        return functions.select(x > 0, linear, below)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        """exp is a library call with values up to 1; a subtraction and two products follow."""
        scale = abs(self.alpha) * self.gamma
        return scale * library_error(np.ones(()), precision) + rounding_error(value + scale, precision, 4)


@dataclass(frozen=True, eq=False)
class Softplus(Pointwise):
    """log(1 + exp(x)); its derivative is the sigmoid."""

    def value(self, *inputs: Array) -> Array:
        return np.maximum(inputs[0], 0.0) + np.log1p(np.exp(-np.abs(inputs[0])))

    def derivative(self, x: Array) -> Array:
        return logistic(x)

    def slopes(self) -> tuple[Array, Array]:
        return constant_slopes(0.0, 1.0)

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

    def exact_value(self, x: Array) -> Ball:
        return functions.tanh(x)

    def execution_error(self, size: Array, value: Array, precision: Precision) -> Array:
        return library_error(value, precision)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) in floats without overflow; nothing is proved about it."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)
