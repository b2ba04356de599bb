"""Whether a property is about what certlip certifies of a model."""

from __future__ import annotations

from certlip.errors import UsageError
from certlip.importers import Model
from certlip.properties.property import Halfspace, Property
from certlip.verification.model_file import opened


def require_fit(property: Property, model: Model, name: str) -> None:
    """Raises UsageError where the property has other inputs or outputs than the model, or is about the values of a last
    decision, which certlip leaves out. Only the order of outputs is the same before and after a softmax."""
    graph = model.graph
    if (property.inputs, property.outputs) != (graph.input_size, graph.output_size):
        raise UsageError(
            f"{name} is about {property.inputs} inputs and {property.outputs} outputs, but {model.name} has "
            f"{graph.input_size} and {graph.output_size}; pass the model that it was written for"
        )
    _, ends = opened(model)
    if not ends.decisions:
        return
    keeps_order = all(node.op_type in ("Softmax", "LogSoftmax") for node in ends.decisions)
    if not (keeps_order and all(_is_comparison(half) for case in property.cases for half in case.halfspaces)):
        kinds = ", ".join(node.op_type for node in ends.decisions)
        raise UsageError(
            f"{name} is about the values of {ends.output}, but certlip leaves out the final {kinds} of {model.name} "
            "and states nothing about them; write the property about the scores before it"
        )


def _is_comparison(half: Halfspace) -> bool:
    """Y_i <= Y_j or Y_i < Y_j, which a softmax neither makes true nor false."""
    coefficients = [coefficient for _, coefficient in half.outputs]
    return not half.inputs and half.bound == 0 and len(coefficients) == 2 and sum(coefficients) == 0
