"""ONNX model to Graph: choose input and output, fold constants, lower each node by the table of its operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from certlip.errors import ModelError, UnsupportedModel, UnsupportedNode, UsageError
from certlip.graph import Graph
from certlip.onnx_reader.builder import Builder, Call, Item, NotLowered, Value
from certlip.onnx_reader.constants import Budget, evaluate, widen
from certlip.onnx_reader.decisions import compares_all, strip_decision
from certlip.onnx_reader.files import ModelFile, tensor_array
from certlip.onnx_reader.hints import HINTS, NO_HINT
from certlip.onnx_reader.lowering import LOWERINGS
from certlip.onnx_reader.lowering.movement import MOVES
from certlip.onnx_reader.patterns import fuse_activations

_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}
_OLDEST = 7
_SOURCES = {"Constant", "RandomNormal", "RandomUniform", "If", "Loop"}  # operators without inputs
_MALFORMED = (TypeError, IndexError, KeyError, ArithmeticError, AttributeError)


@dataclass(frozen=True, eq=False)
class Reading:
    """A graph and where the file's values are in it: for each index, the names that the file gives to that value."""

    graph: Graph
    names: Mapping[int, tuple[str, ...]]


def read_graph(file: ModelFile, input_name: str | None = None, output_name: str | None = None) -> Graph:
    """The graph of a model; see `read`."""
    return read(file, input_name, output_name).graph


def read(
    file: ModelFile,
    input_name: str | None = None,
    output_name: str | None = None,
    *,
    native_constants: bool = False,
) -> Reading:
    """Lower a model. A dynamic leading dimension becomes a batch of one.

    native_constants: fold constant subgraphs in their stored precision, as a runtime would; the import check
    compares both readings. Raises UsageError where several inputs or outputs leave a choice, UnsupportedModel with
    every node that has no lowering, ModelError for anything malformed.
    """
    model = file.proto
    opset = opset_of(model)
    ends = choose_ends(model, input_name, output_name)
    input_shape = input_shape_of(ends.source)
    constants = _initial_constants(model)
    try:
        nodes = needed(fuse_activations(list(model.graph.node), constants), ends.certified)
    except _MALFORMED as error:
        raise ModelError(f"a node of the model is malformed ({error}); export it again") from error
    builder = Builder(input_shape, notes=list(ends.notes))
    items: dict[str, Item | None] = {**constants, ends.source.name: Value(0, input_shape), "": None}
    others = {entry.name for entry in inputs(model)} - {ends.source.name}
    refused: list[UnsupportedNode] = []
    budget = Budget()
    poisoned: set[str] = set()
    for node in nodes:
        outside = others.intersection(node.input)
        if outside:
            raise UsageError(
                f"the output '{ends.output}' depends on another input, '{min(outside)}'; certlip reads one input, "
                "export the model with the others frozen"
            )
        try:
            if poisoned.intersection(node.input):
                _require_lowering(node)
                poisoned.update(node.output)
                continue
            for name, item in _lower(node, opset, items, builder, budget, native_constants):
                items[name] = item
        except (NotLowered, ValueError, *_MALFORMED) as error:
            hint = f"malformed ({type(error).__name__}: {error})" if isinstance(error, _MALFORMED) else str(error)
            hint = " ".join(hint.split())[:300]
            refused.append(UnsupportedNode(node.name or node.output[0], _operator(node), opset, hint))
            poisoned.update(node.output)
    if refused:
        raise UnsupportedModel(refused)
    result = items.get(ends.certified)
    if not isinstance(result, Value):
        raise ModelError(
            f"the output '{ends.output}' does not depend on the input '{ends.source.name}'; choose another"
        )
    partial = [node for node in ends.decisions if not compares_all(node, result.shape, opset)]
    if partial:
        hint = f"it does not compare all outputs of shape {result.shape} with each other; end the model in its logits"
        raise UnsupportedModel(
            [UnsupportedNode(node.name or node.output[0], _operator(node), opset, hint) for node in partial]
        )
    graph, order = builder.finish(result)
    _require_finite(graph)
    names: dict[int, tuple[str, ...]] = {}
    for name, known in items.items():
        if isinstance(known, Value) and known.index in order:
            names[order[known.index]] = (*names.get(order[known.index], ()), name)
    if result.index == 0:  # finish() put an identity behind the input
        names[len(graph.nodes)] = (ends.certified,)
    return Reading(graph, names)


@dataclass(frozen=True)
class Ends:
    """The chosen input, the chosen output's name, and the value whose claims are made: the logits before a decision."""

    source: onnx.ValueInfoProto
    output: str
    certified: str
    decisions: tuple[onnx.NodeProto, ...]
    notes: tuple[str, ...]


def choose_ends(model: onnx.ModelProto, input_name: str | None, output_name: str | None) -> Ends:
    """Resolve names; UsageError where there is a choice or the name does not exist."""
    source = _choose(inputs(model), input_name, "input")
    target = _choose(list(model.graph.output), output_name, "output")
    for node in model.graph.node:
        if not node.output or (not node.input and node.op_type not in _SOURCES):
            raise ModelError(f"node '{node.name}' lacks inputs or outputs; the file is malformed, export it again")
    certified, decisions, notes = strip_decision(list(model.graph.node), target.name)
    return Ends(source, target.name, certified, tuple(decisions), tuple(notes))


def inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that are not just names of initializers (old files list those too)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in stored]


def opset_of(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(versions, default=1)
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opset <= newest:
        raise ModelError(
            f"the model uses operator set {opset}, certlip reads {_OLDEST} to {newest}; convert it with "
            "onnx.version_converter or upgrade the onnx package"
        )
    return opset


def _choose(entries: list[onnx.ValueInfoProto], name: str | None, what: str) -> onnx.ValueInfoProto:
    names = [entry.name for entry in entries]
    if not all(isinstance(entry, str) for entry in names):  # protobuf hands over broken text as bytes
        raise ModelError(f"an {what} of the model has a name that is not text; the file is damaged, export it again")
    if name is not None:
        if name not in names:
            raise UsageError(f"the model has no {what} '{name}'; it has {', '.join(names)}")
        return entries[names.index(name)]
    if len(entries) != 1:
        raise UsageError(f"the model has {len(entries)} {what}s ({', '.join(names)}); choose with --{what}-name")
    return entries[0]


def input_shape_of(entry: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Declared shape with a batch of one where the first dimension is dynamic."""
    tensor = entry.type.tensor_type
    if tensor.elem_type not in _FLOATS:
        raise ModelError(f"the input '{entry.name}' is not floating-point; certlip perturbs real numbers only")
    if not tensor.HasField("shape"):
        raise ModelError(f"the input '{entry.name}' has no declared shape; export the model with one")
    shape = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
    if shape and shape[0] <= 0:
        shape[0] = 1
    if any(n <= 0 for n in shape):
        raise ModelError(f"the input '{entry.name}' has dynamic dimensions besides the batch; export them fixed")
    if np.prod(shape, dtype=float) > 2**26:
        raise ModelError(f"the input '{entry.name}' of shape {tuple(shape)} is larger than certlip reads")
    return tuple(shape)


def _initial_constants(model: onnx.ModelProto) -> dict[str, Item | None]:
    return {tensor.name: tensor_array(tensor) for tensor in model.graph.initializer}


def needed(nodes: list[onnx.NodeProto], target: str) -> list[onnx.NodeProto]:
    """Nodes that lead to the target, in the file's order, which must be topological."""
    wanted, kept = {target}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(name for name in node.input if name)
            kept.append(node)
    return kept[::-1]


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _require_lowering(node: onnx.NodeProto) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise NotLowered("certlip reads the standard operators only; export without custom ones")
    if node.op_type not in LOWERINGS and node.op_type not in ("Shape", "Size", "Constant"):
        raise NotLowered(HINTS.get(node.op_type, NO_HINT))


def _lower(
    node: onnx.NodeProto,
    opset: int,
    items: Mapping[str, Item | None],
    builder: Builder,
    budget: Budget,
    native: bool,
) -> list[tuple[str, Item]]:
    missing = [name for name in node.input if name not in items]
    if missing:
        raise ModelError(f"node '{node.name}' reads '{missing[0]}' before it is computed; the file is malformed")
    arguments = tuple(items[name] for name in node.input)
    if node.domain in ("", "ai.onnx") and node.op_type in ("Shape", "Size") and isinstance(arguments[0], Value):
        arguments = (np.broadcast_to(np.zeros(()), arguments[0].shape),)
    if not any(isinstance(item, Value) for item in arguments) and node.domain in ("", "ai.onnx"):
        if node.op_type not in _EXACT:
            _note_folding(builder, arguments)
        stored = [item if isinstance(item, np.ndarray) else None for item in arguments]
        outputs = evaluate(node, opset, stored, budget, native)
        return list(zip([name for name in node.output if name], outputs, strict=True))
    _require_lowering(node)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    constants = tuple(widen(item) if isinstance(item, np.ndarray) else item for item in arguments)
    results = LOWERINGS[node.op_type](Call(node, opset, constants, attributes, builder))
    results = results if isinstance(results, list) else [results]
    return list(zip(filter(None, node.output), results, strict=False))  # nothing is computed for one without a name


_EXACT = {"Shape", "Size", "Identity", "Cast", "Dropout", "Concat", *MOVES}  # folding these rounds nothing
FOLDED = "constant subgraphs were folded in binary64 by ONNX's reference operators; the claim is about the result"


def _note_folding(builder: Builder, arguments: Iterable[Item | None]) -> None:
    if any(isinstance(item, np.ndarray) and item.dtype.kind == "f" for item in arguments):
        builder.notes.append(FOLDED)


def _require_finite(graph: Graph) -> None:
    for node in graph.nodes:
        for item in vars(node.operator).values():
            centre = getattr(item, "mid", None)
            if centre is not None and not (np.isfinite(centre).all() and np.isfinite(item.rad).all()):
                raise ModelError(f"node '{node.name}' has NaN or infinite weights; retrain it")
