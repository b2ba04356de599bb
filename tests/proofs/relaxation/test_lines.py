"""Lines around activations and their images, against exact values at kinks, ends and many points between them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.graph import Pointwise
from certlip.ops import Abs, Clip, Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Softplus, Tanh, TanhGelu
from certlip.proofs.exact_values import _activation
from certlip.proofs.relaxation.lines import Lines, image, lines
from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import Exact

KINKED = {
    "relu": Relu(), "abs": Abs(), "leaky": LeakyRelu(0.01), "falling leaky": LeakyRelu(-0.7),
    "steep leaky": LeakyRelu(3.5), "unknown leaky": LeakyRelu(Ball(np.array(-0.25), np.array(0.125))),
    "clip": Clip(-0.5, 1.0), "clip below": Clip(-0.5, np.inf), "clip above": Clip(-np.inf, 0.75),
    "no clip": Clip(-np.inf, np.inf), "constant": Clip(0.3, 0.3), "tiny clip": Clip(0.0, 5e-324),
}  # fmt: skip
SMOOTH = {
    "elu": Elu(), "selu": Elu(1.6732632423543772, 1.0507009873554805), "falling elu": Elu(-0.6), "steep elu": Elu(9.0),
    "softplus": Softplus(), "sigmoid": Sigmoid(), "tanh": Tanh(), "gelu": Gelu(), "tanh gelu": TanhGelu(),
    "silu": Silu(), "fast silu": Silu(1e6), "slow silu": Silu(1e-3),
}  # fmt: skip
ALL = KINKED | SMOOTH
EXAMPLES = settings(deadline=None, derandomize=True, database=None, max_examples=25)
LARGEST = float(np.finfo(np.float64).max)

scales = st.sampled_from([5e-324, 1e-300, 1e-20, 1e-6, 0.1, 1.0, 3.0, 10.0, 45.0, 1e3, 1e5])
ends = st.one_of(
    st.tuples(st.floats(-1, 1), scales).map(lambda pair: pair[0] * pair[1]),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 0.3, -0.5, 1.0, 0.75, 40.0, -40.0]),
)
slopes = st.one_of(st.none(), st.floats(-2, 2), st.sampled_from([0.0, 1.0, np.nan, 1e10, -1e-300, np.inf]))


def exact(operator: Pointwise, points: np.ndarray) -> tuple[list[Fraction], list[Fraction]]:
    """(low, high) with some value of the activation in between: a lower line must not exceed high. Where the slope is a
    ball, the values of its ends, so that low may be above high."""
    v = [Fraction(point) for point in points.tolist()]
    if isinstance(operator, Relu | Abs):
        values = [max(x, 0) if isinstance(operator, Relu) else abs(x) for x in v]
    elif isinstance(operator, Clip):
        values = [_clipped(x, float(operator.low), float(operator.high)) for x in v]
    elif isinstance(operator, LeakyRelu):
        mid, rad = (Fraction(float(part)) for part in (operator.slope.mid, operator.slope.rad))
        tried = [[x if x > 0 else slope * x for x in v] for slope in (mid - rad, mid + rad)]
        return [max(pair) for pair in zip(*tried, strict=True)], [min(pair) for pair in zip(*tried, strict=True)]
    else:
        return _activation(operator, Exact.of(points[None])).ends()
    return values, values


def _clipped(x: Fraction, low: float, high: float) -> Fraction:
    x = x if low == -np.inf else max(x, Fraction(low))
    return x if high == np.inf else min(x, Fraction(high))


def between(low: float, high: float, rng: np.random.Generator, count: int = 9) -> np.ndarray:
    """Ends, floats next to them, kinks and turning points, and points at random."""
    shares = np.concatenate([rng.random(count), np.geomspace(1e-9, 1, 4)])
    inner = low * (1 - shares) + high * shares
    marks = [low, high, np.nextafter(low, high), np.nextafter(high, low), 0.0, 5e-324, -0.5, 1.0, 0.75, 0.3, -1.4, 1.4]
    return np.unique(np.clip(np.concatenate([marks, inner]), low, high))


def bounds_at(found: Lines, v: float, side: str) -> Fraction | None:
    """The line at v, exactly; None where it claims nothing."""
    slope, offset = (float(getattr(found, f"{side}_{part}").ravel()[0]) for part in ("slope", "offset"))
    return Fraction(slope) * Fraction(v) + Fraction(offset) if np.isfinite([slope, offset]).all() else None


def check(operator: Pointwise, low: float, high: float, low_slope=None, high_slope=None, seed: int = 0) -> Lines:
    """Every line that is claimed, and the image, are right at many points."""
    given = [None if slope is None else np.array([[slope]]) for slope in (low_slope, high_slope)]
    found = lines(operator, np.array([[low]]), np.array([[high]]), *given)
    least, greatest = (float(end[0, 0]) for end in image(operator, np.array([[low]]), np.array([[high]])))
    reach = LARGEST if operator in KINKED.values() else 1e6  # the oracle's own for smooth functions
    points = between(max(low, -reach), max(low, min(high, reach)), np.random.default_rng(seed))
    points = points[np.abs(points) <= reach]
    for v, below, above in zip(points.tolist(), *exact(operator, points), strict=True):
        under, over = bounds_at(found, v, "low"), bounds_at(found, v, "high")
        assert under is None or under <= above, (low, high, v)
        assert over is None or over >= below, (low, high, v)
        assert not (np.isfinite(least) and Fraction(least) > above), (low, high, v)
        assert not (np.isfinite(greatest) and Fraction(greatest) < below), (low, high, v)
    return found


@pytest.mark.parametrize("name", ALL)
def test_lines_bound_the_activation(name):
    @EXAMPLES
    @given(ends, ends, slopes, slopes, st.integers(0, 2**32 - 1))
    def holds(one, other, low_slope, high_slope, seed):
        found = check(ALL[name], min(one, other), max(one, other), low_slope, high_slope, seed)
        chosen = [s for s in (low_slope, high_slope) if s is not None]
        if all(abs(s) <= 2 for s in chosen) and not any(map(np.isnan, chosen)):
            assert all(bounds_at(found, one, side) is not None for side in ("low", "high"))

    holds()


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("low", "high"), [(-3.0, 2.0), (0.5, 4.0), (-6.0, -0.25), (-1e-3, 3e-3)])
def test_tangents_that_touch_between_the_points(name, low, high):
    """phi(v) - s v has its extremum at v for s = phi'(v): the offsets have to reach it."""
    operator = SMOOTH[name]
    points = np.linspace(low, high, 83)[1:-1]
    slope = operator.derivative(points)
    found = lines(operator, np.full((1, 81), low), np.full((1, 81), high), slope[None], slope[None])
    below, above = exact(operator, points)
    for i, v in enumerate(map(Fraction, points.tolist())):
        line = Fraction(slope[i]) * v
        assert line + Fraction(found.low_offset[0, i]) <= above[i]
        assert line + Fraction(found.high_offset[0, i]) >= below[i]


