"""The common form of a network for semidefinite bounds: groups of coordinates and linear maps between them.

A network whose nonlinearities act entry by entry is a list of groups xi_0 = x, xi_k = phi_k(v_k), with every v_k and
the output f linear (plus a constant) in earlier groups. Dense networks have one copy of each group; shift-invariant
ones split into independent frequencies, and a stride folds several frequencies of a finer group into one of a coarser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.rigor.ball import Ball
from certlip.rigor.rounding import Array

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Form:
    """Groups 0 (the input), 1..L (the outputs of activations) and L + 1 (the output, which has a map only).

    sizes: rows n_k of each group at one frequency. frequencies: F_k, not increasing with k; 1 for dense networks.
    maps[k - 1][s]: ball (F_k, n_k, P, n_s) with v_k[f] = sum_s sum_p maps[f, :, p, :] xi_s[folds[k, s][f, p]], s < k.
    folds[k, s]: (F_k, P); its rows partition the frequencies of s.
    low, high: slopes of groups 1..L, (n_k,) each. variables: the entry of `multipliers` that each row uses.
    metric_index: the entry of `metric` that each row of the input uses; metric_count: how many inputs of the network an
    entry of `metric` stands for. output_index: the entry of `cut` that weighs each output row, None for weight 1.
    """

    sizes: tuple[int, ...]
    frequencies: tuple[int, ...]
    maps: tuple[Mapping[int, Ball], ...]
    folds: Mapping[tuple[int, int], Index]
    low: tuple[Array, ...]
    high: tuple[Array, ...]
    variables: tuple[Index, ...]
    metric_index: Index
    metric_count: Array
    output_index: Index | None = None

    @property
    def hidden(self) -> int:
        """L, the number of activation groups."""
        return len(self.low)

    @property
    def neurons(self) -> int:
        """Length of the vector of multipliers."""
        return max((int(index.max()) + 1 for index in self.variables if index.size), default=0)

    @property
    def is_dense(self) -> bool:
        """One frequency, one multiplier per row: nothing is shared."""
        return max(self.frequencies) == 1
