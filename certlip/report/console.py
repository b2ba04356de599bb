"""Terminal tables. Results go to stdout, progress and remarks to stderr."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from certlip.properties.numbers import decimal_down, decimal_up
from certlip.report.json_form import quantiles

if TYPE_CHECKING:
    from certlip.api import BoundReport, VerifyReport
    from certlip.importers import Model

NORM_SIGNS = {"l2": "|.|_2", "linf": "|.|_inf"}
_COLOURS = {
    "certified": "green",
    "falsified": "red",
    "unknown": "yellow",
    "timeout": "yellow",
    "misclassified": "magenta",
    "error": "bold red",
}
_SHOWN = 12


def out() -> Console:
    """The console for results; wide when it is not a terminal, so that nothing is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def err() -> Console:
    """The console for everything else."""
    return Console(stderr=True, highlight=False)


def number_up(value: float) -> str:
    """A bound: the printed decimal is at least the value."""
    return f"{decimal_up(value):.10g}" if math.isfinite(value) else "-"


def number_down(value: float) -> str:
    """A radius or margin: the printed decimal is at most the value."""
    return f"{decimal_down(value):.10g}" if math.isfinite(value) else ("inf" if value > 0 else "-")


def model_line(model: Model) -> str:
    graph = model.graph
    return escape(
        f"{model.name}: input {model.input_name} {list(graph.input_shape)}, output {model.output_name} "
        f"{list(graph.output_shape)}, {model.parameters} parameters, agrees with {model.agreement.runtime}"
    )


def print_bounds(report: BoundReport) -> None:
    console = out()
    console.print(model_line(report.model))
    table = Table("method", "norm", "output", "Lipschitz bound", "seconds", "", box=None, pad_edge=False)
    for bound in report.bounds:
        mark = "[green]proved[/]" if bound.proved else "[yellow]not available[/]"
        remark = mark if not bound.note else f"{mark}: {escape(bound.note)}"
        table.add_row(
            bound.method, bound.norm, str(bound.output), number_up(bound.value), f"{bound.seconds:.2f}", remark
        )
    console.print(table)
    best = report.best
    if best is not None:
        sign = NORM_SIGNS[best.norm]
        console.print(f"best: {sign} of the output moves at most {number_up(best.value)} times {sign} of the input")


def print_verdicts(report: VerifyReport) -> None:
    console = out()
    console.print(model_line(report.model))
    for note in report.model.graph.notes:
        console.print(f"note: {escape(note)}")
    if not report.labelled and report.tolerance is None:
        console.print("note: no labels: robustness of the predicted label")
    table = Table(
        "sample", "label", "predicted", "status", "margin", "certified radius", "method", box=None, pad_edge=False
    )
    interesting = [s for s in report.samples if s.status != "certified"] or list(report.samples)
    for sample in interesting[:_SHOWN]:
        status = str(sample.status)
        table.add_row(
            str(sample.index),
            "-" if sample.label is None else str(sample.label),
            _predicted(sample.predicted),
            f"[{_COLOURS[status]}]{status}[/]",
            number_down(sample.margin),
            number_down(sample.radius),
            sample.method,
        )
    console.print(table)
    if len(interesting) > _SHOWN:
        console.print(f"... {len(interesting) - _SHOWN} more; --json prints every sample")
    console.print(verdict_line(report))


def verdict_line(report: VerifyReport) -> str:
    from certlip.verify import Status

    counts = ", ".join(
        f"[{_COLOURS[str(status)]}]{report.count(status)} {status}[/]" for status in Status if report.count(status)
    )
    total = len(report.samples)
    accuracy = "" if report.clean_accuracy is None else f", clean accuracy {report.clean_accuracy:.4f}"
    goal = f"{NORM_SIGNS[report.norm]} <= {report.eps} ({float(report.eps):.6g})"
    return f"{total} samples, {goal}: {counts}; certified accuracy {report.certified_accuracy:.4f}{accuracy}"


def _predicted(value) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "(" + ", ".join(f"{entry:.4g}" for entry in value[:3]) + (", ...)" if len(value) > 3 else ")")


def print_radii(report: VerifyReport) -> None:
    console = out()
    console.print(model_line(report.model))
    table = Table("sample", "label", "predicted", "status", "certified radius", "method", box=None, pad_edge=False)
    for sample in report.samples[:_SHOWN]:
        status = str(sample.status)
        table.add_row(
            str(sample.index),
            "-" if sample.label is None else str(sample.label),
            _predicted(sample.predicted),
            f"[{_COLOURS[status]}]{status}[/]",
            number_down(sample.radius),
            sample.method,
        )
    console.print(table)
    if len(report.samples) > _SHOWN:
        console.print(f"... {len(report.samples) - _SHOWN} more; --json prints every sample")
    console.print("quantiles: " + ", ".join(f"{q}: {value}" for q, value in quantiles(report).items()))
    for line in histogram([sample.radius for sample in report.samples]):
        console.print(line)


def histogram(values: Iterable[float], bins: int = 10, width: int = 50) -> list[str]:
    """Lines of a text histogram; infinite values get a line of their own."""
    array = np.array(list(values))
    inside = array[np.isfinite(array)]
    lines = []
    if inside.size:
        counts, edges = np.histogram(inside, bins=bins, range=(0.0, max(float(inside.max()), 1e-12)))
        top = max(int(counts.max()), 1)
        for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
            bar = "█" * max(round(width * count / top), int(count > 0))
            lines.append(f"{low:10.4g} .. {high:<10.4g} {count:6d} {bar}")
    if array.size > inside.size:
        lines.append(f"{'unbounded':>24} {array.size - inside.size:6d}")
    return lines


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out().print(table)
