"""The sweep against explicit matrices, the ascent against finite differences, both against each other and cvxpy."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from certlip.proofs.lipsdp import prove_form
from certlip.solvers.conic import solve as conic
from certlip.solvers.first_order import Search
from certlip.solvers.frequencies import owners, restricted
from certlip.solvers.low_rank import VectorNetwork
from certlip.solvers.network import Network
from certlip.solvers.problem import LipSDP
from certlip.solvers.sweep import Infeasible, Sweep
from tests.random_forms import explicit, random_form

LEVELS = ((4, 4, 2, 1), (1, 1, 1, 1), (8, 4, 4, 2), (3, 3, 3, 3))
SLOPES = (None, (-1.0, 1.0), (0.1, 1.0), (-1.0, 0.0))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("slopes", SLOPES)
def test_sweep_is_the_largest_eigenvalue_of_the_explicit_matrices(levels, slopes):
    draw = np.random.default_rng(7)
    feasible = 0
    for trial in range(12):
        form = random_form(draw, levels, slopes=slopes)
        sweep = Sweep(Network(form))
        metric = draw.uniform(0.5, 2.0, form.sizes[0])
        multipliers, value = sweep.closed_form(torch.as_tensor(metric))
        if trial:
            multipliers = multipliers * torch.as_tensor(draw.uniform(0.7, 1.3, len(multipliers)))
        kernel, C = explicit(form, metric, multipliers.numpy())
        if np.linalg.eigvalsh(kernel)[0] <= 1e-9:
            with pytest.raises(Infeasible):
                sweep.bound(torch.as_tensor(metric), multipliers)
            continue
        feasible += 1
        wanted = np.linalg.eigvalsh(C @ np.linalg.solve(kernel, C.T))[-1]
        assert sweep.bound(torch.as_tensor(metric), multipliers) == pytest.approx(wanted, rel=1e-8)
        if not trial:
            assert value == pytest.approx(wanted, rel=1e-8)
    assert feasible


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("levels", LEVELS)
def test_gradient_of_the_ascent(norm, levels):
    draw = np.random.default_rng(3)
    vectors = VectorNetwork([random_form(draw, levels, slopes=(-1.0, 1.0))], norm, [3])
    point = vectors.start()
    direction = torch.as_tensor(draw.standard_normal(len(point)))
    step = 1e-6
    difference = (vectors.loss(point + step * direction)[0] - vectors.loss(point - step * direction)[0]) / (2 * step)
    assert float(vectors.loss(point)[1] @ direction) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_multipliers_prove_the_value_of_the_signals(levels, slopes, norm):
    """Weak duality holds both ways: signals below, proved multipliers above, and they meet."""
    form = random_form(np.random.default_rng(11), levels, slopes=slopes)
    found = Search([form], norm).run(1e-7, None)
    assert found.status == "solved"
    assert found.lower <= found.objective * (1 + 1e-9)
    proved = prove_form(form, norm, found.metric * (1 + 1e-6), found.multipliers * (1 + 1e-6))
    assert proved**2 == pytest.approx(found.lower, rel=1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slopes", SLOPES)
def test_agrees_with_a_general_conic_solver(norm, slopes):
    form = random_form(np.random.default_rng(5), (1, 1, 1), (3, 4, 4), slopes=slopes, share=False)
    found = Search([form], norm).run(1e-8, None)
    V = np.zeros((8, 11))
    V[:4, :3] = form.maps[0][0].mid[0, :, 0]
    C = np.zeros((2, 11))
    for k, (target, rows) in enumerate(((V, slice(4, 8)), (C, slice(0, 2)))):
        for source, ball in form.maps[k + 1].items():
            start = (0, 3, 7)[source]
            target[rows, start : start + ball.shape[3]] = ball.mid[0, :, 0]
    reference = conic(LipSDP(V, C, 3, np.concatenate(form.low), np.concatenate(form.high), (4, 4), norm))
    assert found.objective == pytest.approx(reference.objective, rel=1e-5)


def test_every_signal_is_feasible_and_gains_what_it_claims():
    """The lower bound by its definition: (z - a v).(b v - z) >= 0 per multiplier, |x| = 1, the gain |C z|^2."""
    form = random_form(np.random.default_rng(2), (4, 4, 2, 1), slopes=(-1.0, 1.0))
    vectors = VectorNetwork([form], "l2", [3])
    draw = torch.as_tensor(np.random.default_rng(1).standard_normal(len(vectors.start())))
    point = vectors.multipliers(vectors.start() + 0.5 * draw)
    signals = [signal.numpy() for signal in point.signals[0]]
    assert (signals[0] ** 2).sum() == pytest.approx(1.0)

    def image(group):
        total = np.zeros((form.frequencies[group], form.sizes[group], 3))
        for source, ball in form.maps[group - 1].items():
            for f in range(form.frequencies[group]):
                for p, other in enumerate(form.folds[group, source][f]):
                    total[f] += ball.mid[f, :, p] @ signals[source][other]
        return total

    for k in range(1, form.hidden + 1):
        v, z = image(k), signals[k]
        a, b = form.low[k - 1][:, None], form.high[k - 1][:, None]
        slack = ((z - a * v) * (b * v - z)).sum((0, 2))
        size = ((z * z) + (v * v)).sum()
        assert (np.bincount(form.variables[k - 1], slack, form.neurons) >= -1e-12 * size).all()
    assert (image(form.hidden + 1) ** 2).sum() == pytest.approx(point.value)


def test_restricted_forms_keep_what_folds_onto_the_kept_frequencies():
    form = random_form(np.random.default_rng(4), (8, 4, 4, 2))
    keep = np.array([False, True])
    smaller, kept = restricted(form, keep)
    assert [len(rows) for rows in kept] == list(smaller.frequencies) == [4, 2, 2, 1, 1]
    for owner, rows in zip(owners(form), kept, strict=True):
        assert (owner[rows] == 1).all()
    signals = [
        np.random.default_rng(k).standard_normal((f, n, 2))
        for k, (f, n) in enumerate(zip(form.frequencies, form.sizes, strict=True))
    ]
    whole = Network(form).image(4, [torch.as_tensor(signal) for signal in signals[:4]])
    part = Network(smaller).image(
        4, [torch.as_tensor(signal[rows]) for signal, rows in zip(signals[:4], kept, strict=False)]
    )
    assert torch.allclose(whole[1:], part)


def test_a_deadline_returns_what_there_is():
    form = random_form(np.random.default_rng(6), (1, 1, 1, 1, 1), (20, 40, 40, 40, 40), share=False)
    found = Search([form], "l2").run(1e-12, time.monotonic() - 1.0)
    assert found.status == "deadline"
    assert np.isfinite(prove_form(form, "l2", found.metric * 1.001, found.multipliers * 1.001))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the ascent runs on the CPU here")
def test_gpu_agrees_with_cpu():
    form = random_form(np.random.default_rng(8), (4, 4, 2, 1))
    on_cpu, on_gpu = (Search([form], "l2", device).run(1e-8, None) for device in ("cpu", "cuda"))
    assert on_gpu.objective == pytest.approx(on_cpu.objective, rel=1e-7)
