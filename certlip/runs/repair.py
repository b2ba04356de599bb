"""`certlip.repair`: the same network, but within the bound, with its certificate and a report of what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from certlip.api import as_model, dataset_of, silent
from certlip.certificate import SUFFIX
from certlip.certificate.folder import write_atomically
from certlip.errors import ImportMismatch, UsageError
from certlip.importers import Model, load
from certlip.repairs.attempt import Attempt, Judge
from certlip.repairs.method import chosen
from certlip.repairs.problem import Problem
from certlip.repairs.requirement import MaxLipschitz, MinCertified, Requirement
from certlip.repairs.result import RepairReport, State
from certlip.repairs.search import Search
from certlip.report.repair_files import write_reports
from certlip.verification import Question, Status, Verifier, verify_samples
from certlip.verification.amount import exact_amount, seconds
from certlip.verification.certify import Recorder, opened_place
from certlip.verification.model_file import opened
from certlip.verification.uninterrupted import uninterrupted

_PROOF_SHARE, _PROOF = 0.05, 30.0
"""Share of the timeout for the proof of one candidate's bound, twice that below a minute, and seconds at most."""
_SCORING_SHARE = 0.15
"""Share of the timeout for the verdicts on the scored samples, once before and once after."""


def repair(
    model: Any,
    *,
    data: Any,
    max_lipschitz: str | float | Fraction | None = None,
    min_certified: str | float | Fraction | None = None,
    eps: str | float | Fraction | None = None,
    norm: str = "l2",
    tolerance: str | float | Fraction | None = None,
    holdout: Any = None,
    method: str = "auto",
    loss: str | None = None,
    max_accuracy_loss: str | float | Fraction = "0.03",
    timeout: float = 300.0,
    seed: int = 0,
    output: str | Path | None = None,
    progress: Callable[[str], None] = silent,
    each: Callable[[Attempt], None] = silent,
) -> RepairReport:
    """Change a network's weights as little as it takes until a requirement is proved of it.

    max_lipschitz: |f(x) - f(y)| <= L |x - y| for all x, y in `norm`. Or min_certified with eps: at least this share of
    the scored samples keep their right class (with `tolerance`: outputs that move by at most that) under every
    perturbation of at most eps in `norm`. data: a path, a pair (x, y) or an array x; without labels the network's own
    answers are kept as well as possible. A model that ends in a softmax or arg max keeps it, and what is proved is
    about the logits before. holdout: the samples to score; else some are split off. Nothing is scored on samples that
    it was fitted to.

    method: "auto" or a name of `certlip methods`. max_accuracy_loss: a classifier within a bound may be that much less
    accurate than before, on samples that choose, if its certified radii are larger on average. timeout: seconds for
    everything but the last proofs. output: where the ONNX file goes; certificates (`.certlip`) and reports
    (`.repair.json`, `.repair.md`) go beside it. The report's `met` is true only for what was proved of that file. An
    interruption ends the search; what it has is proved and written, and `interrupted` is set (one that comes while the
    model itself is looked at is raised). Raises CertlipError.
    """
    requirement = _requirement(max_lipschitz, min_certified, eps, norm, tolerance)
    limit = seconds(timeout, "the timeout")
    if not limit or limit == float("inf"):
        raise UsageError("a repair ends at its timeout; give a positive number of seconds")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"the seed {seed!r} is no whole number of at least 0")
    methods = chosen(method)
    loaded = as_model(model)
    if output is not None and not isinstance(output, (str, Path)):
        raise UsageError(f"a {type(output).__name__} is no file name; pass a path for the output")
    place = None if output is None else _place(Path(output), loaded)
    _require_whole(loaded)
    samples = dataset_of(loaded, data)
    scored = None if holdout is None else dataset_of(loaded, holdout)
    spared = float(exact_amount(max_accuracy_loss, "the largest loss of accuracy"))
    problem = Problem.of(loaded, requirement, samples, scored, loss, seed, spared)
    work = _Work(problem, limit, place, progress, each, {"method": method, "timeout": timeout, "seed": seed})
    return work.done(methods)


