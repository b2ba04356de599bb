"""`verify MODEL --property FILE`: verdicts, exit codes, counterexamples that replay, and what is refused."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import onnxruntime
import pytest
from property_files import VACUOUS, VIOLATED, Told, answer, property_text, save_suite, schema_errors
from small_models import ZOO, command, save_chain

import certlip
from certlip.errors import PropertyError, UsageError
from certlip.properties.vnnlib import read_property


@pytest.fixture
def folder(tmp_path):
    return save_suite(tmp_path)


@pytest.fixture
def told(monkeypatch):
    def tell(*answers) -> Told:
        procedure = Told(*answers)
        monkeypatch.setattr("certlip.runs.property.decide_property", procedure)
        return procedure

    return tell


def run(folder, name: str, *options):
    return command("verify", folder / "net.onnx", "--property", folder / name, *options)


def refused(ran, code: int, *words: str) -> None:
    assert ran.code == code and ran.out == "" and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran
    assert all(word in ran.err for word in words), ran.err


def replayed(folder, x) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    return session.run(None, {"x": np.float32(x).reshape(1, -1)})[0].reshape(-1)


def test_a_property_without_inputs_holds_and_says_so(folder):
    ran = run(folder, VACUOUS)
    assert ran.code == 0 and ran.err == ""
    assert "net.onnx: input x [1, 2]" in ran.out
    assert "property vacuous.vnnlib: 2 inputs, 2 outputs, 1 case, 1 of them without any input" in ran.out
    assert "verdict: holds (unsat)" in ran.out and "note: " in ran.out and "no input" in ran.out


def test_a_counterexample_is_printed_in_exact_decimals_and_replays(folder):
    ran = run(folder, VIOLATED)
    assert ran.code == 1 and "verdict: violated (sat)" in ran.out
    x = [float(value) for value in re.findall(r"^X_\d = (.*)$", ran.out, re.MULTILINE)]
    assert len(x) == 2 and all(np.float32(value) == value for value in x)
    assert 0.1 <= x[0] <= 0.2 and 0.3 <= x[1] <= 0.4
    y = replayed(folder, x)
    assert y[0] <= y[1]
    assert len(re.findall(r"^Y_\d = ", ran.out, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("status", "code"), [("certified", 0), ("falsified", 1), ("unknown", 3), ("timeout", 3), ("error", 70)]
)
def test_exit_codes(folder, told, status, code):
    told(status)
    assert run(folder, VIOLATED).code == code


def test_interrupted(folder, told):
    told(KeyboardInterrupt())
    ran = run(folder, VIOLATED)
    assert ran.code == 130 and ran.out == "" and ran.err == "interrupted\n"


def test_a_defect_is_70_with_its_traceback(folder, told):
    told(KeyError("x"))
    ran = run(folder, VIOLATED)
    assert ran.code == 70 and "Traceback" in ran.err


def test_options_reach_the_procedure(folder, told, monkeypatch):
    procedure = told("unknown")
    monkeypatch.setattr("certlip.runs.property.time.monotonic", lambda: 100.0)
    run(folder, VIOLATED, "--timeout", "7", "--method", "auto")
    assert procedure.asked[0]["deadline"] == 107.0 and procedure.asked[0]["method"] == "auto"


def test_json_obeys_its_schema(folder):
    for name, verdict in ((VACUOUS, "unsat"), (VIOLATED, "sat")):
        data = json.loads(run(folder, name, "--json").out)
        assert data["result"]["verdict"] == verdict and data["property"]["inputs"] == 2
        assert schema_errors("verify-property", data) == []
    data["result"]["counterexample"] = None
    assert schema_errors("verify-property", data)


def test_a_compressed_property(folder):
    (folder / "v.vnnlib.gz").write_bytes(gzip.compress((folder / VIOLATED).read_bytes()))
    assert run(folder, "v.vnnlib.gz").code == 1


def test_what_is_no_property(folder):
    (folder / "broken.vnnlib").write_text("(declare-const X_0 Real)\n(assert (<= X_0 zero))\n")
    refused(run(folder, "broken.vnnlib"), 2, "broken.vnnlib", "line 2")
    refused(run(folder, "none.vnnlib"), 2, "none.vnnlib")
    refused(run(folder, "."), 2)


def test_a_property_for_another_model(folder):
    (folder / "other.vnnlib").write_text(property_text([("0.0", "1.0")] * 3, "(<= Y_0 Y_1)"))
    refused(run(folder, "other.vnnlib"), 2, "3 inputs and 2 outputs", "net.onnx has 2 and 2")


def test_models_that_are_none(folder):
    (folder / "net.onnx").write_text("hello")
    refused(run(folder, VIOLATED), 4)
    (folder / "net.onnx").unlink()
    refused(run(folder, VIOLATED), 2, "no model file")


def test_other_decisions_keep_nothing(folder):
    save_chain(folder / "net.onnx", [(np.eye(2), np.zeros(2))], last="Hardmax")
    refused(run(folder, VIOLATED), 2, "leaves out the final Hardmax")


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_a_softmax_keeps_the_order_of_outputs_only(folder, last):
    save_chain(folder / "net.onnx", [(np.eye(2), np.zeros(2))], last=last)
    assert run(folder, VIOLATED).code == 1
    (folder / "half.vnnlib").write_text(property_text([("0.1", "0.2"), ("0.3", "0.4")], "(<= Y_0 0.5)"))
    refused(run(folder, "half.vnnlib"), 2, f"leaves out the final {last}", "scores before it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["no question", "--eps", "--property", "--instances"]),
        (["--property", "p", "--eps", "1"], ["--eps and --property", "choose one"]),
        (["--property", "p", "--instances", "i"], ["--property and --instances"]),
        (["--instances", "i"], ["leave out MODEL"]),
        (["--property", "p", "--data", "d.npz"], ["--data is about samples"]),
        (["--property", "p", "--data-free"], ["--data-free is about samples"]),
        (["--property", "p", "--norm", "linf"], ["--norm is about samples"]),
        (["--property", "p", "--min-certified", "1"], ["--min-certified is about samples"]),
        (["--property", "p", "--limit", "1"], ["--limit is about samples or instances"]),
        (["--property", "p", "--resume", "r"], ["--resume is about samples or instances"]),
        (["--eps", "1", "--counterexample", "c.npz"], ["--counterexample is about a property"]),
        (["--eps", "1", "--json", "--jsonl"], ["--json excludes --jsonl"]),
        (["--eps", "1", "--resume", "r", "--certificates", "c"], ["--resume excludes --certificates"]),
        (["--eps", "1", "--resume", "r", "--data-free"], ["--data-free excludes --resume"]),
    ],
)
def test_options_of_different_questions(folder, options, words):
    refused(command("verify", folder / "net.onnx", *options), 2, *words)


@pytest.mark.parametrize("options", [["--eps", "1"], ["--property", "p"], []])
def test_a_question_needs_a_model(options):
    refused(command("verify", *options), 2)


def test_a_counterexample_as_arrays(folder):
    ran = run(folder, VIOLATED, "--counterexample", folder / "c.npz")
    assert ran.code == 1 and "counterexample written to" in ran.err
    with np.load(folder / "c.npz") as data:
        x, y = data["x"], data["y"]
    assert x.shape == (1, 2) and x.dtype == np.float32
    found = replayed(folder, x)
    assert found[0] <= found[1] and np.allclose(found, y.reshape(-1), atol=1e-6)


def test_a_counterexample_as_vnncomp_writes_it(folder):
    assert run(folder, VIOLATED, "--counterexample", folder / "c.txt").code == 1
    text = (folder / "c.txt").read_text()
    assert re.fullmatch(r"sat\n\(\(X_0 \S+\)\n\(X_1 \S+\)\n\(Y_0 \S+\)\n\(Y_1 \S+\)\)\n", text)
    x = [float(value) for value in re.findall(r"\(X_\d (\S+?)\)", text)]
    found = replayed(folder, x)
    assert all(np.float32(value) == value for value in x) and found[0] <= found[1]


def test_no_counterexample_writes_nothing(folder):
    ran = run(folder, VACUOUS, "--counterexample", folder / "c.npz")
    assert ran.code == 0 and "no counterexample" in ran.err and not (folder / "c.npz").exists()


def test_places_where_no_counterexample_can_go(folder, told):
    procedure = told("falsified")
    (folder / "folder.npz").mkdir()
    refused(run(folder, VIOLATED, "--counterexample", folder / "folder.npz"), 2, "folder")
    refused(run(folder, VIOLATED, "--counterexample", folder / "none" / "c.npz"), 2, "no folder")
    refused(run(folder, VIOLATED, "--counterexample", folder / "c.csv"), 2, ".npz", ".txt")
    assert procedure.asked == []


def test_long_counterexamples_are_cut_on_the_terminal(folder):
    save_chain(folder / "net.onnx", [(np.ones((2, 30)), np.zeros(2))])
    (folder / "long.vnnlib").write_text(property_text([("0.0", "1.0")] * 30, "(<= Y_0 1000.0)"))
    ran = run(folder, "long.vnnlib")
    assert ran.code == 1 and "X_11 = " in ran.out and "X_12 = " not in ran.out
    assert "... 18 more; --counterexample FILE writes all of them" in ran.out


def test_notes_cannot_steer_the_terminal(folder, told):
    told(answer("unknown", "evil\x1b[2J\nerror: [bold]all[/]"))
    ran = run(folder, VIOLATED)
    assert "\x1b" not in ran.out and "[bold]all[/]" in ran.out and "\nerror" not in ran.out


def test_from_python(folder):
    model = certlip.load(folder / "net.onnx")
    report = certlip.verify_property(model, folder / VIOLATED, timeout=10)
    assert (report.status, report.verdict) == ("falsified", "sat") and "violated" in repr(report)
    assert "sat" in report._repr_html_()
    same = certlip.verify_property(str(folder / "net.onnx"), read_property(folder / VACUOUS), timeout=None)
    assert same.verdict == "unsat" and same.path is None
    with pytest.raises(PropertyError):
        certlip.verify_property(model, folder / "none.vnnlib")
    with pytest.raises(UsageError):
        certlip.verify_property(ZOO / "digits_mlp.onnx", folder / VIOLATED)
    with pytest.raises(UsageError):
        certlip.verify_property(model, folder / VIOLATED, timeout=-1)
