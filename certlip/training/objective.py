"""The losses of `certlip repair` in torch, the same numbers as in numpy, and distillation where labels are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from certlip.errors import UsageError


@dataclass(frozen=True)
class Objective:
    """Mean loss of outputs. loss: "square", "absolute", "huber" (y real, of the outputs' shape), "cross-entropy",
    "hinge", "logistic" (y classes).

    With d_k = f_k + margin - f_y for every rival k of class y (one output f: margin - f for class 1, margin + f for
    class 0): hinge max(0, 1 + max d_k), cross-entropy, also called logistic, log(1 + sum exp d_k). A margin
    of c L radius, |D(f_i - f_j)| <= c L |Dx|, asks for scores that still lead anywhere within the radius (Tsuzuku et
    al. 2018). Raises UsageError for other losses.
    """

    loss: str
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in (*_REGRESSION, *_CLASSIFICATION):
            names = ", ".join((*_REGRESSION, *_CLASSIFICATION))
            raise UsageError(f"unknown loss '{self.loss}'; choose one of {names}")

    @property
    def is_classifier(self) -> bool:
        return self.loss in _CLASSIFICATION

    def __call__(self, outputs: Tensor, y: Tensor, teacher: Tensor | None = None) -> Tensor:
        """A scalar. outputs (N, ...); y (N,) classes, or targets. teacher: outputs of another network whose judgement
        is to be met, not only its classes, which are y then; "hinge" ignores it."""
        outputs = outputs.flatten(1)
        if not self.is_classifier:
            return _REGRESSION[self.loss](outputs - y.reshape(outputs.shape)).mean()
        if teacher is not None and self.loss != "hinge":
            return self._distance(outputs, y, teacher.flatten(1))
        return _CLASSIFICATION[self.loss](lead_of_rivals(outputs, y) + self.margin).mean()

    def _distance(self, outputs: Tensor, y: Tensor, teacher: Tensor) -> Tensor:
        """Kullback-Leibler divergence from the teacher's distribution to the one with raised rivals."""
        if outputs.shape[1] == 1:
            outputs, teacher = (torch.cat([torch.zeros_like(f), f], 1) for f in (outputs, teacher))
        raised = self.margin * (1.0 - F.one_hot(y, outputs.shape[1]).to(outputs.dtype))
        log_p, log_q = teacher.log_softmax(1), (outputs + raised).log_softmax(1)
        return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def lead_of_rivals(outputs: Tensor, y: Tensor) -> Tensor:
    """f_k - f_y for every rival k, (N, outputs - 1); for one output -f for class 1 and f for class 0."""
    if outputs.shape[1] == 1:
        return outputs * (1.0 - 2.0 * y.to(outputs.dtype)).unsqueeze(1)
    rivals = ~F.one_hot(y, outputs.shape[1]).bool()
    return outputs[rivals].reshape(len(y), -1) - outputs.gather(1, y.unsqueeze(1))


def _cross_entropy(d: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(d[:, :1]), d], 1).logsumexp(1)


def _huber(r: Tensor) -> Tensor:
    return F.huber_loss(r, torch.zeros_like(r), reduction="none")


_REGRESSION: dict[str, Callable[[Tensor], Tensor]] = {"square": torch.square, "absolute": torch.abs, "huber": _huber}
_CLASSIFICATION: dict[str, Callable[[Tensor], Tensor]] = {
    "cross-entropy": _cross_entropy,
    "hinge": lambda d: F.relu(1.0 + d.amax(1)),
    "logistic": _cross_entropy,
}
