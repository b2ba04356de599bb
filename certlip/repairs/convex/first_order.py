"""R2 and the last layer for sizes at which a conic solver takes minutes: L-BFGS on smoothed majorants and a barrier.

Both programs have a moving factor M (m, p) and a fixed one F (m, q): (W1, W2') for the first layer, (W2', W1) for the
last one. The LMI of `program` in (M, D, L) is positive definite iff L > 0 and its Schur complement

    S = 2 D - (M M' + D F F' D) / L > 0

so -log det of the LMI, the barrier, is -(p + q) log L - log det S: one Cholesky factorisation of order m. It is convex
in (M, D, L); at the minimum of goal + mu barrier the goal is at most mu (m + p + q) above its least value. Kinks of
relu and of losses are rounded off upwards over a width that falls with mu: what is minimised stays a majorant. Any point is a network; what it is worth is for the caller to evaluate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from certlip.repairs.convex.conic import Status
from certlip.repairs.convex.losses import smooth_relu
from certlip.repairs.convex.objective import Objective
from certlip.repairs.convex.shallow import Shallow, proposal
from certlip.solvers.lbfgs import LBFGS

Tensor: TypeAlias = torch.Tensor

STAGES = 6
_STEPS = 150
_FIRST, _LAST = 0.1, 1e-5
"""The share of the start's objective that the barrier's gap mu (m + p + q) has in the first and in the last stage."""
_WIDE, _NARROW = 0.1, 1e-4
"""The widths of kinks in the first and in the last stage, relative to typical pre-activations."""
_SETTLED = 1e-7
_ROOM = 1e-3
"""How far inside the limit the search begins, relative to it."""


def solve(
    start: Shallow, objective: Objective, stage: str, deadline: float | None = None, device: str = "cpu"
) -> tuple[Shallow, Status]:
    """A network whose majorised objective is near the least one, and how the search ended.

    stage: "R2" or "last layer". deadline: a value of time.monotonic(). device: of torch.
    """
    search = _Search(start, objective, stage, device)
    point = search.start()
    status: Status = "solved"
    reference = abs(float(search.goal(point, _NARROW)[0])) or 1.0
    for share in np.geomspace(_FIRST, _LAST, STAGES):
        mu = share * reference / search.order
        width = _NARROW * (_WIDE / _NARROW) ** (np.log(share / _LAST) / np.log(_FIRST / _LAST))
        descent = LBFGS(search.function(mu, width), point)
        point = descent.run(_STEPS, _SETTLED * reference, lambda: _late(deadline)).point
        if _late(deadline):
            status = "deadline"
            break
    return search.network(point), status


def _late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


@dataclass(frozen=True, eq=False)
class _Parts:
    """A point taken apart: M, the bias of each neuron (for the first layer), b2, D and L."""

    M: Tensor
    b1: Tensor
    b2: Tensor
    D: Tensor
    L: Tensor


class _Search:
    """The goal and its barrier as functions of one vector."""

    def __init__(self, start: Shallow, objective: Objective, stage: str, device: str):
        self._first, self._objective, self._device = stage == "R2", objective, device
        self._net = _inside(start, objective.limit)
        net = self._net
        found = proposal(net)
        L0 = float(np.sqrt(found.objective))
        T = found.multipliers / L0
        moving, fixed = (net.W1, net.W2.T) if self._first else (net.W2.T, net.W1)
        D0 = 1.0 / T if self._first else T
        self._F = self._tensor(fixed)
        self._G = self._F @ self._F.mT
        self.order = net.neurons + moving.shape[1] + fixed.shape[1]
        self._corner = self.order - net.neurons
        self._D0, self._L0, self._M0 = self._tensor(D0), L0, moving
        v = self._tensor(objective.x) @ self._tensor(net.W1).mT + self._tensor(net.b1)
        self._scale = float(v.abs().mean())
        reads = self._tensor(objective.x) if self._first else v.clamp(min=0.0)
        self._rows = [reads[s.rows] for s in objective.scores]
        self._active = [(v[s.rows] > 0) for s in objective.scores] if self._first else []
        self._K = [self._tensor(s.K) for s in objective.scores]
        self._C = [self._tensor(s.K @ net.W2) for s in objective.scores]
        self._offsets = [self._tensor(s.offset) for s in objective.scores]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=self._device)

    def start(self) -> Tensor:
        """Strictly feasible: the multipliers of the start's bound, and a little more than its L where L is free."""
        net, room = self._net, torch.ones_like(self._D0)
        L = [] if self._objective.limit is not None else [1.0 + _ROOM]
        b1 = net.b1 if self._first else np.zeros(0)
        flat = [self._tensor(np.ravel(part)) for part in (self._M0, b1, net.b2)]
        return torch.cat((*flat, room, self._tensor(np.array(L))))

    def _parts(self, point: Tensor) -> _Parts:
        net = self._net
        sizes = (self._M0.size, net.neurons if self._first else 0, net.outputs, net.neurons)
        M, b1, b2, D, L = torch.split(point, [*sizes, point.numel() - sum(sizes)])
        limit = self._objective.limit
        bound = self._L0 * L[0] if limit is None else point.new_tensor(limit)
        return _Parts(M.view(self._M0.shape), b1, b2, self._D0 * D, bound)

    def goal(self, point: Tensor, width: float) -> tuple[Tensor, _Parts]:
        """Majorised loss + penalty L."""
        parts = self._parts(point)
        total = point.new_zeros(())
        for index, offset in enumerate(self._offsets):
            g = self._majorant(index, parts, width) + offset
            total = total + self._objective.loss.smooth(g, width * self._scale)
        return total / self._objective.count + self._objective.penalty * parts.L, parts

    def _majorant(self, index: int, parts: _Parts, width: float) -> Tensor:
        bias = parts.b2 @ self._K[index].mT
        if not self._first:
            return self._rows[index] @ (parts.M @ self._K[index].mT) + bias
        v = self._rows[index] @ parts.M.mT + parts.b1
        rising, falling = self._C[index].clamp(min=0.0), (-self._C[index]).clamp(min=0.0)
        return smooth_relu(v, width * self._scale) @ rising.mT - (self._active[index] * v) @ falling.mT + bias

    def function(self, mu: float, width: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """goal + mu barrier and its gradient; infinite outside."""

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            variable = point.detach().requires_grad_()
            goal, parts = self.goal(variable, width)
            S = 2.0 * torch.diag(parts.D) - (parts.M @ parts.M.mT + parts.D[:, None] * self._G * parts.D) / parts.L
            factor, info = torch.linalg.cholesky_ex(S)
            if int(info) or not float(parts.L) > 0:
                return point.new_tensor(float("inf")), torch.zeros_like(point)
            barrier = -2.0 * factor.diagonal().log().sum() - self._corner * parts.L.log()
            value = goal + mu * barrier
            (gradient,) = torch.autograd.grad(value, variable)
            return value.detach(), gradient

        return evaluate

    def network(self, point: Tensor) -> Shallow:
        parts, net = self._parts(point), self._net
        M, b1, b2 = (part.detach().cpu().numpy() for part in (parts.M, parts.b1, parts.b2))
        return Shallow(M, b1, net.W2, b2) if self._first else Shallow(net.W1, net.b1, M.T, b2)


def _inside(net: Shallow, limit: float | None) -> Shallow:
    """The network with an L below the limit by `_ROOM`."""
    if limit is None:
        return net
    L = float(np.sqrt(proposal(net).objective))
    return net if (1.0 - _ROOM) * limit >= L else net.scaled((1.0 - _ROOM) * limit / L)
