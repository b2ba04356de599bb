"""Many descents in one batch, each with its own clause, loss, rule and step size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, pi
from typing import TYPE_CHECKING

from certlip.verification.losses import KINDS, Clauses
from certlip.verification.region import Region

if TYPE_CHECKING:
    import torch

_STEPS = (1.0, 0.3, 0.1, 0.03)  # first step, as a share of the set
_MOMENTUM = 0.75
_DECAY = 0.99
_LAST = 0.01  # the last step, as a share of the first


def descend(
    function: Callable[[torch.Tensor], torch.Tensor],
    region: Region,
    clauses: Clauses,
    starts: torch.Tensor,
    targets: torch.Tensor,
    steps: int,
    reach: float = 1.0,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The points of every step with their gaps (N, clauses).

    targets: for each row the clause that it makes hold, -1 for the one nearest to it. Half of the rows follow signs
    of gradients with momentum, half the rule of Adam. reach scales all steps.
    """
    import torch

    rows = torch.arange(len(starts), device=starts.device)
    size = reach * torch.tensor(_STEPS, device=starts.device, dtype=starts.dtype)[rows // 2 % len(_STEPS)][:, None]
    kind = (rows // (2 * len(_STEPS))) % KINDS
    x, mean, square = starts, torch.zeros_like(starts), torch.zeros_like(starts)
    weight = None
    for step in range(steps):
        x = x.detach().requires_grad_()
        g = function(x)
        gaps = clauses.gaps(g.detach())
        yield x.detach(), gaps
        if not g.requires_grad:  # constant
            return
        if weight is None:
            weight = 4.0 ** (region.uniform(*g.shape) - 0.5)
            weight[kind == 0] = 1.0
        clause = torch.where(targets < 0, gaps.argmin(1), targets)
        (slope,) = torch.autograd.grad(clauses.loss(g, clause, kind, weight).sum(), x)
        slope = torch.nan_to_num(slope) * region.metric
        slope = slope / slope.abs().amax(1, keepdim=True).clamp(min=1e-30)
        mean = _MOMENTUM * mean + (1.0 - _MOMENTUM) * slope
        square = _DECAY * square + (1.0 - _DECAY) * slope * slope
        seen = 1.0 - _DECAY ** (step + 1)
        adaptive = mean / ((square / seen).sqrt() + 1e-12)
        signs = slope if region.ball is not None else torch.sign(mean)
        direction = torch.where((rows % 2 == 0)[:, None], signs, adaptive)
        pace = _LAST + (1.0 - _LAST) * 0.5 * (1.0 + cos(pi * step / steps))
        x = region.project(x.detach() - pace * size * region.step(direction))
