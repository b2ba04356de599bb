"""Networks to measure on, as graphs: published weights, random chains, models of others. Tests build them here too."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from certlip.graph import Graph, Node, Operator
from certlip.ops import Abs, Add, Conv, Dense, Reindex, Relu
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "CERTLIP_REFERENCE_DATA"


def reference_data() -> Path | None:
    """The folder of published networks, None where it is absent."""
    folder = Path(os.environ.get(FOLDER, ROOT.parent / "shared" / "data"))
    return folder if (folder / "lipschitz" / "references.csv").is_file() else None


def _file(*parts: str) -> Path:
    folder = reference_data()
    if folder is None:
        raise FileNotFoundError(f"{FOLDER} names no folder of published networks")
    return folder.joinpath(*parts)


def published_value(network: str, bound: str) -> float:
    """A row of references.csv. Raises KeyError where there is none."""
    with _file("lipschitz", "references.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if (row["network"], row["bound"]) == (network, bound):
                return float(row["value"])
    raise KeyError((network, bound))


class _Sketch:
    """A graph under construction: `add` returns the number of the new value, the last value is the default input."""

    def __init__(self, *shape: int):
        self.shapes: list[tuple[int, ...]] = [shape]
        self.nodes: list[Node] = []

    def add(self, operator: Operator, *inputs: int) -> int:
        inputs = inputs or (len(self.nodes),)
        self.shapes.append(operator.shape(*(self.shapes[i] for i in inputs)))
        self.nodes.append(Node(operator, inputs, f"{type(operator).__name__.lower()}{len(self.nodes)}"))
        return len(self.nodes)

    def conv(self, kernel: Array, bias: Array | None = None) -> int:
        """Stride 1, zero padding that keeps the size of the image for odd kernels."""
        shift = np.zeros(()) if bias is None else bias.reshape(-1, 1, 1)
        pads = tuple((k // 2, k // 2) for k in kernel.shape[2:])
        size = self.shapes[-1][1:]
        exact = Ball.exact(np.asarray(kernel, dtype=np.float64))
        return self.add(Conv(exact, Ball.exact(shift), np.abs(shift), size, (1, 1), pads, (1, 1)))

    def flatten(self) -> int:
        return self.add(Reindex.through(self.shapes[-1], np.ravel))

    def graph(self) -> Graph:
        return Graph(self.shapes[0], tuple(self.nodes))


def _dense(weight: Array, bias: Array | None = None) -> Dense:
    return Dense.of(np.asarray(weight, dtype=np.float64), None if bias is None else np.ravel(bias).astype(np.float64))


def chain(weights: list[Array], biases: list[Array | None] | None = None) -> Graph:
    """Dense layers with ReLU between them."""
    sketch = _Sketch(weights[0].shape[1])
    for i, (weight, bias) in enumerate(zip(weights, biases or [None] * len(weights), strict=True)):
        if i:
            sketch.add(Relu())
        sketch.add(_dense(weight, bias))
    return sketch.graph()


def image_chain(arrays: Mapping[str, Array], side: int) -> Graph:
    """Convolutions K0, K1, ... on a square image, then dense layers on it flattened channel-major, ReLU between."""
    sketch = _Sketch(1, arrays["K0"].shape[1], side, side)
    for i, key in enumerate(_layers(arrays)):
        if i:
            sketch.add(Relu())
        bias = arrays.get(f"b{key[1:]}")
        if key[0] == "K":
            sketch.conv(arrays[key], bias)
            continue
        if len(sketch.shapes[-1]) > 1:
            sketch.flatten()
        sketch.add(_dense(arrays[key], bias))
    return sketch.graph()


def maxmin_chain(weights: list[Array]) -> Graph:
    """Dense layers with MaxMin of neighbouring pairs between: max, min = (a + b)/2 +- |a - b|/2, all exact."""
    sketch = _Sketch(weights[0].shape[1])
    value = sketch.add(_dense(weights[0]))
    for weight in weights[1:]:
        pairs = np.eye(len(sketch.nodes[value - 1].operator.weight.mid) // 2)
        mean = sketch.add(Dense.of(np.kron(pairs, np.full((2, 2), 0.5))), value)
        sketch.add(Dense.of(np.kron(pairs, [[0.5, -0.5]])), value)
        sketch.add(Abs())
        spread = sketch.add(Dense.of(np.kron(pairs, [[1.0], [-1.0]])))
        sketch.add(Add(), mean, spread)
        value = sketch.add(_dense(weight))
    return sketch.graph()


def residual_chain(arrays: Mapping[str, Array]) -> Graph:
    """Dense layer, blocks z + fc2(relu(fc1(z))), dense layer."""

    def layer(name: str) -> Dense:
        return _dense(arrays[f"{name}_weight"], arrays[f"{name}_bias"])

    sketch = _Sketch(arrays["input_layer_weight"].shape[1])
    value = sketch.add(layer("input_layer"))
    for i in range(sum(key.endswith("fc1_weight") for key in arrays)):
        sketch.add(layer(f"blocks_{i}_fc1"))
        sketch.add(Relu())
        branch = sketch.add(layer(f"blocks_{i}_fc2"))
        value = sketch.add(Add(), value, branch)
    sketch.add(layer("output_layer"))
    return sketch.graph()


def published(name: str) -> Graph:
    """A network of the reference data; its name says what stands between the layers and how large the image is."""
    with np.load(_file("lipschitz", f"{name}.npz"), allow_pickle=False) as data:
        arrays = {key: data[key] for key in data.files}
    if name.startswith("fc_resnet"):
        return residual_chain(arrays)
    if "K0" in arrays:
        return image_chain(arrays, side=8 if name.startswith("digits") else 28)
    weights = [arrays[key] for key in _layers(arrays)]
    if name.startswith("maxmin"):
        return maxmin_chain(weights)
    return chain(weights, [arrays.get(f"b{i}") for i in range(len(weights))])


def _layers(arrays: Mapping[str, Array]) -> list[str]:
    return sorted((key for key in arrays if key[0] in "KW"), key=lambda key: int(key[1:]))


def random_chain(*sizes: str | int) -> Graph:
    """Dense layers of these sizes with normal weights scaled by the root of the fan-in, always the same."""
    draw = np.random.default_rng(0)
    return chain([draw.standard_normal((int(m), int(n))) / np.sqrt(int(n)) for n, m in pairwise(sizes)])


def eclipse_chain(depth: str | int, width: str | int, seed: str | int = 0) -> Graph:
    """The random chains of the ECLipsE paper: 4 inputs, 1 output, positive weights, spectral norms in [0.4, 1.8]."""
    depth, width, seed = int(depth), int(width), int(seed)
    draw = np.random.RandomState(77 * seed + 7 * width + 13 * depth)
    weights = []
    for n, m in pairwise([4, *[width] * (depth - 1), 1]):
        scale = draw.uniform(0.4, 1.8)
        weight = draw.uniform(size=(m, n))
        weights.append(scale * weight / np.linalg.norm(weight, 2))
        draw.uniform(size=m)  # the bias, which no bound needs
    return chain(weights)


def competition(path: str) -> Graph:
    """A model of VNN-COMP."""
    return _imported(_file("vnncomp", path))


def large_mlp() -> Graph:
    """784-256-256-256-256-10 trained on MNIST, made in a process of its own where the cache does not hold it."""
    from models_zoo.large import PATH

    if not PATH.exists():
        subprocess.run([sys.executable, "-m", "models_zoo.large"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return _imported(PATH)


def _imported(path: Path) -> Graph:
    from certlip.importers import load

    return load(path).graph


BUILDERS: dict[str, Callable[..., Graph]] = {
    "published": published,
    "random": random_chain,
    "eclipse": eclipse_chain,
    "competition": competition,
    "large": large_mlp,
}


def build(recipe: str) -> Graph:
    """The graph of a recipe "builder argument argument ..."."""
    builder, *arguments = recipe.split()
    return BUILDERS[builder](*arguments)


def chain_weights(graph: Graph) -> list[Array]:
    """The matrices of a chain of dense layers with ReLU between. Raises ValueError for any other graph."""
    operators = [node.operator for node in graph.nodes]
    layers = [operator for operator in operators if isinstance(operator, Dense)]
    if operators[1::2] != [op for op in operators if isinstance(op, Relu)] or operators[::2] != layers:
        raise ValueError("not a chain of dense layers with ReLU between")
    return [layer.weight.mid for layer in layers]


def dense_onnx(path: Path, sizes: list[int]) -> Path:
    """Write an ONNX chain of Gemm and Relu with binary32 weights."""
    draw = np.random.default_rng(0)
    nodes, tensors, value = [], [], "input"
    for i, (n, m) in enumerate(pairwise(sizes)):
        weight = (draw.standard_normal((m, n)) / np.sqrt(n)).astype(np.float32)
        tensors += [numpy_helper.from_array(weight, f"W{i}"), numpy_helper.from_array(np.zeros(m, np.float32), f"b{i}")]
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"v{i}"], transB=1))
        value = f"v{i}"
        if i < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [value], [f"z{i}"]))
            value = f"z{i}"
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("input", sizes[0]), (value, sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
