"""Small models that ask for any amount of work or memory are refused at once; what real models fold still folds."""

import os
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import build, save

from certlip.errors import ModelError, UsageError
from certlip.onnx_reader import parse, read_file, read_graph
from certlip.onnx_reader.builder import NotLowered
from certlip.onnx_reader.folding_work import MAX_WORK, Budget, work
from certlip.properties.outputs import DECISION, chosen, is_probability

DRAW = np.random.default_rng(5)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the_{op}", **attributes)


def refused(model: onnx.ModelProto, seconds: float = 2.0) -> str:
    began = time.process_time()
    with pytest.raises(ModelError) as caught:
        read_graph(parse(model.SerializeToString()))
    assert time.process_time() - began < seconds and "\n" not in str(caught.value)
    return str(caught.value)


def folding(nodes, constants=None, opset=17, **options) -> onnx.ModelProto:
    """A model that multiplies its input by the constant "k"."""
    return build([*nodes, helper.make_node("Mul", ["x", "k"], ["y"])], (1, 2), constants, opset, **options)


def loop() -> onnx.ModelProto:
    kinds = {"i": TensorProto.INT64, "c": TensorProto.BOOL, "v": TensorProto.FLOAT}
    step = [helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()]
    made = [helper.make_tensor_value_info("co", kinds["c"], []), helper.make_tensor_value_info("vo", kinds["v"], [])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["co"]), helper.make_node("Identity", ["v"], ["vo"])], "body", step, made
    )
    start = {"n": np.array(2**62), "go": np.array(True), "v0": np.array(1.0)}
    return folding([node("Loop", ["n", "go", "v0"], ["k"], body=body)], start)


def test_a_loop_is_not_folded():
    assert "the_Loop" in refused(loop())


@pytest.mark.parametrize("op", ["If", "Scan", "SequenceMap", "StringConcat", "Einsum", "Conv", "Resize", "NoSuchThing"])
def test_only_listed_operators_are_folded(op):
    assert f"the_{op}" in refused(folding([node(op, ["a"], ["k"])], {"a": np.ones(2)}))


SIZES = {"large": np.array([2**14, 2**14]), "wide": np.array([1, 2**62]), "many": np.array(2**40)}


@pytest.mark.parametrize(
    "bomb",
    [
        node("ConstantOfShape", ["large"], ["k"]),
        node("ConstantOfShape", ["wide"], ["k"]),
        node("Expand", ["one", "large"], ["k"]),
        node("Tile", ["one", "large"], ["k"]),
        node("Range", ["zero", "many", "step"], ["k"]),
        node("Range", ["zero", "far", "small"], ["k"]),
        node("OneHot", ["none", "many", "pair"], ["k"]),
        node("Pad", ["one", "pads"], ["k"]),
        node("Split", ["one"], ["k"], num_outputs=2**40),
        node("Add", ["column", "row"], ["k"]),
        node("Gather", ["column", "zeros"], ["k"], axis=1),
        node("MatMul", ["column", "row"], ["k"]),
        node("Gemm", ["row", "column"], ["k"], transA=1, transB=1),
        node("Cast", ["one"], ["k"], to=TensorProto.STRING),
    ],
    ids=lambda bomb: bomb.op_type,
)
def test_results_that_explode_are_refused_before_they_are_made(bomb):
    constants = {
        **SIZES, "one": np.ones((1, 1)), "zero": np.array(0), "step": np.array(1), "far": np.array(1e30),
        "small": np.array(1e-9),
        "none": np.zeros(0, np.int64), "pair": np.zeros(2), "pads": np.array([0, 2**30, 0, 0]),
        "column": np.ones((2**15, 1)), "row": np.ones((1, 2**15)), "zeros": np.zeros(2**13, np.int64),
    }  # fmt: skip
    if bomb.op_type == "Range" and "far" in bomb.input:
        bomb.input[0] = "start"
        constants["start"] = np.array(0.0)
    opset = 18 if bomb.op_type == "Split" else 17
    assert bomb.name in refused(folding([bomb], constants, opset, dtype=np.float64))


@pytest.mark.parametrize(
    ("size", "length"), [(4096, 300), pytest.param(512, 3000, marks=pytest.mark.long)]
)
def test_the_work_of_all_nodes_together_is_bounded(size, length):
    """One product may be too much, or every one affordable and all of them together not."""
    start = node("ConstantOfShape", ["s"], ["a0"], value=numpy_helper.from_array(np.float32([1])))
    chain = [helper.make_node("MatMul", [f"a{i}", f"a{i}"], [f"a{i + 1}"], name=f"p{i}") for i in range(length)]
    chain.append(helper.make_node("ReduceSum", [f"a{length}"], ["k"], keepdims=0))
    message = refused(folding([start, *chain], {"s": np.array([size, size])}), 60)
    assert "more work" in message and "MatMul 'p" in message


