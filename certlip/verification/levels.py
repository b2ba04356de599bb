"""The level of a verdict: does it hold for real arithmetic only, or also for every execution of the model's class?

The inequalities are those of `certlip.check.theorems`, so what is graded "deployed" here is accepted as that there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import inf, nan
from typing import Any

import numpy as np

from certlip.check import theorems
from certlip.check.executions import class_slack_on, execution_class, slack_between
from certlip.check.models import network
from certlip.errors import CertificateRejected
from certlip.importers import Model
from certlip.proofs.ranges import Region
from certlip.properties.outputs import ALL, margins_graph, select
from certlip.rigor.rounding import Array, Precision, down
from certlip.verification.model_file import opened
from certlip.verification.sample_query import SampleQueries
from certlip.verification.verdicts import Grade, Question, SampleResult, Status

_NOT_PROVED, _ESTIMATE, _FLOAT = Grade(), Grade("estimate"), Grade("float")


@dataclass(frozen=True)
class _Contest:
    """One inequality of a claim: a margin, what executions may lose of it, and the Lipschitz bound that eats it up."""

    margin: Fraction
    lost: Fraction
    bound: Fraction = Fraction(0)


class Grader:
    """Grades the verdicts of one model on one question."""

    def __init__(self, model: Model, question: Question, queries: SampleQueries):
        self._model, self._question, self._queries = model, question, queries

    def graded(self, result: SampleResult, x: Array) -> SampleResult:
        """The result with the level of its proof; one whose proof does not reach the level asked for is undecided.

        The radius of a deployed verdict, and every radius where executions are asked for, holds for executions.
        """
        asked = self._question.level == "deployed"
        if result.status is Status.MISCLASSIFIED:
            return replace(result, grade=_ESTIMATE)
        if result.status is Status.CERTIFIED:
            graded = replace(result, grade=self.certified(result, x))
        elif result.status is Status.FALSIFIED:
            graded = replace(result, grade=self.falsified(result, x))
        else:
            graded = replace(result, grade=_NOT_PROVED)
            if asked and self.holds_for_reals(result, x):
                graded = self._real_only(result, Status.CERTIFIED)
        if asked and graded.level == "float":
            graded = self._real_only(result, result.status)
        if asked or graded.level == "deployed":
            graded = replace(graded, radius=self._radius_in_executions(graded, x))
        return graded

    def _radius_in_executions(self, result: SampleResult, x: Array) -> float:
        """What `deployed_radius` proves; for a certified sample at least eps, for which its grade is the proof."""
        proved, _ = self.deployed_radius(result, x)
        return max(proved, _at_most(self._question.eps)) if result.status is Status.CERTIFIED else proved

    @staticmethod
    def _real_only(result: SampleResult, verdict: Status) -> SampleResult:
        """Undecided, since executions were asked for and the verdict is proved for real arithmetic alone."""
        note = f"{verdict} for real arithmetic only; rounding errors of executions may decide otherwise"
        return replace(result, status=Status.UNKNOWN, grade=_NOT_PROVED, counterexample=None, note=note)

    def measured(self, result: SampleResult, x: Array) -> SampleResult:
        """The result with the level of its radius, which is a smaller one where executions are asked for."""
        if self._question.level != "deployed" or result.status is not Status.CERTIFIED:
            grade = _FLOAT if result.status is Status.CERTIFIED else _NOT_PROVED
            return replace(result, grade=grade)
        radius, grade = self.deployed_radius(result, x)
        if radius > 0:
            return replace(result, radius=radius, grade=grade)
        return replace(self._real_only(result, Status.CERTIFIED), radius=0.0)

    @cached_property
    def _class(self) -> Precision | None:
        """The class of executions of the model, None where nothing is known about them."""
        file, _ = opened(self._model)
        found = network(self._model.graph, file, self._model.input_name, self._model.output_name)
        try:
            return execution_class(self._semantics, found)
        except CertificateRejected:
            return None

    @property
    def _semantics(self) -> dict[str, Any]:
        precision = self._model.precision
        return {"arithmetic": precision.name, "library_units": int(precision.library_units)}

    @cached_property
    def _exact(self):
        graph = self._model.graph
        return margins_graph(graph) if self._question.tolerance is None else select(graph, ALL)

    def certified(self, result: SampleResult, x: Array) -> Grade:
        """The grade of a certified sample: "deployed" if every margin exceeds L eps and the slack, or if what its trees
        bound does. Where executions were asked for, the trees were found for them."""
        slack = self.slack(x, self._question.eps)
        if result.trees:
            asked = self._question.level == "deployed"
            deployed = slack is not None and (asked or self._queries.holds(x, result.label, result.trees, slack))
            return self._grade(slack, []) if slack is not None and deployed else _FLOAT
        entries = None if slack is None else self._contests(result, x, slack)
        if slack is None or not entries or not self._hold(entries, self._question.eps):
            return _FLOAT
        return self._grade(slack, entries)

    def holds_for_reals(self, result: SampleResult, x: Array) -> bool:
        """Whether the bounds of a result prove the claim for real arithmetic."""
        entries = self._real_contests(result, x)
        return bool(entries) and self._hold(entries, self._question.eps)

    def deployed_radius(self, result: SampleResult, x: Array) -> tuple[float, Grade]:
        """A radius up to which the class is kept (or the tolerance) in every execution, 0 where nothing is known.

        The slack on the ball of the radius for real arithmetic is at least that on a smaller one. Only the bounds of
        the result and the sample matter, so every command finds the same radius.
        """
        outer = _reach(self._real_contests(result, x), result)
        slack = self.slack(x, outer) if outer is not None and outer > 0 else None
        entries = None if slack is None else self._contests(result, x, slack)
        if slack is None or not entries:
            return 0.0, _NOT_PROVED
        radius = _at_most(_reach(entries, result) or Fraction(0))
        if radius <= 0 or not self._hold(entries, Fraction(radius), theorems.keeps_inside):
            return 0.0, _NOT_PROVED
        return radius, self._grade(slack, entries)

    def falsified(self, result: SampleResult, x: Array) -> Grade:
        """The grade of a sample with a counterexample: "deployed" if it violates by more than the slack there."""
        point, tolerance, norm = result.counterexample, self._question.tolerance, self._question.norm
        if point is None or self._class is None:
            return _NOT_PROVED if point is None else _FLOAT
        try:
            there = Region(point, Fraction(0), norm)
            if tolerance is not None:
                slack = slack_between(self._model.graph, Region(x, Fraction(0), norm), there, self._class)
                first, second = theorems.outputs_at(self._exact, x), theorems.outputs_at(self._exact, point)
                proved = theorems.moves(first, second, tolerance, slack)
                gaps = zip(theorems.gaps(first, second), slack, strict=True)
                entries = [_Contest(gap - tolerance, lost) for gap, lost in gaps]
            else:
                slack = class_slack_on(self._model.graph, there, self._class)
                outputs, label = theorems.outputs_at(self._exact, point), result.label or 0
                proved = theorems.loses(outputs, label, slack)
                rivals = theorems.rivals(len(slack), label)
                entries = [_Contest(*theorems.lead(outputs, slack, k, label)) for k, _ in rivals]
        except CertificateRejected:
            return _FLOAT
        return self._grade(slack, [max(entries, key=lambda entry: entry.margin - entry.lost)]) if proved else _FLOAT

    def reduced(self, margins: Array, x: Array, label: int) -> Array:
        """Margins less what executions may lose of each on the ball; all -inf where nothing is known about them."""
        slack = self.slack(x, self._question.eps)
        if slack is None:
            return np.full_like(margins, -np.inf)
        lost = slack if len(slack) == 1 else [slack[label] + each for each in slack]
        return np.array(
            [_at_most(Fraction(m) - s) if -inf < m < inf else m for m, s in zip(margins.tolist(), lost, strict=True)]
        )

    def slack(self, x: Array, eps: Fraction) -> list[Fraction] | None:
        """How far executions on the ball may be from the exact network, None where nothing is known."""
        graph, norm = self._model.graph, self._question.norm
        if self._class is None:
            return None
        try:
            if self._question.tolerance is None:
                return class_slack_on(graph, Region(x, eps, norm), self._class)
            return slack_between(graph, Region(x, Fraction(0), norm), Region(x, eps, norm), self._class)
        except CertificateRejected:
            return None

    def _contests(self, result: SampleResult, x: Array, slack: list[Fraction]) -> list[_Contest]:
        """The inequalities of a claim about the sample; none where a bound is missing or the outputs overflow."""
        bounds = [Fraction(bound.value) for bound in result.bounds]
        if not bounds or self._question.tolerance is not None:
            return [_Contest(self._question.tolerance or Fraction(0), max(slack), bound) for bound in bounds]
        try:
            outputs, label = theorems.outputs_at(self._exact, x), result.label or 0
        except CertificateRejected:
            return []
        leads = [theorems.lead(outputs, slack, label, k) for k, _ in theorems.rivals(len(slack), label)]
        return [_Contest(*lead, bound) for lead, bound in zip(leads, bounds, strict=True)]

    def _real_contests(self, result: SampleResult, x: Array) -> list[_Contest]:
        """The same without slack."""
        return self._contests(result, x, [Fraction(0)] * self._exact.output_size)

    def _hold(self, entries: list[_Contest], eps: Fraction, keeps: Callable[..., bool] = theorems.keeps) -> bool:
        if self._question.tolerance is not None:
            return all(theorems.stays(entry.bound, eps, entry.margin, entry.lost) for entry in entries)
        return all(keeps(entry.margin, entry.bound, eps, entry.lost) for entry in entries)

    def _grade(self, slack: list[Fraction], entries: list[_Contest]) -> Grade:
        share = max((float(entry.lost / entry.margin) for entry in entries if entry.margin > 0), default=nan)
        return Grade("deployed", self._semantics, tuple(map(float, slack)), share)


def _reach(entries: list[_Contest], result: SampleResult) -> Fraction | None:
    """How far all inequalities hold and all bounds of the result are valid, None where nothing ends it; below zero
    where an inequality fails at the sample itself."""
    ends = [(entry.margin - entry.lost) / entry.bound for entry in entries if entry.bound]
    return min([*ends, *(bound.region.eps for bound in result.bounds if bound.region is not None)], default=None)


def _at_most(value: Fraction) -> float:
    """A float at or below the value."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else down(nearest)
