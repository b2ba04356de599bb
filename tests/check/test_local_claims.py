"""Bounds on a region: the checker recomputes the slopes, and lets them serve no claim about anything else."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from workbench import Workbench, altered, ball, float32, onnx_model, random_layers, raw_record

from certlip.certificate import Certificate, array_digest
from certlip.errors import CertificateRejected
from certlip.lipschitz.local import local_bound
from certlip.proofs.margin import output_balls
from certlip.proofs.ranges import Region
from certlip.properties import Output
from certlip.properties.outputs import ALL, margins_graph
from certlip.verification.margins import label_margins

EPS = Fraction(1, 8)
SCHEMA = Path(__file__).parents[2] / "specs" / "certificate.schema.json"
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text()))
CENTER = float32([[0.5, -1.0, 2.0]])


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("local"), onnx_model(random_layers(2, (3, 12, 8, 3))))


def local(
    bench, output=ALL, norm="l2", eps=EPS, center=CENTER, region_norm=None
) -> tuple[Certificate, list[np.ndarray]]:
    region = Region(center, eps, region_norm or norm)
    bound = local_bound(bench.graph, output, region, norm)
    assert bound.proved, bound.note
    statement = {
        "kind": "lipschitz", "norm": norm, "value": str(Fraction(bound.value)),
        "output": {"kind": output.kind, "indices": list(output.indices)},
        "set": ball(center, eps, region.norm),
    }  # fmt: skip
    arrays = {name: array_digest(array) for name, array in bound.witness.items()}
    return Certificate(bench.model, statement, {"method": "lipsdp", "arrays": arrays}), [
        *bound.witness.values(),
        center,
    ]


def elsewhere(certificate: Certificate, **region) -> Certificate:
    return altered(certificate, set={**certificate.statement["set"], **region})


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("region_norm", ["l2", "linf"])
def test_local_claims(bench, norm, region_norm):
    certificate, arrays = local(bench, norm=norm, region_norm=region_norm)
    assert bench.accepted(certificate, *arrays)
    finding = bench.check(path := bench.write(certificate, *arrays))
    path.unlink()
    assert f"within {region_norm} distance 1/8 of a point" in finding.message
    value = Fraction(certificate.statement["value"])
    for factor in (Fraction(999, 1000), Fraction(1, 2), Fraction(0)):
        assert not bench.accepted(altered(certificate, value=str(value * factor)), *arrays)
    whole, _ = bench.lipschitz(norm=norm)
    assert value < Fraction(whole.statement["value"]) * Fraction(99, 100)  # the claim needs its region:
    everywhere = {key: item for key, item in certificate.statement.items() if key != "set"}
    assert not bench.accepted(replace(certificate, statement=everywhere), *arrays)


def test_another_region_is_rejected(bench):
    """Nothing about the slopes is believed: they follow from the region that is stated."""
    certificate, arrays = local(bench)
    other = CENTER + float32([[1.0, 1.0, -1.0]])
    flat, nowhere, wide = CENTER[0], CENTER * float32(np.nan), float32([[0.5, -1.0, 2.0, 0.0]])
    lies = [
        elsewhere(certificate, eps="1"), elsewhere(certificate, eps="100"), elsewhere(certificate, eps=str(10**2000)),
        elsewhere(certificate, center=array_digest(other)), elsewhere(certificate, center=array_digest(flat)),
        elsewhere(certificate, center=array_digest(nowhere)), elsewhere(certificate, center=array_digest(wide)),
        elsewhere(certificate, center="0" * 64), elsewhere(certificate, norm="linf", eps="1"),
        replace(certificate, witness={**certificate.witness, "method": "gershgorin"}),
        replace(certificate, witness={"method": "spectral", "arrays": {}}),
    ]  # fmt: skip
    for lie in lies:
        assert not bench.accepted(lie, *arrays, other, flat, nowhere, wide)


@pytest.mark.parametrize(
    "region",
    [
        None, {}, "l2", [], {"norm": "l2", "eps": "1/8"}, {"norm": "l1"}, {"norm": ["l2"]}, {"eps": "-1/8"}, {"eps": 1},
        {"eps": "0.125"}, {"eps": None}, {"center": "center.npy"}, {"center": None}, {"slopes": "0" * 64},
    ],
    ids=repr,
)  # fmt: skip
def test_malformed_regions_are_refused(bench, region):
    """By the decoder and by the schema."""
    certificate, _ = local(bench)
    full = {"norm", "eps"} if isinstance(region, dict) else set()
    if isinstance(region, dict) and region and set(region) != full:
        region = {**certificate.statement["set"], **region}
    lie = altered(certificate, set=region)
    with pytest.raises(CertificateRejected):
        lie.to_json()
    text = raw_record(certificate, statement=dict(lie.statement))
    with pytest.raises(CertificateRejected):
        Certificate.from_json(text)
    assert not VALIDATOR.is_valid(json.loads(text))
    assert VALIDATOR.is_valid(json.loads(certificate.to_json()))


def test_forged_local_witnesses_are_rejected(bench):
    certificate, (metric, multipliers, center) = local(bench)
    for pair in (
        (0.999 * metric, multipliers), (metric, 0 * multipliers), (metric, -multipliers), (metric, multipliers[:-1]),
        (metric * np.nan, multipliers),
    ):  # fmt: skip
        names = dict(zip(("metric", "multipliers"), map(array_digest, pair), strict=True))
        assert not bench.accepted(replace(certificate, witness={"method": "lipsdp", "arrays": names}), *pair, center)


@pytest.fixture(scope="module")
def robust(bench):
    """An honest robustness certificate that rests on local bounds, valid up to their own eps."""
    outputs = output_balls(margins_graph(bench.graph), CENTER[None].astype(float))[0]
    label = int(outputs.mid.argmax())
    margins, digests, values = label_margins(outputs, label), {}, {}
    for rival in {0, 1, 2} - {label}:
        output = Output.pair(*sorted((label, rival)))
        bound, arrays = local(bench, output)
        bench.write(bound, *arrays)
        digests[str(output)] = bound.digest
        values[rival] = Fraction(float(margins[rival])) / Fraction(bound.statement["value"])
    assert min(values.values()) > EPS, "the region decides how far the claim reaches, not the margins"
    statement = {"kind": "robustness", "set": ball(CENTER, EPS), "label": label}
    return Certificate(bench.model, statement, {"bounds": digests}), min(values.values())


def test_robustness_may_rest_on_bounds_around_the_sample(bench, robust):
    certificate, _ = robust
    assert bench.accepted(certificate, CENTER)
    assert bench.accepted(altered(certificate, eps=str(EPS / 2)), CENTER)
    assert bench.accepted(altered(certificate, eps="0"), CENTER)


def test_a_local_bound_serves_no_larger_ball_and_no_other_point(bench, robust):
    certificate, limit = robust
    assert not bench.accepted(altered(certificate, eps=str(EPS + Fraction(1, 10**40))), CENTER)
    assert not bench.accepted(altered(certificate, eps=str((EPS + limit) / 2)), CENTER)
    near = np.nextafter(CENTER, np.float32(np.inf))
    assert not bench.accepted(altered(certificate, center=array_digest(near)), near)
    wider = CENTER.astype(np.float64)  # the same numbers in another file are another input
    assert not bench.accepted(altered(certificate, center=array_digest(wider)), wider)


def test_the_regions_norm_is_the_claims(bench, robust):
    """A bound in l2 that holds on a box serves a claim about a ball no longer, not even about one inside."""
    certificate, _ = robust
    bounds = {}
    for name in certificate.witness["bounds"]:
        output = Output.pair(*map(int, name.split()[1].split(",")))
        bound, arrays = local(bench, output, region_norm="linf")
        bench.write(bound, *arrays)
        bounds[name] = bound.digest
    assert not bench.accepted(replace(certificate, witness={"bounds": bounds}), CENTER)


def test_a_local_bound_proves_no_tolerance(bench):
    """Where the tolerance is claimed for every input; around the same point it does."""
    bound, arrays = local(bench)
    bench.write(bound, *arrays)
    value = Fraction(bound.statement["value"])
    statement = {"kind": "tolerance", "set": {"norm": "l2", "eps": str(EPS / 2)}, "tolerance": str(value)}
    assert not bench.accepted(Certificate(bench.model, statement, {"bounds": {"all": bound.digest}}))
    near = {**statement, "set": ball(CENTER, EPS / 2)}
    assert bench.accepted(Certificate(bench.model, near, {"bounds": {"all": bound.digest}}), CENTER)
    for other in (ball(CENTER, EPS * 2), ball(CENTER, EPS / 2, "linf"), ball(CENTER.astype(float), EPS / 2)):
        lie = Certificate(bench.model, {**statement, "set": other}, {"bounds": {"all": bound.digest}})
        assert not bench.accepted(lie, CENTER, CENTER.astype(float))
