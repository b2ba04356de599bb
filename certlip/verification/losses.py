"""What a search for an unsafe point minimises: how far the clauses of a query are from holding.

Functions are divided by how much they vary, so that those of one clause compare. A clause holds where its `gap`, the
largest of its functions, is at most zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

KINDS = 3
"""Losses of one clause: the largest function, a smooth maximum, the sum of those above a small negative margin."""

_SHARPNESS = 10.0
_MARGIN = 0.02
_FAR = 1e30


class Clauses:
    """The clauses of a query as indices into rows g of shape (N, functions)."""

    def __init__(self, clauses: tuple[tuple[int, ...], ...], device: str):
        import torch

        width = max(map(len, clauses))
        padded = [(*clause, *(clause[-1],) * (width - len(clause))) for clause in clauses]
        present = [[k < len(clause) for k in range(width)] for clause in clauses]
        self.index = torch.tensor(padded, device=device)
        self.present = torch.tensor(present, device=device)
        self.scale: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def calibrate(self, g: torch.Tensor) -> None:
        """Take the unit of each function from a sample of its values."""
        import torch

        spread = torch.nan_to_num(g, nan=0.0, posinf=_FAR, neginf=-_FAR).std(0, correction=0)
        largest = spread.max() if spread.numel() else spread.sum()
        floor = 1e-3 * largest if largest > 0 else largest + 1.0
        self.scale = spread.clamp(min=floor)

    def gaps(self, g: torch.Tensor) -> torch.Tensor:
        """(N, clauses): where an entry is at most zero the clause holds."""
        return self._units(g)[:, self.index].amax(-1)

    def loss(self, g: torch.Tensor, clause: torch.Tensor, kind: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(N,): for each row the loss of its kind for its clause, weight: (N, functions), how much each one counts."""
        import torch

        index = self.index[clause]
        z = self._units(g).gather(1, index) * weight.gather(1, index)
        if index.shape[1] == 1:
            return z[:, 0]
        present = self.present[clause]
        largest = z.amax(1)
        smooth = torch.logsumexp(_SHARPNESS * z.masked_fill(~present, -_FAR), 1) / _SHARPNESS
        missing = ((z + _MARGIN).clamp(min=0.0) * present).sum(1)
        deep = torch.where(missing > 0, missing, largest)
        return torch.where(kind == 0, largest, torch.where(kind == 1, smooth, deep))

    def _units(self, g: torch.Tensor) -> torch.Tensor:
        import torch

        z = torch.nan_to_num(g, nan=_FAR, posinf=_FAR, neginf=-_FAR)
        return z if self.scale is None else z / self.scale
