"""The kinds of claims: the fields of each statement, of its witness and of the semantics it is made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from certlip.certificate.grammar import (
    Rule,
    array_of,
    digest,
    fields,
    integer,
    interval,
    not_negative,
    one_of,
    positive,
    require,
    table_of,
    text,
)
from certlip.errors import CertificateRejected

REAL = {"arithmetic": "real"}
ARITHMETICS = ("binary64", "binary32", "binary16", "bfloat16")
MAX_LIBRARY_UNITS = 2**20

_norm = one_of("l2", "linf")
_label = integer()
_output = fields({"kind": text, "indices": array_of(integer())})
_ball = {"norm": _norm, "eps": not_negative, "center": digest}
_domain = fields(_ball, {"clip": interval})

_STATEMENTS: Mapping[str, Rule] = {
    "lipschitz": fields(
        {"kind": text, "norm": _norm, "output": _output, "value": not_negative}, {"set": fields(_ball)}
    ),
    "robustness": fields({"kind": text, "set": _domain, "label": _label}),
    "radius": fields({"kind": text, "norm": _norm, "center": digest, "radius": positive, "label": _label}),
    "tolerance": fields(
        {
            "kind": text,
            "set": fields({"norm": _norm, "eps": not_negative}, {"center": digest, "clip": interval}),
            "tolerance": not_negative,
        }
    ),
    "falsification": fields(
        {"kind": text, "set": _domain, "counterexample": digest}, {"label": _label, "tolerance": not_negative}
    ),
    "property": fields({"kind": text, "property": digest}),
    "violation": fields({"kind": text, "property": digest, "counterexample": digest}),
}
_BOUNDS = fields({"bounds": table_of(digest)})
_BRANCHES = fields({"method": one_of("branches"), "arrays": table_of(digest)})


def _proof(value: Any) -> None:
    """Lipschitz bounds, or a distinction of cases."""
    (_BRANCHES if isinstance(value, dict) and "method" in value else _BOUNDS)(value)


_WITNESSES: Mapping[str, Rule] = {
    "lipschitz": fields({"method": text, "arrays": table_of(digest)}),
    "robustness": _proof,
    "radius": _BOUNDS,
    "tolerance": _proof,
    "falsification": fields({}),
    "property": _BRANCHES,
    "violation": fields({}),
}
KINDS = tuple(_STATEMENTS)

_MODEL = fields(
    {
        "name": text, "sha256": digest, "external": table_of(digest), "input": text, "output": text, "graph": digest,
    }
)  # fmt: skip
_deployed = fields({"arithmetic": one_of(*ARITHMETICS), "library_units": integer(MAX_LIBRARY_UNITS)})


def require_claim(data: Mapping[str, Any]) -> None:
    """Raises CertificateRejected unless model, statement, semantics and witness fit each other."""
    _MODEL(data["model"])
    statement, semantics = data["statement"], data["semantics"]
    kind = statement.get("kind") if isinstance(statement, dict) else None
    if not isinstance(kind, str) or kind not in _STATEMENTS:
        raise CertificateRejected(f"the certificate is malformed: unknown kind of claim {str(kind)[:40]!r}")
    _STATEMENTS[kind](statement)
    _WITNESSES[kind](data["witness"])
    if semantics != REAL:
        _deployed(semantics)
    if kind == "falsification":
        require(("label" in statement) != ("tolerance" in statement), "a falsification is of a label or of a tolerance")
    if kind == "lipschitz":
        require(semantics == REAL, "a Lipschitz bound is about real arithmetic only")
    if kind == "tolerance" and "center" not in statement["set"]:
        require(semantics == REAL, "a tolerance between any two inputs is claimed for real arithmetic only")
        require("clip" not in statement["set"], "a set without a center has no clip")
        require("bounds" in data["witness"], "a tolerance between any two inputs rests on a Lipschitz bound")
