"""The last layer alone: with the features fixed, loss and LMI are convex in (W2, b2, T, L) as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from certlip.repairs.convex.losses import Rows
from certlip.repairs.convex.program import Program, bound_holds, values_of
from certlip.repairs.convex.shallow import Shallow
from certlip.solvers.problem import Array


class LastLayer(Program):
    """f = W2 z + b2 with z = relu(W1 x + b1) fixed. Nothing is linearised: the optimum is the best last layer.

    It minimises L itself. With rho = L^2 in its place loss + lambda rho would fall while loss + lambda L may rise.
    """

    def __init__(self, start: Shallow, x: Array):
        import cvxpy as cp

        self._start = start
        self._features = np.maximum(start.pre_activations(x), 0.0)
        self._W2, self._b2 = cp.Variable(start.W2.shape), cp.Variable(start.outputs)
        self.lipschitz = cp.Variable(nonneg=True)
        multipliers = cp.Variable(start.neurons, nonneg=True)
        self.constraints: list[Any] = [bound_holds(self.lipschitz, self._W2.T, multipliers, start.W1)]

    def majorant(self, rows: Rows, K: Array) -> Any:
        return self._features[rows] @ (K @ self._W2).T + np.ones((len(rows), 1)) @ (K @ self._b2)[None, :]

    def solution(self) -> Shallow | None:
        found = values_of(self._W2, self._b2)
        return None if found is None else Shallow(self._start.W1, self._start.b1, *found)

    def place(self, net: Shallow) -> None:
        self._W2.value, self._b2.value = net.W2, net.b2
