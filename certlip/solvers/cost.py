"""What a full solve by the interior-point method takes, known before it begins."""

from __future__ import annotations

from certlip.solvers.problem import LipSDP, Mode, strips
from certlip.solvers.speed import gemm_rate

# Solves to a gap of 1e-8 on one core of 4.2e10 flops/s that others used as well (times vary by a third):
# n the order of M after the reductions, L hidden layers, w the entries of V in its strips.
#
#     network                     n    L       w   iterations   seconds   seconds by the model below
#     64-32-10 digits            64    1    1024           13      0.03     0.02
#     10-50-50-5                110    2    3000           11      0.04     0.04
#     10-200-200-5              410    2   42000           13      0.56     0.56
#     10-500-500-5             1010    2  255000           19      8.0      7.7
#     10-1000-5                1010    1   10000           14      3.9      4.7
#     8 layers of 64            512    7   28672           13      0.90     0.99
#     16 layers of 64          1024   15   61440           22      8.0      7.4
#     20 layers of 50          1050   20   50000           27      8.6      8.5
#     32 layers of 16           512   31    7936           30      2.0      1.6
#     100 layers of 10         1010  100   10000           54     15.6     17.5
#     residual, 8 blocks of 64  576    8  147456           29      3.6      2.1
ITERATIONS = 9.0, 0.42, 0.0074  # constant, per layer, per unit of n
FLOPS = 6e7, 1e7, 4.8e3, 6.2, 28.0  # per iteration: constant, times L, n^2 (memory traffic), n^3, n w


def order(problem: LipSDP) -> int:
    """At least the order of ``M`` after the reductions, and equal to it where no weights are redundant."""
    n0, neurons = problem.inputs, problem.neurons
    return neurons + (n0 if problem.norm == "linf" else min(n0, neurons + problem.C.shape[0]))


def memory(problem: LipSDP) -> int:
    """Bytes that ``interior_point.solve`` allocates at its peak, to a quarter."""
    n = order(problem)
    return 8 * max(17 * n * n, 5 * problem.size * problem.size // 2)


def flops(problem: LipSDP) -> float:
    """Floating-point operations of a full solve, with memory traffic counted as the products it is worth."""
    n, layers = order(problem), len(problem.layers)
    weights = sum(block.size for _, _, block in strips(problem))
    iterations = sum(a * b for a, b in zip(ITERATIONS, (1.0, layers, n), strict=True))
    return iterations * sum(a * b for a, b in zip(FLOPS, (1.0, layers, n**2, n**3, n * weights), strict=True))


def seconds(problem: LipSDP, mode: Mode = "neuron") -> float:
    """Time of a full solve on this machine, mostly right to a third: a residual network took twice as long.

    ``mode`` makes no difference: one multiplier per layer saves the factorisation of the Schur complement, a
    tenth of the work.
    """
    return flops(problem) / gemm_rate()
