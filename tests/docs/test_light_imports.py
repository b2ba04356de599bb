"""What a cheap command may load, read off `sys.modules` of a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "cvxpy", "onnxruntime", "matplotlib", "scipy", "clarabel"}


def loaded(code: str) -> set[str]:
    """Top-level packages outside the standard library that are loaded after running the code."""
    script = (
        f"import sys\n{code}\nimport json\n"
        "names = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "sys.stderr.write(json.dumps(sorted(names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


def test_importing_certlip_loads_nothing_heavy():
    assert loaded("import certlip") & (HEAVY | {"numpy", "onnx", "click", "rich"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["verify", "--help"], ["bound", "-h"]])
def test_help_loads_no_mathematics(arguments):
    packages = loaded(f"from certlip.cli.main import code_of\nassert code_of({arguments!r}) == 0")
    assert packages & (HEAVY | {"numpy", "onnx", "rich"}) == set()
    assert "click" in packages


def test_the_checker_loads_numpy_and_onnx_alone():
    packages = loaded("import certlip.check.__main__")
    assert packages & (HEAVY | {"click", "rich", "threadpoolctl", "onnxscript"}) == set()
    assert {"numpy", "onnx"} <= packages


def test_bounds_load_no_general_solver():
    code = "import certlip\ncertlip.bound('models_zoo/diabetes.onnx', method='spectral')"
    assert loaded(code) & {"torch", "cvxpy", "clarabel", "matplotlib"} == set()


def test_searches_load_torch_when_they_start():
    packages = loaded("import certlip.verification.falsify, certlip.verification.confirm")
    assert packages & {"torch", "onnxruntime"} == set()
