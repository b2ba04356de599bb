"""Counterexamples as files: arrays for Python, or the text that VNN-COMP replays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certlip.errors import UsageError
from certlip.report.property_text import exact_decimal
from certlip.rigor.rounding import Array

SUFFIXES = (".npz", ".txt")


def require_place(path: Path) -> None:
    """Refuse, before anything runs, a file that could not be written."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is neither .npz nor .txt; name a file for arrays (.npz) or for text (.txt)")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the counterexample")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the counterexample; make it first")


def write_counterexample(path: Path, x: Array, y: Array) -> None:
    """x: of the model's input shape, in its input type. y: its outputs."""
    if path.suffix == ".npz":
        np.savez(path, x=x, y=y)
    else:
        path.write_text(vnncomp_text(x, y), encoding="ascii")


def vnncomp_text(x: Array, y: Array) -> str:
    """`sat`, then ((X_0 value) ... (Y_0 value) ...) in exact decimals, entries in row-major order."""
    pairs = [
        f"({sign}_{i} {exact_decimal(value)})"
        for sign, values in (("X", x), ("Y", y))
        for i, value in enumerate(np.asarray(values, np.float64).reshape(-1).tolist())
    ]
    return "sat\n(" + "\n".join(pairs) + ")\n"
