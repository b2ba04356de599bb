"""The measured pieces of work; each prints one JSON line with its own time, imports excluded unless stated."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.networks import dense_chain, reference_chain


def import_and_check(path: str) -> Callable[[], dict]:
    """Import a model file and compare it with onnxruntime; importing the packages is part of the work."""

    def work() -> dict:
        from certlip.importers import load

        model = load(Path(path))
        return {"parameters": model.parameters, "runtime": model.agreement.runtime}

    return work


def lipsdp(hidden: str, method: str) -> Callable[[], dict]:
    """LipSDP of a random chain 10 - hidden - hidden - 5, found and proved."""
    from certlip.lipschitz import bound_output
    from certlip.properties.outputs import ALL

    size = int(hidden)
    graph = dense_chain(np.random.default_rng(0), [10, size, size, 5])
    if method == "lipsdp-conic":
        import cvxpy  # noqa: F401  importing the peer is not its work
    else:
        import scipy.linalg  # noqa: F401

    def work() -> dict:
        (bound,) = bound_output(graph, ALL, "l2", method)
        return {"value": bound.value, "proved": bound.proved}

    return work


def reference(name: str, logit: str) -> Callable[[], dict]:
    """LipSDP of a published network."""
    from certlip.lipschitz import bound_output
    from certlip.properties import Output
    from certlip.properties.outputs import ALL

    graph = reference_chain(name)
    output = ALL if logit == "all" else Output.logit(int(logit))

    def work() -> dict:
        (bound,) = bound_output(graph, output, "l2", "lipsdp")
        return {"value": bound.value, "proved": bound.proved}

    return work


def main() -> None:
    case, *arguments = sys.argv[1:]
    work = {"import_and_check": import_and_check, "lipsdp": lipsdp, "reference": reference}[case](*arguments)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "result": result}))


if __name__ == "__main__":
    main()
