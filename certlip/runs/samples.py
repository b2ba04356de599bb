"""The verdicts on samples, but those of an earlier run are not searched again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from certlip import api
from certlip.importers import Model
from certlip.report.results import VerifyReport
from certlip.runs.identity import model_identity, question_identity, sample_identity
from certlip.runs.ledger import Ledger
from certlip.runs.lines import earlier_sample, limits_of, sample_line
from certlip.verification import Question, SampleResult
from certlip.verification.dataset import Dataset

Each = Callable[[SampleResult, dict[str, Any]], None]
"""Hears of a result and of its JSON line."""


@dataclass
class SampleRun:
    """One question about samples. each: called for every sample as it ends, and again for one whose verdict later
    bounds improved. `results` holds the verdicts so far by index, whatever interrupts the run."""

    model: Model
    question: Question
    samples: Dataset
    timeout: float | None = 60.0
    total_timeout: float | None = None
    method: str = "auto"
    certificates: Any = None
    progress: Callable[[str], None] = api.silent
    each: Each = lambda result, line: None
    results: dict[int, SampleResult] = field(default_factory=dict, init=False)

    def verify(self, ledger: Ledger | None) -> VerifyReport:
        """The verdicts of this run and, where the same was asked, of the earlier ones in the ledger."""
        asked = self._asked()
        for index, identity in enumerate(asked):
            line = None if ledger is None else ledger.earlier(identity, self._limits(self.timeout))
            if line is not None:
                result = earlier_sample(line, index, self.model.graph.input_shape)
                self._note(result, identity, line["limits"], True, None)
        remaining = [index for index in range(len(asked)) if index not in self.results]
        if not remaining:
            return self.report()
        report = self._verify(remaining, asked, ledger)
        return replace(self.report(), bounds=report.bounds)

    def report(self) -> VerifyReport:
        """The verdicts that there are, in the order of the data."""
        question, results = self.question, tuple(self.results[index] for index in sorted(self.results))
        labelled = question.tolerance is None and self.samples.labels is not None
        return VerifyReport(
            self.model, question.eps, question.norm, results, (), labelled, question.tolerance, question.clip
        )

    def _verify(self, remaining: Sequence[int], asked: Sequence[Mapping[str, Any]], ledger: Ledger | None):
        began = time.monotonic()
        limits = self._limits(self.timeout)
        done = 0

        def ended(result: SampleResult) -> None:
            nonlocal limits, done
            index = remaining[done]
            done += 1
            self._note(replace(result, index=index), asked[index], limits, False, ledger)
            if self.total_timeout is not None:
                left = max(began + self.total_timeout - time.monotonic(), 0.0)
                limits = self._limits(left if self.timeout is None else min(self.timeout, left))

        def say(message: str) -> None:
            self.progress(f"sample {remaining[done]}: {message}" if done < len(remaining) else message)

        targets = self.samples.targets
        subset = replace(
            self.samples,
            inputs=self.samples.inputs[remaining],
            targets=None if targets is None else targets[remaining],
        )
        question = self.question
        report = api.verify(
            self.model, question.eps, data=subset, norm=question.norm, method=self.method, timeout=self.timeout,
            total_timeout=self.total_timeout, tolerance=question.tolerance, clip=question.clip, level=question.level,
            certificates=self.certificates, progress=say, each=ended,
        )  # fmt: skip
        for index, result in zip(remaining, report.samples, strict=True):
            final, first = replace(result, index=index), self.results[index]
            if (final.status, final.level, final.radius) != (first.status, first.level, first.radius):
                self._note(final, asked[index], self._limits(self.timeout), False, ledger)
        return report

    def _note(
        self, result: SampleResult, asked: Mapping[str, Any], limits: Mapping[str, Any], earlier: bool, ledger
    ) -> None:
        self.results[result.index] = result
        line = sample_line(result, asked, limits, earlier)
        if ledger is not None:
            ledger.write(line)
        self.each(result, line)

    def _limits(self, timeout: float | None) -> dict[str, Any]:
        return limits_of(timeout, self.method, 0)

    def _asked(self) -> list[dict[str, Any]]:
        model = self.model
        common = {
            **model_identity(model),
            "input_name": model.input_name,
            "output_name": model.output_name,
            **question_identity(self.question),
        }
        labels = self.samples.labels if self.question.tolerance is None else None
        targets = [None] * len(self.samples) if labels is None else labels.tolist()
        return [common | sample_identity(x, t) for x, t in zip(self.samples.inputs, targets, strict=True)]
