"""Convolutions of any spatial dimension, and their transposes, as loops over kernel taps.

A tap (u, v) of the kernel is one matrix product between channels; forward gathers, backward scatters. Both walk the
same slices, so the transpose is the transpose by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np

from certlip.graph.kinds import Affine, Shape
from certlip.ops.convolution_norms import channel_dominance_norm, frequency_norm
from certlip.rigor.ball import Ball
from certlip.rigor.norms import dominance_norm, spectral_norm
from certlip.rigor.rounding import Array

_DENSE_SIDE = 1200  # a shorter side up to this is bounded exactly, through the dense matrix ...
_DENSE_ENTRIES = 12_000_000  # ... when the matrix has no more entries than this


@dataclass(frozen=True, eq=False)
class Conv(Affine):
    """Correlation of one image (1, channels, *space) with a kernel (out, in / groups, *window), zero padded.

    size: (channels, *space) of the image. pads: (before, after) for each spatial axis.
    """

    size: Shape = ()
    strides: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    space: Shape = field(init=False)

    def __post_init__(self) -> None:
        out, per_group = self.weight.shape[:2]
        if self.size[0] != per_group * self.groups or out % self.groups:
            raise ValueError(
                f"a kernel of shape {self.weight.shape} in {self.groups} groups does not fit an input of shape "
                f"{self.size}"
            )
        space = tuple(
            (n + sum(pad) - dilation * (k - 1) - 1) // stride + 1
            for n, pad, dilation, k, stride in zip(
                self.size[1:], self.pads, self.dilations, self.window, self.strides, strict=True
            )
        )
        if min(space) < 1:
            raise ValueError(f"the kernel {self.window} is larger than the padded input {self.size[1:]}")
        object.__setattr__(self, "space", space)

    @property
    def window(self) -> Shape:
        return self.weight.shape[2:]

    @property
    def domain(self) -> Shape:
        return (1, *self.size)

    @property
    def codomain(self) -> Shape:
        return (1, self.weight.shape[0], *self.space)

    @property
    def terms(self) -> int:
        return prod(self.weight.shape[1:])

    @property
    def terms_back(self) -> int:
        return self.weight.shape[0] // self.groups * prod(self.window)

    def _taps(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Each kernel position with the slices of the padded input that it multiplies."""
        for tap in product(*(range(k) for k in self.window)):
            starts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            yield tap, tuple(
                slice(a, a + s * (n - 1) + 1, s)
                for a, s, n in zip(starts, self.strides, self.space, strict=True)
            )

    def _grouped(self, weight: Array, tap: tuple[int, ...]) -> Array:
        out, per_group = weight.shape[:2]
        here: tuple[Any, ...] = (slice(None), slice(None), *tap)
        return weight[here].reshape(self.groups, out // self.groups, per_group)

    def forward(self, weight: Array, x: Array) -> Array:
        padded = np.pad(x.reshape(len(x), *self.size), ((0, 0), (0, 0), *self.pads))
        result = np.zeros((len(x), self.groups, weight.shape[0] // self.groups, prod(self.space)))
        for tap, window in self._taps():
            patch = padded[(slice(None), slice(None), *window)].reshape(
                len(x), self.groups, weight.shape[1], -1
            )
            result += self._grouped(weight, tap) @ patch
        return result.reshape(len(x), *self.codomain)

    def backward(self, weight: Array, y: Array) -> Array:
        padded = np.zeros(
            (len(y), self.size[0], *(n + sum(pad) for n, pad in zip(self.size[1:], self.pads, strict=True)))
        )
        images = y.reshape(len(y), weight.shape[0], *self.space)
        used = _support(images)  # rows of a backward pass begin as single pixels
        extent = tuple(part.stop - part.start for part in used)
        grouped = images[(slice(None), slice(None), *used)]
        grouped = grouped.reshape(len(y), self.groups, weight.shape[0] // self.groups, prod(extent))
        for tap, window in self._taps():
            part = np.swapaxes(self._grouped(weight, tap), -1, -2) @ grouped
            here = (
                slice(w.start + w.step * u.start, w.start + w.step * (u.stop - 1) + 1, w.step)
                for w, u in zip(window, used, strict=True)
            )
            view = padded[(slice(None), slice(None), *here)]
            view += part.reshape(len(y), self.size[0], *extent)
        inside = tuple(slice(a, a + n) for n, (a, _) in zip(self.size[1:], self.pads, strict=True))
        return padded[(slice(None), slice(None), *inside)].reshape(len(y), *self.domain)

    @property
    def is_small(self) -> bool:
        sides = prod(self.domain), prod(self.codomain)
        return min(sides) <= _DENSE_SIDE and prod(sides) <= _DENSE_ENTRIES

    @cached_property
    def l2_norm(self) -> float:
        """True padding and stride through the dense matrix when small, else over the frequencies of a torus."""
        return spectral_norm(self.matrix()) if self.is_small else frequency_norm(self)

    @cached_property
    def dominance_norm(self) -> float:
        per_channel = channel_dominance_norm(self)
        return min(per_channel, dominance_norm(self.matrix())) if self.is_small else per_channel


def _support(images: Array) -> tuple[slice, ...]:
    """The smallest block of pixels outside of which all images are zero; one pixel if they are zero everywhere."""
    nonzero, blocks = (images != 0).any((0, 1)), []  # NaN is not zero
    for axis in range(nonzero.ndim):
        along = np.flatnonzero(nonzero.any(tuple(other for other in range(nonzero.ndim) if other != axis)))
        blocks.append(slice(int(along[0]), int(along[-1]) + 1) if along.size else slice(0, 1))
    return tuple(blocks)


@dataclass(frozen=True, eq=False)
class ConvTranspose(Affine):
    """The transpose of a convolution, with a bias of its own; shares the weight ball with `conv`."""

    conv: Conv = None  # type: ignore[assignment]

    @staticmethod
    def of(conv: Conv, bias: Ball) -> ConvTranspose:
        return ConvTranspose(conv.weight, bias, np.abs(bias.mid), conv)

    @property
    def domain(self) -> Shape:
        return self.conv.codomain

    @property
    def codomain(self) -> Shape:
        return self.conv.domain

    @property
    def terms(self) -> int:
        return self.conv.terms_back

    @property
    def terms_back(self) -> int:
        return self.conv.terms

    def forward(self, weight: Array, x: Array) -> Array:
        return self.conv.backward(weight, x)

    def backward(self, weight: Array, y: Array) -> Array:
        return self.conv.forward(weight, y)

    @cached_property
    def l2_norm(self) -> float:
        return self.conv.l2_norm

    @cached_property
    def dominance_norm(self) -> float:
        return self.conv.dominance_norm
