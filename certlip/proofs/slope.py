"""A slope is a theorem too: two points show that no Lipschitz constant is smaller.

Theorem. Let balls hold the exact values f(x) and f(y), so that the entries of f(x) - f(y) have at least the sizes
r_i >= 0 left after the radii. Then every L with |Df| <= L |Dx| is at least |r| / |x - y|; all roundings go downwards.
"""

from __future__ import annotations

import sys

import numpy as np

from certlip.graph import Graph
from certlip.proofs.counterexample import is_within
from certlip.proofs.margin import output_balls
from certlip.proofs.ranges import NORMS, Region
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import UNIT, Array, down, up


@np.errstate(all="ignore")  # what overflows proves nothing
def prove_slope(graph: Graph, norm: str, x: Array, y: Array, region: Region | None = None) -> float:
    """A float at or below |f(x) - f(y)| / |x - y|, for points of shape (*input_shape,) taken as exact numbers.

    So it is at most every L with |Df| <= L |Dx|, both sides in l2 or both in linf. With a region both points must lie
    in it, and L is its bound. 0 where nothing is proved: equal points, points outside, an evaluation that overflows.
    Raises ValueError for another norm or a point of another shape.
    """
    if norm not in NORMS or not x.shape == y.shape == graph.input_shape:
        raise ValueError(f"a slope needs a norm of l2 or linf and two points of shape {graph.input_shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0
    if region is not None and not all(is_within(region.center, point, region.norm, region.eps) for point in (x, y)):
        return 0.0
    outputs = output_balls(graph, np.stack([x, y]))
    moved = outputs[0] - outputs[1]
    rise = down(np.abs(moved.mid) - moved.rad)
    rise = np.where((rise > 0) & np.isfinite(rise), rise, 0.0)
    step = (Ball.exact(x) - Ball.exact(y)).magnitude()
    above, below = _length(rise, norm)[0], _length(step, norm)[1]
    return min(max(down(above / below), 0.0), sys.float_info.max) if above > 0 and below > 0 else 0.0


def _length(sizes: Array, norm: str) -> tuple[float, float]:
    """Floats at or below, and at or above, the norm of a vector of numbers >= 0; the second may be infinite.

    Divided by a power of two, the largest entry lies in [1/2, 1): the sum of squares is at least 1/4, and what
    underflows beside it is far less than one of its n + 2 roundings.
    """
    top = float(sizes.max(initial=0.0))
    if norm == "linf" or not 0.0 < top < np.inf:
        return top, top
    exponent = int(np.frexp(top)[1])
    scaled = np.ldexp(sizes, -exponent).ravel()
    total = float(scaled @ scaled)
    slack = 2.0 * (scaled.size + 4) * UNIT
    low, high = down(np.sqrt(down(total * (1.0 - slack)))), up(np.sqrt(up(total * (1.0 + slack))))
    return min(down(np.ldexp(low, exponent)), sys.float_info.max), up(np.ldexp(high, exponent))
