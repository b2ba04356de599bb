"""Backward bounds: exact for affine networks, equal to a plain CROWN in floats, silent where numbers overflow."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import isqrt

import numpy as np
import pytest
from random_graphs import Sketch
from truth import combined, exact_values, random_domain

from certlip.graph import Graph, Node
from certlip.ops import Add, Concat, Dense, Relu, Scale
from certlip.proofs.query import Domain
from certlip.proofs.relaxation import backward
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.cells import cells_of
from certlip.rigor.ball import Ball


def least_of_outputs(graph: Graph, domain: Domain, rows: np.ndarray) -> np.ndarray:
    return lower_bounds(cells_of(graph, domain), len(graph.nodes), rows.reshape(-1, *graph.output_shape)).least


def affine_graph(rng: np.random.Generator, cancels: bool) -> Graph:
    """Every affine operator, sums of a value with itself and of the input, concatenations with the input."""
    image = rng.random() < 0.4
    sketch = Sketch(rng, (1, 2, 3, 2) if image else (int(rng.integers(1, 5)),))
    plain = [sketch.dense, sketch.scale, sketch.reindex, lambda value: sketch.add(Add(), value, value)]
    for _ in range(int(rng.integers(1, 5))):
        value = len(sketch.nodes)
        if image:
            [sketch.conv, sketch.conv_transpose, sketch.scale][rng.integers(3)](value)
        elif sketch.shapes[value] == sketch.input_shape and rng.random() < 0.4:
            sketch.add(Add(), value, 0, 0)
        elif rng.random() < 0.2:
            sketch.add(Concat(0), 0, value)
        else:
            plain[rng.integers(len(plain))](value)
    if cancels:
        shape = sketch.shapes[len(sketch.nodes)]
        sketch.scale(sketch.add(Scale.of(shape, 1e8, -1e8)))
    return sketch.graph()


@pytest.mark.parametrize("seed", range(60))
def test_affine_networks_exactly(seed):
    """The bound is at most the exact minimum, and within rounding of it."""
    rng = np.random.default_rng(seed)
    graph, weights = affine_graph(rng, seed % 2 == 1), rng.standard_normal(16)
    if graph.output_size > 16 or not graph.output_size:
        return
    domain, weights = random_domain(graph.input_shape, rng), weights[: graph.output_size]
    if domain.center is not None:
        wide = np.full(graph.input_shape, float(domain.eps) + 1.0)
        domain = replace(domain, low=domain.center - wide, high=domain.center + wide)  # the ball alone
    (least,) = least_of_outputs(graph, domain, weights)
    truth, size = affine_minimum(graph, domain, weights)
    assert Fraction(least) <= truth
    assert truth - Fraction(least) <= Fraction(1, 10**12) * size * 10 ** (8 * (seed % 2))


def affine_minimum(graph: Graph, domain: Domain, weights: np.ndarray) -> tuple[Fraction, Fraction]:
    """The minimum of <weights, f> over the domain, rounded up a little, and the size of its terms."""
    shape = graph.input_shape
    at = lambda x: combined(weights.tolist(), exact_values(graph, x.reshape(shape))[-1])[1]  # noqa: E731
    zero = np.zeros(graph.input_size)
    start = at(zero)
    slope = [at(unit) - start for unit in np.eye(graph.input_size)]
    ends = [(Fraction(a), Fraction(b)) for a, b in zip(domain.low.ravel(), domain.high.ravel(), strict=True)]
    size = 1 + abs(start) + sum(abs(s) * max(map(abs, pair)) for s, pair in zip(slope, ends, strict=True))
    if domain.center is None:
        return start + sum(min(s * a, s * b) for s, (a, b) in zip(slope, ends, strict=True)), size
    middle = sum(s * Fraction(x) for s, x in zip(slope, domain.center.ravel().tolist(), strict=True))
    square = sum((s * s for s in slope), Fraction(0))
    length = Fraction(isqrt(int(square * 4**200)), 2**200)  # rounded down
    return start + middle - length * domain.eps, size


def plain_crown(layers, low: np.ndarray, high: np.ndarray, last: np.ndarray) -> np.ndarray:
    """CROWN in floats for dense ReLU layers (Zhang et al. 2018), slope 1 below where high > -low: the minima of `last`
    rows of the output. Boxes are carried through; where they leave a ReLU bent, a backward pass is made."""
    ranges: list[tuple[np.ndarray, np.ndarray]] = []

    def minima(depth: int, rows: np.ndarray) -> np.ndarray:
        c, total = rows, np.zeros(len(rows))
        for k in range(depth, -1, -1):
            weight, bias = layers[k]
            total, c = total + c @ bias, c @ weight
            if not k:
                break
            least, greatest = ranges[k - 1]
            chord = np.where(greatest > least, greatest / np.where(greatest > least, greatest - least, 1.0), 1.0)
            free = (least < 0) & (greatest > 0)
            below = np.where(free, greatest > -least, least >= 0)
            above = np.where(free, chord, least >= 0)
            total = total + np.minimum(c, 0) @ np.where(free, -chord * least, 0.0)
            c = np.maximum(c, 0) * below + np.minimum(c, 0) * above
        return total + np.where(c > 0, c * low, c * high).sum(1)

    box = low, high
    for k, (weight, bias) in enumerate(layers[:-1]):
        up, down, unit = np.maximum(weight, 0), np.minimum(weight, 0), np.eye(len(weight))
        least, greatest = (bias + up @ box[end] + down @ box[1 - end] for end in (0, 1))
        bent = (least < 0) & (greatest > 0)
        least = np.where(bent, np.maximum(least, minima(k, unit)), least)
        greatest = np.where(bent, np.minimum(greatest, -minima(k, -unit)), greatest)
        ranges.append((least, greatest))
        box = np.maximum(least, 0), np.maximum(greatest, 0)
    return minima(len(layers) - 1, last)


def chain(layers) -> Graph:
    operators = [part for weight, bias in layers for part in (Dense.of(weight, bias), Relu())][:-1]
    return Graph((layers[0][0].shape[1],), tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_dense_relu_networks_as_a_plain_crown(seed, depth):
    rng = np.random.default_rng(seed)
    layers = [
        (rng.standard_normal((m, n)) / n**0.5, 0.3 * rng.standard_normal(m)) for n, m in pairwise([5, *[12] * depth, 3])
    ]
    center, rows = rng.standard_normal(5), rng.standard_normal((4, 3))
    found = least_of_outputs(chain(layers), Domain(center - 0.3, center + 0.3), rows)
    np.testing.assert_allclose(found, plain_crown(layers, center - 0.3, center + 0.3, rows), rtol=0, atol=1e-9)


def test_rows_in_parts_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    graph = chain([(rng.standard_normal((6, 3)), np.zeros(6)), (rng.standard_normal((2, 6)), np.ones(2))])
    low = rng.standard_normal((7, 3))
    frame = cells_of(graph, Domain(low.min(0), low.max(0) + 1), low, low + 1)
    rows = rng.standard_normal((7, 2))
    whole = lower_bounds(frame, 3, rows)
    monkeypatch.setattr(backward, "_ENTRIES", 13)
    parts = lower_bounds(frame, 3, rows)
    for key in ("slopes", "offset", "least"):
        np.testing.assert_allclose(getattr(whole, key), getattr(parts, key), rtol=1e-13)
    owners = np.array([3, 3, 0, 1, 6, 2, 5])
    same = lower_bounds(frame, 3, rows[[0] * 7]).least[3]
    np.testing.assert_allclose(lower_bounds(frame, 3, rows, owners).least[0], same)


SMALL = chain([(np.array([[1.0, -1.0], [1.0, 1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))])


@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf, 1e308])
@np.errstate(all="ignore")
def test_coefficients_that_overflow_prove_nothing(entry):
    found = least_of_outputs(SMALL, Domain(-np.ones(2) * 8, np.ones(2) * 8), np.array([[entry]]))
    assert not (found > -np.inf).any()


@pytest.mark.parametrize(
    ("low", "high"),
    [([-np.inf, 0.0], [np.inf, 1.0]), ([0.0, 0.0], [np.inf, 1.0]), ([-1.7e308] * 2, [1.7e308] * 2),
     ([1.7e308] * 2, [1.7e308] * 2)],
)  # fmt: skip
@np.errstate(all="ignore")
def test_boxes_without_bounds_prove_nothing(low, high):
    found = least_of_outputs(SMALL, Domain(np.array(low), np.array(high)), np.array([[1.0], [-1.0], [0.0]]))
    assert not (found > -np.inf).any()


@np.errstate(all="ignore")
@pytest.mark.parametrize("big", [1e200, 1e300])
def test_weights_that_overflow_prove_nothing(big):
    """big^2 (x - x) is zero, but no float computation knows."""
    graph = chain([(np.full((2, 2), big), np.zeros(2)), (np.array([[big, -big]]), np.ones(1))])
    assert not (least_of_outputs(graph, Domain(np.ones(2), 2 * np.ones(2)), np.eye(1)) > -np.inf).any()


@pytest.mark.parametrize("scale", [1e-200, 1e-300, 5e-324])
def test_numbers_that_underflow_are_not_taken_for_zero(scale):
    """f = scale (x0 + x1) - scale (x0 + x1): least <= 0; and scale^2 x0, whose exact minimum is negative."""
    zero = chain([(np.full((2, 2), scale), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))])
    assert least_of_outputs(zero, Domain(np.ones(2), 2 * np.ones(2)), np.eye(1))[0] <= 0
    tiny = Graph((1,), (Node(Dense.of([[scale]]), (0,)), Node(Dense.of([[scale]]), (1,))))
    assert least_of_outputs(tiny, Domain(-np.ones(1), np.ones(1)), np.eye(1))[0] < 0
    assert least_of_outputs(tiny, Domain(np.zeros(1), np.ones(1)), np.eye(1))[0] <= 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(10))
def test_products_that_cancel_are_charged(seed, sign):
    """40 values w_i x_0 - (w_i - t_i) x_1 with large w_i whose sum is small, at x = (1, 1): both float coefficients are
    off by far more than their sizes, and so is their sum."""
    rng = np.random.default_rng(seed)
    large = rng.standard_normal(20) * 1e12
    first = rng.permutation(np.concatenate([large, -large + rng.standard_normal(20)]))
    weight = np.stack([first, -first + rng.standard_normal(40)], 1)
    graph = Graph((2,), (Node(Dense.of(weight), (0,)), Node(Dense.of(np.ones((1, 40))), (1,))))
    (least,) = least_of_outputs(graph, Domain(np.ones(2), np.ones(2)), np.array([[sign]]))
    exact = sum(map(Fraction, weight.ravel().tolist()))
    assert Fraction(least) <= Fraction(sign) * exact <= Fraction(least) + 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_weights_and_biases_that_are_known_up_to_a_radius(sign):
    """The bound holds for every member: w in 2 +- 1/8, b in 1 +- 1/4 at x in [3, 4]."""
    weight, bias = (Ball(np.array(mid), np.array(rad)) for mid, rad in (([[2.0]], [[0.125]]), ([1.0], [0.25])))
    for operator in (Dense.of(weight, bias), Scale.of((1,), weight[0], bias)):
        graph = Graph((1,), (Node(operator, (0,)),))
        (least,) = least_of_outputs(graph, Domain(np.array([3.0]), np.array([4.0])), np.array([[sign]]))
        exact = 1.875 * 3 + 0.75 if sign > 0 else -(2.125 * 4 + 1.25)
        assert exact - 0.2 <= least <= exact  # the charge takes the largest |x|


def test_a_product_that_underflows_is_charged_for_a_large_input():
    """f = -1e-200 * 1e-200 * x is -1e-100 at x = 1e300, while its float coefficient is zero."""
    layers = Dense.of([[1e-200]]), Dense.of([[-1e-200]])
    graph = Graph((1,), tuple(Node(operator, (i,)) for i, operator in enumerate(layers)))
    (least,) = least_of_outputs(graph, Domain(np.full(1, 1e300), np.full(1, 1e300)), np.eye(1))
    assert Fraction(least) <= -(Fraction(1e-200) ** 2) * Fraction(1e300)


def test_long_sums_over_the_input_are_charged():
    """1 - n t with t just below half a unit in the last place of 1: a running sum never moves from 1."""
    count = 4000
    weight = np.full((1, count), -0.99 * 2.0**-54)
    weight[0, 0] = 1.0
    graph = Graph((count,), (Node(Dense.of(weight), (0,)),))
    (least,) = least_of_outputs(graph, Domain(np.ones(count), np.ones(count)), np.eye(1))
    assert Fraction(least) <= sum(map(Fraction, weight[0].tolist()))
