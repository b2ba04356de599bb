"""The one door: files of all kinds, torch modules, torch.export archives, and what is refused at it."""

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from certlip.errors import ImportMismatch, ModelError, UnsupportedModel, UsageError
from certlip.importers import Agreement, load
from certlip.importers.agreement import check_agreement, sample_inputs
from certlip.importers.runtimes import Runtime
from certlip.importers.torch_archive import audited
from certlip.onnx_reader import parse
from certlip.onnx_reader.reader import read


class Residual(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 9), nn.Tanh(), nn.Linear(9, width))
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x):
        return x + self.inner(x) * self.scale - 0.25


MODULES = {
    "conv net": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, groups=2),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(54, 5),
        ),
        (1, 1, 16, 16),
    ),
    "pooling": (
        lambda: nn.Sequential(
            nn.AvgPool2d(3, 2, 1),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.MaxPool2d(2, 1, ceil_mode=True),
            nn.AdaptiveAvgPool2d(1),
        ),
        (1, 2, 13, 13),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2, 1, 1), nn.LeakyReLU(0.2)),
        (1, 2, 4, 4),
    ),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=2, dilation=2), nn.ELU(), nn.Flatten()),
        (1, 2, 8),
    ),
    "residual": (lambda: nn.Sequential(Residual(), nn.ReLU(), Residual()), (1, 6)),
    "spectral norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 2))),
        (1, 6),
    ),
    "spectral norm of convolutions": (
        lambda: nn.Sequential(spectral_norm(nn.Conv2d(1, 3, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)),
        (1, 1, 6, 6),
    ),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 2)), (1, 6)),
    "gelu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU("tanh")), (1, 6)),
    "silu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 2)), (1, 6)),
    "bounded": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Hardtanh(-0.5, 2.0), nn.ReLU6(), nn.Hardsigmoid()),
        (1, 6),
    ),
    "prelu": (lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 8), nn.PReLU()), (1, 6)),
    "smooth": (
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.Softplus(threshold=float("inf")), nn.SELU(), nn.CELU(0.7), nn.Sigmoid()
        ),
        (1, 6),
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.9), nn.ReLU()), (1, 6)),
    "softmax": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LogSoftmax(1)), (1, 6)),
    "binary64": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).double(), (1, 6)),
    "shuffle": (lambda: nn.Sequential(nn.PixelShuffle(2), nn.ReflectionPad2d(1), nn.Flatten()), (1, 4, 3, 3)),
}


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    torch.manual_seed(3)
    make, shape = MODULES[name]
    module = make()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = load(module, input_shape=shape)
    assert module.training, "the user's module is left in its mode"
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in before.items())
    assert model.source == "torch" and model.name == type(module).__name__
    assert model.agreement.samples >= 12
    x = torch.randn(shape, dtype=next((p.dtype for p in module.parameters()), torch.float32))
    last = module[:-1] if name == "softmax" else module
    expected = last.eval()(x).detach().numpy()
    np.testing.assert_allclose(model.graph(x.numpy()[None])[0], expected, rtol=2e-4, atol=2e-5)
    proto = onnx.load_from_string(model.onnx_bytes)
    assert proto.ir_version <= 10 and model.opset <= 21
    assert parse(model.onnx_bytes).sha256 == model.sha256
    assert b"/site-packages/" not in model.onnx_bytes


def test_the_exported_bytes_are_reproducible_and_quiet(capfd):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    first, second = (load(module, example=np.zeros((1, 3), dtype=np.float32)) for _ in range(2))
    assert first.sha256 == second.sha256
    assert capfd.readouterr() == ("", "")


def test_a_module_needs_an_example():
    with pytest.raises(UsageError, match="example="):
        load(nn.Linear(3, 2))
    with pytest.raises(ModelError, match="check the example's shape"):
        load(nn.Linear(3, 2), input_shape=(1, 4))


