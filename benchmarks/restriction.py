"""Convex restriction of trained shallow networks: what it reaches, what it costs, and whether it is ever worse."""

from __future__ import annotations

import time
from decimal import ROUND_CEILING, Context
from functools import partial
from typing import Any

import numpy as np

from benchmarks.kept import Kept, Row, kept
from benchmarks.restriction_problems import PGD_STEPS, SPECS, Problem, Spec, attacked, badness, error, problem, proved
from certlip.repairs.convex import Shallow, improve
from certlip.repairs.convex.objective import Objective

TITLE = "Convex restriction"
KEY = "restriction"
STARTS, LARGE = 50, (300, 20_000, 20)  # random starts; neurons, samples and inputs of the large problem
_SECONDS = 120.0  # for the large problem
_LARGE_ROWS = ("start", "scaled", "R2")
_UP = Context(prec=4, rounding=ROUND_CEILING)
_TEXT = """\
Networks of one hidden layer, trained by scikit-learn, then rounds of R1 (frozen patterns), R2 (difference of convex
functions) or R3 (both layers at once) on the training rows by Clarabel, R2 also by the first-order solver. `objective`:
mean loss + penalty L. `L` is proved and rounded up. `error` and `attacked` are on rows that nobody trained on, without
and with a perturbation by {steps} steps of projected gradient ascent of the given l2 radius: mean squared error of a
regression, per cent of wrong classes. Inputs (and targets of a regression) have mean 0 and variance 1 over all rows."""
METHODS = (("R1", "clarabel"), ("R2", "clarabel"), ("R3", "clarabel"), ("R2", "first-order"))
_NOTE = {
    "diabetes": "442 rows of scikit-learn, permuted by `default_rng(0)`, the first 300 to train",
    "friedman1": "`make_friedman1(500, noise=1, random_state=0)`, the first 300 to train",
    "breast cancer": "569 rows of scikit-learn, one output, logistic loss, permuted likewise, the first 300 to train",
    "wine": "178 rows of scikit-learn, three outputs, cross-entropy, permuted likewise, the first 120 to train",
}


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


def targeted(spec: Spec, share: float, method: str) -> Row:
    """The network within `share` of its proved bound: scaled down, or improved from there by R2 under the target."""
    case = problem(spec)
    target = share * proved(case.net)
    scale = case.net.scaled(share * (1.0 - 1e-6))
    x, y = case.test
    lead = target * case.eps * (1.0 if case.net.outputs == 1 else np.sqrt(2.0))  # what a certificate at eps needs
    margin = lead if method == "R2, margin" else 0.0
    began, net = time.perf_counter(), scale
    if method != "scale":
        for step in improve(scale, *case.train, loss=case.loss, target=target, margin=margin, rounds=spec.rounds):
            net = step.net
    seconds, bound = time.perf_counter() - began, proved(net)
    row = {"L": bound, "target": target, "error": error(net, x, y), "seconds": seconds}
    row["attacked"] = error(net, attacked(net, x, y, case.eps), y)
    if y.dtype.kind != "f":
        row["certified"] = 100.0 * float(np.mean(-badness(net(x), y) > lead * bound / target))
    return row


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
    """Half the bound where a conic program cannot be tried: scaled down, and improved from there by R2."""
    from sklearn.datasets import make_friedman1
    from sklearn.neural_network import MLPRegressor

    m, n, d = LARGE
    x, y = make_friedman1(n + 5000, n_features=d, noise=1.0, random_state=0)
    x, y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    trained = MLPRegressor(hidden_layer_sizes=(m,), max_iter=30, random_state=0).fit(x[:n], y[:n])
    net = Shallow(trained.coefs_[0].T, trained.intercepts_[0], trained.coefs_[1].T, trained.intercepts_[1])
    began = time.monotonic()
    scale = final = net.scaled(0.5 * (1.0 - 1e-6))
    for step in improve(scale, x[:n], y[:n], loss="square", target=0.5 * proved(net), deadline=began + _SECONDS):
        final = step.net
    seconds = time.monotonic() - began
    names = {"start": net, "scaled": scale, "R2": final}
    rows = {name: {"L": proved(f), "error": error(f, x[n:], y[n:])} for name, f in names.items()}
    return {**rows, "seconds": seconds}


def section() -> list[str]:
    """The lines of the section."""
    lines = [f"## {TITLE}", "", _TEXT.format(steps=PGD_STEPS), ""]
    lines += [f"- {name}: {note}." for name, note in _NOTE.items()]
    with kept(KEY) as known:
        lines += ["", *_table(known), "", *_targets(known), "", *_starts(known), "", *_large(known)]
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


def _targets(known: Kept) -> list[str]:
    lines = [
        "Within a share of the start's proved bound: the network scaled down, then improved from there by R2 under the "
        "target, and with a margin in the loss of what a certificate at the radius needs. `certified`: per cent of the "
        "test rows whose margin exceeds what the proved L (times sqrt 2 for several outputs) lets it lose.",
        "", "| data | m | share | method | L | error | attacked | certified | s | met |", "|---" * 10 + "|",
    ]  # fmt: skip
    for spec in (SPECS[0], *SPECS[2:]):
        for share in (0.5, 0.1):
            for method in ("scale", "R2", "R2, margin"):
                if method == "R2, margin" and spec.data in ("diabetes", "friedman1"):
                    continue
                asked = {"target": share, "data": spec.data, "m": spec.neurons, "rounds": spec.rounds, "method": method}
                row = known.row(asked, partial(targeted, spec, share, method))
                met = "yes" if row["L"] <= row["target"] else "no"
                certified = f"{row['certified']:.1f}" if "certified" in row else ""
                names = f"{spec.data} | {spec.neurons} | {share} | {method} | {_UP.create_decimal(row['L']):f}"
                rest = f"{row['error']:.3f} | {row['attacked']:.3f} | {certified} | {row['seconds']:.1f} | {met}"
                lines.append(f"| {names} | {rest} |")
                print(f"  {lines[-1]}", flush=True)
    return lines


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
    lines = [f"| {name} | {_UP.create_decimal(row[name]['L']):f} | {row[name]['error']:.4f} |" for name in _LARGE_ROWS]
    cone = (m + d + 1) * (m + d + 2) // 2
    return [
        f"{m} neurons, {n} rows of `make_friedman1` with {d} inputs, 5000 more to test; half the bound by R2 with the "
        f"first-order solver, stopped after {row['seconds']:.0f} s. The conic program would have {2 * m * n + 2 * n} "
        f"linear inequalities and a semidefinite cone of {cone} entries, whose dense block alone takes "
        f"{8 * cone**2 / 1e9:.0f} GB in a general interior-point method.",
        "", "| network | L | error |", "|---|---|---|", *lines,
    ]  # fmt: skip
