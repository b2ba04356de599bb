"""A frozen, topologically ordered graph that evaluates, differentiates and encloses itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from math import prod
from typing import Any, TypeVar

import numpy as np

from certlip.graph.kinds import Operator, Shape
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Node:
    """An operator applied to earlier values: value 0 is the graph's input, value i + 1 the result of node i."""

    operator: Operator
    inputs: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """A network with one input and one output. Construction checks order and shapes.

    notes: sentences about what the graph says or leaves out relative to its file (a stripped softmax, ...).
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    notes: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = field(init=False)

    def __post_init__(self) -> None:
        shapes = [self.input_shape]
        for position, node in enumerate(self.nodes):
            if not node.inputs or not all(0 <= i <= position for i in node.inputs):
                raise ValueError(f"node {position} reads a value that does not come before it")
            shapes.append(node.operator.shape(*(shapes[i] for i in node.inputs)))
        object.__setattr__(self, "shapes", tuple(shapes))

    @property
    def output_shape(self) -> Shape:
        return self.shapes[-1]

    @property
    def input_size(self) -> int:
        return prod(self.input_shape)

    @property
    def output_size(self) -> int:
        return prod(self.output_shape)

    def fold(self, start: T, step: Callable[[Node, Sequence[T]], T]) -> list[T]:
        """Carry any quantity through the graph; returns it for every value. All analyses are folds."""
        values = [start]
        for node in self.nodes:
            values.append(step(node, [values[i] for i in node.inputs]))
        return values

    def values(self, x: Array) -> list[Array]:
        """All values for a batch x of shape (N, *input_shape)."""
        return self.fold(x, lambda node, args: node.operator.value(*args))

    def __call__(self, x: Array) -> Array:
        """Output (N, *output_shape) for a batch (N, *input_shape), in binary64."""
        return self.values(np.asarray(x, dtype=np.float64))[-1]

    def gradient(self, x: Array, direction: Array) -> Array:
        """Gradient at each x of <direction, output>, by reverse accumulation."""
        values = self.values(x)
        adjoints: list[Array | None] = [None] * len(values)
        adjoints[-1] = direction
        for position in range(len(self.nodes) - 1, -1, -1):
            node, upstream = self.nodes[position], adjoints[position + 1]
            if upstream is None:
                continue
            arguments = [values[i] for i in node.inputs]
            for i, part in zip(node.inputs, node.operator.pullback(upstream, *arguments), strict=True):
                present = adjoints[i]
                adjoints[i] = part if present is None else present + part
        return np.zeros_like(x) if adjoints[0] is None else adjoints[0]

    def enclose(self, x: Ball, precision: Precision) -> Ball:
        """Ball around the exact output and every output computed in `precision`, for each input in x."""
        return self.fold(x, lambda node, args: node.operator.enclose(precision, *args))[-1]

    def append(self, operator: Operator, name: str = "", note: str | None = None) -> Graph:
        """The graph followed by one more operator on its output."""
        node = Node(operator, (len(self.nodes),), name)
        return replace(self, nodes=(*self.nodes, node), notes=self.notes + ((note,) if note else ()))

    @cached_property
    def digest(self) -> str:
        """sha256 over structure and parameters; equal digests mean the same network entry by entry."""
        state = sha256(repr(self.input_shape).encode())
        for node in self.nodes:
            state.update(repr(node.inputs).encode())
            _absorb(state, node.operator)
        return state.hexdigest()


def _absorb(state: Any, item: object) -> None:
    if isinstance(item, Ball):
        _absorb(state, item.mid)
        _absorb(state, item.rad)
    elif isinstance(item, np.ndarray | np.generic):  # bytes, as a repr depends on the release of numpy
        array = np.asarray(item)
        state.update(repr((array.dtype.str, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    elif isinstance(item, Operator):
        state.update(type(item).__name__.encode())
        for key in sorted(item.__dataclass_fields__):
            state.update(key.encode())
            _absorb(state, getattr(item, key))
    else:
        state.update(repr(item).encode())