@np.errstate(all="ignore")
@pytest.mark.parametrize("name", ALL)
def test_infinite_and_huge_intervals_claim_nothing_false(name):
    for low, high in (
        (-np.inf, np.inf), (-np.inf, -3.0), (-np.inf, 2.0), (-1.0, np.inf), (2.0, np.inf), (-LARGEST, LARGEST),
        (-LARGEST, 1.0), (-1.0, LARGEST), (1e300, LARGEST), (-1e155, 1e155),
    ):  # fmt: skip
        for slope in (None, 0.0, 1.0, -0.3):
            check(ALL[name], low, high, slope, slope)


@pytest.mark.parametrize("name", ALL)
def test_lines_are_close_where_the_interval_is_short(name):
    """On one point, both lines meet the value; on [m - h, m + h] their distance falls with h."""
    operator = ALL[name]
    unknown = 0.0 if name != "unknown leaky" else 0.25
    for middle in (-7.0, -1.0, -0.3, 0.0, 0.2, 1.0, 6.0):
        for half, gap in ((0.0, 1e-13), (1e-6, 2e-5), (1e-3, 2e-2)):
            found = lines(operator, np.array([[middle - half]]), np.array([[middle + half]]))
            apart = bounds_at(found, middle, "high") - bounds_at(found, middle, "low")
            assert 0 <= apart <= gap + unknown * abs(middle), (middle, half)


@pytest.mark.parametrize("name", sorted(set(KINKED) - {"clip", "unknown leaky", "tiny clip"}))
def test_lines_touch_what_bends_once(name):
    """Of a function with one kink, the upper or lower line is the chord: no other line is as tight on that side."""
    operator = KINKED[name]
    for low, high in ((-1.0, 2.0), (-3.0, 0.25), (-0.125, 0.75)):
        found = lines(operator, np.array([[low]]), np.array([[high]]))
        for v, value in zip((low, high), exact(operator, np.array([low, high]))[0], strict=True):
            gaps = [abs(bounds_at(found, v, side) - value) for side in ("low", "high")]
            assert min(gaps) <= Fraction(1, 10**14)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_lines_lose_little(name):
    """The distance of the lines in the middle, on intervals of length 2, is far below that of the trivial bounds."""
    for low in (-4.0, -2.0, -1.0, 0.0, 3.0):
        found = lines(SMOOTH[name], np.array([[low]]), np.array([[low + 2.0]]))
        a, b = SMOOTH[name].slopes_on(np.array([[low]]), np.array([[low + 2.0]]))
        apart = bounds_at(found, low + 1.0, "high") - bounds_at(found, low + 1.0, "low")
        assert apart <= 0.75 * float(b[0, 0] - a[0, 0]) + 1e-9


def test_slopes_of_each_channel_are_its_own():
    slope = Ball(np.array([0.5, -0.5, 2.0]).reshape(3, 1), np.array([0.0, 1e-3, 0.0]).reshape(3, 1))
    low, high = np.full((2, 3, 4), -1.0), np.full((2, 3, 4), 2.0)
    low[1], high[1] = -3.0, -1.0
    whole = lines(LeakyRelu(slope), low, high)
    for channel in range(3):
        alone = LeakyRelu(slope[channel])
        for cell in range(2):
            single = lines(alone, low[cell, channel, :1][None], high[cell, channel, :1][None])
            for key in ("low_slope", "low_offset", "high_slope", "high_offset"):
                np.testing.assert_allclose(getattr(whole, key)[cell, channel], getattr(single, key)[0, 0], atol=1e-12)


def test_bounds_of_each_channel_are_its_own():
    clip = Clip(np.array([[-1.0], [0.0]]), np.array([[1.0], [np.inf]]))
    least, greatest = image(clip, np.full((1, 2, 3), -5.0), np.full((1, 2, 3), 5.0))
    np.testing.assert_allclose(least[0], [[-1.0] * 3, [0.0] * 3], atol=1e-12)
    np.testing.assert_allclose(greatest[0], [[1.0] * 3, [5.0] * 3], rtol=1e-12)


def test_slopes_that_are_not_given_are_chosen():
    low, high = np.array([[-1.0, -1.0]]), np.array([[2.0, 2.0]])
    found = lines(Relu(), low, high, np.array([[np.nan, 0.25]]))
    assert found.low_slope[0].tolist() == [1.0, 0.25]
    assert lines(Relu(), low, high, np.array([[-3.0, 7.0]])).low_slope[0].tolist() == [0.0, 1.0]
