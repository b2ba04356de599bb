"""Degenerate networks through every method: a proved bound above every sampled slope or a sentence, no noise."""

import time
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from certlip.graph import Graph, Node
from certlip.lipschitz import bound_output, multipliers
from certlip.lipschitz.sampled import sampled_lower
from certlip.ops import Abs, Conv, Dense, Gelu, LeakyRelu, MaxPool, Reindex, Relu
from certlip.properties import Output, select
from certlip.rigor.ball import Ball

DENSE = ("spectral", "eclipse-fast", "lipsdp", "lipsdp-first-order", "lipsdp-interior-point")
TORUS = ("eclipse-fast-torus", "lipsdp-torus")
ALL = Output("all")


def sequence(shape, operators) -> Graph:
    return Graph(shape, tuple(Node(operator, (i,), f"node {i}") for i, operator in enumerate(operators)))


def chain(weights, activation=Relu) -> Graph:
    operators = []
    for weight in map(np.asarray, weights):
        operators += [Dense.of(weight, np.full(len(weight), 0.1)), activation()]
    return sequence((operators[0].weight.shape[1],), operators[:-1])


def draw(*widths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((m, n)) / np.sqrt(n) for n, m in pairwise(widths)]


def weights(change=lambda layers: None) -> list[np.ndarray]:
    layers = draw(4, 6, 5, 3)
    change(layers)
    return layers


def scaled(*factors: float) -> list[np.ndarray]:
    return [factor * weight for factor, weight in zip(factors, weights(), strict=True)]


def conv(into, out, window, size, pad, scale=1.0, stride=1) -> Conv:
    kernel = scale * np.random.default_rng(out).standard_normal((out, into, window, window)) / window
    pads = ((pad, pad),) * 2
    bias = Ball.exact(np.full((1, out, 1, 1), 0.1))
    return Conv(Ball.exact(kernel), bias, np.zeros(()), (into, size, size), (stride,) * 2, pads, (1, 1), 1)


def images(*convolutions: Conv, activation=Relu) -> Graph:
    operators = [operator for convolution in convolutions for operator in (convolution, activation())]
    last = convolutions[-1].codomain
    head = np.random.default_rng(7).standard_normal((2, np.prod(last)))
    return sequence(convolutions[0].domain, [*operators, Reindex.through(last, np.ravel), Dense.of(head, np.zeros(2))])


def zero_rows(layers):
    layers[1][2], layers[2][0] = 0.0, 0.0


def dead(layers):
    layers[1][:, [1, 3]] = 0.0


def duplicated(layers):
    layers[0][1], layers[1][:, 1], layers[0][2] = layers[0][0], layers[1][:, 0], -layers[0][0]


def zero_layer(layers):
    layers[1][:] = 0.0


NETWORKS = {
    "zero rows": chain(weights(zero_rows)),
    "zero layer": chain(weights(zero_layer)),
    "zero last layer": chain(scaled(1.0, 1.0, 0.0)),
    "all zero": chain(scaled(0.0, 0.0, 0.0)),
    "dead neurons": chain(weights(dead)),
    "duplicated neurons": chain(weights(duplicated)),
    "all tiny": chain(scaled(1e-8, 1e-8, 1e-8)),
    "all huge": chain(scaled(1e8, 1e8, 1e8)),
    "first tiny": chain(scaled(1e-8, 1.0, 1.0)),
    "alternating": chain(scaled(1e8, 1e-8, 1e8)),
    "rank one": chain([np.outer(w[:, 0], w[0]) for w in weights()]),
    "one neuron": chain([[[1.5]], [[-2.0]]]),
    "no hidden layer": chain(draw(4, 3)),
    "input is output": chain([np.eye(3)]),
    "activation only": sequence((3,), [Relu()]),
    "nearly linear": chain(weights(), lambda: LeakyRelu(1.0 - 1e-12)),
    "negative slope": chain(weights(), lambda: LeakyRelu(-3.0)),
    "steep slope": chain(weights(), lambda: LeakyRelu(2.0)),
    "absolute value": chain(weights(), Abs),
    "gelu": chain(weights(), Gelu),
    "maxima": sequence((4,), [Dense.of(draw(4, 6)[0]), MaxPool(np.array([[0, 1, 2], [3, 4, 5]]), (6,))]),
    "one pixel": images(conv(2, 3, 1, 1, 0), conv(3, 2, 3, 1, 1)),
    "large kernel": images(conv(1, 3, 5, 2, 2), conv(3, 2, 5, 2, 2)),
    "one channel": images(conv(1, 1, 3, 5, 1), conv(1, 1, 3, 5, 1)),
    "zero convolution": images(conv(2, 3, 3, 4, 1, 0.0), conv(3, 2, 3, 4, 1)),
    "tiny and huge convolutions": images(conv(2, 3, 3, 4, 1, 1e-8), conv(3, 2, 3, 4, 1, 1e8, 2)),
    "negative slopes on images": images(conv(2, 3, 3, 4, 1), activation=lambda: LeakyRelu(-0.5)),
}


