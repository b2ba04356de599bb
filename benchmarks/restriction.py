"""Convex restriction of trained shallow networks: what it reaches, what it costs, and whether it is ever worse."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks.kept import Kept, Row, kept
from certlip.lipschitz import LipSDP
from certlip.lipschitz.engine import run
from certlip.properties import Output
from certlip.repairs.convex import Shallow, improve
from certlip.repairs.convex.objective import Objective
from certlip.rigor.rounding import Array

TITLE = "Convex restriction"
KEY = "restriction"
STARTS, LARGE = 50, (300, 20_000, 64)  # random starts; neurons, samples and inputs of the large problem
_SECONDS = 240.0  # for the large problem
_PGD_STEPS = 40
_UP = Context(prec=4, rounding=ROUND_CEILING)
_TEXT = """\
Networks of one hidden layer, trained by scikit-learn, then rounds of R1 (frozen patterns), R2 (difference of convex
functions) or R3 (both layers at once) on the training rows by Clarabel, R2 also by the first-order solver. `objective`:
mean loss + penalty L. `L` is proved and rounded up. `error` and `attacked` are on rows that nobody trained on, without
and with a perturbation by {steps} steps of projected gradient ascent of the given l2 radius: mean squared error of a
regression, per cent of wrong classes. Inputs (and targets of a regression) have mean 0 and variance 1 over all rows."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A trained start with rows to train on and rows to test on."""

    net: Shallow
    train: tuple[Array, Array]
    test: tuple[Array, Array]
    loss: str
    penalty: float
    eps: float


@dataclass(frozen=True)
class Spec:
    """A group of rows: data, hidden neurons, seed of the start, rounds, penalty, radius; what R1 and R2 must reach."""

    data: str
    neurons: int
    seed: int
    rounds: int
    penalty: float
    eps: float
    reach: tuple[float, float] | None = None


SPECS = (
    Spec("diabetes", 10, 0, 3, 0.05, 0.25, (0.4208, 0.4097)),
    Spec("diabetes", 40, 2, 2, 0.05, 0.25, (0.3254, 0.2978)),
    Spec("friedman1", 20, 0, 3, 0.02, 0.25),
    Spec("breast cancer", 8, 0, 3, 0.02, 0.5),
    Spec("wine", 8, 0, 3, 0.02, 0.5),
)
METHODS = (("R1", "clarabel"), ("R2", "clarabel"), ("R3", "clarabel"), ("R2", "first-order"))
_NOTE = {
    "diabetes": "442 rows of scikit-learn, permuted by `default_rng(0)`, the first 300 to train",
    "friedman1": "`make_friedman1(500, noise=1, random_state=0)`, the first 300 to train",
    "breast cancer": "569 rows of scikit-learn, one output, logistic loss, permuted likewise, the first 300 to train",
    "wine": "178 rows of scikit-learn, three outputs, cross-entropy, permuted likewise, the first 120 to train",
}


@cache
def problem(spec: Spec) -> Problem:
    """The trained start of a row group."""
    from sklearn import datasets
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if spec.data == "friedman1":
        x, y = datasets.make_friedman1(500, noise=1.0, random_state=0)
    else:
        x, y = getattr(datasets, f"load_{spec.data.replace(' ', '_')}")(return_X_y=True)
    regression = spec.data in ("diabetes", "friedman1")
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (y - y.mean()) / y.std() if regression else y
    order = np.random.default_rng(0).permutation(len(x))
    count = 120 if spec.data == "wine" else 300
    train, test = order[:count], order[count:]
    kind = MLPRegressor if regression else MLPClassifier
    options: dict[str, Any] = {"alpha": 1e-3, "max_iter": 2000, "learning_rate_init": 5e-3, "random_state": spec.seed}
    trained = kind(hidden_layer_sizes=(spec.neurons,), **options).fit(x[train], y[train])
    (first, second), (b1, b2) = trained.coefs_, trained.intercepts_
    loss = "square" if regression else "logistic" if second.shape[1] == 1 else "cross-entropy"
    net = Shallow(first.T, b1, second.T, b2)
    return Problem(net, (x[train], y[train]), (x[test], y[test]), loss, spec.penalty, spec.eps)


def error(net: Shallow, x: Array, y: Array) -> float:
    """Mean squared error, or the per cent of wrong classes."""
    f = net(x)
    if y.dtype.kind == "f":
        return float(np.mean((f[:, 0] - y) ** 2))
    return float(100.0 * np.mean((f[:, 0] > 0 if f.shape[1] == 1 else f.argmax(axis=1)) != y))


