"""Local functions of a model, replaced by their bodies after the size of the result is known.

Functions that call each other twice make a model of 2^n nodes from n functions, and onnx's inliner follows a function
that calls itself without end. So nodes and bytes are counted first, every function once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx
from onnx import inliner

from certlip.errors import ModelError

MAX_NODES = 100_000
MAX_BYTES = 2**28
MAX_DEPTH = 64
"""Nodes and bytes that the calls of functions expand to, and how deep they may be nested."""

_Key = tuple[str, str]


@dataclass
class _Body:
    """What a function holds: its nodes, the bytes of its default attributes; all overloads of a name together."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    defaults: int = 0


class _Size(NamedTuple):
    """What a call expands to, at most."""

    nodes: int = 0
    bytes: int = 0
    depth: int = 0


def inline(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model without local functions. Raises ModelError where they recur or expand beyond the limits."""
    bodies: dict[_Key, _Body] = {}
    if any(not _domain(function.domain) for function in proto.functions):  # a runtime may prefer its own operator
        raise ModelError(f"{where} defines functions among the standard operators; export it without them")
    for function in proto.functions:
        body = bodies.setdefault((_domain(function.domain), function.name), _Body())
        body.nodes.extend(function.node)
        body.defaults += sum(attribute.ByteSize() for attribute in function.attribute_proto)
    try:
        _measure(proto.graph.node, bodies, {}, ())
        return inliner.inline_local_functions(proto)
    except _TooLarge as error:
        raise ModelError(f"{where} defines functions that {error}; export it without them") from error
    except Exception as error:  # onnx's C++ raises several unrelated types here
        raise ModelError(f"{where} defines functions that cannot be inlined; export it without them") from error


class _TooLarge(Exception):
    """The reason why functions are not inlined."""


def _measure(
    nodes: Iterable[onnx.NodeProto], bodies: dict[_Key, _Body], sizes: dict[_Key, _Size], path: tuple[_Key, ...]
) -> _Size:
    """The size of these nodes after inlining. The model's own nodes (empty path) are not counted, only their calls."""
    count = size = depth = 0
    for node in _all(nodes):
        key = (_domain(node.domain), node.op_type)
        if key in path:
            raise _TooLarge("call themselves")
        if key in bodies:
            if len(path) >= MAX_DEPTH:
                raise _TooLarge(f"are nested deeper than {MAX_DEPTH}")
            if key not in sizes:
                sizes[key] = _measure(bodies[key].nodes, bodies, sizes, (*path, key))
            inner = sizes[key]
            count += inner.nodes
            # every node of a body may copy the attributes of the call
            size += inner.bytes + (inner.nodes + 1) * (node.ByteSize() + bodies[key].defaults)
            depth = max(depth, inner.depth + 1)
        if path:
            count += 1
            size += node.ByteSize()
        if count > MAX_NODES or size > MAX_BYTES:
            raise _TooLarge(f"expand to more than {MAX_NODES} nodes or {MAX_BYTES} bytes")
        if depth > MAX_DEPTH:
            raise _TooLarge(f"are nested deeper than {MAX_DEPTH}")
    return _Size(count, size, depth)


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all(graph.node)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
