"""Whether a property is about what certlip certifies of a model."""

from __future__ import annotations

from certlip.errors import UsageError
from certlip.importers import Model
from certlip.properties.fit import require_order_only
from certlip.properties.property import Property
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
    require_order_only(property, [node.op_type for node in ends.decisions], name)
