"""The ascent of a network of vectors: few frequencies and columns first, more where they are missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from certlip.proofs.form import Form
from certlip.solvers.frequencies import owners, restricted
from certlip.solvers.lbfgs import LBFGS
from certlip.solvers.low_rank import Multipliers, VectorNetwork
from certlip.solvers.network import Tensor

_STEPS = 25
"""Steps between two looks at the energies of the frequencies."""

_NEGLIGIBLE = 1e-7
"""The share of the energy below which a frequency is left out of the search (never out of the result)."""

_COLUMNS, _MOST_COLUMNS = 10, 40
_FREQUENCY_COLUMNS, _MOST_FREQUENCY_COLUMNS = 2, 8
_FINEST = 1e-15
_RESTORED = 2
_LOCAL = 1e-3
"""A settled ascent with a larger gap than this sits on a local maximum."""


class Ascent:
    """Signals that climb. `run` until they settle, then `refine` names what else could help, until it returns False.

    tolerance: the gain of the logarithm of the squared value below which a step counts as none.
    """

    def __init__(
        self,
        stages: Sequence[Form],
        norm: str,
        device: str,
        tolerance: float,
        resume: Sequence[Sequence[Tensor]] = (),
    ):
        self._stages, self._norm, self._device = tuple(stages), norm, device
        self._tolerance = self._wanted = max(tolerance, _FINEST)
        self._columns = [min(_limits(form)[0], max(1, sum(form.sizes[:-1]))) for form in stages]
        self._kept: list[np.ndarray] | None = None  # frequencies of the first stage's groups, None for all of them
        self._restorations = _RESTORED
        vectors = self._network(self._stages)
        shapes = [[part.shape for part in stage] for stage in vectors.parts(vectors.start())]
        fits = [[part.shape for part in stage] for stage in resume] == shapes
        start = vectors.start()
        if fits:
            known = torch.cat([part.flatten() for stage in resume for part in stage])
            start = min(start, known, key=lambda point: float(vectors.loss(point)[0]))
        self._follow(vectors, start)
        self.steps, self.settled = 0, False

    def run(self, late: Callable[[], bool], due: Callable[[], bool]) -> Multipliers:
        """Climb until nothing moves (`settled`), it is too `late`, or a look at the gap is `due`; name the multipliers.

        `due` is asked between runs of steps only: a look costs as much as many of them.
        """
        while True:
            moved = self._climb.run(_STEPS, self._wanted, late)
            self.steps, self.settled = self.steps + moved.steps, moved.settled
            if moved.settled or late():
                return self._vectors.multipliers(self._climb.point)
            self._leave_out_silent()
            if due():
                return self._vectors.multipliers(self._climb.point)

    def directions(self) -> tuple[tuple[Tensor, ...], ...]:
        """Where the signals point now, by stage and group; empty while frequencies are left out."""
        if self._kept is not None:
            return ()
        return tuple(tuple(stage) for stage in self._vectors.directions(self._climb.point))

    def signals(self, point: Multipliers) -> tuple[tuple[np.ndarray, ...], ...]:
        """The signals on all frequencies, zero on those left out."""
        found = [[values.cpu().numpy() for values in stage] for stage in point.signals]
        if self._kept is not None:
            for group, rows in enumerate(self._kept[: len(found[0])]):
                whole = np.zeros((self._stages[0].frequencies[group], *found[0][group].shape[1:]))
                whole[rows] = found[0][group]
                found[0][group] = whole
        return tuple(tuple(stage) for stage in found)

    def refine(self, gap: float) -> bool:
        """Set out for a better point: smaller steps, then all frequencies again, then more columns.

        gap: how far the best multipliers are above the signals. A small one is closed from here; a large one means a
        local maximum, which only a new start leaves.
        """
        if self._wanted > _FINEST and gap < _LOCAL:
            self._wanted = max(1e-2 * self._wanted, _FINEST)
            return True
        self._wanted = self._tolerance
        if self._kept is not None and self._restorations:
            self._restorations -= 1
            kept, self._kept = self._kept, None
            self._refill(self._network(self._stages), kept)
            return True
        most = [_limits(form)[1] for form in self._stages]
        wider = [min(2 * count, limit) for count, limit in zip(self._columns, most, strict=True)]
        if wider == self._columns:
            return False
        self._columns, self._kept = wider, None if gap >= _LOCAL else self._kept
        if gap >= _LOCAL:
            self._follow(self._network(self._stages, seed=1))
        else:
            self._refill(self._network([network.form for network in self._vectors.networks], seed=1))
        return True

    def _network(self, stages: Sequence[Form], seed: int = 0) -> VectorNetwork:
        return VectorNetwork(stages, self._norm, self._columns, seed, self._device)

    def _follow(self, vectors: VectorNetwork, start: Tensor | None = None) -> None:
        self._vectors = vectors
        self._climb = LBFGS(vectors.loss, vectors.start() if start is None else start)

    def _leave_out_silent(self) -> None:
        """Once most frequencies carry next to no energy, go on without them."""
        form = self._vectors.networks[0].form
        if form.frequencies[-1] == 1:
            return
        share = np.zeros(form.frequencies[-1])
        signals = self._vectors.multipliers(self._climb.point).signals[0]
        for owner, values in zip(owners(form), signals, strict=False):
            energy = (values * values).sum((1, 2)).cpu().numpy()
            used = owner >= 0
            np.maximum.at(share, owner[used], energy[used] / max(energy.sum(), 1e-300))
        keep = share > _NEGLIGIBLE
        if 2 * keep.sum() > len(keep):
            return
        smaller, kept = restricted(form, keep)
        parts = self._vectors.parts(self._climb.point)
        parts[0] = [part[torch.as_tensor(rows, device=part.device)] for part, rows in zip(parts[0], kept, strict=False)]
        before = self._kept
        self._kept = kept if before is None else [old[rows] for old, rows in zip(before, kept, strict=True)]
        vectors = self._network((smaller, *self._stages[1:]))
        self._follow(vectors, torch.cat([part.flatten() for stage in parts for part in stage]))

    def _refill(self, vectors: VectorNetwork, kept: list[np.ndarray] | None = None) -> None:
        """Go on from the present directions where `vectors` has the same rows, from little noise where it has more."""
        present, fresh = self._vectors.parts(self._climb.point), vectors.parts(vectors.start())
        pieces = []
        for stage, (old, new) in enumerate(zip(present, fresh, strict=True)):
            for group, (part, noise) in enumerate(zip(old, new, strict=True)):
                whole = 1e-2 * part.norm() / noise.norm().clamp(min=1e-300) * noise
                rows = torch.arange(len(noise)) if kept is None or stage else torch.as_tensor(kept[group])
                whole[rows.to(part.device), :, : part.shape[-1]] = part
                pieces.append(whole.flatten())
        self._follow(vectors, torch.cat(pieces))


def _limits(form: Form) -> tuple[int, int]:
    """Columns at first and at most."""
    many = max(form.frequencies) > 1
    return (_FREQUENCY_COLUMNS, _MOST_FREQUENCY_COLUMNS) if many else (_COLUMNS, _MOST_COLUMNS)
