"""The float and the exact level say the same: on every model of the zoo, and on the networks that fool floats."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from chain_traps import CHAINS
from exact_proofs import exact_lipschitz
from forgery import accepts, records, with_eps
from graph_traps import GRAPHS
from onnx_arithmetic import run, slope_squared
from small_models import ZOO

from certlip import Output, api, check, load
from certlip.graph import Affine
from certlip.lipschitz import bound_output, certifiers
from certlip.proofs.exact_values import exact_output_ball
from certlip.proofs.margin import output_balls
from certlip.properties import select
from certlip.verification import Status

TRAPS = [*CHAINS, *GRAPHS]
MODELS = sorted(path.stem for path in ZOO.glob("*.onnx"))
LARGE = {"mnist_conv", "mnist_mlp", "digits_lipschitz"}
METHODS = [
    name for name, certifier in certifiers().items()
    if not certifier.is_reference and name not in ("lipsdp-first-order", "lipsdp-interior-point")
]  # fmt: skip
PORTABILITY = Fraction(1, 2**38)
"""The float level raises its values a little, so that machines agree; the exact level does not need to."""

EACH_MODEL = [pytest.param(name, marks=[pytest.mark.long] if name in LARGE else [], id=name) for name in MODELS]
each_trap = pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)


def compared(name: str, norm: str, method: str) -> bool:
    """Both levels prove the same bound from the same witness; False where the method does not fit the network."""
    graph = load(ZOO / f"{name}.onnx", check=False).graph
    output = Output.pair(0, 1) if graph.output_size > 1 else Output.logit(0)
    (bound,) = bound_output(graph, output, norm, method, time.monotonic() + 30)
    if not bound.proved:
        assert bound.note
        return False
    exact = exact_lipschitz(select(graph, output), norm, bound.theorem, bound.witness)
    assert exact is not None, f"{method} is proved in floats and not exactly"
    assert Fraction(bound.value) * (1 - PORTABILITY) <= exact <= Fraction(bound.value)
    return True


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", EACH_MODEL)
def test_bounds_of_the_zoo(name, norm):
    assert sum(compared(name, norm, method) for method in METHODS) >= 4


@pytest.mark.parametrize("method", ["spectral", "eclipse-fast-torus"])
def test_bounds_of_the_convolutional_model(method):
    """The quick methods on the one model with convolutions, which is among the long tests otherwise."""
    assert compared("mnist_conv", "l2", method)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_of_the_zoo(name):
    """Both enclosures hold the same exact outputs; the exact one is the narrower."""
    model = load(ZOO / f"{name}.onnx", check=False)
    with np.load(ZOO / f"{name}.npz") as file:
        x = file["x"][:3].reshape(-1, *model.graph.input_shape).astype(np.float64)
    balls = output_balls(model.graph, x)
    for point, ball in zip(x, balls, strict=True):
        ends = zip(*exact_output_ball(model.graph, point), ball.lower().tolist(), ball.upper().tolist(), strict=True)
        for low, high, below, above in ends:
            assert low <= high and Fraction(below) <= high and low <= Fraction(above)
            assert high - low <= Fraction(above) - Fraction(below)


@each_trap
def test_outputs_of_the_traps(trap, tmp_path):
    """The exact level encloses the true outputs, and tightly enough to see every margin that floats lose."""
    graph, model = load(trap.save(tmp_path)).graph, trap.model(tmp_path)
    for point in (trap.x, trap.bad):
        if any(Fraction(value) != Fraction(float(value)) for value in point):
            continue  # between two floats, where no array can hold it
        truth = run(model, point)
        low, high = exact_output_ball(graph, np.reshape(np.float64(point), graph.input_shape))
        assert all(a <= value <= b for a, value, b in zip(low, truth, high, strict=True))
        margin = truth[0] - truth[1]
        assert (low[0] - high[1] > 0) == (margin > 0) and (high[0] - low[1] < 0) == (margin < 0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@each_trap
def test_bounds_of_the_traps(trap, norm, tmp_path):
    """Neither level proves less than the exact slope, and they differ only where a merged weight is no float.

    Such a weight is a ball. The exact level rounds its radius up to some nine digits, so a norm that the float level
    proposes to the last digit may not be confirmed.
    """
    graph = load(trap.save(tmp_path)).graph
    chosen, truth = select(graph, Output.pair(0, 1)), slope_squared(trap.model(tmp_path), norm, *trap.steep)
    for method in METHODS:
        (bound,) = bound_output(graph, Output.pair(0, 1), norm, method)
        if bound.proved:
            exact = exact_lipschitz(chosen, norm, bound.theorem, bound.witness)
            assert exact is None or exact**2 >= truth, method
            if all(node.operator.weight.is_exact for node in chosen.nodes if isinstance(node.operator, Affine)):
                assert exact is not None and exact <= Fraction(bound.value), method


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.safe is not None], ids=lambda trap: trap.name)
def test_claims_about_the_traps(trap, norm, tmp_path):
    """Checked exactly, a claim that rests on global bounds is accepted, and its false extension refused."""
    path, folder = trap.save(tmp_path), tmp_path / "claims"
    data = np.array([[float(value) for value in trap.x]]), np.array([trap.label])
    asked = {"data": data, "norm": norm, "method": "lipsdp", "timeout": 20}
    (sample,) = api.verify(path, trap.safe, certificates=folder, **asked).samples
    assert sample.status is Status.CERTIFIED
    (claim,) = records(folder, "robustness")
    (finding,) = check([claim], [path], exact=True)
    if any(bound.region is not None for bound in sample.bounds):
        assert not finding.accepted and "without --exact" in finding.message  # bounds on a ball have no exact proof
    else:
        assert finding.accepted and finding.level in ("exact", "deployed")
    assert not accepts(claim, path, with_eps(trap.eps), exact=True)
