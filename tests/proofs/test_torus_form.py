"""The frequency form against explicit matrices: it diagonalises the circular ones and dominates the padded ones."""

import os
from itertools import count, islice, pairwise, product
from math import prod, sqrt
from pathlib import Path

import cvxpy as cp
import mpmath
import numpy as np
import pytest

import certlip.proofs.torus_form as torus_form
import certlip.proofs.torus_image as torus_image
from certlip.graph import Graph, Node, Pointwise
from certlip.ops import Abs, Add, Concat, Conv, ConvTranspose, Dense, LeakyRelu, MaxPool, Reindex, Relu, Scale, Tanh
from certlip.passes.maxima import without_maxima
from certlip.proofs.torus_form import torus_obstacle, torus_stages
from certlip.proofs.torus_image import NoTorusForm, image_part
from certlip.rigor.ball import Ball

REFERENCES = os.environ.get("CERTLIP_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data")
CHAINS = Path(REFERENCES) / "lipschitz"


# Networks


def conv(kernel, size, strides=None, pads=None, dilations=None, groups=1) -> Conv:
    weight = kernel if isinstance(kernel, Ball) else Ball.exact(kernel)
    axes = len(size) - 1
    strides, dilations, pads = strides or (1,) * axes, dilations or (1,) * axes, pads or ((0, 0),) * axes
    return Conv(weight, Ball.exact(0.0), np.zeros(()), tuple(size), strides, pads, dilations, groups)


def chain(shape, *operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,), f"node {i}") for i, operator in enumerate(operators)))


