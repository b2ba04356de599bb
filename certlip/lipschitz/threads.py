"""How many BLAS threads a computation gets: small matrices lose far more than they gain by a second one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

MANY_FROM = 1500
"""The order of the largest block from which all threads pay, even if another process takes a core."""


@contextmanager
def threads_for(order: int) -> Iterator[None]:
    """Limit numpy's threads, and torch's where loaded, to one unless the largest dense block has `MANY_FROM` rows.

    A limit that the caller has set (OPENBLAS_NUM_THREADS and the like) stays.
    """
    if order >= MANY_FROM:
        yield
        return
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1, user_api="blas"):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
