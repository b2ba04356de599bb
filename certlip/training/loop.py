"""The training loop: AdamW under a cosine schedule, the best state kept, divergence met by smaller steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from certlip.training.objective import Objective

_EXPLODED = 10.0
"""How many times the loss at the start, plus one, a mean loss may be before the training counts as diverging."""

_HALVINGS = 5
"""How often the rate is halved before the training gives up."""

_EVALUATED = 1024
"""Samples at once where no gradient is taken."""


@dataclass(frozen=True, eq=False)
class Samples:
    """x (N, *input_shape); y (N,) classes or (N, outputs) targets; teacher (N, outputs): see `Objective`."""

    x: Tensor
    y: Tensor
    teacher: Tensor | None = None

    @staticmethod
    def of(
        x: np.ndarray,
        y: np.ndarray,
        teacher: np.ndarray | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> Samples:
        """From arrays; whole numbers are classes."""
        kind = torch.int64 if np.asarray(y).dtype.kind in "iu" else dtype
        soft = None if teacher is None else torch.as_tensor(np.asarray(teacher), dtype=dtype, device=device)
        inputs = torch.as_tensor(np.asarray(x), dtype=dtype, device=device)
        return Samples(inputs, torch.as_tensor(np.asarray(y), dtype=kind, device=device), soft)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor | slice) -> Samples:
        """Some of them."""
        return Samples(self.x[rows], self.y[rows], None if self.teacher is None else self.teacher[rows])


@dataclass(frozen=True)
class Epoch:
    """number: 0 for the state before training. loss: mean over the epoch's batches; validation: after it. is_best: no
    epoch before had a lower validation loss. rate: at its end. note: what went wrong, "" if nothing did."""

    number: int
    loss: float
    validation: float
    is_best: bool
    rate: float
    note: str = ""


def fit(
    network: nn.Module,
    train: Samples,
    objective: Objective,
    validation: Samples,
    *,
    deadline: float = math.inf,
    epochs: int = 50,
    rate: float = 1e-3,
    batch: int = 64,
    decay: float = 0.0,
    seed: int = 0,
) -> Iterator[Epoch]:
    """Train in place; each epoch is reported as it ends, and whenever the iterator ends, is closed or is interrupted
    the network has the state with the lowest validation loss, that before training included.

    The rate falls from `rate` to 0 on half a cosine wave over the epochs. decay: of AdamW, on tensors of two or more
    axes. deadline: a value of `time.monotonic()`, looked at after each batch. An epoch in which a number is not finite
    or the mean loss explodes is taken back: the best state returns, the rate is halved, after `_HALVINGS` times the
    training ends; `note` says so. Batches are drawn by a generator of their own: equal seeds give equal weights on the
    same machine, and torch's global generator is left alone.
    """
    draw = torch.Generator().manual_seed(seed)
    best = _State.of(network, mean_loss(network, validation, objective))
    start = best.loss if math.isfinite(best.loss) else math.inf
    yield Epoch(0, mean_loss(network, train, objective), best.loss, True, rate)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser, halvings = AdamW(parameters, decay), 0
    steps = max(1, math.ceil(len(train) / batch))
    try:
        for number in range(1, epochs + 1):
            if time.monotonic() >= deadline:
                return
            order = torch.randperm(len(train), generator=draw).to(train.x.device)
            total = 0.0
            done = 0
            for step in range(steps):
                present = rate * 0.5**halvings * _cosine((number - 1 + step / steps) / epochs)
                part = train.take(order[step * batch : (step + 1) * batch])
                loss = objective(network(part.x), part.y, part.teacher)
                total += float(loss.detach()) * len(part)
                done += len(part)
                if not math.isfinite(total):
                    break
                optimiser.step(torch.autograd.grad(loss, parameters, allow_unused=True), present)
                if time.monotonic() >= deadline:
                    break
            mean = total / done
            after = mean_loss(network, validation, objective) if math.isfinite(mean) else math.nan
            if not math.isfinite(after) or mean > _EXPLODED * (1.0 + start):
                halvings += 1
                best.restore(network)
                optimiser = AdamW(parameters, decay)
                gave_up = halvings > _HALVINGS
                what = "gave up" if gave_up else "took the best state back and halved the rate"
                yield Epoch(number, mean, after, False, present, f"the training diverged in epoch {number}: {what}")
                if gave_up:
                    return
                continue
            is_best = after < best.loss
            if is_best:
                best = _State.of(network, after)
            yield Epoch(number, mean, after, is_best, present)
    finally:
        best.restore(network)


@torch.no_grad()
def mean_loss(network: nn.Module, samples: Samples, objective: Objective) -> float:
    """Over all samples, without gradients."""
    total = 0.0
    for first in range(0, len(samples), _EVALUATED):
        part = samples.take(slice(first, first + _EVALUATED))
        total += float(objective(network(part.x), part.y, part.teacher)) * len(part)
    return total / len(samples)


class AdamW:
    """Adam with decay that does not pass through the moments (Loshchilov and Hutter 2019). torch's own takes a second
    to import."""

    def __init__(self, parameters: list[nn.Parameter], decay: float):
        self._parameters, self._decay, self._count = parameters, decay, 0
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor | None, ...], rate: float) -> None:
        self._count += 1
        first, second = 1.0 - 0.9**self._count, 1.0 - 0.999**self._count
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._means, self._squares, strict=True
        ):
            if gradient is None:
                continue
            mean.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            if self._decay and parameter.dim() > 1:
                parameter.mul_(1.0 - rate * self._decay)
            parameter.addcdiv_(mean, (square / second).sqrt_().add_(1e-8), value=-rate / first)


@dataclass(frozen=True, eq=False)
class _State:
    """A copy of all numbers of a network, and its validation loss."""

    loss: float
    tensors: dict[str, Tensor]

    @staticmethod
    def of(network: nn.Module, loss: float) -> _State:
        tensors = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        return _State(loss if math.isfinite(loss) else math.inf, tensors)

    def restore(self, network: nn.Module) -> None:
        network.load_state_dict(self.tensors)


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))
