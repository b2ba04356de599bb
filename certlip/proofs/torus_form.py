"""Convolutional networks in the frequency domain: one small semidefinite condition per frequency.

Setting. Images x with zero-padded convolutions, channel-wise scales, sums, concatenations of channels and activations
z_k = phi_k(v_k). Choose tori, n per axis at stride 1 and n / level where strides multiply to `level`, and place the
image of side H at the positions 0, ..., H - 1. Let E fill up with zeros from image to torus, so E' crops and EE' is the
mask, and let K be the circular convolution with the same taps (correlation), strides and offsets.

Lemma (compression). Let a padded convolution read up to `reach` pixels beyond either border. If n / level >= H + reach
and n / level >= stride H_out, it is W = E'KE: outputs inside the image read the torus positions -reach, ...,
H - 1 + reach, which wrap around onto zeros alone. Let v^ be the value that the circular operators make of the masked
signals E x, E z_1, ... Then E' v^ = v for every value v, by induction: scales, sums and concatenations act pixel by
pixel; a convolution that reads no padding takes outputs inside the image from inputs inside; one that does read padding
needs an input that vanishes outside the image. Signals do, and so do their channel-wise combinations and convolutions
of single pixels. Any other linear value (say, a convolution) that is read beyond its border becomes a group of its own,
with the identity as its activation: without that mask the claim is false (one pixel and the kernels (a, 1, a) and
(-a, 1, -a), a^2 = .4: the truth is 1, and their product on a torus of two pixels has norm .6). Whatever reads the value
later reads the group: to a skip past it, the form would not say that the two are equal inside.

Theorem. Let T >= 0 and D >= 0 be constant over the pixels of a channel, P per channel of x, and a <= 0 <= b the slopes,
widened by 0, the same at all pixels. If on the torus, for arbitrary signals x, z_1, ..., z_L there,

    x'Px + sum_k [2 z_k'T_k z_k - 2 z_k'(a + b)T_k v_k + 2 v_k' a b T_k v_k] - f'Df >= 0,

then |f(x1) - f(x2)|^2_D <= (x1 - x2)'P(x1 - x2) for the zero-padded network.

Proof. Insert masked signals Ex, Ez_k. At the positions inside the image the sum is the same expression for the zero-
padded network, by the lemma and since P, T, D, a, b are constant per channel. Outside, z_k = 0, and what remains is
2 a b T v^2 <= 0 and -D f^2 <= 0 (this is what slopes on both sides of 0 are for: with a > 0 the outside would help).
So the zero-padded expression is >= 0, and LipSDP's argument (`lipsdp`) finishes, as a slope in [a, b] that held before
widening holds after it. An activation may have different slopes at different pixels, their common range counts.

The circular operators commute with shifts by the total stride: the unitary Fourier transform splits the condition over
the frequencies of the coarsest torus, see `torus_grid`. Real and imaginary parts share P, T and D. A dense head reads
one value u; this part proves |Du|^2_D <= Dx'PDx with D per channel, the head |Df|^2 <= |Du|^2_D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.graph import Graph, Node
from certlip.graph.kinds import Shape
from certlip.ops import Concat, Conv, Scale
from certlip.proofs.form import Form, Index
from certlip.proofs.neuron_form import neuron_form, obstacle
from certlip.proofs.torus_grid import Level, TorusGrid
from certlip.proofs.torus_image import (
    ImagePart,
    NoTorusForm,
    channel_factors,
    channel_slopes,
    image_part,
    is_activation,
)
from certlip.rigor.ball import Ball, concatenate
from certlip.rigor.rounding import Array


def torus_obstacle(graph: Graph) -> str | None:
    """Why the graph has no torus form, in a sentence, or None."""
    try:
        head = image_part(graph).head
    except NoTorusForm as refusal:
        return str(refusal)
    reason = obstacle(head) if head else None
    return f"the dense part has no neuron form: {reason}" if reason else None


@lru_cache(maxsize=2)  # a prover and its retries ask for the same immutable graph again and again
def torus_stages(graph: Graph) -> tuple[Form, ...]:
    """The form of the convolutional part, and that of the dense head if there is one. Raises NoTorusForm.

    The first has one metric entry per input channel, one multiplier per channel of each activation, and, with a head,
    `output_index` = channel of u. The second is a neuron form with one metric entry per channel of u.
    """
    reason = torus_obstacle(graph)
    if reason:
        raise NoTorusForm(reason)
    part = image_part(graph)
    form = _frequency_form(part)
    if part.head is None:
        return (form,)
    channels, pixels = part.graph.output_shape[1], prod(part.graph.output_shape[2:])
    index, count = np.repeat(np.arange(channels), pixels), np.full(channels, float(pixels))
    return form, neuron_form(part.head, metric_index=index, metric_count=count)


@dataclass(frozen=True, eq=False)
class _Signal:
    """An image as a linear combination of groups: for each one a ball (F, 2c, P, 2c_s), or None for the group itself.
    The P entries follow `fold(level, level of s)`."""

    shape: Shape
    level: Level
    terms: Mapping[int, Ball | None]

    @property
    def rows(self) -> int:
        return 2 * self.shape[1]


def _frequency_form(part: ImagePart) -> Form:
    grid, image = part.grid, part.graph
    signals: list[_Signal] = [_Signal(image.input_shape, part.levels[0], {0: None})]
    read: list[_Signal] = []  # what activation k - 1 acts on
    slopes: list[tuple[Array, Array]] = []

    def step(node: Node, inputs: Sequence[_Signal]) -> _Signal:
        operator = node.operator
        shape = operator.shape(*(signal.shape for signal in inputs))
        if is_activation(operator):
            read.append(inputs[0])
            slopes.append(channel_slopes(operator, shape))
            signals.append(_Signal(shape, inputs[0].level, {len(signals): None}))
            return signals[-1]
        if isinstance(operator, Conv):
            return _convolve(grid, operator, inputs[0], signals)
        if isinstance(operator, Scale):
            return _scale(grid, operator, inputs[0])
        join = _stack if isinstance(operator, Concat) else _sum
        sources = sorted(set().union(*(signal.terms for signal in inputs)))
        return _Signal(shape, inputs[0].level, {s: join(grid, s, signals[s], inputs) for s in sources})

    read.append(image.fold(signals[0], step)[-1])
    count = [grid.count(signal.level) for signal in signals]
    order = [0, *sorted(range(1, len(signals)), key=lambda k: -count[k])]  # stable: still topological
    rank = {k: position for position, k in enumerate(order)}
    rows = [read[k - 1] for k in order[1:]] + [read[-1]]
    groups = [signals[k] for k in order]
    ends = np.cumsum([0, *(group.shape[1] for group in groups[1:])]).tolist()
    pixels = float(prod(image.input_shape[2:]))
    return Form(
        sizes=tuple(signal.rows for signal in (*groups, rows[-1])),
        frequencies=tuple(grid.count(signal.level) for signal in (*groups, rows[-1])),
        maps=tuple({rank[s]: _term(grid, row, s) for s in sorted(row.terms, key=rank.__getitem__)} for row in rows),
        folds={
            (k, rank[s]): grid.fold(row.level, signals[s].level) for k, row in enumerate(rows, 1) for s in row.terms
        },
        low=tuple(_both(slopes[k - 1][0]) for k in order[1:]),
        high=tuple(_both(slopes[k - 1][1]) for k in order[1:]),
        variables=tuple(_both(np.arange(*pair)) for pair in pairwise(ends)),
        metric_index=_both(np.arange(image.input_shape[1])),
        metric_count=np.full(image.input_shape[1], pixels),
        output_index=None if part.head is None else _both(np.arange(rows[-1].shape[1])),
    )


def _both(values: NDArray[Any]) -> NDArray[Any]:
    """The same for real and imaginary parts."""
    return np.concatenate([values, values])


def _term(grid: TorusGrid, signal: _Signal, source: int) -> Ball:
    """The map from a group, written out where it is the identity."""
    term = signal.terms[source]
    if term is not None:
        return term
    return Ball.exact(np.tile(np.eye(signal.rows)[:, None, :], (grid.count(signal.level), 1, 1, 1)))


def _convolve(grid: TorusGrid, conv: Conv, signal: _Signal, signals: Sequence[_Signal]) -> _Signal:
    transfer = grid.transfer(conv, signal.level)
    level = tuple(a * s for a, s in zip(signal.level, conv.strides, strict=True))
    aliases = grid.fold(level, signal.level)
    terms = {}
    for source, term in signal.terms.items():
        image = transfer[:, :, None, :] if term is None else _product(transfer, term)
        phases = grid.fold(signal.level, signals[source].level)
        terms[source] = image if aliases.shape[1] == 1 else image.map(_folding(aliases, phases))
    return _Signal(conv.codomain, level, terms)


def _product(matrix: Ball, term: Ball) -> Ball:
    count, rows, phases, columns = term.shape
    return (matrix @ term.reshape(count, rows, phases * columns)).reshape(count, -1, phases, columns)


def _folding(aliases: Index, phases: Index) -> Callable[[Array], Array]:
    """From (F, rows, P, columns) to (F / A, rows, A P, columns), with the A P frequencies of the source ascending."""
    order = np.argsort(phases[aliases].reshape(len(aliases), -1), axis=1)

    def fold(array: Array) -> Array:
        gathered = np.moveaxis(array[aliases], 1, 2)
        gathered = gathered.reshape(*gathered.shape[:2], -1, array.shape[-1])
        return np.take_along_axis(gathered, order[:, None, :, None], axis=2)

    return fold


def _scale(grid: TorusGrid, scale: Scale, signal: _Signal) -> _Signal:
    factors = channel_factors(scale)
    if factors is None or (factors.is_exact and (factors.mid == 1.0).all()):
        return signal
    column = factors.map(_both).reshape(-1, 1, 1)
    return _Signal(signal.shape, signal.level, {s: _term(grid, signal, s) * column for s in signal.terms})


def _sum(grid: TorusGrid, source: int, group: _Signal, inputs: Sequence[_Signal]) -> Ball | None:
    reading = [signal for signal in inputs if source in signal.terms]
    if len(reading) == 1:
        return reading[0].terms[source]
    terms = [_term(grid, signal, source) for signal in reading]
    return sum(terms[1:], terms[0])


def _stack(grid: TorusGrid, source: int, group: _Signal, inputs: Sequence[_Signal]) -> Ball:
    """Channels side by side, separately for the real and the imaginary rows."""
    parts = []
    for signal in inputs:
        shape = (grid.count(signal.level), signal.rows, grid.count(group.level) // grid.count(signal.level), group.rows)
        term = _term(grid, signal, source) if source in signal.terms else Ball.exact(np.zeros(shape))
        parts.append(term.reshape(shape[0], 2, -1, *shape[2:]))
    joined = concatenate(parts, 2)
    return joined.reshape(joined.shape[0], -1, *joined.shape[3:])