@dataclass
class _Work:
    """One repair from the model to the files."""

    problem: Problem
    limit: float
    place: Path | None
    progress: Callable[[str], None]
    each: Callable[[Attempt], None]
    options: dict[str, Any]
    began: float = field(default_factory=time.monotonic)

    def done(self, methods: list) -> RepairReport:
        proof = min(max(_PROOF_SHARE * self.limit, min(2 * _PROOF_SHARE * self.limit, 3.0)), _PROOF)
        judge = Judge(self.problem, proof)
        self.progress("the model as it is")
        original = judge.original()
        before = self._state(original, judge)
        if self._is_met(before):
            return self._finished(before, before, None, False)
        end = self.began + (1.0 - _SCORING_SHARE) * self.limit
        # that it meets a share on the samples that choose is no use: on those that score it does not
        search = Search(judge, replace(original, meets=False), end, proof, self.progress, self.each)
        try:
            search.run(methods)
            after = self._after(before, search)
        except KeyboardInterrupt:
            with uninterrupted():  # whatever else is typed, the best state so far is written
                return self._finished(before, self._after(before, search, True), search, True)
        return self._finished(before, after, search, False)

    def _after(self, before: State, search: Search, hurried: bool = False) -> State:
        best = search.best
        return before if best is None or best is search.original else self._state(best, search.judge, hurried)

    def _state(self, attempt: Attempt, judge: Judge, hurried: bool = False) -> State:
        """Scores on the samples that score, and verdicts where a share is asked for (after an interruption only those
        that its Lipschitz bound gives at once)."""
        problem, part = self.problem, self.problem.parts.test
        time_left = _SCORING_SHARE * self.limit
        self.progress(f"scoring {attempt.method} on {len(part)} samples")
        scores = judge.scores(attempt.model, attempt.bound, part, problem.rows(part), 1.0 if hurried else time_left)
        requirement = problem.requirement
        if isinstance(requirement, MaxLipschitz):
            return State(attempt, scores)
        question = Question(requirement.eps, requirement.norm, requirement.tolerance)
        verifier = Verifier(attempt.model, question, "lipsdp" if hurried else "auto", seed=problem.seed)
        if attempt.bound is not None:
            verifier.table.know(attempt.bound)
        asked = part if problem.is_classifier else replace(part, targets=None)
        each = min(time_left, max(time_left / len(part), 1.0))
        verdicts = list(verify_samples(verifier, asked, each, 1.0 if hurried else time_left))
        final = [verifier.refresh(result, part.inputs[result.index]) for result in verdicts]
        return State(attempt, scores, tuple(final))

    def _is_met(self, state: State) -> bool:
        requirement = self.problem.requirement
        if isinstance(requirement, MaxLipschitz):
            bound = state.attempt.bound
            return bound is not None and Fraction(bound.value) <= requirement.limit
        return Fraction(state.certified, len(state.verdicts)) >= requirement.share

    def _finished(self, before: State, after: State, search: Search | None, interrupted: bool) -> RepairReport:
        """Write what there is, the model first, and report it."""
        report = RepairReport(
            self.problem, before, after, after.attempt.model, {} if search is None else search.found,
            {} if search is None else search.notes, self._is_met(after), interrupted,
            time.monotonic() - self.began, {},
        )  # fmt: skip
        if self.place is None:
            return report
        with uninterrupted():
            return self._written(report, self.place)

    def _written(self, report: RepairReport, place: Path) -> RepairReport:
        after = report.after
        model = after.attempt.model
        raw = model.onnx_bytes if model.onnx_bytes is not None else opened(model)[0].proto.SerializeToString()
        write_atomically(place, raw)
        written = load(place, input_name=model.input_name, output_name=model.output_name)
        if written.graph.digest != model.graph.digest:
            raise ImportMismatch(f"{place} does not hold the network that was certified; was it changed meanwhile?")
        proofs = place.with_suffix(SUFFIX)
        self._record(written, after, proofs)
        files = {"model": place, "certificates": proofs}
        return write_reports(replace(report, model=written, files=files), place)

    def _record(self, model: Model, state: State, place: Path) -> None:
        part, requirement = self.problem.parts.test, self.problem.requirement
        with Recorder(model, place, self.options) as recorder:
            if state.attempt.bound is not None:
                recorder.bound(state.attempt.bound)
            if isinstance(requirement, MinCertified):
                question = Question(requirement.eps, requirement.norm, requirement.tolerance)
                for verdict in state.verdicts:
                    if verdict.status is Status.CERTIFIED:
                        recorder.sample(verdict, part.inputs[verdict.index], question)


def _requirement(max_lipschitz, min_certified, eps, norm: str, tolerance) -> Requirement:
    if (max_lipschitz is None) == (min_certified is None):
        raise UsageError("a repair needs one requirement; give a largest Lipschitz constant or a certified share")
    if norm not in ("l2", "linf"):
        raise UsageError(f"unknown norm {norm!r}; choose l2 or linf")
    if max_lipschitz is not None:
        if eps is not None or tolerance is not None:
            raise UsageError("eps and tolerance belong to a certified share; leave them out")
        return MaxLipschitz(exact_amount(max_lipschitz, "the largest Lipschitz constant"), norm)
    if eps is None:
        raise UsageError("a certified share needs a radius; give eps")
    slack = None if tolerance is None else exact_amount(tolerance, "the tolerance")
    return MinCertified(exact_amount(min_certified, "the certified share"), exact_amount(eps, "eps"), norm, slack)


def _place(path: Path, model: Model) -> Path:
    """Where the repaired model goes: an .onnx file that is not the model itself."""
    if path.suffix != ".onnx" or path.is_dir():
        raise UsageError(f"{path} is no name for the repaired model; choose a file that ends in .onnx")
    if model.path is not None and path.exists() and path.samefile(model.path):
        raise UsageError(f"{path} is the model itself, which stays as it is; name another file")
    for other in (path.with_suffix(suffix) for suffix in (SUFFIX, ".repair.json", ".repair.md")):
        if other.is_dir():
            raise UsageError(f"{other} is a folder, and a file of this name goes beside {path}; name another file")
    opened_place(path.with_suffix(SUFFIX))  # the folder can be written to: better known now than in the end
    return path


def _require_whole(model: Model) -> None:
    """The file that is written has one input and one output."""
    graph = opened(model)[0].proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    others = [entry.name for entry in graph.output if entry.name != model.output_name]
    others += [e.name for e in graph.input if e.name != model.input_name and e.name not in constants]
    if others:
        raise UsageError(
            f"{model.name} also has {', '.join(others)}, which a repaired model would lack; export it with the input "
            f"{model.input_name} and the output {model.output_name} alone"
        )
