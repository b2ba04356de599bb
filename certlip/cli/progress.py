"""What a long run shows on a terminal while it works: counts, rate, time left and what it is at. Nothing elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from certlip.report.text import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Say(Protocol):
    """Hears what is worked at."""

    def __call__(self, message: str) -> None: ...


class Advance(Protocol):
    """Hears of a result, whose status is counted; those of an earlier run took no time."""

    def __call__(self, result: Any, earlier: bool = False) -> None: ...


@contextmanager
def working(total: int | None = None) -> Iterator[tuple[Say, Advance]]:
    """Yields (say, advance). Nothing is shown unless stderr is a terminal."""
    from certlip.report.console import err

    console = err()
    if not console.is_terminal:
        yield (lambda message: None), (lambda result, earlier=False: None)
        return
    with _display(console, total) as display:
        task = display.add_task("working", total=total, counts="", pace="")
        counts: Counter[str] = Counter()
        fresh = 0

        def say(message: str) -> None:
            display.update(task, description=one_line(message))

        def advance(result: Any, earlier: bool = False) -> None:
            nonlocal fresh
            counts[str(result.status)] += 1
            fresh += not earlier
            known = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
            left = 0 if total is None else total - counts.total()
            pace = _pace(fresh, left, display.tasks[0].elapsed or 0.0)
            display.update(task, advance=1, counts=known, pace=pace)

        yield say, advance


def _pace(done: int, left: int, elapsed: float) -> str:
    """Results a second, or a minute where they are slow, and the time that the others will take."""
    if not done or elapsed <= 0:
        return ""
    rate = done / elapsed
    often = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
    return f"{often}, {timedelta(seconds=round(left / rate))} left"


def _display(console: Console, total: int | None) -> Progress:
    """The bar, and below it what is worked at: names may be long."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Detailed(Progress):
        def get_renderables(self):
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                yield Text(f"  {task.description}", overflow="ellipsis", no_wrap=True)

    # what is printed into a pipe meanwhile must go there, not through the display
    options: dict[str, Any] = {
        "console": console,
        "transient": True,
        "redirect_stdout": sys.stdout is not None and sys.stdout.isatty(),
    }
    if total is None:
        description = TextColumn("{task.description}", markup=False)
        return Progress(SpinnerColumn(), description, TimeElapsedColumn(), **options)
    counts, pace = (TextColumn("{task.fields[" + name + "]}", markup=False) for name in ("counts", "pace"))
    bar = SpinnerColumn(), BarColumn(20), MofNCompleteColumn()
    return Detailed(*bar, counts, TimeElapsedColumn(), pace, **options)
