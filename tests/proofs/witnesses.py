"""Forms, their matrix M from its definition, and witnesses found without certlip's own solvers."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from certlip.proofs.form import Form
from certlip.rigor.ball import Ball


def dense_form(V, C, a, b, inputs: int, layers) -> Form:
    """A form with one frequency from whole matrices."""
    starts = np.cumsum((0, inputs, *layers))
    groups = [slice(starts[k], starts[k + 1]) for k in range(len(layers) + 1)]
    rows = [np.asarray(V, dtype=float)[starts[k] - inputs : starts[k + 1] - inputs] for k in range(1, len(groups))]
    maps = tuple(
        {s: Ball.exact(block[:, group][None, :, None]) for s, group in enumerate(groups) if block[:, group].any()}
        for block in [*rows, np.asarray(C, dtype=float)]
    )
    slopes = [[np.asarray(x, dtype=float)[g.start - inputs : g.stop - inputs] for g in groups[1:]] for x in (a, b)]
    return Form(
        (inputs, *layers, len(C)), (1,) * (len(layers) + 2), maps,
        {(k, s): np.zeros((1, 1), dtype=int) for k, blocks in enumerate(maps, 1) for s in blocks},
        tuple(slopes[0]), tuple(slopes[1]), tuple(np.arange(g.start - inputs, g.stop - inputs) for g in groups[1:]),
        np.arange(inputs), np.ones(inputs),
    )  # fmt: skip


def lmi(form: Form, metric, multipliers, cut=None) -> np.ndarray:
    """M over all frequencies of all groups, in floats, for a form without radii."""
    starts = np.cumsum((0, *np.multiply(form.sizes, form.frequencies)[:-1]))

    def rows(k):
        """The rows of v_k (or the output) as functions of all coordinates, frequency by frequency."""
        matrix = np.zeros((form.frequencies[k], form.sizes[k], starts[-1]))
        for s, block in form.maps[k - 1].items():
            for f in range(form.frequencies[k]):
                for p, g in enumerate(form.folds[k, s][f]):
                    start = starts[s] + g * form.sizes[s]
                    matrix[f, :, start : start + form.sizes[s]] = block.mid[f, :, p, :]
        return matrix.reshape(-1, starts[-1])

    M = np.zeros((starts[-1], starts[-1]))
    M[: starts[1], : starts[1]] = np.diag(np.tile(metric[form.metric_index], form.frequencies[0]))
    for k in range(1, form.hidden + 1):
        a, b, T = (
            np.tile(x, form.frequencies[k])
            for x in (form.low[k - 1], form.high[k - 1], multipliers[form.variables[k - 1]])
        )
        E, V = np.eye(starts[-1])[starts[k] : starts[k + 1]], rows(k)
        coupling = E.T @ (((a + b) * T)[:, None] * V)
        M += 2 * E.T @ (T[:, None] * E) - coupling - coupling.T + 2 * V.T @ ((a * b * T)[:, None] * V)
    C = rows(form.hidden + 1)
    D = np.ones(len(C)) if cut is None else np.tile(cut[form.output_index], form.frequencies[-1])
    return M - C.T @ (D[:, None] * C)


def closed_form(form: Form, slack: float = 1.05):
    """Feasible (metric, multipliers) of a dense form, one multiplier per layer, swept from the output to the input.

    With the later part fixed, 2 T > K, its Schur complement, is what a layer needs; slopes around zero need no more
    than that, the factor 1 + |m| / r serves the others.
    """
    n = form.sizes[0]
    starts = np.cumsum(form.sizes[:-1])
    T = np.zeros(form.neurons)
    for k in range(form.hidden, 0, -1):
        own, later = slice(starts[k - 1], starts[k]), slice(starts[k], None)
        M = lmi(form, np.zeros(n), T)
        K = M[own, later] @ np.linalg.solve(M[later, later], M[later, own]) - M[own, own]
        a, b = form.low[k - 1], form.high[k - 1]
        need = max(np.linalg.eigvalsh(K)[-1], 1e-9) * (1 + np.abs(a + b) / np.maximum(b - a, 1e-3)).max() / 2
        T[own.start - n : own.stop - n] = slack * need
    M = lmi(form, np.zeros(n), T)
    K = M[:n, n:] @ np.linalg.solve(M[n:, n:], M[n:, :n]) - M[:n, :n]
    return np.full(n, slack * max(np.linalg.eigvalsh(K)[-1], 1e-9)), T


def optimum(form: Form, norm: str):
    """(metric, multipliers) from Clarabel, moved towards the closed form until M, scaled, is definite in floats."""
    n = form.sizes[0]
    constant = lmi(form, np.zeros(n), np.zeros(form.neurons))
    directions = [lmi(form, unit[:n], unit[n:]) - constant for unit in np.eye(n + form.neurons)]
    y = cp.Variable(n + form.neurons, nonneg=True)
    M = constant + sum(y[i] * direction for i, direction in enumerate(directions))
    cost = cp.max(y[:n]) if norm == "l2" else cp.sum(y[:n])
    cp.Problem(cp.Minimize(cost), [(M + M.T) / 2 >> 0]).solve(solver="CLARABEL")
    metric, multipliers = np.maximum(y.value[:n], 0), np.maximum(y.value[n:], 0)
    safe = closed_form(form)
    for share in 10.0 ** np.arange(-10.0, 0.5, 0.5):
        inside = metric + share * (safe[0] - metric), multipliers + share * (safe[1] - multipliers)
        M = lmi(form, *inside)
        scale = 1 / np.sqrt(np.maximum(M.diagonal(), 1e-300))
        if np.linalg.eigvalsh(M * scale * scale[:, None])[0] > 1e-12:
            break
    return inside
