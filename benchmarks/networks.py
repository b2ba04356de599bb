"""Networks to measure on: random chains, their ONNX files, and published chains."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from certlip.graph import Graph, Node
from certlip.ops import Dense, Relu

ROOT = Path(__file__).resolve().parent.parent


def reference_data() -> Path | None:
    """The folder of published networks, None where it is absent."""
    folder = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def chain(weights: list[np.ndarray]) -> Graph:
    """Dense layers with ReLU between them."""
    nodes: list[Node] = []
    for position, weight in enumerate(weights):
        if position:
            nodes.append(Node(Relu(), (len(nodes),), f"relu{position}"))
        nodes.append(Node(Dense.of(weight), (len(nodes),), f"dense{position}"))
    return Graph((weights[0].shape[1],), tuple(nodes))


def dense_chain(draw: np.random.Generator, sizes: list[int]) -> Graph:
    """A chain with normal weights scaled by the root of the fan-in."""
    return chain([draw.standard_normal((m, n)) / np.sqrt(n) for n, m in pairwise(sizes)])


def reference_chain(name: str) -> Graph:
    """A chain of dense layers stored as W0, W1, ..."""
    folder = reference_data()
    if folder is None:
        raise FileNotFoundError("set CERTLIP_REFERENCE_DATA to the folder of published networks")
    with np.load(folder / "lipschitz" / f"{name}.npz") as data:
        names = sorted((key for key in data.files if key[0] == "W"), key=lambda key: int(key[1:]))
        return chain([data[key] for key in names])


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
