"""What a repair comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from certlip.importers import Model
from certlip.repairs.attempt import Attempt, Scores
from certlip.repairs.problem import Problem
from certlip.repairs.requirement import MaxLipschitz
from certlip.rigor.rounding import up
from certlip.verification import SampleResult, Status


@dataclass(frozen=True, eq=False)
class State:
    """A model with what is known of it on the samples that score: its attempt (bound, choice), scores, and verdicts
    where a certified share is asked for."""

    attempt: Attempt
    scores: Scores
    verdicts: tuple[SampleResult, ...] = ()

    @property
    def certified(self) -> int:
        """Verdicts that are proofs."""
        return sum(result.status is Status.CERTIFIED for result in self.verdicts)


@dataclass(frozen=True, eq=False)
class RepairReport:
    """met: what the requirement asks is proved of `after`, on the scored samples where it is about a share.

    model: the repaired model, from `files["model"]` where it was written. after: the same as `before` where nothing
    came closer. table: the best attempt of each method. notes: why a method has none. files: by role: model,
    certificates, json, markdown.
    """

    problem: Problem
    before: State
    after: State
    model: Model
    table: Mapping[str, Attempt]
    notes: Mapping[str, str]
    met: bool
    interrupted: bool
    seconds: float
    files: Mapping[str, Path]

    @property
    def unchanged(self) -> bool:
        """Whether the result is the model as it was."""
        return self.after is self.before

    @property
    def shortfall(self) -> float:
        """How far the result is from what was asked, 0 where it is met: the excess of the bound, or the missing share
        of samples; infinite without a bound."""
        requirement, after = self.problem.requirement, self.after
        if self.met:
            return 0.0
        if isinstance(requirement, MaxLipschitz):
            bound = after.attempt.bound
            return float("inf") if bound is None else _up(Fraction(bound.value) - requirement.limit)
        return _up(requirement.share - Fraction(after.certified, max(len(after.verdicts), 1)))

    @property
    def compared_at(self) -> float | None:
        """The radius at which methods are compared by certified accuracy: the eps asked for, else the one that half of
        the samples of the model reach that have any; None for regressors and where no sample has one."""
        requirement = self.problem.requirement
        if not self.problem.is_classifier:
            return None
        if not isinstance(requirement, MaxLipschitz):
            return float(requirement.eps)
        median = self.before.attempt.scores.median_radius
        return None if median is None else float(f"{median:.3g}")

    def curve(self, state: State) -> list[tuple[float, float]]:
        """(radius, share of the scored samples certified beyond it); at radius 0 that is the accuracy, ties aside.
        Regressors have none."""
        if not self.problem.is_classifier:
            return []
        return [(radius, state.scores.certified_beyond(radius)) for radius in self.curve_radii]

    @property
    def curve_radii(self) -> list[float]:
        """Ten steps up to the radius that one in twenty samples of the better state exceeds, and the eps asked for."""
        known = [state.scores.radii[np.isfinite(state.scores.radii)] for state in (self.before, self.after)]
        top = max((float(np.quantile(radii, 0.95)) for radii in known if len(radii)), default=0.0)
        radii = {float(f"{top * step / 10:.3g}") for step in range(11)}
        requirement = self.problem.requirement
        if not isinstance(requirement, MaxLipschitz):
            radii.add(float(requirement.eps))
        return sorted(radii)


def _up(value: Fraction) -> float:
    """A float that is at least the value."""
    nearest = float(value)
    return nearest if Fraction(nearest) >= value else up(nearest)
