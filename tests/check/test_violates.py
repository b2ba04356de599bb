"""When a point and an enclosure of the outputs there prove a case of a property."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import product

import numpy as np
import pytest

from certlip.check.theorems import violates
from certlip.properties.property import Case, Halfspace

ONE = F(1)


def case(*rows: Halfspace, low=(F(0), F(0)), high=(ONE, ONE)) -> Case:
    return Case(low, high, rows)


def exactly(*values) -> tuple[list[F], list[F]]:
    return list(map(F, values)), list(map(F, values))


@pytest.mark.parametrize("strict", [False, True])
def test_equality_satisfies_what_is_not_strict(strict):
    row = Halfspace((), ((0, ONE), (1, -ONE)), F(1, 3), strict)
    assert violates(case(row), [F(0), F(0)], exactly(F(4, 3), 1)) is not strict


def test_the_box_is_closed_and_exact():
    box = case(low=(F(1, 10), F(0)), high=(F(3, 10), ONE))
    assert violates(box, [F(1, 10), F(0)], exactly(0)) and violates(box, [F(3, 10), ONE], exactly(0))
    assert not violates(box, [F(1, 10) - F(1, 10**30), F(0)], exactly(0))
    assert not violates(box, [F(float(np.float32(0.3))), F(0)], exactly(0))  # above 3/10
    assert violates(box, [F(0.3), F(0)], exactly(0))  # below 3/10


def test_the_worst_end_of_each_output_counts():
    row = Halfspace((), ((0, F(2)), (1, F(-3))), F(1))  # 2 y0 - 3 y1 <= 1
    low, high = [F(0), F(1)], [F(2), F(5)]
    assert violates(case(row), [F(0)] * 2, (low, high))  # 2 * 2 - 3 * 1 = 1
    assert not violates(case(row), [F(0)] * 2, (low, [high[0] + F(1, 10**40), high[1]]))
    assert not violates(case(row), [F(0)] * 2, ([low[0], low[1] - F(1, 10**40)], high))


def test_all_rows_must_hold_and_none_always_do():
    holds, fails = Halfspace((), ((0, ONE),), F(0)), Halfspace((), ((0, -ONE),), F(-1))
    assert violates(case(), [F(0)] * 2, exactly(7))
    assert violates(case(holds), [F(0)] * 2, exactly(0))
    assert not violates(case(holds, fails), [F(0)] * 2, exactly(0))


def test_inputs_count_with_their_exact_values():
    row = Halfspace(((1, F(1)),), ((0, F(-2)),), F(0))  # x1 <= 2 y0
    assert violates(case(row), [F(0), F(2, 3)], exactly(F(1, 3)))
    assert not violates(case(row), [F(0), F(2, 3) + F(1, 10**50)], exactly(F(1, 3)))


def test_sizes_and_indices_that_do_not_fit_prove_nothing():
    row = Halfspace((), ((0, ONE),), F(9))
    assert violates(case(row), [F(0)] * 2, exactly(0))
    assert not violates(case(row), [F(0)], exactly(0))
    assert not violates(case(row), [F(0)] * 3, exactly(0))
    assert not violates(case(row), [F(0)] * 2, ([F(0)], [F(0), F(0)]))
    for index in (1, -1):
        assert not violates(case(Halfspace((), ((index, ONE),), F(9))), [F(0)] * 2, exactly(0))
    for index in (2, -1):
        assert not violates(case(Halfspace(((index, ONE),), (), F(9))), [F(0)] * 2, exactly(0))


@pytest.mark.parametrize("seed", range(20))
def test_true_exactly_where_every_corner_of_the_enclosure_satisfies_every_row(seed):
    rng = np.random.default_rng(seed)
    number = lambda: F(int(rng.integers(-4, 5)), int(rng.integers(1, 4)))  # noqa: E731
    rows = [
        Halfspace(
            tuple((i, c) for i in range(2) if (c := number())),
            tuple((j, c) for j in range(3) if (c := number())),
            number() * 4,
            bool(rng.integers(2)),
        )
        for _ in range(int(rng.integers(1, 3)))
    ]
    x, low = [number(), number()], [number() for _ in range(3)]
    high = [end + abs(number()) for end in low]
    box = case(*rows, low=(F(-3),) * 2, high=(F(3),) * 2)

    def holds(row: Halfspace, y) -> bool:
        left = sum(c * x[i] for i, c in row.inputs) + sum(c * y[j] for j, c in row.outputs)
        return left < row.bound if row.strict else left <= row.bound

    expected = all(holds(row, y) for row in rows for y in product(*zip(low, high, strict=True)))
    expected &= all(-3 <= entry <= 3 for entry in x)
    assert violates(box, x, (low, high)) == expected
