"""Integer series against mpmath."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from certlip.rigor import exact_functions as functions

ALPHA, GAMMA, BETA = Fraction(3, 2), Fraction(5, 4), Fraction(7, 4)
EDGES = [0.0, 1e-12, -1e-12, 1e-60, 18.999, -18.999, 19.0, -19.0, 63.99, -63.99, 64.0, -64.0, 243.0, -1e3, 1e6, -1e6]

CASES = {
    "sigmoid": (functions.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x))),
    "tanh": (functions.tanh, mpmath.tanh),
    "softplus": (functions.softplus, lambda x: mpmath.log1p(mpmath.exp(x)) if x < 100 else x + mpmath.exp(-x)),
    "elu": (
        lambda x: functions.elu(x, ALPHA, GAMMA),
        lambda x: 1.25 * x if x > 0 else mpmath.mpf(1.875) * mpmath.expm1(x),
    ),
    "silu": (lambda x: functions.silu(x, BETA), lambda x: x / (1 + mpmath.exp(-1.75 * x))),
    "gelu": (functions.gelu, lambda x: x * mpmath.ncdf(x) if abs(x) < 60 else max(x, 0)),
    "tanh_gelu": (
        functions.tanh_gelu,
        lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    """Within 2^-200; the stated ERROR is 2^-180."""
    function, truth = CASES[name]
    rng = np.random.default_rng(0)
    points = [*EDGES, *(3 * rng.standard_normal(40)).tolist(), *(60 * rng.random(20) - 30).tolist()]
    with mpmath.workprec(500):
        for x in points:
            exact = mpmath.mpf(function(int(Fraction(x) * 2**functions.BITS)))
            argument = mpmath.mpf(int(Fraction(x) * 2**functions.BITS)) / mpmath.mpf(2) ** functions.BITS
            assert abs(exact / mpmath.mpf(2) ** functions.BITS - truth(argument)) < mpmath.mpf(2) ** -200, x
    assert functions.ERROR == 2 ** (functions.BITS - 180)


@pytest.mark.parametrize("bits", [64, 240, 640])
def test_exponential_and_pi(bits):
    with mpmath.workprec(bits + 200):
        assert abs(functions.pi(bits) - mpmath.pi * mpmath.mpf(2) ** bits) <= 1
        for t in (0.0, 1e-9, 0.5, 1.0, 17.25, 100.0, bits + 1.9, bits + 2.1, 1e5):
            integer = int(Fraction(t) * 2**bits)
            truth = mpmath.exp(-mpmath.mpf(integer) / mpmath.mpf(2) ** bits) * mpmath.mpf(2) ** bits
            assert abs(functions.exp_minus(integer, bits) - truth) <= 2
