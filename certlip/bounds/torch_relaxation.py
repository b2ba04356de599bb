"""The backward pass of `certlip.proofs.relaxation.backward` in torch, with gradients in slopes and multipliers.

For searches: on a CPU or a GPU, in float32, rounding ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.bounds.torch_adjoint import adjoint
from certlip.graph import Affine, Pointwise
from certlip.ops import Add, Concat, Relu
from certlip.proofs.relaxation.frame import Frame
from certlip.proofs.relaxation.lines import lines
from certlip.rigor.rounding import Array

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Parameters:
    """Of a batch of rows, one column for each unstable entry of each activation, as `Relaxation.columns` says: `slopes`
    of lower lines in [0, 1] (for ReLU), `multipliers` >= 0 of splits and `states`, the sign of the split, 0 for none.
    """

    slopes: torch.Tensor
    multipliers: torch.Tensor
    states: torch.Tensor

    def take(self, rows: Any) -> Parameters:
        """Some of the rows."""
        return Parameters(self.slopes[rows], self.multipliers[rows], self.states[rows])


class Relaxation:
    """One query on its whole domain, ready for many rows. The ranges are those of a proved frame with one cell."""

    def __init__(self, frame: Frame, device: str = "cpu", dtype: str = "float32"):
        import torch

        self.frame, self.graph, self.device = frame, frame.graph, device
        self.kind = getattr(torch, dtype)
        self._adjoint: dict[int, Any] = {}
        self._bias: dict[int, torch.Tensor] = {}
        self.low: dict[int, torch.Tensor] = {}
        self.high: dict[int, torch.Tensor] = {}
        self.entries: dict[int, np.ndarray] = {}  # flat indices of unstable entries, by position
        self.thresholds: dict[int, Array] = {}
        self._thresholds: dict[int, torch.Tensor] = {}
        self._index: dict[int, torch.Tensor] = {}
        self._fixed: dict[int, tuple[torch.Tensor, ...]] = {}
        for position, node in enumerate(self.graph.nodes):
            operator = node.operator
            if isinstance(operator, Affine):
                self._adjoint[position] = adjoint(operator, self.constant)
                bias = np.broadcast_to(operator.bias.mid, operator.codomain)
                self._bias[position] = self.constant(bias.reshape(-1))
            elif isinstance(operator, Pointwise):
                value = node.inputs[0]
                low, high = frame.low[value][0], frame.high[value][0]
                a, b = operator.slopes_on(low[None], high[None])
                self.entries[position] = np.flatnonzero((a < b).reshape(-1))
                self._index[position] = self.constant(self.entries[position])
                self.low[position] = self.constant(low.reshape(-1)[self.entries[position]])
                self.high[position] = self.constant(high.reshape(-1)[self.entries[position]])
                inner = threshold(low.reshape(-1), high.reshape(-1))[self.entries[position]]
                self.thresholds[position] = inner
                self._thresholds[position] = self.constant(inner)
                known = frame.lines[position]
                shape = (1, low.size)
                parts = (known.low_slope, known.low_offset, known.high_slope, known.high_offset)
                full = (np.broadcast_to(part, (1, *low.shape)).reshape(shape) for part in parts)
                self._fixed[position] = tuple(self.constant(part) for part in full)
        self.columns: dict[int, slice] = {}
        for position in self.positions:
            before = sum(len(self.entries[other]) for other in self.columns)
            self.columns[position] = slice(before, before + len(self.entries[position]))
        self.width = sum(len(self.entries[position]) for position in self.positions)
        self._middle = self.constant((0.5 * frame.low[0] + 0.5 * frame.high[0])[0])
        self._radius = self.constant((0.5 * frame.high[0] - 0.5 * frame.low[0])[0])
        self._center = None if frame.center is None else self.constant(frame.center)

    def constant(self, array: Any) -> torch.Tensor:
        import torch

        array = np.ascontiguousarray(array)
        kind = torch.int64 if array.dtype.kind == "i" else self.kind
        return torch.tensor(array, dtype=kind, device=self.device)

    @property
    def positions(self) -> list[int]:
        """Pointwise nodes that are not linear everywhere on the domain."""
        return [position for position, entries in self.entries.items() if len(entries)]

    def start(self, rows: int) -> Parameters:
        """The frame's own slopes, no splits."""
        import torch

        empty = torch.zeros((rows, self.width), dtype=self.kind, device=self.device)
        known = [self._fixed[position][0][:, self._index[position]] for position in self.positions]
        slopes = torch.cat(known, 1).expand(rows, -1).clone() if known else empty.clone()
        return Parameters(slopes, empty.clone(), empty.clone())

    def bound(
        self, value: int, coefficients: torch.Tensor, given: Parameters, losses: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Estimates of the least <c, v> for each row (rows, *shape of the value). losses: (rows, columns), filled
        with what the line of each unstable entry loses."""
        pending = {value: coefficients}
        total = coefficients.new_zeros(len(coefficients))
        for v in range(value, 0, -1):
            c = pending.pop(v, None)
            if c is None:
                continue
            node = self.graph.nodes[v - 1]
            operator = node.operator
            if isinstance(operator, Affine):
                total = total + c.reshape(len(c), -1) @ self._bias[v - 1]
                parts = [self._adjoint[v - 1](c)]
            elif isinstance(operator, Pointwise):
                part, lost = self._pointwise(v - 1, operator, c.reshape(len(c), -1), given, losses)
                total = total + lost
                parts = [part.reshape(len(c), *self.graph.shapes[node.inputs[0]])]
            elif isinstance(operator, Add):
                parts = [c] * len(node.inputs)
            elif isinstance(operator, Concat):
                sizes = [self.graph.shapes[i][operator.axis] for i in node.inputs]
                parts = list(c.split(sizes, operator.axis + 1))
            else:
                raise TypeError(f"{type(operator).__name__} has no linear relaxation")
            for i, part in zip(node.inputs, parts, strict=True):
                pending[i] = pending[i] + part if i in pending else part
        c = pending.get(0)
        return total if c is None else total + self._least(c)

    def _least(self, c: torch.Tensor) -> torch.Tensor:
        import torch

        flat = c.reshape(len(c), -1)
        box = flat @ self._middle.reshape(-1) - flat.abs() @ self._radius.reshape(-1)
        if self._center is None:
            return box
        ball = flat @ self._center.reshape(-1) - self.frame.radius * torch.linalg.vector_norm(flat, dim=1)
        return torch.maximum(box, ball)

    def _pointwise(
        self,
        position: int,
        operator: Pointwise,
        c: torch.Tensor,
        given: Parameters,
        losses: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients before the activation, and what the offsets add."""
        low_slope, low_offset, high_slope, high_offset = self._fixed[position]
        if position not in self.columns:
            up, down = c.clamp(min=0), c.clamp(max=0)
            offset = (up * low_offset + down * high_offset).sum(1)
            return up * low_slope + down * high_slope, offset
        index, columns = self._index[position], self.columns[position]
        some = c.index_select(1, index)
        up, down = some.clamp(min=0), some.clamp(max=0)
        own = self._lines(position, operator, given)
        before = up * own[0] + down * own[2]
        offset = (up * own[1] + down * own[3]).sum(1)
        if losses is not None:
            losses[:, columns] = self._lost(position, operator, some, own).detach()
        cut = given.multipliers[:, columns] * given.states[:, columns]
        before = before - cut
        offset = offset + cut @ self._thresholds[position]
        # entries that are linear everywhere keep the frame's lines, which are one line for them
        whole = c * low_slope
        stable_offset = (c * low_offset).index_fill(1, index, 0.0).sum(1)
        return whole.index_copy(1, index, before), offset + stable_offset

    def _lost(
        self, position: int, operator: Pointwise, c: torch.Tensor, own: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """|c| times how far the line in use is from the activation: at the kink for an upper line of ReLU, at the
        nearer end for a lower one; for other activations how far the two lines are apart in the middle."""
        import torch

        low, high = self.low[position], self.high[position]
        if isinstance(operator, Relu):
            below = torch.minimum(-own[0] * low, (1.0 - own[0]) * high)
            return c.abs() * torch.where(c < 0, own[3], below)
        middle = 0.5 * (low + high)
        return c.abs() * ((own[2] - own[0]) * middle + own[3] - own[1]).clamp(min=0.0)

    def _lines(self, position: int, operator: Pointwise, given: Parameters) -> tuple[torch.Tensor, ...]:
        """Lines of the unstable entries, (rows, entries), on their side of the splits."""
        import torch

        columns = self.columns[position]
        state = given.states[:, columns]
        low, high = self.low[position], self.high[position]
        if isinstance(operator, Relu):
            free = (state == 0).to(state.dtype)
            active = (state > 0).to(state.dtype)
            chord = high / (high - low)
            slope = given.slopes[:, columns].clamp(0.0, 1.0) * free + active
            return slope, torch.zeros_like(low), chord * free + active, -low * chord * free
        shape = self.graph.shapes[position + 1]
        flat = self.entries[position]
        signs = state.cpu().numpy()
        value = self.graph.nodes[position].inputs[0]
        lower, upper = (
            np.repeat(end[value].reshape(1, -1), len(signs), 0).astype(np.float64)
            for end in (self.frame.low, self.frame.high)
        )
        inner = self.thresholds[position]
        lower[:, flat] = np.where(signs > 0, np.maximum(lower[:, flat], inner), lower[:, flat])
        upper[:, flat] = np.where(signs < 0, np.minimum(upper[:, flat], inner), upper[:, flat])
        found = lines(operator, lower.reshape(-1, *shape), upper.reshape(-1, *shape))
        parts = found.low_slope, found.low_offset, found.high_slope, found.high_offset
        whole = (np.broadcast_to(part, (len(signs), *shape)).reshape(len(signs), -1) for part in parts)
        return tuple(self.constant(part[:, flat]) for part in whole)


def threshold(low: Array, high: Array) -> Array:
    """Where an activation on [low, high] is split: at 0 if that is inside, else in the middle."""
    return np.where((low < 0) & (high > 0), 0.0, 0.5 * low + 0.5 * high)

