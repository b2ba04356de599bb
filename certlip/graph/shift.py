"""Bounds on the difference of two values of a network: how far an input set moves it, how far rounding does.

Three bounds are carried side by side, and each is cut down to the others: entry by entry, on the Euclidean length, and

    difference = sum_s rows_s' t_s + r,   |r| <= rest,   each entry of t_s at most 1 (round sources: its length),

which remembers how entries depend on the same source (a zonotope around zero). A layer W turns the rows J into W J, and
|W J| may be far below |W| |J|. An activation with difference quotients in [a, b] multiplies by (a + b) / 2; the rest,
at most (b - a) / 2 of the difference, becomes a source of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array, inflate, up

_ENTRIES = 2**18  # floats that the rows of one value may fill; beyond, its entries count as independent


@dataclass(frozen=True, eq=False)
class Source:
    """Unknown numbers, one for each of its rows: each at most 1 or, if round, their squares together."""

    is_round: bool = False

    def extent(self, rows: Array) -> Array:
        """The largest value of each column: its l1 norm, l2 where round."""
        sizes = np.abs(rows)
        if not self.is_round:
            return inflate(sizes.sum(0, keepdims=True), len(rows))
        return up(np.sqrt(inflate((sizes * sizes).sum(0, keepdims=True), len(rows) + 1)))


@dataclass(frozen=True, eq=False)
class Shift:
    """See the module. entries, rest: arrays of the value's shape, a batch of one; rows: (numbers, *shape).

    NaN or infinity is an unknown bound. Where there are no rows, `rest` is `entries`.
    """

    entries: Array
    length: float
    rows: Mapping[Source, Array]
    rest: Array

    @staticmethod
    def of(entries: Array, length: float = np.inf) -> Shift:
        """Two bounds, cut down to each other."""
        own = up(np.sqrt(inflate(float((entries * entries).sum()), entries.size + 2)))
        length = float(np.fmin(length, own))
        entries = np.fmin(entries, length)
        return Shift(entries, length, {}, entries)

    @staticmethod
    def along(rows: Mapping[Source, Array], rest: Array, entries: Array, length: float) -> Shift:
        """All three bounds; those of the rows are dropped where there are too many."""
        if not rows or sum(map(np.size, rows.values())) > _ENTRIES:
            return Shift.of(entries, length)
        total = inflate(sum((source.extent(part) for source, part in rows.items()), rest), len(rows) + 1)
        plain = Shift.of(np.fmin(entries, total), length)
        return Shift(plain.entries, plain.length, rows, rest)

    @staticmethod
    def ball(shape: tuple[int, ...], radius: float, is_round: bool) -> Shift:
        """Differences of at most this length (round) or with entries of at most this size; shape without the batch."""
        entries = np.full((1, *shape), radius)
        fits = entries.size**2 <= _ENTRIES
        rows = {Source(is_round): _diagonal(entries)} if fits else {}
        return Shift.along(rows, np.zeros(entries.shape), entries, radius if is_round else np.inf)

    def widened(self, by: Array) -> Shift:
        """With another difference of at most `by` in each entry."""
        entries, length = inflate(self.entries + by, 1), inflate(self.length + Shift.of(by).length, 1)
        return Shift.along(self.rows, inflate(self.rest + by, 1), entries, length)

    def through(self, low: Array, high: Array, slip: Array) -> Shift:
        """After functions with difference quotients in [low, high], whose values are off by at most `slip` as well."""
        steepest = np.maximum(np.abs(low), np.abs(high))
        entries = inflate(steepest * self.entries + slip, 2)
        length = inflate(float(steepest.max(initial=0.0)) * self.length + Shift.of(slip).length, 2)
        middle = 0.5 * low + 0.5 * high
        half = np.maximum(up(high - middle), up(middle - low))
        images = {source: Ball.exact(part) * Ball.exact(middle) for source, part in self.rows.items()}
        lost = [image.rad.sum(0, keepdims=True) for image in images.values()]
        count = sum(len(image.mid) for image in images.values())
        rest = inflate(sum(lost, np.abs(middle) * self.rest + half * self.entries + slip), count + 5)
        if (count + rest.size) * rest.size > _ENTRIES:
            images, rest = {}, Shift.of(entries, length).entries
        rows = {source: image.mid for source, image in images.items()}
        if rest.size**2 <= _ENTRIES:
            rows[Source()] = _diagonal(rest)
        return Shift.along(rows, np.zeros(rest.shape), entries, length)


def linear(move: Callable[..., Ball], entries: Array, rest: Array, length: float, given: Sequence[Shift]) -> Shift:
    """The shift of a sum of linear images of others: `move` maps a batch of each of them, the bounds are its size."""
    counts = {source: len(part) for shift in given for source, part in shift.rows.items()}
    if sum(counts.values()) * entries.size > _ENTRIES:
        return Shift.of(entries, length)
    rows = {}
    for source, count in counts.items():
        parts = [shift.rows.get(source, np.zeros((count, *shift.rest.shape[1:]))) for shift in given]
        image = move(*map(Ball.exact, parts))
        rows[source] = image.mid
        rest = inflate(rest + np.broadcast_to(image.rad, image.shape).sum(0, keepdims=True), count + 1)
    return Shift.along(rows, rest, entries, length)


def _diagonal(entries: Array) -> Array:
    """One row for each entry, with that entry alone."""
    return np.diag(entries.ravel()).reshape(-1, *entries.shape[1:])
