"""Which function of the network a statement is about. Choosing an output is appending a matrix to the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph, Node, Operator
from certlip.ops import Abs, Clip, Dense, Reindex, Relu, Scale, Sigmoid
from certlip.passes import normal_form


@dataclass(frozen=True)
class Output:
    """All outputs as a vector ("all"), one of them ("logit"), a difference f_i - f_j ("pair"), or the single number
    whose sign decides between two classes ("decision": a last sigmoid is left out, since f > 1/2 iff its input > 0)."""

    kind: str
    indices: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.kind if not self.indices else f"{self.kind} " + ",".join(map(str, self.indices))

    @staticmethod
    def logit(i: int) -> Output:
        return Output("logit", (i,))

    @staticmethod
    def pair(i: int, j: int) -> Output:
        return Output("pair", (i, j))

    def __post_init__(self) -> None:
        counts = {"all": 0, "decision": 0, "logit": 1, "pair": 2}
        if counts.get(self.kind) != len(self.indices) or len(set(self.indices)) != len(self.indices):
            raise UsageError(f"'{self}' is no output; use all, one index or two different ones")


ALL = Output("all")
DECISION = Output("decision")


def select(graph: Graph, output: Output) -> Graph:
    """Normal form of the network whose output is the chosen function. Raises UsageError for an index out of range."""
    return normal_form(chosen(graph, output))


def chosen(graph: Graph, output: Output) -> Graph:
    """The same before any operators are merged: exact proofs merge them without rounding."""
    size = graph.output_size
    if any(not 0 <= i < size for i in output.indices):
        raise UsageError(f"the model has {size} outputs, so {output} does not exist; use indices 0 to {size - 1}")
    if output.kind == "all":
        return graph
    if output.kind == "decision":
        return decision_graph(graph)
    row = np.zeros((1, size))
    row[0, output.indices[0]] = 1.0
    if output.kind == "pair":
        row[0, output.indices[1]] = -1.0
    if graph.output_shape[-1:] != (size,):
        graph = graph.append(Reindex.through(graph.output_shape, np.ravel))
    return graph.append(Dense.of(row, lead=graph.output_shape[:-1]), name=str(output))


def decision_graph(graph: Graph) -> Graph:
    """The network whose sign decides, for one output."""
    if graph.output_size != 1:
        raise UsageError(f"a sign decides between two classes, but the model has {graph.output_size} outputs")
    logit = _logit_value(graph)
    if logit is not None:
        note = "the final Sigmoid is left out: the class is the sign of the logit before it"
        return replace(graph, nodes=graph.nodes[:logit], notes=(*graph.notes, note))
    tail = _after_sigmoid(graph)
    if tail is not None:
        ends = tail(np.linspace(0.0, 1.0, 5).reshape(5, *tail.input_shape))
        if not (ends.min() < 0.0 < ends.max()):
            raise UsageError(
                "the model's only output is computed from a Sigmoid and does not take both signs, so its sign decides "
                "nothing; end the model in the Sigmoid or in the logit before it"
            )
    return graph


def is_probability(graph: Graph) -> bool:
    """True where a network of one output ends in a sigmoid, reshaped or not."""
    return _logit_value(graph) is not None


def _logit_value(graph: Graph) -> int | None:
    """The value that a last sigmoid reads, None without one. What leaves its number alone may follow it."""
    value = len(graph.nodes)
    while value:
        node = graph.nodes[value - 1]
        if isinstance(node.operator, Sigmoid):
            return node.inputs[0]
        if not _keeps_probability(node.operator):
            return None
        value = node.inputs[0]
    return None


def _keeps_probability(operator: Operator) -> bool:
    """Whether the operator maps every number of [0, 1] to itself: a reshape, x * 1 + 0, a clip to more than that."""
    if isinstance(operator, Reindex):
        return operator.is_identity
    if isinstance(operator, Clip):
        return bool((operator.low <= 0.0).all() and (operator.high >= 1.0).all())
    if isinstance(operator, Scale):
        weight, bias = operator.weight, operator.bias
        return bool((weight.mid == 1.0).all()) and not any(a.any() for a in (weight.rad, bias.mid, bias.rad))
    return isinstance(operator, Relu | Abs)


def _after_sigmoid(graph: Graph) -> Graph | None:
    """What is done to a single sigmoid before the output, None where the output comes from anything else."""
    value = len(graph.nodes)
    tail: list[Node] = []
    while value:
        node = graph.nodes[value - 1]
        if isinstance(node.operator, Sigmoid):
            nodes = tuple(replace(step, inputs=(i,)) for i, step in enumerate(reversed(tail)))
            return Graph(graph.shapes[value], nodes)
        if set(node.inputs) != {value - 1} or len(node.inputs) > 1 or prod(graph.shapes[value - 1]) != 1:
            return None
        tail.append(node)
        value -= 1
    return None


def margins_graph(graph: Graph) -> Graph:
    """The network whose outputs decide a class: all of them, or the one whose sign does."""
    return select(graph, scores(graph))


def scores(graph: Graph) -> Output:
    """What decides a class: all outputs, or the sign of the only one."""
    return DECISION if graph.output_size == 1 else ALL
