"""Which samples are fitted, which choose between candidates, and which say how good the result is: never the same ones.

Inputs that training cannot tell apart always go together: a sample that was fitted must not be scored because the
file holds it twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from certlip.errors import UsageError
from certlip.verification.dataset import Dataset

_HELD_OUT, _VALIDATION = 0.2, 0.2
_LEAST = 5
"""Samples without which a share of them says nothing."""


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint parts of what was given; `note` says in a sentence how they were made."""

    train: Dataset
    validation: Dataset
    test: Dataset
    note: str


def split(data: Dataset, holdout: Dataset | None, seed: int) -> Split:
    """Train, validation and test part: by a seeded permutation, or with `holdout` as the test part.

    Raises UsageError where too few different samples are there, or the holdout holds samples of the data.
    """
    names = _names(data)
    if holdout is None:
        test, rest = _parted(names, _HELD_OUT, seed)
        scored = data_at(data, test)
        origin = "no holdout was given, so it was split off"
    else:
        shared = int(np.isin(_names(holdout), np.unique(names)).sum())
        if shared:
            raise UsageError(
                f"{shared} of the {len(holdout)} samples of {holdout.where} are among those of {data.where}, and none "
                "may be scored that was fitted; remove them from one of the two, or leave --holdout out"
            )
        rest, scored = np.arange(len(data)), holdout
        origin = f"the holdout {holdout.where}"
    validation, train = (rest[part] for part in _parted(names[rest], _VALIDATION, seed + 1))
    if min(len(train), len(validation), len(scored)) < _LEAST:
        raise UsageError(
            f"{data.where} is split into {len(train)} samples for training, {len(validation)} for validation and "
            f"{len(scored)} for scoring, too few to say anything; give at least {_LEAST} different ones for each"
        )
    note = (
        f"{len(train)} samples for training, {len(validation)} to choose between candidates, {len(scored)} to score "
        f"the result ({origin}; seed {seed})"
    )
    return Split(data_at(data, train), data_at(data, validation), scored, note)


def data_at(data: Dataset, indices: np.ndarray) -> Dataset:
    """The samples with these numbers."""
    return replace(data, inputs=data.inputs[indices], targets=None if data.targets is None else data.targets[indices])


def _names(data: Dataset) -> np.ndarray:
    """A name for each sample, the same for inputs that are equal in binary32, in which networks are trained, and no
    others: its bytes (0 and -0 are one number)."""
    rows = np.ascontiguousarray(data.inputs.reshape(len(data), -1).astype(np.float32) + np.float32(0))
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)


def _parted(names: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of about `share` of the samples and of all others; samples of one name stay together."""
    _, group = np.unique(names, return_inverse=True)
    order = np.random.default_rng(seed).permutation(group.max() + 1)
    first = np.isin(group, order[: round(share * len(order))])
    return np.flatnonzero(first), np.flatnonzero(~first)
