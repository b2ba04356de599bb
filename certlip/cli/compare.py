"""`certlip bound --compare`: all methods side by side, the tightest first, then a slope that none can beat."""

from __future__ import annotations

from decimal import ROUND_FLOOR
from typing import Any

from certlip.lipschitz import Bound, certifiers
from certlip.properties.numbers import decimal_up
from certlip.report.console import gap_text, number_down, number_up, print_best, print_notes, print_table, rounded
from certlip.report.json_form import bound_json, finite
from certlip.report.results import BoundReport


def print_comparison(report: BoundReport) -> None:
    """One line for each method; a method that proved nothing says why."""
    rows = [_cells(bound, _relative(bound, report)) for bound in by_tightness(report)]
    lower, best = report.lower, report.best
    if lower is not None and lower.value > 0:
        share = "-" if best is None else f"{rounded(lower.value / best.value, 4, ROUND_FLOOR):.4g}"
        what = "proved between two points: no bound can be smaller"
        rows.append(("sampled slope", number_down(lower.value), share, "-", f"{lower.seconds:.2f}", what))
    print_notes(report.model)
    print_table(("method", "bound", "relative", "gap", "seconds", "what it is"), rows)
    print_best(report)


def comparison_json(report: BoundReport) -> list[dict[str, Any]]:
    """The table as data; `relative` is the bound over the best one, null where nothing is proved."""
    return [
        {
            **bound_json(bound),
            "relative": finite(decimal_up(_relative(bound, report))),
            "summary": certifiers()[bound.method].summary,
        }
        for bound in by_tightness(report)
    ]


def by_tightness(report: BoundReport) -> list[Bound]:
    """Proved bounds, the smallest first, then the methods without one, cheapest first."""
    return sorted(report.bounds, key=lambda bound: bound.value)


def _relative(bound: Bound, report: BoundReport) -> float:
    best = report.best
    if best is None or not bound.proved:
        return float("inf")
    return 1.0 if bound.value == best.value else bound.value / best.value if best.value > 0 else float("inf")


def _cells(bound: Bound, relative: float) -> tuple[str, ...]:
    seconds = f"{bound.seconds:.2f}"
    if not bound.proved:
        return bound.method, "not proved", "-", "-", seconds, bound.note
    what = certifiers()[bound.method].summary
    if bound.details.get("status") == "deadline":
        what = f"{what}; {bound.note or 'stopped at the deadline'}"
    return bound.method, number_up(bound.value), f"{relative:.4g}", gap_text(bound), seconds, what
