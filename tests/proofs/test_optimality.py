"""What signals say about the best multipliers: never above a proved bound, and equal to it at an optimum."""

from __future__ import annotations

import numpy as np
import pytest

from certlip.proofs.lipsdp import prove_form
from certlip.proofs.optimality import least_bound
from certlip.proofs.torus import prove_stages
from certlip.proofs.torus_form import torus_stages
from certlip.solvers.first_order import Search
from tests.random_forms import explicit, random_form

LEVELS = ((1, 1, 1), (4, 4, 2), (3, 3, 3))


def arbitrary(form, draw, columns=3):
    shapes = list(zip(form.frequencies, form.sizes, strict=True))[:-1]
    return [draw.standard_normal((f, n, columns)) for f, n in shapes]


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("levels", LEVELS)
def test_signals_meet_the_multipliers_at_an_optimum(levels, norm):
    form = random_form(np.random.default_rng(1), levels, (2, 3, 3), slopes=(-1.0, 1.0))
    found = Search([form], norm).run(1e-8, None)
    proved = prove_form(form, norm, found.metric * (1 + 1e-8), found.multipliers * (1 + 1e-8))
    least = least_bound([form], norm, found.signals)
    assert least <= proved
    assert least == pytest.approx(proved, rel=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("levels", LEVELS)
def test_no_signals_exceed_what_multipliers_prove(levels, norm):
    """Weak duality against the definition: the smallest eigenvalue of explicit matrices, not the solver's word."""
    draw = np.random.default_rng(2)
    form = random_form(draw, levels, (2, 3, 3), slopes=(-1.0, 1.0))
    found = Search([form], norm).run(1e-8, None)
    kernel, C = explicit(form, found.metric, found.multipliers)
    assert np.linalg.eigvalsh(kernel - C.T @ C)[0] >= -1e-9 * np.abs(kernel).max()
    for _ in range(30):
        assert 0.0 <= least_bound([form], norm, [arbitrary(form, draw)]) <= found.objective**0.5 * (1 + 1e-9)


def test_signals_that_are_no_numbers_show_nothing():
    form = random_form(np.random.default_rng(3), (1, 1), (2, 3))
    signals = arbitrary(form, np.random.default_rng(0))
    signals[1][0, 0, 0] = np.nan
    assert least_bound([form], "l2", [signals]) == 0.0
    assert least_bound([form], "l2", [[np.zeros_like(part) for part in signals]]) == 0.0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_two_stages(norm):
    from certlip.graph import Graph, Node
    from certlip.ops import Conv, Dense, Reindex, Relu
    from certlip.rigor.ball import Ball

    draw = np.random.default_rng(4)
    zero = Ball.exact(np.zeros(()))
    conv = Conv(
        Ball.exact(draw.standard_normal((3, 2, 3, 3))), zero, np.zeros(()), (2, 5, 5), (1, 1), ((1, 1),) * 2, (1, 1)
    )
    operators = [conv, Relu(), Reindex.through(conv.codomain, lambda a: a.reshape(1, -1))]
    operators += [
        Dense.of(draw.standard_normal((4, 75)), lead=(1,)),
        Relu(),
        Dense.of(draw.standard_normal((2, 4)), lead=(1,)),
    ]
    graph = Graph(conv.domain, tuple(Node(operator, (i,)) for i, operator in enumerate(operators)))
    stages = torus_stages(graph)
    assert len(stages) == 2
    found = Search(stages, norm).run(1e-7, None)
    grown = {"metric": found.metric, "multipliers": found.multipliers, "cut": found.cut}
    factors = {"metric": 1 + 2e-7, "multipliers": 1 + 1.5e-7, "cut": 1 + 1e-7}
    proved = prove_stages(stages, norm, {name: array * factors[name] for name, array in grown.items()})
    least = least_bound(stages, norm, found.signals)
    assert 0 < least <= found.objective**0.5 * (1 + 1e-9)
    assert least == pytest.approx(found.objective**0.5, rel=1e-5)
    assert np.isinf(proved) or proved >= least
