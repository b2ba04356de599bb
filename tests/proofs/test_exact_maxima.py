"""Outputs at a point through maxima of numbers of very different size, against rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from certlip.graph import Graph, Node
from certlip.ops import Abs, Add, Clip, Dense, LeakyRelu, MaxPool, Relu
from certlip.proofs.exact_values import exact_output_ball
from certlip.rigor.ball import Ball
from certlip.rigor.exact_numbers import NotExact


def numbers(rng: np.random.Generator, shape, span: int) -> np.ndarray:
    values = np.ldexp(rng.standard_normal(shape), rng.integers(-span, span + 1, shape))
    return np.where(rng.random(shape) < 0.25, 0.0, values)


def step(rng: np.random.Generator, x: list[Fraction], span: int):
    """An operator and what it makes of x; Clip and MaxPool most often."""
    size, kind = len(x), rng.integers(8)
    if kind < 3:
        low = numbers(rng, size if kind else (), span)
        high = np.where(rng.random(low.shape) < 0.5, np.inf, low + np.abs(numbers(rng, low.shape, span)))
        if kind == 2:
            low = np.where(np.isposinf(high), low, -np.inf)
        ends = zip(np.broadcast_to(low, size).tolist(), np.broadcast_to(high, size).tolist(), strict=True)
        y = [t if np.isneginf(a) else max(t, Fraction(a)) for t, (a, _) in zip(x, ends, strict=True)]
        tops = np.broadcast_to(high, size).tolist()
        return Clip(low, high), [t if np.isposinf(b) else min(t, Fraction(b)) for t, b in zip(y, tops, strict=True)]
    if kind < 5:
        index = rng.integers(0, size, (size, 2))
        return MaxPool(index, (size,)), [max(x[i], x[j]) for i, j in index.tolist()]
    if kind == 5:
        weight, bias = numbers(rng, (size, size), span), numbers(rng, size, span)
        rows = zip(weight.tolist(), bias.tolist(), strict=True)
        return Dense.of(weight, bias), [
            sum((Fraction(w) * t for w, t in zip(row, x, strict=True)), Fraction(b)) for row, b in rows
        ]
    if kind == 6:
        slope = float(numbers(rng, (), 8))
        return LeakyRelu(Ball.exact(slope)), [t if t > 0 else Fraction(slope) * t for t in x]
    return (Relu(), [max(t, Fraction(0)) for t in x]) if rng.random() < 0.5 else (Abs(), [abs(t) for t in x])


@pytest.mark.parametrize("seed", range(400))
def test_maxima_at_all_scales(seed):
    rng = np.random.default_rng(seed)
    span = (5, 60, 200, 300)[seed % 4]
    x = numbers(rng, int(rng.integers(2, 5)), span)
    nodes, values = [], [[Fraction(t) for t in x.tolist()]]
    for i in range(int(rng.integers(1, 6))):
        if nodes and rng.random() < 0.2:
            other = int(rng.integers(len(values)))
            nodes.append(Node(Add(), (i, other)))
            values.append([a + b for a, b in zip(values[i], values[other], strict=True)])
            continue
        operator, image = step(rng, values[i], span)
        nodes.append(Node(operator, (i,)))
        values.append(image)
    try:
        low, high = exact_output_ball(Graph(x.shape, tuple(nodes)), x)
    except NotExact:
        assert span == 300  # numbers beyond 2^1000 are refused
        return
    assert all(a <= t <= b for a, t, b in zip(low, values[-1], high, strict=True))


@pytest.mark.parametrize("top", [1e30, 2.0**270, 1e100])
def test_a_small_entry_beside_a_large_one_is_clipped(top):
    graph = Graph((2,), (Node(Clip(np.array(1.0), np.array(np.inf)), (0,)),))
    assert exact_output_ball(graph, np.array([top, 0.0])) == ([Fraction(top), 1], [Fraction(top), 1])
