"""Written files against onnxruntime on the originals, against the graphs they were made of, and through `load`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from random_graphs import random_graph
from small_models import ZOO

from certlip.errors import ModelError
from certlip.graph import Affine, Graph, Node
from certlip.importers import load
from certlip.importers.model import Model
from certlip.onnx_writer import write
from certlip.ops import Dense, Gelu, Reindex, Relu, Scale, TanhGelu
from certlip.passes import normal_form

DATA = Path(os.environ.get("CERTLIP_REFERENCE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
REFERENCE = sorted(p for p in DATA.rglob("*.onnx*") if p.name.endswith((".onnx", ".onnx.gz")))


def session(raw: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def original_bytes(model: Model) -> bytes:
    """The original as one file."""
    from certlip.onnx_reader import parse, read_file

    file = parse(model.onnx_bytes) if model.onnx_bytes is not None else read_file(model.path)
    return file.proto.SerializeToString()


def rewritten(model: Model, graph: Graph, folder: Path) -> tuple[Model, bytes]:
    """Write, load with its check against onnxruntime, and hold the interface to the original's."""
    raw = write(graph, model)
    path = folder / "written.onnx"
    path.write_bytes(raw)
    again = load(path, input_name=model.input_name, output_name=model.output_name)
    proto = onnx.load_from_string(raw)
    onnx.checker.check_model(proto)
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert all(node.domain == "" for node in proto.graph.node)
    assert proto.producer_name == "certlip"
    assert (again.graph.input_shape, again.graph.output_shape) == (model.graph.input_shape, model.graph.output_shape)
    before = onnx.load_from_string(original_bytes(model))
    source = next(entry for entry in before.graph.input if entry.name == model.input_name)
    target = next(entry for entry in before.graph.output if entry.name == model.output_name)
    assert list(proto.graph.input) == [source]
    assert list(proto.graph.output) == [target]
    return again, raw


def same_outputs(model: Model, raw: bytes, batches=(1,), tolerance: float = 1e-4) -> None:
    """Both files on the same random inputs."""
    old, new = session(original_bytes(model)), session(raw)
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    kind = dtype[new.get_inputs()[0].type]
    rng = np.random.default_rng(0)
    for size in batches:
        shape = (size, *model.graph.input_shape[1:]) if size > 1 else model.graph.input_shape
        x = rng.standard_normal(shape).astype(kind)
        expected = old.run([model.output_name], {model.input_name: x})[0]
        actual = new.run([model.output_name], {model.input_name: x})[0]
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        scale = max(1.0, float(np.abs(expected.astype(np.float64)).max(initial=0.0)))
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.onnx")), ids=lambda path: path.stem)
def test_zoo(path, tmp_path):
    model = load(path)
    _, raw = rewritten(model, model.graph, tmp_path)
    same_outputs(model, raw, batches=(1, 3))
    form = normal_form(model.graph)
    again, raw = rewritten(model, form, tmp_path)
    same_outputs(model, raw, batches=(1, 3))
    if all(node.operator.weight.is_exact for node in form.nodes if isinstance(node.operator, Affine)):
        assert normal_form(again.graph).digest == form.digest
        assert path.stem not in ("mnist_mlp", "mnist_conv")
    else:
        assert path.stem in ("mnist_mlp", "mnist_conv")


def test_a_network_of_dense_layers_is_written_as_a_person_would(tmp_path):
    model = load(ZOO / "mnist_mlp.onnx")
    proto = onnx.load_from_string(write(normal_form(model.graph), model))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds == ["Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    assert [tensor.name for tensor in proto.graph.initializer][-2:] == ["logits.weight", "logits.bias"]


@pytest.mark.skipif(not REFERENCE, reason="no reference models: set CERTLIP_REFERENCE_DATA to their folder")
@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.name)
def test_reference_model(path, tmp_path):
    model = load(path, check=False)
    _, raw = rewritten(model, normal_form(model.graph), tmp_path)
    same_outputs(model, raw)


KINDS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.float16: TensorProto.FLOAT16}


