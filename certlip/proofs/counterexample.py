"""A falsification is a theorem too: the point lies in the closed ball and the exact network violates there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from certlip.graph import Graph
from certlip.proofs.margin import output_balls
from certlip.rigor.rounding import Array, down


def is_within(x: Array, other: Array, norm: str, eps: Fraction) -> bool:
    """|other - x| <= eps in exact rational arithmetic (l2: the sum of squares against eps^2)."""
    if x.shape != other.shape or not (np.isfinite(x).all() and np.isfinite(other).all()):
        return False
    moved = np.flatnonzero(x != other)
    steps = (Fraction(a) - Fraction(b) for a, b in zip(other.flat[moved].tolist(), x.flat[moved].tolist(), strict=True))
    if norm == "linf":
        return all(abs(step) <= eps for step in steps)
    return sum((step * step for step in steps), Fraction(0)) <= eps * eps


def violates_label(graph: Graph, point: Array, label: int) -> bool:
    """True only if some class provably scores strictly above `label` at the point (shape (*input_shape,))."""
    outputs = output_balls(graph, point[None])[0]
    low, high = outputs.lower(), outputs.upper()
    if outputs.mid.size == 1:
        return bool(high[0] < 0) if label == 1 else bool(low[0] > 0)
    others = np.delete(low, label)
    return bool(others.max() > high[label])


def violates_tolerance(graph: Graph, x: Array, point: Array, tolerance: Fraction) -> bool:
    """True only if some output provably moves by more than `tolerance` between the two inputs."""
    outputs = output_balls(graph, np.stack([x, point]))
    low, high = outputs.lower(), outputs.upper()
    gaps = down(np.concatenate([low[1] - high[0], low[0] - high[1]]))
    return any(np.isfinite(gap) and Fraction(gap) > tolerance for gap in gaps.tolist())
