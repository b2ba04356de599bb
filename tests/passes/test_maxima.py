"""Maxima as affine maps and absolute values: the same function, or at least the same differences, and sharp bounds."""

import csv
import os
from itertools import product
from math import prod, sqrt
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Sketch, random_graph, secants, steepest_secant

from certlip.graph import Affine, Graph, Node
from certlip.lipschitz import bound_output
from certlip.ops import Abs, Add, Concat, Conv, Dense, MaxPool, Reindex, Relu, Scale
from certlip.passes.maxima import MAX_WINDOW, maxima_obstacle, without_maxima
from certlip.properties import Output
from certlip.rigor.ball import Ball

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data")) / "lipschitz"


def bound(graph: Graph, method="lipsdp") -> float:
    (result,) = bound_output(graph, Output("all"), "l2", method)
    assert result.proved, result.note
    return result.value


def neurons(graph: Graph) -> int:
    shapes = zip(graph.nodes, graph.shapes[1:], strict=True)
    return sum(prod(shape) for node, shape in shapes if isinstance(node.operator, Abs))


def kinds(graph: Graph) -> set[type]:
    return {type(node.operator) for node in graph.nodes}


def agree(graph: Graph, rewritten: Graph, seed=0, scale=1.0) -> None:
    assert rewritten.input_shape == graph.input_shape and rewritten.output_shape == graph.output_shape
    assert MaxPool not in kinds(rewritten)
    x = scale * np.random.default_rng(seed).standard_normal((5, *graph.input_shape))
    np.testing.assert_allclose(rewritten(x), graph(x), rtol=1e-11, atol=1e-11 * scale)


def pooling(channels, space, window, strides, pads=None, dilations=None) -> MaxPool:
    pads, dilations = pads or ((0, 0),) * len(space), dilations or (1,) * len(space)
    positions = np.pad(np.arange(channels * prod(space)).reshape(channels, *space), ((0, 0), *pads), constant_values=-1)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, window, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(positions, reach, tuple(range(1, positions.ndim)))
    steps = (slice(None, None, step) for step in (*strides, *dilations))
    picked = views[(slice(None), *steps)]
    return MaxPool(picked.reshape(1, channels, *picked.shape[1 : positions.ndim], -1), (1, channels, *space))


def extremes(sketch: Sketch, value: int, pool: MaxPool) -> tuple[int, int]:
    """The maxima and the minima of the same windows, the minima as importers write them."""
    largest = sketch.add(pool, value)
    turned = sketch.add(pool, sketch.add(Scale.of(pool.source, -1.0), value))
    return largest, sketch.add(Scale.of(sketch.shapes[turned], -1.0), turned)


def maxmin(sketch: Sketch, value: int) -> int:
    """(max, min) of neighbouring entries of a vector, in their places."""
    (n,) = sketch.shapes[value]
    joined = sketch.add(Concat(0), *extremes(sketch, value, MaxPool(np.arange(n).reshape(-1, 2), (n,))))
    return sketch.add(Reindex.through((n,), lambda array: array.reshape(2, -1).T.ravel()), joined)


def maxmin_chain(*weights: np.ndarray) -> Graph:
    sketch = Sketch(np.random.default_rng(0), (weights[0].shape[1],))
    value = sketch.add(Dense.of(weights[0]), 0)
    for weight in weights[1:]:
        value = sketch.add(Dense.of(weight), maxmin(sketch, value))
    return sketch.graph()


# ---------------------------------------------------------------- the same function


@pytest.mark.parametrize("seed", range(200))
def test_random_graphs_stay_the_same_function(seed):
    graph = random_graph(seed, pools=True)
    rewritten = without_maxima(graph, exact=True)
    if MaxPool in kinds(graph):
        agree(graph, rewritten, seed)
    else:
        assert rewritten is graph and without_maxima(graph) is graph


