"""The network as one linear map around its activations: v = V xi + const, f = C xi + const, xi = (x, z).

z holds the outputs of all pointwise nodes in topological order, z_j = phi_j(v_j) with slopes in [a_j, b_j]. Any graph
of affine, pointwise, add and concatenate operators has this form; chains are the special case of a block bidiagonal V.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from certlip.graph import Affine, Graph, Merge, Node, Pointwise
from certlip.graph.kinds import Shape
from certlip.ops import Add, Concat
from certlip.rigor.ball import Ball, concatenate
from certlip.rigor.rounding import REAL, Array

MAX_SIZE = 6000
"""Largest number of inputs plus neurons that is written out densely."""


@dataclass(frozen=True, eq=False)
class _Form:
    """A value as a linear image of its sources (0: the input, k: the k-th pointwise node): for each source the image
    of its unit vectors, a ball of shape (source size, *shape), or None where the value is the source itself."""

    shape: Shape
    images: Mapping[int, Ball | None]

    def image(self, source: int) -> Ball:
        ball = self.images[source]
        return Ball.exact(np.eye(prod(self.shape)).reshape(-1, *self.shape)) if ball is None else ball


class NoNeuronForm(Exception):
    """The graph has an operator outside the form, or is too large to write out; the message says which."""


@dataclass(frozen=True, eq=False)
class NeuronForm:
    """V: (N, n0 + N), C: (m, n0 + N) as balls; slopes a, b: (N,); layers: sizes of the pointwise nodes."""

    V: Ball
    C: Ball
    a: Array
    b: Array
    inputs: int
    layers: tuple[int, ...]


def obstacle(graph: Graph) -> str | None:
    """Why the graph has no neuron form, or None."""
    for node in graph.nodes:
        if isinstance(node.operator, Merge) and not isinstance(node.operator, (Add, Concat)):
            return f"node '{node.name}' is a maximum, which LipSDP does not cover here"
    neurons = sum(prod(shape) for _, shape in activations(graph))
    if graph.input_size + neurons > MAX_SIZE:
        return f"{graph.input_size} inputs and {neurons} neurons exceed the dense limit of {MAX_SIZE}"
    return None


@lru_cache(maxsize=2)  # a prover and its retries ask for the same immutable graph again and again
def neuron_form(graph: Graph) -> NeuronForm:
    """Write the graph out. Exact where a layer is one stored matrix; compositions carry their rounding as radius."""
    reason = obstacle(graph)
    if reason:
        raise NoNeuronForm(reason)
    sizes = [graph.input_size] + [prod(shape) for _, shape in activations(graph)]
    rows: list[_Form] = []

    def step(node: Node, forms: Sequence[_Form]) -> _Form:
        operator = node.operator
        shape = operator.shape(*(form.shape for form in forms))
        if isinstance(operator, Pointwise):
            rows.append(forms[0])
            return _Form(shape, {len(rows): None})
        if isinstance(operator, Affine):
            return _Form(shape, {s: _push(operator, image) for s, image in forms[0].images.items()})
        join = _concatenation(operator.axis + 1) if isinstance(operator, Concat) else _sum
        return _Form(shape, {s: join(s, sizes[s], forms) for s in sorted(set().union(*(f.images for f in forms)))})

    output = graph.fold(_Form(graph.input_shape, {0: None}), step)[-1]
    slopes = [
        [np.broadcast_to(slope, shape).ravel() for slope in operator.slopes()] for operator, shape in activations(graph)
    ]
    a, b = (np.concatenate([pair[i] for pair in slopes]) if slopes else np.zeros(0) for i in (0, 1))
    V = _stack([_matrix(form, sizes) for form in rows], sum(sizes))
    return NeuronForm(V, _matrix(output, sizes), a, b, graph.input_size, tuple(sizes[1:]))


def activations(graph: Graph) -> list[tuple[Pointwise, Shape]]:
    """Pointwise operators in order, with their shapes."""
    pairs = zip(graph.nodes, graph.shapes[1:], strict=True)
    return [(node.operator, shape) for node, shape in pairs if isinstance(node.operator, Pointwise)]


def _push(operator: Affine, image: Ball | None) -> Ball:
    if image is not None:
        return operator.linear_image(image, REAL)
    return operator.matrix().T.reshape(-1, *operator.codomain)


def _sum(source: int, size: int, forms: Sequence[_Form]) -> Ball:
    images = [form.image(source) for form in forms if source in form.images]
    return sum(images[1:], images[0])


def _concatenation(axis: int) -> Callable[[int, int, Sequence[_Form]], Ball]:
    def join(source: int, size: int, forms: Sequence[_Form]) -> Ball:
        parts = [
            form.image(source) if source in form.images else Ball.exact(np.zeros((size, *form.shape))) for form in forms
        ]
        return concatenate(parts, axis)

    return join


def _matrix(form: _Form, sizes: Sequence[int]) -> Ball:
    """The rows of this value in terms of xi: (entries of the value, n0 + N)."""
    rows, ends = prod(form.shape), np.cumsum(sizes)
    mid, rad = np.zeros((rows, ends[-1])), np.zeros((rows, ends[-1]))
    for source in form.images:
        columns = slice(ends[source] - sizes[source], ends[source])
        block = form.image(source).reshape(-1, rows).T
        mid[:, columns], rad[:, columns] = block.mid, block.rad
    return Ball(mid, rad if rad.any() else np.zeros(()))


def _stack(blocks: Sequence[Ball], width: int) -> Ball:
    return concatenate(list(blocks), 0) if blocks else Ball.exact(np.zeros((0, width)))
