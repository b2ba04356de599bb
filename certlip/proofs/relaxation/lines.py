"""Two lines around an activation on an interval: s v + t <= phi(v) <= s' v + t' for all v in [low, high].

Any slopes will do: the offsets are computed here so that the lines bound phi, and the slopes only decide how well. They
are therefore what a search may choose freely, and what a certificate stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Pointwise
from certlip.ops import Abs, Clip, LeakyRelu, Relu
from certlip.rigor.rounding import TINY, UNIT, Array, down, inflate, up

_CELLS = 8  # pieces of the interval of a smooth activation


Cells: TypeAlias = NDArray[np.int64] | int | None
"""The cell of each row, the one of all rows, or None: row r is cell r, or there is one cell only."""


def of_cells(array: Array, cells: Cells) -> Array:
    """Of an array (cells or 1, *shape) the entries of each row's cell, or of the one of all."""
    if cells is None or len(array) == 1:
        return array
    return array[cells : cells + 1] if isinstance(cells, int) else array.take(cells, 0)


@dataclass(frozen=True, eq=False)
class Lines:
    """Slopes and offsets of the lower and of the upper line, arrays (cells, *shape)."""

    low_slope: Array
    low_offset: Array
    high_slope: Array
    high_offset: Array

    def take(self, cells: Cells) -> tuple[Array, Array, Array, Array]:
        """The four arrays for the cell of each row; None: as they are."""
        low, low_offset, high, high_offset = (
            of_cells(part, cells)
            for part in (self.low_slope, self.low_offset, self.high_slope, self.high_offset)
        )
        return low, low_offset, high, high_offset


def lines(
    operator: Pointwise, low: Array, high: Array, low_slope: Array | None = None, high_slope: Array | None = None
) -> Lines:
    """Lines on [low, high], arrays (cells, *shape), low <= high. Slopes that are NaN, or not given, are chosen here."""
    if isinstance(operator, Relu):
        return _relu(low, high, low_slope, high_slope)
    return _Curve(operator, low, high).lines(low_slope, high_slope)


def image(operator: Pointwise, low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds on phi over [low, high]."""
    if isinstance(operator, Relu):
        return np.maximum(low, 0.0), np.maximum(high, 0.0)
    curve = _Curve(operator, low, high)
    return curve.offsets(np.zeros((1,) * low.ndim))


def _chosen(given: Array | None, default: Array) -> Array:
    return default if given is None else np.where(np.isnan(given), default, given)


def _relu(low: Array, high: Array, low_slope: Array | None, high_slope: Array | None) -> Lines:
    """max(v, 0) >= s v for s in [0, 1]. The chord from (low, 0) to (high, high) is above it, whatever its slope was
    rounded to, once its offset is at least -s low, high - s high and 0."""
    passes, blocks = low >= 0, high <= 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lower = np.clip(_chosen(low_slope, np.where(high > -low, 1.0, 0.0)), 0.0, 1.0)
        lower = np.where(passes, 1.0, np.where(blocks, 0.0, lower))
        chord = high / (high - low)
        upper = np.clip(_chosen(high_slope, np.where(np.isfinite(chord), chord, 1.0)), 0.0, 1.0)
        upper = np.where(passes, 1.0, np.where(blocks, 0.0, upper))
        offset = np.maximum(up(upper * -low), up(high - down(upper * high)))
        offset = np.where(passes | blocks, 0.0, np.maximum(offset, 0.0))
    return Lines(lower, np.zeros((1,) * lower.ndim), upper, offset)


class _Curve:
    """phi at points of [low, high], ends and kinks among them; `sag` is how far it may leave its chords in between."""

    def __init__(self, operator: Pointwise, low: Array, high: Array):
        self._operator, self._low, self._high = operator, low, high
        kinks = _kinks(operator)
        if kinks is None:
            shares = np.linspace(0.0, 1.0, _CELLS + 1)[1:-1].reshape(-1, *(1,) * low.ndim)
            inner = np.sort(np.concatenate([low + (high - low) * shares, np.zeros((1, *low.shape))]), 0)
        else:
            inner = np.stack([np.broadcast_to(kink, low.shape) for kink in kinks])
        inner = np.where(np.isfinite(inner), inner, low)
        self.points = np.concatenate([low[None], np.clip(inner, low, high), high[None]])
        self._values = operator.exact_value(self.points)
        self._sag: Array | None = None
        if kinks is None:
            a, b = operator.slopes_on(self.points[:-1], self.points[1:])
            # both lines with the slopes a, b through both ends of a piece bound phi: at most this far from the chord
            self._sag = inflate((b - a) * (self.points[1:] - self.points[:-1]) * 0.25, 4)

    @np.errstate(invalid="ignore", over="ignore")
    def offsets(self, slope: Array) -> tuple[Array, Array]:
        """Bounds on phi(v) - slope v over the interval."""
        turned = slope * self.points
        rest = self._values.mid - turned
        error = inflate(self._values.rad + UNIT * (np.abs(turned) + 2.0 * np.abs(rest)) + TINY, 6)
        low, high = rest - error, rest + error
        if self._sag is not None:
            low = np.minimum(low[1:], low[:-1]) - self._sag
            high = np.maximum(high[1:], high[:-1]) + self._sag
        return down(down(low.min(0))), up(up(high.max(0)))

    @np.errstate(invalid="ignore", divide="ignore", over="ignore")
    def lines(self, low_slope: Array | None, high_slope: Array | None) -> Lines:
        """Among the slopes of the chord and at the points, the ones whose lines are best in the middle."""
        a, b = self._operator.slopes_on(self._low, self._high)
        chord = (self._values.mid[-1] - self._values.mid[0]) / (self._high - self._low)
        chord = np.where(np.isfinite(chord), np.clip(chord, a, b), 0.5 * (a + b))
        candidates = [chord, a, b]
        if self._sag is not None:
            candidates += list(np.clip(self._operator.derivative(self.points), a, b))
        middle = 0.5 * self._low + 0.5 * self._high
        best_low, best_high = chord, chord
        at_low, at_high = np.full(middle.shape, -np.inf), np.full(middle.shape, np.inf)
        for slope in candidates:
            least, greatest = self.offsets(slope)
            below, above = least + slope * middle, greatest + slope * middle
            better, lesser = below > at_low, above < at_high
            best_low, at_low = np.where(better, slope, best_low), np.where(better, below, at_low)
            best_high, at_high = np.where(lesser, slope, best_high), np.where(lesser, above, at_high)
        best_low, best_high = _chosen(low_slope, best_low), _chosen(high_slope, best_high)
        return Lines(best_low, self.offsets(best_low)[0], best_high, self.offsets(best_high)[1])


def _kinks(operator: Pointwise) -> tuple[Array, ...] | None:
    """Where a piecewise linear activation bends; None for a smooth one."""
    if isinstance(operator, Relu | Abs | LeakyRelu):
        return (np.zeros(()),)
    if isinstance(operator, Clip):
        return operator.low, operator.high
    return None
