"""Small tables for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from certlip.report.console import number_down, number_up

if TYPE_CHECKING:
    from certlip.report.results import BoundReport, VerifyReport
    from certlip.report.suites import InstancesReport


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bounds_table(report: BoundReport) -> str:
    rows = [
        (b.method, b.norm, str(b.output), number_up(b.value), "proved" if b.proved else b.note, f"{b.seconds:.2f}")
        for b in report.bounds
    ]
    return f"<p>{escape(report.model.name)}</p>" + table(
        ("method", "norm", "output", "Lipschitz bound", "status", "seconds"), rows
    )


def verdicts_table(report: VerifyReport) -> str:
    rows = [
        (
            str(s.index),
            str(s.label),
            str(s.predicted),
            str(s.status),
            number_down(s.margin),
            number_down(s.radius),
            s.method,
        )
        for s in report.samples
    ]
    return f"<p>{escape(repr(report))}</p>" + table(
        ("sample", "label", "predicted", "status", "margin", "radius", "method"), rows
    )


def instances_table(report: InstancesReport) -> str:
    rows = [(i.model, i.property, i.verdict, i.method, f"{i.seconds:.2f}", i.note) for i in report.instances]
    columns = ("model", "property", "verdict", "method", "seconds", "note")
    return f"<p>{escape(repr(report))}</p>" + table(columns, rows)
