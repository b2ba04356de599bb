"""The question that bound propagation answers: can certain functions of the network be small together on a set?

    unsafe(x)  iff  x in the domain and, for some clause K,  g_k(x) <= 0 for every k in K.

A query is proved where no x is unsafe. g is a graph of its own, the network followed by a matrix, so that one pass
bounds all functions that the clauses name. Strict constraints are taken as non-strict ones: that makes more inputs
unsafe, so a proof stays a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from certlip.errors import UsageError
from certlip.graph import Graph, Node
from certlip.ops import Concat, Dense, Reindex
from certlip.passes import normal_form
from certlip.passes.maxima import without_maxima
from certlip.properties.outputs import chosen, scores
from certlip.properties.property import Case, Halfspace, Property
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import TINY, UNIT, Array, up


@dataclass(frozen=True, eq=False)
class Domain:
    """{x : low <= x <= high}, floats of the input's shape; where there is a center, also |x - center|_2 <= eps.

    low and high enclose the set that a claim is about: they are rounded outwards.
    """

    low: Array
    high: Array
    center: Array | None = None
    eps: Fraction = Fraction(0)

    @property
    def radius(self) -> float:
        """A float that is at least eps."""
        return float_up(self.eps)


@dataclass(frozen=True, eq=False)
class Query:
    """See the module. graph: x to g(x), flat, without maxima; clauses: indices into g; rows: the constraint g_k <= 0 as
    it reads for each k, its outputs those of the network, or the scores of `label_query`."""

    graph: Graph
    domain: Domain
    clauses: tuple[tuple[int, ...], ...]
    rows: tuple[Halfspace, ...] = ()


def ball_domain(center: Array, eps: Fraction, norm: str, clip: Sequence[Fraction] | None = None) -> Domain:
    """{x : |x - center| <= eps in the norm "l2" or "linf", every entry within the clip}."""
    entries = [Fraction(entry) for entry in center.ravel().tolist()]
    low, high = [entry - eps for entry in entries], [entry + eps for entry in entries]
    if clip is not None:
        low, high = [max(entry, clip[0]) for entry in low], [min(entry, clip[1]) for entry in high]
    ends = _enclosed(low, high, center.shape)
    return Domain(*ends) if norm == "linf" else Domain(*ends, center, eps)


def meets_clip(center: Array, eps: Fraction, norm: str, clip: Sequence[Fraction]) -> bool:
    """Whether some x with |x - center| <= eps has every entry within the clip."""
    entries = map(Fraction, center.ravel().tolist())
    apart = [max(clip[0] - entry, entry - clip[1], Fraction(0)) for entry in entries]
    if norm == "linf":
        return max(apart, default=Fraction(0)) <= eps
    return sum((part * part for part in apart), Fraction(0)) <= eps * eps


def label_query(graph: Graph, label: int, domain: Domain) -> Query:
    """Unsafe: some class scores at least as high as `label`; with one output, its sign decides between 0 and 1."""
    output = scores(graph)
    graph = chosen(graph, output)
    size = graph.output_size
    one = Fraction(1)
    if size == 1:
        rows = [Halfspace((), ((0, one if label == 1 else -one),), Fraction(0))]
    else:
        rivals = [k for k in range(size) if k != label]
        rows = [Halfspace((), tuple(sorted(((label, one), (k, -one)))), Fraction(0)) for k in rivals]
    return Query(_rows(graph, rows), domain, tuple((k,) for k in range(len(rows))), tuple(rows))


def range_query(graph: Graph, low: Sequence[Fraction], high: Sequence[Fraction], domain: Domain) -> Query:
    """Unsafe: some output is at most its `low` or at least its `high`."""
    one, rows = Fraction(1), []
    for index, (least, greatest) in enumerate(zip(low, high, strict=True)):
        rows += [Halfspace((), ((index, one),), least), Halfspace((), ((index, -one),), -greatest)]
    return Query(_rows(graph, rows), domain, tuple((k,) for k in range(len(rows))), tuple(rows))


def property_queries(graph: Graph, property: Property) -> list[Query]:
    """One query for each box of the property that holds a point. Raises UsageError where the sizes do not fit."""
    if (property.inputs, property.outputs) != (graph.input_size, graph.output_size):
        raise UsageError(
            f"the property is about {property.inputs} inputs and {property.outputs} outputs, the model has "
            f"{graph.input_size} and {graph.output_size}; use the property of this model"
        )
    boxes: dict[tuple, list[Case]] = {}
    for case in property.cases:
        if not case.is_vacuous:
            boxes.setdefault((case.low, case.high), []).append(case)
    return [_box_query(graph, cases) for cases in boxes.values()]


def _box_query(graph: Graph, cases: Sequence[Case]) -> Query:
    rows: dict[Halfspace, int] = {}
    clauses = [tuple(rows.setdefault(row, len(rows)) for row in dict.fromkeys(case.halfspaces)) for case in cases]
    domain = Domain(*_enclosed(cases[0].low, cases[0].high, graph.input_shape))
    return Query(_rows(graph, list(rows)), domain, tuple(clauses), tuple(rows))


def _enclosed(low: Sequence[Fraction], high: Sequence[Fraction], shape: tuple[int, ...]) -> tuple[Array, Array]:
    return (
        np.array([float_down(end) for end in low]).reshape(shape),
        np.array([float_up(end) for end in high]).reshape(shape),
    )


def _rows(graph: Graph, rows: Sequence[Halfspace]) -> Graph:
    """x to the left side minus the bound of each row, a constant for none."""
    reads_input = any(row.inputs for row in rows)
    size, width = graph.output_size, graph.input_size
    weight = [[Fraction(0)] * (size + reads_input * width) for _ in rows]
    for i, row in enumerate(rows):
        for j, factor in row.outputs:
            weight[i][j] = factor
        for j, factor in row.inputs:
            weight[i][size + j] = factor
    if graph.output_shape != (1, size):
        graph = graph.append(Reindex.through(graph.output_shape, lambda array: array.reshape(1, size)))
    if reads_input:
        graph = _with_input(graph)
    bias = _ball([-row.bound for row in rows])
    matrix = _ball([entry for line in weight for entry in line]).reshape(len(rows), size + reads_input * width)
    graph = graph.append(Dense(matrix, bias, bias.magnitude(), (1,)), "constraints")
    return without_maxima(normal_form(graph), exact=True)


def _with_input(graph: Graph) -> Graph:
    """The outputs followed by the inputs, in one row."""
    size = graph.input_size
    copied = Node(Reindex.through(graph.input_shape, lambda array: array.reshape(1, size)), (0,), "input")
    last = len(graph.nodes)
    nodes = (*graph.nodes, copied, Node(Concat(1), (last, last + 1), "outputs and inputs"))
    return Graph(graph.input_shape, nodes, graph.notes)


def _ball(numbers: Sequence[Fraction]) -> Ball:
    """The numbers, exact where all of them are floats. Raises UsageError for one beyond their range."""
    try:
        mid = np.array([float(number) for number in numbers])
    except OverflowError as error:
        raise UsageError("the property holds a number beyond the range of floats; scale it down") from error
    if all(Fraction(near) == number for near, number in zip(mid.tolist(), numbers, strict=True)):
        return Ball.exact(mid)
    return Ball(mid, up(UNIT * np.abs(mid) + TINY))


def float_up(value: Fraction) -> float:
    """The nearest float that is at least the value."""
    try:
        nearest = float(value)
    except OverflowError:
        return float("inf") if value > 0 else -float(np.finfo(np.float64).max)
    return nearest if Fraction(nearest) >= value else up(nearest)


def float_down(value: Fraction) -> float:
    """The nearest float that is at most the value."""
    return -float_up(-value)
