"""The baseline: layers are shrunk, uniformly or where it costs least, until the bound holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from certlip.graph import Affine, Graph
from certlip.repairs.method import Method
from certlip.repairs.surgery import times, weighted, with_weights
from certlip.repairs.task import Task

_SLACK = 1e-6  # left below the target, so that the next search for multipliers need not be as lucky
_TRIES = 4


class Scale(Method):
    """Exact for the last layer: c f has c times the constant of f. Shrinking inner layers keeps their biases, so that
    other neurons are active; each split of the factor between layers is tried on the training rows."""

    name: ClassVar[str] = "scale"
    summary: ClassVar[str] = "shrink the layers, uniformly or where it costs least, until the bound holds"
    rank: ClassVar[int] = 0
    uses_torch: ClassVar[bool] = False

    def obstacle(self, task: Task) -> str | None:
        if not task.scales:
            return "scaling a classifier changes margins and bound alike, so it certifies nothing more"
        return None

    def propose(self, task: Task) -> Iterator[Graph]:
        """The scaled output first; then, where the loss on the training rows falls, other splits."""
        yield task.start
        lowest = task.loss_on(task.start, task.train)
        factor = task.target / max(task.bound(task.graph), task.target)
        for shares in splits(len(weighted(task.graph))):
            if task.expired:
                return
            candidate = shrunk(task.graph, factor, shares)
            loss = task.loss_on(candidate, task.train)
            if not loss < lowest:
                continue
            met = within(task, candidate)
            if met is not None and (loss := task.loss_on(met, task.train)) < lowest:
                lowest = loss
                yield met


def splits(layers: int) -> Iterator[np.ndarray]:
    """Exponents that add up to one: all on one layer, even ones, and those between an even split and one layer."""
    even = np.full(layers, 1.0 / layers)
    yield even
    for one in np.eye(layers):
        yield one
        if layers > 2:
            yield 0.5 * (even + one)


def shrunk(graph: Graph, factor: float, shares: np.ndarray) -> Graph:
    """Weights of layer l times factor^shares[l], biases as they were: the norm product falls by the factor."""
    for position, share in zip(weighted(graph), shares, strict=True):
        operator = graph.nodes[position].operator
        if share and isinstance(operator, Affine):
            graph = with_weights(graph, position, operator.weight.mid * factor**share, operator.bias.mid)
    return graph


def within(task: Task, graph: Graph) -> Graph | None:
    """The graph scaled at its output until its proved bound is at most the target; itself where it is already.

    None where no bound can be proved.
    """
    for _ in range(_TRIES):
        bound = task.bound(graph)
        if bound <= task.target:
            return graph
        if not np.isfinite(bound):
            return None
        graph = times(graph, task.target / bound * (1.0 - _SLACK))
    return None
