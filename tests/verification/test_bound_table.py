"""Bounds on demand: what was cut short is tried again, what was finished is not, and no bound gets worse."""

from __future__ import annotations

import time

import numpy as np
import pytest
from small_models import random_chain, save_chain

from certlip import api
from certlip.lipschitz.certifier import Certifier
from certlip.lipschitz.engine import run
from certlip.properties import Output, select
from certlip.verification.bounds import BoundTable, _cut_short


@pytest.fixture
def graph(tmp_path):
    return api.load(save_chain(tmp_path / "net.onnx", random_chain(0, (2, 6, 3)))).graph


def test_lack_of_time_is_told_from_other_reasons(graph):
    pair = Output.pair(0, 1)
    certifier = Certifier.registry["lipsdp"]()
    chosen = select(graph, pair)
    past = run(certifier, chosen, pair, "l2", time.monotonic() - 1)
    assert not past.proved and _cut_short(past)

    class Slow(type(certifier)):
        name = ""

        def seconds(self, graph, norm):
            return 1e9

    short = run(Slow(), chosen, pair, "l2", time.monotonic() + 10, patient=False)
    assert not short.proved and _cut_short(short)
    assert not _cut_short(run(certifier, chosen, pair, "l2", None))


def test_nothing_is_finished_before_it_ran(graph):
    table, pair = BoundTable(graph, "l2", "auto"), Output.pair(0, 1)
    assert list(table.refine(pair, time.monotonic() - 1)) == [None]
    assert not table.is_complete(pair) and table.best(pair) is None
    for _ in table.refine(pair, None):
        pass
    assert table.is_complete(pair) and table.best(pair).proved
    assert len(list(table.refine(pair, None))) == 1  # nothing left to run


def scripted(monkeypatch, *outcomes):
    """Replace the engine by a list of (value, status); returns the calls."""
    from certlip.lipschitz.bound import Bound

    calls, script = [], list(outcomes)

    def fake(certifier, graph, output, norm, deadline, patient=True, near=None):
        calls.append(certifier.name)
        value, status = script.pop(0)
        note = "" if np.isfinite(value) else "the witness found proves no finite bound; another method may"
        return Bound(
            certifier.name, norm, output, value, bool(np.isfinite(value)), 0.0, note=note, details={"status": status}
        )

    monkeypatch.setattr("certlip.verification.bounds.run", fake)
    return calls


def test_a_retry_that_ends_higher_does_not_replace_a_proved_bound(graph, monkeypatch):
    calls = scripted(monkeypatch, (2.0, "deadline"), (3.0, "solved"))
    table, pair = BoundTable(graph, "l2", "lipsdp"), Output.pair(0, 1)
    list(table.refine(pair, None))
    assert not table.is_complete(pair)
    list(table.refine(pair, None))
    assert table.best(pair).value == 2.0 and table.is_complete(pair) and len(calls) == 2


def test_a_method_that_proved_nothing_in_its_time_is_not_tried_again(graph, monkeypatch):
    calls = scripted(monkeypatch, (np.inf, "solved"))
    table, pair = BoundTable(graph, "l2", "lipsdp"), Output.pair(0, 1)
    list(table.refine(pair, None))
    list(table.refine(pair, None))
    assert table.is_complete(pair) and table.best(pair) is None and len(calls) == 1
