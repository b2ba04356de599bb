"""Terminal tables. Results go to stdout, progress and remarks to stderr."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from certlip.properties.numbers import decimal_down, decimal_up
from certlip.report.exact import amount
from certlip.report.json_form import levels, quantiles, relative_gap, search_gap
from certlip.report.text import one_line

if TYPE_CHECKING:
    from certlip.importers import Model
    from certlip.lipschitz import Bound
    from certlip.lipschitz.sampled import LowerBound
    from certlip.report.results import BoundReport, VerifyReport
    from certlip.verification import SampleResult

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


_WIDE = 10_000  # a pipe or a file has no width: nothing is cut there


class _Console(Console):
    """Rich's own answer to a closed pipe is exit code 1; here the error reaches the command line."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def out() -> Console:
    """The console for results; wide when it is not a terminal, so that nothing is cut."""
    console = _Console(highlight=False, emoji=False, soft_wrap=True)
    return console if console.is_terminal else _Console(highlight=False, emoji=False, soft_wrap=True, width=_WIDE)


def err() -> Console:
    """The console for everything else."""
    return _Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    """A table that folds what does not fit: a number that loses digits is another number."""
    return Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)


def _plain(text: object) -> str:
    """Text that others wrote, without markup and control characters."""
    return escape(one_line(text))


def number_up(value: float) -> str:
    """A bound: the printed decimal is at least the value."""
    return f"{decimal_up(value):.10g}" if math.isfinite(value) else "-"


def number_down(value: float) -> str:
    """A radius or margin: the printed decimal is at most the value."""
    return f"{decimal_down(value):.10g}" if math.isfinite(value) else ("inf" if value > 0 else "-")


def model_line(model: Model) -> str:
    graph = model.graph
    return _plain(
        f"{model.name}: input {model.input_name} {list(graph.input_shape)}, output {model.output_name} "
        f"{list(graph.output_shape)}, {model.parameters} parameters, agrees with {model.agreement.runtime}"
    )


def print_bounds(report: BoundReport) -> None:
    print_notes(report.model)
    table = _table("method", "norm", "output", "Lipschitz bound", "gap", "seconds", "status")
    for bound in report.bounds:
        mark = "[green]proved[/]" if bound.proved else "[yellow]not available[/]"
        remark = mark if not bound.note else f"{mark}: {_plain(bound.note)}"
        numbers = number_up(bound.value), gap_text(bound), f"{bound.seconds:.2f}"
        table.add_row(bound.method, bound.norm, str(bound.output), *numbers, remark)
    out().print(table)
    print_best(report)


def print_best(report: BoundReport) -> None:
    """The smallest bound in words, and how far from the true constant it can be."""
    best, console = report.best, out()
    if best is not None:
        sign = NORM_SIGNS[best.norm]
        subject = "the output" if best.output.kind == "all" else str(best.output)
        console.print(f"best: {sign} of {subject} moves at most {number_up(best.value)} times {sign} of the input")
    print_between(console, report.lower, best)


def gap_text(bound: Bound) -> str:
    """The certified gap of the search in two digits, rounded up."""
    gap = search_gap(bound)
    return "-" if gap is None else f"{rounded(gap, 2, ROUND_CEILING):.2g}"


def rounded(value: float, digits: int, rounding: str) -> float:
    """The value in so many decimal digits, on the side that `decimal` names."""
    return float(Context(prec=digits, rounding=rounding).create_decimal(value))


def print_between(console: Console, lower: LowerBound | None, bound: Bound | None, indent: int = 6) -> None:
    """Where the true constant lies."""
    if lower is None or not lower.value > 0:
        return
    line = f"sampled slope {number_down(lower.value)} <= true constant"
    if bound is not None and bound.proved:
        line += f" <= {number_up(bound.value)} ({_apart(lower.value, bound.value)})"
    console.print(" " * indent + line)


def _apart(lower: float, upper: float) -> str:
    """A distance in two digits, rounded up."""
    percent = 100.0 * relative_gap(lower, upper)
    if percent < 0.001:
        return "less than 0.001 % apart"
    if percent > 200.0:
        return f"a factor of {_two_digits(upper / lower)} apart"
    return f"{_two_digits(percent)} % apart"


def _two_digits(value: float) -> str:
    if value >= 1e6:
        return f"{value:.1e}"
    exact = value * (1.0 - 1e-9)  # 150 % with a rounding error is not 160 %
    return f"{Context(prec=2, rounding=ROUND_CEILING).create_decimal(exact):f}"


def print_local(report: BoundReport) -> None:
    """The bound on a region, next to the best one for all inputs."""
    local, best = report.local, report.best
    if local is None or local.region is None:
        return
    console, sign = out(), NORM_SIGNS[local.norm]
    where = (
        f"where {NORM_SIGNS[local.region.norm]} of the distance from the sample is at most {amount(local.region.eps)}"
    )
    if not local.proved:
        console.print(f"local: no bound {where}: {_plain(local.note)}")
        print_between(console, report.local_lower, best, 7)
        return
    subject = "the output" if local.output.kind == "all" else str(local.output)
    console.print(
        f"local: {sign} of {subject} moves at most {number_up(local.value)} times {sign} of the input {where}"
    )
    if best is not None and 0 < local.value < best.value:
        share = 100.0 * (1.0 - local.value / best.value)
        console.print(f"       {share:.3g} % below the bound for all inputs; {_plain(local.note)}")
    else:
        console.print(f"       not below the bound for all inputs; {_plain(local.note)}")
    print_between(console, report.local_lower, local, 7)


