"""The ranges of all values on boxes and balls: boxes carried forward, and two backward passes where they matter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Graph
from certlip.proofs.query import Domain
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.frame import Frame, frame_of
from certlip.rigor.rounding import Array

_ENTRIES = 2**22  # floats in the unit vectors that are made at a time


def cells_of(
    graph: Graph,
    domain: Domain,
    low: Array | None = None,
    high: Array | None = None,
    keep_slopes: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Frame:
    """The frame of boxes (cells, *input shape) inside the domain, or of the domain itself. tick: called now and then,
    and may raise to end it."""
    low = domain.low[None] if low is None else low
    high = domain.high[None] if high is None else high

    def refine(frame: Frame, value: int, wanted: NDArray[np.bool_]) -> tuple[Array, Array]:
        return refined(frame, value, wanted, tick)

    return frame_of(graph, low, high, domain.center, domain.radius, refine, keep_slopes)


def refined(
    frame: Frame, value: int, wanted: NDArray[np.bool_], tick: Callable[[], None] = lambda: None
) -> tuple[Array, Array]:
    """Bounds on the wanted entries of a value by two backward passes, infinite for the others."""
    size = wanted[0].size
    # pixels that are neighbours come together, all channels of each: what leads to them is a small part of the input
    order = np.arange(size)
    if wanted.ndim > 3:
        order = np.moveaxis(order.reshape(wanted.shape[1:]), 1, -1).ravel()
    cells, places = np.nonzero(wanted.reshape(len(wanted), size)[:, order])
    entries = order[places]
    low, high = np.full((len(wanted), size), -np.inf), np.full((len(wanted), size), np.inf)
    step = max(1, _ENTRIES // size)
    for start in range(0, len(cells), step):
        tick()
        some, here = cells[start : start + step], entries[start : start + step]
        for sign, ends in ((1.0, low), (-1.0, high)):
            rows = np.zeros((len(some), size))
            rows[np.arange(len(some)), here] = sign
            owners = some if len(wanted) > 1 else None
            keep = frame.slopes is not None
            bound = lower_bounds(frame, value, rows.reshape(-1, *wanted.shape[1:]), owners, keep=keep)
            ends[some, here] = sign * bound.least
            if frame.slopes is not None:
                known = frame.slopes.setdefault(value, np.zeros((*low.shape, frame.graph.input_size)))
                known[some, here] += np.abs(bound.slopes.reshape(len(some), -1))
    return low.reshape(wanted.shape), high.reshape(wanted.shape)
