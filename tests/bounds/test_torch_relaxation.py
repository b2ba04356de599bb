"""The torch bound in binary64 against the proof's own, for the slopes that the frame chose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from random_graphs import random_graph

from certlip.bounds.torch_relaxation import Relaxation
from certlip.proofs.query import ball_domain, range_query
from certlip.proofs.relaxation.backward import lower_bounds
from certlip.proofs.relaxation.cells import cells_of


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", range(30))
def test_estimates_are_the_proved_bounds_but_for_rounding(seed, norm):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed)
    zeros = [Fraction(0)] * graph.output_size
    domain = ball_domain(rng.standard_normal(graph.input_shape), Fraction(1, 4), norm)
    query = range_query(graph, zeros, zeros, domain)
    frame = cells_of(query.graph, domain)
    rows = rng.random((5, *query.graph.output_shape))
    relaxed = Relaxation(frame, dtype="float64")
    found = relaxed.bound(len(query.graph.nodes), torch.tensor(rows), relaxed.start(5)).numpy()
    known = lower_bounds(frame, len(query.graph.nodes), rows).least
    assert (known <= found + 1e-12).all()
    np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-9)
