"""The search for unsafe points against grids, planted violations and linear functions whose maxima are known."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest
from random_graphs import Sketch, random_graph

from certlip.graph import Graph, Node
from certlip.ops import Dense, Reindex, Relu
from certlip.proofs.query import Domain, Query, ball_domain, label_query, property_queries
from certlip.properties.property import Case, Halfspace, Property
from certlip.verification.falsify import QUICK, THOROUGH, Effort, find_unsafe

BRIEF = Effort(samples=256, restarts=16, steps=20, rounds=1, work=1e9)


def search(query: Query, effort: Effort = QUICK, seed: int = 0) -> list[np.ndarray]:
    return list(find_unsafe(query, seed=seed, deadline=None, effort=effort))


def box_query(graph: Graph, low, high, *cases: tuple[Halfspace, ...]) -> Query:
    """Unsafe where all rows of a case hold, in the box."""
    ends = tuple(map(F, low)), tuple(map(F, high))
    whole = Property(graph.input_size, graph.output_size, tuple(Case(*ends, rows) for rows in cases))
    (query,) = property_queries(graph, whole)
    return query


def above(bound: float, output: int = 0) -> Halfspace:
    return Halfspace((), ((output, F(-1)),), -F(bound))


def below(bound: float, output: int = 0) -> Halfspace:
    return Halfspace((), ((output, F(1)),), F(bound))


def slack(query: Query, point: np.ndarray) -> float:
    """How far the nearest clause is from holding, by the graph itself; at most 0 where it holds."""
    g = query.graph(point[None])[0].ravel()
    return min(max((g[k] for k in clause), default=-np.inf) for clause in query.clauses)


def check(query: Query, points: list[np.ndarray], tolerance: float = 1e-4) -> None:
    """Every candidate is in the domain and violates, up to rounding in float32."""
    domain = query.domain
    for point in points:
        assert point.shape == query.graph.input_shape and point.dtype == np.float64
        assert (point >= domain.low - 1e-6).all() and (point <= domain.high + 1e-6).all()
        if domain.center is not None:
            assert np.linalg.norm(point - domain.center) <= domain.radius * (1 + 1e-6)
        assert slack(query, point) <= tolerance


def grid(low, high, points: int = 101) -> np.ndarray:
    axes = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, len(axes))


def wavy(seed: int, inputs: int, outputs: int) -> Graph:
    """A network with many local extrema."""
    sketch = Sketch(np.random.default_rng(seed), (inputs,))
    for width in (24, 24):
        sketch.add(Dense.of(2.0 * sketch.rng.standard_normal((width, sketch.shapes[-1][0])), sketch.normal(width)))
        sketch.activation(len(sketch.nodes))
    sketch.dense(len(sketch.nodes), outputs)
    return sketch.graph()


@pytest.mark.parametrize("seed", range(12))
def test_what_a_fine_grid_shows_is_found_and_nothing_else_is_claimed(seed):
    graph = wavy(seed, 2, 1)
    values = graph(grid((-1, -1), (1, 1)))
    least, most = float(values.min()), float(values.max())
    width = max(most - least, 1e-3)
    high = box_query(graph, (-1, -1), (1, 1), (above(most - 1e-3 * width),))
    low = box_query(graph, (-1, -1), (1, 1), (below(least + 1e-3 * width),))
    for query in (high, low):
        found = search(query)
        assert found
        check(query, found)
    nothing = box_query(graph, (-1, -1), (1, 1), (above(most + width),), (below(least - width),))
    assert search(nothing, BRIEF) == []


@pytest.mark.parametrize("seed", range(6))
def test_planted_conjunctions_of_narrow_bands(seed):
    """Every output is near its value at a secret point."""
    graph = wavy(seed, 3, 3)
    secret = np.random.default_rng(seed).uniform(-1, 1, 3)
    rows = []
    for output, value in enumerate(graph(secret[None])[0]):
        rows += [above(value - 0.02 * abs(value) - 0.01, output), below(value + 0.02 * abs(value) + 0.01, output)]
    query = box_query(graph, (-1,) * 3, (1,) * 3, tuple(rows))
    check(query, [next(find_unsafe(query, seed=0, deadline=None, effort=THOROUGH))])


def linear(weight: np.ndarray) -> Graph:
    return Graph((weight.shape[1],), (Node(Dense.of(weight), (0,)),))


@pytest.mark.parametrize("size", [1, 5, 17, 300])
def test_the_corner_of_a_box_where_a_linear_function_is_largest(size):
    weight = np.random.default_rng(size).standard_normal((1, size))
    most = float(np.abs(weight).sum())
    query = box_query(linear(weight), [F(-1)] * size, [F(1)] * size, (above(0.9999 * most),))
    found = search(query)
    check(query, found)
    assert found and np.abs(found[-1] - np.sign(weight[0])).max() < 0.2


@pytest.mark.parametrize("size", [2, 40])
def test_the_point_of_a_ball_where_a_linear_function_is_largest(size):
    rng = np.random.default_rng(size)
    weight, center = rng.standard_normal((1, size)), rng.uniform(0.3, 0.7, size)
    reached = float(weight[0] @ center + 0.25 * np.linalg.norm(weight))
    graph = linear(weight)
    domain = ball_domain(center, F(1, 4), "l2")
    bound = Dense.of(np.array([[-1.0]]), np.array([reached - 1e-3]))
    query = Query(graph.append(bound), domain, ((0,),))
    found = search(query)
    assert found
    check(query, found)
    beyond = Query(graph.append(Dense.of(np.array([[-1.0]]), np.array([reached + 1e-3]))), domain, ((0,),))
    assert search(beyond) == []


def test_a_ball_that_is_cut_by_a_box():
    """Maximise x + y in the ball of radius 1/2 around (0.9, 0.5), x at most 1: there y = 0.5 + sqrt(0.24)."""
    graph = linear(np.array([[1.0, 1.0]]))
    domain = ball_domain(np.array([0.9, 0.5]), F(1, 2), "l2", (F(0), F(1)))
    most = 1.0 + 0.5 + np.sqrt(0.24)
    for bound, expected in [(most - 0.01, True), (most + 0.01, False)]:
        query = Query(graph.append(Dense.of(np.array([[-1.0]]), np.array([bound]))), domain, ((0,),))
        found = search(query)
        check(query, found)
        assert bool(found) == expected


def test_a_ball_that_most_faces_of_a_box_cut():
    """Over ball and box w x is largest at clip(center + t w), where t makes the distance the radius (KKT)."""
    rng = np.random.default_rng(0)
    weight, center = rng.standard_normal((1, 50)), rng.uniform(0, 1, 50) ** 3
    moved = lambda t: np.clip(center + t * weight[0], 0.0, 1.0) - center  # noqa: E731
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.linalg.norm(moved(middle)) < 0.5 else (low, middle)
    gain = float(weight[0] @ moved(low))
    domain = ball_domain(center, F(1, 2), "l2", (F(0), F(1)))
    for share, expected in [(0.999, True), (1.001, False)]:
        bound = Dense.of(np.array([[-1.0]]), np.array([float(weight[0] @ center) + share * gain]))
        query = Query(linear(weight).append(bound), domain, ((0,),))
        found = search(query)
        check(query, found)
        assert bool(found) == expected


def test_one_clause_among_many():
    """Of forty linear functions only one reaches its bound."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 30))
    reach = np.abs(weight).sum(1)
    cases = [(above((0.99 if k == 29 else 1.01) * reach[k], k),) for k in range(40)]
    query = box_query(linear(weight), [F(-1)] * 30, [F(1)] * 30, *cases)
    found = search(query, replace(QUICK, rounds=8))
    assert found
    check(query, found)


