"""`--resume FILE`: verdicts are found again by what was asked, lines are whole, and no other file is touched."""

from __future__ import annotations

import json

import numpy as np
import pytest
from property_files import VACUOUS, VIOLATED, Told, lines_of, save_rows, save_suite
from small_models import command, save_chain

import certlip
from certlip.errors import UsageError
from certlip.runs.ledger import Ledger
from certlip.version import __version__

LIMITS = {"timeout": 10.0, "method": "auto", "seed": 0, "version": __version__}


@pytest.fixture
def folder(tmp_path):
    return save_suite(tmp_path)


@pytest.fixture
def suite(folder):
    return save_rows(folder, f"net.onnx,{VIOLATED},10")


@pytest.fixture
def told(monkeypatch):
    def tell(*answers) -> Told:
        procedure = Told(*answers)
        monkeypatch.setattr("certlip.runs.suite.decide_property", procedure)
        return procedure

    return tell


@pytest.fixture
def samples(folder):
    """f(x) = 2 x - 1 at 1/8: certified, falsified, misclassified, certified."""
    path = save_chain(folder / "line.onnx", [([[2.0]], [-1.0])])
    np.savez(folder / "line.npz", x=np.float32([[1.0], [0.5625], [1.0], [2.0]]), y=np.array([1, 1, 0, 1]))
    return path


def run(suite, *options):
    return command("verify", "--instances", suite, "--resume", suite.with_name("run.jsonl"), *options)


def again(model, *options):
    ran = command("verify", model, "--eps", "1/8", "--resume", model.with_name("run.jsonl"), "--jsonl", *options)
    lines = lines_of(ran.out)
    return ran.code, [line["earlier"] for line in lines], [line["result"]["status"] for line in lines]


def test_verdicts_of_an_earlier_run_are_not_asked_again(folder, told):
    suite, file = save_rows(folder, f"net.onnx,{VACUOUS}", f"net.onnx,{VIOLATED}"), folder / "run.jsonl"
    first = run(suite, "--json")
    before = file.read_bytes()
    assert [line["result"]["verdict"] for line in lines_of(before.decode())] == ["unsat", "sat"]
    procedure = told("error")
    second = run(suite, "--json")
    assert procedure.asked == [] and file.read_bytes() == before and first.code == second.code == 1
    one, two = json.loads(first.out), json.loads(second.out)
    assert (one["summary"]["earlier"], two["summary"]["earlier"]) == (0, 2)
    assert one["instances"] == two["instances"]
    text = run(suite).out
    assert text.count("(earlier run)") == 2 and "2 from an earlier run" in text


def test_files_are_known_by_their_bytes(folder, suite, told):
    run(suite)
    procedure = told("certified")
    (folder / "moved.onnx").write_bytes((folder / "net.onnx").read_bytes())
    (folder / "moved.vnnlib").write_bytes((folder / VIOLATED).read_bytes())
    run(save_rows(folder, "model,property,verdict", "moved.onnx,moved.vnnlib,unsat"))
    assert procedure.asked == []
    (folder / "moved.vnnlib").write_text((folder / VIOLATED).read_text() + "; another file\n")
    run(save_rows(folder, "moved.onnx,moved.vnnlib"))
    save_chain(folder / "moved.onnx", [(np.eye(2), np.ones(2))])
    run(save_rows(folder, f"moved.onnx,{VIOLATED}"))
    assert len(procedure.asked) == 2


def test_what_is_expected_now_counts(folder, suite):
    run(suite)
    ran = run(save_rows(folder, "model,property,verdict", f"net.onnx,{VIOLATED},unsat"))
    assert "CONTRADICTS" in ran.out and "(earlier run)" in ran.out


@pytest.mark.parametrize("status", ["unknown", "timeout"])
@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ([], 0),
        (["--timeout", "5"], 0),
        (["--timeout", "20"], 1),
        (["--total-timeout", "5"], 0),
        (["--method", "other"], 1),
    ],
)
def test_open_instances_are_asked_again_with_other_limits(folder, told, status, options, asked):
    suite = save_rows(folder, f"net.onnx,{VIOLATED}")
    told(status)
    run(suite, "--timeout", "10")
    procedure = told("certified")
    run(suite, *(options if "--timeout" in options else ["--timeout", "10", *options]))
    assert len(procedure.asked) == asked


