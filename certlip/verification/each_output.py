"""All pairs of classes, or all outputs, within one time limit."""

from __future__ import annotations

from collections.abc import Iterable

from certlip.errors import UsageError
from certlip.properties import Output
from certlip.verification.bounds import BoundTable, class_pairs


def outputs_named(name: str, count: int) -> list[Output]:
    """The outputs that "pairs" (i < j) and "logits" stand for, of a network with so many of them."""
    if name == "logits":
        return [Output.logit(i) for i in range(count)]
    if name != "pairs":
        raise UsageError(f"unknown output {name[:40]!r}; use an Output, 'pairs' or 'logits'")
    if count < 2:
        raise UsageError("the model has one output, so there are no pairs; bound the output itself")
    return class_pairs(count)


def refine_each(table: BoundTable, outputs: Iterable[Output], deadline: float | None) -> None:
    """Run every method on every output: a cheap method on all of them before a dearer one begins."""
    steps = [table.refine(output, deadline) for output in outputs]
    while steps:
        steps = [step for step in steps if next(step, _END) is not _END]


_END = object()
