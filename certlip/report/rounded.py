"""Exact numbers for readers: ten digits on the safe side, and the exact number beside them unless they are it."""

from __future__ import annotations

from fractions import Fraction

from certlip.properties.numbers import text_down, text_up

_LONGEST = 50


def rounded_up(value: Fraction) -> str:
    """For what weakens a claim when it grows: a Lipschitz bound, a tolerance that is kept."""
    return _with_exact(value, text_up(value), "up")


def rounded_down(value: Fraction) -> str:
    """For what weakens a claim when it shrinks: the radius of a set on which something holds."""
    return _with_exact(value, text_down(value), "down")


def _with_exact(value: Fraction, short: str, side: str) -> str:
    plain = str(value) if value.denominator == 1 else short
    if len(plain) <= _LONGEST and Fraction(plain) == value:
        return plain
    exact = f"exactly {value}" if len(str(value)) <= _LONGEST else "the record holds the exact number"
    return f"{short} (rounded {side}; {exact})"