def print_notes(model: Model) -> None:
    """The model, and what claims about it leave out."""
    console = out()
    console.print(model_line(model))
    for note in model.graph.notes:
        console.print(f"note: {_plain(note)}")


def _print_question(console: Console, report: VerifyReport) -> None:
    """The model, and what of the data is not used."""
    print_notes(report.model)
    if report.clip is not None:
        low, high = map(amount, report.clip)
        console.print(f"note: entries of perturbed inputs stay between {low} and {high}")
    if report.tolerance is not None:
        console.print(f"note: outputs may move by at most {amount(report.tolerance)}; labels are not used")
    elif not report.labelled:
        console.print("note: no labels: robustness of the predicted label")
    if report.model.graph.output_size == 1 and report.tolerance is None:
        console.print("note: one output: its sign (of the logit, after a final sigmoid) decides between 0 and 1")


def print_verdicts(report: VerifyReport) -> None:
    console = out()
    _print_question(console, report)
    table = _table("sample", "label", "predicted", "status", "level", "margin", "certified radius", "method")
    interesting = [s for s in report.samples if s.status != "certified"] or list(report.samples)
    for sample in interesting[:_SHOWN]:
        cells = _cells(sample)
        table.add_row(*cells[:5], number_down(sample.margin), *cells[5:])
    console.print(table)
    if len(interesting) > _SHOWN:
        console.print(f"... {len(interesting) - _SHOWN} more; --json prints every sample")
    _print_failures(console, report)
    goal = f"{NORM_SIGNS[report.norm]} <= {amount(report.eps)}"
    console.print(f"{len(report.samples)} samples, {goal}: {verdict_line(report)}")


def _cells(sample: SampleResult) -> tuple[str, ...]:
    status = str(sample.status)
    return (
        str(sample.index),
        "-" if sample.label is None else str(sample.label),
        _predicted(sample.predicted),
        f"[{_COLOURS[status]}]{status}[/]",
        "-" if sample.level == "none" else sample.level,
        number_down(sample.radius),
        sample.method,
    )


def _print_failures(console: Console, report: VerifyReport) -> None:
    """Why samples ended in an error, each reason once."""
    first: dict[str, int] = {}
    for sample in report.samples:
        if sample.note:
            first.setdefault(sample.note, sample.index)
    for note, index in list(first.items())[:_SHOWN]:
        console.print(f"sample {index}: {_plain(note)}")


def verdict_line(report: VerifyReport) -> str:
    """Counts, and shares rounded down: 1.0000 is all of them."""
    from certlip.verification import Status

    counts = ", ".join(
        f"[{_COLOURS[str(status)]}]{report.count(status)} {status}[/]" for status in Status if report.count(status)
    )
    found = ", ".join(f"{count} {level}" for level, count in levels(report).items() if count)
    proved = f"; level: {found}" if found else ""
    accuracy = "" if report.clean_accuracy is None else f", clean accuracy {_share(report.clean_accuracy)}"
    return f"{counts}{proved}; certified accuracy {_share(report.certified_accuracy)}{accuracy}"


def _share(value: float) -> str:
    return f"{math.floor(value * 10_000 + 1e-6) / 10_000:.4f}"


def _predicted(value) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "(" + ", ".join(f"{entry:.4g}" for entry in value[:3]) + (", ...)" if len(value) > 3 else ")")


def print_radii(report: VerifyReport) -> None:
    console = out()
    _print_question(console, report)
    table = _table("sample", "label", "predicted", "status", "level", "certified radius", "method")
    for sample in report.samples[:_SHOWN]:
        table.add_row(*_cells(sample))
    console.print(table)
    if len(report.samples) > _SHOWN:
        console.print(f"... {len(report.samples) - _SHOWN} more; --json prints every sample")
    _print_failures(console, report)
    texts = (f"{q}: {'unbounded' if value is None else f'{value:.10g}'}" for q, value in quantiles(report).items())
    console.print("quantiles: " + ", ".join(texts))
    bar = "█" if console.encoding.lower().startswith("utf") else "#"
    for line in histogram([sample.radius for sample in report.samples], bar=bar):
        console.print(line)
    console.print(f"{len(report.samples)} samples, {NORM_SIGNS[report.norm]}: {verdict_line(report)}")


def histogram(values: Iterable[float], bins: int = 10, width: int = 50, bar: str = "█") -> list[str]:
    """Lines of a text histogram; infinite values get a line of their own."""
    array = np.array(list(values))
    inside = array[np.isfinite(array)]
    lines = []
    if inside.size:
        counts, edges = np.histogram(inside, bins=bins, range=(0.0, max(float(inside.max()), 1e-12)))
        top = max(int(counts.max()), 1)
        for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
            length = max(round(width * count / top), int(count > 0))
            lines.append(f"{low:10.4g} .. {high:<10.4g} {count:6d} {bar * length}")
    if array.size > inside.size:
        lines.append(f"{'unbounded':>24} {array.size - inside.size:6d}")
    return lines


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = _table(*columns)
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    out().print(table)
