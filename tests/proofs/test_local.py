"""Bounds on a region: ranges hold every value there, slopes every quotient, and L every secant."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from random_graphs import jacobian, random_graph, secants

from certlip.graph import Graph, Node
from certlip.lipschitz.local import local_bound
from certlip.ops import Dense, Relu, Tanh
from certlip.proofs.local import gain, gains, local_slopes, pointwise_graph, prove_local_lipsdp
from certlip.proofs.ranges import Region, activation_ranges
from certlip.properties import Output
from certlip.properties.outputs import ALL

both = pytest.mark.parametrize("norm", ["l2", "linf"])


def inside(region: Region, rng: np.random.Generator, count: int) -> np.ndarray:
    """Points of the region, most of them on its boundary, a little inwards so that rounding does not leave it."""
    steps = rng.standard_normal((count, region.center.size))
    if region.norm == "linf":
        steps[::2] = np.sign(steps[::2])
        lengths = np.abs(steps).max(1, keepdims=True)
    else:
        lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    steps *= float(region.eps) * (1.0 - 1e-12) / lengths
    steps[1::4] *= rng.random((len(steps[1::4]), 1))
    return region.center + steps.reshape(count, *region.center.shape)


def a_region(graph: Graph, rng: np.random.Generator, norm: str) -> Region:
    eps = Fraction(float(rng.choice([0.0, 1e-3, 0.1, 0.5, 2.0])))
    return Region(rng.standard_normal(graph.input_shape), eps, norm)


def chain(rng: np.random.Generator, *widths: int, activation=Relu) -> Graph:
    nodes = []
    for i, (n, m) in enumerate(pairwise(widths)):
        if i:
            nodes.append(Node(activation(), (len(nodes),)))
        nodes.append(
            Node(Dense.of(rng.standard_normal((m, n)) / np.sqrt(n), 0.3 * rng.standard_normal(m)), (len(nodes),))
        )
    return Graph((widths[0],), tuple(nodes))


@both
@pytest.mark.parametrize("seed", range(60))
def test_ranges_and_slopes_hold_on_the_region(seed, norm):
    rng = np.random.default_rng(seed)
    graph = pointwise_graph(random_graph(seed, pools=seed % 3 == 0))
    region = a_region(graph, rng, norm)
    ranges, slopes = activation_ranges(graph, region), local_slopes(graph, region)
    points = inside(region, rng, 400)
    values = graph.values(np.concatenate([points, region.center[None]]))
    assert set(ranges) == set(slopes)
    for position, (low, high) in ranges.items():
        node = graph.nodes[position]
        before, after = values[node.inputs[0]], values[position + 1]
        slack = 1e-12 * (1.0 + np.abs(before))  # the evaluation in floats rounds as well
        assert (before >= low - slack).all() and (before <= high + slack).all()
        a, b = slopes[position]
        least, greatest = node.operator.slopes()
        assert a.shape == before.shape[1:] and (least <= a).all() and (a <= b).all() and (b <= greatest).all()
        dv, dz = before[1:] - before[:-1], after[1:] - after[:-1]
        far = np.abs(dv) > 1e-4
        quotient = np.where(far, dz / np.where(far, dv, 1.0), a)
        assert (quotient >= a - 1e-9).all() and (quotient <= b + 1e-9).all()


@both
@pytest.mark.parametrize("seed", range(40))
def test_no_secant_of_the_region_is_steeper(seed, norm):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, pools=seed % 4 == 0)
    region = a_region(graph, rng, str(rng.choice(["l2", "linf"])))
    bound = local_bound(graph, ALL, region, norm)
    if not bound.proved:
        assert "too large" in bound.note or "no activations" in bound.note
        return
    if region.eps == 0:
        slope = jacobian(graph, region.center)
        true = np.linalg.norm(slope, 2) if norm == "l2" else np.abs(slope).sum(1).max()
        assert true <= bound.value * (1 + 1e-9)
        return
    assert prove_local_lipsdp(_selected(graph), norm, bound.witness, region) <= bound.value
    x, y = inside(region, rng, 2000), inside(region, rng, 2000)
    y[1000:] = x[1000:] + 1e-4 * (y[1000:] - x[1000:])  # convex: between two points of the region
    apart = np.abs(x - y).reshape(len(x), -1).max(1) > 1e-7
    assert secants(graph, norm, x[apart], y[apart]).max(initial=0.0) <= bound.value * (1 + 1e-6)


def _selected(graph):
    from certlip.properties import select

    return select(graph, ALL)


@both
def test_first_ranges_are_exact(norm):
    """Against exact rational arithmetic; for l2 the squared radius is compared."""
    rng = np.random.default_rng(3)
    weight, bias = rng.standard_normal((5, 7)), rng.standard_normal(5)
    graph = Graph((7,), (Node(Dense.of(weight, bias), (0,)), Node(Relu(), (1,))))
    region = Region(rng.standard_normal(7), Fraction(1, 3), norm)
    low, high = activation_ranges(graph, region)[1]
    for row, shift, least, greatest in zip(weight, bias, low, high, strict=True):
        entries = [Fraction(entry) for entry in row]
        centre = Fraction(shift) + sum(w * Fraction(c) for w, c in zip(entries, region.center, strict=True))
        if norm == "linf":
            radius = region.eps * sum(map(abs, entries))
            assert Fraction(least) <= centre - radius and centre + radius <= Fraction(greatest)
        else:
            square = region.eps**2 * sum(w * w for w in entries)
            assert (centre - Fraction(least)) ** 2 >= square and (Fraction(greatest) - centre) ** 2 >= square
            radius = Fraction(float(square) ** 0.5)
        assert Fraction(greatest) - Fraction(least) <= 2 * radius + Fraction(1, 10**12)


@pytest.mark.parametrize("seed", range(6))
def test_a_point_and_a_huge_region(seed):
    """At radius 0 the network is its Jacobian; far out nothing is gained."""
    rng = np.random.default_rng(seed)
    graph = chain(rng, 4, 12, 9, 3)
    point = Region(rng.standard_normal(4), Fraction(0), "l2")
    slopes = local_slopes(graph, point)
    assert gains(graph, slopes) and gain(graph, slopes).fixed == 21
    bound = local_bound(graph, ALL, point)
    true = np.linalg.norm(jacobian(graph, point.center), 2)
    assert true <= bound.value <= true * (1 + 1e-4)
    wide = Region(point.center, Fraction(10**6), "l2")
    assert not gains(graph, local_slopes(graph, wide))
    refused = local_bound(graph, ALL, wide)
    assert not refused.proved and "too large" in refused.note


@pytest.mark.parametrize("activation", [Relu, Tanh])
def test_bounds_grow_with_the_region(activation):
    rng = np.random.default_rng(5)
    graph, center = chain(rng, 3, 10, 10, 2, activation=activation), rng.standard_normal(3)
    values = [local_bound(graph, ALL, Region(center, Fraction(eps), "l2")).value for eps in ("1/100", "1/10", "1/2")]
    whole = local_bound(graph, ALL, Region(center, Fraction(3), "l2")).value
    assert values[0] < 0.95 * min(values[2], whole) and values[0] <= values[1] * (1 + 1e-4)
    assert values[1] <= values[2] * (1 + 1e-4)


def test_the_witness_decides():
    rng = np.random.default_rng(7)
    graph = chain(rng, 3, 8, 2)
    region = Region(rng.standard_normal(3), Fraction(1, 2), "linf")
    bound = local_bound(graph, ALL, region)
    witness = dict(bound.witness)
    assert 0 < len(witness["multipliers"]) < 8  # some neurons are linear there

    def proved(metric=witness["metric"], multipliers=witness["multipliers"], region=region):
        return prove_local_lipsdp(graph, "l2", {"metric": metric, "multipliers": multipliers}, region)

    assert np.isfinite(proved())
    assert proved(metric=0.99 * witness["metric"]) == np.inf
    assert proved(multipliers=0 * witness["multipliers"]) == np.inf
    assert proved(multipliers=-witness["multipliers"]) == np.inf
    assert proved(metric=witness["metric"][:-1]) == np.inf
    larger = Region(region.center, Fraction(3), "linf")
    moved = Region(region.center + 3.0, region.eps, "linf")
    assert proved(region=larger) == np.inf and proved(region=moved) == np.inf


def test_a_region_does_not_follow_an_array_that_changes_later():
    """relu is constant around -5 and the identity around 5: what was proved there must not be said here."""
    graph = Graph((1,), (Node(Dense.of([[1.0]]), (0,)), Node(Relu(), (1,)), Node(Dense.of([[1.0]]), (2,))))
    nothing = {"metric": np.zeros(1), "multipliers": np.zeros(0)}
    point = np.array([-5.0])
    region = Region(point, Fraction(1), "l2")
    assert prove_local_lipsdp(graph, "l2", nothing, region) == 0.0
    point[:] = 5.0
    assert region.center == -5.0
    assert prove_local_lipsdp(graph, "l2", nothing, Region(point, Fraction(1), "l2")) == np.inf
    with pytest.raises(ValueError, match="read-only"):
        region.center[:] = 5.0


def test_slopes_do_not_hang_on_the_last_bits():
    """They are multiples of 2^-20, exact ones aside."""
    rng = np.random.default_rng(9)
    graph = chain(rng, 3, 9, 2, activation=Tanh)
    for a, b in local_slopes(graph, Region(np.zeros(3), Fraction(1, 7), "l2")).values():
        assert np.array_equal(np.ldexp(a, 20), np.round(np.ldexp(a, 20)))
        assert np.array_equal(np.ldexp(b, 20), np.round(np.ldexp(b, 20)))


def test_overflow_says_nothing():
    graph = Graph(
        (2,), (Node(Dense.of(np.full((3, 2), 1e308)), (0,)), Node(Relu(), (1,)), Node(Dense.of(np.eye(3)), (2,)))
    )
    for center, eps in (
        (np.full(2, 10.0), Fraction(1)),
        (np.zeros(2), Fraction(10) ** 400),
        (np.zeros(2), Fraction(100)),
    ):
        region = Region(center, eps, "linf")
        (low, high) = activation_ranges(graph, region)[1]
        assert (low == -np.inf).all() and (high == np.inf).all()
        a, b = local_slopes(graph, region)[1]
        assert (a == 0).all() and (b == 1).all()


def test_what_does_not_fit_is_refused():
    graph = chain(np.random.default_rng(0), 3, 4, 2)
    for center, eps, norm in ((np.zeros(3), -1, "l2"), (np.zeros(3), 1, "l1"), (np.array([0.0, np.nan, 0.0]), 1, "l2")):
        with pytest.raises(ValueError, match="region"):
            Region(center, Fraction(eps), norm)
    with pytest.raises(ValueError, match="center"):
        activation_ranges(graph, Region(np.zeros(4), Fraction(1), "l2"))


def test_without_time_there_is_no_bound():
    graph = chain(np.random.default_rng(0), 3, 4, 2)
    bound = local_bound(graph, Output.pair(0, 1), Region(np.zeros(3), Fraction(1, 10), "l2"), deadline=0.0)
    assert not bound.proved and bound.details["status"] == "deadline"
