"""`certlip bound --around FILE[:I] --eps E`."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from small_models import ROOT, command, random_chain, save_chain

SCHEMA = Draft202012Validator(json.loads((ROOT / "specs" / "bound.schema.json").read_text()))


@pytest.fixture
def model(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.float32([[1.0, 0.0], [0.3, 2.0]]))
    return save_chain(tmp_path / "m.onnx", random_chain(4, (2, 24, 24, 3)))


def test_local_next_to_global(model, tmp_path):
    file = tmp_path / "c" / "b.json"
    ran = command("bound", model, "--around", f"{tmp_path / 's.npz'}:1", "--eps", "0.05", "--certificate", file)
    assert ran.code == 0 and "best: " in ran.out and "local: " in ran.out
    assert "of 48 neurons are linear there" in ran.out and "% below the bound for all inputs" in ran.out
    assert "at most 1/20 (0.05)" in ran.out
    checked = command("check", file, "--model", model)
    assert checked.code == 0 and "within l2 distance 1/20 of a point" in checked.out


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_json(model, tmp_path, norm):
    line = ["bound", model, "--around", tmp_path / "s.npz", "--norm", norm, "--pair", "0,2", "--json"]
    ran = command(*line, "--eps", "1/20", "--max-lipschitz", "1000")
    data = json.loads(ran.out)
    assert ran.code == 0 and not list(SCHEMA.iter_errors(data))
    local = data["local"]
    assert local["region"] == {"norm": norm, "eps": 0.05, "eps_exact": "1/20"}
    assert local["bound"]["proved"] and local["bound"]["value"] < data["best"]["value"]
    assert 0 < local["fixed"] <= local["neurons"] == 48 and data["claim"]["proved"]
    middle = (local["bound"]["value"] + data["best"]["value"]) / 2
    assert command(*line, "--eps", "1/20", "--max-lipschitz", middle).code == 0  # the claim is about the region
    wrong = {**data, "local": {**local, "region": {"norm": norm}}}
    assert list(SCHEMA.iter_errors(wrong))


def test_a_region_that_gains_nothing_is_refused(model, tmp_path):
    file = tmp_path / "c" / "b.json"
    line = ["bound", model, "--around", tmp_path / "s.npz", "--eps", "1000"]
    ran = command(*line, "--certificate", file)
    assert ran.code == 3 and "too large for local bounds to gain anything" in ran.out and "best: " in ran.out
    assert "no certificate" in ran.err and not file.exists()
    data = json.loads(command(*line, "--json").out)
    assert not list(SCHEMA.iter_errors(data)) and data["local"]["bound"]["value"] is None
    assert data["local"]["fixed"] == data["local"]["narrowed"] == 0


@pytest.mark.parametrize(
    "options, word",
    [
        (["--around", "s.npz"], "--eps"),
        (["--eps", "0.1"], "--around"),
        (["--around", "s.npz:2", "--eps", "0.1"], "count from 0"),
        (["--around", "t.npz", "--eps", "0.1"], "no data file"),
        (["--around", "s.npz", "--eps", "-1"], "negative"),
        (["--around", "s.npz", "--eps", "x"], "not a number"),
    ],
)
def test_usage(model, tmp_path, monkeypatch, options, word):
    monkeypatch.chdir(tmp_path)
    ran = command("bound", model, *options)
    assert ran.code == 2 and word in ran.err and len(ran.err.strip().splitlines()) == 1
