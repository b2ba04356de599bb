"""What a run returns: frozen results with a readable repr, in a terminal and in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from certlip.importers import Model
from certlip.lipschitz import Bound, best
from certlip.report.exact import decimal
from certlip.verification import SampleResult, Status


@dataclass(frozen=True, eq=False)
class BoundReport:
    """Bounds on one output by every method that ran; `best` is the smallest proved one (None: nothing proved)."""

    model: Model
    bounds: tuple[Bound, ...]

    @property
    def best(self) -> Bound | None:
        return best(self.bounds)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.bounds))

    def _repr_html_(self) -> str:
        from certlip.report.html import bounds_table

        return bounds_table(self)


@dataclass(frozen=True, eq=False)
class VerifyReport:
    """Verdicts on samples. `eps` is in the model's own input units; `labelled` False: the predicted label was kept."""

    model: Model
    eps: Fraction
    norm: str
    samples: tuple[SampleResult, ...]
    bounds: tuple[Bound, ...]
    labelled: bool
    tolerance: Fraction | None = None

    def count(self, status: Status) -> int:
        return sum(sample.status is status for sample in self.samples)

    @property
    def certified_accuracy(self) -> float:
        """Certified samples over all samples; a misclassified sample is never certified."""
        return self.count(Status.CERTIFIED) / len(self.samples)

    @property
    def clean_accuracy(self) -> float | None:
        """Share of samples whose prediction is the label, None without labels."""
        if not self.labelled:
            return None
        return 1.0 - self.count(Status.MISCLASSIFIED) / len(self.samples)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(status)} {status}" for status in Status if self.count(status))
        return f"{len(self.samples)} samples of {self.model.name} at {self.norm} eps {decimal(self.eps)}: {counts}"

    def _repr_html_(self) -> str:
        from certlip.report.html import verdicts_table

        return verdicts_table(self)
