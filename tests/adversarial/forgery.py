"""Records altered and signed anew, as somebody would who wants a false claim to pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from math import isqrt
from pathlib import Path

from certlip import check

Change = Callable[[dict], None]


def records(folder: Path, kind: str) -> list[Path]:
    """The records of one kind of claim in a folder."""
    paths = sorted(folder.glob("*.json"))
    found = [path for path in paths if json.loads(path.read_text())["statement"]["kind"] == kind]
    assert found, f"no {kind} certificate was written"
    return found


def accepted(path: Path, model: Path, **options) -> bool:
    """Whether the checker accepts the record; it must have an opinion, not a breakdown."""
    (finding,) = check(path, [model], **options)
    assert "broke off" not in finding.message, finding.message
    return finding.accepted


def accepts(path: Path, model: Path, change: Change, **options) -> bool:
    """Whether the record passes after `change` has altered its content, with the digest that fits."""
    record = json.loads(path.read_text())
    del record["digest"]
    change(record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    forged = path.with_name("forged.json")
    forged.write_text(json.dumps({**record, "digest": sha256(text.encode()).hexdigest()}))
    try:
        return accepted(forged, model, **options)
    finally:
        forged.unlink()


def with_value(value: Fraction) -> Change:
    """Claim another Lipschitz bound."""
    return lambda record: record["statement"].update(value=str(value))


def with_eps(eps: Fraction) -> Change:
    """Claim robustness on another ball."""
    return lambda record: record["statement"]["set"].update(eps=str(eps))


def with_label(label: int) -> Change:
    """Claim robustness of another class."""
    return lambda record: record["statement"].update(label=label)


def with_arithmetic(name: str, library_units: int = 16) -> Change:
    """Claim the same of executions, or of real arithmetic."""
    semantics = {"arithmetic": name} if name == "real" else {"arithmetic": name, "library_units": library_units}
    return lambda record: record.update(semantics=semantics)


def just_below(square: Fraction) -> Fraction:
    """A rational below the root of a positive number, by less than one part in 2^60."""
    scale = 1
    while square * scale * scale < Fraction(2) ** 124:
        scale *= 2**32
    result = Fraction(isqrt(int(square * scale * scale)) - 1, scale)
    assert result * result < square
    return result
