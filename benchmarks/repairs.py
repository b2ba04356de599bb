"""The zoo within half and a tenth of its bounds: `python -m benchmarks.repairs STEM SHARE METHOD` prints one row."""

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

TITLE = "Repairs of the zoo"
KEY = "repairs"
SECONDS = {"mnist_conv": 240.0}
"""Timeouts of networks whose bounds take seconds each; 60 for the others."""
_TEXT = """\
`certlip repair MODEL --max-lipschitz SHARE * bound --timeout 60` ({seconds}): each network of the zoo within half and a
tenth of the l2 bound that `auto` proves of it, fitted to the training part of its data and scored on the held-out
samples. `scale` shrinks layers; `auto` tries every method that applies and keeps the best by samples of its own (`by`
names it). The bound is proved of the written file. `accuracy` or mean squared error and the average certified radius
(l2, 0 for misclassified samples) are before -> after. Scaling a classifier costs no accuracy; what the others gain
there is radius."""
_SHARES = ("1/2", "1/10")
METHODS = ("scale", "auto")


def stems() -> list[str]:
    """The zoo's models."""
    return sorted(path.stem for path in (ROOT / "models_zoo").glob("*.onnx"))


def measure(stem: str, share: str, method: str) -> Row:
    """Bounds and scores before and after."""
    from fractions import Fraction

    import certlip
    from certlip.verification.dataset import make_dataset
    from models_zoo.data import DATA_OF

    model = certlip.load(ROOT / "models_zoo" / f"{stem}.onnx")
    parts = DATA_OF[stem]()
    data = make_dataset(parts.x_train, parts.y_train, model, where="the training part")
    limit = Fraction(certlip.bound(model).best.value) * Fraction(share)
    wall, cpu = time.perf_counter(), time.process_time()
    holdout = ROOT / "models_zoo" / f"{stem}.npz"
    report = certlip.repair(
        model, data=data, holdout=holdout, max_lipschitz=limit, method=method, timeout=SECONDS.get(stem, 60.0)
    )
    before, after = report.before.scores, report.after.scores
    return {
        "limit": float(limit),
        "bound": float(report.after.attempt.bound.value),
        "met": report.met,
        "by": report.after.attempt.method,
        "classes": before.accuracy is not None,
        "before": before.error if before.accuracy is None else before.accuracy,
        "after": after.error if after.accuracy is None else after.accuracy,
        "radius_before": before.mean_radius,
        "radius_after": after.mean_radius,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def section() -> list[str]:
    """The lines of the table."""
    heads = "network | share | method | by | limit | bound | met | accuracy or error | average radius | wall s | CPU s"
    longer = ", ".join(f"{seconds:g} for {stem}" for stem, seconds in SECONDS.items())
    lines = [f"## {TITLE}", "", _TEXT.format(seconds=longer), "", f"| {heads} |"]
    lines.append("|---" * (heads.count("|") + 1) + "|")
    with kept(KEY) as known:
        for stem, share, method in product(stems(), _SHARES, METHODS):
            order = {"stem": stem, "share": share, "method": method}
            row = known.row(order | {"seconds": SECONDS.get(stem, 60.0)}, partial(row_of, KEY, *order.values()))
            lines.append(_line(f"{stem} | {share} | {method}", row))
            print(f"  {lines[-1]}", flush=True)
    return lines


def _line(names: str, row: Row) -> str:
    if "unavailable" in row:
        return f"| {names} | not available: {row['unavailable'].replace('|', '/')} |" + " |" * 7
    quality = "{:.1%} -> {:.1%}" if row["classes"] else "{:.4f} -> {:.4f}"
    radius = f"{row['radius_before']:.4f} -> {row['radius_after']:.4f}" if row["classes"] else ""
    cells = [
        row["by"], f"{row['limit']:.5g}", f"{row['bound']:.5g}", "yes" if row["met"] else "**no**",
        quality.format(row["before"], row["after"]), radius, f"{row['wall']:.0f}", f"{row['cpu']:.0f}",
    ]  # fmt: skip
    return f"| {names} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
