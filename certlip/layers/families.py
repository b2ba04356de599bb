"""The families by name."""

from __future__ import annotations

from collections.abc import Sequence

from certlip.errors import UsageError
from certlip.layers.dominance import AOL, SLL
from certlip.layers.geometry import Geometry, Sizes
from certlip.layers.orthogonal import Orthogonal
from certlip.layers.spectral import CPL, Spectral
from certlip.layers.weight import Weight

_CLASSES: dict[str, type[Weight]] = {kind.name: kind for kind in (SLL, AOL, CPL, Orthogonal, Spectral)}
FAMILIES = tuple(_CLASSES)
"""sll, aol, cpl, orthogonal, spectral."""


def family(
    name: str, shape: Sequence[int], *, stride: Sizes = 1, dilation: Sizes = 1, groups: int = 1, tight: bool = True
) -> Weight:
    """The parametrisation of that name for a weight (out, in) or a kernel (out, in / groups, *window).

    Its weights have operator norm at most 1 (up to rounding), a convolution's for every amount of zero padding, hence
    no argument for that. tight: see `Weight`; `orthogonal` always is, `spectral` never. Raises UsageError for another
    name or a shape that is neither.
    """
    if name not in _CLASSES:
        raise UsageError(f"unknown family '{name}'; choose one of {', '.join(FAMILIES)}")
    return _CLASSES[name](Geometry(tuple(shape), stride, dilation, groups), tight)
