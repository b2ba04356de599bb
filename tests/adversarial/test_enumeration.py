"""Every method against the truth, on networks small enough to enumerate all their linear pieces exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import prod

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linear_regions import SLOPES, box_rows, cells, difference, least, slope_squared
from onnx_arithmetic import margin
from small_models import save_chain

from certlip import Output, api, load
from certlip.lipschitz import bound_output, certifiers
from certlip.lipschitz.local import local_bound
from certlip.proofs.ranges import Region
from certlip.verification import Status
from certlip.verification.attack_stage import Attacks

METHODS = [name for name, certifier in certifiers().items() if not certifier.is_reference]
PAIR = Output.pair(0, 1)
QUICK = settings(
    deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

numbers = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-4, 4, width=32),
    st.sampled_from([2.0**-30, -(2.0**-30), 2.0**20, -(2.0**20), 1 + 2.0**-23, 0.1]),
)


@st.composite
def networks(draw, inputs: int):
    """(layers, activation, sample, eps): up to two hidden layers of up to three neurons, two outputs.

    Entries are drawn one by one, special values among them, or all from one normal distribution. The sample is of class
    0 or a tie, but for roundings of binary64.
    """
    widths = [inputs, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)), 2]
    shapes = [shape for n, m in pairwise(widths) for shape in ((m, n), (m,))] + [(inputs,)]
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    else:
        entries = [draw(st.lists(numbers, min_size=prod(shape), max_size=prod(shape))) for shape in shapes]
        arrays = [np.float32(given).reshape(shape) for given, shape in zip(entries, shapes, strict=True)]
    *arrays, sample = arrays
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    activation = draw(st.sampled_from(sorted(SLOPES)))
    if chain(layers, activation, sample) < 0:
        layers[-1] = tuple(part[::-1].copy() for part in layers[-1])
    return layers, activation, sample, draw(st.sampled_from([Fraction(1, 100), Fraction(1, 3), Fraction(2)]))


def chain(layers, activation, x) -> np.ndarray:
    """f_0 - f_1 in binary64."""
    below, above = map(float, SLOPES[activation])
    for i, (weight, bias) in enumerate(layers):
        x = (np.where(x > 0, above * x, below * x) if i else x) @ weight.T.astype(float) + bias
    return x[..., 0] - x[..., 1]


def truth_of(layers, activation, norm, box=()) -> Fraction:
    """The square of the Lipschitz constant of f_0 - f_1."""
    return max((slope_squared(difference(cell), norm) for cell in cells(layers, activation, box)), default=Fraction(0))


def least_margin(layers, activation, sample, eps: Fraction) -> Fraction:
    """Of f_0 - f_1 on the closed box around the sample."""
    box = box_rows([Fraction(float(value)) for value in sample], eps)
    return min(least(cell, difference(cell)) for cell in cells(layers, activation, box))


def check_bounds(case, folder) -> None:
    layers, activation, sample, eps = case
    graph = load(save_chain(folder / "model.onnx", layers, activation=activation), check=False).graph
    center = [Fraction(float(value)) for value in sample]
    for norm in ("l2", "linf"):
        truth = truth_of(layers, activation, norm)
        for method in METHODS:
            (bound,) = bound_output(graph, PAIR, norm, method)
            assert bound.note if not bound.proved else Fraction(bound.value) ** 2 >= truth, (method, norm)
        for shape, inner in (("linf", eps), ("l2", eps / 2)):  # a box of half the width lies in the ball
            region = Region(sample.reshape(1, -1).astype(float), eps, shape)
            local = local_bound(graph, PAIR, region, norm)
            inside = truth_of(layers, activation, norm, box_rows(center, inner))
            assert local.note if not local.proved else Fraction(local.value) ** 2 >= inside, (shape, norm)


def check_verdicts(case, path, timeout=20) -> Status:
    """Certified is robust, the radius too, and a counterexample is one."""
    layers, activation, sample, eps = case
    report = api.verify(path, eps, data=(sample[None], np.array([0])), norm="linf", timeout=timeout)
    (result,) = report.samples
    assert result.status is not Status.ERROR, result.note
    if result.status is Status.CERTIFIED:
        assert least_margin(layers, activation, sample, eps) > 0
    if result.status is Status.FALSIFIED:
        point = result.counterexample.ravel()
        assert margin(onnx.load(path), point.tolist(), 0) < 0
        assert max(abs(Fraction(p) - Fraction(float(c))) for p, c in zip(point.tolist(), sample, strict=True)) <= eps
        assert least_margin(layers, activation, sample, eps) < 0
    if 0 < result.radius < np.inf:
        assert least_margin(layers, activation, sample, Fraction(result.radius)) >= 0
    return result.status


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_the_oracle_agrees_with_dense_sampling(inputs):
    """No secant is steeper than the enumerated constant, and some come close; no sampled margin is below the least."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        widths = (inputs, 3, 2) if seed % 2 else (inputs, 2, 2, 2)
        layers = [
            (np.float32(rng.standard_normal((m, n))), np.float32(rng.standard_normal(m))) for n, m in pairwise(widths)
        ]
        x = rng.uniform(-1, 1, (4000, inputs))
        y = x + 1e-5 * rng.standard_normal(x.shape)
        values = [chain(layers, "Relu", points) for points in (x, y)]
        steepest = (np.abs(values[0] - values[1]) / np.linalg.norm(x - y, axis=1)).max()
        box = box_rows([Fraction(0)] * inputs, Fraction(1))
        truth = float(truth_of(layers, "Relu", "l2", box)) ** 0.5
        assert 0.7 * truth <= steepest <= truth * (1 + 1e-6)
        lowest = float(least_margin(layers, "Relu", np.zeros(inputs), Fraction(1)))
        assert lowest <= values[0].min() <= lowest + 0.8 * truth


def sizes(quick: int, many: int):
    """Numbers of examples: few in every run, many among the long tests."""
    return pytest.mark.parametrize("examples", [quick, pytest.param(many, marks=pytest.mark.long)])


@sizes(6, 100)
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_no_bound_is_below_the_true_constant(inputs, examples, tmp_path):
    @settings(QUICK, max_examples=examples)
    @given(networks(inputs))
    def check(case):
        check_bounds(case, tmp_path)

    check()


@sizes(50, 300)
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_what_is_certified_is_robust(inputs, examples, tmp_path, monkeypatch):
    seen = set()

    @settings(QUICK, max_examples=examples)
    @given(networks(inputs))
    def check(case):
        path = save_chain(tmp_path / "model.onnx", case[0], activation=case[1])
        seen.add(check_verdicts(case, path))
        with monkeypatch.context() as patch:
            patch.setattr(Attacks, "accepted", lambda *arguments: None)
            seen.add(check_verdicts(case, path, 0.2))

    check()
    assert {Status.CERTIFIED, Status.FALSIFIED, Status.TIMEOUT} <= seen
