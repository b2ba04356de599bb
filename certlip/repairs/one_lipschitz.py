"""Repairs by 1-Lipschitz layers: every weight becomes a gain times a member of a family, and the gains share the bound.

The product of the gains bounds the constant, but multipliers prove less. So training goes in rounds: train within an
allowance for the product, prove the bound L of what came out, give the allowance the factor target / L, go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from certlip.graph import Affine, Graph
from certlip.repairs.losses import mean_loss
from certlip.repairs.method import Method
from certlip.repairs.problem import classes_of
from certlip.repairs.scale import within
from certlip.repairs.surgery import weighted
from certlip.repairs.task import Task, outputs_of

if TYPE_CHECKING:
    from certlip.training import Objective
    from certlip.training.retrofit import Retrofit

_STEPS = 600  # of a round, about
_EPOCHS = (4, 150)
_ROUNDS = 8
_RATE = 3e-3
_BATCH = (8, 64)  # about a tenth of the samples
_MOST_AXES = 5  # of a weight: two of channels and three of space
_SLOWER, _STUCK = 0.7, 0.25  # factors of the rate after a round, and after one that found nothing better
_SAME = 1e-4  # relative difference of losses that is none


class OneLipschitz(Method):
    """One family for all dense and convolutional layers of the network, at its start as near to them as it comes.

    Residual branches with slopes in [0, 1] become the family's residual layers, at a gain of 1 instead of
    1 + |down| |up|, where that is the better start.
    """

    def obstacle(self, task: Task) -> str | None:
        if task.norm == "linf" and self.name != Spectral.name:
            return f"{self.name} bounds l2 norms only; for linf use spectral or scale"
        layers = weighted(task.graph)
        if not layers:
            return "the network has no dense or convolutional layer"
        for node in (task.graph.nodes[i] for i in layers):
            if isinstance(node.operator, Affine) and node.operator.weight.mid.ndim > _MOST_AXES:
                return f"'{node.name}' is a convolution in more than three dimensions; use scale"
        from certlip.training.retrofit import bottleneck

        if bottleneck(task.graph) is None:
            return "the network has no layer that everything passes, whose gain could take up the bound; use scale"
        return None

    def propose(self, task: Task) -> Iterator[Graph]:
        """At the start and after each round: the network with its bound at the target, if its loss is the lowest."""
        yield from _Search(task, self.name).run()


@dataclass
class _Search:
    """Rounds of training, a proof after each. What loss and accuracy are worth is for the caller to decide, so every
    candidate is offered that no other one beats in both."""

    task: Task
    name: str
    offered: list[tuple[float, float]] = field(default_factory=list)
    slowest: float = 0.0  # seconds of a proof
    rate: float = _RATE  # of the next round

    def run(self) -> Iterator[Graph]:
        from certlip.training import Samples
        from certlip.training.branches import residual_branches
        from certlip.training.retrofit import Retrofit

        task = self.task
        self.train = Samples.of(task.train.x, task.train.y, task.teacher)
        self.validation = Samples.of(task.validation.x, task.validation.y)
        branches = residual_branches(task.graph) if task.norm == "l2" else []
        starts = [branches, []] if branches else [[]]
        networks = [Retrofit(task.graph, self.name, task.norm, 1.0, chosen) for chosen in starts]
        for network in networks:
            yield from self._start(network)
        for network in networks:
            self.rate = _RATE
            yield from self._round(network, 0)
        losses = [self._loss(network.graph()) for network in networks]
        network = networks[losses.index(min(losses))]  # of a residual network the better start goes on
        for number in range(1, _ROUNDS):
            if task.left < 2.0 * self.slowest:
                return
            yield from self._round(network, number)

    def _objective(self) -> Objective:
        from certlip.training import Objective

        return Objective(self.task.loss, self.task.margin)

    def _bound(self, graph: Graph) -> float:
        began = time.monotonic()
        bound = self.task.bound(graph)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return bound

    def _loss(self, graph: Graph) -> float:
        from certlip.training import Network
        from certlip.training.loop import mean_loss

        return mean_loss(Network(graph), self.validation, self._objective())

    def _start(self, network: Retrofit) -> Iterator[Graph]:
        bound = self._bound(network.graph())
        if 0 < bound < math.inf:
            network.scale(self.task.target / bound)
        yield from self._offer(network.graph())

    def _round(self, network: Retrofit, number: int) -> Iterator[Graph]:
        """Train, prove, and use what the proof leaves: by larger outputs, or else by a larger allowance."""
        from certlip.training import fit

        task = self.task
        batch = min(max(len(self.train) // 10, _BATCH[0]), _BATCH[1])
        epochs = min(max(round(_STEPS * batch / len(self.train)), _EPOCHS[0]), _EPOCHS[1])
        improved = False
        for epoch in fit(
            network, self.train, self._objective(), self.validation, deadline=task.deadline - 2.0 * self.slowest,
            epochs=epochs, rate=self.rate, batch=batch, seed=task.seed + number,
        ):  # fmt: skip
            improved |= epoch.is_best and epoch.number > 0
        self.rate *= _SLOWER if improved else _STUCK
        unchanged = network.graph()
        bound = self._bound(unchanged)
        if not 0 < bound < math.inf:
            return
        factor = task.target / bound
        network.scale(factor)
        if factor > 1.0 and self._loss(network.graph()) > self._loss(unchanged):
            network.scale(1.0 / factor)
            network.allow(factor)
            yield from self._offer(unchanged)
        else:
            yield from self._offer(network.graph())

    def _offer(self, graph: Graph) -> Iterator[Graph]:
        """The graph within the target, if no other one offered is as good in both respects."""
        began = time.monotonic()
        met = within(self.task, graph)
        self.slowest = max(self.slowest, time.monotonic() - began)
        if met is None:
            return
        rows = self.task.validation
        outputs = outputs_of(met, rows.x)
        loss = mean_loss(self.task.loss, outputs, rows.y, self.task.margin)
        right = float(np.mean(classes_of(outputs) == rows.y)) if self.task.is_classifier else 0.0
        if not any(other <= loss * (1.0 + _SAME) and share >= right for other, share in self.offered):
            self.offered.append((loss, right))
            yield met


@final
class SLL(OneLipschitz):
    """SDP-based Lipschitz layers (Araujo et al. 2023)."""

    name: ClassVar[str] = "sll"
    summary: ClassVar[str] = "SDP-based Lipschitz layers, fine-tuned"
    rank: ClassVar[int] = 63


@final
class AOL(OneLipschitz):
    """Almost-orthogonal Lipschitz layers (Prach and Lampert 2022)."""

    name: ClassVar[str] = "aol"
    summary: ClassVar[str] = "almost orthogonal layers, fine-tuned"
    rank: ClassVar[int] = 64


@final
class CPL(OneLipschitz):
    """Weights of spectral norm 1, and convex potential layers for branches (Meunier et al. 2022)."""

    name: ClassVar[str] = "cpl"
    summary: ClassVar[str] = "layers of spectral norm 1, convex potential layers for residual ones, fine-tuned"
    rank: ClassVar[int] = 62


@final
class Orthogonal(OneLipschitz):
    """Weights with orthonormal rows or columns."""

    name: ClassVar[str] = "orthogonal"
    summary: ClassVar[str] = "layers with orthonormal rows or columns, fine-tuned"
    rank: ClassVar[int] = 60


@final
class Spectral(OneLipschitz):
    """Weights of norm at most 1: spectral norm for l2, absolute row sums for linf."""

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "layers of spectral norm (linf: row sums) at most 1, fine-tuned"
    rank: ClassVar[int] = 61
