"""What a repaired network must satisfy, and the Lipschitz bounds that training aims at for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from certlip.errors import UsageError
from certlip.properties.numbers import decimal_down


@dataclass(frozen=True)
class Aim:
    """target: the bound that methods keep. radius: the radius at which margins shall still be positive under a bound of
    that size, in the norm of the requirement; 0 where only the bound matters."""

    target: float
    radius: float


@dataclass(frozen=True)
class MaxLipschitz:
    """|Df| <= limit |Dx| for all inputs, both sides in `norm`."""

    limit: Fraction
    norm: str

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise UsageError(f"a bound of at most {self.limit} leaves only constants; ask for a positive one")

    def __str__(self) -> str:
        return f"Lipschitz constant ({self.norm}) at most {_text(self.limit)}"

    def aims(self, spread: float, reached: float | None) -> Iterator[Aim]:
        """The bound itself. Outputs of a classifier may be multiplied by anything, so its loss sees them under a larger
        one where margins would be lost in the loss: rivals are raised by `_SHIFT`, which is what a perturbation of
        size `reached` can move them by. reached: a radius that the classifier's samples have, None for regressors.
        """
        limit = decimal_down(float(self.limit))
        if reached is None:
            yield Aim(limit, 0.0)
            return
        seen = max(limit, _SHIFT / (spread * reached))
        yield Aim(seen, _SHIFT / (spread * seen))


@dataclass(frozen=True)
class MinCertified:
    """At least `share` of the scored samples keep their right class under every perturbation of at most `eps`, or,
    with a tolerance, outputs that move by at most that."""

    share: Fraction
    eps: Fraction
    norm: str
    tolerance: Fraction | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"a share of {self.share} asks for nothing that can be met; use one above 0 and at most 1")
        if not self.eps > 0:
            raise UsageError("a radius of 0 asks for plain accuracy, which certlip does not repair; use a positive eps")
        if self.tolerance is not None and not self.tolerance > 0:
            raise UsageError("a tolerance of 0 leaves only constants; use a positive one")

    def __str__(self) -> str:
        moved = "" if self.tolerance is None else f" (outputs move by at most {_text(self.tolerance)})"
        return f"at least {_text(self.share)} of the samples certified at {self.norm} {_text(self.eps)}{moved}"

    def aims(self, spread: float, reached: float | None) -> Iterator[Aim]:
        """Bounds under which margins of the usual size of a cross-entropy loss reach the radius, from the weakest.

        A rival's score is raised by `spread` target radius (see `rival_spread`). That shift is `_SHIFT` at the radius
        asked for: smaller ones are lost in the loss, larger ones leave nothing of its curvature.
        """
        if self.tolerance is not None:
            yield Aim(decimal_down(float(self.tolerance / self.eps)), 0.0)
            return
        for reach in _REACHES:
            radius = reach * float(self.eps)
            yield Aim(_SHIFT / (spread * float(self.eps)), radius)


Requirement = MaxLipschitz | MinCertified

_SHIFT = 3.0
_REACHES = (1.0, 1.5, 2.5)


def _text(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.10g}"


def rival_spread(norm: str, outputs: int) -> float:
    """c with |D(f_i - f_j)| <= c L |Dx| where L bounds the whole output: |f_i - f_j| <= sqrt(2) |f|_2, 2 |f|_inf; 1 for
    a single output, whose sign decides."""
    if outputs == 1:
        return 1.0
    return math.sqrt(2.0) if norm == "l2" else 2.0
