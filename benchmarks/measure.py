"""Run cases in processes of their own, capped in time and memory; a failure is a row, never an end."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.cases import Case

Row = dict[str, Any]

QUICK = 5.0  # seconds, below which a case is run three times and medians are shown
PACKAGES = ("numpy", "scipy", "torch", "cvxpy", "clarabel", "scs", "qics", "sdpa-python", "eclipse-nn")


def measure(case: Case) -> Row:
    """What benchmarks.work returns, with medians of the times, or {"unavailable": reason}."""
    rows = [_once(case)]
    while "unavailable" not in rows[-1] and rows[0]["wall"] < QUICK and len(rows) < 3:
        rows.append(_once(case))
    if "unavailable" in rows[-1]:
        return rows[-1]
    return rows[-1] | {key: statistics.median(row[key] for row in rows) for key in ("wall", "cpu", "memory")}


def _once(case: Case) -> Row:
    command = [sys.executable, "-m", "benchmarks.work", json.dumps(case.work_order())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=case.limit, check=False)
    except subprocess.TimeoutExpired:
        return {"unavailable": f"did not finish in {case.limit:.0f} s", "wall": case.limit}
    if done.returncode == 0:
        row: Row = json.loads(done.stdout.splitlines()[-1])
        # the time after which a row turned out not to exist is no measurement
        return {"unavailable": row["unavailable"]} if "unavailable" in row else row
    words = done.stderr.lower()
    if "memory" in words or "alloc" in words or done.returncode == -9:
        return {"unavailable": f"out of memory ({case.gigabytes:g} GB)"}
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return {"unavailable": f"crashed: {re.sub(r'/[^ ]*/', '', last)[:120]}"}  # a page names no folders


def machine() -> list[str]:
    """Where the figures come from, in two lines."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    limit = f", {threads} BLAS thread{'s' * (threads != '1')} by its environment" if threads else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB{limit}; Python {platform.python_version()}, "
        + ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
        + "."
    ]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
