"""The architectures of the model zoo.

Each class states one network three times, side by side: `forward` (torch), `norms` (differentiable upper
estimates of the factors of its Lipschitz constant, used to regularise) and `write` (ONNX).
"""

from abc import ABC, abstractmethod
from itertools import pairwise
from math import ceil, prod
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from models_zoo.export import GraphWriter

ACTIVATIONS = {"Relu": torch.relu, "Tanh": torch.tanh}

M = TypeVar("M", bound=nn.Module)


class Architecture(nn.Module, ABC):
    """A network that can be trained, regularised and written."""

    @abstractmethod
    def norms(self) -> list[Tensor]:
        """Factors whose product bounds the l2 Lipschitz constant, in floating point and without proof."""

    @abstractmethod
    def write(self, graph: GraphWriter, output: str) -> None:
        """Append the inference network to `graph`, from the tensor `input` to the tensor `output`."""

    def norm_product(self) -> Tensor:
        """The product of `norms`."""
        return torch.stack(self.norms()).prod()


def spectral_norm(matrix: Tensor) -> Tensor:
    """The largest singular value, from the smaller Gram matrix."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return torch.linalg.eigvalsh(gram)[-1].clamp_min(0.0).sqrt()


def members(modules: nn.ModuleList, kind: type[M]) -> list[M]:
    """The entries of `modules` as a typed list; a `ModuleList` forgets what it holds."""
    return [module for module in modules if isinstance(module, kind)]


@final
class DenseChain(Architecture):
    """`W_N phi(... phi(W_1 x + b_1)) + b_N`.

    `normalise = (mean, deviation)` is applied first, on images of one channel; `flatten` follows it.
    """

    def __init__(self, widths: tuple[int, ...], activation: str = "Relu", flatten: bool = False,
                 normalise: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in pairwise(widths))
        self.activation = activation
        self.flatten = flatten
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, shape (batch, widths[-1])."""
        if self.normalise is not None:
            x = (x - self.normalise[0]) / self.normalise[1]
        if self.flatten:
            x = x.flatten(1)
        *hidden, last = self.layers
        for layer in hidden:
            x = ACTIVATIONS[self.activation](layer(x))
        output: Tensor = last(x)
        return output

    def norms(self) -> list[Tensor]:
        """The spectral norms, and 1 / deviation."""
        scale = [] if self.normalise is None else [torch.tensor(1.0 / self.normalise[1])]
        return scale + [spectral_norm(layer.weight) for layer in members(self.layers, nn.Linear)]

    def write(self, graph: GraphWriter, output: str) -> None:
        """Sub, Div, Flatten where needed, then Gemm and activation in turn."""
        x = "input"
        if self.normalise is not None:
            mean, deviation = (torch.full((1, 1, 1), value) for value in self.normalise)
            x = graph.node("Sub", "centred", x, graph.constant("mean", mean))
            x = graph.node("Div", "normalised", x, graph.constant("deviation", deviation))
        if self.flatten:
            x = graph.node("Flatten", "flat", x, axis=1)
        *hidden, last = members(self.layers, nn.Linear)
        for i, layer in enumerate(hidden, start=1):
            x = graph.dense(f"dense{i}", x, layer.weight, layer.bias)
            x = graph.node(self.activation, f"{self.activation.lower()}{i}", x)
        graph.dense(output, x, last.weight, last.bias)


