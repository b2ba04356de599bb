"""A last softmax or arg max turns logits into a decision. Claims are about the logits, so it is left out, and said."""

from __future__ import annotations

import onnx

_DECISIONS = {"Softmax", "LogSoftmax", "ArgMax", "Hardmax"}
_PASS_THROUGH = {"Identity", "Cast", "Squeeze", "Flatten", "Reshape"}


def strip_decision(nodes: list[onnx.NodeProto], target: str) -> tuple[str, list[str]]:
    """Name of the value to certify and notes. Softmax, LogSoftmax and arg max keep the order of the logits."""
    producers = {name: node for node in nodes for name in node.output}
    notes: list[str] = []
    name = target
    while name in producers:
        node = producers[name]
        if node.op_type in _DECISIONS:
            target = name = node.input[0]
            notes.append(f"the final {node.op_type} is left out: claims are about the logits '{target}'")
        elif node.op_type in _PASS_THROUGH:
            name = node.input[0]
        else:
            break
    return target, notes
