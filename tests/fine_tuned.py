"""A network for tests: a graph trained without any constraint."""

from __future__ import annotations

from typing import Any

from certlip.graph import Graph
from certlip.training.loop import Samples, fit
from certlip.training.network import Network
from certlip.training.objective import Objective


def fine_tune(
    graph: Graph, train: Samples, validation: Samples, objective: Objective, device: str = "cpu", **options: Any
) -> Graph:
    """The graph with the weights of lowest validation loss that `fit` finds from its own; options: those of `fit`."""
    network = Network(graph, device=device)
    for _ in fit(network, train, objective, validation, **options):
        pass
    return network.graph()
