"""The model's own file again: what type it takes, and how a runtime executes it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx

from certlip.errors import ModelError
from certlip.importers import Model
from certlip.onnx_reader import parse, read_file
from certlip.onnx_reader.files import ModelFile
from certlip.onnx_reader.reader import Ends, choose_ends


@lru_cache(maxsize=2)
def opened(model: Model) -> tuple[ModelFile, Ends]:
    """The parsed file and the ends of what is certified. Raises ModelError if the file changed since it was loaded."""
    if model.onnx_bytes is not None:
        file = parse(model.onnx_bytes)
    elif model.path is not None:
        file = read_file(model.path)
    else:
        raise ModelError(f"{model.name} has neither file nor bytes, so no runtime can run it; load it from a file")
    if file.sha256 != model.sha256 or dict(file.external) != dict(model.external):
        raise ModelError(f"{model.name} changed after it was loaded; load it again")
    return file, choose_ends(file.proto, model.input_name, model.output_name)


@lru_cache(maxsize=8)
def input_type(model: Model) -> np.dtype:
    """The type in which the model takes its input."""
    _, ends = opened(model)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(ends.source.type.tensor_type.elem_type))
