"""`python -m certlip.check` in a process where only numpy and onnx can be imported."""

import json
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from importlib.metadata import files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from small_models import ZOO, command
from workbench import Workbench, altered, onnx_model, random_layers

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = (
    "torch",
    "onnxruntime",
    "scipy",
    "cvxpy",
    "clarabel",
    "mosek",
    "click",
    "rich",
    "threadpoolctl",
    "onnxscript",
)
SHIM = f"""
import runpy, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ImportError("the checker must not need " + name)

sys.meta_path.insert(0, Forbidden())
for name in {FORBIDDEN!r}:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit("the shim does not work")
sys.argv[0] = "certlip.check"
runpy.run_module("certlip.check", run_name="__main__", alter_sys=True)
"""


def run(*arguments, prelude=("-c", SHIM), env=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *prelude, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | (env or {}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    bench = Workbench(tmp_path_factory.mktemp("command"), onnx_model(random_layers(0)))
    certificate, arrays = bench.lipschitz()
    bench.write(certificate, *arrays, name="true.json")
    lowered = str(Fraction(certificate.statement["value"]) * Fraction(999, 1000))
    (bench.folder / "lies").mkdir()
    lie = Workbench(bench.folder / "lies", onnx_model(random_layers(0)))
    lie.write(altered(certificate, value=lowered), *arrays, name="false\nname.json")
    return bench


def test_the_checker_needs_numpy_and_onnx_only(bench):
    result = run(bench.folder / "true.json")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("accepted") and result.stdout.endswith("1 checked, 0 rejected\n")
    assert not result.stderr


def test_a_lie_among_truths_fails_the_command(bench):
    result = run(bench.folder, bench.folder / "lies")
    assert result.returncode == 5 and not result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["accepted", "REJECTED"]
    assert lines[-1] == "2 checked, 1 rejected"
    assert r"false\nname.json" in lines[1]


def test_plain_invocation_and_empty_folders(bench, tmp_path):
    plain = ("-m", "certlip.check")
    assert run(bench.folder / "true.json", "--model", bench.path, prelude=plain).returncode == 0
    assert run(tmp_path, prelude=plain).returncode == 2  # nothing checked is nothing proved
    assert run(tmp_path / "none.json", prelude=plain, env={"PYTHONIOENCODING": "ascii"}).returncode == 2
    assert run(prelude=plain).returncode == 2


def closure(*names: str) -> set[str]:
    """Distributions that installing these brings along."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            needed = map(Requirement, requires(name) or [])
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A folder of links: numpy, onnx and what they require, as `pip install numpy onnx` would leave it, and certlip, as
    `pip install --no-deps .` would."""
    place = tmp_path_factory.mktemp("bare")
    (place / "certlip").symlink_to(ROOT / "certlip")
    for name in closure("numpy", "onnx"):
        for file in files(name) or []:
            top, whole = file.parts[0], Path(str(file.locate()))
            if top not in ("..", "__pycache__") and not (place / top).exists():
                (place / top).symlink_to([whole, *whole.parents][len(file.parts) - 1])
    return place


def run_bare(bare: Path, *arguments) -> subprocess.CompletedProcess:
    """Without site-packages: whatever is not in the folder is not installed."""
    return subprocess.run(
        [sys.executable, "-S", "-B", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False,
        cwd=bare, env={"PYTHONPATH": str(bare), "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ.get("PATH", "")},
    )  # fmt: skip


def test_the_bare_environment_is_bare(bare):
    for name in FORBIDDEN:
        assert run_bare(bare, "-c", f"import {name}").returncode == 1, name
    assert run_bare(bare, "-c", "import numpy, onnx, certlip").returncode == 0


@pytest.mark.parametrize("call", [["-m", "certlip"], ["-c", "from certlip.__main__ import main; main()"]])
def test_the_other_command_says_what_is_missing(bare, call):
    """The second is what the installed script runs."""
    result = run_bare(bare, *call, "attest", "x.json")
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "click" in result.stderr and "python -m certlip.check" in result.stderr
    assert 'certlip = "certlip.__main__:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("place", ["c", "c.certlip"])
def test_a_run_is_checked_in_a_bare_environment(bare, tmp_path, place):
    line = ["verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "2", "--method", "spectral"]
    assert command(*line, "--certificates", tmp_path / place).code == 0
    arguments = "-m", "certlip.check", tmp_path / place, "--model", ZOO
    for call in (arguments, ("-m", "certlip", "check", *arguments[2:])):  # `certlip check` too, without its options
        result = run_bare(bare, *call, "--level", "deployed")
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.count("accepted [deployed]") == 2 and result.stdout.endswith("3 checked, 0 rejected\n")
    assert run_bare(bare, "-m", "certlip", "check", tmp_path / place, "--attestation", "x.json").returncode == 2
    result = run_bare(bare, *arguments, "--exact", "--json")
    found = json.loads(result.stdout)
    assert result.returncode == 0
    assert [entry["level"] for entry in found["certificates"]] == ["exact", "deployed", "deployed"]
    (tmp_path / "lie.certlip").write_bytes(b"PK" + b"\0" * 50)
    result = run_bare(bare, "-m", "certlip.check", tmp_path / "lie.certlip", "--json")
    assert result.returncode == 5 and json.loads(result.stdout)["rejected"] == 1 and not result.stderr


ZOO_RUNS = {
    "breast_cancer": ["--eps", "0.1"],
    "diabetes": ["--eps", "0.1", "--tolerance", "0.2"],
    "digits_lipschitz": ["--eps", "0.05"],
    "digits_mlp": ["--eps", "0.1"],
    "digits_residual": ["--eps", "0.05"],
    "digits_tanh": ["--eps", "1"],
    "mnist_conv": ["--eps", "0.1", "--norm", "l2"],
    "mnist_mlp": ["--eps", "0.002", "--norm", "linf"],
}


@pytest.mark.parametrize("stem", ZOO_RUNS)
def test_the_zoo_is_checked_in_a_bare_environment_without_a_word_about_its_models(bare, tmp_path, stem):
    """`certlip verify MODEL --certificates out` and then `certlip check out`, at the level deployed."""
    assert {path.stem for path in ZOO.glob("*.onnx")} == ZOO_RUNS.keys()
    line = ["verify", ZOO / f"{stem}.onnx", *ZOO_RUNS[stem], "--limit", "2", "--timeout", "20", "--level", "deployed"]
    ran = command(*line, "--certificates", tmp_path / "out", "--json")
    assert ran.code in (0, 1, 3), ran.err
    proved = [each for each in json.loads(ran.out)["samples"] if each["status"] in ("certified", "falsified")]
    result = run_bare(bare, "-m", "certlip.check", tmp_path / "out", "--level", "deployed", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    levels = [entry["level"] for entry in found["certificates"]]
    assert found["rejected"] == 0 and levels.count("deployed") == len(proved) > 0
    assert command("check", tmp_path / "out", "--level", "deployed").code == 0


def test_interruptions_and_closed_pipes_are_quiet(bench):
    """The exit codes of the `certlip` command."""
    arguments = [sys.executable, "-m", "certlip.check", *[str(bench.folder / "true.json")] * 4000]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    options["env"] = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, **options) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == ""
    with subprocess.Popen(arguments, **options) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141 and err == ""
    options["env"].pop("PYTHONUNBUFFERED")
    with subprocess.Popen([*arguments[:4], "--json"], **options) as last:
        last.stdout.close()  # all of it is still in the buffer when the last line is printed
        err = last.stderr.read()
    assert last.returncode == 141 and err == ""


def test_both_commands_say_the_same(bench):
    plain = run(bench.folder, "--json", "--exact", prelude=("-m", "certlip.check"))
    assert json.loads(plain.stdout) == json.loads(command("check", bench.folder, "--json", "--exact").out)
    for arguments in (["--level", "certain"], ["--level"]):
        assert run(bench.folder, *arguments, prelude=("-m", "certlip.check")).returncode == 2
        assert command("check", bench.folder, *arguments).code == 2
