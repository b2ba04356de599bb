"""What checking certificates takes: `python -m benchmarks.checks ROW` prints one row as JSON.

Each row is a process of its own, which makes certificates and then times the checker alone, the packages being loaded.
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

TITLE = "Checking certificates"
_TEXT = """\
LipSDP bounds of random chains with binary32 weights, and a bundle of 1000 robustness certificates for the MNIST network
of the zoo, each checked by one process. `size`: bytes of all files over those of the multipliers."""
_MNIST = ROOT / "models_zoo" / "mnist_mlp"
_IMAGES = 1000


@dataclass(frozen=True)
class Check:
    """A row: `make` fills a folder with a model and certificates and returns where those are."""

    make: Callable[[Path], Path]
    level: str
    limit: float | None = None


def bound_of_chain(folder: Path, widths: tuple[int, ...]) -> Path:
    """The closed-form LipSDP bound of a random chain, and nothing beside it."""
    import certlip

    model = dense_onnx(folder / "model.onnx", [784, *widths, 10])
    certlip.bound(model, method="eclipse-fast", certificate=folder / "bound" / "bound.json")
    return folder / "bound"


def bundle_of_images(folder: Path) -> Path:
    """Robustness of the thousand surest of the held-out images, each also with less contrast."""
    import certlip
    from certlip.verification.dataset import default_data, make_dataset, read_dataset

    model = certlip.load(_MNIST.with_suffix(".onnx"))
    images = read_dataset(default_data(model), model).inputs
    shades = np.concatenate([(images * share).astype(np.float32) for share in (1.0, 0.9, 0.8)])
    scores = np.sort(model.graph(make_dataset(shades, None, model).inputs).reshape(len(shades), -1), axis=1)
    surest = np.argsort(scores[:, -2] - scores[:, -1])[:_IMAGES]
    data = shades[surest], None
    certlip.verify(model, "1/100", data=data, certificates=folder / "bundle.certlip", level="deployed")
    return folder / "bundle.certlip"


_CHAINS = {"784-1024-10": (1024,), "784-512-512-10": (512, 512), "784-4000-10": (4000,)}
CHECKS = {
    **{
        f"bound of {name}, {level}": Check(partial(bound_of_chain, widths=widths), level, limit)
        for (name, widths), limits in zip(_CHAINS.items(), ((0.5, 5.0), (0.5, 5.0), (None, None)), strict=True)
        for level, limit in zip(("float", "exact"), limits, strict=True)
    },
    "1000 MNIST images, deployed": Check(bundle_of_images, "deployed", 60.0),
}


def measure(check: Check) -> dict[str, object]:
    """Seconds, memory, and what became of the certificates."""
    from threadpoolctl import threadpool_limits

    from certlip.certificate import open_store
    from certlip.check import Checker, records

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = check.make(folder)
        wall, cpu = time.perf_counter(), time.process_time()
        entries = records([place])
        checker = Checker([folder, _MNIST.with_suffix(".onnx")], level=check.level)
        with threadpool_limits(1, user_api="blas"):  # as `certlip check` does
            findings = [checker.check_record(store, record) for store, record in entries]
        row: dict[str, object] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        store = open_store(place)
        arrays = {
            digest for record in store.names() for digest in store.record(record).witness.get("arrays", {}).values()
        }
        stored = sum(file.stat().st_size for file in (place.iterdir() if place.is_dir() else [place]))
        multipliers = sum(store.array(digest).nbytes for digest in arrays)
    return row | {
        "certificates": len(findings),
        "rejected": sum(not finding.accepted for finding in findings),
        "bytes": stored,
        "size": stored / multipliers if multipliers else None,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def section() -> list[str]:
    """The lines of the table."""
    heads = "certificates | count | target | wall s | CPU s | MB | kB stored | size | met"
    lines = [f"## {TITLE}", "", _TEXT, "", f"| {heads} |", "|---" * (heads.count("|") + 1) + "|"]
    for name, check in CHECKS.items():
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.checks", name], capture_output=True, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        met = "" if check.limit is None else "yes" if row["wall"] < check.limit and not row["rejected"] else "no"
        target = "" if check.limit is None else f"< {check.limit:g} s"
        size = "" if row["size"] is None else f"{row['size']:.2f}"
        rejected = f", {row['rejected']} rejected" if row["rejected"] else ""
        cells = [name, f"{row['certificates']}{rejected}", target, f"{row['wall']:.3g}", f"{row['cpu']:.3g}"]
        cells += [f"{row['memory']:.0f}", f"{row['bytes'] / 1000:.0f}", size, met]
        lines.append(f"| {' | '.join(cells)} |")
        print(f"  {name}: {row['wall']:.3g} s", flush=True)
    return lines


if __name__ == "__main__":
    print(json.dumps(measure(CHECKS[sys.argv[1]])))
