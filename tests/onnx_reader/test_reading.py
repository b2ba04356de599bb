"""What the reader decides beyond single operators: inputs, outputs, decisions, patterns, constants, refusals."""

import gzip

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import build, save, single

from certlip.errors import CertlipError, ModelError, UnsupportedModel, UsageError
from certlip.importers import load
from certlip.lipschitz import bound_output
from certlip.onnx_reader import parse, read_graph
from certlip.ops import Elu, Gelu, Scale, Silu, Softplus
from certlip.properties.outputs import ALL
from certlip.rigor.rounding import BINARY16, BINARY32, BINARY64

DRAW = np.random.default_rng(11)
W, V = DRAW.standard_normal((4, 3)), DRAW.standard_normal((3, 2))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def kinds(graph):
    return [type(n.operator).__name__ for n in graph.nodes]


def mlp(extra=(), outputs=("y",), opset=17, constants=None, **options):
    nodes = [
        node("MatMul", ["x", "W"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "V"], ["logits"]),
        *extra,
    ]
    return build(nodes, (1, 4), {"W": W, "V": V, **(constants or {})}, opset, outputs, **options)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "ArgMax"])
def test_a_final_decision_is_left_out_and_said(operator, tmp_path):
    model = load(save(mlp([node(operator, ["logits"], ["y"], axis=1)]), tmp_path))
    assert kinds(model.graph) == ["Dense", "Relu", "Dense"]
    assert "logits" in model.graph.notes[0] and operator in model.graph.notes[0]
    assert model.output_name == "y"


def test_softmax_and_its_argmax_are_both_left_out(tmp_path):
    tail = [
        node("Softmax", ["logits"], ["p"], axis=1),
        node("ArgMax", ["p"], ["i"], axis=1),
        node("Squeeze", ["i"], ["y"]),
    ]
    model = load(save(mlp(tail), tmp_path))
    assert len(model.graph.notes) == 2
    assert kinds(model.graph) == ["Dense", "Relu", "Dense"]


@pytest.mark.parametrize(
    ("tail", "opset"),
    [
        ([node("Softmax", ["logits"], ["y"], axis=0)], 13),  # all ones, whatever the logits
        ([node("Reshape", ["logits", "grid"], ["g"]), node("Softmax", ["g"], ["y"])], 13),  # two decisions
        ([node("Reshape", ["logits", "grid"], ["g"]), node("Softmax", ["g"], ["y"], axis=2)], 11),
        ([node("Reshape", ["logits", "grid"], ["g"]), node("ArgMax", ["g"], ["y"], axis=2)], 13),
        ([node("ArgMax", ["logits"], ["y"])], 13),  # axis 0
        (
            [node("Reshape", ["logits", "pixels"], ["g"]), node("Softmax", ["g"], ["y"])],
            13,
        ),
        ([node("Softmax", ["logits"], ["p"]), node("Reshape", ["p", "grid"], ["g"]), node("ArgMax", ["g"], ["y"])], 13),
        (
            [
                node("ArgMax", ["logits"], ["i"], axis=1),
                node("Cast", ["i"], ["f"], to=1),
                node("Softmax", ["f"], ["y"]),
            ],
            13,
        ),
        ([node("Softmax", ["logits"], ["p"]), node("Cast", ["p"], ["y"], to=7)], 13),  # probabilities cut to integers
    ],
)
def test_a_decision_that_does_not_compare_all_outputs_is_refused(tail, opset, tmp_path):
    shapes = {"grid": np.array([1, 2, -1]), "pixels": np.array([1, -1, 1, 1])}
    with pytest.raises(UnsupportedModel):
        load(save(mlp(tail, opset=opset, constants=shapes), tmp_path))


def test_a_softmax_inside_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="last step"):
        load(save(mlp([node("Softmax", ["logits"], ["p"]), node("Relu", ["p"], ["y"])]), tmp_path))


