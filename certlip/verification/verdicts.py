"""What is asked of a sample, and what the answer says."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from math import nan
from typing import Any

from certlip.certificate.claims import REAL
from certlip.errors import UsageError
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.engine import NORMS
from certlip.proofs.relaxation.branches import Tree
from certlip.properties.numbers import decimal_down
from certlip.rigor.rounding import Array


@dataclass(frozen=True)
class Grade:
    """level: "none" for no proof, "estimate" for what an evaluation shows, "float" for a claim about real arithmetic,
    "deployed" for one about every execution of the class that `semantics` names.

    slack: bounds on |computed - exact|, by output, that the proof uses. share: the largest share of a margin that they
    take, NaN where none is known.
    """

    level: str = "none"
    semantics: dict[str, Any] = field(default_factory=lambda: dict(REAL))
    slack: tuple[float, ...] = ()
    share: float = nan


class Status(StrEnum):
    """The six verdicts; each sample has exactly one."""

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    MISCLASSIFIED = "misclassified"
    ERROR = "error"


@dataclass(frozen=True, eq=False)
class SampleResult:
    """One sample's verdict.

    margin: proved lower bound of the smallest f_label - f_k at the sample (the tolerance, for regressors). radius:
    every perturbation smaller than this (and within the clip, where trees are the proof) is certified, in every
    execution of the class where the level is "deployed" or was asked to be, else in real arithmetic. method: what
    decided. counterexample: proved, and confirmed by a run of the model, where falsified. bounds: the Lipschitz bound
    used against each rival. trees: where not empty, the proof that certifies the sample instead of the bounds, about
    the query that `certlip.check.questions` asks. grade: how much of the verdict is proved, see `Grade`.
    """

    index: int
    label: int | None
    predicted: int | float | list[float]
    status: Status
    margin: float
    radius: float
    method: str
    seconds: float
    counterexample: Array | None = None
    bounds: tuple[Bound, ...] = ()
    note: str = ""
    grade: Grade = field(default_factory=Grade)
    trees: tuple[Tree, ...] = ()

    @property
    def level(self) -> str:
        """"deployed", "float", "estimate" (misclassified: no claim) or "none"."""
        return self.grade.level

    def __repr__(self) -> str:
        label = "" if self.label is None else f", label {self.label}"
        reason = self.note or self.method
        radius = f"{decimal_down(self.radius):.10g}"
        verdict = f"sample {self.index}: {self.status}{label}, predicted {self.predicted}, radius {radius}"
        return f"{verdict} ({reason})" if reason else verdict


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every sample. tolerance None: keep the class. clip: the interval in which entries of perturbed
    inputs stay. level: "float", or "deployed" for a proof that covers every execution of the model's class.

    Raises UsageError for an unknown norm or level and an empty clip.
    """

    eps: Fraction
    norm: str
    tolerance: Fraction | None = None
    clip: tuple[Fraction, Fraction] | None = None
    level: str = "float"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"unknown norm {self.norm!r}; choose l2 or linf")
        if self.level not in ("float", "deployed"):
            raise UsageError(f"unknown level {self.level!r}; choose float or deployed")
        if self.clip is not None and not self.clip[0] <= self.clip[1]:
            raise UsageError(f"the clip [{self.clip[0]}, {self.clip[1]}] holds no number; put the smaller end first")