def test_open_instances_are_asked_again_by_another_version(suite, told, monkeypatch):
    told("unknown")
    run(suite)
    monkeypatch.setattr("certlip.runs.lines.__version__", "99.0")
    procedure = told("certified")
    assert run(suite).code == 0 and len(procedure.asked) == 1
    assert run(suite).code == 0 and len(procedure.asked) == 1


def test_errors_are_tried_again(folder, told):
    suite = save_rows(folder, f"net.onnx,{VIOLATED}", "none.onnx,none")
    told(ValueError("once"))
    assert run(suite).code == 70
    told("certified")
    assert run(suite).code == 2
    assert [line["result"]["status"] for line in lines_of((folder / "run.jsonl").read_text())] == [
        "error", "error", "certified", "error",
    ]  # fmt: skip


def test_earlier_verdicts_need_no_time(suite, told):
    told("certified")
    run(suite)
    assert run(suite, "--total-timeout", "1e-9").code == 0


@pytest.mark.parametrize("cut", [1, 5, 14, 20, 200, -2])
def test_a_torn_last_line_is_cut_off(folder, told, cut):
    suite, file = save_rows(folder, f"net.onnx,{VACUOUS}", f"net.onnx,{VIOLATED}"), folder / "run.jsonl"
    run(suite)
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:cut])
    procedure = told("falsified")
    assert run(suite).code == 1 and len(procedure.asked) == 1
    assert len(lines_of(file.read_text())) == 2 and file.read_bytes().startswith(first)


def test_a_last_line_without_its_end_is_kept(folder, told):
    suite, file = save_rows(folder, f"net.onnx,{VACUOUS}", f"net.onnx,{VIOLATED}"), folder / "run.jsonl"
    run(suite, "--limit", "1")
    file.write_bytes(file.read_bytes()[:-1])
    procedure = told("falsified")
    run(suite)
    assert len(procedure.asked) == 1 and len(lines_of(file.read_text())) == 2


def line(**changes) -> str:
    result = {"status": "certified"}
    return json.dumps({"schema": 1, "kind": "instance", "asked": {}, "limits": {}, "result": result} | changes)


@pytest.mark.parametrize(
    "content",
    [
        "model,property\n",
        "model,property",
        '{"a": 1}',
        '{\n "schema": 1\n}\n',
        "[1]\n",
        "\x00\xff",
        line(schema=2) + "\n",
        line(asked=[]) + "\n",
        line(result={"status": "probably"}) + "\n",
        line()[:-5] + "\n" + line() + "\n",
        "[" * 100_000,
    ],
)
def test_other_files_are_refused_and_left_alone(suite, content):
    file = suite.with_name("run.jsonl")
    file.write_bytes(content.encode("latin-1"))
    ran = run(suite)
    assert ran.code == 2 and "is no result of certlip" in ran.err and ran.err.count("\n") == 1, ran
    assert file.read_bytes() == content.encode("latin-1")


def test_places_where_no_lines_can_go(suite, samples, tmp_path):
    for place in (tmp_path, tmp_path / "none" / "run.jsonl", tmp_path / ("n" * 300), "/dev/null"):
        for question in (["--instances", suite], [samples, "--eps", "1"]):
            ran = command("verify", *question, "--resume", place)
            assert ran.code == 2 and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran


def test_altered_lines_are_errors_of_their_row(suite):
    run(suite)
    file = suite.with_name("run.jsonl")
    entry = json.loads(file.read_text())
    entry["result"]["seconds"] = "long"
    file.write_text(json.dumps(entry) + "\n")
    ran = run(suite)
    assert ran.code == 2 and "was altered" in ran.out


def test_the_last_line_about_a_question_counts(tmp_path):
    with Ledger(tmp_path / "run.jsonl") as ledger:
        for status in ("timeout", "certified"):
            ledger.write(json.loads(line(limits=LIMITS, result={"status": status})))
    with Ledger(tmp_path / "run.jsonl") as ledger:
        assert ledger.earlier({}, LIMITS)["result"]["status"] == "certified"
        assert ledger.earlier({"model_sha256": "0"}, LIMITS) is None


