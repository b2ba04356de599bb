"""What a run returns: frozen results with a readable repr, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from certlip.importers import Model
from certlip.lipschitz import Bound, best
from certlip.lipschitz.sampled import LowerBound
from certlip.report.exact import decimal
from certlip.verification import SampleResult, Status


@dataclass(frozen=True, eq=False)
class BoundReport:
    """Bounds on one output by every method that ran; `best` is the smallest proved one (None: nothing proved).

    local: the bound on the region that was asked for, proved or not; None where none was. lower, local_lower: proved
    slopes between two points, below every bound for all inputs and on the region. Raises RuntimeError where they are
    above one: that is a defect of certlip.
    """

    model: Model
    bounds: tuple[Bound, ...]
    local: Bound | None = None
    lower: LowerBound | None = None
    local_lower: LowerBound | None = None

    def __post_init__(self) -> None:
        _require_below(self.lower, self.bounds)
        _require_below(self.local_lower, [*self.bounds, *([] if self.local is None else [self.local])])

    @property
    def best(self) -> Bound | None:
        return best(self.bounds)

    def __repr__(self) -> str:
        parts = [*self.bounds, self.lower, self.local, self.local_lower]
        return "\n".join(repr(part) for part in parts if part is not None)

    def _repr_html_(self) -> str:
        from certlip.report.html import bounds_table

        return bounds_table(self)


def _require_below(lower: LowerBound | None, bounds: Iterable[Bound]) -> None:
    for bound in bounds:
        if lower is not None and bound.proved and not lower.value <= bound.value:
            raise RuntimeError(
                f"unsound: {bound.method} proved |Df| <= {bound.value!r} |Dx| ({bound.norm}, {bound.output}), but two "
                f"points prove a slope of {lower.value!r}"
            )


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
    clip: tuple[Fraction, Fraction] | None = None

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
