"""Decide whether a certificate proves its claim about the model file that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from certlip.certificate.record import Certificate, rational
from certlip.certificate.store import read_array, read_certificate
from certlip.errors import CertificateRejected, CertlipError, UsageError
from certlip.graph import Graph
from certlip.onnx_reader import read_file, read_graph
from certlip.proofs import LIPSCHITZ_PROOFS, WITNESS_ARRAYS
from certlip.proofs.counterexample import is_within, violates_label, violates_tolerance
from certlip.proofs.local import LOCAL_PROOFS
from certlip.proofs.margin import is_certified, label_margins, output_balls
from certlip.proofs.neuron_form import NoNeuronForm
from certlip.proofs.ranges import Region
from certlip.properties.numbers import text_up
from certlip.properties.outputs import ALL, DECISION, Output, margins_graph, select
from certlip.rigor.rounding import Array

_MODEL_SUFFIXES = (".onnx", ".onnx.gz")


@dataclass(frozen=True)
class Finding:
    """What the checker says about one certificate: accepted with the claim in words, or rejected with the reason."""

    path: Path
    accepted: bool
    message: str

    def __repr__(self) -> str:
        return _one_line(f"{'accepted' if self.accepted else 'REJECTED'} {self.path}: {self.message}")


class Checker:
    """Checks many certificates, reading each model and proving each Lipschitz bound once.

    models: files, or folders searched for .onnx and .onnx.gz files. A certificate's own folder and its parent are
    searched too. Models are matched by sha256, never by name.
    """

    def __init__(self, models: Iterable[Path] = ()):
        self._places = list(models)
        self._graphs: dict[tuple, Graph] = {}
        self._proved: dict[str, Certificate] = {}
        self._folders: dict[Path, dict[str, Path]] = {}
        self._files: dict[Path, Any] = {}

    def check(self, path: Path) -> Finding:
        """Re-prove one certificate. Never raises for a bad certificate or model: that is a rejection."""
        try:
            certificate = read_certificate(path)
            return Finding(path, True, _one_line(self._prove(certificate, path.parent)))
        except (CertlipError, NoNeuronForm) as error:
            return Finding(path, False, _one_line(str(error)))
        except MemoryError:
            return Finding(path, False, "there is not enough memory to check this claim; use a larger machine")
        except Exception as error:  # whatever a crafted model sets off, it proves nothing
            return Finding(path, False, _one_line(f"the check broke off with {type(error).__name__}: {error}"))

    def _prove(self, certificate: Certificate, folder: Path) -> str:
        graph = self._graph(certificate, folder)
        statement = certificate.statement
        if certificate.kind == "lipschitz":
            value = self._lipschitz(certificate, folder)
            return f"|Df| <= {text_up(value)} |Dx| in {statement['norm']} for {_output(certificate)}{_where(statement)}"
        if certificate.kind == "robustness":
            self._robustness(certificate, graph, folder)
            return f"label {statement['label']} holds within {statement['norm']} distance {statement['eps']}"
        if certificate.kind == "tolerance":
            self._tolerance(certificate, folder)
            limit = f"outputs move by at most {statement['tolerance']}"
            return f"{limit} within {statement['norm']} distance {statement['eps']}"
        self._falsification(certificate, graph, folder)
        return f"a counterexample within {statement['norm']} distance {statement['eps']} violates the property"

    def _lipschitz(self, certificate: Certificate, folder: Path) -> Fraction:
        value = rational(certificate.statement["value"])
        if certificate.digest in self._proved:
            return value
        method, arrays = certificate.witness["method"], certificate.witness["arrays"]
        region = certificate.statement.get("region")
        known = LIPSCHITZ_PROOFS if region is None else LOCAL_PROOFS
        if method not in known:
            kind = "" if region is None else " for bounds on a region"
            raise CertificateRejected(f"the method '{method}' is unknown to this checker{kind}")
        if set(arrays) != set(WITNESS_ARRAYS[method]):
            raise CertificateRejected(f"the witness of '{method}' must hold exactly {sorted(WITNESS_ARRAYS[method])}")
        full = self._graph(certificate, folder)
        graph, norm = select(full, _output(certificate)), certificate.statement["norm"]
        witness = {name: read_array(folder, digest) for name, digest in arrays.items()}
        if region is None:
            proved = LIPSCHITZ_PROOFS[method](graph, norm, witness)
        else:
            center = _point(region["center"], "region's center", full, folder)
            proved = LOCAL_PROOFS[method](graph, norm, witness, Region(center, rational(region["eps"]), region["norm"]))
        if not (np.isfinite(proved) and Fraction(proved) <= value):
            raise CertificateRejected(f"the witness proves {proved:.9g}, not the claimed {text_up(value)}")
        self._proved[certificate.digest] = certificate
        return value

    def _robustness(self, certificate: Certificate, graph: Graph, folder: Path) -> None:
        statement = certificate.statement
        label, eps = statement["label"], rational(statement["eps"])
        scores = margins_graph(graph)
        classes = max(2, scores.output_size)
        if label >= classes:
            raise CertificateRejected(f"the label {label} does not exist among {classes} classes")
        outputs = output_balls(scores, _point(statement["input"], "input", graph, folder)[None])[0]
        margins = label_margins(outputs, label)
        for rival, margin in enumerate(margins.tolist()):
            if margins.size > 1 and rival == label:
                continue
            wanted = DECISION if margins.size == 1 else Output.pair(*sorted((label, rival)))
            bound = self._bound(certificate, folder, wanted)
            if not is_certified(margin, bound, eps):
                raise CertificateRejected(f"the margin {margin:.9g} does not exceed {text_up(bound * eps)} ({wanted})")

    def _tolerance(self, certificate: Certificate, folder: Path) -> None:
        statement = certificate.statement
        eps, tolerance = rational(statement["eps"]), rational(statement["tolerance"])
        bound = self._bound(certificate, folder, ALL)
        if bound * eps > tolerance:
            raise CertificateRejected(f"outputs may move by {text_up(bound * eps)}, more than {text_up(tolerance)}")

    def _bound(self, certificate: Certificate, folder: Path, output: Output) -> Fraction:
        """The proved Lipschitz bound that a claim refers to: same model, norm and output, valid where the claim is."""
        digest = certificate.witness["bounds"].get(str(output))
        if digest is None:
            raise CertificateRejected(f"the witness names no Lipschitz bound for '{output}'")
        path = self._records(folder).get(digest)
        if path is None:
            raise CertificateRejected(
                f"the Lipschitz certificate {digest[:12]}... is missing; keep the folder together"
            )
        other = read_certificate(path)
        if other.digest != digest or other.kind != "lipschitz":
            raise CertificateRejected(f"{path} is not the Lipschitz certificate that the claim refers to")
        same = other.model == certificate.model and other.statement["norm"] == certificate.statement["norm"]
        if not same or _output(other) != output:
            raise CertificateRejected(f"the Lipschitz bound in {path} is for another model, norm or output")
        if "region" in other.statement:
            _require_ball(certificate.statement, other.statement["region"], path)
        return self._lipschitz(other, folder)

    def _falsification(self, certificate: Certificate, graph: Graph, folder: Path) -> None:
        statement = certificate.statement
        point = _point(statement["input"], "input", graph, folder)
        other = _point(statement["counterexample"], "counterexample", graph, folder)
        if not is_within(point, other, statement["norm"], rational(statement["eps"])):
            raise CertificateRejected("the counterexample lies outside the ball")
        if "tolerance" in statement:
            holds = violates_tolerance(select(graph, ALL), point, other, rational(statement["tolerance"]))
        else:
            scores = margins_graph(graph)
            if statement["label"] >= max(2, scores.output_size):
                raise CertificateRejected(f"the label {statement['label']} does not exist")
            holds = violates_label(scores, other, statement["label"])
        if not holds:
            raise CertificateRejected("the exact network is not proved to violate the property at the counterexample")

    def _records(self, folder: Path) -> dict[str, Path]:
        """Digest of every readable record in a folder."""
        if folder not in self._folders:
            table: dict[str, Path] = {}
            for path in sorted(folder.glob("*.json")):
                try:
                    table[read_certificate(path).digest] = path
                except CertificateRejected:
                    continue  # reported when it is checked itself; here it only cannot be referred to
            self._folders[folder] = table
        return self._folders[folder]

    def _graph(self, certificate: Certificate, folder: Path) -> Graph:
        model = certificate.model
        key = (model["sha256"], tuple(sorted(model["external"].items())), model["input"], model["output"])
        if key not in self._graphs:
            file = self._find(model, folder)
            try:
                self._graphs[key] = read_graph(file, model["input"], model["output"])
            except UsageError as error:
                raise CertificateRejected(f"the certificate does not fit its model: {error}") from error
        return self._graphs[key]

    def _find(self, model, folder: Path):
        for path in _candidates([*self._places, folder, folder.parent]):
            if path not in self._files:
                try:
                    self._files[path] = read_file(path)
                except CertlipError:
                    self._files[path] = None  # not a readable model, so not the one that is named
            file = self._files[path]
            if file is not None and file.sha256 == model["sha256"] and dict(file.external) == model["external"]:
                return file
        raise CertificateRejected(
            f"no model with sha256 {model['sha256'][:16]}... was found; name the file of '{model['name']}' with --model"
        )


def _point(digest: str, what: str, graph: Graph, folder: Path) -> Array:
    point = read_array(folder, digest)
    if point.shape != graph.input_shape or not np.isfinite(point).all():
        raise CertificateRejected(f"the {what} of shape {point.shape} is no input of shape {graph.input_shape}")
    return point


def _require_ball(claim: Mapping[str, Any], region: Mapping[str, str], path: Path) -> None:
    """A bound on a region serves only the ball around the same point, of the same norm and no larger.

    Equal digests are equal points.
    """
    if claim["kind"] != "robustness":
        raise CertificateRejected(f"the Lipschitz bound in {path} holds on a region only, not for every input")
    if region["center"] != claim["input"] or region["norm"] != claim["norm"]:
        raise CertificateRejected(f"the Lipschitz bound in {path} holds around another point or in another norm")
    if rational(region["eps"]) < rational(claim["eps"]):
        raise CertificateRejected(f"the Lipschitz bound in {path} holds on a smaller ball than the claim is about")


def _where(statement: Mapping[str, Any]) -> str:
    region = statement.get("region")
    return "" if region is None else f", within {region['norm']} distance {region['eps']} of a point"


def _output(certificate: Certificate) -> Output:
    entry = certificate.statement["output"]
    return Output(entry["kind"], tuple(entry["indices"]))


def _one_line(text: str) -> str:
    """Names in certificates are written by others: nothing in them may start a line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _candidates(places: Iterable[Path]) -> Iterable[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.name.endswith(_MODEL_SUFFIXES))
        else:
            yield place


def certificate_files(entries: Sequence[str | Path]) -> list[Path]:
    """The records among files and folders. Raises UsageError where there are none."""
    files: list[Path] = []
    for entry in map(Path, entries):
        if not entry.exists():
            raise UsageError(f"there is no certificate {entry}; check the path")
        found = sorted(entry.glob("*.json")) if entry.is_dir() else [entry]
        if not found:
            raise UsageError(f"the folder {entry} holds no certificates; name one written with --certificates")
        files.extend(found)
    return files


def check(paths: str | Path | Sequence[str | Path], models: Sequence[str | Path] = ()) -> list[Finding]:
    """Re-prove certificates (files or folders) with the trusted base alone; one finding for each record."""
    entries = [paths] if isinstance(paths, (str, Path)) else list(paths)
    checker = Checker(Path(model) for model in models)
    return [checker.check(file) for file in certificate_files(entries)]
