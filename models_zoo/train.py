"""Train and write the model zoo: `python -m models_zoo.train [--only STEM] [--out DIR]`.

Writes `<stem>.onnx` (the network), `<stem>.npz` (held-out samples) and `<stem>.md` (its card) for each model,
and updates its row of the table in `README.md` where the output folder has one. Seeded and single-threaded.
"""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models_zoo.architectures import (
    Architecture,
    ConvNet,
    DenseChain,
    LipschitzNet,
    ResidualNet,
    parameter_count,
)
from models_zoo.data import DATA_OF, SPLIT_SEED, Split
from models_zoo.export import OPSET, GraphWriter

SEED = 1
BATCH = 64
AGREEMENT = 1e-4  # largest accepted difference between onnxruntime (float32) and torch (float64)


@dataclass(frozen=True)
class Recipe:
    """How one model is built and trained.

    The loss is the mean of `cross_entropy((f + sqrt(2) margin (1 - onehot)) / temperature)`, or the squared
    error for a regression, plus `penalty` times the norm product. A positive `margin` is for 1-Lipschitz
    networks, where it is the l2 radius at which the logits must still be separated (Tsuzuku et al. 2018).
    """

    summary: str
    build: Callable[[Split], Architecture]
    epochs: int
    rate: float = 3e-3
    decay: float = 1e-2
    margin: float = 0.0
    temperature: float = 1.0
    penalty: float = 0.0

    def loss(self, output: Tensor, target: Tensor, product: Tensor) -> Tensor:
        """The loss of one batch, see the class."""
        if target.is_floating_point():
            return F.mse_loss(output[:, 0], target) + self.penalty * product
        shift = sqrt(2.0) * self.margin * (1 - F.one_hot(target, output.shape[1]))
        return F.cross_entropy((output + shift) / self.temperature, target) + self.penalty * product

    def describe(self) -> str:
        """The recipe as the card's sentence."""
        terms = [f"AdamW (rate {self.rate:g}, cosine decay, weight decay {self.decay:g})",
                 f"{self.epochs} epochs, batches of {BATCH}"]
        if self.margin:
            terms.append(f"Lipschitz margin {self.margin:g}")
        if self.temperature != 1.0:
            terms.append(f"temperature {self.temperature:g}")
        if self.penalty:
            terms.append(f"penalty {self.penalty:g} x norm product")
        return "; ".join(terms)


def _normalised_mlp(split: Split) -> Architecture:
    moments = float(np.float32(split.x_train.mean())), float(np.float32(split.x_train.std()))
    return DenseChain((784, 64, 64, 10), flatten=True, normalise=moments)


RECIPES: dict[str, Recipe] = {
    "digits_mlp": Recipe("64-48-48-10, ReLU, Gemm chain",
                         lambda _: DenseChain((64, 48, 48, 10)), 100, decay=0.6, penalty=1e-4),
    "digits_tanh": Recipe("64-32-32-10, tanh, Gemm chain",
                          lambda _: DenseChain((64, 32, 32, 10), "Tanh"), 100, penalty=0.003),
    "digits_residual": Recipe("64-32 linear, two blocks z + W2 relu(W1 z + b1) of width 32, dense 32-10",
                              lambda _: ResidualNet(64, 32, 2, 10), 100, penalty=0.005),
    "digits_lipschitz": Recipe("three 1-Lipschitz blocks x - 2 W T^-1 relu(W'x + b) of width 64, then a "
                               "1-Lipschitz dense layer W T^-1/2 x + b, 64-10 (SLL, Araujo et al. 2023), as "
                               "plain operators with rounded weights",
                               lambda _: LipschitzNet(64, 3, 10), 150, rate=1e-2, decay=0.0, margin=0.3,
                               temperature=0.1),
    "mnist_mlp": Recipe("(x - mean) / deviation as Sub and Div, Flatten, then 784-64-64-10, ReLU, Gemm chain",
                        _normalised_mlp, 30, decay=0.5, penalty=3e-4),
    "mnist_conv": Recipe("Conv 1-4 (5x5, stride 3, padding 2), ReLU, BatchNormalization, Conv 4-8 (3x3, "
                         "stride 2, no padding), ReLU, Flatten, dense 128-10",
                         lambda _: ConvNet(), 30, decay=0.1, penalty=0.01),
    "breast_cancer": Recipe("30-16-2, ReLU, Gemm chain",
                            lambda _: DenseChain((30, 16, 2)), 100, decay=0.2),
    "diabetes": Recipe("10-10-1, ReLU, Gemm chain, regression",
                       lambda _: DenseChain((10, 10, 1)), 100, decay=0.1),
}
"""How each model is made, by stem."""


