"""A last softmax or arg max turns logits into a decision. Claims are about the logits, so it is left out, and said.

That is right only where the decision compares *all* outputs with each other, along an axis that holds every entry
(`compares_all`). A softmax over another axis or over groups decides something else: such a model is refused.
"""

from __future__ import annotations

from math import prod

import onnx

from certlip.graph.kinds import Shape

_SOFT = {"Softmax", "LogSoftmax", "Hardmax"}  # these keep the order of what they compare
NESTED = "several softmaxes in a row are left out: executions may no longer tell classes apart after them"
_REARRANGEMENTS = {"Identity", "Squeeze", "Unsqueeze", "Flatten", "Reshape"}
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}


def strip_decision(nodes: list[onnx.NodeProto], target: str) -> tuple[str, list[onnx.NodeProto], list[str]]:
    """Name of the value to certify, the decisions left out (the last one first), and notes.

    The result of the last decision may be rearranged, the index of an arg max also cast. Before it only softmaxes of
    the same shape may stand, so that the shape of the logits tells what each of them compares.
    """
    producers = {name: node for node in nodes for name in node.output}
    decisions: list[onnx.NodeProto] = []
    notes: list[str] = []
    name, is_cast = target, False
    for _ in nodes:  # each step goes up by one node; a cycle ends here too
        node = producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            break
        if (node.op_type in _SOFT and not is_cast) or (node.op_type == "ArgMax" and not decisions):
            target, is_cast = node.input[0], False
            decisions.append(node)
            notes.append(f"the final {node.op_type} is left out: claims are about the logits '{target}'")
        elif node.op_type == "Cast":
            is_cast = is_cast or _attribute(node, "to", 0) not in _FLOATS
        elif node.op_type not in ({"Identity"} if decisions else _REARRANGEMENTS):
            break
        name = node.input[0]
    if sum(node.op_type in ("Softmax", "LogSoftmax") for node in decisions) > 1:  # each brings scores closer together
        notes.append(NESTED)
    return target, decisions, notes


def compares_all(decision: onnx.NodeProto, shape: Shape, opset: int) -> bool:
    """True if the decision, applied to logits of this shape, compares every entry with every other."""
    size = prod(shape)
    coerces = decision.op_type in _SOFT and opset < 13  # to a matrix: all axes from `axis` on are compared
    default = 1 if coerces else 0 if decision.op_type == "ArgMax" else -1
    axis = _attribute(decision, "axis", default)
    if size < 2 or not -len(shape) <= axis < len(shape):
        return False
    return prod(shape[axis:]) == size if coerces else shape[axis] == size


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
