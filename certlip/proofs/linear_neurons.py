"""Neurons whose slopes leave no choice are linear maps: substituted, they need no multiplier."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from certlip.proofs.form import Form, Index
from certlip.rigor.ball import Ball


def without_linear(form: Form) -> Form:
    """The dense form without the neurons with low = high = a, whose differences are Dz = a Dv, written into the maps.

    Its network moves exactly as the given one. Groups that are left empty disappear; the multipliers are those of the
    neurons that stay, in their order. Raises ValueError for a form with several frequencies.
    """
    if not form.is_dense:
        raise ValueError("neurons are substituted in dense forms only")
    kept: list[Index] = [np.arange(form.sizes[0])]
    kept += [np.flatnonzero(low < high) for low, high in zip(form.low, form.high, strict=True)]
    # v_k (all rows), and at last f, in terms of the input and of neurons that stay
    rows: list[dict[int, Ball]] = [{}]
    for maps in form.maps:
        row: dict[int, Ball] = {}
        for s, block in maps.items():
            matrix = block.map(lambda array: array[0, :, 0])
            if kept[s].size:
                _add(row, s, matrix[:, kept[s]])
            slope = form.low[s - 1] if s else np.zeros(form.sizes[0])
            linear = np.setdiff1d(np.flatnonzero(slope), kept[s])
            if linear.size:
                scaled = matrix[:, linear] * Ball.exact(slope[linear])
                for t, through in rows[s].items():
                    _add(row, t, scaled @ through[linear])
        rows.append(row)
    groups = [k for k, chosen in enumerate(kept) if chosen.size or k == 0]
    place = {k: position for position, k in enumerate(groups)}
    chosen_rows = [*((k, kept[k]) for k in groups[1:]), (len(kept), np.arange(form.sizes[-1]))]
    blocks = tuple({place[s]: ball[chosen][None, :, None] for s, ball in rows[k].items()} for k, chosen in chosen_rows)
    sizes = tuple(kept[k].size for k in groups)
    ends = np.cumsum(sizes) - sizes[0]
    return Form(
        sizes=(*sizes, form.sizes[-1]),
        frequencies=(1,) * (len(groups) + 1),
        maps=blocks,
        folds={(k, s): np.zeros((1, 1), dtype=np.intp) for k, row in enumerate(blocks, 1) for s in row},
        low=tuple(form.low[k - 1][kept[k]] for k in groups[1:]),
        high=tuple(form.high[k - 1][kept[k]] for k in groups[1:]),
        variables=tuple(np.arange(start, stop) for start, stop in pairwise(ends)),
        metric_index=form.metric_index,
        metric_count=form.metric_count,
        output_index=form.output_index,
    )


def _add(row: dict[int, Ball], source: int, block: Ball) -> None:
    row[source] = row[source] + block if source in row else block
