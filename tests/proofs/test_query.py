"""Queries against exact rationals: what is unsafe stays unsafe, whatever the numbers of the property are."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.ops import Dense
from certlip.proofs.exact_values import exact_output_ball
from certlip.proofs.query import ball_domain, float_down, float_up, label_query, property_queries, range_query
from certlip.properties.property import Case, Halfspace, Property
from certlip.rigor.exact_numbers import NotExact

EXAMPLES = settings(deadline=None, derandomize=True, database=None, max_examples=200)
LARGEST = F(float(np.finfo(np.float64).max))
LEAST = F(5e-324)

rationals = st.one_of(
    st.fractions(),
    st.builds(lambda n, e: F(n) * F(10) ** e, st.integers(-(10**20), 10**20), st.integers(-400, 400)),
    st.sampled_from([LARGEST, LARGEST + 1, 2 * LARGEST, LEAST, LEAST / 2, LEAST * F(3, 2), F(1, 10), F(0)]),
)


@np.errstate(over="ignore")
@EXAMPLES
@given(rationals)
def test_rounding_to_floats(value):
    low, high = float_down(value), float_up(value)
    assert low == -np.inf or F(low) <= value
    assert high == np.inf or F(high) >= value
    assert low == high if F(high if np.isfinite(high) else low) == value else np.nextafter(low, np.inf) == high
    assert low < np.inf and high > -np.inf


@EXAMPLES
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), st.fractions(0, 10), st.sampled_from(["l2", "linf"]),
    st.one_of(st.none(), st.tuples(st.fractions(-2, 0), st.fractions(0, 2))),
)  # fmt: skip
def test_the_box_of_a_ball_holds_it(center, eps, norm, clip):
    domain = ball_domain(np.array([center]), eps, norm, clip)
    for i, entry in enumerate(map(F, center)):
        ends = entry - eps, entry + eps
        low, high = ends if clip is None else (max(ends[0], clip[0]), min(ends[1], clip[1]))
        assert F(domain.low[0, i]) <= low and high <= F(domain.high[0, i])
        assert low - F(domain.low[0, i]) <= abs(low) / 2**52 + LEAST
    assert (domain.center is None) == (norm == "linf")
    assert F(domain.radius) >= domain.eps or norm == "linf"


def affine(weight, bias=0.0) -> Graph:
    return Graph((np.shape(weight)[1],), (Node(Dense.of(np.array(weight, float), bias), (0,)),))


def ends_of(graph: Graph, x: np.ndarray):
    return exact_output_ball(graph, x)


coefficients = st.one_of(st.fractions(-9, 9), st.sampled_from([F(1, 3), F(1, 10**30), F(10**30), F(1), F(-1)]))


@settings(EXAMPLES, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.data())
def test_constraints_are_what_the_halfspaces_say(seed, data):
    """g_k = c x + a y - bound, at a point, for a network and coefficients that are no floats."""
    graph = random_graph(seed, pools=True)
    sizes = graph.input_size, graph.output_size

    def terms(size: int):
        chosen = data.draw(st.sets(st.integers(0, size - 1), max_size=2))
        return tuple((i, factor) for i in sorted(chosen) if (factor := data.draw(coefficients)) != 0)

    rows = [Halfspace(*map(terms, sizes), data.draw(coefficients), data.draw(st.booleans())) for _ in range(2)]
    case = Case((F(-1),) * sizes[0], (F(1),) * sizes[0], tuple(rows))
    (query,) = property_queries(graph, Property(*sizes, (case,)))
    x = np.random.default_rng(seed).uniform(-1, 1, graph.input_shape)
    try:
        y, g = ends_of(graph, x), ends_of(query.graph, x)
    except NotExact:
        return
    for row, k in zip(rows, query.clauses[0] if rows[0] != rows[1] else query.clauses[0] * 2, strict=True):
        inner = sum((factor * F(x.ravel()[i]) for i, factor in row.inputs), -row.bound)
        low, high = (
            inner + sum((factor * y[end if factor > 0 else 1 - end][j] for j, factor in row.outputs), F(0))
            for end in (0, 1)
        )
        assert g[0][k] <= high and low <= g[1][k]
        assert g[1][k] - g[0][k] <= 1e-6 * (1 + max(map(abs, g[0])))


def test_boxes_are_told_apart_and_empty_ones_left_out():
    one, two = Halfspace((), ((0, F(1)),), F(0)), Halfspace((), ((0, F(1)),), F(0), strict=True)
    boxes = [((F(0),), (F(1),)), ((F(2),), (F(3),)), ((F(1),), (F(0),)), ((F(0),), (F(0),))]
    cases = [Case(*boxes[0], (one,)), Case(*boxes[1], (one, two)), Case(*boxes[0], (two,)), Case(*boxes[2], (one,))]
    queries = property_queries(affine([[1.0]]), Property(1, 1, (*cases, Case(*boxes[3], ()))))
    assert [query.clauses for query in queries] == [((0,), (1,)), ((0, 1),), ((),)]
    assert [(float(q.domain.low[0]), float(q.domain.high[0])) for q in queries] == [(0, 1), (2, 3), (0, 0)]


def test_a_constraint_that_is_said_twice_is_one():
    row = Halfspace((), ((0, F(1)),), F(0))
    (query,) = property_queries(affine([[1.0]]), Property(1, 1, (Case((F(0),), (F(1),), (row, row)),)))
    assert query.clauses == ((0,),)


def test_a_network_without_nodes():
    row = Halfspace(((1, F(2)),), ((0, F(1)),), F(1, 2))
    (query,) = property_queries(Graph((1, 2), ()), Property(2, 2, (Case((F(0),) * 2, (F(1),) * 2, (row,)),)))
    assert ends_of(query.graph, np.array([[0.25, 0.5]])) == ([F(3, 4)], [F(3, 4)])


def test_numbers_beyond_floats_are_refused_and_sizes_have_to_fit():
    row = Halfspace((), ((0, F(1)),), F(10) ** 400)
    with pytest.raises(UsageError, match="beyond the range of floats"):
        property_queries(affine([[1.0]]), Property(1, 1, (Case((F(0),), (F(1),), (row,)),)))
    with pytest.raises(UsageError, match="the model has 1 and 1"):
        property_queries(affine([[1.0]]), Property(2, 1, ()))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_labels(label):
    query = label_query(affine(np.eye(3)), label, ball_domain(np.zeros(3), F(1), "linf"))
    x = np.array([0.5, 0.25, 2.0])
    rivals = [k for k in range(3) if k != label]
    assert ends_of(query.graph, x)[0] == [F(x[label]) - F(x[k]) for k in rivals]
    assert query.clauses == ((0,), (1,))


@pytest.mark.parametrize(("label", "sign"), [(0, -1), (1, 1)])
def test_labels_of_one_output(label, sign):
    query = label_query(affine([[1.0]]), label, ball_domain(np.zeros(1), F(1), "linf"))
    assert ends_of(query.graph, np.array([0.75]))[0] == [sign * F(3, 4)]


def test_ranges():
    query = range_query(affine([[1.0]]), [F(1, 3)], [F(2, 3)], ball_domain(np.zeros(1), F(1), "linf"))
    (low, high), (low_end, high_end) = ends_of(query.graph, np.array([0.5]))
    assert low <= F(1, 6) <= low_end and high <= F(1, 6) <= high_end and query.clauses == ((0,), (1,))
