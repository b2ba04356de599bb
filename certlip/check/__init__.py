"""Re-proof of certificates from the model file, with numpy and onnx alone.

The walk of an audit: `certificate.record` decodes a claim and refuses anything unusual; `onnx_reader` reads the model
file whose sha256 the claim names and lowers it to a graph; `proofs` holds one theorem per kind of claim and recomputes
the number from the witness; `checker` compares. No number of the certificate is believed, solvers are not involved.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from certlip.check.checker import Checker, Finding, certificate_files, check

__all__ = ["Checker", "Finding", "certificate_files", "check"]


class _CallableModule(ModuleType):
    """`certlip.check(paths)` is a function and `python -m certlip.check` a program: this lets one name be both."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[Finding]:
        return check(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
