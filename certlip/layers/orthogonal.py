"""Orthogonal weights: W W' = I or W'W = I, as polar factors.

Dense: the polar factor of M is its nearest matrix with orthonormal rows (columns, where it is taller than wide). It is
computed from a singular value decomposition M = U S V' as U V'; its derivative divides by sums s_i + s_j, never by
differences, so equal singular values, of which orthogonal weights have nothing else, do no harm.

Convolution: let M be the kernel as a matrix (out, in / groups * taps). Each output position applies M to a patch, and a
position of the input lies in at most `overlap` patches, so |W x|^2 = sum_t |M patch_t|^2 <= |M|^2 overlap |x|^2 for any
zero padding. `forward` returns M / sqrt(overlap) with M orthogonal. Where the stride is no smaller than the window,
patches are disjoint, the overlap is 1 and nothing is lost; at stride 1 the layer may contract by up to sqrt(taps).
"""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from certlip.layers.geometry import Geometry
from certlip.layers.weight import Weight


class _Polar(torch.autograd.Function):
    """U V' of M = U S V', batched, wide matrices only.

    With W = U V', H = U S U': dM = dH W + H dW. As W W' = I, O = dW W' is skew and H O + O H = dM W' - W dM'; off the
    rows of W, dW = H^-1 dM. The adjoint of this is `backward`.
    """

    @staticmethod
    def forward(context: Any, matrix: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        polar = left @ right
        context.save_for_backward(left, values, polar)
        return polar

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        left, values, polar = context.saved_tensors
        least = torch.finfo(values.dtype).eps * values[..., :1] + torch.finfo(values.dtype).tiny
        values = torch.maximum(values, least)
        inner = gradient @ polar.mT
        turned = left.mT @ inner @ left / (values.unsqueeze(-1) + values.unsqueeze(-2))
        turned = left @ (turned - turned.mT) @ left.mT
        rest = gradient - inner @ polar
        return turned @ polar + left @ ((left.mT @ rest) / values.unsqueeze(-1))


def polar_factor(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, whichever are fewer; batched, differentiable once."""
    if matrix.shape[-2] <= matrix.shape[-1]:
        return _Polar.apply(matrix)
    return _Polar.apply(matrix.mT).mT


@final
class Orthogonal(Weight):
    """`forward(raw)`: the polar factor of the weight as a matrix, over sqrt(overlap) in a convolution."""

    name: ClassVar[str] = "orthogonal"
    summary: ClassVar[str] = "orthonormal rows or columns; in convolutions over the overlap of the patches"

    def __init__(self, geometry: Geometry, tight: bool = True) -> None:
        super().__init__(geometry, tight=True)

    def forward(self, raw: Tensor) -> Tensor:
        self._check(raw)
        matrices = raw.reshape(self.geometry.groups, self.geometry.outputs, -1)
        return polar_factor(matrices).reshape(raw.shape) / sqrt(self.geometry.overlap)

    def right_inverse(self, weight: Tensor) -> Tensor:
        self._check(weight)
        return weight
