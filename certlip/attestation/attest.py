"""Run the checker and put into a statement what it accepted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import time as now

from certlip.attestation.statement import Attestation, Attested, time_text
from certlip.attestation.steady import steady
from certlip.certificate import Certificate
from certlip.check import Checker, Finding, records
from certlip.errors import CertificateRejected, UsageError
from certlip.onnx_reader import read_file
from certlip.version import __version__

_LATEST = 253402300799  # the end of the year 9999, the last that RFC 3339 can write


def attest(
    paths: Sequence[str | Path],
    models: Sequence[str | Path] = (),
    exact: bool = False,
    level: str = "float",
    time: str | None = None,
) -> Attestation:
    """Check certificates (files, folders or bundles) and attest those that no other of them rests on.

    exact, level: see `Checker`. Raises CertificateRejected unless every one of them is accepted and about the model in
    each file of `models`, UsageError where they are about several models or something is missing.
    """
    places = [Path(model) for model in models]
    for place in places:
        if not place.exists():
            raise UsageError(f"there is no model {place}; check the path")
    checker = Checker(places, exact, level)
    found: dict[str, tuple[Certificate, Finding]] = {}
    rejected: list[Finding] = []
    for store, name in steady(records(paths)):
        finding = checker.check_record(store, name)
        if finding.accepted:
            record = store.record(name)
            found[record.digest] = record, finding
        else:
            rejected.append(finding)
    if rejected:
        raise CertificateRejected(
            f"nothing is attested: of {len(found) + len(rejected)} certificates {len(rejected)} were rejected, "
            f"the first is {rejected[0].path}: {rejected[0].message}"
        )
    lemmas = lemmas_of(record for record, _ in found.values())
    claims = {digest: entry for digest, entry in sorted(found.items()) if digest not in lemmas}
    subjects = subjects_of([record for record, _ in found.values()], [record for record, _ in claims.values()])
    for place in places:
        require_subject(place, subjects)
    attested = (
        Attested(digest, record.statement, record.semantics, finding.level)
        for digest, (record, finding) in claims.items()
    )
    return Attestation(subjects, tuple(attested), exact or level == "exact", __version__, time)


def lemmas_of(claims: Iterable[Certificate]) -> set[str]:
    """Digests of the Lipschitz certificates that these claims rest on."""
    return {digest for claim in claims for digest in claim.witness.get("bounds", {}).values()}


def subjects_of(records: Sequence[Certificate], claims: Sequence[Certificate]) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of the model file and of its external data files; names are those that the first claim uses.

    Raises UsageError where the certificates are about several models.
    """
    models = {(record.model["sha256"], tuple(sorted(record.model["external"].items()))) for record in records}
    if len(models) != 1:
        raise UsageError(f"these certificates are about {len(models)} models; attest each model on its own")
    ((sha256, external),) = models
    return ((claims[0].model["name"], sha256), *external)


def require_subject(place: Path, subjects: Sequence[tuple[str, str]]) -> None:
    """Raises CertificateRejected for a model file that is not the subject; folders only offer files to choose from."""
    if place.is_dir():
        return
    file = read_file(place)
    if (file.sha256, *(sha256 for _, sha256 in sorted(file.external.items()))) != tuple(each for _, each in subjects):
        raise CertificateRejected(
            f"{place} is another model than the certificates are about: sha256 {file.sha256[:16]}..."
        )


def check_time() -> str:
    """Now, or the time that SOURCE_DATE_EPOCH sets so that a run can be reproduced to the byte."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        return time_text(int(now()))
    if not (given.isascii() and given.isdecimal() and len(given) <= 12 and int(given) <= _LATEST):
        raise UsageError(f"SOURCE_DATE_EPOCH '{given[:40]}' is not a number of seconds since 1970")
    return time_text(int(given))