@final
class ConvNet(Architecture):
    """Two strided convolutions and a dense layer, for images of shape (1, 28, 28).

    Conv 1-4 (5 x 5, stride 3, padding 2), ReLU, BatchNorm, Conv 4-8 (3 x 3, stride 2), ReLU, dense 128-10.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, stride=3, padding=2)
        self.batch_norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2)
        self.dense = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of images of shape (batch, 1, 28, 28)."""
        x = self.batch_norm(torch.relu(self.conv1(x)))
        logits: Tensor = self.dense(torch.relu(self.conv2(x)).flatten(1))
        return logits

    def norms(self) -> list[Tensor]:
        """Kernels as matrices `K` over patches, the largest gain of the normalisation, the dense layer.

        A pixel lies in at most `ceil(k/s)^2` patches, so `|conv| <= ceil(k/s) |K|`.
        """

        def patch_norm(conv: nn.Conv2d) -> Tensor:
            return spectral_norm(conv.weight.flatten(1)) * ceil(conv.kernel_size[0] / conv.stride[0])

        _, variance = self._statistics()
        gain = (self.batch_norm.weight.abs() / (variance + self.batch_norm.eps).sqrt()).max()
        return [patch_norm(self.conv1), gain, patch_norm(self.conv2), spectral_norm(self.dense.weight)]

    def write(self, graph: GraphWriter, output: str) -> None:
        """Conv, Relu, BatchNormalization (a node of its own), Conv, Relu, Flatten, Gemm."""
        norm = self.batch_norm
        mean, variance = self._statistics()
        x = self._write_conv(graph, "conv1", "input", self.conv1)
        x = graph.node("Relu", "relu1", x)
        parameters = {"scale": norm.weight, "bias": norm.bias, "mean": mean, "variance": variance}
        stored = [graph.constant(f"norm1.{key}", value) for key, value in parameters.items()]
        x = graph.node("BatchNormalization", "norm1", x, *stored, epsilon=norm.eps)
        x = self._write_conv(graph, "conv2", x, self.conv2)
        x = graph.node("Flatten", "flat", graph.node("Relu", "relu2", x), axis=1)
        graph.dense(output, x, self.dense.weight, self.dense.bias)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance, which inference uses."""
        mean, variance = self.batch_norm.running_mean, self.batch_norm.running_var
        if mean is None or variance is None:
            raise RuntimeError("the batch normalisation keeps no running statistics: no inference form")
        return mean, variance

    @staticmethod
    def _write_conv(graph: GraphWriter, name: str, x: str, conv: nn.Conv2d) -> str:
        if conv.bias is None:
            raise RuntimeError(f"{name} has no bias")
        pad = int(conv.padding[0])
        return graph.node("Conv", name, x, graph.constant(f"{name}.weight", conv.weight),
                          graph.constant(f"{name}.bias", conv.bias), kernel_shape=list(conv.kernel_size),
                          strides=list(conv.stride), pads=[pad, pad, pad, pad])


@final
class ResidualNet(Architecture):
    """A linear embedding `n -> width`, blocks `z + W2 relu(W1 z + b1)`, a dense layer to the classes."""

    def __init__(self, inputs: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(blocks))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        z: Tensor = self.embed(x)
        for up, down in self._blocks():
            z = z + down(torch.relu(up(z)))
        logits: Tensor = self.head(z)
        return logits

    def norms(self) -> list[Tensor]:
        """Spectral norms of the ends, and `1 + |W2| |W1|` for each block."""
        blocks = [1.0 + spectral_norm(down.weight) * spectral_norm(up.weight) for up, down in self._blocks()]
        return [spectral_norm(self.embed.weight), *blocks, spectral_norm(self.head.weight)]

    def write(self, graph: GraphWriter, output: str) -> None:
        """Gemm, then Gemm, Relu, MatMul, Add for each block, then Gemm."""
        z = graph.dense("embed", "input", self.embed.weight, self.embed.bias)
        for i, (up, down) in enumerate(self._blocks(), start=1):
            z = graph.residual(f"block{i}", z, up.weight, up.bias, down.weight)
        graph.dense(output, z, self.head.weight, self.head.bias)

    def _blocks(self) -> list[tuple[nn.Linear, nn.Linear]]:
        """The pairs `(W1, W2)`."""
        return list(zip(members(self.up, nn.Linear), members(self.down, nn.Linear), strict=True))


class _Scaled(nn.Module):
    """A weight `W` (outputs x inputs), a bias and `q = exp(log_q)`: the parameters of one 1-Lipschitz layer.

    `T_ii = sum_j |W'W|_ij q_j / q_i`, so that `W'W <= T`.
    """

    def __init__(self, outputs: int, inputs: int, bias: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(bias))
        self.log_q = nn.Parameter(torch.zeros(inputs))
        nn.init.xavier_normal_(self.weight)

    def diagonal(self) -> Tensor:
        """The diagonal of `T`, clamped away from zero (a zero column of `W` has any positive `T_ii`)."""
        q = self.log_q.exp()
        return ((self.weight.T @ self.weight).abs() @ q / q).clamp_min(1e-12)


@final
class LipschitzNet(Architecture):
    """Layers of Araujo et al. 2023 (SLL): `x - 2 W T^-1 relu(W'x + b)` in each block, then `W T^-1/2 x + b`.

    Every layer is 1-Lipschitz in real arithmetic because `W'W <= T`. The file holds `W'`, `-2 W T^-1` and
    `W T^-1/2`, each rounded to float32 on its own (write it from a float64 network), so the stored network is
    1-Lipschitz up to that rounding only.
    """

    def __init__(self, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Scaled(width, width, width) for _ in range(blocks))
        self.head = _Scaled(classes, width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        for block in members(self.blocks, _Scaled):
            h = torch.relu(x @ block.weight + block.bias)
            x = x - 2.0 * (h / block.diagonal()) @ block.weight.T
        logits: Tensor = (x * self.head.diagonal().rsqrt()) @ self.head.weight.T + self.head.bias
        return logits

    def norms(self) -> list[Tensor]:
        """One per layer, by construction."""
        return [torch.tensor(1.0)] * (len(self.blocks) + 1)

    def write(self, graph: GraphWriter, output: str) -> None:
        """Gemm, Relu, MatMul, Add for each block, then Gemm: plain operators, weights already computed."""
        x = "input"
        for i, block in enumerate(members(self.blocks, _Scaled), start=1):
            down = -2.0 * block.weight / block.diagonal()
            x = graph.residual(f"block{i}", x, block.weight.T, block.bias, down)
        graph.dense(output, x, self.head.weight * self.head.diagonal().rsqrt(), self.head.bias)


def parameter_count(network: Architecture) -> int:
    """The number of trained numbers."""
    return sum(prod(parameter.shape) for parameter in network.parameters())
