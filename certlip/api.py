"""The Python interface: load a model, bound it, verify samples, check certificates."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from certlip.errors import UsageError
from certlip.importers import Model, load
from certlip.lipschitz import Bound, best, bound_output
from certlip.properties import Output
from certlip.properties.numbers import parse_amount
from certlip.properties.outputs import ALL
from certlip.verify import Question, SampleResult, Status, Verifier, verify_samples
from certlip.verify.certify import Recorder
from certlip.verify.dataset import Dataset, default_data, make_dataset, read_dataset

Silent: Callable[[Any], None] = lambda _: None  # noqa: E731


@dataclass(frozen=True, eq=False)
class BoundReport:
    """Bounds on one output by every method that ran; `best` is the smallest proved one (None: nothing proved)."""

    model: Model
    bounds: tuple[Bound, ...]

    @property
    def best(self) -> Bound | None:
        return best(self.bounds)

    def __repr__(self) -> str:
        return "\n".join(repr(bound) for bound in self.bounds)

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
        return f"{len(self.samples)} samples of {self.model.name} at {self.norm} eps {float(self.eps):g}: {counts}"

    def _repr_html_(self) -> str:
        from certlip.report.html import verdicts_table

        return verdicts_table(self)


def as_model(source: Any, **options: Any) -> Model:
    """A loaded model as it is, anything else through `load`."""
    return source if isinstance(source, Model) else load(source, **options)


def bound(
    model: Any,
    *,
    norm: str = "l2",
    output: Output = ALL,
    method: str = "auto",
    timeout: float | None = 60.0,
    certificate: str | Path | None = None,
    progress: Callable[[str], None] = Silent,
) -> BoundReport:
    """Proved L with |f(x) - f(y)| <= L |x - y| for all x, y, in the given norm on both sides.

    model: a path, a torch module with `load`'s options already applied (a Model), or a Model. norm: "l2" or "linf".
    output: `Output("all")` (the vector), `Output.logit(i)`, `Output.pair(i, j)`. method: a name from
    `certlip methods`, "auto" or "all". timeout: seconds for the search; proofs already begun are finished.
    certificate: where to write the record of the best bound. Raises CertlipError.
    """
    loaded = as_model(model)
    deadline = None if timeout is None else time.monotonic() + timeout
    report = BoundReport(loaded, tuple(bound_output(loaded.graph, output, norm, method, deadline, progress)))
    if certificate is not None and report.best is not None:
        path = Path(certificate)
        Recorder(loaded, path.parent).bound(report.best, path.name)
    return report


def verify(
    model: Any,
    eps: str | float | Fraction,
    *,
    data: str | Path | tuple[Any, Any] | Dataset | None = None,
    norm: str = "l2",
    method: str = "auto",
    limit: int | None = None,
    timeout: float | None = 60.0,
    total_timeout: float | None = None,
    tolerance: str | float | Fraction | None = None,
    certificates: str | Path | None = None,
    progress: Callable[[str], None] = Silent,
    each: Callable[[SampleResult], None] = Silent,
    seed: int = 0,
) -> VerifyReport:
    """Is the class of every sample kept by every perturbation of norm at most eps? (Regressors: `tolerance`.)

    eps: exact as a string ("0.1", "8/255") or Fraction; a float means its exact binary value. data: a path, a pair
    (x, y) with y possibly None, a Dataset, or None for the `.npz` beside the model. A sample is certified by a proof,
    falsified by a proved counterexample that the model's runtime confirms, else unknown or timeout.
    """
    loaded = as_model(model)
    amount = parse_amount(eps, "eps") if isinstance(eps, str) else _exact(eps, "eps")
    slack = parse_amount(tolerance, "the tolerance") if isinstance(tolerance, str) else None
    if tolerance is not None and slack is None:
        slack = _exact(tolerance, "the tolerance")
    samples = _dataset(loaded, data, limit)
    if slack is None:
        require_classes(loaded, samples)
    question = Question(amount, norm, slack)
    verifier = Verifier(loaded, question, method, progress, seed)
    recorder = None if certificates is None else Recorder(loaded, Path(certificates))
    results = []
    for result in verify_samples(verifier, samples, timeout, total_timeout):
        results.append(result)
        if recorder is not None:
            recorder.sample(result, samples.inputs[result.index], question)
        each(result)
    final = []
    for result in results:
        refreshed = verifier.refresh(result, samples.inputs[result.index])
        if recorder is not None and refreshed.status is not result.status:
            recorder.sample(refreshed, samples.inputs[result.index], question)
        final.append(refreshed)
    labelled = slack is None and samples.labels is not None
    return VerifyReport(loaded, amount, norm, tuple(final), tuple(verifier.table.all()), labelled, slack)


def require_classes(model: Model, samples: Dataset) -> None:
    """A classifier's question needs classes: refuse a regressor without a tolerance."""
    real_targets = samples.targets is not None and samples.labels is None
    if real_targets or (model.graph.output_size == 1 and samples.labels is None):
        raise UsageError(
            f"{model.name} looks like a regressor (one output or real targets); state how far an output may move with "
            "--tolerance, or give integer class labels"
        )


def _dataset(model: Model, data: Any, limit: int | None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple):
        inputs, targets = data
        return make_dataset(inputs, targets, model, limit)
    path = default_data(model) if data is None else Path(data)
    if path is None:
        raise UsageError(f"no samples: there is no .npz beside {model.name}; pass data")
    return read_dataset(path, model, limit)


def _exact(value: str | float | Fraction, what: str) -> Fraction:
    try:
        amount = Fraction(value)
    except (ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{what} {value!r} is not a finite number; use a value like 0.1") from error
    if amount < 0:
        raise UsageError(f"{what} {value!r} is negative; use a value of at least 0")
    return amount


def radius(
    model: Any,
    *,
    data: Any = None,
    norm: str = "l2",
    method: str = "auto",
    limit: int | None = None,
    timeout: float | None = 60.0,
    total_timeout: float | None = None,
    tolerance: str | float | None = None,
    progress: Callable[[str], None] = Silent,
    each: Callable[[SampleResult], None] = Silent,
) -> VerifyReport:
    """The largest certified radius of each sample: every smaller perturbation keeps its class (or the tolerance)."""
    loaded = as_model(model)
    slack = None if tolerance is None else parse_amount(str(tolerance), "the tolerance")
    samples = _dataset(loaded, data, limit)
    if slack is None:
        require_classes(loaded, samples)
    verifier = Verifier(loaded, Question(Fraction(0), norm, slack), method, progress)
    results = []
    for result in verify_samples(verifier, samples, timeout, total_timeout, Verifier.measure):
        results.append(result)
        each(result)
    final = tuple(verifier.refresh(result, samples.inputs[result.index]) for result in results)
    labelled = slack is None and samples.labels is not None
    return VerifyReport(loaded, Fraction(0), norm, final, tuple(verifier.table.all()), labelled, slack)