IMAGES = {
    "2 x 2": pooling(3, (4, 6), (2, 2), (2, 2)),
    "3 x 3 overlapping": pooling(2, (7, 7), (3, 3), (2, 2)),
    "rows": pooling(2, (5, 4), (3, 1), (1, 1)),
    "left-over pixels": pooling(2, (6, 7), (2, 2), (3, 2)),
    "dilated": pooling(2, (6, 7), (2, 2), (1, 2), dilations=(3, 2)),
    "1-D": pooling(3, (9,), (4,), (3,)),
    "3-D": pooling(2, (4, 2, 3), (2, 2, 2), (2, 1, 1)),
    "all pixels": pooling(2, (3, 3), (3, 3), (1, 1)),
    "one pixel": pooling(2, (3, 3), (1, 1), (2, 2)),
}
PADDED = {
    "same size": pooling(2, (4, 3), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "strided": pooling(2, (6, 6), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "one side": pooling(1, (4, 5), (2, 2), (2, 2), ((1, 0), (0, 1))),
    "wide": pooling(1, (5,), (4,), (1,), ((3, 2),)),
    "dilated": pooling(1, (6,), (2,), (3,), ((2, 1),), (3,)),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("exact", [False, True])
def test_image_pooling_becomes_depthwise_convolutions(name, exact):
    graph = Graph(IMAGES[name].source, (Node(IMAGES[name], (0,)),))
    rewritten = without_maxima(graph, exact)
    agree(graph, rewritten)
    assert kinds(rewritten) <= {Conv, Abs, Add}
    for node in rewritten.nodes:
        if isinstance(node.operator, Conv):
            assert set(np.abs(node.operator.weight.mid).ravel()) <= {0.0, 0.5, 1.0} and node.operator.weight.is_exact
            assert node.operator.groups % IMAGES[name].source[1] == 0
    per_window = IMAGES[name].index.shape[-1] - 1
    assert neurons(rewritten) == per_window * prod(graph.output_shape)


@pytest.mark.parametrize("name", PADDED)
def test_padded_windows(name):
    pool = PADDED[name]
    graph = Graph(pool.source, (Node(pool, (0,)),))
    agree(graph, without_maxima(graph, exact=True))
    rewritten = without_maxima(graph)
    assert kinds(rewritten) <= {Conv, Abs, Add}
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, *graph.input_shape))
    whole = (pool.index >= 0).all(-1)
    np.testing.assert_allclose(rewritten(x)[:, whole], graph(x)[:, whole], atol=1e-12)
    assert not np.allclose(rewritten(x - 9.0), graph(x - 9.0))  # the border differs, only differences count
    value = bound(rewritten)
    assert steepest_secant(graph, "l2", rng) <= value <= pool.gain("l2", 1.0) * (1 + 1e-6)


def test_maxima_over_channels_become_pointwise_convolutions():
    rng = np.random.default_rng(2)
    sketch = Sketch(rng, (1, 6, 3, 4))
    positions = np.arange(72).reshape(1, 3, 2, 3, 4)
    largest, smallest = extremes(sketch, 0, MaxPool(np.moveaxis(positions, 2, -1), (1, 6, 3, 4)))
    value = sketch.add(Concat(1), largest, smallest)
    kernel = rng.standard_normal((2, 6, 2, 2))
    options = {"strides": (1, 1), "pads": ((0, 1), (1, 0)), "dilations": (1, 1)}
    sketch.add(Conv(Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), (6, 3, 4), **options), value)
    graph = sketch.graph()
    rewritten = without_maxima(graph)
    agree(graph, rewritten)
    assert kinds(rewritten) <= {Conv, Abs, Add, Scale} and neurons(rewritten) == 36
    assert steepest_secant(graph, "l2", rng) <= bound(rewritten) <= graph.nodes[-1].operator.l2_norm * (1 + 1e-6)


