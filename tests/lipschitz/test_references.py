"""Published LipSDP values, reproduced and proved, on networks made by others."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from certlip.graph import Graph, Node
from certlip.lipschitz import bound_output
from certlip.ops import Dense, Relu
from certlip.proofs import LIPSCHITZ_PROOFS
from certlip.properties import Output, select

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data")) / "lipschitz"
pytestmark = pytest.mark.skipif(
    not (DATA / "references.csv").exists(), reason="the reference networks are not here; set CERTLIP_REFERENCE_DATA"
)


def network(name: str) -> Graph:
    """A chain of dense layers with ReLU between."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        weights = [file[f"W{i}"] for i in range(sum(key.startswith("W") for key in file.files))]
        biases = [file[f"b{i}"] if f"b{i}" in file.files else None for i in range(len(weights))]
    operators = []
    for weight, bias in zip(weights, biases, strict=True):
        operators += [Dense.of(weight, None if bias is None else np.ravel(bias)), Relu()]
    return Graph((weights[0].shape[1],), tuple(Node(op, (i,)) for i, op in enumerate(operators[:-1])))


def reference(name: str, bound: str) -> float:
    with (DATA / "references.csv").open(newline="") as file:
        (value,) = (row["value"] for row in csv.DictReader(file) if (row["network"], row["bound"]) == (name, bound))
    return float(value)


def proved(graph: Graph, output: Output, method: str) -> float:
    (bound,) = bound_output(graph, output, "l2", method)
    assert bound.proved
    again = LIPSCHITZ_PROOFS[method](select(graph, output), "l2", bound.witness)
    assert again <= bound.value
    return bound.value


@pytest.mark.parametrize(("name", "value"), [("lipsdp_random", 36.48223), ("lipsdp_mnist", 24.36635)])
def test_networks_of_the_lipsdp_paper(name, value):
    """Below 24.36635 lie only the values of an invalid coupling (24.320, 24.365): nothing proved may go there."""
    assert reference(name, "lipsdp-neuron") == value
    graph = network(name)
    assert proved(graph, Output("all"), "lipsdp") == pytest.approx(value, rel=1e-6)
    assert proved(graph, Output("all"), "spectral") == pytest.approx(reference(name, "product"), rel=1e-6)


@pytest.mark.parametrize("kind", ["digits_fnn2", "digits_fnn3"])
@pytest.mark.parametrize("seed", range(5))
def test_single_logits_of_the_digits_networks(kind, seed):
    name = f"{kind}_seed{seed}"
    graph, logit = network(name), Output.logit(7)
    value = proved(graph, logit, "lipsdp")
    assert value == pytest.approx(reference(name, "LipSDP"), rel=1e-5)
    assert value >= reference(name, "lb")
    assert proved(graph, logit, "spectral") == pytest.approx(reference(name, "MP"), rel=1e-5)
