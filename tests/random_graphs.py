"""Small random networks of every kind of node, and adversarial searches for steep secants."""

from __future__ import annotations

from math import prod

import numpy as np

from certlip.graph import Graph, Node
from certlip.ops import (
    Abs,
    Add,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Elu,
    Gelu,
    LeakyRelu,
    MaxPool,
    Reindex,
    Relu,
    Scale,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    TanhGelu,
)
from certlip.rigor.ball import Ball

ACTIVATIONS = (
    Relu, Relu, Relu, Abs, Tanh, Sigmoid, Softplus, Gelu, TanhGelu, Silu, Elu,
    lambda: LeakyRelu(0.1), lambda: LeakyRelu(-0.7), lambda: LeakyRelu(1.5), lambda: Clip(-0.5, 1.0),
    lambda: Elu(1.6732632423543772, 1.0507009873554805),
)  # fmt: skip


class Sketch:
    """A graph under construction: values by number, each with its shape."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]):
        self.rng, self.input_shape = rng, shape
        self.nodes: list[Node] = []
        self.shapes = [shape]

    def add(self, operator, *inputs: int) -> int:
        inputs = inputs or (len(self.nodes),)
        self.shapes.append(operator.shape(*(self.shapes[i] for i in inputs)))
        self.nodes.append(Node(operator, inputs, f"node {len(self.nodes)}"))
        return len(self.nodes)

    def graph(self) -> Graph:
        return Graph(self.input_shape, tuple(self.nodes))

    def normal(self, *shape: int) -> np.ndarray:
        x = self.rng.standard_normal(shape)
        return x * (self.rng.random(shape) < 0.7) if self.rng.random() < 0.2 else x

    def dense(self, value: int, out: int | None = None) -> int:
        shape = self.shapes[value]
        out = out or int(self.rng.integers(1, 6))
        weight = self.normal(out, shape[-1]) / np.sqrt(shape[-1])
        return self.add(Dense.of(weight, 0.3 * self.normal(out), shape[:-1]), value)

    def scale(self, value: int) -> int:
        shape = self.shapes[value]
        kept = tuple(n if self.rng.random() < 0.5 else 1 for n in shape)
        factor = self.normal(*kept) if self.rng.random() < 0.7 else np.asarray(1.0)
        return self.add(Scale.of(shape, factor, 0.3 * self.normal(*shape)), value)

    def activation(self, value: int) -> int:
        return self.add(ACTIVATIONS[self.rng.integers(len(ACTIVATIONS))](), value)

    def reindex(self, value: int) -> int:
        """A permutation, or repeats, omissions and padded constants."""
        shape = self.shapes[value]
        size = prod(shape)
        if self.rng.random() < 0.6:
            index = self.rng.permutation(size).reshape(shape)
            return self.add(Reindex.of(shape, index), value)
        index = self.rng.integers(-1, size, (*shape[:-1], int(self.rng.integers(1, 5))))
        return self.add(Reindex.of(shape, index, float(self.rng.choice([0.0, 0.5]))), value)

    def residual(self, value: int) -> int:
        branch = self.activation(self.dense(value))
        branch = self.dense(branch, self.shapes[value][-1])
        return self.add(Add(), value, branch)

    def concat(self, value: int) -> int:
        other = self.activation(self.dense(value))
        return self.add(Concat(len(self.shapes[value]) - 1), value, other)

    def maxpool(self, value: int) -> int:
        shape = self.shapes[value]
        index = self.rng.integers(-1, prod(shape), (*shape[:-1], int(self.rng.integers(1, 4)), 3))
        index[..., 0] = np.maximum(index[..., 0], 0)
        return self.add(MaxPool(index, shape), value)

    def flatten(self, value: int) -> int:
        return self.add(Reindex.through(self.shapes[value], np.ravel), value)

    def conv(self, value: int) -> int:
        _, channels, *space = self.shapes[value]
        rng = self.rng
        groups = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
        out = groups * int(rng.integers(1, 3))
        window = [int(rng.integers(1, 4)) for _ in space]
        pads = tuple((k - 1, int(rng.integers(0, k))) for k in window)
        strides = tuple(int(s) for s in rng.integers(1, 3, len(space)))
        kernel = self.normal(out, channels // groups, *window) / np.sqrt(channels * prod(window))
        conv = Conv(
            Ball.exact(kernel), Ball.exact(self.normal(1, out, *(1,) * len(space))), np.full((), 3.0),
            (channels, *space), strides, pads, (1,) * len(space), groups,
        )  # fmt: skip
        return self.add(conv, value)

    def conv_transpose(self, value: int) -> int:
        _, channels, *space = self.shapes[value]
        out = int(self.rng.integers(1, 3))
        kernel = self.normal(channels, out, *(2,) * len(space)) / np.sqrt(channels)
        size = (out, *(n + 1 for n in space))
        conv = Conv(
            Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), size,
            (1,) * len(space), ((0, 0),) * len(space), (1,) * len(space), 1,
        )  # fmt: skip
        return self.add(ConvTranspose.of(conv, Ball.exact(self.normal(1, out, *(1,) * len(space)))), value)


def dense_graph(rng: np.random.Generator, pools: bool = False) -> Graph:
    """Vectors through dense layers, activations, skips, concatenations and rearrangements."""
    sketch = Sketch(rng, ((1,) * int(rng.integers(0, 2))) + (int(rng.integers(1, 5)),))
    steps = [sketch.dense, sketch.activation, sketch.activation, sketch.scale, sketch.residual, sketch.concat]
    steps += [sketch.reindex] + ([sketch.maxpool] if pools else [])
    for _ in range(int(rng.integers(2, 7))):
        steps[rng.integers(len(steps))](len(sketch.nodes))
    sketch.dense(len(sketch.nodes), int(rng.integers(1, 4)))
    return sketch.graph()


def image_graph(rng: np.random.Generator, pools: bool = False) -> Graph:
    """Images through convolutions, their transposes, channel scales and a dense head."""
    dimensions = int(rng.integers(1, 3))
    space = [int(n) for n in rng.integers(2, 4 if dimensions == 2 else 7, dimensions)]
    sketch = Sketch(rng, (1, int(rng.integers(1, 3)), *space))
    steps = [sketch.conv, sketch.conv, sketch.activation, sketch.activation, sketch.scale, sketch.conv_transpose]
    for _ in range(int(rng.integers(2, 6))):
        steps[rng.integers(len(steps))](len(sketch.nodes))
    if pools:
        sketch.maxpool(len(sketch.nodes))
    sketch.flatten(len(sketch.nodes))
    sketch.dense(len(sketch.nodes), int(rng.integers(1, 4)))
    return sketch.graph()


def random_graph(seed: int, pools: bool = False) -> Graph:
    rng = np.random.default_rng(seed)
    return (dense_graph if rng.random() < 0.7 else image_graph)(rng, pools)


def jacobian(graph: Graph, x: np.ndarray) -> np.ndarray:
    """(outputs, inputs) at one point."""
    outputs = graph.output_size
    batch = np.repeat(x[None], outputs, 0)
    return graph.gradient(batch, np.eye(outputs).reshape(outputs, *graph.output_shape)).reshape(outputs, -1)


def secants(graph: Graph, norm: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|f(x) - f(y)| / |x - y| for batches."""
    order = 2 if norm == "l2" else np.inf
    moved = (graph(x) - graph(y)).reshape(len(x), -1)
    step = (x - y).reshape(len(x), -1)
    return np.linalg.norm(moved, order, axis=1) / np.linalg.norm(step, order, axis=1)


def steepest_secant(graph: Graph, norm: str, rng: np.random.Generator, points: int = 24) -> float:
    """The steepest secant found: random pairs, and steps along the worst direction of Jacobians at random points."""
    best = 0.0
    for spread in (0.3, 3.0):
        x = spread * rng.standard_normal((points, *graph.input_shape))
        y = spread * rng.standard_normal((points, *graph.input_shape))
        best = max(best, secants(graph, norm, x, y).max())
        lines = []
        for point in x:
            slope = jacobian(graph, point)
            if norm == "l2":
                directions = np.linalg.svd(slope)[2][:1]
            else:
                row = slope[np.abs(slope).sum(1).argmax()]
                directions = np.where(row < 0, -1.0, 1.0)[None]
            lines.append(directions[0].reshape(graph.input_shape))
        direction = np.stack(lines)
        for length in (1e-3, 1e-1, 1.0, 10.0):
            for step in (length * direction, -length * direction):
                best = max(best, secants(graph, norm, x, x + step).max())
    return float(best)
