"""Run a piece of work in processes of its own and collect medians."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Medians over the runs: seconds on the clock, CPU seconds, and what the work returned in its last run."""

    wall: float
    cpu: float
    runs: int
    result: dict


def run(case: str, *arguments: str, runs: int = 5, timeout: float = 900.0) -> Timing | None:
    """`python -m benchmarks.work CASE ...` several times after one warm-up; None if it does not finish in time."""
    command = [sys.executable, "-m", "benchmarks.work", case, *arguments]
    samples = []
    for attempt in range(runs + (runs > 1)):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
        except subprocess.TimeoutExpired:
            return None
        if attempt or runs == 1:
            samples.append(json.loads(done.stdout.splitlines()[-1]))
    wall, cpu = (statistics.median(sample[key] for sample in samples) for key in ("wall", "cpu"))
    return Timing(wall, cpu, runs, samples[-1]["result"])


def machine() -> str:
    """One line about where the figures come from."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
