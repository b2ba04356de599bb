"""`python -m certlip.check` in a process where only numpy and onnx can be imported."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
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
