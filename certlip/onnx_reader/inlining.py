"""Local functions of a model, replaced by their bodies after the size of the result is known.

Functions that call each other twice make a model of 2^n nodes from n functions, and onnx's inliner follows a function
that calls itself without end. So nodes and bytes are counted first, every function once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from certlip.errors import ModelError

MAX_NODES = 100_000
MAX_BYTES = 2**28
MAX_DEPTH = 64
"""Nodes and bytes that the calls of functions expand to, and how deep they may be nested."""

_Key = tuple[str, str]
_Size = tuple[int, int]


def inline(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model without local functions. Raises ModelError where they recur or expand beyond the limits."""
    bodies: dict[_Key, list[onnx.NodeProto]] = {}
    for function in proto.functions:  # overloads count together: more than the inliner makes, never less
        bodies.setdefault((_domain(function.domain), function.name), []).extend(function.node)
    sizes: dict[_Key, _Size] = {}
    _expanded(proto.graph.node, bodies, sizes, (), where)
    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # onnx's C++ raises several unrelated types here
        raise ModelError(f"{where} defines functions that cannot be inlined; export it without them") from error


def _expanded(
    nodes: Iterable[onnx.NodeProto],
    bodies: dict[_Key, list[onnx.NodeProto]],
    sizes: dict[_Key, _Size],
    path: tuple[_Key, ...],
    where: str,
) -> _Size:
    """Nodes and bytes after inlining, at least; what no function brings into the model is not counted."""
    count = size = 0
    for node in _all(nodes):
        key = (_domain(node.domain), node.op_type)
        if key in bodies:
            if key in path:
                raise ModelError(f"{where} defines the function '{key[1]}' by itself; export it without functions")
            if len(path) >= MAX_DEPTH:
                raise ModelError(f"{where} nests functions deeper than {MAX_DEPTH}; export it without functions")
            if key not in sizes:
                sizes[key] = _expanded(bodies[key], bodies, sizes, (*path, key), where)
            inner, held = sizes[key]
            count += inner
            size += held + (inner + 1) * node.ByteSize()  # a node of the body may copy an attribute of the call
        if path:
            count += 1
            size += node.ByteSize()
        if count > MAX_NODES or size > MAX_BYTES:
            raise ModelError(
                f"{where} defines functions that expand to more than {MAX_NODES} nodes or {MAX_BYTES} bytes; "
                "export it without them"
            )
    return count, size


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all(graph.node)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