def test_samples_go_on(samples):
    assert again(samples, "--limit", "2") == (1, [False] * 2, ["certified", "falsified"])
    assert again(samples) == (1, [True] * 2 + [False] * 2, ["certified", "falsified", "misclassified", "certified"])
    code, earlier, _ = again(samples)
    assert code == 1 and earlier == [True] * 4
    assert len(lines_of(samples.with_name("run.jsonl").read_text())) == 4


def test_samples_are_known_by_their_values_and_labels(samples, folder):
    again(samples)
    np.savez(folder / "other.npz", x=np.float32([[2.0], [1.0], [1.0], [3.0]]), y=np.array([1, 1, 0, 1]))
    _, earlier, statuses = again(samples, "--data", folder / "other.npz")
    assert earlier == [True, True, True, False]
    assert statuses == ["certified", "certified", "misclassified", "certified"]
    np.savez(folder / "other.npz", x=np.float32([[2.0]]), y=np.array([0]))
    assert again(samples, "--data", folder / "other.npz")[1:] == ([False], ["misclassified"])


@pytest.mark.parametrize(
    "option", [["--norm", "linf"], ["--clip", "0,3"], ["--level", "deployed"], ["--tolerance", "1"]]
)
def test_another_question_is_asked_anew(samples, option):
    again(samples, "--limit", "1")
    assert again(samples, "--limit", "1", *option)[1] == [False]
    assert again(samples, "--limit", "1", *option)[1] == [True]


def test_samples_without_time_are_asked_again_with_more(samples):
    assert again(samples, "--limit", "1", "--timeout", "1e-9")[2] == ["timeout"]
    assert again(samples, "--limit", "1", "--timeout", "1e-9")[1] == [True]
    assert again(samples, "--limit", "1")[1:] == ([False], ["certified"])


def test_the_report_does_not_depend_on_interruptions(samples):
    file = samples.with_name("run.jsonl")
    plain = json.loads(command("verify", samples, "--eps", "1/8", "--json").out)
    again(samples, "--limit", "3")
    mixed = json.loads(command("verify", samples, "--eps", "1/8", "--json", "--resume", file).out)
    assert mixed["summary"] == plain["summary"]
    for one, two in zip(plain["samples"], mixed["samples"], strict=True):
        differing = {key for key in one if one[key] != two[key]} - {"seconds", "margin", "radius", "slack_share"}
        assert not differing
        assert two["radius"] == pytest.approx(one["radius"], rel=1e-9) and two["radius"] <= one["radius"]
    table = command("verify", samples, "--eps", "1/8", "--resume", file)
    assert table.code == 1 and "4 samples" in table.out and "2 certified, 1 falsified, 1 misclassified" in table.out


def test_an_interrupted_run_has_a_summary_and_goes_on(samples, monkeypatch):
    from certlip.verification import Verifier

    decide = Verifier.decide

    def interrupted(self, index, x, target, deadline):
        if x[0] == 1.0 and target == 0:
            raise KeyboardInterrupt
        return decide(self, index, x, target, deadline)

    with monkeypatch.context() as patch:
        patch.setattr("certlip.verification.pipeline.verify_samples.__defaults__", (None, None, interrupted))
        ran = command("verify", samples, "--eps", "1/8", "--resume", samples.with_name("run.jsonl"))
    assert ran.code == 130 and ran.err == "interrupted\n" and "2 samples" in ran.out
    assert again(samples)[1] == [True, True, False, False]


def test_lines_need_samples(samples):
    samples.with_suffix(".npz").unlink()
    for option in (["--jsonl"], ["--resume", samples.with_name("run.jsonl")]):
        ran = command("verify", samples, "--eps", "1", *option)
        assert ran.code == 2 and "--data" in ran.err


def test_from_python(suite, tmp_path):
    file = tmp_path / "python.jsonl"
    first = certlip.verify_instances(suite, resume=file)
    second = certlip.verify_instances(suite, resume=str(file))
    assert (first.earlier, second.earlier) == (0, 1)
    assert np.array_equal(first.instances[0].counterexample, second.instances[0].counterexample)
    with pytest.raises(UsageError):
        certlip.verify_instances(suite, resume=tmp_path)
