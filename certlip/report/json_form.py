"""The JSON that `--json` prints; its schemas are in `specs/`. Bounds are rounded up and radii down, to ten digits."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from certlip.properties.numbers import decimal_down, decimal_up, text_up
from certlip.rigor.rounding import up

if TYPE_CHECKING:
    from certlip.importers import Model
    from certlip.lipschitz import Bound
    from certlip.lipschitz.sampled import LowerBound
    from certlip.report.results import BoundReport, OutputsReport, VerifyReport
    from certlip.verification import SampleResult

SCHEMA = 1
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def finite(value: float) -> float | None:
    """JSON has no infinity: null stands for a number that is not there or not finite."""
    return value if math.isfinite(value) else None


def model_json(model: Model) -> dict[str, Any]:
    agreement = model.agreement
    return {
        "name": model.name,
        "sha256": model.sha256,
        "source": model.source,
        "opset": model.opset,
        "precision": model.precision.name,
        "input": {"name": model.input_name, "shape": list(model.graph.input_shape)},
        "output": {"name": model.output_name, "shape": list(model.graph.output_shape)},
        "parameters": model.parameters,
        "notes": list(model.graph.notes),
        "agreement": {
            "runtime": agreement.runtime,
            "samples": agreement.samples,
            "largest_difference": finite(agreement.largest_difference),
            "allowed": finite(agreement.allowed),
            "note": agreement.note,
        },
    }


def bound_json(bound: Bound) -> dict[str, Any]:
    return {
        "method": bound.method,
        "norm": bound.norm,
        "output": str(bound.output),
        "value": finite(decimal_up(bound.value)),
        "proved": bound.proved,
        "level": bound.level,
        "seconds": round(bound.seconds, 4),
        "note": bound.note,
        "search": search_json(bound),
    }


def search_json(bound: Bound) -> dict[str, Any]:
    """How the search for the witness ended, and how much better its kind of witness could be."""
    status, least = bound.details.get("status"), _least(bound)
    return {
        "status": status if status in ("solved", "deadline", "stalled") else None,
        "least": None if least is None else decimal_down(least),
        "gap": search_gap(bound),
    }


def search_gap(bound: Bound) -> float | None:
    """1 - least / value, rounded up: by this share of it, at most, could better multipliers lower the bound. None where
    no such `least` is proved. It says nothing about the distance to the true constant, as `lower_json` does."""
    least = _least(bound)
    if least is None or not (bound.proved and bound.value > 0):
        return None
    return float(text_up(max(Fraction(0), 1 - Fraction(least) / Fraction(bound.value))))


def _least(bound: Bound) -> float | None:
    """The proved number below everything that multipliers of the method's kind can prove."""
    least = bound.details.get("least")
    return least if isinstance(least, float) and decimal_down(least) > 0 and least < math.inf else None


def bound_report_json(report: BoundReport) -> dict[str, Any]:
    best = report.best
    entry = {
        "schema": SCHEMA,
        "model": model_json(report.model),
        "bounds": [bound_json(bound) for bound in report.bounds],
        "best": None if best is None else bound_json(best),
        "lower": lower_json(report.lower, best),
    }
    return entry if report.local is None else {**entry, "local": local_json(report.local, report.local_lower)}


def outputs_report_json(report: OutputsReport) -> dict[str, Any]:
    largest = report.largest
    return {
        "schema": SCHEMA,
        "model": model_json(report.model),
        "bounds": [bound_json(bound) for bound in report.bounds],
        "outputs": {
            "name": report.name,
            "best": [bound_json(bound) for bound in report.best.values()],
            "largest": None if largest is None else bound_json(largest),
            "missing": [str(output) for output in report.missing],
            "unfinished": [str(output) for output in report.unfinished],
        },
        "lower": lower_json(report.lower, largest),
    }


