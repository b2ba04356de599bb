"""Verdicts on properties against exact minima, on networks small enough to enumerate all activation patterns.

Thresholds lie at the exact minimum of f_0 - f_1 over a box, and boxes are a billionth larger or smaller than the one
whose minimum that is. Over Euclidean balls the exact values at many points are the truth that no proof may contradict.
"""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from linear_regions import Cell, box_rows, cells, difference, least
from small_models import save_chain

from certlip import load
from certlip.bounds import refute as module
from certlip.bounds.refute import refute
from certlip.proofs.query import Query, ball_domain, property_queries
from certlip.proofs.relaxation.branches import refutes
from certlip.properties.property import Case, Halfspace, Property
from certlip.verification import Status
from certlip.verification.decide import decide_property

NEAR = Fraction(1, 10**9)
SHORT, LONG = 0.15, 20.0  # seconds: for claims at the threshold, and for clear ones


def network(seed: int, inputs: int):
    """(layers, sample): two outputs, one or two hidden layers, weights of one size or of very different ones."""
    rng = np.random.default_rng([seed, inputs])
    widths = (inputs, 4, 2) if seed % 2 else (inputs, 3, 2, 2)
    scales = [1.0] * 3 if seed % 3 else [2.0**12, 2.0**-20, 2.0**9]
    layers = [
        (np.float32(scale * rng.standard_normal((m, n))), np.float32(0.3 * scale * rng.standard_normal(m)))
        for (n, m), scale in zip(pairwise(widths), scales, strict=False)
    ]
    return layers, np.float32(rng.standard_normal(inputs))


def minimum(layers, activation: str, sample, eps: Fraction) -> Fraction:
    """Of f_0 - f_1 over the closed box, exactly."""
    box = box_rows([Fraction(float(value)) for value in sample], eps)
    return min(least(cell, difference(cell)) for cell in cells(layers, activation, box))


def property_of(sample, eps: Fraction, bound: Fraction, strict: bool = False) -> Property:
    """Unsafe: f_0 - f_1 <= bound somewhere in the box, or < where strict."""
    center = [Fraction(float(value)) for value in sample]
    row = Halfspace((), ((0, Fraction(1)), (1, Fraction(-1))), bound, strict)
    return Property(len(center), 2, (Case(tuple(c - eps for c in center), tuple(c + eps for c in center), (row,)),))