def test_what_operators_do_costs_no_more_than_announced():
    """Sizes of real results stay within the bound, entry for entry where the operator repeats its input."""
    x, vector = DRAW.standard_normal((3, 4)), np.array([3, 1])
    cases = [
        ("Tile", [x, np.array([2, 5])], 120), ("Expand", [x, np.array([7, 3, 4])], 84), ("Add", [x[:, :1], x], 12),
        ("Gather", [x, np.zeros((5, 2), np.int64)], 40), ("MatMul", [x, x.T], 9), ("ConstantOfShape", [vector], 3),
        ("MatMul", [x[0], x.T], 3), ("MatMul", [x, x[0]], 3), ("MatMul", [np.ones((2, 3, 4)), x.T], 18),
        ("GatherND", [x, np.array([[0], [1]])], 8), ("Transpose", [x], 12), ("Range", list(np.array([0, 9, 2])), 5),
    ]  # fmt: skip
    for op, inputs, size in cases:
        names = [f"i{i}" for i in range(len(inputs))]
        inputs = [np.asarray(entry) for entry in inputs]
        (out,) = onnx.reference.ReferenceEvaluator(
            helper.make_model(
                helper.make_graph(
                    [helper.make_node(op, names, ["o"])], "g",
                    [helper.make_empty_tensor_value_info(name) for name in names],
                    [helper.make_empty_tensor_value_info("o")],
                ),
                opset_imports=[helper.make_opsetid("", 17)],
            )
        ).run(None, dict(zip(names, inputs, strict=True)))  # fmt: skip
        assert out.size == size
        assert work(helper.make_node(op, names, ["o"]), inputs) >= 16 * size, op


def test_a_budget_is_spent_once():
    budget = Budget()
    budget.spend(MAX_WORK)
    with pytest.raises(NotLowered, match="more work"):
        budget.spend(1)


def calls(bodies: list[list[str]]) -> onnx.ModelProto:
    """Functions F0, F1, ... whose bodies are chains of the named operators, and a graph that calls the last."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]

    def chain(ops, ends):
        names = [ends[0], *(f"t{i}" for i in range(len(ops) - 1)), ends[1]]
        return [
            helper.make_node(op, [a], [b], domain="d" if op.startswith("F") else "")
            for op, a, b in zip(ops, names, names[1:], strict=False)
        ]

    model = build(chain([f"F{len(bodies) - 1}"], ("x", "y")), (1, 2))
    for i, ops in enumerate(bodies):
        model.functions.append(helper.make_function("d", f"F{i}", ["a"], ["b"], chain(ops, ("a", "b")), opsets))
    model.opset_import.append(opsets[1])
    return model


def test_functions_that_expand_without_bound_are_refused():
    doubling = [["Relu", "Relu"], *([f"F{i}", f"F{i}"] for i in range(39))]
    assert "expand to more" in refused(calls(doubling))
    assert "call themselves" in refused(calls([["F0"]]))
    assert "call themselves" in refused(calls([["F2"], ["Relu", "F0"], ["F1", "F1"]]))
    assert "nested deeper" in refused(calls([["Relu"], *([f"F{i}"] for i in range(200))]))
    shallow_first = calls([["Relu"], *([f"F{i}"] for i in range(60)), *([f"F{i}"] for i in range(60, 90))])
    shallow_first.graph.node.insert(0, helper.make_node("F60", ["x"], ["unused"], domain="d"))
    assert "nested deeper" in refused(shallow_first)
    few = calls([["Relu", "Neg"], *([f"F{i}", f"F{i}"] for i in range(4))])
    assert len(read_graph(parse(few.SerializeToString())).nodes) == 32


def test_an_attribute_of_a_call_counts_as_often_as_the_body_may_copy_it():
    large = numpy_helper.from_array(np.zeros(2**20, np.float32))
    model = calls([["Relu"] * 1000])
    model.graph.node[0].attribute.append(helper.make_attribute("t", large))
    assert "expand to more" in refused(model)


def test_weights_of_a_function_in_another_file_are_confined(tmp_path):
    """onnx's own reader would take any path, relative to the working directory."""
    (tmp_path / "w.bin").write_bytes(np.float32([2.0, 3.0]).tobytes())
    for location in (str(tmp_path / "w.bin"), "../w.bin", "/dev/zero"):
        tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        model = calls([["Relu"]])
        model.functions[0].node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
        model.functions[0].node[1].CopyFrom(helper.make_node("Mul", ["a", "c"], ["b"]))
        (tmp_path / "inside").mkdir(exist_ok=True)
        with pytest.raises(ModelError):
            read_graph(read_file(save(model, tmp_path / "inside")))
    tensor.external_data[0].value = "w.bin"
    model.functions[0].node[0].attribute[0].t.CopyFrom(tensor)
    graph = read_graph(read_file(save(model, tmp_path)))
    np.testing.assert_array_equal(graph(np.ones((1, 1, 2))), [[[2.0, 3.0]]])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="devices and pipes")
