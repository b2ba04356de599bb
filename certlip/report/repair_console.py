"""A repair on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from certlip.report.console import out, print_notes
from certlip.report.repair_rows import Rows, curve_rows, method_rows, state_rows
from certlip.report.repair_words import bound_words, outcome
from certlip.report.text import one_line

if TYPE_CHECKING:
    from certlip.repairs.result import RepairReport


def print_repair(report: RepairReport) -> None:
    """Methods, then before and after, then what came of it."""
    console = out()
    print_notes(report.problem.model)
    console.print(f"asked: {report.problem.requirement}", markup=False)
    console.print(f"samples: {report.problem.parts.note}", markup=False)
    if not report.problem.is_labelled:
        console.print("the samples have no labels: the model's own answers are kept as well as possible")
    if report.table:
        console.print(_table(method_rows(report)))
    for name, note in report.notes.items():
        console.print(f"{name}: {escape(one_line(note))}")
    console.print(_table(state_rows(report)))
    if curve := curve_rows(report):
        console.print(_table(curve))
    console.print(bound_words(report), markup=False)
    colour = "green" if report.met else "yellow"
    console.print(f"[{colour}]{escape(outcome(report))}[/]")


def _table(rows: Rows) -> Table:
    head, *others = rows
    table = Table(*(Column(name, overflow="fold") for name in head), box=None, pad_edge=False)
    for row in others:
        table.add_row(*(escape(cell) for cell in row))
    return table
