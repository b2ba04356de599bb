"""The stated assumption on libraries: a function f is off by at most library_units u (1 + |f|). Measured, bounded."""

from __future__ import annotations

import mpmath
import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from certlip.graph.kinds import library_error
from certlip.ops import Elu, Gelu, Sigmoid, Silu, Softplus, Tanh, TanhGelu
from certlip.rigor.rounding import BINARY32, BINARY64

SELU = 1.67326319217681884765625, 1.05070102214813232421875


def points(kind) -> np.ndarray:
    """Random points at every scale, and where functions bend, saturate or underflow."""
    rng = np.random.default_rng(17)
    spread = np.concatenate([rng.uniform(-s, s, 2500) for s in (0.01, 1.0, 4.0, 12.0, 30.0, 110.0)])
    # nothing is claimed of executions beyond half the largest number: torch's GELU doubles x on some processors
    edges = np.array([0.0, 0.5, 1.0, 9.0, 9.01, 18.0, 20.0, 20.01, 87.3, 88.8, 103.0, 1e4, 1.5e38])
    tiny = 10.0 ** np.arange(-44, 0)
    both = np.concatenate([spread, edges, -edges, tiny, -tiny])
    return both.astype(kind)


def by_onnxruntime(kind, *names, **attributes):
    element = TensorProto.FLOAT if kind is np.float32 else TensorProto.DOUBLE
    nodes, value = [], "x"
    for i, name in enumerate(names):
        target = "y" if i == len(names) - 1 else f"v{i}"
        nodes.append(helper.make_node(name, ["x", value] if name == "Mul" else [value], [target], **attributes))
        value = target
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", element, ["n"])],
        [helper.make_tensor_value_info("y", element, ["n"])],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def by_torch(function):
    return lambda x: function(torch.from_numpy(x)).numpy()


torch_functions = torch.nn.functional
CASES = {
    ("tanh", "onnxruntime"): (Tanh(), ("Tanh",), {}),
    ("sigmoid", "onnxruntime"): (Sigmoid(), ("Sigmoid",), {}),
    ("softplus", "onnxruntime"): (Softplus(), ("Softplus",), {}),
    ("elu", "onnxruntime"): (Elu(), ("Elu",), {}),
    ("selu", "onnxruntime"): (Elu(*SELU), ("Selu",), {}),
    ("gelu", "onnxruntime"): (Gelu(), ("Gelu",), {}),
    ("tanh gelu", "onnxruntime"): (TanhGelu(), ("Gelu",), {"approximate": "tanh"}),
    ("silu", "onnxruntime"): (Silu(), ("Sigmoid", "Mul"), {}),
    ("tanh", "torch"): (Tanh(), torch.tanh),
    ("sigmoid", "torch"): (Sigmoid(), torch.sigmoid),
    ("softplus", "torch"): (Softplus(), torch_functions.softplus),
    ("elu", "torch"): (Elu(), torch_functions.elu),
    ("selu", "torch"): (Elu(*SELU), torch_functions.selu),
    ("gelu", "torch"): (Gelu(), torch_functions.gelu),
    ("tanh gelu", "torch"): (TanhGelu(), lambda x: torch_functions.gelu(x, approximate="tanh")),
    ("silu", "torch"): (Silu(), torch_functions.silu),
}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_activations_in_binary32(case):
    """Each activation as the runtime itself computes it, within what `execution_error` allows."""
    operator, *how = CASES[case]
    run = by_onnxruntime(np.float32, *how[0], **how[1]) if case[1] == "onnxruntime" else by_torch(how[0])
    x = points(np.float32)
    exact = operator.exact_value(x.astype(np.float64))
    size = np.abs(x.astype(np.float64))
    allowed = operator.execution_error(size, exact.magnitude(), BINARY32) + BINARY32.tiny
    off = np.abs(run(x).astype(np.float64) - exact.mid) - exact.rad
    assert (off <= allowed).all()
    assert off.max() > 0.0


@pytest.mark.parametrize("name", ["Exp", "Erf", "Tanh", "Sigmoid", "Softplus"])
def test_library_functions_of_onnxruntime_use_a_quarter_of_the_allowance(name):
    x = points(np.float32)
    x = x[np.abs(x) < 80.0][::5]
    computed = by_onnxruntime(np.float32, name)(x)
    assert worst_share(name, x, computed, BINARY32) < 0.25


@pytest.mark.parametrize("name", ["Exp", "Erf", "Tanh", "Sigmoid"])
def test_binary64(name):
    x = points(np.float64)
    x = x[np.abs(x) < 80.0][::11]
    functions = {"Exp": torch.exp, "Erf": torch.erf, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}
    assert worst_share(name, x, by_torch(functions[name])(x), BINARY64) < 0.5
    if name != "Erf":  # onnxruntime has no kernel for it
        assert worst_share(name, x, by_onnxruntime(np.float64, name)(x), BINARY64) < 0.5


def worst_share(name, x, computed, precision) -> float:
    """The largest error in shares of the allowance, against 40 digits."""
    exact = {
        "Exp": mpmath.exp,
        "Erf": mpmath.erf,
        "Tanh": mpmath.tanh,
        "Sigmoid": lambda t: 1 / (1 + mpmath.exp(-t)),
        "Softplus": lambda t: mpmath.log1p(mpmath.exp(t)),
    }[name]
    with mpmath.workdps(40):
        values = [exact(mpmath.mpf(float(t))) for t in x]
        off = np.array([float(abs(mpmath.mpf(float(c)) - v)) for c, v in zip(computed, values, strict=True)])
    allowed = library_error(np.array([abs(float(v)) for v in values]), precision)
    return float((off / allowed).max())
