"""Enclosures of the exact outputs at single points, from which margins are read.

An evaluation that overflows says nothing, so that its enclosure is the whole line.
"""

from __future__ import annotations

import numpy as np

from certlip.graph import Graph
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import REAL, Array


def output_balls(graph: Graph, x: Array | Ball) -> Ball:
    """Enclosures of the exact outputs, flattened: (N, outputs), for inputs (N, *input_shape) taken as exact numbers, or
    for all inputs in balls."""
    with np.errstate(over="ignore", invalid="ignore"):
        ball = graph.enclose(x if isinstance(x, Ball) else Ball.exact(x), REAL)
    known = np.isfinite(ball.mid) & np.isfinite(ball.rad)  # an evaluation that overflowed says nothing
    return Ball(np.where(known, ball.mid, 0.0), np.where(known, ball.rad, np.inf)).reshape(len(ball.mid), -1)
