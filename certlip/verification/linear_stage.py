"""Samples against linear bounds on their own set, first one for each rival, then one for each of many cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from certlip.bounds.refute import Branching, Outcome, refute_at_once
from certlip.graph import Pointwise
from certlip.lipschitz.threads import threads_for
from certlip.proofs.relaxation.frame import Frame
from certlip.rigor.rounding import Array
from certlip.verification.attack_stage import Attacks
from certlip.verification.falsify import THOROUGH
from certlip.verification.local import radius_within
from certlip.verification.sample import Sample
from certlip.verification.sample_query import SampleQueries, crown_seconds
from certlip.verification.verdicts import Question, SampleResult, Status

Slack = Callable[[Array, Fraction], "Sequence[Fraction] | None"]
"""How far executions may be from the exact outputs on the ball of a radius around a point, None if unknown."""

_NEGLIGIBLE = 2.0**-10  # of the margin


class LinearBounds:
    """Of one model for one question. seconds: what the last pass took, None before the first."""

    def __init__(self, question: Question, queries: SampleQueries, slack: Slack, attacks: Attacks):
        self._question, self._queries, self._slack, self._attacks = question, queries, slack, attacks
        self.seconds: float | None = None

    def expected(self, sample: Sample) -> float:
        """Seconds of one pass on the sample: as long as the last one took; a guess before the first."""
        if self.seconds is not None or not self._prepare(sample) or sample.query is None:
            return self.seconds or 0.0
        return crown_seconds(sample.query.graph)

    def at_once(self, sample: Sample) -> SampleResult | None:
        """One linear bound for each rival."""
        began = time.monotonic()
        if not (self._prepare(sample) and sample.query is not None and sample.has_time(self.expected(sample))):
            return None
        try:
            with threads_for(1):  # two threads on a busy machine cost small matrices many times what they gain
                sample.outcome = refute_at_once(sample.query, 0, sample.lost, sample.deadline)
        except TypeError:  # an operator without a linear relaxation
            return None
        self.seconds = time.monotonic() - began
        sample.cut_short |= not sample.outcome.complete
        return self._certified(sample, sample.outcome)

    def by_cases(self, sample: Sample) -> SampleResult | None:
        """Cases until the deadline. Most proofs by cases are short: one that is not gives way once to a long attack."""
        if sample.outcome is None or sample.query is None or not sample.has_time():
            return None
        if sample.outcome.frame is not None and _is_linear(sample.outcome.frame):
            return None
        hits: list[SampleResult] = []

        def is_hit(point: Array) -> bool:
            hits.extend(filter(None, [self._attacks.accepted(sample, point)]))
            return bool(hits)

        try:
            with threads_for(1):
                search = Branching(sample.query, sample.outcome, self._allowance(sample), is_hit)
                outcome = search.run(sample.a_while())
                if not (outcome.is_proof or hits):
                    found = self._attacks.search(sample, THOROUGH, sample.a_while())
                    if found is not None:
                        return found
                    outcome = search.run(sample.deadline)
        except TypeError:  # an operator that the search does not know
            return None
        if hits:
            return hits[0]
        sample.cut_short |= not outcome.complete
        return self._certified(sample, outcome)

    def _allowance(self, sample: Sample) -> Array | None:
        """What every case has to leave for the rounding errors of executions: where that is asked for, and where it is
        next to nothing, so that the proof is one about executions at no cost."""
        if sample.lost is not None or sample.query is None:
            return sample.lost
        lost = self._queries.lost(sample.query, self._slack(sample.x, self._question.eps))
        return lost if lost is not None and lost.max() <= _NEGLIGIBLE * sample.blank.margin else None

    def _prepare(self, sample: Sample) -> bool:
        """Ask the question, if it can be asked."""
        if sample.query is not None:
            return True
        query = self._queries.of(sample.x, sample.blank.label)
        if query is None:
            return False
        if self._question.level == "deployed":
            sample.lost = self._queries.lost(query, self._slack(sample.x, self._question.eps))
            if sample.lost is None:
                return False
        sample.query = query
        return True

    def _certified(self, sample: Sample, outcome: Outcome) -> SampleResult | None:
        if not (outcome.is_proof and outcome.trees):
            return None
        radius = radius_within(self._question.eps)
        return replace(
            sample.blank, status=Status.CERTIFIED, method=outcome.method, radius=radius, trees=outcome.trees
        )


def _is_linear(frame: Frame) -> bool:
    """Whether no activation is bent on the set: then one linear bound is as good as many."""
    bent = False
    for node in frame.graph.nodes:
        if isinstance(node.operator, Pointwise):
            value = node.inputs[0]
            a, b = node.operator.slopes_on(frame.low[value], frame.high[value])
            bent |= bool((a < b).any() and (frame.low[0] < frame.high[0]).any())
    return not bent
