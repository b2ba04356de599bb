"""Where the values of a network lie while its input stays in a ball or box.

Every value is enclosed twice, and the two are intersected at each activation: entry by entry (a box), and as a zonotope

    centre + sum_i image_i dx_i + sum_j error_j e_j + rest,     |dx| <= eps in the region's norm, |e_j| <= 1,

which remembers how entries depend on the same input: affine layers lose nothing, and an l2 ball stays one up to the
first activation (a row moves by eps times its dual norm). An activation is phi(v) = k v + remainder with k the slope of
the chord; the range of the remainder over the known range of v becomes new errors (Singh et al., 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import Add, Concat
from certlip.rigor.ball import Ball, between, concatenate
from certlip.rigor.rounding import REAL, Array, inflate, up

NORMS = ("l2", "linf")

_CELLS = 8  # pieces of an activation's interval on which its remainder is bounded
_ENTRIES = 2**24  # floats that images and errors may fill; beyond, errors are added up in `rest`


@dataclass(frozen=True, eq=False)
class Region:
    """{x : |x - center| <= eps}, convex and closed. Raises ValueError for an unknown norm or a negative eps."""

    center: Array
    eps: Fraction
    norm: str

    def __post_init__(self) -> None:
        center = np.array(self.center, dtype=np.float64)  # a copy, read only: what is proved of a region is remembered
        center.flags.writeable = False
        object.__setattr__(self, "center", center)
        object.__setattr__(self, "eps", Fraction(self.eps))
        if self.norm not in NORMS or self.eps < 0 or not np.isfinite(self.center).all():
            raise ValueError("a region has a finite center, a norm of l2 or linf, and eps >= 0")

    def __str__(self) -> str:
        return f"the {self.norm} ball of radius {self.eps} around a point"

    @property
    def radius(self) -> float:
        """A float that is at least eps."""
        try:
            nearest = float(self.eps)
        except OverflowError:
            return float("inf")
        return nearest if Fraction(nearest) >= self.eps else up(nearest)


@dataclass(frozen=True, eq=False)
class _Reach:
    """A value over the region; batches of one. images: by source, 0 for the input (one row for each of its entries)
    and k for the errors of the k-th node."""

    box: Ball
    centre: Ball
    images: Mapping[int, Ball]
    rest: Array


@np.errstate(all="ignore")  # what overflows is unknown, and its range infinite
def activation_ranges(graph: Graph, region: Region) -> dict[int, tuple[Array, Array]]:
    """(low, high), by position of each pointwise node, with its arguments in [low, high] for every x of the region.

    Shapes are those of the node; ends may be infinite.
    """
    if region.center.shape != graph.input_shape:
        raise ValueError(f"the region's center has shape {region.center.shape}, the input {graph.input_shape}")
    return _Walk(graph, region).ranges


class _Walk:
    """One pass through the graph, which fills `ranges`."""

    def __init__(self, graph: Graph, region: Region):
        self.ranges: dict[int, tuple[Array, Array]] = {}
        self._region, self._position = region, -1
        self._rows = _ENTRIES // sum(map(prod, graph.shapes))  # how many images fit
        centre, size = Ball.exact(region.center[None]), graph.input_size
        radius = np.full(centre.shape, region.radius)
        images, rest = {}, radius
        if self._fits(size):
            images, rest = {0: Ball.exact(np.eye(size).reshape(size, *graph.input_shape))}, np.zeros(centre.shape)
        graph.fold(_Reach(Ball(centre.mid, radius), centre, images, rest), self._step)

    def _fits(self, rows: int) -> bool:
        """Whether there is room for so many more images; if so, it is taken."""
        if rows > self._rows:
            return False
        self._rows -= rows
        return True

    def _step(self, node: Node, given: Sequence[_Reach]) -> _Reach:
        self._position += 1
        operator = node.operator
        if isinstance(operator, Affine):
            return _affine(operator, given[0])
        if isinstance(operator, Pointwise):
            return self._pointwise(operator, given[0])
        if isinstance(operator, (Add, Concat)):
            return _joined(operator, given)
        boxes = [between(*self._interval(reach)) for reach in given]
        return _boxed(operator.enclose(REAL, *boxes))

    def _interval(self, reach: _Reach) -> tuple[Array, Array]:
        """Both enclosures of a value, intersected."""
        lengths = [self._length(source, image) for source, image in reach.images.items()]
        radius = inflate(sum(lengths, reach.rest + reach.centre.rad), len(lengths) + 1)
        (low, high), (least, greatest) = _ends(Ball(reach.centre.mid, radius)), _ends(reach.box)
        return np.maximum(low, least), np.minimum(high, greatest)

    def _length(self, source: int, image: Ball) -> Array:
        """How far the value moves while only this source does: eps times the dual norm, or the sum of errors."""
        sizes, rows = image.magnitude(), len(image.mid)
        if source == 0 and self._region.norm == "l2":
            root = up(np.sqrt(inflate((sizes * sizes).sum(0, keepdims=True), rows + 1)))
            return inflate(self._region.radius * root, 1)
        total = inflate(sizes.sum(0, keepdims=True), rows)
        return inflate(self._region.radius * total, 1) if source == 0 else total

    def _pointwise(self, operator: Pointwise, reach: _Reach) -> _Reach:
        low, high = self._interval(reach)
        self.ranges[self._position] = low[0], high[0]
        curve = _Curve(operator, low, high)
        box, slope = curve.remainder(np.zeros(low.shape)), curve.chord()
        remainder = curve.remainder(slope)
        images = {source: image * Ball.exact(slope) for source, image in reach.images.items()}
        centre = reach.centre * Ball.exact(slope) + Ball.exact(remainder.mid)
        rest = inflate(np.abs(slope) * reach.rest, 1)
        active = np.flatnonzero(remainder.rad)
        if not np.isfinite(remainder.rad).all() or not self._fits(active.size):
            return _Reach(box, centre, images, inflate(rest + remainder.rad, 1))
        errors = np.zeros((active.size, remainder.rad.size))
        errors[np.arange(active.size), active] = remainder.rad.ravel()[active]
        if active.size:
            images[self._position + 1] = Ball.exact(errors.reshape(-1, *low.shape[1:]))
        return _Reach(box, centre, images, rest)


class _Curve:
    """phi over [low, high], cut into cells; between their ends its slopes bound it."""

    def __init__(self, operator: Pointwise, low: Array, high: Array):
        shares = np.linspace(0.0, 1.0, _CELLS + 1).reshape(-1, *(1,) * (low.ndim - 1))
        zero = np.zeros((1, *low.shape[1:]))  # the kink of most activations
        points = np.sort(np.clip(np.concatenate([low + (high - low) * shares, zero]), low, high), 0)
        points[0], points[-1] = low[0], high[0]
        self._points, self._values = points, operator.exact_value(points)
        self._slopes = operator.slopes_on(low, high)
        a, b = operator.slopes_on(points[:-1], points[1:])
        # both lines with the slopes a, b through both ends of a cell bound phi: at most this far from the chord
        self._sag = inflate((b - a) * (points[1:] - points[:-1]) * 0.25, 4)

    def chord(self) -> Array:
        """A float near the slope between the ends of the interval, within its slopes."""
        slope = (self._values.mid[-1] - self._values.mid[0]) / (self._points[-1] - self._points[0])
        a, b = self._slopes
        return np.where(np.isfinite(slope), np.clip(slope, a, b), 0.5 * (a + b))

    def remainder(self, slope: Array) -> Ball:
        """Ball around phi(v) - slope v for all v in [low, high]."""
        ends = self._values - Ball.exact(slope) * Ball.exact(self._points)
        low, high = ends.lower(), ends.upper()
        least = (np.minimum(low[1:], low[:-1]) - self._sag).min(0, keepdims=True)
        greatest = (np.maximum(high[1:], high[:-1]) + self._sag).max(0, keepdims=True)
        least, greatest = np.nextafter(least, -np.inf), up(greatest)
        return between(least, greatest)


def _ends(ball: Ball) -> tuple[Array, Array]:
    """Floats around the ball; infinite where an evaluation overflowed."""
    known = np.isfinite(ball.mid) & np.isfinite(ball.rad)
    return np.where(known, ball.lower(), -np.inf), np.where(known, ball.upper(), np.inf)


def _affine(operator: Affine, reach: _Reach) -> _Reach:
    images = {source: operator.linear_image(image, REAL) for source, image in reach.images.items()}
    rest = operator.spread(reach.rest) if reach.rest.any() else np.zeros((1, *operator.codomain))
    return _Reach(operator.enclose(REAL, reach.box), operator.enclose(REAL, reach.centre), images, rest)


def _joined(operator: Add | Concat, given: Sequence[_Reach]) -> _Reach:
    """Branches move together where they share a source; one that lacks it does not move with it."""
    box = operator.enclose(REAL, *(reach.box for reach in given))
    centre = operator.enclose(REAL, *(reach.centre for reach in given))
    rest = operator.spread(*(reach.rest for reach in given))
    images = {}
    for source in sorted(set().union(*(reach.images for reach in given))):
        rows = next(len(reach.images[source].mid) for reach in given if source in reach.images)
        parts = [reach.images.get(source, Ball.exact(np.zeros((rows, *reach.centre.shape[1:])))) for reach in given]
        axis = operator.axis + 1 if isinstance(operator, Concat) else None
        images[source] = sum(parts[1:], parts[0]) if axis is None else concatenate(parts, axis)
    return _Reach(box, centre, images, rest)


def _boxed(box: Ball) -> _Reach:
    """All that is known is the box."""
    return _Reach(box, Ball.exact(box.mid), {}, np.broadcast_to(box.rad, box.shape))
