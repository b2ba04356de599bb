"""How fast this machine multiplies matrices, for cost models that are measured and not guessed."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

ORDER = 384
SECONDS, PRODUCTS = 0.02, 8


@cache
def libraries() -> ThreadpoolController:
    """The loaded BLAS libraries; looking for them takes milliseconds, hence once per process."""
    return ThreadpoolController()


@cache
def gemm_rate() -> float:
    """Floating-point operations per second of a product of double precision matrices, on one thread.

    The best of what fits into 20 ms after a first product that wakes the library, and of eight at least: on a busy
    machine the first ones are interrupted, and methods would be chosen by its load. Measured once per process.
    """
    matrix = np.random.default_rng(0).standard_normal((ORDER, ORDER))
    out = np.empty_like(matrix)
    best = np.inf
    with libraries().limit(limits=1, user_api="blas"):
        np.matmul(matrix, matrix, out=out)
        done, end = 0, time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < end or done < PRODUCTS:
            np.matmul(matrix, matrix, out=out)
            best, done = min(best, time.perf_counter() - began), done + 1
    return 2.0 * ORDER**3 / best
