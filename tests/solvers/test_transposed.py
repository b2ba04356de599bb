"""A network and its transpose admit the same bounds, with inverse multipliers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from certlip.proofs.lipsdp import prove_form
from certlip.solvers.first_order import Search
from certlip.solvers.network import Network
from certlip.solvers.sweep import Infeasible, Sweep
from certlip.solvers.transposed import backwards, transposed
from tests.random_forms import explicit, random_form

LAYERS = (1, 1, 1, 1), (4, 5, 6, 3)
SLOPES = (None, (-1.0, 1.0), (0.1, 1.0), (-2.0, -0.5))


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("seed", range(4))
def test_inverse_multipliers_prove_the_same_number(slopes, seed):
    """For any multipliers, not only those of a closed form, on graphs whose groups read several others."""
    draw = np.random.default_rng(seed)
    form = random_form(draw, *LAYERS, slopes=slopes, share=False)
    whole = Sweep(Network(transposed(form)))
    found, rho = whole.closed_form(torch.ones(2, dtype=torch.float64))
    found = found * torch.as_tensor(draw.uniform(0.8, 1.0, len(found)))
    try:
        rho = whole.bound(torch.ones(2, dtype=torch.float64), found)
    except Infeasible:
        pytest.skip("these multipliers prove nothing of the transpose")
    radius = (np.concatenate(form.high) - np.concatenate(form.low)) / 2
    T = 1.0 / (4.0 * rho * radius**2 * found.numpy())
    kernel, C = explicit(form, np.ones(4), T)
    assert np.linalg.eigvalsh(kernel)[0] > 0
    assert np.linalg.eigvalsh(C @ np.linalg.solve(kernel, C.T))[-1] == pytest.approx(rho, rel=1e-8)
    proved = prove_form(form, "l2", np.full(4, rho * (1 + 1e-7)), T * rho)
    assert proved == pytest.approx(rho**0.5, rel=1e-6)


def test_transposing_twice_changes_nothing():
    form = random_form(np.random.default_rng(3), *LAYERS, slopes=(-1.0, 1.0), share=False)
    twice = transposed(transposed(form))
    assert twice.sizes == form.sizes and twice.maps[2].keys() == form.maps[2].keys()
    for first, second in zip(form.maps, twice.maps, strict=True):
        assert all(np.array_equal(first[s].mid, second[s].mid) for s in first)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_smaller_closed_form_is_kept(norm):
    better = 0
    for seed in range(10):
        form = random_form(np.random.default_rng(seed), *LAYERS, share=False)
        search = Search([form], norm)
        forwards, both = search.closed_form().objective, search.closed_form_backwards()
        assert both.objective <= forwards
        better += both.objective < forwards * (1 - 1e-6)
        proved = prove_form(form, norm, both.metric * (1 + 1e-7), both.multipliers)
        assert proved**2 == pytest.approx(both.objective, rel=1e-6)
    assert better


@pytest.mark.parametrize(("slope", "share"), [(0.0, 0.5), (1.0, 0.5), (1.0, 1.0)])
def test_linear_neurons_are_no_obstacle(slope, share):
    """Local slopes fix neurons: a radius of zero, in some rows or in all."""
    form = random_form(np.random.default_rng(1), *LAYERS, slopes=(0.0, 1.0), share=False)
    for low, high in zip(form.low, form.high, strict=True):
        fixed = np.random.default_rng(2).random(len(low)) < share
        low[fixed] = high[fixed] = slope
    search = Search([form], "l2")
    search.closed_form()
    found = search.closed_form_backwards()
    assert np.isfinite(prove_form(form, "l2", found.metric * 1.001, found.multipliers))


def test_a_network_that_does_not_read_its_input_has_no_closed_form_backwards():
    form = random_form(np.random.default_rng(0), *LAYERS, share=False)
    unread = tuple({s: block for s, block in maps.items() if s} for maps in form.maps)
    with pytest.raises(Infeasible, match="constant"):
        backwards(replace(form, maps=unread))
