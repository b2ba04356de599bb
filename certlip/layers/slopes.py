"""Activations whose slopes lie in [0, 1], the only ones for which the residual layers are 1-Lipschitz."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from certlip.errors import UsageError

_THRESHOLD = 20.0
"""torch's Softplus jumps down by log(1 + exp(-threshold)) / beta where it turns into the identity: from here on by less
than binary32 rounds there. Exported as ONNX it does not jump."""

_SLOPES: dict[type[nn.Module], Callable[..., bool]] = {
    nn.ReLU: lambda act: True,
    nn.ReLU6: lambda act: True,
    nn.Tanh: lambda act: True,
    nn.Sigmoid: lambda act: True,
    nn.Softplus: lambda act: act.beta > 0 and act.threshold >= _THRESHOLD,
    nn.Hardtanh: lambda act: True,
    nn.LeakyReLU: lambda act: 0 <= act.negative_slope <= 1,
    nn.ELU: lambda act: 0 <= act.alpha <= 1,
    nn.CELU: lambda act: act.alpha > 0,
}
"""Whether the slopes of an activation lie in [0, 1], by its class."""

_BY_NAME = {kind.__name__.lower(): kind for kind in _SLOPES}


def monotone_contraction(activation: str | nn.Module) -> nn.Module:
    """The activation as a module, if its slopes are known to lie in [0, 1].

    activation: "relu", "tanh", "sigmoid", "softplus", "leakyrelu", "elu", "celu", "hardtanh", "relu6", or a module of
    torch of one of these kinds. Raises UsageError for all others: with GELU (slope up to 1.13) a residual layer reached
    a slope of 1.26, with |x| one of 3.
    """
    kind = _BY_NAME.get(activation.lower()) if isinstance(activation, str) else type(activation)
    module = activation if isinstance(activation, nn.Module) else kind() if kind in _SLOPES else None
    if module is None or kind not in _SLOPES or not _SLOPES[kind](module):
        raise UsageError(
            f"the slopes of {activation} are not known to lie in [0, 1], without which a residual layer is not "
            f"1-Lipschitz; use one of {', '.join(_BY_NAME)}"
        )
    return module
