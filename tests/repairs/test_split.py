"""Parts of samples are disjoint as sets of inputs, whatever the file repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.errors import UsageError
from certlip.repairs.split import split
from certlip.verification.dataset import Dataset


def inputs_of(part: Dataset) -> set[bytes]:
    return {(row + 0.0).tobytes() for row in part.inputs}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 30), min_size=40, max_size=120), st.integers(0, 5))
def test_equal_samples_stay_together(numbers, seed):
    values = np.array(numbers, dtype=float)[:, None] * np.array([1.0, -1.0])
    data = Dataset(values, np.arange(len(values)))
    try:
        parts = split(data, None, seed)
    except UsageError as error:
        assert "too few" in str(error)
        return
    sides = [inputs_of(part) for part in (parts.train, parts.validation, parts.test)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    indices = np.concatenate([part.targets for part in (parts.train, parts.validation, parts.test)])
    assert sorted(indices) == list(range(len(values)))


def test_zero_and_minus_zero_are_one_sample():
    values = np.concatenate([np.zeros((20, 1)), -np.zeros((20, 1)), np.arange(1.0, 41.0)[:, None]])
    parts = split(Dataset(values, np.arange(80)), None, 0)
    assert sum((part.inputs == 0).any() for part in (parts.train, parts.validation, parts.test)) == 1


def test_the_same_seed_gives_the_same_parts():
    data = Dataset(np.random.default_rng(0).normal(size=(60, 3)), np.arange(60))
    one, two, other = (split(data, None, seed).test.targets for seed in (3, 3, 4))
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_holdout_scores_and_the_rest_is_fitted():
    draw = np.random.default_rng(0)
    data = Dataset(draw.normal(size=(50, 3)), np.arange(50), "train.npz")
    holdout = Dataset(draw.normal(size=(9, 3)), np.arange(9), "test.npz")
    parts = split(data, holdout, 0)
    assert parts.test is holdout and len(parts.train) + len(parts.validation) == 50
    assert "test.npz" in parts.note and "split off" not in parts.note


def test_a_holdout_that_was_fitted_is_refused():
    draw = np.random.default_rng(0)
    data = Dataset(draw.normal(size=(50, 3)), np.arange(50), "train.npz")
    holdout = Dataset(np.concatenate([data.inputs[7:9], draw.normal(size=(9, 3))]), np.arange(11), "test.npz")
    with pytest.raises(UsageError, match=r"2 of the 11 samples of test.npz are among those of train.npz"):
        split(data, holdout, 0)


def test_a_handful_of_samples_is_refused():
    with pytest.raises(UsageError, match="too few"):
        split(Dataset(np.arange(8.0)[:, None], np.arange(8)), None, 0)
