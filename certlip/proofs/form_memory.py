"""How much memory the dense form of a graph and a proof on it take, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, combinations
from math import prod

import numpy as np

from certlip.graph import Graph, Pointwise
from certlip.ops import Dense
from certlip.rigor.rounding import Array


def bytes_needed(graph: Graph, slopes: Mapping[int, tuple[Array, Array]]) -> float:
    """An estimate from above; `slopes` replaces those of the pointwise nodes at these positions.

    Centres and radii of all maps stay. Beside them stand, while the form is written, the live images and what one step
    of three arrays makes of its arguments; in the proof each block of the factor, fill included, as centre, radius and
    scaled copy, and six arrays for the work on one block.
    """
    sources: list[frozenset[int]] = [frozenset({0})]  # of each value: 0 is the input, k the k-th pointwise node
    sizes = [graph.input_size]
    reads: list[frozenset[int]] = []
    bends: list[tuple[bool, bool]] = []
    for position, (node, shape) in enumerate(zip(graph.nodes, graph.shapes[1:], strict=True)):
        union: frozenset[int] = frozenset().union(*(sources[i] for i in node.inputs))
        if isinstance(node.operator, Pointwise):
            low, high = slopes.get(position, node.operator.slopes())
            signs = np.sign(low) * np.sign(high)
            bends.append((bool((signs < 0).any()), bool((signs > 0).any())))
            reads.append(union)
            union = frozenset({len(sizes)})
            sizes.append(prod(shape))
        sources.append(union)
    reads.append(sources[-1])
    maps = sum(size * sizes[s] for size, read in zip([*sizes[1:], graph.output_size], reads, strict=True) for s in read)
    entries = [prod(shape) * sum(sizes[s] for s in read) for shape, read in zip(graph.shapes, sources, strict=True)]
    writing = 16 * _live(graph, entries)
    blocks, largest = _factor([*sizes, graph.output_size], reads, bends)
    return 16.0 * maps + max(writing, 24.0 * blocks + 48.0 * largest)


def _live(graph: Graph, entries: list[int]) -> float:
    """The most entries of images at one time, those of one step counted three times."""
    last = {i: position for position, node in enumerate(graph.nodes) for i in node.inputs}
    own = {0} | {i for i, node in enumerate(graph.nodes, 1) if isinstance(node.operator, Pointwise)}
    change = [0.0] * (len(entries) + 1)
    for value, count in enumerate(entries):
        if value not in own:  # a source is written out as an identity only when it is used
            change[value] += count
            change[last.get(value, value) + 1] -= count
    steps = [0.0]
    for value, node in enumerate(graph.nodes, 1):
        if value not in own:
            is_matrix = isinstance(node.operator, Dense) and prod(node.operator.lead) == 1
            steps.append(sum(entries[i] for i in {*node.inputs, value} if not (is_matrix and i in own)))
    return max(accumulate(change)) + 2.0 * max(steps)


def _factor(sizes: list[int], reads: list[frozenset[int]], bends: list[tuple[bool, bool]]) -> tuple[float, float]:
    """Entries of all blocks of the augmented matrix's factor, and of the largest; bends: is a b < 0, is a b > 0."""
    groups, place = [sizes[0]], [0]
    pairs: set[tuple[int, int]] = set()
    for k, read in enumerate(reads, 1):
        concave, convex = bends[k - 1] if k <= len(bends) else (False, False)
        place.append(len(groups))
        for _ in range(1 + concave):  # with a twin for the negative squares
            pairs |= {(len(groups), place[s]) for s in read}
            groups.append(sizes[k])
        if convex:
            pairs |= {(place[max(s, t)], place[min(s, t)]) for s in read for t in read}
    for s in range(len(groups)):
        above = [k for k in range(s + 1, len(groups)) if (k, s) in pairs]
        pairs |= {(k, j) for j, k in combinations(above, 2)} | {(k, k) for k in above}
    counts = [float(groups[k] * groups[s]) for k, s in pairs]
    return sum(counts), max(counts, default=0.0)
