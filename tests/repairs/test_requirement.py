"""What can be asked, and what methods are asked for it."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from certlip.errors import UsageError
from certlip.repairs.requirement import MaxLipschitz, MinCertified, rival_spread


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MaxLipschitz(Fraction(0), "l2"), "leaves only constants"),
        (lambda: MinCertified(Fraction(0), Fraction(1), "l2"), "asks for nothing"),
        (lambda: MinCertified(Fraction(3, 2), Fraction(1), "l2"), "at most 1"),
        (lambda: MinCertified(Fraction(1, 2), Fraction(0), "l2"), "positive eps"),
        (lambda: MinCertified(Fraction(1, 2), Fraction(1), "l2", Fraction(0)), "only constants"),
    ],
)
def test_what_cannot_be_met_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_bound_is_its_own_aim():
    (aim,) = MaxLipschitz(Fraction(10), "l2").aims(1.0, None)
    assert (aim.target, aim.radius) == (10.0, 0.0)


def test_classifiers_are_fitted_where_the_loss_tells_margins_apart():
    (aim,) = MaxLipschitz(Fraction(1, 10), "l2").aims(math.sqrt(2), 0.5)
    assert aim.target > 0.1
    assert aim.radius == pytest.approx(0.5)
    (wide,) = MaxLipschitz(Fraction(100), "l2").aims(math.sqrt(2), 0.5)
    assert wide.target == 100 and 0 < wide.radius < 0.5


def test_a_share_asks_for_growing_radii():
    aims = list(MinCertified(Fraction(1, 2), Fraction(1, 4), "l2").aims(math.sqrt(2), 1.0))
    radii = [aim.radius for aim in aims]
    assert radii[0] == 0.25 and radii == sorted(set(radii))


def test_a_tolerance_is_a_bound():
    (aim,) = MinCertified(Fraction(1), Fraction(1, 4), "linf", Fraction(1)).aims(1.0, None)
    assert (aim.target, aim.radius) == (4.0, 0.0)


def test_the_spread_of_rivals():
    assert rival_spread("l2", 1) == 1.0 and rival_spread("linf", 3) == 2.0
    assert rival_spread("l2", 3) ** 2 == pytest.approx(2)
