"""What a family of 1-Lipschitz weights is: a map onto a set, a way back, membership and random members."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from certlip.errors import UsageError
from certlip.layers.geometry import Geometry


class Weight(nn.Module, ABC):
    """A torch parametrisation: `forward` maps any tensor of the geometry's shape to a weight W with |W| <= 1.

    |W| is the operator norm from l2 to l2 of the layer that W belongs to, for every image and every amount of zero
    padding where it is a convolution. The inequality holds in real arithmetic; what torch computes exceeds it by
    rounding, which only a proof about the stored numbers (`certlip.bound`) takes into account. Subclasses are final,
    one per family. `torch.nn.utils.parametrize.register_parametrization(layer, "weight", family)` applies one.

    tight: True for the published form, in which a weight is always scaled up to its bound; False for one that leaves
    alone what is within the bound already.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, geometry: Geometry, tight: bool = True) -> None:
        super().__init__()
        self.geometry = geometry
        self.tight = tight

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """The weight of the family that `raw` stands for, differentiable. raw: any tensor of the geometry's shape."""

    @abstractmethod
    def right_inverse(self, weight: Tensor) -> Tensor:
        """A tensor that `forward` maps to the given weight if the family contains it, else close to it.

        The families that scale return its multiple with the family's bound 1, so that a network of positively
        homogeneous activations stays the same up to a factor; the orthogonal one returns the nearest member.
        """

    @torch.no_grad()
    def contains(self, weight: Tensor, tolerance: float = 1e-6) -> bool:
        """Whether `forward` has this value, up to `tolerance` in each entry relative to the largest one (or 1)."""
        self._check(weight)
        distance = (self(self.right_inverse(weight)) - weight).abs().max()
        return bool(distance <= tolerance * max(1.0, float(weight.abs().max())))

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """A random member: the image of independent normal entries, drawn on the CPU."""
        raw = torch.randn(self.geometry.shape, generator=generator, dtype=dtype)
        return self(raw.to(next((parameter.device for parameter in self.parameters()), raw.device)))

    def _check(self, tensor: Tensor) -> None:
        if tuple(tensor.shape) != self.geometry.shape:
            raise UsageError(
                f"a tensor of shape {tuple(tensor.shape)} is no weight of this family; give {self.geometry.shape}"
            )

    def extra_repr(self) -> str:
        return f"{self.geometry}, tight={self.tight}"


def safe_floor(values: Tensor) -> float:
    """The smallest square of a norm that is divided by: below it rounding to subnormal numbers would decide.

    To raise a divisor is always sound, as it makes the weight smaller.
    """
    info = torch.finfo(values.dtype)
    return info.tiny / info.eps
