"""Where a weight acts: dense, or a convolution with stride, dilation and groups, seen as plain stride-1 kernels.

Every bound on a convolution in this room is about the infinite grid. Let K be the convolution there, E the embedding of
the image, filled up with zeros, and R the choice of the outputs that exist; the layer is W = R K E. As |E| = |R| = 1,

    |W| <= |K| ,   W W' <= R K K' R' ,   W'W <= E' K'K E ,

for every image and every amount of zero padding. A diagonal T that is constant over the positions of a channel passes
through R and E, so K K' <= T implies W W' <= T, and K'K <= T implies W'W <= T.

On the infinite grid strides and dilations are exact changes of coordinates: output t reads position s t + d a through
tap a. (1) A common divisor of s and d only thins the positions that are read. (2) At s = 1 the positions fall apart
into d interleaved grids, each with d = 1. (3) Otherwise the dilation is written out as zeros, and a stride s is a
stride 1 over s times as many channels, one for each phase of the position. A weight therefore *is* a tensor of shape
(groups, outputs, inputs * phases, *window) of stride-1 kernels; a dense one has no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd, prod

import torch
from torch import Tensor
from torch.nn import functional as F

from certlip.errors import UsageError

Sizes = int | Sequence[int]
_CORRELATIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True)
class Geometry:
    """shape: (out, in), or (out, in / groups, *window) with one to three axes of space; UsageError for others."""

    shape: tuple[int, ...]
    stride: Sizes = 1
    dilation: Sizes = 1
    groups: int = 1
    strides: tuple[int, ...] = field(init=False, repr=False)
    dilations: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        axes = len(self.shape) - 2
        if not 0 <= axes <= 3 or min(self.shape) < 1:
            raise UsageError(
                f"a weight of shape {self.shape} is neither dense nor a convolution; "
                "give (out, in) or (out, in / groups, *window) with one to three axes of space"
            )
        if self.groups < 1 or self.shape[0] % self.groups or (not axes and self.groups != 1):
            raise UsageError(f"{self.groups} groups do not divide {self.shape[0]} outputs; dense layers have one group")
        strides, dilations = (_per_axis(sizes, axes) for sizes in (self.stride, self.dilation))
        common = [gcd(s, d) for s, d in zip(strides, dilations, strict=True)]
        strides = tuple(s // c for s, c in zip(strides, common, strict=True))
        dilations = tuple(1 if s == 1 else d // c for s, d, c in zip(strides, dilations, common, strict=True))
        object.__setattr__(self, "strides", strides)
        object.__setattr__(self, "dilations", dilations)

    @property
    def window(self) -> tuple[int, ...]:
        return self.shape[2:]

    @property
    def outputs(self) -> int:
        """Outputs of a group, per position."""
        return self.shape[0] // self.groups

    @property
    def inputs(self) -> int:
        """Inputs of a group, per position of the output: channels times phases."""
        return self.shape[1] * prod(self.strides)

    @property
    def overlap(self) -> int:
        """How many (output position, tap) pairs read one position of the input, at most.

        In one axis: the taps a with d a = position modulo s. As d and s have no common divisor these are every s-th
        tap, ceil(window / s) of them at most.
        """
        return prod(-(-k // s) for k, s in zip(self.window, self.strides, strict=True))

    def fold(self, weight: Tensor) -> Tensor:
        """The stride-1 kernels (groups, outputs, inputs * phases, *window) of a weight; differentiable."""
        kernel = weight.reshape(self.groups, self.outputs, self.shape[1], *self.window)
        if not self.window or all(s == 1 for s in self.strides):
            return kernel
        axes = len(self.window)
        extents = self._extents()
        written = kernel.new_zeros(*kernel.shape[:3], *(n * s for n, s in zip(extents, self.strides, strict=True)))
        written[self._taps()] = kernel
        split = [size for pair in zip(extents, self.strides, strict=True) for size in pair]
        phases_first = [0, 1, 2, *(4 + 2 * axis for axis in range(axes)), *(3 + 2 * axis for axis in range(axes))]
        parts = written.reshape(*kernel.shape[:3], *split).permute(phases_first)
        return parts.reshape(*kernel.shape[:2], self.inputs, *extents)

    def unfold(self, kernels: Tensor) -> Tensor:
        """The weight whose kernels, apart from entries that no tap writes, are these; the inverse of `fold`."""
        if not self.window or all(s == 1 for s in self.strides):
            return kernels.reshape(self.shape)
        axes = len(self.window)
        parts = kernels.reshape(self.groups, self.outputs, self.shape[1], *self.strides, *self._extents())
        mixed = [0, 1, 2, *(index for axis in range(axes) for index in (3 + axes + axis, 3 + axis))]
        sizes = (n * s for n, s in zip(self._extents(), self.strides, strict=True))
        written = parts.permute(mixed).reshape(self.groups, self.outputs, self.shape[1], *sizes)
        return written[self._taps()].reshape(self.shape)

    def _extents(self) -> tuple[int, ...]:
        """The folded window."""
        reach = (d * (k - 1) + 1 for k, d in zip(self.window, self.dilations, strict=True))
        return tuple(-(-n // s) for n, s in zip(reach, self.strides, strict=True))

    def _taps(self) -> tuple:
        """Index of the taps among the zeros that write out the dilation."""
        taps = (slice(0, d * (k - 1) + 1, d) for k, d in zip(self.window, self.dilations, strict=True))
        return (..., *taps)


def correlations(kernels: Tensor) -> Tensor:
    """sum_u |(K K')[i, j, u]| over all lags u between positions, of shape (groups, outputs, outputs), symmetric.

    (K K')[i, j, u] = sum_{c, t} K[i, c, t] K[j, c, t + u]; a dense weight has the lag 0 alone. kernels: as `fold`
    returns them; those of K' are `kernels.transpose(1, 2)`, up to the sign of u.
    """
    groups, outputs, inputs, *window = kernels.shape
    if not window:
        return (kernels @ kernels.transpose(1, 2)).abs()
    images = kernels.transpose(0, 1).reshape(outputs, groups * inputs, *window)
    filters = kernels.reshape(groups * outputs, inputs, *window)
    found = _CORRELATIONS[len(window)](images, filters, padding=[k - 1 for k in window], groups=groups)
    return found.abs().reshape(outputs, groups, outputs, -1).sum(-1).transpose(0, 1)


def _per_axis(sizes: Sizes, axes: int) -> tuple[int, ...]:
    per_axis = (sizes,) * axes if isinstance(sizes, int) else tuple(sizes)
    if len(per_axis) != axes or any(size < 1 for size in per_axis):
        raise UsageError(f"strides or dilations {sizes} do not fit {axes} axes of space; give each a positive one")
    return per_axis


def spectrum(kernels: Tensor, sides: Sequence[int]) -> Tensor:
    """K(w) = sum_t K[t] exp(-i w.t) on a grid of `sides` frequencies, half of them, of shape (..., outputs, inputs).

    Real kernels: K(-w) is the conjugate of K(w), which has the same singular values.
    """
    axes = tuple(range(3, kernels.dim()))
    if not axes:
        return kernels
    return torch.fft.rfftn(kernels, s=tuple(sides), dim=axes).movedim((1, 2), (-2, -1))
