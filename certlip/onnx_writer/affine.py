"""How affine operators are written: Gemm or MatMul, Mul and Add, Conv, ConvTranspose, movements of entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from certlip.errors import ModelError
from certlip.graph.kinds import Shape
from certlip.onnx_writer.draft import Step, Tensor
from certlip.onnx_writer.rearrange import rearrange
from certlip.ops import Conv, ConvTranspose, Dense, Reindex, Scale
from certlip.rigor.rounding import Array


def _dense(step: Step) -> Tensor:
    draft, operator = step.draft, step.operator
    lead = draft.rest(operator.lead)
    outputs, inputs = operator.weight.shape
    x = draft.reshaped(step.tensor, (*lead, inputs), f"{step.name}.rows")
    weight, bias = operator.weight.mid, operator.bias.mid
    shift = draft.compact(bias, operator.codomain)
    rank = draft.first + len(lead) + 1
    if rank == 2 and shift.ndim <= 1 and shift.any():
        stored = draft.weight(step.weights[0], weight), draft.weight(step.weights[1], np.broadcast_to(shift, outputs))
        made = draft.node("Gemm", step.name, x.name, *stored, transB=1)
        return step.result(made, (*lead, outputs), operator.codomain)
    biased = bool(shift.any())
    label = f"{step.name}.product" if biased else step.name
    made = draft.node("MatMul", label, x.name, draft.weight(step.weights[0], weight.T))
    if biased:
        made = draft.node("Add", step.name, made, draft.weight(step.weights[1], shift))
    return step.result(made, (*lead, outputs), operator.codomain)


def _scale(step: Step) -> Tensor:
    operator = step.operator
    made = step.draft.affine(step.tensor.name, step.name, operator.weight.mid, operator.bias.mid, operator.size)
    return Tensor(made, step.tensor.rest)


def _per_channel(bias: Array, codomain: Shape) -> Array | None:
    """One number per channel of (1, channels, *space), where that is all there is."""
    lifted = np.broadcast_to(bias, codomain)[0]
    flat = lifted.reshape(codomain[1], -1)
    return flat[:, 0] if (flat == flat[:, :1]).all() else None


def _convolve(step: Step, operator: str, x: str, codomain: Shape, **attributes: Any) -> Tensor:
    """The convolution or its transpose with its bias, which may differ from pixel to pixel."""
    draft, bias = step.draft, step.operator.bias.mid
    channels = _per_channel(bias, codomain)
    inputs = [draft.weight(step.weights[0], step.operator.weight.mid)]
    if channels is not None and channels.any():
        inputs.append(draft.weight(step.weights[1], channels))
    label = step.name if channels is not None else f"{step.name}.product"
    made = draft.node(operator, label, x, *inputs, **attributes)
    if channels is None:
        made = draft.node("Add", step.name, made, draft.weight(step.weights[1], draft.compact(bias, codomain)))
    return Tensor(made, draft.rest(codomain))


def _geometry(conv: Conv) -> dict[str, Any]:
    attributes: dict[str, Any] = {"kernel_shape": conv.window, "strides": conv.strides}
    if max(conv.dilations) > 1:
        attributes["dilations"] = conv.dilations
    if conv.groups > 1:
        attributes["group"] = conv.groups
    return attributes


def _conv(step: Step) -> Tensor:
    draft, conv = step.draft, step.operator
    x = step.tensor.name
    before, after = zip(*conv.pads, strict=True)
    if min((*before, *after)) < 0:  # ONNX crops nowhere but in Pad
        axes = len(draft.rest(conv.domain)) - len(before)
        x = draft.pad(x, f"{step.name}.cropped", [0] * axes + list(before), [0] * axes + list(after))
        before = after = (0,) * len(before)
    return _convolve(step, "Conv", x, conv.codomain, pads=before + after, **_geometry(conv))


def _conv_transpose(step: Step) -> Tensor:
    conv = step.operator.conv
    pads = zip(*conv.pads, strict=True)
    extra = [
        n + sum(pad) - (s * (o - 1) + d * (k - 1) + 1)
        for n, pad, s, o, d, k in zip(
            conv.size[1:], conv.pads, conv.strides, conv.space, conv.dilations, conv.window, strict=True
        )
    ]
    before, after = pads
    if min((*before, *after)) < 0:
        raise ModelError(f"node '{step.name}' cannot be written as ONNX: a transposed convolution with negative pads")
    attributes = _geometry(conv) | {"pads": before + after} | ({"output_padding": extra} if any(extra) else {})
    return _convolve(step, "ConvTranspose", step.tensor.name, step.operator.codomain, **attributes)


def _reindex(step: Step) -> Tensor:
    operator, draft = step.operator, step.draft
    rest = draft.rest(operator.codomain)
    bias = np.broadcast_to(operator.bias.mid, operator.codomain).reshape(rest)
    index = operator.index.reshape(rest)
    fills = np.unique(bias[index < 0])
    if len(fills) == 1 and not bias[index >= 0].any():
        return rearrange(draft, step.tensor, index, step.name, float(fills[0]))
    moved = rearrange(draft, step.tensor, index, step.name)
    return Tensor(draft.affine(moved.name, f"{step.name}.shifted", np.ones(()), bias, rest), rest)


AFFINE: dict[type, Callable[[Step], Tensor]] = {
    Dense: _dense,
    Scale: _scale,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Reindex: _reindex,
}
