"""VNN-LIB property files, versions 1.0 and 2: the text of a file becomes a `Property`, or it is refused.

Whatever could be read in two ways is refused: a property that is misread would be proved, and prove nothing.

A file is a list of commands. The first is `(vnnlib-version <2.N>)`, or else the file is VNN-LIB 1.0:

    1.0   (declare-const X_0 Real)                             (assert FORMULA)
    2     (declare-network N (declare-input X Real [1,3])
                             (declare-output Y Real [1,2]))    (assert FORMULA)

    FORMULA   (and FORMULA ...)  (or FORMULA ...)  (<= TERM TERM), likewise < >= > = == !=
    TERM      NUMBER  VARIABLE  (+ TERM ...)  (- TERM ...)  (* TERM ...)  (/ TERM CONSTANT ...)

with VARIABLE such as X_0 in 1.0 and X[0,2] in 2. Comments run from ';' to the end of the line.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

from certlip.errors import PropertyError
from certlip.properties.cases import Constraints, Formula, Unbounded
from certlip.properties.linear import Linear, Refused, difference, number, product, quotient, total
from certlip.properties.property import Property
from certlip.properties.sexpressions import Atom, Source, fold
from certlip.properties.variables import FlatNames, NetworkNames, Tensor
from certlip.regular_files import TooLarge, read_regular

MAX_BYTES = 2**28
"""Largest property file, uncompressed."""

_ARITHMETIC = {"+": total, "-": difference, "*": product, "/": quotient}
_COMPARISONS = ("<=", ">=", "<", ">", "=", "==", "!=")
_COMMANDS = ("vnnlib-version", "declare-const", "declare-network", "assert")
_DECLARATIONS = {"declare-input": "X", "declare-output": "Y"}
_FORMULAS = ("and", "or", *_COMPARISONS, *_ARITHMETIC)
_OPERATORS = {*_FORMULAS, *_COMMANDS, *_DECLARATIONS}
_REFUSED = {
    "declare-hidden": "a hidden tensor is declared; certlip reads properties of inputs and outputs only",
    "equal-to": "the network is declared equal to another; certlip reads properties of one network",
    "isomorphic-to": "the network is declared isomorphic to another; certlip reads properties of one network",
}
_LONG = 2**9
"""Bits of a number that counts as so many steps of work, since its arithmetic takes long."""
_VERSION = re.compile(r"<2\.[0-9]{1,4}>")


def read_property(path: Path) -> Property:
    """The property in a VNN-LIB file, which may be gzip-compressed. Raises PropertyError."""
    return parse_property(property_text(path), str(path))


def property_text(path: Path) -> str:
    """The uncompressed text of a property file, whose sha256 identifies it. Raises PropertyError."""
    try:
        data = read_regular(path, MAX_BYTES)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TooLarge
    except TooLarge as error:
        raise PropertyError(f"the property {path} exceeds {MAX_BYTES} bytes; split it") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PropertyError(f"the property {path} is not a complete gzip file; copy it again") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise PropertyError(f"cannot read the property {path}: {reason}; check the path") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = Source(data[: error.start].decode(), str(path))
        raise before.error(error.start, "the text is not UTF-8; save it as UTF-8") from error


def parse_property(text: str, name: str) -> Property:
    """The property that a text describes; `name` is what messages call the text.

    The unsafe set is the union of the cases, as the text has it: x lies in it if and only if all assertions hold.
    Raises PropertyError, which names line and column, for whatever is malformed, not linear or not supported.
    """
    source = Source(text, name)
    reader = _Reader(source)
    fold(source, reader.reduce)
    return reader.property()


class _Reader:
    """Gives each expression its meaning, once those inside it have theirs."""

    def __init__(self, source: Source):
        self._source = source
        self._names: FlatNames | NetworkNames = FlatNames()
        self._constraints = Constraints()
        self._commands = 0

    def property(self) -> Property:
        """What the commands say together."""
        if not self._commands:
            raise self._source.error(0, "the file is empty; a property declares inputs and outputs and asserts bounds")
        end = len(self._source.text.rstrip())
        try:
            return self._constraints.property(*self._names.sizes())
        except Unbounded as error:
            name, at = self._names.input_name(error.index)
            example = f"({'<=' if error.end == 'upper' else '>='} {name} 0.5)"
            sentence = f"input {name} has no {error.end} bound in one of the cases; assert one, such as {example}"
            raise self._source.error(at, sentence) from error
        except Refused as error:
            raise self._source.error(end, str(error)) from error

    def reduce(self, parts: list[object], at: int, depth: int) -> object:
        """The value of an expression: a formula, a term or a declaration; None for a command."""
        head = parts[0] if parts else None
        if not isinstance(head, Atom):
            raise self._source.error(at, "no operator stands after this parenthesis; write one, such as (<= X_0 1.0)")
        try:
            if head.text not in _OPERATORS:
                hint = f"{head} is no operator that certlip reads; write the formula with {' '.join(_FORMULAS)}"
                raise Refused(_REFUSED.get(head.text, hint))
            if (head.text in _COMMANDS) != (depth == 0):
                place = "inside of a command" if depth == 0 else "outside of all parentheses"
                raise Refused(f"{head} stands here, but belongs {place}; check the parentheses")
            return self._value(head, parts[1:])
        except Refused as error:
            raise self._source.error(at, str(error)) from error

    def _value(self, head: Atom, parts: list[object]) -> object:
        operator = head.text
        if operator in _COMPARISONS:
            return self._comparison(operator, self._terms(head, parts))
        if operator in _ARITHMETIC:
            term = _ARITHMETIC[operator](self._terms(head, parts))
            self._constraints.spend(len(term.terms))
            return term
        if operator == "and":
            return self._constraints.conjunction(_formulas(head, parts))
        if operator == "or":
            return self._constraints.disjunction(_formulas(head, parts))
        if operator in _DECLARATIONS:
            return self._tensor(head, parts)
        self._command(head, parts)
        self._commands += 1
        return None

    def _command(self, head: Atom, parts: list[object]) -> None:
        if head.text == "assert":
            formulas = _formulas(head, parts)
            if len(formulas) != 1:
                raise Refused("'assert' needs one formula; join several by 'and'")
            self._constraints.require(formulas[0])
        elif head.text == "declare-const":
            self._flat(head).declare(*_atoms(head, parts, "a name and a type, such as X_0 Real", 2))
        elif head.text == "declare-network":
            if not parts or not isinstance(parts[0], Atom):
                raise Refused("'declare-network' needs a name first; write one")
            self._network(head).declare(parts[0], parts[1:])
        else:
            (version,) = _atoms(head, parts, "one version, such as <2.0>", 1)
            if _VERSION.fullmatch(version.text) is None or self._commands:
                raise Refused(f"{version} is no <2.0> in the first command; files of version 1.0 name no version")
            self._names = NetworkNames()

    def _flat(self, head: Atom) -> FlatNames:
        if isinstance(self._names, FlatNames):
            return self._names
        raise Refused(f"{head} belongs to VNN-LIB 1.0, but the file is version 2; use declare-network")

    def _network(self, head: Atom) -> NetworkNames:
        if isinstance(self._names, NetworkNames):
            return self._names
        raise Refused(f"{head} belongs to VNN-LIB 2; begin the file with (vnnlib-version <2.0>)")

    def _tensor(self, head: Atom, parts: list[object]) -> Tensor:
        self._network(head)
        if len(parts) == 4:
            raise Refused(f"{head} names a tensor of the model file; leave that out, there is only one")
        return Tensor.of(_DECLARATIONS[head.text], *_atoms(head, parts, "a name, a type and a shape", 3))

    def _comparison(self, operator: str, terms: list[Linear]) -> Formula:
        if len(terms) != 2:
            raise Refused(f"'{operator}' compares two terms, but has {len(terms)}; write one comparison for each pair")
        left, right = terms
        if operator[0] == ">":
            left, right = right, left
        if operator[0] in "<>":
            return self._constraints.at_most(left, right, strict=len(operator) == 1)
        strict, join = operator == "!=", self._constraints.conjunction
        if strict:
            join = self._constraints.disjunction
        return join([self._constraints.at_most(*pair, strict=strict) for pair in ((left, right), (right, left))])

    def _terms(self, head: Atom, parts: list[object]) -> list[Linear]:
        """The operands as linear expressions; in VNN-LIB 2 an index follows the name that it belongs to."""
        if not parts:
            raise Refused(f"{head} has no operands; write them after it")
        terms: list[Linear] = []
        before: Atom | None = None  # a name or number that the index after it may belong to
        for part in [*parts, None]:
            if isinstance(part, Atom) and part.is_index:
                if before is None:
                    raise self._source.error(part.at, f"the index {part} follows no name; write it like X[0,1]")
                terms.append(self._term(before, part))
                before = None
                continue
            if before is not None:
                terms.append(self._term(before, None))
            before = part if isinstance(part, Atom) else None
            if isinstance(part, Linear):
                terms.append(part)
            elif not (part is None or isinstance(part, Atom)):
                raise Refused(f"{head} takes numbers, but has a formula as operand; check the parentheses")
        return terms

    def _term(self, atom: Atom, index: Atom | None) -> Linear:
        try:
            term = self._names.find(atom, index)
            value = number(atom.text) if term is None else None
            if value and value.denominator.bit_length() + abs(value.numerator).bit_length() > _LONG:
                self._constraints.spend(_LONG)
        except Refused as error:
            raise self._source.error(atom.at, str(error)) from error
        if term is not None:
            return term
        if value is None:
            raise self._source.error(atom.at, f"{atom} is no number and not declared; declare it before it is used")
        if index is not None:
            raise self._source.error(index.at, f"the index {index} follows a number; it belongs to a name")
        return Linear(constant=value)


def _formulas(head: Atom, parts: list[object]) -> list[Formula]:
    formulas = [part for part in parts if isinstance(part, Formula)]
    if not formulas or len(formulas) < len(parts):
        raise Refused(f"{head} needs formulas as operands, such as (<= X_0 1.0)")
    return formulas


def _atoms(head: Atom, parts: list[object], what: str, count: int) -> list[Atom]:
    atoms = [part for part in parts if isinstance(part, Atom)]
    if len(atoms) != count or len(parts) != count:
        raise Refused(f"{head} needs {what}; write just that")
    return atoms
