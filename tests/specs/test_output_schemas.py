"""What every command prints with --json obeys its schema in specs/, and the schemas refuse what they should."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper, numpy_helper

from certlip.cli.main import code_of

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
ZOO = ROOT / "models_zoo"
SCHEMAS = {path.name.removesuffix(".schema.json"): json.loads(path.read_text()) for path in SPECS.glob("*.schema.json")}


def errors(name: str, document) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(document)]


@pytest.fixture
def command(capsys):
    """Runs a command line with --json: (exit code, the decoded object)."""

    def run(*arguments: str):
        code = code_of([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def write_model(path: Path, *nodes, **constants) -> Path:
    """A model with one input x and one output y of shape (1, 2)."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_schemas(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] and schema["description"]


def test_definitions_with_one_name_are_one_definition():
    seen: dict[str, object] = {}
    for schema in SCHEMAS.values():
        for name, definition in schema.get("$defs", {}).items():
            assert seen.setdefault(name, definition) == definition, name


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (("bound", ZOO / "digits_mlp.onnx", "--method", "spectral"), 0),
        (("bound", ZOO / "breast_cancer.onnx", "--pair", "0,1", "--norm", "linf", "--method", "all"), 0),
        (("bound", ZOO / "diabetes.onnx", "--logit", "0", "--max-lipschitz", "1/2"), 3),
        (("bound", ZOO / "mnist_mlp.onnx", "--method", "lipsdp", "--timeout", "1e-9"), 3),
        (("bound", ZOO / "digits_mlp.onnx", "--pairs", "--method", "spectral", "--max-lipschitz", "100"), 0),
        (("bound", ZOO / "breast_cancer.onnx", "--logits", "--norm", "linf", "--method", "all"), 0),
        (("bound", ZOO / "digits_mlp.onnx", "--logits", "--timeout", "1e-9"), 3),
        (("verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "5"), 0),
        (("verify", ZOO / "digits_mlp.onnx", "--eps", "1/2", "--limit", "20", "--method", "spectral"), 1),
        (("verify", ZOO / "diabetes.onnx", "--eps", "0.1", "--tolerance", "0.2", "--limit", "3"), 0),
        (("verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--data-free"), 0),
        (("verify", ZOO / "diabetes.onnx", "--eps", "0.1", "--tolerance", "1/100", "--data-free"), 3),
        (("radius", ZOO / "breast_cancer.onnx", "--limit", "5", "--norm", "linf"), 0),
        (("radius", ZOO / "diabetes.onnx", "--limit", "2", "--tolerance", "0.1"), 0),
        (("inspect", ZOO / "mnist_conv.onnx"), 0),
        (("inspect", ZOO / "digits_residual.onnx"), 0),
        (("solvers",), 0),
        (("methods",), 0),
    ],
    ids=lambda value: " ".join(str(getattr(part, "stem", part)) for part in value) if isinstance(value, tuple) else "",
)
def test_outputs_obey_their_schema(command, arguments, expected):
    code, document = command(*arguments)
    assert code == expected
    assert errors(arguments[0], document) == []


def test_unsupported_models_obey_their_schema(command, tmp_path):
    code, document = command("inspect", write_model(tmp_path / "step.onnx", helper.make_node("Sign", ["x"], ["y"])))
    assert code == 4 and not document["supported"]
    assert errors("inspect", document) == []


@pytest.mark.parametrize("asked", [("--max-lipschitz", "1"), ("--min-certified", "0.9", "--eps", "0.5")])
def test_repairs_obey_their_schema(command, asked, tmp_path):
    options = ("--method", "scale") if asked[0] == "--max-lipschitz" else ("--timeout", "3")
    code, document = command("repair", ZOO / "breast_cancer.onnx", *asked, *options, "--output", tmp_path / "r.onnx")
    assert code == (0 if document["met"] else 3)
    assert errors("repair", document) == []
    assert document == json.loads((tmp_path / "r.repair.json").read_text())


def test_unbounded_radii_are_null(command, tmp_path):
    nodes = helper.make_node("Clip", ["x", "zero", "zero"], ["z"]), helper.make_node("Add", ["z", "shift"], ["y"])
    model = write_model(tmp_path / "constant.onnx", *nodes, zero=0.0, shift=[0.0, 1.0])
    np.savez(tmp_path / "constant.npz", x=np.zeros((2, 2), np.float32), y=np.ones(2, np.int64))
    code, document = command("radius", model)
    assert code == 0 and document["samples"][0]["radius"] is None
    assert errors("radius", document) == []


def test_check_obeys_its_schema(command, tmp_path):
    command("verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "2", "--certificates", tmp_path)
    (tmp_path / "broken.json").write_text("{}")
    code, document = command("check", tmp_path, "--model", ZOO)
    assert code == 5 and document["rejected"] == 1 and document["checked"] > 1
    assert errors("check", document) == []


def without(key):
    return lambda document: document.pop(key)


def setting(value, *path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


DOCUMENTS = {
    "bound": ("bound", ZOO / "diabetes.onnx", "--method", "spectral"),
    "verify": ("verify", ZOO / "breast_cancer.onnx", "--eps", "0.1", "--limit", "1"),
    "radius": ("radius", ZOO / "breast_cancer.onnx", "--limit", "1", "--method", "spectral"),
    "inspect": ("inspect", ZOO / "diabetes.onnx"),
    "solvers": ("solvers",),
    "methods": ("methods",),
}


@pytest.mark.parametrize(
    "name, change",
    [
        *((name, without("schema")) for name in DOCUMENTS),
        *((name, setting(2, "schema")) for name in DOCUMENTS),
        ("bound", setting("1.0", "best", "value")),
        ("bound", setting(-1.0, "bounds", 0, "value")),
        ("bound", setting("certain", "bounds", 0, "level")),
        ("bound", setting("pair 1", "bounds", 0, "output")),
        ("bound", setting("l1", "bounds", 0, "norm")),
        ("bound", setting("ABC", "model", "sha256")),
        ("bound", without("best")),
        ("bound", setting({}, "outputs")),
        ("bound", setting("optimal", "bounds", 0, "search", "status")),
        ("bound", setting(0.0, "bounds", 0, "search", "least")),
        ("bound", setting(-1e-9, "bounds", 0, "search", "gap")),
        ("verify", setting({}, "bounds", 0, "search")),
        ("verify", setting("probably", "samples", 0, "status")),
        ("verify", setting(-0.5, "samples", 0, "radius")),
        ("verify", setting(1.5, "summary", "certified_accuracy")),
        ("verify", setting("0.1", "property", "eps_exact")),
        ("verify", setting(0.1, "property", "tolerance")),
        ("verify", without("summary")),
        ("radius", setting({}, "quantiles")),
        ("radius", setting("max", "norm")),
        ("inspect", without("layers")),
        ("inspect", setting("recurrent", "layers", 0, "kind")),
        ("inspect", setting(False, "supported")),
        ("solvers", setting("yes", "solvers", 0, "usable")),
        ("methods", setting([], "methods")),
    ],
)
def test_wrong_documents_are_refused(command, name, change):
    _, document = command(*DOCUMENTS[name])
    assert errors(name, document) == []
    wrong = copy.deepcopy(document)
    change(wrong)
    assert errors(name, wrong)


def test_additions_are_allowed(command):
    _, document = command(*DOCUMENTS["verify"])
    document["new"] = document["samples"][0]["new"] = document["model"]["new"] = 1
    assert errors("verify", document) == []
