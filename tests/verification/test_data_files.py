"""Samples from files and arrays: what is read and what is refused, in one sentence and with exit code 2."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from small_models import command, save_chain

from certlip import api
from certlip.errors import UsageError
from certlip.verification import archive

X = np.float32([[1.0, 0.0], [0.0, 1.0], [0.5, 0.25]])
Y = np.array([0, 1, 0])


@pytest.fixture
def model(tmp_path):
    return save_chain(tmp_path / "m.onnx", [(np.eye(2), np.zeros(2))])


def verify(model, data):
    return command("verify", model, "--eps", "0.01", "--data", data)


def refused(ran, *words):
    assert ran.code == 2 and ran.out == ""
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1 and "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X[:0], "y": Y[:0]}, ["no samples"]),
        ({"x": np.float32(3)}, ["no samples"]),
        ({"x": X[:, :1], "y": Y}, ["shape (1,)", "takes (1, 2)"]),
        ({"x": np.where(X == 1, np.nan, X)}, ["NaN"]),
        ({"x": np.where(X == 1, np.inf, X)}, ["infinite"]),
        ({"x": X.astype(float) * 1e39}, ["overflow"]),
        ({"x": X, "y": Y + 1}, ["labels from 1 to 2", "classes 0 to 1"]),
        ({"x": X, "y": Y - 1}, ["labels from -1 to 0"]),
        ({"x": X, "y": Y.astype(np.uint64) + np.uint64(2**63)}, ["labels from"]),
        ({"x": X, "y": Y + 0.5}, ["--tolerance", "integer class labels"]),
        ({"x": X, "y": Y[:2]}, ["3 samples but 2 labels"]),
        ({"x": X, "y": np.array(1)}, ["labels"]),
        ({"x": X, "y": np.array(["a", "b", "c"])}, ["not numbers"]),
        ({"x": X, "y": np.array([1, None, 2], dtype=object)}, ["pickled"]),
        ({"x": np.array([None, None], dtype=object)}, ["pickled"]),
        ({"x": X.astype(complex)}, ["not numbers"]),
        ({"y": Y}, ["holds the arrays y", "name the inputs x"]),
    ],
)
def test_arrays_that_are_no_samples(model, tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    refused(verify(model, tmp_path / "data.npz"), *words)


def npy(shape: str, data: bytes = b"", dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def damaged(tmp_path):
    """Broken files by name."""
    np.savez_compressed(tmp_path / "good.npz", x=np.random.default_rng(0).random((400, 2)))
    good = (tmp_path / "good.npz").read_bytes()
    middle = len(good) // 2
    yield "half.npz", good[:middle]
    yield "noise.npz", good[:middle] + b"\xff" * 60 + good[middle + 60 :]
    encrypted = bytearray(good)
    encrypted[good.find(b"PK\x03\x04") + 6] |= 1
    encrypted[good.find(b"PK\x01\x02") + 8] |= 1
    yield "encrypted.npz", bytes(encrypted)
    yield "text.npz", b"hello"
    yield "empty.npz", b""
    yield "giant.npy", npy("(1000000000000, 2)")
    yield "negative.npy", npy("(-1, 2)", bytes(16))
    yield "nested.npy", b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 8999 + b"\n"
    yield "version.npy", b"\x93NUMPY\x09\x00" + bytes(200)
    for name, content, method in (
        ("inside.npz", npy("(1000000000000, 2)"), zipfile.ZIP_DEFLATED),
        ("short.npz", b"abc", zipfile.ZIP_STORED),
    ):
        with zipfile.ZipFile(tmp_path / name, "w", method) as zipped:
            zipped.writestr("x.npy", content)
        yield name, (tmp_path / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("x.npy", npy("(3, 2)", bytes(24)))
    lzma = (tmp_path / "lzma.npz").read_bytes()
    yield "lzma.npz", lzma[:60] + b"\xff" * 20 + lzma[80:]


def test_damaged_files_are_refused_without_a_traceback(model, tmp_path):
    for name, content in damaged(tmp_path):
        (tmp_path / name).write_bytes(content)
        refused(verify(model, tmp_path / name), name)


def test_what_unpacks_beyond_the_limit_is_refused_before_it_is_unpacked(model, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((10_000, 2)))
    assert (tmp_path / "bomb.npz").stat().st_size < 10_000
    refused(verify(model, tmp_path / "bomb.npz"), "unpacks to more")


def test_paths_that_are_no_data(model, tmp_path):
    refused(verify(model, tmp_path), "no data file")
    refused(verify(model, tmp_path / "none.npz"), "no data file")
    refused(verify(model, "n" * 5000))


ROWS = ["1.0,0.0,0", "0.0,1.0,1", "0.5,0.25,0"]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ROWS),
        "\r\n".join(ROWS) + "\r\n\r\n",
        "a,b,label\n" + "\n".join(ROWS),
        "\ufeffa,b,Y\n" + "\n".join(ROWS),
        "Label,a,b\n0,1.0,0.0\n1,0.0,1.0\n0,0.5,0.25\n",
        "pixel,other,digit\n" + "\n".join(ROWS),
        "\ufeff" + "\n".join(ROWS),
    ],
)
def test_csv_with_and_without_header_and_mark(model, tmp_path, text):
    (tmp_path / "data.csv").write_bytes(text.encode())
    samples = api.dataset_of(api.load(model), tmp_path / "data.csv", None)
    assert samples.inputs.reshape(3, 2).tolist() == X.tolist() and samples.labels.tolist() == Y.tolist()
    assert verify(model, tmp_path / "data.csv").code == 0


def test_csv_without_labels(model, tmp_path):
    (tmp_path / "data.csv").write_text("1.0,0.0\n0.0,1.0\n")
    ran = verify(model, tmp_path / "data.csv")
    assert ran.code == 0 and "predicted label" in ran.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ["no samples"]),
        (b"a,b,y\n", ["no samples"]),
        (b"1,0,0\n\n\n1,0\n", ["line 4", "2 cells instead of 3"]),
        (b"1,0,0\n1,zero,0\n", ["line 2", "'zero' instead of a number"]),
        (b"1,0,0\n1,,0\n", ["line 2", "''"]),
        (b"a,b,c,d,y\n1,0,0\n", ["3 cells instead of 5"]),
        (b"1;0;0\n1;0;0\n", ["separate numbers by commas"]),
        ("1,0,0\n".encode("utf-16"), ["readable .csv"]),
        (b"1,0,0\n\x00,1\n", ["line 2"]),
        (b"1,nan,0\n", ["NaN"]),
        (b"1,1e999,0\n", ["infinite"]),
        (b"1,0,0.5\n", ["--tolerance"]),
        (b"1,0,99999999999999999999999\n", ["integer class labels"]),
        (b"1,0,5\n", ["labels from 5 to 5"]),
        (b"1" * 200_000 + b",2\n", ["readable .csv"]),
    ],
)
def test_csv_that_is_refused(model, tmp_path, text, words):
    (tmp_path / "data.csv").write_bytes(text)
    refused(verify(model, tmp_path / "data.csv"), *words)


@pytest.mark.parametrize("data", [[1, 2], {"x": X}, 3, (X,), (X, Y, Y), object()])
def test_things_that_are_no_data(model, data):
    with pytest.raises(UsageError):
        api.verify(model, "0.1", data=data)


def test_axes_are_never_guessed(tmp_path):
    """Channels last is not channels first; flat samples and axes of length one are no guess."""
    from onnx import TensorProto, helper
    from small_models import save_model

    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "W"], ["y"], "dense"),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, 1, 2, {"W": np.float32(np.ones((12, 2)))})
    import onnx

    proto = onnx.load(path)
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 2, 2]))
    onnx.save(proto, path)
    for shape in ((2, 3, 2, 2), (2, 12), (2, 1, 3, 2, 2)):
        assert len(api.verify(path, 0, data=np.zeros(shape)).samples) == 2
    for shape in ((2, 2, 2, 3), (2, 4, 3), (3, 2, 2)):
        with pytest.raises(UsageError, match="takes"):
            api.verify(path, 0, data=np.zeros(shape))


def test_fortran_order_and_small_types_are_read_as_they_are(model, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.asfortranarray(X.astype(np.float16)), y=Y.astype(np.uint8))
    samples = api.dataset_of(api.load(model), tmp_path / "data.npz", None)
    assert samples.inputs.reshape(3, 2).tolist() == X.tolist() and samples.labels.tolist() == Y.tolist()
    np.save(tmp_path / "only.npy", X)
    assert len(api.dataset_of(api.load(model), tmp_path / "only.npy", None)) == 3


def test_classes_stored_as_floats_are_classes(model, tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=Y.astype(float))
    assert verify(model, tmp_path / "data.npz").code == 0
    np.savetxt(tmp_path / "data.csv", np.column_stack([X, Y]), delimiter=",")
    assert verify(model, tmp_path / "data.csv").code == 0
