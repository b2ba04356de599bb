"""Activations: slopes hold for every difference quotient and are tight, enclosures hold what they should."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.ops import Abs, Clip, Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh, TanhGelu
from certlip.ops.smooth import gelu_peak, silu_peak, tanh_gelu_peak
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY32, BINARY64, REAL

HUGE = np.finfo(np.float64).max


def leaky(slope):
    return LeakyRelu(slope), lambda x: x if x > 0 else mpmath.mpf(slope) * x


def clip(low, high):
    return Clip(low, high), lambda x: min(max(x, mpmath.mpf(low)), mpmath.mpf(high))


def elu(alpha, gamma=1.0):
    alpha_, gamma_ = mpmath.mpf(alpha), mpmath.mpf(gamma)
    return Elu(alpha, gamma), lambda x: gamma_ * (x if x > 0 else alpha_ * (mpmath.exp(max(x, -9999)) - 1))


def gated(gate):
    return lambda x: x * gate(x) if abs(x) < 1e6 else max(x, mpmath.mpf(0))


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x)) if abs(x) < 1e6 else mpmath.mpf(x > 0)


def silu(beta):
    return Silu(beta), lambda x: x * sigmoid(mpmath.mpf(beta) * x)


def cubic(x):
    return sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))


CASES = {
    "relu": (Relu(), lambda x: max(x, 0)),
    "abs": (Abs(), abs),
    "leaky 0.01": leaky(0.01),
    "leaky -0.3": leaky(-0.3),
    "leaky 1.7": leaky(1.7),
    "clip": clip(-0.5, 2.0),
    "clip above": clip(-np.inf, 1.0),
    "identity": clip(-np.inf, np.inf),
    "elu": elu(1.0),
    "elu 1.7": elu(1.7),
    "elu -0.4": elu(-0.4),
    "selu": elu(1.6732632423543772, 1.0507009873554805),
    "elu 0.3, 2.5": elu(0.3, 2.5),
    "softplus": (Softplus(), lambda x: mpmath.log1p(mpmath.exp(x)) if abs(x) < 1e6 else max(x, 0)),
    "sigmoid": (Sigmoid(), sigmoid),
    "tanh": (Tanh(), lambda x: mpmath.tanh(x) if abs(x) < 1e6 else mpmath.sign(x)),
    "gelu": (Gelu(), gated(lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2)),
    "tanh gelu": (TanhGelu(), gated(cubic)),
    "silu": silu(1.0),
    "silu 1.702": silu(1.702),
    "silu 1e-3": silu(1e-3),
    "silu 1e200": silu(1e200),
}
PRECISIONS = (REAL, BINARY64, BINARY32, BINARY16, BFLOAT16)
everything = pytest.mark.parametrize(("operator", "exact"), CASES.values(), ids=CASES.keys())
floats = st.one_of(st.floats(-4, 4), st.floats(-60, 60), st.floats(-HUGE, HUGE))


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(50), np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


def holds(ball: Ball, index, value) -> bool:
    rad = float(np.broadcast_to(ball.rad, ball.shape)[index])
    return abs(value - mpmath.mpf(float(ball.mid[index]))) <= mpmath.mpf(rad)


@everything
@settings(deadline=None, max_examples=60)
@given(s=floats, t=floats)
def test_difference_quotients_lie_within_the_slopes(operator, exact, s, t):
    low, high = operator.slopes()
    if s == t:
        return
    with mpmath.workdps(700):  # enough that huge arguments do not cancel
        s, t = mpmath.mpf(s), mpmath.mpf(t)
        quotient = (exact(s) - exact(t)) / (s - t)
        assert mpmath.mpf(float(low)) <= quotient <= mpmath.mpf(float(high))


@everything
def test_slopes_are_tight(operator, exact):
    """A dense sample of the derivative comes within 1e-5 of both ends."""
    scale = getattr(operator, "beta", 1.0)
    slopes = operator.derivative(np.linspace(-40, 40, 800_001) / scale)
    slopes = np.append(slopes, operator.derivative(np.array([-1e-9, 1e-9]) / scale))
    low, high = operator.slopes()
    assert low <= slopes.min() <= low + 1e-5
    assert high - 1e-5 <= slopes.max() <= high


@everything
def test_derivative_and_value_agree_with_the_exact_function(operator, exact):
    x = np.array([-30.3, -3.1, -1.3, -0.2, 0.4, 1.1, 1.9, 5.0, 31.7]) / getattr(operator, "beta", 1.0)
    for point, value, slope in zip(x, operator.value(x), operator.derivative(x), strict=True):
        true = exact(mpmath.mpf(point))
        step = abs(mpmath.mpf(point)) * mpmath.mpf(10) ** -20
        quotient = (exact(mpmath.mpf(point) + step) - exact(mpmath.mpf(point) - step)) / (2 * step)
        assert abs(true - value) <= 1e-14 * (1 + abs(true))
        assert abs(quotient - slope) <= 1e-13


@everything
@settings(deadline=None, max_examples=60)
@given(points=st.lists(floats, min_size=1, max_size=8))
def test_exact_value(operator, exact, points):
    ball = operator.exact_value(np.array([points]))
    rad = np.broadcast_to(ball.rad, ball.shape)
    with mpmath.workdps(50):
        for i, point in enumerate(points):
            value = exact(mpmath.mpf(point))
            assert np.isfinite(ball.mid[0, i])
            assert holds(ball, (0, i), value)
            gain = 1 / min(getattr(operator, "beta", 1.0), 1.0)
            assert rad[0, i] <= 4e-15 * (gain + abs(value)) or abs(value) > 1e308


@everything
@settings(deadline=None, max_examples=40)
@given(mid=st.floats(-20, 20), rad=st.floats(0, 3), where=st.floats(-0.999, 0.999))
def test_enclose(operator, exact, mid, rad, where):
    x = Ball(np.array([[mid]]), np.array([[rad]]))
    with mpmath.workdps(50):
        value = exact(mpmath.mpf(mid) + mpmath.mpf(where) * mpmath.mpf(rad))
    for precision in PRECISIONS:
        assert holds(operator.enclose(precision, x), (0, 0), value)


@everything
@pytest.mark.parametrize("precision", [BINARY32, BINARY16], ids=lambda precision: precision.name)
def test_enclose_holds_low_precision_executions(operator, exact, precision):
    """An execution that rounds every intermediate result to a short format."""
    kind = np.float32 if precision is BINARY32 else np.float16
    x = np.linspace(-8, 8, 4001).astype(kind)
    if isinstance(operator, Silu) and operator.beta > 1e4:
        return
    ball = operator.enclose(precision, Ball.exact(x))
    with np.errstate(over="ignore"):
        computed = naive(operator, x, kind).astype(np.float64)
    assert (np.abs(computed - ball.mid) <= ball.rad).all()


def naive(operator, x, kind):
    """The textbook formula in the arithmetic of `kind`."""
    one, half = kind(1), kind(0.5)
    match operator:
        case LeakyRelu():
            return np.where(x > 0, x, kind(operator.slope.mid) * x)
        case Elu():
            below = kind(operator.alpha) * (np.exp(np.minimum(x, kind(0))) - one)
            return kind(operator.gamma) * np.where(x > 0, x, below)
        case Softplus():
            return np.log(one + np.exp(x))
        case Sigmoid():
            return one / (one + np.exp(-x))
        case Silu():
            return x * (one / (one + np.exp(-kind(operator.beta) * x)))
        case Tanh():
            return np.tanh(x)
        case Gelu():
            inner = (x / kind(np.sqrt(2))).astype(float)
            erf = np.array([kind(float(mpmath.erf(t))) for t in inner])
            return half * x * (one + erf)
        case TanhGelu():
            return half * x * (one + np.tanh(kind(np.sqrt(2 / np.pi)) * (x + kind(0.044715) * (x * x * x))))
        case Clip():
            return np.minimum(np.maximum(x, kind(operator.low)), kind(operator.high))
        case _:
            return operator.value(x)


@pytest.mark.parametrize("operator", [Relu(), Abs(), Clip(0.0, 6.0)], ids=["relu", "abs", "clip"])
def test_exact_operators_add_no_error(operator):
    x = Ball.exact(np.array([[-1.5, 0.0, 2.5, 7.0]]))
    ball = operator.enclose(BINARY32, x)
    assert np.array_equal(ball.mid, operator.value(x.mid)) and (ball.rad < 1e-300).all()


def test_real_executions_are_free():
    x = np.linspace(-5, 5, 11)[None]
    for operator, _ in CASES.values():
        assert operator.enclose(REAL, Ball.exact(x)).rad.max() < 1e-13


def test_peaks():
    """Between the true extrema of the derivatives and 1e-8 above them."""

    def top(phi, start):
        return mpmath.diff(phi, mpmath.findroot(lambda x: mpmath.diff(phi, x, 2), start))

    searches = (gelu_peak, "gelu", 1.4), (silu_peak, "silu", 2.4), (tanh_gelu_peak, "tanh gelu", 1.4)
    for peak, name, start in searches:
        true = top(CASES[name][1], start)
        assert true <= peak() <= true + 1e-8


def test_second_derivatives_stay_below_what_the_search_assumes():
    for name, bound in (("gelu", 1), ("silu", 1), ("tanh gelu", 2)):
        slopes = CASES[name][0].derivative(np.linspace(0, 16, 160_001))
        assert np.abs(np.diff(slopes)).max() / 1e-4 < bound


@pytest.mark.parametrize("name", ["relu", "tanh", "softplus", "elu", "clip"])
def test_one_lipschitz_activations_are_exactly_that(name):
    low, high = CASES[name][0].slopes()
    assert (low, high) == (0.0, 1.0) and CASES[name][0].gain("l2", 3.0) <= np.nextafter(3.0, 4.0)


def test_parameters_per_channel():
    prelu = LeakyRelu(np.array([[0.25], [-2.0], [3.0]]))
    low, high = prelu.slopes()
    assert low.ravel().tolist() == [0.25, -2.0, 1.0] and high.ravel().tolist() == [1.0, 1.0, 3.0]
    assert prelu.gain("linf", 1.0) <= np.nextafter(3.0, 4.0)
    x = np.array([[[-1.0, 1.0]] * 3])
    assert prelu.value(x).tolist() == [[[-0.25, 1.0], [2.0, 1.0], [-3.0, 1.0]]]
    assert prelu.enclose(BINARY32, Ball.exact(x)).shape == x.shape
    low, high = Clip(np.array([-np.inf, 0.0, 1.0]), np.array([np.inf, 1.0, 1.0])).slopes()
    assert low.tolist() == [1.0, 0.0, 0.0] and high.tolist() == [1.0, 1.0, 0.0]


def test_slope_known_as_a_ball():
    operator = LeakyRelu(Ball(np.array([0.5, 1.0]), np.array([0.125, 0.25])))
    low, high = operator.slopes()
    assert (low <= [0.375, 0.75]).all() and (high >= [1.0, 1.25]).all()
    ball = operator.exact_value(np.array([[-2.0, -2.0]]))
    assert (ball.lower() <= [[-1.25, -2.5]]).all() and (ball.upper() >= [[-0.75, -1.5]]).all()


def test_pullback_is_the_gradient():
    for operator, _ in CASES.values():
        x = np.array([[-1.3, 0.4, 2.2]])
        assert np.array_equal(operator.pullback(np.full((1, 3), 2.0), x)[0], 2.0 * operator.derivative(x))


@pytest.mark.parametrize(
    "build",
    [
        lambda: LeakyRelu(np.inf),
        lambda: LeakyRelu(np.nan),
        lambda: Clip(1.0, 0.0),
        lambda: Clip(np.nan, 0.0),
        lambda: Clip(np.inf, np.inf),
        lambda: Clip(-np.inf, -np.inf),
        lambda: Elu(np.nan),
        lambda: Elu(1.0, 0.0),
        lambda: Elu(1.0, -1.0),
        lambda: Silu(0.0),
        lambda: Silu(-1.0),
        lambda: Silu(np.nan),
        lambda: Silu(np.inf),
    ],
)
def test_refused_parameters(build):
    with pytest.raises(ValueError):
        build()
