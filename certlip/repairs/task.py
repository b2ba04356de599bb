"""What a method is asked: a network, the bound its candidates must have, samples to fit, and the time it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from certlip.graph import Graph
from certlip.lipschitz import Bound, best, bound_output
from certlip.properties.outputs import ALL
from certlip.repairs.losses import mean_loss
from certlip.repairs.requirement import rival_spread
from certlip.rigor.rounding import Array


@dataclass(frozen=True, eq=False)
class Rows:
    """x: (N, *input_shape). y: (N,) integers for classes, (N, outputs) real targets otherwise."""

    x: Array
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Task:
    """graph: normal form of the network to repair; for two classes by one output, its logit. start: the same scaled
    until its proved bound is at most `target`. radius: see `Aim`. scales: whether a smaller bound alone is worth
    something, as it is not where a classifier's certified samples count. teacher: outputs of the network on the
    training rows where these came without labels (`train.y` then holds what it predicts). seconds: for one proof of a
    bound. deadline: a value of `time.monotonic()`.
    """

    graph: Graph
    start: Graph
    norm: str
    target: float
    radius: float
    loss: str
    train: Rows
    validation: Rows
    deadline: float
    seconds: float = 10.0
    seed: int = 0
    teacher: Array | None = None
    scales: bool = True
    proved: dict[str, Bound | None] = field(default_factory=dict)

    @property
    def is_classifier(self) -> bool:
        return self.train.y.dtype.kind == "i"

    @property
    def margin(self) -> float:
        """How much rivals' scores are raised in a classifier's loss: the most that a difference of scores can move
        within the radius under a bound of `target`."""
        return rival_spread(self.norm, self.graph.output_size) * self.target * self.radius

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    @property
    def expired(self) -> bool:
        return self.left <= 0

    def prove(self, graph: Graph) -> Bound | None:
        """The best bound of a candidate that `seconds` allow, None where none was proved."""
        if graph.digest not in self.proved:
            end = time.monotonic() + self.seconds
            self.proved[graph.digest] = best(bound_output(graph, ALL, self.norm, "auto", end))
        return self.proved[graph.digest]

    def bound(self, graph: Graph) -> float:
        """Proved L with |Df| <= L |Dx|; infinite where nothing was proved."""
        found = self.prove(graph)
        return float("inf") if found is None else found.value

    def loss_on(self, graph: Graph, rows: Rows) -> float:
        """Mean loss of a candidate, with the margin that the task asks for."""
        return mean_loss(self.loss, outputs_of(graph, rows.x), rows.y, self.margin)


def outputs_of(graph: Graph, x: Array, batch: int = 256) -> Array:
    """(N, outputs) in binary64, batch by batch so that images fit the memory."""
    parts = [graph(x[i : i + batch]).reshape(len(x[i : i + batch]), -1) for i in range(0, len(x), batch)]
    return np.concatenate(parts)
