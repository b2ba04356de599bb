"""The meaning of exit codes: one test for each, their precedence, and no default of click or rich among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import click
import numpy as np
import pytest
from small_models import ROOT, ZOO, command, random_chain, save_chain

from certlip.cli import main
from certlip.cli.exit_codes import exit_code
from certlip.verification import Status

LINE = [([[2.0]], [-1.0])]
COMMANDS = ("inspect", "bound", "verify", "radius", "check", "solvers", "methods")


@pytest.fixture
def line(tmp_path):
    """f(x) = 2 x - 1 with samples: certified at 1/8, falsified at 1/8, misclassified."""
    path = save_chain(tmp_path / "line.onnx", LINE)
    np.savez(tmp_path / "line.npz", x=np.float32([[1.0], [0.5625], [1.0]]), y=np.array([1, 1, 0]))
    return path


def one_sentence(ran, code: int) -> None:
    assert ran.code == code, ran
    assert ran.out == "" and ran.err.startswith("error: ") and ran.err.count("\n") == 1, ran


def test_0_and_the_limit_of_samples(line):
    assert command("verify", line, "--eps", "1/8", "--limit", "1").code == 0
    assert command("radius", line, "--limit", "1").code == 0
    assert command("bound", line).code == 0
    assert command("bound", line, "--max-lipschitz", "2.001").code == 0
    assert command("verify", line, "--eps", "1/8", "--data-free").code == 0


def test_1_falsified_or_misclassified(line):
    assert command("verify", line, "--eps", "1/8", "--limit", "2").code == 1
    assert command("verify", line, "--eps", "0").code == 1
    assert command("radius", line).code == 1


@pytest.mark.parametrize("option", [["--timeout", "1e-9"], ["--total-timeout", "1e-9"]])
def test_3_without_time(line, option):
    ran = command("verify", line, "--eps", "1/8", "--limit", "1", "--json", *option)
    assert ran.code == 3 and json.loads(ran.out)["summary"]["timeout"] == 1


def test_3_not_proved(line, tmp_path):
    assert command("bound", line, "--max-lipschitz", "1.999").code == 3
    assert command("verify", line, "--eps", "1/4", "--limit", "1").code in (0, 3)
    np.savez(tmp_path / "tie.npz", x=np.float32([[0.5]]), y=np.array([0]))
    assert command("verify", line, "--eps", "0", "--data", tmp_path / "tie.npz").code == 3
    (tmp_path / "line.npz").unlink()
    ran = command("verify", line, "--eps", "1/8")
    assert ran.code == 3 and "--data-free" in ran.out and "bound: 2" in ran.out


def test_4_no_model(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    for name in ("inspect", "bound", "radius"):
        one_sentence(command(name, tmp_path / "text.onnx"), 4)
    one_sentence(command("verify", tmp_path / "text.onnx", "--eps", "1"), 4)


def test_4_unsupported_is_listed_by_inspect_and_refused_by_the_rest(tmp_path):
    from onnx import helper
    from small_models import save_model

    nodes = [helper.make_node("Sin", ["x"], ["h"], "wave"), helper.make_node("Det", ["h"], ["y"], "volume")]
    path = save_model(tmp_path / "m.onnx", nodes, 2, 2, {})
    one_sentence(command("bound", path), 4)
    ran = command("inspect", path)
    assert ran.code == 4 and "wave" in ran.out and "volume" in ran.out and ran.err.startswith("error: 2 nodes")
    ran = command("inspect", path, "--json")
    assert ran.code == 4 and {node["name"] for node in json.loads(ran.out)["unsupported"]} == {"wave", "volume"}


def test_70_for_a_defect_with_its_traceback(line, monkeypatch):
    def broken(*arguments, **options):
        raise KeyError("nothing")

    monkeypatch.setattr("certlip.api.bound_output", broken)
    ran = command("bound", line)
    assert ran.code == 70 and ran.out == "" and "Traceback" in ran.err and "please report" in ran.err


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit(1), SystemExit(None), EOFError(), AssertionError()])
def test_70_whatever_escapes(line, monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr("certlip.api.bound_output", broken)
    assert command("bound", line).code == 70


@pytest.mark.parametrize("value", [None, True, "0"])
def test_70_for_a_command_without_an_exit_code(monkeypatch, value):
    monkeypatch.setitem(main.main.commands, "solvers", click.Command("solvers", callback=lambda: value))
    assert command("solvers").code == 70


def test_70_without_memory_and_2_for_paths_that_cannot_be_opened(line, monkeypatch):
    for error, code in ((MemoryError(), 70), (PermissionError(13, "Permission denied", "m.onnx"), 2)):

        def broken(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr("certlip.api.bound_output", broken)
        one_sentence(command("bound", line), code)


def test_130_interrupted(line, monkeypatch):
    def broken(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("certlip.api.bound_output", broken)
    ran = command("bound", line)
    assert ran.code == 130 and ran.out == "" and ran.err == "interrupted\n"


class Counted:
    """A report of given statuses."""

    def __init__(self, **counts: int):
        self.samples = [Status(name) for name, count in counts.items() for _ in range(count)]

    def count(self, status) -> int:
        return self.samples.count(status)


@pytest.mark.parametrize(
    ("share", "counts", "code"),
    [
        (None, {"certified": 3}, 0),
        (None, {"certified": 2, "unknown": 1}, 3),
        (None, {"certified": 2, "timeout": 1}, 3),
        (None, {"certified": 2, "unknown": 1, "falsified": 1}, 1),
        (None, {"certified": 2, "timeout": 1, "misclassified": 1}, 1),
        (None, {"certified": 9, "falsified": 1, "error": 1}, 70),
        ("0", {"falsified": 3}, 0),
        ("0", {"falsified": 3, "error": 1}, 70),
        ("0.5", {"certified": 1, "falsified": 1}, 0),
        ("0.1", {"certified": 0, "falsified": 9, "unknown": 1}, 3),
        ("0.1", {"certified": 0, "falsified": 10}, 1),
        ("0.9", {"certified": 8, "misclassified": 2}, 1),
        ("0.9", {"certified": 8, "misclassified": 1, "timeout": 1}, 3),
        ("0.7", {"certified": 7, "falsified": 3}, 0),
        ("1/3", {"certified": 1, "falsified": 2}, 0),
        ("1", {"certified": 3}, 0),
        ("1", {"certified": 2, "falsified": 1}, 1),
    ],
)
def test_precedence_and_shares_are_exact(share, counts, code):
    assert exit_code(Counted(**counts), None if share is None else Fraction(share)) == code


@pytest.mark.parametrize("share", ["-0.1", "1.1", "nan", "inf", "a", "90%", ""])
def test_shares_that_are_none(line, share):
    one_sentence(command("verify", line, "--eps", "1", "--min-certified", share), 2)


@pytest.mark.parametrize(("share", "code"), [("0.3", 0), ("1/3", 0), ("0.34", 1)])
def test_min_certified(line, share, code):
    assert command("verify", line, "--eps", "1/8", "--min-certified", share).code == code


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["--nonsense"],
        ["bound"],
        ["bound", "m.onnx", "--norm", "l1"],
        ["bound", "m.onnx", "extra"],
        ["bound", "m.onnx", "--logit", "-1"],
        ["bound", "m.onnx", "--logit", "x"],
        ["bound", "m.onnx", "--timeout"],
        ["verify", "m.onnx", "--eps"],
        ["verify", "m.onnx", "--eps", "1", "--limit", "0"],
        ["verify", "m.onnx", "--eps", "1", "--limit", "1.5"],
        *(["verify", "m.onnx", "--eps", "1", "--timeout", value] for value in ("0", "-1", "nan", "inf", "soon")),
        *(["radius", "m.onnx", "--total-timeout", value] for value in ("0", "-1", "nan")),
        ["check"],
        ["solvers", "x"],
    ],
)
def test_2_for_everything_that_click_refuses(arguments):
    ran = command(*arguments)
    assert ran.code == 2 and ran.out == "" and "Traceback" not in ran.err
    assert "Usage: certlip" in ran.err or ran.err.startswith("Error: Option")


def test_help_and_version_are_0_and_no_command_prints_the_help():
    for name in COMMANDS:
        for flag in ("-h", "--help"):
            ran = command(name, flag)
            assert ran.code == 0 and "Usage:" in ran.out and ran.err == ""
    assert command("--version").code == 0
    ran = command("--help")
    assert ran.code == 0 and all(f"  {code} " in ran.out for code in (0, 1, 2, 3, 4, 5, 70)) and "130" in ran.out
    assert command().err.startswith("Usage: certlip")


def start(*arguments: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    environment |= options.pop("environment", {})
    line = [sys.executable, "-m", "certlip", *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["methods"], ["methods", "--json"], ["inspect", ZOO / "diabetes.onnx"], ["nonsense"]]
)
def test_141_closed_pipe(arguments):
    end, pipe = os.pipe()
    os.close(end)
    process = start(*arguments, stdout=pipe)
    os.close(pipe)
    _, err = process.communicate(timeout=60)
    usage = arguments == ["nonsense"]  # says nothing on stdout
    assert process.returncode == (2 if usage else 141)
    assert usage or err == b""


def test_a_full_disk_is_one_sentence():
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full here")
    with open("/dev/full", "w") as full:
        process = start("methods", "--json", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 70 and err.count(b"\n") == 1 and b"no space" in err


def test_a_terminal_without_unicode_gets_its_histogram(tmp_path):
    path = save_chain(tmp_path / "m\u00e9.onnx", LINE)
    np.savez(tmp_path / "m\u00e9.npz", x=np.float32([[1.0]]), y=np.array([1]))
    process = start("radius", path, stdout=subprocess.PIPE, environment={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"####" in out and b"m\\xe9.onnx" in out


def test_130_leaves_complete_files_only(tmp_path):
    path = save_chain(tmp_path / "net.onnx", random_chain(0, (2, 6, 3)))
    x = np.random.default_rng(0).uniform(-2, 2, (20_000, 2)).astype(np.float32)
    np.savez(tmp_path / "net.npz", x=x)
    folder = tmp_path / "certificates"
    process = start("verify", path, "--eps", "0.001", "--certificates", folder, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("sample-*.json"))) < 30 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.strip() == b"interrupted"
    assert b" samples, |.|_2 <= 1/1000 (0.001): " in out  # a summary of what was decided
    left = list(folder.iterdir())
    assert 30 <= len(left) < 40_000
    assert all(file.suffix in (".json", ".npy") and not file.name.startswith(".") for file in left)
    ran = command("check", folder)
    assert ran.code == 0, ran.out


def test_help_loads_nothing_heavy():
    script = "import sys; from certlip.cli.main import code_of; code_of(['verify', '--help']); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "certlip.cli.main" in loaded
    assert not loaded & {"numpy", "onnx", "torch", "rich", "scipy", "onnxruntime", "cvxpy"}
