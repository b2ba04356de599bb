"""How many BLAS threads a solver uses: small matrices lose far more than they gain by a second one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from certlip.solvers.speed import libraries

MANY_FROM = 1500
"""The order of the largest block from which all threads pay, even if another process takes a core."""


@contextmanager
def threads_for(order: int) -> Iterator[None]:
    """Limit numpy's and torch's threads to one where the largest dense block is below `MANY_FROM`."""
    import torch

    before = torch.get_num_threads()
    count = 1 if order < MANY_FROM else min(before, os.cpu_count() or 1)
    with libraries().limit(limits=count, user_api="blas"):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

