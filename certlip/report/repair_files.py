"""The report of a repair as files beside the repaired model: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from certlip.certificate.folder import write_atomically
from certlip.repairs.result import RepairReport
from certlip.report.repair_json import repair_report_json
from certlip.report.repair_rows import Rows, change_rows, curve_rows, method_rows, state_rows
from certlip.report.repair_words import bound_words, cost_words, outcome
from certlip.report.text import one_line


def write_reports(report: RepairReport, model: Path) -> RepairReport:
    """Write both beside `model`; the report that comes back names them."""
    files = {**report.files, "json": model.with_suffix(".repair.json"), "markdown": model.with_suffix(".repair.md")}
    report = replace(report, files=files)
    write_atomically(files["json"], (json.dumps(repair_report_json(report), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(files["markdown"], markdown(report).encode())
    return report


def markdown(report: RepairReport) -> str:
    """The report as a page."""
    problem = report.problem
    parts = [
        f"# Repair of {_cell(problem.model.name)}",
        f"**{outcome(report)}**",
        f"Asked: {problem.requirement}. {bound_words(report)}",
        f"Samples: {problem.parts.note}. {cost_words(report)}",
        *(f"{_cell(note[:1].upper() + note[1:])}." for note in problem.model.graph.notes),
        *_section("Before and after", _STATES, state_rows(report)),
        *_section("Certified accuracy", _CURVE, curve_rows(report)),
        *_section("Methods", _METHODS, method_rows(report) if report.table else []),
        *(f"- {name}: {_cell(note)}" for name, note in report.notes.items()),
        *_section("What changed", _CHANGES, change_rows(report)),
    ]
    if report.files:
        names = {role: f"`{path.name}`" for role, path in report.files.items()}
        command = f"`certlip check {report.files['certificates'].name}`"
        about = f"{names['model']} (sha256 `{report.model.sha256}`)"
        parts += ["## Check it", f"{command} proves the claims about {about} again."]
    return "\n\n".join(parts) + "\n"


_STATES = "On the samples that score; bounds are proved and rounded up, the other numbers are measured."
_CURVE = (
    "Share of the scored samples that keep their right class within the radius, proved by Lipschitz bounds that hold "
    "for all inputs."
)
_METHODS = "On the samples that choose between candidates; * marks the one chosen."
_CHANGES = "Sizes of weights and bias together; affine operators that follow each other count as one layer."


def _section(title: str, text: str, rows: Rows) -> list[str]:
    """Nothing where the table has no rows."""
    return [f"## {title}", text, _table(rows)] if rows else []


def _table(rows: Rows) -> str:
    head, *others = [[_cell(cell) for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others)]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that may hold anything, as the cell of a table."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
