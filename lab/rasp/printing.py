"""A program as source text: assignment lines, one for each named or shared intermediate result, in order."""

import builtins
import itertools
import keyword
import re
from collections import Counter
from dataclasses import dataclass
from types import FunctionType

from microtome.lab.rasp.annotations import Encoding
from microtome.lab.rasp.elementwise import (
    ConstantSOp,
    Full,
    Indices,
    Length,
    LinearSequenceMap,
    Map,
    SequenceMap,
    Tokens,
)
from microtome.lab.rasp.expression import Expression, kind_name, topological
from microtome.lab.rasp.functions import Comparison, Filled, Infix, Joined, Linear, Partial, Predicate, prefix
from microtome.lab.rasp.lambdas import function_text
from microtome.lab.rasp.language import Aggregate, SelectorWidth
from microtome.lab.rasp.selectors import ConstantSelector, Select, SelectorAnd, SelectorNot, SelectorOr

INLINE_LIMIT = 60
"""Longest text, in characters, that is written inside another; longer results get a line of their own."""

LINE_LIMIT = 100
"""Longest line, in characters, that holds more than one operation."""

_INPUTS = {Tokens: "tokens", Indices: "indices", Length: "length"}
_KINDS = (Full, ConstantSOp, Map, SequenceMap, LinearSequenceMap, SelectorWidth, Aggregate)
_SELECTORS = (Select, SelectorAnd, SelectorOr, SelectorNot, ConstantSelector)
_TAKEN = {
    *keyword.kwlist,
    *dir(builtins),
    *_INPUTS.values(),
    *(kind.__name__ for kind in (*_KINDS, *_SELECTORS)),
    *("Comparison", "Linear", "numerical", "annotate", "program"),
}


@dataclass(frozen=True)
class _Text:
    """An expression as written; `signed` if it needs brackets beside an operator sign."""

    text: str
    signed: bool = False

    @property
    def operand(self) -> str:
        return f"({self.text})" if self.signed else self.text


def source(program: Expression) -> str:
    """The program as Python-like lines; the last one assigns the program itself.

    With the names of `microtome.lab.rasp` and the program's own functions at hand the lines run and give an equal
    program. A variable has the name of its expression, where that can be one; results that are named, read more than
    once or long to write have a line of their own. A lambda whose source cannot be found is written `<lambda>`.
    """
    readers = Counter(id(child) for node in topological(program) for child in node.children)
    lines = _Lines(program)
    for node in topological(program):
        text = lines.text(node)
        if type(node) in _INPUTS and not (node.name or node.extra or node is program):
            lines.written[node] = text
        elif node is program or node.name or readers[id(node)] > 1 or len(text.text) > INLINE_LIMIT:
            lines.assign(node, text)
        else:
            lines.written[node] = text
    return "\n".join(lines.lines)


class _Lines:
    """The lines so far, and how each expression is written where another reads it."""

    def __init__(self, program: Expression):
        self.lines: list[str] = []
        self.written: dict[Expression, _Text] = {}
        self._program = program
        self._names = _Names(_functions(program))

    def text(self, node: Expression) -> _Text:
        """The expression as written; where that is long, what it reads has been given lines of its own."""
        text = self._composed(node)
        if len(text.text) > LINE_LIMIT:
            for child in dict.fromkeys(node.children):
                if not self.written[child].text.isidentifier():
                    self.assign(child, self.written[child])
            text = self._composed(node)
        return text

    def _composed(self, node: Expression) -> _Text:
        return _annotated(node, _text(node, [self.written[child] for child in node.children]))

    def assign(self, node: Expression, text: _Text) -> None:
        """Adds the line that gives the expression a variable."""
        last = node is self._program and node.name is None
        variable = "program" if last else self._names.give(node.name or kind_name(type(node)))
        naming = f".named({node.name!r})" if node.name not in (None, variable) else ""
        self.lines.append(f"{variable} = {text.operand + naming if naming else text.text}")
        self.written[node] = _Text(variable)


