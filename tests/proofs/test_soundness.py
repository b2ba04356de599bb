"""No sampled secant is steeper than a proved bound, on random graphs of every kind of node."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, steepest_secant

from certlip.graph import Graph, Node
from certlip.lipschitz import bound_output
from certlip.ops import Abs, Add, Dense, LeakyRelu, Relu, Sigmoid, Tanh
from certlip.proofs import LIPSCHITZ_PROOFS
from certlip.properties import Output, select

ROUNDING = 1 + 1e-9  # a float secant of length 1e-3 may be this much too steep
METHODS = ("spectral", "gershgorin", "lipsdp")
NORMS = ("l2", "linf")


def bounds(graph: Graph, norm: str, output: Output = Output("all")) -> dict[str, float]:  # noqa: B008
    """Proved values by method; all of them are finite where a method supports the graph."""
    results = {}
    for method in METHODS:
        (bound,) = bound_output(graph, output, norm, method)
        if bound.proved:
            results[method] = bound.value
            again = LIPSCHITZ_PROOFS[method](select(graph, output), norm, bound.witness)
            assert again <= bound.value <= again * (1 + 1e-11) + 1e-300
        else:
            assert method == "lipsdp" and "maximum" in bound.note
    assert {"spectral", "gershgorin"} <= set(results)
    return results


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_bounds_hold_on_random_graphs(seed, pools):
    graph = random_graph(seed, pools)
    rng = np.random.default_rng(seed)
    for norm in NORMS:
        steepest = steepest_secant(graph, norm, rng, points=8)
        for method, value in bounds(graph, norm).items():
            assert steepest <= value * ROUNDING + 1e-290, (method, norm)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bounds_on_single_outputs_and_pairs_hold(seed):
    graph = random_graph(seed)
    rng = np.random.default_rng(seed)
    outputs = [Output.logit(0)] + ([Output.pair(0, 1)] if graph.output_size > 1 else [])
    for output in outputs:
        chosen = select(graph, output)
        for norm in NORMS:
            steepest = steepest_secant(chosen, norm, rng, points=6)
            for method, value in bounds(graph, norm, output).items():
                assert steepest <= value * ROUNDING + 1e-290, (output, method, norm)


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


def random_chain(rng, widths, activation) -> list:
    operators = []
    for before, after in pairwise(widths):
        operators += [Dense.of(rng.standard_normal((after, before)), rng.standard_normal(after)), activation()]
    return operators[:-1]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", [Relu, Tanh, Abs, Sigmoid, lambda: LeakyRelu(0.2)])
def test_scaling_the_last_layer_scales_the_bound(norm, activation):
    rng = np.random.default_rng(0)
    operators = random_chain(rng, (3, 5, 4, 2), activation)
    base = bounds(chain((3,), *operators), norm)
    for factor in (-3.0, 0.01, 1e6, -1e-5):
        last = Dense.of(factor * operators[-1].weight.mid, operators[-1].bias.mid)
        scaled = bounds(chain((3,), *operators[:-1], last), norm)
        for method in METHODS:
            assert scaled[method] == pytest.approx(abs(factor) * base[method], rel=1e-6), method


@pytest.mark.parametrize("norm", NORMS)
def test_order_of_neurons_does_not_matter(norm):
    rng = np.random.default_rng(1)
    operators = random_chain(rng, (4, 6, 5, 2), Relu)
    base = bounds(chain((4,), *operators), norm)
    first, second = rng.permutation(6), rng.permutation(5)
    A, _, B, _, C = (operator.weight.mid if isinstance(operator, Dense) else None for operator in operators)
    permuted = [Dense.of(A[first]), Relu(), Dense.of(B[second][:, first]), Relu(), Dense.of(C[:, second])]
    for method, value in bounds(chain((4,), *permuted), norm).items():
        assert value == pytest.approx(base[method], rel=1e-6), method


def exact_constant(graph: Graph, cells: int) -> float:
    """l2 constant of a function of one variable that is linear between the multiples of 1/4 in [-cells, cells]."""
    x = np.arange(-4 * cells, 4 * cells + 1)[:, None] / 4.0
    return float(np.linalg.norm(np.diff(graph(x), axis=0), axis=1).max() * 4.0)


def test_lipsdp_is_exact_for_one_hidden_neuron_and_between_on_others():
    """Kinks on a grid make the true constant computable."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        graph = chain(
            (1,), Dense.of(np.ones((3, 1)), rng.integers(-8, 9, 3) / 4.0), Relu(), Dense.of(rng.standard_normal((2, 3)))
        )
        exact = exact_constant(graph, 5)
        values = bounds(graph, "l2")
        assert exact <= values["lipsdp"] * ROUNDING
        assert values["lipsdp"] <= values["spectral"] * (1 + 1e-6)
    for weight, activation, slope in ((2.0, Relu, 1), (-3.0, Abs, 1), (0.5, Sigmoid, 0.25), (4.0, Tanh, 1)):
        graph = chain((1,), Dense.of([[weight]]), activation(), Dense.of([[1.5]]))
        for method, value in bounds(graph, "l2").items():
            assert value == pytest.approx(abs(weight) * 1.5 * slope, rel=1e-6), method


