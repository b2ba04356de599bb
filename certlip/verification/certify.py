"""Certificates out of results: bounds and verdicts become records that `certlip check` proves again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from certlip.certificate import Certificate, write_certificate
from certlip.certificate.store import array_digest, write_atomically
from certlip.errors import UsageError
from certlip.importers import Model
from certlip.lipschitz.bound import Bound
from certlip.verification.model_file import input_type
from certlip.verification.pipeline import Question, SampleResult, Status
from certlip.verification.uninterrupted import uninterrupted
from certlip.version import __version__

ASSUMPTIONS = (
    "The claim is about the network in real arithmetic with the weights stored in the file, not about its execution in "
    "floating point.",
    "The checker's own arithmetic is IEEE 754 binary64 with round-to-nearest, and its matrix products are conventional "
    "sums in any order.",
)


def certificate_model(model: Model) -> dict[str, Any]:
    """The entry that identifies the model."""
    return {
        "name": _file_name(model),
        "sha256": model.sha256,
        "external": dict(model.external),
        "input": model.input_name,
        "output": model.output_name,
    }


def _file_name(model: Model) -> str:
    return model.name if model.onnx_bytes is None else f"model-{model.sha256[:16]}.onnx"


class Recorder:
    """Writes certificates into one folder as verdicts come in; a bound is written once and referred to."""

    def __init__(self, model: Model, folder: Path):
        self._model, self._folder = model, folder
        self._tolerated: Bound | None = None
        self._written: dict[int, tuple[Bound, str]] = {}  # by identity; the bound is kept so that it stays unique
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; name a folder for the certificates")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}; name another one") from error
        if not os.access(folder, os.W_OK):
            raise UsageError(f"the folder {folder} cannot be written to; name another one for the certificates")
        if model.onnx_bytes is not None:  # a torch model: the claim is about its exported form, kept beside the claims
            with uninterrupted():
                write_atomically(folder / _file_name(model), model.onnx_bytes)

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
                statement["region"] = {
                    "norm": bound.region.norm,
                    "eps": str(bound.region.eps),
                    "center": array_digest(center),
                }
            witness = {"method": bound.theorem, "arrays": names}
            record = self._record(statement, witness, {"method": bound.method, **bound.details})
            stem = "-".join(["bound", bound.norm, str(bound.output), bound.method]).replace(" ", "-").replace(",", "-")
            self._write(self._folder / (name or f"{stem}-{record.digest[:12]}.json"), record, arrays)
            self._written[id(bound)] = bound, record.digest
        return self._written[id(bound)][1]

    def sample(self, result: SampleResult, x: np.ndarray, question: Question) -> None:
        """Write what a verdict proves: nothing for an undecided sample."""
        stored = self._stored(x)
        statement: dict[str, Any] = {"norm": question.norm, "eps": str(question.eps)}
        arrays = {array_digest(stored): stored}
        if result.status is Status.CERTIFIED:
            if question.tolerance is not None:
                self.tolerance(result.bounds[0], question)
                return
            bounds = {str(bound.output): self.bound(bound) for bound in result.bounds}
            statement |= {"kind": "robustness", "input": array_digest(stored), "label": result.label}
            record = self._record(statement, {"bounds": bounds}, {"index": result.index})
        elif result.status is Status.FALSIFIED and result.counterexample is not None:
            other = result.counterexample.astype(stored.dtype)
            arrays[array_digest(other)] = other
            statement |= {"kind": "falsification", "input": array_digest(stored), "counterexample": array_digest(other)}
            if question.tolerance is not None:
                statement["tolerance"] = str(question.tolerance)
            else:
                statement["label"] = result.label
            record = self._record(statement, {}, {"index": result.index})
        else:
            return
        self._write(self._folder / f"sample-{result.index:06d}.json", record, arrays)

    def _stored(self, x: np.ndarray) -> np.ndarray:
        """An input as it is stored: exact, and of a type that the format knows."""
        kind = input_type(self._model)
        return x.astype(kind if kind.itemsize > 2 else np.float32)

    def tolerance(self, bound: Bound, question: Question) -> None:
        """Write that the outputs move by at most the tolerance, which holds for every input at once."""
        if self._tolerated is bound:
            return
        statement = {
            "kind": "tolerance",
            "norm": question.norm,
            "eps": str(question.eps),
            "tolerance": str(question.tolerance),
        }
        record = self._record(statement, {"bounds": {str(bound.output): self.bound(bound)}}, {})
        self._write(self._folder / f"tolerance-{question.norm}.json", record, {})
        self._tolerated = bound

    @staticmethod
    def _write(path: Path, record: Certificate, arrays: Mapping[str, np.ndarray]) -> None:
        with uninterrupted():
            write_certificate(path, record, arrays)

    def _record(self, statement: Mapping, witness: Mapping, details: Mapping) -> Certificate:
        model = self._model
        provenance = {
            "certlip": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in ("numpy", "onnx", "onnxruntime", "scipy")},
            "import": {
                "source": model.source,
                "runtime": model.agreement.runtime,
                "samples": model.agreement.samples,
                "largest_difference": repr(model.agreement.largest_difference),
                "allowed": repr(model.agreement.allowed),
            },
            "details": {key: repr(item) if isinstance(item, float) else item for key, item in details.items()},
        }
        return Certificate(certificate_model(model), statement, witness, (*ASSUMPTIONS, *model.graph.notes), provenance)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
