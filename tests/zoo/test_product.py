"""Every certifier on every zoo model in every norm: sampled slope <= proved bound <= norm product, and its certificate.

The sampled slopes come from onnxruntime, which shares no code with the graph that the bounds are about.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from certlip.certificate import Certificate
from certlip.check import Checker
from certlip.importers import load
from certlip.lipschitz import bound_output, certifiers
from certlip.properties.outputs import ALL, select
from certlip.verification.certify import Recorder

ZOO = Path(__file__).resolve().parents[2] / "models_zoo"
STEMS = sorted(path.stem for path in ZOO.glob("*.onnx"))
LARGE = {"mnist_conv", "mnist_mlp"}


def is_long(stem: str, method: str) -> bool:
    return method == "lipsdp-conic" or (stem in LARGE and method.startswith(("lipsdp", "eclipse")))


CASES = [
    pytest.param(stem, method, norm, marks=[pytest.mark.long] if is_long(stem, method) else [])
    for stem in STEMS
    for method in certifiers()
    for norm in ("l2", "linf")
]


def sampled_slope(stem: str, norm: str) -> float:
    """The steepest secant that onnxruntime shows between held-out samples and points beside them."""
    session = onnxruntime.InferenceSession(ZOO / f"{stem}.onnx")
    with np.load(ZOO / f"{stem}.npz") as data:
        x = data["x"][:40]
    draw = np.random.default_rng(0)
    other = np.concatenate([x[::-1], x + draw.normal(0, 0.05, x.shape).astype(np.float32)])
    x = np.concatenate([x, x])
    run = lambda batch: session.run(None, {"input": batch})[0].astype(np.float64).reshape(len(batch), -1)  # noqa: E731
    moved = run(other) - run(x)
    step = (other.astype(np.float64) - x.astype(np.float64)).reshape(len(x), -1)
    size = (lambda v: np.linalg.norm(v, axis=1)) if norm == "l2" else (lambda v: np.abs(v).max(1))
    apart = size(step) > 0
    return float((size(moved)[apart] / size(step)[apart]).max())


def test_the_zoo_is_complete() -> None:
    assert len(STEMS) == 8
    assert all((ZOO / f"{stem}{suffix}").is_file() for stem in STEMS for suffix in (".npz", ".md"))


@pytest.mark.parametrize(("stem", "method", "norm"), CASES)
def test_bound_and_certificate(stem: str, method: str, norm: str, tmp_path: Path) -> None:
    model = load(ZOO / f"{stem}.onnx")
    (bound,) = bound_output(model.graph, ALL, norm, method)
    if certifiers()[method].supports(select(model.graph, ALL), norm):
        assert not bound.proved and bound.note
        return
    assert bound.proved, bound.note
    assert sampled_slope(stem, norm) <= bound.value * (1 + 1e-5)  # the runtime computes in binary32
    if norm == "l2":
        (product,) = bound_output(model.graph, ALL, norm, "spectral")
        # what no theorem orders: dominance may lose, and so may a closed form where branches meet
        free = method == "gershgorin" or (method.startswith("eclipse-fast") and stem == "digits_residual")
        assert free or bound.value <= product.value * (1 + 1e-9)

    Recorder(model, tmp_path).bound(bound, "bound.json")
    record = tmp_path / "bound.json"
    assert Checker([ZOO]).check(record).accepted

    told = json.loads(record.read_text())
    lower = str(Fraction(told["statement"]["value"]) * Fraction(999, 1000))
    statement = {**told["statement"], "value": lower}
    forged = Certificate(
        told["model"],
        statement,
        told["witness"],
        told["semantics"],
        tuple(told["assumptions"]),
        told["provenance"],
    )
    record.write_text(forged.to_json())
    finding = Checker([ZOO]).check(record)
    assert not finding.accepted
    assert "not the claimed" in finding.message


def test_the_cards_state_what_is_proved() -> None:
    for stem in STEMS:
        model = load(ZOO / f"{stem}.onnx")
        card = (ZOO / f"{stem}.md").read_text()
        for norm in ("l2", "linf"):
            (bound,) = bound_output(model.graph, ALL, norm, "spectral")
            stated = re.search(rf"^\| spectral \| {norm} \| (\S+) \|$", card, re.MULTILINE)
            assert stated is not None, f"{stem} has no card with bounds: run make zoo"
            assert float(stated[1]) == pytest.approx(bound.value, rel=1e-5)
