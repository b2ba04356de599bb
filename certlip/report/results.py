"""What a run returns: frozen results with a readable repr, in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from certlip.importers import Model
from certlip.lipschitz import Bound, best
from certlip.lipschitz.sampled import LowerBound
from certlip.properties import Output
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


@dataclass(frozen=True, eq=False)
class OutputsReport:
    """Bounds on each of several outputs: all pairs of classes or all logits, as `name` says.

    bounds: what every method said about every output, and about the whole output where the others rest on it.
    unfinished: outputs for which the time did not suffice to run every method to its end. lower: a proved slope of the
    output with the largest bound; RuntimeError where it is above one, which is a defect of certlip.
    """

    model: Model
    name: str
    outputs: tuple[Output, ...]
    bounds: tuple[Bound, ...]
    unfinished: tuple[Output, ...] = ()
    lower: LowerBound | None = None

    def __post_init__(self) -> None:
        largest = self.largest
        if largest is not None:
            _require_below(self.lower, [bound for bound in self.bounds if bound.output == largest.output])

    @cached_property
    def best(self) -> Mapping[Output, Bound]:
        """The smallest proved bound of each output that has one, in the order of `outputs`."""
        tried: dict[Output, list[Bound]] = {output: [] for output in self.outputs}
        for bound in self.bounds:
            if bound.output in tried:
                tried[bound.output].append(bound)
        found = {output: best(bounds) for output, bounds in tried.items()}
        return {output: bound for output, bound in found.items() if bound is not None}

    @property
    def missing(self) -> tuple[Output, ...]:
        """Outputs for which nothing is proved."""
        return tuple(output for output in self.outputs if output not in self.best)

    @property
    def largest(self) -> Bound | None:
        """The largest of the best bounds: it holds for every output that is not missing."""
        return max(self.best.values(), key=lambda bound: bound.value, default=None)

    def __repr__(self) -> str:
        lines = [repr(bound) for bound in self.best.values()]
        return "\n".join([*lines, *(f"no bound for {output}" for output in self.missing)])

    def _repr_html_(self) -> str:
        return BoundReport(self.model, tuple(self.best.values()))._repr_html_()


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
