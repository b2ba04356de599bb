"""Lipschitz bounds proved in exact arithmetic: the theorems of the float level, without any bound on rounding errors.

The theorems are those of `norm_product`, `lipsdp` and `torus`; only the arithmetic differs. Every factor of a norm
product is a float s, proposed by the float level, with s^2 I - W'W >= 0 decided in integers. What is taken over from
elsewhere: slope ranges of activations (constants, stored numbers, or for GELU and SiLU the ball arithmetic of
`rigor.functions`), and the radii that weights already have in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod

import numpy as np

from certlip.graph import Affine, Graph, Node, Pointwise
from certlip.ops import Add, Concat, Conv, ConvTranspose, Dense, MaxPool, Reindex, Scale
from certlip.passes.normal_form import normal_form
from certlip.proofs.exact_form import Maps, dense_maps, exact_stages, transfer
from certlip.proofs.exact_lmi import is_feasible, require_size
from certlip.proofs.exact_values import largest, linear_image
from certlip.proofs.form import Form
from certlip.proofs.neuron_form import activations, neuron_form
from certlip.proofs.ranges import Region
from certlip.proofs.torus_form import torus_stages
from certlip.rigor.exact_definite import is_semidefinite
from certlip.rigor.exact_numbers import Exact, NotExact, bilinear, concatenate, sqrt_up
from certlip.rigor.norms import perron_vector
from certlip.rigor.rounding import Array

_BATCH_ENTRIES = 1 << 23


def prove_exactly(
    graph: Graph, norm: str, method: str, witness: Mapping[str, Array], region: Region | None = None
) -> Fraction:
    """L with |Df| <= L |Dx| in `norm` for every network in the graph's balls.

    method and witness: as in `LIPSCHITZ_PROOFS`. The graph is best given as the reader makes it, before layers are
    merged in floats: that leaves the order of inputs and neurons as it is. Raises NotExact, NoNeuronForm or NoTorusForm
    with the reason where there is no proof.
    """
    if region is not None:
        raise NotExact("ranges of values on a region come from floating-point balls: bounds there have no exact proof")
    if norm not in ("l2", "linf"):
        raise NotExact(f"the norm '{norm}' is unknown")
    if method in ("spectral", "gershgorin"):
        return _norm_product(normal_form(graph), norm, method)
    if method == "lipsdp":
        require_size(graph.input_size + sum(prod(shape) for _, shape in activations(graph)))
        forms: tuple[Form, ...] = (neuron_form(graph),)
    elif method == "lipsdp-torus":
        forms = torus_stages(graph)
    else:
        raise NotExact(f"the method '{method}' has no exact proof")
    _require_fit(forms, witness)
    stages = [(forms[0], dense_maps(graph))] if method == "lipsdp" else exact_stages(graph)
    return _lipsdp(stages, norm, witness["metric"], witness["multipliers"], witness.get("cut", np.zeros(0)))


def _require_fit(forms: tuple[Form, ...], witness: Mapping[str, Array]) -> None:
    """Sizes, and arrays of the right shapes with entries that are finite and not negative; else NotExact."""
    for form in forms:
        rows = sum(n * f for n, f in zip(form.sizes[:-1], form.frequencies[:-1], strict=True))
        require_size(rows // form.frequencies[-1])
    shapes = {"metric": forms[0].metric_count.shape, "multipliers": (sum(form.neurons for form in forms),)}
    shapes["cut"] = (0,) if len(forms) == 1 else forms[1].metric_count.shape
    if not set(shapes) >= set(witness) >= set(shapes) - ({"cut"} if len(forms) == 1 else set()):
        raise NotExact("the witness does not have the arrays of its method")
    for name, array in witness.items():
        if not (isinstance(array, np.ndarray) and array.dtype == np.float64 and array.shape == shapes[name]):
            raise NotExact(f"the array '{name}' of the witness does not fit the network")
        if not (np.isfinite(array) & (array >= 0)).all():
            raise NotExact(f"the array '{name}' of the witness has entries that are negative or not finite")


def _lipsdp(stages: list[tuple[Form, Maps]], norm: str, metric: Array, multipliers: Array, cut: Array) -> Fraction:
    """The theorem of `torus`, of `lipsdp` for one stage: the second bounds f by the metric `cut`, the first that."""
    form = stages[0][0]
    counts = [stage.neurons for stage, _ in stages]
    weights = np.ones(form.sizes[-1]) if form.output_index is None else cut[form.output_index]
    outputs = stages[-1][1][-1]
    if not any(block.mid or block.rad for block in outputs.values()):
        return Fraction(0)  # a constant output
    proved = is_feasible(form, stages[0][1], metric, multipliers[: counts[0]], weights)
    if proved and len(stages) == 2:
        head, maps = stages[1]
        proved = is_feasible(head, maps, cut, multipliers[counts[0] :], np.ones(head.sizes[-1]))
    if not proved:
        raise NotExact("the condition of LipSDP is not proved to hold")
    if norm == "l2":
        return sqrt_up(max(map(Fraction, metric.tolist()), default=Fraction(0)))
    terms = zip(form.metric_count.tolist(), metric.tolist(), strict=True)
    return sqrt_up(sum((Fraction(count) * Fraction(entry) for count, entry in terms), Fraction(0)))


def _norm_product(graph: Graph, norm: str, method: str) -> Fraction:
    def step(node: Node, bounds: Sequence[Fraction]) -> Fraction:
        operator = node.operator
        if isinstance(operator, Affine):
            return bounds[0] * operator_norm(operator, method)
        if isinstance(operator, Pointwise):
            return bounds[0] * Fraction(float(operator.steepness().max(initial=0.0)))
        if isinstance(operator, Add):
            return sum(bounds, Fraction(0))
        if isinstance(operator, Concat):
            return sqrt_up(sum((bound * bound for bound in bounds), Fraction(0)))
        if isinstance(operator, MaxPool):
            return bounds[0] * sqrt_up(Fraction(operator.multiplicity))
        raise NotExact(f"node '{node.name}' is a {type(operator).__name__}, which has no exact bound")

    if norm == "l2":
        return graph.fold(Fraction(1), step)[-1]
    entrywise = _entrywise(graph)
    try:
        return min(entrywise, graph.fold(Fraction(1), step)[-1] * sqrt_up(Fraction(graph.input_size)))
    except NotExact:
        return entrywise


def _entrywise(graph: Graph) -> Fraction:
    """Entries of the input move by at most 1, and |W| carries the moves along (`norm_product.entrywise_bound`)."""

    def step(node: Node, moves: Sequence[Exact]) -> Exact:
        operator = node.operator
        if isinstance(operator, Affine):
            weight = Exact.of(operator.weight)
            return bilinear(operator.forward, Exact(weight.size(), weight.rad, weight.shape), moves[0], operator.terms)
        if isinstance(operator, Pointwise):
            return moves[0] * Exact.of(operator.steepness())
        if isinstance(operator, Add):
            return sum(moves[1:], moves[0])
        if isinstance(operator, Concat):
            return concatenate(list(moves), operator.axis + 1)
        if isinstance(operator, MaxPool):
            return largest(operator, moves[0])
        raise NotExact(f"node '{node.name}' is a {type(operator).__name__}, which has no exact bound")

    moves = graph.fold(Exact.of(np.ones((1, *graph.input_shape))), step)[-1]
    return max(moves.ends()[1], default=Fraction(0))


def operator_norm(operator: Affine, method: str) -> Fraction:
    """A number s that is at least |W|_2, proposed by the float level and decided here. Raises NotExact."""
    if isinstance(operator, Scale):
        weight = Exact.of(operator.weight)
        return max(Exact(weight.size(), weight.rad, weight.shape).ends()[1], default=Fraction(0))
    if isinstance(operator, Reindex):
        return sqrt_up(Fraction(operator.multiplicity))
    proposed = operator.l2_norm if method == "spectral" else operator.dominance_norm
    if not np.isfinite(proposed):
        raise NotExact("the float level knows no finite operator norm")
    conv = operator.conv if isinstance(operator, ConvTranspose) else operator
    if isinstance(conv, Conv) and not conv.is_small:
        matrix = transfer(conv)
    elif isinstance(operator, Dense):
        matrix = Exact.of(operator.weight)
    else:
        unit = np.eye(prod(operator.domain))
        matrix = linear_image(operator, Exact.of(unit.reshape(-1, *operator.domain))).map(
            lambda array: array.reshape(len(array), -1)
        )
    batches = matrix if len(matrix.shape) == 3 else matrix[None]
    step = max(1, _BATCH_ENTRIES // max(1, prod(batches.shape[1:])))
    for start in range(0, batches.shape[0], step):
        if not _is_bounded(batches[start : start + step], Fraction(proposed), method):
            raise NotExact("an operator norm of the float level is not confirmed")
    return Fraction(proposed)


def _is_bounded(matrices: Exact, bound: Fraction, method: str) -> bool:
    """bound >= |X|_2 for every member X of (F, m, n): by the row sums of |X X'|, weighed by any positive vector, or
    because bound^2 I - X X' is semidefinite."""
    top = max(matrices.mid, default=0)  # both are divided by 2^(20 top), so that floats reach the Gram matrix
    matrices, limit = matrices.shifted(-top), Exact.of(float(bound)).shifted(-top)
    turned = matrices.map(lambda array: array.swapaxes(-1, -2))
    gram = matrices @ turned if matrices.shape[-2] <= matrices.shape[-1] else turned @ matrices
    square = limit * limit
    if method == "gershgorin" and gram.shape[0] == 1:
        weights = Exact.of(perron_vector(np.abs(gram.near()[0]))[:, None])
        sums = Exact(gram.size(), gram.rad, gram.shape) @ weights
        if min((square * weights - sums).ends()[0]) >= 0:
            return True
    return is_semidefinite(square * Exact.of(np.eye(gram.shape[-1])) - gram)
