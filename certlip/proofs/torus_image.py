"""The convolutional part of a network: which values are images, how far strides reach, where a dense head begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from certlip.graph import Graph, Node, Operator, Pointwise
from certlip.graph.kinds import Shape
from certlip.ops import Add, Concat, Conv, ConvTranspose, Dense, LeakyRelu, Reindex, Scale
from certlip.passes.maxima import maxima_obstacle, without_maxima
from certlip.proofs.torus_grid import Level, TorusGrid
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

MAX_ENTRIES = 50_000_000
"""Largest number of entries of all maps of a torus form together (16 bytes each)."""


class NoTorusForm(Exception):
    """The network has no torus form; the message is a sentence that names the node and the reason."""


@dataclass(frozen=True, eq=False)
class ImagePart:
    """graph: from the image to the value u that the head reads, in convolutions, activations, scales, sums and
    concatenations of channels alone. head: the rest, a graph with input u, or None where it only reshapes.
    levels: the product of strides up to each value of `graph`, per axis.
    """

    graph: Graph
    head: Graph | None
    levels: tuple[Level, ...]
    grid: TorusGrid


@lru_cache(maxsize=2)
def image_part(graph: Graph) -> ImagePart:
    """Split a graph; raises NoTorusForm. Allocates nothing of the size of the form."""
    reason = maxima_obstacle(graph)
    if reason:
        raise NoTorusForm(reason)
    graph = without_maxima(graph)
    start, last, images = _boundary(graph)
    image = _canonical(graph, start, last)
    if not any(isinstance(node.operator, Conv) for node in image.nodes):
        raise NoTorusForm("the network has no convolution whose output is an image")
    levels = _levels(image)
    part = ImagePart(image, _head(graph, last, images), levels, TorusGrid(_sides(image, levels), levels[-1]))
    entries = _entries(part)
    if entries > MAX_ENTRIES:
        raise NoTorusForm(f"its frequency-domain form has {entries} entries, more than the limit of {MAX_ENTRIES}")
    return part


def is_activation(operator: Operator) -> bool:
    """Whether the output is a group of its own. A factor that varies over pixels counts as a slope."""
    return isinstance(operator, Pointwise) or (isinstance(operator, Scale) and channel_factors(operator) is None)


def channel_factors(scale: Scale) -> Ball | None:
    """The factor of each channel of an image, (C,), or None if it is not the same at all pixels."""
    mid, rad = (np.broadcast_to(a, scale.size).reshape(scale.size[1], -1) for a in (scale.weight.mid, scale.weight.rad))
    return Ball(mid[:, 0], rad[:, 0]) if (mid == mid[:, :1]).all() and (rad == rad[:, :1]).all() else None


def channel_slopes(operator: Operator, shape: Shape) -> tuple[Array, Array]:
    """Slopes per channel that hold at every pixel of an image (1, C, *space), widened to contain 0."""
    if isinstance(operator, Pointwise):
        low, high = operator.slopes()
    else:
        low, high = operator.weight.lower(), operator.weight.upper()  # type: ignore[attr-defined]
    low, high = (np.broadcast_to(slope, shape).reshape(shape[1], -1) for slope in (low, high))
    return np.minimum(low.min(1), 0.0), np.maximum(high.max(1), 0.0)


def _boundary(graph: Graph) -> tuple[int, int, set[int]]:
    """The value where images begin, the one the head reads, and all values that the image operators make."""
    used = sorted(_ancestors(graph, len(graph.nodes)))
    start = _start(graph, used)
    if not _is_image(graph.shapes[start]):
        raise NoTorusForm(f"the input of shape {graph.input_shape} is not one image with channels")
    images, doors = {start}, {}
    for value in used:
        if value <= start:
            continue
        node = graph.nodes[value - 1]
        inside = images.intersection(node.inputs)
        if inside and inside.issuperset(node.inputs) and _keeps_images(node.operator):
            images.add(value)
        elif inside:
            if not isinstance(node.operator, (Reindex, Dense)):
                raise NoTorusForm(f"node '{node.name}' {_complaint(node.operator)}")
            doors.update(dict.fromkeys(inside, node.name))
    if len(doors) > 1:
        names = " and ".join(f"'{name}'" for name in list(doors.values())[:2])
        raise NoTorusForm(f"nodes {names} take different values out of the convolutional part")
    return start, next(iter(doors), len(graph.nodes)), images


def _start(graph: Graph, used: list[int]) -> int:
    """Permutations of the input's entries are isometries in every norm of ours: the image begins after them."""
    start = 0
    while True:
        readers = [value for value in used if value and start in graph.nodes[value - 1].inputs]
        if len(readers) != 1 or not _is_image(graph.shapes[readers[0]]):
            return start
        operator = graph.nodes[readers[0] - 1].operator
        if not isinstance(operator, Reindex) or not _is_permutation(operator):
            return start
        start = readers[0]


