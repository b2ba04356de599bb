"""Steep slopes between sampled points: how far a proved bound can be from the true Lipschitz constant.

At a point the steepest direction is found by the power method for |J|: u -> v, a unit vector with <J'u, v> = |J'u|
(dual norm), then u -> the unit functional that sees Jv best. In l2 this is the usual power iteration; in l-infinity v
holds the signs of J'u and u picks the largest entry of Jv, and the value never falls. J'u comes from the reverse sweep
of the graph; Jv, for which it has no forward sweep, from a central difference of values, where an error costs a little
steepness and nothing else. Points climb by random moves and by moves along v, for the gradient of |J| with respect to
the point is zero for piecewise linear networks. All this only proposes: the number is that of `certlip.proofs.slope`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod

import numpy as np
from threadpoolctl import threadpool_limits

from certlip.graph import Graph
from certlip.proofs.ranges import Region
from certlip.proofs.slope import prove_slope
from certlip.properties.numbers import decimal_down
from certlip.rigor.rounding import Array

_POINTS = 32
_ROUNDS = 100
_POWER_STEPS = 8
_SCREENED = 15  # times as many points are looked at first
_SCALES = (-2.0, 3.0)
"""Decimal exponents of the size of random points."""
_STEPS = tuple(10.0**-k for k in range(8))
"""Half distances of the pairs that are tried, relative to the size of the point: the smallest stay within a linear
piece, the largest lose least to rounding."""
_FAR = 1e30
_ENTRIES = 2**23  # floats that the values of all points together may fill


@dataclass(frozen=True, eq=False)
class LowerBound:
    """value <= |f(x) - f(y)| / |x - y|, proved, so no Lipschitz bound (on the region, if given) can be below `value`.

    It is 0 where nothing was found. points: how many points the search looked at.
    """

    value: float
    x: Array
    y: Array
    seconds: float
    points: int
    region: Region | None = None

    def __repr__(self) -> str:
        return f"a slope of {decimal_down(self.value):.10g} between two of {self.points} sampled points, proved"


def sampled_lower(
    graph: Graph,
    norm: str,
    data: Array | None = None,
    deadline: float | None = None,
    seed: int = 0,
    region: Region | None = None,
) -> LowerBound:
    """The steepest proved slope found before `deadline` (a `time.monotonic` value), both sides in `norm`.

    data: points (N, *input_shape) to begin at, beside zero and random ones. region: both points lie in it. The same
    arguments give the same points unless the deadline cuts the search short. One BLAS thread, as for proofs.
    """
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):  # what overflows is not steep
        return _Search(graph, norm, deadline, seed, region).run(data)


class _Search:
    def __init__(self, graph: Graph, norm: str, deadline: float | None, seed: int, region: Region | None):
        self._graph, self._norm, self._region = graph, norm, region
        self._random = np.random.default_rng(seed)
        self._began, self._deadline = time.monotonic(), deadline
        self._batch = min(_POINTS, max(1, _ENTRIES // sum(map(prod, graph.shapes))))
        self._points = 0

    def run(self, data: Array | None) -> LowerBound:
        origin = np.zeros(self._graph.input_shape)
        best = (0.0, origin, origin)
        if not self._late(1.0):
            for x, y in self._pairs(*self._climb(*self._starts(data))):
                best = max(best, (prove_slope(self._graph, self._norm, x, y, self._region), x, y), key=lambda b: b[0])
                if self._late(1.0):
                    break
        return LowerBound(*best, time.monotonic() - self._began, self._points, self._region)

    def _late(self, share: float) -> bool:
        """Whether this share of the time is spent."""
        if self._deadline is None:
            return False
        return time.monotonic() >= self._began + share * (self._deadline - self._began)

    def _starts(self, data: Array | None) -> tuple[Array, Array]:
        """The steepest of many points, and their functionals: data, and random ones of all scales."""
        count, size = (1 + _SCREENED) * self._batch, self._graph.output_size
        x = self._random.standard_normal((count, *self._graph.input_shape))
        if self._region is None:
            x *= 10.0 ** self._random.uniform(*_SCALES, count)[_axes(x)]
            if data is not None and len(data):
                chosen = data[np.unique(np.linspace(0, len(data) - 1, count // 2).astype(int))]
                x[1 : 1 + len(chosen)] = chosen
            x[0] = 0.0
        else:
            x = self._inside(self._region.center + x * self._reach() * np.linspace(0.0, 1.0, count)[_axes(x)])
        u = self._random.standard_normal((count, *self._graph.output_shape))
        if self._norm == "linf":
            u = np.eye(size)[np.arange(count) % size].reshape(u.shape)
        height = np.zeros(count)
        for first in range(0, count, self._batch):
            part = slice(first, first + self._batch)
            height[part], _, u[part] = self._steepest(x[part], u[part], 2)
            if self._late(0.3):
                break
        chosen = np.argsort(-height, kind="stable")[: self._batch]
        return x[chosen], u[chosen]

    def _climb(self, x: Array, u: Array) -> tuple[Array, Array]:
        """Points and directions of steep ascent, best first."""
        height, v, u = self._steepest(x, u, _POWER_STEPS)
        for _ in range(_ROUNDS):
            if self._late(0.6):
                break
            size = self._sizes(x) * 10.0 ** self._random.uniform(-2.0, 0.5, len(x))[_axes(x)]
            move = np.where(self._random.random(len(x))[_axes(x)] < 0.5, self._random.standard_normal(x.shape), v)
            trial = self._inside(x + move * size * self._random.choice((-1.0, 1.0), len(x))[_axes(x)])
            now, direction, functional = self._steepest(trial, u, 2)
            better = now > height
            x[better], v[better], u[better] = trial[better], direction[better], functional[better]
            height[better] = now[better]
            worst, top = np.argsort(height)[[0, -1]]  # the least steep point gives way to a copy of the steepest
            x[worst], v[worst], u[worst], height[worst] = x[top], v[top], u[top], height[top]
        order = np.argsort(-height)
        return x[order], v[order]

    def _steepest(self, x: Array, u: Array, steps: int) -> tuple[Array, Array, Array]:
        """|J'u|, the direction v that attains it and u, after steps of the power method at each point."""
        self._points += len(x)
        for step in range(steps):
            slope = self._graph.gradient(x, u)
            height, v = _norming(slope, self._norm)
            if self._graph.output_size == 1 or step == steps - 1 or self._late(0.8):
                break
            reach = self._difference(x)
            u = _functional(self._graph(x + reach * v) - self._graph(x - reach * v), u, self._norm)
        return np.where(np.isfinite(height), height, 0.0), v, u

    def _pairs(self, x: Array, v: Array) -> list[tuple[Array, Array]]:
        """The steepest pair of each length, the most promising first."""
        x, v = x[:4], v[:4]
        found = []
        for step in _STEPS:
            reach = step * self._sizes(x)
            ends = self._inside(x - reach * v, 1.0), self._inside(x + reach * v, 1.0)
            rise, run = (_length(a - b, self._norm) for a, b in (map(self._graph, ends), ends))
            slope = np.where(np.isfinite(rise) & (run > 0), rise / run, 0.0)
            top = int(np.argmax(slope))
            found.append((float(slope[top]), ends[0][top], ends[1][top]))
        return [(a, b) for _, a, b in sorted(found, key=lambda pair: -pair[0])]

    def _sizes(self, x: Array) -> Array:
        """How far a move of size one goes, for each point."""
        if self._region is not None:
            return np.full((len(x), *(1,) * (x.ndim - 1)), self._reach())
        return (1.0 + np.abs(x).reshape(len(x), -1).max(1))[_axes(x)]

    def _difference(self, x: Array) -> Array:
        """Half the step of central differences: within the region, but not so small that rounding decides."""
        size = (1.0 + np.abs(x).reshape(len(x), -1).max(1))[_axes(x)]
        return np.clip(self._sizes(x), 1e-9 * size, 1e-6 * size)

    def _reach(self) -> float:
        return 0.0 if self._region is None else min(self._region.radius, _FAR)

    def _inside(self, x: Array, share: float = 1.0 - 1e-3) -> Array:
        """The points drawn into this share of the region, a hair less to allow for rounding."""
        if self._region is None:
            return x
        step = x - self._region.center
        reach = share * self._reach() * (1.0 - 1e-9)
        if self._region.norm == "linf":
            return self._region.center + np.clip(step, -reach, reach)
        length = np.maximum(_length(step, "l2"), 1e-300)
        return self._region.center + step * np.minimum(1.0, reach / length)[_axes(step)]


