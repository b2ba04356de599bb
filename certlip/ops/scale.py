"""Multiplication and addition of constants, entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from certlip.graph.kinds import Affine, Shape
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """y = s * x + t with s and t broadcast to the shape of x.

    operations: how many roundings an execution may spend on one product s x; above 1 where it computes s first.
    parts: `extent`, other than (1, 0) where an execution makes s or t from other constants.
    """

    size: Shape = ()
    operations: int = 1
    parts: tuple[float, float] = (1.0, 0.0)

    @staticmethod
    def of(
        size: Shape,
        factor=1.0,
        shift=0.0,
        bias_size: Array | None = None,
        operations: int = 1,
        parts: tuple[float, float] = (1.0, 0.0),
    ) -> Scale:
        """From arrays or balls that broadcast to `size`."""
        factor = factor if isinstance(factor, Ball) else Ball.exact(factor)
        shift = shift if isinstance(shift, Ball) else Ball.exact(shift)
        return Scale(factor, shift, np.abs(shift.mid) if bias_size is None else bias_size, size, operations, parts)

    @property
    def domain(self) -> Shape:
        return self.size

    @property
    def codomain(self) -> Shape:
        return self.size

    @property
    def terms(self) -> int:
        return self.operations

    @property
    def extent(self) -> tuple[float, float]:
        return self.parts

    def forward(self, weight: Array, x: Array) -> Array:
        return x * weight

    def backward(self, weight: Array, y: Array) -> Array:
        return y * weight

    @cached_property
    def l2_norm(self) -> float:
        return float(self.weight.magnitude().max(initial=0.0))

    @cached_property
    def dominance_norm(self) -> float:
        return self.l2_norm

    @cached_property
    def linf_norm(self) -> float:
        return self.l2_norm
