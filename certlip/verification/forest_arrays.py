"""Trees that searches found, as the arrays that `certlip.proofs.relaxation.witness` reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from certlip.errors import UsageError
from certlip.proofs.relaxation.branches import Leaf, Split, Tree
from certlip.proofs.relaxation.witness import MAX_NUMBERS
from certlip.rigor.rounding import Array


def arrays_of(trees: Sequence[Tree]) -> dict[str, np.ndarray]:
    """The arrays by name, as small as they may be: binary32 where that changes nothing, none that says nothing.

    Raises ValueError where leaves are not those of a tree in preorder, UsageError where there is too much to store.
    """
    duties = [(number, tree.query, clause) for number, tree in enumerate(trees) for clause in tree.clauses]
    lines = [(number, *line) for number, tree in enumerate(trees) for line in tree.entries.tolist()]
    nodes: list[int] = []
    splits: list[Split] = []
    for tree in trees:
        for opened in _opened([leaf.path for leaf in tree.leaves]):
            splits += opened
            nodes += [*(split[0] for split in opened), -1]
    rows = [(leaf, k) for tree in trees for leaf in tree.leaves for k in range(len(tree.clauses))]
    multipliers = _joined([_multipliers(leaf, k) for leaf, k in rows])
    thresholds = np.array([split[2] for split in splits])
    arrays = {
        "duties": np.array(duties, dtype=np.float64).reshape(-1, 3),
        "nodes": np.array(nodes, dtype=np.float64),
        "entries": np.array([split[1] for split in splits], dtype=np.float64),
        "thresholds": thresholds if thresholds.any() else np.zeros(0),
        "weights": _joined([leaf.weights[k] for leaf, k in rows if len(leaf.weights[k]) != 1]),
        "multipliers": multipliers if multipliers.any() else np.zeros(0),
        "lines": np.array(lines, dtype=np.float64).reshape(-1, 3),
        "slopes": _joined([leaf.slopes[k] for leaf, k in rows]),
    }
    if sum(array.size for array in arrays.values()) > MAX_NUMBERS:
        raise UsageError(f"the proof holds more than {MAX_NUMBERS} numbers, too many for a certificate")
    return {name: _compact(array) for name, array in arrays.items() if array.size}


def _opened(paths: Sequence[tuple[Split, ...]]) -> list[tuple[Split, ...]]:
    """For each leaf in preorder the splits that no leaf before it has passed. Raises ValueError for what is no tree."""
    found = []
    before: tuple[Split, ...] | None = None
    for path in paths:
        shared = 0
        if before is not None:
            turn = max((i for i, split in enumerate(before) if split[3] < 0), default=-1)
            shared = turn + 1
            if turn < 0 or path[:shared] != (*before[:turn], (*before[turn][:3], 1)):
                raise ValueError("the leaves are not those of a tree in preorder")
        if any(split[3] > 0 for split in path[shared:]):
            raise ValueError("a branch of the tree is missing")
        found.append(path[shared:])
        before = path
    if before is None or any(split[3] < 0 for split in before):
        raise ValueError("the last branches of the tree are missing")
    return found


def _multipliers(leaf: Leaf, k: int) -> Array:
    """Those of a row, for a single constraint of weight 1."""
    weights, multipliers = leaf.weights[k], leaf.multipliers[k]
    return multipliers / weights[0] if len(weights) == 1 and weights[0] > 0 else multipliers


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0), *parts])


def _compact(array: Array) -> np.ndarray:
    with np.errstate(over="ignore"):
        small = array.astype(np.float32)
    return small if np.array_equal(small, array, equal_nan=True) else array
