"""A certificate as a page of plain English. It repeats the record and says what was checked; it proves nothing."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certlip.certificate import Certificate, Store
from certlip.certificate.store import MAX_MODEL_BYTES, model_name
from certlip.check import Finding
from certlip.check.models import origin
from certlip.errors import CertificateRejected, UsageError
from certlip.report.claim_words import claim_items, headline, input_items, limits
from certlip.report.frameworks import ai_act_items, iso_items
from certlip.report.proof_words import arithmetic_items, execution_items, proof_items
from certlip.report.sections import Item, Section, bullets, clipped
from certlip.version import __version__

_MOST = 12


@dataclass(frozen=True)
class Explanation:
    """Certificates in words.

    kinds: how many there are of each. unreadable: those that are no certificates, and why. findings: what the checker
    said just now about each of them, empty if they were only read. name, record: of the one that the page is about,
    None for a page about many.
    """

    sections: tuple[Section, ...]
    kinds: Mapping[str, int]
    unreadable: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    name: str | None = None
    record: Certificate | None = None

    @property
    def is_sound(self) -> bool:
        """Whether no certificate is unreadable or was rejected."""
        return not self.unreadable and all(finding.accepted for finding in self.findings)


def explain(
    store: Store, name: str, path: Path, finding: Finding | None = None, models: Sequence[Path] = ()
) -> Explanation:
    """The page about one record. path: as the user named it. Raises CertificateRejected for a record that is none."""
    record = store.record(name)
    sections = (
        Section("Certificate", _identity(record, store, finding), clipped(name)),
        Section("What is claimed", claim_items(record)),
        Section("For which inputs", input_items(record, store)),
        Section("In which arithmetic", arithmetic_items(record)),
        Section("What is taken for granted", _assumptions(record)),
        Section("How the proof goes", (*proof_items(record, store), *execution_items(record))),
        Section("What is not claimed", bullets(limits(record))),
        Section("How to prove it again", _commands(path, [(store, record)], models)),
        Section("In the terms of ISO/IEC 24029-2", iso_items(record, finding)),
        Section("For a technical file under Article 15 of the EU AI Act", ai_act_items(record, finding)),
    )
    findings = () if finding is None else (finding,)
    return Explanation(sections, {record.kind: 1}, (), findings, name, record)


def survey(
    entries: Sequence[tuple[Store, str]], path: Path, findings: Sequence[Finding] = (), models: Sequence[Path] = ()
) -> Explanation:
    """The page about many records: how many of which kind, about which models, and one of each kind in short."""
    kinds: Counter[tuple[str, str]] = Counter()
    owners: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], tuple[Store, str, Certificate]] = {}
    unreadable: list[str] = []
    for store, name in entries:
        try:
            record = store.record(name)
        except CertificateRejected as error:
            unreadable.append(f"{clipped(name)}: {clipped(str(error))}")
            continue
        kind = record.kind, _arithmetic(record)
        kinds[kind] += 1
        owners[record.model["name"], record.model["sha256"]] += 1
        first.setdefault(kind, (store, name, record))
    examples = [first[kind] for kind in sorted(first)]
    claims = tuple(Item(f"{count} in {arithmetic}", kind) for (kind, arithmetic), count in sorted(kinds.items()))
    sections = (
        Section(f"{len(entries)} certificates in", _status_of_many(kinds, unreadable, findings), clipped(str(path))),
        Section("What they claim", claims),
        Section("About which models", _models(owners)),
        Section("One of each kind", _examples(examples, path)),
        Section("How to prove them again", _commands(path, [(store, record) for store, _, record in examples], models)),
    )
    by_kind: Counter[str] = Counter()
    for (name, _), count in sorted(kinds.items()):
        by_kind[name] += count
    return Explanation(sections, dict(by_kind), tuple(unreadable), tuple(findings))


def choose(entries: Sequence[tuple[Store, str]], name: str) -> tuple[Store, str]:
    """The record with this name, with or without .json, or digest. Raises UsageError unless there is exactly one."""
    found = [entry for entry in entries if entry[1] in (name, f"{name}.json")]
    if not found and len(name) == 64:
        found = [
            (store, known) for store in {id(s): s for s, _ in entries}.values() if (known := store.index().get(name))
        ]
    if len(found) != 1:
        some = ", ".join(clipped(each) for _, each in entries[:3])
        raise UsageError(
            f"there {'is no' if not found else 'is more than one'} certificate '{name[:80]}'; {some} are there"
        )
    return found[0]


def _identity(record: Certificate, store: Store, finding: Finding | None) -> tuple[Item, ...]:
    external = f" and {len(record.model['external'])} files of weights" if record.model["external"] else ""
    return (
        Item(headline(record), "kind"),
        Item(clipped(str(store.path)), "stored in"),
        Item(record.digest, "digest"),
        Item(f"{clipped(record.model['name'])}{external}, known by content, not by name", "model"),
        Item(record.model["sha256"], "sha256"),
        Item(f"from '{clipped(record.model['input'])}' to '{clipped(record.model['output'])}'", "function"),
        Item(_maker(record), "made by"),
        Item(_status(finding, record), "status"),
    )


def _maker(record: Certificate) -> str:
    """What the provenance says; it can say anything."""
    details = record.provenance.get("details")
    index = details.get("index") if isinstance(details, dict) else None
    sample = f", for sample {index} of its data" if type(index) is int else ""
    version = record.provenance.get("certlip")
    maker = f"certlip {clipped(version)}" if isinstance(version, str) else "an unknown program"
    return f"{maker}{sample}, as the record says; no proof reads that"


def _status(finding: Finding | None, record: Certificate) -> str:
    if finding is None:
        level = "deployed" if record.is_deployed else "float, or exact with --exact"
        if record.witness.get("method") == "branches" and not record.is_deployed:
            level = "float"
        return (
            "READ ONLY. The record is well-formed and its digest fits, but nothing was proved just now: this page "
            f"repeats what it says. If a check accepts it, it has the level {level}; --check does that here."
        )
    if finding.accepted:
        return (
            f"PROVED AGAIN just now by certlip {__version__}, level {finding.level}, against the model file with "
            "the sha256 above."
        )
    return f"REJECTED just now: {clipped(finding.message)}. Nothing below is proved."


def _assumptions(record: Certificate) -> tuple[Item, ...]:
    """In the words of whoever made the record; the digest covers them, no proof reads them."""
    shown = list(bullets(clipped(text) for text in record.assumptions[:_MOST]))
    if len(record.assumptions) > _MOST:
        shown.append(Item(f"{len(record.assumptions) - _MOST} more stand in the record.", "-"))
    return (
        Item("The record lists, in its author's words:" if shown else "The record lists nothing."),
        *shown,
        Item(
            "Whoever relies on a check also trusts the checker, Python, numpy, the onnx parser, the operating system "
            "and the processor."
        ),
    )


def _commands(
    path: Path, entries: Sequence[tuple[Store, Certificate]], models: Sequence[Path]
) -> tuple[Item, ...]:
    """entries: the record that `path` holds, or one of each kind."""
    records = [record for _, record in entries]
    missing = {_file(record.model["name"]) for store, record in entries if not _finds_model(store, record)}
    names = [str(model) for model in models] or sorted(missing)[:3]
    line = " ".join([shlex.quote(_file(str(path))), *(f"--model {shlex.quote(clipped(name))}" for name in names)])
    if all(record.is_deployed for record in records) and path.suffix == ".json":
        line += " --level deployed"
    items = [
        Item(f"certlip check {line}", "$"),
        Item(f"python -m certlip.check {line}", "$"),
        Item(
            "The second needs numpy and onnx only. --model takes the model file that you rely on, or a folder to "
            "search; the file is found by sha256, without --model with the certificates or where it lay when they were "
            "made. Keep the certificates of one run together: they refer to each other by digest."
        ),
    ]
    if not all(record.is_deployed for record in records):
        items.append(Item("--exact proves claims about real arithmetic in exact arithmetic, not in bounded floats."))
    return tuple(items)


def _finds_model(store: Store, record: Certificate) -> bool:
    """Whether a check that no model is named for has a file to look at: kept in the store, or where it once lay."""
    if origin(record, store) is not None:
        return True
    try:
        return bool(store.data(model_name(record.model["sha256"]), MAX_MODEL_BYTES))
    except CertificateRejected:
        return False


def _file(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


def _status_of_many(kinds: Counter, unreadable: Sequence[str], findings: Sequence[Finding]) -> tuple[Item, ...]:
    items = []
    if findings:
        levels = Counter(finding.level for finding in findings if finding.accepted)
        rejected = [finding for finding in findings if not finding.accepted]
        words = ", ".join(f"{count} at level {level}" for level, count in sorted(levels.items())) or "none"
        items.append(
            Item(
                f"CHECKED just now by certlip {__version__}. Proved again: {words}. Rejected: {len(rejected)}.",
                "status",
            )
        )
        items += [Item(f"{clipped(each.path.name)}: {clipped(each.message)}", "-") for each in rejected[:_MOST]]
    else:
        words = f"READ ONLY. {kinds.total()} records are well-formed and their digests fit, but nothing was proved"
        items.append(Item(f"{words} just now: this page repeats what they say. --check proves them again.", "status"))
        if unreadable:
            items.append(Item(f"{len(unreadable)} are no certificates, or were altered:"))
            items += bullets(unreadable[:_MOST])
    return tuple(items)


def _arithmetic(record: Certificate) -> str:
    return f"every execution in {record.semantics['arithmetic']}" if record.is_deployed else "real arithmetic"


def _models(owners: Counter[tuple[str, str]]) -> tuple[Item, ...]:
    rows = [
        Item(f"{clipped(name)}, sha256 {sha256[:16]}...: {count} certificates", "-")
        for (name, sha256), count in owners.most_common(_MOST)
    ]
    return tuple([*rows, Item(f"{len(owners) - _MOST} more", "-")] if len(owners) > _MOST else rows)


def _examples(examples: Sequence[tuple[Store, str, Certificate]], path: Path) -> tuple[Item, ...]:
    items = [Item(f"{clipped(name)}: {claim_items(record)[0].text}", record.kind) for _, name, record in examples]
    if examples:
        name = shlex.quote(clipped(examples[-1][1]))
        items.append(Item("The page about one of them:"))
        items.append(Item(f"certlip explain {shlex.quote(_file(str(path)))} --name {name}", "$"))
    return tuple(items)
