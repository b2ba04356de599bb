"""Balls: arrays `mid` with an entrywise radius, closed under the operations that proofs use.

A ball stands for every real array X with |X - mid| <= rad entrywise. Each operation returns a ball that holds
every result of applying the *exact* operation to members of its arguments: its own rounding is in the radius.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from certlip.rigor.rounding import TINY, UNIT, Array, down, gamma, inflate, up


@dataclass(frozen=True, eq=False)
class Ball:
    """All real arrays X of mid's shape with |X - mid| <= rad; `rad` broadcasts against `mid`."""

    mid: Array
    rad: Array

    def __post_init__(self) -> None:
        # numpy turns results without axes into scalars; a ball keeps arrays
        object.__setattr__(self, "mid", np.asarray(self.mid, dtype=np.float64))
        object.__setattr__(self, "rad", np.asarray(self.rad, dtype=np.float64))

    @staticmethod
    def exact(x: Any) -> Ball:
        """The ball of radius zero around an array of floats (conversion to binary64 must be exact: it is for
        binary16, bfloat16, binary32, binary64 and integers below 2^53)."""
        return Ball(np.asarray(x, dtype=np.float64), np.zeros(()))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    @property
    def is_exact(self) -> bool:
        return not self.rad.any()

    @property
    def T(self) -> Ball:
        return self.map(lambda array: np.swapaxes(array, -1, -2))

    def map(self, move: Callable[[Array], Array]) -> Ball:
        """Apply a rearrangement of entries (reshape, transpose, indexing) to centre and radius alike."""
        rad = self.rad if self.rad.ndim == 0 else move(np.broadcast_to(self.rad, self.mid.shape))
        return Ball(move(self.mid), rad)

    def __getitem__(self, key: Any) -> Ball:
        return self.map(lambda array: array[key])

    def reshape(self, *shape: int) -> Ball:
        return self.map(lambda array: array.reshape(*shape))

    def lower(self) -> Array:
        """Floats below every member."""
        return np.asarray(down(self.mid - self.rad))

    def upper(self) -> Array:
        """Floats above every member."""
        return np.asarray(up(self.mid + self.rad))

    def magnitude(self) -> Array:
        """Floats above |X| for every member X."""
        return np.asarray(up(np.abs(self.mid) + self.rad)) if not self.is_exact else np.abs(self.mid)

    def __neg__(self) -> Ball:
        return Ball(-self.mid, self.rad)

    def __add__(self, other: Ball) -> Ball:
        mid = self.mid + other.mid
        return Ball(mid, inflate(self.rad + other.rad + UNIT * np.abs(mid), 4))

    def __sub__(self, other: Ball) -> Ball:
        return self + (-other)

    def __mul__(self, other: Ball) -> Ball:
        mid = self.mid * other.mid
        rad = np.abs(self.mid) * other.rad + self.rad * (np.abs(other.mid) + other.rad)
        return Ball(mid, inflate(rad + UNIT * np.abs(mid), 6))

    def __truediv__(self, other: Ball) -> Ball:
        """Quotient; the divisor must not contain zero (checked: the radius is infinite there).

        x/y - m = (x - m y)/y with m the float quotient, so the radius is sup |x - m y| / inf |y|.
        """
        floor = down(np.abs(other.mid) - other.rad)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mid = self.mid / other.mid
            slip = (self - Ball(mid, np.zeros(())) * other).magnitude()
            known = (floor > 0) & np.isfinite(mid)
            rad = np.where(known, inflate(slip / np.where(floor > 0, floor, 1.0), 2), np.inf)
        return Ball(np.where(known, mid, 0.0), rad)

    def __matmul__(self, other: Ball) -> Ball:
        """Matrix product (batched). |fl(AB) - AB| <= gamma_k |A||B| + k TINY with k the inner dimension."""
        k = self.mid.shape[-1]
        mid = self.mid @ other.mid
        left, right = np.abs(self.mid), np.abs(other.mid)
        rad = gamma(k) * (left @ right)
        if not other.is_exact:
            rad = rad + left @ np.broadcast_to(other.rad, other.mid.shape)
        if not self.is_exact:
            rad = rad + np.broadcast_to(self.rad, self.mid.shape) @ (right + other.rad)
        return Ball(mid, inflate(rad + k * TINY, k + 6))

    def sqrt(self) -> Ball:
        """Square root of a ball of non-negative numbers: between the roots of its ends, correctly rounded."""
        low = down(np.sqrt(np.maximum(self.lower(), 0.0)))
        high = up(np.sqrt(np.maximum(self.upper(), 0.0)))
        return between(np.maximum(low, 0.0), high)


def between(low: Array, high: Array) -> Ball:
    """The smallest convenient ball that holds the interval [low, high]."""
    bounded = np.isfinite(low) & np.isfinite(high)
    mid = np.where(bounded, 0.5 * low + 0.5 * high, 0.0)
    return Ball(mid, np.where(bounded, up(np.maximum(up(high - mid), up(mid - low))), np.inf))


def concatenate(balls: list[Ball], axis: int) -> Ball:
    """Join balls along an axis."""
    rads = [np.broadcast_to(ball.rad, ball.mid.shape) for ball in balls]
    return Ball(np.concatenate([ball.mid for ball in balls], axis), np.concatenate(rads, axis))
