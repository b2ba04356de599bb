"""Rows of long sections, kept as they are measured: an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parent / "cache"

Row = dict[str, Any]


class Kept:
    """Rows in a file of JSON lines, each known by what was asked."""

    def __init__(self, path: Path):
        self._path = path
        self._rows: dict[str, Row] = {}
        path.parent.mkdir(exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a run that was killed may have left half a line
        for line in whole.splitlines():
            entry = json.loads(line)
            self._rows[_key(entry["asked"])] = entry["row"]
        path.write_text(whole)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, asked: Mapping[str, Any], measure: Callable[[], Row]) -> Row:
        """The row of an earlier run, else the one that is measured now."""
        key = _key(asked)
        if key not in self._rows:
            self._rows[key] = measure()
            with self._path.open("a") as stream:
                stream.write(json.dumps({"asked": dict(asked), "row": self._rows[key]}) + "\n")
        return self._rows[key]


def _key(asked: Mapping[str, Any]) -> str:
    return json.dumps(dict(asked), sort_keys=True)


@contextmanager
def kept(section: str, folder: Path = CACHE) -> Iterator[Kept]:
    """The rows of a section. When it is complete, they are set aside: the next run measures again."""
    path = folder / f"{section}.jsonl"
    rows = Kept(path)
    if len(rows):
        print(f"  going on after {len(rows)} rows; to start over, remove {path}", flush=True)
    yield rows
    path.replace(path.with_suffix(".complete.jsonl"))
