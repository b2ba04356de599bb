"""The verdict on each sample: stages in the order of their expected cost, until one of them decides.

 1. Lipschitz bounds that samples share and that need no program.
 2. Linear bounds on the sample's own set, and a short attack; the one that took less time on the last sample first.
 3. Programs that take no longer than a few cases: Lipschitz bounds for all inputs, then on the sample's ball.
 4. An attack in torch, then distinctions of cases until the deadline.
 5. What is left: programs that take longer.

A method that names one kind of bound leaves out the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from certlip.errors import UsageError
from certlip.importers import Model
from certlip.proofs.query import meets_clip
from certlip.properties.outputs import ALL, margins_graph, select
from certlip.rigor.rounding import Array
from certlip.verification.attack_stage import Attacks
from certlip.verification.bounds import BoundTable
from certlip.verification.dataset import Dataset, require_classes
from certlip.verification.falsify import QUICK
from certlip.verification.levels import Grader
from certlip.verification.linear_stage import LinearBounds
from certlip.verification.lipschitz_stage import LipschitzBounds
from certlip.verification.plan import Plan
from certlip.verification.sample import Rival, Sample, open_sample
from certlip.verification.sample_query import SampleQueries
from certlip.verification.verdicts import Question, SampleResult, Status

Stage = Callable[[Sample], SampleResult | None]
"""The verdict, or None where others may find it."""

_ATTACK = 0.1  # seconds that the short attack is expected to take before its first run


class Verifier:
    """Decides samples of one model for one question; bounds for all inputs are shared between samples."""

    def __init__(
        self,
        model: Model,
        question: Question,
        method: str = "auto",
        progress: Callable[[str], None] = lambda message: None,
        seed: int = 0,
    ):
        self.model, self.question, self._say = model, question, progress
        self._name = method
        self._plan = Plan.of(method)
        self.table = BoundTable(model.graph, question.norm, self._plan.lipschitz, progress)
        self.is_classifier = question.tolerance is None
        self.scores = margins_graph(model.graph) if self.is_classifier else select(model.graph, ALL)
        queries = SampleQueries(model, question)
        self._grader = Grader(model, question, queries)
        self._lipschitz = LipschitzBounds(model.graph, question, self.table)
        self._attacks = Attacks(model, question, self.scores, seed)
        self._linear = LinearBounds(question, queries, self._grader.slack, self._attacks)

    def decide(self, index: int, x: Array, target, deadline: float | None) -> SampleResult:
        """The verdict on one sample, x of the model's input shape."""
        began = time.monotonic()
        blank, margins, rivals = self._open(index, x, target)
        if rivals:
            blank = self._resolve(blank, margins, rivals, x, deadline)
        return replace(self._grader.graded(blank, x), seconds=time.monotonic() - began)

    def _open(self, index: int, x: Array, target) -> tuple[SampleResult, Array, list[Rival]]:
        opened = open_sample(self.scores, self.question, self._grader.reduced, index, x, target)
        question = self.question
        if opened[2] and question.clip is not None and not meets_clip(x, question.eps, question.norm, question.clip):
            note = "no input of the ball lies within the clip, so nothing is asked; the sample itself is outside"
            return replace(opened[0], note=note), opened[1], []
        return opened

    def _resolve(self, blank: SampleResult, margins: Array, rivals, x: Array, deadline: float | None) -> SampleResult:
        """The first verdict that a stage comes to."""
        sample = Sample(blank, x, margins, rivals, deadline)
        found = next((result for result in (stage(sample) for stage in self._stages(sample)) if result), None)
        if found is None:
            found = replace(blank, status=Status.TIMEOUT if sample.cut_short else Status.UNKNOWN)
        return found if found.trees or found.bounds else self._lipschitz.with_radius(found, margins, rivals)

    def _stages(self, sample: Sample) -> Iterator[Stage]:
        """Those of the method, cheapest first as far as that is known by now."""
        plan, lipschitz, linear, attacks = self._plan, self._lipschitz, self._linear, self._attacks
        yield lipschitz.closed_forms
        linear_first = plan.linear and linear.expected(sample) <= (attacks.seconds or _ATTACK)
        if linear_first:
            yield linear.at_once
        yield attacks.climb
        if plan.linear and not linear_first:
            yield linear.at_once
        if plan.cases:
            yield lipschitz.quick_programs
            yield self._search
            yield self._cases
        yield from (lipschitz.all_programs, lipschitz.on_ball)

    def _search(self, sample: Sample) -> SampleResult | None:
        self._say("attack")
        return self._attacks.search(sample, QUICK, sample.deadline)

    def _cases(self, sample: Sample) -> SampleResult | None:
        self._say("proof by cases")
        return self._linear.by_cases(sample)

    def measure(self, index: int, x: Array, target, deadline: float | None) -> SampleResult:
        """Margin and certified radius from the best Lipschitz bounds, without an attack or a given eps. Raises
        UsageError for a method that has none."""
        if self._plan.lipschitz is None:
            raise UsageError(f"{self._name} decides samples at a given eps and knows no radius; choose another method")
        began = time.monotonic()
        blank, margins, rivals = self._open(index, x, target)
        if rivals:
            for _, output in rivals:
                for _ in self.table.refine(output, deadline):
                    pass
            complete = all(self.table.is_complete(output) for _, output in rivals)
            blank = self._lipschitz.with_radius(blank, margins, rivals)
            status = Status.CERTIFIED if blank.radius > 0 else Status.UNKNOWN if complete else Status.TIMEOUT
            blank = self._grader.measured(replace(blank, status=status), x)
        return replace(blank, seconds=time.monotonic() - began)

    def refresh(self, result: SampleResult, x: Array) -> SampleResult:
        """Status and radius from the bounds that later samples have refined since; a verdict never gets weaker."""
        return self._again(result, x, self._lipschitz.hold, self._grader.graded)

    def remeasure(self, result: SampleResult, x: Array) -> SampleResult:
        """`refresh` for results of `measure`: certified is what has a positive radius."""
        holds = lambda margins, rivals: self._lipschitz.with_radius(result, margins, rivals).radius > 0  # noqa: E731
        return self._again(result, x, holds, self._grader.measured)

    def _again(
        self,
        result: SampleResult,
        x: Array,
        holds: Callable[[Array, list], bool],
        grade: Callable[[SampleResult, Array], SampleResult],
    ) -> SampleResult:
        if result.status is Status.ERROR or result.trees:  # no bound is needed where linear bounds decided
            return result
        _, margins, rivals = self._open(result.index, x, result.label)
        if not rivals:
            return result
        if any(bound.region is not None for bound in result.bounds) and not holds(margins, rivals):
            return result  # only bounds on its own ball exclude every rival
        status = result.status
        if status in (Status.UNKNOWN, Status.TIMEOUT) and holds(margins, rivals):
            result = replace(result, status=Status.CERTIFIED, note="")
        fresh = self._lipschitz.with_radius(result, margins, rivals)
        if fresh.status is status and fresh.bounds == result.bounds:  # nothing is new
            return result
        return grade(fresh, x)


