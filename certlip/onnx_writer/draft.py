"""An ONNX graph under construction: nodes, stored weights, and how the values of a Graph lie in its tensors.

A Graph has no batch. In a model whose input begins with an axis of one entry, that axis is the batch, and the tensor of
a value of shape (1, *rest) has the shape (N, *rest); a value that does not begin with such an axis, say one that was
flattened completely, gets one: (N, *shape). In all other models tensors have the shapes of the values. So operators
are written for the axes after the batch, here called `rest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from certlip.errors import ModelError
from certlip.graph.kinds import Shape
from certlip.rigor.rounding import Array


class Tensor(NamedTuple):
    """A tensor of the file by name, with its axes after the batch."""

    name: str
    rest: Shape


class Draft:
    """kind: element type of all weights and values. batched: see the module's docstring. taken: names in use."""

    def __init__(self, opset: int, kind: int, batched: bool, taken: Iterable[str]):
        self.opset, self.kind, self.batched = opset, kind, batched
        self.dtype = helper.tensor_dtype_to_np_dtype(kind)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._taken = set(taken)

    def rest(self, shape: Shape) -> Shape:
        """The axes after the batch of a value of this shape."""
        return shape[1:] if self.batched and shape[:1] == (1,) else shape

    @property
    def first(self) -> int:
        """The number of the first axis after the batch."""
        return int(self.batched)

    def fresh(self, name: str) -> str:
        """A name that nothing has yet."""
        free, count = name, 1
        while free in self._taken or not free:
            count += 1
            free = f"{name}_{count}" if name else f"value{count - 1}"
        self._taken.add(free)
        return free

    def weight(self, name: str, array: Array, infinite: bool = False) -> str:
        """Store numbers, rounded to the element type; ModelError where one does not fit it, unless `infinite`."""
        with np.errstate(over="ignore"):
            stored = np.asarray(array).astype(self.dtype)
        if not infinite and not np.isfinite(stored.astype(np.float64)).all():
            raise ModelError(f"a weight of '{name}' does not fit the model's element type; rescale the network")
        return self._store(name, stored)

    def integers(self, name: str, array: Any) -> str:
        return self._store(name, np.asarray(array, dtype=np.int64))

    def _store(self, name: str, array: np.ndarray) -> str:
        name = self.fresh(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node named after its result; returns that name."""
        name = self.fresh(name)
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def rename(self, tensor: str, name: str) -> None:
        """Give the last value its final name; what no node here made is copied."""
        made = next((node for node in self.nodes if tensor in node.output), None)
        if made is None or any(tensor in node.input for node in self.nodes):
            self.nodes.append(helper.make_node("Identity", [tensor], [name], name=self.fresh("output.copy")))
            return
        made.output[0] = made.name = name

    def reshaped(self, tensor: Tensor, rest: Shape, name: str) -> Tensor:
        """The tensor with other axes after the batch, entries in their order."""
        if tensor.rest == rest:
            return tensor
        if self.batched and len(rest) == 1 and len(tensor.rest) > 1:
            return Tensor(self.node("Flatten", name, tensor.name, axis=1), rest)
        target = self.integers(f"{name}.shape", (0,) * self.first + rest)  # 0: the batch stays as it is
        return Tensor(self.node("Reshape", name, tensor.name, target), rest)

    def compact(self, array: Array, shape: Shape) -> Array:
        """Numbers that broadcast to a value's shape, as ones that broadcast to its tensor, with no entry twice."""
        array = np.asarray(array)
        lifted = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
        for axis in range(lifted.ndim):
            if lifted.shape[axis] > 1 and (lifted == lifted.take([0], axis)).all():
                lifted = lifted.take([0], axis)
        while lifted.ndim and lifted.shape[0] == 1:
            lifted = lifted[0]
        return lifted

    def affine(self, tensor: str, name: str, factor: Array, shift: Array, shape: Shape) -> str:
        """factor * tensor + shift, of the value's shape, without the operations that would change nothing."""
        if (factor != 1.0).any():
            stored = self.weight(f"{name}.factor", self.compact(factor, shape))
            tensor = self.node("Mul", f"{name}.scaled" if shift.any() else name, tensor, stored)
        if shift.any():
            tensor = self.node("Add", name, tensor, self.weight(f"{name}.bias", self.compact(shift, shape)))
        return tensor

    def pad(self, tensor: str, name: str, before: Sequence[int], after: Sequence[int], fill: float = 0.0) -> str:
        """More entries around the tensor, fewer where an amount is negative; one amount per axis after the batch."""
        amounts = [*(0,) * self.first, *before, *(0,) * self.first, *after]
        if self.opset < 11:
            return self.node("Pad", name, tensor, mode="constant", pads=amounts, value=fill)
        inputs = [self.integers(f"{name}.pads", amounts)]
        if fill:
            inputs.append(self.weight(f"{name}.fill", np.asarray(fill)))
        return self.node("Pad", name, tensor, *inputs, mode="constant")

    def largest(self, tensor: Tensor, name: str) -> Tensor:
        """Maxima over the last axis."""
        axis = self.first + len(tensor.rest) - 1
        if self.opset < 18:
            made = self.node("ReduceMax", name, tensor.name, axes=[axis], keepdims=0)
        else:
            made = self.node("ReduceMax", name, tensor.name, self.integers(f"{name}.axes", [axis]), keepdims=0)
        return Tensor(made, tensor.rest[:-1])

    def flat(self, tensor: Tensor, name: str) -> Tensor:
        return self.reshaped(tensor, (prod(tensor.rest),), name)


@dataclass(frozen=True)
class Step:
    """One node to write. shapes: of its inputs as values of the graph; weights: names for its weight and bias."""

    draft: Draft
    operator: Any
    tensors: Sequence[Tensor]
    shapes: Sequence[Shape]
    name: str
    weights: tuple[str, str]

    @property
    def tensor(self) -> Tensor:
        """The first input."""
        return self.tensors[0]

    def result(self, tensor: str, rest: Shape, shape: Shape) -> Tensor:
        """The value of this shape, from a tensor that may have other axes after the batch."""
        return self.draft.reshaped(Tensor(tensor, rest), self.draft.rest(shape), f"{self.name}.shaped")
