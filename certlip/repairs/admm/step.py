"""The semidefinite step: weights near a target among those whose bound some multipliers prove.

    minimise  (r/2) sum_i |W_i - Z_i|_F^2 + mu rho   over W (and rho, where mu is given)   s.t.  S(W, rho, T) >= 0

For fixed multipliers ``T`` this is convex, and the optimum is found to a given gap, from inside (Pauli et al. 2020).
Alternating with the best ``T`` for the weights found soon stalls far from the best weights, so the joint step moves
both: the inequality is affine in suitable coordinates (see `lmi`), the value is not convex in them, and a local
minimum is found. Both are never worse than staying.

The first layer's rows may be taken from the row space of its target, and the last layer's columns from the column
space: projecting onto them shortens the distance and is a compression of the matrix, which stays positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from certlip.repairs.admm.barrier import Distance, factorised, minimise
from certlip.repairs.admm.lmi import Lmi
from certlip.solvers.problem import Array

Slopes = Sequence[tuple[Array, Array]]

GAP = 2e-2
"""How far from the optimum a step may stop, relative to its value at the start."""

_SHARES = (0.95, 0.8, 0.5, 0.1, 0.0)
"""How much of the present weights a step starts from: the first that leaves room."""


@dataclass(frozen=True, eq=False)
class Certified:
    """Weights with multipliers ``T`` that prove ``|Df|_2^2 <= rho |Dx|_2^2`` for `slopes`, up to rounding."""

    weights: tuple[Array, ...]
    slopes: Slopes
    rho: float
    T: tuple[Array, ...]

    def with_room(self, rho: float) -> Certified:
        """The same weights for a larger ``rho``: its excess is spread evenly over the layers."""
        excess, count = rho / self.rho, len(self.weights)
        T = tuple(excess ** (1.0 - (i + 1) / count) * t for i, t in enumerate(self.T))
        return Certified(self.weights, self.slopes, rho, T)


def distance(weights: Sequence[Array], target: Sequence[Array]) -> float:
    """``sum_i |V_i - Z_i|_F^2``."""
    return sum(float(np.sum((V - Z) ** 2)) for V, Z in zip(weights, target, strict=True))


def stepped(
    present: Certified,
    target: Sequence[Array],
    weight: float,
    *,
    mu: float | None = None,
    joint: bool = True,
    gap: float = GAP,
    deadline: float = math.inf,
) -> Certified:
    """The step from ``present`` towards ``target``, ``weight`` being r; ``mu=None`` keeps ``rho``."""
    now, aim, widened = _narrowed(present.weights, target)
    lmi = Lmi.of(aim, present.slopes, present.rho, present.T, joint=joint, free_rho=mu is not None)
    start = _inside(lmi, now, 1.0 if mu is None else 1.01)
    cost = Distance(lmi, weight, 0.0 if mu is None else mu * present.rho)
    stay = 0.5 * weight * distance(now, aim) + cost.price
    if start is None or stay <= 0.0:
        return present
    found = minimise(cost, start, gap=gap, deadline=deadline)
    if cost.value(found) >= stay:
        return present
    weights, factors, rho = lmi.point(found)
    T = tuple(t / factor for t, factor in zip(present.T, factors, strict=True))
    return Certified(widened(weights), present.slopes, rho * present.rho, T)


def _narrowed(
    weights: Sequence[Array], target: Sequence[Array]
) -> tuple[list[Array], list[Array], Callable[[Sequence[Array]], tuple[Array, ...]]]:
    """Present weights and targets in the coordinates of inputs and outputs that matter, and the way back."""
    now, aim = list(weights), list(target)
    rows = columns = None
    if aim[0].shape[1] > aim[0].shape[0]:
        rows = np.linalg.qr(aim[0].T)[0]
        now[0], aim[0] = now[0] @ rows, aim[0] @ rows
    if aim[-1].shape[0] > aim[-1].shape[1]:
        columns = np.linalg.qr(aim[-1])[0]
        now[-1], aim[-1] = columns.T @ now[-1], columns.T @ aim[-1]

    def widened(found: Sequence[Array]) -> tuple[Array, ...]:
        wide = list(found)
        if rows is not None:
            wide[0] = wide[0] @ rows.T
        if columns is not None:
            wide[-1] = columns @ wide[-1]
        return tuple(wide)

    return now, aim, widened


def _inside(lmi: Lmi, weights: Sequence[Array], rho: float) -> Array | None:
    """The weights, shrunk towards the zero network by as little as leaves room to move."""
    for share in _SHARES:
        start = lmi.joined([share * W for W in weights], rho=rho)
        if factorised(lmi.matrix(start)) is not None:
            return start
    return None
