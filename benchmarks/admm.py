"""ADMM with a Lipschitz bound against training without: `python -m benchmarks.admm SETUP METHOD` prints one row."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.kept import Row, kept
from benchmarks.process import row_of
from certlip.properties.numbers import decimal_up
from certlip.repairs.admm import Chain, train
from certlip.rigor.rounding import Array

TITLE = "Training under a Lipschitz bound"
KEY = "admm"
SECONDS = 120.0  # for the bounds of a row
BIAS_EPOCHS = 2  # that a round of ADMM adds for the biases of its copy
REGULARISED = 0.25  # the published penalty
_TEXT = """\
Networks trained from the same random weights, in the same number of passes over the data, with Adam, its rate falling
from {rate:g} to a tenth. `toy`: 2-10-10-3, tanh, 50 points drawn uniformly from [-1, 1]^2 by `default_rng(1612111977)`,
three classes by distance from the origin (below 0.5, below 0.9, beyond), 500 other points for the scores. `mnist`:
196-50-10, ReLU, on 4500 MNIST images pooled to 14 x 14 (means of 2 x 2 pixels), 500 others for the scores. `L2`:
cross-entropy + decay/2 |W|^2, the decay among {decays} that is most accurate on a fifth of the training rows, which are
left out for the choice. `Lipschitz margin`: rivals' scores raised by sqrt(2) L eps, L the product of the layers' norms,
differentiated through (Tsuzuku et al. 2018). `ADMM, mu`: the bound is regularised, with the published mu and penalty
0.25. `ADMM, L <=`: it is enforced; `margin`: with rivals' scores raised by sqrt(2) L eps, too. `eps` is the radius
of the column `certified`: shares of samples that are classified correctly with a proved radius above it, from pairwise
bounds. `L`: proved by `certlip.bound` with `lipsdp` on the written file, in binary32. `s`: CPU time of training."""


@dataclass(frozen=True)
class Setup:
    """Sizes, activation, seed of the weights, passes, the published mu, bounds to enforce, the radius eps."""

    sizes: tuple[int, ...]
    activation: str
    seed: int
    rounds: int
    epochs: int
    batch: int
    mu: float
    targets: tuple[float, ...]
    eps: float

    @property
    def passes(self) -> int:
        """For every method; of those of ADMM some train biases alone."""
        return self.rounds * (self.epochs + BIAS_EPOCHS)


SETUPS = {
    "toy": Setup((2, 10, 10, 3), "Tanh", 1612111977, 40, 10, 25, 1e-5, (5.0, 15.0), 0.05),
    "mnist": Setup((196, 50, 10), "ReLU", 0, 15, 3, 64, 1e-2, (3.0, 10.0), 0.25),
}
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
RATE = 1e-2


def methods(setup: Setup) -> list[str]:
    """Rows of a setup, by name."""
    enforced = [f"ADMM, L <= {target:g}{margin}" for target in setup.targets for margin in ("", ", margin")]
    return ["nominal", "L2", "Lipschitz margin", f"ADMM, mu = {setup.mu:g}", *enforced]


@cache
def samples(name: str) -> tuple[tuple[Array, np.ndarray], tuple[Array, np.ndarray]]:
    """Rows to train on and rows to score."""
    if name == "toy":
        draw = np.random.default_rng(SETUPS[name].seed)
        x = draw.uniform(-1.0, 1.0, (550, 2))
        y = np.digitize(np.linalg.norm(x, axis=1), (0.5, 0.9))
        return (x[:50], y[:50]), (x[50:], y[50:])
    from models_zoo.data import mnist

    split = mnist()

    def pooled(x: np.ndarray) -> Array:
        return x.reshape(-1, 14, 2, 14, 2).astype(np.float64).mean((2, 4)).reshape(-1, 196)

    return (pooled(split.x_train), split.y_train), (pooled(split.x_test), split.y_test)


def random_start(setup: Setup) -> Chain:
    """Normal weights over the root of the fan-in, no biases."""
    from certlip.ops import Relu, Tanh

    draw = np.random.default_rng(setup.seed)
    weights = tuple(draw.standard_normal((o, i)) / np.sqrt(i) for i, o in pairwise(setup.sizes))
    phi = Tanh() if setup.activation == "Tanh" else Relu()
    return Chain(weights, tuple(np.zeros(len(W)) for W in weights), (phi,) * (len(weights) - 1))


def fitted(setup: Setup, x: Array, y: np.ndarray, decay: float = 0.0) -> Chain:
    """By descent on the cross-entropy + decay/2 |W|^2."""
    from certlip.repairs.admm.descent import Descent, samples_of
    from certlip.training.objective import Objective

    start = random_start(setup)
    descent = Descent(start, samples_of(x, y, "cpu"), Objective("cross-entropy"), batch=setup.batch)
    origin = [np.zeros(W.shape) for W in start.weights]
    for done in range(setup.passes):
        descent.epoch(RATE * 0.1 ** (done / setup.passes), origin, decay)
    return descent.chain


def best_decay(setup: Setup, x: Array, y: np.ndarray) -> float:
    """The most accurate on a fifth of the rows; of equals the largest."""
    fifth = len(x) // 5
    scores = {}
    for decay in DECAYS:
        chain = fitted(setup, x[fifth:], y[fifth:], decay)
        scores[decay] = float(np.mean(chain(x[:fifth]).argmax(1) == y[:fifth]))
    return max(DECAYS, key=lambda decay: (scores[decay], decay))


def margin_trained(setup: Setup, x: Array, y: np.ndarray) -> Chain:
    """Lipschitz-margin training with the norm product."""
    import torch

    from certlip.repairs.admm.descent import samples_of
    from certlip.training.loop import AdamW
    from certlip.training.network import Network
    from certlip.training.objective import lead_of_rivals

    start, rows = random_start(setup), samples_of(x, y, "cpu")
    network, draw = Network(start.graph(), torch.float64), torch.Generator().manual_seed(0)
    parameters = list(network.parameters())
    optimiser = AdamW(parameters, 0.0)
    for done in range(setup.passes):
        for part in map(rows.take, torch.randperm(len(rows), generator=draw).split(setup.batch)):
            product = torch.stack([torch.linalg.matrix_norm(W, 2) for W, _ in network.weights().values()]).prod()
            d = lead_of_rivals(network(part.x), part.y) + 2**0.5 * product * setup.eps
            loss = torch.cat([torch.zeros_like(d[:, :1]), d], 1).logsumexp(1).mean()
            optimiser.step(torch.autograd.grad(loss, parameters), RATE * 0.1 ** (done / setup.passes))
    weights, biases = zip(*(pair for _, pair in sorted(network.weights().items())), strict=True)
    arrays = [tuple(tensor.detach().numpy() for tensor in tensors) for tensors in (weights, biases)]
    return Chain(arrays[0], arrays[1], start.activations)


def trained(name: str, method: str) -> Chain:
    """The network of a row."""
    setup, ((x, y), _) = SETUPS[name], samples(name)
    if not method.startswith("ADMM"):
        decay = best_decay(setup, x, y) if method == "L2" else 0.0
        return margin_trained(setup, x, y) if method == "Lipschitz margin" else fitted(setup, x, y, decay)
    options = {"rounds": setup.rounds, "epochs": setup.epochs, "batch": setup.batch, "rate": RATE}
    if "mu" in method:
        states = train(random_start(setup), x, y, loss="cross-entropy", mu=setup.mu, penalty=REGULARISED, **options)
    else:
        target = _target(method)
        margin = 2**0.5 * target * setup.eps if "margin" in method else 0.0
        states = train(random_start(setup), x, y, loss="cross-entropy", target=target, margin=margin, **options)
    *_, last = states
    return last.chain


def _target(method: str) -> float | None:
    return float(method.split("<=")[1].split(",")[0]) if "<=" in method else None


def written(chain: Chain, activation: str) -> bytes:
    """As an ONNX file in binary32."""
    import torch
    from torch import nn

    import certlip

    modules: list[nn.Module] = []
    for W, b in zip(chain.weights, chain.biases, strict=True):
        layer = nn.Linear(W.shape[1], W.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b))
        modules += [layer, getattr(nn, activation)()]
    model = certlip.load(nn.Sequential(*modules[:-1]), input_shape=(1, chain.weights[0].shape[1]))
    return model.onnx_bytes or b""


def measure(name: str, method: str) -> Row:
    """Train, write, bound, certify."""
    import torch

    import certlip

    torch.set_num_threads(1)
    setup, (_, data) = SETUPS[name], samples(name)
    began = time.process_time()
    chain = trained(name, method)
    seconds = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(written(chain, setup.activation))
        model = certlip.load(path)
        report = certlip.bound(model, method="lipsdp", timeout=SECONDS)
        inputs = (data[0].astype(np.float32), data[1])
        radii = certlip.radius(model, data=inputs, method="lipsdp", timeout=SECONDS, total_timeout=SECONDS)
    found = [float(sample.radius or 0.0) for sample in radii.samples if sample.status != "misclassified"]
    count = len(radii.samples)
    bound = None if report.best is None else report.best.value
    target = _target(method)
    return {
        "clean": len(found) / count,
        "bound": bound,
        "met": None if target is None else bound is not None and bound <= target,
        "certified": [sum(radius > eps for radius in found) / count for eps in (setup.eps, 2 * setup.eps)],
        "seconds": seconds,
    }


def section() -> list[str]:
    """The lines of the table."""
    heads = "setup | method | accuracy | L | met | eps | certified at eps | at 2 eps | s"
    decays = ", ".join(f"{decay:g}" for decay in DECAYS)
    lines = [f"## {TITLE}", "", _TEXT.format(rate=RATE, decays=decays), "", f"| {heads} |"]
    lines.append("|---" * (heads.count("|") + 1) + "|")
    with kept(KEY) as known:
        for name, setup in SETUPS.items():
            for method in methods(setup):
                order = {"setup": name, "method": method}
                measured: Callable[[], Row] = partial(row_of, KEY, *order.values())
                row = known.row(order | {"passes": setup.passes, "eps": setup.eps}, measured)
                lines.append(_line(f"{name} | {method}", setup, row))
                print(f"  {lines[-1]}", flush=True)
    return lines


def _line(names: str, setup: Setup, row: Row) -> str:
    if "unavailable" in row:
        return f"| {names} | not available: {row['unavailable'].replace('|', '/')} |" + " |" * 6
    bound = "-" if row["bound"] is None else f"{decimal_up(row['bound']):.7g}"
    met = "" if row["met"] is None else "yes" if row["met"] else "**no**"
    shares = " | ".join(f"{100 * share:.1f} %" for share in row["certified"])
    clean = f"{100 * row['clean']:.1f} %"
    return f"| {names} | {clean} | {bound} | {met} | {setup.eps:g} | {shares} | {row['seconds']:.0f} |"


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
