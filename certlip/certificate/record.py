"""The certificate as data, and its strict JSON form.

Numbers in a statement are exact: rationals as strings ("1/10", "5164637/2097152") or integers, never JSON floats.
Arrays are named by the sha256 of the `.npy` file beside the record. `digest` is the sha256 of the canonical JSON of all
other fields, so any altered character is noticed; whether the claim is *true* is for `certlip.check` to prove again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from typing import Any

from certlip.errors import CertificateRejected

SCHEMA = 1
"""Number of the certificate format; a checker refuses any other."""

_MAX_TEXT = 16 * 2**20
_MAX_DIGITS = 2500
_RATIONAL = re.compile(r"-?(0|[1-9][0-9]*)(/[1-9][0-9]*)?")
_HEX = re.compile(r"[0-9a-f]{64}")

_FIELDS = {"schema", "model", "statement", "witness", "assumptions", "provenance", "digest"}
_MODEL_FIELDS = {"name", "sha256", "external", "input", "output"}
_STATEMENTS: Mapping[str, set[str]] = {
    "lipschitz": {"kind", "norm", "output", "value"},
    "robustness": {"kind", "norm", "eps", "input", "label"},
    "tolerance": {"kind", "norm", "eps", "tolerance"},
    "falsification": {"kind", "norm", "eps", "input", "counterexample"},
}
_CHOICES: Mapping[str, set[str]] = {"falsification": {"label", "tolerance"}}  # exactly one of these
_OPTIONAL: Mapping[str, set[str]] = {"lipschitz": {"region"}}
_REGION_FIELDS = {"norm", "eps", "center"}
_WITNESS_FIELDS: Mapping[str, set[str]] = {
    "lipschitz": {"method", "arrays"},
    "robustness": {"bounds"},
    "tolerance": {"bounds"},
    "falsification": set(),
}


@dataclass(frozen=True)
class Certificate:
    """One proved claim about one model.

    model: file name, sha256 of the uncompressed file and of each external data file, names of input and output.
    statement: `kind` and its exact numbers. witness: what the checker needs to prove it again.
    assumptions: what the claim takes for granted. provenance: how it was made; never used in a proof.
    """

    model: Mapping[str, Any]
    statement: Mapping[str, Any]
    witness: Mapping[str, Any]
    assumptions: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return str(self.statement["kind"])

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": dict(self.model),
            "statement": dict(self.statement),
            "witness": dict(self.witness),
            "assumptions": list(self.assumptions),
            "provenance": dict(self.provenance),
        }

    @property
    def digest(self) -> str:
        return sha256(json.dumps(self._content(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The text that is stored; validated first, so that nothing unreadable is ever written."""
        _validate(self._content())
        return json.dumps({**self._content(), "digest": self.digest}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str) -> Certificate:
        """Decode and validate; CertificateRejected for anything but a well-formed, unaltered record."""
        data = _decode(text)
        if not isinstance(data, dict) or set(data) != _FIELDS:
            raise CertificateRejected("the file is not a certlip certificate: its fields are not those of the schema")
        digest = data.pop("digest")
        _validate(data)
        record = Certificate(
            data["model"], data["statement"], data["witness"], tuple(data["assumptions"]), data["provenance"]
        )
        if record.digest != digest:
            raise CertificateRejected("the certificate was altered after it was made: its digest does not match")
        return record


def rational(text: Any) -> Fraction:
    """An exact number from its string form."""
    if not isinstance(text, str) or len(text) > _MAX_DIGITS or not _RATIONAL.fullmatch(text):
        raise CertificateRejected(f"{str(text)[:40]!r} is not an exact number; certificates hold rationals as strings")
    return Fraction(text)


def _decode(text: str) -> Any:
    def refuse(what: str) -> Any:
        raise CertificateRejected(f"the certificate holds {what}, which its format does not allow")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        return record if len(record) == len(pairs) else refuse("a key twice")

    if len(text) > _MAX_TEXT:
        refuse("more than 16 MiB of text")
    try:
        return json.loads(
            text,
            object_pairs_hook=unique,
            parse_float=lambda _: refuse("a floating-point number"),
            parse_constant=refuse,
        )
    except (ValueError, RecursionError) as error:
        raise CertificateRejected("the certificate is not valid JSON; it was truncated or altered") from error


def _validate(data: Mapping[str, Any]) -> None:
    def require(condition: bool, what: str) -> None:
        if not condition:
            raise CertificateRejected(f"the certificate is malformed: {what}")

    require(data["schema"] == SCHEMA and type(data["schema"]) is int, f"schema {data['schema']!r} is not {SCHEMA}")
    for key in ("model", "statement", "witness", "provenance"):
        require(isinstance(data[key], dict), f"'{key}' is not an object")
    assumptions = data["assumptions"]
    require(isinstance(assumptions, list) and all(isinstance(a, str) for a in assumptions), "'assumptions'")
    model, statement, witness = data["model"], data["statement"], data["witness"]
    require(set(model) == _MODEL_FIELDS, "the fields of 'model'")
    require(all(isinstance(model[key], str) for key in _MODEL_FIELDS - {"external"}), "the names in 'model'")
    external = model["external"]
    require(isinstance(external, dict) and all(map(_is_digest, external.values())), "'external'")
    require(_is_digest(model["sha256"]), "the model's sha256")
    kind = statement.get("kind")
    require(isinstance(kind, str) and kind in _STATEMENTS, f"unknown kind of claim {kind!r}")
    extra = set(statement) - _STATEMENTS[kind] - _OPTIONAL.get(kind, set())
    require(_STATEMENTS[kind] <= set(statement), f"a {kind} claim lacks a field")
    choices = _CHOICES.get(kind, set())
    require(extra <= choices and len(extra) == (1 if choices else 0), f"a {kind} claim has unknown fields")
    require(_is_norm(statement["norm"]), "the norm")
    for key in ("value", "eps", "tolerance"):
        if key in statement:
            require(rational(statement[key]) >= 0, f"'{key}' is negative")
    for key in ("input", "counterexample"):
        if key in statement:
            require(_is_digest(statement[key]), f"'{key}' is not the sha256 of an array")
    if "label" in statement:
        require(type(statement["label"]) is int and statement["label"] >= 0, "the label")
    if kind == "lipschitz":
        output = statement["output"]
        require(isinstance(output, dict) and set(output) == {"kind", "indices"}, "'output'")
        require(isinstance(output["kind"], str) and isinstance(output["indices"], list), "'output'")
        require(all(type(i) is int and i >= 0 for i in output["indices"]), "the output's indices")
    if "region" in statement:
        region = statement["region"]
        require(isinstance(region, dict) and set(region) == _REGION_FIELDS, "the fields of 'region'")
        require(_is_norm(region["norm"]), "the region's norm")
        require(rational(region["eps"]) >= 0, "the region's 'eps' is negative")
        require(_is_digest(region["center"]), "the region's 'center' is not the sha256 of an array")
    require(set(witness) == _WITNESS_FIELDS[kind], f"the witness of a {kind} claim")
    if "method" in witness:
        require(isinstance(witness["method"], str), "the method")
    for key in ("arrays", "bounds"):
        if key in witness:
            table = witness[key]
            require(isinstance(table, dict) and all(map(_is_digest, table.values())), f"'{key}' of the witness")


def _is_norm(text: Any) -> bool:
    return isinstance(text, str) and text in ("l2", "linf")


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and _HEX.fullmatch(text) is not None
