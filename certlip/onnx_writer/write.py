"""Graph to ONNX bytes with the interface of the model that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from certlip.errors import ModelError
from certlip.graph import Graph
from certlip.onnx_writer.draft import Draft, Step, Tensor
from certlip.onnx_writer.operators import oldest_operator_set, write_step
from certlip.onnx_writer.template import Template
from certlip.version import __version__

if TYPE_CHECKING:
    from certlip.importers.model import Model

_OLDEST_IR = 4  # before it, initializers had to be inputs as well


def write(graph: Graph, model: Model) -> bytes:
    """A plain ONNX file of `graph` behind the interface of `model`: names, shapes, element type, open or fixed batch.

    graph: of the model's input and output shape, as `model.graph` or its normal form with other weights. The weights
    are the centres of its balls, rounded to the element type in which the model computes its logits, so a claim about
    `graph` is none about the file: load what is written and certify that. A decision (softmax, arg max) that reading
    left out is put back. Every operator is one of ONNX's own, in the operator set of the original.

    Raises ModelError with the reason where the graph has another interface, an operator is unknown, a weight does not
    fit the element type, or the model's file is no longer the one that was loaded.
    """
    if (graph.input_shape, graph.output_shape) != (model.graph.input_shape, model.graph.output_shape):
        raise ModelError(
            f"a network from {graph.input_shape} to {graph.output_shape} cannot replace one from "
            f"{model.graph.input_shape} to {model.graph.output_shape}; keep the shapes"
        )
    template = Template.of(model)
    opset = max(template.opset, oldest_operator_set(graph.nodes))
    if opset > template.opset and template.tail:
        raise ModelError(
            f"the network needs operator set {opset}, which gives the model's decision another meaning than "
            f"{template.opset}; export the model with operator set {opset}"
        )
    draft = Draft(opset, template.kind(), graph.input_shape[:1] == (1,), template.taken())
    _write_body(draft, graph, template)
    return _serialised(_model(draft, template))


def _write_body(draft: Draft, graph: Graph, template: Template) -> None:
    """All nodes up to the certified value, which gets the name that it has in the original."""
    ends, known = template.ends, template.weight_names()
    x = ends.source.name
    if ends.source.type.tensor_type.elem_type != draft.kind:
        x = draft.node("Cast", f"{x}.converted", x, to=draft.kind)
    tensors = [Tensor(x, draft.rest(graph.input_shape))]
    counts: dict[str, int] = {}
    for node in graph.nodes:
        kind = type(node.operator).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        name = node.name or f"{kind}{counts[kind]}"
        step = Step(
            draft,
            node.operator,
            [tensors[i] for i in node.inputs],
            [graph.shapes[i] for i in node.inputs],
            name,
            known.get(name, (f"{name}.weight", f"{name}.bias")),
        )
        tensors.append(write_step(step))
    result = tensors[-1]
    if draft.rest(graph.output_shape) == graph.output_shape and draft.batched:  # its first axis is no batch
        shape = draft.integers("output.shape", graph.output_shape)
        result = Tensor(draft.node("Reshape", "output.reshaped", result.name, shape), graph.output_shape)
    if ends.certified != ends.source.name:
        draft.rename(result.name, ends.certified)


def _model(draft: Draft, template: Template) -> onnx.ModelProto:
    graph = helper.make_graph(
        [*draft.nodes, *template.tail],
        template.proto.graph.name or "network",
        [template.ends.source],
        [template.output],
        [*draft.initializers, *template.stored],
    )
    before = template.proto
    model = helper.make_model(
        graph,
        producer_name="certlip",
        producer_version=__version__,
        ir_version=max(_OLDEST_IR, before.ir_version),
        opset_imports=[helper.make_opsetid("", draft.opset)],
        domain=before.domain,
        model_version=before.model_version,
        doc_string=before.doc_string,
    )
    model.metadata_props.extend(before.metadata_props)  # class names and the like
    return model


def _serialised(model: onnx.ModelProto) -> bytes:
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf's own limit, of several types
        raise ModelError(f"the network is too large for one ONNX file ({error})") from error
