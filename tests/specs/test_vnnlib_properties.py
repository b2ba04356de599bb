"""The VNN-LIB properties in specs/ are those of the zoo: exact boxes around real samples, all other classes unsafe."""

from __future__ import annotations

import importlib.util
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models_zoo"
FOLDER = ROOT / "specs" / "vnnlib"


def load_generator():
    spec = importlib.util.spec_from_file_location("specs_generate", ROOT / "specs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
PROPERTIES = GENERATOR.properties()


def test_every_classifier_has_its_property():
    assert set(PROPERTIES) == {path.stem for path in FOLDER.glob("*.vnnlib")}
    assert {path.stem for path in ZOO.glob("*.onnx")} - set(PROPERTIES) == {"diabetes"}


@pytest.mark.parametrize("stem", sorted(PROPERTIES))
def test_files_are_what_the_script_writes(stem):
    assert (FOLDER / f"{stem}.vnnlib").read_text() == PROPERTIES[stem]


@pytest.mark.parametrize("stem", sorted(PROPERTIES))
def test_properties_say_what_they_should(stem):
    text = (FOLDER / f"{stem}.vnnlib").read_text()
    with np.load(ZOO / f"{stem}.npz") as data:
        sample, label = data["x"][0].ravel(), int(data["y"][0])
    outputs = onnx.load(ZOO / f"{stem}.onnx").graph.output[0].type.tensor_type.shape.dim[1].dim_value
    assert text.count("(") == text.count(")")
    assert len(re.findall(r"\(declare-const X_\d+ Real\)", text)) == sample.size
    assert len(re.findall(r"\(declare-const Y_\d+ Real\)", text)) == outputs
    low = {int(i): Fraction(number) for i, number in re.findall(r"\(assert \(>= X_(\d+) (\S+)\)\)", text)}
    high = {int(i): Fraction(number) for i, number in re.findall(r"\(assert \(<= X_(\d+) (\S+)\)\)", text)}
    for i, value in enumerate(map(Fraction, sample.astype(float).tolist())):
        assert low[i] < value < high[i] and high[i] - value == value - low[i] == GENERATOR.EPS
    assert set(low) == set(high) == set(range(sample.size))
    unsafe = re.search(r"\(assert \(or\n(.*)\n\)\)", text, re.DOTALL)
    cases = re.findall(r"\(and \(>= Y_(\d+) Y_(\d+)\)\)", unsafe[1])
    assert cases == [(str(k), str(label)) for k in range(outputs) if k != label]


def test_the_script_writes_into_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["generate", "--out", str(tmp_path / "new")])
    GENERATOR.main()
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in FOLDER.iterdir()}
    assert capsys.readouterr().out.count("\n") == len(PROPERTIES)
