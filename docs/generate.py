"""Write the reference pages from the code: `python -m docs.generate`.

`cli.md` is written as a whole from the command line itself. In the other pages the text is written by hand and only
what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is replaced: tables of the registered certifiers, of
the operators that the ONNX reader lowers, and of the fields that the JSON Schemas in `specs/` describe.
Running it twice changes nothing.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

DOCS = Path(__file__).parent
SPECS = DOCS.parent / "specs"
NOTICE = "<!-- Written by `python -m docs.generate` (`make docs`); changes by hand are lost. -->"
WIDTH = 100


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`"


# ---------------------------------------------------------------- command line


def cli_page() -> str:
    from certlip.cli.exit_codes import EXIT_CODES
    from certlip.cli.main import main

    parts = [
        "# Command line",
        NOTICE,
        "Results go to stdout, errors and progress to stderr. `--json` prints one JSON object, `--jsonl` one for each "
        "result as it comes ([json.md](json.md)). "
        "Bounds are printed rounded up, radii and margins rounded down.",
        "## Commands",
        table(
            ("command", "what it does"),
            [(f"[certlip {name}](#certlip-{name})", first_sentence(command)) for name, command in commands()],
        ),
        "## Exit codes",
        fenced(EXIT_CODES.replace("\b\n", "")),
        "## certlip",
        fenced(help_text(main, "certlip")),
    ]
    for name, command in commands():
        parts += [f"## certlip {name}", fenced(help_text(command, f"certlip {name}")), option_table(command)]
    return "\n\n".join(parts) + "\n"


def commands() -> list[tuple[str, click.Command]]:
    from certlip.cli.main import main

    return sorted(main.commands.items())


def first_sentence(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").split("\n\n")[0]


def help_text(command: click.Command, name: str) -> str:
    context = click.Context(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=["-h", "--help"]
    )
    return command.get_help(context)


def fenced(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def option_table(command: click.Command) -> str:
    rows = []
    for option in command.params:
        if isinstance(option, click.Option):
            rows.append((", ".join(map(code, option.opts)), value_of(option), default_of(option), option.help or ""))
        else:
            needed = "required" if option.required else ""
            rows.append((code(option.make_metavar(click.Context(command))), "argument", needed, ""))
    return table(("option", "value", "default", "meaning"), rows)


def value_of(option: click.Option) -> str:
    if option.is_flag:
        return "flag"
    if isinstance(option.type, click.Choice):
        return " or ".join(map(code, option.type.choices))
    return code(option.metavar or {"integer range": "N"}.get(option.type.name, "NAME"))


def default_of(option: click.Option) -> str:
    if option.required:
        return "required"
    if option.multiple:
        return "repeatable"
    if not option.show_default:
        return ""
    return code(f"{option.default:g}" if isinstance(option.default, float) else option.default)


# ---------------------------------------------------------------- certifiers


def method_table() -> str:
    from certlip.lipschitz import certifiers
    from certlip.verification.plan import LINEAR_METHODS

    own = [c for c in certifiers().values() if type(c).__module__.startswith("certlip.")]  # not those of plug-ins
    rows = [
        (
            code(c.name),
            "auto and all" if c.in_auto else "when named" if c.is_reference else "all",
            code(c.theorem),
            c.summary,
            c.when,
        )
        for c in own
    ]
    linear = LINEAR_METHODS.items()
    rows += [(code(name), "auto and all", code("branches"), what, when) for name, (what, when) in linear]
    return table(("method", "runs with", "theorem", "what it is", "use it"), rows)


def repair_table() -> str:
    from certlip.repairs.method import methods

    rows = [(code(m.name), "auto" if m.in_auto else "when named", m.summary) for m in methods().values()]
    return table(("method", "runs with", "what it does"), rows)


# ---------------------------------------------------------------- operators


@dataclass(frozen=True)
class Case:
    """One node to read: its inputs ("x" is the network's input, arrays are constants) and its attributes."""

    inputs: Sequence[Any] = ("x",)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    shape: tuple[int, ...] = (1, 2, 4, 4)
    outputs: int = 1


def integers(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def floats(*shape: int) -> np.ndarray:
    return np.full(shape, 3.0, np.float32)


_PAIR = (Case(("x", "x"), label="of branches"), Case(("x", floats(1)), label="with a constant"))
_AXES = (Case(("x", integers(1))),)
_WINDOW = {"kernel_shape": [2, 2]}
_CHANNELS = tuple(np.full(2, value, np.float32) for value in (3, 0, 0, 1))

CASES: Mapping[str, Sequence[Case]] = {
    "Add": _PAIR,
    "AveragePool": (Case(attributes=_WINDOW),),
    "BatchNormalization": (Case(("x", *_CHANNELS)),),
    "Cast": (Case(attributes={"to": TensorProto.FLOAT}),),
    "Celu": (Case(attributes={"alpha": 3.0}),),
    "Clip": (Case(("x", np.float32(0), np.float32(1))),),
    "Concat": (Case(("x", "x"), {"axis": 1}),),
    "Conv": (Case(("x", floats(3, 2, 3, 3))),),
    "ConvTranspose": (Case(("x", floats(2, 3, 3, 3))),),
    "DepthToSpace": (Case(attributes={"blocksize": 2}, shape=(1, 4, 2, 2)),),
    "Div": (Case(("x", floats(1)), label="by a constant"),),
    "Expand": (Case(("x", integers(3, 2, 4, 4))),),
    "Gather": (Case(("x", integers(1)), {"axis": 1}),),
    "GatherElements": (Case(("x", np.zeros((1, 2, 4, 4), np.int64)), {"axis": 1}),),
    "GatherND": (Case(("x", np.array([[0, 1]], np.int64))),),
    "Gelu": (Case(label="exact"), Case(attributes={"approximate": "tanh"}, label="tanh form")),
    "Gemm": (Case(("x", floats(4, 3), floats(3)), shape=(1, 4)),),
    "MatMul": (Case(("x", floats(4, 3)), shape=(1, 4)),),
    "Max": _PAIR,
    "MaxPool": (Case(attributes=_WINDOW),),
    "Mean": (Case(("x", "x")),),
    "Min": _PAIR,
    "Mul": (Case(("x", floats(1)), label="by a constant"),),
    "PRelu": (Case(("x", floats(2, 1, 1))),),
    "Pad": (
        Case(("x", integers(0, 0, 1, 1, 0, 0, 1, 1)), label="constant"),
        Case(("x", integers(0, 0, 1, 1, 0, 0, 1, 1)), {"mode": "reflect"}, label="other modes"),
    ),
    "ReduceMax": _AXES,
    "ReduceMean": _AXES,
    "ReduceMin": _AXES,
    "ReduceSum": _AXES,
    "Reshape": (Case(("x", integers(1, -1))),),
    "Slice": (Case(("x", integers(0), integers(2), integers(3))),),
    "SpaceToDepth": (Case(attributes={"blocksize": 2}),),
    "Split": (Case(attributes={"axis": 1, "num_outputs": 2}, outputs=2),),
    "Squeeze": (Case(("x", integers(0))),),
    "Sub": _PAIR,
    "Sum": (Case(("x", "x")),),
    "Swish": (Case(attributes={"alpha": 3.0}),),
    "Tile": (Case(("x", integers(1, 2, 1, 1))),),
    "TopK": (Case(("x", integers(3)), outputs=2),),
    "Unsqueeze": (Case(("x", integers(0))),),
}
"""How to show each operator; those not listed need one input and no attributes."""


def operator_table() -> str:
    from certlip.onnx_reader.lowering import LOWERINGS

    rows = []
    for operator in sorted(name for name in LOWERINGS if "." not in name):
        for case in CASES.get(operator, (Case(),)):
            kinds, names = lowered(operator, case)
            rows.append((code(operator), case.label, kinds, names))
    return table(("ONNX operator", "case", "kind", "becomes"), rows)


def lowered(operator: str, case: Case) -> tuple[str, str]:
    """Kinds and certlip operators that one node becomes, found by reading a model that consists of it."""
    from certlip.onnx_reader import parse, read_graph

    constants = {f"c{i}": item for i, item in enumerate(case.inputs) if not isinstance(item, str)}
    names = [item if isinstance(item, str) else f"c{i}" for i, item in enumerate(case.inputs)]
    outputs = [f"y{i}" for i in range(case.outputs)]
    nodes = [helper.make_node(operator, names, outputs, **case.attributes), helper.make_node("Relu", ["y0"], ["end"])]
    graph = helper.make_graph(
        nodes,
        operator,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.shape)],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opset = 24 if operator == "Swish" else 20
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found = [node.operator for node in read_graph(parse(model.SerializeToString())).nodes[:-1]]
    unique = list(dict.fromkeys(type(operator) for operator in found))
    return (
        ", ".join(dict.fromkeys(map(kind_of, unique))) or "none",
        ", ".join(code(cls.__name__) for cls in unique) or "nothing: its input passes through",
    )


def kind_of(cls: type) -> str:
    from certlip.graph import Affine, Merge, Pointwise

    return next(kind.__name__.lower() for kind in (Affine, Pointwise, Merge) if issubclass(cls, kind))


def class_table() -> str:
    from certlip import ops

    classes = sorted((getattr(ops, name) for name in ops.__all__), key=lambda cls: (kind_of(cls), cls.__name__))
    return table(
        ("operator", "kind", "what it computes"),
        [(code(cls.__name__), kind_of(cls), paragraph(cls)) for cls in classes],
    )


def paragraph(item: object) -> str:
    return (inspect.getdoc(item) or "").split("\n\n")[0]


def refusal_table() -> str:
    from certlip.onnx_reader.hints import HINTS

    by_hint: dict[str, list[str]] = {}
    for operator, hint in HINTS.items():
        by_hint.setdefault(hint, []).append(operator)
    rows = [(", ".join(map(code, sorted(names))), hint) for hint, names in by_hint.items()]
    return table(("operators", "what certlip says"), sorted(rows))


# ---------------------------------------------------------------- JSON


def schema(name: str) -> dict[str, Any]:
    return json.loads((SPECS / f"{name}.schema.json").read_text())


def output_fields() -> str:
    """One section for each command with --json, and one for each structure that several share."""
    names = [path.name.removesuffix(".schema.json") for path in SPECS.glob("*.schema.json")]
    sections, shared = [], {}
    for name in (name for command, _ in commands() for name in sorted(names) if name.partition("-")[0] == command):
        document = schema(name)
        title = document["title"].removesuffix(" --json")
        sections += [f"### {title}", f"{document['description']} Schema: `specs/{name}.schema.json`."]
        definitions = document.get("$defs", {})
        sections.append(field_table(document, definitions))
        shared |= {key: (entry, definitions) for key, entry in definitions.items() if "properties" in entry}
    for key, (entry, definitions) in sorted(shared.items()):
        sections += [f"### {key}", f"{capital(entry['description'])}.", field_table(entry, definitions)]
    return "\n\n".join(sections)


def certificate_fields() -> str:
    document = schema("certificate")
    definitions = document["$defs"]
    sections = [field_table(document, definitions)]
    for name in ("semantics", "ball", "domain", "pairs", "branches"):
        sections.append(f"**{name}**: {definitions[name]['description']}.")
        sections.append(field_table(definitions[name], definitions))
    for kind in ("lipschitz", "robustness", "radius", "tolerance", "falsification", "property", "violation"):
        sections.append(f"**{kind}**: {definitions[f'{kind}_statement']['description']}.")
        rows = [*rows_of(definitions[f"{kind}_statement"], definitions, "statement.")]
        rows += rows_of(definitions[f"{kind}_witness"], definitions, "witness.")
        sections.append(table(FIELD, rows))
    return "\n\n".join(sections)


FIELD = ("field", "type", "meaning")


def field_table(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return table(FIELD, rows_of(entry, definitions))


def rows_of(
    entry: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    for name, value in entry.get("properties", {}).items():
        target = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        yield code(prefix + name), type_of(value, definitions), value.get("description", target.get("description", ""))
        inner = value.get("items", value)
        yield from rows_of(inner, definitions, f"{prefix}{name}{'[]' if 'items' in value else ''}.")


NAMED = ("sha256", "rational", "positive", "number", "output")
"""Definitions without fields of their own to list, that are better named than spelled out."""


def type_of(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The type in words; a reference to a structure is named by it."""
    if "const" in value:
        return code(json.dumps(value["const"]))
    if "enum" in value:
        return " or ".join(map(code, value["enum"]))
    if "$ref" in value:
        name = value["$ref"].removeprefix("#/$defs/")
        target = definitions[name]
        return name if name in NAMED or "properties" in target else type_of(target, definitions)
    if "anyOf" in value:
        return " or ".join(type_of(entry, definitions) for entry in value["anyOf"])
    kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
    if kinds == ["array"]:
        return f"array of {type_of(value['items'], definitions)}"
    return " or ".join(kinds)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- pages

PARTS = {
    "methods.md": {"methods": method_table},
    "repair.md": {"repairs": repair_table},
    "operators.md": {"operators": operator_table, "classes": class_table, "refusals": refusal_table},
    "json.md": {"fields": output_fields},
    "certificates.md": {"fields": certificate_fields},
}


def filled(text: str, name: str, content: str) -> str:
    """The page with what stands between the two markers replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the markers of '{name}' must each stand on the page once")
    return re.sub(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL
    )


def pages() -> dict[str, str]:
    """Every generated page by its file name, as it should be."""
    texts = {"cli.md": cli_page()}
    for page, parts in PARTS.items():
        text = (DOCS / page).read_text()
        for name, make in parts.items():
            text = filled(text, name, make())
        texts[page] = text
    return texts


def main() -> None:
    for name, text in pages().items():
        path = DOCS / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
