"""Decide whether a certificate proves its claim about the model file that it names.

The proof kernel in reading order; nothing else decides whether a claim is accepted, and no number of a certificate is
believed:

 1. `errors` and `certificate.grammar`, `.claims`, `.record`: what a certificate may say. Anything else is refused.
 2. `certificate.arrays`, `.store`, `.folder`, `.bundle`: its bytes, bounded and confined, arrays known by their sha256.
 3. `onnx_reader`, `graph`, `ops` and `check.models`: from the model file, known by its sha256, to a graph of operators
    that know their slopes, norms and rounding errors. `passes` and `properties.outputs` rewrite it into the graph of
    the function that a claim is about, equal over the reals.
 4. `rigor.rounding`, `.ball`: sums and products of floats with proved error bounds. `rigor.functions`: exp and the like
    from series. `rigor.definite`, `.block_definite`: positive semidefinite, proved with a factor that nobody trusts.
 5. `proofs.norm_product`, `.lipsdp`, `.torus`, `.local`: a theorem for each method that bounds a Lipschitz constant.
    `proofs.exact` is the same in exact arithmetic, `proofs.exact_values` that of 7, for the level "exact".
 6. `check.lemmas`: such a bound as a claim, and as a lemma of another one.
 7. `proofs.margin` encloses outputs at a point; `proofs.deployment` bounds the rounding errors of executions, and
    `check.executions` says which ones.
 8. `proofs.query`: a question about all inputs of a box or ball at once. `proofs.relaxation`, in the order `lines`,
    `frame`, `cells`, `backward`, `branches`, answers it by linear bounds and distinctions of cases, which `.witness`
    reads from arrays. `properties.vnnlib` reads property files.
 9. `check.theorems`: one inequality for each kind of claim, in rational arithmetic; `check.questions`: the questions of
    8 that claims ask. `Checker._prove` joins them.

`docs/certificates.md` states the theorems with their proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from certlip.certificate import SUFFIX, Bundle, Certificate, Folder, Store
from certlip.certificate.grammar import rational
from certlip.check import questions, theorems
from certlip.check.executions import class_slack_on, execution_class, in_words, slack_between
from certlip.check.lemmas import Lemmas, domain_of, output_of, point
from certlip.check.levels import reaches, require_level
from certlip.check.models import Models, Network
from certlip.errors import CertificateRejected, CertlipError, UsageError
from certlip.graph import Graph
from certlip.proofs.counterexample import is_within
from certlip.proofs.exact_values import exact_output_ball
from certlip.proofs.neuron_form import NoNeuronForm
from certlip.proofs.ranges import Region
from certlip.properties.numbers import short_down, short_up, text_up
from certlip.properties.outputs import ALL, chosen, scores, select
from certlip.rigor.exact_numbers import NotExact
from certlip.rigor.rounding import Array, Precision


@dataclass(frozen=True)
class Finding:
    """What the checker says about one certificate: accepted with the claim in words and the level at which it is
    proved, or rejected with the reason (level "none")."""

    path: Path
    accepted: bool
    message: str
    level: str = "none"

    def __repr__(self) -> str:
        verdict = f"accepted [{self.level}]" if self.accepted else "REJECTED"
        return _one_line(f"{verdict} {self.path}: {self.message}")


class Checker:
    """Checks many certificates, reading each model and proving each Lipschitz bound once.

    models: files or folders, see `Models`. exact: prove claims about real arithmetic in exact arithmetic; also where
    `level`, the least that is accepted, is "exact". A Lipschitz bound, which is about real arithmetic, satisfies the
    level "deployed" as the lemma of another claim of its store, not on its own.
    """

    def __init__(self, models: Iterable[Path] = (), exact: bool = False, level: str = "float"):
        self._level, self._exact = require_level(level), exact or level == "exact"
        self._models = Models(models)
        self._lemmas = Lemmas(self._models, self._exact)
        self._stores: dict[Path, Store] = {}
        self._graphs: tuple[Network | None, dict[str, Graph]] = (None, {})

    def check(self, path: Path) -> Finding:
        """Re-prove the record in one file of a folder. Never raises for a bad one: that is a rejection."""
        return self.check_record(self._stores.setdefault(path.parent, Folder(path.parent)), path.name)

    def check_record(self, store: Store, name: str) -> Finding:
        """Re-prove one record of a store. Never raises for a bad certificate or model: that is a rejection."""
        path = store.path / name
        try:
            certificate = store.record(name)
            level = self._reached(certificate, store)
            return Finding(path, True, _one_line(self._prove(certificate, store)), level)
        except (CertlipError, NoNeuronForm) as error:
            return Finding(path, False, _one_line(str(error)))
        except NotExact as error:
            reason = f"there is no proof in exact arithmetic: {error}; check it without --exact"
            return Finding(path, False, _one_line(reason))
        except MemoryError:
            return Finding(path, False, "there is not enough memory to check this claim; use a larger machine")
        except Exception as error:  # whatever a crafted model sets off, it proves nothing
            return Finding(path, False, _one_line(f"the check broke off with {type(error).__name__}: {error}"))

    def _reached(self, certificate: Certificate, store: Store) -> str:
        """The level that a proof of the claim has. Raises CertificateRejected where it is not the one demanded."""
        level = "deployed" if certificate.is_deployed else "exact" if self._exact else "float"
        is_lemma = certificate.kind == "lipschitz" and store.is_lemma(certificate.digest)
        if not reaches(level, self._level) and not is_lemma:
            remedy = "make it with `certlip verify` or `radius` and --level deployed"
            if certificate.kind == "lipschitz":
                remedy = "a Lipschitz bound is about real arithmetic, so check it at another level"
            raise CertificateRejected(f"the claim is of level {level}, less than {self._level}; {remedy}")
        return level

    def _prove(self, certificate: Certificate, store: Store) -> str:
        """The claim in words, once it is proved."""
        network = self._models.network(certificate, store)
        for note in network.graph.notes:  # so that whoever reads the record learns what the claim is about
            if note not in certificate.assumptions:
                raise CertificateRejected(f"its assumptions leave out what the reader found: {note}")
        statement, semantics = certificate.statement, certificate.semantics
        precision = execution_class(semantics, network) if certificate.is_deployed else None
        where = "" if precision is None else f" in every execution of {in_words(precision)}"
        if certificate.kind == "lipschitz":
            value = text_up(self._lemmas.prove(certificate, store))
            near = _inside(statement["set"]) if "set" in statement else ""
            return f"|Df| <= {value} |Dx| in {statement['norm']} for {output_of(certificate)}{near}"
        if certificate.kind in ("property", "violation"):
            return self._property(certificate, network, store, precision) + where
        if certificate.kind in ("robustness", "radius"):
            if questions.is_by_branches(certificate):
                questions.prove_class(certificate, network, store, precision, self._exact)
            else:
                self._class(certificate, network, store, precision)
            if certificate.kind == "radius":
                radius = short_down(rational(statement["radius"]))
                near = f"at every {statement['norm']} distance below {radius} of a point"
                return f"label {statement['label']} holds {near}{where}"
            return f"label {statement['label']} holds{_inside(statement['set'])}{where}"
        if certificate.kind == "tolerance":
            self._tolerance(certificate, network, store, precision)
            eps, most = short_down(rational(statement["set"]["eps"])), short_up(rational(statement["tolerance"]))
            apart = f"within {statement['set']['norm']} distance {eps} of each other"
            near = _inside(statement["set"]) if "center" in statement["set"] else f" {apart}"
            return f"outputs move by at most {most}{near}{where}"
        self._falsification(certificate, network, store, precision)
        return f"a counterexample{_within(statement['set'], short_down, short_up)} violates the property{where}"

    def _class(self, certificate: Certificate, network: Network, store: Store, precision: Precision | None) -> None:
        """Robustness and radius: the margin against every other class exceeds what it can lose."""
        label, (norm, eps, center) = certificate.statement["label"], domain_of(certificate)
        graph = self._graph(network, "margins")
        count = graph.output_size
        if label >= theorems.classes(count) or center is None:
            raise CertificateRejected(f"the label {label} does not exist among {theorems.classes(count)} classes")
        x = point(center, "center", network.graph, store)
        slack = [Fraction(0)] * count
        if precision is not None:
            slack = class_slack_on(network.graph, Region(x, eps, norm), precision)
        holds = theorems.keeps_inside if certificate.kind == "radius" else theorems.keeps
        outputs = self._outputs(graph, x)
        for rival, output in theorems.rivals(count, label):
            margin, lost = theorems.lead(outputs, slack, label, rival)
            if margin <= 0:
                raise CertificateRejected(f"the margin is not positive ({output})")
            bound = self._lemmas.bound(certificate, output, store)
            if not holds(margin, bound, eps, lost):
                needed = text_up(bound * eps + lost)
                raise CertificateRejected(f"the margin {text_up(margin)} does not exceed {needed} ({output})")

    def _tolerance(
        self, certificate: Certificate, network: Network, store: Store, precision: Precision | None
    ) -> None:
        tolerance, (norm, eps, center) = rational(certificate.statement["tolerance"]), domain_of(certificate)
        if questions.is_by_branches(certificate):
            x = point(center or "", "center", network.graph, store)
            outputs = self._outputs(self._graph(network, "all"), x)
            questions.prove_tolerance(certificate, network, store, precision, self._exact, outputs)
            return
        slack = [Fraction(0)]
        if center is not None:
            x = point(center, "center", network.graph, store)
            if precision is not None:
                slack = slack_between(network.graph, Region(x, Fraction(0), norm), Region(x, eps, norm), precision)
        bound = self._lemmas.bound(certificate, ALL, store)
        if not theorems.stays(bound, eps, tolerance, max(slack)):
            moved = text_up(bound * eps + max(slack))
            raise CertificateRejected(f"outputs may move by {moved}, more than {text_up(tolerance)}")

    def _falsification(
        self, certificate: Certificate, network: Network, store: Store, precision: Precision | None
    ) -> None:
        statement, (norm, eps, center) = certificate.statement, domain_of(certificate)
        x = point(center or "", "center", network.graph, store)
        other = point(statement["counterexample"], "counterexample", network.graph, store)
        clip = statement["set"].get("clip")
        inside = is_within(x, other, norm, eps)
        if not inside or not theorems.in_clip(other, clip and [rational(end) for end in clip]):
            raise CertificateRejected("the counterexample lies outside the set")
        if "tolerance" in statement:
            graph, slack = self._graph(network, "all"), [Fraction(0)] * network.graph.output_size
            if precision is not None:
                regions = Region(x, Fraction(0), norm), Region(other, Fraction(0), norm)
                slack = slack_between(network.graph, *regions, precision)
            outputs = self._outputs(graph, x), self._outputs(graph, other)
            holds = theorems.moves(*outputs, rational(statement["tolerance"]), slack)
        else:
            graph = self._graph(network, "margins")
            if statement["label"] >= theorems.classes(graph.output_size):
                raise CertificateRejected(f"the label {statement['label']} does not exist")
            slack = [Fraction(0)] * graph.output_size
            if precision is not None:
                slack = class_slack_on(network.graph, Region(other, Fraction(0), norm), precision)
            holds = theorems.loses(self._outputs(graph, other), statement["label"], slack)
        if not holds:
            raise CertificateRejected("the property is not proved to be violated at the counterexample")

    def _property(
        self, certificate: Certificate, network: Network, store: Store, precision: Precision | None
    ) -> str:
        """The claim in words, once it is proved: no input of the property is unsafe, or the counterexample is."""
        name = f"the property {certificate.statement['property'][:16]}..."
        if certificate.kind == "property":
            property = questions.prove_property(certificate, network, store, precision, self._exact)
            return f"{name} holds{': it is vacuous, no input lies in its boxes' if property.is_vacuous else ''}"
        x = point(certificate.statement["counterexample"], "counterexample", network.graph, store)
        outputs = self._outputs(self._graph(network, "all"), x)
        questions.prove_violation(certificate, network, store, precision, x, outputs)
        return f"a counterexample violates {name}"

    def _outputs(self, graph: Graph, x: Array) -> theorems.Enclosure:
        """Enclosures of the exact outputs at one point, as rational numbers."""
        return exact_output_ball(graph, x) if self._exact else theorems.outputs_at(graph, x)

    def _graph(self, network: Network, which: str) -> Graph:
        """The function that decides a class, or all outputs; made once for a model. Operators are merged where their
        product may be rounded."""
        if self._graphs[0] is not network:
            self._graphs = network, {}
        known = self._graphs[1]
        if which not in known:
            output = scores(network.graph) if which == "margins" else ALL
            known[which] = (chosen if self._exact else select)(network.graph, output)
        return known[which]


def _inside(domain: dict) -> str:
    """A set on which something holds, in words; where they round, the set gets smaller."""
    return _within(domain, short_up, short_down)


def _within(domain: dict, low: Callable[[Fraction], str], high: Callable[[Fraction], str]) -> str:
    """The set; low, high: how its ends are rounded."""
    ends = [each(rational(end)) for each, end in zip((low, high), domain.get("clip", ()), strict=False)]
    clip = f", clipped to [{', '.join(ends)}]" if ends else ""
    return f" within {domain['norm']} distance {high(rational(domain['eps']))} of a point{clip}"


def _one_line(text: str) -> str:
    """Names in certificates are written by others: nothing in them may start a line or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Refused(Store):
    """A bundle that could not be opened: its one record says why."""

    def __init__(self, path: Path, reason: CertificateRejected):
        super().__init__(path)
        self._reason = reason

    def names(self) -> list[str]:
        return [""]

    def data(self, name: str, limit: int) -> bytes:
        raise self._reason


