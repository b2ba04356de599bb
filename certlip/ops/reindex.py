"""Rearrangement of entries: reshape, transpose, slice, gather, pad, broadcast are all the same operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from certlip.graph.kinds import Affine, Shape
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision, up


@dataclass(frozen=True, eq=False)
class Reindex(Affine):
    """y.flat[i] = x.flat[index[i]] where index[i] >= 0, else the bias (a padded constant). `index` has y's shape."""

    index: NDArray[np.int64] = None  # type: ignore[assignment]
    source: Shape = ()

    @staticmethod
    def of(source: Shape, index: NDArray[np.int64], fill: float = 0.0) -> Reindex:
        """From flat positions in the source, -1 for an entry that is the constant `fill`."""
        index = np.ascontiguousarray(index, dtype=np.int64)
        if index.size and (index.min() < -1 or index.max() >= prod(source)):
            raise ValueError(f"an index lies outside an array of shape {source}")
        shift = np.where(index < 0, float(fill), 0.0)
        return Reindex(Ball.exact(1.0), Ball.exact(shift), np.abs(shift), index, source)

    @staticmethod
    def through(source: Shape, move) -> Reindex:
        """The operator that does to entries what `move` (reshape, transpose, slice, ...) does to an array."""
        return Reindex.of(source, move(np.arange(prod(source)).reshape(source)))

    @property
    def domain(self) -> Shape:
        return self.source

    @property
    def codomain(self) -> Shape:
        return self.index.shape

    @property
    def terms(self) -> int:
        return 1

    @property
    def roundings(self) -> int:
        return 0

    @cached_property
    def multiplicity(self) -> int:
        """How often the most repeated input entry appears in the output."""
        used = self.index[self.index >= 0]
        return int(np.bincount(used.ravel()).max()) if used.size else 0

    @cached_property
    def is_identity(self) -> bool:
        """True where entries keep their flat order: a pure reshape."""
        return self.index.size == prod(self.source) and bool(
            (self.index.ravel() == np.arange(self.index.size)).all()
        )

    def forward(self, weight: Array, x: Array) -> Array:
        flat = x.reshape(len(x), -1)
        if self.is_identity:
            return flat.reshape(len(x), *self.index.shape)
        if not flat.shape[1]:
            return np.zeros((len(x), *self.index.shape))
        return np.where(self.index >= 0, flat[:, np.maximum(self.index, 0)], 0.0)

    def backward(self, weight: Array, y: Array) -> Array:
        if self.is_identity:
            return y.reshape(len(y), *self.source)
        result = np.zeros((len(y), prod(self.source)))
        used = self.index >= 0
        np.add.at(result.T, self.index[used], y[:, used].T)
        return result.reshape(len(y), *self.source)

    def enclose(self, precision: Precision, *inputs: Ball) -> Ball:
        moved = self.linear_image(inputs[0], precision)
        return Ball(moved.mid + self.bias.mid, moved.rad)  # one of the two is zero: no rounding

    def linear_image(self, x: Ball, precision: Precision) -> Ball:
        return x.map(lambda array: self.forward(self.weight.mid, array))

    @cached_property
    def l2_norm(self) -> float:
        """|y|^2 counts each entry of x as often as it appears: the square root of the multiplicity, exactly."""
        return up(np.sqrt(float(self.multiplicity))) if self.multiplicity > 1 else float(self.multiplicity)

    @cached_property
    def dominance_norm(self) -> float:
        return self.l2_norm

    @cached_property
    def linf_norm(self) -> float:
        return float(self.multiplicity > 0)
