"""VNN-LIB files, models and suites for tests: properties that every sound procedure decides at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from jsonschema import Draft202012Validator
from small_models import ROOT, save_chain

from certlip.verification import Status
from certlip.verification.decide import PropertyResult

VACUOUS, VIOLATED = "vacuous.vnnlib", "violated.vnnlib"


def property_text(box, unsafe: str, outputs: int = 2) -> str:
    """A property with one box, (low, high) by entry, and one formula about the outputs."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(box))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (low, high) in enumerate(box):
        lines += [f"(assert (>= X_{i} {low}))", f"(assert (<= X_{i} {high}))"]
    return "\n".join([*lines, f"(assert {unsafe})", ""])


def save_suite(folder: Path) -> Path:
    """net.onnx with y = (x0, x1), a vacuous property and one that every input violates; the folder again."""
    save_chain(folder / "net.onnx", [(np.eye(2), np.zeros(2))])
    (folder / VACUOUS).write_text(property_text([("1.0", "0.0"), ("0.0", "1.0")], "(<= Y_0 Y_1)"))
    (folder / VIOLATED).write_text(property_text([("0.1", "0.2"), ("0.3", "0.4")], "(<= Y_0 Y_1)"))
    return folder


def save_rows(folder: Path, *rows: str, name: str = "instances.csv") -> Path:
    path = folder / name
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def answer(status: str, note: str = "") -> PropertyResult:
    """What a decision procedure might say."""
    point = np.array([0.125, 0.375]) if status == "falsified" else None
    return PropertyResult(Status(status), "told", 0.01, point, point, note)


class Told:
    """A decision procedure that says what it was told to, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, model, property, **options):
        self.asked.append({"model": model, "property": property, **options})
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, BaseException):
            raise said
        return answer(said) if isinstance(said, str) else said


def schema_errors(name: str, document) -> list[str]:
    schema = json.loads((ROOT / "specs" / f"{name}.schema.json").read_text())
    return [error.message for error in Draft202012Validator(schema).iter_errors(document)]


def lines_of(text: str) -> list[dict]:
    """JSON lines, each of which obeys the schema."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert schema_errors("verify-lines", line) == []
    return lines
