"""Random dense chains, and their best bound by a general conic solver."""

from itertools import pairwise

import numpy as np

from certlip.ops import Abs, Gelu, LeakyRelu, Relu, Sigmoid, Tanh
from certlip.repairs.admm import Chain
from certlip.solvers import conic

ACTIVATIONS = {
    "relu": Relu(), "tanh": Tanh(), "sigmoid": Sigmoid(), "abs": Abs(), "gelu": Gelu(), "leaky": LeakyRelu(0.1)
}  # fmt: skip


def random_chain(seed: int, sizes: tuple[int, ...], activation: str = "relu", scale: float = 1.0) -> Chain:
    rng = np.random.default_rng(seed)
    weights = [scale * rng.standard_normal((o, i)) / np.sqrt(i) for i, o in pairwise(sizes)]
    biases = [0.3 * rng.standard_normal(o) for o in sizes[1:]]
    return Chain(tuple(weights), tuple(biases), (ACTIVATIONS[activation],) * (len(sizes) - 2))


def oracle_squared_bound(chain: Chain) -> float:
    """By Clarabel, on the matrix written down entry by entry."""
    return conic.solve(chain.program()).objective


def classes(seed: int, n: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Points labelled by the largest of random linear functions."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, inputs))
    return x, (x @ rng.standard_normal((inputs, outputs))).argmax(1)
