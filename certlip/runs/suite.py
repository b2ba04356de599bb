"""A whole suite: one verdict after the other, none lost to the failure of another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from certlip.api import silent
from certlip.errors import CertlipError, UsageError
from certlip.importers import Model, load
from certlip.properties.vnnlib import parse_property, property_text
from certlip.report.suites import InstanceResult, InstancesReport
from certlip.runs.fit import require_fit
from certlip.runs.identity import model_identity, property_identity
from certlip.runs.instances import Instance, locate, read_instances
from certlip.runs.ledger import Ledger
from certlip.runs.lines import earlier_instance, instance_line, limits_of
from certlip.verification import Status
from certlip.verification.amount import seconds
from certlip.verification.certify_property import SuiteRecorder
from certlip.verification.decide import decide_property

_INTERNAL = CertlipError.exit_code
_LATE = "the total time had passed before"


def verify_instances(
    instances: str | Path,
    *,
    timeout: float | None = 60.0,
    total_timeout: float | None = None,
    limit: int | None = None,
    method: str = "auto",
    seed: int = 0,
    input_name: str | None = None,
    output_name: str | None = None,
    resume: str | Path | None = None,
    certificates: str | Path | None = None,
    progress: Callable[[str], None] = silent,
    each: Callable[[InstanceResult], None] = silent,
) -> InstancesReport:
    """Decide every row of a suite, a .csv file with a model and a property a row, relative to its folder.

    timeout: seconds for each instance, reading included, and the cap of the rows' own timeouts; total_timeout: for the
    run; limit: the first rows only. An error of one instance is its result, with status "error", and the others go on.
    resume: a file of JSON lines; verdicts that it holds are taken from it and every new one is appended at once, so an
    interrupted run goes on where it stopped. certificates: as for `verify_property`, not with resume. Raises UsageError
    where the suite or that file cannot be read.
    """
    path, began = Path(instances), time.monotonic()
    total = seconds(total_timeout, "the total timeout")
    if limit is not None and limit < 1:
        raise UsageError(f"the limit {limit} leaves no instances; use a number of at least 1")
    rows = read_instances(path)[:limit]
    if resume is not None and certificates is not None:
        raise UsageError("an earlier run's verdicts come without their proofs; leave out resume or certificates")
    options = {"timeout": timeout, "method": method, "seed": seed}
    recorder = None if certificates is None else SuiteRecorder(Path(certificates), options)
    with nullcontext() if resume is None else Ledger(Path(resume)) as ledger, recorder or nullcontext():
        suite = Suite(
            path.parent, seconds(timeout, "the timeout"), None if total is None else began + total, method, seed,
            input_name, output_name, ledger, progress, recorder,
        )  # fmt: skip
        results = []
        for result in suite.decide(rows):
            results.append(result)
            each(result)
    return InstancesReport(path, tuple(results), len(rows), time.monotonic() - began)


@dataclass
class Suite:
    """Decides rows of a suite; the last model is kept for the next one."""

    folder: Path
    timeout: float | None
    end: float | None
    method: str
    seed: int
    input_name: str | None
    output_name: str | None
    ledger: Ledger | None
    progress: Callable[[str], None] = silent
    recorder: SuiteRecorder | None = None
    _loaded: tuple[Path, Model] | None = field(default=None, init=False)

    def decide(self, rows: list[Instance]) -> Iterator[InstanceResult]:
        """The verdicts in order. What the file of an earlier run says is not asked again; new ones are appended."""
        for instance in rows:
            result = self._result(instance)
            if self.ledger is not None and not result.earlier:
                self.ledger.write(instance_line(result))
            yield result

    def _result(self, instance: Instance) -> InstanceResult:
        began = time.monotonic()
        timeout = self._timeout(instance, began)
        name = f"{instance.model} {instance.property}"
        self.progress(name)
        blank = InstanceResult(
            instance.index, instance.model, instance.property, Status.TIMEOUT, "", 0.0, timeout,
            expected=instance.expected, asked=_NOTHING | self._names(), limits=self._limits(timeout),
        )  # fmt: skip
        try:
            if instance.problem:
                raise UsageError(instance.problem)
            if self.ledger is None and timeout == 0:
                return replace(blank, note=_LATE)
            model = locate(self.folder, instance.model, "model file")
            property = locate(self.folder, instance.property, "property")
            text = property_text(property)
            asked = {**property_identity(text), **self._identity(model), **self._names()}
            blank = replace(blank, asked=asked)
            line = None if self.ledger is None else self.ledger.earlier(asked, blank.limits)
            if line is not None:
                return earlier_instance(line, instance)
            if timeout == 0:
                return replace(blank, note=_LATE)
            question, loaded = parse_property(text, str(property)), self._model(model)
            require_fit(question, loaded, str(property))
            found = decide_property(
                loaded,
                question,
                deadline=None if timeout is None else began + timeout,
                seed=self.seed,
                method=self.method,
                progress=lambda message: self.progress(f"{name}: {message}"),
            )
        except CertlipError as error:
            failed = replace(blank, status=Status.ERROR, note=str(error), exit_code=error.exit_code)
            return replace(failed, seconds=time.monotonic() - began)
        except OSError as error:
            note = f"{error.strerror}: {error.filename}; check the path and its permissions"
            failed = replace(blank, status=Status.ERROR, note=note, exit_code=UsageError.exit_code)
            return replace(failed, seconds=time.monotonic() - began)
        except Exception as error:  # a defect, or no memory: the other instances go on
            note = f"{type(error).__name__}: {error}"
            failed = replace(blank, status=Status.ERROR, note=note, exit_code=_INTERNAL)
            return replace(failed, seconds=time.monotonic() - began)
        note = found.note
        if self.recorder is not None:
            name = f"instance-{instance.index:06d}.json"
            why = self.recorder.verdict(loaded, found, question, text, property, name)
            note = "; ".join(filter(None, (note, why and f"no certificate: {why}")))
        return replace(
            blank,
            status=found.status,
            method=found.method,
            seconds=time.monotonic() - began,
            level=found.level,
            counterexample=None if found.counterexample is None else found.counterexample.reshape(-1),
            outputs=found.outputs,
            note=note,
            exit_code=_INTERNAL if found.status is Status.ERROR else None,
        )

    def _timeout(self, instance: Instance, now: float) -> float | None:
        """The smallest of the row's own limit, the one of every instance, and what is left of the total."""
        left = None if self.end is None else max(self.end - now, 0.0)
        known = [value for value in (instance.timeout, self.timeout, left) if value is not None]
        return min(known, default=None)

    def _names(self) -> dict[str, Any]:
        return {"input_name": self.input_name, "output_name": self.output_name}

    def _limits(self, timeout: float | None) -> dict[str, Any]:
        return limits_of(timeout, self.method, self.seed)

    def _model(self, path: Path) -> Model:
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = None  # one model in memory, not two
            self._loaded = path, load(path, input_name=self.input_name, output_name=self.output_name)
        return self._loaded[1]

    def _identity(self, path: Path) -> dict[str, Any]:
        """Digests of the model; an ONNX file need not be loaded for them."""
        known = self._loaded is not None and self._loaded[0] == path
        return model_identity(self._model(path) if known or path.suffix == ".pt2" else path)


_NOTHING: dict[str, Any] = {"model_sha256": None, "model_external": {}, "property_sha256": None}
