"""A counterexample counts only if the model itself, run by a runtime, shows it too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from certlip.importers import Model
from certlip.properties.outputs import is_probability
from certlip.rigor.rounding import Array
from certlip.verification.model_file import input_type, opened


def runner(model: Model) -> Callable[[Array], Array]:
    """A function from one input of the model's shape to the certified outputs, as the runtime computes them."""
    from certlip.importers.runtimes import onnx_runtime

    file, ends = opened(model)
    runtime = onnx_runtime(file.proto, ends, [ends.certified])
    kind = input_type(model)
    return lambda x: runtime.run(x.astype(kind))[ends.certified].astype(np.float64).reshape(-1)


def shows_other_label(outputs: Array, label: int, model: Model) -> bool:
    """True if the runtime's own outputs decide for another class."""
    if outputs.size > 1:
        return int(outputs.argmax()) != label
    threshold = 0.5 if is_probability(model.graph) else 0.0
    return bool(outputs[0] < threshold) if label == 1 else bool(outputs[0] > threshold)
