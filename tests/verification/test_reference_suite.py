"""A few instances of VNN-COMP with known verdicts: whatever is decided in a second contradicts none of them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from property_files import save_rows
from small_models import ROOT

import certlip

SUITE = Path(os.environ.get("CERTLIP_REFERENCE_DATA", ROOT.parent / "shared" / "data")) / "vnncomp" / "instances.csv"
BENCHMARKS = ("acasxu", "mnist_fc", "rl_benchmarks", "reach_prob_density", "safenlp", "tllverifybench")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_no_verdict_contradicts_what_is_known(benchmark, tmp_path):
    if not SUITE.is_file():
        pytest.skip(f"{SUITE} is absent: set CERTLIP_REFERENCE_DATA to the folder of reference networks")
    with SUITE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"].startswith(benchmark)]
    chosen = [next(row for row in rows if row["verdict"] == verdict) for verdict in ("sat", "unsat")]
    names = [f"{SUITE.parent / row['model']},{SUITE.parent / row['property']},{row['verdict']}" for row in chosen]
    report = certlip.verify_instances(save_rows(tmp_path, "model,property,verdict", *names), timeout=1)
    assert [one.expected for one in report.instances] == ["sat", "unsat"]
    assert report.count("error") == 0, report.instances
    assert report.contradictions == ()
    for one, row in zip(report.instances, chosen, strict=True):
        assert one.asked["model_sha256"] == row["model_sha256"]
        assert one.asked["property_sha256"] == row["property_sha256"]
