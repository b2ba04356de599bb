"""The Python interface: load a model, bound it, verify samples, check certificates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from certlip.errors import UsageError
from certlip.importers import Model, load
from certlip.lipschitz import Bound, best, bound_output
from certlip.properties import Output
from certlip.properties.numbers import decimal_up
from certlip.properties.outputs import ALL
from certlip.report.exact import decimal
from certlip.verify import Question, SampleResult, Status, Verifier, verify_samples
from certlip.verify.amount import exact_amount, seconds
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
        return "\n".join(map(_sentence, self.bounds))

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


def _sentence(bound: Bound) -> str:
    """A bound in words, rounded up."""
    if not bound.proved:
        return repr(bound)
    value = f"{decimal_up(bound.value):.10g}"
    return f"|Df| <= {value} |Dx| ({bound.norm}, {bound.output}), proved by {bound.method}"


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
    limit = seconds(timeout, "the timeout")
    loaded = as_model(model)
    path = None if certificate is None else _certificate_file(Path(certificate), loaded)
    recorder = None if path is None else Recorder(loaded, path.parent)
    deadline = None if limit is None else time.monotonic() + limit
    report = BoundReport(loaded, tuple(bound_output(loaded.graph, output, norm, method, deadline, progress)))
    if recorder is not None and path is not None and report.best is not None:
        recorder.bound(report.best, path.name)
    return report


def _certificate_file(path: Path, model: Model) -> Path:
    """A file that may be written: no folder, and not the model itself."""
    if path.is_dir() or not path.name:
        raise UsageError(f"{path} is a folder; name a file for the certificate, like {path / 'bound.json'}")
    if model.path is not None and path.exists() and path.samefile(model.path):
        raise UsageError(f"{path} is the model itself; name another file for the certificate")
    return path


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
    question = Question(
        exact_amount(eps, "eps"), norm, None if tolerance is None else exact_amount(tolerance, "the tolerance")
    )
    limits = seconds(timeout, "the timeout"), seconds(total_timeout, "the total timeout")
    loaded = as_model(model)
    samples = _dataset(loaded, data, limit)
    verifier = Verifier(loaded, question, method, progress, seed)
    recorder = None if certificates is None else Recorder(loaded, Path(certificates))
    results = []
    for result in verify_samples(verifier, samples, *limits):
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
    return _report(verifier, samples, final)


def _report(verifier: Verifier, samples: Dataset, results: Sequence[SampleResult]) -> VerifyReport:
    question = verifier.question
    labelled = question.tolerance is None and samples.labels is not None
    bounds = tuple(verifier.table.all())
    return VerifyReport(
        verifier.model, question.eps, question.norm, tuple(results), bounds, labelled, question.tolerance
    )


def _dataset(model: Model, data: Any, limit: int | None) -> Dataset:
    if isinstance(data, Dataset):
        return data.first(limit)
    if isinstance(data, tuple) and len(data) == 2:
        return make_dataset(*data, model, limit)
    if data is not None and not isinstance(data, (str, Path)):
        if isinstance(data, (tuple, list, dict, set)) or not hasattr(data, "__array__"):
            raise UsageError(f"a {type(data).__name__} is no data; pass a path, an array x or the pair (x, y)")
        return make_dataset(data, None, model, limit)
    path = default_data(model) if data is None else Path(data)
    if path is None:
        raise UsageError(f"no samples: there is no .npz beside {model.name}; pass data")
    return read_dataset(path, model, limit)


def radius(
    model: Any,
    *,
    data: Any = None,
    norm: str = "l2",
    method: str = "auto",
    limit: int | None = None,
    timeout: float | None = 60.0,
    total_timeout: float | None = None,
    tolerance: str | float | Fraction | None = None,
    progress: Callable[[str], None] = Silent,
    each: Callable[[SampleResult], None] = Silent,
) -> VerifyReport:
    """The largest certified radius of each sample: every smaller perturbation keeps its class (or the tolerance)."""
    slack = None if tolerance is None else exact_amount(tolerance, "the tolerance")
    question = Question(Fraction(0), norm, slack)
    limits = seconds(timeout, "the timeout"), seconds(total_timeout, "the total timeout")
    loaded = as_model(model)
    samples = _dataset(loaded, data, limit)
    verifier = Verifier(loaded, question, method, progress)
    results = []
    for result in verify_samples(verifier, samples, *limits, Verifier.measure):
        results.append(result)
        each(result)
    return _report(verifier, samples, [verifier.remeasure(result, samples.inputs[result.index]) for result in results])
