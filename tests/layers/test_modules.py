"""Layers and whole networks: slopes under attack, exact branches, plain copies in onnxruntime, proved bounds."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from operators import norm
from torch import nn

import certlip
from certlip import layers
from certlip.errors import UsageError
from certlip.layers import CONV2D, DENSE, FAMILIES, RESIDUAL_CONV2D, RESIDUAL_DENSE, Branch, plain
from certlip.lipschitz import bound_output


def seeded(build, seed: int = 0) -> nn.Module:
    """A module in float64 with all its parameters drawn at random, biases and q included."""
    torch.manual_seed(seed)
    module = build().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return module


def steepest(module: nn.Module, shape: tuple[int, ...], seed: int = 0, steps: int = 40) -> float:
    """The largest |f(x) - f(y)| / |x - y| that gradient ascent over both points finds."""
    torch.manual_seed(seed)
    x = torch.randn(16, *shape, dtype=torch.float64)
    d = torch.randn(16, *shape, dtype=torch.float64) * 10.0 ** torch.linspace(-3, 1, 16).reshape(-1, *(1,) * len(shape))
    x, d = x.requires_grad_(), d.requires_grad_()
    optimiser, best = torch.optim.Adam([x, d], lr=0.05), 0.0
    for _ in range(steps):
        rise = (module(x + d) - module(x)).flatten(1).norm(dim=1)
        slopes = rise / d.flatten(1).norm(dim=1)
        best = max(best, float(slopes.max().detach()))
        optimiser.zero_grad()
        (-slopes.log().sum()).backward()
        optimiser.step()
    return best


LAYERS = {
    "dense": (DENSE, lambda kind: kind(6, 4), (6,)),
    "conv": (CONV2D, lambda kind: kind(2, 3, 3, stride=2, padding=1), (2, 5, 5)),
    "residual dense": (RESIDUAL_DENSE, lambda kind: kind(5, 7), (5,)),
    "residual dense, tanh": (RESIDUAL_DENSE, lambda kind: kind(5, 4, "tanh"), (5,)),
    "residual conv": (RESIDUAL_CONV2D, lambda kind: kind(2, 3), (2, 5, 5)),
    "residual conv, dilated": (
        RESIDUAL_CONV2D,
        lambda kind: kind(2, 3, 2, "softplus", padding=2, dilation=2),
        (2, 5, 5),
    ),
}


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_no_attack_finds_a_slope_above_one(name, which):
    kinds, build, shape = LAYERS[which]
    assert 0.05 < steepest(seeded(lambda: build(kinds[name])), shape) <= 1 + 1e-9


def test_the_attack_finds_what_is_there():
    """The same search exceeds 1 where a residual layer has an activation with slopes outside [0, 1]."""
    layer = seeded(lambda: layers.CPLResidualDense(4, 4))
    layer.activation = nn.GELU()
    assert steepest(layer, (4,), steps=150) > 1.1
    layer.activation = type("Abs", (nn.Module,), {"forward": lambda self, v: v.abs()})()
    assert steepest(layer, (4,), steps=150) > 2.0


@pytest.mark.parametrize(
    "activation",
    ["gelu", "abs", "silu", nn.GELU(), nn.PReLU(), nn.LeakyReLU(-0.1), nn.LeakyReLU(2.0), nn.ELU(1.5), abs, nn.ReLU],
    ids=str,
)
def test_activations_without_slopes_in_the_unit_interval_are_refused(activation):
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        layers.SLLResidualDense(3, activation=activation)


ACCEPTED = ["relu", "tanh", "sigmoid", "softplus", "leakyrelu", "elu", "celu", "hardtanh", "relu6"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_activations_have_slopes_in_the_unit_interval(name):
    act = layers.SLLResidualDense(2, activation=name).activation
    v = torch.linspace(-20, 20, 40001, dtype=torch.float64)
    slopes = act(v).diff() / v.diff()
    assert slopes.min() >= -1e-12 and slopes.max() <= 1 + 1e-9


@pytest.mark.parametrize("act", ["relu", "tanh"])
@pytest.mark.parametrize("name", ["sll", "aol", "cpl", "spectral"])
def test_a_branch_of_the_form_is_met_exactly(name, act):
    """With V within the bound by diagonal dominance, x - 2 V'S^-1 act(S V x + b) is a member of all that scale."""
    torch.manual_seed(1)
    v = torch.randn(4, 3, dtype=torch.float64)
    v = 0.9 * v / (v @ v.T).abs().sum(1).max().sqrt()
    scale, bias, x = torch.rand(4).double() + 0.5, torch.randn(4).double(), torch.randn(20, 3).double()
    module = nn.ReLU() if act == "relu" else nn.Tanh()
    expected = x - 2 * (module(x @ (scale[:, None] * v).T + bias) / scale) @ v
    layer = RESIDUAL_DENSE[name].from_branch(scale[:, None] * v, bias, -2 * (v / scale[:, None]).T, act)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-9)


