"""The families as repairs of small networks: the bound is proved on the written file, and the loss falls."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from random_graphs import Sketch
from small_models import ZOO

from certlip import bound
from certlip.graph import Graph
from certlip.importers import load, load_bytes
from certlip.onnx_writer import write
from certlip.ops import Add, Relu
from certlip.passes import normal_form
from certlip.repairs import one_lipschitz
from certlip.repairs.method import methods
from certlip.repairs.requirement import rival_spread
from certlip.repairs.scale import within
from certlip.repairs.task import Rows, Task, outputs_of

FAMILIES = {
    kind.name: kind
    for kind in (
        one_lipschitz.SLL, one_lipschitz.AOL, one_lipschitz.CPL, one_lipschitz.Orthogonal, one_lipschitz.Spectral
    )
}  # fmt: skip
FOREVER = 1e9


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch, request):
    """Two rounds of a fifth of the length with larger steps, where there is not much time."""
    if request.node.get_closest_marker("long") is None:
        monkeypatch.setattr(one_lipschitz, "_STEPS", 120)
        monkeypatch.setattr(one_lipschitz, "_ROUNDS", 2)
        monkeypatch.setattr(one_lipschitz, "_RATE", 1e-2)


@lru_cache
def task_of(stem: str, share: float) -> Task:
    """The zoo's network and its held-out samples, two thirds of them to fit; target: a share of what is proved."""
    graph = normal_form(load(ZOO / f"{stem}.onnx", check=False).graph)
    stored = np.load(ZOO / f"{stem}.npz")
    x = stored["x"].astype(np.float64).reshape(-1, *graph.input_shape)
    y = stored["y"].astype(np.int64) if stored["y"].dtype.kind == "i" else stored["y"].astype(np.float64)
    y = y if y.dtype.kind == "i" else y.reshape(len(x), -1)
    first = len(x) * 2 // 3
    train, validation = Rows(x[:first], y[:first]), Rows(x[first:], y[first:])
    loss = "cross-entropy" if y.dtype.kind == "i" else "square"
    return aimed(Task(graph, graph, "l2", 1.0, 0.0, loss, train, validation, FOREVER), share)


