"""Robustness of one sample from Lipschitz bounds, and the radius that they certify.

Theorem. Let m = g(x) > 0 for the exact network g (a difference of logits, or the logit whose sign decides) and
|g(x') - g(x)| <= L |x' - x|. If m > L eps then g(x') > 0 for every |x' - x| <= eps. Hence the class is kept on the
closed ball of radius eps when this holds against every other class, and on the open ball of radius min m / L.

m is a *lower* bound from an enclosure of the exact outputs; comparisons with eps are exact rational arithmetic; ties
and non-positive margins certify nothing.
"""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np

from certlip.graph import Graph
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import REAL, Array, down


def output_balls(graph: Graph, x: Array) -> Ball:
    """Enclosures of the exact outputs, flattened: (N, outputs), for inputs (N, *input_shape) taken as exact numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        ball = graph.enclose(Ball.exact(x), REAL)
    known = np.isfinite(ball.mid) & np.isfinite(ball.rad)  # an evaluation that overflowed says nothing
    return Ball(np.where(known, ball.mid, 0.0), np.where(known, ball.rad, np.inf)).reshape(len(x), -1)


def label_margins(outputs: Ball, label: int) -> Array:
    """Lower bounds on f_label - f_k for one sample (outputs of shape (m,)); the entry of the label itself is +inf.

    With one output the two classes are decided by its sign: a single margin, f for label 1 and -f for label 0.
    """
    low, high = outputs.lower(), outputs.upper()
    if outputs.mid.size == 1:
        return low if label == 1 else -high
    margins = down(low[label] - high)
    margins[label] = np.inf
    return margins


def is_certified(margin: float, bound: Fraction | float, eps: Fraction) -> bool:
    """margin > bound * eps, decided exactly. False for NaN, infinite bounds and non-positive margins."""
    if not (margin > 0 and 0 <= bound < float("inf")):
        return False
    return margin == np.inf or Fraction(margin) > Fraction(bound) * eps


def certified_radius(margin: float, bound: float) -> float:
    """A float below margin / bound: every |x' - x| < radius keeps g positive. 0 where nothing is certified."""
    if not (margin > 0 and 0 <= bound < float("inf")):
        return 0.0
    if bound == 0.0 or margin == np.inf:
        return float("inf")
    exact = Fraction(margin) / Fraction(bound)
    radius = min(float(margin) / float(bound), sys.float_info.max)
    while Fraction(radius) > exact:
        radius = down(radius)
    return max(radius, 0.0)
