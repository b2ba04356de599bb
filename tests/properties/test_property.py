"""When a property asks nothing."""

from __future__ import annotations

from fractions import Fraction as F

import pytest

from certlip.properties.property import Case, Halfspace, Property

ONE = F(1)


@pytest.mark.parametrize(
    ("low", "high", "halfspace", "vacuous"),
    [
        (0, 1, Halfspace(((0, ONE),), (), F(0), strict=True), True),  # x < 0 where x >= 0
        (0, 1, Halfspace(((0, ONE),), (), F(0)), False),  # x <= 0 holds at 0
        (0, 1, Halfspace(((0, -ONE),), (), F(-1), strict=True), True),  # x > 1
        (0, 1, Halfspace(((0, -ONE),), (), F(-1)), False),
        (0, 1, Halfspace(((0, ONE),), (), F(-1, 10**30)), True),
        (0, 1, Halfspace(((0, ONE),), ((0, ONE),), F(-5)), False),  # what outputs do is not known
        (1, 0, Halfspace((), ((0, ONE),), F(0)), True),
    ],
)
def test_a_case_without_inputs(low, high, halfspace, vacuous):
    case = Case((F(low),), (F(high),), (halfspace,))
    assert case.is_vacuous is vacuous
    assert Property(1, 1, (case,)).is_vacuous is vacuous
    other = Case((F(0),), (F(1),), ())
    assert not Property(1, 1, (case, other)).is_vacuous