def test_a_convolutional_branch_is_met_exactly():
    torch.manual_seed(2)
    up, x = 0.03 * torch.randn(3, 2, 3, 3).double(), torch.randn(4, 2, 6, 5).double()
    down, bias = -1.7 * up.flip(2, 3).transpose(0, 1), torch.randn(3).double()
    hidden = torch.relu(nn.functional.conv2d(x, up, bias, padding=1))
    expected = x + nn.functional.conv2d(hidden, down, padding=1)
    for name in ("sll", "aol", "cpl", "spectral"):
        torch.testing.assert_close(RESIDUAL_CONV2D[name].from_branch(up, bias, down)(x), expected, rtol=0, atol=1e-9)


def test_a_steep_branch_keeps_its_pre_activations():
    """Twice too long: the neurons fire where they did, and the branch is a quarter as strong."""
    torch.manual_seed(3)
    v, bias, x = torch.linalg.qr(torch.randn(4, 4).double())[0], torch.randn(4).double(), torch.randn(9, 4).double()
    layer = layers.CPLResidualDense.from_branch(2 * v, bias, -4 * v.T)
    torch.testing.assert_close(layer(x), x - 2 * torch.relu(x @ (2 * v).T + bias) @ v / 2, rtol=0, atol=1e-9)
    assert norm(layer.weight.detach().numpy()) == pytest.approx(1.0)


def test_a_neuron_that_pushes_the_other_way_is_silenced():
    """z + relu(z) has slope 2: nothing of it can be kept."""
    layer = layers.SLLResidualDense.from_branch(torch.eye(2), torch.zeros(2), torch.eye(2))
    x = torch.randn(5, 2)
    assert torch.equal(layer(x), x)


def test_branches_of_the_wrong_shape_are_refused():
    with pytest.raises(UsageError, match="no branch"):
        layers.SLLResidualDense.from_branch(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, 2))
    with pytest.raises(UsageError, match="no branch"):
        layers.SLLResidualConv2d.from_branch(torch.zeros(3, 2, 3, 3), torch.zeros(3), torch.zeros(3, 2, 3, 3))
    with pytest.raises(UsageError, match="padding"):
        layers.SLLResidualConv2d(2, 2, 3, padding=3)


def proved(model: certlip.importers.Model, method: str) -> float:
    """The bound of one method, without the search for steep slopes that `certlip.bound` adds."""
    return bound_output(model.graph, certlip.Output("all"), method=method)[0].value


def dense_network(name: str) -> nn.Module:
    blocks = (RESIDUAL_DENSE[name](6, 8), RESIDUAL_DENSE[name](6, 5, "tanh"))
    return nn.Sequential(nn.Flatten(), DENSE[name](12, 6), nn.ReLU(), *blocks, DENSE[name](6, 3))


def conv_network(name: str) -> nn.Module:
    return nn.Sequential(
        CONV2D[name](1, 3, 3, stride=2, padding=1), nn.ReLU(), RESIDUAL_CONV2D[name](3, 4),
        nn.Flatten(), DENSE[name](27, 3),
    )  # fmt: skip


WHOLE = [(name, dense_network, (3, 4)) for name in FAMILIES]
WHOLE += [(name, conv_network, (1, 6, 6)) for name in ("sll", "cpl", "orthogonal")]


