"""The normal form is the same function over the reals, and every rule is used."""

from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
from random_graphs import random_graph, secants

from certlip.graph import Affine, Graph, Node
from certlip.ops import Add, Conv, ConvTranspose, Dense, Reindex, Relu, Scale
from certlip.passes import normal_form
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import REAL

module = import_module("certlip.passes.normal_form")  # the package has a function of the same name
RULES = {rule.__name__ for _, rule in module._RULES}


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


def meet(one: Ball, other: Ball) -> bool:
    """Two enclosures of the same numbers must have points in common."""
    return bool((np.abs(one.mid - other.mid) <= (one.rad + other.rad) * (1 + 1e-12)).all())


def same_function(graph: Graph, rng, scale=1.0) -> Graph:
    merged = normal_form(graph)
    assert merged.input_shape == graph.input_shape and merged.output_shape == graph.output_shape
    x = scale * rng.standard_normal((5, *graph.input_shape))
    for ball in (Ball.exact(x), Ball(x, np.full(x.shape, 1e-9))):
        one, other = graph.enclose(ball, REAL), merged.enclose(ball, REAL)
        assert meet(one, other)
        assert (other.rad <= 10 * one.rad + 1e-14).all()  # and no less sharply
    return merged


def conv(kernel, size, bias=None, **kwargs) -> Conv:
    dimensions = len(size) - 1
    bias = Ball.exact(0.0 if bias is None else bias)
    options = {"strides": (1,) * dimensions, "pads": ((1, 1),) * dimensions, "dilations": (1,) * dimensions} | kwargs
    return Conv(Ball.exact(kernel), bias, np.abs(bias.mid), size, **options)


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs_stay_the_same_function(seed):
    rng = np.random.default_rng(seed + 10**6)
    same_function(random_graph(seed, pools=True), rng)


def test_every_rule_fires_and_preserves_the_function(monkeypatch):
    rng = np.random.default_rng(0)
    fired = set()

    def watched(rule):
        def wrapper(first, second):
            result = rule(first, second)
            if result is not None:
                fired.add(rule.__name__)
            return result

        return wrapper

    monkeypatch.setattr(module, "_RULES", tuple((kinds, watched(rule)) for kinds, rule in module._RULES))
    n = rng.standard_normal
    turned = ConvTranspose.of(conv(n((2, 1, 2, 2)), (1, 3, 3), pads=((0, 0), (0, 0))), Ball.exact(n((1, 1, 1, 1))))
    cases = {
        "_scale_scale": ((3,), [Scale.of((3,), n(3), n(3)), Scale.of((3,), n(1), n(3))], 1),
        "_reindex_reindex": ((2, 3), [Reindex.through((2, 3), np.transpose), Reindex.through((3, 2), np.ravel)], 1),
        "_scale_reindex": ((2, 3), [Scale.of((2, 3), n((2, 1)), n(3)), Reindex.through((2, 3), np.transpose)], 2),
        "_scale_dense": ((2, 3), [Scale.of((2, 3), n(3), n((2, 1))), Dense.of(n((4, 3)), n(4), (2,))], 1),
        "_dense_scale": ((2, 3), [Dense.of(n((4, 3)), n(4), (2,)), Scale.of((2, 4), n(4), n((2, 4)))], 1),
        "_conv_scale": (
            (1, 2, 4, 5),
            [conv(n((3, 2, 3, 3)), (2, 4, 5), n((1, 3, 1, 1))), Scale.of((1, 3, 4, 5), n((3, 1, 1)), n((3, 1, 5)))],
            1,
        ),
        "_scale_conv": (
            (1, 4, 3, 5),
            [
                Scale.of((1, 4, 3, 5), n((4, 1, 1)), n((4, 3, 5))),
                conv(n((6, 2, 2, 3)), (4, 3, 5), n((1, 6, 1, 1)), groups=2),
            ],
            1,
        ),
        "_transposed_scale": (turned.domain, [turned, Scale.of(turned.codomain, 1.0, n((1, 1, 1, 1)))], 1),
        "_dense_dense": ((4,), [Dense.of(n((6, 4)), n(6)), Dense.of(n((2, 6)), n(2))], 1),
    }
    assert set(cases) == RULES
    for name, (shape, operators, left) in cases.items():
        fired.clear()
        for extra in ((), (Relu(), Dense.of(n((2, operators[-1].codomain[-1])), lead=operators[-1].codomain[:-1]))):
            merged = same_function(chain(shape, *operators, *extra), rng)
            assert len(merged.nodes) == left + len(extra), name
        assert name in fired


