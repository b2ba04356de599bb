"""What a first-order search takes, known before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from certlip.proofs.form import Form
from certlip.solvers.speed import gemm_rate

STEPS = 250
"""Typical steps until a gap of 1e-7: 90 to 400 on random and trained networks of 100 to 10000 neurons."""

SECONDS_PER_GROUP = 1e-4
"""What a step costs per group however small it is: about twenty tensor operations."""

THIN = 0.15
"""The share of the rate of square products that products with ten columns reach: they are bound by memory."""

SWEEPS = 12
"""Factorisations in a search: the closed form, the shares tried at each look at the gap, the proof."""


def search(stages: Sequence[Form]) -> float:
    """Seconds of `first_order.Search.run`, its factorisations and the proof included."""
    passes = groups = 0.0
    for form in stages:
        columns = 10 if max(form.frequencies) == 1 else 2
        entries = sum(prod(ball.shape) for maps in form.maps for ball in maps.values())
        passes += 6.0 * columns * entries
        groups += form.hidden + 1
    steps = STEPS * (passes / (THIN * gemm_rate()) + SECONDS_PER_GROUP * groups)
    return steps + SWEEPS * sweep(stages)


def sweep(stages: Sequence[Form]) -> float:
    """Seconds of one factorisation of the whole network."""
    flops = 0.0
    for form in stages:
        flops += sum(3.0 * count * size**3 for size, count in zip(form.sizes[1:], form.frequencies[1:], strict=True))
        for group, maps in enumerate(form.maps, 1):
            flops += sum(2.0 * form.sizes[group] * prod(ball.shape) for ball in maps.values())
    return flops / gemm_rate()