@pytest.mark.parametrize(
    "module",
    [nn.GroupNorm(2, 4), nn.LayerNorm([4, 5, 5]), nn.Hardswish(), nn.Softmax2d(), nn.InstanceNorm2d(4)],
)
def test_layers_without_a_global_constant_are_refused(module):
    with pytest.raises(UnsupportedModel) as caught:
        load(nn.Sequential(module, nn.ReLU()), input_shape=(1, 4, 5, 5))
    assert caught.value.nodes


def test_what_torch_cannot_export_is_a_model_error():
    class Branch(nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(ModelError, match="trace"):
        load(Branch(), input_shape=(1, 3))


# --- archives


def archive(tmp_path, module=None, shape=(1, 6), name="model.pt2", **options):
    module = module if module is not None else nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    path = tmp_path / name
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),), **options), path)
    return path


@pytest.mark.parametrize("name", ["conv net", "residual", "spectral norm", "gelu", "pooling", "softmax"])
def test_archive_round_trip(name, tmp_path):
    torch.manual_seed(3)
    make, shape = MODULES[name]
    module = make().eval()
    direct, read_back = load(module, input_shape=shape), load(archive(tmp_path, module, shape))
    assert read_back.source == "pt2" and read_back.path is not None
    x = np.random.default_rng(0).standard_normal((2, *shape))
    np.testing.assert_allclose(read_back.graph(x), direct.graph(x), rtol=1e-12)


