"""LipSDP from its dual: a network whose signals are vectors, and whose best gain is the optimum of the program.

The dual of the LipSDP maximises <C'C, X> over X >= 0 that respect each neuron's slopes on average. Written X = Z Z'
with r columns (Burer and Monteiro 2003), every row of Z is a vector in R^r and the constraints read

    (z_j - a_j v_j).(b_j v_j - z_j) >= 0,   that is   z_j = m v_j + rho |v_j| u_j  with |u_j| <= 1,

m = (a + b)/2, rho = (b - a)/2: a network in which each neuron may rotate its signal within a ball. *Every* choice of
unit vectors u_j and of x is feasible, so each forward pass gives a lower bound of the program, and each pass costs no
more than a few evaluations of the network. Stationary points name the multipliers: with g_j = half the gradient at z_j,
T_j = |g_j| / (2 rho |v_j|). Where rows share a multiplier, u_j is one unit vector for all of them and rho |v_j| the
norm of their radii. For r about the root of twice the number of multipliers local maxima are global (Boumal,
Voroninski, Bandeira 2016); in practice ten columns do.
The multipliers are moved into the interior by as little as a factorisation asks for (`sweep`), and proved elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from certlip.proofs.form import Form
from certlip.solvers.network import Classes, Network, Tensor

_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Multipliers:
    """What a stationary point says: `value` the squared gain of the signals, a lower bound on the program, and for
    every stage the multipliers of its input and of its groups (they would prove `value` at an optimum)."""

    value: float
    inputs: tuple[Tensor, ...]
    groups: tuple[Tensor, ...]
    signals: tuple[tuple[Tensor, ...], ...]


class VectorNetwork:
    """The gain of a network of vectors as a function of one long parameter: directions of the input and of each group.

    stages: networks in a row; the output of one reaches the next through its norms alone (`output_index` of the first,
    `metric_index` of the second), as a metric shared by pixels demands. norm "l2": |x| = 1 in all; "linf": the entries
    of the input that share a metric entry have together the energy `metric_count`.
    """

    def __init__(self, stages: Sequence[Form], norm: str, ranks: Sequence[int], seed: int = 0, device: str = "cpu"):
        self.networks = [Network(form, device) for form in stages]
        self.device = self.networks[0].device
        self.ranks = tuple(ranks)
        first = stages[0]
        if norm == "l2":
            entry = Classes.of(np.zeros(first.sizes[0], dtype=np.intp), self.device)
            energy = torch.ones(1, dtype=torch.float64, device=self.device)
        else:
            entry = Classes.of(first.metric_index, self.device)
            energy = self.networks[0].tensor(first.metric_count)[entry.names]
        self._energy = energy
        self._entries = [entry] + [Classes.of(form.metric_index, self.device) for form in stages[1:]]
        self._exits = [Classes.of(form.output_index, self.device) for form in stages[:-1]]  # type: ignore[arg-type]
        self._shapes = [
            (network.frequencies[k], network.sizes[k], rank)
            for network, rank in zip(self.networks, ranks, strict=True)
            for k in range(network.hidden + 1)
        ]
        self._start = self._draw(seed)

    def start(self) -> Tensor:
        """A random input whose neurons let most of their signal through."""
        return self._start

    def parts(self, parameter: Tensor) -> list[list[Tensor]]:
        """The directions of each stage's input and groups, (F, n, r) each."""
        pieces, remaining = [], iter(self._split(parameter))
        for network in self.networks:
            pieces.append([next(remaining) for _ in range(network.hidden + 1)])
        return pieces

    def directions(self, parameter: Tensor) -> list[list[Tensor]]:
        """`parts` of length one. Lengths matter to the steps alone: each makes them grow, and the next ones slower."""
        stages = zip(self.parts(parameter), self.networks, self._entries, strict=True)
        return [
            [part / _norm(classes, part) for part, classes in zip(parts, (entry, *network.classes), strict=True)]
            for parts, network, entry in stages
        ]

    def _draw(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)

        def noise(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(self.device)

        directions: list[Tensor] = []
        energy, output = self._energy, self._energy
        for position, (network, rank) in enumerate(zip(self.networks, self.ranks, strict=True)):
            entry = self._entries[position]
            if position:
                energy = self._exits[position - 1].inner(output, output)
            raw = noise((network.frequencies[0], network.sizes[0], rank))
            values = [_scaled(entry, raw, energy)]
            directions.append(values[0] / _norm(entry, values[0]))
            for k in range(1, network.hidden + 1):
                classes = network.classes[k - 1]
                signal = network.image(k, values)
                raw = signal / _norm(classes, signal) + 0.3 / rank**0.5 * noise(tuple(signal.shape))
                unit = raw / _norm(classes, raw)
                directions.append(unit)
                values.append(network.middle[k - 1] * signal + _norm(classes, network.radius[k - 1] * signal) * unit)
            output = network.image(network.hidden + 1, values)
        return torch.cat([part.flatten() for part in directions])

    def _split(self, parameter: Tensor) -> list[Tensor]:
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        return [part.view(shape) for part, shape in zip(parameter.split(sizes), self._shapes, strict=True)]

    def loss(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """-log of the squared gain, and its gradient."""
        forward = _Forward(self, self._split(parameter))
        gradients, _, _ = forward.backward()
        value = forward.value
        gradient = torch.cat([part.flatten() for part in gradients])
        return -torch.log(value), gradient * (-2.0 / value)

    def multipliers(self, parameter: Tensor) -> Multipliers:
        """The multipliers that the stationarity conditions give at this point."""
        forward = _Forward(self, self._split(parameter))
        _, inputs, groups = forward.backward()
        signals = tuple(tuple(stage.values) for stage in forward.stages)
        return Multipliers(float(forward.value), tuple(inputs), tuple(groups), signals)


@dataclass(eq=False)
class _Stage:
    """What the forward pass of one network leaves for the backward pass."""

    energy: Tensor
    norms: list[Tensor]
    units: list[Tensor]
    images: list[Tensor]
    sizes: list[Tensor]
    values: list[Tensor]


class _Forward:
    """One forward pass; `backward` returns half the gradient of the squared gain and the multipliers."""

    def __init__(self, owner: VectorNetwork, directions: list[Tensor]):
        self.owner = owner
        self.stages: list[_Stage] = []
        remaining = iter(directions)
        energy, output = owner._energy, owner._energy
        for position, network in enumerate(owner.networks):
            entry = owner._entries[position]
            if position:
                energy = owner._exits[position - 1].inner(output, output)
            raw = next(remaining)
            norm = _norm(entry, raw)
            unit = raw / norm
            stage = _Stage(energy, [norm], [unit], [], [], [unit * entry.spread(energy.sqrt())])
            for k in range(1, network.hidden + 1):
                classes, raw = network.classes[k - 1], next(remaining)
                signal = network.image(k, stage.values)
                size, norm = _norm(classes, network.radius[k - 1] * signal), _norm(classes, raw)
                unit = raw / norm
                stage.norms.append(norm)
                stage.units.append(unit)
                stage.images.append(signal)
                stage.sizes.append(size)
                stage.values.append(network.middle[k - 1] * signal + size * unit)
            output = network.image(network.hidden + 1, stage.values)
            self.stages.append(stage)
        self.output = output
        self.value = (self.output * self.output).sum()

    def backward(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        owner = self.owner
        gradients: list[Tensor] = []
        inputs: list[Tensor] = []
        groups: list[Tensor] = []
        incoming = self.output
        for position in range(len(self.stages) - 1, -1, -1):
            stage, network, entry = self.stages[position], owner.networks[position], owner._entries[position]
            pulled: list[Tensor | None] = [None] * (network.hidden + 1)
            network.pull(network.hidden + 1, incoming, pulled)
            own: list[Tensor] = []
            multipliers = torch.zeros(network.form.neurons, dtype=torch.float64, device=owner.device)
            for k in range(network.hidden, 0, -1):
                gradient = _or_zero(pulled[k], stage.values[k])
                classes, unit, size = network.classes[k - 1], stage.units[k], stage.sizes[k - 1]
                along = classes.inner(unit, gradient)
                own.append(size / stage.norms[k] * (gradient - unit * classes.spread(along)))
                multipliers[classes.names] = 0.5 * classes.inner(gradient, gradient).sqrt() / classes.first(size)
                bent = network.radius[k - 1] ** 2 * stage.images[k - 1] / size
                network.pull(k, network.middle[k - 1] * gradient + classes.spread(along) * bent, pulled)
            gradient = _or_zero(pulled[0], stage.values[0])
            root = stage.energy.sqrt()
            along = entry.inner(stage.units[0], gradient)
            own.append(entry.spread(root) / stage.norms[0] * (gradient - stage.units[0] * entry.spread(along)))
            metric = along.clamp(min=0.0) / root.clamp(min=_TINY)
            inputs.append(metric)
            groups.append(multipliers)
            gradients.extend(own)
            if position:
                exits = owner._exits[position - 1]
                outputs = owner.networks[position - 1]
                signal = outputs.image(outputs.hidden + 1, self.stages[position - 1].values)
                incoming = exits.spread(metric) * signal
        return gradients[::-1], inputs[::-1], groups[::-1]


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _norm(classes: Classes, rows: Tensor) -> Tensor:
    """Each row's norm of its class, at least a tiny number."""
    return classes.spread(classes.inner(rows, rows).sqrt().clamp(min=_TINY))


def _scaled(classes: Classes, rows: Tensor, energy: Tensor) -> Tensor:
    return rows / _norm(classes, rows) * classes.spread(energy.sqrt())
