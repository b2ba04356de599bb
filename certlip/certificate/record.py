"""The certificate as data, and its strict JSON form.

Numbers are exact: rationals as strings ("1/10", "5164637/2097152") or integers, never JSON floats. Arrays are named by
the sha256 of their `.npy` file, and models by that of their file. `digest` is the sha256 of the canonical JSON of all
other fields, so any altered character is noticed; whether the claim is *true* is for `certlip.check` to prove again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from certlip.certificate.claims import REAL, require_claim
from certlip.certificate.grammar import array_of, nested, require, text
from certlip.errors import CertificateRejected

SCHEMA = 2
"""Number of the certificate format; a checker refuses any other."""

TYPE = "certlip/certificate"
MAX_TEXT = 16 * 2**20

_FIELDS = {
    "schema", "type", "model", "statement", "semantics", "witness", "assumptions", "provenance", "digest",
}  # fmt: skip
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Certificate:
    """One proved claim about one model.

    model: file name, sha256 of the uncompressed file and of each external data file, names of input and output, digest
    of the graph that certlip reads from it. statement: `kind` and its exact numbers. semantics: the arithmetic that the
    claim is about. witness: what the checker needs to prove it again. assumptions: what the claim takes for granted.
    provenance: how it was made; never used in a proof.
    """

    model: Mapping[str, Any]
    statement: Mapping[str, Any]
    witness: Mapping[str, Any]
    semantics: Mapping[str, Any] = field(default_factory=lambda: dict(REAL))
    assumptions: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.statement["kind"])

    @property
    def is_deployed(self) -> bool:
        """Whether the claim is about executions, not about real arithmetic."""
        return self.semantics != REAL

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "type": TYPE,
            "model": dict(self.model),
            "statement": dict(self.statement),
            "semantics": dict(self.semantics),
            "witness": dict(self.witness),
            "assumptions": list(self.assumptions),
            "provenance": dict(self.provenance),
        }

    @property
    def digest(self) -> str:
        return sha256(json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The text that is stored; validated first, so that nothing unreadable is ever written."""
        data = self._content()
        _validate(data)
        return json.dumps({**data, "digest": self.digest}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str) -> Certificate:
        """Decode and validate; CertificateRejected for anything but a well-formed, unaltered record."""
        data = decode(text)
        if not isinstance(data, dict) or data.get("type", TYPE) != TYPE:
            raise CertificateRejected("the file is not a certlip certificate")
        schema = data.get("schema")
        if type(schema) is int and schema != SCHEMA:
            raise CertificateRejected(
                f"the certificate has schema {str(schema)[:20]}, this certlip reads {SCHEMA}; make it again"
            )
        if set(data) != _FIELDS or type(schema) is not int:
            raise CertificateRejected("the file is not a certlip certificate: its fields are not those of the schema")
        _validate(data)
        record = Certificate(
            data["model"],
            data["statement"],
            data["witness"],
            data["semantics"],
            tuple(data["assumptions"]),
            data["provenance"],
        )
        if record.digest != data["digest"]:
            raise CertificateRejected("the certificate was altered after it was made: its digest does not match")
        return record


def _validate(data: Mapping[str, Any]) -> None:
    array_of(text)(data["assumptions"])
    require(isinstance(data["provenance"], dict), "the provenance is not an object")
    nested(_MAX_DEPTH)(data["provenance"])
    require_claim(data)


def decode(text: str) -> Any:
    def refuse(what: str) -> Any:
        raise CertificateRejected(f"the certificate holds {what}, which its format does not allow")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        return record if len(record) == len(pairs) else refuse("a key twice")

    require(len(text) <= MAX_TEXT, "it is longer than 16 MiB")
    try:
        return json.loads(
            text,
            object_pairs_hook=unique,
            parse_float=lambda _: refuse("a floating-point number"),
            parse_constant=refuse,
        )
    except (ValueError, RecursionError) as error:
        raise CertificateRejected("the certificate is not valid JSON; it was truncated or altered") from error
