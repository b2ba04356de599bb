"""Published models: every one is read and agrees with onnxruntime, or is refused with a complete list."""

import os
from pathlib import Path

import pytest

from certlip.errors import UnsupportedModel
from certlip.importers import load

DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
ZOO = Path(__file__).parents[2] / "models_zoo"
REFERENCE = sorted(p for p in DATA.rglob("*.onnx*") if p.name.endswith((".onnx", ".onnx.gz")))
UNSUPPORTED: dict[str, int] = {}
"""Files that certlip does not read, with the number of nodes it lists."""


@pytest.mark.skipif(not REFERENCE, reason="no reference models: set CERTLIP_REFERENCE_DATA to their folder")
def test_the_collection_is_complete():
    assert len(REFERENCE) == 40
    assert len(UNSUPPORTED) == 0


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.name)
def test_reference_model(path):
    if path.name in UNSUPPORTED:
        with pytest.raises(UnsupportedModel) as caught:
            load(path)
        assert len(caught.value.nodes) == UNSUPPORTED[path.name]
        return
    agreement = load(path).agreement
    assert agreement.runtime.startswith("onnxruntime")
    assert agreement.samples == 13
    assert agreement.largest_difference <= agreement.allowed


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.onnx")), ids=lambda path: path.stem)
def test_zoo_model(path):
    model = load(path)
    assert model.agreement.samples == 13
    assert model.opset <= 21


def test_constant_subgraphs_of_parametrised_exports_are_folded():
    path = DATA / "onnx" / "mlp_L5_W16.onnx"
    if not path.is_file():
        pytest.skip("the reference model mlp_L5_W16.onnx is absent")
    model = load(path)
    assert any("folded" in note for note in model.graph.notes)
    assert list(model.external) == ["mlp_L5_W16.onnx.data"]
