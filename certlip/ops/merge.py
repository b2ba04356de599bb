"""Sums and concatenations of branches, and maxima over groups of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph.computed import Computed
from certlip.graph.kinds import Merge, Shape
from certlip.graph.shift import Shift, linear
from certlip.rigor.ball import Ball, concatenate
from certlip.rigor.rounding import REAL, Array, Precision, inflate, up


def _side_by_side(operator: Add | Concat, inputs: Sequence[Shift]) -> Shift:
    """Branches move together where they share a source."""
    entries, rest = (operator.spread(*(getattr(x, key) for x in inputs)) for key in ("entries", "rest"))
    length = operator.gain("l2", *(x.length for x in inputs))
    return linear(lambda *rows: operator.enclose(REAL, *rows), entries, rest, length, inputs)


@dataclass(frozen=True, eq=False)
class Add(Merge):
    """Sum of branches of one shape."""

    def shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1:
            raise ValueError(f"branches of different shapes are added: {inputs}")
        return inputs[0]

    def value(self, *inputs: Array) -> Array:
        return sum(inputs[1:], inputs[0])

    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        return (output,) * len(inputs)

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        size = sum(np.abs(ball.mid) + ball.rad for ball in inputs)
        rad = sum((ball.rad for ball in inputs), np.zeros(())) + precision.gamma(len(inputs)) * size
        return Ball(self.value(*(ball.mid for ball in inputs)), inflate(rad, 2 * len(inputs) + 4))

    def shift(self, *inputs: Shift) -> Shift:
        return _side_by_side(self, inputs)

    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        """One sum of all terms: that of one branch may start where that of another ended."""
        return Computed(
            self.enclose(REAL, *(given.centre for given in inputs)),
            self.shift(*(given.moved for given in inputs)),
            self.shift(*(given.error for given in inputs)),
            self.spread(*(given.size for given in inputs)),
            sum(given.depth + 1 for given in inputs),
            inflate(sum(given.monomials for given in inputs), len(inputs)),
            inflate(sum(given.reach for given in inputs), len(inputs)),
        )

    def spread(self, *inputs: Array) -> Array:
        return inflate(self.value(*inputs), len(inputs))

    def gain(self, norm: str, *bounds: float) -> float:
        return inflate(float(sum(bounds)), len(bounds))


@dataclass(frozen=True, eq=False)
class Concat(Merge):
    """Branches side by side along one axis."""

    axis: int

    def shape(self, *inputs: Shape) -> Shape:
        kept = {shape[: self.axis] + shape[self.axis + 1 :] for shape in inputs}
        if len(kept) != 1 or not all(0 <= self.axis < len(shape) for shape in inputs):
            raise ValueError(f"branches of shapes {inputs} cannot be concatenated along axis {self.axis}")
        width = sum(shape[self.axis] for shape in inputs)
        return (*inputs[0][: self.axis], width, *inputs[0][self.axis + 1 :])

    def value(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, self.axis + 1)

    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        ends = np.cumsum([x.shape[self.axis + 1] for x in inputs])[:-1]
        return tuple(np.split(output, ends, self.axis + 1))

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        return concatenate(list(inputs), self.axis + 1)

    def shift(self, *inputs: Shift) -> Shift:
        return _side_by_side(self, inputs)

    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        return Computed(
            self.enclose(REAL, *(given.centre for given in inputs)),
            self.shift(*(given.moved for given in inputs)),
            self.shift(*(given.error for given in inputs)),
            self.value(*(given.size for given in inputs)),
            max(given.depth for given in inputs),
            max(given.monomials for given in inputs),
            float(np.max([given.reach for given in inputs])),  # NaN stays
        )

    def spread(self, *inputs: Array) -> Array:
        return self.value(*inputs)

    def gain(self, norm: str, *bounds: float) -> float:
        if not all(np.isfinite(bounds)):
            return float("inf")
        top = max(bounds)
        if norm == "linf" or top == 0.0 or len(bounds) == 1:
            return top
        squares = inflate(float(sum((bound / top) ** 2 for bound in bounds)), 2 * len(bounds) + 2)
        return up(top * up(np.sqrt(squares)))


@dataclass(frozen=True, eq=False)
class MaxPool(Merge):
    """y[o] = max over k of x.flat[index[o, k]], entries with index -1 left out (padding). Covers pooling windows,
    maxima over axes and, after a concatenation, the maximum of branches."""

    index: NDArray[np.int64]
    source: Shape

    def __post_init__(self) -> None:
        if not (self.index >= 0).any(-1).all():
            raise ValueError("a pooling window lies entirely in the padding")

    def shape(self, *inputs: Shape) -> Shape:
        if inputs != (self.source,):
            raise ValueError(f"expected an input of shape {self.source}, got {inputs}")
        return self.index.shape[:-1]

    def _windows(self, x: Array, padding: float) -> Array:
        flat = x.reshape(len(x), -1)
        return np.where(self.index >= 0, flat[:, np.maximum(self.index, 0)], padding)

    def value(self, *inputs: Array) -> Array:
        return self._windows(inputs[0], -np.inf).max(-1)

    def pullback(self, output: Array, *inputs: Array) -> tuple[Array, ...]:
        winner = self._windows(inputs[0], -np.inf).argmax(-1)
        chosen = np.take_along_axis(
            np.broadcast_to(self.index, (*winner.shape, self.index.shape[-1])), winner[..., None], -1
        )[..., 0]
        result = np.zeros((len(output), prod(self.source)))
        batch = np.arange(len(output)).reshape(-1, *(1,) * (chosen.ndim - 1))
        np.add.at(result, (batch, chosen), output)
        return (result.reshape(len(output), *self.source),)

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        # |max a - max b| <= max |a - b|, and a maximum of floats is exact
        rad = np.broadcast_to(inputs[0].rad, inputs[0].mid.shape)
        return Ball(self.value(inputs[0].mid), self._windows(rad, 0.0).max(-1))

    def deviate(self, precision: Precision, *inputs: Computed) -> Computed:
        (given,) = inputs
        error = self.shift(given.deviation(precision))
        return Computed.leaf(self.enclose(REAL, given.centre), self.shift(given.moved), error)

    def spread(self, *inputs: Array) -> Array:
        return self._windows(inputs[0], 0.0).max(-1)

    @cached_property
    def multiplicity(self) -> int:
        """In how many windows the most shared entry lies."""
        return int(np.bincount(self.index[self.index >= 0].ravel()).max())

    def gain(self, norm: str, *bounds: float) -> float:
        # |Dy_o|^2 <= max_k |Dx_k|^2 <= sum_k |Dx_k|^2, and each entry is counted at most `multiplicity` times.
        if norm == "linf" or self.multiplicity == 1:
            return bounds[0]
        return up(bounds[0] * up(np.sqrt(float(self.multiplicity))))
