"""--json is one object on stdout; chatter never is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import ZOO, command, random_chain, save_chain

from certlip.verification import Status


@pytest.fixture
def model(tmp_path):
    path = save_chain(tmp_path / "m.onnx", random_chain(1, (2, 5, 3)))
    np.savez(tmp_path / "m.npz", x=np.float32([[1.0, 0.0], [0.0, 1.0], [-1, -1]]), y=np.array([0, 1, 2]))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["bound"],
        ["bound", "--logit", "1", "--max-lipschitz", "0.001"],
        ["bound", "--pair", "2,0", "--norm", "linf", "--method", "all"],
        ["bound", "--certificate", "CERTIFICATE"],
        ["verify", "--eps", "0.1"],
        ["verify", "--eps", "0.1", "--data-free"],
        ["verify", "--eps", "0.1", "--timeout", "1e-9"],
        ["verify", "--eps", "0.1", "--tolerance", "0.5"],
        ["radius"],
    ],
)
def test_json_is_one_object(model, tmp_path, arguments):
    line = [arguments[0], model, *arguments[1:]]
    line = [str(tmp_path / "c" / "bound.json") if word == "CERTIFICATE" else word for word in line]
    ran = command(*line, "--json")
    data = json.loads(ran.out)
    assert isinstance(data, dict) and data["schema"] == 1
    assert "NaN" not in ran.out and "Infinity" not in ran.out
    assert ran.code == command(*line).code


@pytest.mark.parametrize("name", ["methods", "solvers"])
def test_lists_are_objects_too(name):
    ran = command(name, "--json")
    assert ran.code == 0 and json.loads(ran.out)["schema"] == 1 and ran.err == ""


def test_the_six_states_sum_to_the_samples():
    ran = command("verify", ZOO / "digits_mlp.onnx", "--eps", "0.3", "--limit", "60", "--method", "spectral", "--json")
    data = json.loads(ran.out)
    summary = data["summary"]
    assert set(map(str, Status)) == {"certified", "falsified", "unknown", "timeout", "misclassified", "error"}
    assert sum(summary[str(status)] for status in Status) == summary["samples"] == len(data["samples"]) == 60
    for status in Status:
        assert summary[str(status)] == sum(sample["status"] == status for sample in data["samples"])
    assert summary["certified_accuracy"] == summary["certified"] / 60
    assert summary["clean_accuracy"] == 1 - summary["misclassified"] / 60
    assert ran.code == 1 and summary["falsified"] and summary["unknown"] and summary["misclassified"]
    assert [sample["index"] for sample in data["samples"]] == list(range(60))


def test_nothing_but_results_is_on_stdout_and_remarks_are_on_stderr(model, tmp_path):
    ran = command("bound", model, "--certificate", tmp_path / "c.json")
    assert "certificate written" in ran.err and "certificate" not in ran.out
    assert str(tmp_path / "c.json") in ran.err  # not broken into lines
    for line in (["verify", model, "--eps", "0.1"], ["radius", model], ["inspect", model], ["methods"], ["solvers"]):
        ran = command(*line)
        assert ran.err == "" and ran.out


def test_numbers_and_names_are_never_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    from onnx import helper
    from small_models import save_model

    name = "a_very_long_name_of_a_layer_" * 12
    nodes = [helper.make_node("MatMul", ["x", "W"], ["y"], name)]
    path = save_model(tmp_path / "m.onnx", nodes, 2, 2, {"W": np.float32(np.eye(2) / 3)})
    ran = command("inspect", path)
    assert name in ran.out and "0.3333333" in ran.out and "\u2026" not in ran.out


def test_a_share_is_never_rounded_up_to_all():
    from certlip.report.console import _share

    assert _share(19_999 / 20_000) == "0.9999"
    assert [_share(value) for value in (0.95, 1.0, 0.0, 1 / 3)] == ["0.9500", "1.0000", "0.0000", "0.3333"]


def test_a_histogram_counts_everything():
    from certlip.report.console import histogram

    inf = float("inf")
    assert histogram([inf, inf]) == [f"{'unbounded':>24}      2"]
    lines = histogram([0.0, 0.0, 1.0, inf], bar="#")
    assert sum(int(line.split()[3 if ".." in line else 1]) for line in lines) == 4
    assert histogram([0.0])


def test_exact_amounts_are_shown_exactly():
    from fractions import Fraction

    from certlip.report.exact import amount

    shown = {"0.3": "3/10 (0.3)", "8/255": "8/255 (0.03137254901)", "1": "1", "0": "0", "1e-7": "1/10000000 (1e-07)"}
    for value, text in shown.items():
        assert amount(Fraction(value)) == text
    assert amount(Fraction(0.1)).endswith("(0.1)") and amount(Fraction(0.1)).startswith("3602879701896397/")
