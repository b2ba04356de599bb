"""Limited-memory BFGS (Nocedal 1980) for smooth functions of large tensors, with steps that only ever descend.

torch's own LBFGS evaluates its strong Wolfe conditions on the host and needs two to three times the evaluations here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor
Function = Callable[[Tensor], tuple[Tensor, Tensor]]

_SUFFICIENT = 1e-4
_BACKTRACK = 0.3


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a run of steps ended. `settled`: the last steps gained less than the tolerance, or no step gained."""

    point: Tensor
    value: float
    steps: int
    settled: bool


class LBFGS:
    """Descends from `point`; `run` may be called again and goes on with the memory it has."""

    def __init__(self, function: Function, point: Tensor, memory: int = 20):
        self._function, self.point = function, point
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)
        value, self._gradient = function(point)
        self.value = float(value)

    def run(self, steps: int, tolerance: float, stop: Callable[[], bool] = lambda: False) -> Descent:
        """At most `steps` steps; settled after three in a row that gain less than `tolerance`."""
        small = 0
        for step in range(steps):
            before = self.value
            if not self._advance():
                return Descent(self.point, self.value, step, True)
            small = small + 1 if before - self.value < tolerance else 0
            if small == 3:
                return Descent(self.point, self.value, step + 1, True)
            if stop():
                return Descent(self.point, self.value, step + 1, False)
        return Descent(self.point, self.value, steps, False)

    def _direction(self) -> Tensor:
        direction = self._gradient.clone()
        shares = []
        for move, change, weight in reversed(self._pairs):
            share = weight * torch.dot(move, direction)
            shares.append(share)
            direction.sub_(change * share)
        if self._pairs:
            move, change, weight = self._pairs[-1]
            direction.div_(weight * torch.dot(change, change))
        else:
            direction.mul_(0.1 / self._gradient.norm().clamp(min=1e-300))
        for (move, change, weight), share in zip(self._pairs, reversed(shares), strict=True):
            direction.add_(move * (share - weight * torch.dot(change, direction)))
        return direction

    def _advance(self) -> bool:
        direction = self._direction()
        slope = float(torch.dot(self._gradient, direction))
        if not slope > 0:
            self._pairs.clear()
            direction, slope = self._gradient.clone(), float(torch.dot(self._gradient, self._gradient))
        length = 1.0
        for _ in range(20):
            point = self.point - length * direction
            value, gradient = self._function(point)
            if float(value) <= self.value - _SUFFICIENT * length * slope:
                break
            length *= _BACKTRACK
        else:
            return False
        move, change = point - self.point, gradient - self._gradient
        curvature = torch.dot(move, change)
        if float(curvature) > 1e-14 * float(move.norm() * change.norm()):
            self._pairs.append((move, change, 1.0 / curvature))
        self.point, self.value, self._gradient = point, float(value), gradient
        return True
