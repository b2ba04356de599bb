"""What a first-order search takes, known before it begins.

The constants are fitted to thirty steps each (CPU time, one core of 4.2e10 flops/s that others used as well):

    network                 groups     entries  parameters   ms per step   ms by the model
    random 10-50-50-5            3        3250        1100           1.2               1.4
    random 10-500-500-5          3      257500       10100           3.6               4.4
    random 10-1500-1500-5        3     2272500       30100          17.9              20.1
    mlp_chain_w64_d8             8       32768        5120           2.6               3.2
    mlp_chain_w64_d32           32      131072       20480           8.1              11.1
    fc_resnet18                  9      529055       12960           7.7               7.7
    digits_cnn3_seed0            3      567295       16000           7.4               7.3
    cnn_chain_ch8_d4             4      431103       53888           9.8              10.6
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from certlip.proofs.form import Form
from certlip.solvers.speed import gemm_rate

STEPS = 400
"""Typical steps until a gap of 1e-6: 50 on shallow networks, 150 to 600 on most, 2000 in chains of 64 layers."""

SECONDS_PER_STEP, SECONDS_PER_GROUP, SECONDS_PER_PARAMETER = 6e-4, 2e-4, 1.6e-7
"""What a step costs at least, per group (twenty tensor operations), and per parameter (twenty remembered steps)."""

THIN = 0.154
"""The share of the rate of square products that products with ten columns reach: they are bound by memory."""

SWEEPS = 30
"""Factorisations in a search: the closed form, the shares tried at each look at the gap, the proof."""


def search(stages: Sequence[Form]) -> float:
    """Seconds of `first_order.Search.run`, its factorisations and the proof included."""
    flops = groups = parameters = 0.0
    for form in stages:
        columns = 10 if max(form.frequencies) == 1 else 2
        flops += 4.0 * columns * sum(prod(ball.shape) for maps in form.maps for ball in maps.values())
        groups += form.hidden + 1
        parameters += columns * sum(f * n for f, n in zip(form.frequencies[:-1], form.sizes[:-1], strict=True))
    step = SECONDS_PER_STEP + SECONDS_PER_GROUP * groups + SECONDS_PER_PARAMETER * parameters
    return STEPS * (step + flops / (THIN * gemm_rate())) + SWEEPS * sweep(stages)


def sweep(stages: Sequence[Form]) -> float:
    """Seconds of one factorisation of the whole network."""
    flops = groups = 0.0
    for form in stages:
        flops += sum(count * size**3 for size, count in zip(form.sizes[1:], form.frequencies[1:], strict=True))
        for group, maps in enumerate(form.maps, 1):
            flops += sum(2.0 * form.sizes[group] * prod(ball.shape) for ball in maps.values())
        groups += form.hidden + 1
    return SECONDS_PER_GROUP * groups + flops / gemm_rate()
