"""Residual branches z + down act(up z + b) of a graph, which a 1-Lipschitz family can replace as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from certlip.graph import Graph, Pointwise
from certlip.ops import Add, Conv, Dense


@dataclass(frozen=True)
class Branch:
    """Positions of its nodes, and the value z that it starts from and is added to."""

    start: int
    up: int
    act: int
    down: int
    sum: int


def residual_branches(graph: Graph) -> list[Branch]:
    """Those of dense layers or of convolutions that keep the image, with all slopes of the activation in [0, 1].

    The branch must be read by the sum alone, and the two weights must be each other's shape transposed.
    """
    readers = Counter(i for node in graph.nodes for i in node.inputs)
    found = []
    for position, node in enumerate(graph.nodes):
        if not isinstance(node.operator, Add) or len(node.inputs) != 2:
            continue
        for end, start in (node.inputs, node.inputs[::-1]):
            branch = _branch(graph, readers, position, start, end)
            if branch is not None:
                found.append(branch)
                break
    return found


def _branch(graph: Graph, readers: Counter[int], add: int, start: int, end: int) -> Branch | None:
    inner, value = [], end
    for _ in range(3):  # down, act, up
        if value == 0 or readers[value] > 1 or len(graph.nodes[value - 1].inputs) != 1:
            return None
        inner.append(value - 1)
        (value,) = graph.nodes[value - 1].inputs
    down, act, up = inner
    operators = [graph.nodes[i].operator for i in (up, act, down)]
    if value != start or not isinstance(operators[1], Pointwise) or not _is_gentle(operators[1]):
        return None
    if not (_mirrored_dense(operators[0], operators[2]) or _mirrored_conv(operators[0], operators[2])):
        return None
    return Branch(start, up, act, down, add)


def _is_gentle(operator: Pointwise) -> bool:
    low, high = operator.slopes()
    return bool(low.min() >= 0.0 and high.max() <= 1.0)


def _mirrored_dense(up: object, down: object) -> bool:
    return isinstance(up, Dense) and isinstance(down, Dense) and up.weight.shape == down.weight.shape[::-1]


def _mirrored_conv(up: object, down: object) -> bool:
    """Square windows in two axes, stride 1, one dilation, even pads, the second ones the complement of the first."""
    if not (isinstance(up, Conv) and isinstance(down, Conv)) or len(up.window) != 2:
        return False
    (hidden, width, k, other), d = up.weight.shape, up.dilations[0]
    reach, pad = d * (k - 1), up.pads[0][0]
    plain = all(
        conv.strides == (1, 1) and conv.groups == 1 and conv.dilations == (d, d) and len({*sum(conv.pads, ())}) == 1
        for conv in (up, down)
    )
    mirrored = down.weight.shape == (width, hidden, k, k) and down.pads[0][0] == reach - pad
    return plain and mirrored and k == other and 0 <= pad <= reach
