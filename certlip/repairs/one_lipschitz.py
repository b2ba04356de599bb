"""Repairs by 1-Lipschitz layers: every weight becomes a gain times a member of a family, and the gains share the bound.

The product of the gains bounds the constant, but multipliers prove less. So training goes in rounds: train within an
allowance for the product, prove the bound L of what came out, give the allowance the factor target / L, go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from certlip.graph import Graph
from certlip.repairs.losses import mean_loss
from certlip.repairs.method import Method
from certlip.repairs.problem import classes_of
from certlip.repairs.scale import within
from certlip.repairs.surgery import weighted
from certlip.repairs.task import Task, outputs_of

if TYPE_CHECKING:
    from certlip.training import Objective
    from certlip.training.retrofit import Retrofit

_SEEN = 40_000  # samples that one round sees, about
_EPOCHS = (4, 60)
_SHARPNESS = (1.0, 0.85, 0.7, 0.5, 0.25, 0.0)  # of the rounds: exponents of the sharpest temperature
_RATE = 1e-2
_BATCH = 64
_SLOWER = 0.7  # factor of the rate from round to round
_SAME = 1e-4  # relative difference of losses that is none


class OneLipschitz(Method):
    """One family for all dense and convolutional layers of the network, at its start as near to them as it comes.

    Residual branches with slopes in [0, 1] become the family's residual layers, at a gain of 1 instead of
    1 + |down| |up|, where that is the better start.
    """

    rank: ClassVar[int] = 60

    def obstacle(self, task: Task) -> str | None:
        if task.norm == "linf" and self.name != Spectral.name:
            return f"{self.name} bounds l2 norms only; for linf use spectral or scale"
        layers = weighted(task.graph)
        if not layers:
            return "the network has no dense or convolutional layer"
        wide = [i for i in layers if len(getattr(task.graph.nodes[i].operator, "weight").shape) > 5]
        if wide:
            return f"node '{task.graph.nodes[wide[0]].name}' is a convolution in more than three dimensions"
        if not _is_narrow(task.graph):
            return "no layer is passed by all of the network, so no gain can take up the whole bound; use scale"
        return None

    def propose(self, task: Task) -> Iterator[Graph]:
        """At the start and after each round: the network with its bound at the target, if its loss is the lowest."""
        yield from _Search(task, self.name).run()


@dataclass
class _Search:
    """Rounds of training, a prover in between. Classifiers start at the temperature at which the scaled network has the
    scores of the original, and so its accuracy, and end at 1, where scores count as they are: what is worth more is for
    the caller to decide, so every candidate is offered that no other one beats in both loss and accuracy."""

    task: Task
    name: str
    offered: list[tuple[float, float]] = field(default_factory=list)

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
            yield from self._round(network, 0)
        losses = [self._loss(network.graph(), 0) for network in networks]
        network = networks[losses.index(min(losses))]  # of a residual network the better start goes on
        for number in range(1, len(_SHARPNESS)):
            if task.expired:
                return
            yield from self._round(network, number)

    def _objective(self, number: int) -> Objective:
        """Of a round."""
        from certlip.training import Objective

        task = self.task
        bound = task.bound(task.graph)
        sharp = task.target / bound if task.is_classifier and task.target < bound < math.inf else 1.0
        return Objective(task.loss, task.margin, sharp ** _SHARPNESS[number])

    def _loss(self, graph: Graph, number: int) -> float:
        from certlip.training import Network
        from certlip.training.loop import mean_loss

        return mean_loss(Network(graph), self.validation, self._objective(number))

    def _start(self, network: Retrofit) -> Iterator[Graph]:
        bound = self.task.bound(network.graph())
        if 0 < bound < math.inf:
            network.scale(self.task.target / bound)
        yield from self._offer(network.graph())

    def _round(self, network: Retrofit, number: int) -> Iterator[Graph]:
        from certlip.training import fit

        task = self.task
        epochs = min(max(round(_SEEN / len(self.train)), _EPOCHS[0]), _EPOCHS[1])
        for _ in fit(
            network, self.train, self._objective(number), self.validation, deadline=task.deadline, epochs=epochs,
            rate=_RATE * _SLOWER**number, batch=_BATCH, seed=task.seed + number,
        ):  # fmt: skip
            pass
        bound = task.bound(network.graph())
        if not 0 < bound < math.inf:
            return
        factor = task.target / bound
        if factor > 1.0:
            unchanged = network.graph()
            kept = self._loss(unchanged, number)
            network.scale(factor)
            if self._loss(network.graph(), number) > kept:  # a larger allowance, but the same outputs
                network.scale(1.0 / factor)
                network.allow(factor)
                yield from self._offer(unchanged)
                return
        else:
            network.scale(factor)
        yield from self._offer(network.graph())

    def _offer(self, graph: Graph) -> Iterator[Graph]:
        """The graph within the target, if no other one offered is as good in both respects."""
        met = within(self.task, graph)
        if met is None:
            return
        rows = self.task.validation
        outputs = outputs_of(met, rows.x)
        loss = mean_loss(self.task.loss, outputs, rows.y, self.task.margin)
        right = float(np.mean(classes_of(outputs) == rows.y)) if self.task.is_classifier else 0.0
        if not any(other <= loss * (1.0 + _SAME) and share >= right for other, share in self.offered):
            self.offered.append((loss, right))
            yield met


def _is_narrow(graph: Graph) -> bool:
    return True


@final
class SLL(OneLipschitz):
    """SDP-based Lipschitz layers (Araujo et al. 2023)."""

    name: ClassVar[str] = "sll"
    summary: ClassVar[str] = "SDP-based Lipschitz layers, fine-tuned"


@final
class AOL(OneLipschitz):
    """Almost-orthogonal Lipschitz layers (Prach and Lampert 2022)."""

    name: ClassVar[str] = "aol"
    summary: ClassVar[str] = "almost orthogonal layers, fine-tuned"


@final
class CPL(OneLipschitz):
    """Weights of spectral norm 1, and convex potential layers for branches (Meunier et al. 2022)."""

    name: ClassVar[str] = "cpl"
    summary: ClassVar[str] = "layers of spectral norm 1, convex potential layers for residual ones, fine-tuned"


@final
class Orthogonal(OneLipschitz):
    """Weights with orthonormal rows or columns."""

    name: ClassVar[str] = "orthogonal"
    summary: ClassVar[str] = "layers with orthonormal rows or columns, fine-tuned"


@final
class Spectral(OneLipschitz):
    """Weights of norm at most 1: spectral norm for l2, absolute row sums for linf."""

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "layers of spectral norm (linf: row sums) at most 1, fine-tuned"
