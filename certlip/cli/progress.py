"""What a long run shows on a terminal while it works: counts, rate, time left and what it is at. Nothing elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], None]
Advance = Callable[[Any], None]


@contextmanager
def working(total: int | None = None) -> Iterator[tuple[Say, Advance]]:
    """Yields (say, advance): say what is worked at; advance by a result, whose status is counted. Nothing is shown
    unless stderr is a terminal."""
    from certlip.report.console import err

    console = err()
    if not console.is_terminal:
        yield (lambda message: None), (lambda result: None)
        return
    display = _display(console, total)
    counts: Counter[str] = Counter()
    with display:
        task = display.add_task("working", total=total, counts="", rate="")

        def advance(result: Any) -> None:
            counts[str(getattr(result, "status", "done"))] += 1
            known = display.tasks[0]
            done, elapsed = known.completed + 1, known.elapsed or 0.0
            display.update(
                task,
                advance=1,
                counts=", ".join(f"{count} {status}" for status, count in sorted(counts.items())),
                rate=_rate(done, elapsed),
            )

        yield (lambda message: display.update(task, description=_cut(message))), advance


def _display(console: Console, total: int | None):
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Detailed(Progress):
        """The bar, and below it what is worked at: names may be long."""

        def get_renderables(self):
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                yield Text(f"  {task.description}", overflow="ellipsis", no_wrap=True)

    def text(field: str) -> ProgressColumn:
        return TextColumn("{task.fields[" + field + "]}", markup=False)

    # what is printed to a pipe meanwhile must go there, not through the display
    options: dict[str, Any] = {
        "console": console,
        "transient": True,
        "redirect_stdout": sys.stdout is not None and sys.stdout.isatty(),
    }
    if total is None:
        return Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), **options
        )
    columns = [
        SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), text("counts"), text("rate"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    ]  # fmt: skip
    return Detailed(*columns, **options)


def _rate(done: float, elapsed: float) -> str:
    """Results a second, or a minute where they are slow."""
    if elapsed <= 0:
        return ""
    rate = done / elapsed
    return f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def _cut(message: str) -> str:
    from certlip.report.text import one_line

    return one_line(message)
