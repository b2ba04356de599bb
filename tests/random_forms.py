"""Random forms with several levels of frequencies, and the matrices they stand for, assembled entry by entry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from certlip.proofs.form import Form
from certlip.rigor.ball import Ball


def random_form(
    draw: np.random.Generator,
    levels: tuple[int, ...] = (4, 4, 2, 1),
    sizes: tuple[int, ...] = (2, 3, 2, 3),
    outputs: int = 2,
    slopes: tuple[float, float] | None = None,
    share: bool = True,
) -> Form:
    """Groups with these numbers of frequencies and rows; every group reads the one before it and perhaps others.

    slopes: each row's pair is drawn from this interval, (0, 1) for all where it is None; on several levels they are
    widened by 0. share: rows of a group share
    multipliers (and slopes). The output has the frequencies of the last group.
    """
    frequencies, rows = (*levels, levels[-1]), (*sizes, outputs)
    ladder = sorted(set(frequencies), reverse=True)
    steps = {
        (a, b): draw.permutation(np.repeat(np.arange(b), a // b)) for a, b in pairwise(ladder)
    }

    def owner(fine: int, coarse: int) -> np.ndarray:
        index = np.arange(fine)
        while fine != coarse:
            following = ladder[ladder.index(fine) + 1]
            index, fine = steps[fine, following][index], following
        return index

    maps, folds = [], {}
    for k in range(1, len(rows)):
        sources = {}
        for s in range(k):
            if s == k - 1 or draw.random() < 0.4:
                belongs = owner(frequencies[s], frequencies[k])
                folds[k, s] = np.stack([draw.permutation(np.flatnonzero(belongs == f)) for f in range(frequencies[k])])
                shape = (frequencies[k], rows[k], frequencies[s] // frequencies[k], rows[s])
                sources[s] = Ball.exact(draw.standard_normal(shape))
        maps.append(sources)
    variables, low, high, count = [], [], [], 0
    for size in sizes[1:]:
        own = np.maximum(np.arange(size) - size // 2, 0) if share else np.arange(size)
        pair = (
            np.sort(draw.uniform(*slopes, (2, own.max() + 1)), 0) if slopes else np.tile([[0.0], [1.0]], own.max() + 1)
        )
        if len(ladder) > 1:  # as the theorem on folded frequencies asks for
            pair = np.stack([np.minimum(pair[0], 0.0), np.maximum(pair[1], 0.0)])
        low.append(pair[0][own])
        high.append(pair[1][own])
        variables.append(count + own)
        count += int(own.max()) + 1
    metric = np.arange(sizes[0])
    return Form(
        rows,
        frequencies,
        tuple(maps),
        folds,
        tuple(low),
        tuple(high),
        tuple(variables),
        metric,
        np.ones(sizes[0]),
    )


def explicit(form: Form, metric: np.ndarray, multipliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K(P, T) = M + C'C and C over all frequencies at once, from the definition of a form."""
    ends = np.cumsum([0, *(f * n for f, n in zip(form.frequencies, form.sizes, strict=True))])
    size = ends[-2]

    def rows_of(group: int) -> np.ndarray:
        own = form.sizes[group]
        matrix = np.zeros((form.frequencies[group] * own, size))
        for source, ball in form.maps[group - 1].items():
            width = form.sizes[source]
            for f in range(form.frequencies[group]):
                for p in range(ball.shape[2]):
                    start = ends[source] + form.folds[group, source][f, p] * width
                    matrix[f * own : (f + 1) * own, start : start + width] += ball.mid[f, :, p]
        return matrix

    kernel = np.zeros((size, size))
    kernel[: ends[1], : ends[1]] = np.diag(np.tile(metric[form.metric_index], form.frequencies[0]))
    for k in range(1, form.hidden + 1):
        V = rows_of(k)
        T, a, b = (
            np.tile(array, form.frequencies[k])
            for array in (multipliers[form.variables[k - 1]], form.low[k - 1], form.high[k - 1])
        )
        E = np.zeros_like(V)
        E[:, ends[k] : ends[k + 1]] = np.eye(len(V))
        G, H = E - a[:, None] * V, E - b[:, None] * V
        kernel += G.T @ (T[:, None] * H) + H.T @ (T[:, None] * G)
    return kernel, rows_of(form.hidden + 1)
