"""Certificates out of results: bounds and verdicts become records that `certlip check` proves again."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from certlip.certificate import SUFFIX, Certificate, Writer, array_digest, open_writer
from certlip.certificate.claims import REAL
from certlip.certificate.store import model_name
from certlip.errors import CertlipError, UsageError
from certlip.importers import Model
from certlip.lipschitz.bound import Bound
from certlip.proofs.relaxation.branches import Tree
from certlip.rigor.rounding import Array
from certlip.verification.forest_arrays import arrays_of
from certlip.verification.model_file import input_type
from certlip.verification.replay import runner
from certlip.verification.uninterrupted import uninterrupted
from certlip.verification.verdicts import Grade, Question, SampleResult, Status
from certlip.version import __version__

REAL_ASSUMPTION = (
    "The claim is about the network in real arithmetic with the weights stored in the file, not about its execution in "
    "floating point."
)
CLASS_ASSUMPTION = (
    "The claim is about every execution in {arithmetic}: sums in any order, fused multiply-add or not, library "
    "functions f within {library_units} u (1 + |f|), no fast matrix multiplication or convolution."
)
CHECKER_ASSUMPTION = (
    "The checker's own arithmetic is IEEE 754 binary64 with round-to-nearest, and its matrix products are conventional "
    "sums in any order."
)


def certificate_model(model: Model) -> dict[str, Any]:
    """The entry that identifies the model."""
    return {
        "name": model.name if model.onnx_bytes is None else model_name(model.sha256),
        "sha256": model.sha256,
        "external": dict(model.external),
        "input": model.input_name,
        "output": model.output_name,
        "graph": model.graph.digest,
    }


class Recorder:
    """Writes certificates into a folder as verdicts come in, or into one bundle when it is left; a Lipschitz bound is
    written once and referred to. Use it in a `with` statement: a bundle is then written after an interruption, too.

    options: what the search was asked for, kept as provenance. writer: where the place is shared with other recorders,
    and somebody else closes it.
    """

    def __init__(
        self, model: Model, path: Path, options: Mapping[str, Any] | None = None, writer: Writer | None = None
    ):
        self._model, self._options = model, dict(options or {})
        self._identity = certificate_model(model)
        self._folder = path.parent if path.suffix == SUFFIX else path
        self._tolerated: set[tuple[int, Fraction]] = set()
        self._written: dict[int, tuple[Bound, str]] = {}  # by identity; the bound is kept so that it stays unique
        self._count = 0
        self._owns = writer is None
        self._writer = writer or opened_place(path)
        if model.onnx_bytes is not None:  # a torch model: the claim is about its exported form, kept beside the claims
            with uninterrupted():
                self._writer.put(model_name(model.sha256), model.onnx_bytes)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if self._owns and (kind is None or self._count):  # a run that failed before it proved anything replaces nothing
            with uninterrupted():
                self._writer.close()

    def bound(self, bound: Bound, name: str | None = None) -> str:
        """Write a Lipschitz certificate (once) and return its digest.

        The digest is part of the name: an earlier run's records in the same folder keep the bounds they refer to.
        """
        if id(bound) not in self._written:
            arrays = {array_digest(array): array for array in bound.witness.values()}
            names = {key: array_digest(array) for key, array in bound.witness.items()}
            statement: dict[str, Any] = {
                "kind": "lipschitz",
                "norm": bound.norm,
                "output": {"kind": bound.output.kind, "indices": list(bound.output.indices)},
                "value": str(Fraction(bound.value)),
            }
            if bound.region is not None:
                center = self._stored(bound.region.center)
                arrays[array_digest(center)] = center
                statement["set"] = {
                    "norm": bound.region.norm,
                    "eps": str(bound.region.eps),
                    "center": array_digest(center),
                }
            witness = {"method": bound.theorem, "arrays": names}
            record = self._record(statement, witness, {"method": bound.method, **bound.details})
            stem = re.sub(r"[^A-Za-z0-9.-]+", "-", f"bound-{bound.norm}-{bound.output}-{bound.method}")
            self._write(name or f"{stem}-{record.digest[:12]}.json", record, arrays)
            self._written[id(bound)] = bound, record.digest
        return self._written[id(bound)][1]

    def sample(self, result: SampleResult, x: Array, question: Question) -> None:
        """Write what a verdict proves: nothing for an undecided sample."""
        stored = self._stored(x)
        arrays = {array_digest(stored): stored}
        statement: dict[str, Any] = {"set": self._set(stored, question)}
        details: dict[str, Any] = {"index": result.index}
        witness: dict[str, Any] = {}
        if result.status is Status.CERTIFIED:
            if question.tolerance is not None and not result.trees and result.level != "deployed":
                self.tolerance(result.bounds[0], question)
                return
            if question.tolerance is not None:
                statement |= {"kind": "tolerance", "tolerance": str(question.tolerance)}
            else:
                statement |= {"kind": "robustness", "label": result.label}
            if result.trees:
                witness, forest = branches_witness(result.trees)
                arrays |= forest
            else:
                witness = {"bounds": self._bounds(result)}
        elif result.status is Status.FALSIFIED and result.counterexample is not None:
            other = result.counterexample.astype(stored.dtype)
            arrays[array_digest(other)] = other
            statement |= {"kind": "falsification", "counterexample": array_digest(other)}
            if question.tolerance is not None:
                statement["tolerance"] = str(question.tolerance)
            else:
                statement["label"] = result.label
            details["execution"] = self._execution(input=x, counterexample=result.counterexample)
        else:
            return
        record = self._record(statement, witness, details, result.grade)
        self._write(f"sample-{result.index:06d}.json", record, arrays)

    def radius(self, result: SampleResult, x: Array, question: Question) -> None:
        """Write the radius of a sample, where it is positive and finite."""
        if not (result.status is Status.CERTIFIED and 0 < result.radius < math.inf):
            return
        radius, stored = Fraction(result.radius), self._stored(x)
        around = Question(radius, question.norm, question.tolerance)
        if question.tolerance is not None:
            self.sample(result, x, around)
            return
        statement = {"kind": "radius", "norm": question.norm, "center": array_digest(stored), "label": result.label}
        statement["radius"] = str(radius)
        record = self._record(statement, {"bounds": self._bounds(result)}, {"index": result.index}, result.grade)
        self._write(f"radius-{result.index:06d}.json", record, {array_digest(stored): stored})

    def tolerance(self, bound: Bound, question: Question) -> None:
        """Write that outputs move by at most the tolerance between any two inputs: one claim for all samples."""
        if (id(bound), question.eps) in self._tolerated:
            return
        statement = {
            "kind": "tolerance",
            "set": {"norm": question.norm, "eps": str(question.eps)},
            "tolerance": str(question.tolerance),
        }
        record = self._record(statement, {"bounds": {str(bound.output): self.bound(bound)}}, {})
        self._write(f"tolerance-{question.norm}.json", record, {})
        self._tolerated.add((id(bound), question.eps))

    def _set(self, center: np.ndarray, question: Question) -> dict[str, Any]:
        """The inputs that a claim is about."""
        entry: dict[str, Any] = {"norm": question.norm, "eps": str(question.eps), "center": array_digest(center)}
        if question.clip is not None:
            entry["clip"] = [str(end) for end in question.clip]
        return entry

    def _bounds(self, result: SampleResult) -> dict[str, str]:
        return {str(bound.output): self.bound(bound) for bound in result.bounds}

    def _stored(self, x: np.ndarray) -> np.ndarray:
        """An input as it is stored: exact, and of a type that the format knows."""
        kind = input_type(self._model)
        return x.astype(kind if kind.itemsize > 2 else np.float32)

    @cached_property
    def _origin(self) -> str | None:
        """The model's file as it is found from the folder of the certificates, None where there is no such path."""
        if self._model.path is None or self._model.onnx_bytes is not None:
            return None
        try:
            return Path(os.path.relpath(self._model.path.resolve(), self._folder.resolve())).as_posix()
        except (OSError, ValueError):  # another drive
            return None

    @cached_property
    def _run(self) -> Callable[[Array], Array]:
        return runner(self._model)

    def _execution(self, **points: Array) -> dict[str, Any]:
        """What the model's runtime itself answers at the points, exactly."""
        found: dict[str, Any] = {"runtime": self._model.agreement.runtime}
        try:
            return found | {
                f"outputs_at_{name}": [str(Fraction(value)) for value in self._run(x).tolist()]
                for name, x in points.items()
            }
        except (CertlipError, ValueError, OverflowError) as error:
            return found | {"failed": str(error)}

    def _write(self, name: str, record: Certificate, arrays: Mapping[str, np.ndarray]) -> None:
        with uninterrupted():
            self._writer.write(name, record, arrays)
            self._count += 1

    def _record(
        self, statement: Mapping, witness: Mapping, details: Mapping, grade: Grade | None = None
    ) -> Certificate:
        model = self._model
        semantics = REAL if grade is None else grade.semantics
        about = REAL_ASSUMPTION if semantics == REAL else CLASS_ASSUMPTION.format(**semantics)
        provenance: dict[str, Any] = {
            "certlip": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in ("numpy", "onnx", "onnxruntime", "scipy")},
            "import": {
                "source": model.source,
                "file": self._origin,
                "runtime": model.agreement.runtime,
                "samples": model.agreement.samples,
                "largest_difference": repr(model.agreement.largest_difference),
                "allowed": repr(model.agreement.allowed),
            },
            "options": {key: _plain(item) for key, item in self._options.items()},
            "details": {key: _plain(item) for key, item in details.items()},
        }
        if grade is not None and grade.slack:
            provenance["deployment"] = {
                "slack": [repr(each) for each in grade.slack],
                "largest_share_of_a_margin": repr(grade.share),
            }
        assumptions = about, CHECKER_ASSUMPTION, *model.graph.notes
        return Certificate(self._identity, statement, witness, semantics, assumptions, provenance)


def branches_witness(trees: Sequence[Tree]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The witness that a forest is, and its arrays by digest."""
    arrays = arrays_of(trees)
    names = {name: array_digest(array) for name, array in arrays.items()}
    return {"method": "branches", "arrays": names}, {names[name]: array for name, array in arrays.items()}


def _plain(item: Any) -> Any:
    """What JSON without floats can say."""
    if isinstance(item, dict):
        return {str(key): _plain(entry) for key, entry in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(entry) for entry in item]
    return item if item is None or type(item) in (str, bool, int) else str(item)


def opened_place(path: Path) -> Writer:
    """A writer into a folder or bundle. Raises UsageError, before any work is done, where it could not be written."""
    folder = path.parent if path.suffix == SUFFIX else path
    if path.suffix == SUFFIX and path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the bundle, or a folder that does not end in {SUFFIX}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the certificates, or a file that ends in {SUFFIX}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}; name another one") from error
    if not os.access(folder, os.W_OK):
        raise UsageError(f"the folder {folder} cannot be written to; name another one for the certificates")
    return open_writer(path)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