def test_pooling_of_a_reshaped_or_padded_vector_still_becomes_convolutions():
    sketch = Sketch(np.random.default_rng(0), (32,))
    image = sketch.add(Reindex.through((32,), lambda array: array.reshape(1, 2, 4, 4)), 0)
    frame = np.pad(np.arange(32).reshape(1, 2, 4, 4), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    padded = sketch.add(Reindex.of((1, 2, 4, 4), frame, fill=-3.0), image)
    largest, smallest = extremes(sketch, padded, pooling(2, (6, 6), (2, 2), (2, 2)))
    sketch.add(Add(), largest, sketch.add(Relu(), smallest))
    graph = sketch.graph()
    rewritten = without_maxima(graph)
    agree(graph, rewritten)
    assert kinds(rewritten) <= {Conv, Abs, Add, Reindex, Scale, Relu}
    assert neurons(rewritten) == 2 * 9 * (2 + 1 + 1)  # the first round is shared


def test_windows_that_are_almost_regular():
    """A hole, another channel, another place, another sign or a mirrored row: no convolution says that."""
    regular = pooling(2, (4, 6), (2, 2), (2, 2))
    hole, exchanged, mirrored, displaced = (regular.index.copy() for _ in range(4))
    reversed_ = regular.index[:, :, :, ::-1]
    hole[0, 1, 0, 2, 3] = -1
    exchanged[0, :, 1, 1, 0] = exchanged[0, ::-1, 1, 1, 0]
    mirrored[0, 1] = mirrored[0, 1, :, ::-1]
    displaced[0, 1, 1, 2, 0] = displaced[0, 1, 0, 0, 0]
    for index in (hole, exchanged, mirrored, displaced, reversed_):
        graph = Graph(regular.source, (Node(MaxPool(index, regular.source), (0,)),))
        agree(graph, without_maxima(graph))
    checkers = Scale.of(regular.source, np.where(np.arange(6) % 3, 1.0, -1.0))
    graph = Graph(regular.source, (Node(checkers, (0,)), Node(regular, (1,))))
    agree(graph, without_maxima(graph))


def test_single_entries_and_repeated_ones_need_no_comparator():
    index = np.array([[3, -1, 3], [-1, 0, -1], [1, 1, 1]])
    graph = Graph((4,), (Node(MaxPool(index, (4,)), (0,)),))
    rewritten = without_maxima(graph, exact=True)
    agree(graph, rewritten)
    assert neurons(rewritten) == 0
    still = Graph((3,), (Node(MaxPool(np.arange(3)[:, None], (3,)), (0,)),))
    agree(still, without_maxima(still))


def test_an_entry_and_its_negative():
    """max(x, -x) = |x|, and max(-x, x) is the same comparator."""
    sketch = Sketch(np.random.default_rng(0), (2,))
    both = sketch.add(Concat(0), 0, sketch.add(Scale.of((2,), -1.0), 0))
    sketch.add(MaxPool(np.array([[0, 2], [2, 0], [1, 3], [0, 3], [2, 1]]), (4,)), both)
    graph = sketch.graph()
    rewritten = without_maxima(graph, exact=True)
    agree(graph, rewritten)
    assert neurons(rewritten) == 3
    x = np.array([[0.25, -2.0]])
    np.testing.assert_array_equal(rewritten(x), [[0.25, 0.25, 2.0, 2.0, -0.25]])


def test_windows_that_are_too_large_are_refused():
    for size, refused in ((MAX_WINDOW, False), (MAX_WINDOW + 1, True)):
        graph = Graph((size,), (Node(MaxPool(np.arange(size)[None], (size,)), (0,), "the pool"),))
        reason = maxima_obstacle(graph)
        if refused:
            assert reason is not None and "the pool" in reason and str(MAX_WINDOW + 1) in reason
            with pytest.raises(ValueError, match="the pool"):
                without_maxima(graph)
        else:
            assert reason is None
            agree(graph, without_maxima(graph, exact=True))


# ---------------------------------------------------------------- differences at padded windows


def reached_differences(graph: Graph, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Differences (choices, channels, *space) of the output when each channel of each Abs node takes at all pixels
    slope 1, or slope -1, or the quotient of its values where all inputs are far above zero, or far below."""
    far = [(graph.values(x[None] + c), graph.values(y[None] + c)) for c in (50.0, -50.0)]
    channels = [
        (i, c)
        for i, (node, shape) in enumerate(zip(graph.nodes, graph.shapes[1:], strict=True), 1)
        if isinstance(node.operator, Abs)
        for c in range(shape[1])
    ]
    reached = []
    for choice in product((0, 1, +1.0, -1.0), repeat=len(channels)):
        slopes = dict(zip(channels, choice, strict=True))
        moved = [(x - y)[None]]
        for i, node in enumerate(graph.nodes, 1):
            (first, *_) = inputs = [moved[j] for j in node.inputs]
            if isinstance(node.operator, Abs):
                result = first.copy()
                for c in range(first.shape[2]):
                    if isinstance(slopes[i, c], float):
                        result[:, :, c] *= slopes[i, c]
                    else:
                        one, other = far[slopes[i, c]]
                        size = np.abs(first[:, :, c])  # the quotient lies in [-1, 1]
                        result[:, :, c] = np.clip((one[i] - other[i])[:, :, c], -size, size)
            elif isinstance(node.operator, Affine):
                result = node.operator.forward(node.operator.weight.mid, first)
            else:
                result = node.operator.value(*inputs)
            moved.append(result)
        reached.append(moved[-1][0, 0])
    return np.array(reached)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-5, 5), name=st.sampled_from(["max 2 x 2", "both", "max 3"]))
def test_slopes_admit_the_differences_of_padded_windows(seed, shift, name):
    """For every window some slopes in [-1, 1] move all its outputs as the original does."""
    pool = {
        "max 2 x 2": pooling(1, (3, 3), (2, 2), (2, 2), ((1, 0), (1, 0))),
        "both": pooling(1, (4,), (2,), (2,), ((1, 1),)),
        "max 3": pooling(1, (4,), (3,), (3,), ((2, 0),)),
    }[name]
    sketch = Sketch(np.random.default_rng(0), pool.source)
    if name == "both":
        sketch.add(Concat(1), *extremes(sketch, 0, pool))
    else:
        sketch.add(pool, 0)
    graph = sketch.graph()
    rewritten = without_maxima(graph)
    x, y = np.random.default_rng(seed).standard_normal((2, *pool.source)) + shift
    wanted = (graph(x[None]) - graph(y[None]))[0, 0]
    errors = np.abs(reached_differences(rewritten, x, y) - wanted).max(1)  # over the channels, for each window
    assert (errors.min(0) < 1e-11).all()


def test_padded_maxima_and_minima_share_no_comparator():
    """One pixel in a window of two: (max, min) = (x, x) has the constant sqrt 2, a shared |x - nothing| would say 1."""
    sketch = Sketch(np.random.default_rng(0), (1, 1, 1))
    sketch.add(Concat(1), *extremes(sketch, 0, pooling(1, (1,), (2,), (1,), ((1, 0),))))
    assert bound(without_maxima(sketch.graph())) == pytest.approx(sqrt(2), rel=1e-6)
    sketch = Sketch(np.random.default_rng(0), (1, 2, 3, 3))
    sketch.add(Concat(1), *extremes(sketch, 0, pooling(2, (3, 3), (2, 2), (2, 2), ((1, 0), (0, 1)))))
    graph = sketch.graph()
    assert steepest_secant(graph, "l2", sketch.rng) <= bound(without_maxima(graph))


# ---------------------------------------------------------------- bounds


def test_a_pair_and_its_maximum_and_minimum_are_equally_long():
    graph = maxmin_chain(np.eye(2), np.eye(2))
    rewritten = without_maxima(graph)
    assert neurons(rewritten) == 1
    assert bound(rewritten) == pytest.approx(1.0, abs=1e-6)


def test_groups_sorted_by_a_network_of_comparators():
    """Five comparators sort four numbers, and the sorted numbers are as far apart as the numbers at most."""
    sketch = Sketch(np.random.default_rng(0), (8,))
    value = 0
    for pairs in ([(0, 1), (2, 3)], [(0, 2), (1, 3)], [(1, 2)]):
        pairs = [(i + g, j + g) for g in (0, 4) for i, j in pairs]
        joined = sketch.add(Concat(0), value, *extremes(sketch, value, MaxPool(np.array(pairs), (8,))))
        places = np.arange(8)
        for p, (i, j) in enumerate(pairs):
            places[i], places[j] = 8 + len(pairs) + p, 8 + p
        value = sketch.add(Reindex.of(sketch.shapes[joined], places), joined)
    graph = sketch.graph()
    x = np.random.default_rng(1).standard_normal((20, 8))
    np.testing.assert_array_equal(graph(x), np.sort(x.reshape(20, 2, 4)).reshape(20, 8))
    rewritten = without_maxima(graph)
    agree(graph, rewritten)
    assert neurons(rewritten) == 10
    assert bound(rewritten) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "constant"), [("2 x 2", 1.0), ("left-over pixels", 1.0), ("1-D", sqrt(2)), ("3 x 3 overlapping", 2.0)]
)
def test_bounds_of_pooling_are_its_constant(name, constant):
    """The constant is the root of the number of windows that one entry lies in, and can win in."""
    graph = Graph(IMAGES[name].source, (Node(IMAGES[name], (0,)),))
    assert bound(without_maxima(graph)) == pytest.approx(constant, rel=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_lie_between_secants_and_the_product_of_norms(seed):
    rng = np.random.default_rng(seed)
    sketch = Sketch(rng, (1, 1, 5))
    sketch.conv(0)
    sketch.add(Relu())
    _, channels, space = sketch.shapes[-1]
    pads = ((1, 1),) if seed % 2 else ((0, 0),)
    sketch.add(pooling(channels, (space,), (min(3, space),), (1 + seed % 3,), pads))
    if seed % 3:
        sketch.conv(len(sketch.nodes))
    sketch.flatten(len(sketch.nodes))
    sketch.dense(len(sketch.nodes), 4)
    sketch.add(Reindex.through((4,), np.ravel) if seed % 2 else Scale.of((4,), rng.standard_normal(4)))
    maxmin(sketch, len(sketch.nodes))
    sketch.dense(len(sketch.nodes), 2)
    graph = sketch.graph()
    agree(graph, without_maxima(graph, exact=True), seed)
    low, high = steepest_secant(graph, "l2", rng), bound(graph, "spectral")
    for exact in (False, True):
        assert low <= bound(without_maxima(graph, exact)) <= high * (1 + 1e-6)


def test_the_semidefinite_program_in_sums_and_differences():
    """An independent statement for one hidden layer: rho |x|^2 - |f|^2 - sum l (|d_in|^2 - |d_out|^2) >= 0, where the
    outputs of MaxMin have the sums of its inputs and the differences d_out."""
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((6, 4)), rng.standard_normal((3, 6))
    plus = np.kron(np.eye(3), [[1.0, 1.0]]) / sqrt(2)
    minus = np.kron(np.eye(3), [[1.0, -1.0]]) / sqrt(2)
    output = second @ np.hstack([plus.T @ plus @ first, minus.T])
    enter, leave = np.hstack([minus @ first, np.zeros((3, 3))]), np.hstack([np.zeros((3, 4)), np.eye(3)])
    rho, weights = cp.Variable(), cp.Variable(3, nonneg=True)
    metric = cp.bmat([[rho * np.eye(4), np.zeros((4, 3))], [np.zeros((3, 4)), np.zeros((3, 3))]])
    form = metric - output.T @ output - enter.T @ cp.diag(weights) @ enter + leave.T @ cp.diag(weights) @ leave
    cp.Problem(cp.Minimize(rho), [(form + form.T) / 2 >> 0]).solve(solver="CLARABEL")
    rewritten = without_maxima(maxmin_chain(first, second))
    assert bound(rewritten) == pytest.approx(sqrt(rho.value), rel=1e-5)


def steepest_piece(first: np.ndarray, second: np.ndarray) -> float:
    """The exact constant of a MaxMin network of one hidden layer whose pairs can be ordered independently: the largest
    norm over all orders."""
    pairs = len(first) // 2
    small = np.linalg.qr(first.T)[1].T
    even, odd = second[:, ::2, None] * small[None, ::2], second[:, 1::2, None] * small[None, 1::2]
    straight = even + odd
    crossed = second[:, ::2, None] * small[None, 1::2] + second[:, 1::2, None] * small[None, ::2]
    best = 0.0
    orders = np.array(list(product((0.0, 1.0), repeat=pairs)))
    for some in np.array_split(orders, max(1, len(orders) // 4096)):
        slopes = np.einsum("bp,ipj->bij", some, crossed) + np.einsum("bp,ipj->bij", 1 - some, straight)
        best = max(best, np.linalg.eigvalsh(slopes @ np.swapaxes(slopes, 1, 2))[:, -1].max())
    return sqrt(best)


@pytest.mark.skipif(not (DATA / "references.csv").exists(), reason="set CERTLIP_REFERENCE_DATA to the reference data")
@pytest.mark.parametrize("name", ["maxmin_2fc_16", "maxmin_2fc_32", "maxmin_5fc_32"])
def test_published_networks(name):
    """Below LipSDP-NSR, which knows that sums keep their length but not that they are kept."""
    with (DATA / "references.csv").open(newline="") as file:
        (reference,) = (float(row["value"]) for row in csv.DictReader(file) if row["network"] == name)
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        weights = [file[f"W{i}"] for i in range(len(file.files))]
    graph = maxmin_chain(*weights)
    rewritten = without_maxima(graph)
    assert neurons(rewritten) == sum(len(weight) for weight in weights[:-1]) // 2
    value = bound(rewritten)
    assert value <= reference * (1 + 1e-4)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 500, *graph.input_shape))
    assert secants(graph, "l2", x, y).max() <= value
    if len(weights) == 2:
        assert steepest_piece(*weights) <= value
