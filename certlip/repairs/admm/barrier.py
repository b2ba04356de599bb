"""A barrier method for the weights nearest to a target under the matrix inequality: every iterate is feasible.

    minimise  F(x) = (r/2) sum_ij |E_ij|^2 / l_{i-1,j}^2 + m rho/rho_0   subject to  S(x) > 0,

E_ij the columns of ``E_i = (W_i - Z_i) l_{i-1}`` (see `lmi`): the first sum is ``|W - Z|^2``. The method follows
minimisers of ``F - tau log det S`` as tau falls. Where the multipliers stay (l = 1) this is convex, and F is at most
``tau`` times the order of S above its least value (Boyd and Vandenberghe 2004, section 11.2); else it is a local
minimum. The Newton systems ``D + tau A*(S^-1 A(.) S^-1)``, with the Gauss-Newton matrix D of F, are solved by conjugate
gradients preconditioned with their Kronecker part, never written down: layers of 50, 50 and 10 neurons have 3000
unknowns. What it returns has ``S(x) > 0`` in floating point and nothing more is claimed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from certlip.repairs.admm.lmi import Lmi
from certlip.solvers.problem import Array

_FASTER = 0.1
"""What tau falls by, from one centre to the next."""

_CENTRED = 1.0
"""The squared Newton decrement over tau at which the next centre is aimed at."""

_FORCING, _MOST_PRODUCTS, _MOST_STEPS = 0.1, 200, 25
"""The largest relative residual of a Newton system; products for it; Newton steps for a centre."""


@dataclass(frozen=True, eq=False)
class Distance:
    """``F`` for ``r = weight`` and ``m = price``."""

    lmi: Lmi
    weight: float
    price: float = 0.0

    def value(self, x: Array) -> float:
        weights, _, rho = self.lmi.point(x)
        squares = sum(float(np.sum((W - Z) ** 2)) for W, Z in zip(weights, self.lmi.base, strict=True))
        return 0.5 * self.weight * squares + self.price * rho * self.lmi.free_rho

    def gradient(self, x: Array) -> Array:
        E, factors = self._split(x)
        parts = [self.weight * e / s**2 for e, s in zip(E, factors, strict=True)]
        if self.lmi.joint:
            parts += [-self.weight * np.sum(e**2, 0) / s**3 for e, s in zip(E[1:], factors[1:], strict=True)]
        return self._joined(parts, self.price)

    def curvature(self, x: Array) -> tuple[Callable[[Array], Array], list[Array]]:
        """``D`` as a product, and its diagonal: a row for the columns of each ``E_i``, vectors for the ``l_i``."""
        E, factors = self._split(x)

        def product(v: Array) -> Array:
            moved, eased = self._split(v, 0.0)
            slips = [(d - e / s * c) / s for e, s, d, c in zip(E, factors, moved, eased, strict=True)]
            parts = [self.weight * slip / s for slip, s in zip(slips, factors, strict=True)]
            if self.lmi.joint:
                triples = list(zip(E, factors, slips, strict=True))[1:]
                parts += [-self.weight * np.sum(e * slip, 0) / s**2 for e, s, slip in triples]
            return self._joined(parts, 0.0)

        diagonal = [self.weight / s**2 for s in factors]
        if self.lmi.joint:
            diagonal += [self.weight * np.sum(e**2, 0) / s**4 for e, s in zip(E[1:], factors[1:], strict=True)]
        return product, diagonal

    def _split(self, x: Array, still: float = 1.0) -> tuple[list[Array], list[Array]]:
        """``E_i`` and the factors on their columns, ``still`` where these do not move."""
        parts, base = self.lmi.parts(x), self.lmi.base
        count = len(base)
        factors = [np.full(Z.shape[1], still) for Z in base]
        if self.lmi.joint:
            factors[1:] = parts[count : 2 * count - 1]
        return parts[:count], factors

    def _joined(self, parts: list[Array], last: float) -> Array:
        return np.concatenate([*(np.ravel(part) for part in parts), np.full(int(self.lmi.free_rho), last)])


def minimise(cost: Distance, start: Array, *, gap: float = 1e-3, deadline: float = math.inf) -> Array:
    """``x`` with ``S(x) > 0`` and ``F(x)`` within ``gap * F(start)`` of an optimum, or what was reached in time.

    Raises ``ValueError`` unless ``S(start) > 0``.
    """
    x, factor = start, factorised(cost.lmi.matrix(start))
    if factor is None:
        raise ValueError("the start does not satisfy the matrix inequality strictly")
    scale = cost.value(start)
    tau, forcing = scale / cost.lmi.order, min(_FORCING, math.sqrt(gap))
    while tau > 0:
        x, factor = _centred(cost, x, factor, tau, forcing, deadline)
        if tau * cost.lmi.order <= gap * scale or _late(deadline):
            break
        tau *= _FASTER
    return x


def factorised(S: Array) -> Array | None:
    """The lower Cholesky factor, None where there is none."""
    factor, failed = lapack.dpotrf(S, lower=1, clean=1)
    return None if failed or not np.isfinite(factor[-1, -1]) else factor


def _centred(
    cost: Distance, x: Array, factor: Array, tau: float, forcing: float, deadline: float
) -> tuple[Array, Array]:
    """Newton's method for ``F - tau log det S``, with steps that stay inside."""
    lmi = cost.lmi
    value = cost.value(x) + tau * _barrier(lmi, x, factor)
    for _ in range(_MOST_STEPS):
        if _late(deadline):
            break
        P = _inverse(factor)
        gradient = cost.gradient(x) + tau * (lmi.normalising(x)[1] - lmi.adjoint(P))
        bent, diagonal = cost.curvature(x)

        def hessian(v: Array, P: Array = P, bent: Callable[[Array], Array] = bent) -> Array:
            product: Array = bent(v) + tau * lmi.adjoint(P @ lmi.change(v) @ P)
            return product

        step = _conjugate_gradients(hessian, -gradient, lmi.preconditioner(P, diagonal, tau), forcing, deadline)
        decrement = -float(gradient @ step)
        if decrement <= _CENTRED * tau:
            break
        # inside the Dikin ellipsoid, of radius one, every point is feasible
        length = 1.0 if decrement <= 0.25 * tau else min(1.0, 4.0 / np.sqrt(decrement / tau))
        while length > 1e-12:
            candidate = x + length * step
            inside = factorised(lmi.matrix(candidate))
            if inside is not None:
                new = cost.value(candidate) + tau * _barrier(lmi, candidate, inside)
                if new <= value - 0.1 * length * decrement:
                    break
            length *= 0.5
        else:
            break
        x, factor, value = candidate, inside, new
    return x, factor


def _conjugate_gradients(
    product: Callable[[Array], Array],
    right: Array,
    solve: Callable[[Array], Array],
    forcing: float,
    deadline: float,
) -> Array:
    """An approximate solution that is a descent direction whenever it stops."""
    x, r = np.zeros_like(right), right.copy()
    y = solve(r)
    p, rho = y, float(r @ y)
    goal = forcing**2 * rho
    for _ in range(_MOST_PRODUCTS):
        if rho <= goal or _late(deadline):
            break
        q = product(p)
        curvature = float(p @ q)
        if curvature <= 0:
            break
        x = x + rho / curvature * p
        r = r - rho / curvature * q
        y = solve(r)
        rho, before = float(r @ y), rho
        p = y + rho / before * p
    return x if x.any() else y


def _inverse(factor: Array) -> Array:
    lower = np.tril(lapack.dpotri(factor, lower=1)[0])
    full: Array = lower + np.tril(lower, -1).T
    return full


def _barrier(lmi: Lmi, x: Array, factor: Array) -> float:
    return lmi.normalising(x)[0] - 2.0 * float(np.sum(np.log(np.diag(factor))))


def _late(deadline: float) -> bool:
    return time.monotonic() >= deadline
