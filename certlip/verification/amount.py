"""Exact numbers from what callers pass: radii, tolerances, limits and times, each refused where it makes no sense."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from certlip.errors import UsageError
from certlip.properties.numbers import parse_amount

_LARGEST = Fraction(sys.float_info.max)
_LONGEST = 4096  # bits of numerator and denominator


def exact_amount(value: object, what: str) -> Fraction:
    """A non-negative rational: text is read as written ("0.1", "8/255"), a float means its exact binary value."""
    amount = parse_amount(value, what) if isinstance(value, str) else _from_number(value, what)
    if amount > _LARGEST:
        raise UsageError(f"{what} {_short(value)} is beyond all floating-point numbers; use a smaller value")
    if amount.numerator.bit_length() + amount.denominator.bit_length() > _LONGEST:
        raise UsageError(f"{what} {_short(value)} has too many digits; round it")
    return amount


def exact_interval(ends: Sequence[object], what: str) -> tuple[Fraction, Fraction]:
    """Two rationals of either sign, the smaller one first."""
    if len(ends) != 2:
        raise UsageError(f"{what} has {len(ends)} ends; give the smallest and the largest value")
    low, high = (exact_amount(size, what) * (-1 if negative else 1) for negative, size in map(_sign, ends))
    if low > high:
        raise UsageError(f"{what} from {low} to {high} holds no number; put the smaller end first")
    return low, high


def _sign(end: Any) -> tuple[bool, object]:
    """Whether an end is negative, and its size."""
    if isinstance(end, str):
        text = end.strip()
        return text.startswith("-"), text.removeprefix("-")
    negative = bool(isinstance(end, numbers.Real) and end < 0)
    return negative, -end if negative else end


def _from_number(value: object, what: str) -> Fraction:
    if isinstance(value, numbers.Rational):
        value = Fraction(int(value.numerator), int(value.denominator))  # numpy's integers would wrap around later
    elif isinstance(value, numbers.Real):
        value = float(value)  # numpy's narrower floats are exact in binary64
    try:
        amount = Fraction(value) if isinstance(value, (float, Fraction, Decimal)) else None
    except (ValueError, OverflowError):
        amount = None
    if amount is None:
        raise UsageError(f"{what} {_short(value)} is not a finite number; use a value like 0.1")
    if amount < 0:
        raise UsageError(f"{what} {_short(value)} is negative; use a value of at least 0")
    return amount


def seconds(value: float | None, what: str) -> float | None:
    """A time limit: None is none, anything else a number of at least 0."""
    if value is None:
        return None
    try:
        limit = float(value)
    except (TypeError, ValueError):
        limit = math.nan
    if not limit >= 0:
        raise UsageError(f"{what} {_short(value)} is not a number of seconds; use a positive number or None")
    return limit


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, Fraction) or value.denominator.bit_length() < 1024 else "given"
    return text if len(text) <= 40 else f"{text[:40]}..."
