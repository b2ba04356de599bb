"""Verdicts on property files for a terminal."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.markup import escape

from certlip.report.console import out, print_notes
from certlip.report.suites import WORDS
from certlip.report.text import one_line

if TYPE_CHECKING:
    from certlip.report.suites import InstanceResult, InstancesReport, PropertyReport

_SHOWN = 12
_COLOURS = {"certified": "green", "falsified": "red", "unknown": "yellow", "timeout": "yellow", "error": "bold red"}
_SENTENCES = {
    "certified": "holds (unsat): no input of the property leads to an unsafe output",
    "falsified": "violated (sat): the inputs below lead to an unsafe output, and the model's runtime confirms it",
    "unknown": "unknown: neither a proof nor a counterexample was found",
    "timeout": "timeout: neither a proof nor a counterexample was found in time; give it more --timeout",
    "error": "error",
}


def print_property(report: PropertyReport, written: bool = False) -> None:
    """The model, the question, the verdict in words, and the counterexample in exact decimals: all of it, or the first
    entries where it is written to a file (`written`) or long."""
    console, property, result = out(), report.property, report.result
    print_notes(report.model)
    name = "property" if report.path is None else f"property {report.path.name}"
    empty = sum(case.is_vacuous for case in property.cases)
    cases = f"{len(property.cases)} case{'' if len(property.cases) == 1 else 's'}"
    without = f", {empty} of them without any input" if empty else ""
    console.print(f"{_plain(name)}: {property.inputs} inputs, {property.outputs} outputs, {cases}{without}")
    status = str(result.status)
    by = f", by {_plain(result.method)}" if result.method else ""
    sentence, seconds = _SENTENCES[status], f"{result.seconds:.2f} seconds"
    console.print(f"verdict: [{_COLOURS[status]}]{sentence}[/]{by}, {seconds}")
    if result.note:
        console.print(f"note: {_plain(result.note)}")
    for sign, values in (("X", result.counterexample), ("Y", result.outputs)):
        flat = [] if values is None else values.reshape(-1).tolist()
        for i, value in enumerate(flat[:_SHOWN]):
            console.print(f"{sign}_{i} = {exact_decimal(value)}")
        if len(flat) > _SHOWN:
            rest = "" if written else "; --counterexample FILE writes all of them"
            console.print(f"... {len(flat) - _SHOWN} more{rest}")


def exact_decimal(value: float) -> str:
    """The decimal that is this floating-point number, all digits."""
    return str(Decimal(value))


def print_instance(instance: InstanceResult) -> None:
    """One line, as soon as the instance has ended, above what a live display shows on the same terminal."""
    status = str(instance.status)
    word = f"[{_COLOURS[status]}]{WORDS.get(instance.status, status):<8}[/]"
    line = f"{word} {instance.seconds:9.2f} s  {_plain(instance.method or '-'):<10}"
    line += f" {_plain(instance.model)}  {_plain(instance.property)}"
    if instance.contradicts:
        line += f"  [bold red]CONTRADICTS the expected {instance.expected}[/]"
    if instance.earlier:
        line += "  (earlier run)"
    if instance.note:
        line += f"  {'error: ' if status == 'error' else ''}{_plain(instance.note)}"
    console = out()
    with console.capture() as shown:  # consoles go past a live display, sys.stdout through it
        console.print(line)
    sys.stdout.write(shown.get())
    sys.stdout.flush()


def summary_line(report: InstancesReport) -> str:
    """Counts of everything that ended."""
    from certlip.verification import Status

    done = len(report.instances)
    total = f"{done} instances" if done == report.total else f"{done} of {report.total} instances"
    found = [(report.count(status), str(status), WORDS.get(status, str(status))) for status in Status]
    counts = ", ".join(f"[{_COLOURS[status]}]{count} {word}[/]" for count, status, word in found if count)
    parts = [counts or "none ended"]
    if wrong := len(report.contradictions):
        parts.append(f"[bold red]{wrong} CONTRADICT{'S' if wrong == 1 else ''} the expected verdict[/]")
    if report.earlier:
        parts.append(f"{report.earlier} from an earlier run")
    return f"{total}: {'; '.join([*parts, f'{report.seconds:.1f} seconds'])}"


def _plain(text: object) -> str:
    return escape(one_line(text))
