"""A candidate as the file it would be: read back, bounded with a proof, and scored on samples it was not fitted to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from certlip.errors import CertlipError
from certlip.graph import Graph
from certlip.importers import Model, load_bytes
from certlip.lipschitz import Bound, best, bound_output
from certlip.onnx_writer import write
from certlip.properties.outputs import ALL, scores, select
from certlip.repairs.losses import mean_loss
from certlip.repairs.problem import Problem, classes_of
from certlip.repairs.radii import certified_radii, exceeds, tolerated_radius
from certlip.repairs.requirement import MaxLipschitz, MinCertified
from certlip.repairs.surgery import distance, times
from certlip.repairs.task import Rows, outputs_of
from certlip.rigor.rounding import Array, up
from certlip.verification import Question, Status, Verifier, verify_samples
from certlip.verification.dataset import Dataset

_ROOM, _NEAR = (1.0, 4.0, 16.0, 0.0), 64.0
"""Units in the last place that each further scaling leaves below the limit, and by how many a bound may miss it."""
_SEARCHED = 200  # samples on which linear bounds are asked for beside a Lipschitz bound


@dataclass(frozen=True, eq=False)
class Scores:
    """On one part of the samples. accuracy: of classes, error: mean squared of targets; the other is None. certified:
    share that the requirement asks about, None without one. radii: proved, see `certified_radii`."""

    samples: int
    loss: float
    accuracy: float | None
    error: float | None
    certified: Fraction | None
    radii: Array

    @property
    def mean_radius(self) -> float:
        """The average certified radius (Zhai et al. 2020), 0 counted for misclassified samples."""
        return float(np.minimum(self.radii, np.finfo(float).max / (2 * len(self.radii))).mean())

    @property
    def median_radius(self) -> float | None:
        """Of the samples that have a positive, finite one; None where none has."""
        positive = self.radii[(self.radii > 0) & np.isfinite(self.radii)]
        return float(np.median(positive)) if len(positive) else None

    def certified_beyond(self, radius: float) -> float:
        """Share of the samples whose radius is larger."""
        return float((self.radii > radius).mean())


@dataclass(frozen=True, eq=False)
class Attempt:
    """bound: on all outputs of the written file, None where nothing was proved. meets: what the requirement asks is
    proved, a share on the part that chooses by a standard error more. seconds: since the method began."""

    method: str
    body: Graph
    model: Model
    bound: Bound | None
    scores: Scores
    distance: float | None
    meets: bool
    seconds: float


class Judge:
    """Turns candidate graphs into attempts. seconds: for the proof of one bound."""

    def __init__(self, problem: Problem, seconds: float):
        self.problem, self._seconds = problem, seconds
        self.refused: dict[str, str] = {}

    def attempt(self, method: str, body: Graph, began: float) -> Attempt | None:
        """None, with a reason in `refused`, for a candidate that cannot be written or is read differently.

        Where the file's own type rounds the weights to a bound a little above the limit, they are scaled once more.
        """
        problem = self.problem
        for room in _ROOM:
            try:
                model = load_bytes(write(problem.whole(body), problem.model), problem.model.name)
            except CertlipError as error:
                self.refused[method] = str(error)
                return None
            bound = self.bound(model)
            excess = self._excess(bound)
            if not 1.0 < excess <= 1.0 + _NEAR * model.precision.unit:
                break
            body = times(body, (1.0 - room * model.precision.unit) / excess)
        return self._scored(method, body, model, bound, began)

    def _scored(self, method: str, body: Graph, model: Model, bound: Bound | None, began: float) -> Attempt:
        part = self.problem.parts.validation
        found = self.scores(model, bound, part, self.problem.rows(part), self._seconds)
        moved, meets = distance(self.problem.body, body), self._meets(bound, found)
        return Attempt(method, body, model, bound, found, moved, meets, time.monotonic() - began)

    def _excess(self, bound: Bound | None) -> float:
        """The bound over the limit, 0 where none is asked for or proved."""
        requirement = self.problem.requirement
        if bound is None or not isinstance(requirement, MaxLipschitz):
            return 0.0
        above = Fraction(bound.value) > requirement.limit
        return max(float(Fraction(bound.value) / requirement.limit), up(1.0)) if above else 1.0

    def original(self) -> Attempt:
        """The model as it is."""
        problem, began = self.problem, time.monotonic()
        return self._scored("none", problem.body, problem.model, self.bound(problem.model), began)

    def bound(self, model: Model) -> Bound | None:
        """The best bound that the time allows."""
        end = time.monotonic() + self._seconds
        return best(bound_output(model.graph, ALL, self.problem.norm, "auto", end))

    def scores(self, model: Model, bound: Bound | None, part: Dataset, rows: Rows, seconds: float) -> Scores:
        """How good a model is on some samples; radii as far as the seconds allow."""
        problem, end = self.problem, time.monotonic() + seconds
        requirement = problem.requirement
        if not problem.is_classifier:
            outputs = outputs_of(model.graph, rows.x)
            error = float(np.mean((outputs - rows.y) ** 2))
            radius, certified = 0.0, None
            if isinstance(requirement, MinCertified) and requirement.tolerance is not None:
                radius = tolerated_radius(bound, requirement.tolerance)
                certified = Fraction(int(exceeds(radius, requirement.eps)))
            loss = mean_loss(problem.loss, outputs, rows.y)
            return Scores(len(rows), loss, None, error, certified, np.full(len(rows), radius))
        outputs = outputs_of(select(model.graph, scores(model.graph)), rows.x)
        accuracy = float(np.mean(classes_of(outputs) == rows.y))
        loss = mean_loss(problem.loss, outputs, rows.y)
        radii = certified_radii(model, bound, rows, end)
        certified = None
        if isinstance(requirement, MinCertified):
            certified = self._certified(model, part, radii, requirement.eps, end)
        return Scores(len(rows), loss, accuracy, None, certified, radii)

    def _certified(self, model: Model, part: Dataset, radii: Array, eps: Fraction, end: float) -> Fraction:
        """Share of samples with a large enough radius, or else certified by linear bounds of their own."""
        held = np.array([exceeds(radius, eps) for radius in radii])
        open_ones = np.flatnonzero(~held)[:_SEARCHED]
        if len(open_ones):
            left = Dataset(part.inputs[open_ones], np.asarray(part.targets)[open_ones], part.where)
            verifier = Verifier(model, Question(eps, self.problem.norm), "crown")
            results = verify_samples(verifier, left, None, max(end - time.monotonic(), 0.0))
            held[open_ones] = [result.status is Status.CERTIFIED for result in results]
        return Fraction(int(held.sum()), len(held))

    def _meets(self, bound: Bound | None, found: Scores) -> bool:
        requirement = self.problem.requirement
        if isinstance(requirement, MaxLipschitz):
            return bound is not None and Fraction(bound.value) <= requirement.limit
        if found.certified is None:
            return False
        share = float(found.certified)
        doubt = 0.0 if requirement.tolerance is not None else float(np.sqrt(share * (1 - share) / found.samples))
        return found.certified >= requirement.share and share - doubt >= float(requirement.share)


def best_attempt(attempts: Sequence[Attempt], original: Attempt, accuracy_loss: float) -> Attempt | None:
    """Of those that meet the requirement, the best; else the one that comes closest.

    Classifiers: those whose accuracy is at most `accuracy_loss` below that of the original come first, and of them, if
    only a bound is asked for, the one with the largest average certified radius; else the most accurate. Where a share
    is asked for, all that meet it are good enough, and the most accurate one is best. Regressors: the smallest error.
    """
    if not attempts:
        return None
    meeting = [attempt for attempt in attempts if attempt.meets]
    if not meeting:
        return min(attempts, key=_shortfall)
    if original.scores.accuracy is None:
        return min(meeting, key=lambda attempt: attempt.scores.error or 0.0)
    least = original.scores.accuracy - accuracy_loss
    spared = [attempt for attempt in meeting if _accuracy(attempt) >= least]
    if spared and spared[0].scores.certified is None:
        return max(spared, key=lambda attempt: attempt.scores.mean_radius)
    return max(meeting, key=lambda attempt: (_accuracy(attempt), attempt.scores.certified or 0))


def _accuracy(attempt: Attempt) -> float:
    return attempt.scores.accuracy or 0.0


def _shortfall(attempt: Attempt) -> tuple[Fraction, float]:
    """How far an attempt is from what is asked: by its certified share where one is, then by its bound."""
    certified = attempt.scores.certified
    value = float("inf") if attempt.bound is None else attempt.bound.value
    return (Fraction(0) if certified is None else -certified), value