def test_all_unsupported_nodes_are_listed_with_hints():
    tail = [
        node("Sqrt", ["logits"], ["s"]),
        node("Relu", ["s"], ["t"]),
        node("Sin", ["t"], ["u"]),
        node("Mul", ["logits", "logits"], ["v"]),
        node("Add", ["u", "v"], ["y"]),
    ]
    with pytest.raises(UnsupportedModel) as caught:
        read_graph(parse(mlp(tail).SerializeToString()))
    assert [entry.operator for entry in caught.value.nodes] == ["Sqrt", "Sin", "Mul"]
    assert all(entry.hint and entry.opset == 17 for entry in caught.value.nodes)
    assert str(caught.value).startswith("3 nodes are not supported: Sqrt 'Sqrt_s' (opset 17): its slope")


def test_custom_operators_are_refused_but_unused_domains_do_not_matter(tmp_path):
    model = mlp([node("Identity", ["logits"], ["y"])])
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    assert load(save(model, tmp_path)).opset == 17
    model.graph.node.append(helper.make_node("Odd", ["y"], ["z"], domain="com.example", name="odd"))
    model.graph.output[0].name = "z"
    with pytest.raises(UnsupportedModel, match=r"com\.example\.Odd 'odd'"):
        load(save(model, tmp_path))


def test_several_outputs_need_a_choice(tmp_path):
    path = save(mlp([node("Neg", ["logits"], ["y"])], ("y", "a")), tmp_path)
    with pytest.raises(UsageError, match="--output-name"):
        load(path)
    assert kinds(load(path, output_name="a").graph) == ["Dense"]
    assert kinds(load(path, output_name="y").graph) == ["Dense", "Relu", "Dense", "Scale"]
    with pytest.raises(UsageError, match="it has y, a"):
        load(path, output_name="b")


def test_several_inputs_need_a_choice_and_only_one_may_matter(tmp_path):
    apart = build(
        [node("Relu", ["x"], ["y"]), node("Neg", ["w"], ["z"])], (1, 3), outputs=("y", "z"), inputs=("x", "w")
    )
    path = save(apart, tmp_path)
    with pytest.raises(UsageError, match="--input-name"):
        load(path)
    assert load(path, input_name="w", output_name="z").input_name == "w"
    with pytest.raises(UsageError, match="another input, 'x'"):
        load(path, input_name="w", output_name="y")
    both = build([node("Add", ["x", "w"], ["y"])], (1, 3), inputs=("x", "w"))
    with pytest.raises(UsageError, match="one input"):
        load(save(both, tmp_path), input_name="x")
    alone = build([node("Constant", [], ["y"], value_floats=[1.0])], (1, 3))
    with pytest.raises(ModelError, match="does not depend"):
        load(save(alone, tmp_path))


def test_initializers_listed_as_inputs_are_no_inputs(tmp_path):
    model = mlp([node("Neg", ["logits"], ["y"])], opset=8)
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, (4, 3)))
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("V", TensorProto.FLOAT, (3, 2)))
    assert load(save(model, tmp_path)).input_name == "x"


@pytest.mark.parametrize("batch", ["N", 0, None, -1])
def test_a_dynamic_batch_becomes_one(batch, tmp_path):
    model = mlp([node("Neg", ["logits"], ["y"])])
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    if isinstance(batch, str):
        dim.dim_param = batch
    elif batch is not None:
        dim.dim_value = batch
    assert load(save(model, tmp_path)).graph.input_shape == (1, 4)


def test_other_dynamic_dimensions_are_refused(tmp_path):
    model = single("Relu", (1, 3))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    with pytest.raises(ModelError, match="dynamic dimensions"):
        load(save(model, tmp_path))


