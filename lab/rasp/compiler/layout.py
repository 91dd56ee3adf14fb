"""Pass 3: the residual stream as a disjoint union of named bases, one basis a variable.

A variable is an s-op. It has one direction for each of its values ("length=3"); an average is first held as one number
in a direction of its own ("opens"), with directions for the values that are no numbers ("opens=None") and, only where
a function or selector reads it, one for each number too. A width starts as the share of attention that its head leaves
on the sink ("length: sink share"), from which its values are read off. No direction is used twice.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from microtome.lab.rasp.compiler.infer import Inference
from microtome.lab.rasp.errors import CompileError
from microtome.lab.rasp.language import Aggregate, Expression, SelectorWidth, SOp, operand, topological
from microtome.lab.rasp.values import Value, key

SINK = "sink"
"""The direction that marks the position which every query may attend to when it selects nothing."""


@dataclass(frozen=True)
class Basis:
    """The directions of one variable.

    Attributes:
        variable: its name, unique in the program.
        values: those that have a direction, each named in `codes`.
        codes: the direction of each value, in the order of `values`.
        number: the direction that holds an average, or None.
        share: the direction that holds the sink's share of a width's head, or None.
    """

    variable: str
    values: tuple[Value, ...] = ()
    codes: tuple[str, ...] = ()
    number: str | None = None
    share: str | None = None
    _direction: Mapping[Hashable, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        table = {key(value): code for value, code in zip(self.values, self.codes, strict=True)}
        object.__setattr__(self, "_direction", table)

    def code(self, value: Value) -> str:
        """The direction that stands for the value; KeyError if the value has none."""
        return self._direction[key(value)]

    @property
    def directions(self) -> tuple[str, ...]:
        return tuple(d for d in (self.number, self.share) if d is not None) + self.codes


@dataclass(frozen=True)
class Layout:
    """The bases of all variables and the order of their directions in the stream."""

    bases: Mapping[SOp, Basis]
    directions: tuple[str, ...]


def lay_out(program: SOp, inference: Inference) -> Layout:
    """Names a basis for every s-op of the program.

    Raises:
        CompileError: if the names that the program gives make two directions alike.
    """
    read_by_value = {
        child
        for node in topological(program)
        if not isinstance(node, Aggregate | SelectorWidth)
        for child in node.children
    }
    names = _names(program)
    bases = {
        node: _basis(node, names[node], inference, read_by_value)
        for node in topological(program)
        if isinstance(node, SOp)
    }
    directions = (SINK, *(d for basis in bases.values() for d in basis.directions))
    twice = [name for name, times in Counter(directions).items() if times > 1]
    if twice:
        raise CompileError(
            f"two directions of the stream would be called {twice[0]!r}; rename one of the s-ops", program
        )
    return Layout(bases, directions)


def _basis(node: SOp, name: str, inference: Inference, read_by_value: set[Expression]) -> Basis:
    facts = inference.facts[node]
    if not facts.averaged:
        share = f"{name}: sink share" if isinstance(node, SelectorWidth) else None
        return Basis(name, facts.values, _codes(name, facts.values), share=share)
    values = facts.strays
    if node in read_by_value:
        stray = {key(v) for v in values}
        values = (*values, *(v for v in facts.values if key(v) not in stray))
    return Basis(name, values, _codes(name, values), number=name)


def _codes(name: str, values: tuple[Value, ...]) -> tuple[str, ...]:
    shown = (f"{value:.5g}" if isinstance(value, float) else repr(value) for value in values)
    return tuple(_unlike(f"{name}={value}" for value in shown))


def _names(program: SOp) -> dict[SOp, str]:
    nodes = [node for node in topological(program) if isinstance(node, SOp)]
    labels = [operand(node) for node in nodes]
    return dict(zip(nodes, _unlike(labels, taken=(SINK,)), strict=True))


def _unlike(labels, taken: tuple[str, ...] = ()) -> list[str]:
    """The labels, with "#2", "#3", … after those that came before."""
    seen, result = Counter(taken), []
    for label in labels:
        seen[label] += 1
        result.append(label if seen[label] == 1 else f"{label}#{seen[label]}")
    return result
