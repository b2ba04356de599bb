"""Networks with other weights: graphs in normal form taken apart and put together again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import Conv, ConvTranspose, Dense, Reindex, Scale
from certlip.passes import normal_form
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

WEIGHTED = Dense | Conv | ConvTranspose


def with_weights(graph: Graph, position: int, weight: Array, bias: Array) -> Graph:
    """The graph whose affine node `position` has these weights, exactly."""
    nodes = list(graph.nodes)
    operator = nodes[position].operator
    if not isinstance(operator, Affine):
        raise ValueError(f"node {position} has no weights")
    if isinstance(operator, ConvTranspose):
        operator = replace(operator, conv=replace(operator.conv, weight=Ball.exact(weight)))
    changed = replace(operator, weight=Ball.exact(weight), bias=Ball.exact(bias), bias_size=np.abs(bias))
    nodes[position] = replace(nodes[position], operator=changed)
    return replace(graph, nodes=tuple(nodes))


def weighted(graph: Graph) -> list[int]:
    """Positions of the nodes with trainable weights."""
    return [i for i, node in enumerate(graph.nodes) if isinstance(node.operator, WEIGHTED)]


def times(graph: Graph, factor: float) -> Graph:
    """factor f, exact up to the rounding of the last layer's weights."""
    last = graph.nodes[-1].operator if graph.nodes else None
    if isinstance(last, WEIGHTED):
        return with_weights(graph, len(graph.nodes) - 1, last.weight.mid * factor, last.bias.mid * factor)
    return normal_form(graph.append(Scale.of(graph.output_shape, factor), "scale"))


@dataclass(frozen=True)
class Change:
    """One layer's weights and bias before and after: sizes |theta| and |theta' - theta|."""

    name: str
    shape: tuple[int, ...]
    size: float
    moved: float

    @property
    def relative(self) -> float:
        return self.moved / self.size if self.size else float(self.moved > 0)


def changes(before: Graph, after: Graph) -> list[Change] | None:
    """Layer by layer, None where the layers do not correspond."""
    sides = [[graph.nodes[i] for i in weighted(graph)] for graph in (before, after)]
    if len(sides[0]) != len(sides[1]):
        return None
    found = []
    for old, new in zip(*sides, strict=True):
        a, b = old.operator, new.operator
        if not (isinstance(a, Affine) and isinstance(b, Affine) and a.weight.shape == b.weight.shape):
            return None
        size = np.hypot(np.linalg.norm(a.weight.mid), np.linalg.norm(a.bias.mid))
        moved = np.hypot(np.linalg.norm(b.weight.mid - a.weight.mid), np.linalg.norm(b.bias.mid - a.bias.mid))
        found.append(Change(old.name or new.name, a.weight.shape, float(size), float(moved)))
    return found


def distance(before: Graph, after: Graph) -> float | None:
    """|theta' - theta| / |theta| over all weights, None where the layers do not correspond."""
    found = changes(before, after)
    if not found:
        return None
    size = np.linalg.norm([change.size for change in found])
    return float(np.linalg.norm([change.moved for change in found]) / size) if size else None


@dataclass(frozen=True, eq=False)
class DenseChain:
    """Dense layers with a pointwise function between each two: the end of a graph, after `stem` nodes.

    weights (out, in), biases (out,), functions: the pointwise operators between them.
    """

    graph: Graph
    stem: int
    positions: tuple[int, ...]

    @property
    def weights(self) -> list[Array]:
        return [self.graph.nodes[i].operator.weight.mid for i in self.positions]  # type: ignore[attr-defined]

    @property
    def biases(self) -> list[Array]:
        return [
            np.broadcast_to(operator.bias.mid, operator.codomain).reshape(-1).copy()
            for operator in (self.graph.nodes[i].operator for i in self.positions)
            if isinstance(operator, Affine)
        ]

    @property
    def functions(self) -> list[Pointwise]:
        between = [self.graph.nodes[i - 1].operator for i in self.positions[1:]]
        return [operator for operator in between if isinstance(operator, Pointwise)]

    @property
    def backbone(self) -> Graph:
        """The network before the chain: what the chain's first layer reads, as a vector's worth of entries."""
        return Graph(self.graph.input_shape, self.graph.nodes[: self.stem])

    def features(self, x: Array, batch: int = 256) -> Array:
        """(N, d): what the first layer of the chain reads."""
        if not self.stem:
            return x.reshape(len(x), -1)
        backbone = self.backbone
        parts = [x[i : i + batch] for i in range(0, len(x), batch)]
        return np.concatenate([backbone(part).reshape(len(part), -1) for part in parts])

    @property
    def starts_at_input(self) -> bool:
        """Whether only reshapes and permutations come before."""
        return all(
            isinstance(node.operator, Reindex) and node.operator.multiplicity <= 1 and not node.operator.bias.mid.any()
            for node in self.graph.nodes[: self.stem]
        )

    def with_layers(self, weights: Sequence[Array], biases: Sequence[Array]) -> Graph:
        """The graph with other weights in the chain."""
        graph = self.graph
        for position, weight, bias in zip(self.positions, weights, biases, strict=True):
            operator = graph.nodes[position].operator
            shape = operator.shape(graph.shapes[position])
            graph = with_weights(graph, position, weight, np.asarray(bias).reshape(shape))
        return graph


def dense_chain(graph: Graph, layers: int | None = None) -> DenseChain | None:
    """The longest chain (at most so many dense layers) at the end of a graph, None where it ends otherwise."""
    readers = Counter(i for node in graph.nodes for i in node.inputs)
    positions: list[int] = []
    position = len(graph.nodes) - 1
    while position >= 0 and _is_dense(graph.nodes[position], position):
        positions.append(position)
        before = position - 1
        follows = before - 1
        if len(positions) == layers or follows < 0 or readers[position] > 1:
            break
        node = graph.nodes[before]
        chained = isinstance(node.operator, Pointwise) and node.inputs == (before,) and readers[before] == 1
        if not chained or not _is_dense(graph.nodes[follows], follows):
            break
        position = follows
    if not positions:
        return None
    first = positions[-1]
    return DenseChain(graph, first, tuple(reversed(positions)))


def _is_dense(node: Node, position: int) -> bool:
    """A matrix on all entries at once, which reads the value before it."""
    operator = node.operator
    return isinstance(operator, Dense) and prod(operator.lead) == 1 and node.inputs == (position,)
