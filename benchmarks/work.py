"""One measurement in a process of its own: `python -m benchmarks.work JSON` prints one JSON line.

The same method first solves a tiny network, so that imports and compilation are not part of its time. Peak memory is
that of the whole process.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.networks import build, chain_weights, random_chain
from certlip.errors import CertlipError
from certlip.graph import Graph

Row = dict[str, Any]


def bound(graph: Graph, method: str, output: str, norm: str, seconds: float) -> Row:
    """The best proved bound of one method (or of `auto`) on one output."""
    from certlip.lipschitz import best, bound_output
    from certlip.properties import Output

    chosen = Output("all") if output == "all" else Output.logit(int(output))
    tried = bound_output(graph, chosen, norm, method, time.monotonic() + seconds)
    found = best(tried)
    if found is None:
        return {"unavailable": "; ".join(f"{one.method}: {one.note}" for one in tried)}
    details = found.details
    return {
        "value": found.value,
        "used": found.method if method == "auto" else "",
        "gap": details.get("gap", details.get("estimated_gap")),
        "gap_is_certified": "gap" in details,
        "proof": details.get("seconds_proof"),
        "cut_short": details.get("status") == "deadline",
    }


def pairs(graph: Graph, method: str, output: str, norm: str, seconds: float) -> Row:
    """Bounds on the difference of any two classes, through one table; the value is the largest of them."""
    from certlip.verification.bounds import BoundTable, class_pairs

    table, deadline = BoundTable(graph, norm, method), time.monotonic() + seconds
    wanted = class_pairs(graph.output_size)
    found = []
    for pair in wanted:
        for _ in table.refine(pair, deadline):
            pass
        found.append(table.best(pair))
    proved = [one for one in found if one is not None]
    if len(proved) < len(wanted):
        return {"unavailable": f"proved for {len(proved)} of {len(wanted)} pairs in {seconds:.0f} s"}
    used = ", ".join(sorted({one.method for one in proved})) if method == "auto" else ""
    return {"value": max(one.value for one in proved), "used": used}


def peer(graph: Graph, method: str, output: str, norm: str, seconds: float) -> Row:
    """A peer's own number; it is an estimate."""
    from benchmarks.peers import PEERS, Unavailable

    try:
        return {"value": PEERS[method](chain_weights(graph))}
    except Unavailable as reason:
        return {"unavailable": str(reason)}


def import_and_check(path: str) -> Row:
    """Import a model file and compare it with onnxruntime; importing the packages is part of this work."""
    from certlip.importers import load

    model = load(Path(path))
    return {"parameters": model.parameters, "runtime": model.agreement.runtime}


WORK: dict[str, Callable[[Graph, str, str, str, float], Row]] = {"bound": bound, "pairs": pairs, "peer": peer}


def timed(work: Callable[[], Row]) -> Row:
    """What the work returns, with its seconds on the clock and of the processors, and the peak memory in MB."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    result |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return result | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(case: Row) -> Row:
    """A row, or {"unavailable": reason}."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(case["gigabytes"] * 2**30),) * 2)
    if case["work"] == "import":
        return timed(lambda: import_and_check(case["network"]))
    work, settings = WORK[case["work"]], (case["method"], case["output"], case["norm"], case["seconds"])
    try:
        graph = build(case["network"])
        work(random_chain(4, 3, 3, 10), *settings)
        return timed(lambda: work(graph, *settings))
    except (CertlipError, ModuleNotFoundError, FileNotFoundError) as error:
        return {"unavailable": str(error)}
    except MemoryError:
        return {"unavailable": f"out of memory ({case['gigabytes']:g} GB)"}


def main() -> None:
    print(json.dumps(measure(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
