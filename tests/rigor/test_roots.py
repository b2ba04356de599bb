"""Roots of unity against 50-digit arithmetic."""

import mpmath
import numpy as np
import pytest

from certlip.rigor.roots import roots_of_unity


@pytest.mark.parametrize("n", [*range(1, 33), 49, 97, 224, 360, 1021])
def test_contains_within_an_ulp(n):
    cos, sin = roots_of_unity(n)
    assert cos.shape == sin.shape == (n,)
    with mpmath.workdps(50):
        for k in range(n):
            for ball, name in ((cos, "cospi"), (sin, "sinpi")):
                value = getattr(mpmath, name)(mpmath.mpf(2 * k) / n)
                error = abs(value - mpmath.mpf(float(ball.mid[k])))
                assert error <= mpmath.mpf(float(ball.rad[k])) + mpmath.mpf(10) ** -48
    assert (cos.rad <= 2.0**-52).all() and (sin.rad <= 2.0**-52 * np.abs(sin.mid)).all()


def test_exact_values():
    cos, sin = roots_of_unity(12)
    assert np.array_equal(cos.mid[[0, 2, 3, 4, 6, 8, 9, 10]], [1, 0.5, 0, -0.5, -1, -0.5, 0, 0.5])
    assert not cos.rad[[0, 2, 3, 4, 6, 8, 9, 10]].any() and cos.rad[[1, 5, 7, 11]].all()
    assert np.array_equal(sin.mid[[0, 1, 3, 5, 6, 7, 9, 11]], [0, 0.5, 1, 0.5, 0, -0.5, -1, -0.5])
    assert not sin.rad[[0, 1, 3, 5, 6, 7, 9, 11]].any() and sin.rad[[2, 4, 8, 10]].all()


def test_angles_that_are_nearly_special_are_not_called_exact():
    cos, sin = roots_of_unity(1021)
    assert (cos.rad[1:] > 0).all() and (sin.rad[1:] > 0).all()


def test_results_are_shared_and_cannot_be_altered():
    assert roots_of_unity(8) is roots_of_unity(8)
    with pytest.raises(ValueError):
        roots_of_unity(8)[0].mid[0] = 2.0


@pytest.mark.parametrize("n", [0, -1, 2**40 + 1])
def test_refusals(n):
    with pytest.raises(ValueError, match="n must lie"):
        roots_of_unity(n)
