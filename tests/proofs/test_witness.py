"""Forests as arrays: what searches find proves the same, what is no forest is refused, and nothing false passes."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_forests import points_of, random_forest, random_query

from certlip.bounds.forest import GrowingTree
from certlip.bounds.refute import refute
from certlip.errors import CertificateRejected
from certlip.graph import Graph, Node
from certlip.ops import Concat, Dense, Relu
from certlip.proofs.query import Domain, Query, ball_domain, label_query, property_queries, range_query
from certlip.proofs.relaxation import witness
from certlip.proofs.relaxation.branches import Leaf, Tree, refutes
from certlip.proofs.relaxation.witness import ARRAYS, prove
from certlip.properties.property import Case, Halfspace, Property
from certlip.verification.forest_arrays import arrays_of

NONE = np.zeros((0, 2), dtype=np.int64)


def proves(queries, arrays, slacks=None) -> bool:
    """Whether the arrays prove the queries; any other exception than a rejection is a defect."""
    try:
        prove(queries, arrays, slacks)
    except CertificateRejected as error:
        assert str(error)
        return False
    return True


def read_only(arrays):
    """As a store hands them over."""
    found = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    for array in found.values():
        array.flags.writeable = False
    return found


# ---------------------------------------------------------------- honest forests


def test_random_forests_prove_as_arrays_what_they_prove_as_trees():
    """Inputs and neurons are split, slopes are beyond [0, 1], multipliers random: many proofs succeed, many fail."""
    counts = {True: 0, False: 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        query = random_query(seed, float(rng.choice([0.02, 0.1, 0.5])))
        forest = random_forest(rng, query)
        expected = all(refutes(query, tree).all() for tree in forest)
        assert proves([query], read_only(arrays_of(forest))) == expected, seed
        counts[expected] += 1
        if expected:
            g = query.graph(points_of(rng, query.domain, 200)).reshape(200, -1)
            assert (g > 0).all(), seed
    assert min(counts.values()) > 15


def kinked() -> Graph:
    """f = relu(v) - 2 relu(v - 1/2) with v = x0 + x1: from -1 to 1/2 on [-1, 1]^2."""
    layers = [
        Dense.of(np.ones((2, 2)), np.array([0.0, -0.5]), (1,)),
        Relu(),
        Dense.of(np.array([[1.0, -2.0]]), np.zeros(1), (1,)),
    ]
    return Graph((1, 2), tuple(Node(layer, (i,), "") for i, layer in enumerate(layers)))


SQUARE = Domain(-np.ones((1, 2)), np.ones((1, 2)))
MULTIPLIERS = {
    (-1, -1): ((0, 0), (0, 0)), (-1, 1): ((2, 0), (0, 2)), (1, -1): ((1, 0), (0, 1)), (1, 1): ((0, 0), (0, 1)),
}  # fmt: skip
"""By the signs of both splits: of the lower and of the upper bound on f."""


def case_tree(*weights: np.ndarray) -> GrowingTree:
    """Both neurons split at zero. Each case needs its multipliers: over the square v moves freely."""
    tree = GrowingTree(0, (0, 1))
    below, above = tree.split(0, 1, 0, 0.0)
    for leaf in (*tree.split(below, 1, 1, 0.0), *tree.split(above, 1, 1, 0.0)):
        first, second = (split[3] for split in tree.path(leaf))
        factors = tuple(np.array(part, dtype=np.float64) for part in MULTIPLIERS[first, second])
        for half in tree.split(leaf, 0, 1, 0.25):
            tree.close(half, weights, factors, (np.array([0.5]),) * 2)
    return tree


def test_splits_of_neurons_need_their_multipliers():
    query = range_query(kinked(), [F(-101, 100)], [F(51, 100)], SQUARE)
    arrays = arrays_of([case_tree(np.ones(1), np.ones(1)).finished(np.array([[1, 0]]))])
    assert set(arrays) == set(ARRAYS) - {"weights"}
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert proves([query], read_only(arrays))
    assert not proves([query], {**arrays, "multipliers": 0 * arrays["multipliers"]})
    assert not proves([query], {"duties": arrays["duties"], "nodes": np.array([-1.0])})


def test_a_slope_may_be_all_that_a_proof_needs():
    """relu(v) - v / 2 is positive up to rounding; the line with slope 1/2 shows it, the one that is chosen does not."""
    layers = [Dense.of(np.ones((1, 2)), np.zeros(1), (1,)), Relu()]
    nodes = [Node(layer, (i,), "") for i, layer in enumerate(layers)]
    nodes += [Node(Concat(1), (1, 2), ""), Node(Dense.of(np.array([[-0.5, 1.0]]), np.zeros(1), (1,)), (3,), "")]
    query = range_query(Graph((1, 2), tuple(nodes)), [F(-1, 100)], [F(2)], SQUARE)
    arrays = {"duties": np.array([[0.0, 0, 0], [0, 0, 1]]), "nodes": np.array([-1.0])}
    assert not proves([query], arrays)
    position = next(i for i, node in enumerate(query.graph.nodes) if isinstance(node.operator, Relu))
    chosen = {**arrays, "lines": np.array([[0.0, position, 0]]), "slopes": np.array([0.5, np.nan])}
    assert proves([query], chosen)
    assert not proves([query], {**chosen, "slopes": np.array([np.nan, 0.5])})


def test_searches_by_splits_of_inputs():
    """What `refute` finds for boxes, in one forest for all queries of a property; checked in parts of any size."""
    graph = wave()
    row = Halfspace((), ((0, F(1)),), F(-9, 10))
    two = (Halfspace((), ((0, F(1)),), F(-1, 5)), Halfspace((), ((0, F(-1)),), F(1, 10)))  # y <= -1/5 and y >= -1/10
    boxes = [((F(-1), F(-1)), (F(0), F(1))), ((F(0), F(-1)), (F(1), F(1)))]
    asked = Property(2, 1, tuple(Case(*box, rows) for box in boxes for rows in ((row,), two)))
    queries = property_queries(graph, asked)
    assert [query.clauses for query in queries] == [((0,), (1, 2))] * 2
    trees = [tree for number, query in enumerate(queries) for tree in refute(query, number).trees]
    assert max(len(tree.leaves) for tree in trees) > 5
    arrays = arrays_of(trees)
    assert "weights" in arrays and "multipliers" not in arrays and "slopes" not in arrays
    assert proves(queries, arrays)
    assert not proves(queries[::-1], arrays) and not proves(queries[:1], arrays) and not proves(queries * 2, arrays)


@pytest.mark.parametrize("floats", [1, 40, 200])
def test_parts_of_leaves_and_clauses_prove_the_same(monkeypatch, floats):
    for seed in range(25):
        rng = np.random.default_rng(seed)
        query = random_query(seed, 1.0)
        arrays = arrays_of(random_forest(rng, query))
        expected = proves([query], arrays)
        monkeypatch.setattr(witness, "_FLOATS", floats)
        assert proves([query], arrays) == expected
        monkeypatch.undo()


def wave() -> Graph:
    """y = relu(x0) - 2 relu(x0 - 1/2) + relu(x1) - 2 relu(x1 - 1/2) - ..., bent often enough to need splits."""
    first = np.array([[1.0, 0.5], [1.0, -0.5], [0.5, 1.0], [-0.5, 1.0]])
    layers = [
        Dense.of(first, np.array([0.1, -0.2, 0.3, -0.1]), (1,)), Relu(),
        Dense.of(np.array([[1.0, -1.0, 0.5, -0.5], [-0.5, 1.0, -1.0, 0.5]]), np.array([0.0, 0.1]), (1,)), Relu(),
        Dense.of(np.array([[0.5, -0.5]]), np.zeros(1), (1,)),
    ]  # fmt: skip
    return Graph((1, 2), tuple(Node(layer, (i,), "") for i, layer in enumerate(layers)))


# ---------------------------------------------------------------- forged forests


@pytest.fixture(scope="module")
def honest() -> tuple[Query, dict[str, np.ndarray]]:
    """A proof with every array in it; it fails without its splits."""
    query = range_query(kinked(), [F(-101, 100)], [F(51, 100)], SQUARE)
    both = Query(query.graph, query.domain, ((0,), (1, 0)), query.rows)  # the second clause has two constraints
    tree = case_tree(np.ones(1), np.array([1.0, 0.0]))
    arrays = arrays_of([tree.finished(np.array([[1, 0]]))])
    assert set(arrays) == set(ARRAYS)
    return both, arrays


def test_the_honest_one(honest):
    query, arrays = honest
    assert proves([query], arrays)
    single = {"duties": arrays["duties"], "nodes": np.array([-1.0]), "weights": np.array([1.0, 0.0])}
    assert not proves([query], single)


def altered(arrays, name, index, value):
    changed = arrays[name].astype(np.float64)
    changed[index] = value
    return {**arrays, name: changed}


@pytest.mark.parametrize("name", ARRAYS)
def test_nothing_may_be_missing_or_left_over(honest, name):
    query, arrays = honest
    short, long = arrays[name][:-1], np.concatenate([arrays[name], arrays[name][-1:]])
    assert not proves([query], {**arrays, name: short}) and not proves([query], {**arrays, name: long})
    assert not proves([query], {**arrays, name: arrays[name][None]})
    left = {key: array for key, array in arrays.items() if key != name}
    if name not in ("thresholds", "multipliers"):  # which are zero then
        assert not proves([query], left)
    assert not proves([query], {**arrays, "more": np.zeros(1)})
    assert not proves([query], {**arrays, name: np.zeros(arrays[name].shape[:0])})


@pytest.mark.parametrize("name", ["duties", "nodes", "entries", "lines"])
@pytest.mark.parametrize("value", [-2.0, 0.5, np.nan, np.inf, -np.inf, 2.0**53, 1e300, 1000.0])
def test_indices_must_be_indices(honest, name, value):
    query, arrays = honest
    array = arrays[name]
    places = [0, len(array) // 2, len(array) - 1]
    for place in places if array.ndim == 1 else itertools.product(range(len(array)), range(3)):
        assert not proves([query], altered(arrays, name, place, value)), place


@pytest.mark.parametrize("name", ["weights", "multipliers"])
@pytest.mark.parametrize("value", [-1.0, -5e-324, np.nan, np.inf, -np.inf])
def test_weights_and_multipliers_must_be_finite_and_not_negative(honest, name, value):
    query, arrays = honest
    for place in range(0, len(arrays[name]), 7):
        assert not proves([query], altered(arrays, name, place, value))


def test_huge_and_tiny_numbers_prove_nothing_false(honest):
    """Where the bounds are those that f attains, the claim is false; no numbers may help."""
    query, arrays = honest
    false = range_query(kinked(), [F(-1)], [F(1, 2)], query.domain)
    false = Query(false.graph, false.domain, query.clauses, false.rows)
    assert not proves([false], arrays)
    for name in ("weights", "multipliers", "slopes", "thresholds"):
        for value in (0.0, 5e-324, 1e-310, 1e-30, 1e30, 1e300, 1.7e308, -1e300, np.nan, np.inf, -np.inf):
            assert not proves([false], {**arrays, name: np.full(arrays[name].shape, value)}), (name, value)
            assert not proves([false], altered(arrays, name, 0, value)), (name, value)


def test_weights_of_zero_prove_nothing(honest):
    query, arrays = honest
    assert not proves([query], {**arrays, "weights": np.zeros(arrays["weights"].shape)})
    assert not proves([query], altered(arrays, "weights", 0, 0.0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_thresholds_are_finite(honest, value):
    query, arrays = honest
    for place in (0, 5, len(arrays["thresholds"]) - 1):
        assert not proves([query], altered(arrays, "thresholds", place, value))


def test_thresholds_outside_of_the_range_leave_the_proof_to_one_branch(honest):
    """One side is empty then; the other must be proved as if it had not been split."""
    query, arrays = honest
    for value in (-100.0, 100.0):
        changed = {**arrays, "thresholds": np.full(arrays["thresholds"].shape, value)}
        assert not proves([query], changed)


def test_lines_are_of_activations(honest):
    query, arrays = honest
    for position in range(len(query.graph.nodes) + 2):
        changed = altered(arrays, "lines", (0, 1), position)
        assert proves([query], changed) == (position == 1)
    assert not proves([query], altered(arrays, "lines", (0, 2), 2))
    assert not proves([query], altered(arrays, "lines", (0, 0), 1))


def test_duties(honest):
    query, arrays = honest
    for duties in (
        [[0, 0, 0]], [[0, 0, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 0, 1]],
        [[1, 0, 0], [1, 0, 1]], [[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 2]], [[0, 1, 0], [0, 1, 1]],
        [[0, 0, 1], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]],
    ):  # fmt: skip
        assert not proves([query], {**arrays, "duties": np.array(duties, dtype=np.float64)}), duties


def test_a_tree_of_another_query_is_no_proof():
    """Equal trees, and queries that differ in their domains or in what they ask for."""
    true = range_query(wave(), [F(-10)], [F(10)], Domain(-np.ones((1, 2)), np.ones((1, 2))))
    wide = Query(true.graph, Domain(-1e3 * np.ones((1, 2)), 1e3 * np.ones((1, 2))), true.clauses, true.rows)
    other = range_query(wave(), [F(-1, 10)], [F(1, 10)], true.domain)
    tree = GrowingTree(0, (0, 1))
    tree.close(0, (np.ones(1), np.ones(1)))
    arrays = arrays_of([tree.finished(), replace(tree.finished(), query=1)])
    assert proves([true, true], arrays)
    for false in (wide, other):
        assert not proves([true, false], arrays) and not proves([false, true], arrays)


def test_a_clause_without_constraints_is_unsafe_wherever_there_is_an_input():
    box = Case((F(0), F(0)), (F(1), F(1)), ())
    (query,) = property_queries(wave(), Property(2, 1, (box,)))
    arrays = {"duties": np.zeros((1, 3)), "nodes": np.array([-1.0])}
    assert not proves([query], arrays)
    assert not proves([query], {**arrays, "weights": np.ones(1)})
    split = {**arrays, "nodes": np.array([0.0, -1.0, -1.0]), "entries": np.zeros(1), "thresholds": np.array([7.0])}
    assert not proves([query], split)
    row = Halfspace((), ((0, F(1)),), F(-10))
    (both,) = property_queries(wave(), Property(2, 1, (box, replace(box, halfspaces=(row,)))))
    duties = np.array([[0.0, 0, 0], [0, 0, 1]])
    assert not proves([both], {"duties": duties, "nodes": np.array([-1.0])})
    assert not proves([both], {"duties": duties[1:], "nodes": np.array([-1.0])})


def test_no_queries_need_no_arrays_and_take_none():
    assert proves([], {})
    assert not proves([], {"nodes": np.array([-1.0])}) and not proves([], {"duties": np.zeros((1, 3))})
    assert not proves([], {"weights": np.ones(1)})


def test_slack_must_be_exceeded():
    query = range_query(wave(), [F(-10)], [F(10)], Domain(-np.ones((1, 2)), np.ones((1, 2))))
    arrays = {"duties": np.array([[0.0, 0, 0], [0, 0, 1]]), "nodes": np.array([-1.0])}
    assert proves([query], arrays, [np.zeros(2)]) and proves([query], arrays, [np.full(2, 5.0)])
    assert not proves([query], arrays, [np.full(2, 11.0)]) and not proves([query], arrays, [np.array([0.0, 11.0])])


# ---------------------------------------------------------------- bounds on the work


def test_too_deep_a_tree_is_refused_soon():
    query = range_query(wave(), [F(-10)], [F(10)], Domain(-np.ones((1, 2)), np.ones((1, 2))))
    count = 200_000
    nodes = np.concatenate([np.zeros(count), -np.ones(count + 1)])
    began = time.process_time()
    duties = np.array([[0.0, 0, 0], [0, 0, 1]])
    assert not proves([query], {"duties": duties, "nodes": nodes, "entries": np.zeros(count)})
    assert time.process_time() - began < 10


def test_memory_does_not_grow_with_the_leaves():
    """A comb of many leaves, of which every other is empty: paths and rows are made and dropped part by part."""
    query = range_query(wave(), [F(-10)], [F(10)], Domain(-np.ones((1, 2)), np.ones((1, 2))))
    depth = 12
    nodes = np.array(_complete(depth))
    inner = int((nodes >= 0).sum())
    arrays = {
        "duties": np.array([[0.0, 0, 0], [0, 0, 1]]), "nodes": nodes, "entries": np.arange(inner) % 2 * 1.0,
        "thresholds": np.linspace(-1, 1, inner),
    }  # fmt: skip
    tracemalloc.start()
    assert proves([query], arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(nodes) > 8000 and peak < 2**23


def _complete(depth: int) -> list[float]:
    return [-1.0] if depth == 0 else [0.0, *_complete(depth - 1), *_complete(depth - 1)]


def test_too_many_numbers_are_refused(monkeypatch, honest):
    query, arrays = honest
    monkeypatch.setattr(witness, "MAX_NUMBERS", sum(array.size for array in arrays.values()) - 1)
    assert not proves([query], arrays)


# ---------------------------------------------------------------- anything at all


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_arrays_are_a_proof_or_refused(data):
    """Random arrays of plausible sizes against a false claim, and mutations of honest ones."""
    false = range_query(wave(), [F(-1, 100)], [F(1, 100)], Domain(-np.ones((1, 2)), np.ones((1, 2))))
    number = st.one_of(st.integers(-2, 6).map(float), st.floats(width=64))
    lists = st.lists(number, max_size=12).map(np.array)
    tables = st.lists(st.tuples(number, number, number), max_size=4).map(lambda rows: np.array(rows).reshape(-1, 3))
    arrays = {
        name: np.asarray(data.draw(tables if name in ("duties", "lines") else lists), dtype=np.float64)
        for name in data.draw(st.sets(st.sampled_from(ARRAYS)))
    }
    assert not proves([false], arrays)
    arrays["duties"] = np.array([[0.0, 0, 0], [0, 0, 1]])
    assert not proves([false], arrays)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutations_prove_nothing_false(data):
    """Proofs of random forests, numbers changed, entries removed and doubled: whatever is accepted is true."""
    seed = data.draw(st.integers(0, 400))
    rng = np.random.default_rng(seed)
    query = random_query(seed, float(rng.choice([0.05, 0.3, 1.0])))
    arrays = {name: array.astype(np.float64) for name, array in arrays_of(random_forest(rng, query)).items()}
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(arrays)))
        array = arrays[name].copy()
        if not len(array):
            continue
        place = data.draw(st.integers(0, len(array) - 1))
        kind = data.draw(st.sampled_from(["set", "set", "set", "remove", "double"]))
        if kind == "set":
            special = [0.0, 1.0, -1.0, 2.0, 5e-324, 1e300, -1e300, np.nan, np.inf]
            array.reshape(len(array), -1)[place, -1] = data.draw(st.sampled_from(special))
        else:
            array = np.delete(array, place, 0) if kind == "remove" else np.insert(array, place, array[place], 0)
        arrays[name] = array
    if proves([query], arrays):
        g = query.graph(points_of(rng, query.domain, 300)).reshape(300, -1)
        assert (g > 0).all()


# ---------------------------------------------------------------- against grids


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_balls_enlarged_until_the_claim_is_false(norm):
    """In the plane a grid finds where the class changes; what is proved lies within that, and comes close to it."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        layers = [
            Dense.of(rng.standard_normal((6, 2)), rng.standard_normal(6), (1,)), Relu(),
            Dense.of(rng.standard_normal((6, 6)) / 2, rng.standard_normal(6), (1,)), Relu(),
            Dense.of(rng.standard_normal((3, 6)), rng.standard_normal(3), (1,)),
        ]  # fmt: skip
        graph = Graph((1, 2), tuple(Node(layer, (i,), "") for i, layer in enumerate(layers)))
        center = np.zeros((1, 2))
        label = int(graph(center[None]).argmax())
        axis = np.linspace(-3, 3, 301)
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 1, 2)
        outputs = graph(grid).reshape(-1, 3)
        lost = (np.delete(outputs, label, 1).max(1) >= outputs[:, label]).nonzero()[0]
        distance = np.linalg.norm(grid.reshape(-1, 2), 2 if norm == "l2" else np.inf, axis=1)
        nearest = distance[lost].min() if lost.size else 3.0
        best = 0.0
        for share in (0.25, 0.5, 0.8, 0.95, 1.0 + 1e-6, 1.1, 1.5):
            query = label_query(graph, label, ball_domain(center, F(share * nearest), norm))
            found = refute(query, 0, None, time.monotonic() + 0.7).trees
            forests = [found] if found else []
            forests += [random_forest(rng, query) for _ in range(5)]
            proved = any(proves([query], arrays_of(forest)) for forest in forests)
            assert not (proved and share > 1 and lost.size), (seed, share)
            best = max(best, share if proved else 0.0)
        assert best >= 0.25, seed


def test_what_is_no_tree_in_preorder_is_not_written():
    leaf = lambda *path: Leaf(path, (np.ones(1),), (np.zeros(0),), (np.zeros(0),))  # noqa: E731
    below, above = (0, 0, 0.5, -1), (0, 0, 0.5, 1)
    for leaves in ([leaf(below)], [leaf(above)], [leaf(above), leaf(below)], [leaf(below), leaf((0, 0, 0.6, 1))], []):
        with pytest.raises(ValueError, match="tree"):
            arrays_of([Tree(0, (0,), tuple(leaves), NONE)])
    assert arrays_of([Tree(0, (0,), (leaf(below), leaf(above)), NONE)])["nodes"].tolist() == [0, -1, -1]
