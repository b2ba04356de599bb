"""The attacks on a sample. They propose points; one counts once it is proved to violate and its execution agrees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from itertools import islice

import numpy as np

from certlip.check import theorems
from certlip.errors import CertificateRejected
from certlip.graph import Graph
from certlip.importers import Model
from certlip.lipschitz.threads import threads_for
from certlip.proofs.counterexample import is_within
from certlip.rigor.rounding import Array
from certlip.verification.attack import attack_label, attack_tolerance, representable
from certlip.verification.falsify import Effort, find_unsafe
from certlip.verification.model_file import input_type
from certlip.verification.replay import runner, shows_other_label
from certlip.verification.sample import Sample
from certlip.verification.verdicts import Question, SampleResult, Status

_TRIED = 3  # points of the short attack that are worth a proof


class Attacks:
    """On samples of one model. seconds: what the last short attack took, 0 before the first."""

    def __init__(self, model: Model, question: Question, scores: Graph, seed: int):
        self._model, self._question, self._scores, self._seed = model, question, scores, seed
        self.seconds = 0.0

    @cached_property
    def _run(self) -> Callable[[Array], Array]:
        return runner(self._model)

    def climb(self, sample: Sample) -> SampleResult | None:
        """Projected gradients from a few starts, in numpy."""
        if not sample.has_time():
            return None
        question, label, began = self._question, sample.blank.label, time.monotonic()
        scores, x, norm, eps = self._scores, sample.x, question.norm, question.eps
        if label is None:
            points = attack_tolerance(scores, x, norm, eps, self._seed, sample.deadline, question.clip)
        else:
            points = attack_label(scores, x, label, norm, eps, self._seed, sample.deadline, question.clip)
        found = self._first(sample, points[:_TRIED])
        self.seconds = time.monotonic() - began
        return found

    def search(self, sample: Sample, effort: Effort, deadline: float | None) -> SampleResult | None:
        """Samples of the set and many descents, in torch."""
        if sample.query is None or not sample.has_time():
            return None
        import torch  # noqa: F401  before its threads are limited

        with threads_for(1):
            points = find_unsafe(sample.query, seed=self._seed, deadline=deadline, effort=effort)
            return self._first(sample, islice(points, _TRIED * effort.rounds))

    def _first(self, sample: Sample, points: Iterable[Array]) -> SampleResult | None:
        return next((found for found in (self.accepted(sample, point) for point in points) if found is not None), None)

    def accepted(self, sample: Sample, point: Array) -> SampleResult | None:
        """The verdict where a candidate, or a number of the model's type beside it, is a counterexample."""
        question, x, label = self._question, sample.x, sample.blank.label
        for candidate in representable(x, point, input_type(self._model)):
            violates = theorems.in_clip(candidate, question.clip) and self._violates(x, candidate, label)
            if violates and is_within(x, candidate, question.norm, question.eps):
                return replace(sample.blank, status=Status.FALSIFIED, counterexample=candidate, method="attack")
        return None

    def _violates(self, x: Array, point: Array, label: int | None) -> bool:
        """Proved for the exact network, and shown by the runtime."""
        tolerance, none = self._question.tolerance, [Fraction(0)] * self._scores.output_size
        try:
            outputs = theorems.outputs_at(self._scores, point)
            if tolerance is not None:
                moved = theorems.moves(theorems.outputs_at(self._scores, x), outputs, tolerance, none)
                return moved and Fraction(float(np.abs(self._run(point) - self._run(x)).max())) > tolerance
        except CertificateRejected:  # outputs that overflow prove nothing
            return False
        if label is None or not theorems.loses(outputs, label, none):
            return False
        return shows_other_label(self._run(point), label, self._model)
