"""What a VNN-LIB file declares: the entries of one input and one output, by the names that constraints use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from certlip.properties.linear import Linear, Refused, Variable
from certlip.properties.sexpressions import Atom

MAX_ENTRIES = 2**24
MAX_DIMENSIONS = 32

_FLAT = re.compile(r"(?P<kind>[XY])_(?P<index>0|[1-9][0-9]{0,7})")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NATURAL = r"\s*(?:0|[1-9][0-9]{0,7})\s*"
_INDEX = re.compile(rf"\[(?:{_NATURAL}(?:,{_NATURAL})*|\s*)\]")
_ONE = Fraction(1)


class FlatNames:
    """VNN-LIB 1.0: X_0, X_1, ... and Y_0, Y_1, ..., one declaration each, in row-major order."""

    def __init__(self) -> None:
        self._declared: dict[str, tuple[Variable, int]] = {}
        """By name, with the place of the declaration."""

    def declare(self, name: Atom, kind: Atom) -> None:
        found = _FLAT.fullmatch(name.text)
        if found is None:
            raise Refused(f"{name} is no name of an input or output; certlip reads X_0, X_1, ... and Y_0, Y_1, ...")
        if kind.text != "Real":
            raise Refused(f"{name} is declared as {kind}; certlip reads properties of real numbers, declare it as Real")
        if name.text in self._declared:
            raise Refused(f"{name} is declared twice; remove one of the declarations")
        self._declared[name.text] = (found["kind"], int(found["index"])), name.at

    def find(self, name: Atom, index: Atom | None) -> Linear | None:
        known = self._declared.get(name.text)
        if known is None:
            return None
        if index is not None:
            raise Refused(f"{name} has no index {index}; indices in brackets belong to VNN-LIB 2.0")
        return Linear({known[0]: _ONE})

    def sizes(self) -> tuple[int, int]:
        inputs, outputs = (self._count(kind) for kind in "XY")
        return inputs, outputs

    def _count(self, kind: str) -> int:
        indices = {index for (found, index), _ in self._declared.values() if found == kind}
        if not indices:
            raise Refused(f"{kind}_0 is not declared; declare every {'input' if kind == 'X' else 'output'}")
        missing = next((i for i in range(len(indices)) if i not in indices), None)
        if missing is not None:
            raise Refused(f"{kind}_{missing} is not declared, but {kind}_{max(indices)} is; declare them without gaps")
        return len(indices)

    def input_name(self, index: int) -> tuple[str, int]:
        """How the text calls an input, and where it declares it."""
        return f"X_{index}", self._declared[f"X_{index}"][1]


@dataclass(frozen=True)
class Tensor:
    """`(declare-input NAME Real SHAPE)` or `(declare-output NAME Real SHAPE)`."""

    kind: str
    name: Atom
    shape: tuple[int, ...]

    @staticmethod
    def of(kind: str, name: Atom, element: Atom, shape: Atom) -> Tensor:
        _check_name(name)
        if element.text not in ("Real", "real"):
            raise Refused(
                f"{name} is declared as {element}; certlip reads properties of real numbers, declare it as Real"
            )
        sizes = _naturals(shape)
        if len(sizes) > MAX_DIMENSIONS or not 0 < prod(sizes) <= MAX_ENTRIES:
            raise Refused(f"the shape {shape} of {name} does not have between 1 and {MAX_ENTRIES} entries; correct it")
        return Tensor(kind, name, sizes)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def entry(self, index: tuple[int, ...]) -> int:
        """The row-major position of an index. Raises Refused unless it has all dimensions and lies inside."""
        if len(index) != len(self.shape):
            raise Refused(
                f"{self.name} has {len(self.shape)} dimensions, the index {len(index)}; write one number for each"
            )
        flat = 0
        for i, n in zip(index, self.shape, strict=True):
            if i >= n:
                raise Refused(f"the index {list(index)} lies outside of {self.name}; its shape is {list(self.shape)}")
            flat = flat * n + i
        return flat


class NetworkNames:
    """VNN-LIB 2: the entries of one input tensor and one output tensor of one network, by index."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def declare(self, network: Atom, parts: list[object]) -> None:
        _check_name(network)
        if self._tensors:
            raise Refused("a second network is declared; certlip reads properties of one network")
        if [part.kind if isinstance(part, Tensor) else None for part in parts] != ["X", "Y"]:
            raise Refused(
                f"the network {network} does not declare just one input and then one output; certlip reads no others"
            )
        self._tensors = {part.name.text: part for part in parts if isinstance(part, Tensor)}
        if len({network.text, *self._tensors}) < 3:
            raise Refused("the network, its input and its output share a name; give each its own")

    def find(self, name: Atom, index: Atom | None) -> Linear | None:
        tensor = self._tensors.get(name.text)
        if tensor is None:
            return None
        if index is not None and not tensor.shape:
            raise Refused(f"{name} is a single number; write it without {index}")
        return Linear({(tensor.kind, tensor.entry(() if index is None else _naturals(index))): _ONE})

    def sizes(self) -> tuple[int, int]:
        if not self._tensors:
            raise Refused("no network is declared; begin with (declare-network ...)")
        inputs, outputs = (tensor.size for tensor in self._tensors.values())
        return inputs, outputs

    def input_name(self, index: int) -> tuple[str, int]:
        """How the text calls an input, and where it declares it."""
        tensor = next(iter(self._tensors.values()))
        places = []
        for n in reversed(tensor.shape):
            index, place = divmod(index, n)
            places.append(str(place))
        name = tensor.name.text[:40]
        return (f"{name}[{','.join(reversed(places))}]" if places else name), tensor.name.at


def _check_name(name: Atom) -> None:
    if _NAME.fullmatch(name.text) is None:
        raise Refused(f"{name} is no name; names start with a letter and hold letters, digits and underscores")


def _naturals(index: Atom) -> tuple[int, ...]:
    if not index.is_index or _INDEX.fullmatch(index.text) is None:
        raise Refused(f"{index} is no list of sizes or indices; write it like [1,3]")
    return tuple(int(digits) for digits in re.findall("[0-9]+", index.text))
