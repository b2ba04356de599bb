"""What a solve takes, told before it begins."""

import time
import tracemalloc

import numpy as np
import pytest
from solver_programs import random_chain

from certlip.solvers import interior_point
from certlip.solvers.cost import memory, seconds
from certlip.solvers.speed import gemm_rate


@pytest.mark.parametrize("sizes", [(10, 120, 120, 5), (30, *(30,) * 8, 3), (400, 40, 40, 3)])
def test_memory_is_not_exceeded_and_not_exaggerated(sizes):
    problem = random_chain(0, sizes)
    interior_point.solve(random_chain(0, (2, 2, 2)))  # libraries and caches
    tracemalloc.start()
    interior_point.solve(problem, want_primal=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= memory(problem) <= 1.25 * peak


def test_too_little_memory_is_said_before_anything_is_allocated():
    problem = random_chain(0, (10, 400, 400, 5))
    began = time.process_time()
    with pytest.raises(MemoryError, match=r"needs about 0\.089 GB"):
        interior_point.solve(problem, memory_limit=1e6)
    assert time.process_time() - began < 0.1
    small = random_chain(0, (2, 3, 2))
    assert interior_point.solve(small, memory_limit=memory(small)).status == "solved"


def test_time_is_foretold_within_a_factor():
    problem = random_chain(1, (10, 150, 150, 5))
    interior_point.solve(random_chain(0, (2, 2, 2)))
    began = time.process_time()
    interior_point.solve(problem)
    spent = time.process_time() - began
    assert spent / 5 < seconds(problem) < 5 * spent  # other processes share the caches
    assert seconds(random_chain(1, (10, 300, 300, 5))) > 3 * seconds(problem)


def test_the_rate_is_measured_once():
    rate = gemm_rate()
    began = time.perf_counter()
    assert gemm_rate() == rate and time.perf_counter() - began < 1e-3
    matrix = np.ones((600, 600))
    began = time.perf_counter()
    matrix @ matrix
    assert 1e8 < rate < 100 * 2 * 600**3 / (time.perf_counter() - began)