def save_nodes(path: Path, nodes, shape, constants, opset=17, kind=np.float32, output=("batch", None)) -> Path:
    """A model from x to y, `output` its declared shape; float constants stored in `kind`."""
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    stored = {name: array.astype(kind) if array.dtype.kind == "f" else array for name, array in arrays.items()}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", KINDS[kind], shape)],
        [helper.make_tensor_value_info("y", KINDS[kind], output)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def as_model(graph: Graph, folder: Path, dynamic: bool, opset: int, kind=np.float32) -> Model:
    """A model of a graph's input and output shapes: what `write` takes the interface from. It says nothing."""
    shape = ["batch", *graph.input_shape[1:]] if dynamic else list(graph.input_shape)
    size = int(np.prod(graph.input_shape))
    target = int(np.prod(graph.output_shape))
    nodes = [
        helper.make_node("Reshape", ["x", "row"], ["flat"]),
        helper.make_node("MatMul", ["flat", "W"], ["product"]),
        helper.make_node("Reshape", ["product", "shape"], ["y"]),
    ]
    constants = {
        "row": np.array([1, size]), "W": np.zeros((size, target)), "shape": np.array(graph.output_shape, np.int64),
    }  # fmt: skip
    output = ["batch", *graph.output_shape[1:]] if dynamic and graph.output_shape[:1] == (1,) else graph.output_shape
    return load(save_nodes(folder / "interface.onnx", nodes, shape, constants, opset, kind, output), check=False)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 18, 20])
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed, opset, tmp_path):
    graph = random_graph(100 * opset + seed, pools=True)
    model = as_model(graph, tmp_path, False, opset)
    try:
        again, _ = rewritten(model, graph, tmp_path)
    except ModelError as error:
        assert opset == 7 and "operator set" in str(error)
        return
    x = np.random.default_rng(seed).standard_normal((4, *graph.input_shape))
    expected = graph(x)
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(again.graph(x), expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("seed", range(40))
def test_batches_of_random_graphs(seed, tmp_path):
    """Where the batch is open, every row of a batch is what the graph makes of it alone."""
    graph = random_graph(seed, pools=True)
    if graph.input_shape[0] != 1 or graph.output_shape[0] != 1:
        graph = image_like(graph)
    model = as_model(graph, tmp_path, True, 17)
    _, raw = rewritten(model, graph, tmp_path)
    x = np.random.default_rng(seed).standard_normal((3, *graph.input_shape))
    expected = graph(x)[:, 0]
    (actual,) = session(raw).run(None, {"x": x[:, 0].astype(np.float32)})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max(initial=1.0))


def image_like(graph: Graph) -> Graph:
    """The same network with an axis of one entry before its input and its output."""
    nodes = [Node(Reindex.through((1, *graph.input_shape), lambda a: a.reshape(graph.input_shape)), (0,))]
    nodes += [Node(node.operator, tuple(i + 1 for i in node.inputs), node.name) for node in graph.nodes]
    nodes.append(Node(Reindex.through(graph.output_shape, lambda a: a.reshape(1, -1)), (len(nodes),)))
    return Graph((1, *graph.input_shape), tuple(nodes))


DECISIONS = {
    "softmax": (17, [("Softmax", {"axis": 1})], ["batch", 3]),
    "softmax before operator set 13": (11, [("Softmax", {})], ["batch", 3]),
    "log-softmax, reshaped": (17, [("LogSoftmax", {"axis": -1}), ("Reshape", ["wide"])], ["batch", 3, 1]),
    "arg max": (17, [("ArgMax", {"axis": 1, "keepdims": 0})], ["batch"]),
    "softmax, arg max, cast": (
        13, [("Softmax", {"axis": -1}), ("ArgMax", {"axis": 1}), ("Cast", {"to": TensorProto.INT32})], ["batch", 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_are_put_back(name, kind, tmp_path):
    opset, steps, shape = DECISIONS[name]
    rng = np.random.default_rng(1)
    constants = {"W": rng.standard_normal((3, 4)), "b": rng.standard_normal(3), "wide": np.array([0, 3, 1])}
    nodes, value = [helper.make_node("Gemm", ["x", "W", "b"], ["logits"], "dense", transB=1)], "logits"
    for position, (operator, given) in enumerate(steps):
        made = "y" if position == len(steps) - 1 else f"step{position}"
        inputs, attributes = (given, {}) if isinstance(given, list) else ([], given)
        nodes.append(helper.make_node(operator, [value, *inputs], [made], **attributes))
        value = made
    path = save_nodes(tmp_path / "decides.onnx", nodes, ["batch", 4], constants, opset, kind, shape)
    proto = onnx.load(path)
    if "Cast" in dict(steps):
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    elif "ArgMax" in dict(steps):
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(proto, path)
    model = load(path)
    _, raw = rewritten(model, normal_form(model.graph), tmp_path)
    same_outputs(model, raw, batches=(1, 5))
    written = onnx.load_from_string(raw)
    assert [node.op_type for node in written.graph.node] == ["Gemm", *(operator for operator, _ in steps)]
    assert written.opset_import[0].version == opset
    assert {tensor.data_type for tensor in written.graph.initializer} - {TensorProto.INT64} == {KINDS[kind]}


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_have_the_element_type_of_the_model(kind, tmp_path):
    rng = np.random.default_rng(2)
    constants = {"W": rng.standard_normal((4, 5)), "V": rng.standard_normal((5, 2))}
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["z"], "act"),
        helper.make_node("MatMul", ["z", "V"], ["y"], "second"),
    ]
    model = load(save_nodes(tmp_path / "typed.onnx", nodes, ["batch", 4], constants, 17, kind, ["batch", 2]))
    again, raw = rewritten(model, model.graph, tmp_path)
    assert again.graph.digest == model.graph.digest
    same_outputs(model, raw, batches=(1, 2), tolerance=1e-2 if kind is np.float16 else 1e-12)


def test_bfloat16(tmp_path):
    weight = helper.make_tensor("W", TensorProto.BFLOAT16, (2, 2), [1.0, -2.0, 0.5, 3.0])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["h"], "first"), helper.make_node("Relu", ["h"], ["y"], "act")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["batch", 2])],
        [weight],
    )
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    model = load(path)
    again, _ = rewritten(model, model.graph, tmp_path)
    assert again.graph.digest == model.graph.digest


