"""A sample that the global bounds leave open, tried with bounds on its own ball."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.local import local_bound
from certlip.proofs.ranges import Region
from certlip.properties import Output
from certlip.rigor.rounding import Array, down
from certlip.verification.margins import certified_radius, is_certified


def bounds_on_ball(
    graph: Graph, x: Array, norm: str, eps: Fraction, margins: Mapping[Output, float], deadline: float | None
) -> tuple[dict[Output, Bound] | None, bool]:
    """A local bound for every output under which its margin at x holds on the ball of radius eps around x, or None.

    The second value is False where lack of time decided that. Put the least likely output first: one that is not
    excluded leaves the sample open, and no other needs to be tried.
    """
    if not all(margin > 0 for margin in margins.values()):
        return None, True
    region, found = Region(x, eps, norm), {}
    for output, margin in margins.items():
        enough = certified_radius(margin, region.radius) if region.radius > 0 else None  # margin / eps
        bound = local_bound(graph, output, region, norm, deadline, enough)
        if not (bound.proved and is_certified(margin, bound.value, eps)):
            return None, bound.details.get("status") != "deadline"
        found[output] = bound
    return found, True


def radius_within(eps: Fraction) -> float:
    """The float below or at eps: how far bounds on a ball certify."""
    nearest = float(eps)
    return nearest if Fraction(nearest) <= eps else down(nearest)
