"""Files that runtimes and readers may understand differently are refused: a claim about them would be about neither."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import build

from certlip.errors import ModelError, UnsupportedModel
from certlip.onnx_reader import parse, read_graph

node = helper.make_node
EYE = numpy_helper.from_array(np.eye(2, dtype=np.float32), "W")


def product() -> onnx.ModelProto:
    return build([node("MatMul", ["x", "W"], ["y"])], (1, 2), {"W": np.eye(2)})


def read(model: onnx.ModelProto):
    return read_graph(parse(model.SerializeToString()))


def operator_sets(*entries) -> onnx.ModelProto:
    """At version 9 the limits of Clip are attributes; at 17 they are inputs, and there are none."""
    model = build([node("Clip", ["x"], ["y"], min=-1.0, max=1.0)], (1, 2), opset=9)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*entry) for entry in entries)
    return model


@pytest.mark.parametrize("first", ["", "ai.onnx"])
@pytest.mark.parametrize("second", ["", "ai.onnx"])
def test_two_operator_sets(first, second):
    for versions in ((9, 17), (17, 9)):
        with pytest.raises(ModelError, match="operator set"):
            read(operator_sets((first, versions[0]), (second, versions[1])))
    assert (read(operator_sets((first, 9), (second, 9)))(np.full((1, 1, 2), 7.0)) == 1.0).all()


def test_weights_given_twice():
    model = product()
    model.graph.initializer.append(EYE)
    with pytest.raises(ModelError, match="'W' is defined twice"):
        read(model)


@pytest.mark.parametrize("name", ["W", "other"])
def test_sparse_weights(name):
    model = product()
    sparse = model.graph.sparse_initializer.add(dims=[2, 2])
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([5.0, 5.0]), name))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 3]), "indices"))
    with pytest.raises(ModelError, match="sparse"):
        read(model)


def test_attributes_given_twice():
    leaky = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    leaky.attribute.append(helper.make_attribute("alpha", 0.7))
    with pytest.raises(ModelError, match="'alpha' twice"):
        read(build([leaky], (1, 2)))


def silu(constant: onnx.NodeProto) -> onnx.ModelProto:
    """x sigmoid(x) times a constant, which the pattern of this activation takes in."""
    nodes = [node("Sigmoid", ["x"], ["g"]), node("Mul", ["x", "g"], ["h"]), node("Mul", ["h", "c"], ["y"])]
    return build([constant, *nodes], (1, 2))


def test_constants_with_several_values():
    tensor = numpy_helper.from_array(np.float32(2.0))
    constant = node("Constant", [], ["c"], value=tensor)
    read(silu(constant))
    constant.attribute.append(helper.make_attribute("value_float", 5.0))
    with pytest.raises(ModelError, match="one value"):
        read(silu(constant))
    with pytest.raises(UnsupportedModel, match="elsewhere"):
        read(silu(helper.make_node("Constant", [], ["c"], domain="elsewhere", value=tensor)))


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_functions_that_pose_as_standard_operators(domain):
    """onnx's inliner replaces such a node, a runtime uses its own operator."""
    model = build([node("Relu", ["x"], ["y"])], (1, 2))
    body = [node("Neg", ["a"], ["b"])]
    model.functions.append(helper.make_function(domain, "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    with pytest.raises(ModelError, match="standard operators"):
        read(model)


@pytest.mark.parametrize(
    ("outputs", "taken", "entry"),
    [(["", "b", "c"], "b", 2.0), (["", "b", "c"], "c", 4.0), (["a", "", "c"], "c", 4.0), (["a", "b", ""], "b", 2.0)],
)
def test_outputs_without_a_name_are_not_counted(outputs, taken, entry):
    nodes = [node("Split", ["x"], outputs, axis=1), node("Identity", [taken], ["y"])]
    (value,) = read(build(nodes, (1, 3), opset=13))(np.array([[[1.0, 2.0, 4.0]]])).ravel()
    assert value == entry
