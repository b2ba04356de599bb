"""A repair in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.properties.numbers import decimal_up
from certlip.repairs.requirement import MaxLipschitz
from certlip.report.repair_rows import bound_text, quality_text

if TYPE_CHECKING:
    from certlip.repairs.result import RepairReport


def outcome(report: RepairReport) -> str:
    """What came of it, in one sentence."""
    if report.met and report.unchanged:
        return "The model meets the requirement as it is; it was copied."
    stopped = " (interrupted)" if report.interrupted else ""
    if report.met:
        return f"Met and proved by {report.after.attempt.method}{stopped}."
    best = "the model itself is the closest" if report.unchanged else f"{report.after.attempt.method} comes closest"
    if report.shortfall == float("inf"):
        return f"Not met{stopped}: no bound was proved."
    if isinstance(report.problem.requirement, MaxLipschitz):
        return f"Not met{stopped}: {best}, its proved bound is {decimal_up(report.shortfall):.4g} above the limit."
    return f"Not met{stopped}: {best}, its certified share is {decimal_up(100 * report.shortfall):.4g} % points below."


def bound_words(report: RepairReport) -> str:
    """The proved statement about the result."""
    bound = report.after.attempt.bound
    if bound is None:
        return "Nothing is proved about the result."
    size = "|.|_2" if bound.norm == "l2" else "|.|_inf"
    subject = "the logits" if report.problem.decides else "the output"
    return f"Proved: {size} of {subject} moves at most {bound_text(bound)} times {size} of the input ({bound.method})."


def cost_words(report: RepairReport) -> str:
    """What the repair cost on the samples that score."""
    before, after = report.before.scores, report.after.scores
    if report.unchanged:
        return f"{_quality_name(report)} {quality_text(before)}."
    return f"{_quality_name(report)} went from {quality_text(before)} to {quality_text(after)}."


def _quality_name(report: RepairReport) -> str:
    if not report.problem.is_classifier:
        return "Mean squared error"
    return "Accuracy" if report.problem.is_labelled else "Agreement with the model's own classes"