def waves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane in three classes, with curved borders between them."""
    x = np.random.default_rng(seed).uniform(-2.0, 2.0, (count, 1, 2))
    height = x[:, 0, 1] - 0.5 * np.sin(2.0 * x[:, 0, 0])
    return x, np.digitize(height, [-0.6, 0.6])


@lru_cache
def small_task(share: float = 0.2, norm: str = "l2", residual: bool = False, labelled: bool = True) -> Task:
    """A network fitted to `waves`, to be repaired to a share of its proved bound."""
    from fine_tuned import fine_tune

    from certlip.training import Objective, Samples

    draw = np.random.default_rng(0)
    sketch = Sketch(draw, (1, 2))
    value = sketch.add(Relu(), sketch.dense(0, 16))
    branch = sketch.dense(sketch.add(Relu(), sketch.dense(value, 16)), 16)
    sketch.dense(sketch.add(Add(), value, branch) if residual else sketch.add(Relu(), branch), 3)
    train, validation = (Rows(*waves(count, seed)) for count, seed in ((500, 1), (300, 2)))
    tensors = [Samples.of(rows.x, rows.y) for rows in (train, validation)]
    graph = fine_tune(sketch.graph(), *tensors, Objective("cross-entropy"), epochs=25, rate=2e-2, batch=32)
    teacher = None
    if not labelled:
        teacher = outputs_of(graph, train.x)
        train, validation = (Rows(rows.x, outputs_of(graph, rows.x).argmax(1)) for rows in (train, validation))
    task = Task(graph, graph, norm, 1.0, 0.0, "cross-entropy", train, validation, FOREVER, 10.0, 0, teacher)
    return aimed(task, share)


def aimed(task: Task, share: float) -> Task:
    """A share of the proved bound as the target; rivals of a classifier are raised by 2."""
    target = share * task.bound(task.graph)
    spread = rival_spread(task.norm, task.graph.output_size)
    task = replace(task, target=target, radius=2.0 / (spread * target) if task.is_classifier else 0.0)
    start = within(task, task.graph)
    assert start is not None
    return replace(task, start=start)


def proposals(name: str, task: Task, seconds: float = FOREVER) -> list[Graph]:
    method = FAMILIES[name]()
    assert method.obstacle(task) is None
    return list(method.propose(replace(task, deadline=time.monotonic() + seconds)))


def right(graph: Graph, rows: Rows) -> float:
    return float(np.mean(outputs_of(graph, rows.x).argmax(1) == rows.y))


def mean_radius(task: Task, graph: Graph) -> float:
    """What the bound certifies of the validation samples on average, 0 for those that are wrong."""
    outputs = outputs_of(graph, task.validation.x)
    rows = np.arange(len(outputs))
    own = outputs[rows, task.validation.y].copy()
    outputs[rows, task.validation.y] = -np.inf
    lead = np.maximum(own - outputs.max(1), 0.0)
    return float(np.mean(lead)) / (rival_spread(task.norm, outputs.shape[1]) * task.bound(graph))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_beats_scaling(name):
    beats_scaling(name, small_task())


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("stem", ["digits_mlp", "digits_tanh"])
def test_each_family_beats_scaling_of_larger_networks(stem, name):
    beats_scaling(name, task_of(stem, 0.5))


def beats_scaling(name: str, task: Task) -> None:
    """A smaller loss, and larger certified radii at hardly any loss of accuracy: scaling leaves both as they are."""
    candidates = proposals(name, task)
    assert all(task.bound(graph) <= task.target for graph in candidates)
    losses = [task.loss_on(graph, task.validation) for graph in candidates]
    assert min(losses) < 0.97 * task.loss_on(task.start, task.validation)
    least = right(task.start, task.validation) - 0.05
    equal = [graph for graph in candidates if right(graph, task.validation) >= least]
    assert max(mean_radius(task, graph) for graph in equal) > 1.5 * mean_radius(task, task.start)


def test_the_bound_is_proved_on_the_written_file():
    task, model = task_of("breast_cancer", 0.3), load(ZOO / "breast_cancer.onnx")
    for graph in proposals("sll", task)[-2:]:
        written = load_bytes(write(graph, model), "repaired.onnx")
        assert written.agreement.samples == 13
        assert bound(written).best.value <= task.target


@pytest.mark.parametrize(("stem", "name"), [("diabetes", "spectral"), ("diabetes", "orthogonal")])
def test_regression(stem, name):
    task = task_of(stem, 0.5)
    candidates = proposals(name, task)
    losses = [task.loss_on(graph, task.validation) for graph in candidates]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < task.loss_on(task.start, task.validation)
    assert all(task.bound(graph) <= task.target for graph in candidates)


def test_residual_networks():
    task = small_task(residual=True)
    candidates = proposals("sll", task)
    assert all(task.bound(graph) <= task.target for graph in candidates)
    lowest = min(task.loss_on(graph, task.validation) for graph in candidates)
    assert lowest < 0.95 * task.loss_on(task.start, task.validation)


@pytest.mark.long
def test_convolutions():
    task = task_of("mnist_conv", 0.5)
    candidates = proposals("spectral", task, seconds=45.0)
    assert all(task.bound(graph) <= task.target for graph in candidates)
    losses = [task.loss_on(graph, task.validation) for graph in candidates]
    assert min(losses) < 0.97 * task.loss_on(task.start, task.validation)


def test_row_sums_for_linf():
    task = small_task(norm="linf")
    for name, kind in FAMILIES.items():
        obstacle = kind().obstacle(task)
        assert (obstacle is None) == (name == "spectral")
        assert obstacle is None or "for linf use spectral" in obstacle
    candidates = proposals("spectral", task)
    assert all(task.bound(graph) <= task.target for graph in candidates)
    assert min(task.loss_on(graph, task.validation) for graph in candidates) < task.loss_on(task.start, task.validation)


def test_without_labels_the_judgement_of_the_network_is_kept():
    task = small_task(labelled=False)
    best = max(right(graph, task.validation) for graph in proposals("aol", task))
    assert best > 0.95  # of the classes that the network itself gives


def test_equal_seeds_repeat_themselves():
    task = small_task()
    task = replace(task, train=Rows(task.train.x[:100], task.train.y[:100]))
    first, second, other = (
        [graph.digest for graph in proposals("cpl", replace(task, seed=seed))] for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_the_deadline_is_respected(seconds):
    task = task_of("digits_tanh", 0.3)
    began = time.monotonic()
    candidates = proposals("spectral", task, seconds)
    assert candidates or seconds == 0.0
    assert time.monotonic() - began < seconds + 3.0


def test_a_network_without_a_bottleneck_is_refused():
    sketch = Sketch(np.random.default_rng(0), (1, 3))
    sketch.add(Add(), sketch.dense(0, 2), sketch.dense(sketch.add(Relu(), 0), 2))
    task = replace(task_of("breast_cancer", 0.3), graph=normal_form(sketch.graph()))
    assert "no layer that everything passes" in FAMILIES["sll"]().obstacle(task)
    bare = Sketch(np.random.default_rng(0), (1, 3))
    bare.add(Relu(), 0)
    assert "no dense or convolutional layer" in FAMILIES["sll"]().obstacle(replace(task, graph=bare.graph()))


def test_training_that_diverges_leaves_a_candidate(monkeypatch):
    monkeypatch.setattr(one_lipschitz, "_RATE", 1e8)
    task = small_task()
    candidates = proposals("spectral", task)
    assert candidates
    assert all(task.bound(graph) <= task.target for graph in candidates)
    losses = [task.loss_on(graph, task.validation) for graph in candidates]
    assert min(losses) <= 1.001 * task.loss_on(task.start, task.validation)


def test_all_families_are_registered():
    assert set(FAMILIES) <= set(methods())
