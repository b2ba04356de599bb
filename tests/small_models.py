"""Small ONNX models and command lines for tests of verdicts and of the command line."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from certlip.cli.main import code_of

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "models_zoo"


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Ran:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = code_of([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


def save_model(path: Path, nodes, inputs: int, outputs: int, constants, kind=TensorProto.FLOAT) -> Path:
    """A model from x of shape (batch, inputs) to y of shape (batch, outputs)."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", kind, ["batch", inputs])],
        [helper.make_tensor_value_info("y", kind, ["batch", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def save_chain(path: Path, layers, last: str = "", activation: str = "Relu") -> Path:
    """Dense layers (W of shape (out, in), b), an activation between them, and the operator `last` at the end."""
    nodes, constants, value = [], {}, "x"
    for index, (weight, bias) in enumerate(layers):
        constants |= {f"W{index}": np.float32(weight), f"b{index}": np.float32(bias)}
        final = index == len(layers) - 1
        target = "y" if final and not last else f"h{index}"
        nodes.append(helper.make_node("Gemm", [value, f"W{index}", f"b{index}"], [target], f"dense{index}", transB=1))
        value = target
        if not final:
            nodes.append(helper.make_node(activation, [value], [f"a{index}"], f"act{index}"))
            value = f"a{index}"
    if last:
        nodes.append(helper.make_node(last, [value], ["y"], "last"))
    return save_model(path, nodes, np.shape(layers[0][0])[1], len(layers[-1][1]), constants)


def random_chain(seed: int, widths: tuple[int, ...]):
    """Random layers for `save_chain`."""
    draw = np.random.default_rng(seed)
    return [
        (draw.standard_normal((m, n)).astype(np.float32), 0.3 * draw.standard_normal(m).astype(np.float32))
        for n, m in pairwise(widths)
    ]


def evaluate(layers, x, activation=lambda v: np.maximum(v, 0.0)) -> np.ndarray:
    """The same network in binary64, for x of shape (N, inputs)."""
    value = np.asarray(x, np.float64)
    for index, (weight, bias) in enumerate(layers):
        value = value @ np.asarray(weight, np.float64).T + np.asarray(bias, np.float64)
        if index < len(layers) - 1:
            value = activation(value)
    return value


def ball_grid(x: np.ndarray, eps: float, norm: str, points: int = 41) -> np.ndarray:
    """Points of the closed ball around x, the boundary included."""
    axes = [np.linspace(-eps, eps, points)] * len(x)
    steps = np.stack(np.meshgrid(*axes), -1).reshape(-1, len(x))
    if norm == "l2":
        lengths = np.linalg.norm(steps, axis=1)
        edge = steps[lengths > 0] / lengths[lengths > 0, None] * eps
        steps = np.concatenate([steps[lengths <= eps], edge])
    return x + steps
