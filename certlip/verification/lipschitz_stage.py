"""Samples against Lipschitz bounds: those for all inputs, which samples share, and those on a sample's own ball."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np

from certlip.check import theorems
from certlip.graph import Graph
from certlip.lipschitz.bound import Bound
from certlip.properties import Output
from certlip.rigor.rounding import Array
from certlip.verification.bounds import Admitted, BoundTable, every
from certlip.verification.local import bounds_on_ball, radius_within
from certlip.verification.margins import certified_radius, is_certified
from certlip.verification.sample import Rival, Sample
from certlip.verification.verdicts import Question, SampleResult, Status

_CLOSED = 10  # the `cost` of methods up to multipliers in closed form: no program is solved
_CHEAP = 1.0  # seconds a rival, beyond which such a method waits until linear bounds were tried
_PROGRAMS = 2.0  # seconds for all rivals, within which programs come before distinctions of cases


class LipschitzBounds:
    """The bounds of one model for one question, and what they say about samples."""

    def __init__(self, graph: Graph, question: Question, table: BoundTable):
        self._graph, self._question, self.table = graph, question, table

    def closed_forms(self, sample: Sample) -> SampleResult | None:
        """Bounds that need no program, as far as they are quick."""
        return self._exclude(sample, lambda certifier, seconds: certifier.cost <= _CLOSED and seconds <= _CHEAP)

    def quick_programs(self, sample: Sample) -> SampleResult | None:
        """Programs that take about as long as a few cases, for all inputs and then for the ball."""
        limit = _PROGRAMS / max(len(sample.open), 1)
        found = self._exclude(sample, lambda certifier, seconds: seconds <= limit)
        if found is None and self.table.program_seconds([output for _, output in sample.open]) <= _PROGRAMS:
            found = self.on_ball(sample)
        return found

    def all_programs(self, sample: Sample) -> SampleResult | None:
        """Whatever is left."""
        found = self._exclude(sample, every)
        sample.cut_short |= found is None and not all(self.table.is_complete(output) for _, output in sample.open)
        return found

    def _exclude(self, sample: Sample, admitted: Admitted) -> SampleResult | None:
        """One method after the other, each only against rivals that are still open."""
        steps = {output: self.table.refine(output, sample.deadline, admitted) for _, output in sample.open}
        while True:
            sample.open = [rival for rival in sample.open if not self._holds(sample.margins, rival)]
            if not sample.open:
                certified = replace(sample.blank, status=Status.CERTIFIED)
                return self.with_radius(certified, sample.margins, sample.rivals)
            if [output for _, output in sample.open if next(steps[output], _END) is _END]:
                return None

    def on_ball(self, sample: Sample) -> SampleResult | None:
        """Bounds on the sample's own ball that exclude every open rival."""
        question = self._question
        if sample.local_done or question.tolerance is not None or not self.table.has_local:
            return None
        rivals = {output: float(sample.margins[k]) for k, output in sample.open}
        known = {output: self.table.best(output) for output in rivals}
        slack = {o: certified_radius(rivals[o], bound.value if bound else np.inf) for o, bound in known.items()}
        order = {output: rivals[output] for output in sorted(rivals, key=slack.__getitem__)}
        local, in_time = bounds_on_ball(self._graph, sample.x, question.norm, question.eps, order, sample.deadline)
        sample.cut_short |= not in_time
        sample.local_done = True
        if local is None:
            return None
        certified = replace(sample.blank, status=Status.CERTIFIED)
        return self.with_radius(certified, sample.margins, sample.rivals, local)

    def hold(self, margins: Array, rivals: list[Rival]) -> bool:
        """Whether the bounds known now exclude every rival."""
        return all(self._holds(margins, rival) for rival in rivals)

    def _holds(self, margins: Array, rival: Rival) -> bool:
        bound = self.table.best(rival[1])
        if bound is None:
            return False
        if self._question.tolerance is not None:
            return theorems.stays(Fraction(bound.value), self._question.eps, self._question.tolerance)
        return is_certified(float(margins[rival[0]]), bound.value, self._question.eps)

    def with_radius(
        self, result: SampleResult, margins: Array, rivals: list[Rival], local: Mapping[Output, Bound] | None = None
    ) -> SampleResult:
        """Fill in radius, method and the bounds used: the best ones known now, but `local` ones before them."""
        bounds = [(local or {}).get(output) or self.table.best(output) for _, output in rivals]
        if any(bound is None for bound in bounds):
            return result
        known = [bound for bound in bounds if bound is not None]
        radii = [
            certified_radius(float(margins[k]), bound.value)
            if bound.region is None
            else radius_within(bound.region.eps)
            for (k, _), bound in zip(rivals, known, strict=True)
        ]
        tightest = int(np.argmin(radii))
        method = known[tightest].method if result.status is not Status.FALSIFIED else result.method
        return replace(result, radius=radii[tightest], method=method, bounds=tuple(known))


_END = object()
