"""Option values that make no sense: one sentence, exit code 2 (4 for models), nothing on stdout and nothing written."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_models import ZOO, command, save_chain

NAMES = ("bound", "verify", "radius", "inspect")


@pytest.fixture
def model(tmp_path):
    path = save_chain(tmp_path / "m.onnx", [(np.eye(2), np.zeros(2))])
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.0, 1.0]]), y=np.array([0, 1]))
    return path


def on(name: str, model) -> list:
    return [name, model, *(["--eps", "0.1"] if name == "verify" else [])]


def refused(ran, code: int, *words: str) -> None:
    assert ran.code == code and ran.out == "", ran
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran.err
    for word in words:
        assert word in ran.err, ran.err


AMOUNTS = ["-0.1", "abc", "nan", "inf", "-inf", "1e400", "1e309", "1/0", "8/", "/8", "1/2/3", "0x1", "", " "]
AMOUNTS += ["1" * 5000]


@pytest.mark.parametrize("value", AMOUNTS)
def test_amounts_that_are_none(model, value):
    refused(command("verify", model, "--eps", value), 2, "--eps")
    refused(command("verify", model, "--eps", "0.1", "--tolerance", value), 2, "--tolerance")
    refused(command("bound", model, "--max-lipschitz", value), 2, "--max-lipschitz")
    refused(command("radius", model, "--tolerance", value), 2, "tolerance")


@pytest.mark.parametrize("value", ["8/255", "1e-3", "0", ".5", "+0.1", " 0.1 ", "1e-390", "0.1/3", "1e-400/3"])
def test_amounts_that_are_exact(model, value):
    ran = command("verify", model, "--eps", value, "--json")
    assert ran.code == 0, ran.err
    assert "eps_exact" in json.loads(ran.out)["property"]


@pytest.mark.parametrize("value", ["1e300", "1.7e308"])
def test_the_largest_amounts(model, tmp_path, value):
    for norm in ("l2", "linf"):
        ran = command("verify", model, "--eps", value, "--norm", norm, "--certificates", tmp_path / "c")
        assert ran.code in (1, 3), ran.err
        assert command("verify", model, "--eps", value, "--norm", norm, "--data-free").code in (0, 3)
        assert command("verify", model, "--eps", value, "--norm", norm, "--data-free", "--json").code in (0, 3)
        assert command("verify", model, "--eps", "1", "--norm", norm, "--tolerance", value).code == 0
    assert command("bound", model, "--max-lipschitz", value).code == 0


@pytest.mark.parametrize("pair", ["1,1", "1", "a,b", "0,1,2", "", ",", "-1,0", "0;1", "0,9", "9,0", "\u00b2,0"])
def test_pairs_that_are_none(model, pair):
    refused(command("bound", model, f"--pair={pair}"), 2)


def test_outputs_out_of_range_and_twice(model):
    refused(command("bound", model, "--logit", 2), 2, "indices 0 to 1")
    refused(command("bound", model, "--logit", 10**30), 2)
    refused(command("bound", model, "--logit", 0, "--pair", "0,1"), 2, "exclude")


def test_unknown_methods_name_the_known_ones(model):
    for name in ("bound", "verify", "radius"):
        refused(command(*on(name, model), "--method", "magic"), 2, "spectral", "lipsdp")


@pytest.mark.parametrize("name", NAMES)
def test_models_that_are_missing(tmp_path, name):
    refused(command(*on(name, tmp_path / "none.onnx")), 2, "no model file")
    refused(command(*on(name, tmp_path)), 2, "no model file")
    refused(command(*on(name, "n" * 5000)), 2)


def broken_models(folder):
    raw = (ZOO / "digits_mlp.onnx").read_bytes()
    yield "truncated.onnx", raw[: len(raw) // 2]
    yield "text.onnx", b"hello world\n"
    yield "empty.onnx", b""
    yield "truncated.onnx.gz", gzip.compress(raw)[:2000]
    for value in (np.nan, np.inf):
        proto = onnx.load_from_string(raw)
        weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
        weights.flat[3] = value
        proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, proto.graph.initializer[0].name))
        yield f"{value}.onnx", proto.SerializeToString()
    yield "fake.pt2", b"PK no"


def test_models_that_are_none(tmp_path):
    for name, content in broken_models(tmp_path):
        (tmp_path / name).write_bytes(content)
        for verb in NAMES:
            refused(command(*on(verb, tmp_path / name)), 4)


def test_a_pickled_module_is_refused_with_the_line_to_type(tmp_path):
    import pickle

    for name, content in (("m.pt", pickle.dumps({"a": 1})), ("m.pth", b"PK\x03\x04"), ("model", pickle.dumps(1))):
        (tmp_path / name).write_bytes(content)
        refused(command("bound", tmp_path / name), 4, "torch.export.save(torch.export.export(model, (example,))")


def test_regressors_need_a_tolerance():
    path = ZOO / "diabetes.onnx"
    refused(command("verify", path, "--eps", "0.1"), 2, "--tolerance")
    refused(command("radius", path), 2, "--tolerance")
    assert command("verify", path, "--eps", "0.1", "--tolerance", "0.2").code == 0
    assert command("verify", path, "--eps", "0.3", "--tolerance", "0.01").code == 1
    assert command("radius", path, "--tolerance", "0.2").code == 0


def test_a_classifier_may_be_asked_for_a_tolerance_and_hears_that_labels_are_not_used(model):
    ran = command("verify", model, "--eps", "0.1", "--tolerance", "0.2")
    assert ran.code == 0 and "labels are not used" in ran.out


def test_data_free_claims_nothing_about_samples(model, tmp_path):
    refused(command("verify", model, "--eps", "1", "--data-free", "--data", tmp_path / "m.npz"), 2, "--data-free")
    refused(command("verify", model, "--eps", "1", "--data-free", "--min-certified", "1"), 2, "--data-free")


def test_radius_needs_samples(model, tmp_path):
    (tmp_path / "m.npz").unlink()
    refused(command("radius", model), 2, "--data")


def test_places_where_certificates_cannot_go(model, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        refused(command("verify", model, "--eps", "0.1", "--certificates", place), 2)
        refused(command("verify", model, "--eps", "0.1", "--data-free", "--certificates", place), 2)
    for place in (tmp_path, tmp_path / "file" / "c.json", tmp_path / ("n" * 300), "."):
        refused(command("bound", model, "--certificate", place), 2)
    before = model.read_bytes()
    refused(command("bound", model, "--certificate", model), 2, "the model itself")
    assert model.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "m.npz", "m.onnx"]


def test_a_folder_that_may_not_be_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    refused(command("verify", model, "--eps", "0.1", "--certificates", tmp_path / "c"), 2, "cannot be written")


def test_names_cannot_steer_the_terminal(tmp_path):
    from onnx import helper
    from small_models import save_model

    name = "evil\x1b[2J\nerror: [bold]all[/] :warning:"
    nodes = [helper.make_node("Sin", ["x"], ["y"], name)]
    for ran in (
        command("inspect", save_model(tmp_path / "a.onnx", nodes, 2, 2, {})),
        command("inspect", save_model(tmp_path / "b.onnx", [helper.make_node("Relu", ["x"], ["y"], name)], 2, 2, {})),
    ):
        assert "\x1b" not in ran.out + ran.err and "[bold]all[/] :warning:" in ran.out
        assert ran.err.count("\n") <= 1
