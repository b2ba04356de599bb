"""One property of one model."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from certlip.api import as_model, silent
from certlip.errors import UsageError
from certlip.importers import Model
from certlip.properties.property import Property
from certlip.properties.vnnlib import parse_property, property_text
from certlip.report.suites import PropertyReport
from certlip.runs.fit import require_fit
from certlip.verification.amount import seconds
from certlip.verification.certify_property import PropertyRecorder
from certlip.verification.decide import decide_property


def verify_property(
    model: Any,
    property: str | Path | Property,
    *,
    timeout: float | None = 60.0,
    method: str = "auto",
    seed: int = 0,
    certificates: str | Path | None = None,
    progress: Callable[[str], None] = silent,
) -> PropertyReport:
    """Does any input of the property lead to an unsafe output? A VNN-LIB file lists both, as what must not happen.

    property: a path of a `.vnnlib` file, plain or gzip-compressed, or a `Property`. The report's status is "certified"
    where the unsafe set is proved empty (VNN-COMP's "unsat": the property holds), "falsified" where a counterexample is
    confirmed ("sat"; its input is `report.result.counterexample`), else "unknown" or "timeout".
    certificates: a folder for the proof and the file, or a bundle where the name ends in `.certlip`.
    Raises PropertyError for a malformed property, UsageError for one about another model.
    """
    limit = seconds(timeout, "the timeout")
    if isinstance(property, Property):
        if certificates is not None:
            raise UsageError("a certificate is about a property file; pass its path instead of a Property")
        return decide_read(as_model(model), property, None, limit, method, seed, progress)
    path = Path(property)
    text = property_text(path)
    asked = parse_property(text, str(path))
    place = None if certificates is None else Path(certificates)
    return decide_read(as_model(model), asked, path, limit, method, seed, progress, text, place)


def decide_read(
    model: Model,
    property: Property,
    path: Path | None,
    limit: float | None,
    method: str,
    seed: int = 0,
    progress: Callable[[str], None] = silent,
    text: str = "",
    certificates: Path | None = None,
) -> PropertyReport:
    """The same of a loaded model and a property that was read from `path`, which holds `text`."""
    require_fit(property, model, "the property" if path is None else str(path))
    deadline = None if limit is None else time.monotonic() + limit
    options = {"timeout": limit, "method": method, "seed": seed}
    recorder = None if certificates is None else PropertyRecorder(model, certificates, options)
    with recorder or nullcontext():
        result = decide_property(model, property, deadline=deadline, seed=seed, method=method, progress=progress)
        if recorder is not None and path is not None:
            why = recorder.verdict(result, property, text, path)
            result = replace(result, note="; ".join(filter(None, (result.note, why and f"no certificate: {why}"))))
    return PropertyReport(model, property, path, result)
