"""What a written file keeps of the original: its interface, its operator set, its decision, its names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from certlip.errors import ModelError
from certlip.onnx_reader import ModelFile, parse, read_file
from certlip.onnx_reader.reader import Ends, choose_ends, needed, opset_of

if TYPE_CHECKING:
    from certlip.importers.model import Model

_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}


@dataclass(frozen=True, eq=False)
class Template:
    """The original file and its ends. tail: the nodes from the certified value to the output; stored: their weights."""

    proto: onnx.ModelProto
    ends: Ends
    opset: int
    tail: tuple[onnx.NodeProto, ...]
    stored: tuple[onnx.TensorProto, ...]

    @staticmethod
    def of(model: Model) -> Template:
        """Read the model's file again; ModelError where it is not the one that was loaded."""
        file = _file(model)
        if file.sha256 != model.sha256:
            raise ModelError(f"the file of {model.name} has changed since it was loaded; load it again")
        proto = file.proto
        ends = choose_ends(proto, model.input_name, model.output_name)
        tail = _tail(proto, ends)
        read = {name for node in tail for name in node.input}
        stored = tuple(tensor for tensor in proto.graph.initializer if tensor.name in read)
        return Template(proto, ends, opset_of(proto), tail, stored)

    @property
    def output(self) -> onnx.ValueInfoProto:
        return next(entry for entry in self.proto.graph.output if entry.name == self.ends.output)

    def kind(self) -> int:
        """The element type of the certified value, as far as the file tells: weights are stored in it."""
        if self.ends.certified == self.ends.output:
            declared = self.output.type.tensor_type.elem_type
            if declared in _FLOATS:
                return declared
        try:
            inferred = onnx.shape_inference.infer_shapes(self.proto)
        except Exception:  # C++ errors of several types, for files that runtimes run all the same
            inferred = self.proto
        for entry in (*inferred.graph.value_info, *inferred.graph.output):
            if entry.name == self.ends.certified and entry.type.tensor_type.elem_type in _FLOATS:
                return entry.type.tensor_type.elem_type
        return self.ends.source.type.tensor_type.elem_type

    def taken(self) -> set[str]:
        """Names that the kept parts use."""
        names = {self.ends.source.name, self.ends.output, self.ends.certified}
        for node in self.tail:
            names.update((*node.input, *node.output, node.name))
        return names

    def weight_names(self) -> dict[str, tuple[str, str]]:
        """What the file calls the weight and the bias of each of its named dense and convolution nodes."""
        stored = {tensor.name for tensor in self.proto.graph.initializer}
        names = {}
        for node in self.proto.graph.node:
            if node.op_type in ("Gemm", "MatMul", "Conv", "ConvTranspose") and node.name:
                weights = [name for name in node.input[1:] if name in stored]
                if weights:
                    names[node.name] = (weights[0], weights[1] if len(weights) > 1 else f"{node.name}.bias")
        return names


def _file(model: Model) -> ModelFile:
    if model.onnx_bytes is not None:
        return parse(model.onnx_bytes)
    if model.path is None:
        raise ModelError(f"{model.name} has no ONNX file to take the interface from; load it from its path")
    return read_file(model.path)


def _tail(proto: onnx.ModelProto, ends: Ends) -> tuple[onnx.NodeProto, ...]:
    """The nodes that make the output from the certified value, in the file's order."""
    nodes = list(proto.graph.node)
    cut = [node for node in nodes if ends.certified not in node.output]
    tail = needed(cut, ends.output) if ends.certified != ends.output else []
    depends = {ends.source.name}
    for node in tail:
        if depends.intersection(node.input) and node.op_type != "Shape":
            raise ModelError(
                f"the decision of the model reads its input at node '{node.name}', besides the logits "
                f"'{ends.certified}'; end the model in its logits"
            )
    return tuple(tail)
