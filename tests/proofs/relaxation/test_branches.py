"""Bounds on leaves of case distinctions against the exact network, trees that cover, and forged leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from truth import combined, exact_values, points_in, random_query

from certlip.bounds.forest import GrowingTree
from certlip.graph import Graph, Node, Pointwise
from certlip.ops import Dense, Relu, Scale
from certlip.proofs.query import Domain, Query
from certlip.proofs.relaxation.branches import Leaf, Split, Tree, least_of, refutes
from certlip.proofs.relaxation.cells import cells_of
from certlip.rigor.exact_numbers import NotExact

NONE = np.zeros((0, 2), np.int64)
FACTORS = (0.0, 1e-300, 0.1, 1.0, 10.0, 1e8, -1.0, np.nan, np.inf)


@dataclass(frozen=True, eq=False)
class Leaves:
    """Arguments of `least_of`, one row each."""

    weights: np.ndarray
    paths: list[list[Split]]
    multipliers: list[np.ndarray]
    entries: np.ndarray
    slopes: np.ndarray | None


def random_leaves(query: Query, x: np.ndarray, rng: np.random.Generator, rows: int = 10) -> Leaves:
    """Around some of the points: splits of any values, the output and repeated ones among them, multipliers and slopes
    that a search would never choose."""
    graph, values = query.graph, query.graph.values(x)
    bends = [p for p, node in enumerate(graph.nodes) if isinstance(node.operator, Pointwise)]
    paths, multipliers = [], []
    for _ in range(rows):
        path: list[Split] = []
        for _ in range(int(rng.integers(0, 4))):
            v = int(rng.integers(1, len(graph.shapes)))
            if bends and rng.random() < 0.6:
                v = graph.nodes[rng.choice(bends)].inputs[0] or v
            if not prod(graph.shapes[v]):
                continue
            entry = int(rng.integers(prod(graph.shapes[v])))
            here = values[v].reshape(len(x), -1)[:, entry]
            anchor = here[rng.integers(len(x))]
            threshold = float(rng.choice([0.0, anchor, np.median(here)]))
            path += [(v, entry, threshold, 1 if anchor > threshold else -1)] * (1 + (rng.random() < 0.2))
        paths.append(path)
        usual = np.abs(rng.standard_normal(len(path)))
        multipliers.append(np.where(rng.random(len(path)) < 0.7, usual, rng.choice(FACTORS, len(path))))
    places = [(p, e) for p in bends for e in range(prod(graph.shapes[p + 1])) if rng.random() < 0.7]
    entries = np.array(places, np.int64).reshape(-1, 2)
    odd = rng.choice([0.0, 1.0, 0.5, 0.3, np.nan, 2.0, -1.0, 1e3], (rows, len(entries)))
    weights = rng.random((rows, graph.output_size)) * (rng.random((rows, graph.output_size)) < 0.5)
    return Leaves(weights, paths, multipliers, entries, odd if len(entries) and rng.random() < 0.7 else None)


def is_inside(path: list[Split], values) -> bool:
    """Whether the point with these exact values lies in the leaf for certain."""
    return all(
        values[v][0][entry] >= Fraction(threshold) if sign > 0 else values[v][1][entry] <= Fraction(threshold)
        for v, entry, threshold, sign in path
    )


def check_leaves(seed: int) -> int:
    """How many bounds were compared with an exact value."""
    rng = np.random.default_rng(seed)
    query = random_query(rng)
    x = points_in(query.domain, rng, 40)
    if not len(x):
        return 0
    leaves = random_leaves(query, x, rng)
    low, high = (np.repeat(end[None], 2, 0) for end in (query.domain.low, query.domain.high))
    cells = rng.integers(2, size=len(leaves.paths))
    frame = cells_of(query.graph, query.domain, low, high)
    least = least_of(frame, leaves.weights, cells, leaves.paths, leaves.multipliers, leaves.entries, leaves.slopes)
    g = leaves.weights @ query.graph(x).reshape(len(x), -1).T
    known, compared = {}, 0
    for row in np.flatnonzero(least > -np.inf):  # NaN claims nothing
        for i in np.argsort(g[row])[:4]:
            try:
                known[i] = known.get(i) or exact_values(query.graph, x[i])
            except NotExact:
                return compared
            if is_inside(leaves.paths[row], known[i]):
                _, value = combined(leaves.weights[row].tolist(), known[i][-1])
                assert least[row] < np.inf and Fraction(least[row]) <= value, (seed, row, i)
                compared += 1
    return compared


@pytest.mark.parametrize("part", range(4))
def test_no_bound_on_a_leaf_exceeds_an_exact_value(part):
    assert sum(check_leaves(1000 * part + seed) for seed in range(20)) > 100


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_no_bound_on_a_leaf_exceeds_an_exact_value_on_many_networks(part):
    assert sum(check_leaves(10_000 + 1000 * part + seed) for seed in range(400)) > 2000


def chain(*layers) -> Graph:
    """Dense layers with ReLU between them."""
    operators = [part for weight, bias in layers for part in (Dense.of(weight, bias), Relu())][:-1]
    return Graph((1, np.shape(layers[0][0])[1]), tuple(Node(_row(op), (i,)) for i, op in enumerate(operators)))


def _row(operator):
    return replace(operator, lead=(1,)) if isinstance(operator, Dense) else operator


def step(rest: float = 2.0**-10) -> Query:
    """g = relu(x0) - relu(x0 - 1/2) + x1 / 4 + rest on [-1, 1] x [0, 1], x1 read by a ReLU that is linear there. Its
    minimum is `rest`; lines without a split lose 1/4."""
    hidden = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, -0.5, 1.0]
    graph = chain(hidden, ([[1.0, -1.0, 0.25]], [rest - 0.25]))
    return Query(graph, Domain(np.array([[-1.0, 0.0]]), np.array([[1.0, 1.0]])), ((0,),))


FIRST = np.array([[1, 0]])
"""The slope that leaves choose: of the lower line of relu(x0)."""


def leaf(*path: Split, weights=(1.0,), multipliers=(), slope: float = 0.0) -> Leaf:
    inner = sum(split[0] != 0 for split in path)
    factors = np.array(multipliers or [0.0] * inner, float)
    return Leaf(tuple(path), (np.array(weights),), (factors,), (np.array([slope]),))


def proved(query: Query, *leaves: Leaf) -> list[bool]:
    return refutes(query, Tree(0, (0,), leaves, FIRST)).tolist()


BELOW, ABOVE = leaf((1, 1, 0.0, -1), slope=0.0), leaf((1, 1, 0.0, 1), slope=1.0)


def test_splits_and_slopes_prove_what_they_imply():
    assert proved(step(), BELOW, ABOVE) == [True, True]
    assert [proved(step(), leaf(slope=slope)) for slope in (0.0, 0.25, 0.5, 1.0)] == [[False]] * 4
    assert proved(step(0.2501), leaf(slope=0.25)) == [True]
    assert proved(step(0.25), leaf(slope=0.25)) == [False]  # a tie


def test_a_forged_leaf_is_refused():
    """A leaf that loses its split, moves it, makes it of another neuron, or another side, or a larger domain."""
    moved = [replace(BELOW, path=(split,)) for split in ((1, 1, 0.25, -1), (1, 2, 0.0, -1), (1, 1, 0.0, 1))]
    assert proved(step(), leaf(slope=0.0), moved[0], moved[2]) == [False, False, False]
    assert proved(step(), moved[1]) == [True]  # x1 + 1 <= 0 has no room: an empty leaf
    assert proved(step(), replace(BELOW, slopes=(np.array([0.5]),))) == [False]
    wider = replace(step(), domain=Domain(np.array([[-1.0, -0.01]]), np.array([[1.0, 1.0]])))
    assert proved(wider, BELOW, ABOVE) == [False, True]
    for rest in (0.0, -(2.0**-60)):
        assert proved(step(rest), BELOW, ABOVE) == [False, True]


@pytest.mark.parametrize("weights", [(-1.0,), (np.nan,), (0.0,), (np.inf,), (-0.0,)])
def test_weights_that_prove_nothing(weights):
    assert proved(step(1.0), leaf()) == [True]
    assert proved(step(1.0), leaf(weights=weights)) == [False]
    assert proved(step(-9.0), leaf(weights=weights)) == [False]  # g < 0, so that -g > 0 everywhere


RISING = Query(
    chain(([[1.0, 0.0]], [2.0]), ([[1.0]], [-2.25])), Domain(np.array([[-1.0, 0.0]]), np.array([[1.0, 1.0]])), ((0,),)
)
"""g = x0 - 1/4, read as relu(x0 + 2) - 9/4."""
RIGHT = (1, 0, 2.5, 1)
"""x0 >= 1/2."""


@pytest.mark.parametrize(
    ("factors", "expected"),
    [([1.0], True), ([0.5, 0.5], True), ([1.0, 0.0], True), ([0.9], True), ([0.1], False), ([2.0], False),
     ([1.0, 1.0], False), ([1.0, -1.0], True), ([1.0, np.nan], True), ([-1.0], False), ([np.nan], False),
     ([np.inf], False), ([np.inf, np.inf], False), ([1e308], False), ([5e-324], False)],
)  # fmt: skip
def test_multipliers_of_one_or_two_cuts_of_one_entry(factors, expected):
    """beta in total proves 1/4 at beta = 1; those that are not positive count as zero."""
    assert proved(RISING, leaf(*[RIGHT] * len(factors), multipliers=factors)) == [expected]


def test_a_split_of_the_input_needs_no_multiplier():
    assert proved(RISING, leaf((0, 0, 0.5, 1)), leaf((0, 0, 0.25, 1)), leaf((0, 1, 0.5, 1))) == [True, False, False]


def test_a_split_of_the_output_counts():
    """Where g >= 1/8 is given, g > 0; where g <= 1/8 is given, that proves nothing."""
    leaves = [leaf((3, 0, 0.125, sign), multipliers=[factor]) for sign, factor in ((1, 1.0), (-1, 1.0), (1, 0.0))]
    assert proved(RISING, *leaves) == [True, False, False]


def test_a_leaf_whose_splits_contradict_each_other_is_empty():
    unsafe = step(-9.0)
    assert proved(unsafe, leaf(), leaf((1, 0, 0.5, 1), (1, 0, 0.25, -1))) == [False, True]
    assert proved(unsafe, leaf((0, 0, 0.5, 1), (0, 0, 0.25, -1)), leaf((0, 0, 1.5, 1))) == [True, True]
    point = [leaf((value, 0, 0.5, 1), (value, 0, 0.5, -1)) for value in (0, 1)]
    assert proved(unsafe, *point) == [False, False]
    assert proved(unsafe, leaf((0, 0, 1.0, 1)), leaf((1, 0, 1.0, 1)), leaf((1, 0, -1.0, -1))) == [False, False, False]


@pytest.mark.parametrize("value", [0, 1, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_threshold_that_is_no_number_cuts_nothing(value, sign):
    assert proved(step(-9.0), leaf((value, 0, np.nan, sign), multipliers=[1.0] * (value > 0))) == [False]


def test_slack_is_part_of_the_claim():
    tree = Tree(0, (0,), (leaf(slope=0.25),), FIRST)
    for slack, expected in ((0.74, True), (0.75, False), (np.nan, False), (np.inf, False)):  # lines prove g >= 3/4
        assert refutes(step(1.0), tree, np.array([slack])).tolist() == [expected]


def test_all_clauses_of_a_tree_have_to_be_refuted():
    graph = chain(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [1.0, 0.0, -1.0]))
    query = Query(graph, step().domain, ((0,), (1,), (0, 2), ()))
    one, both = np.ones(1), np.array([1.0, 0.0])
    none = (np.zeros(0),) * 2

    def held(*parts) -> bool:
        clauses, weights = zip(*parts, strict=True)
        single = Leaf((), weights, none[:1] * len(parts), none[:1] * len(parts))
        return bool(refutes(query, Tree(0, clauses, (single,), NONE)).all())

    assert held((0, one)) and held((2, both)) and held((0, one), (2, both))
    assert not held((1, one)) and not held((0, one), (1, one))
    assert not held((2, both[::-1])) and not held((3, np.zeros(0))) and not held((0, one), (3, np.zeros(0)))


def random_tree(query: Query, rng: np.random.Generator, splits: int) -> Tree:
    """Splits of the input, of activations and of the output; zero multipliers, default lines."""
    growing, ways = GrowingTree(0, (0,)), [0]
    for _ in range(splits):
        node = ways.pop(int(rng.integers(len(ways))))
        value = int(rng.integers(len(query.graph.shapes)))
        entry = int(rng.integers(prod(query.graph.shapes[value])))
        ways += growing.split(node, value, entry, float(rng.normal() * 0.5))
    for node in ways:
        growing.close(node, (np.ones(1),))
    return growing.finished(NONE)


@pytest.mark.parametrize("seed", range(10))
def test_the_leaves_of_a_tree_cover_and_a_false_claim_keeps_one(seed):
    """Every point lies in a leaf; where g <= 0 at the point, that leaf is not refuted, whatever the splits are."""
    rng = np.random.default_rng(seed)
    graph = chain((rng.normal(size=(3, 2)), rng.normal(size=3)), (rng.normal(size=(1, 3)), np.zeros(1)))
    x = rng.uniform(-1, 1, (200, 1, 2))
    values = graph(x).ravel()
    lowered = graph.append(Scale.of((1, 1), 1.0, -np.median(values) - 0.01))
    query = Query(lowered, Domain(-np.ones((1, 2)), np.ones((1, 2))), ((0,),))
    tree = random_tree(query, rng, 25)
    assert len(tree.leaves) == 26
    held = refutes(query, tree)
    at = [value.reshape(len(x), -1) for value in query.graph.values(x)]
    inside = np.array([
        np.all([sign * (at[v][:, entry] - threshold) >= 0 for v, entry, threshold, sign in one.path], axis=0)
        for one in tree.leaves
    ])  # fmt: skip
    assert inside.any(0).all()
    unsafe = at[-1].ravel() <= -1e-9
    assert unsafe.any() and not (inside[held] & unsafe).any()
    assert held.any()  # some leaves are safe, or empty