def test_tiny_weights_before_a_large_layer():
    """Power iteration with a norm floor underestimates layers of size 1e-9 and smaller; here nothing may be lost."""
    rng = np.random.default_rng(3)
    for scale in (1e-6, 1e-9, 1e-12, 1e-20, 1e-30):
        small, large = rng.standard_normal((5, 4)), rng.standard_normal((3, 5))
        graph = chain((4,), Dense.of(scale * small, scale * np.ones(5)), Relu(), Dense.of(large / scale))
        plain = chain((4,), Dense.of(small, np.ones(5)), Relu(), Dense.of(large))
        for norm in NORMS:
            steepest = steepest_secant(plain, norm, rng, points=10)
            reference = bounds(plain, norm)
            assert steepest_secant(graph, norm, rng, points=10) > 0.1 * steepest
            for method, value in bounds(graph, norm).items():
                assert steepest <= value * ROUNDING, (method, scale)
                assert value == pytest.approx(reference[method], rel=1e-5), (method, scale)


def test_a_skip_connection_adds():
    """x + W2 relu(W1 x): the identity counts."""
    graph = Graph(
        (2,),
        (Node(Dense.of(np.eye(2)), (0,)), Node(Relu(), (1,)), Node(Dense.of(np.eye(2)), (2,)), Node(Add(), (0, 3))),
    )
    for norm in NORMS:
        for method, value in bounds(graph, norm).items():
            assert value >= 2.0, method
            if norm == "l2" and method != "eclipse-fast":
                assert value <= 2.0 * (1 + 1e-6), method


def test_the_difference_of_a_branch_with_itself():
    """z - z = 0: no bound may be negative or NaN, and none is below the truth."""
    branch = (Node(Dense.of(np.eye(2)), (0,)), Node(Relu(), (1,)), Node(Dense.of(-np.eye(2)), (2,)))
    for method, value in bounds(Graph((2,), (*branch, Node(Add(), (2, 3)))), "l2").items():
        assert 0 <= value <= 2 * (1 + 1e-6), method


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_overflow_on_the_way_leaves_no_finite_bound_below_the_truth(norm):
    big = Dense.of([[1e200]])
    for graph in (
        chain((1,), big, Relu(), big),
        chain((1,), big, big),
        chain((1,), big, Relu(), big, Relu(), Dense.of([[0.0]])),
    ):
        for method in METHODS:
            (bound,) = bound_output(graph, Output("all"), norm, method)
            assert not bound.proved or graph.nodes[-1].operator.weight.mid == 0.0
            assert bound.proved or (bound.value == np.inf and bound.note)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_degenerate_networks(norm):
    zero, ones = np.zeros((2, 2)), np.ones((2, 2))
    cases = {
        "identity": ([], 1.0),
        "activation alone": ([Relu()], 1.0),
        "linear": ([Dense.of(ones)], 2.0),
        "zero last": ([Dense.of(ones), Relu(), Dense.of(zero)], 0.0),
        "zero first": ([Dense.of(zero), Relu(), Dense.of(ones)], 0.0),
        "zero middle": ([Dense.of(ones), Relu(), Dense.of(zero), Tanh(), Dense.of(ones)], 0.0),
        "dead neuron": ([Dense.of([[1.0, 1.0], [0.0, 0.0]]), Relu(), Dense.of(np.diag([1.0, 0.5]))], 2.0**0.5),
        "two activations": ([Relu(), Tanh()], 1.0),
    }
    for name, (operators, true) in cases.items():
        for method, value in bounds(chain((2,), *operators), norm).items():
            assert true <= value, (name, method)
            limit = np.sqrt(2.0) * true if norm == "linf" else true  # lipsdp bounds |Df|_2 by |Dx|_inf
            assert value <= limit * (1 + 1e-6) + 1e-9, (name, method)
