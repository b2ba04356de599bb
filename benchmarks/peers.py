"""Other people's solvers and tools on the same networks, each with the program in the form that suits it best.

LipSDP of a ReLU chain, every layer scaled to spectral norm 1, a wide first and a tall last layer reduced by QR, and
Q = C'C for the last layer C:

    minimise rho  subject to  M(y) = sum_k y_k A_k - Q >= 0,  y = (rho, T) >= 0            (the matrix inequality)
    maximise <Q, X>  subject to  X >= 0,  <A_0, X> = 1,  <A_k, X> <= 0 for k >= 1          (its dual)

Each A_k has the few entries of one row of one layer and is stored sparse. No peer proves its number.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from certlip.rigor.rounding import Array


class Unavailable(Exception):
    """The peer cannot run here; the message says why."""


@dataclass(frozen=True)
class Program:
    """columns: vec(A_k) as sparse columns. The bound is scale * sqrt(optimum)."""

    columns: sp.csc_matrix
    Q: Array
    scale: float

    @property
    def order(self) -> int:
        return len(self.Q)

    @property
    def variables(self) -> int:
        return self.columns.shape[1]

    @staticmethod
    def of(weights: list[Array]) -> Program:
        norms = [np.linalg.norm(weight, 2) for weight in weights]
        layers = [weight / norm for weight, norm in zip(weights, norms, strict=True)]
        if layers[0].shape[1] > layers[0].shape[0]:
            layers[0] = np.linalg.qr(layers[0].T, mode="r").T
        if layers[-1].shape[0] > layers[-1].shape[1]:
            layers[-1] = np.linalg.qr(layers[-1], mode="r")
        ends = np.cumsum([0] + [layer.shape[1] for layer in layers])
        n, inputs = int(ends[-1]), int(ends[1])
        places, values = [np.arange(inputs) * (n + 1)], [np.ones(inputs)]
        for layer, first, second in zip(layers, ends, ends[1:-1], strict=False):
            before = first + np.arange(layer.shape[1])
            for row, entries in zip(second + np.arange(len(layer)), layer, strict=True):
                places.append(np.concatenate(([row * n + row], row * n + before, before * n + row)))
                values.append(np.concatenate(([2.0], -entries, -entries)))
        starts = np.cumsum([0] + [len(place) for place in places])
        columns = sp.csc_matrix((np.concatenate(values), np.concatenate(places), starts), (n * n, len(places)))
        Q = np.zeros((n, n))
        Q[ends[-2] :, ends[-2] :] = layers[-1].T @ layers[-1]
        return Program(columns, Q, float(np.prod(norms)))


def _through_cvxpy(solver: str, **options: float) -> Callable[[list[Array]], float]:
    """The matrix inequality, one sparse affine map, so that cvxpy adds next to nothing to the solver's time."""

    def run(weights: list[Array]) -> float:
        import cvxpy as cp

        if solver not in cp.installed_solvers():
            raise Unavailable("not installed")
        program = Program.of(weights)
        y = cp.Variable(program.variables, nonneg=True)
        M = cp.reshape(program.columns @ y - program.Q.ravel(), (program.order, program.order), order="C")
        problem = cp.Problem(cp.Minimize(y[0]), [M >> 0])
        problem.solve(solver=solver, **options)
        if problem.status not in ("optimal", "optimal_inaccurate"):
            raise Unavailable(f"stopped: {problem.status}")
        return program.scale * float(np.sqrt(max(problem.value, 0.0)))

    return run


def _qics(weights: list[Array]) -> float:
    """The dual, with X as the cone variable: QICS then works on the sparse A_k directly, three times faster here."""
    if importlib.util.find_spec("qics") is None:
        raise Unavailable("not installed")
    import qics

    program = Program.of(weights)
    slack = program.variables - 1
    objective = np.concatenate((-program.Q.ravel(), np.zeros(slack)))[:, None]
    slacks = sp.vstack((sp.csr_matrix((1, slack)), sp.eye(slack)))
    constraints = sp.hstack((program.columns.T, slacks)).tocsr()
    right = np.eye(program.variables, 1)
    cones = [qics.cones.PosSemidefinite(program.order)] + [qics.cones.NonNegOrthant(slack)] * (slack > 0)
    found = qics.Solver(qics.Model(c=objective, A=constraints, b=right, cones=cones), verbose=0).solve()
    if found["sol_status"] not in ("optimal", "near_optimal"):
        raise Unavailable(f"stopped: {found['exit_status']}")
    return program.scale * float(np.sqrt(max(-found["d_obj"], 0.0)))


def _eclipse(accurate: bool) -> Callable[[list[Array]], float]:
    """eclipse-nn by its authors: ECLipsE-Fast, or ECLipsE with one semidefinite program per layer."""

    def run(weights: list[Array]) -> float:
        if importlib.util.find_spec("eclipse_nn") is None:
            raise Unavailable("not installed")
        import eclipse_nn
        import torch

        layers = [torch.from_numpy(weight) for weight in weights]
        low, high = [0] * (len(layers) - 1), [1] * (len(layers) - 1)
        if not accurate:
            return float(eclipse_nn.ECLipsE_Fast(layers, low, high))
        found, failed = eclipse_nn.ECLipsE(layers, low, high)
        if failed:
            raise Unavailable("stopped: a layer's program failed (the package then returns ECLipsE-Fast)")
        return float(found)

    return run


PEERS: dict[str, Callable[[list[Array]], float]] = {
    "Clarabel": _through_cvxpy("CLARABEL"),
    "SCS": _through_cvxpy("SCS", eps=1e-7, max_iters=10**7),
    "QICS": _qics,
    "SDPA": _through_cvxpy("SDPA"),
    "ECLipsE-Fast (eclipse-nn)": _eclipse(accurate=False),
    "ECLipsE (eclipse-nn)": _eclipse(accurate=True),
}
