"""The Python interface: load a model, bound it, verify samples, check certificates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from certlip.certificate import SUFFIX
from certlip.errors import CertlipError, UsageError
from certlip.importers import Model, load
from certlip.lipschitz import bound_output
from certlip.lipschitz.compare import bound_by_every_method
from certlip.lipschitz.engine import NORMS
from certlip.lipschitz.local import METHOD, local_bound
from certlip.lipschitz.sampled import LowerBound, sampled_lower
from certlip.proofs.ranges import Region
from certlip.properties import Output, select
from certlip.properties.outputs import ALL
from certlip.report.results import BoundReport, OutputsReport, VerifyReport
from certlip.verification import Question, SampleResult, Verifier, verify_samples
from certlip.verification.amount import exact_amount, exact_interval, seconds
from certlip.verification.bounds import BoundTable
from certlip.verification.certify import Recorder
from certlip.verification.dataset import Dataset, default_data, make_dataset, read_dataset, read_sample
from certlip.verification.each_output import outputs_named, refine_each

_SAMPLING, _SAMPLING_SHARE = 1.0, 0.2
"""Seconds for the search for steep slopes, and the largest share of the timeout."""
_SMALL_FILE = 2**24


def silent(message: Any) -> None:
    """The default for `progress` and `each`: tell nobody."""


def as_model(source: Any, **options: Any) -> Model:
    """A loaded model as it is, anything else through `load`."""
    return source if isinstance(source, Model) else load(source, **options)


@overload
def bound(
    model: Any,
    *,
    norm: str = "l2",
    output: Output = ALL,
    method: str = "auto",
    timeout: float | None = 60.0,
    certificate: str | Path | None = None,
    around: Any = None,
    eps: str | float | Fraction | None = None,
    compare: bool = False,
    progress: Callable[[str], None] = silent,
) -> BoundReport: ...


@overload
def bound(
    model: Any,
    *,
    norm: str = "l2",
    output: Literal["pairs", "logits"],
    method: str = "auto",
    timeout: float | None = 60.0,
    certificate: str | Path | None = None,
    progress: Callable[[str], None] = silent,
) -> OutputsReport: ...


def bound(
    model: Any,
    *,
    norm: str = "l2",
    output: Output | Literal["pairs", "logits"] = ALL,
    method: str = "auto",
    timeout: float | None = 60.0,
    certificate: str | Path | None = None,
    around: Any = None,
    eps: str | float | Fraction | None = None,
    compare: bool = False,
    progress: Callable[[str], None] = silent,
) -> BoundReport | OutputsReport:
    """Proved L with |f(x) - f(y)| <= L |x - y| for all x, y, in the given norm on both sides.

    model: a path, a torch module with `load`'s options already applied (a Model), or a Model. norm: "l2" or "linf".
    output: `Output("all")` (the vector), `Output.logit(i)`, `Output.pair(i, j)`. method: a name from
    `certlip methods`, "auto" or "all". timeout: seconds for the search; proofs already begun are finished.
    around, eps: the report's `local` bound holds for x, y within `eps` of a sample, in the same norm: an array of the
    input's shape, or "FILE" or "FILE:I" for sample I (the first) of a data file.
    certificate: where to write the record of the best bound, the local one if asked for; a name that ends in `.certlip`
    makes a bundle with its arrays. compare: run every method, references included. The report's `lower` and
    `local_lower` are proved slopes between sampled points, found in the last second or fifth of the time.

    output "pairs" (every f_i - f_j with i < j) or "logits" (every output): an `OutputsReport` with a bound on each of
    them, for which searches share their work, and a slope of the one with the largest bound. A certificate for each is
    written into the folder or bundle that `certificate` names; `around`, `eps` and `compare` are for one output only.
    Raises CertlipError.
    """
    if isinstance(output, str):
        if compare or around is not None or eps is not None:
            raise UsageError("`around`, `eps` and `compare` are for one output; leave them out, or choose an Output")
        return _bound_each(as_model(model), output, norm, method, timeout, certificate, progress)
    limit = seconds(timeout, "the timeout")
    if compare and method != "auto":
        raise UsageError("a comparison runs every method; leave `method` out")
    loaded = as_model(model)
    region = _region(loaded, around, eps, norm)
    path = None if certificate is None else _certificate_file(Path(certificate), loaded)
    options = {"method": method, "timeout": timeout}
    recorder = None if path is None else Recorder(loaded, path if path.suffix == SUFFIX else path.parent, options)
    began = time.monotonic()
    limit, sampling = _shares(limit)
    deadline = None if limit is None else began + limit
    local = None
    if region is not None:
        progress(f"{METHOD}: {output}")
        half = None if limit is None else began + limit / 2
        local = local_bound(loaded.graph, output, region, norm, half)
    if compare:
        bounds = bound_by_every_method(loaded.graph, output, norm, deadline, progress)
    else:
        bounds = bound_output(loaded.graph, output, norm, method, deadline, progress)
    progress(f"sampled slopes: {output}")
    report = BoundReport(loaded, tuple(bounds), local, *_slopes(loaded, output, norm, region, sampling))
    proved = report.best if local is None else local if local.proved else None
    if recorder is not None and path is not None and proved is not None:
        with recorder:
            recorder.bound(proved, None if path.suffix == SUFFIX else path.name)
    return report


def _bound_each(
    model: Model,
    name: str,
    norm: str,
    method: str,
    timeout: float | None,
    certificate: str | Path | None,
    progress: Callable[[str], None],
) -> OutputsReport:
    """Bounds on all the outputs that `name` stands for; what is proved by the deadline counts."""
    limit, sampling = _shares(seconds(timeout, "the timeout"))
    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}; choose l2 or linf")
    outputs = outputs_named(name, model.graph.output_size)
    table = BoundTable(model.graph, norm, method, progress)
    place = None if certificate is None else _certificate_place(Path(certificate))
    recorder = None if place is None else Recorder(model, place, {"method": method, "timeout": timeout})
    refine_each(table, outputs, None if limit is None else time.monotonic() + limit)
    unfinished = tuple(output for output in outputs if not table.is_complete(output))
    report = OutputsReport(model, name, tuple(outputs), tuple(table.all()), unfinished)
    if report.largest is not None:
        progress(f"sampled slopes: {report.largest.output}")
        report = replace(report, lower=_slopes(model, report.largest.output, norm, None, sampling)[0])
    if recorder is not None and report.best:
        with recorder:
            for proved in report.best.values():
                recorder.bound(proved)
    return report


def _shares(limit: float | None) -> tuple[float | None, float]:
    """Seconds for bounds and seconds for slopes."""
    sampling = _SAMPLING if limit is None else min(_SAMPLING, _SAMPLING_SHARE * limit)
    return None if limit is None else limit - sampling, sampling


def _slopes(
    model: Model, output: Output, norm: str, region: Region | None, sampling: float
) -> tuple[LowerBound, LowerBound | None]:
    """Steep slopes between points anywhere and in the region, found in so many seconds."""
    graph, points = select(model.graph, output), _points_beside(model)
    if region is None:
        return sampled_lower(graph, norm, points, time.monotonic() + sampling), None
    lower = sampled_lower(graph, norm, points, time.monotonic() + sampling / 2)
    return lower, sampled_lower(graph, norm, deadline=time.monotonic() + sampling / 2, region=region)


def _points_beside(model: Model) -> np.ndarray | None:
    """The samples beside the model, if there are some that can be read quickly: slopes are steep where data lie."""
    path = default_data(model)
    try:
        return None if path is None or path.stat().st_size > _SMALL_FILE else read_dataset(path, model).inputs
    except CertlipError:
        return None


def _region(model: Model, around: Any, eps: Any, norm: str) -> Region | None:
    if (around is None) != (eps is None):
        raise UsageError("a local bound needs a sample and a radius; give both `around` and `eps`, or neither")
    if around is None:
        return None
    radius = exact_amount(eps, "eps")
    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}; choose l2 or linf")
    if isinstance(around, (str, Path)):
        return Region(read_sample(str(around), model)[0], radius, norm)
    inputs = np.asarray(around)
    if inputs.size == model.graph.input_size:
        inputs = inputs[None]  # one sample, with or without an axis for it
    samples = make_dataset(inputs, None, model, where="`around`")
    if len(samples) != 1:
        raise UsageError(f"`around` holds {len(samples)} samples; give one")
    return Region(samples.inputs[0], radius, norm)


def _certificate_file(path: Path, model: Model) -> Path:
    """A file that may be written: no folder, and not the model itself."""
    if path.is_dir() or not path.name:
        raise UsageError(f"{path} is a folder; name a file for the certificate, like {path / 'bound.json'}")
    if model.path is not None and path.exists() and path.samefile(model.path):
        raise UsageError(f"{path} is the model itself; name another file for the certificate")
    if path.parent.suffix == SUFFIX:
        raise UsageError(f"{path.parent} is a bundle, not a folder; name the bundle itself, or a file beside it")
    return path


def _certificate_place(path: Path) -> Path:
    """A folder or a bundle for many certificates."""
    if path.suffix not in ("", SUFFIX) and not path.is_dir():
        raise UsageError(f"{path} names one certificate, but each output has its own; name a folder or a {SUFFIX} file")
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
    progress: Callable[[str], None] = silent,
    each: Callable[[SampleResult], None] = silent,
    seed: int = 0,
    clip: tuple[Any, Any] | None = None,
    level: str = "float",
) -> VerifyReport:
    """Is the class of every sample kept by every perturbation of norm at most eps? (Regressors: `tolerance`.)

    eps: exact as a string ("0.1", "8/255") or Fraction; a float means its exact binary value. data: a path, a pair
    (x, y) with y possibly None, a Dataset, or None for the `.npz` beside the model. A sample is certified by a proof,
    falsified by a proved counterexample that the model's runtime confirms, else unknown or timeout.

    certificates: a folder for the proofs, or a bundle where the name ends in `.certlip`; an interrupted run leaves
    those it has. clip: (low, high), the interval in which entries of perturbed inputs stay. level: "deployed" counts
    only what is proved for every execution in the model's own arithmetic; each result says which level it has.
    """
    question = Question(
        exact_amount(eps, "eps"),
        norm,
        None if tolerance is None else exact_amount(tolerance, "the tolerance"),
        None if clip is None else exact_interval(clip, "the clip"),
        level,
    )
    limits = seconds(timeout, "the timeout"), seconds(total_timeout, "the total timeout")
    loaded = as_model(model)
    samples = dataset_of(loaded, data, limit)
    verifier = Verifier(loaded, question, method, progress, seed)
    options = {"method": method, "timeout": timeout, "total_timeout": total_timeout, "seed": seed, "level": level}
    with _recorder(loaded, certificates, options) as recorder:
        results = []
        for result in verify_samples(verifier, samples, *limits):
            results.append(result)
            if recorder is not None:
                recorder.sample(result, samples.inputs[result.index], question)
            each(result)
        final = []
        for result in results:
            refreshed = verifier.refresh(result, samples.inputs[result.index])
            changed = refreshed.status is not result.status or refreshed.level != result.level
            if recorder is not None and changed:
                recorder.sample(refreshed, samples.inputs[result.index], question)
            final.append(refreshed)
    return _report(verifier, samples, final)


def _recorder(
    model: Model, certificates: str | Path | None, options: Mapping[str, Any]
) -> AbstractContextManager[Recorder | None]:
    return nullcontext() if certificates is None else Recorder(model, Path(certificates), options)


def _report(verifier: Verifier, samples: Dataset, results: Sequence[SampleResult]) -> VerifyReport:
    question = verifier.question
    labelled = question.tolerance is None and samples.labels is not None
    bounds = tuple(verifier.table.all())
    limits = question.tolerance, question.clip
    return VerifyReport(verifier.model, question.eps, question.norm, tuple(results), bounds, labelled, *limits)


def dataset_of(model: Model, data: Any, limit: int | None = None) -> Dataset:
    """Samples from a path, arrays or the `.npz` beside the model, checked. Raises UsageError."""
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
    progress: Callable[[str], None] = silent,
    each: Callable[[SampleResult], None] = silent,
    certificates: str | Path | None = None,
    level: str = "float",
) -> VerifyReport:
    """The largest certified radius of each sample: every smaller perturbation keeps its class (or the tolerance).

    certificates: as for `verify`. level: "deployed" for radii that hold in every execution in the model's arithmetic.
    """
    slack = None if tolerance is None else exact_amount(tolerance, "the tolerance")
    question = Question(Fraction(0), norm, slack, level=level)
    limits = seconds(timeout, "the timeout"), seconds(total_timeout, "the total timeout")
    loaded = as_model(model)
    samples = dataset_of(loaded, data, limit)
    verifier = Verifier(loaded, question, method, progress)
    options = {"method": method, "timeout": timeout, "total_timeout": total_timeout, "level": level}
    with _recorder(loaded, certificates, options) as recorder:
        results = []
        for result in verify_samples(verifier, samples, *limits, Verifier.measure):
            results.append(result)
            if recorder is not None:
                recorder.radius(result, samples.inputs[result.index], question)
            each(result)
        final = []
        for result in results:
            remeasured = verifier.remeasure(result, samples.inputs[result.index])
            if recorder is not None and remeasured.radius != result.radius:
                recorder.radius(remeasured, samples.inputs[result.index], question)
            final.append(remeasured)
    return _report(verifier, samples, final)
