"""A repair as JSON: `certlip repair --json` and the `.repair.json` beside the repaired model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.properties.numbers import decimal_down
from certlip.repairs.requirement import MaxLipschitz
from certlip.repairs.surgery import changes
from certlip.report.json_form import SCHEMA, bound_json, finite, model_json
from certlip.report.repair_rows import certified_share

if TYPE_CHECKING:
    from certlip.repairs.attempt import Attempt, Scores
    from certlip.repairs.requirement import Requirement
    from certlip.repairs.result import RepairReport, State


def repair_report_json(report: RepairReport) -> dict[str, Any]:
    parts = report.problem.parts
    return {
        "schema": SCHEMA,
        "model": model_json(report.problem.model),
        "repaired": model_json(report.model),
        "requirement": requirement_json(report.problem.requirement),
        "met": report.met,
        "unchanged": report.unchanged,
        "interrupted": report.interrupted,
        "shortfall": finite(report.shortfall),
        "method": report.after.attempt.method,
        "loss": report.problem.loss,
        "seed": report.problem.seed,
        "seconds": round(report.seconds, 3),
        "samples": {
            "train": len(parts.train),
            "validation": len(parts.validation),
            "scored": len(parts.test),
            "labels": "given" if report.problem.is_labelled else "predicted",
            "note": parts.note,
        },
        "before": state_json(report.before),
        "after": state_json(report.after),
        "curve": curve_json(report),
        "changes": changes_json(report),
        "compared_at": report.compared_at,
        "methods": [attempt_json(name, attempt, report) for name, attempt in report.table.items()],
        "not_applied": dict(report.notes),
        "files": {role: path.name for role, path in report.files.items()},
    }


def requirement_json(requirement: Requirement) -> dict[str, Any]:
    """What was asked; exact rationals beside plain numbers."""
    entry: dict[str, Any] = {"text": str(requirement), "norm": requirement.norm}
    if isinstance(requirement, MaxLipschitz):
        return entry | {"max_lipschitz": float(requirement.limit), "max_lipschitz_exact": str(requirement.limit)}
    entry |= {"min_certified": float(requirement.share), "min_certified_exact": str(requirement.share)}
    entry |= {"eps": float(requirement.eps), "eps_exact": str(requirement.eps)}
    if requirement.tolerance is not None:
        entry |= {"tolerance": float(requirement.tolerance), "tolerance_exact": str(requirement.tolerance)}
    return entry


def state_json(state: State) -> dict[str, Any]:
    scores, bound = state.scores, state.attempt.bound
    asked = bool(state.verdicts)
    return {
        "bound": None if bound is None else bound_json(bound),
        "loss": finite(scores.loss),
        "accuracy": scores.accuracy,
        "mean_squared_error": None if scores.error is None else finite(scores.error),
        "mean_radius": _mean_radius(scores),
        "certified": state.certified if asked else None,
        "certified_share": state.certified / len(state.verdicts) if asked else None,
    }


def curve_json(report: RepairReport) -> list[dict[str, float]]:
    """Certified accuracy by radius, before and after, from proved bounds for all inputs."""
    pairs = zip(report.curve(report.before), report.curve(report.after), strict=True)
    return [{"radius": radius, "before": before, "after": after} for (radius, before), (_, after) in pairs]


def changes_json(report: RepairReport) -> list[dict[str, Any]] | None:
    """By layer; None where the layers do not correspond."""
    found = changes(report.before.attempt.body, report.after.attempt.body)
    if found is None:
        return None
    return [
        {"layer": change.name, "shape": list(change.shape), "size": change.size, "moved": change.moved}
        for change in found
    ]


def attempt_json(name: str, attempt: Attempt, report: RepairReport) -> dict[str, Any]:
    """One row of the table, on the samples that choose between candidates."""
    scores, radius = attempt.scores, report.compared_at
    return {
        "method": name,
        "chosen": attempt is report.after.attempt,
        "meets": attempt.meets,
        "bound": None if attempt.bound is None else bound_json(attempt.bound),
        "loss": finite(scores.loss),
        "accuracy": scores.accuracy,
        "mean_squared_error": None if scores.error is None else finite(scores.error),
        "mean_radius": _mean_radius(scores),
        "certified_share": None if radius is None else certified_share(scores, radius),
        "distance": attempt.distance,
        "seconds": round(attempt.seconds, 3),
    }


def _mean_radius(scores: Scores) -> float | None:
    return None if scores.accuracy is None else finite(decimal_down(scores.mean_radius))
