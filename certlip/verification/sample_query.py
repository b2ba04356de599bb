"""The questions that linear bounds answer about samples; `certlip.check.questions` asks the same of certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

from certlip.check import theorems
from certlip.check.questions import lost
from certlip.errors import CertificateRejected, UsageError
from certlip.graph import Affine, Graph
from certlip.importers import Model
from certlip.ops import Reindex
from certlip.proofs.query import Query, ball_domain, label_query, range_query
from certlip.proofs.relaxation.branches import Tree, refutes
from certlip.properties.outputs import ALL, select
from certlip.rigor.rounding import Array
from certlip.verification.verdicts import Question

_RATE = 1e9  # multiplications in a second, for lack of a measurement


class SampleQueries:
    """Of one model and one question; the graphs of labels are made once."""

    def __init__(self, model: Model, question: Question):
        self._graph, self._question = model.graph, question
        self._known: dict[int, Query | None] = {}

    def of(self, x: Array, label: int | None) -> Query | None:
        """Unsafe where the label is not kept, or the outputs move by the tolerance or more. None where no input lies in
        the set, and for a network that has no linear bounds."""
        question = self._question
        domain = ball_domain(x, question.eps, question.norm, question.clip)
        if (domain.low > domain.high).any():
            return None
        try:
            if question.tolerance is not None:
                low, high = theorems.outputs_at(select(self._graph, ALL), x)
                ends = [end - question.tolerance for end in high], [end + question.tolerance for end in low]
                return range_query(self._graph, *ends, domain)
            if label not in self._known:
                self._known[label or 0] = None  # what fails once fails again
                self._known[label or 0] = label_query(self._graph, label or 0, domain)
        except (ValueError, UsageError, CertificateRejected):  # maxima too wide, or numbers beyond the range of floats
            return None
        known = self._known[label or 0]
        return None if known is None else replace(known, domain=domain)

    @staticmethod
    def lost(query: Query, slack: Sequence[Fraction] | None) -> Array | None:
        """How much executions may lose of every g of the query, None where nothing is known."""
        try:
            return None if slack is None else lost(query, slack)
        except CertificateRejected:
            return None

    def holds(self, x: Array, label: int | None, trees: Sequence[Tree], slack: Sequence[Fraction]) -> bool:
        """Whether the trees of a proof about exact outputs prove the same of executions that are so far from them."""
        query = self.of(x, label)
        lowered = None if query is None else self.lost(query, slack)
        return query is not None and lowered is not None and all(refutes(query, t, lowered).all() for t in trees)


def crown_seconds(graph: Graph) -> float:
    """A guess at the time of linear bounds on every entry of every value."""
    total, cost = 0.0, 0.0
    for node in graph.nodes:
        operator = node.operator
        if isinstance(operator, Affine) and not isinstance(operator, Reindex):
            cost += operator.terms * prod(operator.codomain)
            total += 2.0 * prod(operator.codomain) * cost
    return total / _RATE
