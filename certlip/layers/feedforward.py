"""Dense layers and convolutions W x + b with |W| <= 1: torch's own, their weight parametrised by a family."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from certlip.layers.families import family
from certlip.layers.geometry import Sizes


class OneLipschitzDense(nn.Linear):
    """x -> W x + b, 1-Lipschitz in l2. `weight` is W; `parametrizations.weight.original` is what is trained.

    Assigning to `weight` starts the training there, or at the nearby member that the family's right inverse gives.
    """

    family_name: ClassVar[str]

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, tight: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        register_parametrization(self, "weight", family(self.family_name, self.weight.shape, tight=tight))


class OneLipschitzConv2d(nn.Conv2d):
    """The zero-padded convolution of torch, 1-Lipschitz in l2 on images of every size."""

    family_name: ClassVar[str]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: Sizes,
        *,
        stride: Sizes = 1,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        tight: bool = True,
    ) -> None:
        super().__init__(inputs, outputs, window, stride, padding, dilation, groups, bias)
        weight = family(
            self.family_name, self.weight.shape, stride=stride, dilation=dilation, groups=groups, tight=tight
        )
        register_parametrization(self, "weight", weight)


@final
class SLLDense(OneLipschitzDense):
    """Dense layer of the family `sll`."""

    family_name = "sll"


@final
class AOLDense(OneLipschitzDense):
    """Dense layer of the family `aol`."""

    family_name = "aol"


@final
class CPLDense(OneLipschitzDense):
    """Dense layer of the family `cpl`."""

    family_name = "cpl"


@final
class OrthogonalDense(OneLipschitzDense):
    """Dense layer of the family `orthogonal`."""

    family_name = "orthogonal"


@final
class SpectralDense(OneLipschitzDense):
    """Dense layer of the family `spectral`."""

    family_name = "spectral"


@final
class SLLConv2d(OneLipschitzConv2d):
    """Convolution of the family `sll`."""

    family_name = "sll"


@final
class AOLConv2d(OneLipschitzConv2d):
    """Convolution of the family `aol`."""

    family_name = "aol"


@final
class CPLConv2d(OneLipschitzConv2d):
    """Convolution of the family `cpl`."""

    family_name = "cpl"


@final
class OrthogonalConv2d(OneLipschitzConv2d):
    """Convolution of the family `orthogonal`."""

    family_name = "orthogonal"


@final
class SpectralConv2d(OneLipschitzConv2d):
    """Convolution of the family `spectral`."""

    family_name = "spectral"


class UnitRows(nn.Module):
    """A matrix with its rows divided by their lengths."""

    def forward(self, raw: Tensor) -> Tensor:
        """Rows of length 1; a row of zeros stays."""
        return F.normalize(raw, dim=1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@final
class NormalizedLinear(nn.Linear):
    """Last layer x -> W x + b with rows of length 1 (Singla, Feizi 2022). As a whole it is **not** 1-Lipschitz.

    After 1-Lipschitz layers each output is, and the difference of the outputs i and j moves at most |w_i - w_j| <= 2
    times as far as the input: certificates are pairwise. `margin_loss` takes `pairwise()` as its `lipschitz`.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        register_parametrization(self, "weight", UnitRows())

    def pairwise(self) -> Tensor:
        """|w_i - w_j|, (outputs, outputs), differentiable apart from the diagonal, which is 0."""
        weight = self.weight
        squares = (2.0 - 2.0 * weight @ weight.T).clamp_min(0.0)
        off = ~torch.eye(len(weight), dtype=torch.bool, device=weight.device)
        return torch.where(off, torch.where(off, squares, 1.0).clamp_min(1e-12).sqrt(), 0.0)


DENSE = {kind.family_name: kind for kind in (SLLDense, AOLDense, CPLDense, OrthogonalDense, SpectralDense)}
CONV2D = {kind.family_name: kind for kind in (SLLConv2d, AOLConv2d, CPLConv2d, OrthogonalConv2d, SpectralConv2d)}
"""The classes by family."""
