"""Proved bounds on how far a neural network's output can move when its input moves.

Its functions, `certlip.load`, `bound`, `verify`, `verify_property`, `verify_instances`, `radius`, `repair` and `check`,
are loaded on first use, so that `import certlip` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.version import __version__

if TYPE_CHECKING:
    from certlip.api import bound, radius, verify
    from certlip.check import check
    from certlip.importers import load
    from certlip.properties import Output
    from certlip.runs import repair, verify_instances, verify_property

_HOMES = {
    "Output": "certlip.properties",
    "bound": "certlip.api",
    "check": "certlip.check",
    "load": "certlip.importers",
    "radius": "certlip.api",
    "repair": "certlip.runs",
    "verify": "certlip.api",
    "verify_instances": "certlip.runs",
    "verify_property": "certlip.runs",
}

__all__ = [
    "Output", "__version__", "bound", "check", "load", "radius", "repair", "verify", "verify_instances",
    "verify_property",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'certlip' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
