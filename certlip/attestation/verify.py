"""Hold an attestation against certificates that were just checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from certlip.attestation.attest import lemmas_of, require_subject, subjects_of
from certlip.attestation.statement import Attestation, canonical
from certlip.certificate import Certificate, Store
from certlip.check import Finding
from certlip.check.levels import reaches
from certlip.errors import CertificateRejected, CertlipError


def objections(
    attestation: Attestation,
    entries: Sequence[tuple[Store, str]],
    findings: Sequence[Finding],
    models: Sequence[Path] = (),
) -> list[str]:
    """Why the attestation does not stand; an empty list where it does.

    It stands when every attested certificate is among those given, says what was attested, was accepted again at no
    lower level, and is about the subjects; when nothing else is given but the bounds that these rest on, accepted too;
    and when every model *file* named by the user is the subject. entries: `steady` records, findings: what the checker
    says about them; it must prove in exact arithmetic where the attestation did. Signatures are not looked at.
    """
    checked = [(_record(*entry), finding) for entry, finding in zip(entries, findings, strict=True)]
    return list(_objections(attestation, checked, models))


def _record(store: Store, name: str) -> Certificate | None:
    try:
        return store.record(name)
    except CertificateRejected:
        return None  # the finding says why


def _objections(
    attestation: Attestation, checked: Sequence[tuple[Certificate | None, Finding]], models: Sequence[Path]
) -> Iterator[str]:
    rejected = sum(record is None or not finding.accepted for record, finding in checked)
    if rejected:
        yield f"{rejected} of the certificates given are rejected"
    given = {record.digest: (record, finding) for record, finding in checked if record is not None}
    attested = {claim.digest: claim for claim in attestation.certificates}
    for digest, claim in attested.items():
        if digest not in given:
            yield f"the attested certificate {digest[:12]}... is not given"
            continue
        record, finding = given[digest]
        if canonical([claim.statement, claim.semantics]) != canonical([record.statement, record.semantics]):
            yield f"the certificate {digest[:12]}... does not claim what was attested"
        if finding.accepted and not reaches(finding.level, claim.level):
            yield f"the certificate {digest[:12]}... was attested at level {claim.level}, but is {finding.level}"
    claims = [given[digest][0] for digest in attested if digest in given]
    for digest in sorted(given.keys() - attested.keys() - lemmas_of(claims)):
        yield f"the certificate {digest[:12]}... is not attested"
    try:
        if claims and subjects_of([record for record, _ in given.values()], claims) != attestation.subjects:
            yield "the certificates are about another model than the subject"
        for place in models:
            require_subject(place, attestation.subjects)
    except CertlipError as error:
        yield str(error)
