"""R1 and R2: the first layer moves, the second one is fixed but for its bias.

With v = W1 x + b1 and d_ij = 1[v0_ij > 0] at the start, relu(v) >= d v for every v, with equality at the start.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from certlip.repairs.convex.losses import Rows
from certlip.repairs.convex.program import Program, bound_holds, values_of
from certlip.repairs.convex.shallow import Shallow
from certlip.solvers.problem import Array

_BOUNDARY = 1e-5
"""The pre-activations, relative to the largest, that count as zero when patterns cross the boundary of their cone."""


class _FirstLayer(Program):
    """The variables W1, b1, b2, Lam and L, and the LMI of them."""

    def __init__(self, start: Shallow, x: Array):
        import cvxpy as cp

        self._x, self._W2 = x, start.W2
        self._W1, self._b1 = cp.Variable(start.W1.shape), cp.Variable(start.neurons)
        self._b2 = cp.Variable(start.outputs)
        self._active = (start.pre_activations(x) > 0).astype(np.float64)
        self.lipschitz = cp.Variable(nonneg=True)
        multipliers = cp.Variable(start.neurons, nonneg=True)
        self.constraints: list[Any] = [bound_holds(self.lipschitz, self._W1, multipliers, start.W2.T)]

    def _pre_activations(self, rows: Rows) -> Any:
        return self._x[rows] @ self._W1.T + np.ones((len(rows), 1)) @ self._b1[None, :]

    def _bias(self, rows: Rows, K: Array) -> Any:
        return np.ones((len(rows), 1)) @ (K @ self._b2)[None, :]

    @abstractmethod
    def majorant(self, rows: Rows, K: Array) -> Any: ...

    def solution(self) -> Shallow | None:
        found = values_of(self._W1, self._b1, self._b2)
        return None if found is None else Shallow(found[0], found[1], self._W2, found[2])

    def place(self, net: Shallow) -> None:
        self._W1.value, self._b1.value, self._b2.value = net.W1, net.b1, net.b2


class FrozenPatterns(_FirstLayer):
    """R1: no pre-activation of a training row changes its sign, (2 d_ij - 1) v_ij >= 0, where f = W2 (d v) + b2.

    The majorants are f itself: the program is exact on the cone of patterns, and knows nothing outside.
    before: the program whose solution `start` is. Where that ended on the cone's boundary, v0_ij = 0 to rounding, both
    signs are patterns of the start, and the one not yet tried is taken: the next cone lies beyond the boundary.
    """

    def __init__(self, start: Shallow, x: Array, before: FrozenPatterns | None = None):
        import cvxpy as cp

        super().__init__(start, x)
        if before is not None and before._active.shape == self._active.shape:
            v = start.pre_activations(x)
            self._active = np.where(np.abs(v) <= _BOUNDARY * np.abs(v).max(), 1.0 - before._active, self._active)
        everything = self._pre_activations(np.arange(len(x)))
        self.constraints.append(cp.multiply(2.0 * self._active - 1.0, everything) >= 0)

    def majorant(self, rows: Rows, K: Array) -> Any:
        import cvxpy as cp

        return cp.multiply(self._active[rows], self._pre_activations(rows)) @ (K @ self._W2).T + self._bias(rows, K)


class DifferenceOfConvex(_FirstLayer):
    """R2: with C = K W2 = C+ - C-, entries >= 0,  K f = C+ relu(v) - C- relu(v) + K b2 <= C+ relu(v) - C- (d v) + K b2.

    Convex in (W1, b1, b2) everywhere, and equal to R1's majorants on the cone of patterns: the optimum is at most R1's.
    """

    def majorant(self, rows: Rows, K: Array) -> Any:
        import cvxpy as cp

        C = K @ self._W2
        up, down = np.maximum(C, 0.0), np.maximum(-C, 0.0)
        v = self._pre_activations(rows)
        total = self._bias(rows, K)
        rising, falling = np.flatnonzero(up.any(axis=0)), np.flatnonzero(down.any(axis=0))
        if rising.size:
            total = total + cp.pos(v[:, rising]) @ up[:, rising].T
        if falling.size:
            total = total - cp.multiply(self._active[rows][:, falling], v[:, falling]) @ down[:, falling].T
        return total
