"""The loop on a small problem: it learns, repeats itself, keeps its best state, and survives what goes wrong."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fine_tuned import fine_tune

from certlip.graph import Graph, Node
from certlip.ops import Dense, Relu
from certlip.training import Network, Objective, Samples, fit
from certlip.training.loop import AdamW, mean_loss


def network(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    layers = [Dense.of(rng.standard_normal((m, n)) / np.sqrt(n), np.zeros(m), (1,)) for n, m in ((2, 16), (16, 2))]
    return Network(Graph((1, 2), (Node(layers[0], (0,)), Node(Relu(), (1,)), Node(layers[1], (2,)))))


def rings(seed: int, count: int = 200) -> Samples:
    """Two classes that no line separates."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.5, 1.5, (count, 1, 2))
    return Samples.of(x, (np.linalg.norm(x[:, 0], axis=1) > 1.0).astype(np.int64))


CROSS_ENTROPY = Objective("cross-entropy")


def test_it_learns_and_ends_in_the_best_state():
    net, train, validation = network(), rings(0), rings(1)
    epochs = list(fit(net, train, CROSS_ENTROPY, validation, epochs=40, rate=3e-2, batch=32))
    assert [epoch.number for epoch in epochs] == list(range(41))
    best = min(epochs, key=lambda epoch: epoch.validation)
    assert mean_loss(net, validation, CROSS_ENTROPY) == best.validation
    assert best.is_best and best.validation < 0.4 * epochs[0].validation
    assert all(epoch.note == "" for epoch in epochs)
    accuracy = (net(validation.x)[:, 0].argmax(1) == validation.y).double().mean()
    assert accuracy > 0.9


def test_equal_seeds_give_equal_weights_and_leave_torch_alone():
    graphs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed + 100)
        before = torch.get_rng_state()
        net = network()
        list(fit(net, rings(0), CROSS_ENTROPY, rings(1), epochs=3, rate=1e-2, seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        graphs.append(net.graph().digest)
    assert graphs[0] == graphs[1] != graphs[2]


def test_an_iterator_that_is_closed_leaves_the_best_state():
    net, validation = network(), rings(1)
    losses = []
    for epoch in fit(net, rings(0), CROSS_ENTROPY, validation, epochs=50, rate=3e-1, batch=8):
        losses.append(epoch.validation)
        if epoch.number == 7:
            break
    assert mean_loss(net, validation, CROSS_ENTROPY) == min(losses)


def test_a_deadline_is_met_within_an_epoch(monkeypatch):
    ticks = count()
    monkeypatch.setattr("certlip.training.loop.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    epochs = list(fit(network(), rings(0, 400), CROSS_ENTROPY, rings(1), deadline=20, batch=4, epochs=1000))
    assert len(epochs) == 2 and next(ticks) < 30  # an epoch has 100 batches
    assert list(fit(network(), rings(0), CROSS_ENTROPY, rings(1), deadline=0, epochs=3))[-1].number == 0


def test_divergence_is_noticed_and_the_best_state_stays():
    net, validation = network(), rings(1)
    start = mean_loss(net, validation, CROSS_ENTROPY)
    epochs = list(fit(net, rings(0), CROSS_ENTROPY, validation, epochs=30, rate=1e6))
    notes = [epoch.note for epoch in epochs if epoch.note]
    assert len(notes) == 6 and "diverged" in notes[0] and notes[-1].endswith("gave up")
    assert [epoch.rate for epoch in epochs if epoch.note] == sorted((e.rate for e in epochs if e.note), reverse=True)
    assert mean_loss(net, validation, CROSS_ENTROPY) <= start


def test_a_rate_that_is_a_little_too_large_is_halved_until_it_works():
    net, validation = network(), rings(1)
    start = mean_loss(net, validation, CROSS_ENTROPY)
    epochs = list(fit(net, rings(0), CROSS_ENTROPY, validation, epochs=30, rate=10.0))
    assert any(epoch.note for epoch in epochs)
    assert not epochs[-1].note
    assert mean_loss(net, validation, CROSS_ENTROPY) < start


def test_samples_that_are_not_finite_change_nothing():
    net, train = network(), rings(0)
    before = net.graph().digest
    broken = Samples(torch.full_like(train.x, torch.nan), train.y)
    epochs = list(fit(net, broken, CROSS_ENTROPY, rings(1), epochs=30))
    assert epochs[-1].note.endswith("gave up")
    assert net.graph().digest == before


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_optimiser_is_torch_s(decay):
    torch.manual_seed(0)
    start, target = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = AdamW([ours], decay)
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=decay)
    for _ in range(20):
        mine.step(torch.autograd.grad(((ours - target) ** 4).sum(), [ours]), 0.01)
        reference.zero_grad()
        ((theirs - target) ** 4).sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_fine_tuning_for_margins():
    """More samples lead by the margin than after training without one."""
    start, train, validation = network().graph(), rings(0), rings(1)

    def share(graph: Graph) -> float:
        f = graph(validation.x.double().numpy())[:, 0]
        rows = np.arange(len(f))
        return float(np.mean(f[rows, validation.y] - f[rows, 1 - validation.y.numpy()] > 2.0))

    graphs = [
        fine_tune(start, train, validation, Objective("hinge", margin), epochs=30, rate=3e-2, batch=32)
        for margin in (-1.0, 2.0)
    ]
    assert share(graphs[1]) > share(graphs[0]) + 0.1
    assert start.digest == network().graph().digest
