"""Claims that distinctions of cases prove: the checker asks the question, the certificate only answers it."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from fractions import Fraction as F
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_files import property_text
from test_command import run
from workbench import Workbench, altered, ball, float32, onnx_model, random_layers

from certlip.bounds.refute import refute
from certlip.certificate import BundleWriter, Certificate, FolderWriter, array_digest
from certlip.certificate.store import MAX_PROPERTY_BYTES, property_name
from certlip.check import Checker, records
from certlip.check.theorems import outputs_at
from certlip.importers import load
from certlip.proofs.query import ball_domain, label_query, property_queries, range_query
from certlip.properties.vnnlib import MAX_BYTES, parse_property
from certlip.verification.certify import Recorder, branches_witness
from certlip.verification.verdicts import Grade, Question, SampleResult, Status

BINARY32 = {"arithmetic": "binary32", "library_units": 16}
CENTER = float32([[0.25, -0.5]])
BOX = [("-0.5", "0.5"), ("-0.25", "0.75")]


def network(seed: int = 2, tail=()):
    return onnx_model([(0.5 * weight, bias) for weight, bias in random_layers(seed, (2, 6, 6, 3))], tail)


def scores_at(bench: Workbench, x: np.ndarray) -> np.ndarray:
    return bench.graph(x[None].astype(np.float64)).ravel()


@pytest.fixture
def bench(tmp_path) -> Workbench:
    return Workbench(tmp_path / "c", network())


def answered(query):
    found = refute(query, 0, None, time.monotonic() + 4)
    assert found.trees is not None
    return branches_witness(found.trees)


def robustness(bench, eps=F(1, 10), norm="linf", **clip):
    """A proved claim, and its arrays."""
    label = int(scores_at(bench, CENTER).argmax())
    ends = [F(end) for end in clip["clip"]] if clip else None
    query = label_query(bench.graph, label, ball_domain(CENTER.astype(np.float64), eps, norm, ends))
    witness, arrays = answered(query)
    statement = {"kind": "robustness", "set": ball(CENTER, eps, norm, **clip), "label": label}
    return Certificate(bench.model, statement, witness), [CENTER, *arrays.values()]


def tolerance(bench, eps=F(1, 10), most=F(1, 2), norm="linf"):
    low, high = outputs_at(bench.graph, CENTER.astype(np.float64))
    domain = ball_domain(CENTER.astype(np.float64), eps, norm)
    witness, arrays = answered(range_query(bench.graph, [y - most for y in high], [y + most for y in low], domain))
    statement = {"kind": "tolerance", "set": ball(CENTER, eps, norm), "tolerance": str(most)}
    return Certificate(bench.model, statement, witness), [CENTER, *arrays.values()]


def stored(bench, text: str) -> str:
    """The sha256 under which a property is in the store."""
    digest = sha256(text.encode()).hexdigest()
    (bench.folder / property_name(digest)).write_text(text)
    return digest


def safe_text(bench, margin=F(1, 2), box=BOX) -> str:
    """Unsafe: output 0 is above all that points of the box show, by the margin."""
    low, high = (np.array([float(end) for end in ends]) for ends in zip(*box, strict=True))
    points = low + np.random.default_rng(0).random((2000, 1, 2)) * (high - low)
    most = F(float(bench.graph(points).reshape(len(points), -1)[:, 0].max())) + margin
    return property_text(box, f"(or (>= Y_0 {float(most)!r}) (and (>= Y_0 {float(most)!r}) (<= Y_1 Y_2)))", 3)


def holding(bench, text: str):
    queries = property_queries(bench.graph, parse_property(text, "p"))
    trees = [tree for i, query in enumerate(queries) for tree in refute(query, i, None, time.monotonic() + 4).trees]
    witness, arrays = branches_witness(trees)
    statement = {"kind": "property", "property": stored(bench, text)}
    return Certificate(bench.model, statement, witness), list(arrays.values())


def deployed(certificate: Certificate) -> Certificate:
    return replace(certificate, semantics=BINARY32)


def reason(bench, certificate, *arrays) -> str:
    path = bench.write(certificate, *arrays)
    finding = bench.check(path)
    path.unlink()
    assert not finding.accepted
    return finding.message


# ---------------------------------------------------------------- robustness and tolerance


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_robustness_by_branches(bench, norm):
    certificate, arrays = robustness(bench, norm=norm)
    path = bench.write(certificate, *arrays)
    finding = bench.check(path)
    assert finding.accepted and finding.level == "float", finding
    assert bench.accepted(deployed(certificate), *arrays)
    assert bench.accepted(altered(certificate, eps="1/20"), *arrays)
    assert bench.accepted(altered(certificate, clip=["-1/2", "1/4"]), *arrays)
    for lie in (
        altered(certificate, eps="100"), altered(certificate, eps="3"), altered(certificate, label=99),
        *(altered(certificate, label=k) for k in range(3) if k != certificate.statement["label"]),
    ):  # fmt: skip
        assert not bench.accepted(lie, *arrays)
        assert not bench.accepted(deployed(lie), *arrays)


def test_the_clip_is_part_of_the_proof(tmp_path):
    bench = Workbench(tmp_path / "c", network(8))
    certificate, arrays = robustness(bench, F(100), clip=["-1/2", "1/4"])
    assert bench.accepted(certificate, *arrays)
    assert not bench.accepted(altered(certificate, clip=["-100", "100"]), *arrays)
    assert "no input lies in the set" in reason(bench, altered(certificate, clip=["999", "1000"]), *arrays)


def test_another_center_is_another_question(bench):
    certificate, arrays = robustness(bench)
    points = float32(np.random.default_rng(0).uniform(-9, 9, (200, 1, 2)))
    other = next(x for x in points if scores_at(bench, x).argmax() != certificate.statement["label"])
    assert not bench.accepted(altered(certificate, center=array_digest(other)), other, *arrays)
    one = float32([1])
    assert "is no input" in reason(bench, altered(certificate, center=array_digest(one)), one, *arrays)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_tolerance_by_branches(bench, norm):
    certificate, arrays = tolerance(bench, norm=norm)
    assert bench.accepted(certificate, *arrays) and bench.accepted(deployed(certificate), *arrays)
    assert bench.accepted(altered(certificate, tolerance="1"), *arrays)
    assert not bench.accepted(altered(certificate, tolerance="1/1000"), *arrays)
    assert not bench.accepted(altered(certificate, tolerance="0"), *arrays)
    assert not bench.accepted(altered(certificate, eps="10"), *arrays)


def test_a_tolerance_at_the_edge_is_lost_to_rounding_errors_of_executions(tmp_path):
    """f = relu(x) + 2^20 moves by 1/10 within 1/10 of 1; in binary32 its steps are 1/16."""
    bench = Workbench(tmp_path / "c", onnx_model([([[1.0]], [0.0]), ([[1.0]], [2.0**20])]))
    center = float32([[1.0]])
    low, high = outputs_at(bench.graph, center.astype(np.float64))
    most = F(101, 1000)
    domain = ball_domain(center.astype(np.float64), F(1, 10), "linf")
    witness, arrays = answered(range_query(bench.graph, [high[0] - most], [low[0] + most], domain))
    statement = {"kind": "tolerance", "set": ball(center, F(1, 10), "linf"), "tolerance": str(most)}
    certificate = Certificate(bench.model, statement, witness)
    assert bench.accepted(certificate, center, *arrays.values())
    assert not bench.accepted(deployed(certificate), center, *arrays.values())
    assert bench.accepted(deployed(altered(certificate, tolerance="2")), center, *arrays.values())


def test_exact_arithmetic_is_refused(bench):
    certificate, arrays = robustness(bench)
    path = bench.write(certificate, *arrays)
    finding = Checker(exact=True).check(path)
    assert not finding.accepted and "no proof in exact arithmetic" in finding.message
    assert "without --exact" in finding.message


def test_a_tolerance_between_any_two_inputs_rests_on_a_lipschitz_bound(bench):
    certificate, arrays = tolerance(bench)
    everywhere = {key: value for key, value in certificate.statement["set"].items() if key != "center"}
    lie = altered(certificate, set=everywhere)
    with pytest.raises(Exception, match="rests on a Lipschitz bound"):
        bench.write(lie, *arrays)


@pytest.mark.parametrize(
    "witness",
    [
        {"method": "lipsdp", "arrays": {}}, {"method": "branches"}, {"arrays": {}}, {},
        {"method": "branches", "arrays": {}, "bounds": {}}, {"method": "branches", "arrays": []},
        {"method": "branches", "arrays": {"nodes": "x"}}, {"method": ["branches"], "arrays": {}},
    ],
)  # fmt: skip
def test_malformed_witnesses(bench, witness):
    certificate, arrays = robustness(bench)
    with pytest.raises(Exception, match="malformed"):
        bench.write(Certificate(certificate.model, certificate.statement, witness), *arrays)


def test_arrays_of_other_names_are_not_even_read(bench):
    certificate, arrays = robustness(bench)
    names = {**certificate.witness["arrays"], "more": "0" * 64}
    lie = Certificate(certificate.model, certificate.statement, {"method": "branches", "arrays": names})
    assert "'more' is unknown" in reason(bench, lie, *arrays)


# ---------------------------------------------------------------- property files


def test_a_property_that_holds(bench):
    certificate, arrays = holding(bench, safe_text(bench))
    path = bench.write(certificate, *arrays)
    finding = bench.check(path)
    assert finding.accepted and finding.level == "float" and "holds" in finding.message, finding
    assert certificate.statement["property"][:16] in finding.message
    assert bench.accepted(deployed(certificate), *arrays)


def test_the_proof_of_one_property_is_none_of_another(bench):
    certificate, arrays = holding(bench, safe_text(bench))
    for text in (
        safe_text(bench, margin=F(-1, 10)), safe_text(bench, box=[("-50", "50"), ("-50", "50")], margin=F(-1, 2)),
        property_text(BOX, "(<= Y_0 1000.0)", 3), property_text(BOX, "(<= X_0 0.0)", 3),
    ):  # fmt: skip
        lie = altered(certificate, property=stored(bench, text))
        assert not bench.accepted(lie, *arrays) and not bench.accepted(deployed(lie), *arrays)


def test_the_file_is_the_one_that_is_named(bench):
    certificate, arrays = holding(bench, safe_text(bench))
    path = bench.folder / property_name(certificate.statement["property"])
    text = path.read_text()
    path.write_text(text.replace("0.5", "5.0", 1))
    assert "another" in reason(bench, certificate, *arrays)
    path.unlink()
    assert "cannot be read" in reason(bench, certificate, *arrays)
    for content in (b"\xff\xfe", b"", b"(assert", b"(" * 100_000):
        digest = sha256(content).hexdigest()
        (bench.folder / property_name(digest)).write_bytes(content)
        assert reason(bench, altered(certificate, property=digest), *arrays)


def test_properties_of_other_networks(bench):
    certificate, arrays = holding(bench, safe_text(bench))
    for text in (property_text(BOX, "(<= Y_0 -1000.0)", 2), property_text([*BOX, ("0.0", "1.0")], "(<= Y_0 1.0)", 3)):
        assert "the model has" in reason(bench, altered(certificate, property=stored(bench, text)), *arrays)


def test_a_vacuous_property_needs_no_proof_and_says_so(bench):
    text = property_text([("1.0", "0.0"), ("0.0", "1.0")], "(<= Y_0 1.0)", 3)
    statement = {"kind": "property", "property": stored(bench, text)}
    certificate = Certificate(bench.model, statement, {"method": "branches", "arrays": {}})
    path = bench.write(certificate)
    assert bench.check(path).accepted and "vacuous" in bench.check(path).message
    assert Checker(exact=True).check(path).level == "exact"
    leftover = {"method": "branches", "arrays": {"nodes": array_digest(float32([-1]))}}
    assert not bench.accepted(Certificate(bench.model, statement, leftover), float32([-1]))


def test_a_case_without_constraints_is_unsafe_in_its_box(bench):
    text = property_text(BOX, "(>= X_0 -0.5)", 3)
    statement = {"kind": "property", "property": stored(bench, text)}
    arrays = {"duties": np.zeros((1, 3), np.float32), "nodes": float32([-1])}
    names = {name: array_digest(array) for name, array in arrays.items()}
    certificate = Certificate(bench.model, statement, {"method": "branches", "arrays": names})
    assert not bench.accepted(certificate, *arrays.values())


def test_values_behind_a_softmax_are_no_question_only_their_order_is(tmp_path):
    """The graph ends before the softmax: a claim about probabilities would be checked against scores."""
    plain, soft = (Workbench(tmp_path / name, network(tail=tail)) for name, tail in (("a", ()), ("b", ["Softmax"])))
    point = float32([[0.25, 0.25]])
    scores = scores_at(plain, point)
    best, worst = int(scores.argmax()), int(scores.argmin())
    value = property_text(BOX, f"(>= Y_{best} {float(scores.max() - 0.5)!r})", 3)
    order = property_text(BOX, f"(<= Y_{worst} Y_{best})", 3)
    for bench in (plain, soft):
        for text, holds in ((value, bench is plain), (order, True)):
            statement = {"kind": "violation", "property": stored(bench, text), "counterexample": array_digest(point)}
            certificate = Certificate(bench.model, statement, {}, assumptions=bench.graph.notes)
            assert bench.accepted(certificate, point) == holds
            assert bench.accepted(deployed(certificate), point) == holds


def test_a_violation(bench):
    point = float32([[0.25, 0.5]])
    value = float(scores_at(bench, point)[0])
    statement = {"kind": "violation", "counterexample": array_digest(point)}
    text = property_text(BOX, f"(and (>= Y_0 {value - 0.1!r}) (<= X_0 0.25))", 3)
    certificate = Certificate(bench.model, {**statement, "property": stored(bench, text)}, {})
    finding = bench.check(bench.write(certificate, point))
    assert finding.accepted and finding.level == "float" and "violates" in finding.message
    assert bench.accepted(deployed(certificate), point)
    path = bench.write(certificate, point)
    assert Checker(exact=True).check(path).level == "exact"
    for condition in (
        f"(>= Y_0 {value + 0.1!r})", f"(and (>= Y_0 {value - 0.1!r}) (<= X_0 0.2499999))",
        f"(>= Y_0 {value + 1e-12!r})", f"(and (>= Y_0 {value - 0.1!r}) (>= Y_0 {value + 0.1!r}))",
    ):  # fmt: skip
        assert not bench.accepted(altered(certificate, property=stored(bench, property_text(BOX, condition, 3))), point)
    outside = property_text([("-0.5", "0.249999999999"), ("-0.25", "0.75")], f"(>= Y_0 {value - 0.1!r})", 3)
    assert not bench.accepted(altered(certificate, property=stored(bench, outside)), point)
    close = property_text(BOX, f"(>= Y_0 {value - 1e-12!r})", 3)
    narrow = altered(certificate, property=stored(bench, close))
    assert bench.accepted(narrow, point) and not bench.accepted(deployed(narrow), point)
    for other in (float32([[9, 9]]), float32([[np.nan, 0]]), float32([0.25, 0.5])):
        assert not bench.accepted(altered(certificate, counterexample=array_digest(other)), other)


def test_bundles_hold_property_files(bench, tmp_path):
    certificate, arrays = holding(bench, safe_text(bench))
    digest = certificate.statement["property"]
    text = (bench.folder / property_name(digest)).read_bytes()
    path = tmp_path / "all.certlip"
    for files, accepted in ({property_name(digest): text}, True), ({}, False), ({property_name(digest): b"no"}, False):
        writer = BundleWriter(path)
        writer.write("claim.json", certificate, {array_digest(array): array for array in arrays})
        for name, data in files.items():
            writer.put(name, data)
        writer.close()
        ((store, name),) = records([path])
        assert Checker([bench.path]).check_record(store, name).accepted == accepted
    writer.put("property-zzz.vnnlib", text)
    writer.close()
    ((store, name),) = records([path])
    assert "no name of" in Checker([bench.path]).check_record(store, name).message
    assert MAX_PROPERTY_BYTES == MAX_BYTES


def test_the_checker_alone_proves_them(bench):
    """With numpy and onnx only: nothing of the search is imported."""
    bench.write(*_with(robustness(bench)), name="robust.json")
    bench.write(*_with(holding(bench, safe_text(bench))), name="holds.json")
    done: subprocess.CompletedProcess = run(bench.folder)
    assert done.returncode == 0 and done.stdout.endswith("2 checked, 0 rejected\n"), done.stdout + done.stderr


def _with(made):
    certificate, arrays = made
    return (certificate, *arrays)


# ---------------------------------------------------------------- mutations


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    bench = Workbench(tmp_path_factory.mktemp("mutated"), network())
    return bench, holding(bench, safe_text(bench, margin=F(1, 20))), robustness(bench, F(1, 4))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_mutation_proves_a_false_claim(folder, data):
    """Arrays of honest proofs, changed, under claims that are false."""
    bench, (property, arrays), (robust, others) = folder
    text = safe_text(bench, margin=F(-1, 10))
    false = altered(property, property=stored(bench, text))
    far = altered(robust, eps="100")
    honest, chosen = data.draw(st.sampled_from([(false, arrays), (far, others)]))
    chosen = [array.copy() for array in chosen]
    names = dict(honest.witness["arrays"])
    known = {array_digest(array): array for array in chosen}
    name = data.draw(st.sampled_from(sorted(names)))
    array = known[names[name]].copy()
    place = data.draw(st.integers(0, array.size - 1))
    array.reshape(-1)[place] = data.draw(st.sampled_from([0.0, 1.0, -1.0, 1e30, -1e30, np.nan, np.inf, 0.5]))
    if data.draw(st.booleans()):
        array = array[: max(1, len(array) // 2)]
    names[name] = array_digest(array)
    lie = Certificate(honest.model, honest.statement, {"method": "branches", "arrays": names})
    assert not bench.accepted(lie, array, *chosen)


def test_property_files_are_written_once(bench):
    certificate, _ = holding(bench, safe_text(bench))
    assert FolderWriter(bench.folder).has(property_name(certificate.statement["property"]))


def test_samples_that_trees_certify_are_written_with_them(tmp_path):
    """The recorder turns the trees of a verdict into witnesses, for classes and for tolerances."""
    bench = Workbench(tmp_path / "m", network())
    model, x, eps = load(bench.path), CENTER.astype(np.float64), F(1, 10)
    label, (low, high) = int(scores_at(bench, CENTER).argmax()), outputs_at(bench.graph, x)
    domain = ball_domain(x, eps, "linf")
    grade = Grade("deployed", BINARY32)
    asked = {
        "robustness": (Question(eps, "linf"), label_query(bench.graph, label, domain)),
        "tolerance": (
            Question(eps, "linf", F(1, 2)),
            range_query(bench.graph, [y - F(1, 2) for y in high], [y + F(1, 2) for y in low], domain),
        ),
    }
    for kind, (question, query) in asked.items():
        trees = refute(query, 0, None, time.monotonic() + 4).trees
        for level in (Grade("float"), grade):
            result = SampleResult(
                0, label, label, Status.CERTIFIED, 1.0, 0.0, "crown", 0.0, grade=level, trees=trees,
            )  # fmt: skip
            place = tmp_path / f"{kind}-{level.level}.certlip"
            with Recorder(model, place) as recorder:
                recorder.sample(result, x, question)
            ((store, name),) = records([place])
            assert store.record(name).kind == kind and store.record(name).witness["method"] == "branches"
            finding = Checker([bench.path]).check_record(store, name)
            assert finding.accepted and finding.level == level.level, finding
