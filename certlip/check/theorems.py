"""One inequality for each kind of claim, in exact rational arithmetic.

f is the exact network. `outputs` are enclosures low_i <= f_i(x) <= high_i, `slack` bounds |computed_i - f_i| for every
execution of the class at every input of the set (zero for claims about f itself), L are Lipschitz bounds.

With m outputs a class k wins where f_k is the largest; with one output class 1 wins where f > 0 and class 0 where
f < 0. Each function says in its docstring what follows from its answer True.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from certlip.errors import CertificateRejected
from certlip.graph import Graph
from certlip.proofs.margin import output_balls
from certlip.proofs.query import float_up
from certlip.properties.outputs import DECISION, Output
from certlip.properties.property import Case, Terms
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

Enclosure: TypeAlias = tuple[Sequence[Fraction], Sequence[Fraction]]


def outputs_at(graph: Graph, x: Array) -> Enclosure:
    """Enclosures of the exact outputs at one point. Raises CertificateRejected where they overflow."""
    return _finite(output_balls(graph, x[None])[0])


def outputs_of(graph: Graph, x: Sequence[Fraction]) -> Enclosure:
    """`outputs_at` for numbers, in flat order, that need not be floats."""
    try:
        mid = np.array([float(entry) for entry in x]).reshape(1, *graph.input_shape)
    except OverflowError as error:
        raise CertificateRejected("an input lies beyond the range of floats") from error
    away = zip(x, mid.ravel().tolist(), strict=True)
    rad = np.array([float_up(abs(entry - Fraction(near))) for entry, near in away]).reshape(mid.shape)
    return _finite(output_balls(graph, Ball(mid, rad))[0])


def _finite(ball: Ball) -> Enclosure:
    low, high = ball.lower(), ball.upper()
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise CertificateRejected("the outputs overflow at this input")
    return [Fraction(end) for end in low.tolist()], [Fraction(end) for end in high.tolist()]


def classes(outputs: int) -> int:
    """How many classes so many outputs decide between."""
    return max(2, outputs)


def lead(outputs: Enclosure, slack: Sequence[Fraction], winner: int, loser: int) -> tuple[Fraction, Fraction]:
    """A lower bound on f_winner - f_loser at the point, and how far the computed difference may be from it; with one
    output the difference is f for class 1 and -f for class 0."""
    low, high = outputs
    if len(low) == 1:
        return (low[0] if winner == 1 else -high[0]), slack[0]
    return low[winner] - high[loser], slack[winner] + slack[loser]


def rivals(outputs: int, label: int) -> list[tuple[int, Output]]:
    """Every other class, and the function whose Lipschitz bound tells how fast the difference to it moves."""
    if outputs == 1:
        return [(1 - label, DECISION)]
    return [(k, Output.pair(min(label, k), max(label, k))) for k in range(outputs) if k != label]


def keeps(margin: Fraction, bound: Fraction, eps: Fraction, slack: Fraction = Fraction(0)) -> bool:
    """True: the class wins at every x' with |x' - x| <= eps. There f_label - f_k >= margin - L eps > slack, and the
    computed difference is above zero."""
    return margin - bound * eps > slack


def keeps_inside(margin: Fraction, bound: Fraction, radius: Fraction, slack: Fraction = Fraction(0)) -> bool:
    """True: the class wins at every x' with |x' - x| < radius, since there L |x' - x| < L radius unless L = 0."""
    return margin > slack and margin - bound * radius >= slack


def stays(bound: Fraction, eps: Fraction, tolerance: Fraction, slack: Fraction = Fraction(0)) -> bool:
    """True: an output moves by at most `tolerance` between two inputs at most eps apart, since one entry of a vector is
    at most its norm. slack: that of the output at the first input plus that at the second."""
    return bound * eps + slack <= tolerance


def loses(outputs: Enclosure, label: int, slack: Sequence[Fraction]) -> bool:
    """True: at the point some class scores strictly above `label`, in every execution."""
    leads = (lead(outputs, slack, k, label) for k, _ in rivals(len(slack), label))
    return any(difference > lost for difference, lost in leads)


def gaps(first: Enclosure, second: Enclosure) -> list[Fraction]:
    """Lower bounds on how far the outputs lie apart at two points."""
    ends = zip(*first, *second, strict=True)
    return [max(low - other_high, other_low - high) for low, high, other_low, other_high in ends]


def moves(first: Enclosure, second: Enclosure, tolerance: Fraction, slack: Sequence[Fraction]) -> bool:
    """True: some output differs by more than `tolerance` between the points. slack: the sum of those at the two."""
    return any(gap > tolerance + apart for gap, apart in zip(gaps(first, second), slack, strict=True))


def widened(outputs: Enclosure, slack: Sequence[Fraction]) -> Enclosure:
    """Enclosures of the computed outputs."""
    low, high = (list(zip(ends, slack, strict=True)) for ends in outputs)
    return [end - lost for end, lost in low], [end + lost for end, lost in high]


def violates(case: Case, x: Sequence[Fraction], outputs: Enclosure) -> bool:
    """True: x lies in the box of the case, over the reals, and every halfspace holds at (x, y) for all y of the
    enclosure: the network is unsafe at x. False where a size or an index does not fit."""
    low, high = outputs
    if not len(x) == len(case.low) == len(case.high) or len(low) != len(high):
        return False
    if not all(least <= entry <= greatest for least, entry, greatest in zip(case.low, x, case.high, strict=True)):
        return False
    for row in case.halfspaces:
        if not (_fits(row.inputs, len(x)) and _fits(row.outputs, len(low))):
            return False
        read = sum((factor * x[i] for i, factor in row.inputs), Fraction(0))
        made = sum((factor * (high[j] if factor > 0 else low[j]) for j, factor in row.outputs), Fraction(0))
        if not row.holds(read + made):
            return False
    return True


def _fits(terms: Terms, size: int) -> bool:
    return all(0 <= index < size for index, _ in terms)


def in_clip(point: Array, clip: Sequence[Fraction] | None) -> bool:
    """Whether every entry lies in the closed interval; True without one."""
    return clip is None or all(clip[0] <= Fraction(entry) <= clip[1] for entry in (point.min(), point.max()))
