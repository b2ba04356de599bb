"""ADMM with an enforced bound as a repair method, for chains of dense layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from certlip.graph import Graph
from certlip.repairs.method import Method
from certlip.repairs.scale import within
from certlip.repairs.surgery import dense_chain
from certlip.repairs.task import Task

_ROUNDS, _SEEN = 20, 20_000
"""Rounds at most, and samples that each of them sees, about."""


class ADMM(Method):
    """Weights are trained while a copy of them is kept within the bound by semidefinite steps (Pauli et al. 2020); the
    copy is what is proposed."""

    name: ClassVar[str] = "admm"
    summary: ClassVar[str] = "training with semidefinite steps that enforce the bound, for dense networks of any depth"
    rank: ClassVar[int] = 30

    joint: ClassVar[bool] = True

    def obstacle(self, task: Task) -> str | None:
        if task.norm != "l2":
            return "its semidefinite steps bound the constant in l2 only; scale and spectral serve l-infinity"
        chain = dense_chain(task.graph)
        if chain is None or len(chain.positions) < 2 or not chain.starts_at_input:
            return "the network is no chain of dense layers with activations between them"
        return None

    def propose(self, task: Task) -> Iterator[Graph]:
        """The copy of each round whose training loss is the lowest so far."""
        from certlip.repairs.admm import Chain, train

        found = dense_chain(task.start)
        if found is None or len(found.positions) < 2:  # a start that ends in a factor of its own
            return
        chain = Chain(tuple(found.weights), tuple(found.biases), tuple(found.functions))
        x = found.features(task.train.x)
        target, mu = self._limit_or_price(task)
        states = train(
            chain, x, task.train.y, loss=task.loss, margin=task.margin, rounds=_ROUNDS, joint=self.joint,
            epochs=max(1, round(_SEEN / len(x))), deadline=task.deadline, seed=task.seed, target=target, mu=mu,
        )  # fmt: skip
        lowest = float("inf")
        for state in states:
            if state.loss < lowest and state.round > 0:
                lowest = state.loss
                met = within(task, found.with_layers(list(state.chain.weights), list(state.chain.biases)))
                if met is not None:
                    yield met

    def _limit_or_price(self, task: Task) -> tuple[float | None, float | None]:
        """One of them: the bound that is enforced, or what its square costs."""
        return task.target, None


class FixedMultipliers(ADMM):
    """The published steps: weights move at the multipliers of the round before, which then move alone."""

    name: ClassVar[str] = "admm-fixed"
    summary: ClassVar[str] = "the same with multipliers fixed in each step, as published"
    in_auto: ClassVar[bool] = False
    joint: ClassVar[bool] = False


class Regularised(ADMM):
    """min loss + mu L^2 without a limit, with the price at which the start's loss is what its target would cost; what
    comes out is scaled to the target."""

    name: ClassVar[str] = "admm-regularised"
    summary: ClassVar[str] = "the same with the squared bound as a term of the loss, then scaled to the limit"
    in_auto: ClassVar[bool] = False

    def _limit_or_price(self, task: Task) -> tuple[float | None, float | None]:
        return None, task.loss_on(task.start, task.train) / task.target**2
