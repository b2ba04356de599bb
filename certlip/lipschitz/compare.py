"""Every method on one output, references included, each with a fair share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.lipschitz.certifier import certifiers
from certlip.lipschitz.engine import bound_output
from certlip.properties import Output


def bound_by_every_method(
    graph: Graph,
    output: Output,
    norm: str = "l2",
    deadline: float | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Bound]:
    """Bounds by all registered methods, cheapest first; see `bound_output`.

    A method may use an equal share of the time that is left, so that what one of them does not need serves the others.
    """
    names = list(certifiers())
    bounds = []
    for done, name in enumerate(names):
        now = time.monotonic()
        share = None if deadline is None else now + (deadline - now) / (len(names) - done)
        bounds += bound_output(graph, output, norm, name, share, progress)
    return bounds
