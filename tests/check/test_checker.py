"""Honest certificates are accepted; every lie, signed with a fitting digest, is rejected."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from stored import read_certificate
from workbench import Workbench, altered, ball, float32, onnx_model, random_layers, raw_record

from certlip.certificate import Certificate, array_digest
from certlip.check import Checker, check
from certlip.check.checker import _inside
from certlip.proofs.margin import output_balls
from certlip.properties import Output
from certlip.properties.numbers import short_down, short_up
from certlip.properties.outputs import margins_graph

ALL = Output("all")
PAIRS = [Output.pair(i, j) for i, j in ((0, 1), (0, 2), (1, 2))]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("claims"), onnx_model(random_layers(0)))


@pytest.fixture(scope="module")
def robust(bench):
    """An honest robustness certificate, its point, its pairwise bounds and the largest eps that holds."""
    bounds = bench.bounds(PAIRS)
    x = float32([[0.5, -1.0, 2.0]])
    outputs = output_balls(margins_graph(bench.graph), x[None].astype(float))[0]
    label = int(outputs.mid.argmax())
    low, high = (list(map(Fraction, ends.tolist())) for ends in (outputs.lower(), outputs.upper()))
    values = {
        k: Fraction(bounds[str(Output.pair(*sorted((label, k))))].statement["value"]) for k in {0, 1, 2} - {label}
    }
    limit = min((low[label] - high[k]) / value for k, value in values.items())
    digests = {
        str(Output.pair(*sorted((label, k)))): bounds[str(Output.pair(*sorted((label, k))))].digest for k in values
    }
    statement = {"kind": "robustness", "set": ball(x, limit / 2), "label": label}
    return Certificate(bench.model, statement, {"bounds": digests}), x, bounds, limit


def scaled(certificate: Certificate, factor: Fraction, key="value") -> Certificate:
    return altered(certificate, **{key: str(Fraction(certificate.statement[key]) * factor)})


@pytest.mark.parametrize("method", ["spectral", "gershgorin", "lipsdp"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("output", [ALL, Output.logit(1), Output.pair(0, 2)])
def test_lipschitz_claims(bench, method, norm, output):
    certificate, arrays = bench.lipschitz(output, norm, method)
    assert bench.accepted(certificate, *arrays)
    assert bench.accepted(scaled(certificate, Fraction(3)), *arrays)  # a weaker claim is true as well
    for factor in (Fraction(999, 1000), Fraction(1, 2), Fraction(10**9 - 1, 10**9), Fraction(0)):
        assert not bench.accepted(scaled(certificate, factor), *arrays)
    # |Df|_inf <= |Df|_2, so lipsdp proves the same number for all outputs in l-infinity only with its own metric
    other = altered(certificate, norm="linf" if norm == "l2" else "l2")
    (true, _) = bench.lipschitz(output, other.statement["norm"], method)
    if Fraction(true.statement["value"]) > Fraction(certificate.statement["value"]) * (1 + Fraction(1, 10**6)):
        assert not bench.accepted(other, *arrays)


def test_claims_about_another_output_are_rejected(bench):
    certificate, arrays = bench.lipschitz(Output.logit(0))
    own = Fraction(certificate.statement["value"])
    for output in (ALL, Output.logit(1), Output.logit(2), *PAIRS):
        true, _ = bench.lipschitz(output)
        entry = {"kind": output.kind, "indices": list(output.indices)}
        if Fraction(true.statement["value"]) > own * (1 + Fraction(1, 10**6)):
            assert not bench.accepted(altered(certificate, output=entry), *arrays)
    for entry in (
        {"kind": "logit", "indices": [3]}, {"kind": "logit", "indices": [10**30]}, {"kind": "pair", "indices": [0, 0]},
        {"kind": "pair", "indices": [0]}, {"kind": "nothing", "indices": []}, {"kind": "decision", "indices": []},
        {"kind": "all", "indices": [0]},
    ):  # fmt: skip
        assert not bench.accepted(altered(certificate, output=entry), *arrays)


def test_forged_witnesses_are_rejected(bench):
    certificate, (metric, multipliers) = bench.lipschitz()
    assert bench.accepted(certificate, metric, multipliers)
    lies = [
        (metric * (1 - 1e-3), multipliers), (metric, multipliers * 0.5), (metric * 0.5, multipliers * 0.5),
        (-metric, multipliers),
        (metric, -multipliers), (metric * np.nan, multipliers), (metric, multipliers + np.inf),
        (metric[:-1], multipliers),
        (metric, multipliers[:-1]), (metric[None], multipliers), (metric, np.diag(multipliers)),
        (metric, multipliers[0]),
        (np.zeros_like(metric), np.zeros_like(multipliers)), (metric, multipliers[::-1].copy()), (multipliers, metric),
        (metric, np.where(np.arange(len(multipliers)) == 2, multipliers * 0.9, multipliers)),
    ]  # fmt: skip
    for pair in lies:
        names = dict(zip(("metric", "multipliers"), map(array_digest, pair), strict=True))
        assert not bench.accepted(replace(certificate, witness={"method": "lipsdp", "arrays": names}), *pair)
    arrays = certificate.witness["arrays"]
    for witness in (
        {"method": "lipsdp", "arrays": {}}, {"method": "lipsdp", "arrays": {"metric": arrays["metric"]}},
        {"method": "lipsdp", "arrays": {**arrays, "more": arrays["metric"]}}, {"method": "spectral", "arrays": arrays},
        {"method": "nothing", "arrays": {}}, {"method": "", "arrays": {}}, {"method": "lipsdp\n", "arrays": arrays},
        {"method": "lipsdp", "arrays": {**arrays, "metric": "0" * 64}}, {"method": "\ud800", "arrays": {}},
    ):  # fmt: skip
        assert not bench.accepted(replace(certificate, witness=witness))


def test_claims_about_another_model_are_rejected(bench, tmp_path):
    certificate, arrays = bench.lipschitz()
    layers = random_layers(0)
    steeper = [(layers[0][0] * 1.01, layers[0][1]), layers[1]]
    other = Workbench(tmp_path / "other", onnx_model(steeper))
    moved = replace(certificate, model=other.model)
    assert not other.accepted(moved, *arrays)
    assert not other.accepted(certificate, *arrays)  # its own model is not here ...
    path = other.write(certificate, *arrays)
    assert other.check(path, bench.path).accepted and other.check(path, bench.folder).accepted  # ... until it is named
    for change in (
        {"sha256": "0" * 64},
        {"input": "y"},
        {"input": ""},
        {"output": "v0"},
        {"output": "x"},
        {"external": {"w": "0" * 64}},
        {"graph": "0" * 64},
    ):
        assert not bench.accepted(replace(certificate, model={**bench.model, **change}), *arrays)
    assert bench.accepted(replace(certificate, model={**bench.model, "name": "renamed.onnx"}), *arrays)


def test_robustness_holds_up_to_the_limit(bench, robust):
    certificate, x, _, limit = robust
    assert bench.accepted(certificate, x)
    assert bench.accepted(altered(certificate, eps=str(limit * (1 - Fraction(1, 10**30)))), x)
    assert bench.accepted(altered(certificate, eps="0"), x)
    for eps in (limit, limit * (1 + Fraction(1, 10**30)), limit * 2, Fraction(10**300), Fraction(10**2000)):
        assert not bench.accepted(altered(certificate, eps=str(eps)), x)


def test_robustness_lies_are_rejected(bench, robust):
    certificate, x, bounds, _ = robust
    label = certificate.statement["label"]
    for other in ({0, 1, 2} - {label}) | {3, 10**9, 10**4000}:
        assert not bench.accepted(altered(certificate, label=other), x)
        everything = {str(pair): bounds[str(pair)].digest for pair in PAIRS}
        assert not bench.accepted(replace(altered(certificate, label=other), witness={"bounds": everything}), x)
    assert not bench.accepted(altered(certificate, norm="linf"), x)
    for point in (
        x[0],
        x[None],
        np.zeros((1, 4), np.float32),
        x * np.float32(np.nan),
        x * np.float32(np.inf),
        x[:, :0],
    ):
        assert not bench.accepted(altered(certificate, center=array_digest(point)), point)
    assert not bench.accepted(altered(certificate, center="0" * 64), x)


def test_robustness_needs_the_right_bounds(bench, robust):
    """Missing, of another pair, norm or model, lowered, or a record of another kind: none will do."""
    certificate, x, bounds, _ = robust
    honest = certificate.witness["bounds"]
    first, second = sorted(honest)
    unused = next(pair for pair in map(str, PAIRS) if pair not in honest)
    lies = [
        {},
        {first: honest[first]},
        {first: honest[second], second: honest[first]},
        {first: "0" * 64, second: honest[second]},
    ]
    lies += [{**honest, first: bounds[unused].digest}, {**honest, first: certificate.digest}, {unused: honest[first]}]
    whole, arrays = bench.lipschitz(ALL)
    bench.write(whole, *arrays)
    lies.append({**honest, first: whole.digest})
    output = Output.pair(*map(int, first.split()[1].split(",")))
    infinity, arrays = bench.lipschitz(output, "linf")
    bench.write(infinity, *arrays)
    lies.append({**honest, first: infinity.digest})
    lowered = scaled(bounds[first], Fraction(1, 1000))
    bench.write(lowered)
    lies.append({**honest, first: lowered.digest})
    renamed = replace(bounds[first], model={**bench.model, "name": "another name"})
    bench.write(renamed)
    lies.append({**honest, first: renamed.digest})
    for lie in lies:
        assert not bench.accepted(replace(certificate, witness={"bounds": lie}), x)
    assert bench.accepted(certificate, x)
    assert bench.accepted(replace(certificate, witness={"bounds": {**honest, "all": whole.digest}}), x)


def test_tolerances(bench):
    for norm in ("l2", "linf"):
        bound = bench.bounds([ALL], norm)["all"]
        value = Fraction(bound.statement["value"])
        statement = {"kind": "tolerance", "set": {"norm": norm, "eps": "1/10"}, "tolerance": str(value / 10)}
        honest = Certificate(bench.model, statement, {"bounds": {"all": bound.digest}})
        assert bench.accepted(honest)
        assert bench.accepted(altered(honest, eps="0", tolerance="0"))
        tiny = Fraction(1, 10**40)
        for lie in (
            altered(honest, tolerance=str(value / 10 - tiny)), altered(honest, eps=str(Fraction(1, 10) + tiny)),
            altered(honest, norm="linf" if norm == "l2" else "l2"), altered(honest, tolerance="0"),
            replace(honest, witness={"bounds": {}}), replace(honest, witness={"bounds": {"pair 0,1": bound.digest}}),
            altered(honest, eps=str(10**2000)), altered(honest, eps=str(10**2000), tolerance=str(10**1999)),
        ):  # fmt: skip
            assert not bench.accepted(lie)


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Workbench:
    """y = x (two classes): the decision boundary is known exactly."""
    return Workbench(tmp_path_factory.mktemp("linear"), onnx_model([(np.eye(2), np.zeros(2))]))


def falsification(bench, x, y, eps, norm="linf", **extra) -> Certificate:
    statement = {"kind": "falsification", "set": ball(x, eps, norm), "counterexample": array_digest(y)}
    return Certificate(bench.model, {**statement, **extra}, {})


def test_counterexamples_lie_in_the_ball_and_violate(linear):
    x, y = float32([[1.0, 0.5]]), float32([[0.5, 0.75]])
    for norm, eps in (("linf", Fraction(1, 2)), ("l2", Fraction(5591, 10000))):
        honest = falsification(linear, x, y, eps, norm, label=0)
        assert linear.accepted(honest, x, y)
        for lie in (
            altered(honest, eps=str(eps - Fraction(1, 1000))), altered(honest, eps="0"), altered(honest, label=1),
            altered(honest, label=2), altered(honest, counterexample=array_digest(x)), altered(honest, center="0" * 64),
            altered(honest, counterexample="0" * 64),
        ):  # fmt: skip
            assert not linear.accepted(lie, x, y)
    assert not linear.accepted(falsification(linear, x, y, Fraction(1, 2) - Fraction(1, 10**50), label=0), x, y)
    tie = float32([[0.75, 0.75]])
    assert not linear.accepted(falsification(linear, x, tie, Fraction(1), label=0), x, tie)
    assert not linear.accepted(falsification(linear, x, tie, Fraction(1), label=1), x, tie)
    for bad in (float32([[0.0, np.nan]]), float32([[0.0, np.inf]]), float32([0.0, 1.0]), float32([[0.0, 1.0, 0.0]])):
        assert not linear.accepted(falsification(linear, x, bad, Fraction(10**300), label=0), x, bad)
        assert not linear.accepted(falsification(linear, bad, y, Fraction(10**300), label=0), bad, y)


def test_falsified_tolerances(linear):
    x, y = float32([[1.0, 0.5]]), float32([[0.5, 0.75]])
    honest = falsification(linear, x, y, Fraction(1, 2), tolerance="499/1000")
    assert linear.accepted(honest, x, y)
    for lie in (
        altered(honest, tolerance="1/2"),
        altered(honest, tolerance="501/1000"),
        altered(honest, eps="499/1000"),
    ):
        assert not linear.accepted(lie, x, y)


def test_kinds_cannot_be_swapped(bench, robust):
    """A witness of one kind under a statement of another."""
    certificate, *_ = robust
    lipschitz, _ = bench.lipschitz()
    for text in (
        raw_record(certificate, statement=dict(lipschitz.statement)),
        raw_record(lipschitz, statement=dict(certificate.statement)),
        raw_record(certificate, witness={}), raw_record(lipschitz, witness={"bounds": {}}),
    ):  # fmt: skip
        path = bench.folder / "swapped.json"
        path.write_text(text)
        assert not bench.check(path).accepted
        path.unlink()


def sigmoid_bench(folder, tail) -> Workbench:
    return Workbench(folder, onnx_model([(np.array([[1.0, 2.0]]), [-0.5])], tail))


@pytest.mark.parametrize(
    "tail", [(), ("Sigmoid",), ("Sigmoid", "Flatten"), ("Sigmoid", "Squeeze"), ("Sigmoid", "Identity", "Flatten")]
)
def test_sign_decisions(tmp_path, tail):
    """The logit is x1 + 2 x2 - 1/2. After a sigmoid every output is positive: label 1 must not follow from that."""
    bench = sigmoid_bench(tmp_path, tail)
    bounds = {"decision": bench.bounds([Output("decision")])["decision"].digest}
    for point, label, distance in (([[0.0, 0.0]], 0, 0.5), ([[1.0, 1.0]], 1, 2.5)):
        x = float32(point)
        limit = Fraction(distance) / Fraction(np.sqrt(5.0))
        statement = {"kind": "robustness", "set": ball(x, limit * Fraction(999, 1000))}
        honest = Certificate(bench.model, {**statement, "label": label}, {"bounds": bounds})
        assert bench.accepted(honest, x)
        assert not bench.accepted(altered(honest, label=1 - label), x)
        assert not bench.accepted(altered(honest, label=1 - label, eps="0"), x)
        assert not bench.accepted(altered(honest, eps=str(limit * Fraction(1001, 1000))), x)
        y = float32(point) + float32([[0.5, 0.5]]) * (1 - 2 * label)
        if label == 0:
            assert bench.accepted(falsification(bench, x, y, Fraction(1, 2), label=0), x, y)
        assert not bench.accepted(falsification(bench, x, y, Fraction(1, 2), label=1), x, y)
        assert not bench.accepted(falsification(bench, x, x, Fraction(1, 2), label=label), x)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_evaluation_that_overflows_certifies_nothing(tmp_path):
    """The exact logits are -1e200 and -5, the computed ones +inf and -5, and the pair has a finite bound."""
    layers = [
        (np.array([[1e160], [0.0]]), [0.0, 1.0]),
        (np.array([[1e-160, 0.0], [0.0, -5.0]]), [-1e200, 0.0]),
    ]
    bench = Workbench(tmp_path, onnx_model(layers, dtype=np.float64))
    bound = bench.bounds([PAIRS[0]], method="spectral")["pair 0,1"]
    x = np.array([[1e150]])
    statement = {"kind": "robustness", "set": ball(x, 0), "label": 0}
    assert not bench.accepted(Certificate(bench.model, statement, {"bounds": {"pair 0,1": bound.digest}}), x)
    assert not bench.accepted(falsification(bench, x, x, Fraction(1), label=1), x)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("method", ["spectral", "gershgorin"])
def test_bounds_that_overflow_are_rejected(tmp_path, method):
    layers = [(np.full((2, 2), 1e200), np.zeros(2)), (np.full((2, 2), 1e200), np.zeros(2))]
    bench = Workbench(tmp_path, onnx_model(layers, dtype=np.float64))
    statement = {"kind": "lipschitz", "norm": "l2", "value": str(10**2000), "output": {"kind": "all", "indices": []}}
    assert not bench.accepted(Certificate(bench.model, statement, {"method": method, "arrays": {}}))


def test_values_beyond_all_floats_are_accepted_where_true(bench):
    certificate, arrays = bench.lipschitz()
    path = bench.write(altered(certificate, value=str(10**2000)), *arrays)
    finding = bench.check(path)
    path.unlink()
    assert finding.accepted and "<= 1e+2000 |Dx|" in finding.message


def test_long_numbers_are_rounded_to_the_weaker_claim(bench, robust):
    """The words never claim more than the record; a short number is shown as it stands."""
    certificate, x, _, limit = robust
    for eps in (Fraction(1, 3) * limit, limit * Fraction(10**30 - 1, 10**30), Fraction(1, 8)):
        if eps >= limit:
            continue
        path = bench.write(altered(certificate, eps=str(eps)), x)
        message = bench.check(path).message
        path.unlink()
        (shown,) = re.findall(r"distance (\S+) of a point", message)
        assert len(shown) < 30 and eps * (1 - Fraction(1, 10**8)) <= Fraction(shown) <= eps
        assert shown == str(eps) or len(str(eps)) > 12
    for value in (Fraction(1, 3), Fraction(10**40 + 1, 10**40), Fraction(1, 10**320), Fraction(8, 255), Fraction(0)):
        assert Fraction(short_down(value)) <= value <= Fraction(short_up(value))
        assert Fraction(short_up(value)) - Fraction(short_down(value)) <= value / 10**8
        words = _inside({"norm": "l2", "eps": str(value), "clip": [str(value), str(2 * value)]})
        low, high = words.split("[")[1].rstrip("]").split(", ")
        assert value <= Fraction(low) and Fraction(high) <= 2 * value
    assert short_down(Fraction(8, 255)) == short_up(Fraction(8, 255)) == "8/255"


def test_refusals_say_what_to_do(bench, robust):
    certificate, x, _, _ = robust
    path = bench.write(certificate, x)
    finding = Checker(level="deployed").check(path)
    assert "less than deployed" in finding.message and "--level deployed" in finding.message
    path.unlink()
    bound, arrays = bench.lipschitz()
    path = bench.write(bound, *arrays)
    finding = Checker(level="deployed").check(path)
    assert "Lipschitz bound is about real arithmetic" in finding.message and "--level" not in finding.message
    path.unlink()
    broken = bench.folder / "broken.certlip"
    for content in (b"", b"x", b"PK" * 50):
        broken.write_bytes(content)
        (finding,) = check(broken)
        assert "copy it again" in finding.message and ": :" not in repr(finding)
    broken.unlink()


def test_names_in_a_certificate_cannot_forge_output(bench):
    certificate, arrays = bench.lipschitz()
    for name in ("x\naccepted everything", "\x1b[2K\raccepted", "a\u2028b", "\ud800", "\u202egnihton"):
        for change in ({"name": name, "sha256": "0" * 64}, {"input": name}):
            path = bench.write(replace(certificate, model={**bench.model, **change}), *arrays)
            finding = bench.check(path)
            path.unlink()
            assert not finding.accepted and finding.message.isprintable()
            assert repr(finding).isprintable() and repr(finding).encode()


def test_a_checker_serves_many_claims(bench, robust):
    """Shared state must not carry a verdict from one claim to the next."""
    certificate, x, _, limit = robust
    honest = bench.write(certificate, x)
    lie = bench.write(altered(certificate, eps=str(limit)), x)
    bound, arrays = bench.lipschitz()
    true, false = bench.write(bound, *arrays), bench.write(scaled(bound, Fraction(999, 1000)), *arrays)
    checker = Checker()
    for _ in range(2):
        verdicts = [checker.check(path).accepted for path in (honest, lie, true, false)]
        assert verdicts == [True, False, True, False]
    for path in (honest, lie, true, false):
        path.unlink()


def test_missing_files(bench, robust, tmp_path):
    certificate, x, _, _ = robust
    path = bench.write(certificate, x)
    alone = tmp_path / "alone"
    alone.mkdir()
    moved = alone / path.name
    moved.write_bytes(path.read_bytes())
    assert "no model" in Checker().check(moved).message
    assert "cannot be read" in Checker([bench.path]).check(moved).message  # the input
    (alone / f"{array_digest(x)}.npy").write_bytes((bench.folder / f"{array_digest(x)}.npy").read_bytes())
    assert "missing" in Checker([bench.path]).check(moved).message  # the bounds
    assert not Checker([tmp_path / "nowhere.onnx"]).check(moved).accepted
    assert read_certificate(path) == certificate
    path.unlink()