def train(recipe: Recipe, split: Split) -> Architecture:
    """The trained network of `recipe`, in float64 and inference mode, its parameters frozen."""
    torch.manual_seed(SEED)
    network = recipe.build(split)
    x, y = torch.from_numpy(split.x_train), torch.from_numpy(split.y_train)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    steps = recipe.epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x))
        for batch in order[: len(x) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            recipe.loss(network(x[batch]), y[batch], network.norm_product()).backward()
            optimiser.step()
            schedule.step()
    network.double().eval().requires_grad_(False)
    return network


def write_onnx(stem: str, network: Architecture, split: Split, out: Path) -> NDArray[np.float32]:
    """Write `<stem>.onnx`; return onnxruntime's outputs on the held-out part, once torch agrees with them.

    Raises `RuntimeError` where the two differ by more than `AGREEMENT`.
    """
    output, width = ("logits", split.classes) if split.classes else ("prediction", 1)
    graph = GraphWriter()
    network.write(graph, output)
    path = out / f"{stem}.onnx"
    onnx.save(graph.model(stem, split.x_test.shape[1:], output, width), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([output], {"input": split.x_test})[0]
    expected = network(torch.from_numpy(split.x_test).double()).numpy()
    difference = float(np.abs(found - expected).max())
    if not difference <= AGREEMENT:
        raise RuntimeError(f"{stem}: onnxruntime and torch differ by {difference:.1e} > {AGREEMENT:g}")
    return found


def score(output: NDArray[np.float32], split: Split) -> str:
    """The held-out accuracy, or the error of a regression, as the card and the table print it."""
    if split.classes:
        right = int((output.argmax(axis=1) == split.y_test).sum())
        return f"accuracy {right / len(output):.4f} ({right} of {len(output)})"
    error = float(np.mean((output[:, 0].astype(np.float64) - split.y_test) ** 2))
    explained = 1.0 - error / float(np.var(split.y_test))
    return f"mean squared error {error:.4f} (R2 {explained:.4f}, {len(output)} samples)"


def card(stem: str, recipe: Recipe, network: Architecture, split: Split, result: str) -> str:
    """The model card; the line `<!-- bounds -->` is where proved bounds are filled in."""
    shape = ", ".join(str(n) for n in ("batch", *split.x_test.shape[1:]))
    output = f"`logits` (batch, {split.classes})" if split.classes else "`prediction` (batch, 1)"
    kind = "stratified by label" if split.classes else "uniform"
    rows = {
        "input, output": f"`input` ({shape}), {output}, float32, opset {OPSET}",
        "data": split.description,
        "split": f"{kind}, seed {SPLIT_SEED}: {len(split.x_train)} for training, "
                 f"{len(split.x_test)} held out (`{stem}.npz`)",
        "training": f"{recipe.describe()}; seed {SEED}",
        "held out": f"{result}, by onnxruntime",
        "norm product": f"{float(network.norm_product()):.4g}, floating point, **not proved**",
    }
    return "\n".join([
        f"# {stem}", "",
        f"{'A classifier' if split.classes else 'A regressor'}: {recipe.summary}. "
        f"{parameter_count(network)} trained parameters.", "",
        "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items()), "",
        f"Written by `python -m models_zoo.train --only {stem}`.", "",
        "## Proved bounds", "", "<!-- bounds -->", ""])


def update_table(readme: Path, stem: str, row: str) -> None:
    """Replace the row of `stem` in the table of `readme`."""
    text = readme.read_text(encoding="utf-8")
    pattern = re.compile(rf"^\| \[{stem}\].*$", re.MULTILINE)
    if not pattern.search(text):
        raise RuntimeError(f"{readme} has no row for {stem}")
    readme.write_text(pattern.sub(lambda _: row, text), encoding="utf-8")


def make(stem: str, out: Path) -> str:
    """Train and write one model with its samples, card and table row; return the line to show."""
    start = time.perf_counter()
    recipe, split = RECIPES[stem], DATA_OF[stem]()
    network = train(recipe, split)
    result = score(write_onnx(stem, network, split, out), split)
    np.savez_compressed(out / f"{stem}.npz", x=split.x_test, y=split.y_test)
    (out / f"{stem}.md").write_text(card(stem, recipe, network, split, result), encoding="utf-8")
    product = f"{float(network.norm_product()):.4g}"
    readme = out / "README.md"
    if readme.exists():
        update_table(readme, stem, f"| [{stem}]({stem}.md) | {recipe.summary} | {result} | {product} |")
    return f"{stem}: {result}, norm product {product}, {time.perf_counter() - start:.1f} s"


def main() -> None:
    """Train and write the models that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=sorted(RECIPES), help="make this model alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: this one)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for stem in [arguments.only] if arguments.only else RECIPES:
        print(make(stem, arguments.out), flush=True)


if __name__ == "__main__":
    main()
