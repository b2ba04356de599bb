"""The tables of a repair as rows of text, for the terminal and for Markdown alike."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context
from math import floor
from typing import TYPE_CHECKING

from certlip.properties.numbers import decimal_up
from certlip.repairs.surgery import changes

if TYPE_CHECKING:
    from certlip.lipschitz import Bound
    from certlip.repairs.attempt import Attempt, Scores
    from certlip.repairs.result import RepairReport

Rows = list[list[str]]
"""A head and the rows below it."""


def method_rows(report: RepairReport) -> Rows:
    """What each method reached, on the samples that choose between candidates; the model itself first."""
    radius = report.compared_at
    classes = [] if radius is None else [f"certified at {radius:.10g}", "mean radius"]
    head = ["method", "proved bound", _quality(report), "loss", *classes, "weights moved"]
    rows = [[*head, "seconds", "meets"]]
    for attempt in (report.before.attempt, *report.table.values()):
        name = "(before)" if attempt is report.before.attempt else attempt.method
        mark = " *" if attempt is report.after.attempt and not report.unchanged else ""
        rows.append([name + mark, *_cells(attempt, radius)])
    return rows


def state_rows(report: RepairReport) -> Rows:
    """Before and after, on the samples that score."""
    before, after = report.before, report.after
    rows = [["", "before", "after"]]
    rows.append(["proved bound", bound_text(before.attempt.bound), bound_text(after.attempt.bound)])
    rows.append([_quality(report), quality_text(before.scores), quality_text(after.scores)])
    rows.append(["loss", f"{before.scores.loss:.4g}", f"{after.scores.loss:.4g}"])
    if report.problem.is_classifier:
        radii = (number_down(state.scores.mean_radius) for state in (before, after))
        rows.append(["mean certified radius", *radii])
    if after.verdicts:
        texts = [f"{state.certified} of {len(state.verdicts)}" for state in (before, after)]
        rows.append(["certified", *texts])
    return rows


def curve_rows(report: RepairReport) -> Rows:
    """Certified accuracy by radius; empty where there are no classes."""
    pairs = list(zip(report.curve(report.before), report.curve(report.after), strict=True))
    if not pairs:
        return []
    rows = [[f"radius ({report.problem.norm})", "before", "after"]]
    return rows + [[f"{radius:.10g}", _certified(before), _certified(after)] for (radius, before), (_, after) in pairs]


def change_rows(report: RepairReport) -> Rows:
    """How far each layer moved; empty where the layers do not correspond or nothing moved."""
    found = changes(report.before.attempt.body, report.after.attempt.body)
    if not found or report.unchanged:
        return []
    rows = [["layer", "shape", "size before", "moved by", "relative"]]
    for number, change in enumerate(found, 1):
        shape = " x ".join(map(str, change.shape))
        name = change.name or f"layer {number}"
        rows.append([name, shape, f"{change.size:.4g}", f"{change.moved:.4g}", f"{change.relative:.3g}"])
    return rows


def bound_text(bound: Bound | None) -> str:
    """Rounded up."""
    return "none proved" if bound is None else f"{decimal_up(bound.value):.10g}"


def certified_share(scores: Scores, radius: float) -> float:
    """What was asked for, by any proof; where nothing was, the samples with a larger radius."""
    return scores.certified_beyond(radius) if scores.certified is None else float(scores.certified)


def number_down(value: float) -> str:
    """Four digits, rounded down."""
    return f"{float(Context(prec=4, rounding=ROUND_FLOOR).create_decimal(value)):.4g}"


def quality_text(scores: Scores) -> str:
    return f"{scores.error:.4g}" if scores.accuracy is None else _share(scores.accuracy)


def _quality(report: RepairReport) -> str:
    if not report.problem.is_classifier:
        return "mean squared error"
    return "accuracy" if report.problem.is_labelled else "agreement with the model"


def _cells(attempt: Attempt, radius: float | None) -> list[str]:
    scores, moved = attempt.scores, attempt.distance
    classes = [] if radius is None else [_certified(certified_share(scores, radius)), number_down(scores.mean_radius)]
    return [
        bound_text(attempt.bound), quality_text(scores), f"{scores.loss:.4g}", *classes,
        "other layers" if moved is None else f"{moved:.3g}", f"{attempt.seconds:.1f}", "yes" if attempt.meets else "no",
    ]  # fmt: skip


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _certified(value: float) -> str:
    """A proved share, rounded down."""
    return f"{floor(1000 * value) / 10:.1f} %"