def records(entries: Sequence[str | Path]) -> list[tuple[Store, str]]:
    """Every record among files, folders and bundles, in order: its store and its name.

    Raises UsageError for an entry that does not exist, and for a folder or bundle without certificates.
    """
    found: list[tuple[Store, str]] = []
    folders: dict[Path, Store] = {}
    for entry in map(Path, entries):
        if not entry.exists():
            raise UsageError(f"there is no certificate {entry}; check the path")
        if entry.is_dir():
            stores: list[Store] = [Folder(entry), *map(_bundle, sorted(entry.glob("*" + SUFFIX)))]
        elif entry.suffix == SUFFIX:
            stores = [_bundle(entry)]
        else:
            found.append((folders.setdefault(entry.parent, Folder(entry.parent)), entry.name))
            continue
        inside = [(store, name) for store in stores for name in store.names()]
        if not inside:
            raise UsageError(f"{entry} holds no certificates; name what was written with --certificates")
        found.extend(inside)
    return found


def _bundle(path: Path) -> Store:
    try:
        return Bundle(path)
    except CertificateRejected as error:
        return _Refused(path, error)


def check(
    paths: str | Path | Sequence[str | Path],
    models: Sequence[str | Path] = (),
    exact: bool = False,
    level: str = "float",
) -> list[Finding]:
    """Re-prove certificates (files, folders or bundles) with the trusted base alone; one finding for each record.

    exact, level: see `Checker`. Raises UsageError for a path that is not there, or an unknown level.
    """
    entries = [paths] if isinstance(paths, (str, Path)) else list(paths)
    checker = Checker((Path(model) for model in models), exact, level)
    return [checker.check_record(store, name) for store, name in records(entries)]
