"""Losses as convex functions of scores that are linear in the output, so that majorised scores majorise the loss.

Each loss of a network is a mean of terms h(g), h convex and nondecreasing in every entry of g, g = K f(x) + offset.
Replace f's combinations by convex functions of the weights that are at least as large, and the mean becomes a convex
function that is at least as large: the waist between the losses here and the majorants of `program`.

    regression       g = (f - y, y - f), h = psi(max of the two), psi nondecreasing from 0 on
    scalar output    g = -s f + margin with s = +1 for y = 1, s = -1 for y = 0
    classification   g_k = f_k - f_y + margin for the rivals k of the class y
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from certlip.errors import UsageError
from certlip.solvers.problem import Array

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.intp]
Conic = tuple[Any, list[Any]]
"""A convex cvxpy expression and constraints of its own."""


@dataclass(frozen=True, eq=False)
class Scores:
    """g = f(x[rows]) K' + offset. rows: (n,), K: (q, o), offset: (n, q)."""

    rows: Rows
    K: Array
    offset: Array


class Loss(ABC):
    """A loss by its name; final subclasses are registered in `LOSSES`."""

    name: ClassVar[str]

    @abstractmethod
    def scores(self, y: NDArray[Any], outputs: int, margin: float) -> list[Scores]:
        """The scores of all samples. Raises UsageError where y does not fit."""

    @abstractmethod
    def count(self, y: NDArray[Any], outputs: int) -> int:
        """By how much the sum of `values` is divided: samples, times outputs for regression."""

    @abstractmethod
    def values(self, g: Array) -> Array:
        """The terms h(g) for scores (n, q)."""

    @abstractmethod
    def conic(self, g: Any) -> Conic:
        """The sum of the terms for convex cvxpy scores (n, q)."""

    @abstractmethod
    def smooth(self, g: torch.Tensor, width: float) -> torch.Tensor:
        """The sum of the terms for scores (n, q), kinks rounded off upwards over `width`."""

    def mean(self, scores: Sequence[Scores], f: Array, count: int) -> float:
        """The loss of outputs f (N, o)."""
        return float(sum(self.values(f[s.rows] @ s.K.T + s.offset).sum() for s in scores) / count)


class Regression(Loss):
    """psi(|f - y|), averaged over samples and outputs."""

    def scores(self, y: NDArray[Any], outputs: int, margin: float) -> list[Scores]:
        if margin:
            raise UsageError(f"the loss '{self.name}' knows no margin; leave it out, or choose one for classes")
        targets = np.asarray(y, dtype=np.float64)
        targets = targets[:, None] if targets.ndim == 1 else targets
        if targets.ndim != 2 or targets.shape[1] != outputs:
            raise UsageError(f"targets of shape {np.shape(y)} do not fit a network of {outputs} outputs")
        if not np.isfinite(targets).all():
            raise UsageError("a target is not finite; remove such rows from the data")
        identity = np.eye(outputs)
        offset = np.concatenate((-targets, targets), axis=1)
        return [Scores(np.arange(len(targets)), np.concatenate((identity, -identity)), offset)]

    def count(self, y: NDArray[Any], outputs: int) -> int:
        return len(y) * outputs

    @abstractmethod
    def psi(self, t: Array) -> Array:
        """Of distances t >= 0."""

    @abstractmethod
    def conic_psi(self, t: Any) -> Any:
        """The sum of psi(t) for a cvxpy variable t."""

    @abstractmethod
    def smooth_psi(self, t: torch.Tensor) -> torch.Tensor:
        """psi(t) for t >= 0, differentiable."""

    def values(self, g: Array) -> Array:
        half = g.shape[1] // 2
        return self.psi(np.maximum(g[:, :half], g[:, half:]))

    def conic(self, g: Any) -> Conic:
        import cvxpy as cp

        half = g.shape[1] // 2
        t = cp.Variable((g.shape[0], half))  # at least max(r, -r) >= 0, for g majorises r and -r
        return self.conic_psi(t), [t >= g[:, :half], t >= g[:, half:]]

    def smooth(self, g: torch.Tensor, width: float) -> torch.Tensor:
        from certlip.repairs.convex.rounded import smooth_relu

        half = g.shape[1] // 2
        low, high = g[:, :half], g[:, half:]
        return self.smooth_psi(low + smooth_relu(high - low, width)).sum()