@pytest.mark.parametrize("name, build, shape", WHOLE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_whole_networks_export_and_are_proved(name, build, shape):
    """torch, the plain copy and onnxruntime agree; the bound proved of the written file is at most 1."""
    network = seeded(lambda: build(name)).float()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    copied = plain(network)
    kinds = (nn.Sequential, nn.Flatten, nn.Linear, nn.Conv2d, nn.ReLU, nn.Tanh, Branch)
    assert all(type(module) in kinds for module in copied.modules())
    x = torch.randn(5, *shape)
    torch.testing.assert_close(copied(x), network(x), rtol=0, atol=2e-4)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    model = certlip.load(copied, input_shape=(1, *shape))
    session = onnxruntime.InferenceSession(model.onnx_bytes, providers=["CPUExecutionProvider"])
    found = [session.run(None, {session.get_inputs()[0].name: x[i : i + 1].numpy()})[0] for i in range(5)]
    np.testing.assert_allclose(np.concatenate(found), copied(x).detach().numpy(), rtol=0, atol=1e-5)
    assert proved(model, "lipsdp") <= 1.0


@pytest.mark.parametrize("name", ["sll", "cpl"])
def test_convolutional_residual_chains_are_proved_in_the_frequency_domain(name):
    """A witness exists: T = 2 T_0^-1 for each layer. The masked value before a layer has to serve its skip, too."""
    network = seeded(lambda: nn.Sequential(*(RESIDUAL_CONV2D[name](2, 3) for _ in range(2)))).float()
    assert proved(certlip.load(plain(network), input_shape=(1, 2, 7, 7)), "lipsdp-torus") <= 1 + 1e-5


def test_feedforward_layers_are_proved_by_their_norms_alone():
    network = seeded(lambda: nn.Sequential(DENSE["cpl"](30, 20), nn.ReLU(), DENSE["orthogonal"](20, 4))).float()
    assert 1 - 1e-4 < proved(certlip.load(plain(network), input_shape=(1, 30)), "spectral") <= 1.0


def test_plain_leaves_shared_layers_shared_and_other_parametrisations_alone():
    layer = layers.CPLDense(3, 3)
    network = nn.Sequential(layer, nn.ReLU(), layer, torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    copied = plain(network)
    assert copied[0] is copied[2] and type(copied[0]) is nn.Linear
    torch.testing.assert_close(copied(torch.ones(1, 3)), network(torch.ones(1, 3)), rtol=0, atol=1e-4)


def test_plain_refuses_what_it_cannot_write():
    layer = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", layers.family("aol", layer.weight.shape))
    with pytest.raises(UsageError, match="zero-padded"):
        plain(layer)


def test_assigning_a_weight_starts_there():
    layer, wanted = layers.CPLDense(4, 3), torch.randn(3, 4)
    layer.weight = wanted
    torch.testing.assert_close(layer.weight, wanted / torch.linalg.matrix_norm(wanted, 2))


def test_normalised_last_layer_is_pairwise_only():
    """Equal rows: each output moves with slope 1, all together with slope sqrt(3), their differences not at all."""
    last = layers.NormalizedLinear(2, 3).double()
    last.weight = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]], dtype=torch.float64)
    assert norm(last.weight.detach().numpy()) == pytest.approx(3**0.5)
    assert last.pairwise().abs().max() <= 1e-5
    last.weight = torch.randn(3, 2, dtype=torch.float64)
    rows = last.weight.detach().numpy()
    expected = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.testing.assert_allclose(last.pairwise().detach().numpy(), expected, atol=1e-9)
    last.pairwise().sum().backward()
    assert torch.isfinite(last.parametrizations.weight.original.grad).all()
    assert type(plain(last)) is nn.Linear


def test_margin_loss_raises_rivals_by_what_a_ball_can_gain():
    logits, target = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    raised = np.array([2.0, 1.0 + 0.5 * 2**0.5 * 3, 0.5 * 2**0.5 * 3]) / 0.25
    expected = float(np.log(np.exp(raised - raised.max()).sum()) + raised.max() - raised[0])
    assert float(layers.margin_loss(logits, target, 3.0, 0.5, 0.25)) == pytest.approx(expected, rel=1e-5)
    pairs = torch.full((3, 3), 3 * 2**0.5)
    assert float(layers.margin_loss(logits, target, pairs, 0.5, 0.25)) == pytest.approx(expected, rel=1e-5)
    plain_loss = nn.functional.cross_entropy(logits, target)
    assert float(layers.margin_loss(logits, target, 1.0, 0.0, 1.0)) == pytest.approx(float(plain_loss))
    with pytest.raises(UsageError, match="temperature"):
        layers.margin_loss(logits, target, temperature=0.0)


def test_importing_certlip_leaves_the_layers_alone():
    import subprocess
    import sys

    code = "import certlip, certlip.api, sys; assert 'certlip.layers' not in sys.modules and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
