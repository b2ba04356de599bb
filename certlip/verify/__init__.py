"""From a model, samples and a radius to a verdict per sample: bounds, margins, attack, certificates."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from certlip.verify.pipeline import Question, SampleResult, Status, Verifier, verify_samples

__all__ = ["Question", "SampleResult", "Status", "Verifier", "verify_samples"]


class _CallableModule(ModuleType):
    """Importing this package binds it to the name `certlip.verify`, which users call: so it is the function, too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module("certlip.api").verify(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