def test_channels_last_input_and_shape_arithmetic(tmp_path):
    nodes = [
        node("Transpose", ["x"], ["c"], perm=[0, 3, 1, 2]),
        node("Conv", ["c", "K"], ["k"]),
        node("Shape", ["k"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Reshape", ["k", "shape"], ["flat"]),
        node("MatMul", ["flat", "M"], ["y"]),
    ]
    constants = {
        "K": DRAW.standard_normal((2, 3, 3, 3)),
        "zero": np.array(0),
        "axis": np.array([0]),
        "rest": np.array([-1]),
        "M": DRAW.standard_normal((2 * 3 * 4, 5)),
    }
    model = load(save(build(nodes, (1, 5, 6, 3), constants), tmp_path))
    assert kinds(model.graph) == ["Reindex", "Conv", "Reindex", "Dense"]
    assert not model.graph.notes
    assert model.parameters == 2 * 3 * 9 + 24 * 5


def silu(x, scale=None, swap=False):
    inner = [node("Mul", [x, "beta"], ["bx"])] if scale else []
    gate = node("Sigmoid", ["bx" if scale else x], ["gate"])
    return [*inner, gate, node("Mul", ["gate", x] if swap else [x, "gate"], ["y"])]


def gelu(divide, order):
    scaled = node("Div", ["x", "root2"], ["e"]) if divide else node("Mul", ["x", "inverse"], ["e"])
    head = [
        scaled,
        node("Erf", ["e"], ["erf"]),
        node("Add", ["erf", "one"] if order else ["one", "erf"], ["sum"]),
    ]
    if order == 0:
        return [*head, node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "sum"], ["y"])]
    if order == 1:
        return [*head, node("Mul", ["x", "sum"], ["h"]), node("Mul", ["half", "h"], ["y"])]
    return [*head, node("Mul", ["sum", "half"], ["h"]), node("Mul", ["x", "h"], ["y"])]


NUMBERS = {
    "beta": np.array(1.3),
    "root2": np.array(2**0.5),
    "inverse": np.array(0.5**0.5),
    "one": np.array(1.0),
    "half": np.array(0.5),
}


@pytest.mark.parametrize("nodes", [silu("x"), silu("x", 1.3), silu("x", 1.3, swap=True)])
def test_silu_spelled_as_a_product_is_one_activation(nodes, tmp_path):
    graph = load(save(build(nodes, (1, 9), NUMBERS), tmp_path)).graph
    assert sum(isinstance(n.operator, Silu) for n in graph.nodes) == 1
    assert all(isinstance(n.operator, (Silu, Scale)) for n in graph.nodes)


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_gelu_spelled_with_erf_is_one_activation(divide, order, tmp_path):
    graph = load(save(build(gelu(divide, order), (1, 9), NUMBERS), tmp_path)).graph
    assert sum(isinstance(n.operator, Gelu) for n in graph.nodes) == 1


def test_an_inner_value_of_a_pattern_may_be_used_elsewhere(tmp_path):
    nodes = [
        node("Sigmoid", ["x"], ["gate"]),
        node("Mul", ["x", "gate"], ["s"]),
        node("Add", ["s", "gate"], ["y"]),
    ]
    assert kinds(load(save(build(nodes, (1, 9)), tmp_path)).graph) == ["Sigmoid", "Silu", "Add"]


@pytest.mark.parametrize("beta", [None, 2.0])
def test_torch_softplus_with_a_threshold(beta, tmp_path):
    argument = "bx" if beta else "x"
    nodes = [node("Mul", ["x", "beta"], ["bx"])] if beta else []
    nodes += [node("Softplus", [argument], ["s"]), node("Greater", [argument, "limit"], ["c"])]
    nodes += [node("Div", ["s", "beta"], ["d"])] if beta else []
    nodes += [node("Where", ["c", "x", "d" if beta else "s"], ["y"])]
    constants = {"beta": np.array(beta or 1.0), "limit": np.array(np.inf)}
    graph = load(save(build(nodes, (1, 9), constants), tmp_path)).graph
    assert any(isinstance(n.operator, Softplus) for n in graph.nodes)
    for limit in (5.0, 20.0, 1e30):  # the function jumps there
        constants["limit"] = np.array(limit)
        with pytest.raises(UnsupportedModel, match="Where"):
            load(save(build(nodes, (1, 9), constants), tmp_path))


