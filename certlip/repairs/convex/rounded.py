"""relu with its kink rounded off, for gradients."""

from __future__ import annotations

from typing import Any

import torch


class _SmoothRelu(torch.autograd.Function):
    """With n = clamp(v, -w, w) + w in [0, 2 w]: n^2 / (4 w) + max(v - w, 0), whose derivative is n / (2 w)."""

    @staticmethod
    def forward(context: Any, v: torch.Tensor, width: float) -> torch.Tensor:
        near = v.clamp(-width, width).add_(width)
        context.save_for_backward(near)
        context.width = width
        return torch.addcmul((v - width).clamp_(min=0.0), near, near, value=0.25 / width)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (near,) = context.saved_tensors
        return gradients[0] * near * (0.5 / context.width), None


def smooth_relu(v: torch.Tensor, width: float) -> torch.Tensor:
    """Convex, nondecreasing, differentiable; relu(v) <= it <= relu(v) + width / 4, equal to it where |v| >= width.

    One function of its own, not a composition, for it is evaluated for each neuron and sample: half the passes.
    """
    return _SmoothRelu.apply(v, width)
