"""One property of one model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from certlip.api import as_model, silent
from certlip.importers import Model
from certlip.properties.property import Property
from certlip.properties.vnnlib import read_property
from certlip.report.suites import PropertyReport
from certlip.runs.fit import require_fit
from certlip.verification.amount import seconds
from certlip.verification.decide import decide_property


def verify_property(
    model: Any,
    property: str | Path | Property,
    *,
    timeout: float | None = 60.0,
    method: str = "auto",
    seed: int = 0,
    progress: Callable[[str], None] = silent,
) -> PropertyReport:
    """Does any input of the property lead to an unsafe output? A VNN-LIB file lists both, as what must not happen.

    property: a path of a `.vnnlib` file, plain or gzip-compressed, or a `Property`. The report's status is "certified"
    where the unsafe set is proved empty (VNN-COMP's "unsat": the property holds), "falsified" where a counterexample is
    confirmed ("sat"; its input is `report.result.counterexample`), else "unknown" or "timeout".
    Raises PropertyError for a malformed property, UsageError for one about another model.
    """
    limit = seconds(timeout, "the timeout")
    path = None if isinstance(property, Property) else Path(property)
    asked = property if isinstance(property, Property) else read_property(Path(property))
    return decide_read(as_model(model), asked, path, limit, method, seed, progress)


def decide_read(
    model: Model,
    property: Property,
    path: Path | None,
    limit: float | None,
    method: str,
    seed: int = 0,
    progress: Callable[[str], None] = silent,
) -> PropertyReport:
    """The same of a loaded model and a property that was read from `path`."""
    require_fit(property, model, "the property" if path is None else str(path))
    deadline = None if limit is None else time.monotonic() + limit
    result = decide_property(model, property, deadline=deadline, seed=seed, method=method, progress=progress)
    return PropertyReport(model, property, path, result)
