"""Forms with fewer frequencies: at an optimum only a few of them carry energy, and the others cost time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from certlip.proofs.form import Form
from certlip.rigor.ball import Ball

Index = NDArray[np.intp]


def owners(form: Form) -> list[Index]:
    """For every group the frequency of the output that each of its frequencies ends in (-1: it ends nowhere)."""
    last = form.hidden + 1
    owner = [np.full(count, -1, dtype=np.intp) for count in form.frequencies]
    owner[last] = np.arange(form.frequencies[last])
    for group in range(last, 0, -1):
        for source in form.maps[group - 1]:
            owner[source][form.folds[group, source]] = owner[group][:, None]
    return owner


def restricted(form: Form, keep: NDArray[np.bool_]) -> tuple[Form, list[Index]]:
    """The form on the output frequencies `keep` alone, and for every group the frequencies that it still has."""
    kept = [np.flatnonzero((owner >= 0) & keep[np.maximum(owner, 0)]) for owner in owners(form)]
    place = []
    for count, rows in zip(form.frequencies, kept, strict=True):
        position = np.full(count, -1, dtype=np.intp)
        position[rows] = np.arange(len(rows))
        place.append(position)
    maps = tuple(
        {source: Ball(ball.mid[kept[k]], np.zeros(())) for source, ball in sources.items()}
        for k, sources in enumerate(form.maps, start=1)
    )
    folds = {(k, s): place[s][fold[kept[k]]] for (k, s), fold in form.folds.items()}
    return replace(form, frequencies=tuple(len(rows) for rows in kept), maps=maps, folds=folds), kept
