"""Formulas in disjunctive normal form over numbered constraints, and the property that they make.

A formula is a set of alternatives, each a set of constraints that hold together. Every list that is built is paid for
out of one budget, so that no formula, however it multiplies, takes more time or memory than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

from certlip.properties.linear import Linear, Refused, combination
from certlip.properties.property import Case, Halfspace, Property

MAX_CASES = 100_000
MAX_WORK = 2**25
"""Constraints in all lists ever built, terms in all sums, box ends and halfspaces in all cases, together."""


Alternatives = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Formula:
    """Holds where all constraints of one of the alternatives hold. Constraints are numbers given by `Constraints`."""

    alternatives: Alternatives


FALSE = Formula(())
TRUE = Formula(((),))


class End(NamedTuple):
    """An end of the box: x_i <= value, or >= where not upper."""

    i: int
    upper: bool
    value: Fraction


class Unbounded(Refused):
    """An input lacks an end in one of the cases."""

    def __init__(self, index: int, end: str):
        self.index, self.end = index, end
        super().__init__(f"input {index} has no {end} end in one of the cases; assert one")


class Constraints:
    """Numbers the constraints of a text, joins them to formulas, and collects the formulas that it asserts."""

    def __init__(self) -> None:
        self._numbers: dict[Halfspace, int] = {}
        self._halfspaces: list[Halfspace] = []
        self._ends: list[End | None] = []
        self._common: list[int] = []
        self._cases: Alternatives = ((),)
        self._work = 0

    def at_most(self, left: Linear, right: Linear, strict: bool = False) -> Formula:
        """left <= right, or left < right."""
        gap = combination([left], [right])
        bound = -gap.constant
        if not gap.terms:
            return TRUE if Halfspace((), (), bound, strict).holds(Fraction(0)) else FALSE
        ordered = sorted(gap.terms.items())
        inputs = tuple((i, c) for (kind, i), c in ordered if kind == "X")
        outputs = tuple((j, c) for (kind, j), c in ordered if kind == "Y")
        halfspace = Halfspace(inputs, outputs, bound, strict)
        known = self._numbers.setdefault(halfspace, len(self._halfspaces))
        if known == len(self._halfspaces):
            self._halfspaces.append(halfspace)
            self._ends.append(_end(halfspace))
        return Formula(((known,),))

    def conjunction(self, parts: Sequence[Formula]) -> Formula:
        """Where all parts hold: what they have in common with every choice of one alternative of each."""
        certain = tuple(chain.from_iterable(p.alternatives[0] for p in parts if len(p.alternatives) == 1))
        open_parts = [p.alternatives for p in parts if len(p.alternatives) != 1]
        self.spend(len(certain), 1)
        chosen: Alternatives = (certain,)
        for alternatives in open_parts:
            chosen = self._product(chosen, alternatives)
        return Formula(chosen)

    def disjunction(self, parts: Sequence[Formula]) -> Formula:
        """Where one of the parts holds."""
        alternatives = tuple(chain.from_iterable(part.alternatives for part in parts))
        self.spend(sum(map(len, alternatives)), len(alternatives))
        return Formula(alternatives)

    def require(self, formula: Formula) -> None:
        """Assert the formula, beside all others."""
        if len(formula.alternatives) == 1:
            self._common += formula.alternatives[0]
        else:
            self._cases = self._product(self._cases, formula.alternatives)

    def _product(self, first: Alternatives, second: Alternatives) -> Alternatives:
        """Every choice of one alternative from each."""
        entries = len(second) * sum(map(len, first)) + len(first) * sum(map(len, second))
        self.spend(entries, len(first) * len(second))
        return tuple(one + other for one in first for other in second)

    def property(self, inputs: int, outputs: int) -> Property:
        """The property of what was asserted. Raises Unbounded for the first input that lacks an end in some case."""
        self.spend(2 * inputs, 1)
        common = _Box()
        outside = [k for k in self._common if not self._narrow(common, k)]
        box, cases = None, []
        for own in self._cases:
            self.spend(len(outside) + len(own), 1)
            if any(self._ends[k] for k in own):
                self.spend(2 * inputs, 1)
                narrower = _Box(dict(common.low), dict(common.high))
                kept = [k for k in own if not self._narrow(narrower, k)]
                low, high = narrower.ends(inputs)
            else:
                low, high = box = box or common.ends(inputs)
                kept = list(own)
            halfspaces = tuple(self._halfspaces[k] for k in dict.fromkeys(outside + kept))
            cases.append(Case(low, high, halfspaces))
        return Property(inputs, outputs, tuple(cases))

    def _narrow(self, box: _Box, constraint: int) -> bool:
        """Cut the box down to the constraint; whether the box then says all that it says."""
        end = self._ends[constraint]
        if end is None:
            return False
        box.narrow(end)
        return not self._halfspaces[constraint].strict

    def spend(self, entries: int, cases: int = 0) -> None:
        """Take work out of the budget. Raises Refused where nothing is left."""
        if cases > MAX_CASES:
            raise Refused(f"the formula has more than {MAX_CASES} cases when it is multiplied out; split the property")
        self._work += entries + cases
        if self._work > MAX_WORK:
            raise Refused(f"the formulas take more than {MAX_WORK} steps to multiply out; split the property")


def _end(halfspace: Halfspace) -> End | None:
    """The end of the box that a constraint on a single input is, the strict ones closed."""
    if halfspace.outputs or len(halfspace.inputs) > 1:
        return None
    ((index, coefficient),) = halfspace.inputs
    return End(index, coefficient > 0, halfspace.bound / coefficient)


@dataclass(frozen=True)
class _Box:
    """The ends found so far, by input."""

    low: dict[int, Fraction] = field(default_factory=dict)
    high: dict[int, Fraction] = field(default_factory=dict)

    def narrow(self, end: End) -> None:
        if end.upper:
            self.high[end.i] = min(end.value, self.high.get(end.i, end.value))
        else:
            self.low[end.i] = max(end.value, self.low.get(end.i, end.value))

    def ends(self, inputs: int) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """All lower and all upper ends. Raises Unbounded for the first input without one of them."""
        if len(self.low) < inputs or len(self.high) < inputs:
            missing = next(i for i in range(inputs) if i not in self.low or i not in self.high)
            raise Unbounded(missing, "upper" if missing in self.low else "lower")
        return tuple(self.low[i] for i in range(inputs)), tuple(self.high[i] for i in range(inputs))
