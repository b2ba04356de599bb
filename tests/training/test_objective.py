"""Losses in torch against those in numpy, which candidates are compared by, and against values by hand."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.errors import UsageError
from certlip.repairs.losses import CLASSIFICATION, REGRESSION, mean_loss
from certlip.training import Objective


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CLASSIFICATION), st.integers(1, 5), st.integers(0, 2**20), st.floats(0.0, 5.0))
def test_classification_losses(loss, outputs, seed, margin):
    rng = np.random.default_rng(seed)
    f, y = 5.0 * rng.standard_normal((7, outputs)), rng.integers(0, max(outputs, 2), 7)
    actual = float(Objective(loss, margin)(torch.tensor(f), torch.tensor(y)))
    assert actual == pytest.approx(mean_loss(loss, f, y, margin), rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(REGRESSION), st.integers(1, 3), st.integers(0, 2**20))
def test_regression_losses(loss, outputs, seed):
    rng = np.random.default_rng(seed)
    f, y = 2.0 * rng.standard_normal((2, 7, outputs))
    actual = float(Objective(loss)(torch.tensor(f), torch.tensor(y)))
    assert actual == pytest.approx(mean_loss(loss, f, y), rel=1e-9)


def test_by_hand():
    f, y = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    assert float(Objective("cross-entropy", 1.0)(f, y)) == pytest.approx(log(1 + exp(-1) + exp(-2)))
    assert float(Objective("hinge", 1.5)(f, y)) == pytest.approx(0.5)
    assert float(Objective("logistic")(f, y)) == pytest.approx(log(1 + exp(-2) + exp(-3)))
    one = torch.tensor([[3.0], [3.0]])
    assert float(Objective("hinge")(one, torch.tensor([1, 0]))) == pytest.approx(2.0)
    assert float(Objective("huber")(torch.tensor([[3.0]]), torch.tensor([[0.5]]))) == pytest.approx(2.0)


def test_distillation_is_a_divergence():
    """Zero for the teacher's own outputs up to a constant, and by hand for two classes."""
    rng = np.random.default_rng(0)
    teacher = torch.tensor(rng.standard_normal((6, 4)))
    y, objective = teacher.argmax(1), Objective("cross-entropy")
    assert float(objective(teacher + 3.0, y, teacher)) == pytest.approx(0.0, abs=1e-12)
    assert float(objective(0.5 * teacher, y, teacher)) > 1e-3
    assert float(Objective("cross-entropy", 1.0)(teacher, y, teacher)) > 1e-3
    single, half = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[log(3.0)]], dtype=torch.float64)
    p, q = (0.25, 0.75), (0.5, 0.5)
    expected = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    assert float(objective(single, torch.tensor([1]), half)) == pytest.approx(expected)
    assert float(Objective("hinge")(teacher, y, teacher)) == float(Objective("hinge")(teacher, y))


def test_an_unknown_loss_is_refused():
    with pytest.raises(UsageError, match="unknown loss 'mse'; choose one of square"):
        Objective("mse")
