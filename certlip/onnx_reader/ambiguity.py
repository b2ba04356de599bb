"""Files that say something twice. Readers then choose, and not all of them the same: such a file has no one meaning.

A claim about it would be about the network that certlip reads, while a runtime computes another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import onnx

from certlip.errors import ModelError

Name = TypeVar("Name")


def require_one_meaning(model: onnx.ModelProto) -> None:
    """Raises ModelError for a model without local functions in which anything is defined twice.

    Operator sets: a runtime may take the last one given or the newest. Sparse weights: they may replace dense ones of
    the same name. The value of a Constant: any of its attributes may win.
    """
    graph = model.graph
    if len({entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}) > 1:
        raise ModelError("the model names two versions of the standard operator set; export it again")
    if graph.sparse_initializer:
        raise ModelError("the model has sparse weights; export it with dense ones")
    stored = [tensor.name for tensor in graph.initializer]
    fed = [entry.name for entry in graph.input if entry.name not in set(stored)]  # old files list weights there too
    for name in _repeated([*stored, *fed, *(name for node in graph.node for name in node.output if name)]):
        raise ModelError(f"the value '{name}' is defined twice; the file is malformed, export it again")
    for node in graph.node:
        for name in _repeated(attribute.name for attribute in node.attribute):
            raise ModelError(f"node '{node.name}' has the attribute '{name}' twice; export the model again")
        if node.op_type == "Constant" and len(node.attribute) != 1:
            raise ModelError(f"the constant '{node.name}' does not have one value; export the model again")


def _repeated(names: Iterable[Name]) -> Iterator[Name]:
    seen: set[Name] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