def test_constant_subgraphs_fold_in_binary64_and_are_noted(tmp_path):
    nodes = [
        node("ReduceSum", ["P"], ["norm"], keepdims=0),
        node("Div", ["P", "norm"], ["W"]),
        node("Transpose", ["W"], ["Wt"], perm=[1, 0]),
        node("MatMul", ["x", "Wt"], ["y"]),
    ]
    P = DRAW.uniform(0.1, 1.0, (3, 4)).astype(np.float32)
    model = load(save(build(nodes, (1, 4), {"P": P}), tmp_path))
    np.testing.assert_array_equal(model.graph.nodes[0].operator.weight.mid, P.astype(float) / P.astype(float).sum())
    assert "folded" in model.graph.notes[0]
    rearranged = build(nodes[2:], (1, 4), {"W": P})
    assert not load(save(rearranged, tmp_path)).graph.notes


def test_branches_concatenate_split_and_meet_in_extrema(tmp_path):
    nodes = [
        node("Split", ["x"], ["a", "b"], axis=1),
        node("Max", ["a", "b"], ["m"]),
        node("Min", ["a", "b", "limit"], ["n"]),
        node("Concat", ["m", "n"], ["c"], axis=1),
        node("Sub", ["c", "x"], ["y"]),
    ]
    model = load(save(build(nodes, (1, 6), {"limit": DRAW.standard_normal(3)}, 13), tmp_path))
    assert model.graph.output_shape == (1, 6)


def test_cast_counts_as_a_rounding_and_sets_the_precision(tmp_path):
    nodes = [
        node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
        node("Relu", ["a"], ["b"]),
        node("Cast", ["b"], ["y"], to=TensorProto.DOUBLE),
    ]
    model = load(save(build(nodes, (1, 9), dtype=np.float64), tmp_path))
    assert model.precision is BINARY32
    assert load(save(single("Relu", (1, 9), dtype=np.float64), tmp_path)).precision is BINARY64
    half = single("Mul", (1, 9), [np.array(1.5)], dtype=np.float16)
    assert load(save(half, tmp_path)).precision is BINARY16
    nodes[0].attribute[0].i = TensorProto.INT32
    with pytest.raises(UnsupportedModel, match="cast of activations"):
        load(save(build(nodes, (1, 9), dtype=np.float64), tmp_path))


def test_a_model_that_returns_its_input(tmp_path):
    model = load(save(single("Identity", (1, 3)), tmp_path))
    assert kinds(model.graph) == ["Scale"]
    logits = load(save(single("Softmax", (1, 3)), tmp_path))
    assert logits.agreement.runtime == "none"


@pytest.mark.parametrize("opset", [27, 28])
def test_the_reference_evaluator_stands_in_for_newer_operator_sets(opset, tmp_path):
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"onnx {onnx.__version__} does not know operator set {opset}")
    agreement = load(save(single("Gemm", (1, 3), [W[:3], W[0]], opset), tmp_path)).agreement
    assert "reference evaluator" in agreement.runtime and agreement.note


def test_the_reference_evaluator_stands_in_for_missing_kernels(tmp_path):
    model = single("Elu", (1, 9), dtype=np.float64)
    loaded = load(save(model, tmp_path))
    assert "reference evaluator" in loaded.agreement.runtime
    assert isinstance(loaded.graph.nodes[0].operator, Elu)


@pytest.mark.parametrize("opset", [5, 99])
def test_operator_sets_outside_the_range_are_refused(opset, tmp_path):
    with pytest.raises(ModelError, match="operator set"):
        load(save(single("Relu", (1, 3), opset=opset), tmp_path))


# --- files


