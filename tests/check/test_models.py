"""Models are known by their content: external weights count, and broken or hostile files are rejected."""

import gzip
import os
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from workbench import BROKE_OFF, Workbench, onnx_model, random_layers

from certlip.certificate import Certificate, Folder, FolderWriter, array_digest
from certlip.check import Checker
from certlip.check.models import origin
from certlip.onnx_reader import parse, read_graph


def external_bench(folder, scale: float) -> Workbench:
    """The same .onnx bytes for every scale; only the weights in the file beside it differ."""
    folder.mkdir(parents=True)
    layers = random_layers(1)
    model = onnx_model(layers)
    weight = scale * np.asarray(layers[0][0], np.float32)
    (folder / "weights.bin").write_bytes(weight.astype("<f4").tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(weight.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return Workbench(folder, model)


@pytest.mark.parametrize("method", ["spectral", "lipsdp"])
def test_external_weights_belong_to_the_model(tmp_path, method):
    """A claim that names other weights is not proved by those that lie here, whatever was checked before it."""
    small, large = external_bench(tmp_path / "a" / "small", 1.0), external_bench(tmp_path / "b" / "large", 10.0)
    assert small.file.sha256 == large.file.sha256 and small.file.external != large.file.external
    honest, arrays = small.lipschitz(method=method)
    lie = replace(honest, model=large.model)  # the bound of the small weights, claimed for the large ones
    first, second = small.write(honest, *arrays), small.write(lie, *arrays)
    for models in ((), (large.folder,)):
        for order in ((first, second), (second, first)):
            checker = Checker(models)
            verdicts = {path: checker.check(path).accepted for path in order}
            assert verdicts == {first: True, second: False}
    truth, arrays = large.lipschitz(method=method)
    moved = small.write(truth, *arrays)
    assert Checker([large.folder]).check(moved).accepted and not Checker().check(moved).accepted
    (small.folder / "weights.bin").write_bytes((large.folder / "weights.bin").read_bytes())
    assert not Checker().check(first).accepted


def test_compressed_models_are_the_same_models(tmp_path):
    bench = Workbench(tmp_path, onnx_model(random_layers(2)))
    certificate, arrays = bench.lipschitz()
    path = bench.write(certificate, *arrays)
    (tmp_path / "model.onnx.gz").write_bytes(gzip.compress(bench.path.read_bytes()))
    bench.path.unlink()
    assert bench.check(path).accepted


def graph_digest(data: bytes, output: str = "y") -> str:
    """That of the graph in these bytes, where they hold one."""
    try:
        return read_graph(parse(data), "x", output).digest
    except Exception:
        return "0" * 64


def claim(folder, data: bytes, name="model.onnx") -> tuple:
    """A plausible claim about these bytes, whatever they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    model = {"name": name, "sha256": sha256(data).hexdigest(), "external": {}, "input": "x", "output": "y"}
    model["graph"] = graph_digest(data)
    statement = {"kind": "lipschitz", "norm": "l2", "value": "1000000", "output": {"kind": "all", "indices": []}}
    path = folder / "claim.json"
    path.write_text(Certificate(model, statement, {"method": "spectral", "arrays": {}}).to_json())
    return path


def rejected(path) -> bool:
    finding = Checker().check(path)
    assert BROKE_OFF not in finding.message, finding.message
    return not finding.accepted


def test_files_that_are_no_models(tmp_path):
    good = onnx_model(random_layers(3)).SerializeToString()
    assert not rejected(claim(tmp_path / "good", good))
    rng = np.random.default_rng(0)
    cases = [b"", b"\0", b"not a model", b"\x1f\x8b", gzip.compress(b""), good[: len(good) // 2], good + b"\xff" * 9]
    cases += [rng.bytes(int(n)) for n in rng.integers(1, 400, 60)]
    for i, data in enumerate(cases):
        assert rejected(claim(tmp_path / str(i), data)), data[:40]


def test_bad_models_nearby_do_not_hide_the_good_one(tmp_path):
    bench = Workbench(tmp_path / "claims", onnx_model(random_layers(4)), "zzz.onnx")
    certificate, arrays = bench.lipschitz()
    path = bench.write(certificate, *arrays)
    for folder in (tmp_path, tmp_path / "claims"):
        (folder / "a.onnx").write_bytes(b"garbage")
        (folder / "b.onnx.gz").write_bytes(b"\x1f\x8bgarbage")
        (folder / "c.onnx").mkdir()
        (folder / "d.onnx").symlink_to(folder / "nowhere")
        (folder / "e.json").write_bytes(b"\xff{")
        (folder / "f.json").mkdir()
    assert Checker().check(path).accepted


def made_from(name) -> Certificate:
    """A record whose provenance names a file."""
    made = {"import": {"source": "onnx", "file": name}}
    statement = {"kind": "lipschitz", "norm": "l2", "value": "1", "output": {"kind": "all", "indices": []}}
    model = {"name": "m.onnx", "sha256": "a" * 64, "external": {}, "input": "x", "output": "y", "graph": "b" * 64}
    return Certificate(model, statement, {"method": "spectral", "arrays": {}}, provenance=made)


def test_the_file_that_a_record_was_made_from_is_looked_at(tmp_path):
    bench = Workbench(tmp_path / "models", onnx_model(random_layers(4)))
    certificate, arrays = bench.lipschitz()
    for name in ("../../models/model.onnx", "../c/../../models/model.onnx"):
        honest = replace(certificate, provenance={"import": {"file": name}})
        folder = tmp_path / "claims" / "c"
        FolderWriter(folder).write("claim.json", honest, {array_digest(array): array for array in arrays})
        assert Checker().check(folder / "claim.json").accepted
        assert "no model" in Checker([tmp_path / "claims"]).check(folder / "claim.json").message  # a place is named
    other = Workbench(tmp_path / "others", onnx_model(random_layers(5)))
    lie = replace(certificate, provenance={"import": {"file": f"../../others/{other.path.name}"}})
    FolderWriter(folder).write("claim.json", lie, {})
    finding = Checker().check(folder / "claim.json")
    assert "no model" in finding.message and "others" not in finding.message


def test_paths_of_strangers_lead_to_regular_model_files_only(tmp_path):
    folder = tmp_path / "a" / "c"
    folder.mkdir(parents=True)
    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    links = {"to-secret": tmp_path / "secret", "to-null": "/dev/null", "loop": "loop.onnx", "good": tmp_path / "m.onnx"}
    for name, target in links.items():
        (tmp_path / f"{name}.onnx").symlink_to(target)
    store = Folder(folder)
    for name in ("../../m.onnx", "../../good.onnx", "../../a/../m.onnx", ".././../m.onnx"):
        assert origin(made_from(name), store) == tmp_path.resolve() / "m.onnx"
    for name in (
        str(tmp_path / "m.onnx"), f"/{tmp_path / 'm.onnx'}", "//server/share/m.onnx", "\\\\server\\share\\m.onnx",
        "C:m.onnx", "file:///m.onnx", "../../secret", "../../to-secret.onnx", "../../to-null.onnx", "../../folder.onnx",
        "../../pipe.onnx", "../../loop.onnx", "../../none.onnx", "../../m.onnx\0", "../../m\n.onnx", "", ".onnx", None,
        7, ["../../m.onnx"], {"a": "../../m.onnx"}, "../" * 400 + "m.onnx", "a" * 5000 + ".onnx", "\ud800.onnx",
    ):  # fmt: skip
        assert origin(made_from(name), store) is None, name
    for made in ("x", None, [], {"file": {}}):
        record = replace(made_from(""), provenance={"import": made})
        assert origin(record, store) is None
    assert origin(replace(made_from(""), provenance={}), store) is None


def test_pipes_are_not_waited_for(tmp_path):
    bench = Workbench(tmp_path / "claims", onnx_model(random_layers(4)))
    certificate, arrays = bench.lipschitz()
    path = bench.write(certificate, *arrays)
    for name in ("aaa.onnx", "pipe.json", f"{'0' * 64}.npy"):
        os.mkfifo(tmp_path / "claims" / name)
    assert Checker().check(path).accepted
    assert "no regular file" in Checker().check(tmp_path / "claims" / "pipe.json").message


def mutated(rng, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
    return bytes(raw)


@pytest.mark.filterwarnings("ignore")
def test_models_with_flipped_bytes_never_break_the_checker(tmp_path):
    """Accepted ones are other models of which the claim holds; the rest is rejected for a reason."""
    rng = np.random.default_rng(1)
    good = onnx_model(random_layers(5, (2, 3, 2)), ("Sigmoid", "Flatten")).SerializeToString()
    unforeseen = []
    for i in range(250):
        finding = Checker().check(claim(tmp_path / str(i), mutated(rng, good)))
        if BROKE_OFF in finding.message:
            unforeseen.append(finding.message)
    assert not unforeseen, unforeseen


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf, 3.4e38])
def test_weights_that_are_no_numbers_are_rejected(tmp_path, entry):
    weight = np.ones((2, 2))
    weight[0, 1] = entry
    path = claim(tmp_path, onnx_model([(weight, np.zeros(2))]).SerializeToString())
    assert rejected(path)


def test_the_claim_is_about_the_named_output(tmp_path):
    """Two outputs, the steep one second: naming the flat one proves nothing about it."""
    nodes = [helper.make_node("Mul", ["x", "one"], ["y"]), helper.make_node("Mul", ["x", "ten"], ["steep"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y", "steep")]
    tensors = [numpy_helper.from_array(np.float32(v), name) for v, name in ((1, "one"), (10, "ten"))]
    graph = helper.make_graph(nodes, "two", info[:1], info[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = claim(tmp_path, model.SerializeToString())
    certificate = Certificate.from_json(path.read_text())
    for output, value, holds in (("y", 1, True), ("steep", 1, False), ("steep", 9, False), ("steep", 10, True)):
        statement = {**certificate.statement, "value": str(Fraction(value))}
        names = {"output": output, "graph": graph_digest(model.SerializeToString(), output)}
        record = replace(certificate, model={**certificate.model, **names}, statement=statement)
        path.write_text(record.to_json())
        assert Checker().check(path).accepted == holds, (output, value)


def test_identity_models(tmp_path):
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = claim(tmp_path, model.SerializeToString())
    certificate = Certificate.from_json(path.read_text())
    for value, holds in (("1", True), ("999999/1000000", False)):
        path.write_text(replace(certificate, statement={**certificate.statement, "value": value}).to_json())
        assert rejected(path) != holds
