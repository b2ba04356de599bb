"""What must not happen, in exact numbers: boxes of inputs, and linear constraints that mark the unsafe outputs.

The sense is that of VNN-LIB: a property lists the *unsafe* set. It holds where that set is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Terms = tuple[tuple[int, Fraction], ...]
"""(index, coefficient) pairs, indices increasing, no coefficient zero."""


@dataclass(frozen=True)
class Halfspace:
    """sum_i c_i x_i + sum_j a_j y_j <= bound, or < where strict; inputs: the (i, c_i), outputs: the (j, a_j)."""

    inputs: Terms
    outputs: Terms
    bound: Fraction
    strict: bool = False

    def holds(self, value: Fraction) -> bool:
        """Whether the left side may have this value."""
        return value < self.bound if self.strict else value <= self.bound


@dataclass(frozen=True)
class Case:
    """The inputs x with low <= x <= high, entry by entry in flat (row-major) order, at which all halfspaces hold."""

    low: tuple[Fraction, ...]
    high: tuple[Fraction, ...]
    halfspaces: tuple[Halfspace, ...]

    @property
    def is_vacuous(self) -> bool:
        """Whether no input lies in the box, or none that lies there satisfies some halfspace of inputs alone."""
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            return True
        return any(not half.holds(self._least(half)) for half in self.halfspaces if not half.outputs)

    def _least(self, half: Halfspace) -> Fraction:
        """The least of sum_i c_i x_i in the box."""
        parts = (factor * (self.low if factor > 0 else self.high)[i] for i, factor in half.inputs)
        return sum(parts, Fraction(0))


@dataclass(frozen=True)
class Property:
    """The unsafe set is the union of the cases. inputs, outputs: how many entries the network has."""

    inputs: int
    outputs: int
    cases: tuple[Case, ...]

    @property
    def is_vacuous(self) -> bool:
        """Whether the property holds for every network, as no input lies in any box."""
        return all(case.is_vacuous for case in self.cases)
