"""One sample on its way to a verdict: what is known before any proof, and what the stages have found out since."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from certlip.bounds.refute import Outcome
from certlip.check import theorems
from certlip.graph import Graph
from certlip.proofs.margin import output_balls
from certlip.proofs.query import Query
from certlip.properties import Output
from certlip.properties.outputs import ALL
from certlip.rigor.rounding import Array, down
from certlip.verification.margins import label_margins
from certlip.verification.verdicts import Question, SampleResult, Status

Rival = tuple[int, Output]
"""Entry of the margins, and the output whose Lipschitz bound goes with it."""

_SHARE, _LONGEST = 0.1, 5.0  # of the time that is left, and seconds at most, for a search before the last one


@dataclass(eq=False)
class Sample:
    """blank: the result before any proof. open: rivals that no global bound excludes so far. cut_short: some stage had
    not the time that it needs. query, outcome: the question that linear bounds answer, and what one of them proved."""

    blank: SampleResult
    x: Array
    margins: Array
    rivals: list[Rival]
    deadline: float | None
    open: list[Rival] = field(init=False)
    cut_short: bool = False
    query: Query | None = None
    lost: Array | None = None
    outcome: Outcome | None = None
    local_done: bool = False

    def __post_init__(self) -> None:
        self.open = list(self.rivals)

    @property
    def left(self) -> float:
        """Seconds."""
        return np.inf if self.deadline is None else self.deadline - time.monotonic()

    def has_time(self, expected: float = 0.0) -> bool:
        """Whether something expected to take so long, give or take a factor of four, may begin; noted if not."""
        enough = self.left > 0.25 * expected
        self.cut_short |= not enough
        return enough

    def a_while(self) -> float:
        """The end of a search that others shall follow."""
        return time.monotonic() + min(_SHARE * max(self.left, 0.0), _LONGEST)


def open_sample(
    scores: Graph, question: Question, reduced: Callable[[Array, Array, int], Array], index: int, x: Array, target
) -> tuple[SampleResult, Array, list[Rival]]:
    """The result of a sample before any bound, its margins, and which bound each margin is held against: none for a
    misclassified sample, and for one whose outputs overflow or tie, about which nothing can be said.

    reduced: what executions leave of margins, asked where the question is about them.
    """
    if question.tolerance is not None:
        value = scores(x[None]).reshape(-1).tolist()
        margin = down(float(question.tolerance))
        blank = SampleResult(index, None, value[0] if len(value) == 1 else value, Status.UNKNOWN, margin, 0.0, "", 0.0)
        return blank, np.array([margin]), [(0, ALL)]
    outputs = output_balls(scores, x[None])[0]
    if not np.isfinite(outputs.rad).all():
        label = None if target is None else int(target)
        note = "the outputs overflow here, so the class is not known"
        nothing = SampleResult(index, label, np.nan, Status.UNKNOWN, -np.inf, 0.0, "", 0.0, note=note)
        return nothing, np.array([]), []
    winner = int(outputs.mid[0] > 0) if outputs.mid.size == 1 else int(outputs.mid.argmax())
    label = winner if target is None else int(target)
    margins = label_margins(outputs, label)
    margin = float(margins.min())
    if question.level == "deployed" and winner == label:
        margins = reduced(margins, x, label)
    if winner != label:
        ahead = label_margins(outputs, winner)
        if (ahead[label] if ahead.size > 1 else ahead[0]) > 0:
            lost = SampleResult(index, label, winner, Status.MISCLASSIFIED, margin, 0.0, "prediction", 0.0)
        else:
            note = f"rounding does not tell the scores of the classes {label} and {winner} apart here"
            lost = SampleResult(index, label, winner, Status.UNKNOWN, margin, 0.0, "", 0.0, note=note)
        return lost, margins, []
    return SampleResult(index, label, winner, Status.UNKNOWN, margin, 0.0, "", 0.0), margins, rivals(scores, label)


def rivals(scores: Graph, label: int) -> list[Rival]:
    """What a label is held against."""
    size = scores.output_size
    return [(0 if size == 1 else k, output) for k, output in theorems.rivals(size, label)]