def test_rules_that_would_change_the_function_do_not_apply():
    rng = np.random.default_rng(1)
    n = rng.standard_normal
    padded = Reindex.of((3,), np.array([0, -1, 2, 1]), fill=2.0)
    cases = [
        ((3,), [padded, Reindex.of((4,), np.array([1, 0, 3]))]),  # a padded constant would be lost
        ((3,), [Scale.of((3,), n(3), n(3)), padded]),  # the constant would be scaled
        ((3,), [Scale.of((3,), n(3), n(3)), Reindex.of((3,), np.array([0, 0, 1]))]),  # entries repeat
        ((2, 3), [Scale.of((2, 3), n((2, 1))), Dense.of(n((4, 3)), lead=(2,))]),  # rows differ
        ((2, 3), [Dense.of(n((4, 3)), lead=(2,)), Scale.of((2, 4), n((2, 4)))]),
        ((1, 2, 4), [conv(n((3, 2, 3)), (2, 4)), Scale.of((1, 3, 4), n(4))]),  # pixels differ
        ((1, 2, 4), [conv(n((2, 2, 3)), (2, 4)), conv(n((3, 2, 3)), (2, 4))]),
        ((1, 2, 4), [Scale.of((1, 2, 4), n(4)), conv(n((3, 2, 3)), (2, 4))]),
        ((2,), [Dense.of(n((1, 2))), Dense.of(n((9, 1)))]),  # the product is larger than its factors
    ]
    for shape, operators in cases:
        assert len(same_function(chain(shape, *operators), rng).nodes) == len(operators)


def test_zero_padding_then_a_selection_may_merge():
    rng = np.random.default_rng(2)
    padded = Reindex.of((3,), np.array([0, -1, 2, 1]))
    assert len(same_function(chain((3,), padded, Reindex.of((4,), np.array([1, 0, 3, -1]), 5.0)), rng).nodes) == 1


def test_values_with_other_readers_are_kept():
    rng = np.random.default_rng(3)
    dense, scale = Dense.of(rng.standard_normal((3, 3))), Scale.of((3,), 2.0, 1.0)
    shared = Graph((3,), (Node(dense, (0,)), Node(scale, (1,)), Node(Add(), (1, 2))))
    assert len(same_function(shared, rng).nodes) == 3
    twice = Graph((3,), (Node(dense, (0,)), Node(scale, (1,)), Node(Add(), (2, 2))))
    assert len(same_function(twice, rng).nodes) == 2
    of_input = Graph((3,), (Node(scale, (0,)), Node(dense, (1,)), Node(Add(), (0, 2))))
    assert len(same_function(of_input, rng).nodes) == 2


def test_uncertain_weights_stay_enclosed():
    """Rational oracle: dense(scale(x)) for members at the corners of both weight balls."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        s, w, b, t = rng.standard_normal(2), rng.standard_normal((1, 2)), rng.standard_normal(1), rng.standard_normal(2)
        rads = [np.abs(a) * 1e-3 for a in (s, w, b, t)]
        first = Scale(Ball(s, rads[0]), Ball(t, rads[3]), np.abs(t) + rads[3], (2,))
        second = Dense(Ball(w, rads[1]), Ball(b, rads[2]), np.abs(b) + rads[2])
        for pair in (
            (first, second),
            (second, Scale(Ball(s[:1], rads[0][:1]), Ball(t[:1], rads[3][:1]), np.abs(t), (1,))),
        ):
            merged = module.compose(*pair)
            assert merged is not None and len(merged) == 1
            graph = chain((2,), *merged)
            x = rng.standard_normal((1, 2))
            ball = graph.enclose(Ball.exact(x), REAL)
            for _ in range(5):
                signs = [rng.choice([-1, 0, 1], a.shape) for a in (s, w, b, t)]
                S, W, B, T = (
                    [
                        Fraction(float(m)) + int(c) * Fraction(float(r))
                        for m, c, r in zip(a.flat, g.flat, h.flat, strict=True)
                    ]
                    for a, g, h in zip((s, w, b, t), signs, rads, strict=True)
                )
                point = [Fraction(float(v)) for v in x[0]]
                if pair[0] is first:
                    exact = sum(W[j] * (S[j] * point[j] + T[j]) for j in range(2)) + B[0]
                else:
                    exact = S[0] * (sum(W[j] * point[j] for j in range(2)) + B[0]) + T[0]
                assert abs(exact - Fraction(float(ball.mid[0, 0]))) <= Fraction(float(ball.rad[0, 0]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_products_that_overflow_are_not_formed():
    big = Dense.of(np.full((2, 2), 1e200))
    merged = normal_form(chain((2,), big, big))
    assert len(merged.nodes) == 2
    for node in merged.nodes:
        assert isinstance(node.operator, Affine) and np.isfinite(node.operator.weight.mid).all()


def test_a_long_chain_becomes_one_matrix():
    rng = np.random.default_rng(5)
    operators = [Scale.of((4,), rng.standard_normal(4), rng.standard_normal(4)) for _ in range(7)]
    operators += [Reindex.of((4,), rng.permutation(4)) for _ in range(5)]
    rng.shuffle(operators)
    graph = chain(
        (4,), *operators, *(Dense.of(rng.standard_normal((4, 4)) / 2, rng.standard_normal(4)) for _ in range(9))
    )
    merged = same_function(graph, rng)
    kinds = [type(node.operator) for node in merged.nodes]
    assert kinds in ([Dense], [Reindex, Dense])
    x, y = rng.standard_normal((2, 3, 4))
    assert np.allclose(secants(graph, "l2", x, y), secants(merged, "l2", x, y), rtol=1e-9)


def test_the_empty_graph():
    assert normal_form(Graph((3,), ())).nodes == ()
