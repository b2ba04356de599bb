"""What readers see of an exact number is on the safe side of it, and close."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from certlip.report.rounded import rounded_down, rounded_up, text_down

numbers = (
    st.fractions()
    | st.floats(allow_nan=False, allow_infinity=False).map(Fraction)
    | st.decimals(allow_nan=False, allow_infinity=False, places=4).map(Fraction)
)


@given(numbers)
def test_the_decimal_is_on_its_side_and_the_rest_is_exact(value):
    for text, sign in ((rounded_up(value), 1), (rounded_down(value), -1)):
        shown, _, rest = text.partition(" ")
        apart = sign * (Fraction(shown) - value)
        assert 0 <= apart <= abs(value) / 10**9
        assert bool(rest) == (apart != 0)
        if "exactly" in rest:
            assert Fraction(rest.split("exactly ")[1].rstrip(")")) == value
        elif rest:
            assert "exact number" in rest and len(str(value)) > 50


def test_known_values():
    assert rounded_up(Fraction(1, 10)) == rounded_down(Fraction(1, 10)) == "0.1"
    assert rounded_down(Fraction(8, 255)) == "0.03137254901 (rounded down; exactly 8/255)"
    assert rounded_up(Fraction(8, 255)) == "0.03137254902 (rounded up; exactly 8/255)"
    assert rounded_up(Fraction(2)) == "2" and rounded_down(Fraction(1000)) == "1000" and rounded_up(Fraction(0)) == "0"
    assert rounded_down(Fraction(-1, 3)) == "-0.3333333334 (rounded down; exactly -1/3)"
    assert text_down(Fraction(1, 3)) == "0.3333333333"
    assert len(rounded_up(Fraction(10**2400 + 1))) < 100