class _Names:
    """Variables, each given once and none that hides a name which the lines use."""

    def __init__(self, functions: set[str]):
        self._taken = _TAKEN | functions

    def give(self, wanted: str) -> str:
        stem = re.sub(r"\W+", "_", wanted).strip("_") or "result"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        numbered = itertools.chain([stem], (f"{stem}_{i}" for i in itertools.count(2)))
        variable = next(name for name in numbered if name not in self._taken)
        self._taken.add(variable)
        return variable


def _functions(program: Expression) -> set[str]:
    called = set()
    for node in topological(program):
        match node:
            case Map(f=f) | SequenceMap(f=f) | Select(predicate=f) if isinstance(f, FunctionType):
                called.add(f.__name__)
    return called


def _annotated(node: Expression, text: _Text) -> _Text:
    extra = dict(node.extra)
    if extra.pop("encoding", None) is Encoding.NUMERICAL:
        text = _Text(f"numerical({text.text})")
    if extra:
        notes = ", ".join(f"{key}={value!r}" for key, value in extra.items())
        text = _Text(f"annotate({text.text}, {notes})")
    return text


def _text(node: Expression, parts: list[_Text]) -> _Text:
    match node:
        case Tokens() | Indices() | Length():
            return _Text(_INPUTS[type(node)])
        case Full() | ConstantSOp() | ConstantSelector():
            return _Text(node.structure)
        case LinearSequenceMap():
            return _call(node, *parts, repr(node.fst_fac), repr(node.snd_fac))
        case Map(f=Partial(infix=infix, constant=constant, constant_first=reflected)):
            sides = [parts[0].operand, repr(constant)]
            return _Text(f" {infix.sign} ".join(reversed(sides) if reflected else sides), signed=True)
        case Map() if sign := prefix(node.f):
            return _Text(f"{sign}{parts[0].operand}")
        case SequenceMap(f=Infix(sign=sign)) if len(parts) == 2:
            return _Text(f"{parts[0].operand} {sign} {parts[1].operand}", signed=True)
        case Map() | SequenceMap():
            return _call(node, _function(node.f), *parts)
        case Select():
            return _select(parts[0].text, parts[1].text, node.predicate)
        case SelectorAnd() | SelectorOr():
            return _Text(f"{parts[0].operand} {node.SIGN} {parts[1].operand}", signed=True)
        case SelectorNot():
            return _Text(f"~{parts[0].operand}")
        case Aggregate():
            default = [] if node.default is None else [f"default={node.default!r}"]
            reduction = [] if node.reduction == "mean" else [f"reduction={node.reduction!r}"]
            return _call(node, *parts, *default, *reduction)
    return _call(node, *parts)


def _call(node: Expression, *arguments: _Text | str) -> _Text:
    written = [argument.text if isinstance(argument, _Text) else argument for argument in arguments]
    return _Text(f"{type(node).__name__}({', '.join(written)})")


def _select(keys: str, queries: str, predicate: Predicate) -> _Text:
    """Joined predicates are written as the selectors that were joined, so that every part can be read."""
    match predicate:
        case Joined(sign=sign, fst=fst, snd=snd):
            sides = [_select(keys, queries, side).operand for side in (fst, snd)]
            return _Text(f" {sign} ".join(sides), signed=True)
        case Filled(predicate=inner, side="key", fill=fill):
            return _select(f"Full({fill!r})", queries, inner)
        case Filled(predicate=inner, fill=fill):
            return _select(keys, f"Full({fill!r})", inner)
    return _Text(f"Select({keys}, {queries}, {_function(predicate)})")


def _function(f: object) -> str:
    match f:
        case Comparison():
            return f"Comparison.{f.name}"
        case Linear():
            return f"Linear({f.factors!r})"
    return function_text(f)
