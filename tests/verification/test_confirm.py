"""Candidates are confirmed only as numbers of the model's type in the exact box, proved and shown by the runtime."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import random_chain, save_chain, save_model

from certlip.check import theorems
from certlip.importers.load import load
from certlip.properties.property import Case, Halfspace, Property
from certlip.verification.confirm import confirm, confirm_real

ONE = F(1)


def at_least(bound, output: int = 0, strict: bool = False) -> Halfspace:
    """The output is at least the bound."""
    return Halfspace((), ((output, -ONE),), -F(bound), strict)


def at_most(bound, output: int = 0, strict: bool = False) -> Halfspace:
    return Halfspace((), ((output, ONE),), F(bound), strict)


def scaling(folder, factor: float, kind=TensorProto.FLOAT):
    """y = factor x with one entry."""
    constants = {"w": np.array([[factor]], helper.tensor_dtype_to_np_dtype(kind))}
    return load(save_model(folder / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], 1, 1, constants, kind))


def one_box(low, high, *rows: Halfspace) -> Property:
    return Property(1, 1, (Case((F(low),), (F(high),), rows),))


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return scaling(tmp_path_factory.mktemp("identity"), 1.0)


DECIMALS = [
    "0.1", "0.2", "0.3", "0.7", "-0.1", "-0.3", "-0.7", "1.1", "123456.789", "1e-3", "-1e-30", "0.5", "16777217",
]  # fmt: skip


@pytest.mark.parametrize("decimal", DECIMALS)
def test_an_upper_end_becomes_the_largest_binary32_number_below_it(identity, decimal):
    end = F(decimal)
    unsafe = one_box(end - abs(end) / 2, end, at_least(end - abs(end) / 2))
    (x,) = confirm(identity, unsafe, np.array([float(end)])).ravel()
    assert x == np.float32(x) and F(x) <= end < F(float(np.nextafter(np.float32(x), np.float32(np.inf))))


@pytest.mark.parametrize("decimal", DECIMALS)
def test_a_lower_end_becomes_the_smallest_binary32_number_above_it(identity, decimal):
    end = F(decimal)
    unsafe = one_box(end, end + abs(end) / 2, at_most(end + abs(end) / 2))
    (x,) = confirm(identity, unsafe, np.array([float(end)])).ravel()
    assert x == np.float32(x) and F(float(np.nextafter(np.float32(x), np.float32(-np.inf)))) < end <= F(x)


def test_the_type_of_the_model_counts(tmp_path):
    wide = scaling(tmp_path, 1.0, TensorProto.DOUBLE)
    unsafe = one_box("0.05", "0.1", at_least("0.05"))
    (x,) = confirm(wide, unsafe, np.array([0.1])).ravel()
    assert x == np.nextafter(0.1, 0.0)  # the float 0.1 exceeds the decimal
    half = scaling(tmp_path, 1.0, TensorProto.FLOAT16)
    (x,) = confirm(half, unsafe, np.array([0.1])).ravel()
    assert x == float(np.float16(0.1)) and F(x) <= F("0.1")


def test_a_box_without_a_number_of_the_type_has_no_counterexample(identity, tmp_path):
    unsafe = one_box("0.1", "0.1", at_least("0.05"))
    assert confirm(identity, unsafe, np.array([0.1])) is None
    assert confirm(scaling(tmp_path, 1.0, TensorProto.DOUBLE), unsafe, np.array([0.1])) is None
    assert confirm_real(identity, unsafe, np.array([0.1])) == [F(1, 10)]
    (x,) = confirm(identity, one_box("0.5", "0.5", at_least("0.25")), np.array([0.5])).ravel()
    assert x == 0.5


def test_an_empty_box_has_none_even_over_the_reals(identity):
    unsafe = one_box("0.2", "0.1", at_least("0.05"))
    assert confirm(identity, unsafe, np.array([0.15])) is None
    assert confirm_real(identity, unsafe, np.array([0.15])) is None
    touching = one_box(F("0.1") + F(1, 10**40), "0.1", at_least("0.05"))
    assert confirm_real(identity, touching, np.array([0.1])) is None


def test_a_candidate_outside_the_box_is_not_moved_into_it(identity):
    unsafe = one_box("0.1", "0.3", at_least("0.05"))
    for outside in (0.31, 0.09, -0.2, 1e30, np.nan, np.inf):
        assert confirm(identity, unsafe, np.array([outside])) is None
        assert confirm_real(identity, unsafe, np.array([outside])) is None


def test_subnormal_numbers(tmp_path):
    grown = scaling(tmp_path, 2.0**20)
    least = F(2) ** -149
    unsafe = one_box(least / 2, least * 3 / 2, at_least(F(2) ** -131))
    (x,) = confirm(grown, unsafe, np.array([2.0**-149])).ravel()
    assert F(x) == least
    between = one_box(least / 4, least / 2, at_least(F(2) ** -140))
    assert confirm(grown, between, np.array([2.0**-151])) is None


def test_ends_beyond_the_type_do_not_count(identity):
    unsafe = one_box(F(10) ** 39, F(10) ** 40, at_least(0))
    assert confirm(identity, unsafe, np.array([3e38])) is None
    wide = one_box(-(F(10) ** 400), F(10) ** 400, at_least(1))
    (x,) = confirm(identity, wide, np.array([2.0])).ravel()
    assert x == 2.0


def test_a_bound_that_is_met_exactly_is_left_open(identity):
    """The enclosure of an output always has a width, so that a tie is neither proved nor claimed."""
    for strict in (False, True):
        assert confirm(identity, one_box(0, "0.5", at_least("0.5", strict=strict)), np.array([0.5])) is None
    above = F(1, 2) - F(1, 2**30)
    assert confirm(identity, one_box(0, "0.5", at_least(above)), np.array([0.5])) is not None


def test_rounding_of_the_runtime_alone_proves_nothing(tmp_path):
    """y = max(x + 1e8, 0) - 1e8 is x, but in binary32 it is 0."""
    path = save_chain(tmp_path / "m.onnx", [(np.ones((1, 1)), np.array([1e8])), (np.ones((1, 1)), np.array([-1e8]))])
    model = load(path)
    assert confirm(model, one_box("0.5", 1, at_most("0.25")), np.array([0.75])) is None  # only the runtime
    assert confirm(model, one_box("0.5", 1, at_least("0.25")), np.array([0.75])) is None  # only the exact network
    assert confirm(model, one_box("0.5", 1, at_least(-1)), np.array([0.75])) is not None


def test_rows_that_read_the_input(tmp_path):
    double = scaling(tmp_path, 2.0)
    row = Halfspace(((0, ONE),), ((0, -ONE),), F("-0.1"))  # x - 2 x <= -0.1
    found = confirm(double, one_box(0, 1, row), np.array([0.1000001]))
    assert found is not None and F(found.item()) > F("0.1")
    assert confirm(double, one_box(0, 1, row), np.array([0.0999])) is None


def test_any_case_of_any_box_may_be_the_one(identity):
    boxes = [(F(k), F(k + 1)) for k in range(4)]
    cases = tuple(Case((low,), (high,), (at_least(high - F(1, 4)),)) for low, high in boxes)
    property = Property(1, 1, cases)
    for value, expected in [(0.5, False), (0.8, True), (2.5, False), (3.9, True), (2.0, True), (2.1, False)]:
        assert (confirm(identity, property, np.array([value])) is not None) == expected
    # rows hold together or not at all
    both = one_box(0, 1, at_least("0.5"), at_most("0.25"))
    assert confirm(identity, both, np.array([0.4])) is None and confirm(identity, both, np.array([0.6])) is None


def test_sizes_that_do_not_fit(identity):
    rows = (at_least(0),)
    assert confirm(identity, Property(2, 1, (Case((F(0),) * 2, (ONE,) * 2, rows),)), np.array([0.5])) is None
    assert confirm(identity, Property(1, 2, (Case((F(0),), (ONE,), rows),)), np.array([0.5])) is None


def fraction_network(layers, x: list[F]) -> list[F]:
    """Dense layers with ReLU between them, in exact arithmetic."""
    for position, (weight, bias) in enumerate(layers):
        rows = zip(weight.astype(np.float32).tolist(), bias.astype(np.float32).tolist(), strict=True)
        x = [sum((F(w) * entry for w, entry in zip(row, x, strict=True)), F(shift)) for row, shift in rows]
        if position + 1 < len(layers):
            x = [max(entry, F(0)) for entry in x]
    return x


@pytest.mark.parametrize("seed", range(8))
def test_what_is_confirmed_is_unsafe_in_exact_arithmetic_and_clear_violations_are(seed, tmp_path):
    layers = random_chain(seed, (3, 6, 2))
    model = load(save_chain(tmp_path / "m.onnx", layers))
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(25):
        low = [F(int(entry), 10) for entry in rng.integers(-10, 5, 3)]
        high = [end + F(int(entry), 10) for end, entry in zip(low, rng.integers(0, 6, 3), strict=True)]
        point = np.array([float(rng.choice([a, b, (a + b) / 2])) for a, b in zip(low, high, strict=True)])
        rows = tuple(
            Halfspace(((0, F(int(rng.integers(1, 3)))),), ((j, F(int(c))),), F(int(rng.integers(-9, 10)), 7))
            for j, c in enumerate(rng.choice([-2, -1, 1, 2], 2))
        )
        case = Case(tuple(low), tuple(high), rows)
        x = confirm(model, Property(3, 2, (case,)), point)
        exact = list(map(F, (point if x is None else x).ravel().tolist()))
        margins = [
            row.bound - sum(c * exact[i] for i, c in row.inputs)
            - sum(c * fraction_network(layers, exact)[j] for j, c in row.outputs)
            for row in rows
        ]  # fmt: skip
        if x is None:
            fixed = any(a == b and F(float(np.float32(float(a)))) != a for a, b in zip(low, high, strict=True))
            assert fixed or min(margins) < F(1, 10**4)
        else:
            found += 1
            assert min(margins) >= 0
            assert all(a <= entry <= b for a, entry, b in zip(low, exact, high, strict=True))
            assert (x.astype(np.float32) == x).all()
    assert found


def test_enclosures_at_numbers_that_are_no_floats(tmp_path):
    layers = random_chain(3, (2, 4, 2))
    graph = load(save_chain(tmp_path / "m.onnx", layers)).graph
    for x in ([F(1, 3), F(-2, 7)], [F("0.1"), F(0)], [F(1, 10**400), F(10) ** -320]):
        low, high = theorems.outputs_of(graph, x)
        for a, value, b in zip(low, fraction_network(layers, x), high, strict=True):
            assert a <= value <= b and b - a < F(1, 10**12)
