"""Claims about executions: honest ones are accepted, those that rounding errors could break are not.

The oracle is the inequality itself, m - L eps > slack, from parts that other tests hold against real executions; here
it is checked that the checker asks for the right slack, at the right place, of the right class.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from workbench import Workbench, altered, ball, float32, onnx_model, random_layers

from certlip.certificate import Certificate, array_digest
from certlip.check import Checker
from certlip.onnx_reader.reader import FOLDED
from certlip.proofs.deployment import class_slack, slack
from certlip.proofs.ranges import Region
from certlip.properties import Output
from certlip.rigor.rounding import BINARY32, BINARY64

BINARY = {"arithmetic": "binary32", "library_units": 16}
EPS = Fraction(1, 100)


def deployed(certificate: Certificate, **semantics) -> Certificate:
    return replace(certificate, semantics={**BINARY, **semantics})


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("deployed"), onnx_model(random_layers(7, (3, 8, 8, 3))))


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Workbench:
    """y = (2 x_1, 2 x_2): margins, bounds and violations are known exactly; |D(y_1 - y_2)| <= 2 sqrt(2) |Dx|."""
    return Workbench(tmp_path_factory.mktemp("linear"), onnx_model([(2.0 * np.eye(2), np.zeros(2))]))


def class_claim(bench, x, label, kind="robustness", eps=EPS, norm="l2", method="lipsdp") -> Certificate:
    count = bench.graph.output_size
    pairs = [Output.pair(*sorted((label, k))) for k in range(count) if k != label]
    digests = {name: bound.digest for name, bound in bench.bounds(pairs, norm, method).items()}
    if kind == "radius":
        statement = {"kind": kind, "norm": norm, "center": array_digest(x), "label": label, "radius": str(eps)}
    else:
        statement = {"kind": kind, "set": ball(x, eps, norm), "label": label}
    return Certificate(bench.model, statement, {"bounds": digests}, BINARY)


def near_the_edge(bench, kind: str, room: Fraction) -> tuple[Certificate, np.ndarray]:
    """y = (2, 0) at the point: the margin is 2, the bound that of the certificate, eps such that `room` is left."""
    x = float32([[1.0, 0.0]])
    claim = class_claim(bench, x, 0, kind, method="spectral")
    (digest,) = claim.witness["bounds"].values()
    bound = next(
        Fraction(record.statement["value"])
        for record in map(bench.read, sorted(bench.folder.glob("*.json")))
        if record.digest == digest
    )
    eps = (2 - room) / bound
    return altered(claim, **({"radius": str(eps)} if kind == "radius" else {"eps": str(eps)})), x


def loss(bench, x, eps, norm="l2") -> Fraction:
    return sum(map(Fraction, class_slack(bench.graph, Region(x, eps, norm), BINARY32).tolist()), Fraction(0))


@pytest.mark.parametrize("kind", ["robustness", "radius"])
def test_a_margin_must_exceed_the_slack(linear, kind):
    """Everything is accepted for real arithmetic up to the edge, for executions only where the slack leaves room."""
    for room, holds in ((Fraction(1, 2), True), (Fraction(1, 10**12), False)):
        claim, x = near_the_edge(linear, kind, room)
        eps = Fraction(claim.statement["radius"] if kind == "radius" else claim.statement["set"]["eps"])
        assert (loss(linear, x, eps) < room) == holds
        assert linear.accepted(claim, x) == holds
        assert linear.accepted(replace(claim, semantics={"arithmetic": "real"}), x)
    lost = loss(linear, x, Fraction(7, 10))
    for factor, holds in ((Fraction(11, 10), True), (Fraction(9, 10), False)):
        assert linear.accepted(near_the_edge(linear, kind, lost * factor)[0], x) == holds


def test_the_level_is_printed(linear):
    claim, x = near_the_edge(linear, "robustness", Fraction(1, 2))
    for record, level in ((claim, "deployed"), (replace(claim, semantics={"arithmetic": "real"}), "float")):
        finding = linear.check(path := linear.write(record, x))
        path.unlink()
        assert finding.level == level and repr(finding).startswith(f"accepted [{level}] ")
        assert ("class binary32" in finding.message) == (level == "deployed")
    finding = linear.check(path := linear.write(altered(claim, eps="10"), x))
    path.unlink()
    assert finding.level == "none" and repr(finding).startswith("REJECTED ")


def test_the_class_is_the_models_or_a_coarser_one(linear):
    claim, x = near_the_edge(linear, "robustness", Fraction(3, 2))
    assert linear.accepted(claim, x)
    assert not linear.accepted(deployed(claim, arithmetic="binary64"), x)  # its weights and kernels are binary32
    for coarser in ("binary16", "bfloat16"):
        assert linear.accepted(deployed(claim, arithmetic=coarser), x)
    tight, x = near_the_edge(linear, "robustness", Fraction(1, 1000))
    assert linear.accepted(tight, x)
    for coarser in ("binary16", "bfloat16"):
        assert not linear.accepted(deployed(tight, arithmetic=coarser), x)


def test_wider_libraries_need_wider_margins(tmp_path):
    """A last sigmoid is read through the library: more units, more slack."""
    bench = Workbench(tmp_path, onnx_model([(np.array([[1.0, 2.0]]), [0.0])], ("Sigmoid",)))
    bound = bench.bounds([Output("decision")])["decision"].digest
    x = float32([[0.01, 0.0]])
    statement = {"kind": "robustness", "set": ball(x, 0), "label": 1}
    claim = Certificate(bench.model, statement, {"bounds": {"decision": bound}}, BINARY)
    assert bench.accepted(claim, x)
    assert bench.accepted(deployed(claim, library_units=0), x)
    for units, words in ((16, "class binary32"), (0, "class binary32 with libraries within 0 u")):
        finding = Checker([bench.path]).check(bench.write(deployed(claim, library_units=units), x))
        assert finding.message.endswith(words)  # another class than the usual one is not passed off as that
    assert not bench.accepted(deployed(claim, library_units=2**20), x)
    assert not bench.accepted(altered(claim, label=0), x)


def test_other_files_have_no_class(tmp_path):
    """Casts between types, and constants that a runtime folds in its own way."""
    x = float32([[1.0, 0.0]])
    for name, kind in (("up", TensorProto.DOUBLE), ("same", TensorProto.FLOAT)):
        nodes = [helper.make_node("Cast", ["x"], ["c"], to=kind), helper.make_node("Cast", ["c"], ["y"], to=1)]
        info = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 2]) for end in "xy"]
        model = helper.make_model(
            helper.make_graph(nodes, "casts", info[:1], info[1:]),
            opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
        )  # fmt: skip
        bench = Workbench(tmp_path / name, model)
        claim = class_claim(bench, x, 0, method="spectral")
        assert bench.accepted(claim, x) == (name == "same")
        assert bench.accepted(replace(claim, semantics={"arithmetic": "real"}), x)
    node = helper.make_node("Sqrt", ["w"], ["root"]), helper.make_node("Mul", ["x", "root"], ["y"])
    info = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 2]) for end in "xy"]
    weights = [numpy_helper.from_array(np.float32([2.0, 3.0]), "w")]
    graph = helper.make_graph(list(node), "folded", info[:1], info[1:], weights)
    bench = Workbench(
        tmp_path / "folded", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    )
    claim = class_claim(bench, x, 0, method="spectral")
    real = replace(claim, semantics={"arithmetic": "real"})
    assert not bench.accepted(real, x)  # whoever reads it has to learn that constants were folded
    for semantics, holds in ((claim.semantics, False), (real.semantics, True)):
        assert bench.accepted(replace(claim, semantics=semantics, assumptions=(FOLDED,)), x) == holds


def test_binary64_models_have_their_own_class(tmp_path):
    bench = Workbench(tmp_path, onnx_model(random_layers(3, (2, 5, 2)), dtype=np.float64))
    x = np.array([[0.3, 1.0]])
    label = int(bench.graph(x[None]).ravel().argmax())
    claim = class_claim(bench, x, label, eps=Fraction(1, 10**9))
    assert bench.accepted(deployed(claim, arithmetic="binary64"), x)
    lost = class_slack(bench.graph, Region(x, Fraction(0), "l2"), BINARY64)
    assert 0 < lost.max() < 1e-12


def test_executions_that_may_overflow_are_not_claimed(tmp_path):
    """The margin is huge, but so are the numbers."""
    layers = [(np.diag([1e30, 1.0]), np.zeros(2)), (np.diag([1e10, 1.0]), np.zeros(2))]
    bench = Workbench(tmp_path, onnx_model(layers))
    x = float32([[1.0, 0.0]])
    claim = class_claim(bench, x, 0, eps=Fraction(0), method="spectral")
    assert bench.accepted(replace(claim, semantics={"arithmetic": "real"}), x)
    assert not bench.accepted(claim, x)


def test_radii_are_open_balls(linear):
    """At the radius itself the margin may be used up; within it it is not. Only exact arithmetic reaches the edge."""
    x = float32([[1.0, 0.0]])

    def accepted(certificate: Certificate, *arrays) -> bool:
        path = linear.write(certificate, *arrays)
        finding = Checker(exact=True).check(path)
        path.unlink()
        assert "broke off" not in finding.message
        return finding.accepted

    claim = replace(class_claim(linear, x, 0, "radius", method="spectral"), semantics={"arithmetic": "real"})
    bounds = linear.bounds([Output.pair(0, 1)], method="spectral")
    value = Fraction(bounds["pair 0,1"].statement["value"])
    assert accepted(altered(claim, radius=str(2 / value)), x)
    assert not accepted(altered(claim, radius=str(2 / value + Fraction(1, 10**40))), x)
    closed = Certificate(linear.model, {"kind": "robustness", "set": ball(x, 2 / value), "label": 0}, claim.witness)
    assert not accepted(closed, x)
    assert accepted(altered(closed, eps=str(2 / value - Fraction(1, 10**40))), x)
    for label, point in ((1, x), (0, float32([[0.0, 0.0]])), (0, float32([[0.0, 1.0]])), (2, x), (0, x[0])):
        lie = altered(claim, label=label, center=array_digest(point))
        assert not linear.accepted(lie, point)
    assert not linear.accepted(altered(claim, norm="linf"), x)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_tolerances_of_executions(bench, norm):
    x = float32([[0.5, -1.0, 2.0]])
    bound = bench.bounds([Output("all")], norm)["all"]
    regions = Region(x, Fraction(0), norm), Region(x, EPS, norm)
    lost = [slack(bench.graph, region, BINARY32).astype(object) for region in regions]
    edge = Fraction(bound.statement["value"]) * EPS + max(Fraction(a) + Fraction(b) for a, b in zip(*lost, strict=True))
    statement = {"kind": "tolerance", "set": ball(x, EPS, norm), "tolerance": str(edge)}
    honest = Certificate(bench.model, statement, {"bounds": {"all": bound.digest}}, BINARY)
    assert bench.accepted(honest, x)
    for lie in (
        altered(honest, tolerance=str(edge - Fraction(1, 10**30))), altered(honest, eps=str(EPS + Fraction(1, 10**30))),
        altered(honest, tolerance=str(Fraction(bound.statement["value"]) * EPS)), altered(honest, center="0" * 64),
        deployed(honest, arithmetic="binary16"),
    ):  # fmt: skip
        assert not bench.accepted(lie, x)
    real = replace(honest, semantics={"arithmetic": "real"})
    assert bench.accepted(altered(real, tolerance=str(Fraction(bound.statement["value"]) * EPS)), x)


def violation(bench, x, y, eps=Fraction(2), **extra) -> Certificate:
    statement = {"kind": "falsification", "set": ball(x, eps, "linf"), "counterexample": array_digest(y)}
    return Certificate(bench.model, {**statement, **extra}, {}, BINARY)


def test_counterexamples_must_violate_by_more_than_the_slack(linear):
    x, tiny = float32([[1.0, 0.5]]), np.float32(2.0**-22)
    for y, holds in ((float32([[0.0, 0.5]]), True), (float32([[1.0, 1.0 + tiny]]), False)):
        claim = violation(linear, x, y, label=0)
        assert linear.accepted(replace(claim, semantics={"arithmetic": "real"}), x, y)
        assert linear.accepted(claim, x, y) == holds
    assert not linear.accepted(violation(linear, x, x, label=0), x)
    assert not linear.accepted(violation(linear, x, y, label=1), x, y)


def test_falsified_tolerances_of_executions(linear):
    x, y = float32([[1.0, 0.5]]), float32([[0.5, 0.5]])  # the first output moves by 1
    for tolerance, real, executed in (
        ("9/10", True, True), (str(1 - Fraction(1, 10**9)), True, False), ("1", False, False),
    ):  # fmt: skip
        claim = violation(linear, x, y, tolerance=tolerance)
        assert linear.accepted(replace(claim, semantics={"arithmetic": "real"}), x, y) == real
        assert linear.accepted(claim, x, y) == executed


def test_clips_cut_the_set(linear):
    """A smaller set makes robustness easier to claim, so it is accepted, and a counterexample harder to find."""
    x, y = float32([[1.0, 0.5]]), float32([[0.0, 0.5]])
    honest = violation(linear, x, y, label=0)
    for clip, inside in (
        (["0", "1"], True), (["0", "1/2"], True), (["-1/3", "1/2"], True), (["1/10", "1"], False),
        (["0", "2/5"], False),
        (["0", str(Fraction(1, 2) - Fraction(1, 10**50))], False),
    ):  # fmt: skip
        assert linear.accepted(altered(honest, clip=clip), x, y) == inside, clip
    claim, x = near_the_edge(linear, "robustness", Fraction(1, 2))
    clipped = altered(claim, clip=["0", "1"])
    assert linear.accepted(clipped, x)
    finding = linear.check(path := linear.write(clipped, x))
    path.unlink()
    assert "clipped to [0, 1]" in finding.message


def test_lemmas_need_no_class_but_other_claims_do(linear):
    """`--level deployed` over a folder: the bounds that claims rest on pass, bounds on their own do not."""
    folder = linear.folder.parent / "lemmas"
    bench = Workbench(folder, onnx.load(linear.path))
    x = float32([[1.0, 0.0]])
    claim = class_claim(bench, x, 0, method="spectral")
    real = replace(claim, semantics={"arithmetic": "real"})
    lemma = next(folder.glob("*.json"))
    checker = Checker(level="deployed")
    assert not checker.check(lemma).accepted
    path = bench.write(claim, x, name="robust.json")
    verdicts = {p.name: Checker(level="deployed").check(p) for p in folder.glob("*.json")}
    assert all(finding.accepted for finding in verdicts.values())
    assert verdicts[lemma.name].level == "float" and verdicts["robust.json"].level == "deployed"
    path.unlink()
    assert not Checker(level="deployed").check(bench.write(real, x)).accepted


@pytest.mark.parametrize("method", ["spectral", "lipsdp", "gershgorin"])
def test_exact_arithmetic_proves_the_same(bench, method):
    x = float32([[0.5, -1.0, 2.0]])
    label = int(bench.graph(x[None].astype(float)).ravel().argmax())
    claim = replace(class_claim(bench, x, label, method=method), semantics={"arithmetic": "real"})
    path = bench.write(claim, x)
    for checker, level in (
        (Checker(exact=True), "exact"), (Checker(level="exact"), "exact"), (Checker(), "float"),
    ):  # fmt: skip
        finding = checker.check(path)
        assert finding.accepted and finding.level == level, finding
    wrong = bench.write(altered(claim, eps="100"), x)
    assert not Checker(exact=True).check(wrong).accepted
    both = bench.write(deployed(claim), x)
    assert Checker(exact=True, level="deployed").check(both).level == "deployed"
    for file in (path, wrong, both):
        file.unlink()
