"""Writing plain ONNX: a small builder over `onnx.helper` for one input, one output and float32 weights."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 17
IR_VERSION = 8


class GraphWriter:
    """Collects nodes and initializers; every node writes one tensor that carries the node's name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Tensor | NDArray[Any]) -> str:
        """Store `value`, rounded to float32, as the initializer `name`; return `name`."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        stored = np.ascontiguousarray(array, dtype=np.float32)
        self._initializers.append(numpy_helper.from_array(stored, name))
        return name

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; return the name of its output, which is the node's own name."""
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def dense(self, name: str, x: str, weight: Tensor, bias: Tensor) -> str:
        """Append `x -> x W' + b` as a Gemm with the (out, in) weight stored as it is."""
        return self.node("Gemm", name, x, self.constant(f"{name}.weight", weight),
                         self.constant(f"{name}.bias", bias), transB=1)

    def residual(self, name: str, x: str, up: Tensor, bias: Tensor, down: Tensor) -> str:
        """Append `x -> x + down relu(up x + bias)` as Gemm, Relu, MatMul and Add."""
        h = self.node("Relu", f"{name}.relu", self.dense(f"{name}.up", x, up, bias))
        h = self.node("MatMul", f"{name}.down", h, self.constant(f"{name}.down.weight", down.T))
        return self.node("Add", f"{name}.sum", x, h)

    def model(self, name: str, shape: tuple[int, ...], output: str, width: int) -> onnx.ModelProto:
        """The checked model: `input` of shape (batch, *shape), `output` of shape (batch, width)."""
        graph = helper.make_graph(
            self._nodes, name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
            self._initializers)
        model = helper.make_model(graph, producer_name="certlip", ir_version=IR_VERSION,
                                  opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model, full_check=True)
        return model
