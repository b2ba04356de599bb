"""A folder with a small ONNX model and hand-made certificates about it, honest or forged."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from stored import read_certificate, write_certificate

from certlip.certificate import Certificate, array_digest
from certlip.check import Checker, Finding
from certlip.graph import Graph
from certlip.lipschitz import bound_output
from certlip.onnx_reader import read_file, read_graph
from certlip.properties import Output

BROKE_OFF = "the check broke off"
"""How the checker reports an exception that nothing foresaw: a defect, even though it rejects."""


def onnx_model(layers, tail=(), dtype=np.float32) -> onnx.ModelProto:
    """Gemm and Relu alternating, ending in a Gemm and the operators named in `tail`; input x, output y."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, tensors, value = [], [], "x"
    for i, (weight, bias) in enumerate(layers):
        if i:
            nodes.append(helper.make_node("Relu", [value], [f"z{i}"]))
            value = f"z{i}"
        tensors += [
            numpy_helper.from_array(np.asarray(weight, dtype), f"W{i}"),
            numpy_helper.from_array(np.asarray(bias, dtype), f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"v{i}"], transB=1))
        value = f"v{i}"
    for i, operator in enumerate(tail):
        nodes.append(helper.make_node(operator, [value], [f"t{i}"]))
        value = f"t{i}"
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", kind, [1, np.shape(layers[0][0])[1]])],
        [helper.make_tensor_value_info("y", kind, None)],
        tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def random_layers(seed: int, widths=(3, 6, 3)):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((n, m)), rng.standard_normal(n)) for m, n in pairwise(widths)]


class Workbench:
    """Certificates are written to `folder`; the model lies there too."""

    def __init__(self, folder: Path, model: onnx.ModelProto, name: str = "model.onnx"):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / name
        self.path.write_bytes(model.SerializeToString())
        self.file = read_file(self.path)
        self.graph: Graph = read_graph(self.file)
        self.model = {
            "name": name, "sha256": self.file.sha256, "external": dict(self.file.external), "input": "x", "output": "y",
            "graph": self.graph.digest,
        }  # fmt: skip
        self._count = 0

    def read(self, path: Path) -> Certificate:
        return read_certificate(path)

    def write(self, certificate: Certificate, *arrays: np.ndarray, name: str | None = None) -> Path:
        self._count += 1
        path = self.folder / (name or f"claim{self._count}.json")
        write_certificate(path, certificate, {array_digest(array): array for array in arrays})
        return path

    def lipschitz(self, output=Output("all"), norm="l2", method="lipsdp") -> tuple[Certificate, list[np.ndarray]]:  # noqa: B008
        (bound,) = bound_output(self.graph, output, norm, method)
        assert bound.proved
        statement = {
            "kind": "lipschitz", "norm": norm, "value": str(Fraction(bound.value)),
            "output": {"kind": output.kind, "indices": list(output.indices)},
        }  # fmt: skip
        arrays = {name: array_digest(array) for name, array in bound.witness.items()}
        return Certificate(self.model, statement, {"method": method, "arrays": arrays}), list(bound.witness.values())

    def bounds(self, outputs, norm="l2", method="lipsdp") -> dict[str, Certificate]:
        """Written Lipschitz certificates by output."""
        result = {}
        for output in outputs:
            certificate, arrays = self.lipschitz(output, norm, method)
            self.write(certificate, *arrays)
            result[str(output)] = certificate
        return result

    def check(self, path: Path, *models: Path) -> Finding:
        before = sorted(self.folder.iterdir())
        finding = Checker(models).check(path)
        assert BROKE_OFF not in finding.message, finding.message
        assert finding.path == path and "\n" not in repr(finding) and finding.message
        assert sorted(self.folder.iterdir()) == before
        return finding

    def accepted(self, certificate: Certificate, *arrays: np.ndarray) -> bool:
        """Write and check, then take the record away again."""
        path = self.write(certificate, *arrays)
        finding = self.check(path)
        path.unlink()
        return finding.accepted


def altered(certificate: Certificate, **statement) -> Certificate:
    """Another statement, with the digest that fits it; eps, norm, center and clip go into the set where it has one."""
    inner = certificate.statement.get("set") if certificate.kind != "lipschitz" else None
    moved = {key: statement.pop(key) for key in ("eps", "norm", "center", "clip") if inner and key in statement}
    sets = {"set": {**inner, **moved}} if moved else {}
    return replace(certificate, statement={**certificate.statement, **sets, **statement})


def ball(center: np.ndarray, eps, norm="l2", **clip) -> dict:
    """The set of a statement."""
    return {"norm": norm, "eps": str(eps), "center": array_digest(center), **clip}


def raw_record(certificate: Certificate, **changes) -> str:
    """The JSON of any content at all, with the digest that fits it."""
    data = json.loads(certificate.to_json())
    del data["digest"]
    data.update(changes)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return json.dumps({**data, "digest": sha256(text.encode()).hexdigest()})


def float32(values) -> np.ndarray:
    return np.asarray(values, np.float32)


__all__ = [
    "BROKE_OFF", "TensorProto", "Workbench", "altered", "ball", "float32", "onnx_model", "random_layers", "raw_record",
]  # fmt: skip