def test_a_conversion_to_another_type(tmp_path):
    """x in float32, the network in float64: weights keep 53 bits."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], "cast", to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "W"], ["y"], "dense"),
    ]
    path = save_nodes(tmp_path / "wide.onnx", nodes, ["batch", 2], {}, 17, np.float32, ["batch", 1])
    proto = onnx.load(path)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([[1.0 / 3.0], [0.1]]), "W"))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    onnx.save(proto, path)
    model = load(path)
    again, raw = rewritten(model, normal_form(model.graph), tmp_path)
    assert normal_form(again.graph).digest == normal_form(model.graph).digest
    same_outputs(model, raw, batches=(1, 2), tolerance=1e-12)


def test_a_torch_module(tmp_path):
    import torch

    torch.manual_seed(0)
    body = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(12, 4), torch.nn.GELU(), torch.nn.Linear(4, 2),
    )  # fmt: skip
    model = load(body, input_shape=(1, 2, 4, 4))
    _, raw = rewritten(model, normal_form(model.graph), tmp_path)
    same_outputs(model, raw, batches=(1,))
    kinds = [node.op_type for node in onnx.load_from_string(raw).graph.node]
    assert kinds[:4] == ["Conv", "Relu", "MaxPool", "Flatten"] or kinds[:4] == ["Conv", "Relu", "MaxPool", "Reshape"]


POOLS = [
    dict(kernel_shape=[2, 2], strides=[2, 2]),
    dict(kernel_shape=[3, 2], strides=[1, 2], pads=[1, 1, 1, 0]),
    dict(kernel_shape=[2, 2], dilations=[2, 1]),
    dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    dict(kernel_shape=[7, 6]),
]


@pytest.mark.parametrize("attributes", POOLS, ids=str)
def test_pooling_stays_pooling(attributes, tmp_path):
    nodes = [helper.make_node("MaxPool", ["x"], ["y"], "pool", **attributes)]
    rest = np.ones((1, 2, 7, 6), np.float32)
    path = save_nodes(tmp_path / "pool.onnx", nodes, ["batch", 2, 7, 6], {}, 17, np.float32, ["batch", 2, "h", "w"])
    assert session(path.read_bytes()).run(None, {"x": rest})[0].shape[1] == 2
    model = load(path)
    again, raw = rewritten(model, model.graph, tmp_path)
    assert again.graph.digest == model.graph.digest
    same_outputs(model, raw, batches=(1, 3))
    assert [node.op_type for node in onnx.load_from_string(raw).graph.node] == ["MaxPool"]


MOVES = {
    "Transpose": (lambda a: a.transpose(0, 2, 1, 3), ["Transpose"]),
    "Transpose and flatten": (lambda a: a.transpose(0, 2, 3, 1).reshape(1, -1), ["Transpose", "Flatten"]),
    "Slice": (lambda a: a[:, 1:, ::2], ["Slice", "Slice"]),
    "Gather": (lambda a: a[:, [1, 0, 0]], ["Gather"]),
    "Pad": (lambda a: np.pad(a, ((0, 0), (0, 0), (1, 2), (0, 1)), constant_values=-1), ["Pad"]),
    "Crop": (lambda a: np.pad(a, ((0, 0), (0, 0), (1, 0), (0, 0)), constant_values=-1)[:, :, :-1], ["Pad"]),
    "Reshape": (lambda a: a.reshape(1, 6, 4), ["Reshape"]),
    "Squeeze": (lambda a: a.reshape(24), ["Flatten", "Reshape"]),
    "Shuffle": (lambda a: a.reshape(1, 2, 12).transpose(0, 2, 1).reshape(1, 24), ["Transpose", "Flatten"]),
    "Anything": (lambda a: a.ravel()[[3, 1, 1, 7]].reshape(1, 4), ["Flatten", "Gather"]),
    "Nothing of it": (lambda a: np.full((1, 3), -1), None),
}


@pytest.mark.parametrize("name", MOVES)
def test_movements_are_written_as_such(name, tmp_path):
    move, kinds = MOVES[name]
    graph = Graph((1, 2, 3, 4), (Node(Reindex.through((1, 2, 3, 4), move), (0,), "move"),))
    model = as_model(graph, tmp_path, graph.output_shape[0] == 1, 17)
    again, raw = rewritten(model, graph, tmp_path)
    x = np.arange(24.0).reshape(1, 1, 2, 3, 4)
    np.testing.assert_array_equal(again.graph(x), graph(x))
    if kinds is not None:
        assert [node.op_type for node in onnx.load_from_string(raw).graph.node] == kinds


def chain(*operators) -> Graph:
    return Graph((1, 2), tuple(Node(operator, (i,), f"n{i}") for i, operator in enumerate(operators)))


def test_gelu_is_an_operator_where_the_operator_set_has_it(tmp_path):
    graph = chain(Dense.of(np.eye(2), lead=(1,)), Gelu(), Dense.of(np.ones((1, 2)), lead=(1,)))
    for opset, kind in ((17, "Erf"), (20, "Gelu")):
        again, raw = rewritten(as_model(graph, tmp_path, True, opset), graph, tmp_path)
        assert kind in {node.op_type for node in onnx.load_from_string(raw).graph.node}
        assert any(isinstance(node.operator, Gelu) for node in again.graph.nodes)
    late = chain(Dense.of(np.eye(2), lead=(1,)), TanhGelu())
    again, raw = rewritten(as_model(late, tmp_path, True, 17), late, tmp_path)
    assert onnx.load_from_string(raw).opset_import[0].version == 20


def test_a_network_that_returns_its_input(tmp_path):
    graph = chain(Scale.of((1, 2)))
    _, raw = rewritten(as_model(graph, tmp_path, True, 17), graph, tmp_path)
    assert [node.op_type for node in onnx.load_from_string(raw).graph.node] == ["Identity"]


def test_a_fixed_batch_of_several_rows_is_no_batch(tmp_path):
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["h"], "first", transB=1),
        helper.make_node("Transpose", ["h"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["t", "V"], ["y"], "second"),
    ]
    constants = {"W": rng.standard_normal((4, 3)), "b": rng.standard_normal(4), "V": rng.standard_normal((5, 2))}
    model = load(save_nodes(tmp_path / "rows.onnx", nodes, [5, 3], constants, 17, np.float32, [4, 2]))
    again, raw = rewritten(model, normal_form(model.graph), tmp_path)
    assert normal_form(again.graph).digest == normal_form(model.graph).digest
    same_outputs(model, raw)


class Unheard(Relu):
    """An operator of a third party."""


def test_refusals(tmp_path):
    good = chain(Dense.of(np.eye(2), lead=(1,)))
    model = as_model(good, tmp_path, True, 17)
    with pytest.raises(ModelError, match="cannot replace one"):
        write(chain(Dense.of(np.ones((1, 2)), lead=(1,))), model)
    with pytest.raises(ModelError, match="Unheard is none of certlip's own"):
        write(chain(Unheard()), model)
    with pytest.raises(ModelError, match="does not fit the model's element type"):
        write(chain(Dense.of(1e39 * np.eye(2), lead=(1,))), model)
    model.path.write_bytes(model.path.read_bytes() + b"\x92\x01\x00")  # an unknown field
    with pytest.raises(ModelError, match="has changed since it was loaded"):
        write(good, model)


def test_a_decision_that_reads_the_input_is_refused(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        helper.make_node("Shape", ["logits"], ["size"]),
        helper.make_node("Reshape", ["p", "size"], ["y"], "last"),
    ]
    path = save_nodes(tmp_path / "odd.onnx", nodes, ["batch", 2], {"W": np.eye(2)}, 17, np.float32, ["batch", 2])
    model = load(path)
    assert model.graph.notes
    _, raw = rewritten(model, model.graph, tmp_path)  # the shape of the logits is known in the new file, too
    same_outputs(model, raw, batches=(1, 4))
    nodes[2] = helper.make_node("Shape", ["hidden"], ["size"])
    nodes.insert(0, helper.make_node("Relu", ["x"], ["hidden"], "early"))
    path = save_nodes(tmp_path / "odd.onnx", nodes, ["batch", 2], {"W": np.eye(2)}, 17, np.float32, ["batch", 2])
    model = load(path)
    with pytest.raises(ModelError, match="reads its input at node 'early'"):
        write(model.graph, model)
