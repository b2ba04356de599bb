"""`verify --instances FILE`: every row has its verdict, whatever becomes of the others."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from property_files import VACUOUS, VIOLATED, Told, answer, lines_of, save_rows, save_suite, schema_errors
from small_models import ROOT, command

import certlip
from certlip.importers import load

HOLDS, BREAKS = f"net.onnx,{VACUOUS},10", f"net.onnx,{VIOLATED},10"


@pytest.fixture
def folder(tmp_path):
    return save_suite(tmp_path)


@pytest.fixture
def told(monkeypatch):
    def tell(*answers) -> Told:
        procedure = Told(*answers)
        monkeypatch.setattr("certlip.runs.suite.decide_property", procedure)
        return procedure

    return tell


def run(path, *options):
    return command("verify", "--instances", path, *options)


def documents(path, *options) -> tuple[int, dict]:
    ran = run(path, "--json", *options)
    data = json.loads(ran.out)
    assert schema_errors("verify-instances", data) == []
    return ran.code, data


def verdicts(path, *options) -> list[str]:
    return [instance["verdict"] for instance in documents(path, *options)[1]["instances"]]


def test_rows_of_vnncomp(folder):
    ran = run(save_rows(folder, HOLDS, BREAKS))
    assert ran.code == 1 and ran.err == ""
    first, second, summary = ran.out.splitlines()
    assert first.startswith("holds ") and "vacuous" in first and f"net.onnx  {VACUOUS}" in first
    assert second.startswith("violated ") and f"net.onnx  {VIOLATED}" in second
    assert summary.startswith("2 instances: 1 holds, 1 violated; ")


def test_rows_with_a_header(folder):
    path = save_rows(folder, "benchmark,Property,model,verdict,year", f"a,{VIOLATED},net.onnx,sat,2024")
    code, data = documents(path)
    assert code == 1 and data["instances"][0]["expected"] == "sat" and not data["instances"][0]["contradicts"]


def test_a_byte_order_mark_and_blank_lines(folder):
    path = folder / "i.csv"
    path.write_bytes(b"\xef\xbb\xbfmodel,property\r\n\r\n" + f" net.onnx , {VACUOUS} \r\n\r\n".encode())
    assert verdicts(path) == ["unsat"]


def test_compressed_files_are_found_under_either_name(folder):
    for name in ("net.onnx", VIOLATED):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    path = save_rows(folder, BREAKS, f"net.onnx.gz,{VACUOUS}.gz,5", f"net.onnx.gz,{VIOLATED}.gz")
    assert verdicts(path) == ["sat", "unsat", "sat"]


def test_paths_are_relative_to_the_file(folder, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert verdicts(save_rows(folder, HOLDS, f"{folder / 'net.onnx'},{folder / VACUOUS},1")) == ["unsat", "unsat"]


def test_errors_of_one_row_are_that_row(folder):
    (folder / "broken.vnnlib").write_text("(assert (<= X_0 zero))")
    (folder / "text.onnx").write_text("hello")
    rows = [
        f"none.onnx,{VACUOUS},1", "net.onnx,none.vnnlib,1", "net.onnx,broken.vnnlib,1", f"text.onnx,{VACUOUS},1",
        "net.onnx", f"net.onnx,{VACUOUS},soon", f"net.onnx,{VACUOUS},-1", f"net.onnx,{VACUOUS},1,2",
        f",{VACUOUS},1", f"{'n' * 5000},{VACUOUS},1", BREAKS,
    ]  # fmt: skip
    path = save_rows(folder, *rows)
    code, data = documents(path)
    assert [one["exit_code"] for one in data["instances"]] == [2, 2, 2, 4, 2, 2, 2, 2, 2, 2, None]
    notes = [one["note"] for one in data["instances"]]
    words = ["no model file", "no property", "line 1", "not an ONNX file", "line 5 has", "'soon'", "'-1'", "4 cells"]
    assert all(word in note for word, note in zip(words, notes, strict=False)), notes
    assert code == 4 and data["summary"]["error"] == 10 and data["summary"]["falsified"] == 1
    ran = run(path)
    assert ran.code == 4 and ran.err == "" and len(ran.out.splitlines()) == len(rows) + 1
    assert "error: there is no model file" in ran.out.splitlines()[0]


def test_a_defect_is_that_row_too(folder, told):
    told(KeyError("nothing"), "certified")
    code, data = documents(save_rows(folder, BREAKS, BREAKS))
    assert code == 70 and [one["verdict"] for one in data["instances"]] == ["error", "unsat"]
    assert "KeyError" in data["instances"][0]["note"]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (["certified"], 0),
        (["certified", "unknown"], 3),
        (["certified", "timeout"], 3),
        (["unknown", "falsified"], 1),
        (["falsified", "certified", certlip.errors.UsageError("x")], 2),
        (["falsified", certlip.errors.UsageError("x"), certlip.errors.ModelError("x")], 4),
        ([certlip.errors.ModelError("x"), ValueError("x"), "falsified"], 70),
        (["error", "certified"], 70),
    ],
)
def test_the_exit_code_is_the_first_in_order(folder, told, answers, code):
    told(*answers, "certified")
    assert run(save_rows(folder, *[BREAKS] * len(answers))).code == code


def test_contradictions_are_loud_and_change_no_exit_code(folder, told):
    told("certified", "falsified", "falsified", "unknown", "certified")
    words = ["sat", "unsat", "sat", "sat", "sat?"]
    rows = [f"net.onnx,{VIOLATED},{word}" for word in words]
    path = save_rows(folder, "model,property,expected", *rows)
    ran = run(path)
    assert ran.code == 1
    assert [("CONTRADICTS" in line) for line in ran.out.splitlines()] == [True, True, False, False, False, False]
    assert "2 CONTRADICT the" in ran.out.splitlines()[-1]
    told("certified")
    code, data = documents(path)
    assert code == 0 and data["summary"]["contradicts"] == 3


def test_timeouts_are_the_smallest_of_row_option_and_total(folder, told):
    procedure = told("unknown")
    path = save_rows(folder, f"net.onnx,{VIOLATED},7", f"net.onnx,{VIOLATED},70", f"net.onnx,{VIOLATED}")
    timeouts = [one["timeout"] for one in documents(path, "--timeout", "30")[1]["instances"]]
    assert timeouts == [7.0, 30.0, 30.0]
    began = time.monotonic()
    assert all(0 < asked["deadline"] - began < 31 for asked in procedure.asked)
    timeouts = [one["timeout"] for one in documents(path, "--total-timeout", "5")[1]["instances"]]
    assert all(0 < timeout <= 5 for timeout in timeouts)


def test_what_the_total_time_does_not_reach(folder, told):
    procedure = told("certified")
    code, data = documents(save_rows(folder, HOLDS, HOLDS), "--total-timeout", "1e-9")
    assert code == 3 and procedure.asked == []
    assert [(one["verdict"], one["timeout"]) for one in data["instances"]] == [("timeout", 0.0)] * 2


def test_the_limit_counts_rows(folder):
    assert verdicts(save_rows(folder, HOLDS, BREAKS, "bad"), "--limit", "2") == ["unsat", "sat"]


def test_a_model_is_loaded_once(folder, monkeypatch):
    loaded = []

    def loading(path, **names):
        loaded.append(path.name)
        return load(path, **names)

    monkeypatch.setattr("certlip.runs.suite.load", loading)
    (folder / "twin.onnx").write_bytes((folder / "net.onnx").read_bytes())
    run(save_rows(folder, HOLDS, BREAKS, f"twin.onnx,{VACUOUS}", HOLDS))
    assert loaded == ["net.onnx", "twin.onnx", "net.onnx"]


def test_lines_come_as_instances_end(folder, monkeypatch):
    seen = []

    def decide(model, property, **options):
        seen.append(sys.stdout.getvalue().count("\n"))
        return answer("certified")

    monkeypatch.setattr("certlip.runs.suite.decide_property", decide)
    path = save_rows(folder, HOLDS, HOLDS, HOLDS)
    for option in ([], ["--jsonl"]):
        run(path, *option)
    assert seen == [0, 1, 2] * 2


def test_json_lines(folder):
    ran = run(save_rows(folder, HOLDS, BREAKS, "none,none", "bad"), "--jsonl")
    lines = lines_of(ran.out)
    assert [line["result"]["verdict"] for line in lines] == ["unsat", "sat", "error", "error"]
    assert all(line["kind"] == "instance" and not line["earlier"] for line in lines)
    assert ran.err.startswith("4 instances: ")
    lines[0]["result"]["verdict"] = "probably"
    assert schema_errors("verify-lines", lines[0])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"model,property\n", b"\xff\xfe\x00", b'"' + b"a" * 200_000])
def test_files_that_are_no_suite(tmp_path, content):
    path = tmp_path / "i.csv"
    path.write_bytes(content)
    ran = run(path)
    assert ran.code == 2 and ran.out == "" and ran.err.startswith("error: ") and ran.err.count("\n") == 1


def test_a_suite_that_is_missing(tmp_path):
    ran = run(tmp_path / "none.csv", "--resume", tmp_path / "run.jsonl")
    assert ran.code == 2 and "no file of instances" in ran.err and not (tmp_path / "run.jsonl").exists()


def test_names_cannot_steer_the_terminal(folder):
    ran = run(save_rows(folder, "evil\x1b[2J[bold]x[/],none,1"))
    assert "\x1b" not in ran.out and "[bold]x[/]" in ran.out


def test_interrupted_runs_have_a_summary(folder, told):
    path = save_rows(folder, HOLDS, HOLDS, HOLDS)
    told("certified", KeyboardInterrupt())
    ran = run(path)
    assert ran.code == 130 and ran.err == "interrupted\n"
    assert [line.split()[0] for line in ran.out.splitlines()] == ["holds", "1"] and "1 of 3 instances" in ran.out
    told("certified", KeyboardInterrupt())
    code, data = documents(path)
    assert code == 130 and data["summary"]["interrupted"] and data["summary"]["certified"] == 1


def test_ctrl_c_leaves_a_file_that_goes_on(folder):
    count = 20_000
    path, file = save_rows(folder, *[f"net.onnx,p{i}.vnnlib" for i in range(count)]), folder / "run.jsonl"
    text = (folder / VACUOUS).read_text()
    for i in range(60):
        (folder / f"p{i}.vnnlib").write_text(f"; {i}\n{text}")
    line = [sys.executable, "-m", "certlip", "verify", "--instances", str(path), "--resume", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while (not file.exists() or file.read_bytes().count(b"\n") < 30) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "interrupted\n", err
    left = lines_of(file.read_text())
    assert 30 <= len(left) < count
    *shown, summary = out.splitlines()
    assert len(left) - 1 <= len(shown) <= len(left) and f"{len(shown)} of {count} instances" in summary
    earlier = [entry["earlier"] for entry in lines_of(run(path, "--limit", 40, "--resume", file, "--jsonl").out)]
    assert earlier[:30] == [True] * 30


def test_from_python(folder):
    path = save_rows(folder, HOLDS, BREAKS, "none,none")
    seen = []
    report = certlip.verify_instances(path, timeout=10, each=seen.append, progress=str)
    assert report.instances == tuple(seen) and report.total == 3
    assert [one.verdict for one in report.instances] == ["unsat", "sat", "error"]
    assert report.instances[1].counterexample.size == 2
    assert "1 holds, 1 violated, 1 error" in repr(report) and "none" in report._repr_html_()
    with pytest.raises(certlip.errors.UsageError):
        certlip.verify_instances(path, limit=0)
    with pytest.raises(certlip.errors.UsageError):
        certlip.verify_instances(path, total_timeout=-1)
