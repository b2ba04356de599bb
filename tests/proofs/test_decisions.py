"""One output decides by its sign; a last sigmoid decides at one half, so its logit does by its sign."""

import numpy as np
import pytest

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.ops import Dense, Reindex, Relu, Sigmoid, Tanh
from certlip.properties.outputs import decision_graph, is_probability, margins_graph

RESHAPE = Reindex.through((1,), lambda array: array.reshape(1, 1))
FLATTEN = Reindex.through((1, 1), np.ravel)


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))


@pytest.mark.parametrize("tail", [(), (RESHAPE,), (RESHAPE, FLATTEN)])
@pytest.mark.parametrize(
    "body", [(), (Dense.of([[2.0]], [-1.0]),), (Dense.of([[2.0]]), Relu(), Dense.of([[1.0]], [-3.0]))]
)
def test_the_logit_before_a_sigmoid_decides_whatever_reshapes_follow(body, tail):
    """A sigmoid is positive everywhere: deciding by *its* sign would certify label 1 for every input."""
    graph = chain((1,), *body, Sigmoid(), *tail)
    assert is_probability(graph)
    x = np.linspace(-3, 3, 25)[:, None]
    for chosen in (decision_graph(graph), margins_graph(graph)):
        assert np.array_equal(chosen(x).ravel() > 0, graph(x).ravel() > 0.5)
        assert (chosen(x) < 0).any()
        assert not any(isinstance(node.operator, Sigmoid) for node in chosen.nodes)
        assert any("Sigmoid" in note for note in chosen.notes)


@pytest.mark.parametrize("tail", [(Tanh(),), (), (Sigmoid(), Dense.of([[2.0]], [-1.0]))])
def test_other_endings_are_kept(tail):
    graph = chain((1,), Dense.of([[2.0]]), *tail)
    assert not is_probability(graph) and decision_graph(graph) is graph


def test_a_sign_that_never_changes_decides_nothing():
    """The sigmoid is positive everywhere, and so is what tanh makes of it."""
    with pytest.raises(UsageError, match="does not take both signs"):
        decision_graph(chain((1,), Dense.of([[2.0]]), Sigmoid(), Tanh()))


def test_hidden_sigmoids_are_kept():
    graph = chain((2,), Dense.of(np.ones((3, 2))), Sigmoid(), Dense.of(np.ones((1, 3))), Sigmoid())
    kept = decision_graph(graph)
    assert [type(node.operator) for node in kept.nodes] == [Dense, Sigmoid, Dense]


def test_networks_without_nodes_and_with_several_outputs():
    empty = Graph((1,), ())
    assert decision_graph(empty) is empty and not is_probability(empty)
    wide = chain((2,), Dense.of(np.ones((2, 2))), Sigmoid())
    assert margins_graph(wide).output_size == 2
    with pytest.raises(UsageError, match="2 outputs"):
        decision_graph(wide)
