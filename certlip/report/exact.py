"""Exact numbers in words."""

from __future__ import annotations

from fractions import Fraction

from certlip.properties.numbers import decimal_down


def amount(value: Fraction) -> str:
    """An exact number, and a decimal beside it unless it is whole."""
    return str(value) if value.denominator == 1 else f"{value} ({decimal(value)})"


def decimal(value: Fraction) -> str:
    """Ten digits: the number itself where they suffice, else a number below it."""
    nearest = float(value)
    exact = Fraction(f"{nearest:.10g}") == value
    return f"{nearest if exact else decimal_down(nearest):.10g}"
