"""Losses against their definitions, sample by sample, and against torch."""

from __future__ import annotations

import numpy as np
import pytest

from certlip.errors import UsageError
from certlip.repairs.losses import CLASSIFICATION, REGRESSION, mean_loss

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_against_torch(name):
    import torch

    outputs, y = DRAW.normal(size=(2, 20, 3)) * 2
    function = {"square": "mse_loss", "absolute": "l1_loss", "huber": "huber_loss"}[name]
    expected = getattr(torch.nn.functional, function)(torch.tensor(outputs), torch.tensor(y))
    assert mean_loss(name, outputs, y) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_cross_entropy_against_torch(margin):
    import torch

    outputs, y = DRAW.normal(size=(20, 4)), DRAW.integers(0, 4, 20)
    raised = outputs + margin * (1 - np.eye(4)[y])
    expected = torch.nn.functional.cross_entropy(torch.tensor(raised), torch.tensor(y))
    assert mean_loss("cross-entropy", outputs, y, margin) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_classification_sample_by_sample(name, outputs):
    f, y, margin = DRAW.normal(size=(15, outputs)) * 3, DRAW.integers(0, max(outputs, 2), 15), 0.4
    total = 0.0
    for scores, label in zip(f, y, strict=True):
        if outputs == 1:
            ahead = [margin - scores[0] if label else margin + scores[0]]
        else:
            ahead = [scores[k] - scores[label] + margin for k in range(outputs) if k != label]
        total += {
            "hinge": lambda d: max(0.0, 1.0 + max(d)),
            "cross-entropy": lambda d: np.log1p(sum(np.exp(d))),
            "logistic": lambda d: np.log1p(sum(np.exp(d))),
        }[name](ahead)
    assert mean_loss(name, f, y, margin) == pytest.approx(total / 15, rel=1e-12)


def test_an_unknown_loss_is_named():
    with pytest.raises(UsageError, match="unknown loss 'sqare'"):
        mean_loss("sqare", np.zeros((1, 1)), np.zeros((1, 1)))