def test_archive_with_a_dynamic_batch(tmp_path):
    path = archive(tmp_path, shape=(2, 6), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert load(path).graph.input_shape == (1, 6)


def test_exported_program(tmp_path):
    program = torch.export.export(nn.Linear(3, 2).eval(), (torch.zeros(1, 3),))
    assert load(program).graph.output_shape == (1, 2)


def rewritten(path, changes):
    """A copy of an archive with members replaced (None: removed) by functions of their bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            member = info.filename.partition("/")[2]
            if member in changes:
                content = changes[member](content)
            if content is not None:
                new.writestr(info.filename, content)
        root = info.filename.partition("/")[0]
        for member, change in changes.items():
            if not any(entry.partition("/")[2] == member for entry in old.namelist()):
                new.writestr(f"{root}/{member}", change(b""))
    path.write_bytes(buffer.getvalue())
    return path


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def edit(change):
    """Edit a JSON member."""

    def apply(content):
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return apply


def test_pickled_sample_inputs_are_never_opened(tmp_path):
    target = tmp_path / "written"
    path = rewritten(archive(tmp_path), {"data/sample_inputs/model.pt": lambda _: pickle.dumps(Bomb(target))})
    assert load(path).graph.output_shape == (1, 2)
    assert not target.exists()


def test_pickled_weights_are_refused(tmp_path):
    target = tmp_path / "written"
    legacy = rewritten(archive(tmp_path), {"data/weights/model.pt": lambda _: pickle.dumps(Bomb(target))})
    with pytest.raises(ModelError, match="legacy layout"):
        load(legacy)

    def use_pickle(document):
        next(iter(document["config"].values()))["use_pickle"] = True

    flagged = rewritten(archive(tmp_path), {"data/weights/model_weights_config.json": edit(use_pickle)})
    with pytest.raises(ModelError, match="pickled object"):
        load(flagged)

    def custom(document):
        document["config"]["k"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    opaque = rewritten(archive(tmp_path), {"data/constants/model_constants_config.json": edit(custom)})
    with pytest.raises(ModelError, match="pickled object"):
        load(opaque)
    assert not target.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="torch.load"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="torch.ops.aten.from_file.default"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="torch.hub.load"),
        lambda d: d["graph_module"]["graph"]["nodes"][0].update(name="a; import os"),
        lambda d: d["graph_module"]["graph"]["tensor_values"]["input"]["sizes"].__setitem__(
            0, {"as_expr": {"expr_str": "__import__('os').system('true')", "hint": None}}
        ),
        lambda d: d.update(range_constraints={"__import__('os')": {"min_val": 0, "max_val": None}}),
        lambda d: d["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "collections.defaultdict", "context": "null", "children_spec": []}]'
        ),
        lambda d: d["graph_module"]["graph"]["nodes"][0]["inputs"].append(
            {"name": "f", "arg": {"as_operator": "torch.load"}, "kind": 1}
        ),
        lambda d: d.pop("graph_module"),
    ],
)
def test_programs_that_name_more_than_tensor_operators_are_refused(change, tmp_path):
    path = rewritten(archive(tmp_path), {"models/model.json": edit(change)})
    with pytest.raises(ModelError):
        audited(path)
    with pytest.raises(ModelError):
        load(path)


def test_guards_are_dropped(tmp_path):
    target = tmp_path / "written"
    code = f"open({str(target)!r}, 'w')"
    path = rewritten(archive(tmp_path), {"models/model.json": edit(lambda d: d.update(guards_code=[code]))})
    load(path)
    assert not target.exists()


def test_damaged_archives(tmp_path):
    path = archive(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ModelError):
        load(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(ModelError, match="complete"):
        load(path)
    draw = np.random.default_rng(0)
    for _ in range(40):
        copy = bytearray(raw)
        for place in draw.integers(0, len(raw), 2):
            copy[place] = draw.integers(0, 256)
        path.write_bytes(bytes(copy))
        try:
            audited(path)
        except ModelError as error:
            assert "\n" not in str(error)


# --- refusals at the door


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".onnx"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_files_are_refused_with_the_line_to_type(suffix, zipped, tmp_path):
    path = tmp_path / f"model{suffix}"
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"torch\.onnx\.export\(.*torch\.export\.save\("):
        load(path)


def test_a_missing_file_is_a_wrong_option(tmp_path):
    for path in (tmp_path / "no.onnx", str(tmp_path / "no.pt2"), tmp_path):
        with pytest.raises(UsageError, match="no model file"):
            load(path)
    with pytest.raises(UsageError, match="cannot load a int"):
        load(3)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8bgarbage", b"\x00" * 100, bytes(range(256))])
def test_other_content_is_no_model(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load(path)


# --- the check itself


def small():
    torch.manual_seed(1)
    return load(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), input_shape=(1, 3))


def test_the_check_can_be_left_out_and_says_so(tmp_path):
    model = load(nn.Linear(3, 2), input_shape=(1, 3), check=False)
    assert isinstance(model.agreement, Agreement) and model.agreement.samples == 0
    assert "not checked" in model.agreement.note


def test_samples_reach_kinks_and_keep_the_type():
    samples = sample_inputs((1, 40), np.dtype(np.float16))
    assert all(x.dtype == np.float16 for _, x in samples)
    assert len({name for name, _ in samples}) == len(samples) >= 12
    assert any((x == 0).all() for _, x in samples) and any(0 < (x == 0).sum() < 40 for _, x in samples)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda y: y * (1 + 1e-4), "rounding explains"),
        (lambda y: y[:, :1], "the shape"),
        (lambda y: y * np.nan, "no sample could be compared"),
    ],
)
def test_a_runtime_that_disagrees_refuses_the_model(wrong, message):
    model = small()
    reading = read(parse(model.onnx_bytes))
    run = Runtime("fake", lambda x: {model.output_name: wrong(model.graph(x[None])[0])})
    with pytest.raises(ImportMismatch, match=message):
        check_agreement(reading, model.precision, np.dtype(np.float32), [run])


def test_files_load_without_torch_and_modules_without_files(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small().onnx_bytes)
    code = (
        "import sys; from certlip.importers import load; "
        "assert not {'torch', 'onnxruntime'} & set(sys.modules); "
        f"m = load({str(path)!r}); assert 'torch' not in sys.modules; print(m.agreement.runtime)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("onnxruntime") and not done.stderr, done.stderr
