"""How much code an auditor has to read: what checking one certificate enters, and the trusted base as a whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import certlip
from certlip.runs import verify_property
from tests.check.reached_code import ROOT, code_lines

ZOO = ROOT.parent / "models_zoo"

KERNEL = ("rigor", "check", "certificate", "proofs", "regular_files.py")
LOWERING = ("graph", "ops", "onnx_reader", "passes", "properties")
WHOLE = 9200
"""Lines of code of all these rooms, which only changes that say so here may exceed."""


def bound(folder: Path, stem: str, method: str) -> None:
    certlip.bound(ZOO / f"{stem}.onnx", method=method, timeout=20, certificate=folder / "bound.json")


def verdicts(folder: Path, stem: str, method: str) -> None:
    certlip.verify(ZOO / f"{stem}.onnx", "0.1", method=method, limit=3, certificates=folder, level="deployed")


def on_a_property(folder: Path, stem: str, method: str) -> None:
    property = ROOT.parent / "specs" / "vnnlib" / f"{stem}.vnnlib"
    verify_property(ZOO / f"{stem}.onnx", property, method=method, certificates=folder)


@pytest.mark.parametrize(
    ("make", "stem", "method", "arithmetic", "kernel", "lowering"),
    [
        (verdicts, "breast_cancer", "spectral", "float", 800, 900),
        (verdicts, "breast_cancer", "spectral", "exact", 1100, 900),
        (bound, "digits_mlp", "lipsdp", "float", 1000, 700),
        (bound, "digits_mlp", "lipsdp", "exact", 1300, 700),
        (bound, "mnist_conv", "lipsdp-torus", "float", 1450, 950),
        (on_a_property, "digits_mlp", "crown", "float", 1050, 1000),
    ],
)
def test_what_one_check_enters(make, stem, method, arithmetic, kernel, lowering, tmp_path):
    make(tmp_path, stem, method)
    command = [sys.executable, "-m", "tests.check.reached_code", str(ZOO / f"{stem}.onnx"), arithmetic, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    found = json.loads(done.stdout)
    assert found["accepted"] and set(found["rooms"]) <= {*KERNEL, *LOWERING}
    inside, below = (sum(found["rooms"].get(room, 0) for room in rooms) for rooms in (KERNEL, LOWERING))
    assert 0 < inside <= kernel and 0 < below <= lowering, found["rooms"]


def lines_of(room: str) -> int:
    """Lines of code of a room, or of a file that is one."""
    files = [ROOT / room] if room.endswith(".py") else (ROOT / room).rglob("*.py")
    return sum(len(code_lines(path.read_text())) for path in files)


def test_the_trusted_base_does_not_grow_unseen():
    assert 0.9 * WHOLE < sum(map(lines_of, (*KERNEL, *LOWERING))) <= WHOLE


def test_its_size_is_told():
    """The table of `docs/certificates.md` names every room with its lines, within a tenth."""
    page = (ROOT.parent / "docs" / "certificates.md").read_text()
    told = {room: int(lines) for room, lines in re.findall(r"\| `(\w+)` \| (\d+) (?=\|)", page)}
    rooms = {room for room in (*KERNEL, *LOWERING) if not room.endswith(".py")}
    assert told.keys() == rooms
    for room, lines in told.items():
        assert abs(lines_of(room) - lines) <= 0.1 * lines, (room, lines_of(room))
