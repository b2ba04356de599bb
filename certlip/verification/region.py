"""The set that a query is about, for searches: points of it, steps in it, the way back into it."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from certlip.proofs.query import Domain
from certlip.rigor.rounding import Array

if TYPE_CHECKING:
    import torch

FEW = 16
"""Up to so many entries that are not fixed, points can fill the set."""

_NARROW = 2.0**-16  # of an entry's size: a box no wider needs float64
_CORNERS = 10  # up to so many entries, all corners are tried
_INSIDE = 1.0 - 2.0**-20  # of the radius of a ball, so that rounding leaves points inside


def float_type(domain: Domain) -> str:
    """The type that tells the points of the box apart."""
    width, size = domain.high - domain.low, np.maximum(np.abs(domain.low), np.abs(domain.high))
    return "float64" if ((width > 0) & (width < _NARROW * size)).any() else "float32"


class Region:
    """The points of a box, and of a ball if the domain has one, as rows of a matrix (N, entries)."""

    def __init__(self, domain: Domain, dtype: str, device: str, seed: int):
        import torch

        low, high = (end.astype(np.float64).ravel() for end in (domain.low, domain.high))
        largest = float(np.finfo(dtype).max) / 4
        low, high = _inside(np.clip(low, -largest, largest), np.clip(high, -largest, largest), np.dtype(dtype))
        kind = getattr(torch, dtype)
        self.low, self.high = (torch.tensor(end, dtype=kind, device=device) for end in (low, high))
        self.ball = None if domain.center is None else torch.tensor(domain.center.ravel(), dtype=kind, device=device)
        self.radius = min(domain.radius, largest) * _INSIDE
        self.centre = 0.5 * (self.low + self.high) if self.ball is None else self.ball.clamp(self.low, self.high)
        half = 0.5 * (self.high - self.low)
        self.half = half if self.ball is None else half.clamp(max=self.radius)
        self.metric = self.half if self.ball is None else (self.half > 0).to(kind)
        self.free = torch.nonzero(self.half > 0).ravel()
        self.kind, self.device = kind, device
        self.random = torch.Generator().manual_seed(seed)

    def spread(self, count: int) -> torch.Tensor:
        """Points all over the set: the centre, then a sequence of low discrepancy in few dimensions, random in many.

        Random entries average out, so that half of those points have their entries around a level of their own.
        """
        import torch

        size = max(count - 1, 0)
        dimension = len(self.free)
        if 0 < dimension <= FEW:
            scrambling = int(torch.randint(2**31, (), generator=self.random))
            engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=scrambling)
            shares = torch.zeros(size, len(self.low), dtype=self.kind, device=self.device)
            shares[:, self.free] = 2.0 * engine.draw(size).to(self.device, self.kind) - 1.0
        else:
            level = 2.0 * self.uniform(size, 1) - 1.0
            level[::2] = 0.0
            around = 1.0 - level.abs() * self.uniform(size, 1)
            shares = (level + around * (2.0 * self.uniform(size, len(self.low)) - 1.0)).clamp(-1.0, 1.0)
        points = self.project(self.centre + self.half * shares * (self._bulge if self.ball is not None else 1.0))
        return torch.cat([self.centre[None], points])

    @property
    def _bulge(self) -> float:
        """Makes random points of a cube as long as the ball's radius."""
        return sqrt(3.0 / max(len(self.free), 1))

    def corners(self, count: int) -> torch.Tensor:
        """All corners of a box of few dimensions; of another the lowest, the highest and random ones, for each of which
        an entry is high with a probability of its own."""
        import torch

        dimension = len(self.free)
        if 2**dimension <= min(count, 2**_CORNERS):
            bits = torch.arange(2**dimension)[:, None] >> torch.arange(dimension)
            signs = (2 * (bits & 1) - 1).to(self.device, self.kind)
        else:
            share = torch.linspace(0.0, 1.0, count, device=self.device, dtype=self.kind)[:, None]
            signs = torch.where(self.uniform(count, dimension) < share, 1.0, -1.0).to(self.kind)
        shares = torch.zeros(len(signs), len(self.low), dtype=self.kind, device=self.device)
        shares[:, self.free] = signs
        return self.project(self.centre + self.half * shares)

    def near(self, points: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Each point moved at random by at most this share of the set's size."""
        return self.project(points + share * self.half * (2.0 * self.uniform(*points.shape) - 1.0))

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers in [0, 1), the same on every device."""
        import torch

        return torch.rand(*shape, generator=self.random).to(self.device, self.kind)

    def step(self, direction: torch.Tensor) -> torch.Tensor:
        """The directions (entries about one or below) as the longest steps: to the faces, or a radius long."""
        if self.ball is None:
            return direction * self.half
        length = direction.norm(dim=1, keepdim=True)
        return direction * (self.radius / length.clamp(min=1e-30))

    def project(self, points: torch.Tensor) -> torch.Tensor:
        """The points moved into the set. The second step keeps what the first reached where the center is in the box:
        no entry then moves away from it."""
        if self.ball is not None:
            offset = points - self.ball
            length = offset.norm(dim=1, keepdim=True)
            points = self.ball + offset * (self.radius / length.clamp(min=1e-30)).clamp(max=1.0)
        return points.clamp(self.low, self.high)


def _inside(low: Array, high: Array, kind: np.dtype) -> tuple[Array, Array]:
    """The box rounded inwards to the type; entries where nothing is left become their nearest number."""
    near_low, near_high = low.astype(kind), high.astype(kind)
    up, down = kind.type(np.inf), kind.type(-np.inf)
    least = np.where(near_low.astype(np.float64) < low, np.nextafter(near_low, up), near_low)
    greatest = np.where(near_high.astype(np.float64) > high, np.nextafter(near_high, down), near_high)
    empty = least > greatest
    middle = (0.5 * (low + high)).astype(kind)
    return np.where(empty, middle, least), np.where(empty, middle, greatest)
