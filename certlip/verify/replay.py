"""A counterexample counts only if the model itself, run by a runtime, shows it too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from certlip.importers import Model
from certlip.onnx_reader import parse, read_file
from certlip.properties.outputs import is_probability
from certlip.rigor.rounding import Array
from certlip.verify.dataset import input_type


def runner(model: Model) -> Callable[[Array], Array]:
    """A function from one input of the model's shape to the certified outputs, as the runtime computes them."""
    from certlip.importers.runtimes import onnx_runtime
    from certlip.onnx_reader.reader import choose_ends

    if model.onnx_bytes is not None:
        file = parse(model.onnx_bytes)
    elif model.path is not None:
        file = read_file(model.path)
    else:
        raise ValueError("a model without file and bytes cannot be run")
    ends = choose_ends(file.proto, model.input_name, model.output_name)
    runtime = onnx_runtime(file.proto, ends, [ends.certified])
    kind = input_type(model)
    return lambda x: runtime.run(x.astype(kind))[ends.certified].astype(np.float64).reshape(-1)


def shows_other_label(outputs: Array, label: int, model: Model) -> bool:
    """True if the runtime's own outputs decide for another class."""
    if outputs.size > 1:
        return int(outputs.argmax()) != label
    threshold = 0.5 if is_probability(model.graph) else 0.0
    return bool(outputs[0] < threshold) if label == 1 else bool(outputs[0] > threshold)