def lower_json(lower: LowerBound | None, bound: Bound | None) -> dict[str, Any] | None:
    """A slope between two points, and how far the bound is above it."""
    if lower is None or not lower.value > 0:
        return None
    gap = relative_gap(lower.value, bound.value) if bound is not None and bound.proved else math.inf
    return {
        "value": decimal_down(lower.value),
        "gap": finite(decimal_up(gap)),
        "seconds": round(lower.seconds, 4),
        "points": lower.points,
    }


def relative_gap(lower: float, upper: float) -> float:
    """upper / lower - 1, rounded up."""
    return up(up(upper / lower) - 1.0)


def local_json(bound: Bound, lower: LowerBound | None = None) -> dict[str, Any]:
    """A bound on a region: where it holds, and how many activations are linear there or have narrower slopes."""
    region = bound.region
    if region is None:
        raise ValueError("the bound holds for all inputs")
    return {
        "bound": bound_json(bound),
        "region": {"norm": region.norm, "eps": float(region.eps), "eps_exact": str(region.eps)},
        **{key: int(bound.details.get(key, 0)) for key in ("fixed", "narrowed", "neurons")},
        "lower": lower_json(lower, bound),
    }


def sample_json(sample: SampleResult) -> dict[str, Any]:
    return {
        "index": sample.index,
        "label": sample.label,
        "predicted": _predicted_json(sample.predicted),
        "status": str(sample.status),
        "level": sample.level,
        "slack_share": finite(decimal_up(sample.grade.share)),
        "margin": finite(decimal_down(sample.margin)),
        "radius": finite(decimal_down(sample.radius)),
        "method": sample.method,
        "seconds": round(sample.seconds, 4),
        "note": sample.note,
    }


def _predicted_json(predicted: int | float | list[float]) -> Any:
    if isinstance(predicted, list):
        return [finite(value) for value in predicted]
    return finite(predicted) if isinstance(predicted, float) else predicted


def summary_json(report: VerifyReport) -> dict[str, Any]:
    from certlip.verification import Status

    counts = {str(status): report.count(status) for status in Status}
    return {
        "samples": len(report.samples),
        **counts,
        "clean_accuracy": report.clean_accuracy,
        "certified_accuracy": report.certified_accuracy,
        "levels": levels(report),
        "labels": "given" if report.labelled else "predicted" if report.tolerance is None else "none",
    }


def levels(report: VerifyReport) -> dict[str, int]:
    """How many verdicts are proved at each level."""
    return {level: sum(sample.level == level for sample in report.samples) for level in ("float", "deployed")}


def verify_report_json(report: VerifyReport) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": model_json(report.model),
        "property": property_json(report.norm, report.eps, report.tolerance, report.clip),
        "summary": summary_json(report),
        "samples": [sample_json(sample) for sample in report.samples],
        "bounds": [bound_json(bound) for bound in report.bounds],
    }


def property_json(norm: str, eps, tolerance=None, clip=None) -> dict[str, Any]:
    """The question; exact rationals beside plain numbers."""
    entry: dict[str, Any] = {"norm": norm, "eps": float(eps), "eps_exact": str(eps)}
    if tolerance is not None:
        entry |= {"tolerance": float(tolerance), "tolerance_exact": str(tolerance)}
    if clip is not None:
        entry["clip"] = [str(end) for end in clip]
    return entry


def radius_report_json(report: VerifyReport) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": model_json(report.model),
        "norm": report.norm,
        "summary": summary_json(report),
        "quantiles": quantiles(report),
        "samples": [sample_json(sample) for sample in report.samples],
        "bounds": [bound_json(bound) for bound in report.bounds],
    }


def quantiles(report: VerifyReport) -> dict[str, float | None]:
    """Quantiles of the certified radius over all samples; each is a sample's own radius, rounded down."""
    radii = sorted(decimal_down(sample.radius) for sample in report.samples)
    return {f"{q:g}": finite(radii[math.floor(q * (len(radii) - 1))]) for q in QUANTILES}