def _is_permutation(operator: Reindex) -> bool:
    size = prod(operator.source)
    return operator.index.size == size and bool((np.sort(operator.index, axis=None) == np.arange(size)).all())


def _is_image(shape: Shape) -> bool:
    return len(shape) >= 3 and shape[0] == 1


def _ancestors(graph: Graph, value: int) -> set[int]:
    found: set[int] = set()
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting.extend(graph.nodes[value - 1].inputs if value else ())
    return found


def _keeps_images(operator: Operator) -> bool:
    if isinstance(operator, Concat):
        return operator.axis == 1
    if isinstance(operator, Reindex):
        return _as_convolution(operator) is not None
    return isinstance(operator, (Conv, Scale, Pointwise, Add))


def _complaint(operator: Operator) -> str:
    if isinstance(operator, ConvTranspose):
        return "is a transposed convolution, which the frequency domain does not cover here"
    return f"({type(operator).__name__}) mixes images with other values"


def _as_convolution(operator: Reindex) -> Conv | None:
    """Channels picked, repeated or permuted, pixels at regular steps: a kernel of ones and zeros, one pixel wide."""
    source, result = operator.source, operator.codomain
    if len(source) != len(result) or not (_is_image(source) and _is_image(result)) or not operator.index.size:
        return None
    pixels = np.arange(prod(source[2:])).reshape(source[2:])
    channels, first = np.divmod(operator.index.reshape(result[1], -1)[:, 0], pixels.size)
    if first.any() or (channels < 0).any():
        return None
    strides = []
    for axis, (n, m) in enumerate(zip(source[2:], result[2:], strict=True)):
        step = int(np.take(operator.index[0, 0], 1, axis).flat[0] - operator.index.flat[0]) if m > 1 else 0
        strides.append(step // int(np.take(pixels, 1, axis).flat[0]) if m > 1 and n > 1 else n)
    if min(strides) < 1 or result[2:] != tuple((n - 1) // s + 1 for n, s in zip(source[2:], strides, strict=True)):
        return None
    steps = tuple(slice(None, None, s) for s in strides)
    expected = channels.reshape(-1, *(1,) * pixels.ndim) * pixels.size + pixels[steps]
    if not np.array_equal(operator.index[0], expected):
        return None
    ones = (channels[:, None] == np.arange(source[1])).astype(np.float64)
    flat = (1,) * pixels.ndim
    return Conv(
        Ball.exact(ones.reshape(*ones.shape, *flat)), Ball.exact(0.0), np.zeros(()), source[1:], tuple(strides),
        ((0, 0),) * pixels.ndim, flat,
    )  # fmt: skip


def _canonical(graph: Graph, start: int, last: int) -> Graph:
    """The graph of images up to `last`. A convolution that reads beyond the border of a value with nonzero continuation
    there (see `torus_form`) gets an activation in between: the identity, which is zero outside the image."""
    position, nodes, masked = {start: 0}, [], {0}

    def add(operator: Operator, inputs: tuple[int, ...], name: str) -> int:
        nodes.append(Node(operator, inputs, name))
        held = masked.issuperset(inputs) and (not isinstance(operator, Conv) or _keeps_zeros(operator))
        if held or is_activation(operator):
            masked.add(len(nodes))
        return len(nodes)

    for value in sorted(_ancestors(graph, last)):
        if value <= start:
            continue
        node = graph.nodes[value - 1]
        operator, inputs = node.operator, tuple(position[i] for i in node.inputs)
        if isinstance(operator, Reindex):
            if operator.is_identity:
                position[value] = inputs[0]
                continue
            operator = _as_convolution(operator)  # type: ignore[assignment]
        if isinstance(operator, Conv) and any(_reach(operator)) and inputs[0] not in masked:
            inputs = (add(LeakyRelu(Ball.exact(1.0)), inputs, f"border before {node.name}"),)
            position[node.inputs[0]] = inputs[0]  # for a skip around this convolution, too: a mask is shared
        position[value] = add(operator, inputs, node.name)
    return Graph(graph.shapes[start], tuple(nodes))


def _offsets(conv: Conv) -> list[tuple[int, int]]:
    """Per axis the least and the greatest q - s p for outputs p and the inputs q that they read with nonzero weight."""
    weight = conv.weight
    used = ((weight.mid != 0) | (weight.rad != 0)).any((0, 1)).nonzero()
    ends = [(int(taps.min(initial=k)), int(taps.max(initial=0))) for taps, k in zip(used, conv.window, strict=True)]
    axes = zip(ends, conv.dilations, conv.pads, strict=True)
    return [(min(first, last) * d - pad[0], last * d - pad[0]) for (first, last), d, pad in axes]


def _reach(conv: Conv) -> list[int]:
    """Per axis how many pixels beyond the border, on either side, the outputs read."""
    axes = zip(_offsets(conv), conv.size[1:], conv.strides, conv.space, strict=True)
    return [max(0, -first, (out - 1) * s + last - (n - 1)) for (first, last), n, s, out in axes]


def _keeps_zeros(conv: Conv) -> bool:
    """Outputs beyond those of the image read nothing but pixels beyond the image."""
    axes = zip(_offsets(conv), conv.size[1:], conv.strides, conv.space, strict=True)
    return all(first == last == 0 and out * s >= n for (first, last), n, s, out in axes)


def _levels(image: Graph) -> tuple[Level, ...]:
    def step(node: Node, levels: Sequence[Level]) -> Level:
        if len(set(levels)) > 1:
            raise NoTorusForm(f"node '{node.name}' joins branches of different total strides")
        if isinstance(node.operator, Conv):
            return tuple(a * s for a, s in zip(levels[0], node.operator.strides, strict=True))
        return levels[0]

    return tuple(image.fold((1,) * (len(image.input_shape) - 2), step))


def _sides(image: Graph, levels: tuple[Level, ...]) -> Shape:
    """Per axis the least multiple n of the total stride with n / level >= H + reach and n / level >= stride * H_out for
    every convolution, reach being the number of pixels beyond the border that it reads on the worse side."""
    least = [1] * len(levels[0])
    for node in image.nodes:
        if isinstance(node.operator, Conv):
            conv = node.operator
            axes = zip(conv.size[1:], _reach(conv), conv.strides, conv.space, levels[node.inputs[0]], strict=True)
            for axis, (n, reach, s, out, level) in enumerate(axes):
                least[axis] = max(least[axis], max(n + reach, s * out) * level)
    return tuple(-(-n // total) * total for n, total in zip(least, levels[-1], strict=True))


def _head(graph: Graph, last: int, images: set[int]) -> Graph | None:
    values = [v for v in sorted(_ancestors(graph, len(graph.nodes))) if v > last and v not in images]
    position = {value: i for i, value in enumerate([last, *values])}
    nodes = []
    for value in values:
        node = graph.nodes[value - 1]
        nodes.append(Node(node.operator, tuple(position[i] for i in node.inputs), node.name))
    if all(isinstance(node.operator, Reindex) and node.operator.is_identity for node in nodes):
        return None
    return Graph(graph.shapes[last], tuple(nodes))


def _entries(part: ImagePart) -> int:
    """Entries of all maps: 4 c_k c_s F_s for a group (or the output) k and each group s that it reads."""
    image, total = part.graph, 0
    sources: list[frozenset[int]] = [frozenset({0})]
    for value, node in enumerate(image.nodes, 1):
        read = frozenset().union(*(sources[i] for i in node.inputs))
        if is_activation(node.operator):
            total += _size(part, value, read)
            read = frozenset({value})
        sources.append(read)
    return total + _size(part, len(image.nodes), sources[-1])


def _size(part: ImagePart, value: int, read: frozenset[int]) -> int:
    shapes = part.graph.shapes
    return sum(4 * shapes[value][1] * shapes[s][1] * part.grid.count(part.levels[s]) for s in read)