def statuses(model, claim: Property, seconds: float) -> list[Status]:
    """Of all methods; then of proofs by cases of activations, which few inputs do not get by themselves."""
    found = [
        decide_property(model, claim, deadline=time.monotonic() + seconds, method=method).status
        for method in ("crown", "branch", "auto")
    ]
    (query,) = property_queries(model.graph, claim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW_INPUTS", 0)
        outcome = refute(query, deadline=time.monotonic() + seconds)
    assert all(refutes(query, tree).all() for tree in outcome.trees)
    return [*found, Status.CERTIFIED if outcome.is_proof else Status.UNKNOWN]


def check(seed: int, inputs: int, activation: str, folder) -> None:
    layers, sample = network(seed, inputs)
    model = load(save_chain(folder / "model.onnx", layers, activation=activation), check=False)
    eps = Fraction(1, 4)
    bound = minimum(layers, activation, sample, eps)
    for factor in (1 - NEAR, Fraction(1), 1 + NEAR):
        truth = minimum(layers, activation, sample, eps * factor)
        for strict in {False, factor == 1}:
            found = statuses(model, property_of(sample, eps * factor, bound, strict), SHORT)
            if truth <= bound and not (strict and truth == bound):
                assert Status.CERTIFIED not in found, factor
            else:
                assert Status.FALSIFIED not in found, factor
    away = abs(bound) * Fraction(1, 20) + Fraction(1, 1000)
    assert Status.CERTIFIED not in statuses(model, property_of(sample, eps, bound + away), SHORT)
    found = statuses(model, property_of(sample, eps, bound - away), LONG)
    assert found[1:] == [Status.CERTIFIED] * 3


@pytest.mark.parametrize("activation", ["Relu", "Abs"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_box_verdicts_are_true_at_the_exact_threshold(inputs, activation, tmp_path):
    check(inputs, inputs, activation, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("activation", ["Relu", "Abs", "LeakyRelu"])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_box_verdicts_of_many_networks(inputs, activation, seed, tmp_path):
    check(100 + seed, inputs, activation, tmp_path)


def ball_query(model, sample, eps: Fraction, bound: Fraction) -> Query:
    (query,) = property_queries(model.graph, property_of(sample, eps, bound))
    return replace(query, domain=ball_domain(sample.astype(float).reshape(model.graph.input_shape), eps, "l2"))


def lowest_in_ball(layers, sample, eps: Fraction) -> Fraction:
    """The least exact value of f_0 - f_1 at rational points of the ball: for each piece, where it is least if it holds
    everywhere; and along random directions."""
    center = [Fraction(float(value)) for value in sample]
    pieces = list(cells(layers, "Relu", box_rows(center, eps)))
    directions = [[-entry for entry in difference(piece)[:-1]] for piece in pieces]
    directions += [[Fraction(float(v)) for v in d] for d in np.random.default_rng(0).standard_normal((40, len(center)))]
    values = []
    for direction in directions:
        square = sum((entry * entry for entry in direction), Fraction(0))
        if square:
            step = eps / Fraction(float(np.nextafter(float(square) ** 0.5 * (1 + 1e-15), np.inf)))
            assert step * step * square <= eps * eps
            values.append(value_at(layers, [c + step * entry for c, entry in zip(center, direction, strict=True)]))
    return min(values)


def value_at(layers, x: list[Fraction]) -> Fraction:
    for i, (weight, bias) in enumerate(layers):
        x = [max(v, Fraction(0)) for v in x] if i else x
        x = [
            sum((Fraction(float(w)) * v for w, v in zip(row, x, strict=True)), Fraction(float(b)))
            for row, b in zip(weight, bias, strict=True)
        ]
    return x[0] - x[1]


def check_ball(seed: int, inputs: int, folder) -> None:
    layers, sample = network(seed, inputs)
    model = load(save_chain(folder / "model.onnx", layers), check=False)
    eps = Fraction(1, 4)
    bound = lowest_in_ball(layers, sample, eps)
    away = abs(bound) * Fraction(1, 20) + Fraction(1, 1000)
    with pytest.MonkeyPatch.context() as patch:
        for few in (0, 16):
            patch.setattr(module, "FEW_INPUTS", few)
            for lifted in (Fraction(0), abs(bound) * NEAR, away):
                for factor in (Fraction(1), 1 + NEAR):
                    query = ball_query(model, sample, eps * factor, bound + lifted)
                    assert not refute(query, deadline=time.monotonic() + SHORT).is_proof
            query = ball_query(model, sample, eps, bound - away)
            outcome = refute(query, deadline=time.monotonic() + LONG)
            assert all(refutes(query, tree).all() for tree in outcome.trees)
            assert outcome.is_proof or few == 0


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_ball_verdicts_are_true_at_the_threshold(inputs, tmp_path):
    check_ball(inputs, inputs, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_ball_verdicts_of_many_networks(inputs, seed, tmp_path):
    check_ball(100 + seed, inputs, tmp_path)


def test_the_oracle_sees_every_piece():
    """The exact minimum over a box is what dense sampling finds, and a cell more than one."""
    layers, sample = network(1, 2)
    truth = float(minimum(layers, "Relu", sample, Fraction(1, 4)))
    x = sample + np.stack(np.meshgrid(*[np.linspace(-0.25, 0.25, 81)] * 2), -1).reshape(-1, 2)
    sampled = [float(value_at(layers, [Fraction(v) for v in point])) for point in x[::7].tolist()]
    assert truth <= min(sampled) <= truth + 0.1
    found: list[Cell] = list(cells(layers, "Relu", box_rows([Fraction(float(v)) for v in sample], Fraction(2))))
    assert len(found) > 1
