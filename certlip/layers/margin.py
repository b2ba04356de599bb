"""A loss that asks for margins: cross-entropy of logits whose rivals are raised (Tsuzuku et al. 2018)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from certlip.errors import UsageError


def margin_loss(
    logits: Tensor,
    target: Tensor,
    lipschitz: float | Tensor = 1.0,
    radius: float = 0.25,
    temperature: float = 0.25,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of (f + shift) / temperature, where every rival k of the label y is raised by L_yk radius.

    L_yk radius is what f_y - f_k may lose within an l2 ball of that radius. lipschitz: a bound L of the whole network,
    then L_yk = sqrt(2) L, as |e_y - e_k| = sqrt(2); or a matrix of pairwise bounds (classes, classes), for a last layer
    whose whole is no contraction (`NormalizedLinear.pairwise`). logits: (N, classes); target: (N,) labels. A small
    temperature stops asking once the margin is there.
    """
    if temperature <= 0 or radius < 0:
        raise UsageError(f"temperature {temperature} and radius {radius} make no loss; give > 0 and >= 0")
    if isinstance(lipschitz, Tensor) and lipschitz.dim():
        raised = lipschitz[target] * radius
    else:
        raised = sqrt(2.0) * lipschitz * radius * torch.ones_like(logits)
    rivals = 1 - F.one_hot(target, logits.shape[1]).to(logits.dtype)
    return F.cross_entropy((logits + raised * rivals) / temperature, target, reduction=reduction)
