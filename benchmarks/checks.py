"""What it takes to check certificates: `python -m benchmarks.checks NAME` prints one row as JSON.

Each row is a process of its own, which makes the certificates, reads the model once so that imports do not count, and
then times the checker alone.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.networks import ROOT, dense_onnx

MNIST = ROOT / "models_zoo" / "mnist_mlp"
BUNDLE = 1000


@dataclass(frozen=True)
class Row:
    """One line of the table. make: fills a folder with a model and certificates, and returns what to check. limit: the
    seconds that the check may take."""

    make: Callable[[Path], Path]
    exact: bool = False
    level: str = "float"
    limit: float | None = None


def chain(folder: Path, *widths: int) -> Path:
    """The lipsdp bound of a random chain of binary32 weights."""
    import certlip

    model = dense_onnx(folder / "model.onnx", [784, *widths, 10])
    certlip.bound(model, method="eclipse-fast", certificate=folder / "bound" / "bound.json")
    return folder / "bound"


def bundle(folder: Path, level: str) -> Path:
    """Robustness of a thousand images: the held-out ones, and the same with a tenth of their contrast gone."""
    import certlip

    with np.load(MNIST.with_suffix(".npz")) as data:
        images = np.concatenate([data["x"], (0.9 * data["x"]).astype(np.float32), (0.95 * data["x"]).astype(np.float32)])
    model = certlip.load(MNIST.with_suffix(".onnx"))
    margins = np.sort(model.graph(images), axis=1)
    sure = np.argsort(margins[:, -2] - margins[:, -1])[:BUNDLE]  # no eps is too small for a tie
    place = folder / "bundle.certlip"
    report = certlip.verify(model, "1/1000", data=(images[sure], None), certificates=place, level=level)
    if report.certified_accuracy < 1:
        raise RuntimeError(f"only {report.certified_accuracy:.4f} of the images are certified")
    return place


ROWS = {
    "784-1024-10": Row(partial(chain, widths=()), limit=0.5),
}
