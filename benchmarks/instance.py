"""One instance of a suite in a process of its own: `python -m benchmarks.instance MODEL PROPERTY SECONDS`.

Prints a JSON line when the verdict is there and another one when its certificate was checked. The seconds of a verdict
are those of reading, deciding and writing the certificate; a tiny network comes before, so that imports do not count.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.networks import dense_onnx

_TINY = """\
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)
(assert (<= X_0 1.0)) (assert (>= X_0 0.0)) (assert (<= X_1 1.0)) (assert (>= X_1 0.0)) (assert (<= Y_0 -100.0))
"""

Row = dict[str, Any]


def decided(model: Path, property: Path, seconds: float, folder: Path) -> Row:
    """The verdict, with its certificate in the folder. seconds: for reading and deciding."""
    import certlip

    wall, cpu = time.perf_counter(), time.process_time()
    loaded = certlip.load(model)
    left = max(seconds - (time.perf_counter() - wall), 1e-3)
    result = certlip.verify_property(loaded, property, timeout=left, certificates=folder).result
    return {
        "status": str(result.status),
        "method": result.method,
        "note": result.note,
        "visited": result.visited,
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def warm_up(folder: Path) -> None:
    """Decide and check a tiny network, with all that searches import."""
    import torch  # noqa: F401

    model, property = dense_onnx(folder / "tiny.onnx", [2, 3, 1]), folder / "tiny.vnnlib"
    property.write_text(_TINY)
    decided(model, property, 10.0, folder / "tiny")
    checked(model, folder / "tiny")


def checked(model: Path, folder: Path) -> Row:
    """What the certificates of the folder take: bytes, the property file apart, and seconds of their check.

    accepted: None where there is none.
    """
    from threadpoolctl import threadpool_limits

    from certlip.check import Checker, records

    began = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):  # as `certlip check` does
        checker, entries = Checker([model]), records([folder]) if folder.is_dir() else []
        accepted = [checker.check_record(store, name).accepted for store, name in entries]
    check = time.perf_counter() - began
    stored = sum(file.stat().st_size for file in folder.glob("*") if file.suffix != ".vnnlib")
    return {"check": check, "bytes": stored, "accepted": all(accepted) if accepted else None}


def main() -> None:
    model, property = map(Path, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as name:
        warm_up(Path(name))
        folder = Path(name) / "certificates"
        row = decided(model, property, float(sys.argv[3]), folder)
        print(json.dumps(row), flush=True)
        if row["status"] in ("certified", "falsified"):
            print(json.dumps(row | checked(model, folder)), flush=True)


if __name__ == "__main__":
    main()
