"""A row measured by a process of its own, so that imports, caches and memory of other rows do not count."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.kept import Row
from benchmarks.networks import ROOT


def row_of(section: str, *order: str) -> Row:
    """What `python -m benchmarks.SECTION ORDER` prints last, a JSON object; why there is none under "unavailable"."""
    command = [sys.executable, "-m", f"benchmarks.{section}", *order]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return {"unavailable": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])
