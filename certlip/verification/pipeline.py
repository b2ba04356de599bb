"""The verdict on each sample: margins over bounds, an attack where they do not suffice, finer bounds, bounds on the
sample's own ball, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from certlip.check import theorems
from certlip.errors import CertificateRejected, UsageError
from certlip.importers import Model
from certlip.lipschitz.bound import Bound
from certlip.proofs.counterexample import is_within
from certlip.proofs.margin import output_balls
from certlip.properties import Output
from certlip.properties.outputs import ALL, margins_graph, select
from certlip.rigor.rounding import Array, down
from certlip.verification.attack import attack_label, attack_tolerance, representable
from certlip.verification.bounds import BoundTable
from certlip.verification.dataset import Dataset, require_classes
from certlip.verification.levels import Grader
from certlip.verification.local import bounds_on_ball, radius_within
from certlip.verification.margins import certified_radius, is_certified, label_margins
from certlip.verification.model_file import input_type
from certlip.verification.replay import runner, shows_other_label
from certlip.verification.verdicts import Question, SampleResult, Status


class Verifier:
    """Decides samples of one model for one question; bounds are shared between samples."""

    def __init__(
        self,
        model: Model,
        question: Question,
        method: str = "auto",
        progress: Callable[[str], None] = lambda message: None,
        seed: int = 0,
    ):
        self.model, self.question, self._seed = model, question, seed
        self.table = BoundTable(model.graph, question.norm, method, progress)
        self.is_classifier = question.tolerance is None
        self.scores = margins_graph(model.graph) if self.is_classifier else select(model.graph, ALL)
        self._grader = Grader(model, question)

    @cached_property
    def _run(self) -> Callable[[Array], Array]:
        return runner(self.model)

    def rivals(self, label: int) -> list[tuple[int, Output]]:
        """Entry of the margins and the output whose Lipschitz bound goes with it."""
        size = self.scores.output_size
        return [(0 if size == 1 else k, output) for k, output in theorems.rivals(size, label)]

    def decide(self, index: int, x: Array, target, deadline: float | None) -> SampleResult:
        """The verdict on one sample, x of the model's input shape."""
        began = time.monotonic()
        blank, margins, rivals = self._open(index, x, target)
        if rivals:
            blank = self._resolve(blank, margins, rivals, x, deadline)
        return replace(self._grader.graded(blank, x), seconds=time.monotonic() - began)

    def _open(self, index: int, x: Array, target) -> tuple[SampleResult, Array, list[tuple[int, Output]]]:
        """The result of a sample before any bound, its margins, and which bound each margin is held against: none for
        a misclassified sample, and for one whose outputs overflow or tie, about which nothing can be said."""
        tolerance = self.question.tolerance
        if tolerance is not None:
            value = self.scores(x[None]).reshape(-1).tolist()
            predicted = value[0] if len(value) == 1 else value
            margin = down(float(tolerance))
            return (
                SampleResult(index, None, predicted, Status.UNKNOWN, margin, 0.0, "", 0.0),
                np.array([margin]),
                [(0, ALL)],
            )
        outputs = output_balls(self.scores, x[None])[0]
        if not np.isfinite(outputs.rad).all():
            label = None if target is None else int(target)
            note = "the outputs overflow here, so the class is not known"
            nothing = SampleResult(index, label, np.nan, Status.UNKNOWN, -np.inf, 0.0, "", 0.0, note=note)
            return nothing, np.array([]), []
        winner = int(outputs.mid[0] > 0) if outputs.mid.size == 1 else int(outputs.mid.argmax())
        label = winner if target is None else int(target)
        margins = label_margins(outputs, label)
        margin = float(margins.min())
        if self.question.level == "deployed" and winner == label:
            margins = self._grader.reduced(margins, x, label)
        if winner != label:
            ahead = label_margins(outputs, winner)
            if (ahead[label] if ahead.size > 1 else ahead[0]) > 0:
                lost = SampleResult(index, label, winner, Status.MISCLASSIFIED, margin, 0.0, "prediction", 0.0)
            else:
                note = f"rounding does not tell the scores of the classes {label} and {winner} apart here"
                lost = SampleResult(index, label, winner, Status.UNKNOWN, margin, 0.0, "", 0.0, note=note)
            return lost, margins, []
        return SampleResult(index, label, winner, Status.UNKNOWN, margin, 0.0, "", 0.0), margins, self.rivals(label)

    def _resolve(self, blank: SampleResult, margins, rivals, x: Array, deadline: float | None) -> SampleResult:
        """Cheapest bound, then attack, then the remaining bounds, each only against rivals not yet excluded."""
        steps = {output: self.table.refine(output, deadline) for _, output in rivals}
        open_rivals = list(rivals)
        attacked = False
        while True:
            open_rivals = [rival for rival in open_rivals if not self._holds(margins, rival)]
            if not open_rivals:
                return self._with_radius(replace(blank, status=Status.CERTIFIED), margins, rivals)
            tried = any(self.table.best(output) for _, output in open_rivals)
            if tried and not attacked:
                attacked = True
                point = self._attack(x, blank.label, deadline)
                if point is not None:
                    found = replace(blank, status=Status.FALSIFIED, counterexample=point, method="attack")
                    return self._with_radius(found, margins, rivals)
            stalled = [output for _, output in open_rivals if next(steps[output], _END) is _END]
            if stalled:
                local, in_time = self._on_ball(margins, open_rivals, x, deadline)
                if local is not None:
                    return self._with_radius(replace(blank, status=Status.CERTIFIED), margins, rivals, local)
                complete = in_time and all(self.table.is_complete(output) for output in stalled)
                status = Status.UNKNOWN if complete else Status.TIMEOUT
                return self._with_radius(replace(blank, status=status), margins, rivals)

    def _on_ball(
        self, margins, open_rivals, x: Array, deadline: float | None
    ) -> tuple[dict[Output, Bound] | None, bool]:
        """Bounds on the sample's own ball that exclude every open rival, and whether the time sufficed to look."""
        if not (self.is_classifier and self.table.has_local):
            return None, True
        rivals = {output: float(margins[k]) for k, output in open_rivals}
        known = {output: self.table.best(output) for output in rivals}
        slack = {o: certified_radius(rivals[o], bound.value if bound else np.inf) for o, bound in known.items()}
        order = {output: rivals[output] for output in sorted(rivals, key=slack.__getitem__)}
        question = self.question
        return bounds_on_ball(self.model.graph, x, question.norm, question.eps, order, deadline)

    def _holds(self, margins, rival: tuple[int, Output]) -> bool:
        bound = self.table.best(rival[1])
        if bound is None:
            return False
        if self.question.tolerance is not None:
            return theorems.stays(Fraction(bound.value), self.question.eps, self.question.tolerance)
        return is_certified(float(margins[rival[0]]), bound.value, self.question.eps)

    def _with_radius(
        self, result: SampleResult, margins, rivals, local: Mapping[Output, Bound] | None = None
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

    def measure(self, index: int, x: Array, target, deadline: float | None) -> SampleResult:
        """Margin and certified radius from the best bounds of every method, without an attack or a given eps."""
        began = time.monotonic()
        blank, margins, rivals = self._open(index, x, target)
        if rivals:
            for _, output in rivals:
                for _ in self.table.refine(output, deadline):
                    pass
            complete = all(self.table.is_complete(output) for _, output in rivals)
            blank = self._with_radius(blank, margins, rivals)
            status = Status.CERTIFIED if blank.radius > 0 else Status.UNKNOWN if complete else Status.TIMEOUT
            blank = self._grader.measured(replace(blank, status=status), x)
        return replace(blank, seconds=time.monotonic() - began)

    def refresh(self, result: SampleResult, x: Array) -> SampleResult:
        """Status and radius from the bounds that later samples have refined since; a verdict never gets weaker."""
        holds = lambda margins, rivals: all(self._holds(margins, rival) for rival in rivals)  # noqa: E731
        return self._again(result, x, holds, self._grader.graded)

    def remeasure(self, result: SampleResult, x: Array) -> SampleResult:
        """`refresh` for results of `measure`: certified is what has a positive radius."""
        holds = lambda margins, rivals: self._with_radius(result, margins, rivals).radius > 0  # noqa: E731
        return self._again(result, x, holds, self._grader.measured)

    def _again(
        self,
        result: SampleResult,
        x: Array,
        holds: Callable[[Array, list], bool],
        grade: Callable[[SampleResult, Array], SampleResult],
    ) -> SampleResult:
        if result.status is Status.ERROR:
            return result
        _, margins, rivals = self._open(result.index, x, result.label)
        if not rivals:
            return result
        if any(bound.region is not None for bound in result.bounds) and not holds(margins, rivals):
            return result  # only bounds on its own ball exclude every rival
        status = result.status
        if status in (Status.UNKNOWN, Status.TIMEOUT) and holds(margins, rivals):
            result = replace(result, status=Status.CERTIFIED, note="")
        fresh = self._with_radius(result, margins, rivals)
        if fresh.status is status and fresh.bounds == result.bounds:  # nothing is new
            return result
        return grade(fresh, x)

    def _attack(self, x: Array, label: int | None, deadline: float | None) -> Array | None:
        """A point that provably violates, and whose execution by the runtime agrees."""
        question = self.question
        if label is None:
            points = attack_tolerance(self.scores, x, question.norm, question.eps, self._seed, deadline, question.clip)
        else:
            ball = question.norm, question.eps
            points = attack_label(self.scores, x, label, *ball, self._seed, deadline, question.clip)
        kind = input_type(self.model)
        for point in points[:3]:
            for candidate in representable(x, point, kind):
                inside = is_within(x, candidate, question.norm, question.eps)
                valid = inside and theorems.in_clip(candidate, question.clip)
                if valid and self._violates(x, candidate, label):
                    return candidate
        return None

    def _violates(self, x: Array, point: Array, label: int | None) -> bool:
        """Proved for the exact network, and shown by the runtime."""
        tolerance, none = self.question.tolerance, [Fraction(0)] * self.scores.output_size
        try:
            outputs = theorems.outputs_at(self.scores, point)
            if tolerance is not None:
                moved = theorems.moves(theorems.outputs_at(self.scores, x), outputs, tolerance, none)
                return moved and Fraction(float(np.abs(self._run(point) - self._run(x)).max())) > tolerance
        except CertificateRejected:  # outputs that overflow prove nothing
            return False
        if label is None or not theorems.loses(outputs, label, none):
            return False
        return shows_other_label(self._run(point), label, self.model)


_END = object()


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
