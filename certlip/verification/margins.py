"""The inequalities of `certlip.check.theorems` on the floats that a search works with.

Nothing here decides whether a claim is accepted: verdicts are certified on these numbers, which are rounded to the safe
side, and the checker decides each of them again on exact ones.
"""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np

from certlip.check import theorems
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, down


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
    return margin == np.inf or theorems.keeps(Fraction(margin), Fraction(bound), eps)


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
