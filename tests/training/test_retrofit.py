"""Networks bounded by construction: against singular values, sampled slopes, proved bounds and the original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_graphs import Sketch, dense_graph, image_graph, steepest_secant
from small_models import ZOO

from certlip.graph import Graph, Node
from certlip.importers import load
from certlip.layers import FAMILIES
from certlip.lipschitz import best, bound_output
from certlip.ops import Add, Concat, Conv, ConvTranspose, Dense, Gelu, Relu, Tanh
from certlip.passes import normal_form
from certlip.properties.outputs import ALL
from certlip.rigor.ball import Ball
from certlip.training.branches import residual_branches
from certlip.training.retrofit import Retrofit, RowSums, bottleneck


def shaken(graph: Graph, name: str, norm: str, seed: int, product: float = 1.5, branches=()) -> Retrofit:
    """A retrofit away from its start, as training would leave it."""
    network = Retrofit(graph, name, norm, product, branches)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return network


def proved(graph: Graph, norm: str, method: str = "spectral") -> float:
    found = best(bound_output(graph, ALL, norm, method))
    return float("inf") if found is None else found.value


GRAPHS = [(make, seed) for make in (dense_graph, image_graph) for seed in range(6)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("make", "seed"), GRAPHS, ids=lambda item: getattr(item, "__name__", item))
def test_no_slope_exceeds_the_product(make, seed, name):
    graph = normal_form(make(np.random.default_rng(seed)))
    written = shaken(graph, name, "l2", seed).graph()
    assert steepest_secant(written, "l2", np.random.default_rng(seed), points=6) <= 1.5 * (1 + 1e-5)


@pytest.mark.parametrize(("make", "seed"), GRAPHS, ids=lambda item: getattr(item, "__name__", item))
def test_row_sums_in_linf(make, seed):
    graph = normal_form(make(np.random.default_rng(seed)))
    written = shaken(graph, "spectral", "linf", seed).graph()
    assert steepest_secant(written, "linf", np.random.default_rng(seed), points=6) <= 1.5 * (1 + 1e-5)
    assert proved(written, "linf") <= 1.5 * (1 + 1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_fold_is_the_norm_product(name):
    """Singular values of every layer, by numpy, against the gains."""
    graph = normal_form(load(ZOO / "digits_mlp.onnx", check=False).graph)
    network = shaken(graph, name, "l2", 0)
    gains = {position: float(gain.detach()) for position, gain in network.gains().items()}
    for position, (weight, _) in network.weights().items():
        assert np.linalg.norm(weight.detach().double().numpy(), 2) <= gains[position] * (1 + 1e-5)
    assert np.prod(list(gains.values())) == pytest.approx(1.5 * float(network.share.detach().sigmoid()), rel=1e-5)
    assert proved(network.graph(), "l2") <= 1.5 * (1 + 1e-5)


@pytest.mark.parametrize("stem", ["digits_mlp", "digits_tanh", "digits_residual", "mnist_conv", "breast_cancer"])
@pytest.mark.parametrize("name", ["spectral", "cpl", "sll", "aol"])
def test_the_start_is_the_original_times_a_constant(stem, name):
    graph = normal_form(load(ZOO / f"{stem}.onnx", check=False).graph)
    network = Retrofit(graph, name, "l2", 0.7)
    x = np.load(ZOO / f"{stem}.npz")["x"][:20].astype(np.float64).reshape(-1, *graph.input_shape)
    expected, actual = graph(x), network.graph()(x)
    factor = float((expected * actual).sum() / (expected * expected).sum())
    assert 0 < factor < 1
    np.testing.assert_allclose(actual, factor * expected, rtol=0, atol=1e-4 * np.abs(actual).max())


def test_scaling_and_allowing():
    graph = normal_form(load(ZOO / "breast_cancer.onnx", check=False).graph)
    network = shaken(graph, "sll", "l2", 0)
    x = np.random.default_rng(0).standard_normal((5, *graph.input_shape))
    before, gain = network.graph()(x), float(network.gains()[network.last].detach())
    network.allow(1.3)
    np.testing.assert_allclose(network.graph()(x), before, rtol=1e-4, atol=1e-5)
    assert network.product == pytest.approx(1.95)
    network.scale(2.0)
    np.testing.assert_allclose(network.graph()(x), 2.0 * before, rtol=1e-4, atol=1e-5)
    assert float(network.gains()[network.last].detach()) == pytest.approx(2.0 * gain, rel=1e-4)


def test_the_gains_are_trained():
    graph = normal_form(load(ZOO / "digits_residual.onnx", check=False).graph)
    network = Retrofit(graph, "spectral", "l2", 1.0)
    network(torch.randn(4, *graph.input_shape)).square().sum().backward()
    gradients = [log.grad for log in network.log_gains.values()]
    assert len(gradients) == 5
    assert all(gradient is not None and gradient != 0 for gradient in gradients)
    assert network.share.grad != 0


def test_torch_s_generator_is_left_alone():
    graph = normal_form(load(ZOO / "digits_residual.onnx", check=False).graph)
    before = torch.get_rng_state()
    Retrofit(graph, "sll", "l2", 1.0, residual_branches(graph))
    assert torch.equal(torch.get_rng_state(), before)


def dense_residual(activation, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    sketch = Sketch(rng, (1, 4))
    z = sketch.dense(0, 5)
    up = sketch.add(Dense.of(rng.standard_normal((7, 5)), rng.standard_normal(7), (1,)), z)
    act = sketch.add(activation, up)
    down = sketch.add(Dense.of(rng.standard_normal((5, 7)), rng.standard_normal(5), (1,)), act)
    sketch.add(Add(), z, down)
    sketch.dense(len(sketch.nodes), 2)
    return sketch.graph()


def conv_residual(seed: int = 0, pad: int = 1) -> Graph:
    rng = np.random.default_rng(seed)
    sketch = Sketch(rng, (1, 1, 5, 5))

    def conv(value: int, out: int, p: int) -> int:
        channels, *space = sketch.shapes[value][1:]
        kernel, bias = rng.standard_normal((out, channels, 3, 3)), rng.standard_normal((1, out, 1, 1))
        pads = ((p, p), (p, p))
        return sketch.add(
            Conv(Ball.exact(kernel), Ball.exact(bias), np.abs(bias), (channels, *space), (1, 1), pads, (1, 1)), value
        )

    z = conv(0, 3, 1)
    act = sketch.add(Relu(), conv(z, 4, pad))
    sketch.add(Add(), conv(act, 3, 2 - pad), z)
    sketch.flatten(len(sketch.nodes))
    sketch.dense(len(sketch.nodes), 2)
    return sketch.graph()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "graph", [dense_residual(Relu()), dense_residual(Tanh()), conv_residual(), conv_residual(0, 2)]
)
def test_residual_branches_cost_nothing(name, graph):
    """A block of gain 1 whatever its weights: proved by nothing here, so searched for steep secants."""
    branches = residual_branches(graph)
    assert len(branches) == 1
    network = shaken(graph, name, "l2", 1, branches=branches)
    written = network.graph()
    assert steepest_secant(written, "l2", np.random.default_rng(0), points=8) <= 1.5 * (1 + 1e-5)
    x = torch.randn(3, *graph.input_shape, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(network(x).detach(), written(x.double().numpy()), rtol=1e-3, atol=1e-4)
    up, down = (written.nodes[i].operator.weight.mid for i in (branches[0].up, branches[0].down))
    if up.ndim == 2:
        scales = np.linalg.norm(up, axis=1) / np.linalg.norm(down, axis=0)
        np.testing.assert_allclose(down, -(up / scales[:, None]).T, rtol=1e-4, atol=1e-6)


def test_lipsdp_proves_what_residual_layers_promise():
    graph = normal_form(load(ZOO / "digits_residual.onnx", check=False).graph)
    branches = residual_branches(graph)
    assert len(branches) == 2
    network = shaken(graph, "sll", "l2", 0, branches=branches)
    assert proved(network.graph(), "l2", "lipsdp") <= 1.5 * (1 + 1e-4)
    assert proved(network.graph(), "l2", "spectral") > 1.5


@pytest.mark.parametrize("stem", ["digits_lipschitz"])
def test_a_network_of_the_family_is_its_own_start(stem):
    """Residual layers that have the form already are met: the zoo's are those of SLL."""
    graph = normal_form(load(ZOO / f"{stem}.onnx", check=False).graph)
    branches = residual_branches(graph)
    assert len(branches) == 3
    network = Retrofit(graph, "sll", "l2", 1.0, branches)
    x = np.load(ZOO / f"{stem}.npz")["x"][:50].astype(np.float64).reshape(-1, *graph.input_shape)
    expected, actual = graph(x), network.graph()(x)
    factor = float((expected * actual).sum() / (expected * expected).sum())
    np.testing.assert_allclose(actual, factor * expected, rtol=0, atol=1e-3 * np.abs(actual).max())


