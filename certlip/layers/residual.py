"""Residual 1-Lipschitz layers x - 2 V' S^-1 act(S V x + b) (Meunier et al. 2022; Araujo et al. 2023).

Theorem. |V| <= 1, S a positive diagonal and the slopes of act in [0, 1] make this 1-Lipschitz.

Proof. For two inputs, act moves by D S V Dx with a diagonal D between 0 and 1, so the output moves by (I - 2 P) Dx with
P = V' S^-1 D S V = V'DV, and 0 <= P <= V'V <= I.

With V = T^-1/2 W' and S = T^1/2 these are the published layers x - 2 W T^-1 act(W'x + b), W'W <= T. S is trained: for
relu, which is positively homogeneous, it could be left out; for others it says at which scale they act. In convolutions
V is a zero-padded convolution of stride 1, S has one entry per channel and V' is the transposed convolution, which
`plain` writes as an ordinary one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from certlip.errors import UsageError
from certlip.layers.families import family
from certlip.layers.slopes import monotone_contraction


class Residual(nn.Module, ABC):
    """`weight` is V, (hidden, width, *window); `log_scale` is log S and `bias` is b, both of length hidden."""

    family_name: ClassVar[str]

    def __init__(self, shape: tuple[int, ...], activation: str | nn.Module, tight: bool, dilation: int = 1) -> None:
        super().__init__()
        self.activation = monotone_contraction(activation)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.log_scale = nn.Parameter(torch.zeros(shape[0]))
        nn.init.xavier_normal_(self.weight)
        register_parametrization(self, "weight", family(self.family_name, shape, dilation=dilation, tight=tight))

    @abstractmethod
    def up(self, x: Tensor, weight: Tensor) -> Tensor:
        """W x of a weight (hidden, width, *window)."""

    @abstractmethod
    def down(self, h: Tensor, weight: Tensor) -> Tensor:
        """W'h of the same weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight, extra = self.weight, (1,) * (self.weight.dim() - 2)
        scale, bias = (entries.reshape(-1, *extra) for entries in (self.log_scale.exp(), self.bias))
        if not extra:
            scale, bias = scale.flatten(), bias.flatten()
        return x - 2.0 * self.down(self.activation(scale * self.up(x, weight) + bias) / scale, weight)

    @torch.no_grad()
    def branch(self) -> tuple[Tensor, Tensor, Tensor]:
        """(up, bias, down) with which the layer is x + down' act(up x + bias), both weights of the shape of V."""
        extra = (1,) * (self.weight.dim() - 1)
        scale = self.log_scale.exp().reshape(-1, *extra)
        return scale * self.weight, self.bias.clone(), -2.0 / scale * self.weight

    @torch.no_grad()
    def approach(self, up: Tensor, bias: Tensor, down: Tensor) -> Self:
        """Choose the member near x + down' act(up x + bias), both weights of the shape of V; returns the layer.

        The neurons count one by one: the part d u' of the Jacobian that belongs to a neuron with the row u of `up` and
        d of `down` is matched by -2 v v', whose nearest value is v = (c u - d / (2 c)) / 2, c^2 = |d| / (2 |u|). Then
        the family's right inverse makes |V| <= 1, and S restores the pre-activations. A branch that has this form
        already is met exactly if the family, with `tight=False` where it scales, contains its V.
        """
        lengths_up, lengths_down = (rows.flatten(1).norm(dim=1) for rows in (up, down))
        live = (lengths_up > 0) & (lengths_down > 0)
        factor = torch.where(live, lengths_down / (2 * lengths_up), 1.0).sqrt()
        column = (-1, *(1,) * (up.dim() - 1))
        wanted = (factor.reshape(column) * up - down / (2 * factor.reshape(column))) / 2
        wanted = torch.where(live.reshape(column), wanted, 0.0)
        self.weight = wanted
        before, after = (rows.flatten(1).norm(dim=1) for rows in (wanted, self.weight))
        kept = (before > 0) & (after > 0)
        self.log_scale.copy_((torch.where(kept, before / after, 1.0) / factor).log())
        self.bias.copy_(bias)
        return self


