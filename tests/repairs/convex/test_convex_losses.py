"""Losses against formulas written out, their conic and their smooth forms against their values."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from convex_cases import CLASSIFICATION, REGRESSION, data, network
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.errors import UsageError
from certlip.repairs.convex.losses import LOSSES, loss_named
from certlip.repairs.convex.rounded import smooth_relu


def mean(name, f, y, margin=0.0):
    loss = loss_named(name)
    return loss.mean(loss.scores(y, f.shape[1], margin), f, loss.count(y, f.shape[1]))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_is_what_torch_computes(name, outputs):
    x, y = data(0, name, o=outputs)
    f = network(1, o=outputs)(x)
    kinds = {"square": torch.nn.MSELoss, "absolute": torch.nn.L1Loss, "huber": torch.nn.HuberLoss}
    expected = kinds[name]()(torch.tensor(f), torch.tensor(y.reshape(f.shape)))
    assert mean(name, f, y) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_classification_is_what_torch_computes(margin):
    x, y = data(0, "hinge", o=3)
    f = network(1, o=3)(x)
    shifted = torch.tensor(f + margin * (np.arange(3) != y[:, None]))
    expected = torch.nn.CrossEntropyLoss()(shifted, torch.tensor(y))
    assert mean("cross-entropy", f, y, margin) == pytest.approx(float(expected), rel=1e-12)
    assert mean("logistic", f, y, margin) == pytest.approx(float(expected), rel=1e-12)
    hinge = np.mean(
        [max(0, *(1 + margin + f[i, k] - f[i, y[i]] for k in range(3) if k != y[i])) for i in range(len(y))]
    )
    assert mean("hinge", f, y, margin) == pytest.approx(hinge, rel=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_two_classes_and_one_output(margin):
    x, y = data(0, "hinge")
    f = network(1)(x)
    signed = (2 * y - 1) * f[:, 0] - margin
    assert mean("logistic", f, y, margin) == pytest.approx(np.mean(np.log1p(np.exp(-signed))), rel=1e-12)
    assert mean("hinge", f, y, margin) == pytest.approx(np.mean(np.maximum(0, 1 - signed)), rel=1e-12)
    if not margin:
        expected = torch.nn.BCEWithLogitsLoss()(torch.tensor(f[:, 0]), torch.tensor(y, dtype=torch.float64))
        assert mean("cross-entropy", f, y) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_conic_forms_have_the_values(name, outputs):
    loss = loss_named(name)
    x, y = data(0, name, n=6, o=outputs)
    f = network(1, o=outputs)(x)
    for scores in loss.scores(y, outputs, 0.0):
        g = f[scores.rows] @ scores.K.T + scores.offset
        terms, constraints = loss.conic(cp.Constant(g))
        problem = cp.Problem(cp.Minimize(terms), constraints)
        problem.solve(solver="CLARABEL")
        assert problem.value == pytest.approx(loss.values(g).sum(), rel=1e-6, abs=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([1, 3]), st.floats(1e-4, 1.0), st.sampled_from(sorted(LOSSES)))
@settings(max_examples=40, deadline=None)
def test_smooth_forms_are_above_and_near(seed, outputs, width, name):
    loss = loss_named(name)
    x, y = data(seed, name, o=outputs)
    f = 2.0 * network(seed, o=outputs)(x)
    for scores in loss.scores(y, outputs, 0.3 if name in CLASSIFICATION else 0.0):
        g = f[scores.rows] @ scores.K.T + scores.offset
        exact, smooth = loss.values(g).sum(), float(loss.smooth(torch.tensor(g), width))
        steepest = 2 * np.abs(g).max() + width if name == "square" else 1.0
        assert exact * (1 - 1e-12) <= smooth <= exact + len(g) * width * np.log(4.0) * outputs * steepest + 1e-9


def test_the_rounded_kink_and_its_gradient():
    v = torch.linspace(-3, 3, 601, dtype=torch.float64, requires_grad=True)
    smooth = smooth_relu(v, 0.5)
    excess = (smooth - v.clamp(min=0)).detach()
    assert float(excess.min()) >= 0 and float(excess.max()) == pytest.approx(0.125)
    assert not excess[v.abs() >= 0.5].any()
    assert torch.autograd.gradcheck(lambda t: smooth_relu(t, 0.5), v[::20])


@pytest.mark.parametrize(
    "name, y, outputs, margin, words",
    [
        ("square", np.zeros(4), 2, 0.0, "do not fit a network of 2 outputs"),
        ("square", np.array([0.0, np.nan]), 1, 0.0, "not finite"),
        ("square", np.zeros(4), 1, 1.0, "knows no margin"),
        ("hinge", np.zeros(4), 1, 0.0, "integer labels"),
        ("hinge", np.array([0, 3]), 3, 0.0, "classes"),
        ("hinge", np.array([-1, 1]), 1, 0.0, "classes"),
    ],
)
def test_data_that_do_not_fit_are_refused(name, y, outputs, margin, words):
    with pytest.raises(UsageError, match=words):
        loss_named(name).scores(y, outputs, margin)


def test_an_unknown_loss_is_refused():
    with pytest.raises(UsageError, match="choose one of square, absolute"):
        loss_named("sqare")