def attacked(net: Shallow, x: Array, y: Array, eps: float) -> Array:
    """Inputs within eps of x, by projected gradient ascent on the squared error or on the best rival's lead."""
    graph, rng = net.graph(), np.random.default_rng(0)
    best, worst = x.copy(), _badness(net(x), y)
    for start in range(3):
        step = rng.standard_normal(x.shape) if start else np.zeros_like(x)
        moved = x + eps * step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12)
        for _ in range(_PGD_STEPS):
            f = net(moved)
            gradient = graph.gradient(moved, _ascent(f, y))
            moved = moved + 0.2 * eps * gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
            away = np.linalg.norm(moved - x, axis=1, keepdims=True)
            moved = x + (moved - x) * np.minimum(1.0, eps / np.maximum(away, 1e-12))
            bad = _badness(net(moved), y)
            found = bad > worst
            best[found], worst[found] = moved[found], bad[found]
    return best


def _badness(f: Array, y: Array) -> Array:
    if y.dtype.kind == "f":
        return (f[:, 0] - y) ** 2
    if f.shape[1] == 1:
        return np.where(y > 0, -f[:, 0], f[:, 0])
    own = np.eye(f.shape[1])[y] > 0
    return np.where(own, -np.inf, f).max(axis=1) - f[own]


def _ascent(f: Array, y: Array) -> Array:
    """The gradient of `_badness` with respect to f."""
    if y.dtype.kind == "f":
        return 2.0 * (f - y[:, None])
    if f.shape[1] == 1:
        return np.where(y[:, None] > 0, -1.0, 1.0)
    own = np.eye(f.shape[1])[y]
    return np.eye(f.shape[1])[np.where(own > 0, -np.inf, f).argmax(axis=1)] - own


def proved(net: Shallow) -> float:
    """certlip's proved bound of the network."""
    bound = run(LipSDP(), net.graph(), Output("all"), "l2", None)
    if not bound.proved:
        raise ArithmeticError(f"no bound was proved: {bound.note}")
    return bound.value


def figures(net: Shallow, case: Problem) -> Row:
    """What a row shows of one network."""
    (x, y), (tx, ty) = case.train, case.test
    value = Objective.of(net, x, y, case.loss, case.penalty, None, 0.0).value(net)
    bound = proved(net)
    return {
        "objective": value.loss + case.penalty * bound,
        "L": bound,
        "error": error(net, tx, ty),
        "attacked": error(net, attacked(net, tx, ty, case.eps), ty),
    }


def repaired(spec: Spec, program: str, solver: str) -> Row:
    """Figures before and after, rounds that counted, and seconds."""
    case, began = problem(spec), time.perf_counter()
    options: dict[str, Any] = {"penalty": case.penalty, "program": program, "solver": solver, "rounds": spec.rounds}
    steps = list(improve(case.net, *case.train, loss=case.loss, **options))
    seconds = time.perf_counter() - began
    net = steps[-1].net if steps else case.net
    return {"before": figures(case.net, case), "after": figures(net, case), "seconds": seconds, "steps": len(steps)}


def random_starts(program: str, solver: str) -> Row:
    """How many random networks are worse after one round, by proved bound and true loss, and how many better."""
    case = problem(SPECS[0])
    x, y = case.train[0][:60], case.train[1][:60]
    worse = better = 0
    for seed in range(STARTS):
        rng = np.random.default_rng(seed)
        m, o = int(rng.integers(2, 9)), 1
        shapes = ((m, x.shape[1]), (m,), (o, m), (o,))
        net = Shallow(*(rng.standard_normal(shape) / np.sqrt(shape[-1]) for shape in shapes))
        final = net
        for step in improve(net, x, y, loss="square", penalty=0.05, program=program, solver=solver, rounds=1):
            final = step.net
        before, after = (np.mean((n(x)[:, 0] - y) ** 2) + 0.05 * proved(n) for n in (net, final))
        worse, better = worse + int(after > before), better + int(after < before)
    return {"worse": worse, "better": better}


