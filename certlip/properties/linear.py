"""Linear expressions over a network's inputs and outputs, in exact numbers of bounded size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import chain

Variable = tuple[str, int]
"""("X", i) for input i, ("Y", j) for output j."""

MAX_DIGITS = 2000
"""Digits of a number as written, and the largest exponent: more than any exact binary64 number needs."""
MAX_BITS = 2**14
"""Bits of a numerator or denominator: what MAX_DIGITS allows, and what arithmetic may make of it."""

_ZERO = Fraction(0)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE](?P<exponent>[+-]?[0-9]+))?")


class Refused(Exception):
    """What the text means is outside of what certlip reads. The message is the sentence that the user sees."""


@dataclass(frozen=True, slots=True)
class Linear:
    """sum_v terms[v] v + constant, no coefficient zero."""

    terms: Mapping[Variable, Fraction] = field(default_factory=dict)
    constant: Fraction = _ZERO


def number(text: str) -> Fraction | None:
    """The exact value of a decimal number, None where the text is none. Raises Refused for one beyond all sanity."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    exponent = (found["exponent"] or "0").lstrip("+-").lstrip("0")
    if len(text) > MAX_DIGITS or len(exponent) > len(str(MAX_DIGITS)) or int(exponent or "0") > MAX_DIGITS:
        raise Refused(f"the number '{text[:40]}' has more than {MAX_DIGITS} digits or so large an exponent; round it")
    return Fraction(Decimal(text))


def combination(added: Iterable[Linear], subtracted: Iterable[Linear] = ()) -> Linear:
    """The sum of the ones minus the sum of the others."""
    terms: dict[Variable, Fraction] = {}
    constant = _ZERO
    for sign, part in chain(((1, part) for part in added), ((-1, part) for part in subtracted)):
        for variable, c in part.terms.items():
            signed = c if sign > 0 else -c
            terms[variable] = _sane(terms[variable] + signed) if variable in terms else signed
        if part.constant:
            constant = _sane(constant + part.constant if sign > 0 else constant - part.constant)
    return Linear({variable: c for variable, c in terms.items() if c}, constant)


def total(parts: Sequence[Linear]) -> Linear:
    """`(+ a b ...)`"""
    return combination(parts)


def difference(parts: Sequence[Linear]) -> Linear:
    """`(- a)`, or `(- a b c)` = a - b - c."""
    return combination(parts[:1], parts[1:]) if len(parts) > 1 else combination((), parts)


def product(parts: Sequence[Linear]) -> Linear:
    """`(* a b ...)` where at most one factor has variables."""
    variable = [part for part in parts if part.terms]
    if len(variable) > 1:
        raise Refused("a product of variables is not linear; certlip reads products with constants only")
    scale = Fraction(1)
    for part in parts:
        scale = scale if part.terms else _sane(scale * part.constant)
    return _scaled(variable[0], scale) if variable else Linear(constant=scale)


def quotient(parts: Sequence[Linear]) -> Linear:
    """`(/ a b ...)` = a / b / ..., the divisors constant and not zero."""
    first, divisors = parts[0], parts[1:]
    if not divisors:
        raise Refused("'/' needs at least two operands; write (/ 1 3)")
    if any(part.terms for part in divisors):
        raise Refused("a quotient by a variable is not linear; certlip reads quotients by constants only")
    if not all(part.constant for part in divisors):
        raise Refused("this divides by zero; SMT-LIB gives that no value")
    for part in divisors:
        first = _scaled(first, 1 / part.constant)
    return first


def _scaled(expression: Linear, scale: Fraction) -> Linear:
    terms = {variable: _sane(scale * c) for variable, c in expression.terms.items()} if scale else {}
    return Linear(terms, _sane(scale * expression.constant))


def _sane(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise Refused(f"the arithmetic leads to numbers of more than {MAX_BITS} bits; round the constants")
    return value
