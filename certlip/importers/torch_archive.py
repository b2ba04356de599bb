"""Opening a torch.export archive (.pt2) that nobody vouches for.

`torch.export.load` unpickles sample inputs, legacy weights and custom objects, evaluates shape expressions as Python,
compiles guard strings, resolves operators by attribute names and loads compiled libraries. None of that is needed to
read weights and a graph. So the archive is audited here and written anew in memory: JSON with strings from a small
alphabet, operators from a list, weights as plain bytes. Only the new archive is given to torch.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certlip.errors import ModelError
from certlip.importers.torch_operators import OPERATORS
from certlip.onnx_reader.files import MAX_BYTES

if TYPE_CHECKING:
    import torch

_PLAIN = re.compile(r"[A-Za-z0-9_.]{0,512}")
_TARGET = re.compile(r"torch\.ops\.aten\.([a-z0-9_]+)\.[A-Za-z0-9_]+")
_PYTHON_TARGETS = {
    "_operator." + name for name in ("getitem", "mul", "add", "sub", "floordiv", "eq", "ge", "le", "gt")
}
_EXPRESSION = re.compile(
    r"(Symbol\('[su]\d{1,9}'(, (positive|integer|nonnegative)=True)*\)"
    r"|Integer\(-?\d{1,12}\)|(Mul|Add)\(|[su]?\d{1,9}|\)|, )*"
)
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_REFUSED_ARGUMENTS = {"as_operator", "as_custom_obj", "as_graph", "as_python_object"}
_ROOT = "archive"
_MODEL, _SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = {"data/weights/": "model_weights_config.json", "data/constants/": "model_constants_config.json"}


def is_archive(path: Path) -> bool:
    """True for a zip file that torch.export wrote, as opposed to a pickled or scripted one."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "archive_format" for name in archive.namelist())


def read_archive(path: Path) -> torch.export.ExportedProgram:
    """The program of an archive, without unpickling or running anything from it.

    Raises ModelError for an archive that is damaged or holds more than a graph of known operators and plain tensors.
    """
    clean = audited(path)
    import torch

    from certlip.importers.torch_export import quiet

    try:
        with quiet():
            return torch.export.load(io.BytesIO(clean))
    except Exception as error:  # torch raises anything on malformed content
        raise ModelError(
            f"torch cannot load {path} ({type(error).__name__}); save it again with torch.export.save"
        ) from error


def audited(path: Path) -> bytes:
    """The bytes of a new archive that holds the audited content of this one."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if sum(info.file_size for info in members.values()) > MAX_BYTES:
                raise ModelError(f"{path} unpacks to more than {MAX_BYTES} bytes; export a smaller model")
            return _rewrite(path, members, lambda name: archive.read(members[name]))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path} is not a complete torch.export archive ({error}); save it again") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} does not have the layout of torch.export.save ({error}); save it again with a current torch"
        ) from error


def _rewrite(path: Path, members: Collection[str], read: Callable[[str], bytes]) -> bytes:
    if _MODEL not in members:
        raise ModelError(f"{path} holds no exported program called 'model'; write it with torch.export.save")
    if "byteorder" in members and read("byteorder") != b"little":
        raise ModelError(
            f"{path} stores its weights in big-endian order; save it again on a little-endian machine"
        )
    files = {
        "archive_format": b"pt2",
        "archive_version": read("archive_version"),
        "byteorder": b"little",
        ".data/version": b"6\n",
        _SAMPLE: b"",
        _MODEL: _dump(_program(path, json.loads(read(_MODEL)))),
    }
    for folder, name in _CONFIGS.items():
        if folder + "model.pt" in members:
            raise ModelError(
                f"{path} stores pickled tensors, a legacy layout; save it again with a current torch"
            )
        config = _clean(path, json.loads(read(folder + name)))
        for entry in config["config"].values():
            file = entry["path_name"]
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", file):
                raise ModelError(
                    f"{path} stores '{file}' as a pickled object; export a model of plain tensors only"
                )
            files[folder + file] = read(folder + file)
        files[folder + name] = _dump(config)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(f"{_ROOT}/{name}", content)
    return buffer.getvalue()


def _program(path: Path, program: dict[str, Any]) -> dict[str, Any]:
    program = _clean(path, program)
    program.update(guards_code=[], torch_version="")
    refused = []
    for node in program["graph_module"]["graph"]["nodes"]:
        known = _TARGET.fullmatch(node["target"])
        if node["target"] not in _PYTHON_TARGETS and not (known and known[1] in OPERATORS):
            refused.append(node["target"])
    if refused:
        raise ModelError(
            f"{path} calls operators that certlip does not read: {', '.join(sorted(set(refused)))}; "
            "replace these layers or export to ONNX and pass that file"
        )
    return program


def _clean(path: Path, item: Any) -> Any:
    """A copy with metadata dropped, devices set to the CPU and every string checked."""
    if isinstance(item, dict):
        if _REFUSED_ARGUMENTS.intersection(item):
            raise ModelError(
                f"{path} holds custom objects or nested graphs; export a model of plain tensor operators"
            )
        return {_plain(path, key): _field(path, key, value) for key, value in item.items()}
    if isinstance(item, list):
        return [_clean(path, value) for value in item]
    return _plain(path, item) if isinstance(item, str) else item


def _field(path: Path, key: str, value: Any) -> Any:
    if key == "metadata":
        return {}
    if key in ("guards_code", "torch_version"):
        return None
    if key in ("device", "as_device"):
        return {"type": "cpu", "index": None}
    if key == "range_constraints":
        return {_expression(path, name): _clean(path, limits) for name, limits in value.items()}
    if key == "expr_str":
        return _expression(path, value)
    if key in ("in_spec", "out_spec"):
        version, tree = json.loads(value)
        return json.dumps([int(version), _tree(path, tree)])
    return _clean(path, value)


def _tree(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """A pytree specification made of tuples, lists and dictionaries with plain keys."""
    if tree["type"] not in _CONTAINERS:
        raise ModelError(
            f"{path} takes or returns a '{tree['type']}'; export a model from one tensor to one tensor"
        )
    context = (
        tree["context"] if tree["context"] is None else json.dumps(_clean(path, json.loads(tree["context"])))
    )
    children = [_tree(path, child) for child in tree["children_spec"]]
    return {"type": tree["type"], "context": context, "children_spec": children}


def _plain(path: Path, text: str) -> str:
    if not _PLAIN.fullmatch(text):
        raise ModelError(f"{path} holds an unusual name ({text[:40]!r}); rename it and export again")
    return text


def _expression(path: Path, text: str) -> str:
    if not _EXPRESSION.fullmatch(text):
        raise ModelError(
            f"{path} has a shape that certlip does not read ({text[:60]!r}); export with fixed shapes"
        )
    return text


def _dump(item: Any) -> bytes:
    return json.dumps(item).encode()