def test_compressed_files(tmp_path):
    plain = save(mlp([node("Neg", ["logits"], ["y"])]), tmp_path)
    packed = tmp_path / "model.onnx.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load(plain).graph.digest == load(packed).graph.digest
    assert load(plain).sha256 == load(packed).sha256
    packed.write_bytes(gzip.compress(plain.read_bytes())[:-20])
    with pytest.raises(ModelError, match="gzip"):
        load(packed)


def external(tmp_path, location, length=None):
    model = mlp([node("Neg", ["logits"], ["y"])])
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    (tmp_path / "w.bin").write_bytes(b"pad!" + raw)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4"), ("length", str(length or len(raw)))):
        tensor.external_data.add(key=key, value=value)
    return model


def test_external_weights(tmp_path):
    inline = load(save(mlp([node("Neg", ["logits"], ["y"])]), tmp_path))
    model = load(save(external(tmp_path, "w.bin"), tmp_path))
    assert model.graph.digest == inline.graph.digest
    assert list(model.external) == ["w.bin"] and len(model.external["w.bin"]) == 64
    with pytest.raises(ModelError, match="reaches beyond"):
        load(save(external(tmp_path, "w.bin", 10**6), tmp_path))
    with pytest.raises(ModelError, match="cannot be read"):
        load(save(external(tmp_path, "missing.bin"), tmp_path))
    with pytest.raises(ModelError, match="from its path"):
        parse(external(tmp_path, "w.bin").SerializeToString())


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "", "inner/../../w.bin"])
def test_external_weights_stay_in_the_models_folder(location, tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    with pytest.raises(ModelError, match="outside its own folder"):
        load(save(external(tmp_path, location), folder))


def test_external_weights_behind_a_link_are_refused(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    model = external(tmp_path, "link.bin")
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match="outside its own folder"):
        load(save(model, folder))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    broken = W.copy()
    broken[1, 1] = value
    with pytest.raises(ModelError, match="NaN or infinite"):
        load(save(single("MatMul", (1, 4), [broken]), tmp_path))
    with pytest.raises(CertlipError):
        load(save(single("PRelu", (1, 3), [broken[1]]), tmp_path))


def test_malformed_graphs(tmp_path):
    twice = mlp([node("Neg", ["logits"], ["y"]), node("Neg", ["logits"], ["y"])])
    with pytest.raises(ModelError, match="defined twice"):
        load(save(twice, tmp_path))
    early = build([node("Neg", ["b"], ["y"]), node("Relu", ["x"], ["b"])], (1, 3))
    with pytest.raises(ModelError, match="before it is computed"):
        load(save(early, tmp_path))
    short = single("MatMul", (1, 4), [W])
    short.graph.initializer[0].raw_data = short.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError, match="malformed"):
        load(save(short, tmp_path))
    huge = single("Expand", (1, 3), [np.array([2**20, 2**20, 3])])
    with pytest.raises(UnsupportedModel, match="grows"):
        load(save(huge, tmp_path))
    bomb = build(
        [node("ConstantOfShape", ["n"], ["c"]), node("Add", ["x", "c"], ["y"])],
        (1, 3),
        {"n": np.array([2**40])},
    )
    with pytest.raises(UnsupportedModel, match="entries"):
        load(save(bomb, tmp_path))


def test_damaged_bytes_never_escape_as_other_errors():
    """Truncated, random and bit-flipped files are refused with certlip's own errors."""
    raw = mlp([node("Softmax", ["logits"], ["y"])]).SerializeToString()
    draw = np.random.default_rng(5)
    damaged = [raw[:n] for n in range(0, len(raw), 7)] + [draw.bytes(200) for _ in range(20)]
    for _ in range(300):
        copy = bytearray(raw)
        for place in draw.integers(0, len(raw), 3):
            copy[place] = draw.integers(0, 256)
        damaged.append(bytes(copy))
    refused = 0
    for data in damaged:
        try:
            read_graph(parse(data))
        except CertlipError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def test_shared_subfunctions_are_inlined(tmp_path):
    body = helper.make_function(
        "local", "Act", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = build([helper.make_node("Act", ["x"], ["y"], domain="local")], (1, 3))
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("local", 1))
    assert kinds(load(save(model, tmp_path)).graph) == ["Relu"]


