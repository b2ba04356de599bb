"""From the exact network to the one that runs: how far executions in floating point may be from it.

Theorem. Let every operator of the graph be evaluated in the arithmetic of `precision`, sums in any order, and between
operators that are not linear regrouped as `certlip.graph.computed` says. Then for every x of a region, rounded to that
arithmetic or not, each computed output is within `slack` of the exact output at x.

Proof: the inequality of `certlip.graph.computed`, carried from the input through the operators (each `deviate` is one
step), with the exact values on the region bounded around those
at its center, entry by entry and in length. Outside the class are TF32, Winograd, FFT and
Strassen kernels, and approximations of activations: their errors are not bounded by those of the plain sums.

So, with m a lower bound of f_label - f_k at the center and L its Lipschitz bound, m - L eps > slack_label + slack_k
means that every execution keeps the label on the whole region.
"""

from __future__ import annotations

import numpy as np

from certlip.graph import Graph
from certlip.graph.computed import Computed
from certlip.graph.shift import Shift
from certlip.onnx_reader.decisions import NESTED
from certlip.onnx_reader.reader import FOLDED
from certlip.proofs.ranges import Region
from certlip.properties.outputs import decision_graph
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, Precision, up


@np.errstate(all="ignore")  # what overflows is unknown, and its slack infinite
def slack(graph: Graph, region: Region, precision: Precision) -> Array:
    """Upper bounds, one for each output (flattened), on |computed - exact| for every input of the region.

    graph: as the reader makes it. A normal form computes the same function, but has forgotten the file's operations.
    precision: the arithmetic of the executions, no finer than the types in the file (binary32 for binary32 weights).
    Stored weights and inputs may be rounded to it once; parameters of BatchNormalization enter as stored.
    Infinite where nothing is known: a value may overflow, rounding errors add up to more than half, the file
    computes some of its constants (`FOLDED`), which executions round in their own way, or it ends in more than one
    softmax (`NESTED`), as the gap of `class_slack` is that of one.
    Raises ValueError where the center is no input of the graph.
    """
    if region.center.shape != graph.input_shape:
        raise ValueError(f"the region's center has shape {region.center.shape}, the input {graph.input_shape}")
    if FOLDED in graph.notes or NESTED in graph.notes:
        return np.full(graph.output_size, np.inf)
    centre = Ball.exact(region.center[None])
    moved = Shift.ball(graph.input_shape, region.radius, region.norm == "l2")
    start = Computed.leaf(centre, moved, Shift.of(np.zeros(centre.shape)))
    output = graph.fold(start, lambda node, given: node.operator.deviate(precision, *given))[-1]
    bound = output.deviation(precision).entries.ravel()
    return np.where(np.isfinite(bound), bound, np.inf)


def class_slack(graph: Graph, region: Region, precision: Precision) -> Array:
    """The slack of the scores that decide a class, for the class that an execution *shows*.

    That class is read from the scores, or from what a last softmax, log-softmax or sigmoid, left out of the graph,
    makes of them: `reading_gap` is shared out, so that slack_label + slack_k (or the slack of a single score) holds it.
    """
    if graph.output_size == 1:
        return np.asarray(up(slack(decision_graph(graph), region, precision) + reading_gap(precision)))
    return np.asarray(up(slack(graph, region, precision) + 0.5 * reading_gap(precision, graph.output_size)))


def reading_gap(precision: Precision, classes: int = 2) -> float:
    """g = 12 (library_units + 1) u: scores computed more than g apart are told apart after the last operator too.

    Let U = library_units u and 0 < g <= 1. *Sigmoid* of a score above g: s(g) >= 1/2 + 0.23 g, since s is concave
    there, and 0.23 g > 2 U, the error of the library. *Softmax*, as exp(x_k - max) over the sum: the exponential of the
    label is at least 1 - 2U, that of a class g below at most exp(-g (1 - u)) + 2U <= 1 - g (1 - u) / 2 + 2U, both are
    divided by the same sum with at most two roundings, and g (1 - u) / 2 > 4U + 5u + 6Uu. *Log-softmax*, as
    (x_k - max) - s with s below 6 (library_units + 1): g (1 - u) > 2 u s, the spacing of floats at s. Each class adds
    about one to the sum, in a sequence of additions at most two: S is a float, so S + a rounds to S + 2 a or less.

    Infinite where g > 1, where there are too many classes for s to be so small, and where they are more than a quarter
    of the largest number: the sum may overflow, or the quotients lose digits to underflow.
    """
    gap = up(12.0 * (precision.library_units + 1.0) * precision.unit)
    is_small = 0.7 * (classes.bit_length() + 1) < 6.0 * (precision.library_units + 1.0)  # s, as log 2 < 0.7
    return gap if gap <= 1.0 and is_small and classes <= 0.25 * precision.largest else float("inf")