def test_devices_and_pipes_are_no_models(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "zero.onnx"):
        with pytest.raises(ModelError, match="regular"):
            read_file(tmp_path / name)
    model = build([helper.make_node("Mul", ["x", "w"], ["y"])], (1, 2), {"w": np.ones(2)})
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="pipe.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        read_file(save(model, tmp_path))


def test_tensors_that_share_a_file_take_memory_one_by_one(tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(bytes(4000))
    model = build([helper.make_node("Mul", ["x", "w0"], ["y"])], (1, 1000), {f"w{i}": np.ones(1000) for i in range(9)})
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    read_file(save(model, tmp_path))
    monkeypatch.setattr("certlip.onnx_reader.files.MAX_BYTES", 20_000)
    with pytest.raises(ModelError, match="weights exceed"):
        read_file(save(model, tmp_path))


def test_a_graph_holds_a_bounded_number_of_weights():
    """One constant of a few bytes, multiplied by again and again."""
    start = node("ConstantOfShape", ["s"], ["w"], value=numpy_helper.from_array(np.float32([1])))
    chain = [helper.make_node("MatMul", [f"h{i}", "w"], [f"h{i + 1}"], name=f"p{i}") for i in range(100)]
    model = build([start, *chain], (1, 1024), {"s": np.array([1024, 1024])}, outputs=("h100",), inputs=("h0",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("certlip.onnx_reader.builder.MAX_GRAPH", 2**24)
        assert "values and weights" in refused(model)


W = np.array([[1.0], [2.0]])
KEEPING = {
    "nothing": [node("Identity", ["s"], ["y"])],
    "cast": [node("Cast", ["s"], ["y"], to=TensorProto.FLOAT)],
    "add": [node("Add", ["s", "zero"], ["y"])],
    "mul": [node("Mul", ["s", "one"], ["y"])],
    "clip": [node("Clip", ["s", "zero", "one"], ["y"])],
    "relu": [node("Relu", ["s"], ["y"])],
    "all": [
        node("Reshape", ["s", "flat"], ["t"]), node("Clip", ["t", "zero"], ["u"]),
        node("Div", ["u", "one"], ["v"]), node("Cast", ["v"], ["y"], to=TensorProto.DOUBLE),
    ],
}  # fmt: skip


def probability(tail) -> onnx.ModelProto:
    constants = {"W": W, "zero": np.array(0.0), "one": np.array(1.0), "half": np.array(0.5), "flat": np.array([1])}
    return build([node("MatMul", ["x", "W"], ["h"]), node("Sigmoid", ["h"], ["s"]), *tail], (1, 2), constants)


@pytest.mark.parametrize("tail", KEEPING.values(), ids=KEEPING)
def test_a_sigmoid_behind_what_leaves_it_alone_is_judged_by_its_logit(tail):
    graph = read_graph(parse(probability(tail).SerializeToString()))
    assert is_probability(graph)
    x = DRAW.standard_normal((20, 1, 2))
    np.testing.assert_allclose(chosen(graph, DECISION)(x).ravel(), (x @ W).ravel())


@pytest.mark.parametrize(
    ("tail", "decides"),
    [
        ([node("Sub", ["s", "half"], ["y"])], True),
        ([node("Sub", ["half", "s"], ["y"])], True),
        ([node("Mul", ["s", "half"], ["y"])], False),
        ([node("Add", ["s", "half"], ["y"])], False),
        ([node("Sub", ["one", "s"], ["y"])], False),
        ([node("Neg", ["s"], ["y"])], False),
        ([node("Clip", ["s", "half"], ["y"])], False),
        ([node("Sigmoid", ["s"], ["t"]), node("Mul", ["t", "half"], ["y"])], False),
    ],
)
def test_the_sign_of_what_a_sigmoid_becomes_decides_only_where_it_changes(tail, decides):
    graph = read_graph(parse(probability(tail).SerializeToString()))
    assert not is_probability(graph)
    if decides:
        assert chosen(graph, DECISION) is graph
    else:
        with pytest.raises(UsageError, match="both signs"):
            chosen(graph, DECISION)
