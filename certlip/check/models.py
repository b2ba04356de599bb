"""Find the model file that a certificate names, by its content, and read it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from certlip.certificate.record import Certificate
from certlip.certificate.store import MAX_MODEL_BYTES, Store, model_name
from certlip.errors import CertificateRejected, CertlipError, UsageError
from certlip.graph import Graph
from certlip.onnx_reader import ModelFile, parse, read_file, read_graph
from certlip.onnx_reader.reader import choose_ends

_SUFFIXES = (".onnx", ".onnx.gz")
_KEPT = 8
_RELATIVE = re.compile(r"[^/\\:\0-\x1f][^\\:\0-\x1f]{0,999}")  # neither a root, a drive nor a network share
_ARITHMETICS = {
    onnx.TensorProto.DOUBLE: "binary64",
    onnx.TensorProto.FLOAT: "binary32",
    onnx.TensorProto.FLOAT16: "binary16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}


@dataclass(frozen=True, eq=False)
class Network:
    """A model as a claim sees it: the graph read from its file, and the arithmetic that the file computes in.

    arithmetic: None where claims about executions are not possible; `obstacle` then says why. decisions: the last
    operators of the file that the graph leaves out.
    """

    graph: Graph
    arithmetic: str | None
    obstacle: str = ""
    decisions: tuple[str, ...] = ()


def network(graph: Graph, file: ModelFile, input_name: str | None = None, output_name: str | None = None) -> Network:
    """A graph that was read from a file, with the arithmetic of the file."""
    ends = choose_ends(file.proto, input_name, output_name)
    kind, decisions = ends.source.type.tensor_type.elem_type, tuple(node.op_type for node in ends.decisions)
    # Every ONNX operator on floats has one type for all of them, so only these nodes lead from one type to another.
    for node in file.proto.graph.node:
        kinds = [a.i for a in node.attribute if a.name == "to"] if node.op_type == "Cast" else []
        if node.op_type == "CastLike" or any(target in _ARITHMETICS and target != kind for target in kinds):
            return Network(graph, None, "its file casts between floating-point types", decisions)
    return Network(graph, _ARITHMETICS.get(kind), "its input is of a type without a class of executions", decisions)


class Models:
    """The models among files and folders, each read once; few are kept.

    places: files, or folders searched for .onnx and .onnx.gz files. A store, its folder and the folder above that one
    are searched too and, if no place is named, the file that the record was made from (`origin`). Models are matched by
    sha256, never by name.
    """

    def __init__(self, places: Iterable[Path] = ()):
        self._places = list(places)
        self._networks: dict[tuple, Network] = {}
        self._known: dict[Path, tuple[str, dict[str, str]] | None] = {}

    def network(self, certificate: Certificate, store: Store) -> Network:
        """The network that a certificate is about. Raises CertificateRejected where it is not there."""
        model = certificate.model
        key = (model["sha256"], tuple(sorted(model["external"].items())), model["input"], model["output"])
        if key not in self._networks:
            try:
                names = model["input"], model["output"]
                file = self._find(certificate, store)
                found = network(read_graph(file, *names), file, *names)
            except UsageError as error:
                raise CertificateRejected(f"the certificate does not fit its model: {error}") from error
            if len(self._networks) >= _KEPT:
                self._networks.pop(next(iter(self._networks)))
            self._networks[key] = found
        found = self._networks[key]
        if found.graph.digest != model["graph"]:
            raise CertificateRejected(
                f"the graph read from '{model['name']}' is not the one that the certificate is about; make it again"
            )
        return found

    def _find(self, certificate: Certificate, store: Store) -> ModelFile:
        model = certificate.model
        wanted = model["sha256"], dict(model["external"])
        for path in _candidates([*self._places, store.path, store.path.parent]):
            if (file := self._read(path, wanted)) is not None:
                return file
        try:
            file = parse(store.data(model_name(model["sha256"]), MAX_MODEL_BYTES))
            if (file.sha256, dict(file.external)) == wanted:
                return file
        except CertlipError:
            pass  # the store holds no model, or none that can be read
        made_from = None if self._places else origin(certificate, store)
        if made_from is not None and (file := self._read(made_from, wanted)) is not None:
            return file
        raise CertificateRejected(
            f"no model with sha256 {model['sha256'][:16]}... was found; name the file of '{model['name']}' with --model"
        )

    def _read(self, path: Path, wanted: tuple[str, dict[str, str]]) -> ModelFile | None:
        """The file if it is the one that is wanted; one known to be another is not read again."""
        if self._known.get(path, wanted) != wanted:
            return None
        try:
            file = read_file(path)
        except CertlipError:
            self._known[path] = None  # not a readable model, so not the one that is named
            return None
        self._known[path] = file.sha256, dict(file.external)
        return file if self._known[path] == wanted else None


def origin(certificate: Certificate, store: Store) -> Path | None:
    """The file that the record was made from, as its provenance names it from the folder of the store.

    Nobody vouches for that path: it is only one more place to look for a file with the right sha256. None unless it is
    a relative path to a regular file that is named like a model, whatever links lead there.
    """
    made = certificate.provenance.get("import")
    name = made.get("file") if isinstance(made, dict) else None
    if not isinstance(name, str) or _RELATIVE.fullmatch(name) is None:
        return None
    try:
        path = ((store.path if store.path.is_dir() else store.path.parent) / name).resolve()
        return path if path.name.endswith(_SUFFIXES) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that no file can have
        return None


def _candidates(places: Iterable[Path]) -> Iterable[Path]:
    """Model files; a place that is neither a folder nor named like a model is still one if it was named by the user."""
    for place in places:
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.name.endswith(_SUFFIXES) and path.is_file())
        elif place.suffix != ".certlip":
            yield place