def quietly(graph, output, norm, method, seconds=5.0):
    """One bound; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (bound,) = bound_output(graph, output, norm, method, time.monotonic() + seconds)
    return bound


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_proves_a_bound_of_a_degenerate_network(name, norm, capfd):
    graph = NETWORKS[name]
    outputs = [ALL, Output.logit(0)] if norm == "l2" else [Output.pair(0, 1) if graph.output_size > 1 else ALL]
    for output in outputs:
        steepest = sampled_lower(select(graph, output), norm, deadline=time.monotonic() + 0.05).value
        for method in (*DENSE, *(TORUS if len(graph.input_shape) > 1 else ())):
            bound = quietly(graph, output, norm, method)
            assert bound.proved and np.isfinite(bound.value), f"{method}: {bound.note}"
            assert bound.value >= steepest, method
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", DENSE[1:])
@pytest.mark.parametrize("name", ["all tiny", "all huge", "first tiny", "alternating", "dead neurons", "zero rows"])
def test_a_scale_costs_no_tightness(name, method):
    assert quietly(NETWORKS[name], ALL, "l2", method).value <= quietly(NETWORKS[name], ALL, "l2", "spectral").value


@pytest.mark.parametrize("method", ["eclipse-fast", "lipsdp-first-order"])
def test_constant_networks_have_next_to_no_slope(method):
    for name in ("zero layer", "zero last layer", "all zero", "zero convolution"):
        assert quietly(NETWORKS[name], Output.logit(0), "l2", method).value < 1e-40


def test_dead_neurons_do_not_stop_the_ascent():
    values = [quietly(NETWORKS["dead neurons"], ALL, "linf", method).value for method in DENSE[-2:]]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("method", [*DENSE, *TORUS])
def test_what_overflows_is_no_bound_but_a_sentence(method):
    graph = chain(scaled(1e150, 1e150, 1e150)) if method in DENSE else images(conv(2, 3, 1, 1, 0, 1e200))
    bound = quietly(graph, ALL, "linf", method)
    assert bound.note if not bound.proved else np.isfinite(bound.value)


@pytest.mark.parametrize("method", DENSE)
def test_two_hundred_layers_end_at_the_deadline(method):
    began = time.process_time()
    bound = quietly(chain(draw(*(2,) * 201)), ALL, "l2", method, 0.5)
    assert (bound.proved or bound.note) and time.process_time() - began < 3.5


@pytest.mark.parametrize("method", [*DENSE, *TORUS])
def test_a_deadline_that_is_past_or_near_is_kept(method):
    graph = images(conv(3, 16, 3, 16, 1), conv(16, 16, 3, 16, 1), conv(16, 16, 3, 16, 1))
    if method in DENSE:
        for seconds in (-1.0, 0.05):
            began = time.process_time()
            bound = quietly(graph, ALL, "l2", method, seconds)
            assert bound.proved or bound.note
            assert time.process_time() - began < 4.0
    reason = quietly(graph, ALL, "l2", method, -1.0).note
    assert method == "spectral" or "time budget" in reason or "limit" in reason


@pytest.mark.parametrize("method", DENSE[1:])
def test_what_does_not_fit_into_memory_is_refused_at_once(method):
    began = time.process_time()
    bound = quietly(chain([np.ones((30000, 2)), np.ones((2, 30000))]), ALL, "l2", method)
    assert not bound.proved and "GB" in bound.note and time.process_time() - began < 2.0


@pytest.mark.parametrize("method", ["lipsdp-interior-point", "lipsdp-first-order"])
@pytest.mark.parametrize("name", ["zero rows", "dead neurons", "duplicated neurons"])
def test_dead_neurons_do_not_hide_how_good_a_bound_is(name, method):
    """The lower value is proved whatever a network's silent neurons round to."""
    for norm in ("l2", "linf"):
        assert quietly(NETWORKS[name], ALL, norm, method).details["gap"] < 1e-4


def test_where_the_interior_point_halts_the_ascent_goes_on(monkeypatch):
    graph, known = NETWORKS["absolute value"], multipliers._interior_point

    def halting(form, *arguments):
        offer = known(form, *arguments)
        start = {name: 1e6 * array for name, array in offer.inside.items()}
        return replace(offer, arrays=start, details={"status": "stalled", "iterations": 0, "least": 0.0})

    best = quietly(graph, ALL, "l2", "lipsdp-interior-point")
    monkeypatch.setattr(multipliers, "_interior_point", halting)
    halted, bound = quietly(graph, ALL, "l2", "lipsdp-interior-point"), quietly(graph, ALL, "l2", "lipsdp")
    assert halted.value > 100 * best.value and "came to a halt" in halted.note
    assert bound.details["solver"] == "first order" and bound.value == pytest.approx(best.value, rel=1e-5)


def test_a_norm_that_takes_too_long_is_not_begun(monkeypatch):
    monkeypatch.setattr("certlip.solvers.speed.gemm_rate", lambda: 1e9)
    wide = chain([np.ones((1500, 2)), np.ones((1500, 1500)), np.ones((2, 1500))])
    late = quietly(wide, ALL, "l2", "spectral", 1.0)
    assert not late.proved and "first bound" in late.note and late.details["status"] == "deadline"
    assert quietly(wide, ALL, "l2", "spectral", 60.0).proved
