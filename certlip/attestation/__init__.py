"""What was checked about which model, as an in-toto Statement: signing tools sign it, `certlip check` verifies it."""

from __future__ import annotations

from certlip.attestation.attest import attest, check_time
from certlip.attestation.statement import PREDICATE_TYPE, STATEMENT_TYPE, Attestation, Attested, read_attestation
from certlip.attestation.steady import steady
from certlip.attestation.verify import objections

__all__ = [
    "PREDICATE_TYPE", "STATEMENT_TYPE", "Attestation", "Attested", "attest", "check_time", "objections",
    "read_attestation", "steady",
]  # fmt: skip
