"""LipSDP by first-order ascent of its low-rank dual: multipliers, and a lower bound that says how good they are.

Works on any form: dense networks, graphs, channels over frequencies, a convolutional part followed by a dense head.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from certlip.proofs.form import Form
from certlip.rigor.rounding import Array
from certlip.solvers.ascent import Ascent
from certlip.solvers.low_rank import Multipliers
from certlip.solvers.network import Network, Tensor
from certlip.solvers.problem import Status
from certlip.solvers.sweep import Infeasible, Sweep
from certlip.solvers.transposed import backwards

_SHARES = np.logspace(-9, 0, 10)
"""How much of the closed form is mixed in, until K is positive definite in floating point."""

_FIRST_PLACE = 7
"""Where the first look begins among them: it mostly ends between a hundredth and a tenth."""

_UNUSED = 1e-9
"""The share of the closed form that a neuron gets which no signal leaves: its best multiplier is zero."""

_CONSTANT = 1e-200
"""The squared gain that is proved of a stage which is constant but for the rounding of its weights."""

_FIRST_LOOK, _CLIMB = 0.05, 4.0
"""The gap is looked at after the climb took four times as long as looking did the last time (at first, 50 ms)."""

_FUTILE, _SLOW, _CLOSE = 1500, 300, 1e-4
"""Steps without the gap halving after which the search gives up; those after which it does once the gap is small: in
chains of 64 layers the digits beyond would take most of the time."""


@dataclass(frozen=True, eq=False)
class Witnesses:
    """A solver's offer, to be proved: `metric`, `multipliers` of all stages in a row, `cut` between two stages.

    objective: the squared bound that they would prove. lower: the squared gain of feasible signals, below which no
    multipliers can get; the arithmetic is floating point, `proofs.optimality` proves it from the `signals`.
    resume: directions from which a search for the same network with another output may start.
    """

    metric: Array
    multipliers: Array
    cut: Array
    objective: float
    lower: float
    iterations: int
    status: Status
    resume: tuple[tuple[Tensor, ...], ...] = ()
    signals: tuple[tuple[Array, ...], ...] = ()


class Search:
    """One search: the networks on all frequencies, the best multipliers and the best lower value so far."""

    def __init__(self, stages: Sequence[Form], norm: str, device: str = "cpu"):
        self._stages, self._norm, self._device = tuple(stages), norm, device
        self._sweeps = [Sweep(Network(form, device)) for form in stages]
        self._best: tuple[float, list[Tensor], list[Tensor], list[float]] | None = None
        self._lower = 0.0
        self._steps = 0
        self._resume: tuple[tuple[Tensor, ...], ...] = ()
        self._unit: Tensor | None = None
        self._places = [_FIRST_PLACE] * len(self._stages)
        self._signals: tuple[tuple[Array, ...], ...] = ()

    def closed_form(self) -> Witnesses:
        """Multipliers without a search (ECLipsE-Fast on any graph), all metrics being constant."""
        self._offer([self._ones(form) for form in self._stages], None)
        return self._result("solved")

    def closed_form_backwards(self) -> Witnesses:
        """Those of the transposed network, where they prove less; for one dense stage, `closed_form` coming first."""
        with suppress(Infeasible):
            metric = self._ones(self._stages[0])
            group = self._tensor(backwards(self._stages[0], self._device))
            self._keep([metric], [group], [self._scale(0, [metric], group)])
        return self._result("solved")

    def interior(self) -> Witnesses:
        """The best so far, constant stages with a little room for the rounding of their weights."""
        return self._result("solved", _CONSTANT)

    def run(
        self, tolerance: float, deadline: float | None, resume: tuple[tuple[Tensor, ...], ...] = ()
    ) -> Witnesses:
        """Ascend until the gap of the bounds is below `tolerance`, nothing moves, or the deadline has come."""

        ascent = Ascent(self._stages, self._norm, self._device, 1e-6 * tolerance, resume)
        looked, look = time.monotonic(), _FIRST_LOOK
        landmark, landmark_steps = 1.0, 0

        def late() -> bool:
            return deadline is not None and time.monotonic() + look >= deadline

        def due() -> bool:
            return time.monotonic() - looked > _CLIMB * look

        while True:
            point = ascent.run(late, due)
            began = time.monotonic()
            self._steps, self._resume = ascent.steps, ascent.directions()
            if point.value > self._lower:
                self._signals = ascent.signals(point)
            self._consider(point)
            looked = time.monotonic()
            look = looked - began
            if self._gap() <= tolerance:
                return self._result("solved")
            if late():
                return self._result("deadline")
            if self._gap() < 0.5 * landmark:
                landmark, landmark_steps = self._gap(), self._steps
            if self._steps - landmark_steps > (_SLOW if self._gap() < _CLOSE else _FUTILE):
                return self._result("stalled")
            if ascent.settled and not ascent.refine(self._gap()):
                return self._result("stalled")

    def _consider(self, point: Multipliers) -> None:
        """The best witness near the multipliers of a stationary point."""
        self._lower = max(self._lower, point.value)
        metrics = [_positive(metric) for metric in point.inputs]
        if self._norm == "l2":
            metrics[0] = metrics[0].max().expand(len(self._stages[0].metric_count)).clone()
        self._offer(metrics, point.groups)

    def _offer(self, metrics: list[Tensor], groups: Sequence[Tensor] | None) -> None:
        """Keep these multipliers, moved into the interior where they need it, if they prove less than the best."""
        found, scales = [], []
        for position in range(len(self._stages)):
            inner = self._inner(position, metrics)
            group = (inner, self._scale(position, metrics, inner))
            if groups is not None:
                group = self._mixed(position, metrics, groups[position], *group)
            found.append(group[0])
            scales.append(group[1])
        self._keep(metrics, found, scales)

    def _keep(self, metrics: list[Tensor], groups: list[Tensor], scales: list[float]) -> None:
        objective = float(np.prod(scales)) * self._cost(metrics[0])
        if self._best is None or objective < self._best[0]:
            self._best = objective, metrics, groups, scales

    def _mixed(
        self, position: int, metrics: list[Tensor], group: Tensor, inner: Tensor, scale: float
    ) -> tuple[Tensor, float]:
        """The mixture with the closed form that proves least.

        K is affine in the share and an inverse is operator convex, so the scale is convex in the share, infinite up to
        where K becomes definite: going downhill from the share that was best at the last look finds the least.
        """
        known = torch.where(torch.isfinite(group), torch.maximum(group, _UNUSED * inner), inner)
        last = len(_SHARES) - 1
        scales = {last: scale}

        def mixture(place: int) -> Tensor:
            return (1.0 - _SHARES[place]) * known + _SHARES[place] * inner

        def scale_at(place: int) -> float:
            if place not in scales:
                try:
                    scales[place] = self._scale(position, metrics, mixture(place))
                except Infeasible:
                    scales[place] = float("inf")
            return scales[place]

        place = self._places[position]
        while place < last and scale_at(place + 1) <= scale_at(place):
            place += 1
        while place > 0 and scale_at(place - 1) < scale_at(place):
            place -= 1
        self._places[position] = place
        return mixture(place), scale_at(place)

    def _inner(self, position: int, metrics: list[Tensor]) -> Tensor:
        if position or self._norm != "l2":
            return self._sweeps[position].closed_form(self._rows(position, metrics))[0]
        if self._unit is None:  # the metric is a multiple of one, and so are the multipliers
            self._unit = self._sweeps[0].closed_form(self._rows(0, metrics))[0] / metrics[0][0]
        return self._unit * metrics[0][0]

    def _scale(self, position: int, metrics: list[Tensor], group: Tensor) -> float:
        index = self._stages[position].output_index
        weights = None if index is None else metrics[position + 1][torch.as_tensor(index)]
        return self._sweeps[position].bound(self._rows(position, metrics), group, weights)

    def _rows(self, position: int, metrics: list[Tensor]) -> Tensor:
        return metrics[position][torch.as_tensor(self._stages[position].metric_index)]

    def _ones(self, form: Form) -> Tensor:
        return self._tensor(np.ones(len(form.metric_count)))

    def _tensor(self, array: Array) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=self._device)

    def _cost(self, metric: Tensor) -> float:
        if self._norm == "l2":
            return float(metric.max())
        return float(self._tensor(self._stages[0].metric_count) @ metric)

    def _gap(self) -> float:
        if self._best is None or self._best[0] <= 0:
            return 0.0
        return 1.0 - (self._lower / self._best[0]) ** 0.5

    def _result(self, status: Status, least: float = 0.0) -> Witnesses:
        """Every stage scaled so that it proves what the next one starts from."""
        if self._best is None:
            raise Infeasible("no multipliers were found that prove a bound")
        objective, metrics, groups, scales = self._best
        scales = [max(scale, least) for scale in scales]
        factors = [float(np.prod(scales[position:])) for position in range(len(scales))]
        metric = (metrics[0] * factors[0]).cpu().numpy()
        cut = (metrics[1] * factors[1]).cpu().numpy() if len(metrics) > 1 else np.zeros(0)
        multipliers = [(group * factor).cpu().numpy() for group, factor in zip(groups, factors, strict=True)]
        joined = np.concatenate(multipliers) if multipliers else np.zeros(0)
        return Witnesses(
            metric, joined, cut, objective, self._lower, self._steps, status, self._resume, self._signals
        )


def _positive(metric: Tensor) -> Tensor:
    """A metric without zeros: entries that the signals never ask for get a negligible share."""
    return metric.clamp(min=max(1e-9 * float(metric.max()), 1e-300))