class ResidualDense(Residual):
    """x - 2 V' S^-1 act(S V x + b) on vectors: V is (hidden, width), any number of axes before the last one."""

    def __init__(
        self, width: int, hidden: int | None = None, activation: str | nn.Module = "relu", *, tight: bool = True
    ) -> None:
        super().__init__((width if hidden is None else hidden, width), activation, tight)

    def up(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def down(self, h: Tensor, weight: Tensor) -> Tensor:
        return h @ weight

    @classmethod
    def from_branch(cls, up: Tensor, bias: Tensor, down: Tensor, activation: str | nn.Module = "relu") -> Self:
        """The layer near z + down act(up z + bias): up (hidden, width), bias (hidden,), down (width, hidden)."""
        if up.dim() != 2 or down.shape != up.shape[::-1]:
            raise UsageError(
                f"weights of shapes {tuple(up.shape)} and {tuple(down.shape)} are no branch; "
                "give (hidden, width) and (width, hidden)"
            )
        layer = cls(up.shape[1], up.shape[0], activation, tight=False).to(up.device, up.dtype)
        return layer.approach(up, bias, down.T)


class ResidualConv2d(Residual):
    """The same on images: V is a convolution (hidden, width, window, window) of stride 1 with `padding` zeros."""

    def __init__(
        self,
        width: int,
        hidden: int | None = None,
        window: int = 3,
        activation: str | nn.Module = "relu",
        *,
        padding: int | None = None,
        dilation: int = 1,
        tight: bool = True,
    ) -> None:
        reach = dilation * (window - 1)
        self.padding, self.dilation = reach // 2 if padding is None else padding, dilation
        if not 0 <= self.padding <= reach:
            raise UsageError(f"{padding} zeros of padding exceed the window's reach; give at most {reach}")
        super().__init__((width if hidden is None else hidden, width, window, window), activation, tight, dilation)

    def up(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=self.padding, dilation=self.dilation)

    def down(self, h: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(h, weight, padding=self.padding, dilation=self.dilation)

    @classmethod
    def from_branch(
        cls,
        up: Tensor,
        bias: Tensor,
        down: Tensor,
        activation: str | nn.Module = "relu",
        *,
        padding: int | None = None,
        dilation: int = 1,
    ) -> Self:
        """The layer near z + down * act(up * z + bias), both convolutions of stride 1 that keep the image's size.

        up: (hidden, width, window, window), with `padding`; down: (width, hidden, window, window), with the padding
        dilation (window - 1) - padding.
        """
        if up.dim() != 4 or tuple(down.shape) != (up.shape[1], up.shape[0], *up.shape[2:]):
            raise UsageError(
                f"kernels of shapes {tuple(up.shape)} and {tuple(down.shape)} are no branch; "
                "give (hidden, width, window, window) and (width, hidden, window, window)"
            )
        layer = cls(
            up.shape[1], up.shape[0], up.shape[2], activation, padding=padding, dilation=dilation, tight=False
        ).to(up.device, up.dtype)
        return layer.approach(up, bias, down.transpose(0, 1).flip(2, 3))


@final
class SLLResidualDense(ResidualDense):
    """Residual layer of the family `sll`: T_ii = sum_j |W'W|_ij q_j / q_i, q learned."""

    family_name = "sll"


@final
class AOLResidualDense(ResidualDense):
    """Residual layer of the family `aol`: T_ii = sum_j |W'W|_ij."""

    family_name = "aol"


@final
class CPLResidualDense(ResidualDense):
    """Residual layer of the family `cpl`: T = |W|^2 I (convex potential layer)."""

    family_name = "cpl"


@final
class OrthogonalResidualDense(ResidualDense):
    """Residual layer of the family `orthogonal`: W'W = T = I or, with more neurons than inputs, WW' = T = I."""

    family_name = "orthogonal"


@final
class SpectralResidualDense(ResidualDense):
    """Residual layer of the family `spectral`: T = max(1, |W|^2) I."""

    family_name = "spectral"


@final
class SLLResidualConv2d(ResidualConv2d):
    """Convolutional residual layer of the family `sll`."""

    family_name = "sll"


@final
class AOLResidualConv2d(ResidualConv2d):
    """Convolutional residual layer of the family `aol`."""

    family_name = "aol"


@final
class CPLResidualConv2d(ResidualConv2d):
    """Convolutional residual layer of the family `cpl`."""

    family_name = "cpl"


@final
class OrthogonalResidualConv2d(ResidualConv2d):
    """Convolutional residual layer of the family `orthogonal`."""

    family_name = "orthogonal"


@final
class SpectralResidualConv2d(ResidualConv2d):
    """Convolutional residual layer of the family `spectral`."""

    family_name = "spectral"


RESIDUAL_DENSE = {
    kind.family_name: kind
    for kind in (
        SLLResidualDense, AOLResidualDense, CPLResidualDense, OrthogonalResidualDense, SpectralResidualDense
    )
}  # fmt: skip
RESIDUAL_CONV2D = {
    kind.family_name: kind
    for kind in (
        SLLResidualConv2d, AOLResidualConv2d, CPLResidualConv2d, OrthogonalResidualConv2d, SpectralResidualConv2d
    )
}  # fmt: skip
"""The classes by family."""
