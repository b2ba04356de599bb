"""A network's common form as tensors on a device: images of groups and their adjoints, for first-order methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from certlip.proofs.form import Form

Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True, eq=False)
class Classes:
    """Rows that share one number: a multiplier, or the energy of an input. `index`: (rows,), None for one row each.
    `names`: the number that each class has in the form.
    """

    names: Tensor
    index: Tensor | None

    @staticmethod
    def of(index: np.ndarray, device: torch.device) -> Classes:
        """Rows with equal entries belong together; the classes are numbered in the order of the entries."""
        values, inverse = np.unique(index, return_inverse=True)
        alone = len(values) == len(index) and bool((inverse == np.arange(len(index))).all())
        names = torch.as_tensor(values, device=device)
        return Classes(names, None if alone else torch.as_tensor(inverse.reshape(-1), device=device))

    @property
    def count(self) -> int:
        return len(self.names)

    def sums(self, rows: Tensor) -> Tensor:
        """One sum per class of a vector over rows."""
        return rows if self.index is None else rows.new_zeros(self.count).index_add_(0, self.index, rows)

    def spread(self, values: Tensor) -> Tensor:
        """Each row's value of its class, shaped to scale arrays (F, rows, r)."""
        return (values if self.index is None else values[self.index])[None, :, None]

    def first(self, spread: Tensor) -> Tensor:
        """The values of the classes from what `spread` made of them."""
        rows = spread[0, :, 0]
        return rows if self.index is None else rows.new_empty(self.count).index_copy_(0, self.index, rows)

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """<left, right> per class, over frequencies and columns."""
        return self.sums((left * right).sum((0, 2)))


class Network:
    """`Form` on a device. Values of group k have shape (F_k, n_k, r): r columns, the vectors of a low-rank matrix."""

    def __init__(self, form: Form, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self.form = form
        self.hidden = form.hidden
        self.sizes, self.frequencies = form.sizes, form.frequencies
        self.maps: list[dict[int, Tensor]] = [
            {source: self.tensor(ball.mid) for source, ball in maps.items()} for maps in form.maps
        ]
        self.folds = {pair: self._fold(fold) for pair, fold in form.folds.items()}
        self.low, self.high = [self.tensor(a) for a in form.low], [self.tensor(b) for b in form.high]
        self.middle = [((a + b) / 2)[:, None] for a, b in zip(self.low, self.high, strict=True)]
        self.radius = [((b - a) / 2)[:, None] for a, b in zip(self.low, self.high, strict=True)]
        self.variables = [torch.as_tensor(index, device=self.device) for index in form.variables]
        self.classes = [Classes.of(index, self.device) for index in form.variables]

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.require(array, np.float64, ["C", "W"]), device=self.device)

    def _fold(self, fold: np.ndarray) -> Tensor | None:
        """None where each frequency reads the one of the same number."""
        if fold.shape[1] == 1 and (fold[:, 0] == np.arange(len(fold))).all():
            return None
        return torch.as_tensor(np.ascontiguousarray(fold), device=self.device)

    def image(self, group: int, values: Sequence[Tensor]) -> Tensor:
        """v_group (or the output, for group L + 1) from the values of earlier groups."""
        total: Tensor | None = None
        for source, weight in self.maps[group - 1].items():
            fold = self.folds[group, source]
            if fold is None:
                part = weight[:, :, 0] @ values[source]
            else:  # (F, n, P, m) and (F, P, m, r)
                part = weight.flatten(2) @ values[source][fold].flatten(1, 2)
            total = part if total is None else total + part
        if total is None:
            return torch.zeros(
                self.frequencies[group], self.sizes[group], values[0].shape[-1], dtype=torch.float64, device=self.device
            )
        return total

    def pull(self, group: int, gradient: Tensor, gradients: list[Tensor | None]) -> None:
        """Add the adjoint image of `gradient`, with respect to v_group, to the gradients of its sources."""
        for source, weight in self.maps[group - 1].items():
            fold = self.folds[group, source]
            if fold is None:
                part = weight[:, :, 0].mT @ gradient
            else:
                phases = (weight.flatten(2).mT @ gradient).unflatten(1, weight.shape[2:])
                part = torch.empty(
                    self.frequencies[source], *phases.shape[2:], dtype=torch.float64, device=self.device
                )
                part[fold.flatten()] = phases.flatten(0, 1)
            known = gradients[source]
            gradients[source] = part if known is None else known + part


def pairing(folds: Mapping[tuple[int, int], np.ndarray], upper: int, lower: int, source: int) -> np.ndarray:
    """Which frequencies of `lower` belong to each frequency of `upper`, both reading `source`: (F_upper, P)."""
    owner = np.empty(folds[upper, source].size, dtype=np.intp)
    owner[folds[upper, source]] = np.arange(len(folds[upper, source]))[:, None]
    belongs = owner[folds[lower, source][:, 0]]
    order = np.argsort(belongs, kind="stable")
    return order.reshape(len(folds[upper, source]), -1)
