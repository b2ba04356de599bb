"""Numbers as people write and read them, with the side of the rounding under control."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from certlip.errors import UsageError

_UP = Context(prec=10, rounding=ROUND_CEILING)
_DOWN = Context(prec=10, rounding=ROUND_FLOOR)
_LARGEST_EXPONENT = 400
_SMALLEST = 1e-290
_SHORT = 12


def parse_amount(text: str, what: str) -> Fraction:
    """An exact non-negative number from "0.1", "8/255" or "1e-3". Raises UsageError naming `what`."""
    try:
        if "/" in text:
            numerator, denominator = (_decimal(part) for part in text.split("/"))
            value = numerator / denominator
        else:
            value = _decimal(text)
    except (ValueError, ArithmeticError) as error:
        raise UsageError(f"{what} '{text[:40]}' is not a number; write it like 0.1 or 8/255") from error
    if value < 0:
        raise UsageError(f"{what} '{text[:40]}' is negative; use a value of at least 0")
    return value


def _decimal(text: str) -> Fraction:
    number = Decimal(text.strip())
    if not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError("out of range")
    return Fraction(number)


def decimal_up(value: float) -> float:
    """A decimal of ten digits that is at least the value; printing the float shows exactly these digits."""
    return _rounded(value, _UP)


def decimal_down(value: float) -> float:
    """A decimal of ten digits that is at most the value."""
    return _rounded(value, _DOWN)


def text_up(value: Fraction) -> str:
    """Ten digits, rounded up, of an exact number of any size."""
    return f"{_UP.divide(Decimal(value.numerator), Decimal(value.denominator)).normalize(_UP):g}"


def text_down(value: Fraction) -> str:
    """Ten digits, rounded down, of an exact number of any size."""
    opposite = text_up(-value)
    return opposite[1:] if opposite.startswith("-") else f"-{opposite}" if value else opposite


def short_up(value: Fraction) -> str:
    """The number itself where that is short, else ten digits, rounded up."""
    return str(value) if len(str(value)) <= _SHORT else text_up(value)


def short_down(value: Fraction) -> str:
    """The number itself where that is short, else ten digits, rounded down."""
    return str(value) if len(str(value)) <= _SHORT else text_down(value)


def _rounded(value: float, context: Context) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        return value
    if 0 < abs(value) < _SMALLEST:  # below, floats have too few digits to show ten
        return float(context.to_integral_value(Decimal(value / _SMALLEST)) * Decimal(str(_SMALLEST)))
    return float(context.create_decimal(Decimal(value)))
