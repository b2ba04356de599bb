"""The rows of a suite: which model, which property, how long, and what is expected."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from certlip.errors import UsageError

_PLAIN = ("model", "property", "timeout")
_EXPECTED = ("verdict", "expected")
_VERDICTS = {"unsat": "unsat", "holds": "unsat", "sat": "sat", "violated": "sat"}


@dataclass(frozen=True)
class Instance:
    """One row. timeout: its own limit in seconds, None without one. expected: "sat", "unsat" or None where the file
    says nothing firm. problem: why the row cannot be run, empty if it can."""

    index: int
    model: str
    property: str
    timeout: float | None = None
    expected: str | None = None
    problem: str = ""


def read_instances(path: Path) -> list[Instance]:
    """Rows `model,property,timeout` as in VNN-COMP, or a header with at least `model` and `property`; of the other
    columns `timeout`, `verdict` and `expected` are read. A row that makes no sense is an instance with a `problem`.

    Raises UsageError where the file cannot be read or has no rows.
    """
    if not path.is_file():
        raise UsageError(f"there is no file of instances {path}; check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} is not a readable .csv file ({error}); write rows of model,property,timeout"
        ) from error
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    named = {"model", "property"} <= set(header)
    rows = lines[1:] if named else lines
    if not rows:
        raise UsageError(f"{path} holds no instances; write rows of model,property,timeout")
    columns = header if named else _PLAIN
    return [_instance(index, line, row, columns) for index, (line, row) in enumerate(rows)]


def _instance(index: int, line: int, row: Sequence[str], columns: Sequence[str]) -> Instance:
    cells = dict(zip(columns, row, strict=False))
    model, property = cells.get("model", ""), cells.get("property", "")
    problem, timeout = "", None
    if not model or not property or len(row) > len(columns):
        problem = f"line {line} has {len(row)} cells; write {','.join(columns)}"
    elif cells.get("timeout"):
        timeout = _seconds(cells["timeout"])
        if timeout is None:
            problem = f"line {line} has the timeout '{cells['timeout'][:40]}'; write a positive number of seconds"
    words = (cells.get(name, "").lower() for name in _EXPECTED)
    expected = next((_VERDICTS[word] for word in words if word in _VERDICTS), None)
    return Instance(index, model, property, timeout, expected, problem)


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def locate(folder: Path, name: str, what: str) -> Path:
    """The file that a row names, relative to the folder of the suite; `.gz` may be missing or too much. UsageError."""
    plain = name.removesuffix(".gz")
    for candidate in (folder / name, folder / plain, folder / f"{plain}.gz"):
        if candidate.is_file():
            return candidate
    raise UsageError(f"there is no {what} {folder / name}, compressed or not; check the path")
