"""A point lies in a closed ball. What else makes it a counterexample is in `certlip.check.theorems`."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from certlip.rigor.rounding import Array


def is_within(x: Array, other: Array, norm: str, eps: Fraction) -> bool:
    """|other - x| <= eps in exact rational arithmetic (l2: the sum of squares against eps^2)."""
    if x.shape != other.shape or not (np.isfinite(x).all() and np.isfinite(other).all()):
        return False
    moved = np.flatnonzero(x != other)
    steps = (Fraction(a) - Fraction(b) for a, b in zip(other.flat[moved].tolist(), x.flat[moved].tolist(), strict=True))
    if norm == "linf":
        return all(abs(step) <= eps for step in steps)
    return sum((step * step for step in steps), Fraction(0)) <= eps * eps
