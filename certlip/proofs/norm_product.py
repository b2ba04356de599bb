"""Lipschitz bounds carried through the graph node by node.

Theorem. If the inputs of an operator move by at most L_1, ..., L_k times |Dx|, its output moves by at most
gain(L_1, ..., L_k) |Dx|: the operator norm times L for affine maps, the largest slope for pointwise ones, the sum for
additions, the root of the sum of squares for concatenations, the root of the number of shared windows for max pooling.
By induction along the topological order this bounds |Df| <= L |Dx|. No witness is needed.

Norms: "l2" states |Df|_2 <= L |Dx|_2; "linf" states |Df|_inf <= L |Dx|_inf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from certlip.graph import Affine, Graph
from certlip.rigor.rounding import Array, product_up, up


def prove_norm_product(graph: Graph, norm: str, witness: Mapping[str, Array]) -> float:
    """Upper bound from proved operator norms (largest singular values)."""
    return _bound(graph, norm, lambda operator: operator.l2_norm)


def prove_dominance_product(graph: Graph, norm: str, witness: Mapping[str, Array]) -> float:
    """Upper bound from diagonal dominance of each layer's Gram matrix with the best scaling (Gershgorin)."""
    return _bound(graph, norm, lambda operator: operator.dominance_norm)


def _bound(graph: Graph, norm: str, affine_norm: Callable[[Affine], float]) -> float:
    if norm == "linf":
        # |Df|_inf <= |Df|_2 <= L |Dx|_2 <= L sqrt(n) |Dx|_inf is sometimes the smaller one.
        from_l2 = up(_product(graph, affine_norm) * up(np.sqrt(float(graph.input_size))))
        return min(entrywise_bound(graph), from_l2)
    return _product(graph, affine_norm)


def _product(graph: Graph, affine_norm: Callable[[Affine], float]) -> float:
    def step(node, bounds):
        if isinstance(node.operator, Affine):
            return product_up(bounds[0], affine_norm(node.operator))
        return node.operator.gain("l2", *bounds)

    return graph.fold(1.0, step)[-1]


def entrywise_bound(graph: Graph) -> float:
    """Upper bound on |Df|_inf / |Dx|_inf: entries of x move by at most 1, and |W| carries the moves along.

    For a chain with slopes in [-1, 1] this is | |W_N| ... |W_1| |_inf, never more than the product of the norms.
    """
    moves = graph.fold(np.ones((1, *graph.input_shape)), lambda node, args: node.operator.spread(*args))[-1]
    return float(moves.max(initial=0.0))