def test_what_is_no_residual_branch():
    assert not residual_branches(dense_residual(Gelu()))  # slopes beyond [0, 1]
    assert not residual_branches(wider())
    shared = dense_residual(Relu())
    nodes = (*shared.nodes, Node(Concat(1), (len(shared.nodes), 3), "both"))  # the activation is read elsewhere, too
    assert not residual_branches(Graph(shared.input_shape, nodes))


def wider() -> Graph:
    """The branch's first layer reads another value than the one that is added."""
    rng = np.random.default_rng(0)
    sketch = Sketch(rng, (1, 5))
    z = sketch.dense(0, 5)
    act = sketch.add(Relu(), sketch.dense(0, 7))
    sketch.add(Add(), z, sketch.dense(act, 5))
    return sketch.graph()


def test_bottlenecks():
    graph = dense_residual(Relu())
    assert bottleneck(graph) == len(graph.nodes) - 1
    assert bottleneck(wider()) is None
    ends_in_a_sum = Graph(graph.input_shape, graph.nodes[:-1])
    assert bottleneck(ends_in_a_sum) == 0
    with pytest.raises(ValueError, match="no layer is passed by everything"):
        Retrofit(wider(), "sll")


@pytest.mark.parametrize("transposed", [False, True])
def test_row_sums_of_convolutions(transposed):
    """The matrix of the zero-padded layer, written out."""
    rng = np.random.default_rng(0)
    raw = torch.tensor(3.0 * rng.standard_normal((4, 3, 3, 3)))
    kernel = RowSums(transposed)(raw).numpy()
    conv = Conv(Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), (3, 6, 6), (2, 1), ((1, 1), (0, 1)), (1, 1))
    operator = ConvTranspose.of(conv, Ball.exact(0.0)) if transposed else conv
    assert np.abs(operator.matrix().mid).sum(1).max() <= 1 + 1e-12
    assert torch.equal(RowSums(transposed)(0.01 * raw / raw.abs().sum()), 0.01 * raw / raw.abs().sum())
