"""The methods one after the other, each with its share of the time, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from certlip.errors import UsageError
from certlip.graph import Graph
from certlip.lipschitz.threads import threads_for
from certlip.repairs.attempt import Attempt, Judge, best_attempt
from certlip.repairs.method import Method, methods
from certlip.repairs.problem import Problem
from certlip.repairs.requirement import MaxLipschitz, rival_spread
from certlip.repairs.scale import within
from certlip.repairs.task import Task

_ROUNDED = 1e-12
"""Relative room for the rounding of a limit to a float."""
_ROUNDS = 8
"""Candidates for which a method that trains gets the time, if there is so much: one that trains beats five begun."""
_NO_BOUND = "no Lipschitz bound of the model was proved in the time given; use a longer timeout"


@dataclass
class Search:
    """judge: of one problem. deadline: a value of `time.monotonic()`. seconds: for the proof of one bound.

    `found` holds the best attempt of each method so far and `notes` why a method has none; both are there whenever the
    search is interrupted. each: hears of every attempt that is a method's best.
    """

    judge: Judge
    original: Attempt
    deadline: float
    seconds: float
    progress: Callable[[str], None] = lambda message: None
    each: Callable[[Attempt], None] = lambda attempt: None
    found: dict[str, Attempt] = field(default_factory=dict, init=False)
    notes: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def problem(self) -> Problem:
        return self.judge.problem

    @property
    def best(self) -> Attempt | None:
        """The best attempt of all methods; the model itself where it comes closer than they all."""
        return self._better([*self.found.values(), self.original])

    def run(self, chosen: Sequence[Method]) -> None:
        """Every chosen method for every aim, from the weakest, until an aim has led to what is asked."""
        problem = self.problem
        spread = rival_spread(problem.norm, problem.body.output_size)
        aims = list(problem.requirement.aims(spread, self._reached()))
        for number, aim in enumerate(aims):
            end = time.monotonic() + (self.deadline - time.monotonic()) / (len(aims) - number)
            task = problem.task(aim, problem.body, end, self.seconds)
            start = within(task, problem.body)
            if start is None:
                self.notes |= {method.name: _NO_BOUND for method in chosen if method.name not in self.found}
                return
            self._try_all(chosen, replace(task, start=start))
            best = self.best
            if best is not None and best.meets:
                return

    def _reached(self) -> float | None:
        """The median of the radii that are certified of the model as it is; None for regressors or where none is."""
        return self.original.scores.median_radius if self.problem.is_classifier else None

    def _better(self, attempts: Sequence[Attempt]) -> Attempt | None:
        return best_attempt(attempts, self.original, self.problem.accuracy_loss)

    def _try_all(self, chosen: Sequence[Method], task: Task) -> None:
        obstacles = {method.name: method.obstacle(task) for method in chosen}
        waiting = [method for method in chosen if obstacles[method.name] is None]
        if not waiting:
            raise UsageError(_refusal(obstacles, task))
        self.notes |= {name: reason for name, reason in obstacles.items() if reason is not None}
        for number, method in enumerate(waiting):
            now = time.monotonic()
            left = task.deadline - now
            share = left / (len(waiting) - number)
            if method.uses_torch:
                share = max(share, min(left, _ROUNDS * self.original.seconds))
            if share <= 0 and (number or self.found):  # the quickest one always has its turn
                self.notes.setdefault(method.name, "the time was spent before it could start")
                continue
            self._try(method, replace(task, deadline=now + share))

    def _try(self, method: Method, task: Task) -> None:
        """A method's candidates as they come."""
        began, seen = time.monotonic(), []
        self.progress(f"{method.name}: bound {task.target:.6g}")
        if method.uses_torch:
            import torch  # noqa: F401 - so that its threads can be limited
        with threads_for(max(map(prod, task.graph.shapes))):
            for body in self._proposals(method, task):
                seen += self._judged(method.name, self._within_limit(body, task), began)
                if task.expired:
                    break
        if not seen and method.name not in self.found:
            reason = self.judge.refused.get(method.name, "it found no candidate within its time")
            self.notes.setdefault(method.name, reason)

    def _proposals(self, method: Method, task: Task) -> Iterator[Graph]:
        """What the method proposes; a failure of its search ends the method, not the repair, and is noted."""
        try:
            yield from method.propose(task)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # solvers raise what they like; a panic in Rust is no Exception
            self.notes[method.name] = f"stopped: {type(error).__name__}: {error}"

    def _within_limit(self, body: Graph, task: Task) -> Graph:
        """A candidate multiplied down to the bound that is asked for, where methods were asked for a larger one."""
        requirement = self.problem.requirement
        if not isinstance(requirement, MaxLipschitz):
            return body
        limit = float(requirement.limit) / self.problem.tail_gain * (1.0 - _ROUNDED)
        return within(replace(task, target=min(limit, task.target)), body) or body

    def _judged(self, name: str, body: Graph, began: float) -> list[Attempt]:
        attempt = self.judge.attempt(name, body, began)
        if attempt is None:
            return []
        known = self.found.get(name)
        if known is None or self._better([known, attempt]) is attempt:
            self.found[name] = attempt
            self.notes.pop(name, None)
            self.each(attempt)
        return [attempt]


def _refusal(obstacles: Mapping[str, str | None], task: Task) -> str:
    """Why none of the chosen methods applies, and which others do."""
    reasons = "; ".join(f"{name} does not apply: {reason}" for name, reason in obstacles.items())
    others = [method.name for method in methods().values() if method.in_auto and method.obstacle(task) is None]
    return f"{reasons}; " + (f"choose one of {', '.join(others)}" if others else "no other method does")