def large() -> Row:
    """The first-order solver where a conic one cannot be tried; the start is trained for ten epochs."""
    from sklearn.neural_network import MLPRegressor

    m, n, d = LARGE
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n + 5000, d))
    y = np.sin(2.0 * x @ (rng.standard_normal((d, 4)) / 8)).sum(axis=1) + 0.3 * rng.standard_normal(len(x))
    y = (y - y.mean()) / y.std()
    trained = MLPRegressor(hidden_layer_sizes=(m,), max_iter=10, random_state=0).fit(x[:n], y[:n])
    net = Shallow(trained.coefs_[0].T, trained.intercepts_[0], trained.coefs_[1].T, trained.intercepts_[1])
    case = Problem(net, (x[:n], y[:n]), (x[n:], y[n:]), "square", 0.05, 0.25)
    began = time.monotonic()
    final = net
    for step in improve(net, x[:n], y[:n], loss="square", penalty=0.05, deadline=began + _SECONDS):
        final = step.net
    seconds = time.monotonic() - began
    return {"before": figures(net, case), "after": figures(final, case), "seconds": seconds}


def section() -> list[str]:
    """The lines of the section."""
    lines = [f"## {TITLE}", "", _TEXT.format(steps=_PGD_STEPS), ""]
    lines += [f"- {name}: {note}." for name, note in _NOTE.items()]
    with kept(KEY) as known:
        lines += ["", *_table(known), "", *_starts(known), "", *_large(known)]
    return lines


def _table(known: Kept) -> list[str]:
    heads = "data | m | program | solver | objective | L | error | attacked | l2 radius | s | reach | met"
    lines = [f"| {heads} |", "|---" * (heads.count("|") + 1) + "|"]
    for spec in SPECS:
        for program, solver in METHODS:
            asked = {"data": spec.data, "m": spec.neurons, "seed": spec.seed, "rounds": spec.rounds}
            asked |= {"penalty": spec.penalty, "eps": spec.eps, "program": program, "solver": solver}
            row = known.row(asked, partial(repaired, spec, program, solver))
            before, after = row["before"], row["after"]
            parts = [_change(before, after, key) for key in ("objective", "L", "error", "attacked")]
            last = f"{spec.eps} | {row['seconds']:.1f} | {_goal(spec, program, solver, after['objective'])}"
            lines.append(f"| {spec.data} | {spec.neurons} | {program} | {solver} | {' | '.join(parts)} | {last} |")
            print(f"  {lines[-1]}", flush=True)
    return lines


def _goal(spec: Spec, program: str, solver: str, reached: float) -> str:
    """What was to be reached, to its four digits, and whether it was."""
    if spec.reach is None or program == "R3" or solver == "first-order":
        return " | "
    goal = spec.reach[program == "R2"]
    return f"<= {goal:.4f} | {'yes' if round(reached, 4) <= goal else 'no'}"


def _change(before: Row, after: Row, key: str) -> str:
    if key == "L":
        return f"{_UP.create_decimal(before[key]):f} -> {_UP.create_decimal(after[key]):f}"
    digits = 4 if key == "objective" else 3
    return f"{before[key]:.{digits}f} -> {after[key]:.{digits}f}"


def _starts(known: Kept) -> list[str]:
    lines = [
        f"{STARTS} random starts (2 to 8 neurons, 60 rows of diabetes, one round); the objective has the proved bound:",
        "", "| program | solver | better | worse | met |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for program, solver in METHODS:
        asked = {"starts": STARTS, "program": program, "solver": solver}
        row = known.row(asked, partial(random_starts, program, solver))
        met = "no" if row["worse"] else "yes"
        lines.append(f"| {program} | {solver} | {row['better']} | {row['worse']} | {met} |")
        print(f"  {lines[-1]}", flush=True)
    return lines


def _large(known: Kept) -> list[str]:
    m, n, d = LARGE
    row = known.row({"large": list(LARGE), "seconds": _SECONDS}, large)
    parts = (f"{key} {_change(row['before'], row['after'], key)}" for key in ("objective", "L", "error", "attacked"))
    cone = (m + d + 1) * (m + d + 2) // 2
    return [
        f"{m} neurons, {n} rows of {d} inputs (a sum of four sines, noise .3), R2 by the first-order solver within "
        f"{row['seconds']:.0f} s: {', '.join(parts)} (l2 radius .25). The conic program has {2 * m * n + 2 * n} linear "
        f"inequalities and a semidefinite cone of {cone} entries, whose dense block has {8 * cone**2 / 1e9:.0f} GB in "
        "a general interior-point method.",
    ]
