"""What lowering functions work with: constants, values under construction, and the node being lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import numpy as np
import onnx

from certlip.graph import Graph, Node, Operator
from certlip.graph.kinds import Shape
from certlip.ops import Reindex, Scale
from certlip.rigor.ball import Ball

MAX_GRAPH = 2**30
"""Most entries that all values and weights of a graph may have."""


class NotLowered(Exception):
    """Raised by a lowering with the hint that the user will read."""


@dataclass(frozen=True)
class Value:
    """A result that depends on the input: its index in the graph, its shape."""

    index: int
    shape: Shape


Item: TypeAlias = "Value | np.ndarray"
Constant: TypeAlias = "Ball | np.ndarray | float"


@dataclass
class Builder:
    """Grows the list of nodes; shapes are computed as operators are added."""

    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: int = 0

    def add(self, operator: Operator, *inputs: Value, name: str = "") -> Value:
        shape = operator.shape(*(value.shape for value in inputs))
        self.entries += prod(shape) + sum(_size(item) for item in vars(operator).values())
        if self.entries > MAX_GRAPH:  # a few nodes may repeat, or repeatedly use, a large constant
            raise NotLowered(f"the network up to here holds more than {MAX_GRAPH} values and weights")
        self.nodes.append(Node(operator, tuple(value.index for value in inputs), name))
        return Value(len(self.nodes), shape)

    def move(self, value: Value, rearrange: Callable[[np.ndarray], np.ndarray], name: str = "") -> Value:
        """Rearrange entries as `rearrange` does to an array; nothing is added when that changes nothing."""
        return self.place(value, rearrange(np.arange(prod(value.shape)).reshape(value.shape)), name)

    def place(self, value: Value, index: np.ndarray, name: str = "") -> Value:
        """Entries of the value by their flat positions, as Reindex takes them."""
        operator = Reindex.of(value.shape, index)
        if operator.is_identity and operator.codomain == value.shape:
            return value
        return self.add(operator, value, name=name)

    def reshape(self, value: Value, shape: Shape) -> Value:
        return self.move(value, lambda array: array.reshape(shape))

    def expand(self, value: Value, shape: Shape) -> Value:
        return self.move(value, lambda array: np.broadcast_to(array, shape))

    def scale(
        self,
        value: Value,
        factor: Constant = 1.0,
        shift: Constant = 0.0,
        bias_size: np.ndarray | None = None,
        name: str = "",
        operations: int = 1,
    ) -> Value:
        """factor * value + shift, the value broadcast first where the constants are larger; see Scale."""
        factor = factor if isinstance(factor, Ball) else Ball.exact(factor)
        shift = shift if isinstance(shift, Ball) else Ball.exact(shift)
        shape = np.broadcast_shapes(value.shape, factor.shape, shift.shape)
        value = self.expand(value, shape)
        return self.add(Scale.of(shape, factor, shift, bias_size, operations), value, name=name)

    def finish(self, output: Value) -> tuple[Graph, dict[int, int]]:
        """The graph that ends in `output` without nodes that do not lead to it, and the new index of each value."""
        needed = {output.index}
        for position in range(len(self.nodes), 0, -1):
            if position in needed:
                needed.update(self.nodes[position - 1].inputs)
        if output.index == 0:  # a network that returns its input
            self.add(Scale.of(self.input_shape), Value(0, self.input_shape), name="identity")
            output, needed = Value(len(self.nodes), self.input_shape), {0, len(self.nodes)}
        kept = [0, *sorted(i for i in needed if i > 0)]
        order = {old: new for new, old in enumerate(kept)}
        nodes = []
        for old in kept[1:]:
            node = self.nodes[old - 1]
            nodes.append(Node(node.operator, tuple(order[i] for i in node.inputs), node.name))
        return Graph(self.input_shape, tuple(nodes), tuple(dict.fromkeys(self.notes))), order


def _size(item: object) -> int:
    held = item.mid if isinstance(item, Ball) else item
    return held.size if isinstance(held, np.ndarray) else 0


@dataclass(frozen=True)
class Call:
    """One ONNX node with its inputs resolved to constants and values (None where an optional one is absent)."""

    proto: onnx.NodeProto
    opset: int
    items: tuple[Item | None, ...]
    attributes: dict[str, object]
    builder: Builder

    @property
    def name(self) -> str:
        return self.proto.name or (self.proto.output[0] if self.proto.output else self.proto.op_type)

    def attribute(self, key: str, default: Any = None) -> Any:
        """An attribute's value, or the operator's default."""
        return self.attributes.get(key, default)

    def item(self, i: int) -> Item | None:
        return self.items[i] if i < len(self.items) else None

    def operands(self) -> list[Item]:
        """All inputs of an operator that takes any number of them."""
        present = [item for item in self.items if item is not None]
        if len(present) != len(self.items) or not present:
            raise NotLowered("one of its inputs is missing")
        return present

    def value(self, i: int = 0) -> Value:
        """Input i, which must depend on the network's input."""
        item = self.item(i)
        if not isinstance(item, Value):
            raise NotLowered(f"input {i} must be computed from the network's input")
        return item

    def constant(self, i: int, what: str) -> np.ndarray:
        """Input i, which must not depend on the network's input."""
        item = self.item(i)
        if not isinstance(item, np.ndarray):
            raise NotLowered(f"its {what} must be constant; export the model with it frozen")
        return item

    def optional(self, i: int, what: str) -> np.ndarray | None:
        return None if self.item(i) is None else self.constant(i, what)

    def add(self, operator: Operator, *inputs: Value) -> Value:
        return self.builder.add(operator, *inputs, name=self.name)
