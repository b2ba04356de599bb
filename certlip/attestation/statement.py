"""The attestation as data, and its strict JSON form: an in-toto Statement v1 with a predicate of certlip's own.

in-toto lets readers skip fields they do not know unless a predicate says otherwise. This one does: whatever is not
listed here is refused, as in a certificate, so that nobody signs or reads more than was verified.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certlip.certificate.claims import KINDS, REAL
from certlip.certificate.grammar import array_of, digest, fields, integer, nested, one_of, require, text
from certlip.certificate.record import MAX_TEXT, decode
from certlip.check.levels import LEVELS
from certlip.errors import CertificateRejected, UsageError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:certlip:attestation:certificate:1"
"""Names this version of the predicate; it leads nowhere."""

TIME = "%Y-%m-%dT%H:%M:%SZ"
_MAX_NAME = 1000
_MAX_DEPTH = 8


def _name(value: Any) -> None:
    text(value)
    require(0 < len(value) <= _MAX_NAME, "a name is empty or too long")


def _boolean(value: Any) -> None:
    require(isinstance(value, bool), f"{str(value)[:40]!r} is neither true nor false")


def _time(value: Any) -> None:
    fits = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII)
    try:
        require(bool(fits) and bool(datetime.strptime(value, TIME)), "a time is not like 2026-01-31T12:00:00Z")
    except ValueError:
        require(False, "a time does not exist")


def _object(value: Any) -> None:
    require(isinstance(value, dict), f"{str(value)[:40]!r} is not an object")
    nested(_MAX_DEPTH)(value)


_LATER = ("property", "violation")
"""Kinds that attestations count only where there are any: those made before these kinds stay valid."""

_sha256 = fields({"sha256": digest})
_level = one_of(*LEVELS[1:])
_STATEMENT = fields(
    {
        "_type": one_of(STATEMENT_TYPE),
        "predicateType": one_of(PREDICATE_TYPE),
        "subject": array_of(fields({"name": _name, "digest": _sha256})),
        "predicate": fields(
            {
                "verdict": one_of("accepted"),
                "level": _level,
                "claims": fields(
                    {kind: integer() for kind in KINDS if kind not in _LATER}, dict.fromkeys(_LATER, integer())
                ),
                "checker": fields({"name": one_of("certlip"), "version": _name, "exact": _boolean}),
                "certificates": array_of(
                    fields({"digest": _sha256, "statement": _object, "semantics": _object, "level": _level})
                ),
            },
            {"timeChecked": _time},
        ),
    }
)


@dataclass(frozen=True)
class Attested:
    """One claim that the checker accepted: digest and content of its certificate, and the level it reached."""

    digest: str
    statement: Mapping[str, Any]
    semantics: Mapping[str, Any]
    level: str


@dataclass(frozen=True)
class Attestation:
    """The checker accepted these claims about one model.

    subjects: (name, sha256) of the model file, then of its external data files. certificates: sorted by digest; the
    Lipschitz bounds that they rest on are not listed, their digests are part of the certificates. exact: whether claims
    about real arithmetic were proved in exact arithmetic. version: of certlip. time: in UTC, None for none.
    """

    subjects: tuple[tuple[str, str], ...]
    certificates: tuple[Attested, ...]
    exact: bool
    version: str
    time: str | None = None

    @property
    def level(self) -> str:
        """The weakest level among the claims."""
        return min((claim.level for claim in self.certificates), key=LEVELS.index)

    @property
    def claims(self) -> dict[str, int]:
        """How many claims there are of each kind, of most that are not there too: an accepted falsification is proof
        that the model fails."""
        return _counted(claim.statement for claim in self.certificates)

    @property
    def in_short(self) -> str:
        """How many claims of which kind, like "3 claims (2 robustness, 1 falsification)"."""
        count = len(self.certificates)
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.claims.items() if number)
        return f"{count} claim{'s' * (count != 1)} ({kinds})"

    def to_json(self) -> str:
        """The statement as canonical JSON and a newline. Raises UsageError where it would be too long to read back."""
        predicate: dict[str, Any] = {
            "verdict": "accepted",
            "level": self.level,
            "claims": self.claims,
            "checker": {"name": "certlip", "version": self.version, "exact": self.exact},
            "certificates": [
                {"digest": {"sha256": claim.digest}, "statement": dict(claim.statement),
                 "semantics": dict(claim.semantics), "level": claim.level}
                for claim in self.certificates
            ],
        }  # fmt: skip
        if self.time is not None:
            predicate["timeChecked"] = self.time
        data = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in self.subjects],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
        written = canonical(data) + "\n"
        if len(written) > MAX_TEXT:
            raise UsageError("an attestation of so many certificates is longer than 16 MiB; attest them in parts")
        _validate(data)
        return written

    @staticmethod
    def from_json(written: str) -> Attestation:
        """Decode and validate. Raises CertificateRejected for anything but a well-formed attestation of certlip."""
        try:
            data = decode(written)
            _validate(data)
        except CertificateRejected as error:
            raise CertificateRejected(str(error).replace("the certificate", "the attestation")) from error
        predicate = data["predicate"]
        claims = (
            Attested(claim["digest"]["sha256"], claim["statement"], claim["semantics"], claim["level"])
            for claim in predicate["certificates"]
        )
        subjects = ((subject["name"], subject["digest"]["sha256"]) for subject in data["subject"])
        checker = predicate["checker"]
        return Attestation(
            tuple(subjects), tuple(claims), checker["exact"], checker["version"], predicate.get("timeChecked")
        )


def canonical(data: Any) -> str:
    """Sorted keys, no spaces, ASCII: equal texts are equal data (Python alone would hold 1 and true for equal)."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def read_attestation(path: Path) -> Attestation:
    """The attestation in a file. Raises UsageError where there is none, CertificateRejected for a bad one."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_TEXT + 1)
    except OSError as error:
        raise UsageError(f"cannot read the attestation {path}: {error.strerror}; check the path") from error
    try:
        return Attestation.from_json(data.decode())
    except UnicodeDecodeError as error:
        raise CertificateRejected(f"{path} is not an attestation: it is not text") from error
    except CertificateRejected as error:
        raise CertificateRejected(f"{path}: {error}") from error


def _validate(data: Any) -> None:
    """The rules above, and what they cannot say: every level is the one that its claim can have."""
    if isinstance(data, dict) and {"payload", "dsseEnvelope"} & data.keys():
        raise CertificateRejected("this is a signed envelope; verify its signature and take the statement out of it")
    _STATEMENT(data)
    predicate, claims = data["predicate"], data["predicate"]["certificates"]
    require(bool(data["subject"]) and bool(claims), "it is about nothing")
    digests = [claim["digest"]["sha256"] for claim in claims]
    require(digests == sorted(set(digests)), "its claims are not in order, or one stands there twice")
    for claim in claims:
        require(claim["statement"].get("kind") in KINDS, "it holds a claim of an unknown kind")
    counted = _counted(claim["statement"] for claim in claims)
    require(predicate["claims"] == counted, "its numbers of claims are not those of the claims in it")
    own = "exact" if predicate["checker"]["exact"] else "float"
    for claim in claims:
        level = own if canonical(claim["semantics"]) == canonical(REAL) else "deployed"
        require(claim["level"] == level, f"a claim of level {level} is called {claim['level']}")
    weakest = min((claim["level"] for claim in claims), key=LEVELS.index)
    require(predicate["level"] == weakest, f"its level is {weakest}, not {predicate['level']}")


def _counted(statements: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    kinds = Counter(statement["kind"] for statement in statements)
    return {kind: kinds[kind] for kind in KINDS if kinds[kind] or kind not in _LATER}


def time_text(seconds: int) -> str:
    """RFC 3339 in UTC, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime(TIME)