def test_a_plateau_everywhere_but_at_one_corner():
    """relu(sum x - 95) is zero but where almost every entry is high."""
    sketch = Sketch(np.random.default_rng(0), (100,))
    sketch.add(Dense.of(np.ones((1, 100)), np.array([-95.0])))
    sketch.add(Relu())
    query = box_query(sketch.graph(), [F(0)] * 100, [F(1)] * 100, (above(4.9),))
    found = search(query)
    assert found
    check(query, found)


@pytest.mark.parametrize("seed", range(6))
def test_a_label_that_another_class_beats(seed):
    graph = wavy(seed, 6, 4)
    center = np.random.default_rng(seed).uniform(-1, 1, 6)
    label = int(graph(center[None])[0].argmax())
    for norm in ("l2", "linf"):
        query = label_query(graph, label, ball_domain(center, F(3), norm))
        check(query, search(query, BRIEF), 1e-3)
    assert search(query)


def test_candidates_violate_more_and_more():
    weight = np.random.default_rng(0).standard_normal((1, 400))
    query = box_query(linear(weight), [F(-1)] * 400, [F(1)] * 400, (above(5.0),))
    depths = [slack(query, point) for point in search(query)]
    firsts = [depth for k, depth in enumerate(depths) if all(depth < other for other in depths[:k])]
    assert len(firsts) >= 2 and firsts[-1] < 4 * firsts[0] < 0


