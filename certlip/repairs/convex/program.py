"""What a restriction is: variables, a bound that is linear in them, and convex majorants of what the network computes.

The bound. With T = diag > 0 the LipSDP of f = W2 relu(W1 x + b1) + b2 reads [[rho I, -W1'T], [-T W1, 2T - W2'W2]] >= 0.
By a Schur complement for W2'W2, a division by L = sqrt(rho) and a change of signs, with T for T / L from here on, that
is

    [[L I, W1'T, 0], [T W1, 2 T, W2'], [0, W2, L I]] >= 0                        linear in (W2, T, L), W1 fixed
    [[L I, W1', 0], [W1, 2 Lam, Lam W2'], [0, W2 Lam, L I]] >= 0                 linear in (W1, Lam, L), W2 fixed

where the second one is the first between two factors diag(I, Lam, I), Lam = T^-1. One is the other with the layers in
exchanged roles. Their smallest L is the LipSDP value itself, not its square.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from certlip.repairs.convex.losses import Rows
from certlip.repairs.convex.shallow import Shallow
from certlip.solvers.problem import Array


class Program(ABC):
    """A convex restriction around a network `start` with training inputs: never below the truth, equal at the start.

    `constraints` (cvxpy) imply that the network of the variables has a LipSDP value of at most the variable
    `lipschitz`; at the start they hold with equality of the two.
    """

    lipschitz: Any
    constraints: list[Any]

    @abstractmethod
    def majorant(self, rows: Rows, K: Array) -> Any:
        """A convex cvxpy expression (n, q), at least f(x[rows]) K' where the constraints hold, equal at the start."""

    @abstractmethod
    def solution(self) -> Shallow | None:
        """The network of the variables' values; None where the solver left none."""

    @abstractmethod
    def place(self, net: Shallow) -> None:
        """Set the variables to a network of the same sizes: tests look at the majorants there."""


def bound_holds(L: Any, moving: Any, multipliers: Any, fixed: Array) -> Any:
    """The LMI [[L I, M', 0], [M, 2 D, D F], [0, F'D, L I]] >= 0, D = diag(multipliers), as a cvxpy constraint.

    moving: M, an expression (m, p); fixed: F, an array (m, q). F enters through F F' alone: the triangle of F' = Q R is
    enough where F is wider than tall.
    """
    import cvxpy as cp

    F = fixed
    if fixed.shape[1] > fixed.shape[0]:
        F = np.linalg.qr(fixed.T)[1].T
    D, (p, q) = cp.diag(multipliers), (moving.shape[1], F.shape[1])
    matrix = cp.bmat(
        [
            [L * np.eye(p), moving.T, np.zeros((p, q))],
            [moving, 2 * D, D @ F],
            [np.zeros((q, p)), F.T @ D, L * np.eye(q)],
        ]
    )
    return (matrix + matrix.T) / 2 >> 0


def values_of(*variables: Any) -> list[Array] | None:
    """The variables' values as finite arrays; None if one is missing."""
    found = [variable.value for variable in variables]
    if any(value is None or not np.isfinite(value).all() for value in found):
        return None
    return [np.asarray(value, dtype=np.float64) for value in found]
