"""CPL and spectral normalisation: a weight divided by an upper bound of its operator norm (Meunier et al. 2022).

T = |W|^2 I is the simplest of the diagonals. For a dense weight the norm is the largest singular value.
For stride-1 kernels on the infinite grid (see `geometry`) it is sup_w sigma(K(w)), w over all frequencies. On a grid of
N > k - 1 frequencies per axis,

    sup_w sigma(K(w)) <= max_grid sigma(K(w)) / prod_axis cos(pi (k - 1) / (2 N)) ,

because u*K(w)v is, up to a phase, a trigonometric polynomial of degree (k - 1) / 2 in each coordinate (Ehlich, Zeller
1964). The power method is used nowhere: it bounds from below.
"""

from __future__ import annotations

from math import ceil, cos, pi, prod, sqrt
from typing import ClassVar, final

import torch
from torch import Tensor

from certlip.layers.geometry import Geometry, spectrum
from certlip.layers.weight import Weight, safe_floor

_SLACK = 0.01
"""How much larger than the largest value on the grid the bound of a convolution is."""


def norm_bound(kernels: Tensor) -> Tensor:
    """An upper bound of |K| on the infinite grid, within `_SLACK` of it, up to rounding; differentiable, a scalar."""
    window = kernels.shape[3:]
    axes = sum(k > 1 for k in window)
    sides = [max(k, ceil(pi * (k - 1) / (2 * sqrt(2 * _SLACK / axes)))) if k > 1 else 1 for k in window]
    correction = prod(cos(pi * (k - 1) / (2 * n)) for k, n in zip(window, sides, strict=True))
    matrices = spectrum(kernels, sides).flatten(0, -3).contiguous()
    wide = matrices.shape[-2] <= matrices.shape[-1]
    gram = matrices @ matrices.mH if wide else matrices.mH @ matrices
    square = _largest_eigenvalue(gram)
    return square.clamp_min(safe_floor(square)).sqrt() / correction


def _largest_eigenvalue(grams: Tensor) -> Tensor:
    """The largest eigenvalue of all matrices G >= 0 of a batch, those left out that cannot have it.

    With s = tr G^64, s / n <= lambda^64 <= s: a matrix is out if its s is below the largest s / n, with a margin for
    rounding. What underflows is small.
    """
    if len(grams) > 1:
        with torch.no_grad():
            traces = grams.diagonal(dim1=-2, dim2=-1).real.sum(-1)
            powers = grams / traces.max().clamp_min(safe_floor(traces))
            for _ in range(5):
                powers = powers @ powers
                powers = powers / powers.diagonal(dim1=-2, dim2=-1).real.sum(-1).max().clamp_min(safe_floor(traces))
            sums = powers.abs().square().sum((-2, -1))
            kept = ~(sums < 0.9 * sums.max() / grams.shape[-1])
        grams = grams[kept]
    return torch.linalg.eigvalsh(grams)[..., -1].max()


@final
class CPL(Weight):
    """`forward(raw)` = raw / |raw|, a weight of norm 1; `tight=False`: raw / max(1, |raw|), which is `Spectral`."""

    name: ClassVar[str] = "cpl"
    summary: ClassVar[str] = "weights of spectral norm 1 (Meunier et al. 2022)"

    def forward(self, raw: Tensor) -> Tensor:
        self._check(raw)
        bound = norm_bound(self.geometry.fold(raw))
        return raw / (bound if self.tight else bound.clamp_min(1.0))

    def right_inverse(self, weight: Tensor) -> Tensor:
        self._check(weight)
        return weight


@final
class Spectral(Weight):
    """`forward(raw)` = raw / max(1, |raw|): every weight of norm at most 1, each of which stands for itself."""

    name: ClassVar[str] = "spectral"
    summary: ClassVar[str] = "weights of spectral norm at most 1"

    def __init__(self, geometry: Geometry, tight: bool = False) -> None:
        super().__init__(geometry, tight=False)

    def forward(self, raw: Tensor) -> Tensor:
        self._check(raw)
        return raw / norm_bound(self.geometry.fold(raw)).clamp_min(1.0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        self._check(weight)
        return weight

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """A random member, of uniformly distributed norm."""
        member = super().sample(generator, dtype)
        return member * torch.rand((), generator=generator, dtype=dtype)
