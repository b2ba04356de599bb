"""AOL and SLL: scaled by diagonal dominance of the Gram matrix (Prach, Lampert 2022; Araujo et al. 2023).

Theorem. Let B_ij = sum_u |(K K')[i, j, u]| over all lags, q > 0 and T_i = (1/q_i) sum_j B_ij q_j. Then K K' <= T, so
|T^-1/2 K| <= 1.

Proof. For each pair (i, j, u) of positions, 2 |x y| <= x^2 q_j / q_i + y^2 q_i / q_j. Summing |(K K')[i, j, u]| times
this over all pairs leaves sum_i x_i^2 sum_j B_ij q_j / q_i, B being symmetric. `geometry` extends it to zero padding
and strides. A larger T is as good.

The *input side* states the same of K': K'K <= T, so |K T^-1/2| <= 1. The side with fewer channels (times phases of a
stride) has fewer terms off the diagonal and is the default.

The set. T^-1/2 K = W means that B(W) p = p for a vector p > 0: one takes K = diag(p / q) W. So AOL (q = 1) and SLL have
the same members, those with Perron root 1 (in each connected part). What q changes is the way through them: scaling a
row of K also changes how all others are weighted, q does not. In general `right_inverse` returns diag(p / q) W with the
Perron vector p of B(W), whose image is W / sqrt(root).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from certlip.layers.geometry import Geometry, correlations
from certlip.layers.weight import Weight, safe_floor

Side = Literal["input", "output"]
_POWER_STEPS = 2000
_CLOSE = 1e-9  # nearer to the Perron root 1 the Perron vector serves, at a relative cost of that size
_LEAST = 1e-6  # entries of the Perron vector relative to the largest: rows of raw weights do not vanish


class Dominance(Weight):
    """`forward(raw)` = T^-1/2 raw (side "output") or raw T^-1/2 (side "input"); `tight=False`: with max(T, 1)."""

    def __init__(self, geometry: Geometry, tight: bool = True, side: Side | None = None) -> None:
        super().__init__(geometry, tight)
        self.side: Side = side or ("output" if geometry.outputs <= geometry.inputs else "input")

    @abstractmethod
    def q(self, like: Tensor) -> Tensor:
        """The positive weights of the channels, (groups, channels of the side), of the tensor's type and device."""

    def metric(self, raw: Tensor) -> Tensor:
        """T, (groups, channels of the side), positive."""
        kernels = self._sided(raw)
        q = self.q(kernels)
        sums = (correlations(kernels) @ q.unsqueeze(-1)).squeeze(-1) / q
        return sums.clamp_min(safe_floor(sums) if self.tight else 1.0)

    def forward(self, raw: Tensor) -> Tensor:
        self._check(raw)
        return self._scaled(raw, self.metric(raw).rsqrt())

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        self._check(weight)
        sums = correlations(self._sided(weight)).double()
        q = self.q(sums)
        root, vector = _perron(sums)
        if self.tight:
            return self._scaled(weight, (vector / q).to(weight.dtype))
        shrink = root.max().clamp_min(1.0).rsqrt()  # the same for all groups, those within the bound included
        weight, sums, root = weight * shrink.to(weight.dtype), sums * shrink**2, root * shrink**2
        factors = []
        for part, top, p, weights in zip(sums, root, vector, q, strict=True):
            # c >= q and c >= B c, with equality in one of the two for each row: T = max(1, c (B c) / q^2) = c^2 / q^2
            inside = top < 1 - _CLOSE
            factors.append(_least_fixed_point(part, weights) if inside else p * (weights / p).max())
        return self._scaled(weight, (torch.stack(factors) / q).to(weight.dtype))

    def _sided(self, weight: Tensor) -> Tensor:
        kernels = self.geometry.fold(weight)
        return kernels if self.side == "output" else kernels.transpose(1, 2)

    def _scaled(self, weight: Tensor, factors: Tensor) -> Tensor:
        kernels = self.geometry.fold(weight)
        extra = (1,) * len(self.geometry.window)
        groups, channels = factors.shape
        shape = (groups, channels, 1, *extra) if self.side == "output" else (groups, 1, channels, *extra)
        return self.geometry.unfold(kernels * factors.reshape(shape))


@final
class AOL(Dominance):
    """Almost-orthogonal layers: q = 1."""

    name: ClassVar[str] = "aol"
    summary: ClassVar[str] = "rows scaled by the sums of the absolute Gram matrix (Prach, Lampert 2022)"

    def q(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape[0], like.shape[1])


@final
class SLL(Dominance):
    """SDP-based Lipschitz layers: q = exp(log_q) is learned, in convolutions too, where a channel has one."""

    name: ClassVar[str] = "sll"
    summary: ClassVar[str] = "the same with a learned weight q for each channel (Araujo et al. 2023)"

    def __init__(self, geometry: Geometry, tight: bool = True, side: Side | None = None) -> None:
        super().__init__(geometry, tight, side)
        channels = geometry.outputs if self.side == "output" else geometry.inputs
        self.log_q = nn.Parameter(torch.zeros(geometry.groups, channels))

    def q(self, like: Tensor) -> Tensor:
        return self.log_q.to(like.dtype).exp()


def _perron(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue and a positive, nearly Perron, vector of each symmetric matrix with entries >= 0.

    The power method on B + root I converges without oscillation. A row of zeros keeps its 1.
    """
    root = torch.linalg.eigvalsh(sums)[:, -1:].clamp_min(0.0)
    vector = torch.ones_like(sums[..., 0])
    live = sums.diagonal(dim1=-2, dim2=-1) > 0
    for _ in range(_POWER_STEPS):
        image = torch.where(live, (sums @ vector.unsqueeze(-1)).squeeze(-1), vector * root)
        spread = torch.where(vector > _LEAST, (image - root * vector).abs() / vector, 0.0)
        if bool((spread <= 1e-12 * root).all()):
            break
        vector = image + root * vector
        vector = (vector / vector.amax(-1, keepdim=True)).clamp_min(_LEAST)
    return root.squeeze(-1), vector


def _least_fixed_point(sums: Tensor, q: Tensor) -> Tensor:
    """The least c with c_i = max(q_i, (B c)_i) for every i, which exists where the Perron root is below 1.

    Policy iteration: rows that ask for more than q take (B c)_i as an equation; their number never falls.
    """
    raised = torch.zeros_like(q, dtype=torch.bool)
    c = q.clone()
    while True:
        more = raised | (sums @ c > c * (1 + 1e-12))
        if bool((more == raised).all()):
            return c
        raised, rest = more, ~more
        system = torch.eye(int(raised.sum()), dtype=sums.dtype, device=sums.device) - sums[raised][:, raised]
        c[raised] = torch.linalg.solve(system, sums[raised][:, rest] @ q[rest])
