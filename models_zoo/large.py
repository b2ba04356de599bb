"""`python -m models_zoo.large`: train 784-256-256-256-256-10 on MNIST for the benchmarks, into `models_zoo/cache/`.

Too large to be stored with the zoo; under two minutes on one core. Seeded like the zoo, so that the same machine
and versions give the same file.
"""

from pathlib import Path

import torch

from models_zoo.architectures import DenseChain
from models_zoo.data import mnist
from models_zoo.train import Recipe, score, train, write_onnx

STEM = "mnist_large"
CACHE = Path(__file__).parent / "cache"
PATH = CACHE / f"{STEM}.onnx"
RECIPE = Recipe("Flatten, then 784-256-256-256-256-10, ReLU, Gemm chain",
                lambda _: DenseChain((784, 256, 256, 256, 256, 10), flatten=True),
                8, rate=1e-3, decay=0.5, penalty=1e-4)


def main() -> None:
    """Train and write the model; a file that is cut short never takes its name."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    CACHE.mkdir(exist_ok=True)
    split = mnist()
    network = train(RECIPE, split)
    result = score(write_onnx(f"{STEM}.partial", network, split, CACHE), split)
    (CACHE / f"{STEM}.partial.onnx").replace(PATH)
    print(f"{PATH.name}: {result}, norm product {float(network.norm_product()):.4g} (not proved)")


if __name__ == "__main__":
    main()