class Sketch:
    def __init__(self, rng, space):
        self.rng, self.shapes, self.nodes = rng, [(1, int(rng.integers(1, 3)), *space)], []

    def add(self, operator, *inputs):
        self.nodes.append(Node(operator, inputs, f"node {len(self.nodes)}"))
        self.shapes.append(operator.shape(*(self.shapes[i] for i in inputs)))
        return len(self.nodes)

    def conv(self, value, strides=None, out=None, space=None):
        """Random windows (also larger than the image), pads, dilations and groups; `space` forces a result."""
        rng, size = self.rng, self.shapes[value][1:]
        axes = len(size) - 1
        while True:
            groups = int(rng.integers(1, 3))
            channels = out or groups * int(rng.integers(1, 3))
            if size[0] % groups or channels % groups:
                continue
            window, dilations = rng.integers(1, 4, axes).tolist(), rng.integers(1, 3, axes).tolist()
            pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (axes, 2)))
            steps = strides or tuple(rng.choice([1, 1, 2, 3], axes).tolist())
            kernel = rng.standard_normal((channels, size[0] // groups, *window))
            try:
                operator = conv(kernel, size, steps, pads, tuple(dilations), groups)
            except ValueError:
                continue
            if max(operator.space) <= 4 and space in (None, operator.space):
                return self.add(operator, value)

    def activation(self, value):
        choices = [Relu, Abs, Tanh, lambda: LeakyRelu(0.3), lambda: LeakyRelu(-0.5), lambda: LeakyRelu(1.5)]
        shape = self.shapes[value]
        choices.append(lambda: LeakyRelu(self.rng.uniform(0.2, 2.0, shape)))  # other slopes at each pixel
        return self.add(choices[self.rng.integers(len(choices))](), value)

    def graph(self):
        return Graph(self.shapes[0], tuple(self.nodes))


def random_network(seed: int) -> Graph:
    """Chains, residual blocks with strided shortcuts, concatenations, scales, selected channels, bare convolutions."""
    rng = np.random.default_rng(seed)
    axes = int(rng.choice([1, 1, 2, 2, 3]))
    space = {1: rng.integers(1, 6, 1), 2: rng.integers(1, 4, 2), 3: rng.integers(1, 3, 3)}[axes].tolist()
    sketch = Sketch(rng, space)
    value = sketch.conv(0)
    if rng.random() < 0.5:
        value = sketch.activation(value)
    for _ in range(int(rng.integers(1, 4 if axes < 3 else 3))):
        shape = sketch.shapes[value]
        kind = rng.integers(6)
        if kind == 0:
            value = sketch.conv(sketch.activation(value) if rng.random() < 0.7 else value)
        elif kind == 1:  # a residual block whose branches have the same total stride
            steps = tuple(rng.choice([1, 2], axes).tolist())
            skip = conv(rng.standard_normal((2, shape[1], *(1,) * axes)), shape[1:], steps)
            inner = sketch.activation(sketch.conv(value, (1,) * axes, space=shape[2:] if rng.random() < 0.9 else None))
            try:
                window = [3] * axes
                body = conv(
                    rng.standard_normal((2, sketch.shapes[inner][1], *window)), sketch.shapes[inner][1:], steps,
                    ((1, 1),) * axes,
                )  # fmt: skip
            except ValueError:
                continue
            if body.space == skip.space:
                value = sketch.add(Add(), sketch.add(skip, value), sketch.add(body, inner))
        elif kind == 2:
            branch = sketch.activation(value)
            value = sketch.add(Concat(1), *((value, branch) if rng.random() < 0.5 else (branch, value)))
        elif kind == 3:
            factor = rng.standard_normal((shape[1], *(1,) * axes) if rng.random() < 0.6 else shape[1:])
            value = sketch.add(Scale.of(shape, factor, rng.standard_normal(shape)), value)
        elif kind == 4:
            chosen = rng.integers(0, shape[1], int(rng.integers(1, 3)))
            steps = tuple(slice(None, None, int(s)) for s in rng.integers(1, 3, axes))
            index = np.arange(prod(shape)).reshape(shape)[:, chosen][(slice(None), slice(None), *steps)]
            value = sketch.add(Reindex.of(shape, index), value)
        else:
            value = sketch.add(Add(), value, sketch.activation(value))
    if rng.random() < 0.5:
        value = sketch.activation(value)
    return sketch.graph()


def is_small(graph: Graph) -> bool:
    part = image_part(graph)
    groups = [0, *(v for v, node in enumerate(part.graph.nodes, 1) if torus_image.is_activation(node.operator))]
    return sum(prod(part.grid.sides_at(part.levels[v])) * part.graph.shapes[v][1] for v in groups) <= 250


NETWORKS = list(islice(filter(is_small, map(random_network, count())), 60))


def pooled(window: int, stride: int, pad: int) -> Graph:
    """Max pooling between padded convolutions, written with absolute values."""
    rng = np.random.default_rng(window)
    padded = np.pad(np.arange(4), pad, constant_values=-1)
    out = (len(padded) - window) // stride + 1
    index = np.stack([padded[stride * i : stride * i + window] for i in range(out)]).reshape(1, 1, out, window)
    return without_maxima(
        chain(
            (1, 1, 4), conv(rng.standard_normal((1, 1, 3)), (1, 4), pads=((1, 1),)), Relu(), MaxPool(index, (1, 1, 4)),
            conv(rng.standard_normal((2, 1, 3)), (1, out), pads=((1, 1),)),
        )
    )  # fmt: skip


def two_orders() -> Graph:
    """Branches with strides 2 then 3, and 3 then 2: neither of the tori in between contains the other."""
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((2, 2, k)) for k in (2, 3, 3, 2)]
    nodes = (
        Node(conv(kernels[0], (2, 6), (2,)), (0,)), Node(Relu(), (1,)), Node(conv(kernels[1], (2, 3), (3,)), (2,)),
        Node(conv(kernels[2], (2, 6), (3,)), (0,)), Node(Abs(), (4,)), Node(conv(kernels[3], (2, 2), (2,)), (5,)),
        Node(Add(), (3, 6)), Node(Tanh(), (7,)),
    )  # fmt: skip
    return Graph((1, 2, 6), nodes)


NETWORKS += [two_orders(), pooled(2, 2, 0), pooled(2, 1, 0), pooled(3, 2, 1), pooled(3, 3, 1), pooled(4, 4, 0)]


# Explicit matrices


def convolution_matrix(operator: Conv, sides=None) -> np.ndarray:
    """W[o, i] from the definition; with `sides`, of the circular convolution on a torus of these side lengths."""
    out, per_group = operator.weight.shape[:2]
    space = operator.size[1:] if sides is None else sides
    results = operator.space if sides is None else tuple(n // s for n, s in zip(sides, operator.strides, strict=True))
    matrix = np.zeros((out, *results, operator.size[0], *space))
    for position in product(*(range(n) for n in results)):
        for tap in product(*(range(k) for k in operator.window)):
            axes = zip(position, operator.strides, operator.pads, tap, operator.dilations, strict=True)
            source = tuple(p * s - pad[0] + t * d for p, s, pad, t, d in axes)
            if sides is not None:
                source = tuple(q % n for q, n in zip(source, sides, strict=True))
            if all(0 <= q < n for q, n in zip(source, space, strict=True)):
                for o, i in product(range(out), range(per_group)):
                    channel = o // (out // operator.groups) * per_group + i
                    matrix[(o, *position, channel, *source)] += operator.weight.mid[(o, i, *tap)]
    return matrix.reshape(out * prod(results), -1)


def explicit_rows(graph: Graph, is_group, matrix_of, pixels) -> list[dict]:
    """What each group, and last the output, reads: {group: dense matrix}, group 0 being the input."""
    rows: list[dict] = []
    values: list[dict] = [{0: np.eye(graph.input_shape[1] * pixels(0))}]
    for value, node in enumerate(graph.nodes, 1):
        inputs = [values[i] for i in node.inputs]
        if is_group(node.operator):
            rows.append(inputs[0])
            result = {len(rows): np.eye(graph.shapes[value][1] * pixels(value))}
        elif isinstance(node.operator, (Add, Concat)):
            sizes = [graph.shapes[i][1] * pixels(i) for i in node.inputs]
            sources = set().union(*inputs)
            wide = {s: next(part[s].shape[1] for part in inputs if s in part) for s in sources}
            full = [
                {s: part.get(s, np.zeros((n, wide[s]))) for s in sources} for part, n in zip(inputs, sizes, strict=True)
            ]
            join = sum if isinstance(node.operator, Add) else np.concatenate
            result = {s: join([part[s] for part in full]) for s in sources}
        else:
            matrix = matrix_of(node, value)
            result = {s: matrix @ part for s, part in inputs[0].items()}
        values.append(result)
    return [*rows, values[-1]]


def quadratic_form(rows, widths, low, high, multipliers, output_weight=None) -> np.ndarray:
    """M without P from its definition, everything written out: low, high, multipliers one array per group."""
    ends = np.cumsum([0, *widths])
    place = [slice(*pair) for pair in pairwise(ends)]

    def spread(row, height):
        full = np.zeros((height, ends[-1]))
        for source, block in row.items():
            full[:, place[source]] += block
        return full

    total = np.zeros((ends[-1], ends[-1]))
    for k, (row, a, b, t) in enumerate(zip(rows[:-1], low, high, multipliers, strict=True), 1):
        v, z = spread(row, widths[k]), np.eye(ends[-1])[place[k]]
        cross = z.T @ ((a + b)[:, None] * t[:, None] * v)
        total += 2 * z.T @ (t[:, None] * z) - cross - cross.T + 2 * v.T @ ((a * b * t)[:, None] * v)
    height = next(iter(rows[-1].values())).shape[0]
    f = spread(rows[-1], height)
    return total - f.T @ ((np.ones(height) if output_weight is None else output_weight)[:, None] * f)


def written_out(form):
    """Rows and widths of a form with all frequencies side by side, as form.md defines them."""
    widths = [n * copies for n, copies in zip(form.sizes, form.frequencies, strict=True)]
    rows = []
    for k, maps in enumerate(form.maps, 1):
        row = {}
        for s, ball in maps.items():
            full = np.zeros((form.frequencies[k], form.sizes[k], form.frequencies[s], form.sizes[s]))
            for f, picked in enumerate(form.folds[k, s]):
                for p, w in enumerate(picked):
                    full[f, :, w] += ball.mid[f, :, p]
            row[s] = full.reshape(widths[k], widths[s])
        rows.append(row)
    return rows, widths[:-1]


def repeated(form, arrays):
    return [np.tile(array, copies) for array, copies in zip(arrays, form.frequencies[1:-1], strict=True)]


def form_matrix(form, multipliers) -> np.ndarray:
    rows, widths = written_out(form)
    weights = repeated(form, [multipliers[index] for index in form.variables])
    return quadratic_form(rows, widths, repeated(form, form.low), repeated(form, form.high), weights)


def torus_pixels(part):
    return lambda value: prod(part.grid.sides_at(part.levels[value]))


def by_group(part):
    """Activation nodes in the order of the form's groups: fine grids first."""
    nodes = [(v, node) for v, node in enumerate(part.graph.nodes, 1) if torus_image.is_activation(node.operator)]
    return sorted(nodes, key=lambda pair: -torus_pixels(part)(pair[0]))


def torus_matrix(part, multipliers) -> np.ndarray:
    """M of the circular network on the torus, in space: no Fourier transform anywhere."""
    pixels = torus_pixels(part)

    def matrix_of(node, value):
        if isinstance(node.operator, Conv):
            return convolution_matrix(node.operator, part.grid.sides_at(part.levels[node.inputs[0]]))
        factors = np.broadcast_to(node.operator.weight.mid, node.operator.size)
        return np.diag(np.repeat(factors.reshape(node.operator.size[1], -1)[:, 0], pixels(value)))

    rows = explicit_rows(part.graph, torus_image.is_activation, matrix_of, pixels)
    nodes = [(v, n) for v, n in enumerate(part.graph.nodes, 1) if torus_image.is_activation(n.operator)]
    starts, start = {}, 0
    for v, _ in by_group(part):
        starts[v], start = start, start + part.graph.shapes[v][1]
    low, high, weights, widths = [], [], [], [part.graph.input_shape[1] * pixels(0)]
    for v, node in nodes:
        channels = part.graph.shapes[v][1]
        a, b = torus_image.channel_slopes(node.operator, part.graph.shapes[v])
        t = multipliers[starts[v] : starts[v] + channels]
        for target, array in zip((low, high, weights), (a, b, t), strict=True):
            target.append(np.repeat(array, pixels(v)))
        widths.append(channels * pixels(v))
    return quadratic_form(rows, widths, low, high, weights)


def padded_matrix(graph: Graph, part, multipliers) -> np.ndarray:
    """M of the true zero-padded network with the form's slopes; nodes that lead nowhere have no part in it."""

    def matrix_of(node, value):
        is_conv = isinstance(node.operator, Conv)
        return convolution_matrix(node.operator) if is_conv else node.operator.matrix().mid

    rows = explicit_rows(
        graph, lambda o: isinstance(o, Pointwise), matrix_of, lambda value: prod(graph.shapes[value][2:])
    )
    start_of, start = {}, 0
    for v, node in by_group(part):
        start_of[id(node.operator)], start = start, start + part.graph.shapes[v][1]
    low, high, weights, widths = [], [], [], [graph.input_size]
    for v, node in enumerate(graph.nodes, 1):
        if isinstance(node.operator, Pointwise):
            shape, first = graph.shapes[v], start_of.get(id(node.operator))
            t = np.zeros(shape[1]) if first is None else multipliers[first : first + shape[1]]
            arrays = (*torus_form.channel_slopes(node.operator, shape), t)
            for target, array in zip((low, high, weights), arrays, strict=True):
                target.append(np.repeat(array, prod(shape[2:])))
            widths.append(prod(shape))
    return quadratic_form(rows, widths, low, high, weights)


def least_metric(matrix: np.ndarray, metric: np.ndarray) -> float:
    """The least rho with matrix + rho diag(metric, 0) >= 0; infinity if the other block is not definite."""
    n = len(metric)
    inner = matrix[n:, n:]
    if len(inner) and np.linalg.eigvalsh(inner)[0] <= 1e-9 * np.abs(inner).max():
        return np.inf
    lost = matrix[:n, n:] @ np.linalg.solve(inner, matrix[n:, :n]) - matrix[:n, :n]
    scale = 1 / np.sqrt(metric)
    return float(np.linalg.eigvalsh(scale[:, None] * lost * scale)[-1])


def random_multipliers(rng, form):
    """Random over channels, and falling so fast from group to group that the condition can hold."""
    for base in (2.0, 10.0, 100.0, 1e3, 1e4, 1e5):
        powers = [base ** (form.hidden - k) * rng.uniform(1, 3, len(v) // 2) for k, v in enumerate(form.variables)]
        multipliers = np.concatenate([np.zeros(0), *powers])
        metric = rng.uniform(0.5, 2.0, len(form.metric_count))
        rho = least_metric(
            form_matrix(form, multipliers), np.tile(metric[form.metric_index], form.frequencies[0])
        )
        if np.isfinite(rho):
            return multipliers, metric, rho
    return None


# The form is the circular network, block diagonalised


@pytest.mark.parametrize("graph", NETWORKS)
def test_the_form_has_the_eigenvalues_of_the_circular_network(graph):
    part, (form,) = image_part(graph), torus_stages(graph)
    rng = np.random.default_rng(0)
    multipliers, metric = rng.uniform(0.1, 2, form.neurons), rng.uniform(0.1, 2, len(form.metric_count))
    ours, theirs = form_matrix(form, multipliers), torus_matrix(part, multipliers)
    for matrix, diagonal in (
        (ours, np.tile(metric[form.metric_index], form.frequencies[0])),
        (theirs, np.repeat(metric, torus_pixels(part)(0))),
    ):
        where = np.arange(len(diagonal))
        matrix[where, where] += diagonal
    ours, theirs = np.linalg.eigvalsh(ours), np.linalg.eigvalsh(theirs)
    distance = np.abs(ours[:, None] - theirs)
    tolerance = 1e-9 * np.abs(theirs).max()
    assert distance.min(0).max() < tolerance and distance.min(1).max() < tolerance


@pytest.mark.parametrize("graph", NETWORKS)
def test_structure(graph):
    (form,) = torus_stages(graph)
    assert all(a >= b for a, b in zip(form.frequencies, form.frequencies[1:], strict=False))
    assert form.output_index is None and len(form.sizes) == form.hidden + 2 == len(form.maps) + 1
    for k, maps in enumerate(form.maps, 1):
        for s, ball in maps.items():
            fold = form.folds[k, s]
            assert s < k and ball.shape == (form.frequencies[k], form.sizes[k], fold.shape[1], form.sizes[s])
            assert (np.sort(fold, axis=None) == np.arange(form.frequencies[s])).all()
    assert form.metric_index.tolist() == 2 * list(range(graph.input_shape[1]))
    assert (form.metric_count == prod(graph.input_shape[2:])).all()
    assert sorted(np.concatenate([[], *form.variables])) == sorted(2 * list(range(form.neurons)))
    for low, high, variables, size in zip(form.low, form.high, form.variables, form.sizes[1:], strict=False):
        assert low.shape == high.shape == variables.shape == (size,)
        assert (low <= 0).all() and (high >= 0).all()


def test_the_trials_cover_the_hard_cases():
    parts = [image_part(graph) for graph in NETWORKS]
    convs = [node.operator for graph in NETWORKS for node in graph.nodes if isinstance(node.operator, Conv)]
    assert sum(len(part.graph.nodes) > len(graph.nodes) for part, graph in zip(parts, NETWORKS, strict=True)) > 3
    assert sum(prod(part.levels[-1]) > 1 for part in parts) > 20 and {len(p.grid.sides) for p in parts} == {1, 2, 3}
    assert sum(any(k > n for k, n in zip(c.window, c.size[1:], strict=True)) for c in convs) > 10
    assert sum(prod(c.size[1:]) == 1 for c in convs) > 5 and sum(c.groups > 1 for c in convs) > 10
    assert max(fold.shape[1] for graph in NETWORKS for fold in torus_stages(graph)[0].folds.values()) > 4


# The padded network is dominated


def violations(graphs) -> tuple[int, int]:
    """How many zero-padded networks break the claim of a witness that the torus admits, and how many were tried."""
    found = tried = 0
    for seed, graph in enumerate(graphs):
        part = image_part.__wrapped__(graph)
        form = torus_form._frequency_form(part)
        witness = random_multipliers(np.random.default_rng(seed), form)
        if witness is None:
            continue
        multipliers, metric, rho = witness
        matrix = padded_matrix(graph, part, multipliers)
        diagonal = np.repeat(metric, prod(graph.input_shape[2:])) * max(rho, 0.0)
        where = np.arange(len(diagonal))
        matrix[where, where] += diagonal
        tried += 1
        found += bool(np.linalg.eigvalsh(matrix)[0] < -1e-9 * np.abs(matrix).max())
    return found, tried


def test_what_the_torus_admits_holds_for_the_padded_network():
    found, tried = violations(NETWORKS)
    assert found == 0 and tried > 50


def cut_reach(conv):
    return [0] * len(conv.size[1:])


def unwidened(operator, shape):
    low, high = (np.broadcast_to(slope, shape).reshape(shape[1], -1) for slope in operator.slopes())
    return low.min(1), high.max(1)


def test_a_torus_of_the_size_of_the_image_is_too_small(monkeypatch):
    found, tried = violations(NETWORKS + CANCELLING)
    assert found == 0 and tried > 50
    monkeypatch.setattr(torus_image, "_reach", cut_reach)
    assert violations(NETWORKS + CANCELLING)[0] > 0


CANCELLING = [
    chain((1, 1, 2), conv(np.array([[[1.0, 0.0, -1.0]]]), (1, 2), pads=((1, 1),))),
    chain((1, 1, 3), conv(np.array([[[1.0, 0.0, 0.0, -1.0]]]), (1, 3), pads=((1, 2),))),
]
"""Taps that cancel where they wrap around a torus of the image's size."""


SIDES = sqrt(0.4)
FIRST = conv(np.array([[[SIDES, 1.0, SIDES]]]), (1, 1), pads=((1, 1),))
SECOND = conv(np.array([[[-SIDES, 1.0, -SIDES]]]), (1, 1), pads=((1, 1),))
"""Each is the identity on one pixel; their product on a torus of two pixels has norm .6."""


def best_gain(form) -> float:
    """The least |Df|^2 / |Dx|^2 that one multiplier proves."""
    ones = np.ones(form.sizes[0] * form.frequencies[0])
    return min(least_metric(form_matrix(form, np.full(form.neurons, t)), ones) for t in np.geomspace(1e-3, 1e3, 200))


def test_a_product_of_convolutions_is_masked_in_between(monkeypatch):
    graph = chain((1, 1, 1), FIRST, SECOND)
    (form,) = torus_stages(graph)
    assert form.hidden == 1 and (form.low[0] == 0).all() and (form.high[0] == 1).all()
    assert best_gain(form) >= 1.0 - 1e-12
    monkeypatch.setattr(torus_image, "_keeps_zeros", lambda operator: True)
    wrong = torus_form._frequency_form(image_part.__wrapped__(graph))
    assert wrong.hidden == 0 and best_gain(wrong) < 0.61**2


def test_slopes_that_exclude_zero_would_be_wrong(monkeypatch):
    graph = chain((1, 1, 1), FIRST, LeakyRelu(0.9), SECOND)  # its constant is 1
    assert best_gain(torus_stages(graph)[0]) >= 1.0 - 1e-12
    monkeypatch.setattr(torus_form, "channel_slopes", unwidened)
    assert best_gain(torus_form._frequency_form(image_part(graph))) < 0.9


@pytest.mark.parametrize("graph", NETWORKS[::3])
def test_no_slopes_exceed_the_metric(graph):
    """|J|^2 in the metric for random slopes of every activation, forwards through the padded operators themselves."""
    (form,) = torus_stages(graph)
    rng = np.random.default_rng(1)
    witness = random_multipliers(rng, form)
    if witness is None:
        pytest.fail("no feasible multipliers were found")
    _, metric, rho = witness
    weights = 1 / np.sqrt(np.repeat(metric, prod(graph.input_shape[2:])))
    for _ in range(20):

        def step(node, inputs):
            operator = node.operator
            if isinstance(operator, Pointwise):
                a, b = operator.slopes()
                return inputs[0] * np.where(rng.random(inputs[0].shape[1:]) < 0.5, a, b)
            if isinstance(operator, (Add, Concat)):
                return operator.value(*inputs)
            return operator.forward(operator.weight.mid, inputs[0])

        basis = np.eye(graph.input_size).reshape(-1, *graph.input_shape)
        jacobian = graph.fold(basis, step)[-1].reshape(graph.input_size, -1).T
        gain = np.linalg.norm(jacobian * weights, 2) ** 2 if jacobian.size else 0.0
        assert gain <= rho * (1 + 1e-9) + 1e-12


# Numbers


def test_radii_hold_the_exact_transfer_functions():
    """A residual block without padding, stride 2, against 40 digits: W2 W1 + W3 with aliases."""
    rng = np.random.default_rng(5)
    first, second, skip = rng.standard_normal((2, 1, 2)), rng.standard_normal((1, 2, 3)), rng.standard_normal((1, 1, 1))
    nodes = (
        Node(conv(first, (1, 9), (2,)), (0,)), Node(conv(second, (2, 4)), (1,)), Node(conv(skip, (1, 9), (2,)), (0,)),
        Node(Reindex.of((1, 1, 5), np.arange(5).reshape(1, 1, 5)), (3,)),
        Node(conv(np.ones((1, 1, 4)), (1, 5)), (4,)), Node(Add(), (2, 5)),
    )  # fmt: skip
    graph = Graph((1, 1, 9), nodes)
    part, (form,) = image_part(graph), torus_stages(graph)
    (n,), ball, fold = part.grid.sides, form.maps[0][0], form.folds[1, 0]
    fine = part.grid.frequencies((1,))[:, 0]
    rad = np.broadcast_to(ball.rad, ball.shape)
    assert 0 < rad.max() < 1e-13
    with mpmath.workdps(40):

        def spectrum(kernel, side, w):
            return sum(
                mpmath.mpf(float(k)) * mpmath.expjpi(mpmath.mpf(2 * int(w) * t) / side) for t, k in enumerate(kernel)
            )

        for f, picked in enumerate(fold):
            for p, w in enumerate(fine[picked]):
                coarse = n // 2
                through = sum(spectrum(second[0, c], coarse, w) * spectrum(first[c, 0], n, w) for c in range(2))
                around = spectrum(np.ones(4), coarse, w) * spectrum(skip[0, 0], n, w)
                exact = (through + around) / mpmath.sqrt(2)
                block = [[exact.real, -exact.imag], [exact.imag, exact.real]]
                for i, j in product(range(2), range(2)):
                    assert abs(mpmath.mpf(ball.mid[f, i, p, j]) - block[i][j]) <= mpmath.mpf(rad[f, i, p, j])


def image_chain(name, side=28) -> Graph:
    with np.load(CHAINS / f"{name}.npz") as data:
        kernels = [data[f"K{i}"] for i in range(len(data.files))]
    operators = []
    for kernel in kernels:
        operators += [conv(kernel, (kernel.shape[1], side, side), pads=((1, 1), (1, 1))), Relu()]
    return chain((1, kernels[0].shape[1], side, side), *operators[:-1])


@pytest.mark.skipif(not CHAINS.exists(), reason="the reference data is not here")
def test_the_published_optimum_is_met():
    """min rho over T by cutting planes: an independent solver on the worst frequencies, all of them checked."""
    (form,) = torus_stages(image_chain("cnn_chain_ch8_d2"))
    first, last, channels = form.maps[0][0].mid[:, :, 0], form.maps[1][1].mid[:, :, 0], form.variables[0]
    chosen = [0]
    while True:
        rho, t = cp.Variable(), cp.Variable(form.neurons)
        T = cp.diag(t[channels])
        blocks = [
            cp.bmat([[rho * np.eye(16), -first[f].T @ T], [-T @ first[f], 2 * T - last[f].T @ last[f]]]) for f in chosen
        ]
        cp.Problem(cp.Minimize(rho), [0.5 * (block + block.T) >> 0 for block in blocks]).solve(solver=cp.CLARABEL)
        weights = np.diag(1.0000001 * t.value[channels])
        inner = 2 * weights - np.swapaxes(last, 1, 2) @ last
        assert np.linalg.eigvalsh(inner)[chosen].min() > 0
        needed = np.linalg.eigvalsh(np.swapaxes(first, 1, 2) @ weights @ np.linalg.solve(inner, weights @ first))[:, -1]
        worst = int(np.where(np.linalg.eigvalsh(inner)[:, 0] > 0, needed, np.inf).argmax())
        if worst in chosen:
            break
        chosen.append(worst)
    assert np.sqrt(needed[worst]) == pytest.approx(7.64875728191081, abs=1e-5)


# Heads and refusals


def with_head(*head) -> Graph:
    rng = np.random.default_rng(3)
    first = conv(rng.standard_normal((3, 2, 3, 3)), (2, 5, 5), (2, 2), ((1, 1), (1, 1)))
    return chain((1, 2, 5, 5), first, Relu(), *head)


FLAT = Reindex.through((1, 3, 3, 3), lambda a: a.reshape(1, -1))
ROWS = Reindex.through((1, 3, 3, 3), lambda a: a.reshape(1, 3, 9))
HEADS = {
    "flatten": (FLAT, Dense.of(np.random.default_rng(0).standard_normal((4, 27)), lead=(1,)), Relu(),
                Dense.of(np.ones((2, 4)), lead=(1,))),
    "global average": (ROWS, Dense.of(np.full((1, 9), 1 / 9), lead=(1, 3)),
                       Reindex.through((1, 3, 1), lambda a: a.reshape(1, 3)), Dense.of(np.ones((2, 3)), lead=(1,))),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_a_dense_form_in_the_channels(name):
    graph = with_head(*HEADS[name])
    assert torus_obstacle(graph) is None
    body, head = torus_stages(graph)
    assert body.output_index.tolist() == [0, 1, 2, 0, 1, 2] and body.hidden == 1
    assert head.metric_index.tolist() == np.repeat(np.arange(3), 9).tolist() and head.metric_count.tolist() == [9] * 3
    # |Df|^2 <= cut . |Du|^2 and cut . |Du|^2 <= metric . |Dx|^2: together against random slopes of the whole network
    cut = np.array([1.0, 2.0, 0.5])
    rng = np.random.default_rng(1)
    rows, widths = written_out(head)
    multipliers = [rng.uniform(1, 2, w) * 1e3 for w in widths[1:]]
    matrix = quadratic_form(rows, widths, head.low, head.high, multipliers)
    second = least_metric(matrix, cut[head.metric_index])
    rows, widths = written_out(body)
    weights = np.tile(1e3 * np.ones(6), body.frequencies[1])
    scaled = np.tile(second * cut[body.output_index], body.frequencies[-1])
    for t in (1.0, 10.0, 100.0, 1e3):
        slopes = repeated(body, body.low), repeated(body, body.high)
        matrix = quadratic_form(rows, widths, *slopes, [t * weights], scaled)
        bound = least_metric(matrix, np.ones(widths[0]))
        if np.isfinite(bound):
            break
    assert np.isfinite(bound)
    for _ in range(50):
        x, y = rng.standard_normal((2, 1, *graph.input_shape)) * 10
        assert np.sum((graph(x) - graph(y)) ** 2) <= bound * np.sum((x - y) ** 2)


def test_a_network_that_only_reshapes_at_the_end_is_one_stage():
    (form,) = torus_stages(with_head(FLAT))
    assert form.output_index is None


def test_an_input_that_is_reshaped_or_transposed_first():
    flat = Reindex.through((1, 50), lambda a: a.reshape(1, 5, 5, 2).transpose(0, 3, 1, 2))
    graph = chain((1, 50), flat, *(node.operator for node in with_head().nodes))
    (form,), (plain,) = torus_stages(graph), torus_stages(with_head())
    assert (form.maps[0][0].mid == plain.maps[0][0].mid).all() and (form.metric_count == 25).all()


def two_doors() -> Graph:
    base = with_head()
    early = Reindex.through((1, 3, 3, 3), lambda a: a.reshape(1, -1))
    nodes = (*base.nodes, Node(FLAT, (1,), "early"), Node(early, (2,), "late"), Node(Add(), (3, 4), "sum"))
    return Graph(base.input_shape, nodes)


def uneven() -> Graph:
    first = conv(np.ones((1, 1, 3)), (1, 3), (2,), ((1, 1),))
    other = conv(np.ones((1, 1, 2)), (1, 3))
    return Graph((1, 1, 3), (Node(first, (0,)), Node(other, (0,)), Node(Add(), (1, 2), "meet")))


def widening() -> Graph:
    up = ConvTranspose.of(conv(np.ones((3, 3, 2, 2)), (3, 6, 6), (2, 2)), Ball.exact(0.0))
    base = with_head()
    return Graph(base.input_shape, (*base.nodes, Node(up, (2,), "enlarge")))


REFUSED = {
    "two doors": (two_doors(), "'early' and 'late' take different values out"),
    "strides": (uneven(), "'meet' joins branches of different total strides"),
    "upsampling": (widening(), "'enlarge' is a transposed convolution"),
    "dense": (chain((1, 4), Dense.of(np.eye(4), lead=(1,)), Relu()), "not one image"),
    "no convolution": (chain((1, 2, 3), Relu()), "no convolution"),
    "long windows": (chain((1, 1, 70), MaxPool(np.arange(70).reshape(1, 1, 1, 70), (1, 1, 70))), "maximum of 70"),
    "large head": (
        chain((1, 1, 3), conv(np.ones((1, 1, 1)), (1, 3)), Dense.of(np.ones((60001, 3)), lead=(1, 1)), Relu()),
        "dense part has no neuron form",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason(name):
    graph, reason = REFUSED[name]
    assert reason in torus_obstacle(graph)
    with pytest.raises(NoTorusForm):
        torus_stages(graph)


def test_a_form_that_is_too_large_is_refused_without_being_built():
    wide = chain((1, 4096, 64, 64), conv(Ball(np.broadcast_to(1.0, (4096, 4096, 1, 1)), np.zeros(())), (4096, 64, 64)))
    assert "entries" in torus_obstacle(wide)


def test_maxima_are_rewritten():
    index = np.arange(4).reshape(1, 1, 2, 2)
    graph = chain((1, 1, 4), conv(np.ones((1, 1, 3)), (1, 4), pads=((1, 1),)), MaxPool(index, (1, 1, 4)))
    (form,), (same,) = torus_stages(graph), torus_stages(without_maxima(graph))
    assert form.hidden > 0 and form.sizes == same.sizes and form.frequencies[-1] * 2 == form.frequencies[0]
