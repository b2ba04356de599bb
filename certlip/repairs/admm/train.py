"""ADMM with an enforced or regularised Lipschitz bound (Pauli, Koch, Berberich, Kohler, Allgower 2020).

    minimise  loss(W, b) + mu rho   s.t.  LipSDP proves  |Df|_2^2 <= rho |Dx|_2^2  for the copy Wbar,   W = Wbar

with ``rho`` free, or ``rho = target^2`` and no term for it. A round: epochs of descent for ``(W, b)`` on the loss plus
``(r/2) |W - Wbar + U|^2``; multipliers for Wbar; the semidefinite step for Wbar towards ``W + U`` (see `step`); ``U +=
W - Wbar``. The certificate belongs to Wbar, so Wbar is what a round returns, with biases trained for it: they do not
enter the certificate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from certlip.errors import UsageError
from certlip.repairs.admm.chain import Chain
from certlip.repairs.admm.step import Certified, distance, stepped
from certlip.solvers.problem import Array

Status = Literal["running", "finished", "deadline", "diverged"]

HAIR = 1e-6
"""How far below the target a bound is kept, relatively: room for the proof and for weights rounded to binary32."""

_EXPLODED = 10.0
"""How many times the loss at the start, plus one, a loss may be before the training counts as diverging."""

_APART, _GROWTH = 2.0, 2.0
"""The penalty grows where ``|W - Wbar|`` exceeds so many times what Wbar moved in the round (Boyd et al. 2011, 3.4.1).
It never falls: the problem is not convex, and small penalties let the weights run away."""

_BIAS_EPOCHS = 2
"""Passes that train the biases for the copy, kept where they help."""


@dataclass(frozen=True, eq=False)
class State:
    """What a round reached. chain: Wbar with its biases. bound: of LipSDP in floating point, at most the target where
    one was given; certlip proves it on `chain.graph()`. loss: mean training loss of the chain. residual: ``|W - Wbar|``
    over ``|Wbar|``, Frobenius. value: loss + mu rho, by which states compare; the loss where a target is given."""

    round: int
    chain: Chain
    bound: float
    loss: float
    value: float
    residual: float
    status: Status


def train(
    chain: Chain,
    x: Array,
    y: np.ndarray,
    *,
    loss: str,
    target: float | None = None,
    mu: float | None = None,
    penalty: float = 0.05,
    joint: bool = True,
    margin: float = 0.0,
    rounds: int = 20,
    epochs: int = 5,
    rate: float = 1e-2,
    batch: int = 64,
    deadline: float = math.inf,
    seed: int = 0,
    device: str = "cpu",
) -> Iterator[State]:
    """States round by round, round 0 being the start; the last one is the best again and says how it ended.

    Exactly one of target, the Lipschitz bound that every state has, and mu, the price of a squared bound. A start above
    the target is scaled first. x (n, inputs); y (n,) classes, or (n, outputs) targets. loss, margin: see `Objective`.
    penalty: r. joint: multipliers move in the semidefinite step, too. rounds of `epochs` passes each; rate: of Adam, it
    falls to a tenth over the rounds. deadline: a value of `time.monotonic()`. Where a loss or weight is not finite, or
    the loss explodes, the training ends with status "diverged".

    Raises UsageError unless there is one of target and mu, positive, and for an unknown loss.
    """
    from certlip.repairs.admm.descent import Descent, samples_of
    from certlip.training.objective import Objective

    if (target is None) == (mu is None) or not 0.0 < (target or mu or 0.0) < math.inf:
        raise UsageError("ADMM needs a positive Lipschitz bound to enforce or a positive price of it, and not both")
    objective, samples = Objective(loss, margin), samples_of(x, y, device)

    def descent(begin: Chain, weights: bool) -> Descent:
        return Descent(begin, samples, objective, weights=weights, batch=batch, seed=seed)

    def measured(number: int, copy: Chain, residual: float) -> State:
        squared, copy_loss = copy.squared_bound(), descent(copy, False).loss()
        value = copy_loss + (mu * squared if mu is not None else 0.0)
        return State(number, copy, math.sqrt(squared), copy_loss, value, residual, "running")

    def with_better_biases(copy: Chain, rate: float) -> Chain:
        tuned = descent(copy, False)
        before = tuned.loss()
        for _ in range(_BIAS_EPOCHS):
            tuned.epoch(rate, deadline=deadline)
        return tuned.chain if tuned.loss() < before else copy

    copy = chain if target is None else lowered(chain, target, chain.squared_bound())
    best = measured(0, copy, 0.0)
    if not math.isfinite(best.value):
        raise UsageError("the network's loss on the training data is not finite; check the data and the weights")
    yield best
    fitted = descent(copy, True)
    status: Status = "finished"
    limit = _EXPLODED * (1.0 + best.loss)
    U = [np.zeros(W.shape) for W in copy.weights]
    for number in range(1, rounds + 1):
        present_rate = rate * 0.1 ** ((number - 1) / rounds)
        for _ in range(epochs):
            fitted.epoch(present_rate, [V - u for V, u in zip(copy.weights, U, strict=True)], penalty, deadline)
        if time.monotonic() >= deadline:
            status = "deadline"
            break
        if not fitted.loss() <= limit:
            status = "diverged"
            break
        free = fitted.chain
        aim = [W + u for W, u in zip(free.weights, U, strict=True)]
        before = copy.weights
        found = stepped(_present(copy, target), aim, penalty, mu=mu, joint=joint, deadline=deadline)
        copy = with_better_biases(replace(free, weights=found.weights), present_rate)
        if target is not None:
            copy = lowered(copy, target, copy.squared_bound())
        moved = math.sqrt(distance(copy.weights, before))
        apart = math.sqrt(distance(copy.weights, free.weights))
        growth = _GROWTH if apart > _APART * moved else 1.0
        penalty *= growth
        U = [(Z - V) / growth for Z, V in zip(aim, copy.weights, strict=True)]
        size = distance(copy.weights, [np.zeros(W.shape) for W in copy.weights])
        state = measured(number, copy, math.sqrt(distance(free.weights, copy.weights) / size) if size else math.inf)
        best = state if state.value < best.value else best
        yield state
    yield replace(best, status=status)


def _present(copy: Chain, target: float | None) -> Certified:
    """The copy with multipliers, in enforced mode for the target."""
    rho, T = copy.multipliers()
    if target is None:
        return Certified(copy.weights, copy.wide_slopes, rho, T)
    if rho > target**2:  # proved for the chain's own slopes, not for wider ones
        copy = lowered(copy, target, rho)
        rho, T = copy.multipliers()
    return Certified(copy.weights, copy.wide_slopes, rho, T).with_room(target**2)


def lowered(chain: Chain, target: float, squared_bound: float) -> Chain:
    """The chain, scaled where its squared bound asks for it, with a bound of at most ``(1 - HAIR) target``."""
    most = (1.0 - HAIR) * target
    bound = math.sqrt(squared_bound)
    return chain if bound <= most else chain.scaled((1.0 - 1e-9) * most / bound)
