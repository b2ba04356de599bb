"""What runs on property files return: frozen results with a readable repr, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from certlip.importers import Model
from certlip.properties.property import Property
from certlip.rigor.rounding import Array
from certlip.verification import Status
from certlip.verification.decide import PropertyResult

VERDICTS = {Status.CERTIFIED: "unsat", Status.FALSIFIED: "sat"}
"""The words of VNN-COMP, about the unsafe set; the other statuses are words already."""

WORDS = {Status.CERTIFIED: "holds", Status.FALSIFIED: "violated"}
"""The same, about the property."""


@dataclass(frozen=True, eq=False)
class PropertyReport:
    """The verdict on one property. path: its file, None where it was passed as a `Property`."""

    model: Model
    property: Property
    path: Path | None
    result: PropertyResult

    @cached_property
    def status(self) -> Status:
        return self.result.status

    @cached_property
    def verdict(self) -> str:
        """In the words of VNN-COMP: "unsat" (the property holds), "sat" (violated), "unknown", "timeout", "error"."""
        return VERDICTS.get(self.status, str(self.status))

    def __repr__(self) -> str:
        name = "the property" if self.path is None else self.path.name
        return f"{name} of {self.model.name}: {WORDS.get(self.status, str(self.status))}"

    def _repr_html_(self) -> str:
        from certlip.report.html import table

        seconds = f"{self.result.seconds:.2f}"
        row = (self.model.name, str(self.path or ""), self.verdict, self.result.method, seconds)
        return table(("model", "property", "verdict", "method", "seconds"), [row])


@dataclass(frozen=True, eq=False)
class InstanceResult:
    """The verdict on one row of a suite.

    model, property: as the file names them. timeout: the seconds that there were, 0 where the total time had passed.
    expected: "sat" or "unsat" where the file says so. exit_code: what the error would exit with, None without one.
    asked: what identifies the question, empty values where it was not reached; limits: how it was searched.
    earlier: whether the verdict comes from an earlier run.
    """

    index: int
    model: str
    property: str
    status: Status
    method: str
    seconds: float
    timeout: float | None
    level: str = "none"
    counterexample: Array | None = None
    outputs: Array | None = None
    note: str = ""
    expected: str | None = None
    exit_code: int | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    earlier: bool = False

    @cached_property
    def verdict(self) -> str:
        """In the words of VNN-COMP: "unsat" (the property holds), "sat" (violated), "unknown", "timeout", "error"."""
        return VERDICTS.get(self.status, str(self.status))

    @cached_property
    def contradicts(self) -> bool:
        """Whether the file expects the opposite."""
        return self.expected is not None and {self.verdict, self.expected} == {"sat", "unsat"}

    def __repr__(self) -> str:
        reason = self.note or self.method
        verdict = f"{self.model}, {self.property}: {WORDS.get(self.status, str(self.status))}"
        return f"{verdict} ({reason})" if reason else verdict


@dataclass(frozen=True, eq=False)
class InstancesReport:
    """The verdicts on a suite, in its order. total: how many there are to decide; fewer have ended if interrupted."""

    path: Path
    instances: tuple[InstanceResult, ...]
    total: int
    seconds: float

    def count(self, status: Status) -> int:
        return sum(instance.status is status for instance in self.instances)

    @property
    def contradictions(self) -> tuple[InstanceResult, ...]:
        """Verdicts that are the opposite of what the file expects."""
        return tuple(instance for instance in self.instances if instance.contradicts)

    @property
    def earlier(self) -> int:
        """How many verdicts come from an earlier run."""
        return sum(instance.earlier for instance in self.instances)

    def __repr__(self) -> str:
        words = ((status, WORDS.get(status, str(status))) for status in Status)
        counts = ", ".join(f"{self.count(status)} {word}" for status, word in words if self.count(status))
        return f"{len(self.instances)} instances of {self.path.name}: {counts}"

    def _repr_html_(self) -> str:
        from certlip.report.html import instances_table

        return instances_table(self)