def _axes(x: Array) -> tuple:
    """Index that gives a vector over the batch the axes of x."""
    return (slice(None), *(None,) * (x.ndim - 1))


def _length(batch: Array, norm: str) -> Array:
    flat = np.abs(batch).reshape(len(batch), -1)
    return flat.max(1) if norm == "linf" else np.sqrt((flat * flat).sum(1))


def _norming(slope: Array, norm: str) -> tuple[Array, Array]:
    """The dual norm of each slope, and the unit vector along which it is attained."""
    if norm == "linf":
        return np.abs(slope).reshape(len(slope), -1).sum(1), np.where(slope < 0, -1.0, 1.0)
    length = _length(slope, "l2")
    return length, slope / np.maximum(length, 1e-300)[_axes(slope)]


def _functional(image: Array, before: Array, norm: str) -> Array:
    """The unit functional that sees each image best; the one before where there is no image."""
    length = _length(image, norm)
    if norm == "linf":
        flat = image.reshape(len(image), -1)
        rows = np.arange(len(flat)), np.abs(flat).argmax(1)
        best: Array = np.zeros(flat.shape)
        best[rows] = np.where(flat[rows] < 0, -1.0, 1.0)
    else:
        best = image / np.maximum(length, 1e-300)[_axes(image)]
    return np.where(((length > 0) & np.isfinite(length))[_axes(image)], best.reshape(image.shape), before)
