"""Re-proof of certificates from the model file, with numpy and onnx alone; `checker` walks through the kernel."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from certlip.check.checker import Checker, Finding, check, records
from certlip.check.levels import LEVELS

__all__ = ["LEVELS", "Checker", "Finding", "check", "records"]


class _CallableModule(ModuleType):
    """`certlip.check(paths)` is a function and `python -m certlip.check` a program: this lets one name be both."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[Finding]:
        return check(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
