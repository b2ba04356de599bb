"""Which properties are about the outputs that certlip certifies, where it leaves out a last softmax or arg max."""

from __future__ import annotations

from collections.abc import Sequence

from certlip.errors import UsageError
from certlip.properties.property import Halfspace, Property

_KEEP_ORDER = ("Softmax", "LogSoftmax")


def require_order_only(property: Property, decisions: Sequence[str], name: str) -> None:
    """Raises UsageError where the property is about the values of a last decision, which is left out. Only the order of
    outputs is the same before and after a softmax. decisions: the operators that are left out."""
    if not decisions:
        return
    comparing = all(_is_comparison(half) for case in property.cases for half in case.halfspaces)
    if not (comparing and all(kind in _KEEP_ORDER for kind in decisions)):
        raise UsageError(
            f"{name} is about the values of an output that certlip does not certify: it leaves out the final "
            f"{', '.join(decisions)} of the model and states nothing about it; write the property about the scores "
            "before it"
        )


def _is_comparison(half: Halfspace) -> bool:
    """Y_i <= Y_j or Y_i < Y_j, which a softmax neither makes true nor false."""
    coefficients = [coefficient for _, coefficient in half.outputs]
    return not half.inputs and half.bound == 0 and len(coefficients) == 2 and sum(coefficients) == 0
