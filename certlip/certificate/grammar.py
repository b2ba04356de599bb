"""What a field of a certificate may hold. Whatever passes has the types that the checker relies on.

A rule takes a value and returns nothing, or raises CertificateRejected. `fields` joins rules to the rule of an object
whose keys are all listed: one unknown key, or one that is missing, and the certificate is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from certlip.errors import CertificateRejected

Rule: TypeAlias = Callable[[Any], None]

MAX_DIGITS = 2500
_RATIONAL = re.compile(r"-?(0|[1-9][0-9]*)(/[1-9][0-9]*)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def rational(text: Any) -> Fraction:
    """An exact number from its string form."""
    if not isinstance(text, str) or len(text) > MAX_DIGITS or not _RATIONAL.fullmatch(text):
        raise CertificateRejected(f"{str(text)[:40]!r} is not an exact number; certificates hold rationals as strings")
    return Fraction(text)


def require(condition: bool, what: str) -> None:
    if not condition:
        raise CertificateRejected(f"the certificate is malformed: {what}")


def not_negative(value: Any) -> None:
    require(rational(value) >= 0, "a number is negative that must not be")


def positive(value: Any) -> None:
    require(rational(value) > 0, "a number is not positive that must be")


def text(value: Any) -> None:
    require(isinstance(value, str), f"{str(value)[:40]!r} is not text")


def digest(value: Any) -> None:
    require(isinstance(value, str) and _DIGEST.fullmatch(value) is not None, f"{str(value)[:40]!r} is not a sha256")


def integer(most: int | None = None) -> Rule:
    """An integer of at least 0, and at most `most`."""

    def rule(value: Any) -> None:
        fits = type(value) is int and value >= 0 and (most is None or value <= most)
        require(fits, f"{str(value)[:40]!r} is not an integer in its range")

    return rule


def one_of(*choices: str) -> Rule:
    """One of these words."""

    def rule(value: Any) -> None:
        require(isinstance(value, str) and value in choices, f"{str(value)[:40]!r} is none of {', '.join(choices)}")

    return rule


def array_of(item: Rule) -> Rule:
    """A list of any length."""

    def rule(value: Any) -> None:
        require(isinstance(value, list), f"{str(value)[:40]!r} is not a list")
        for entry in value:
            item(entry)

    return rule


def table_of(item: Rule) -> Rule:
    """An object with keys of any name."""

    def rule(value: Any) -> None:
        require(isinstance(value, dict), f"{str(value)[:40]!r} is not an object")
        for entry in value.values():
            item(entry)

    return rule


def fields(required: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None) -> Rule:
    """An object with exactly these keys, the optional ones or not."""
    known = {**required, **(optional or {})}

    def rule(value: Any) -> None:
        require(isinstance(value, dict), f"{str(value)[:40]!r} is not an object")
        missing, unknown = sorted(required.keys() - value.keys()), sorted(value.keys() - known.keys())
        require(not missing, f"the field '{', '.join(missing)}' is missing")
        require(not unknown, f"the field '{', '.join(unknown)[:40]}' is unknown")
        for key, entry in value.items():
            known[key](entry)

    return rule


def nested(depth: int) -> Rule:
    """Any JSON without floating-point numbers, of at most this depth."""

    def rule(value: Any) -> None:
        if isinstance(value, (dict, list)):
            require(depth > 0, "it is nested too deeply")
            for entry in value.values() if isinstance(value, dict) else value:
                nested(depth - 1)(entry)
        else:
            require(value is None or type(value) in (str, bool, int), f"{str(value)[:40]!r} is no exact value")

    return rule


def interval(value: Any) -> None:
    """[low, high], two rationals in this order."""
    require(isinstance(value, list) and len(value) == 2, "an interval is not a pair")
    require(rational(value[0]) <= rational(value[1]), "an interval is empty")
