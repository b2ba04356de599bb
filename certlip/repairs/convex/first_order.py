"""R2 and the last layer for sizes at which a conic solver takes minutes: L-BFGS on smoothed majorants and a barrier.

Both programs have a moving factor M (m, p) and a fixed one F (m, q): (W1, W2') for the first layer, (W2', W1) for the
last one. The LMI of `program` in (M, D, L) is positive definite iff L > 0 and its Schur complement

    S = 2 D - (M M' + D F F' D) / L > 0

so -log det of the LMI, the barrier, is -(p + q) log L - log det S: one Cholesky factorisation of order m. It is convex
in (M, D, L); at the minimum of goal + mu barrier the goal is at most mu (m + p + q) above its least value. Kinks of
relu and of losses are rounded off upwards over a width that falls with mu: what is minimised stays a majorant. Any
point is a network; what it is worth is for the caller to evaluate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from certlip.lipschitz.threads import threads_for
from certlip.repairs.convex.conic import Status
from certlip.repairs.convex.objective import Objective
from certlip.repairs.convex.rounded import smooth_relu
from certlip.repairs.convex.shallow import Shallow, lipschitz, multipliers
from certlip.solvers.lbfgs import LBFGS

Tensor: TypeAlias = torch.Tensor

_SHARES = (0.1, 0.015, 2e-3, 2e-4)
"""The barrier's gap mu (m + p + q) in each stage, relative to the start's objective."""

_WIDTHS = (0.05, 0.01, 3e-3, 1e-3)
"""The width of kinks in each stage, relative to typical pre-activations."""

_STEPS, _SETTLED = 300, 1e-7
"""The most steps of a stage, and the gain of a step, relative to the start's objective, at which it has settled."""

_ROOM, _BELOW = 0.1, 0.01
"""How far above its least value L begins where it is free, how far below the limit where it is not, relative to it."""

_ENTRIES = 100_000
"""Pre-activations in a block of rows: larger tensors leave the cache and cost a page fault per page."""


def solve(
    start: Shallow, objective: Objective, stage: str, deadline: float | None = None, device: str = "cpu"
) -> Iterator[tuple[Shallow, Status]]:
    """A network after each value of mu, the last one's majorised objective near the least, and how the search goes.

    stage: "R2" or "last layer". deadline: a value of time.monotonic(). Each mu takes at most half of what is left:
    steps are longest while the barrier is felt from far, and the last mu, which frees them of it, has its turn.
    device: of torch.
    """
    with threads_for(start.neurons):
        search = _Search(start, objective, stage, device)
        point = search.start()
        reference = search.goal(point, _WIDTHS[-1]) or 1.0
    for share, width in zip(_SHARES, _WIDTHS, strict=True):
        is_last = share == _SHARES[-1]
        until = deadline if deadline is None or is_last else (time.monotonic() + deadline) / 2
        with threads_for(start.neurons):
            descending = LBFGS(search.function(share * reference / search.order, width), point)
            descent = descending.run(_STEPS, _SETTLED * reference, partial(_late, until))
        point = descent.point
        status: Status = "solved" if is_last and descent.settled else "inaccurate"
        yield search.network(point), "deadline" if _late(deadline) else status
        if _late(deadline):
            return


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


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows of one group of scores. reads: inputs, or features for the last layer; K W2 = rising - falling."""

    reads: Tensor
    active: Tensor
    K: Tensor
    rising: Tensor
    falling: Tensor
    offset: Tensor


class _Search:
    """The goal and its barrier as functions of one vector."""

    def __init__(self, start: Shallow, objective: Objective, stage: str, device: str):
        self._first, self._objective, self._device = stage == "R2", objective, device
        self._net = _inside(start, objective.limit)
        net = self._net
        found = multipliers(net)
        L0, T = found.lipschitz, found.T / found.lipschitz
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
        self._blocks = []
        for scores in objective.scores:
            K, C = self._tensor(scores.K), self._tensor(scores.K @ net.W2)
            for part in np.array_split(np.arange(len(scores.rows)), 1 + len(scores.rows) * net.neurons // _ENTRIES):
                rows = scores.rows[part]
                signs = C.clamp(min=0.0), (-C).clamp(min=0.0)
                offset = self._tensor(scores.offset[part])
                self._blocks.append(_Block(reads[rows], (v[rows] > 0).double(), K, *signs, offset))

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

    def loss(self, block: _Block, parts: _Parts, width: float) -> Tensor:
        """The block's share of the majorised loss."""
        width *= self._scale
        g = parts.b2 @ block.K.mT + block.offset
        if self._first:
            v = block.reads @ parts.M.mT + parts.b1
            g = g + smooth_relu(v, width) @ block.rising.mT - (block.active * v) @ block.falling.mT
        else:
            g = g + block.reads @ (parts.M @ block.K.mT)
        return self._objective.loss.smooth(g, width) / self._objective.count

    def barrier(self, parts: _Parts) -> Tensor:
        """-log det of the LMI; infinite where it is not positive definite."""
        S = 2.0 * torch.diag(parts.D) - (parts.M @ parts.M.mT + parts.D[:, None] * self._G * parts.D) / parts.L
        factor, info = torch.linalg.cholesky_ex(S)
        if int(info) or float(parts.L.detach()) <= 0:
            return S.new_tensor(float("inf"))
        return -2.0 * factor.diagonal().log().sum() - self._corner * parts.L.log()

    def goal(self, point: Tensor, width: float) -> float:
        """Majorised loss + penalty L."""
        parts = self._parts(point)
        loss = sum(float(self.loss(block, parts, width)) for block in self._blocks)
        return loss + self._objective.penalty * float(parts.L)

    def function(self, mu: float, width: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """goal + mu barrier and its gradient; infinite outside."""

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            variable = point.detach().requires_grad_()
            parts = self._parts(variable)
            barrier = self.barrier(parts)
            if not bool(torch.isfinite(barrier)):
                return barrier, torch.zeros_like(point)
            total = mu * barrier + self._objective.penalty * parts.L
            (gradient,) = torch.autograd.grad(total, variable)
            for block in self._blocks:  # one after the other, so that what is kept for the gradient stays in the cache
                loss = self.loss(block, self._parts(variable), width)
                gradient += torch.autograd.grad(loss, variable)[0]
                total = total.detach() + loss.detach()
            return total.detach(), gradient

        return evaluate

    def network(self, point: Tensor) -> Shallow:
        parts, net = self._parts(point), self._net
        M, b1, b2 = (part.detach().cpu().numpy() for part in (parts.M, parts.b1, parts.b2))
        return Shallow(M, b1, net.W2, b2) if self._first else Shallow(net.W1, net.b1, M.T, b2)


def _inside(net: Shallow, limit: float | None) -> Shallow:
    """The network with an L below the limit by `_BELOW`."""
    if limit is None:
        return net
    L = lipschitz(net)
    return net if (1.0 - _BELOW) * limit >= L else net.scaled((1.0 - _BELOW) * limit / L)
