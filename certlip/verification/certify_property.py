"""Certificates out of verdicts on property files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from certlip.certificate import Writer, array_digest
from certlip.certificate.store import property_name
from certlip.check import theorems
from certlip.errors import CertificateRejected, UsageError
from certlip.importers import Model
from certlip.properties.property import Property
from certlip.verification.certify import Recorder, branches_witness, opened_place
from certlip.verification.decide import PropertyResult
from certlip.verification.uninterrupted import uninterrupted
from certlip.verification.verdicts import Grade, Status


class PropertyRecorder(Recorder):
    """Writes what is proved about properties of one model; each property file is stored beside the claims."""

    def verdict(
        self, result: PropertyResult, property: Property, text: str, source: Path, name: str | None = None
    ) -> str:
        """Write what a verdict proves, under the name or one made of the file's and the record's digest.

        property: as it was read from `text`, the file `source`. Returns why nothing was written, "" where it was.
        """
        digest = sha256(text.encode()).hexdigest()
        statement: dict[str, Any] = {"property": digest}
        details: dict[str, Any] = {"method": result.method, "file": source.name}
        arrays: dict[str, np.ndarray] = {}
        witness: dict[str, Any] = {}
        if result.status is Status.CERTIFIED:
            if not result.proofs and not property.is_vacuous:
                return "the proof has no certificate"
            statement["kind"] = "property"
            try:
                witness, arrays = branches_witness(result.proofs)
            except UsageError as error:
                return str(error)
        elif result.status is Status.FALSIFIED and result.counterexample is not None:
            found = result.counterexample.reshape(self._model.graph.input_shape)
            point = self._stored(found)
            if not self._is_proved(property, point):
                return "the counterexample is confirmed, but not proved for the numbers that a certificate can store"
            statement |= {"kind": "violation", "counterexample": array_digest(point)}
            arrays[array_digest(point)] = point
            details["execution"] = self._execution(counterexample=found)
        else:
            return "there is no verdict to certify"
        precision = self._model.precision
        semantics = {"arithmetic": precision.name, "library_units": int(precision.library_units)}
        grade = Grade("deployed", semantics) if result.level == "deployed" else None
        record = self._record(statement, witness, details, grade)
        with uninterrupted():
            if not self._writer.has(property_name(digest)):
                self._writer.put(property_name(digest), text.encode())
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", source.name.split(".vnnlib")[0])[:100]
        self._write(name or f"{statement['kind']}-{stem}-{record.digest[:12]}.json", record, arrays)
        return ""

    def _is_proved(self, property: Property, point: np.ndarray) -> bool:
        """Whether the checker will find the point unsafe."""
        x = point.astype(np.float64)
        try:
            outputs = theorems.outputs_at(self._model.graph, x)
        except CertificateRejected:
            return False
        entries = [Fraction(entry) for entry in x.ravel().tolist()]
        return any(theorems.violates(case, entries, outputs) for case in property.cases)


class SuiteRecorder:
    """The certificates of a suite, about many models, in one place. Use it in a `with` statement, like a `Recorder`."""

    def __init__(self, path: Path, options: Mapping[str, Any] | None = None):
        self._path, self._options = path, dict(options or {})
        self._writer: Writer = opened_place(path)
        self._count = 0

    def __enter__(self) -> SuiteRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None or self._count:
            with uninterrupted():
                self._writer.close()

    def verdict(
        self, model: Model, result: PropertyResult, property: Property, text: str, source: Path, name: str
    ) -> str:
        """As `PropertyRecorder.verdict`; an undecided instance needs no reason."""
        if result.status not in (Status.CERTIFIED, Status.FALSIFIED):
            return ""
        recorder = PropertyRecorder(model, self._path, self._options, self._writer)
        reason = recorder.verdict(result, property, text, source, name)
        self._count += not reason
        return reason
