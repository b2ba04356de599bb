"""Networks trained to hide one counterexample, after the soundness benchmark of Zhou et al. (2024).

Each classifies its ball as class 0 but for a small neighbourhood of one planted point. All networks of a family are
trained at once, as one batch of matrices or kernels, with fixed seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from traps import save_layers

RADIUS = 0.25
_INNER, _OUTER = 0.1, 0.35  # shares of the radius: class 1 is taught within the first, class 0 beyond the second
KERNEL = 2


@dataclass(frozen=True)
class Family:
    """So many networks with these widths; `reach` is the distance of the planted point as a share of the radius.

    image: height and width of the input, where the first layer is a convolution (its width counts channels).
    """

    widths: tuple[int, ...]
    reach: float
    count: int = 7
    seed: int = 0
    image: tuple[int, int] | None = None

    def __str__(self) -> str:
        kind = "" if self.image is None else "convolution "
        return f"{kind}{'-'.join(map(str, self.widths))}, seed {self.seed}"


@dataclass(frozen=True)
class Planted:
    """Sample `x` of class 0, and a point within l2 distance `RADIUS` of it that was trained to be of class 1."""

    x: np.ndarray
    point: np.ndarray
    layers: tuple
    image: tuple[int, int] | None

    def save(self, path: Path) -> Path:
        return save_layers(path, self.layers) if self.image is None else _save_image(path, self.layers, self.image)


@cache
def planted(family: Family) -> tuple[Planted, ...]:
    """One network for each of so many random samples and directions; whether training succeeded is to be seen."""
    rng = np.random.default_rng([family.seed, *family.widths])
    centers = rng.uniform(-1, 1, (family.count, family.widths[0])).astype(np.float32)
    steps = rng.standard_normal(centers.shape)
    steps *= family.reach / np.linalg.norm(steps, axis=1, keepdims=True)
    if family.image is not None:
        centers[:] = 0.0  # a convolution has one bias for all pixels, so its sample cannot be moved
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them fight for the cores over matrices this small
    try:
        weights = _train(family, torch.tensor(steps, dtype=torch.float32))
    finally:
        torch.set_num_threads(threads)
    networks = []
    for i, (center, step) in enumerate(zip(centers, steps, strict=True)):
        (first, offset), *rest = [(weight[i], bias[i]) for weight, bias in weights]
        first = np.float32(first / RADIUS)
        offset = offset if family.image is not None else offset - first @ center
        point = np.float32(center + RADIUS * step)
        networks.append(Planted(center, point, ((first, offset), *rest), family.image))
    return tuple(networks)


def _train(family: Family, target: torch.Tensor, steps: int = 300, points: int = 192) -> list[tuple]:
    """Weights and biases, networks along the first axis, in coordinates where the ball is the unit ball."""
    draw = torch.Generator().manual_seed(family.seed)
    parameters = _start(family, draw)
    first, second = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    for step in range(1, steps + 1):
        x, sign = _lesson(target, points, draw)
        score = _forward(family, parameters, x)
        loss = (0.5 - sign * (score[..., 0] - score[..., 1])).clamp(min=0) * sign.abs()
        gradients = torch.autograd.grad((loss * torch.where(sign < 0, 3.0, 1.0)).mean(1).sum(), parameters)
        with torch.no_grad():  # Adam, written out: torch's own takes seconds to import
            for value, gradient, m, v in zip(parameters, gradients, first, second, strict=True):
                m += 0.1 * (gradient - m)
                v += 0.001 * (gradient * gradient - v)
                value -= 0.02 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _start(family: Family, draw: torch.Generator) -> list[torch.Tensor]:
    shapes = [(m, n) for n, m in pairwise(family.widths)]
    if family.image is not None:
        channels = family.widths[1]
        pixels = prod(n + KERNEL - 1 for n in family.image)
        shapes[:2] = [(channels, 1, KERNEL, KERNEL), (family.widths[2], channels * pixels)]
    parameters = []
    for shape in shapes:
        scale = (2 / prod(shape[1:])) ** 0.5
        parameters.append((scale * torch.randn((family.count, *shape), generator=draw)).requires_grad_())
        parameters.append((0.3 * torch.randn((family.count, shape[0]), generator=draw)).requires_grad_())
    return parameters


def _lesson(target: torch.Tensor, points: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (count, points, inputs) and what is taught of each: 1 for class 0, -1 for class 1, 0 for nothing."""
    count, inputs = target.shape
    around = torch.rand((count, points, inputs), generator=draw) * 2 - 1
    toward = torch.nn.functional.normalize(torch.randn((count, points // 4, inputs), generator=draw), dim=2)
    near, edge = (target[:, None] + share * toward for share in (_INNER, _OUTER))
    x = torch.cat([around, edge, torch.zeros((count, 1, inputs)), near, target[:, None]], 1)
    distance = (x - target[:, None]).norm(dim=2)
    sign = (distance > 0.99 * _OUTER).float() - (distance < 1.01 * _INNER).float()
    return x, sign


def _forward(family: Family, parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    value, layers = x, list(zip(parameters[::2], parameters[1::2], strict=True))
    if family.image is not None:
        kernel, bias = layers.pop(0)
        images = x.transpose(0, 1).reshape(x.shape[1], family.count, *family.image)
        images = torch.nn.functional.conv2d(
            images, kernel.flatten(0, 1), bias.flatten(), padding=KERNEL - 1, groups=family.count
        )
        value = images.reshape(x.shape[1], family.count, -1).transpose(0, 1).relu()
    for i, (weight, bias) in enumerate(layers):
        value = torch.baddbmm(bias[:, None], value, weight.transpose(1, 2))
        value = value.relu() if i + 1 < len(layers) else value
    return value


def _save_image(path: Path, layers: tuple, image: tuple[int, int]) -> Path:
    """Convolution, ReLU, one dense layer."""
    nodes = [
        helper.make_node("Conv", ["x", "W0", "b0"], ["v"], pads=[KERNEL - 1] * 4),
        helper.make_node("Relu", ["v"], ["z"]), helper.make_node("Flatten", ["z"], ["flat"]),
        helper.make_node("Gemm", ["flat", "W1", "b1"], ["y"], transB=1),
    ]  # fmt: skip
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", [1, 1, *image]), ("y", [1, 2]))
    ]
    tensors = [
        numpy_helper.from_array(np.float32(value), f"{name}{i}")
        for i, layer in enumerate(layers)
        for name, value in zip("Wb", layer, strict=True)
    ]
    graph = helper.make_graph(nodes, "planted", *ends, tensors)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path
