"""Ranges of all values against exact values at points of the domain; empty cells; what balls add to boxes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from truth import exact_values, points_in, random_query

from certlip.graph import Graph, Node
from certlip.ops import Dense, Relu
from certlip.proofs.query import Domain, ball_domain
from certlip.proofs.relaxation.cells import cells_of
from certlip.rigor.exact_numbers import NotExact


def check_ranges(seed: int) -> int:
    """Of the whole domain and of a part of it; how many values were compared."""
    rng = np.random.default_rng(seed)
    query = random_query(rng)
    domain, count = query.domain, 0
    ends = np.sort(np.stack([points_in(Domain(domain.low, domain.high), rng, 1)[0] for _ in range(2)]), 0)
    low, high = np.stack([domain.low, ends[0]]), np.stack([domain.high, ends[1]])
    frame = cells_of(query.graph, domain, low, high)
    for cell in range(2):
        part = Domain(low[cell], high[cell], domain.center, domain.eps)
        for x in points_in(part, rng, 6)[:6]:
            assert not frame.is_empty()[cell]
            try:
                values = exact_values(query.graph, x)
            except NotExact:
                return count
            for v, (least, greatest) in enumerate(values):
                below, above = (end[v][cell].ravel().tolist() for end in (frame.low, frame.high))
                for a, b, x_low, x_high in zip(below, above, least, greatest, strict=True):
                    assert a == -np.inf or Fraction(a) <= x_high, (seed, v)
                    assert b == np.inf or Fraction(b) >= x_low, (seed, v)
                    count += 1
    return count


@pytest.mark.parametrize("part", range(4))
def test_ranges_hold_the_exact_values(part):
    assert sum(check_ranges(1000 * part + seed) for seed in range(15)) > 500


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_ranges_hold_the_exact_values_of_many_networks(part):
    assert sum(check_ranges(20_000 + 1000 * part + seed) for seed in range(300)) > 10_000


LAYERS = Dense.of([[1.0, 1.0], [1.0, -1.0]]), Relu(), Dense.of([[1.0, 1.0]])
SUM = Graph((2,), tuple(Node(operator, (i,)) for i, operator in enumerate(LAYERS)))


def test_a_ball_is_smaller_than_its_box():
    frame = cells_of(SUM, ball_domain(np.zeros(2), Fraction(1), "l2"))
    assert 2**0.5 <= frame.high[1].max() <= 2**0.5 + 1e-12
    frame = cells_of(SUM, ball_domain(np.zeros(2), Fraction(1), "linf"))
    assert 2.0 <= frame.high[1].max() <= 2 + 1e-12


def test_a_center_outside_of_the_clip():
    """Only what lies in both counts: x1 >= 1 - eps and x in [0, 1] around the center (1/2, 2)."""
    domain = ball_domain(np.array([0.5, 2.0]), Fraction(5, 4), "l2", (Fraction(0), Fraction(1)))
    frame = cells_of(SUM, domain)
    assert frame.low[0][0].tolist() == [0.0, 0.75] and not frame.is_empty().any()
    assert frame.high[1][0, 0] <= 2.0 + 1e-12 and frame.low[1][0, 0] >= 0.73


def test_a_ball_that_meets_its_box_in_a_corner_is_not_empty():
    """The box [1, 2]^2 around the center 0 is sqrt 2 away; a network that bends there sees a ball that is too small."""
    bent = Graph((2,), (Node(Dense.of([[1.0, 1.0], [1.0, -1.0]], [-3.0, 0.0]), (0,)), Node(Relu(), (1,))))
    for eps, is_empty in (("1.4142135624", False), ("1.3", True)):
        domain = Domain(np.ones(2), 2 * np.ones(2), np.zeros(2), Fraction(eps))
        assert cells_of(bent, domain).is_empty().tolist() == [is_empty]


def test_empty_cells_do_not_spoil_their_neighbours():
    low, high = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [1.0, 1.0]])
    frame = cells_of(SUM, Domain(low.min(0), high.max(0)), low, high)
    alone = cells_of(SUM, Domain(low[1], high[1]))
    assert frame.is_empty().tolist() == [True, False]
    for v in range(4):
        np.testing.assert_allclose(frame.low[v][1], alone.low[v][0], atol=1e-13)
        np.testing.assert_allclose(frame.high[v][1], alone.high[v][0], atol=1e-13)


def test_a_point_is_known_to_rounding():
    frame = cells_of(SUM, Domain(np.array([0.1, 0.3]), np.array([0.1, 0.3])))
    for v in range(4):
        assert (frame.high[v] - frame.low[v] <= 1e-14).all() and not frame.is_empty().any()
