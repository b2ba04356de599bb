"""The descent step of ADMM: epochs of Adam on a loss plus a pull of the weights towards given matrices."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from certlip.repairs.admm.chain import Chain
from certlip.solvers.problem import Array
from certlip.training.loop import AdamW, Samples, mean_loss
from certlip.training.network import Network
from certlip.training.objective import Objective


def samples_of(x: Array, y: np.ndarray, device: str) -> Samples:
    """In binary64 on a device."""
    return Samples.of(x, y, dtype=torch.float64, device=device)


class Descent:
    """A chain in torch, binary64, with the moments of Adam and the order of batches kept from call to call.

    weights: whether the matrices are trained, or the biases alone.
    """

    def __init__(
        self,
        chain: Chain,
        samples: Samples,
        objective: Objective,
        *,
        weights: bool = True,
        batch: int = 64,
        seed: int = 0,
    ):
        self._chain, self._samples, self._objective, self._batch = chain, samples, objective, batch
        self._network = Network(chain.graph(), torch.float64, str(samples.x.device))
        self._draw = torch.Generator().manual_seed(seed)
        layers = [self._network.layers[str(position)] for position in self._network.positions]
        self._matrices = [layer.weight for layer in layers]
        self._parameters = [*(self._matrices if weights else ()), *(layer.bias for layer in layers)]
        self._adam = AdamW(self._parameters, 0.0)

    @property
    def chain(self) -> Chain:
        """With the present weights and biases."""
        pairs = [self._network.weights()[position] for position in self._network.positions]
        weights, biases = (
            [tensor.detach().cpu().numpy().copy() for tensor in tensors] for tensors in zip(*pairs, strict=True)
        )
        return Chain(tuple(weights), tuple(biases), self._chain.activations)

    def loss(self) -> float:
        """The mean over all samples."""
        return mean_loss(self._network, self._samples, self._objective)

    def epoch(self, rate: float, target: Sequence[Array] = (), weight: float = 0.0, deadline: float = math.inf) -> None:
        """One pass over the samples on ``loss + (weight/2) sum_i |W_i - target_i|_F^2``."""
        device = self._samples.x.device
        aims = [torch.as_tensor(np.asarray(Z), dtype=torch.float64, device=device) for Z in target]
        order = torch.randperm(len(self._samples), generator=self._draw).to(device)
        for first in range(0, len(order), self._batch):
            part = self._samples.take(order[first : first + self._batch])
            loss: Tensor = self._objective(self._network(part.x), part.y)
            for W, Z in zip(self._matrices, aims, strict=False):
                loss = loss + 0.5 * weight * (W - Z).square().sum()
            self._adam.step(torch.autograd.grad(loss, self._parameters), rate)
            if time.monotonic() >= deadline:
                return
