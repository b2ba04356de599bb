"""The table of the writer: what each operator of a graph becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from certlip.errors import ModelError
from certlip.graph import Node
from certlip.onnx_writer.activations import ACTIVATIONS, GELU_SINCE
from certlip.onnx_writer.affine import AFFINE
from certlip.onnx_writer.draft import Step, Tensor
from certlip.onnx_writer.maxima import write_maxima
from certlip.ops import Add, Concat, MaxPool, TanhGelu


def write_step(step: Step) -> Tensor:
    """The tensor of the node's value; ModelError for an operator that the table lacks."""
    writer = _TABLE.get(type(step.operator))
    if writer is None:
        raise ModelError(
            f"node '{step.name}' cannot be written as ONNX: {type(step.operator).__name__} is none of certlip's own "
            "operators"
        )
    return writer(step)


def oldest_operator_set(nodes: Sequence[Node]) -> int:
    """The operator set from which all of these can be written."""
    return GELU_SINCE if any(isinstance(node.operator, TanhGelu) for node in nodes) else 7


def _add(step: Step) -> Tensor:
    operator = "Add" if len(step.tensors) == 2 else "Sum"
    return Tensor(step.draft.node(operator, step.name, *(x.name for x in step.tensors)), step.tensor.rest)


def _concat(step: Step) -> Tensor:
    draft, axis = step.draft, step.operator.axis
    codomain = step.operator.shape(*step.shapes)
    if axis == 0 and draft.batched:  # the first axis of the values, behind the batch
        parts = [
            draft.reshaped(x, shape, f"{step.name}.part") for x, shape in zip(step.tensors, step.shapes, strict=True)
        ]
        made = draft.node("Concat", step.name, *(x.name for x in parts), axis=1)
        return step.result(made, codomain, codomain)
    place = draft.first + axis - (len(codomain) - len(draft.rest(codomain)))
    made = draft.node("Concat", step.name, *(x.name for x in step.tensors), axis=place)
    return Tensor(made, draft.rest(codomain))


def _max_pool(step: Step) -> Tensor:
    return write_maxima(step.draft, step.operator, step.tensor, step.name)


_TABLE: dict[type, Callable[[Step], Tensor]] = {**AFFINE, **ACTIVATIONS, Add: _add, Concat: _concat, MaxPool: _max_pool}
