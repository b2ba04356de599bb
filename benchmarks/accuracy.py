"""Certified accuracy of the zoo: `python -m benchmarks.accuracy MODEL NORM EPS METHOD` prints one row as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from functools import partial
from itertools import product

from benchmarks.kept import Row, kept
from benchmarks.networks import ROOT
from benchmarks.process import row_of

TITLE = "Certified accuracy"
KEY = "accuracy"
IMAGES, SECONDS = 20, 2.0  # seconds for each image
_TEXT = """\
The first {images} held-out images of each MNIST network of the zoo, at most {seconds:g} s for an image. `Lipschitz`:
the method `lipsdp`, one bound for all images; `CROWN`: linear bounds for each image; `full`: `auto`, attacks and proofs
by cases among its methods. `certified`: images that are classified correctly with a proof that no perturbation changes
that. `falsified` ones have a confirmed counterexample; `open`: neither. Times are those of all images; one image is
decided before, so that imports do not count."""
_MODELS = ("mnist_mlp", "mnist_conv")
_BALLS = (("linf", "0.02"), ("linf", "0.05"), ("linf", "0.1"), ("l2", "0.1"), ("l2", "0.25"), ("l2", "0.5"))
METHODS = {"Lipschitz": "lipsdp", "CROWN": "crown", "full": "auto"}


def measure(model: str, norm: str, eps: str, method: str) -> Row:
    """Counts by status, and times."""
    import certlip

    loaded = certlip.load(ROOT / "models_zoo" / f"{model}.onnx")
    certlip.verify(loaded, eps, norm=norm, method=method, limit=1, timeout=SECONDS)
    wall, cpu = time.perf_counter(), time.process_time()
    report = certlip.verify(loaded, eps, norm=norm, method=method, limit=IMAGES, timeout=SECONDS)
    counts = {str(status): report.count(status) for status in {sample.status for sample in report.samples}}
    return counts | {
        "samples": len(report.samples),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "longest": max(sample.seconds for sample in report.samples),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def section() -> list[str]:
    """The lines of the table."""
    heads = "network | ball | method | clean | certified | falsified | open | wall s | CPU s | longest s | MB"
    lines = [f"## {TITLE}", "", _TEXT.format(images=IMAGES, seconds=SECONDS), "", f"| {heads} |"]
    lines.append("|---" * (heads.count("|") + 1) + "|")
    with kept(KEY) as known:
        for model, (norm, eps), method in product(_MODELS, _BALLS, METHODS):
            order = {"model": model, "norm": norm, "eps": eps, "method": METHODS[method]}
            row = known.row(order | {"images": IMAGES, "seconds": SECONDS}, partial(row_of, KEY, *order.values()))
            lines.append(_line(f"{model} | {norm} {eps} | {method}", row))
            print(f"  {lines[-1]}", flush=True)
    return lines


def _line(names: str, row: Row) -> str:
    if "unavailable" in row:
        return f"| {names} | not available: {row['unavailable'].replace('|', '/')} |" + " |" * 7
    total = row["samples"]
    certified, falsified, wrong = (row.get(name, 0) for name in ("certified", "falsified", "misclassified"))
    shares = (f"{100 * part / total:.0f} %" for part in (total - wrong, certified))
    counts = map(str, (falsified, total - certified - falsified - wrong))
    times = (f"{row[key]:.3g}" for key in ("wall", "cpu", "longest"))
    return f"| {names} | {' | '.join([*shares, *counts, *times])} | {row['memory']:.0f} |"


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
