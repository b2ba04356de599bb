"""LipSDP's condition M >= 0, decided in exact arithmetic; see `certlip.proofs.lipsdp` for M and for what it implies.

For each frequency of the coarsest group, M over all groups that fold onto it is written down as one symmetric matrix
of integers: rows and columns are scaled by powers of two (a congruence), entries are cut to multiples of 2^-60, what is
cut off and the radii of the maps are added up along rows, and `exact_definite` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.proofs.exact_form import Maps
from certlip.proofs.form import Form, Index
from certlip.rigor.exact_definite import is_positive_semidefinite, powers_of_two
from certlip.rigor.exact_numbers import Exact, NotExact, concatenate
from certlip.rigor.rounding import Array

_BATCH_ENTRIES = 1 << 24
MOST_COORDINATES = 5000
"""Inputs and neurons (at one frequency) that a proof may have: its integers fill about 3 GB."""


def require_size(coordinates: int) -> None:
    """Raises NotExact for a condition of more coordinates than a proof may have."""
    if coordinates > MOST_COORDINATES:
        raise NotExact(f"{coordinates} inputs and neurons exceed the limit of {MOST_COORDINATES} for exact proofs")


@np.errstate(all="ignore")  # scales are floats that only need to be powers of two
def is_feasible(form: Form, maps: Maps, metric: Array, multipliers: Array, weights: Array) -> bool:
    """True only if M >= 0 for every network in the maps' balls; weights: D for each row of the output.

    metric, multipliers and weights are finite and not negative. Raises NotExact where numbers are out of range.
    """
    layout = _Layout.of(form, maps)
    step = max(1, _BATCH_ENTRIES // max(layout.order, 1) ** 2)
    for start in range(0, form.frequencies[-1], step):
        batch = np.arange(start, min(start + step, form.frequencies[-1]))
        matrix = _Matrix(form, layout, maps, metric, multipliers, weights, batch)
        if not is_positive_semidefinite(matrix.entries, matrix.radii):
            return False
    return True


@dataclass(frozen=True, eq=False)
class _Layout:
    """members[k]: (F, P_k), the frequencies of group k that fold onto each of the coarsest. place[k]: (F_k,), where a
    frequency stands among them. starts[k]: the first coordinate of group k; order: how many there are."""

    members: tuple[Index, ...]
    place: tuple[Index, ...]
    starts: tuple[int, ...]
    order: int

    @staticmethod
    def of(form: Form, maps: Maps) -> _Layout:
        groups = len(form.sizes)
        roots: list[Index | None] = [None] * (groups - 1) + [np.arange(form.frequencies[-1])]
        for k in range(groups - 1, 0, -1):
            for s in maps[k - 1]:
                root, fold = roots[k], form.folds.get((k, s), np.zeros((1, 1), dtype=np.intp))
                if root is None:
                    continue  # read by nothing that counts
                found = np.full(form.frequencies[s], -1)
                found[fold] = root[:, None]
                known = roots[s]
                if found.min() < 0 or (known is not None and not np.array_equal(known, found)):
                    raise NotExact("frequencies of the form are not nested")
                roots[s] = found
        members, place, starts, order = [], [], [], 0
        for root, size in zip(roots[:-1], form.sizes, strict=False):
            own = np.zeros((form.frequencies[-1], 0), dtype=np.intp)
            if root is not None:
                own = np.argsort(root, kind="stable").reshape(form.frequencies[-1], -1)
            where = np.zeros(own.size, dtype=np.intp)
            where[own] = np.arange(own.shape[1])
            members.append(own)
            place.append(where)
            starts.append(order)
            order += own.shape[1] * size
        return _Layout(tuple(members), tuple(place), tuple(starts), order)

    def rows(self, k: int, size: int) -> slice:
        return slice(self.starts[k], self.starts[k] + self.members[k].shape[1] * size)


class _Matrix:
    """M at a batch of frequencies: entries (F, n, n) and sums of radii along rows (F, n), counts of 2^-60."""

    def __init__(self, form: Form, layout: _Layout, maps: Maps, metric: Array, T: Array, D: Array, batch: Index):
        self._form, self._layout, self._maps, self._batch = form, layout, maps, batch
        shape = (len(batch), layout.order, layout.order)
        self.entries, self.radii = np.zeros(shape, dtype=np.int64), np.zeros(shape[:2], dtype=np.int64)
        diagonal = np.zeros(layout.order)
        diagonal[layout.rows(0, form.sizes[0])] = np.tile(metric[form.metric_index], layout.members[0].shape[1])
        for k in range(1, form.hidden + 1):
            own = 2.0 * T[form.variables[k - 1]]
            diagonal[layout.rows(k, form.sizes[k])] = np.tile(own, layout.members[k].shape[1])
        bends = [2.0 * T[form.variables[k]] * form.low[k] * form.high[k] for k in range(form.hidden)] + [-D]
        self._scale = powers_of_two(self._sizes(diagonal, bends))
        exponents = 2 * (np.frexp(self._scale)[1] - 1)
        scaled = np.ldexp(diagonal, exponents)
        if not np.array_equal(np.ldexp(scaled, -exponents), diagonal):
            raise NotExact("an entry of the condition leaves the range of floats")
        mid, rad = Exact.of(scaled).grid()
        self.entries[:, np.arange(layout.order), np.arange(layout.order)] += mid
        self.radii += rad
        for k in range(1, form.hidden + 2):
            for columns, V in self._rows_of(k):
                scaled = V * Exact.of(self._scale[columns])
                if k > form.hidden:
                    self._add_square(columns, scaled, Exact.of(np.tile(-D, self._phases(k))))
                    continue
                rows, phases = layout.rows(k, form.sizes[k]), self._phases(k)
                low, high = (Exact.of(np.tile(side[k - 1], phases)) for side in (form.low, form.high))
                weight = Exact.of(np.tile(T[form.variables[k - 1]], phases))
                bend = low * high * weight * Exact.of(2.0)
                if bend.mid or bend.rad:
                    self._add_square(columns, scaled, bend)
                left = (low + high) * weight * Exact.of(self._scale[rows])
                coupling = -(left.map(lambda array: array[:, None]) * scaled)
                self._add_coupling(np.arange(rows.start, rows.stop), columns, coupling)

    def _phases(self, k: int) -> int:
        return 1 if k == len(self._layout.members) else self._layout.members[k].shape[1]

    def _rows_of(self, k: int) -> Iterator[tuple[Index, Exact]]:
        """The coordinates that v_k (or the output) reads, and its matrix (F, P_k n_k, coordinates); nothing if none."""
        form, layout = self._form, self._layout
        own = self._batch[:, None] if k == len(layout.members) else layout.members[k][self._batch]
        parts, columns = [], []
        if not own.size:
            return
        for s, block in sorted(self._maps[k - 1].items()):
            fold = form.folds.get((k, s), np.zeros((1, 1), dtype=np.intp))
            target = layout.place[s][fold[own]]  # (F, P_k, P)
            width = layout.members[s].shape[1]

            parts.append(block.map(_spread(own, target, width)))
            columns.append(np.arange(layout.starts[s], layout.starts[s] + width * form.sizes[s]))
        if parts:
            yield np.concatenate(columns), concatenate(parts, -1)

    def _sizes(self, diagonal: Array, bends: list[Array]) -> Array:
        """What the terms of each diagonal entry add up to, in floats."""
        total = diagonal.copy()
        for k, bend in enumerate(bends, 1):
            if bend.any():
                for columns, V in self._rows_of(k):
                    squares = np.square(V.near()) * np.abs(np.tile(bend, self._phases(k)))[:, None]
                    total[columns] += squares.sum(-2).max(0)
        return total

    def _add_square(self, columns: Index, scaled: Exact, weight: Exact) -> None:
        """Add scaled' diag(weight) scaled."""
        weighed = scaled * weight.map(lambda array: array[:, None])
        square = weighed.map(lambda array: array.swapaxes(-1, -2)) @ scaled
        # what was cut off on the way need not be the same on both sides of the diagonal
        mid, rad = square.map(lambda array: np.tril(array) + np.tril(array, -1).swapaxes(-1, -2)).grid()
        self.entries[:, columns[:, None], columns] += mid
        self.radii[:, columns] += rad.sum(-1)
        self._require_room()

    def _add_coupling(self, rows: Index, columns: Index, block: Exact) -> None:
        """Add a block beside the diagonal, and its transpose."""
        mid, rad = block.grid()
        self.entries[:, rows[:, None], columns] += mid
        self.entries[:, columns[:, None], rows] += mid.swapaxes(-1, -2)
        self.radii[:, rows] += rad.sum(-1)
        self.radii[:, columns] += rad.sum(-2)
        self._require_room()

    def _require_room(self) -> None:
        if int(np.abs(self.entries).max(initial=0)) >= 1 << 61 or int(self.radii.max(initial=0)) >= 1 << 61:
            raise NotExact("an entry of the scaled condition is too large")


def _spread(own: Index, target: Index, width: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From (F_k, n_k, P, n_s) to (F, P_k n_k, width n_s): the frequencies `own` of the rows, each with the frequencies
    of the source that it reads at the places `target` among `width`."""

    def spread(array: NDArray[Any]) -> NDArray[Any]:
        chosen = np.moveaxis(array[own], 3, 2)  # (F, P_k, P, n_k, n_s)
        full = np.zeros((*own.shape, width, *chosen.shape[3:]), dtype=array.dtype)
        np.put_along_axis(full, target[..., None, None], chosen, 2)
        return np.moveaxis(full, 3, 2).reshape(len(own), -1, width * array.shape[3])

    return spread
