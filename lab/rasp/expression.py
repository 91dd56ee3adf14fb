"""The base of s-ops and selectors: identity, names, annotations, and walking the graph that expressions form."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from microtome.lab.rasp.annotations import Annotations, written_at
from microtome.lab.rasp.errors import ExpressionError
from microtome.lab.rasp.values import Value, plain

Same = TypeVar("Same", bound="Expression")

LABEL_LIMIT = 60
"""Longest label, in characters, that is spelled out inside another expression; longer ones are elided."""

_ids = itertools.count(1)


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """Base of s-ops and selectors. Two expressions are the same only if they are the same object.

    Attributes:
        name: given by `named`, or None.
        where: "file.py:12", the line of the program that made it, or None.
        extra: what `annotate` gave it beside the name.
        label: the name, else the structure, else (where that is long) only the outermost operation.
        unique_id: a number that no other expression has.
    """

    READS: ClassVar[tuple[str, ...]] = ()
    """The fields that hold the expressions that this one reads, in order."""

    name: str | None = field(default=None, kw_only=True)
    where: str | None = field(default=None, kw_only=True)
    extra: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    label: str = field(init=False)
    unique_id: int = field(init=False)

    def __post_init__(self, *unused: object):
        self._check()
        # Made now out of the children's labels, so that no depth of nesting makes it recurse.
        structure = self.structure
        spelled = structure if len(structure) <= LABEL_LIMIT else _elided(type(self))
        object.__setattr__(self, "label", spelled if self.name is None else self.name)
        object.__setattr__(self, "unique_id", next(_ids))
        if self.where is None:
            object.__setattr__(self, "where", written_at())

    def _check(self) -> None:
        """Raises ExpressionError if the parts do not fit; puts constants into the language's form."""

    @property
    def children(self) -> tuple["Expression", ...]:
        """The expressions that this one reads."""
        return tuple(getattr(self, part) for part in self.READS)

    @property
    def structure(self) -> str:
        """The expression as it would be typed, its children by label."""
        return type(self).__name__.lower()

    @property
    def signed(self) -> bool:
        """Whether `structure` has a sign between two sides, so that it needs brackets inside another such one."""
        return False

    @property
    def annotations(self) -> Annotations:
        """Read-only: "name" (tracr's default for the kind where none was given) and what `annotate` added."""
        return Annotations(**{"name": self.name or kind_name(type(self)), **self.extra})

    def __call__(self, tokens: Iterable[Value]) -> list:
        """The values, or the truth table, on an input: `interpreter.evaluate` without a causal mask."""
        # The interpreter is built on the expressions, so that they can only ask for it when they are run.
        from microtome.lab.rasp.interpreter import evaluate

        return evaluate(self, tokens)

    def with_children(self: Same, children: Sequence["Expression"]) -> Same:
        """The same operation on other expressions, with the same name, line and annotations.

        Raises:
            ExpressionError: if there are not as many as before, or one is of another kind.
        """
        if len(children) != len(self.children):
            count = len(self.children)
            raise ExpressionError(f"{type(self).__name__} reads {count} expressions here, not {len(children)}", self)
        return self._changed(**dict(zip(self.READS, children, strict=True)))

    def named(self: Same, name: str) -> Same:
        """The same expression under a name, which labels its directions in the compiled residual stream."""
        return self.annotated(name=name)

    def annotated(self: Same, **annotations: object) -> Same:
        """The same expression with these annotations, which replace those of the same keys.

        Raises:
            ExpressionError: if the name is no text or empty.
        """
        name = annotations.pop("name", self.name)
        if name is not None and (not isinstance(name, str) or not name):
            raise ExpressionError(f"a name must be a non-empty string, not {name!r}", self)
        return self._changed(name=name, extra={**self.extra, **annotations})

    def copy(self: Same) -> Same:
        """The same expression as another object, with its own `unique_id`."""
        return self._changed()

    def _changed(self: Same, **fields: object) -> Same:
        new = copy.copy(self)
        for key, value in fields.items():
            object.__setattr__(new, key, value)
        new.__post_init__()
        return new

    def __repr__(self) -> str:
        if self.name is None:
            return self.structure
        bracketed = self.signed or self.structure.startswith(("~", "-"))
        return f"({self.structure}).named({self.name!r})" if bracketed else f"{self.structure}.named({self.name!r})"

    def __bool__(self) -> bool:
        raise ExpressionError("an expression has no truth value of its own; combine s-ops with & and |", self)


def kind_name(kind: type[Expression]) -> str:
    """tracr's name for expressions of a kind: SequenceMap is "sequence_map"."""
    if kind.__name__ == "ConstantSOp":
        return "constant_sop"
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


def operand(expression: Expression) -> str:
    """Its label, in brackets where it is an operation written with a sign."""
    plain_label = expression.name is not None or expression.label == _elided(type(expression))
    return expression.label if plain_label or not expression.signed else f"({expression.label})"


def _elided(kind: type[Expression]) -> str:
    return f"{kind.__name__}(…)"


def topological(expression: Expression) -> Iterator[Expression]:
    """Every expression that `expression` reads and itself, each once and after its children."""
    done: set[int] = set()
    stack = [(expression, False)]
    while stack:
        node, expanded = stack.pop()
        if id(node) in done:
            continue
        if expanded:
            done.add(id(node))
            yield node
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def constant(value: object, beside: Expression | None = None) -> Value:
    """The value as the language holds it.

    Raises:
        ExpressionError: if it is no value of the language.
    """
    try:
        return plain(value)
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"{value!r} cannot stand beside an s-op: {error}", beside) from error


def require(parent: Expression, kind: type, wanted: str, *parts: object) -> None:
    """Raises ExpressionError unless all parts are of the kind, which the sentence calls `wanted`."""
    for part in parts:
        if not isinstance(part, kind):
            raise ExpressionError(f"{type(parent).__name__} takes {wanted} here, not {type(part).__name__} {part!r}")


def require_function(parent: Expression, f: Callable) -> None:
    """Raises ExpressionError unless f can be called and is no expression."""
    if not callable(f) or isinstance(f, Expression):
        raise ExpressionError(f"{type(parent).__name__} takes a function here, not {type(f).__name__} {f!r}")
