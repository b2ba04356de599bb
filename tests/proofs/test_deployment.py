"""No execution of the class is further from the exact network than the slack: simulated ones, in every format."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from float_executions import ORDERS, Execution, deviations, exact_outputs, points_of
from random_graphs import random_graph

from certlip.graph import Graph, Node
from certlip.graph.kinds import Pointwise
from certlip.onnx_reader.reader import FOLDED
from certlip.ops import Add, Conv, Dense, Relu, Scale, Sigmoid, Tanh
from certlip.proofs.deployment import class_slack, reading_gap, slack
from certlip.proofs.ranges import Region
from certlip.rigor.ball import Ball
from certlip.rigor.rounding import BFLOAT16, BINARY16, BINARY32, BINARY64, PRECISIONS, REAL, Precision

FORMATS = (BINARY32, BINARY16, BFLOAT16)
formats = pytest.mark.parametrize("precision", FORMATS, ids=lambda precision: precision.name)


def chain(*operators) -> Graph:
    return Graph(operators[0].domain, tuple(Node(operator, (i,), str(i)) for i, operator in enumerate(operators)))


def point(*entries: float) -> Region:
    return Region(np.array(entries), Fraction(0), "linf")


@formats
@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(precision, seed):
    graph = random_graph(seed, pools=seed % 2 == 1)
    rng = np.random.default_rng(seed)
    norm, radius = ("l2", "linf")[seed % 2], Fraction(seed % 3, 10)
    region = Region(rng.standard_normal(graph.input_shape), radius, norm)
    bound = slack(graph, region, precision)
    assert bound.shape == (graph.output_size,) and (bound >= 0).all()
    assert np.isfinite(bound).all() or precision is BFLOAT16
    x = points_of(region.center, float(radius), norm, rng, 6)
    for order in ORDERS:
        for fold in (False, True):
            execution = Execution(precision, order, rng, fma=bool(rng.integers(2)), fold=fold)
            with np.errstate(over="ignore"):
                off = deviations(graph, x, execution.run(graph, x))
            assert (off <= bound).all()


def test_the_slack_is_no_more_than_an_execution_can_lose():
    """Half units below one, added one by one to a large term, are all lost."""
    for precision, count in ((BINARY32, 400), (BINARY16, 100), (BFLOAT16, 30)):
        weights = np.full((1, count), precision.unit)
        weights[0, 0] = 1.0
        graph = chain(Dense.of(weights))
        ones = np.ones((1, count))
        computed = Execution(precision, "forward", np.random.default_rng(0)).run(graph, ones)
        bound = slack(graph, point(*ones[0]), precision)
        assert 0.5 * bound <= deviations(graph, ones, computed) <= bound


def test_a_bias_that_starts_the_sum_is_rounded_as_often_as_every_term():
    """Gemm is read as a product and a shift, and executed as one sum."""
    count = 500
    graph = chain(Dense.of(np.full((1, count), 0.05)), Scale.of((1,), shift=np.array([1e6 / 7])))
    ones = np.ones((1, count))
    computed = Execution(BINARY32, "bias first", np.random.default_rng(0), fold=True).run(graph, ones)
    bound = slack(graph, point(*ones[0]), BINARY32)
    off = deviations(graph, ones, computed)
    assert 0.1 * bound <= off <= bound
    ball = graph.enclose(Ball.exact(ones), BINARY32)
    assert off > ball.rad + np.abs(ball.mid - exact_outputs(graph, ones).mid)  # operators one by one lose less


def test_normalization_folded_into_a_convolution():
    """s = scale / sqrt(var + eps) and t computed first, in the format, then multiplied into the kernel."""
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal((2, 3, 2, 2)).astype(np.float32).astype(float)
    conv = Conv(Ball.exact(kernel), Ball.exact(0.0), np.zeros(()), (3, 5, 5), (1, 1), ((1, 1),) * 2, (1, 1))
    factor, mean = rng.standard_normal((2, 2, 1, 1)) * 7.3
    scale = Scale.of(conv.codomain, factor, -factor * mean, np.abs(factor * mean), operations=4)
    graph = chain(conv, scale)
    region = Region(rng.standard_normal((1, 3, 5, 5)), Fraction(1, 10), "linf")
    bound = slack(graph, region, BINARY32)
    x = points_of(region.center, 0.1, "linf", rng, 5)
    for order in ORDERS:
        off = deviations(graph, x, Execution(BINARY32, order, rng, fold=True).run(graph, x))
        assert (off <= bound).all()


def test_cancellation():
    """Two large terms cancel: the deviation is that of the terms, not of the result."""
    big = 2.0**20 / 3.0
    graph = chain(Dense.of([[big], [big + 2.0**-9]]), Dense.of([[1.0, -1.0]]))
    x = np.array([[1.1]])
    bound = slack(graph, point(1.1), BINARY32)
    off = max(
        deviations(graph, x, Execution(BINARY32, order, np.random.default_rng(0), fold=fold).run(graph, x)).max()
        for order in ORDERS
        for fold in (False, True)
    )
    assert 2.0**-9 < off <= bound < 1.0


@formats
def test_subnormals(precision):
    """Products below the normal range, then scaled up: what underflow lost becomes visible."""
    low = precision.tiny / 3 if precision is BINARY16 else precision.tiny * precision.unit
    graph = chain(Dense.of([[low, low]]), Scale.of((1,), np.array(1.0 / 64 / precision.unit)))
    x = np.array([[0.37, 0.21]])
    bound = slack(graph, point(*x[0]), precision)
    for flush in (False, True):
        execution = Execution(precision, "forward", np.random.default_rng(0))
        if flush and precision is not BINARY16:
            plain = execution.round
            execution.round = lambda v, plain=plain: np.where(np.abs(plain(v)) < precision.tiny, 0.0, plain(v))
        assert (deviations(graph, x, execution.run(graph, x)) <= bound).all()


def test_folded_constants_that_underflow():
    """1e-30 * 1e-30 is zero in binary32, and 1e38 times that too: 1e-22 is lost, far more than `tiny`."""
    graph = chain(Dense.of([[1e-30]]), Dense.of([[1e-30]]))
    x = np.array([[1e38]])
    bound = slack(graph, point(1e38), BINARY32)
    computed = Execution(BINARY32, "forward", np.random.default_rng(0), fold=True).run(graph, x)
    assert computed == 0.0
    assert 1e-23 < deviations(graph, x, computed) <= bound


@pytest.mark.parametrize("precision", [*FORMATS, BINARY64], ids=lambda precision: precision.name)
def test_what_may_overflow_has_no_slack(precision):
    """A value may lie far below the largest number where its partial sums do not."""
    top = precision.largest
    cancels = chain(Dense.of([[0.7, 0.7, -0.7]]))
    assert slack(cancels, point(top, top, top), precision) == np.inf
    inner = chain(Dense.of([[4.0]]), Relu(), Dense.of([[0.0]]))
    assert slack(inner, point(top / 3), precision) == np.inf
    saturated = chain(Dense.of([[top]]), Tanh())
    assert slack(saturated, point(8.0), precision) == np.inf
    constants = chain(Dense.of([[top / 2]]), Dense.of([[4.0]]))
    assert slack(constants, point(1e-30), precision) == np.inf
    assert np.isfinite(slack(chain(Dense.of([[1.0]])), point(top / 8), precision)).all()
    far = Region(np.array([1.0]), Fraction(10) ** 400, "linf")
    assert slack(chain(Dense.of([[1.0]])), far, precision) == np.inf


def test_long_sums_in_short_formats_have_no_slack():
    for count, precision in ((1100, BINARY16), (140, BFLOAT16)):
        graph = chain(Dense.of(np.full((1, count), 1e-3)))
        assert slack(graph, point(*np.ones(count)), precision) == np.inf
        assert slack(graph, point(*np.ones(count)), BINARY32) < 1e-3


def test_an_overflow_in_one_branch_is_not_forgotten():
    wide = chain(Dense.of([[1e30, 0.0], [0.0, 1.0]]))
    graph = Graph((2,), (*wide.nodes, Node(Relu(), (1,)), Node(Dense.of([[0.0, 1.0]]), (2,))))
    assert slack(graph, Region(np.array([1e30, 1.0]), Fraction(0), "l2"), BINARY32) == np.inf


def test_constants_that_the_file_computes_have_no_slack():
    graph = chain(Dense.of([[1.0]]))
    noted = Graph(graph.input_shape, graph.nodes, (FOLDED,))
    assert np.isfinite(slack(graph, point(1.0), BINARY32)).all()
    assert slack(noted, point(1.0), BINARY32) == np.inf


def test_the_center_must_be_an_input():
    with pytest.raises(ValueError, match="center"):
        slack(chain(Dense.of([[1.0]])), point(1.0, 2.0), BINARY32)


def test_slack_grows_with_the_unit():
    graph = random_graph(5)
    region = Region(np.full(graph.input_shape, 0.3), Fraction(1, 10), "l2")
    bounds = [slack(graph, region, precision) for precision in (REAL, BINARY64, BINARY32, BINARY16)]
    assert all((a < b).all() for a, b in pairwise(bounds))
    assert bounds[0].max() < 1e-12


def test_a_branch_that_starts_the_accumulator_of_another():
    """V x + W x as one sum: what is half a unit of the first term is lost in both branches."""
    count, unit = 60, BINARY16.unit
    first, second = np.full((1, count), unit), np.full((1, count), unit)
    first[0, 0] = 1.0
    graph = Graph((count,), (Node(Dense.of(first), (0,)), Node(Dense.of(second), (0,)), Node(Add(), (1, 2))))
    x = np.ones((1, count))
    fused = chain(Dense.of(np.concatenate([first, second], 1)))
    computed = Execution(BINARY16, "forward", np.random.default_rng(0)).run(fused, np.concatenate([x, x], 1))
    bound = slack(graph, point(*x[0]), BINARY16)
    assert 0.5 * bound <= deviations(graph, x, computed) <= bound


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_slack_is_about_the_whole_region(norm):
    """At the center, zero, nothing is rounded."""
    rng = np.random.default_rng(6)
    graph = chain(Dense.of(rng.standard_normal((30, 20))), Tanh(), Dense.of(rng.standard_normal((2, 30))))
    bound = slack(graph, Region(np.zeros(20), Fraction(3), norm), BINARY16)
    x = points_of(np.zeros(20), 3.0, norm, rng, 50)
    off = deviations(graph, x, Execution(BINARY16, "random", rng).run(graph, x))
    assert (off <= bound).all()
    linear = chain(Dense.of(np.full((1, 20), 0.7 / np.sqrt(20))))
    bound = slack(linear, Region(np.zeros(20), Fraction(3), norm), BINARY16)
    far = np.full((1, 20), 2.99 / (np.sqrt(20) if norm == "l2" else 1.0))
    assert 0.01 * bound < deviations(linear, far, Execution(BINARY16, "forward", rng).run(linear, far)) <= bound


def test_an_activation_keeps_no_more_error_than_its_slope_there():
    weights = np.array([[40.0, 1.0]])
    dead, live = (chain(Dense.of(weights), Scale.of((1,), shift=[shift]), Relu()) for shift in (-90.0, 90.0))
    assert slack(dead, point(1.0, 1.0), BINARY32) < 1e-15
    assert slack(live, point(1.0, 1.0), BINARY32) > 1e-6


@formats
def test_scores_that_differ_by_the_gap_are_told_apart(precision):
    """Through softmax, log-softmax and sigmoid, with the library as wrong as it may be against the label."""
    gap = reading_gap(precision)
    wrong = precision.library_units * precision.unit
    rng = np.random.default_rng(1)
    rounded = Execution(precision, "forward", rng).round
    for low in (-3.0, 0.0, 5.0):
        label, other = low + gap * 1.001, low
        powers = np.exp([0.0, float(rounded(other - label))]) + wrong * np.array([-1, 1]) * 2.0
        total = rounded(powers.sum())
        first, second = rounded(rounded(powers) / total)
        assert first > second
        logarithm = rounded(np.log(total))
        assert rounded(0.0 - logarithm) > rounded(rounded(other - label) - logarithm)
    assert 1 / (1 + np.exp(-gap)) - 2 * wrong > 0.5
    assert reading_gap(Precision("wide", 2.0**-4, 0.0, 1e9)) == np.inf


def test_so_many_classes_that_the_last_operator_blurs_them():
    """Floats beyond 16 are 32 u apart, and half of that exceeds the gap of 12 u; 65504 ones overflow in binary16."""
    exact = replace(BINARY32, library_units=0.0)
    s = np.log(np.float32(2e7))
    gap, closer = reading_gap(exact), 13.0 * exact.unit
    assert closer > gap and np.float32(0.0) - s == np.float32(-closer) - s
    assert reading_gap(exact, 2 * 10**7) == np.inf and np.isfinite(reading_gap(exact, 100))
    assert reading_gap(BINARY32, 10**6) == reading_gap(BINARY32, 2)
    with np.errstate(over="ignore"):
        assert np.float16(65504.0) + np.float16(16.0) == np.inf
    assert reading_gap(BINARY16, 65520) == np.inf and np.isfinite(reading_gap(BINARY16, 16000))
    many = chain(Dense.of(np.linspace(-1.0, 1.0, 3000)[:, None]))
    assert np.isfinite(slack(many, point(1.0), exact)).all() and np.isinf(class_slack(many, point(1.0), exact)).all()


def test_class_slack_is_that_of_the_scores_and_the_gap():
    logits = chain(Dense.of([[1.0], [-2.0]]))
    gap = reading_gap(BINARY32)
    plain, read = slack(logits, point(1.0), BINARY32), class_slack(logits, point(1.0), BINARY32)
    assert np.allclose(read - plain, gap / 2, rtol=1e-9) and (read >= plain + gap / 2).all()
    single = chain(Dense.of([[1.0]]), Sigmoid())
    score = slack(chain(Dense.of([[1.0]])), point(1.0), BINARY32)
    assert np.allclose(class_slack(single, point(1.0), BINARY32), score + gap, rtol=1e-9)


def test_formats():
    assert set(PRECISIONS) == {"real", "binary16", "bfloat16", "binary32", "binary64"}
    for name, kind in (("binary16", np.float16), ("binary32", np.float32), ("binary64", np.float64)):
        info, precision = np.finfo(kind), PRECISIONS[name]
        assert precision.largest == float(info.max) and precision.unit == float(info.epsneg)
        assert precision.tiny in (float(info.tiny), float(info.smallest_subnormal))
    assert BFLOAT16.largest == 3.3895313892515355e38


def test_every_pointwise_operator_has_executions():
    """A new activation needs its own error; the default says that floats evaluate it exactly."""
    exact = {kind.__name__ for kind in Pointwise.__subclasses__() if "execution_error" not in vars(kind)}
    assert exact == {"Relu", "Abs"}