@pytest.mark.parametrize("seed", range(8))
def test_any_graph_runs_and_the_seed_decides(seed):
    graph = random_graph(seed, pools=True)
    size = graph.input_size
    middle = float(np.median(graph(np.random.default_rng(0).uniform(-1, 1, (99, *graph.input_shape)))))
    query = box_query(graph, [F(-1)] * size, [F(1)] * size, (above(middle),))
    first, second = search(query, BRIEF, seed), search(query, BRIEF, seed)
    check(query, first, 1e-3)
    assert len(first) == len(second) and all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_passed_deadline_ends_the_search():
    query = box_query(linear(np.ones((1, 9))), [F(-1)] * 9, [F(1)] * 9, (above(10.0),))
    began = time.monotonic()
    endless = replace(THOROUGH, rounds=10**6, work=float("inf"))
    assert list(find_unsafe(query, seed=0, deadline=began - 1.0, effort=endless)) == []
    assert list(find_unsafe(query, seed=0, deadline=time.monotonic() + 0.2, effort=endless)) == []
    assert time.monotonic() - began < 5.0


def test_fixed_entries_stay_and_narrow_boxes_are_told_apart():
    graph = linear(np.array([[1.0, 1.0]]))
    query = box_query(graph, (F(1, 2), F(-1)), (F(1, 2), F(1)), (above(1.49),))
    found = search(query)
    assert found and all(point[0] == 0.5 for point in found)
    step = F(1, 10**10)  # float32 has no number between the ends
    query = box_query(graph, (F(1), F(0)), (1 + step, F(0)), (above(float(1 + step / 2)),))
    found = search(query)
    assert found and all(1 <= point[0] <= 1 + step for point in found)
    query = box_query(graph, ("0.1", "0.2"), ("0.1", "0.2"), (above(0.29),))
    assert np.allclose(search(query)[0], [0.1, 0.2])


def test_huge_boxes_and_functions_that_overflow():
    graph = linear(np.array([[1e30, 1.0]]))
    query = box_query(graph, (-(F(10) ** 300), F(-1)), (F(10) ** 300, F(1)), (above(1e300),))
    check(query, search(query, BRIEF))


def test_clauses_that_always_hold_and_none():
    graph = linear(np.ones((1, 2)))
    always = box_query(graph, (0, 0), (1, 1), ())
    assert len(search(always)) == 1
    domain = Domain(np.zeros(2), np.ones(2))
    assert search(Query(graph, domain, ())) == []


def test_a_constant_function():
    graph = Graph((2,), (Node(Reindex.of((2,), np.array([-1]), 0.5), (0,)),))
    assert search(box_query(graph, (0, 0), (1, 1), (above(0.5),)), BRIEF)
    assert search(box_query(graph, (0, 0), (1, 1), (above(0.75),)), BRIEF) == []


def test_large_networks_get_fewer_points():
    assert QUICK.within(1.0) == QUICK
    for cost in (1e4, 1e6, 1e8, 1e12):
        given = QUICK.within(cost)
        spent = cost * given.rounds * (given.samples + 4.0 * given.restarts * given.steps)
        assert spent <= QUICK.work * 1.01 or (given.restarts, given.steps, given.rounds) == (8, 10, 1)
        assert given.samples >= given.restarts >= 8
