"""The constants and inequalities of floating-point rounding that every proof rests on.

Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed.), chapters 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

UNIT = 2.0**-53
"""Unit roundoff u of binary64."""

TINY = 2.0**-1022
"""Smallest normal binary64 number; far above any absolute error that one underflowing operation makes."""


@dataclass(frozen=True)
class Precision:
    """A class of executions: any summation order, fused multiply-add allowed, gradual underflow.

    unit: unit roundoff of the arithmetic (0 for the exact real-arithmetic network).
    tiny: bounds the absolute error of an operation that underflows: the smallest normal number, so that subnormal
        numbers may be flushed to zero; for binary16 the smallest subnormal one, so that they may not.
    largest: the largest finite number.
    library_units: a transcendental function f evaluated at v may be off by
        `library_units * unit * (1 + |f(v)|)`; a stated assumption about libraries, not a theorem.
        Measured on 800 000 points in onnxruntime 1.31 and torch 2.13: at most 2.3 units in binary32 for exp, tanh,
        sigmoid, softplus, ELU, SELU and erf, at most 4.0 in binary64 for exp, tanh, sigmoid, ELU and erf. torch's own
        binary64 softplus and SELU lie outside, so the import check may refuse them.
    """

    name: str
    unit: float
    tiny: float
    largest: float
    library_units: float = 16.0

    def gamma(self, terms: int) -> float:
        """gamma_k = k u / (1 - k u) for this arithmetic together with certlip's own binary64 evaluation."""
        return gamma(terms, self.unit + UNIT)


REAL = Precision("real", 0.0, 0.0, float("inf"))
BINARY64 = Precision("binary64", UNIT, TINY, (2.0 - 2.0**-52) * 2.0**1023)
BINARY32 = Precision("binary32", 2.0**-24, 2.0**-126, (2.0 - 2.0**-23) * 2.0**127)
BINARY16 = Precision("binary16", 2.0**-11, 2.0**-24, 65504.0)
BFLOAT16 = Precision("bfloat16", 2.0**-8, 2.0**-126, (2.0 - 2.0**-7) * 2.0**127)
PRECISIONS = {precision.name: precision for precision in (REAL, BINARY64, BINARY32, BINARY16, BFLOAT16)}
"""By the name that certificates use."""


def gamma(terms: int, unit: float = UNIT) -> float:
    """Upper bound on gamma_k = k u / (1 - k u); infinite once k u reaches one half (no bound is claimed)."""
    product = terms * unit
    return float("inf") if product >= 0.5 else up(product / (1.0 - product) * (1.0 + 8 * UNIT))


def up(x: Any) -> Any:
    """The next float above x (elementwise for arrays): turns a correctly rounded result into an upper bound."""
    result = np.nextafter(x, np.inf)
    return result if isinstance(x, np.ndarray) else float(result)


def down(x: Any) -> Any:
    """The next float below x (elementwise for arrays)."""
    result = np.nextafter(x, -np.inf)
    return result if isinstance(x, np.ndarray) else float(result)


def product_up(left: float, right: float) -> float:
    """Upper bound on a product of non-negative floats, exact where a factor is one or zero."""
    product = left * right
    return product if left in (0.0, 1.0) or right in (0.0, 1.0) else up(product)


def inflate(x: Any, roundings: int) -> Any:
    """Upper bound on a non-negative expression whose float evaluation x used at most `roundings` nested roundings.

    Every rounding of a sum or product of non-negative numbers loses a factor of at least 1 - u, hence
    exact <= x / (1 - u)^k <= x (1 + 2 k u) for k u <= 1/4; underflow adds less than `TINY` per rounding.
    """
    if roundings * UNIT > 0.25:
        return np.full_like(x, np.inf) if isinstance(x, np.ndarray) else float("inf")
    return up(x * (1.0 + 2.0 * (roundings + 2) * UNIT) + (roundings + 1) * TINY)
