"""Matrix products along the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from certlip.graph.kinds import Affine, Shape
from certlip.rigor.ball import Ball
from certlip.rigor.norms import dominance_norm, infinity_norm, spectral_norm
from certlip.rigor.rounding import Array


@dataclass(frozen=True, eq=False)
class Dense(Affine):
    """y[..., i] = sum_j W[i, j] x[..., j] + b[..., i]; `lead` are the axes before the last, untouched."""

    lead: Shape = ()

    @staticmethod
    def of(weight, bias=None, lead: Shape = ()) -> Dense:
        """From arrays or balls: weight (out, in), bias broadcastable to (*lead, out)."""
        weight = weight if isinstance(weight, Ball) else Ball.exact(weight)
        bias = bias if isinstance(bias, Ball) else Ball.exact(0.0 if bias is None else bias)
        return Dense(weight, bias, np.abs(bias.mid), lead)

    @property
    def domain(self) -> Shape:
        return (*self.lead, self.weight.shape[1])

    @property
    def codomain(self) -> Shape:
        return (*self.lead, self.weight.shape[0])

    @property
    def terms(self) -> int:
        return self.weight.shape[1]

    # One product of two matrices: numpy takes one with a vector for each row of an array of more axes.
    def forward(self, weight: Array, x: Array) -> Array:
        return (x.reshape(prod(x.shape[:-1]), x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], weight.shape[0])

    def backward(self, weight: Array, y: Array) -> Array:
        return (y.reshape(prod(y.shape[:-1]), y.shape[-1]) @ weight).reshape(*y.shape[:-1], weight.shape[1])

    def matrix(self) -> Ball:
        if self.lead in ((), (1,) * len(self.lead)):
            return self.weight
        return super().matrix()

    # The operator is `lead` copies of W side by side, so its norms are those of W.
    @cached_property
    def l2_norm(self) -> float:
        return spectral_norm(self.weight)

    @cached_property
    def dominance_norm(self) -> float:
        return dominance_norm(self.weight)

    @cached_property
    def linf_norm(self) -> float:
        return infinity_norm(self.weight)