def verify_samples(
    verifier: Verifier,
    data: Dataset,
    timeout: float | None = None,
    total_timeout: float | None = None,
    decide: Callable[[Verifier, int, Array, object, float | None], SampleResult] = Verifier.decide,
) -> Iterator[SampleResult]:
    """Decide every sample, in order. timeout: seconds for each, total_timeout: for the run; `decide` is the verifier's
    method that does it (`Verifier.decide` or `Verifier.measure`).

    A sample reached after the total time has passed is a timeout. An unexpected failure on one sample is reported as
    its status "error" and the rest go on.
    """
    end = None if total_timeout is None else time.monotonic() + total_timeout
    labels = data.labels if verifier.is_classifier else None
    if verifier.is_classifier:
        require_classes(verifier.model, data)
    for index, x in enumerate(data.inputs):
        now = time.monotonic()
        deadlines = [now + timeout if timeout is not None else None, end]
        deadline = min((d for d in deadlines if d is not None), default=None)
        try:
            yield decide(verifier, index, x, None if labels is None else labels[index], deadline)
        except UsageError:  # about the run, not about this sample
            raise
        except Exception as error:
            label = None if labels is None else int(labels[index])
            note = f"{type(error).__name__}: {error}"
            yield SampleResult(
                index, label, float("nan"), Status.ERROR, float("nan"), 0.0, "", time.monotonic() - now, note=note
            )
