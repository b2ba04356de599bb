"""Bounds on many outputs in a terminal: pairs of classes as a matrix, others as a list, and the largest."""

from __future__ import annotations

from decimal import ROUND_CEILING
from typing import TYPE_CHECKING

from certlip.report.console import (
    NORM_SIGNS,
    gap_text,
    number_up,
    out,
    print_between,
    print_notes,
    print_table,
    rounded,
)
from certlip.report.json_form import search_gap

if TYPE_CHECKING:
    from certlip.lipschitz import Bound
    from certlip.report.results import OutputsReport

_WIDEST = 12
"""Classes that a matrix may have."""
_LONGEST = 100
"""Lines that a list may have."""


def print_outputs(report: OutputsReport) -> None:
    print_notes(report.model)
    count = report.model.graph.output_size
    if report.best and report.name == "pairs" and count <= _WIDEST:
        _print_matrix(report, count)
    elif report.best:
        _print_list(report)
    _print_ends(report)
    largest = report.largest
    if largest is not None:
        sign = NORM_SIGNS[largest.norm]
        console = out()
        console.print(
            f"largest: {sign} of {largest.output} moves at most {number_up(largest.value)} times {sign} of the input"
        )
        print_between(console, report.lower, largest, 9)


def _print_matrix(report: OutputsReport, count: int) -> None:
    """The bound of f_i - f_j in row i and column j, in four digits, rounded up."""

    def cell(bound: Bound | None) -> str:
        return "-" if bound is None else f"{rounded(bound.value, 4, ROUND_CEILING):.4g}"

    found = {output.indices: cell(report.best.get(output)) for output in report.outputs}
    rows = [(str(i), *(found.get((i, j), "") for j in range(1, count))) for i in range(count - 1)]
    out().print("Lipschitz bounds of f_i - f_j, i by row and j by column, rounded up:")
    print_table(("", *map(str, range(1, count))), rows)


def _print_list(report: OutputsReport) -> None:
    """The best bound of each output; of very many, the largest."""
    bounds = list(report.best.values())
    if len(bounds) > _LONGEST:
        bounds = sorted(bounds, key=lambda bound: -bound.value)[:_LONGEST]
    rows = [(str(b.output), number_up(b.value), gap_text(b), f"{b.seconds:.2f}", b.method) for b in bounds]
    print_table(("output", "Lipschitz bound", "gap", "seconds", "method"), rows)
    if len(report.best) > _LONGEST:
        out().print(f"... {len(report.best) - _LONGEST} smaller ones; --json prints all of them")


def _print_ends(report: OutputsReport) -> None:
    """What the time did not suffice for, and how far the searches came."""
    console, count = out(), len(report.outputs)
    if report.missing:
        console.print(f"missing: nothing is proved for {len(report.missing)} of {count} {report.name}")
    if report.unfinished:
        console.print(
            f"stopped at the deadline: not every method came to its end for {len(report.unfinished)} of {count} "
            f"{report.name}; a longer --timeout may help"
        )
    widest = max(report.best.values(), key=lambda bound: search_gap(bound) or -1.0, default=None)
    if widest is not None and all(search_gap(bound) is not None for bound in report.best.values()):
        console.print(f"gap: at most {gap_text(widest)} for each of them; better multipliers could gain no more")