class Square(Regression):
    """t^2."""

    name = "square"

    def psi(self, t: Array) -> Array:
        return t**2

    def conic_psi(self, t: Any) -> Any:
        import cvxpy as cp

        return cp.sum_squares(t)

    def smooth_psi(self, t: torch.Tensor) -> torch.Tensor:
        return t**2


class Absolute(Regression):
    """t."""

    name = "absolute"

    def psi(self, t: Array) -> Array:
        return t

    def conic_psi(self, t: Any) -> Any:
        import cvxpy as cp

        return cp.sum(t)

    def smooth_psi(self, t: torch.Tensor) -> torch.Tensor:
        return t


class Huber(Regression):
    """t^2 / 2 up to t = 1, t - 1/2 beyond."""

    name = "huber"

    def psi(self, t: Array) -> Array:
        return np.where(t <= 1.0, 0.5 * t**2, t - 0.5)

    def conic_psi(self, t: Any) -> Any:
        import cvxpy as cp

        return 0.5 * cp.sum(cp.huber(t, 1.0))

    def smooth_psi(self, t: torch.Tensor) -> torch.Tensor:
        near = t.clamp(max=1.0)
        return near * (t - 0.5 * near)


class Classification(Loss):
    """A function of the rivals' scores minus that of the class, averaged over samples."""

    def scores(self, y: NDArray[Any], outputs: int, margin: float) -> list[Scores]:
        labels, classes = np.asarray(y), max(outputs, 2)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            kind = f"{labels.dtype} {labels.shape}"
            raise UsageError(
                f"the loss '{self.name}' needs a vector of integer labels, not {kind}; choose another loss"
            )
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise UsageError(f"labels from {labels.min()} to {labels.max()} do not fit a network of {classes} classes")
        found = []
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            K = np.array([[-1.0 if label else 1.0]])
            if outputs > 1:
                K = np.delete(np.eye(outputs), label, axis=0) - np.eye(outputs)[label]
            found.append(Scores(rows, K, np.full((rows.size, len(K)), margin)))
        return found

    def count(self, y: NDArray[Any], outputs: int) -> int:
        return len(y)


class CrossEntropy(Classification):
    """log(1 + sum_k exp(g_k)): the cross-entropy of the softmax (of the logistic function for a scalar output)."""

    name = "cross-entropy"

    def values(self, g: Array) -> Array:
        zero = np.zeros((len(g), 1))
        return np.logaddexp.reduce(np.concatenate((zero, g), axis=1), axis=1)

    def conic(self, g: Any) -> Conic:
        import cvxpy as cp

        if g.shape[1] == 1:
            return cp.sum(cp.logistic(g)), []
        return cp.sum(cp.log_sum_exp(cp.hstack([np.zeros((g.shape[0], 1)), g]), axis=1)), []

    def smooth(self, g: torch.Tensor, width: float) -> torch.Tensor:
        import torch

        zero = g.new_zeros(len(g), 1)
        return torch.logsumexp(torch.cat((zero, g), dim=1), dim=1).sum()


class Logistic(CrossEntropy):
    """Another name of the cross-entropy, the usual one for scalar outputs."""

    name = "logistic"


class Hinge(Classification):
    """max(0, 1 + max_k g_k) (Crammer and Singer 2001)."""

    name = "hinge"

    def values(self, g: Array) -> Array:
        return np.maximum(0.0, 1.0 + g.max(axis=1))

    def conic(self, g: Any) -> Conic:
        import cvxpy as cp

        t = cp.Variable((g.shape[0], 1), nonneg=True)
        return cp.sum(t), [t @ np.ones((1, g.shape[1])) >= 1.0 + g]

    def smooth(self, g: torch.Tensor, width: float) -> torch.Tensor:
        import torch

        # width log(sum exp(./width)) is at most width log(q + 1) above the maximum
        zero = g.new_zeros(len(g), 1)
        return width * torch.logsumexp(torch.cat((zero, 1.0 + g), dim=1) / width, dim=1).sum()


LOSSES: dict[str, Loss] = {
    loss.name: loss for loss in (Square(), Absolute(), Huber(), CrossEntropy(), Logistic(), Hinge())
}


def loss_named(name: str) -> Loss:
    """Raises UsageError for a name that is none."""
    if name not in LOSSES:
        raise UsageError(f"unknown loss '{name}'; choose one of {', '.join(LOSSES)}")
    return LOSSES[name]
