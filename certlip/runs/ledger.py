"""A file of results, one JSON object a line, that a later run reads before it goes on.

Every line is written at once, so an interruption leaves complete lines. A machine that stops may leave the last one
torn: that line is cut off when the file is opened again.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certlip.errors import UsageError
from certlip.report.json_form import SCHEMA
from certlip.verification.uninterrupted import uninterrupted

_DECIDED = ("certified", "falsified", "misclassified")
_UNDECIDED = ("unknown", "timeout")
_HEAD = json.dumps({"schema": SCHEMA, "kind": ""}).encode()[:-2]
"""How every line begins."""


class Ledger:
    """The results in a file, which is made if it is missing. Use it in a `with` statement.

    Raises UsageError where the file holds anything but lines that certlip wrote, and OSError where it cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: dict[str, dict[str, Any]] = {}
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} for {path.name}; make it first")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file; name a file of result lines, which is made if it is missing")
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise UsageError(f"{path} is no regular file; name a file of result lines")
            self._read()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._handle)

    def _read(self) -> None:
        with open(self._handle, "rb", closefd=False) as stream:
            lines = stream.readlines()
        for number, raw in enumerate(lines, 1):
            line = _parsed(raw)
            if line is not None:
                self._lines[_key(line["asked"])] = line
            elif number == len(lines) and _is_torn(raw):
                os.ftruncate(self._handle, sum(map(len, lines[:-1])))
                return
            elif raw.strip():
                raise UsageError(
                    f"{self.path}, line {number} is no result of certlip in format {SCHEMA}; name another file"
                )
        if lines and not lines[-1].endswith(b"\n"):
            os.write(self._handle, b"\n")

    def earlier(self, asked: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last line about this question, None where it must be asked (again): without a verdict, a search with
        other limits may find one."""
        line = self._lines.get(_key(asked))
        if line is None or line["result"]["status"] in _DECIDED:
            return line
        had = line["limits"]
        same = all(had.get(name) == value for name, value in limits.items() if name != "timeout")
        covered = same and _seconds(had.get("timeout")) >= _seconds(limits["timeout"])
        return line if line["result"]["status"] in _UNDECIDED and covered else None

    def write(self, line: dict[str, Any]) -> None:
        """Append a line, whole, before anything else happens."""
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        with uninterrupted():
            while data:
                data = data[os.write(self._handle, data) :]
        self._lines[_key(line["asked"])] = line


def _is_torn(raw: bytes) -> bool:
    """Whether these bytes are the beginning of a line, and not something else that the user wants to keep."""
    return not raw.endswith(b"\n") and (raw.startswith(_HEAD) or _HEAD.startswith(raw))


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or line.get("schema") != SCHEMA:
        return None
    parts = [line.get(name) for name in ("asked", "limits", "result")]
    if not all(isinstance(part, dict) for part in parts) or line["result"].get("status") not in (
        *_DECIDED,
        *_UNDECIDED,
        "error",
    ):
        return None
    return line


def _key(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True)


def _seconds(timeout: Any) -> float:
    """None is no limit."""
    return math.inf if timeout is None else timeout if isinstance(timeout, (int, float)) else 0.0
