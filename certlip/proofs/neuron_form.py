"""The dense form of any graph: one frequency, one multiplier per neuron, every activation a group.

z_k holds the outputs of the k-th pointwise node in topological order. Any graph of affine, pointwise, add and
concatenate operators has this form, and maxima become such operators first; chains are the special case in which each
group reads the one before it alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np

from certlip.graph import Affine, Graph, Merge, Node, Pointwise
from certlip.graph.kinds import Shape
from certlip.ops import Add, Concat
from certlip.passes.maxima import maxima_obstacle, without_maxima
from certlip.proofs.form import Form, Index
from certlip.proofs.form_memory import bytes_needed
from certlip.rigor.ball import Ball, concatenate
from certlip.rigor.rounding import REAL, Array

MEMORY_LIMIT = 8e9
"""Bytes that the form and the proof on it may take."""

Slopes = Mapping[int, tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class _Image:
    """A value as a linear image of its sources (0: the input, k: the k-th pointwise node): for each source the image
    of its unit vectors, a ball of shape (source size, *shape), or None where the value is the source itself."""

    shape: Shape
    images: Mapping[int, Ball | None]

    def of(self, source: int) -> Ball:
        ball = self.images[source]
        return Ball.exact(np.eye(prod(self.shape)).reshape(-1, *self.shape)) if ball is None else ball

    def block(self, source: int) -> Ball:
        """(1, size, 1, source size): the map of a form."""
        size = prod(self.shape)
        return self.of(source).map(lambda array: np.ascontiguousarray(array.reshape(-1, size).T)[None, :, None])


class NoNeuronForm(Exception):
    """The graph has an operator outside the form, or is too large to write out; the message says which."""


def neuron_form(
    graph: Graph, slopes: Slopes | None = None, metric_index: Index | None = None, metric_count: Array | None = None
) -> Form:
    """Write the graph out. Exact where a layer is one stored matrix; compositions carry their rounding as radius.

    slopes: for positions of pointwise nodes arrays (a, b) of the node's shape that hold on a convex region; other nodes
    keep their global ones. Positions count the nodes of `without_maxima(graph, exact=True)`, which is the graph itself
    where it has no maxima: the other rewriting of maxima admits differences, not values in a region.
    metric_index: for each entry of the input the entry of the metric that weighs it, its own by default; metric_count:
    how many inputs each entry of the metric stands for.
    Raises NoNeuronForm, and ValueError for slopes that are no intervals or belong to no pointwise node.
    """
    reason = obstacle(graph, slopes)
    if reason:
        raise NoNeuronForm(reason)
    form = _written(graph, slopes is not None)
    if slopes is not None:
        low, high = _slopes(_rewritten(graph, True), slopes)
        form = replace(form, low=low, high=high)
    if metric_index is not None:
        count = np.bincount(metric_index).astype(np.float64) if metric_count is None else metric_count
        form = replace(form, metric_index=metric_index, metric_count=count)
    return form


def obstacle(graph: Graph, slopes: Slopes | None = None) -> str | None:
    """Why the graph has no neuron form, or None; nothing large is allocated to find out."""
    reason = maxima_obstacle(graph)
    if reason:
        return reason
    graph = _rewritten(graph, slopes is not None)
    for node in graph.nodes:
        if isinstance(node.operator, Merge) and not isinstance(node.operator, (Add, Concat)):
            return f"node '{node.name}' is a {type(node.operator).__name__}, which LipSDP does not cover here"
    need = bytes_needed(graph, slopes or {})
    if need > MEMORY_LIMIT:
        neurons = sum(prod(shape) for _, shape in activations(graph))
        return (
            f"{graph.input_size} inputs and {neurons} neurons need about {need / 1e9:.1f} GB written out, more than "
            f"the limit of {MEMORY_LIMIT / 1e9:.0f} GB"
        )
    return None


def activations(graph: Graph) -> list[tuple[Pointwise, Shape]]:
    """Pointwise operators in order, with their shapes, those that stand for maxima included."""
    graph = _rewritten(graph, False)
    pairs = zip(graph.nodes, graph.shapes[1:], strict=True)
    return [(node.operator, shape) for node, shape in pairs if isinstance(node.operator, Pointwise)]


def dense_matrices(form: Form) -> tuple[Array, Array]:
    """V (N, n0 + N) and C (m, n0 + N), centres only, for a form with one frequency (ValueError for others)."""
    if not form.is_dense:
        raise ValueError("a form with several frequencies has no single matrix")
    ends = np.cumsum((0, *form.sizes))
    matrix = np.zeros((ends[-1] - ends[1], ends[-2]))
    for k, maps in enumerate(form.maps, 1):
        for s, block in maps.items():
            rows = slice(ends[k] - ends[1], ends[k + 1] - ends[1])
            matrix[rows, ends[s] : ends[s + 1]] = block.mid[0, :, 0]
    neurons = ends[-2] - ends[1]
    return matrix[:neurons], matrix[neurons:]


@lru_cache(maxsize=4)
def _rewritten(graph: Graph, exact: bool) -> Graph:
    return without_maxima(graph, exact)


@lru_cache(maxsize=2)  # a prover and its retries ask for the same immutable graph again and again
def _written(graph: Graph, exact: bool) -> Form:
    graph = _rewritten(graph, exact)
    sizes = [graph.input_size] + [prod(shape) for _, shape in activations(graph)]
    maps: list[dict[int, Ball]] = []

    def step(node: Node, values: Sequence[_Image]) -> _Image:
        operator = node.operator
        shape = operator.shape(*(value.shape for value in values))
        if isinstance(operator, Pointwise):
            maps.append(_maps(values[0]))
            return _Image(shape, {len(maps): None})
        if isinstance(operator, Affine):
            return _Image(shape, {s: _push(operator, image) for s, image in values[0].images.items()})
        join = _concatenation(operator.axis + 1) if isinstance(operator, Concat) else _sum
        return _Image(shape, {s: join(s, sizes[s], values) for s in sorted(set().union(*(v.images for v in values)))})

    maps.append(_maps(_last(graph, _Image(graph.input_shape, {0: None}), step)))
    low, high = _slopes(graph, {})
    folds = {(k, s): np.zeros((1, 1), dtype=np.intp) for k, blocks in enumerate(maps, 1) for s in blocks}
    ends = np.cumsum((0, *sizes[1:]))
    return Form(
        sizes=(*sizes, graph.output_size),
        frequencies=(1,) * (len(sizes) + 1),
        maps=tuple(maps),
        folds=folds,
        low=low,
        high=high,
        variables=tuple(np.arange(start, stop) for start, stop in pairwise(ends)),
        metric_index=np.arange(sizes[0]),
        metric_count=np.ones(sizes[0]),
    )


def _last(graph: Graph, start: _Image, step: Callable[[Node, Sequence[_Image]], _Image]) -> _Image:
    """`graph.fold(start, step)[-1]`, dropping every value after its last reader."""
    unread = Counter(i for node in graph.nodes for i in set(node.inputs))
    values = {0: start}
    for position, node in enumerate(graph.nodes, 1):
        values[position] = step(node, [values[i] for i in node.inputs])
        for i in set(node.inputs):
            unread[i] -= 1
            if not unread[i]:
                del values[i]
    return values[len(graph.nodes)]


def _maps(value: _Image) -> dict[int, Ball]:
    """The blocks of a value that are not exactly zero."""
    blocks = {s: value.block(s) for s in value.images}
    return {s: block for s, block in blocks.items() if block.mid.any() or block.rad.any()}


def _slopes(graph: Graph, local: Slopes) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    lows, highs, unused = [], [], set(local)
    for position, (node, shape) in enumerate(zip(graph.nodes, graph.shapes[1:], strict=True)):
        if isinstance(node.operator, Pointwise):
            pair = local.get(position, node.operator.slopes())
            low, high = (np.broadcast_to(np.asarray(slope, dtype=np.float64), shape).ravel() for slope in pair)
            if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
                raise ValueError(f"the slopes given for node '{node.name}' are no intervals")
            lows.append(low)
            highs.append(high)
            unused.discard(position)
    if unused:
        raise ValueError(f"slopes are given for nodes {sorted(unused)}, which are no activations")
    return tuple(lows), tuple(highs)


def _push(operator: Affine, image: Ball | None) -> Ball:
    if image is not None:
        return operator.linear_image(image, REAL)
    return operator.matrix().T.reshape(-1, *operator.codomain)


def _sum(source: int, size: int, values: Sequence[_Image]) -> Ball:
    images = [value.of(source) for value in values if source in value.images]
    return sum(images[1:], images[0])


def _concatenation(axis: int) -> Callable[[int, int, Sequence[_Image]], Ball]:
    def join(source: int, size: int, values: Sequence[_Image]) -> Ball:
        zeros = [Ball.exact(np.zeros((size, *value.shape))) for value in values]
        parts = [v.of(source) if source in v.images else zero for v, zero in zip(values, zeros, strict=True)]
        return concatenate(parts, axis)

    return join
