"""The contract of repair methods, and the register that the command line and the documentation read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from certlip.errors import UsageError
from certlip.graph import Graph
from certlip.repairs.task import Task


class Method(ABC):
    """Proposes networks of the same interface; whether they meet the bound is proved elsewhere, on the written file.

    rank: order in which `auto` tries the methods, quick ones first; in_auto: whether it does. uses_torch: whether it
    trains with torch, whose threads are then limited as those of numpy are.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    in_auto: ClassVar[bool] = True
    uses_torch: ClassVar[bool] = True

    @abstractmethod
    def obstacle(self, task: Task) -> str | None:
        """Why the method does not apply to this task, None where it does."""

    @abstractmethod
    def propose(self, task: Task) -> Iterator[Graph]:
        """Candidates, each better in the method's own eyes than the one before, until `task.deadline` or an end."""


def methods() -> dict[str, Method]:
    """All methods with a name of their own, in the order in which `auto` tries them."""
    from certlip.repairs import catalogue  # noqa: F401 - importing it registers the methods

    found: list[Method] = []
    waiting: list[type] = [Method]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "name" in vars(kind):
            found.append(kind())
    return {method.name: method for method in sorted(found, key=lambda method: (method.rank, method.name))}


def chosen(name: str) -> list[Method]:
    """The methods that `--method` names."""
    known = methods()
    if name == "auto":
        return [method for method in known.values() if method.in_auto]
    if name not in known:
        raise UsageError(f"unknown method '{name}'; choose auto or one of {', '.join(known)}")
    return [known[name]]
