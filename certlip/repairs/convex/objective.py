"""What repair minimises, evaluated on a network as it is: the measure of every candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.errors import UsageError
from certlip.repairs.convex.losses import Loss, Scores, loss_named
from certlip.repairs.convex.shallow import Shallow, lipschitz
from certlip.solvers.problem import Array


@dataclass(frozen=True, eq=False)
class Value:
    """`objective`: loss + penalty L, or the loss where L is limited. `lipschitz` is the LipSDP value, in floats."""

    objective: float
    loss: float
    lipschitz: float


@dataclass(frozen=True, eq=False)
class Objective:
    """min loss(f) + penalty L(f), or, with a `limit`, min loss(f) subject to L(f) <= limit (and penalty 0).

    x: (N, d). scores: those of (x, y) for the loss; count: what their sum is divided by.
    """

    loss: Loss
    x: Array
    scores: list[Scores]
    count: int
    penalty: float
    limit: float | None

    @staticmethod
    def of(
        net: Shallow, x: Array, y: NDArray[Any], loss: str, penalty: float | None, limit: float | None, margin: float
    ) -> Objective:
        """Raises UsageError where data, loss and network do not fit, or unless penalty or limit is given."""
        x = np.ascontiguousarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != net.inputs or not len(x) or len(x) != len(y):
            shapes = f"{x.shape} and {np.shape(y)}"
            raise UsageError(f"data of shapes {shapes} do not fit {net.inputs} inputs; pass (N, d) and N labels")
        if not np.isfinite(x).all():
            raise UsageError("an input is not finite; remove such rows from the data")
        if (penalty is None) == (limit is None):
            raise UsageError("either a penalty on L or a target for L is needed, and not both; pass one of them")
        if penalty is not None and not 0.0 <= penalty < np.inf:
            raise UsageError(f"the penalty {penalty} is no weight; pass a finite number of at least 0")
        if limit is not None and not 0.0 < limit < np.inf:
            raise UsageError(f"the target {limit} is no bound; pass a positive finite number")
        if not 0.0 <= margin < np.inf:
            raise UsageError(f"the margin {margin} makes no sense; pass a finite number of at least 0")
        kind = loss_named(loss)
        scores = kind.scores(y, net.outputs, margin)
        return Objective(kind, x, scores, kind.count(y, net.outputs), 0.0 if penalty is None else penalty, limit)

    def at(self, x: Array) -> Objective:
        """The same objective for inputs in other coordinates."""
        return replace(self, x=x)

    def value(self, net: Shallow) -> Value:
        """Of the network itself: true loss, LipSDP value."""
        loss, L = self.loss.mean(self.scores, net(self.x), self.count), lipschitz(net)
        return Value(loss + self.penalty * L, loss, L)