def test_constants_as_nodes(tmp_path):
    tensor = numpy_helper.from_array(np.float32([1.5, -2.0, 0.5]))
    nodes = [
        node("Constant", [], ["c"], value=tensor),
        node("Constant", [], ["d"], value_float=2.0),
        node("Mul", ["x", "c"], ["m"]),
        node("Div", ["m", "d"], ["y"]),
    ]
    assert kinds(load(save(build(nodes, (1, 3)), tmp_path)).graph) == ["Scale", "Scale"]


@pytest.mark.parametrize(
    "tail",
    [
        [helper.make_node("Softmax", ["logits"], ["y"], domain="my.dom")],
        [helper.make_node("ArgMax", ["logits"], ["y"], axis=1, domain="my.dom")],
        [helper.make_node("Sigmoid", ["logits"], ["g"], domain="my.dom"), node("Mul", ["logits", "g"], ["y"])],
    ],
)
def test_a_custom_operator_is_never_taken_for_a_standard_one(tail, tmp_path):
    with pytest.raises(UnsupportedModel, match=r"my\.dom"):
        load(save(mlp(tail), tmp_path))


@pytest.mark.parametrize(
    "tail",
    [
        [node("Identity", ["b2"], ["a2"]), node("Identity", ["a2"], ["b2"]), node("Identity", ["a2"], ["y"])],
        [helper.make_node("Mul", ["logits"], ["y"])],
        [helper.make_node("Where", [], ["y"])],
        [helper.make_node("Softmax", [], ["y"])],
        [helper.make_node("Mul", ["logits", "logits"], []), node("Relu", ["logits"], ["y"])],
    ],
)
def test_cycles_and_nodes_without_ends_are_malformed(tail, tmp_path):
    with pytest.raises(ModelError):
        load(save(mlp(tail), tmp_path))


def test_long_products_and_gains_that_underflow_are_not_fused(tmp_path):
    chain = [node("Mul", [f"p{i}", "one"], [f"p{i + 1}"]) for i in range(1200)]
    chain = [node("Mul", ["logits", "one"], ["p0"]), *chain, node("Relu", ["p1200"], ["y"])]
    load(save(mlp(chain, constants={"one": np.array(1.0)}), tmp_path), check=False)
    nodes = [node("Sigmoid", ["x"], ["g"]), node("Mul", ["x", "g"], ["s"]), node("Mul", ["s", "tiny"], ["t"])]
    nodes += [node("Mul", ["t", "small"], ["u"]), node("Mul", ["u", "large"], ["y"])]
    constants = {"tiny": np.array(1e-300), "small": np.array(2.0**-100), "large": np.array(1e300)}
    model = load(save(build(nodes, (1, 2), constants, dtype=np.float64), tmp_path), check=False)
    (bound,) = bound_output(model.graph, ALL, "l2", "spectral")
    assert bound.value >= 1.0998 * 2.0**-100 * 0.999999  # 1e-300 * 2^-100 is no normal float, the whole product is


def test_a_choice_that_is_never_taken_keeps_its_shape(tmp_path):
    nodes = [node("ReduceSum", ["x", "axes"], ["l"]), node("Greater", ["x", "limit"], ["c"])]
    nodes += [node("Where", ["c", "x", "l"], ["w"]), node("ReduceSum", ["w", "axes"], ["y"])]
    constants = {"limit": np.array(np.inf), "axes": np.array([1])}
    graph = load(save(build(nodes, (1, 3), constants), tmp_path)).graph
    np.testing.assert_allclose(graph(np.ones((1, 1, 3))), [[[9.0]]])
